"""What learned codecs lose: there and back, on objects that no recipe of ours trains on.

A folder is a model that `omnisky train codec-…` saved. Errors are over objects, by bootstrap. Photometry is the flux in
a circle about the middle, before and after, against its magnitude before. Of an image's bands those count that the
codec has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import nn

from omnisky.adapt.score import Score, bootstrap
from omnisky.codec.field import FieldCodec, FieldNetwork, field_of
from omnisky.codec.image import APERTURE_PX, ImageCodec, ImageNetwork, centred
from omnisky.codec.light_curve import FIRST, LightCurveCodec, LightCurveNetwork
from omnisky.codec.quantize import Usage, usage
from omnisky.codec.spectrum import NAMES, SpectrumCodec, SpectrumNetwork
from omnisky.codec.tokens import Tokens
from omnisky.embed import only
from omnisky.errors import BadValue
from omnisky.model import store
from omnisky.observe.loader import Source
from omnisky.observe.match import Places
from omnisky.observe.sky import held_out
from omnisky.observe.types import Image, LightCurve, Observation, Spectrum

Learned = ImageCodec | SpectrumCodec | FieldCodec | LightCurveCodec

HELD_OUT = 0.1
"""share of the objects that are looked at, by `observe.sky.held_out`: what the recipes leave out"""
SHOWN = 6
"""objects in a figure"""
LEAST_PER_BIN = 8
"""objects, below which a bin of magnitude says nothing"""
UNBIASED = 0.02
"""of the flux: what a codec may change it by"""


@dataclass(frozen=True)
class Bin:
    """Photometry in one band of objects of about one magnitude."""

    band: str
    mag: float
    """AB, the middle of the bin"""
    objects: int
    bias: Score
    """median of (after − before) / before"""


@dataclass(frozen=True, eq=False)
class Report:
    """One codec on one set of objects. Scores are None where the modality has no such number."""

    name: str
    objects: int
    bands: tuple[str, ...]
    """of images"""
    sigma: Score | None
    """root mean square of (after − before) · √ivar over pixels: 1 is the noise itself"""
    r2: Score
    """1 − residual variance / variance, over all pixels that count"""
    bad_auc: Score | None
    """how well bad pixels are told from good ones: area under the ROC curve"""
    usage: Usage
    bits: float
    """an object's tokens take, at log₂ of the vocabulary each"""
    bits_before: float
    """its pixels took, as they came"""
    photometry: tuple[Bin, ...] = ()
    before: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """a few objects, for a figure: (object, height, width), (object, wave), or (object, epoch) band by band"""
    after: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    wavelength_aa: np.ndarray | None = None
    """of spectra: (object, wave)"""

    def row(self) -> tuple[str, ...]:
        """For a table, under HEADERS."""
        blank = "–"
        return (
            self.name,
            f"{self.objects:,}",
            str(self.sigma or blank),
            str(self.r2),
            str(self.bad_auc or blank),
            f"{self.usage.used:.1%} of {self.usage.codes}",
            f"{self.usage.perplexity:.0f}",
            f"{self.bits:.0f} for {self.bits_before:.0f}",
        )

    def unbiased_mag(self, band: str) -> float:
        """The longest run of neighbouring bins, mag, in which the median flux changes by at most 2 %."""
        fine = [one.mag for one in self.photometry if one.band == band and abs(one.bias.value) <= UNBIASED]
        longest = run = 0
        for mag in fine:
            run = run + 1 if mag - 1 in fine else 1
            longest = max(longest, run)
        return float(longest)

    def curves(self) -> dict[str, np.ndarray]:
        """Photometry by band, for a figure: (magnitude, bias, its error) a bin."""
        found: dict[str, list[tuple[float, float, float]]] = {}
        for one in self.photometry:
            found.setdefault(one.band, []).append((one.mag, one.bias.value, one.bias.error))
        return {band: np.array(bins) for band, bins in found.items()}

    def state(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        return {
            "tokens": self.name,
            "objects": self.objects,
            "bands": list(self.bands),
            "error_in_sigma": _two(self.sigma),
            "r2": _two(self.r2),
            "bad_auc": _two(self.bad_auc),
            "codes": self.usage.codes,
            "codes_used": self.usage.used,
            "perplexity": self.usage.perplexity,
            "bits": self.bits,
            "bits_before": self.bits_before,
            "photometry": [
                {"band": one.band, "mag": one.mag, "objects": one.objects, "bias": _two(one.bias)}
                for one in self.photometry
            ],
            "unbiased_mag": {band: self.unbiased_mag(band) for band in self.curves()},
        }


HEADERS = ("tokens", "objects", "error / σ", "R²", "AUC of bad", "codes used", "perplexity", "bits an object")
PHOTOMETRY = ("band", "mag", "objects", "flux after / before − 1, median")


def photometry_rows(report: Report) -> list[tuple[str, ...]]:
    """For a table: photometry by band and magnitude."""
    return [(one.band, f"{one.mag:.1f}", f"{one.objects:,}", str(one.bias)) for one in report.photometry]


def _two(score: Score | None) -> list[float] | None:
    """The number and its error."""
    return None if score is None else [score.value, score.error]


def codec_of(model: nn.Module, part: str = "") -> Learned:
    """The codec around a trained network; `part` of the observation, if it is not the usual one. Raises BadValue."""
    if isinstance(model, ImageNetwork):
        first = model.codecs[0] if model.codecs else None
        survey = getattr(first, "survey", "legacysurvey")
        return ImageCodec(network=model, survey=survey, part=part or getattr(first, "part", ""))
    if isinstance(model, SpectrumNetwork):
        return SpectrumCodec(network=model, part=part or "spectrum")
    if isinstance(model, FieldNetwork):
        return FieldCodec(network=model, part=part or "segmentation")
    if isinstance(model, LightCurveNetwork):
        return LightCurveCodec(network=model, part=part or "light_curve")
    raise BadValue("not a learned codec", saw=type(model).__name__, want="of images, spectra, maps or light curves")


def evaluate(
    folder: str | Path,
    source: Source,
    most: int = 1000,
    *,
    share: float = HELD_OUT,
    watch: Callable[[int, int], None] | None = None,
) -> Report:
    """Measure the codec in `folder` on at most so many of the held-out objects; `share` 1 takes all objects.

    Spectra without a good pixel are left out.

    Raises BadValue for fewer than 2, MissingModality where nothing is what the codec reads, and what it raises.
    """
    codec = codec_of(store.load(folder))
    tallies: list[Tally] = []
    done = 0
    for seen in _unseen(source, codec.part, most, share):
        codec, seen = _fitting(codec, seen)
        tallies.append(_tally(codec, seen))
        done += len(seen)
        if watch is not None:
            watch(done, most)
    if done < 2:
        hint = "omnisky evaluate codec --everything, for data that was not trained on"
        raise BadValue(f"{folder}: nothing to measure on", saw=f"{done} of the objects", want="2 or more", hint=hint)
    return _report(codec, Tally.joined(tallies))


def _fitting(codec: Learned, seen: Observation) -> tuple[Learned, Observation]:
    """The codec under the name of the survey, and the bands that it has."""
    part: Any = seen[codec.part]
    if isinstance(codec, SpectrumCodec) and part.survey in NAMES:
        return replace(codec, survey=part.survey), seen
    if isinstance(codec, ImageCodec):
        own = (*codec.row.bands, *codec.network.config.channels)
        known = [i for i, band in enumerate(part.bands) if band in own]
        if 0 < len(known) < len(part.bands):
            return codec, seen | {codec.part: _in_bands(part, known)}
    return codec, seen


def _in_bands(image: Image, chosen: list[int]) -> Image:
    told = {name: getattr(image, name) for name in ("flux", "ivar", "good", "psf_fwhm_arcsec")}
    some = {name: array[:, chosen] for name, array in told.items() if array is not None}
    return replace(image, bands=tuple(image.bands[i] for i in chosen), **some)


def _unseen(source: Source, part: str, most: int, share: float) -> Iterator[Observation]:
    """Of a reader no more is read than these rows, and of them this part alone."""
    rows, alone = np.flatnonzero(held_out(Places.of(source).take(slice(None)), share)), only(source, part)
    for start in range(0, len(rows), 32):
        seen = alone.take(rows[start : start + 32])
        seen = seen.take(np.flatnonzero(_measured(seen[part]))[:most])
        if len(seen):
            most -= len(seen)
            yield seen
        if not most:
            return


def _measured(part: Any) -> Bool[np.ndarray, " object"]:
    """Of spectra, those without a good pixel are as good as absent: fibres that broke."""
    return part.there() & part.where_good().any(1) if isinstance(part, Spectrum) else part.there()


# --- sums, an object a row ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Tally:
    """What is summed over an object's pixels; all scores are made of these."""

    chi2: Float[np.ndarray, " object"]
    pixels: Float[np.ndarray, " object"]
    """that count"""
    residual: Float[np.ndarray, " object"]
    """sum of squares of after − before"""
    total: Float[np.ndarray, " object"]
    """sum of before"""
    square: Float[np.ndarray, " object"]
    """sum of its squares"""
    auc: Float[np.ndarray, " object"]
    """NaN where nothing is bad, or nothing is told"""
    flux: Float[np.ndarray, "object band before_after"]
    ids: torch.Tensor
    before: np.ndarray
    after: np.ndarray
    numbers: int
    """an object came with"""
    tokens: int
    """an object has, ids that are not looked at too"""
    wavelength_aa: np.ndarray
    """of spectra that are shown; without numbers for others"""
    bands: tuple[str, ...] = ()
    noise_known: bool = False

    @classmethod
    def joined(cls, each: list[Tally]) -> Tally:
        """Of all objects."""
        shown = ("before", "after", "wavelength_aa")
        names = ("chi2", "pixels", "residual", "total", "square", "auc", "flux", *shown)
        joined: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in each]) for name in names}
        joined |= {name: joined[name][:SHOWN] for name in shown}
        return replace(each[0], **joined, ids=torch.cat([one.ids for one in each]))


