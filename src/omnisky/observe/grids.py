"""Checks of what must rise: wavelengths and times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer

from omnisky.observe.finding import Finding, Offenders, good_of
from omnisky.observe.types import LightCurve

PLAUSIBLE_MJD = (10_000.0, 100_000.0)
"""years 1886 to 2132"""


@dataclass
class Wavelengths:
    """Rising, positive, and in Å by their size."""

    falling: Offenders = field(default_factory=Offenders)
    padded: Offenders = field(default_factory=Offenders)
    low: float = np.inf
    high: float = -np.inf

    def add(self, part: Any, ids: np.ndarray) -> None:
        wave, good = part.wavelength_aa, good_of(part)
        good = _some(good.reshape(*wave.shape, -1))  # a cube has a sky of pixels at each wavelength
        after = np.arange(wave.shape[1]) > np.where(good.any(axis=1), _last(good), -1)[:, None]
        inside = ~after
        self.padded.add((good & ~(wave > 0)).any(axis=1), ids)
        steps = (np.diff(wave, axis=1) > 0) | after[:, 1:]
        self.falling.add(~steps.all(axis=1), ids)
        seen = wave[inside & (wave > 0)]
        if len(seen):
            self.low, self.high = min(self.low, float(seen.min())), max(self.high, float(seen.max()))

    def findings(self, where: str) -> Iterator[Finding]:
        where = f"{where}.wavelength_aa"
        if self.padded.count:
            hint = "good=False where a row is padded"
            yield Finding(check="padding", where=where, saw=str(self.padded), want="> 0 wherever good", hint=hint)
        if self.falling.count:
            hint = "sort by wavelength, and pad at the end"
            yield Finding(check="rising", where=where, saw=str(self.falling), want="strictly increasing", hint=hint)
        guess = _looks_like(self.low, self.high)
        if guess:
            saw, hint = f"{self.low:g} … {self.high:g}", f"these look like {guess}; fine if they are not"
            yield Finding(check="unit", where=where, saw=saw, want="Å", hint=hint, serious=False)


def _looks_like(low: float, high: float) -> str:
    """The unit that these wavelengths may be in instead; empty where Å is as likely as any."""
    if 100 < high < 1100:
        return "nm"
    if 0 < high < 30:
        return "µm, keV or log10(Å)"
    return "Hz" if 1e9 < low < np.inf else ""


def _last(good: Bool[np.ndarray, "object entry"]) -> Integer[np.ndarray, " object"]:
    return good.shape[1] - 1 - np.argmax(good[:, ::-1], axis=1)


@dataclass
class Times:
    """Known, sorted, in MJD by their size, without padding; bands that exist."""

    padded: Offenders = field(default_factory=Offenders)
    unsorted: Offenders = field(default_factory=Offenders)
    mixed: Offenders = field(default_factory=Offenders)
    strange: Offenders = field(default_factory=Offenders)
    bandless: Offenders = field(default_factory=Offenders)

    def add(self, part: LightCurve, ids: np.ndarray) -> None:
        time, good = part.time_mjd, good_of(part)
        known = good & (time > 0)
        self.padded.add(_some(good & ~(time > 0)), ids)
        in_bands = [_falls(time, known & (part.band == i)) for i in range(len(part.bands))]
        within = np.any(in_bands, axis=0) if in_bands else np.zeros(len(ids), bool)
        self.unsorted.add(within, ids)
        self.mixed.add(_falls(time, known) & ~within, ids)
        low, high = PLAUSIBLE_MJD
        self.strange.add(_some(known & ((time < low) | (time > high))), ids)
        self.bandless.add(_some(good & ((part.band < 0) | (part.band >= len(part.bands)))), ids)

    def findings(self, where: str) -> Iterator[Finding]:
        at = f"{where}.time_mjd"
        said = (
            (self.padded, "padding", at, "> 0 wherever good", "good=False where a row is padded", True),
            (self.unsorted, "sorted", at, "rising within each band", "sort by time", True),
            (self.mixed, "sorted", at, "rising", "bands lie behind each other; sort by time", False),
            (self.strange, "unit", at, "MJD, days", "JD − 2400000.5; BTJD + 56999.5; BKJD + 54832.5", False),
            (self.bandless, "bands", f"{where}.band", "an index into `bands`", "", True),
        )
        for offenders, check, place, want, hint, serious in said:
            if offenders.count:
                yield Finding(check=check, where=place, saw=str(offenders), want=want, hint=hint, serious=serious)


def _falls(time: Float[np.ndarray, "object epoch"], chosen: Bool[np.ndarray, "object epoch"]) -> np.ndarray:
    """True for objects with a chosen epoch earlier than a chosen one before it."""
    latest = np.maximum.accumulate(np.where(chosen, time, -np.inf), axis=1)
    return _some(chosen[:, 1:] & (time[:, 1:] < latest[:, :-1]))


def _some(flags: Any) -> np.ndarray:
    """True where any entry of the last axis is."""
    return flags.any(axis=-1)
