"""Spectra as overlapping sections on one grid of wavelengths: SpecFormer's tokens (Parker et al. 2024, §3.2).

Published SpecFormer reads DESI's grid and flux as it comes. Beyond that, and as our own extension: spectra on any other
grid are laid on the model's, and pixels that are not good, or whose ivar is 0, are left out of all sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor

from omnisky.codec.tokens import Span, Tokens
from omnisky.errors import BadPixels, BadValue, ShapeMismatch, TooSmall
from omnisky.observe.types import Observation, Spectrum


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Wavelengths in equal steps, vacuum."""

    first_aa: float = 3600.0
    """Å, of the first pixel"""
    step_aa: float = 0.8
    """Å"""
    pixels: int = 7781

    def wavelength_aa(self) -> Float[np.ndarray, " wave"]:
        """Å, of each pixel."""
        return self.first_aa + self.step_aa * np.arange(self.pixels, dtype=np.float64)


DESI = Grid()
"""what SpecFormer was trained on: 3600 … 9824 Å"""


class Laid(NamedTuple):
    """Spectra on a grid."""

    flux: Float[Tensor, "object wave"]
    good: Bool[Tensor, "object wave"] | None
    """None means everywhere"""
    ivar: Float[Tensor, "object wave"] | None
    """1/flux² per pixel of the grid; None where the spectra say nothing of it"""


