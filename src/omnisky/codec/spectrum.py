"""AION-1's spectrum codec: spectra on any grid ↔ a token of brightness and 272 ids (Parker et al. 2025, §3.1).

    flux, 1/σ → over the spectrum's brightness → on one grid, 3500 … 10462 Å → asinh → network → 273 ids of 1024

As published, and frozen into its weights: pixels that are not good stay in the flux that the network sees (only the
brightness leaves them out), NaN is read as 0, and 1/σ is divided by the brightness, by which it should be multiplied.
Ours: wavelengths must increase, and may end in padding; an infinite flux is refused where it counts; on the way back,
pixels beyond the network's grid are not good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from omnisky.codec.processor import at_precision
from omnisky.codec.published import some_at_once
from omnisky.codec.sections import demand_increasing
from omnisky.codec.spectrum_network import Scales
from omnisky.codec.spectrum_network import SpectrumCodecConfig as SpectrumCodecConfig
from omnisky.codec.spectrum_network import SpectrumNetwork as SpectrumNetwork
from omnisky.codec.tokens import Span, Tokens, absent_where
from omnisky.errors import BadPixels, BadValue, ShapeMismatch
from omnisky.observe.types import Observation, Spectrum

NAMES = {"desi": "tok_spectrum_desi", "sdss": "tok_spectrum_sdss"}
"""survey → name of its tokens; one network serves both"""


@dataclass(frozen=True, kw_only=True, eq=False)
class SpectrumCodec:
    """Spectra of one survey ↔ 273 ids."""

    network: SpectrumNetwork
    survey: str = "desi"
    part: str = "spectrum"
    dtype: torch.dtype = torch.float32
    """of matrix products, where the processor multiplies it; with random weights of the published size, bfloat16
    changes about 1 id in 1000"""
    at_once: int = 8
    """spectra that go through the network together"""
    promised_error: ClassVar[str] = (
        "a trained network's, as `omnisky evaluate codec` measures; ivar does not come back, brightness within 0.7 %"
    )

    def __post_init__(self) -> None:
        if self.survey not in NAMES:
            raise BadValue("no tokens of this survey", saw=self.survey, want=tuple(NAMES))

    @property
    def name(self) -> str:
        """tok_spectrum_desi, tok_spectrum_sdss"""
        return NAMES[self.survey]

    @torch.no_grad()
    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`: brightness, then 272 ids from blue to red.

        Raises TooSmall, BadValue (no ivar), and BadPixels: wavelengths that do not increase, infinite flux or ivar
        where good, nothing good at all, or nothing within the grid. Certainty that is NaN or negative is none.
        """
        spectrum: Spectrum = seen[self.part]
        read, there = Read.of(spectrum, self.network.config), torch.from_numpy(np.ascontiguousarray(spectrum.there()))
        ids = torch.zeros(len(there), 1 + self.network.config.length, dtype=torch.int64)
        for rows in some_at_once(there, self.at_once):
            with at_precision(self.dtype):
                first, x = compressed(self.network.scales, read.take(rows))
                ids[rows] = torch.cat([first[:, None], self.network.ids(x)], 1)
        positions = torch.arange(ids.shape[1]).expand(len(ids), -1)
        return Tokens({self.name: absent_where(Span(ids, positions), there)})

    @torch.no_grad()
    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """Spectra on the wavelengths of `like`, or on the network's own. `good` is False where the network says that a
        pixel is bad, and beyond its grid.

        Raises ShapeMismatch, BadValue (ids outside the vocabulary), and for `like` what `encode` raises of wavelengths.
        """
        span, config = tokens[self.name], self.network.config
        if span.values.shape[1:] != (1 + config.length,):
            raise ShapeMismatch(self.name, saw=tuple(span.values.shape[1:]), want=f"{1 + config.length} ids")
        there = span.there().any(1).cpu()
        model: Spectrum | None = like[self.part] if like is not None and self.part in like else None
        own = self.network.scales.wavelength
        wave = own.double().expand(len(there), -1) if model is None else _wavelengths(model)
        flux, logit = self.said(tokens, wave if model is not None else None).unbind(1)
        good = (logit <= 0) & (wave >= own[0, 0]) & (wave <= own[0, -1]) & there[:, None]
        padded = ~torch.isfinite(wave)
        observed = Observation.of(range(len(there))) if like is None else like
        spectrum = Spectrum(
            flux=flux.masked_fill(padded, torch.nan).numpy(),
            wavelength_aa=wave.numpy() if model is None else model.wavelength_aa,
            good=(good & ~padded).numpy(),
            survey=self.survey,
            present=None if bool(there.all()) else there.numpy(),
        )
        return observed | {self.part: spectrum}

    @torch.no_grad()
    def said(self, tokens: Tokens, wave: Float[Tensor, "object wave"] | None = None) -> Float[Tensor, "object 2 wave"]:
        """Flux, and the logit of being bad, at these wavelengths (Å) or on the network's own; NaN for absent ones."""
        span, scales = tokens[self.name], self.network.scales
        ids = span.values.cpu().long()
        pixels = scales.wavelength.shape[1] if wave is None else wave.shape[1]
        out = torch.full((len(ids), 2, pixels), torch.nan)
        for rows in some_at_once(span.there().any(1).cpu(), self.at_once):
            with at_precision(self.dtype):
                said = self.network.said(ids[rows, 1:])
            if wave is not None:
                said = interpolated(scales.wavelength, said, wave[rows].float())
            said[:, 0] = (said[:, 0] + 1) * scales.brightness(ids[rows, 0])
            out[rows] = said
        return out


