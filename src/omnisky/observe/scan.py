"""Sets that are read when asked, and only as far as needed: what all readers have in common.

found = scan("hf://datasets/UniverseTBD/mmu_gaia_gaia/mmu_gaia_gaia")          # `observe.read.scan`; nothing is read
found = found.near(ra=150.1, dec=2.2, radius_deg=0.5).between("phot_g_mean_mag", 10, 15)
for batch in found.batches(256): …                                             # Observations
for batch in found.arrow(256): …                                               # the same as Arrow record batches
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from omnisky.errors import BadValue, MissingModality
from omnisky.observe.arrow import to_arrow
from omnisky.observe.layout import Layout
from omnisky.observe.loader import Source
from omnisky.observe.place import DEPTH, Cells, Cone, Region
from omnisky.observe.sky import cells
from omnisky.observe.types import Labels, Observation, Scalars


@runtime_checkable
class Scan(Protocol):
    """A set or a selection of it. Choosing makes a new one; nothing is read until batches are asked for."""

    def near(self, *, ra: float, dec: float, radius_deg: float) -> Self:
        """Only objects within a circle; deg, ICRS."""
        ...

    def inside(self, numbers: Any, *, depth: int) -> Self:
        """Only objects in these HEALPix cells (nested, of order `depth`)."""
        ...

    def between(self, column: str, low: float, high: float) -> Self:
        """Only objects with low ≤ column ≤ high; never those where it is NaN or null."""
        ...

    def batches(self, size: int = 512) -> Iterator[Observation]:
        """The objects of the selection in the order of the files, at most `size` at a time."""
        ...

    def arrow(self, size: int = 512) -> Iterator[pa.RecordBatch]:
        """The same, laid out as `observe.layout` tells; each batch by itself."""
        ...

    def read(self) -> Observation:
        """All objects of the selection at once."""
        ...


@dataclass(frozen=True)
class Between:
    """A range of a column, ends included."""

    column: str
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Choosing(ABC):
    """The ways to choose, for readers to build on."""

    _where: tuple[Region | Between, ...] = field(default=(), kw_only=True)

    def near(self, *, ra: float, dec: float, radius_deg: float) -> Self:
        """Only objects within a circle; deg, ICRS."""
        return self._narrowed(Cone(ra, dec, radius_deg))

    def inside(self, numbers: Any, *, depth: int) -> Self:
        """Only objects in these HEALPix cells (nested, of order `depth`)."""
        chosen = tuple(sorted({int(number) for number in np.atleast_1d(numbers)}))
        return self._narrowed(Cells(chosen, depth))

    def between(self, column: str, low: float, high: float) -> Self:
        """Only objects with low ≤ column ≤ high; never those where it is NaN or null."""
        return self._narrowed(Between(column, low, high))

    def _narrowed(self, more: Region | Between) -> Self:
        return replace(self, _where=(*self._where, more))

    @abstractmethod
    def batches(self, size: int = 512) -> Iterator[Observation]:
        """The objects of the selection in the order of the files, at most `size` at a time."""

    def arrow(self, size: int = 512) -> Iterator[pa.RecordBatch]:
        """The same as Arrow record batches, laid out as `observe.layout` tells; each by itself."""
        return map(to_arrow, self.batches(size))

    @property
    def _regions(self) -> list[Region]:
        return [one for one in self._where if not isinstance(one, Between)]

    @property
    def _ranges(self) -> list[Between]:
        return [one for one in self._where if isinstance(one, Between)]


def within(
    regions: Sequence[Region], ra: Float[np.ndarray, " object"], dec: Float[np.ndarray, " object"]
) -> np.ndarray:
    """Which positions (deg) are in all regions; never those that are not known."""
    kept = np.isfinite(ra) & np.isfinite(dec) if regions else np.ones(len(ra), dtype=bool)
    if regions and len(ra) and not kept.any():
        hint = "a set with ra and dec, or no near() and inside()"
        raise MissingModality("no object has a position", want="ra and dec", hint=hint)
    if regions:
        cell = cells(Observation(np.zeros(len(ra), dtype=np.str_), ra, dec), DEPTH)
        for region in regions:
            kept &= region.holds(ra, dec, cell)
    return kept


def in_range(one: Between, values: np.ndarray) -> Bool[np.ndarray, " object"]:
    """Which values are in the range. Raises BadValue where they are no numbers."""
    if values.dtype.kind not in "fiub" or values.ndim != 1:
        saw = f"{values.dtype} {values.shape[1:]}"
        raise BadValue(f"between({one.column!r}, …)", saw=saw, want="one number per object")
    with np.errstate(invalid="ignore"):
        return (values >= one.low) & (values <= one.high)


# --- what is in memory, or can be taken row by row ----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Rows(Choosing):
    """A Scan of anything that rows can be taken from: `opened` is called once, for each choice of parts and columns.

    Positions and single columns decide; the rest is taken only for the objects that are left.
    """

    opened: Callable[[tuple[str, ...] | None, tuple[str, ...] | None], Source]
    """(parts, columns) → the rows with these alone; None means all"""
    parts: tuple[str, ...] | None = None
    """which parts to read; None: all there are"""
    columns: tuple[str, ...] | None = None
    """which columns of the parts "scalars" and "labels"; None: all, if `parts` does not leave them out"""

    def batches(self, size: int = 512) -> Iterator[Observation]:
        """The objects of the selection in the order of the rows, at most `size` at a time."""
        if size < 1:
            raise BadValue("size", saw=size, want="1 or more")
        source = self.opened(self.parts, self.columns)
        rows = self._rows(source)
        return (source.take(rows[start : start + size]) for start in range(0, len(rows), size))

    def read(self) -> Observation:
        """All objects of the selection at once."""
        source = self.opened(self.parts, self.columns)
        return source.take(self._rows(source) if self._where else slice(None))

    def _rows(self, source: Source) -> np.ndarray:
        if not self._where:
            return np.arange(len(source))
        names = tuple(dict.fromkeys(one.column for one in self._ranges))
        seen = self.opened((), names).take(slice(None))
        kept = within(self._regions, seen.ra, seen.dec)
        for one in self._ranges:
            kept &= in_range(one, column_of(seen, one.column))
        return np.flatnonzero(kept)


def as_source(found: Scan) -> Source:
    """The selection, for those who take some of its rows: read when taken where the format allows it, else now."""
    if isinstance(found, Rows) and not found._where:
        return found.opened(found.parts, found.columns)
    return found if isinstance(found, Source) else found.read()


def column_of(seen: Observation, name: str) -> np.ndarray:
    """A column of the Scalars or Labels that has it. Raises MissingModality."""
    tables = [part for part in seen.parts.values() if isinstance(part, Scalars | Labels)]
    for part in tables:
        if name in (part.names if isinstance(part, Scalars) else part.columns):
            return part[name]
    known = [one for part in tables for one in (part.names if isinstance(part, Scalars) else part.columns)]
    raise MissingModality("no column", saw=known[:40], want=name)


def only(seen: Observation, parts: tuple[str, ...] | None, columns: tuple[str, ...] | None) -> Observation:
    """These parts, and of Scalars and Labels these columns. Raises MissingModality where one is not there."""
    chosen = seen.parts if parts is None else {name: seen[name] for name in parts}
    if columns is None:
        return Observation(seen.object_id, seen.ra, seen.dec, chosen)
    held = {name: part for name, part in chosen.items() if not isinstance(part, Scalars | Labels)}
    for name in columns:
        column_of(seen, name)
    for name, part in seen.parts.items():
        if isinstance(part, Scalars):
            at = [part.names.index(one) for one in columns if one in part.names]
            units = tuple(part.units[i] for i in at) if part.units else ()
            if at:
                held[name] = replace(
                    part, values=part.values[:, at], names=tuple(part.names[i] for i in at), units=units
                )
        elif isinstance(part, Labels) and (kept := {one: part[one] for one in columns if one in part.columns}):
            held[name] = replace(part, columns=kept)
    return Observation(seen.object_id, seen.ra, seen.dec, held)


def chosen_columns(
    layout: Layout, where: str | Path, parts: tuple[str, ...] | None, columns: tuple[str, ...] | None
) -> list[str]:
    """The Arrow columns of these parts, and of Scalars and Labels these. Raises MissingModality."""
    loose = {name for one in layout.parts.values() if issubclass(one.kind, Scalars) for name in one.columns}
    loose |= {name for one in layout.parts.values() if issubclass(one.kind, Labels) for name in one.columns}
    unknown = [name for name in parts or () if name not in layout.parts]
    unknown += [name for name in columns or () if name not in loose]
    if unknown:
        raise MissingModality(f"{where}: no column or part", saw=(*layout.parts, *sorted(loose)), want=unknown)
    wanted = {column for name in (layout.parts if parts is None else parts) for column in layout.parts[name].columns}
    if columns is not None:
        wanted = (wanted - loose) | set(columns)
    return [name for one in layout.parts.values() for name in one.columns if name in wanted]
