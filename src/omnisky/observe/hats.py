"""HATS catalogues (Parquet files by HEALPix cell) as Observations: here, on Hugging Face or on a web server.

    gaia = Hats("hf://datasets/UniverseTBD/mmu_gaia_gaia/mmu_gaia_gaia", columns=("phot_g_mean_mag",))
    near = gaia.near(ra=150.1, dec=2.2, radius_deg=0.5).between("phot_g_mean_mag", 10, 15)
    for batch in near.batches(256): …

Nothing is read until it is needed, and then little: partitions by place; row groups by the ranges that Parquet keeps of
each column; of these the columns that decide first; the others only where an object is left. What columns mean is told
by the file, where Omnisky wrote it (`observe.hats_write`), else by the survey's row (`observe.nested`).

Format: IVOA Note "HATS: A Standard for the Hierarchical Adaptive Tiling Scheme in the Virtual Observatory" (2025).
Parquet has no fast random row, so this is no Source: write shards (`observe.shards`) to train from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
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
from omnisky.observe.nested import Reading, survey_named
from omnisky.observe.place import DEPTH, Cells, Cone, Folder, Region, folder_at, touch
from omnisky.observe.schema import layout_in
from omnisky.observe.survey import SURVEYS, Survey
from omnisky.observe.types import Observation

_PIXEL = re.compile(r"Norder=(\d+)/Dir=\d+/Npix=(\d+)")
_INFO = "partition_info.csv"


@dataclass(frozen=True)
class Between:
    """A range of a column, ends included."""

    column: str
    low: float
    high: float


@dataclass(frozen=True)
class Partition:
    """One cell's file or files."""

    order: int
    pixel: int

    @property
    def first(self) -> int:
        """Its first cell of order 29."""
        return self.pixel << 2 * (DEPTH - self.order)

    @property
    def last(self) -> int:
        return ((self.pixel + 1) << 2 * (DEPTH - self.order)) - 1

    @property
    def path(self) -> str:
        """As HATS has it, without the ending."""
        return f"Norder={self.order}/Dir={self.pixel // 10_000 * 10_000}/Npix={self.pixel}"