@dataclass(frozen=True, kw_only=True)
class GridRows:
    """What the network is trained on, on its grid: one token each of what enters it (2), flux, ivar, which pixels are
    bad, which were observed, and the brightness.
    """

    config: SpectrumCodecConfig
    part: str = "spectrum"
    name: str = "spectrum"
    promised_error: ClassVar[str] = "interpolation to the grid"

    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`, of 7 tokens of as many numbers as the grid has pixels. Raises as `SpectrumCodec.encode`."""
        spectrum: Spectrum = seen[self.part]
        there = torch.from_numpy(np.ascontiguousarray(spectrum.there()))
        read, scales = Read.of(spectrum, self.config), Scales.of(self.config)
        first, x = compressed(scales, read)
        bad = (~read.good).float()
        ivar = torch.from_numpy(np.nan_to_num(np.asarray(spectrum.ivar, dtype=np.float32), posinf=0)) * read.good
        rows = torch.stack([read.flux, ivar, bad, torch.ones_like(bad)], 1)
        flux, ivar, bad, covered = interpolated(read.wave.float(), rows, scales.wavelength).unbind(1)
        bad = (bad > 0).float()
        brightness = scales.brightness(first).expand(-1, flux.shape[1])
        values = torch.stack(
            [x[:, 0], x[:, 1], flux, ivar * (1 - bad), bad, covered.clamp(0, 1).round(), brightness], 1
        )
        return Tokens({self.name: absent_where(Span(values, torch.arange(7).expand(len(values), -1)), there)})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """Spectra on the grid."""
        values = tokens[self.name].values.float().cpu()
        wave = np.tile(Scales.of(self.config).wavelength.double().numpy(), (len(values), 1))
        good = ((values[:, 4] == 0) & (values[:, 5] > 0)).numpy()
        seen = Observation.of(range(len(values))) if like is None else like
        flux, ivar = values[:, 2].numpy(), values[:, 3].numpy()
        return seen | {self.part: Spectrum(flux=flux, ivar=ivar, wavelength_aa=wave, good=good)}


@dataclass(frozen=True, eq=False)
class Read:
    """Spectra on their own pixels, as the network reads them: nothing infinite, nothing NaN."""

    flux: Float[Tensor, "object wave"]
    istd: Float[Tensor, "object wave"]
    good: Bool[Tensor, "object wave"]
    wave: Float[Tensor, "object wave"]
    """Å; NaN in the padding"""

    @classmethod
    def of(cls, spectrum: Spectrum, config: SpectrumCodecConfig) -> Read:
        """Raises as `SpectrumCodec.encode`."""
        if spectrum.ivar is None:
            raise BadValue("spectra without ivar", want="ivar, which the network reads beside flux")
        wave = _wavelengths(spectrum)
        there = torch.from_numpy(np.ascontiguousarray(spectrum.there()))[:, None]
        good = torch.from_numpy(np.ascontiguousarray(spectrum.where_good())) & torch.isfinite(wave) & there
        flux, ivar = (torch.from_numpy(np.asarray(a, dtype=np.float32)) for a in (spectrum.flux, spectrum.ivar))
        for name, told in (("flux", flux), ("ivar", ivar)):
            if bool((torch.isinf(told) & good).any()):
                raise BadPixels(f"infinite {name}", hint="mark those pixels `good=` False")
        if bool((~good.any(1) & there[:, 0]).any()):
            empty = int((~good.any(1) & there[:, 0]).sum())
            hint = "leave them out, or mark them `present=` False"
            raise BadPixels(f"nothing good in {empty} of {len(good)} spectra", want="some good pixels", hint=hint)
        inside = torch.isfinite(wave)
        last = config.lambda_min + config.resolution * (config.num_pixels - 1)
        seen = (good & (wave >= config.lambda_min) & (wave <= last)).any(1)
        if beyond := int((~seen & there[:, 0]).sum()):
            want = f"good pixels between {config.lambda_min:g} and {last:g} Å"
            raise BadPixels(f"{beyond} of {len(good)} spectra", saw="none", want=want, hint="are wavelengths in Å?")
        flux = torch.where(inside, flux, 0).nan_to_num(0, 0, 0)
        if config.clip_flux is not None:
            flux = flux.clamp(-config.clip_flux, config.clip_flux)
        weight = torch.where(inside, ivar, 0).nan_to_num(0, 0, 0).clamp(0, config.clip_ivar)
        return cls(flux, weight.sqrt(), good, wave)

    def take(self, rows: Tensor) -> Read:
        return Read(self.flux[rows], self.istd[rows], self.good[rows], self.wave[rows])


def compressed(scales: Scales, read: Read) -> tuple[Tensor, Float[Tensor, "object 2 wave"]]:
    """The token of brightness, and what enters the network."""
    mean = (read.flux * read.good).sum(1) / (read.good.sum(1) + 1)  # compat: one more than there are
    first = scales.ids(mean)
    x = scales.entered(read.flux, read.istd, first)
    return first, torch.asinh(interpolated(read.wave.float(), x, scales.wavelength))


def interpolated(
    old: Float[Tensor, "#object old"], y: Float[Tensor, "object row old"], new: Float[Tensor, "#object new"]
) -> Float[Tensor, "object row new"]:
    """Straight lines between neighbours; 0 beyond the first and last, and where `new` is NaN.

    Increasing, NaN only in the padding at the end. Where all objects share both grids the places are found once.
    """
    old, new = _shared(old), _shared(new)
    last = torch.isfinite(old).sum(1, keepdim=True) - 1
    end = old.gather(1, last)
    old = old.nan_to_num(torch.inf)
    x = new.nan_to_num(-torch.inf)
    n = max(len(old), len(x))
    at = torch.searchsorted(old.expand(n, -1).contiguous(), x.expand(n, -1).contiguous()) - 1
    at = at.clamp(min=0).minimum((last - 1).clamp(min=0))
    left, right = old.expand(n, -1).gather(1, at), old.expand(n, -1).gather(1, at + 1)
    inside = (x >= old[:, :1]) & (x <= end)
    share = torch.where(inside, (x - left) / (right - left), 0)[:, None]
    if n == 1:
        below, above = y[..., at[0]], y[..., at[0] + 1]
    else:
        at = at[:, None].expand(-1, y.shape[1], -1)
        below, above = y.gather(2, at), y.gather(2, at + 1)
    return torch.where(inside[:, None], torch.lerp(below, above, share), 0)


def _shared(grid: Float[Tensor, "object wave"]) -> Float[Tensor, "some wave"]:
    """One row where all are the same."""
    if len(grid) > 1 and bool(((grid[1:] == grid[:1]) | (grid[1:].isnan() & grid[:1].isnan())).all()):
        return grid[:1]
    return grid


def _wavelengths(spectrum: Spectrum) -> Float[Tensor, "object wave"]:
    """Checked; absent spectra get those of the first that is there, so that they disturb nobody."""
    demand_increasing(spectrum)
    there = spectrum.there()
    wave = torch.from_numpy(np.asarray(spectrum.wavelength_aa, dtype=np.float64))
    if there.all() or not there.any():
        return wave
    return torch.where(torch.from_numpy(there)[:, None], wave, wave[int(np.flatnonzero(there)[0])])