def _tally(codec: Learned, seen: Observation) -> Tally:
    tokens = codec.encode(seen)
    back = codec.decode(tokens, like=seen)[codec.part]
    if isinstance(codec, ImageCodec):
        return _of_images(codec, seen, tokens, back)
    if isinstance(codec, SpectrumCodec):
        return _of_spectra(codec, seen, tokens, back)
    if isinstance(codec, LightCurveCodec):
        return _of_curves(codec, seen, tokens, back)
    return _of_maps(codec, seen, tokens, back)


def _of_images(codec: ImageCodec, seen: Observation, tokens: Tokens, back: Image) -> Tally:
    image, side = seen[codec.part], codec.network.config.side
    before, after = (centred(np.nan_to_num(one.flux), side) for one in (image, back))
    good = np.isfinite(image.flux) if image.good is None else np.isfinite(image.flux) & image.good
    ivar = np.ones_like(image.flux) if image.ivar is None else np.nan_to_num(image.ivar)
    weight = centred(np.where(good, ivar, 0), side)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    inside = (np.hypot(x, y) < APERTURE_PX) & (weight > 0)
    flux = np.stack([(one * inside).sum((2, 3), dtype=np.float64) for one in (before, after)], axis=-1)
    tally = _sums(before, after, weight, tokens[codec.name].values, (before[:, -1], after[:, -1]))
    return replace(tally, flux=flux, bands=image.bands, noise_known=image.ivar is not None)


