"""Pixel by pixel scalings that can be undone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

TINY = 1e-6
"""what `dr2_rgb` puts in place of an intensity of 0"""
STEPS = 20
"""of SteinColours.inverse; each leaves a tenth of the error or less"""


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


@dataclass(frozen=True, kw_only=True)
class LegacyColours:
    """Three bands as red, green and blue in 0 … 1, so that hue does not depend on brightness.

    The Legacy Surveys' `dr2_rgb` after Lupton et al. 2004, PASP 116, 133: with x = scale·flux + lift and I the mean of
    the positive x, out = x · asinh(softness·I) / (√softness · I), clipped. So AstroCLIP sees the bands z, r and g.
    """

    scale: tuple[float, ...] = (2.2, 3.4, 6.0)
    """1/nanomaggy, one per band, in their order: z, r, g"""
    lift: float = 0.03
    softness: float = 20.0

    def forward(self, flux: Float[Tensor, "object band height width"]) -> Float[Tensor, "object band height width"]:
        x = torch.addcmul(flux.new_tensor(self.lift), flux, _column(self.scale, flux))
        return x.mul_(_compression(x, self.softness)).clamp_(0, 1)

    def inverse(self, value: Float[Tensor, "object band height width"]) -> Float[Tensor, "object band height width"]:
        """The flux, where nothing was clipped; a band clipped at 0 comes back as its threshold, −lift/scale."""
        squeezed = value.mean(-3, keepdim=True)
        light = torch.sinh(squeezed * self.softness**0.5) / self.softness
        x = value * light / squeezed.clamp(min=TINY)
        return (x - self.lift) / _column(self.scale, value)


@dataclass(frozen=True, kw_only=True)
class SteinColours(LegacyColours):
    """The stretch that Stein et al. 2021 (arXiv:2110.13151) trained with: nearly linear, which their code hardly meant.

    out = flux · (scale + lift · asinh(softness·I) / (√softness · I)), clipped to 0 … 1: a bracket in another place.
    """

    def forward(self, flux: Float[Tensor, "object band height width"]) -> Float[Tensor, "object band height width"]:
        return (flux * self._gain(flux)).clamp_(0, 1)

    def inverse(self, value: Float[Tensor, "object band height width"]) -> Float[Tensor, "object band height width"]:
        """The flux, where nothing was clipped, by iteration; a band clipped at 0 comes back as 0."""
        flux = value / _column(self.scale, value)
        for _ in range(STEPS):
            flux = value / self._gain(flux)
        return flux

    def _gain(self, flux: Tensor) -> Tensor:
        scale = _column(self.scale, flux)
        return scale + self.lift * _compression(flux * scale + self.lift, self.softness)


def _compression(x: Tensor, softness: float) -> Tensor:
    """asinh(softness·I) / (√softness · I) of the mean I over bands of what is positive.

    Band by band and in place, so that nothing as large as x is made; asinh by functions that torch vectorises on CPUs,
    as it does not asinh: the whole stretch is three times as fast.
    """
    first, *others = x.unbind(-3)
    u = first.clamp(min=0)
    for band in others:
        u.add_(band.clamp(min=0))
    u.mul_(softness / x.shape[-3]).clamp_(min=softness * TINY)
    return torch.addcmul(u.new_ones(()), u, u).sqrt_().add_(u).log_().div_(u).mul_(softness**0.5).unsqueeze(-3)


Stretch = Linear | Asinh | LegacyColours


def _column(numbers: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=like.dtype, device=like.device).reshape(-1, 1, 1)