@dataclass(frozen=True, kw_only=True)
class OverlappingSections:
    """Token 0 tells mean and spread, (mean − 2)/2 and (std − 2)/8; then sections of the standardised spectrum.

    A token has size + 2 numbers: two for mean and spread (0 in sections), then the pixels (0 in token 0). Inside a
    section, pixels that are missing lie on the straight line between their good neighbours; a section without a good
    pixel is absent.
    """

    grid: Grid = DESI
    size: int = 20
    """pixels"""
    step: int = 10
    """pixels from one section's start to the next"""
    least_std: float = 0.2
    """a spread below this is taken as this, in the unit of flux"""
    heedless: bool = False
    """compat: take flux as it is and look at neither ivar nor `good`, as AstroCLIP does; its grid is demanded"""
    drops_last: bool = False
    """compat: AstroCLIP always drops one section, which on some grids (not on DESI's) is a whole one"""
    weighted: bool = False
    """a second span, `weights_name`, says what each number counts in a loss: ivar·std² / (1 + ivar·std²)"""
    name: str = "spectra"
    part: str = "spectrum"
    promised_error: ClassVar[str] = (
        "1e-6 of the spread where pixels are good and on the grid; those of no section are NaN"
    )

    def __post_init__(self) -> None:
        if not 0 < self.step <= self.size <= self.grid.pixels:
            saw = f"sections of {self.size}, every {self.step}, on {self.grid.pixels} pixels"
            raise BadValue(saw=saw, want="0 < step ≤ size ≤ pixels")

    @property
    def weights_name(self) -> str:
        """Of the span of weights."""
        return f"{self.name}_weights"

    @property
    def sections(self) -> int:
        """How many; there is one token more."""
        if self.drops_last:
            return -(-(self.grid.pixels - (self.size - self.step)) // self.step) - 1
        return (self.grid.pixels - self.size) // self.step + 1

    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`, of sections + 1 tokens; position = place in the sequence.

        Raises TooSmall, ShapeMismatch, and BadPixels: NaN or no ivar where `good`, nothing good at all, wavelengths
        that do not increase.
        """
        spectrum: Spectrum = seen[self.part]
        there = torch.from_numpy(np.ascontiguousarray(spectrum.there()))
        laid = self._lay(spectrum, there)
        mean, std = _moments(laid, self.least_std)
        x = (laid.flux - mean) / std
        x = x if laid.good is None else _bridged(x, laid.good)
        values = F.pad(self._cut(x), (2, 0, 1, 0))
        values[:, 0, 0], values[:, 0, 1] = (mean[:, 0] - 2) / 2, (std[:, 0] - 2) / 8
        present = self._present(laid, there)
        if present is not None:
            values = values * present[..., None]
        positions = torch.arange(values.shape[1]).expand(len(values), -1)
        spans = {self.name: Span(values, positions, present)}
        if self.weighted:
            spans[self.weights_name] = Span(self._weights(laid, std), positions)
        return Tokens(spans)

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """Spectra on the grid, overlapping sections averaged; `good` is False, and flux NaN, where there was none."""
        span = tokens[self.name]
        values = span.values.float().cpu()
        if values.shape[1:] != (self.sections + 1, self.size + 2):
            want = f"{self.sections + 1} tokens of {self.size + 2} numbers"
            raise ShapeMismatch(f"tokens of {self.name!r}", saw=tuple(values.shape[1:]), want=want)
        mean, std = values[:, :1, 0] * 2 + 2, values[:, :1, 1] * 8 + 2
        there = span.there()[:, 1:, None].cpu().expand(-1, -1, self.size).float()
        where = (torch.arange(self.sections)[:, None] * self.step + torch.arange(self.size)).flatten()
        room = torch.zeros(len(values), self.grid.pixels)
        total = room.index_add(1, where, (values[:, 1:, 2:] * there).flatten(1))
        count = room.index_add(1, where, there.flatten(1))
        flux = torch.where(count > 0, total / count.clamp(min=1) * std + mean, torch.nan)
        wave = np.tile(self.grid.wavelength_aa(), (len(values), 1))
        seen = Observation.of(range(len(values))) if like is None else like
        return seen | {self.part: Spectrum(flux=flux.numpy(), wavelength_aa=wave, good=(count > 0).numpy())}

    def _lay(self, spectrum: Spectrum, there: Bool[Tensor, " object"]) -> Laid:
        on_grid = self._on_grid(spectrum)
        if not on_grid:  # the grid increases, and so does what lies on it
            demand_increasing(spectrum)
        if self.heedless:
            if not on_grid:
                saw = f"{spectrum.flux.shape[1]} pixels, {_span(spectrum)}"
                want = f"{self.grid.pixels} pixels, {self.grid.first_aa:g} … every {self.grid.step_aa:g} Å"
                hint = "heedless=False lays other grids on this one"
                raise ShapeMismatch("published SpecFormer reads one grid", saw=saw, want=want, hint=hint)
            seen = spectrum.flux if bool(there.all()) else np.where(spectrum.there()[:, None], spectrum.flux, 0)
            flux = torch.from_numpy(np.ascontiguousarray(seen)).float()
            _demand_finite(flux, hint="heedless=False, with those pixels `good=` False")
            return Laid(flux, None, None)
        laid = _heeded(spectrum)
        if not on_grid:
            laid = rebinned(laid, torch.from_numpy(spectrum.wavelength_aa).double(), self.grid)
        _demand_some(laid, there, self.grid)
        return laid

    def _on_grid(self, spectrum: Spectrum) -> bool:
        """Within a twentieth of a pixel, all of it."""
        if spectrum.flux.shape[1] != self.grid.pixels:
            return False
        away = _there(spectrum) - self.grid.wavelength_aa()
        return bool(np.abs(away, out=away).max(initial=0.0) < self.grid.step_aa / 20)  # False for NaN

    def _cut(self, x: Shaped[Tensor, "object wave"]) -> Shaped[Tensor, "object token size"]:
        return x.unfold(1, self.size, self.step)[:, : self.sections]

    def _present(self, laid: Laid, there: Bool[Tensor, " object"]) -> Bool[Tensor, "object token"] | None:
        if laid.good is None:
            present = there[:, None].expand(-1, self.sections + 1)
        else:
            present = F.pad(self._cut(laid.good).any(-1), (1, 0), value=True) & there[:, None]
        return None if bool(present.all()) else present

    def _weights(self, laid: Laid, std: Float[Tensor, "object 1"]) -> Float[Tensor, "object token width"]:
        """1 where the signal is far above the noise, its share where it is not, 0 where nothing was measured."""
        if laid.ivar is not None:
            signal = laid.ivar * std.square()
            each = signal / (1 + signal)
        else:
            each = torch.ones_like(laid.flux) if laid.good is None else laid.good.float()
        return F.pad(F.pad(self._cut(each), (2, 0)), (0, 0, 1, 0), value=1.0)


# --- sums over what is good --------------------------------------------------------------------------------------


def _moments(laid: Laid, least: float) -> tuple[Float[Tensor, "object 1"], Float[Tensor, "object 1"]]:
    """Mean and unbiased spread over good pixels, the spread at least `least`."""
    # One formula for both, so that no spectrum's numbers hang on whether a neighbour has bad pixels: factors of 1 alone
    # are left out.
    flux, good = laid.flux, laid.good
    count = torch.tensor([[flux.shape[1]]]) if good is None else good.sum(1, keepdim=True)
    mean = (flux if good is None else flux * good).sum(1, keepdim=True) / count.clamp(min=1)
    away = flux - mean if good is None else (flux - mean) * good
    std = (away.square_().sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    return mean, std.clamp(min=least)


def _bridged(x: Float[Tensor, "object wave"], good: Bool[Tensor, "object wave"]) -> Float[Tensor, "object wave"]:
    """Bad pixels on the straight line between the nearest good ones; before the first and after the last, level."""
    if bool(good.all()):
        return x
    n = x.shape[1]
    place = torch.arange(n, device=x.device).expand_as(x)
    before = torch.where(good, place, -1).cummax(1).values
    after = torch.where(good, place, n).flip(1).cummin(1).values.flip(1)
    left, right = torch.where(before < 0, after, before), torch.where(after >= n, before, after)
    left, right = left.clamp(0, n - 1), right.clamp(0, n - 1)  # a row without any good pixel is all absent
    share = (place - left) / (right - left).clamp(min=1)
    return torch.where(good, x, torch.lerp(x.gather(1, left), x.gather(1, right), share.to(x.dtype)))


def rebinned(laid: Laid, wave: Float[Tensor, "object pixel"], grid: Grid) -> Laid:
    """Spectra laid on a grid: the mean flux density over each of its pixels, and the information that fell into it.

    Flux is conserved, and so is the sum of ivar; where the grid is finer than the spectrum, neighbours share both.
    A pixel of the grid is good where more than half of it was measured.
    """
    wave = _continued(wave)
    inner = (wave[:, 1:] + wave[:, :-1]) / 2
    first, last = 2 * wave[:, :1] - inner[:, :1], 2 * wave[:, -1:] - inner[:, -1:]
    edges = torch.cat([first, inner, last], 1)
    width = edges.diff(dim=1)
    good = torch.ones_like(width) if laid.good is None else laid.good.double()
    sums = [laid.flux.double() * good * width, good * width]
    if laid.ivar is not None:
        sums.append(laid.ivar.double() * good)
    new = grid.first_aa + grid.step_aa * (torch.arange(grid.pixels + 1, dtype=torch.float64) - 0.5)
    at = (torch.searchsorted(edges, new.expand(len(edges), -1).contiguous()) - 1).clamp(0, width.shape[1] - 1)
    share = ((new - edges.gather(1, at)) / width.gather(1, at)).clamp(0, 1)
    light, cover, *told = [_between(each, at, share) for each in sums]
    there = cover > grid.step_aa / 2
    flux = torch.where(there, light / cover.clamp(min=1e-9), 0).float()
    return Laid(flux, there, told[0].float() * there if told else None)


def _between(each: Tensor, at: Integer[Tensor, "object edge"], share: Tensor) -> Tensor:
    """How much of a sum over pixels lies between neighbouring edges of the new grid."""
    upto = F.pad(each.cumsum(1), (1, 0))
    return (upto.gather(1, at) + share * each.gather(1, at)).diff(dim=1)


def _continued(wave: Float[Tensor, "object pixel"]) -> Float[Tensor, "object pixel"]:
    """Wavelengths with the padding filled: it goes on in the last step there was."""
    there = torch.isfinite(wave)
    if bool(there.all()):
        return wave
    last = (there.sum(1, keepdim=True) - 1).clamp(min=0)
    end, before = wave.gather(1, last), wave.gather(1, (last - 1).clamp(min=0))
    step = (end - before).nan_to_num(1.0).clamp(min=1e-3)
    place = torch.arange(wave.shape[1]) - last
    return torch.where(there, wave, end.nan_to_num(0.0) + step * place)


# --- what cannot be used -----------------------------------------------------------------------------------------


def _heeded(spectrum: Spectrum) -> Laid:
    """Flux (0 where it is not good), what is good, and ivar, on the spectrum's own pixels."""
    good = spectrum.where_good() & spectrum.there()[:, None]
    if spectrum.ivar is not None:
        if (~np.isfinite(spectrum.ivar) & good).any() or (np.nan_to_num(spectrum.ivar) < 0).any():
            raise BadPixels("NaN, infinite or negative ivar", hint="0 where a pixel says nothing, or `good=` False")
        good = good & (spectrum.ivar > 0)
    good = good & np.isfinite(spectrum.wavelength_aa)
    flux = torch.from_numpy(np.where(good, spectrum.flux, 0)).float()
    _demand_finite(flux, hint="mark those pixels `good=` False, or give them ivar 0")
    ivar = None if spectrum.ivar is None else torch.from_numpy(np.where(good, spectrum.ivar, 0)).float()
    return Laid(flux, None if good.all() else torch.from_numpy(good), ivar)


def _demand_finite(flux: Float[Tensor, "object wave"], hint: str) -> None:
    if not math.isfinite(float(flux.sum())) and not bool(torch.isfinite(flux).all()):  # one pass where all is well
        bad = int((~torch.isfinite(flux)).any(1).sum())
        raise BadPixels(f"NaN or infinite flux in {bad} of {len(flux)} spectra", hint=hint)


def _demand_some(laid: Laid, there: Bool[Tensor, " object"], grid: Grid) -> None:
    if laid.good is None:
        return
    empty = there & ~laid.good.any(1)
    if bool(empty.any()):
        raise BadPixels(
            f"nothing measured in {int(empty.sum())} of {len(empty)} spectra",
            saw="no good pixel with ivar above 0",
            want=f"some between {grid.first_aa:g} and {grid.first_aa + grid.step_aa * grid.pixels:g} Å",
            hint="leave those objects out, or mark them `present=` False",
        )


def demand_increasing(spectrum: Spectrum) -> None:
    wave = _there(spectrum)
    if wave.shape[1] < 2:
        raise TooSmall(saw=f"a spectrum of {wave.shape[1]} pixels", want="at least 2")
    there = np.isfinite(wave)
    if not there.all():
        gaps = (~there[:, :-1] & there[:, 1:]).any(1)
        if gaps.any():
            hint = "NaN only in the padding at the end"
            raise BadPixels(f"NaN among the wavelengths of {int(gaps.sum())} of {len(wave)} spectra", hint=hint)
    with np.errstate(invalid="ignore"):
        falls = (np.diff(wave, axis=1) <= 0).any(1)
    if falls.any():
        raise BadPixels(
            f"wavelengths do not increase in {int(falls.sum())} of {len(wave)} spectra",
            want="Å, from blue to red, none twice",
            hint="order = np.argsort(wavelength_aa); the same order for flux, ivar and good",
        )


def _there(spectrum: Spectrum) -> Float[np.ndarray, "some wave"]:
    """Wavelengths of the spectra there are."""
    there = spectrum.there()
    return spectrum.wavelength_aa if there.all() else spectrum.wavelength_aa[there]


def _span(spectrum: Spectrum) -> str:
    return f"{np.nanmin(spectrum.wavelength_aa):g} … {np.nanmax(spectrum.wavelength_aa):g} Å"
