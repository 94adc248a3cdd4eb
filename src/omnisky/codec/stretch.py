"""Pixel by pixel scalings that can be undone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Linear:
    """(x − centre) / scale, one pair per band (or one for all). Linear() leaves pixels as they are."""

    centre: tuple[float, ...] = (0.0,)
    """in the unit of the image"""
    scale: tuple[float, ...] = (1.0,)
    """in the unit of the image"""

    def forward(self, flux: Float[Tensor, "object band height width"]) -> Float[Tensor, "object band height width"]:
        return (flux - _column(self.centre, flux)) / _column(self.scale, flux)

    def inverse(self, value: Float[Tensor, "object band height width"]) -> Float[Tensor, "object band height width"]:
        return value * _column(self.scale, value) + _column(self.centre, value)


@dataclass(frozen=True, kw_only=True)
class Asinh:
    """asinh(x / softening), linear below the softening, logarithmic above: Lupton, Gunn & Szalay 1999, AJ 118, 1406."""

    softening: tuple[float, ...] = (1.0,)
    """in the unit of the image, about the noise of a pixel; one per band or one for all"""

    def forward(self, flux: Float[Tensor, "object band height width"]) -> Float[Tensor, "object band height width"]:
        return torch.asinh(flux / _column(self.softening, flux))

    def inverse(self, value: Float[Tensor, "object band height width"]) -> Float[Tensor, "object band height width"]:
        return torch.sinh(value) * _column(self.softening, value)


Stretch = Linear | Asinh


def _column(numbers: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=like.dtype, device=like.device).reshape(-1, 1, 1)
