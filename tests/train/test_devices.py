"""A lean copy for inference: linears in bf16, all else as it was, and the model untouched. And bf16 where it is any."""

import logging

import pytest
import torch
from torch import nn

from omnisky.codec import processor
from omnisky.codec.processor import at_precision, multiplies_bf16
from omnisky.train import devices
from omnisky.train.devices import Place, here

HALF = Place(torch.device("cpu"), precision="bf16")


def built() -> nn.Sequential:
    torch.manual_seed(0)
    tied = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 5))
    tied[2].weight = tied[0].weight
    return nn.Sequential(tied, nn.Linear(5, 3, bias=False).requires_grad_(False))


def test_lean_linears_hold_bf16_and_the_rest_is_as_it_was():
    model = built()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    lean = HALF.lean(model)
    kinds = {name: p.dtype for name, p in lean.named_parameters()}
    assert {name for name, kind in kinds.items() if kind == torch.float32} == {"0.1.weight", "0.1.bias"}
    assert not lean[1].weight.requires_grad and lean[0][2].weight.requires_grad
    for name, t in lean.state_dict().items():
        assert torch.equal(t, before[name].to(t.dtype))
    assert all(torch.equal(t, before[name]) and t.dtype == torch.float32 for name, t in model.state_dict().items())


def test_what_was_tied_stays_tied_and_nothing_is_shared_with_the_model():
    model = built()
    lean = HALF.lean(model)
    assert lean[0][0].weight is lean[0][2].weight
    assert not {p.data_ptr() for p in lean.parameters()} & {p.data_ptr() for p in model.parameters()}


def test_in_fp32_it_is_the_model_itself():
    model = built()
    assert here("fp32").lean(model) is model


@pytest.mark.parametrize("can", [False, True])
def test_bf16_is_asked_of_devices_that_multiply_it(can, monkeypatch, caplog):
    """Others imitate it, 6 to 80 times slower than float32; they say once what they do instead."""
    monkeypatch.setattr(devices, "multiplies_bf16", lambda device: can)
    devices._say_so.cache_clear()
    with caplog.at_level(logging.WARNING, "omnisky"):
        places = [here("bf16"), here("bf16")]
    assert [place.precision for place in places] == ["bf16" if can else "fp32"] * 2
    assert len(caplog.messages) == 1 - can and here("fp32").precision == "fp32"


@pytest.mark.parametrize("can", [False, True])
def test_codecs_ask_the_same_question(can, monkeypatch):
    monkeypatch.setattr("omnisky.codec.processor.multiplies_bf16", lambda: can)
    with at_precision(torch.bfloat16):
        assert torch.is_autocast_enabled("cpu") == can
    with at_precision(torch.float32):
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("told", "can"),
    [
        ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, False),
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
    ],
)
def test_what_a_pc_says_of_itself(told, can, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    monkeypatch.setattr(processor, "has_tiles", processor.has_tiles.__wrapped__)
    assert multiplies_bf16.__wrapped__() == can
