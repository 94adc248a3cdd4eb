"""A linear with its activation in one kernel is the two, one after the other."""

import pytest
import torch
from torch import nn

from omnisky.model import activation
from omnisky.model.activation import ACTIVATIONS, WORTH, bent, product


@pytest.fixture(params=[False, True], ids=["apart", "fused"], autouse=True)
def fused(request, monkeypatch):
    """Both ways, whichever this processor is faster by."""
    monkeypatch.setattr(activation, "fuses_well", lambda: request.param)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_bent_is_the_activation_of_the_product(name, bias):
    linear, x = nn.Linear(7, 9, bias=bias), torch.randn(4, 3, 7)
    plain = ACTIVATIONS[name](linear(x)).detach()
    with torch.inference_mode():
        torch.testing.assert_close(bent(linear, name, x), plain, atol=2e-6, rtol=1e-5)
    assert bent(linear, name, x).requires_grad


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_product_is_the_linear(bias, kind):
    linear, x = nn.Linear(256, WORTH // 256, bias=bias).to(kind), torch.randn(4, 3, 256).to(kind)
    plain = linear(x).detach()
    with torch.inference_mode():
        torch.testing.assert_close(product(linear, x), plain, atol=2e-6, rtol=1e-5)
    assert product(linear, x).requires_grad


def test_a_linear_of_another_kind_is_left_alone():
    """What a subclass adds is not in its `weight`."""

    class Twice(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    linear, x = Twice(7, 9), torch.randn(4, 7)
    with torch.inference_mode():
        assert torch.equal(bent(linear, "gelu", x), ACTIVATIONS["gelu"](linear(x)))
        linear, x = Twice(256, WORTH // 256), torch.randn(4, 256)
        assert torch.equal(product(linear, x), linear(x))
