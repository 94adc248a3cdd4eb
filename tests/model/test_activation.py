"""The fast activations are the plain ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from omnisky.model.activation import ACTIVATIONS, bent, gelu_tanh

# Where σ saturates; odd sizes, also beyond one piece of cache; nothing at all.
CASES = (torch.linspace(-12, 12, 1001), torch.randn(3, 5, 17) * 3, torch.randn(1 << 17 | 3), torch.zeros(2, 0, 4))


@pytest.mark.parametrize("x", CASES, ids=lambda x: str(tuple(x.shape)))
def test_tanh_gelu_and_its_slope_are_torchs(x):
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = torch.randn_like(x)
    (gelu_tanh(ours) * weight).sum().backward()
    (F.gelu(theirs, approximate="tanh") * weight).sum().backward()
    torch.testing.assert_close(gelu_tanh(ours), F.gelu(theirs, approximate="tanh"), atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)


def test_in_bf16_it_rounds_once():
    """float32 inside: the answer is the exact one rounded, within one step of bf16 (2⁻⁸)."""
    x = (torch.randn(5000) * 3).bfloat16().requires_grad_()
    exact = F.gelu(x.detach().double(), approximate="tanh")
    torch.testing.assert_close(gelu_tanh(x).double(), exact, atol=1e-6, rtol=2**-8)


def test_a_view_with_strides_is_read_in_order():
    x = torch.randn(6, 7).T.requires_grad_()
    torch.testing.assert_close(gelu_tanh(x), F.gelu(x, approximate="tanh"), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_bent_is_the_activation_of_the_product(name, bias):
    linear, x = nn.Linear(7, 9, bias=bias), torch.randn(4, 3, 7)
    plain = ACTIVATIONS[name](linear(x)).detach()
    with torch.inference_mode():
        torch.testing.assert_close(bent(linear, name, x), plain, atol=2e-6, rtol=1e-5)
    assert bent(linear, name, x).requires_grad
