"""Activations, and the fast ways to compute them on a CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by tanh (Hendrycks & Gimpel 2016, arXiv:1606.08415, §2), which AstroPT's weights were trained with."""
    if x.device.type == "cpu" and x.requires_grad and torch.is_grad_enabled():
        return _TanhGelu.apply(x)
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "gelu_tanh": gelu_tanh, "silu_gated": F.silu}

_FUSED = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh")}
"""what oneDNN calls those it can apply to a product before it leaves the cache"""


def bent(linear: nn.Linear, activation: str, x: Tensor) -> Tensor:
    """activation(linear(x)); one oneDNN kernel for both on CPUs where no gradient is wanted."""
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if activation not in _FUSED or not _can_fuse(linear, x, kind):
        return ACTIVATIONS[activation](linear(x))
    name, how = _FUSED[activation]
    bias = None if linear.bias is None else linear.bias.to(kind)
    return torch.ops.mkldnn._linear_pointwise(x.to(kind), linear.weight.to(kind), bias, name, [], how)


def _can_fuse(linear: nn.Module, x: Tensor, kind: torch.dtype) -> bool:
    if torch.is_grad_enabled() or x.device.type != "cpu" or type(linear) is not nn.Linear:
        return False
    if not torch.backends.mkldnn.is_available():
        return False
    return kind == torch.float32 or (kind == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _TanhGelu(torch.autograd.Function):
    """gelu(x) = x·σ(v), v = 2√(2/π)·(x + 0.044715·x³), keeping its slope σ(v) + x·σ(v)·(1 − σ(v))·v′ for the way back.

    torch's own kernels call tanh number by number, twice; this takes one σ in float32, in pieces that stay in cache.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        y, slope = torch.empty_like(x), torch.empty_like(x)
        one, three = torch.tensor(2 * math.sqrt(2 / math.pi)), 2 * math.sqrt(2 / math.pi) * 0.044715
        piece = max(min(1 << 17, x.numel()), 1)
        a, square, sigma, rest = torch.empty(4, piece).unbind()
        for start in range(0, x.numel(), piece):
            some = slice(start, start + piece)
            n = min(piece, x.numel() - start)
            a, square, sigma, rest = a[:n], square[:n], sigma[:n], rest[:n]
            a.copy_(x.view(-1)[some])
            torch.mul(a, a, out=square)
            torch.add(one, square, alpha=three, out=sigma).mul_(a).sigmoid_()
            a.mul_(sigma)
            y.view(-1)[some] = a
            torch.add(one, square, alpha=3 * three, out=rest).mul_(a)
            slope.view(-1)[some] = torch.addcmul(sigma, rest, 1 - sigma, out=a)
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (slope,) = ctx.saved_tensors
        return grad * slope