def _of_spectra(codec: SpectrumCodec, seen: Observation, tokens: Tokens, back: Spectrum) -> Tally:
    spectrum, config = seen[codec.part], codec.network.config
    wave, good = spectrum.wavelength_aa, spectrum.where_good()
    with np.errstate(invalid="ignore"):
        inside = (wave >= config.lambda_min) & (wave <= config.lambda_min + config.resolution * (config.num_pixels - 1))
    logit = codec.said(tokens, torch.from_numpy(wave))[:, 1].numpy()
    weight = np.where(good & inside & np.isfinite(spectrum.flux), np.nan_to_num(spectrum.ivar), 0)
    before, after = np.nan_to_num(spectrum.flux), np.nan_to_num(back.flux)
    tally = _sums(before, after, weight, tokens[codec.name].values, (spectrum.flux, back.flux))
    each = [_auc(~good[i, inside[i]], logit[i, inside[i]]) for i in range(len(wave))]
    return replace(tally, auc=np.array(each), wavelength_aa=wave[:SHOWN], noise_known=True)


def _of_maps(codec: FieldCodec, seen: Observation, tokens: Tokens, back: Image) -> Tally:
    side = codec.network.config.side
    before = field_of(seen, codec.part, codec.neighbours, side)[0].numpy()
    after = centred(back.flux[:, 0], side)
    return _sums(before, after, np.ones_like(before), tokens[codec.name].values, (before, after))