@dataclass(frozen=True, eq=False)
class Hats:
    """A catalogue, or a selection of it. Raises ObservationError, CorruptFile, MissingExtra, when it is first read."""

    path: str | Path
    """a folder or address: of the catalogue, or of the collection that it is in"""
    survey: str = ""
    """a row of `observe.survey`; empty: known by the catalogue's name"""
    parts: tuple[str, ...] | None = None
    """which parts to read; None: all there are"""
    columns: tuple[str, ...] | None = None
    """which columns of the parts "scalars" and "labels"; None: all, if `parts` does not leave them out"""
    _where: tuple[Region | Between, ...] = ()

    # --- choosing ---

    def near(self, *, ra: float, dec: float, radius_deg: float) -> Hats:
        """Only objects within a circle; deg, ICRS."""
        return replace(self, _where=(*self._where, Cone(ra, dec, radius_deg)))

    def inside(self, numbers: Any, *, depth: int) -> Hats:
        """Only objects in these HEALPix cells (nested, of order `depth`)."""
        chosen = tuple(sorted({int(number) for number in np.atleast_1d(numbers)}))
        return replace(self, _where=(*self._where, Cells(chosen, depth)))

    def between(self, column: str, low: float, high: float) -> Hats:
        """Only objects with low ≤ column ≤ high; never those where it is NaN or null."""
        return replace(self, _where=(*self._where, Between(column, low, high)))

    # --- reading ---

    def batches(self, size: int = 512) -> Iterator[Observation]:
        """The objects of the selection in the order of the files, at most `size` at a time."""
        return (self._observation(table) for table in self.tables(size))

    def tables(self, size: int = 512) -> Iterator[pa.Table]:
        """The same as Arrow tables, as they are in the files."""
        if size < 1:
            raise BadValue("size", saw=size, want="1 or more")
        for partition in self.partitions:
            for file in self._files(partition):
                yield from self._tables_of(file, size)

    def read(self) -> Observation:
        """All objects of the selection at once. Raises ObservationError where half the memory would not hold them."""
        tables, held = [], 0
        for table in self.tables():
            tables.append(table)
            held += table.nbytes
            if held > _half_the_memory():
                raise ObservationError(
                    f"{self.path} is larger than half the memory",
                    saw=f"more than {held / 1e9:.0f} GB",
                    want="a selection",
                    hint="Hats(path).near(…), .between(…), parts=(…), or for batch in Hats(path).batches()",
                )
        names = [name for name in self.schema.names if name in self._needed]
        empty = self.schema.empty_table().select(names)
        return self._observation(pa.concat_tables(tables) if tables else empty)

    def catalogue(self) -> Observation:
        """Ids and positions of all objects, and no parts."""
        return replace(self, parts=(), columns=()).read()

    # --- what there is ---

    @cached_property
    def root(self) -> Folder:
        """The folder of the catalogue itself."""
        folder = folder_at(self.path)
        if (folder / "collection.properties").exists():
            told = _properties((folder / "collection.properties").text())
            name = told.get("hats_primary_table_url", "")
            if not name:
                raise CorruptFile(
                    f"{folder.name}/collection.properties", saw=tuple(told), want="hats_primary_table_url"
                )
            return folder / name
        if not any((folder / name).exists() for name in ("hats.properties", "properties", _INFO, "dataset")):
            raise ObservationError(
                f"no HATS catalogue in {folder.name}",
                want="collection.properties, hats.properties or a folder dataset",
                hint="the address of the catalogue or of its collection; check it for typos",
            )
        return folder

    @cached_property
    def properties(self) -> dict[str, str]:
        """What hats.properties says; empty without one."""
        found = [self.root / name for name in ("hats.properties", "properties")]
        return next((_properties(one.text()) for one in found if one.exists()), {})

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the files."""
        for name in ("_common_metadata", "_metadata"):
            place = self.root / "dataset" / name
            if place.exists():
                return _opened(place).schema_arrow
        if not self._every:
            raise CorruptFile(self.root.name, saw="no partitions", want="Parquet files")
        return _opened(self._files(self._every[0])[0]).schema_arrow

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """Those that the selection may have objects in."""
        kept = self._every
        for region in self._regions:
            first, last = (np.array([getattr(one, end) for one in kept], dtype=np.int64) for end in ("first", "last"))
            inside = touch(region.stretches(), first, last)
            kept = tuple(one for one, there in zip(kept, inside.tolist(), strict=True) if there)
        return kept

    @property
    def row(self) -> Survey:
        """What is known of the survey."""
        if self.survey and (self.survey not in SURVEYS or SURVEYS[self.survey].mmu is None):
            raise BadValue("survey", saw=self.survey, want=tuple(name for name, row in SURVEYS.items() if row.mmu))
        if self.survey:
            return SURVEYS[self.survey]
        return survey_named(self.properties.get("obs_collection", ""), self.root.path.rstrip("/").rpartition("/")[2])

    @cached_property
    def _every(self) -> tuple[Partition, ...]:
        info = self.root / _INFO
        if info.exists():
            return _partition_info(info)
        found = (_PIXEL.search(path) for path in (self.root / "dataset").files())
        pixels = {Partition(int(one[1]), int(one[2])) for one in found if one}
        return tuple(sorted(pixels, key=lambda one: one.first))

    @property
    def _regions(self) -> list[Region]:
        return [one for one in self._where if not isinstance(one, Between)]

    @property
    def _ranges(self) -> list[Between]:
        return [one for one in self._where if isinstance(one, Between)]

    @cached_property
    def _needed(self) -> list[str]:
        """The columns of the answer."""
        layout = layout_in(self.schema)
        if layout is None:
            return self._reading.needs(self.schema)
        if self.parts is None and self.columns is None:
            return list(self.schema.names)
        loose = {name for one in ("scalars", "labels") if one in layout.parts for name in layout.parts[one].columns}
        unknown = [name for name in self.parts or () if name not in layout.parts]
        unknown += [name for name in self.columns or () if name not in loose]
        if unknown:
            raise MissingModality(f"{self.path}", saw=unknown, want=(*layout.parts, *sorted(loose)))
        chosen = layout.parts if self.parts is None else self.parts
        wanted = {column for name in chosen for column in layout.parts[name].columns}
        if self.columns is not None:
            wanted = (wanted - loose) | set(self.columns)
        return [name for name in self.schema.names if name in wanted or name in CORE]

    @cached_property
    def _reading(self) -> Reading:
        return Reading(survey=self.row, where=self.root.name, parts=self.parts, columns=self.columns)

    def _observation(self, table: pa.Table) -> Observation:
        return self._reading.observation(table) if layout_in(self.schema) is None else from_arrow(table)

    # --- files ---

    def _files(self, partition: Partition) -> list[Folder]:
        suffix = self.properties.get("hats_npix_suffix", ".parquet")
        place = self.root / "dataset" / partition.path
        if suffix == "/":
            return [place / name for name in place.files() if not name.startswith(("_", "."))]
        return [Folder(place.system, place.path + suffix, place.name + suffix)]

    def _tables_of(self, place: Folder, size: int) -> Iterator[pa.Table]:
        file = _opened(place)
        deciding = self._deciding(file.schema_arrow, place)
        missing = [name for name in self._needed if name not in file.schema_arrow.names]
        if missing:
            raise CorruptFile(place.name, saw=file.schema_arrow.names[:20], want=missing)
        for group in range(file.metadata.num_row_groups):
            if not self._may_hold(file.metadata.row_group(group)):
                continue
            table = self._rows_of(file, group, deciding, place)
            for start in range(0, table.num_rows, size):
                yield table.slice(start, size)

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
            names += [self._ra, self._dec, *([self._cell] if self._cell in schema.names else [])]
        missing = [name for name in names if name not in schema.names]
        if missing:
            raise MissingModality(f"{place.name}: no column", saw=tuple(schema.names)[:40], want=missing)
        wrong = [name for name in names if not _is_number(schema.field(name).type)]
        if wrong:
            raise BadValue(f"between({wrong[0]!r}, …)", saw=schema.field(wrong[0]).type, want="one number per object")
        return list(dict.fromkeys(names))

    @property
    def _ra(self) -> str:
        return self.properties.get("hats_col_ra", "ra")

    @property
    def _dec(self) -> str:
        return self.properties.get("hats_col_dec", "dec")

    @property
    def _cell(self) -> str:
        return self.properties.get("hats_col_healpix", "_healpix_29")

    def _may_hold(self, group: Any) -> bool:
        """By the ranges of the columns in this group of rows."""
        ranges = {}
        for i in range(group.num_columns):
            column = group.column(i)
            if column.is_stats_set and column.statistics.has_min_max:
                ranges[column.path_in_schema] = (column.statistics.min, column.statistics.max)
        for one in self._ranges:
            low, high = ranges.get(one.column, (one.low, one.high))
            if high < one.low or low > one.high:
                return False
        if self._cell not in ranges or self.properties.get("hats_col_healpix_order", str(DEPTH)) != str(DEPTH):
            return True
        ends = (np.array([end], dtype=np.int64) for end in ranges[self._cell])
        low, high = ends
        return all(touch(region.stretches(), low, high)[0] for region in self._regions)

    def _holds(self, table: pa.Table) -> Bool[np.ndarray, " object"]:
        kept = np.ones(table.num_rows, dtype=bool)
        for one in self._ranges:
            values = table.column(one.column).to_numpy()
            with np.errstate(invalid="ignore"):
                kept &= (values >= one.low) & (values <= one.high)
        if self._regions:
            ra, dec = (table.column(name).to_numpy().astype(np.float64) for name in (self._ra, self._dec))
            cell = self._cells_of(table, ra, dec)
            for region in self._regions:
                kept &= region.holds(ra, dec, cell)
        return kept

    def _cells_of(self, table: pa.Table, ra: np.ndarray, dec: np.ndarray) -> Integer[np.ndarray, " object"]:
        from omnisky.observe.sky import cells

        if self._cell in table.column_names and not table.column(self._cell).null_count:
            return table.column(self._cell).to_numpy()
        return cells(Observation(np.zeros(len(ra), dtype=np.str_), ra, dec), DEPTH)


def is_hats(path: str | Path) -> bool:
    """True for folders and addresses that hold a HATS catalogue."""
    folder = folder_at(path)
    named = ("collection.properties", "hats.properties", _INFO)
    return any((folder / name).exists() for name in named)


def _opened(place: Folder) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(place.open(), pre_buffer=True)
    except (OSError, pa.ArrowException) as error:
        raise CorruptFile(place.name, saw=error, want="a complete Parquet file", hint="fetch it again") from error


def _partition_info(place: Folder) -> tuple[Partition, ...]:
    header, *lines = [line.split(",") for line in place.text().split()]
    try:
        order, pixel = header.index("Norder"), header.index("Npix")
        found = {Partition(int(line[order]), int(line[pixel])) for line in lines}
    except (ValueError, IndexError) as error:
        raise CorruptFile(place.name, saw=error, want="columns Norder and Npix of whole numbers") from error
    return tuple(sorted(found, key=lambda one: one.first))


def _properties(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines() if line.strip() and not line.startswith(("#", "!")))
    return {key.strip(): value.strip() for key, _, value in lines}


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _half_the_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
