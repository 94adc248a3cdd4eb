"""Spectra and images that an any-to-any model draws, beside those of a sky whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer

from omnisky.adapt.score import Score, bootstrap
from omnisky.codec.image import APERTURE_PX, centred
from omnisky.codec.spectrum import SpectrumCodec
from omnisky.codec.token_shards import IdTokens
from omnisky.codec.tokens import Codec, Span, Tokens, encode_all
from omnisky.evaluate.aion_runs import Ready
from omnisky.generate import Roar, fill
from omnisky.observe.mock import lines
from omnisky.observe.types import Image, Observation, Spectrum

WAY = Roar(steps=1, temperature=0.7)
"""the likeliest ids are the same ones everywhere, and the codec knows no averages of ids; at temperature 1 a rare id
makes χ² meaningless"""
DRAWS = 8
"""of each object, decoded and averaged"""
LATENT_AA = 25.6
"""of a token of the published spectrum codec: 32 pixels of 0.8 Å"""
BRIGHT_EW_AA = 20.0
"""rest-frame equivalent width of Hα, from which on a galaxy counts as a bright emission-line galaxy"""
SEARCHED_AA = 400.0
"""to either side of where the line belongs, that its peak is looked for in"""
BIN_PX = 32
"""pixels of DESI in a latent pixel"""
SHOWN = 4
HALPHA_AA = float(lines.WAVELENGTH_AA[lines.NAMES.index("Halpha")])


@dataclass(frozen=True, eq=False)
class SpectraTold:
    """Generated spectra beside true ones."""

    way: str
    objects: int
    r2: Score
    """of shapes (each spectrum over its own median) in bins of 25.6 Å; 0 is the mean spectrum of validation objects"""
    gain: Score
    """that R² less the one of another object's generated spectrum: what the inputs add"""
    chi2: Score
    """median over objects of χ² a pixel, against what was observed"""
    chi2_codec: Score
    """the same of the codec's own reconstruction: nothing that goes through it can be better"""
    lines: Score | None
    """share of bright emission-line galaxies whose Hα peaks within 2 latent pixels of where it belongs"""
    lines_other: Score | None
    """the same of another object's generated spectrum: by chance"""
    lines_codec: Score | None
    """the same of the codec's own reconstruction"""
    bright: int
    shown: tuple[np.ndarray, np.ndarray]
    """a few objects, brightest lines first: (observed, generated), (object, wave)"""
    wavelength_aa: np.ndarray
    """theirs, (object, wave)"""


@dataclass(frozen=True, eq=False)
class ImagesTold:
    """Translated images beside true ones."""

    way: str
    objects: int
    flux: Mapping[str, Score]
    """band → median of generated / true − 1 within a circle of 8 px"""
    flux_codec: Mapping[str, Score]
    """the same of the codec's own reconstruction"""
    median: Score
    """over objects and bands"""
    shown: tuple[np.ndarray, np.ndarray]
    """(true, generated), (object, y, x), in r"""


def tokens_of(ready: Ready, rows: Integer[np.ndarray, " object"], names: Sequence[str]) -> Tokens:
    """The stored ids of these modalities of these objects."""
    return encode_all(tuple(IdTokens(name=name) for name in names), ready.tokens.take(rows))


def codec_of(ready: Ready, key: str) -> Codec:
    return next(one for one in ready.model.codecs if one.name == key)


def drawn(ready: Ready, tokens: Tokens, codec: Codec, like: Observation, batch: int = 32) -> np.ndarray:
    """The mean flux of some draws of a modality, given the others, batch by batch.

    Spectra are of their median brightness, or else the brightest draw would be most of the mean.
    """
    draw, fluxes = torch.Generator().manual_seed(0), []
    for i in range(0, tokens.objects, batch):
        rows = slice(i, i + batch)
        given = tokens.take(rows)
        ids = fill(ready.model, given, (codec.name,), WAY, draws=DRAWS, generator=draw)[codec.name].values
        ids = ids.unflatten(0, (given.objects, DRAWS))
        if isinstance(codec, SpectrumCodec):
            brightness = ids[..., :1].median(1, keepdim=True).values
            ids = torch.cat([brightness.expand(-1, DRAWS, -1), ids[..., 1:]], 2)
        each = ids.unbind(1)
        where = torch.arange(ids.shape[-1]).expand(each[0].shape)
        seen = [codec.decode(Tokens({codec.name: Span(one, where)}), like=like.take(rows))[codec.part] for one in each]
        fluxes.append(np.mean([cast(Image | Spectrum, one).flux for one in seen], axis=0))
    return np.concatenate(fluxes)


