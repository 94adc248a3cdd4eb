"""Shape as tokens: a galaxy unwound into rings, each ring as a Fourier series in angle.

Measured from pixels without labels, and the same however the galaxy is turned or mirrored. Rings run outwards as
AstroPT's patches do, so a causal model tells the disc from the bulge. The series is the arm decomposition of Elmegreen,
Elmegreen & Montenegro 1992, ApJS 79, 37; moments and axis ratio are those of Bernstein & Jarvis 2002, AJ 123, 583 §3.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from omnisky.codec.patch import square_pixels
from omnisky.codec.tokens import Span, Tokens, absent_where
from omnisky.observe.types import Observation, Scalars

WINDOWS = (0.1, 0.1875, 0.34)
"""widths of the Gaussian windows in which moments are measured, as shares of the image"""


@dataclass(frozen=True, kw_only=True)
class _Measured(ABC):
    """What both codecs below share: bands in, numbers out, scaled; the way back gives the numbers, not the image."""

    bands: tuple[str, ...]
    softening: float = 1.0
    """in the unit of the image, about the noise of a pixel: fainter structure counts little"""
    centre: tuple[float, ...] = (0.0,)
    """taken from the numbers, one each or one for all"""
    scale: tuple[float, ...] = (1.0,)
    """what they are then divided by"""
    part: str = "image"
    name: str = ""

    promised_error: ClassVar[str] = "one way: decode gives the measured numbers (1e-5 relative), not the image"

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """what the numbers of a token are"""

    @abstractmethod
    def measure(self, light: Float[Tensor, "object band size size"]) -> Float[Tensor, "object token number"]:
        """The numbers, not yet scaled, of light above the sky."""

    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`. Raises BandMismatch, ShapeMismatch (not square) and BadPixels."""
        image = seen[self.part]
        size = min(image.flux.shape[-2:])
        light = above_sky(square_pixels(image, self.bands, patch_size=size))
        numbers = (self.measure(light) - torch.tensor(self.centre)) / torch.tensor(self.scale)
        positions = torch.arange(numbers.shape[1]).expand(len(numbers), -1)
        span = absent_where(Span(numbers, positions), torch.from_numpy(np.ascontiguousarray(image.there())))
        return Tokens({self.name: span})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """The measured numbers as a part of that name, one column a token and number; absent ones are NaN."""
        span = tokens[self.name]
        numbers = span.values.float().cpu() * torch.tensor(self.scale) + torch.tensor(self.centre)
        numbers = numbers.masked_fill(~span.there().cpu()[..., None], torch.nan)
        columns = tuple(f"{name}_{i}" for i in range(len(span)) for name in self.names())
        seen = Observation.of(range(len(numbers))) if like is None else like
        return seen | {self.name: Scalars(values=numbers.flatten(1).double().numpy(), names=columns)}


@dataclass(frozen=True, kw_only=True)
class Rings(_Measured):
    """One token a ring of the galaxy: its colours, its contrast, and the modes 1 … `modes` of its light.

    A mode has a strength relative to the ring's light, and the angle by which it leads the same mode one ring further
    in, as the cosine and the sine's size: constant along a bar, turning along an arm.
    """

    face_on: bool = True
    """along ellipses, as if the disc were seen from above; otherwise along circles on the sky"""
    count: int = 24
    """rings, evenly spaced in log radius between `inner` and `outer`"""
    angles: int = 32
    modes: int = 6
    inner: float = 1.5 / 32
    """of half the image"""
    outer: float = 30 / 32
    """of half the image"""
    name: str = "rings"

    def names(self) -> tuple[str, ...]:
        turns = range(1, self.modes + 1)
        each = [f"{what}_{m}" for what in ("strength", "lead_cos", "lead_sin") for m in turns]
        return (*self.bands, "contrast", *each)

    def measure(self, light: Float[Tensor, "object band size size"]) -> Float[Tensor, "object token number"]:
        round_ = torch.zeros(len(light), 2), torch.zeros(len(light)), torch.ones(len(light))
        lies = tilt(light.mean(1)) if self.face_on else round_
        unwound = unwind(light, *lies, self._radii(light.shape[-1]), self.angles)
        ring = unwound.mean(1)
        wave = torch.fft.rfft(ring, dim=-1)[..., 1 : self.modes + 1] / self.angles
        faint = self.softening / 6
        strength = (wave.abs() / (ring.mean(-1, keepdim=True) + faint) + 0.05).log()
        lead = wave[:, 1:] * wave[:, :-1].conj()
        lead = F.pad(torch.view_as_real(lead / (lead.abs() + faint**2 / 4)), (0, 0, 0, 0, 1, 0))
        colours = torch.asinh(unwound.mean(-1) / self.softening).mT
        contrast = torch.asinh(ring.std(-1, keepdim=True) / self.softening)
        return torch.cat([colours, contrast, strength, lead[..., 0], lead[..., 1].abs()], dim=-1)

    def _radii(self, size: int) -> Float[Tensor, " ring"]:
        ends = [math.log(end * size / 2) for end in (self.inner, self.outer)]
        return torch.linspace(*ends, self.count).exp()


