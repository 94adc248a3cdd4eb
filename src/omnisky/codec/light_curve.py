"""Light curves ↔ ids, ours: AION-1 has none.

    flux in bands, over time → length, amplitude, a level a band → on one grid of steps → network → an id a step

A curve is laid on a grid that spans it from its first to its last epoch, each epoch shared between its two nearest
steps and weighed by its certainty. So epochs may come in any order, at any times, in any of the bands; absent bands
stay absent. The network is that of spectra (ConvNeXt V2, Woo et al. 2023), the ids are of FSQ (Mentzer et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from omnisky.codec.processor import at_precision
from omnisky.codec.published import some_at_once
from omnisky.codec.quantize import FSQ, demand_ids
from omnisky.codec.spectrum_network import Block
from omnisky.codec.tokens import Codec, Span, Tokens, absent_where, demand_present
from omnisky.errors import BadPixels, BadValue, BandMismatch, ShapeMismatch
from omnisky.observe.types import LightCurve, Observation

LOG_DAYS, LOG_FLUX = (-2.0, 5.0), (-6.0, 8.0)
"""of the grids of a curve's length, and of its amplitude in nanomaggies"""
SOFT, BRIGHTEST = 0.01, 1e8
"""nanomaggies: levels are spaced evenly in asinh(level / SOFT), up to ± BRIGHTEST, about 1 % apart"""
FIRST = 2
"""tokens before those of levels: length and amplitude"""
NUMBERS = ("flux", "certainty", "place", "band", "amplitude", "level", "step_d")
"""of an epoch, as `CurveRows` has it"""


@dataclass(frozen=True, kw_only=True)
class LightCurveCodecConfig:
    """The network, and the grid."""

    bands: tuple[str, ...] = ("u", "g", "r", "i", "z", "y")
    """as in `LightCurve.bands`"""
    steps: int = 128
    """of the grid; so many ids"""
    width: int = 64
    depth: int = 4
    """blocks on the way in, and as many on the way out"""
    levels: tuple[int, ...] = (8, 8, 8, 8)
    """of FSQ"""
    softening: float = 0.02
    """of the amplitude: no epoch counts as more certain than this"""

    def __post_init__(self) -> None:
        if self.steps < 2 or not self.bands or len(set(self.bands)) < len(self.bands):
            saw = f"{self.steps} steps, bands {' '.join(self.bands)}"
            raise BadValue("LightCurveCodecConfig", saw=saw, want="2 steps or more, each band once")

    def build(self, seed: int | None = None) -> LightCurveNetwork:
        with torch.random.fork_rng():
            torch.manual_seed(0 if seed is None else seed)
            return LightCurveNetwork(self)


class LightCurveNetwork(nn.Module):
    """Curves on the grid → ids → curves, in units of their amplitude."""

    def __init__(self, config: LightCurveCodecConfig) -> None:
        super().__init__()
        width, bands, numbers = config.width, len(config.bands), len(config.levels)
        self.config = config
        self.codecs: tuple[Codec, ...] = ()
        self.enter, self.leave = nn.Linear(2 * bands, width), nn.Linear(width, bands)
        self.encoder, self.decoder = (
            nn.Sequential(*(Block(width) for _ in range(config.depth)), nn.LayerNorm(width)) for _ in range(2)
        )
        self.narrow, self.widen = nn.Linear(width, numbers), nn.Linear(numbers, width)
        self.quantizer = FSQ(config.levels)

    @property
    def codes(self) -> int:
        """Different ids there are, of any token."""
        return self.quantizer.codes

    def latent(self, rows: Span) -> Float[Tensor, "object number step"]:
        """What is to be quantised, of epochs as `CurveRows` has them."""
        states = self.encoder(self.enter(gridded(rows, self.config)))
        with torch.autocast(states.device.type, enabled=False):
            return self.narrow(states.float()).mT

    def drawn(self, vectors: Float[Tensor, "object number step"]) -> Float[Tensor, "object step band"]:
        """Flux less level, over amplitude, of quantised vectors."""
        return self.leave(self.decoder(self.widen(vectors.mT))).float()

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """½ Σ (f − f̂)² / (σ² + (softening · amplitude)²) an epoch. `tokens` are of `CurveRows`."""
        rows = demand_present(tokens, "curve")
        flux, certainty, place, band = rows.values[..., :4].unbind(-1)
        said = interpolated(self.drawn(self.quantizer(self.latent(rows))), place, band.long())
        there = rows.there()
        each = _weight(certainty, self.config) * (flux - said).square() * there
        return 0.5 * each.sum() / there.sum()


