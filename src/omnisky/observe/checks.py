"""What must hold of measurements, asked of one batch after the other: each check adds up, and speaks at the end.

`observe.validate` runs them. A finding that is `serious` makes data wrong to use; the others are worth a look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Num

from omnisky.observe.finding import Finding, Offenders, Summary, first_of, good_of, measured
from omnisky.observe.grids import Times, Wavelengths
from omnisky.observe.survey import SURVEYS
from omnisky.observe.types import Image, LightCurve, Observation, Part, Scalars

SENTINELS = (-99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0)
"""what catalogues write for "not measured"; ours is NaN"""


# --- bands and columns --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plane:
    """One band or column of one batch: entries of each object, and which of them may be used."""

    name: str
    values: Num[np.ndarray, "object entry"]
    usable: Bool[np.ndarray, "object entry"]
    light: bool = False
    """True for pixels and epochs: NaN is wrong where they are good, and they cannot all be alike"""


def _planes(part: Part) -> Iterator[_Plane]:
    """The measurement itself, band by band or column by column."""
    n = len(part)
    values, good = measured(part), good_of(part)
    if isinstance(part, Image):
        for i, band in enumerate(part.bands):
            yield _Plane(f"flux {band}", values[:, i].reshape(n, -1), good[:, i].reshape(n, -1), light=True)
    elif isinstance(part, LightCurve):
        for i, band in enumerate(part.bands):
            yield _Plane(f"flux {band}", values, good & (part.band == i), light=True)
    elif hasattr(part, "names"):  # Scalars, and lists of sources with named columns
        for i, name in enumerate(part.names):
            column = values[..., i].reshape(n, -1)
            yield _Plane(name, column, np.broadcast_to(good.reshape(n, -1), column.shape))
    elif values.dtype.kind in "fiu":
        yield _Plane(first_of(part), values.reshape(n, -1), good.reshape(n, -1), light=first_of(part) == "flux")


@dataclass
class _Tally:
    """What has been seen of one band or column."""

    light: bool
    rows: int = 0
    width: int = 0
    """entries of an object: of the longest, where shorter ones are padded"""
    usable: int = 0
    low: float = np.inf
    high: float = -np.inf
    blank: Offenders = field(default_factory=Offenders)
    dark: int = 0
    """objects of which nothing may be used, and that say so"""
    broken: Offenders = field(default_factory=Offenders)
    sentinels: Counter[float] = field(default_factory=Counter)

    def add(self, plane: _Plane, ids: np.ndarray) -> None:
        finite = np.isfinite(plane.values) if plane.values.dtype.kind == "f" else np.ones(plane.values.shape, bool)
        fine = plane.usable & finite
        self.rows += len(ids)
        self.width = max(self.width, plane.values.shape[1])
        self.usable += int(fine.sum())
        wrong = np.isinf(plane.values) if not plane.light and plane.values.dtype.kind == "f" else ~finite
        self.broken.add((plane.usable & wrong).any(axis=1), ids)
        self.blank.add(~(fine & (plane.values != 0)).any(axis=1), ids)
        self.dark += int((~fine.any(axis=1)).sum())
        if fine.any():
            seen = plane.values[fine]
            self.low, self.high = min(self.low, float(seen.min())), max(self.high, float(seen.max()))
            if not plane.light and seen.dtype.kind == "f":
                self.sentinels.update({one: int((seen == one).sum()) for one in SENTINELS})

    def summary(self, name: str, objects: int) -> Summary:
        """Of all objects that have the part: some blocks of it may be without this band."""
        low, high = (self.low, self.high) if self.usable else (np.nan, np.nan)
        usable = self.usable / max(objects * self.width, 1)
        blank = (self.blank.count + objects - self.rows) / max(objects, 1)
        return Summary(name=name, objects=objects, usable=usable, blank=blank, low=low, high=high)

    def findings(self, where: str) -> Iterator[Finding]:
        if self.broken.count:
            want = "finite wherever good, else good False" if self.light else "finite, or NaN where not measured"
            yield Finding(check="finite", where=where, saw=str(self.broken), want=want)
        yield from self._empty(where)
        for value, count in self.sentinels.items():
            if count > 1 and value in (self.low, self.high):
                saw = f"{value:g} in {count} places, the {'least' if value == self.low else 'largest'} value"
                hint = "turn the catalogue's mark for 'not measured' into NaN"
                yield Finding(check="sentinel", where=where, saw=saw, want="NaN", hint=hint, serious=False)

    def _empty(self, where: str) -> Iterator[Finding]:
        """Nothing there, the same everywhere, or nothing for some."""
        if not self.rows:
            return
        if not self.usable:
            saw = f"0 of {self.rows * self.width} entries"
            yield Finding(check="never measured", where=where, saw=saw, want="some", serious=False)
        elif self.low == self.high and self.usable > 1:
            saw = f"{self.low:g} everywhere, in {self.rows} objects"
            hint = "a band that the source never filled? good=False says so" if self.light else ""
            yield Finding(
                check="constant", where=where, saw=saw, want="values that vary", hint=hint, serious=self.light
            )
        elif self.blank.count > self.dark and self.light:
            saw = f"only zeros, called good, in {self.blank.count - self.dark} of {self.rows} objects"
            yield Finding(check="blank rows", where=where, saw=saw, want="good False, or present False", serious=False)


# --- inverse variances and flags ----------------------------------------------------------------------------------


@dataclass
class _Flags:
    """Is `ivar` one, and does `good` call the useful side True?"""

    broken: Offenders = field(default_factory=Offenders)
    table: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))
    """entries by [good, ivar > 0]"""
    flagged: bool = False

    def add(self, part: Part, ids: np.ndarray) -> None:
        ivar, good = getattr(part, "ivar", None), good_of(part)
        self.flagged |= getattr(part, "good", None) is not None
        if ivar is None:
            return
        flat = (len(ids), -1)
        padding = np.isnan(ivar) & ~good
        self.broken.add((~(np.isfinite(ivar) & (ivar >= 0)) & ~padding).reshape(flat).any(axis=1), ids)
        with np.errstate(invalid="ignore"):
            known = ivar > 0
        both, either, n = (int(np.count_nonzero(one)) for one in (good & known, good | known, ~padding))
        self.table += [[n - either, int(np.count_nonzero(known)) - both], [int(np.count_nonzero(good)) - both, both]]

    def findings(self, where: str) -> Iterator[Finding]:
        if self.broken.count:
            yield Finding(
                check="inverse variance",
                where=f"{where}.ivar",
                saw=str(self.broken),
                want="finite and ≥ 0",
                hint="0 where a pixel says nothing",
            )
        (_, bad_known), (_, good_known) = self.table
        good = self.table[1].sum()
        if not self.flagged or not self.table.sum():
            return
        both = np.prod([*self.table.sum(axis=0), *self.table.sum(axis=1)])
        together = (self.table[0, 0] * good_known - self.table[1, 0] * bad_known) / np.sqrt(both) if both else 0.0
        # A little below zero happens to sound flags that mark other faults than ivar does; inverted ones are far below.
        if together < 0 or (not good and bad_known):
            saw = f"correlation {together:.2f}; of {bad_known + good_known:.0f} pixels with ivar > 0 good are"
            yield Finding(
                check="polarity",
                where=f"{where}.good",
                saw=f"{saw} {good_known:.0f}",
                want="good = True where a pixel may be used",
                hint="good=~flags, if the source marks bad pixels",
                serious=bool(together < -0.1 or good_known < bad_known),
            )


# --- one part -----------------------------------------------------------------------------------------------------


class PartCheck:
    """All checks of one part. `add` a batch after the other, then ask for `findings` and `summaries`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._planes: dict[str, _Tally] = {}
        self._flags, self._wavelengths, self._times = _Flags(), Wavelengths(), Times()
        self._padded = Offenders()
        self._said: dict[str, Finding] = {}
        self._objects = 0
        self._sizes: set[tuple[int, ...]] = set()

    def add(self, seen: Observation) -> None:
        there = seen[self.name].there()
        part, ids = seen[self.name].take(there), seen.object_id[there]
        for finding in _of_meta(self.name, part):
            self._said.setdefault(f"{finding.check} {finding.where}", finding)
        if not len(part):
            return
        self._objects += len(part)
        if not part.ragged:
            self._sizes.add(measured(part).shape[1:])
        for plane in _planes(part):
            self._planes.setdefault(plane.name, _Tally(plane.light)).add(plane, ids)
        self._flags.add(part, ids)
        if hasattr(part, "wavelength_aa"):
            self._wavelengths.add(part, ids)
        if isinstance(part, LightCurve):
            self._times.add(part, ids)
        if hasattr(part, "names") and not isinstance(part, Scalars):
            nothing = np.isnan(part.values) | (part.values == 0)
            self._padded.add((nothing.all(axis=-1) & good_of(part)).any(axis=1), ids)

    def findings(self) -> Iterator[Finding]:
        yield from self._said.values()
        for name, tally in self._planes.items():
            yield from tally.findings(f"{self.name}.{name}")
        yield from self._flags.findings(self.name)
        yield from self._wavelengths.findings(self.name)
        yield from self._times.findings(self.name)
        if len(self._sizes) > 1:
            saw = ", ".join("×".join(map(str, one)) for one in sorted(self._sizes))
            yield Finding(check="sizes", where=self.name, saw=saw, want="one size", hint="cut or pad them alike")
        if self._padded.count:
            hint = "good=False where a list is padded"
            saw = f"sources that are all zeros, called good, in {self._padded}"
            yield Finding(check="padding", where=self.name, saw=saw, want="sources", hint=hint)

    def summaries(self) -> Iterator[Summary]:
        for name, tally in self._planes.items():
            yield tally.summary(f"{self.name}.{name}", self._objects)