@dataclass(frozen=True, kw_only=True)
class Moments(_Measured):
    """One token a galaxy: its size, ellipticity, offset and light in three windows, axis ratio, asymmetry, colours."""

    name: str = "moments"

    def names(self) -> tuple[str, ...]:
        each = [f"{what}_{i}" for i in range(len(WINDOWS)) for what in ("size", "ellipticity", "offset", "light")]
        return (*each, "axis_ratio", "asymmetry", *self.bands)

    def measure(self, light: Float[Tensor, "object band size size"]) -> Float[Tensor, "object token number"]:
        grey, size, numbers = light.mean(1), light.shape[-1], []
        for window in WINDOWS:
            total, x, y, xx, yy, xy = second_moments(grey, window)
            spread, stretch = xx + yy, ((xx - yy).square() + 4 * xy.square()).sqrt()
            offset = torch.hypot(x, y) / size
            numbers += [(spread.sqrt() / size).log(), stretch / spread, offset, torch.asinh(total / self.softening)]
        ratio = tilt(grey)[2]
        odd = (grey - grey.flip(-1, -2)).abs().sum((-1, -2)) / (grey.sum((-1, -2)) + self.softening)
        colours = torch.asinh(light.mean((-1, -2)) / self.softening)
        return torch.cat([torch.stack([*numbers, ratio, odd], dim=-1), colours], dim=-1)[:, None]


def above_sky(pixels: Float[Tensor, "object band size size"]) -> Float[Tensor, "object band size size"]:
    """Light above the median of the border (a sixteenth of the image wide), in each band; never below zero."""
    edge = max(pixels.shape[-1] // 16, 1)
    sides = [pixels[..., :edge, :], pixels[..., -edge:, :], pixels[..., :edge].mT, pixels[..., -edge:].mT]
    sky = torch.cat([side.flatten(-2) for side in sides], dim=-1).median(-1).values
    return (pixels - sky[..., None, None]).clamp(min=0)


def second_moments(light: Float[Tensor, "object size size"], window: float) -> tuple[Tensor, ...]:
    """Total, mean x and y, central second moments xx, yy, xy (px) under a Gaussian window of width `window`·size."""
    size = light.shape[-1]
    line = torch.arange(size) - (size - 1) / 2
    weight = torch.exp(-line.square() / 2 / (window * size) ** 2)
    seen = light * weight * weight[:, None]
    along, across = seen.sum(-2), seen.sum(-1)  # sums over rows leave a function of x
    total = along.sum(-1) + 1e-3
    x, y = along @ line / total, across @ line / total
    own = 1 / 12  # a pixel is a square of light, not a point
    xx, yy = along @ line.square() / total - x * x + own, across @ line.square() / total - y * y + own
    xy = torch.einsum("oyx,y,x->o", seen, line, line) / total - x * y
    return total, x, y, xx, yy, xy


def tilt(light: Float[Tensor, "object size size"]) -> tuple[Tensor, Tensor, Tensor]:
    """Where the galaxy is (x, y px from the middle), its axis ratio (0.2 … 1) and the angle of its long axis (rad)."""
    _, x, y, xx, yy, xy = second_moments(light, WINDOWS[1])
    spread, stretch = xx + yy, ((xx - yy).square() + 4 * xy.square()).sqrt()
    ratio = ((spread - stretch) / (spread + stretch)).clamp(0.04, 1).sqrt()
    return torch.stack([x, y], dim=-1), 0.5 * torch.atan2(2 * xy, xx - yy), ratio


def unwind(
    light: Float[Tensor, "object band size size"],
    middle: Float[Tensor, "object xy"],
    angle: Float[Tensor, " object"],
    ratio: Float[Tensor, " object"],
    radii: Float[Tensor, " ring"],
    angles: int,
) -> Float[Tensor, "object band ring angle"]:
    """Light along ellipses of that tilt, bilinear: radii (px) are along the long axis, angles are of the round disc."""
    turn = torch.arange(angles) * (2 * math.pi / angles)
    u = radii[:, None] * turn.cos()
    v = radii[:, None] * turn.sin() * ratio[:, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    where = torch.stack([u * cos - v * sin, u * sin + v * cos], dim=-1) + middle[:, None, None]
    where = where * (2 / light.shape[-1])  # grid_sample: the image runs from −1 to 1, edge to edge
    return F.grid_sample(light, where, mode="bilinear", padding_mode="border", align_corners=False)