# --- spectra -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Known:
    """What DESI saw of some objects, and what a spectrum may be compared with."""

    rows: Integer[np.ndarray, " object"]
    seen: Observation
    mean: Float[np.ndarray, " bin"]
    """shape of other objects' spectra, binned"""

    @property
    def spectrum(self) -> Spectrum:
        return self.seen["spectrum"]

    def bright(self) -> Bool[np.ndarray, " object"]:
        """Galaxies with a bright Hα well within the spectrum."""
        at = HALPHA_AA * (1 + self.seen["truth"]["redshift"])
        wave = self.spectrum.wavelength_aa[0]
        inside = (at > wave[0] + SEARCHED_AA) & (at < wave[-1] - SEARCHED_AA)
        return inside & (np.nan_to_num(self.seen["lines"]["ew_Halpha"]) > BRIGHT_EW_AA)

    def take(self, index: Any) -> Known:
        return Known(self.rows[index], self.seen.take(index), self.mean)


def spectra_told(ready: Ready, way: str, inputs: Sequence[str], true: Known) -> SpectraTold | None:
    """Draw DESI spectra from these inputs and compare; None where fewer than 8 objects have them."""
    tokens = tokens_of(ready, true.rows, inputs)
    whole = torch.stack([tokens[name].there().all(1) for name in tokens]).all(0) if len(tokens) == len(inputs) else None
    if whole is None or int(whole.sum()) < 8:
        return None
    has = whole.numpy()
    true, tokens = true.take(has), tokens.take(whole)
    codec = codec_of(ready, "tok_spectrum_desi")
    said = drawn(ready, tokens, codec, true.seen)
    back = codec.decode(codec.encode(true.seen), like=true.seen)["spectrum"].flux
    shape, there = binned(true.spectrum.flux, true.spectrum)
    squares = [_squares(binned(flux, true.spectrum)[0], shape, there) for flux in (said, np.roll(said, 1, axis=0))]
    spread, bright = _squares(np.broadcast_to(true.mean, shape.shape), shape, there), true.bright()
    found, by_chance, at_best = (_peaks(flux, true)[bright] for flux in (said, np.roll(said, 1, axis=0), back))
    order = np.argsort(-np.nan_to_num(true.seen["lines"]["ew_Halpha"]))[:SHOWN]
    return SpectraTold(
        way=way,
        objects=len(said),
        r2=bootstrap(lambda a, b: float(1 - a.sum() / b.sum()), squares[0], spread),
        gain=bootstrap(lambda a, o, b: float((o.sum() - a.sum()) / b.sum()), *squares, spread),
        chi2=bootstrap(lambda c: float(np.median(c)), _chi2(said, true)),
        chi2_codec=bootstrap(lambda c: float(np.median(c)), _chi2(back, true)),
        lines=_share(found),
        lines_other=_share(by_chance),
        lines_codec=_share(at_best),
        bright=int(bright.sum()),
        shown=(np.where(true.spectrum.where_good(), true.spectrum.flux, np.nan)[order], said[order]),
        wavelength_aa=true.spectrum.wavelength_aa[order],
    )


def mean_shape(spectrum: Spectrum) -> Float[np.ndarray, " bin"]:
    """The mean of binned spectra, each over its own median."""
    shape, there = binned(spectrum.flux, spectrum)
    return (shape * there).sum(0) / np.maximum(there.sum(0), 1)