def _of_meta(name: str, part: Part) -> Iterator[Finding]:
    """Names, units, and whether the survey's row says the same."""
    for kind in ("bands", "names"):
        told = getattr(part, kind, ())
        twice = tuple(one for one, count in Counter(told).items() if count > 1)
        if twice:
            yield Finding(check="names", where=f"{name}.{kind}", saw=f"{' '.join(twice)} twice", want="each name once")
    for column, unit in zip(getattr(part, "names", ()), getattr(part, "units", ()), strict=False):
        if not _is_unit(unit):
            where = f"{name}.{column}"
            yield Finding(check="unit", where=where, saw=unit, want="as astropy spells units", serious=False)
    columns = getattr(part, "columns", {})
    for column, values in columns.items() if isinstance(columns, Mapping) else ():
        if values.dtype.kind in "US" and np.char.startswith(values.astype(str), ("b'")).any():
            yield Finding(check="bytes", where=f"{name}.{column}", saw="b'…'", want="text", hint="decode, do not str()")
    survey = getattr(part, "survey", "")
    if survey and survey not in SURVEYS:
        yield Finding(check="survey", where=name, saw=survey, want="a row of observe.survey, or none", serious=False)
    elif survey and isinstance(part, Image):
        yield from _of_image(name, part)


def _of_image(name: str, part: Image) -> Iterator[Finding]:
    row = SURVEYS[part.survey]
    if row.bands and not set(part.bands) <= set(row.bands):
        saw, want = " ".join(part.bands), f"{' '.join(row.bands)}, as {part.survey} has"
        yield Finding(check="bands", where=f"{name}.bands", saw=saw, want=want, serious=False)
    scale = row.pixel_scale_arcsec
    if abs(part.pixel_scale_arcsec / scale - 1) > 0.01:
        saw, want = f"{part.pixel_scale_arcsec:g} arcsec", f"{scale:g} arcsec, as {part.survey} has"
        yield Finding(check="pixel scale", where=name, saw=saw, want=want, serious=False)


def _is_unit(text: str) -> bool:
    from astropy import units

    try:
        units.Unit(text)
    except (ValueError, TypeError):
        return False
    return True
