"""A linear with its bias or activation in one kernel is the two, one after the other."""

import pytest
import torch
from torch import nn

from omnisky.model.activation import ACTIVATIONS, bent, straight


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_bent_is_the_activation_of_the_product(name, bias):
    linear, x = nn.Linear(7, 9, bias=bias), torch.randn(4, 3, 7)
    before, plain = x.clone(), ACTIVATIONS[name](linear(x)).detach()
    with torch.inference_mode():
        torch.testing.assert_close(bent(linear, name, x), plain, atol=2e-6, rtol=1e-5)
    assert bent(linear, name, x).requires_grad
    assert torch.equal(x, before)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_straight_is_the_product(bias, kind):
    """bfloat16 rounds the sum with the bias once instead of twice: one step of 2⁻⁷ apart at most."""
    linear, x = nn.Linear(7, 9, bias=bias), torch.randn(4, 3, 7)
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
        plain = linear(x).detach()
        with torch.inference_mode():
            said = straight(linear, x)
        assert straight(linear, x).requires_grad
    assert said.dtype == plain.dtype == kind
    torch.testing.assert_close(said, plain, atol=2e-6 if kind == torch.float32 else 2e-2, rtol=1e-5)


def test_a_linear_of_another_kind_is_left_alone():
    """A low-rank update is not in its `weight`."""

    class Twice(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    linear, x = Twice(7, 9), torch.randn(4, 7)
    with torch.inference_mode():
        assert torch.equal(straight(linear, x), linear(x))
        assert torch.equal(bent(linear, "gelu", x), ACTIVATIONS["gelu"](linear(x)))