def _of_curves(codec: LightCurveCodec, seen: Observation, tokens: Tokens, back: LightCurve) -> Tally:
    curve = seen[codec.part]
    good = np.isfinite(curve.time_mjd) if curve.good is None else curve.good
    weight = np.where(good, np.nan_to_num(curve.ivar), 0)
    before, after = (np.where(weight > 0, np.nan_to_num(one.flux), 0) for one in (curve, back))
    order = np.lexsort((curve.time_mjd, curve.band, weight == 0))
    shown = [np.take_along_axis(np.where(weight > 0, one, np.nan), order, 1) for one in (before, after)]
    ids = tokens[codec.name].values
    tally = _sums(before, after, weight, ids[:, FIRST + len(codec.network.config.bands) :], (shown[0], shown[1]))
    return replace(tally, noise_known=True, tokens=ids.shape[1], numbers=int((weight > 0).sum(1).mean()))


def _sums(
    before: np.ndarray, after: np.ndarray, weight: np.ndarray, ids: torch.Tensor, shown: tuple[np.ndarray, np.ndarray]
) -> Tally:
    axes, counts = tuple(range(1, before.ndim)), weight > 0
    left = (after.astype(np.float64) - before) * counts
    true = before.astype(np.float64) * counts
    return Tally(
        chi2=(left**2 * weight).sum(axes),
        pixels=counts.sum(axes).astype(float),
        residual=(left**2).sum(axes),
        total=true.sum(axes),
        square=(true**2).sum(axes),
        auc=np.full(len(before), np.nan),
        flux=np.zeros((len(before), 0, 2)),
        ids=ids,
        tokens=ids.shape[1],
        before=shown[0][:SHOWN],
        after=shown[1][:SHOWN],
        wavelength_aa=np.zeros((min(SHOWN, len(before)), 0)),
        numbers=before[0].size,
    )


def _auc(bad: Bool[np.ndarray, " pixel"], said: Float[np.ndarray, " pixel"]) -> float:
    """The chance that a bad pixel is said to be worse than a good one."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(bad, said)) if bad.any() and not bad.all() else float("nan")


# --- scores --------------------------------------------------------------------------------------------------------


def _report(codec: Learned, t: Tally) -> Report:
    codes = codec.network.codes
    known = np.isfinite(t.auc)
    return Report(
        name=codec.name,
        objects=len(t.pixels),
        bands=t.bands,
        sigma=bootstrap(lambda c, n: float(np.sqrt(c.sum() / n.sum())), t.chi2, t.pixels) if t.noise_known else None,
        r2=bootstrap(_r2, t.residual, t.total, t.square, t.pixels),
        bad_auc=bootstrap(lambda a: float(a.mean()), t.auc[known]) if known.sum() > 1 else None,
        usage=usage(t.ids, codes),
        bits=t.tokens * float(np.log2(codes)),
        bits_before=32.0 * t.numbers,
        photometry=tuple(_bins(t)),
        before=t.before,
        after=t.after,
        wavelength_aa=t.wavelength_aa if t.wavelength_aa.size else None,
    )


def _r2(residual: np.ndarray, total: np.ndarray, square: np.ndarray, pixels: np.ndarray) -> float:
    n = pixels.sum()
    return float(1 - residual.sum() / (square.sum() - total.sum() ** 2 / n))


def _bins(t: Tally) -> Iterator[Bin]:
    """A bin a magnitude and band, of objects whose flux is positive."""
    for i, band in enumerate(t.bands):
        before, after = t.flux[:, i].T
        seen = before > 0
        mag = 22.5 - 2.5 * np.log10(np.where(seen, before, 1))
        for edge in np.unique(np.floor(mag[seen])):
            rows = seen & (np.floor(mag) == edge)
            if rows.sum() >= LEAST_PER_BIN:
                bias = bootstrap(lambda b, a: float(np.median(a / b - 1)), before[rows], after[rows])
                yield Bin(band, float(edge) + 0.5, int(rows.sum()), bias)