def gridded(rows: Span, config: LightCurveCodecConfig) -> Float[Tensor, "object step channel"]:
    """On each step, a band's mean flux and the asinh of its signal-to-noise for a source of one amplitude."""
    flux, certainty, place, band = rows.values[..., :4].unbind(-1)
    weight = _weight(certainty, config) * rows.there()
    left, share = _left(place, config.steps)
    sums = torch.zeros(2, len(flux), len(config.bands) * config.steps, device=flux.device)
    for at, part in ((left, 1 - share), (left + 1, share)):
        index = band.long() * config.steps + at
        sums[0].scatter_add_(1, index, weight * part)
        sums[1].scatter_add_(1, index, weight * part * flux)
    mean = sums[1] / sums[0].clamp(min=1e-9)
    channels = torch.cat([mean, sums[0].sqrt().asinh()], 1)
    return channels.unflatten(1, (-1, config.steps)).mT


def interpolated(
    curve: Float[Tensor, "object step band"],
    place: Float[Tensor, "object epoch"],
    band: Integer[Tensor, "object epoch"],
) -> Float[Tensor, "object epoch"]:
    """Straight lines between steps."""
    steps = curve.shape[1]
    left, share = _left(place, steps)
    flat = curve.mT.flatten(1)
    return torch.lerp(flat.gather(1, band * steps + left), flat.gather(1, band * steps + left + 1), share)


