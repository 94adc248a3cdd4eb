"""A lean copy for inference: linears in bf16, all else as it was, and the model untouched."""

import torch
from torch import nn

from omnisky.train.devices import here


def built() -> nn.Sequential:
    torch.manual_seed(0)
    tied = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 5))
    tied[2].weight = tied[0].weight
    return nn.Sequential(tied, nn.Linear(5, 3, bias=False).requires_grad_(False))


def test_lean_linears_hold_bf16_and_the_rest_is_as_it_was():
    model = built()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    lean = here("bf16").lean(model)
    kinds = {name: p.dtype for name, p in lean.named_parameters()}
    assert {name for name, kind in kinds.items() if kind == torch.float32} == {"0.1.weight", "0.1.bias"}
    assert not lean[1].weight.requires_grad and lean[0][2].weight.requires_grad
    for name, t in lean.state_dict().items():
        assert torch.equal(t, before[name].to(t.dtype))
    assert all(torch.equal(t, before[name]) and t.dtype == torch.float32 for name, t in model.state_dict().items())


def test_what_was_tied_stays_tied_and_nothing_is_shared_with_the_model():
    model = built()
    lean = here("bf16").lean(model)
    assert lean[0][0].weight is lean[0][2].weight
    assert not {p.data_ptr() for p in lean.parameters()} & {p.data_ptr() for p in model.parameters()}


def test_in_fp32_it_is_the_model_itself():
    model = built()
    assert here("fp32").lean(model) is model