def binned(
    flux: Float[np.ndarray, "object wave"], seen: Spectrum
) -> tuple[Float[np.ndarray, "object bin"], Bool[np.ndarray, "object bin"]]:
    """Means of 32 pixels by the ivar of what was seen, over the median of them; and which bins were seen at all."""
    whole = flux.shape[1] // BIN_PX * BIN_PX
    weight = _weight(seen)[:, :whole].reshape(len(flux), -1, BIN_PX)
    total, there = weight.sum(2), weight.any(2)
    means = (np.nan_to_num(flux)[:, :whole].reshape(weight.shape) * weight).sum(2) / np.where(there, total, 1)
    middle = np.nanmedian(np.where(there, means, np.nan), axis=1, keepdims=True)
    return means / np.maximum(middle, 1e-3 * np.abs(means).max(1, keepdims=True) + 1e-6), np.asarray(there)


def _weight(seen: Spectrum) -> Float[np.ndarray, "object wave"]:
    assert seen.ivar is not None  # the mock sky tells it
    return np.where(seen.where_good(), np.nan_to_num(seen.ivar), 0)


def _squares(said: np.ndarray, true: np.ndarray, there: np.ndarray) -> Float[np.ndarray, " object"]:
    return ((said - true) ** 2 * there).sum(1)


def _chi2(flux: Float[np.ndarray, "object wave"], true: Known) -> Float[np.ndarray, " object"]:
    weight = _weight(true.spectrum)
    return ((flux - np.nan_to_num(true.spectrum.flux)) ** 2 * weight).sum(1) / np.maximum((weight > 0).sum(1), 1)


def _peaks(flux: Float[np.ndarray, "object wave"], true: Known) -> Bool[np.ndarray, " object"]:
    """Whether the highest point around Hα is within 2 latent pixels of where it belongs."""
    at = HALPHA_AA * (1 + true.seen["truth"]["redshift"])
    wave, found = true.spectrum.wavelength_aa, np.zeros(len(flux), dtype=bool)
    for i in range(len(flux)):
        near = np.flatnonzero(np.abs(wave[i] - at[i]) < SEARCHED_AA)
        if len(near):
            slope = np.polynomial.Polynomial.fit(wave[i, near], flux[i, near], 1)(wave[i, near])
            peak = wave[i, near[np.argmax(flux[i, near] - slope)]]
            found[i] = abs(peak - at[i]) <= 2 * LATENT_AA
    return found


def _share(found: Bool[np.ndarray, " object"]) -> Score | None:
    return bootstrap(lambda f: float(np.mean(f)), found.astype(float)) if len(found) > 1 else None


# --- images --------------------------------------------------------------------------------------------------------


def images_told(
    ready: Ready, way: str, inputs: Sequence[str], target: str, rows: Integer[np.ndarray, " object"], seen: Observation
) -> ImagesTold:
    """Draw the images of another survey and compare the light within a circle."""
    codec = codec_of(ready, target)
    true: Image = seen[codec.part]
    said = drawn(ready, tokens_of(ready, rows, inputs), codec, seen, batch=32)
    back = codec.decode(codec.encode(seen), like=seen)[codec.part].flux
    light = {name: _within(flux) for name, flux in (("true", true.flux), ("said", said), ("back", back))}
    counts = light["true"] > 0
    off, off_back = (np.where(counts, light[name] / light["true"] - 1, np.nan) for name in ("said", "back"))

    def medians(of: np.ndarray) -> dict[str, Score]:
        return {band: bootstrap(_nanmedian, of[:, i]) for i, band in enumerate(true.bands)}

    red = true.bands.index("r")
    brightest = np.argsort(-light["true"][:, red])[:SHOWN]
    shown = (true.flux[brightest, red], said[brightest, red])
    return ImagesTold(
        way=way,
        objects=len(said),
        flux=medians(off),
        flux_codec=medians(off_back),
        median=bootstrap(_nanmedian, off),
        shown=(centred(shown[0], shown[1].shape[-1]), shown[1]),
    )


def _within(flux: Float[np.ndarray, "object band y x"]) -> Float[np.ndarray, "object band"]:
    height, width = flux.shape[-2:]
    y, x = np.ogrid[:height, :width]
    inside = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) < APERTURE_PX
    return (np.nan_to_num(flux) * inside).sum((2, 3), dtype=np.float64)


def _nanmedian(values: np.ndarray) -> float:
    return float(np.nanmedian(values))