def _left(place: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """The step before, and how far it is to the next."""
    place = place.clamp(0, steps - 1)
    left = place.long().clamp(max=steps - 2)
    return left, place - left


def _weight(certainty: Tensor, config: LightCurveCodecConfig) -> Tensor:
    """1/(σ² + softening²), σ in amplitudes; 0 where nothing is known."""
    known = certainty.square()
    return known / (1 + known * config.softening**2)


# --- what comes before the grid ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Head:
    """The first tokens of curves, and what they stand for."""

    ids: Integer[Tensor, "object token"]
    present: Bool[Tensor, "object token"]
    days: Float[Tensor, "object 1"]
    """from the first step to the last, not less than the curve is long"""
    amplitude: Float[Tensor, "object 1"]
    """nanomaggies"""
    level: Float[Tensor, "object band"]
    """nanomaggies; NaN in bands that were not seen"""

    @classmethod
    def said(cls, ids: Tensor, present: Tensor, codes: int) -> Head:
        """Out of ids. Raises BadValue for those outside the vocabulary."""
        demand_ids(ids.where(present, 0), codes)
        days, amplitude = (10 ** _edges(span, codes)[ids[:, i : i + 1].long()] for i, span in enumerate(_SPANS))
        level = SOFT * _levels(codes)[ids[:, FIRST:].long()].sinh()
        return cls(ids, present, days, amplitude, level.where(present[:, FIRST:], torch.nan))


_SPANS = (LOG_DAYS, LOG_FLUX)


def _edges(span: tuple[float, float], codes: int) -> Float[Tensor, " code"]:
    return torch.linspace(*span, codes, dtype=torch.float64)


def _levels(codes: int) -> Float[Tensor, " code"]:
    most = float(np.arcsinh(BRIGHTEST / SOFT))
    return torch.linspace(-most, most, codes, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Read:
    """Curves as the network reads them."""

    head: Head
    rows: Span
    """an epoch a token, of `NUMBERS`; absent where an epoch says nothing"""

    @classmethod
    def of(cls, curve: LightCurve, config: LightCurveCodecConfig, codes: int) -> Read:
        """Raises as `LightCurveCodec.encode`."""
        flux, weight, time, good = _checked(curve)
        band = _bands(curve, config, good)
        there = good.any(1)
        start, end = _ends(time, good)
        ids = [torch.bucketize((end - start).log10(), _edges(LOG_DAYS, codes)).clamp(max=codes - 1)]
        which = nn.functional.one_hot(band, len(config.bands)).bool() & good[..., None]
        each = torch.where(which, weight[..., None], 0)
        count = each.sum(1)
        level = (each * flux[..., None]).sum(1) / count
        nearest = torch.bucketize((level / SOFT).asinh(), (_levels(codes)[1:] + _levels(codes)[:-1]) / 2)
        seen = torch.cat([there[:, None].expand(-1, FIRST), count > 0], 1)
        levels = SOFT * _levels(codes)[nearest].sinh()
        left = flux - levels.where(count > 0, 0).gather(1, band)
        spread = ((weight * left.square()).sum(1) / weight.sum(1).clamp(min=1e-300)).sqrt()
        ids.append(torch.bucketize(spread.log10(), _edges(LOG_FLUX, codes)).clamp(max=codes - 1))
        told = torch.cat([torch.stack(ids, 1), nearest], 1).where(seen, 0)
        head = Head.said(told, seen, codes)
        step = head.days / (config.steps - 1)
        own = head.level.nan_to_num().gather(1, band)
        columns = (
            *(left / head.amplitude, weight.sqrt() * head.amplitude, (time - start[:, None]) / step, band),
            *(head.amplitude.expand_as(left), own, step.expand_as(left)),
        )
        values = torch.stack([column.where(good, 0).float() for column in columns], -1)
        return cls(head, Span(values, torch.arange(values.shape[1]).expand(len(values), -1), good))


def _checked(curve: LightCurve) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Flux, ivar, time and which epochs count, in float64; 0 where they do not."""
    if curve.unit != "nanomaggy":
        raise BadValue("light curves", saw=f"flux in {curve.unit!r}", want="nanomaggies, AB")
    if curve.ivar is None:
        raise BadValue("light curves without ivar", want="ivar, which epochs are weighed by")
    there = curve.there()
    good = (np.isfinite(curve.time_mjd) if curve.good is None else curve.good) & there[:, None]
    for name, told in (("flux", curve.flux), ("ivar", curve.ivar), ("time_mjd", curve.time_mjd)):
        if broken := int((good & ~np.isfinite(told)).any(1).sum()):
            hint = "mark those epochs `good=` False"
            raise BadPixels(f"NaN or infinite {name} in {broken} of {len(good)} light curves", hint=hint)
    counts = good & (np.nan_to_num(curve.ivar) > 0)
    if empty := int((there & ~counts.any(1)).sum()):
        hint = "leave them out, or mark them `present=` False"
        raise BadPixels(f"nothing good in {empty} of {len(good)} light curves", want="some good epochs", hint=hint)
    flux, ivar, time = (
        torch.from_numpy(np.where(counts, a, 0).astype(np.float64)) for a in (curve.flux, curve.ivar, curve.time_mjd)
    )
    return flux, ivar, time, torch.from_numpy(np.ascontiguousarray(counts))


def _bands(curve: LightCurve, config: LightCurveCodecConfig, good: Tensor) -> Integer[Tensor, "object epoch"]:
    """Where each epoch's band is among the codec's; 0 where it does not count. Raises BandMismatch, BadValue."""
    index = torch.from_numpy(curve.band.astype(np.int64)).where(good, 0)
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < max(len(curve.bands), 1):
        saw = f"{int(index.min())} … {int(index.max())}"
        raise BadValue("band of an epoch", saw=saw, want=f"0 … {len(curve.bands) - 1}, places in `bands`")
    used = {curve.bands[i] for i in index[good].unique().tolist()}
    if strange := tuple(sorted(used - set(config.bands))):
        raise BandMismatch("light curves: bands", saw=strange, want=config.bands, hint="mark those epochs good= False")
    places = [config.bands.index(band) if band in config.bands else 0 for band in curve.bands]
    return torch.tensor(places or [0])[index].where(good, 0)


def _ends(time: Tensor, good: Tensor) -> tuple[Float[Tensor, " object"], Float[Tensor, " object"]]:
    """The first and the last epoch that counts; at least a hundredth of a day apart."""
    start = time.where(good, torch.inf).amin(1)
    end = time.where(good, -torch.inf).amax(1)
    start = start.where(good.any(1), 0)
    return start, torch.maximum(end.where(good.any(1), 0), start + 10 ** LOG_DAYS[0])


# --- the codec -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class LightCurveCodec:
    """Light curves ↔ ids: length, amplitude, a level a band, then one a step."""

    network: LightCurveNetwork
    name: str = "tok_light_curve"
    part: str = "light_curve"
    dtype: torch.dtype = torch.float32
    at_once: int = 64
    promised_error: ClassVar[str] = (
        "a trained network's, as `omnisky evaluate codec` measures; what changes within a step of the grid is lost; "
        "errors, and when it began, do not come back"
    )

    @torch.no_grad()
    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`; the level of a band that was not seen is absent.

        Raises BadValue (not nanomaggies, no ivar), BandMismatch, and BadPixels: NaN or infinity in epochs that count,
        no such epoch at all.
        """
        config = self.network.config
        read = Read.of(seen[self.part], config, self.network.codes)
        there = read.head.present[:, 0]
        ids = torch.zeros(len(there), config.steps, dtype=torch.int64)
        for rows in some_at_once(there, self.at_once):
            with at_precision(self.dtype):
                latent = self.network.latent(read.rows.map(lambda t, rows=rows: t[rows]))  # type: ignore[misc]
            ids[rows] = self.network.quantizer.ids(latent).long()
        ids = torch.cat([read.head.ids, ids], 1)
        present = torch.cat([read.head.present, there[:, None].expand(-1, config.steps)], 1)
        positions = torch.arange(ids.shape[1]).expand(len(ids), -1)
        return Tokens({self.name: Span(ids, positions, None if bool(present.all()) else present)})

    @torch.no_grad()
    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """Curves at the good epochs of `like`, whose first one begins them; or on the grid in all bands, from day 0 on.

        `good` is False in bands that the tokens do not have, and beyond their end. Raises ShapeMismatch, BadValue (ids
        outside the vocabulary), and for `like` what `encode` raises of bands.
        """
        config, span = self.network.config, tokens[self.name]
        first = FIRST + len(config.bands)
        if span.values.shape[1:] != (first + config.steps,):
            raise ShapeMismatch(self.name, saw=tuple(span.values.shape[1:]), want=f"{first + config.steps} ids")
        ids, present = span.values.cpu().long(), span.there().cpu()
        there = present[:, 0]
        head = Head.said(ids[:, :first].where(present[:, :first], 0), present[:, :first], self.network.codes)
        model = like[self.part] if like is not None and self.part in like else None
        time, band = self._grid(head) if model is None else (torch.from_numpy(model.time_mjd).double(), None)
        shown = torch.isfinite(time) & there[:, None]
        if model is not None and model.good is not None:
            shown = shown & torch.from_numpy(np.ascontiguousarray(model.good))
        band = _bands(model, config, shown) if band is None and model is not None else band
        assert band is not None
        since = time - _begun(model, time, shown)[:, None]
        inside = shown & (since >= 0) & (since <= head.days * (1 + 1e-9))
        flux = torch.full(time.shape, torch.nan, dtype=torch.float64)
        for rows in some_at_once(there, self.at_once):
            with at_precision(self.dtype):
                curve = self.network.drawn(self.network.quantizer.vectors(ids[rows, first:]))
            place = (since[rows] / head.days[rows] * (config.steps - 1)).nan_to_num().float()
            said = interpolated(curve, place, band[rows]).double()
            flux[rows] = said * head.amplitude[rows] + head.level[rows].gather(1, band[rows])
        flux = flux.where(shown, torch.nan)
        observed = Observation.of(range(len(ids))) if like is None else like
        told = LightCurve(
            flux=flux.float().numpy(),
            time_mjd=time.numpy() if model is None else model.time_mjd,
            band=band.numpy() if model is None else model.band,
            bands=config.bands if model is None else model.bands,
            good=(inside & torch.isfinite(flux)).numpy(),
            present=None if bool(there.all()) else there.numpy(),
        )
        return observed | {self.part: told}

    def _grid(self, head: Head) -> tuple[Float[Tensor, "object epoch"], Integer[Tensor, "object epoch"]]:
        """All steps of the first band, then of the next; NaN in bands that were not seen."""
        config = self.network.config
        share = torch.linspace(0, 1, config.steps, dtype=torch.float64)
        time = (head.days * share)[:, None].expand(-1, len(config.bands), -1)
        time = time.where(head.level.isfinite()[..., None], torch.nan)
        band = torch.arange(len(config.bands)).repeat_interleave(config.steps)
        return time.flatten(1), band.expand(len(time), -1)


def _begun(model: LightCurve | None, time: Tensor, shown: Tensor) -> Float[Tensor, " object"]:
    """When curves began: with the first epoch of `like` that counted."""
    if model is None:
        return torch.zeros(len(time), dtype=torch.float64)
    counts = shown if model.ivar is None else shown & torch.from_numpy(np.nan_to_num(model.ivar) > 0)
    return _ends(time.nan_to_num(), counts)[0]


@dataclass(frozen=True, kw_only=True)
class CurveRows:
    """What the network is trained on: one token an epoch, of `NUMBERS`."""

    config: LightCurveCodecConfig
    part: str = "light_curve"
    name: str = "curve"
    promised_error: ClassVar[str] = "float32; epochs that say nothing are lost, and when it began"

    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`. Raises as `LightCurveCodec.encode`."""
        read = Read.of(seen[self.part], self.config, int(np.prod(self.config.levels)))
        return Tokens({self.name: absent_where(read.rows, read.head.present[:, 0])})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """The curves again, from day 0 on."""
        span = tokens[self.name]
        flux, certainty, place, band, amplitude, level, step = span.values.float().cpu().unbind(-1)
        good = span.there().cpu()
        curve = LightCurve(
            flux=(flux * amplitude + level).where(good, torch.nan).numpy(),
            ivar=(certainty / amplitude).square().where(good, 0).numpy(),
            time_mjd=(place * step).double().where(good, torch.nan).numpy(),
            band=band.long().numpy(),
            bands=self.config.bands,
            good=good.numpy(),
        )
        return (Observation.of(range(len(flux))) if like is None else like) | {self.part: curve}
