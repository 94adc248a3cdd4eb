"""Activations, and a linear with its bias or activation in one kernel on CPUs."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by tanh (Hendrycks & Gimpel 2016, arXiv:1606.08415, §2), which AstroPT's weights were trained with."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "gelu_tanh": gelu_tanh, "silu_gated": F.silu}


def bent(linear: nn.Linear, activation: str, x: Tensor) -> Tensor:
    """activation(linear(x)); the fastest way there is on CPUs where no gradient is wanted.

    oneDNN's tanh-GELU, applied before the product leaves the cache, beats torch's; its erf-GELU does not, so that one
    is torch's, in place (`benchmarks.kernels`).
    """
    kind = _kind(x)
    if activation not in ("gelu", "gelu_tanh") or not _can_fuse(linear, x, kind):
        return ACTIVATIONS[activation](linear(x))
    if activation == "gelu_tanh":
        return _product(linear, x, kind, "gelu", "tanh")
    return torch.ops.aten.gelu_(_product(linear, x, kind))


def straight(linear: nn.Linear, x: Tensor) -> Tensor:
    """linear(x); on CPUs where no gradient is wanted, its bias is added as the product is made, not laid out before."""
    kind = _kind(x)
    if linear.bias is None or not _can_fuse(linear, x, kind):
        return linear(x)
    return _product(linear, x, kind)


def _product(linear: nn.Linear, x: Tensor, kind: torch.dtype, name: str = "none", how: str = "") -> Tensor:
    """One oneDNN kernel; what comes out is nobody else's."""
    bias = None if linear.bias is None else linear.bias.to(kind)
    return torch.ops.mkldnn._linear_pointwise(x.to(kind), linear.weight.to(kind), bias, name, [], how)


def _kind(x: Tensor) -> torch.dtype:
    """The precision products are asked for in."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _can_fuse(linear: nn.Module, x: Tensor, kind: torch.dtype) -> bool:
    if torch.is_grad_enabled() or x.device.type != "cpu" or type(linear) is not nn.Linear:
        return False
    if not torch.backends.mkldnn.is_available():
        return False
    return kind == torch.float32 or (kind == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
