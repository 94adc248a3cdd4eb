"""Plain Parquet as a Scan: a file, a folder of files, or an address of either, hf://datasets/… too.

Row groups are passed over by the ranges that Parquet keeps of each column; of the others, the columns that decide are
read first, and the rest only where an object is left. `observe.hats` builds on this, and adds the sky.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Integer

from omnisky.errors import BadValue, CorruptFile, MissingModality, ObservationError
from omnisky.observe.arrow import from_arrow
from omnisky.observe.layout import CORE
from omnisky.observe.nested import Reading, is_nested, survey_named
from omnisky.observe.place import Cone, Folder, folder_at
from omnisky.observe.scan import Choosing, chosen_columns, in_range, only, within
from omnisky.observe.schema import layout_in
from omnisky.observe.survey import SURVEYS, Survey
from omnisky.observe.tables import PARQUET, find_columns, from_arrow_table, from_table
from omnisky.observe.types import Observation

_WHOLE_GROUPS = 1 << 62
"""rows at a time, where a row group is to be read at once"""


@dataclass(frozen=True, eq=False)
class Parquet(Choosing):
    """Files of one schema. Raises ObservationError, CorruptFile, MissingExtra, when they are first read."""

    path: str | Path
    """a file, a folder or an address"""
    survey: str = ""
    """a row of `observe.survey`; empty: known by the path, or not needed"""
    parts: tuple[str, ...] | None = None
    """which parts to read; None: all there are"""
    columns: tuple[str, ...] | None = None
    """which columns of the parts "scalars" and "labels"; None: all, if `parts` does not leave them out"""

    # --- reading ---

    def batches(self, size: int = 512) -> Iterator[Observation]:
        """The objects of the selection in the order of the files, at most `size` at a time."""
        return (self._observation(table) for table in self._tables(size))

    def batches_of(self, place: Folder, size: int = 512) -> Iterator[Observation]:
        """The selection's objects in one of the `files`, at most `size` at a time."""
        return (self._observation(table) for table in self._tables_of(place, size))

    def batches_at(self, rows: Integer[np.ndarray, " wanted"], size: int = 512) -> Iterator[Observation]:
        """These rows (rising, counted through all files, selection or not), `size` at a time; the last are fewer.

        Row groups that hold none of them are not read.
        """
        return self._even(self._tables_at(rows, size), size)

    def read(self) -> Observation:
        """All objects of the selection at once. Raises ObservationError where half the memory would not hold them."""
        tables, held = [], 0
        for table in self._tables(_WHOLE_GROUPS):
            tables.append(table)
            held += table.nbytes
            if held > _half_the_memory():
                raise ObservationError(
                    f"{self.path} is larger than half the memory",
                    saw=f"more than {held / 1e9:.0f} GB",
                    want="a selection",
                    hint="scan(path).near(…), .between(…), parts=(…), or for batch in scan(path).batches()",
                )
        names = [name for name in self.schema.names if name in self._needed]
        empty = self.schema.empty_table().select(names)
        return self._observation(pa.concat_tables(tables) if tables else empty)

    def catalogue(self) -> Observation:
        """Ids and positions of all objects, and no parts."""
        return replace(self, parts=(), columns=()).read()

    # --- what there is ---

    @cached_property
    def files(self) -> list[Folder]:
        """All files, by path."""
        place = folder_at(self.path)
        if str(self.path).lower().endswith(PARQUET):
            return [place]
        found = [name for name in place.files() if name.lower().endswith(PARQUET)]
        seen = [name for name in found if not any(part.startswith((".", "_")) for part in name.split("/"))]
        if not seen:
            raise ObservationError(f"no Parquet files in {self.path}", want=PARQUET, hint="check the path for typos")
        return [place / name for name in seen]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the files."""
        return opened(self.files[0]).schema_arrow

    @property
    def row(self) -> Survey:
        """What is known of the survey."""
        if self.survey and (self.survey not in SURVEYS or SURVEYS[self.survey].mmu is None):
            raise BadValue("survey", saw=self.survey, want=tuple(name for name, row in SURVEYS.items() if row.mmu))
        return SURVEYS[self.survey] if self.survey else survey_named(*self._names)

    @property
    def _names(self) -> list[str]:
        """What the set may be called after, the nearest first."""
        return [part.split(".")[0] for part in reversed(str(self.path).rstrip("/").split("/")) if part]

    @cached_property
    def _place(self) -> tuple[str, ...]:
        """The columns of right ascension and declination; () where there are none."""
        found = ("ra", "dec") if layout_in(self.schema) is not None else find_columns(self.schema.names)
        return found if len(found) == 2 else ()

    @property
    def _cell(self) -> str:
        """The column of HEALPix cells of order 29, if it is there."""
        return "_healpix_29"

    @cached_property
    def _needed(self) -> list[str]:
        """The columns of the answer."""
        layout = layout_in(self.schema)
        if layout is not None:
            wanted = {*CORE, *chosen_columns(layout, self.path, self.parts, self.columns)}
            return [name for name in self.schema.names if name in wanted]
        if self._described:
            return self._reading.needs(self.schema)
        return plain_columns(self.schema, self.columns, str(self.path))

    @property
    def _described(self) -> bool:
        return bool(self.row.name) or is_nested(self.schema)

    @cached_property
    def _reading(self) -> Reading:
        return Reading(survey=self.row, where=str(self.path), parts=self.parts, columns=self.columns)

    def _observation(self, table: pa.Table) -> Observation:
        if layout_in(self.schema) is not None:
            return from_arrow(table)
        if self._described:
            return self._reading.observation(table)
        seen = from_table(from_arrow_table(table, str(self.path)), str(self.path))
        return seen if self.columns is not None else only(seen, self.parts, None)

    # --- files → tables ---

    def _tables(self, size: int) -> Iterator[pa.Table]:
        if size < 1:
            raise BadValue("size", saw=size, want="1 or more")
        for place in self.files:
            yield from self._tables_of(place, size)

    def _even(self, tables: Iterable[pa.Table], size: int) -> Iterator[Observation]:
        """Tables of at most `size` rows as observations of `size`; the last has fewer."""
        held: list[pa.Table] = []
        for table in tables:
            joined = pa.concat_tables([*held, table])
            if joined.num_rows >= size:
                yield self._observation(joined.slice(0, size))
            held = [joined.slice(size) if joined.num_rows >= size else joined]
        if held and held[0].num_rows:
            yield self._observation(held[0])

    def _tables_at(self, rows: Integer[np.ndarray, " wanted"], size: int) -> Iterator[pa.Table]:
        start = 0
        for place in self.files:
            file = self._opened(place)
            for group in range(file.metadata.num_row_groups):
                many = file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(rows, [start, start + many])
                if low < high:
                    yield from self._some_of(file, group, rows[low:high] - start, size, place)
                start += many

    def _some_of(
        self, file: pq.ParquetFile, group: int, rows: Integer[np.ndarray, " wanted"], size: int, place: Folder
    ) -> Iterator[pa.Table]:
        start = 0
        for table in self._slowly(file, group, size, place):
            low, high = np.searchsorted(rows, [start, start + table.num_rows])
            if low < high:
                yield table.take(pa.array(rows[low:high] - start))  # a copy: a slice would keep all of it
            start += table.num_rows

    def _opened(self, place: Folder) -> pq.ParquetFile:
        """Raises CorruptFile where columns of the answer are missing."""
        file = opened(place)
        missing = [name for name in self._needed if name not in file.schema_arrow.names]
        if missing:
            raise CorruptFile(f"{place.name}: another schema", saw=file.schema_arrow.names[:20], want=missing)
        return file

    def _tables_of(self, place: Folder, size: int) -> Iterator[pa.Table]:
        file = self._opened(place)
        deciding = self._deciding(file.schema_arrow, place)
        for group in range(file.metadata.num_row_groups):
            if not self._may_hold(file.metadata.row_group(group)):
                continue
            if not deciding and size < file.metadata.row_group(group).num_rows:
                yield from self._slowly(file, group, size, place)
                continue
            table = self._rows_of(file, group, deciding, place)
            for start in range(0, table.num_rows, size):
                yield table.slice(start, size)

    def _slowly(self, file: pq.ParquetFile, group: int, size: int, place: Folder) -> Iterator[pa.Table]:
        """A row group in pieces, decoded one after the other: there are groups that no memory holds."""
        try:
            for batch in file.iter_batches(size, row_groups=[group], columns=self._needed):
                yield pa.Table.from_batches([batch]).select(self._needed)
        except (OSError, pa.ArrowException) as error:
            raise CorruptFile(place.name, saw=error, want="a complete Parquet file", hint="fetch it again") from error

    def _rows_of(self, file: pq.ParquetFile, group: int, deciding: list[str], place: Folder) -> pa.Table:
        try:
            if not deciding:
                return file.read_row_group(group, columns=self._needed).select(self._needed)
            first = file.read_row_group(group, columns=deciding)
            rows = np.flatnonzero(self._holds(first))
            if not len(rows):
                return first.schema.empty_table().slice(0, 0)
            table = file.read_row_group(group, columns=self._needed).select(self._needed)
        except (OSError, pa.ArrowException) as error:
            raise CorruptFile(place.name, saw=error, want="a complete Parquet file", hint="fetch it again") from error
        return table if len(rows) == table.num_rows else table.take(pa.array(rows))

    def _deciding(self, schema: pa.Schema, place: Folder) -> list[str]:
        names = [one.column for one in self._ranges]
        if self._regions:
            names += [*(self._place or ("ra", "dec")), *([self._cell] if self._cell in schema.names else [])]
        missing = [name for name in names if name not in schema.names]
        if missing:
            raise MissingModality(f"{place.name}: no column", saw=tuple(schema.names)[:40], want=missing)
        wrong = [one.column for one in self._ranges if not _is_number(schema.field(one.column).type)]
        if wrong:
            raise BadValue(f"between({wrong[0]!r}, …)", saw=schema.field(wrong[0]).type, want="one number per object")
        return list(dict.fromkeys(names))

    # --- who is in the selection ---

    def _may_hold(self, group: Any) -> bool:
        """By the ranges of the columns in this group of rows."""
        ranges = ranges_in(group)
        for one in self._ranges:
            low, high = ranges.get(one.column, (one.low, one.high))
            if high < one.low or low > one.high:
                return False
        if len(self._place) < 2 or self._place[1] not in ranges or not self._in_degrees:
            return True
        south, north = ranges[self._place[1]]
        cones = (one for one in self._regions if isinstance(one, Cone))
        return all(south <= one.dec + one.radius_deg and north >= one.dec - one.radius_deg for one in cones)

    @cached_property
    def _in_degrees(self) -> bool:
        """True where declinations are numbers in degrees, as far as the schema says."""
        column = self.schema.field(self._place[1])
        unit = (column.metadata or {}).get(b"unit", b"deg").decode()
        return pa.types.is_floating(column.type) and unit.startswith("deg")

    def _holds(self, table: pa.Table) -> Bool[np.ndarray, " object"]:
        kept = np.ones(table.num_rows, dtype=bool)
        for one in self._ranges:
            kept &= in_range(one, table.column(one.column).to_numpy())
        return kept & self._on_the_spot(table) if self._regions else kept

    def _on_the_spot(self, table: pa.Table) -> Bool[np.ndarray, " object"]:
        ra, dec = self._place
        seen = from_table(from_arrow_table(table, str(self.path)), str(self.path), object_id=None, ra=ra, dec=dec)
        return within(self._regions, seen.ra, seen.dec)


def is_parquet(path: str | Path) -> bool:
    """True for Parquet files, and for folders (not addresses) with such, at whatever depth."""
    found = Path(path).expanduser()
    if found.is_dir():
        return any(one.name.lower().endswith(PARQUET) for one in found.rglob("*.p*"))
    return str(path).lower().endswith(PARQUET)


def opened(place: Folder) -> pq.ParquetFile:
    """Raises CorruptFile."""
    try:
        return pq.ParquetFile(place.open(), pre_buffer=True)
    except (OSError, pa.ArrowException) as error:
        raise CorruptFile(place.name, saw=error, want="a complete Parquet file", hint="fetch it again") from error


def plain_columns(schema: pa.Schema, columns: tuple[str, ...] | None, where: str) -> list[str]:
    """Ids, positions, and the columns asked for: all that are no lists, if none is named."""
    plain = [field.name for field in schema if not pa.types.is_nested(field.type)]
    if columns is None:
        return plain
    missing = [name for name in columns if name not in plain]
    if missing:
        raise MissingModality(f"{where}: no such column", saw=plain[:60], want=missing)
    core = find_columns(schema.names, ids=True)
    return [name for name in plain if name in columns or name in core]


def ranges_in(group: Any) -> dict[str, tuple[Any, Any]]:
    """(smallest, largest) of the columns of a row group that say it."""
    ranges = {}
    for i in range(group.num_columns):
        column = group.column(i)
        if column.is_stats_set and column.statistics.has_min_max:
            ranges[column.path_in_schema] = (column.statistics.min, column.statistics.max)
    return ranges


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _half_the_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
