"""Activations, and the kernels that linears take on CPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnisky.codec.processor import fuses_well, multiplies_bf16


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by tanh (Hendrycks & Gimpel 2016, arXiv:1606.08415, §2), which AstroPT's weights were trained with."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "gelu_tanh": gelu_tanh, "silu_gated": F.silu}

_FUSED = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "silu_gated": ("swish", "")}
"""what oneDNN calls those it can apply to a product before it leaves the cache"""

WORTH = 2**16
"""weights, below which a product is too small for oneDNN's start-up"""


def bent(linear: nn.Linear, activation: str, x: Tensor) -> Tensor:
    """activation(linear(x)); one oneDNN kernel for both on CPUs where that is faster and no gradient is wanted."""
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if activation not in _FUSED or not _can_fuse(linear, x, kind):
        return ACTIVATIONS[activation](linear(x))
    bias = None if linear.bias is None else linear.bias.to(kind)
    return _one_kernel(x.to(kind), linear.weight.to(kind), bias, *_FUSED[activation])


def product(linear: nn.Module, x: Tensor) -> Tensor:
    """linear(x); in float32 by oneDNN where that is fast, on AMD's CPUs with AVX512 1.3 times as fast as the library
    torch would take (`python -m benchmarks.kernels`). While something is learnt it gains nothing.
    """
    plain = x.dtype != torch.float32 or torch.is_autocast_enabled(x.device.type)
    if plain or not _can_fuse(linear, x, x.dtype) or linear.weight.numel() < WORTH:
        return linear(x)
    return _one_kernel(x, linear.weight, linear.bias)


def _one_kernel(x: Tensor, weight: Tensor, bias: Tensor | None, name: str = "none", how: str = "") -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], how)


def _can_fuse(linear: nn.Module, x: Tensor, kind: torch.dtype) -> TypeGuard[nn.Linear]:
    if torch.compiler.is_compiling():  # it fuses by itself, and takes this kernel only with weights that are constants
        return False
    if torch.is_grad_enabled() or x.device.type != "cpu" or type(linear) is not nn.Linear:
        return False
    return fuses_well() and (kind == torch.float32 or (kind == torch.bfloat16 and multiplies_bf16()))
