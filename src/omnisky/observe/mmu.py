"""The Multimodal Universe's HDF5 files (v1) as Observations: read in pieces, only what is asked for.

    survey = MMUHdf5("MultimodalUniverse/v1/legacysurvey/dr10_south_21", parts=("image",), columns=("FLUX_R",))
    near = survey.near(ra=150.1, dec=2.2, radius_deg=0.5).between("FLUX_R", 10, 100)
    for batch in near.batches(64): …
    Loader(near, 32)            # it is a Source: len and take

What columns mean is said by the survey's row (`observe.survey`). Angeloudi et al. 2024, arXiv:2412.02527.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float, Integer

from omnisky.errors import BadValue, CorruptFile, MissingModality, ObservationError
from omnisky.observe.mmu_files import CELL_DEPTH, CellFile, Held, cell_files, id_column, opened, survey_of
from omnisky.observe.mmu_header import Header
from omnisky.observe.mmu_table import Schema, Wanted, objects, parts_of
from omnisky.observe.place import DEPTH, Cells, Cone, Region, touch
from omnisky.observe.scan import Between, Choosing, in_range
from omnisky.observe.sky import cells
from omnisky.observe.survey import SURVEYS, Layout, MmuRow, Survey
from omnisky.observe.types import Observation, concatenate

# A position in float32 is up to 0.055 arcsec off (and MMU's builders put objects in cells by the exact one).
_EDGE_DEG = 2 / 3600
_BELOW = 2 * (DEPTH - CELL_DEPTH)  # bits of a cell of order 29 below that of its folder


@dataclass(frozen=True, eq=False)
class _Entry:
    """A file, and which of its rows are in the selection."""

    file: CellFile
    rows: Integer[np.ndarray, " row"] | None
    """None: all"""
    count: int
    schema: Schema


@dataclass(frozen=True, eq=False)
class _Known:
    """What one look into the files has found."""

    entries: list[_Entry]
    wanted: Wanted | None


@dataclass(frozen=True, eq=False)
class MMUHdf5(Choosing):
    """A set of the Multimodal Universe on disk, or a selection of it. Nothing is read until it is needed.

    Raises ObservationError and CorruptFile, when it is opened or read; the file is named.
    """

    path: str | Path
    """the folder of the survey, of a config, or anything with folders healpix=… below it"""
    survey: str = ""
    """a row of `observe.survey`; empty: known by the path, or by what the files say themselves"""
    config: str = ""
    """a folder above healpix=…; empty: all of them"""
    split: str = ""
    """train, val or test, where files are so called; empty: all"""
    parts: tuple[str, ...] | None = None
    """which parts to read; None: all there are"""
    columns: tuple[str, ...] | None = None
    """which columns of the parts "scalars" and "labels"; None: all"""
    _unique: set[Path] = field(default_factory=set)
    _schemas: dict[Any, Schema] = field(default_factory=dict)
    _known: _Known | None = None
    """what is in the files, if it has been looked up"""

    # --- choosing ---

    def inside(self, numbers: Any, *, depth: int = CELL_DEPTH) -> Self:
        """Only objects in these HEALPix cells (nested, of order `depth`; without it, of the order of the folders)."""
        return super().inside(numbers, depth=depth)

    def _narrowed(self, more: Region | Between) -> Self:
        return replace(super()._narrowed(more), _known=None)

    # --- reading ---

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, index: Any) -> Observation:
        """The chosen objects (a slice, integers or booleans), in the order asked for."""
        at = self._numbers(index)
        if not self._entries:
            return Observation.of([])
        of = np.searchsorted(self._starts, at, side="right") - 1
        pieces, places = [], []
        for k in np.unique(of) if len(at) else [0]:
            mine, entry = np.flatnonzero(of == k), self._entries[k]
            rows, back = np.unique(at[mine] - self._starts[k], return_inverse=True)
            piece = self._read(entry, rows if entry.rows is None else entry.rows[rows])
            pieces.append(piece if len(rows) == len(back) and (np.diff(back) > 0).all() else piece.take(back))
            places.append(mine)
        seen = pieces[0] if len(pieces) == 1 else concatenate(pieces)
        order = np.argsort(np.concatenate(places), kind="stable")
        return seen if (np.diff(order) == 1).all() else seen.take(order)

    def _numbers(self, index: Any) -> Integer[np.ndarray, " object"]:
        """0 … n−1 of the chosen objects. Sets have up to 10⁹: nothing here is as long as the set unless asked for."""
        n = len(self)
        if isinstance(index, slice):
            return np.arange(*index.indices(n))
        given = np.atleast_1d(np.asarray(index))
        if given.dtype == np.bool_ and len(given) == n:
            return np.flatnonzero(given)
        at = given.astype(np.int64) if not given.size or given.dtype.kind in "iu" else np.array([-n - 1])
        if ((at < -n) | (at >= n)).any():
            raise BadValue("index", saw=index, want=f"a slice, {n} booleans, or integers below {n}")
        return np.where(at < 0, at + n, at)

    def batches(self, size: int = 512) -> Iterator[Observation]:
        """All objects in the order of the files, `size` at a time; the last batch may be shorter."""
        if size < 1:
            raise BadValue("size", saw=size, want="1 or more")
        return (self.take(slice(start, start + size)) for start in range(0, len(self), size))

    def read(self) -> Observation:
        """All objects at once. Raises CorruptFile where an id comes twice, also in different files."""
        seen = self.take(slice(None))
        _refuse_twins(seen, str(self.path))
        return seen

    def catalogue(self) -> Observation:
        """Ids and positions of all objects, and no parts."""
        return replace(self, parts=(), columns=()).take(slice(None))

    def of_parts(self, names: Iterable[str]) -> MMUHdf5:
        """The same objects with these of its parts alone; MissingModality comes when they are read."""
        known = None if self._known is None else replace(self._known, wanted=None)
        return replace(self, parts=tuple(names), _known=known)

    def by_file(self) -> tuple[list[MMUHdf5], list[ObservationError]]:
        """Each file as a set of its own, which must be like the others; and what is wrong with those that cannot be
        opened, instead of raising it. Raises ObservationError where there are no files at all.
        """
        found, wrong = [], []
        for file in self._files():
            try:
                found.append(self._entry(file))
            except ObservationError as error:
                wrong.append(error)
        wanted = self._wanted_of(found) if found else None
        return [replace(self, path=one.file.path, _known=_Known([one], wanted)) for one in found], wrong

    # --- what there is ---

    @property
    def available(self) -> tuple[str, ...]:
        """The parts that the files hold, of which `parts` may choose."""
        return self._entries[0].schema.available if self._entries else ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Columns that no part takes up: tables and long arrays that the survey's row does not speak of."""
        return self._entries[0].schema.left_out if self._entries else ()

    @cached_property
    def row(self) -> Survey:
        """What is known of the survey."""
        if self.survey:
            if self.survey not in SURVEYS or SURVEYS[self.survey].mmu is None:
                known = tuple(name for name, row in SURVEYS.items() if row.mmu)
                raise BadValue("survey", saw=self.survey, want=known)
            return SURVEYS[self.survey]
        found = survey_of(Path(self.path).expanduser())
        return found if found else Survey(name="", mmu=MmuRow(layout=Layout.TABLE, configs=()))

    @property
    def _mmu(self) -> MmuRow:
        assert self.row.mmu is not None
        return self.row.mmu

    @cached_property
    def _entries(self) -> list[_Entry]:
        """The files of the selection, opened once each to see what is in them."""
        if self._known is not None:
            return self._known.entries
        found = [self._entry(file) for file in self._files()]
        return [entry for entry in found if entry.count]

    def _files(self) -> list[CellFile]:
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise ObservationError("nothing there", saw=root, want="a folder", hint="check the path for typos")
        files = cell_files(root, config=self.config, split=self.split)
        for region in self._regions:
            stretches = _widened(region).stretches()
            first = np.array([file.cell for file in files], dtype=np.int64) << _BELOW
            met = touch(stretches, first, first + (1 << _BELOW) - 1)
            files = [file for file, meets in zip(files, met, strict=True) if meets]
        return files

    @cached_property
    def _starts(self) -> Integer[np.ndarray, " file"]:
        return np.cumsum([0, *(entry.count for entry in self._entries)])

    @cached_property
    def _wanted(self) -> Wanted:
        known = self._known.wanted if self._known is not None else None
        return known if known is not None else self._wanted_of(self._entries)

    def _wanted_of(self, entries: list[_Entry]) -> Wanted:
        schemas = [entry.schema for entry in entries]
        return schemas[0].wanted(self.parts, self.columns, schemas)

    def _entry(self, file: CellFile) -> _Entry:
        with opened(file, self._mmu.layout) as held:
            schema = self._schema(held)
            count, kept = held.count(schema.id_column), None
            if self._where:
                kept = np.ones(count, dtype=bool)
                for narrow in self._where:
                    kept &= self._holds(narrow, held, schema)
        if kept is None:
            return _Entry(file, None, count, schema)
        return _Entry(file, np.flatnonzero(kept), int(kept.sum()), schema)

    def _schema(self, held: Held) -> Schema:
        text = held.header
        if text is not None:
            return Schema.of_header(Header.parse(text), held)
        if not self.row.name:
            known = tuple(name for name, row in SURVEYS.items() if row.mmu)
            raise ObservationError(f"{held.file.path}: which survey?", want=known, hint='survey="…"')
        alike = (held.names, held.file.split)  # most files of a set are: then they are not looked into one by one
        if alike not in self._schemas:
            schema = Schema.of_row(self._mmu, held, id_column(held.names, self._mmu, held.file.path))
            if schema.bands:
                return schema
            self._schemas[alike] = schema
        return self._schemas[alike]

    def _holds(self, narrow: Region | Between, held: Held, schema: Schema) -> Bool[np.ndarray, " object"]:
        if not isinstance(narrow, Between):
            seen = self._objects(held, schema, None)
            if isinstance(narrow, Cells) and narrow.depth <= CELL_DEPTH:  # the folder has said it
                return np.ones(len(seen), dtype=bool)
            return narrow.holds(seen.ra, seen.dec, cells(seen, DEPTH))
        if narrow.column not in held.names:
            raise MissingModality(f"{held.file.path}: no column", saw=held.names[:40], want=narrow.column)
        described = held.described(narrow.column)
        if described.kind not in "fiub" or described.shape not in ((), (1,)):
            raise BadValue(f"between({narrow.column!r})", saw="no plain number", want="one number per object")
        return in_range(narrow, schema.mended(narrow.column, held.read(narrow.column, None)).reshape(-1))

    def _objects(self, held: Held, schema: Schema, rows: Integer[np.ndarray, " row"] | None) -> Observation:
        """Ids and positions. The first time, those of the whole file are looked at."""
        path = held.file.path
        if path not in self._unique:
            every = objects(held, schema)
            _refuse_twins(every, str(path))
            _refuse_strays(every, held.file)
            self._unique.add(path)
            return every if rows is None else every.take(rows)
        return objects(held, schema, rows)

    def _read(self, entry: _Entry, rows: Integer[np.ndarray, " row"]) -> Observation:
        with opened(entry.file, self._mmu.layout) as held:
            seen = self._objects(held, entry.schema, rows)
            return seen | parts_of(held, entry.schema, rows, self._wanted, self.row.name)


def _widened(region: Region) -> Region:
    """A cone, wider by what rounding may have moved its objects out of their folders."""
    if not isinstance(region, Cone):
        return region
    return replace(region, radius_deg=min(region.radius_deg + _EDGE_DEG, 180.0))


def _refuse_twins(seen: Observation, where: str) -> None:
    names, counts = np.unique(seen.object_id, return_counts=True)
    if len(names) != len(seen):
        twice = tuple(names[counts > 1][:5].tolist())
        raise CorruptFile(f"{where}: ids that come twice", saw=twice, want="each once", hint="config=… or split=…")


def _refuse_strays(seen: Observation, file: CellFile) -> None:
    """Objects that are not where their folder says would be missed by every search by place."""
    known = np.isfinite(seen.ra) & np.isfinite(seen.dec)
    astray = known & (cells(seen, CELL_DEPTH) != file.cell)
    for east, north in ((1, 0), (-1, 0), (0, 1), (0, -1)):  # across the border within what rounding may do
        if not astray.any():
            return
        dec = np.clip(seen.dec + north * _EDGE_DEG, -90, 90)
        ra = (seen.ra + east * _EDGE_DEG / np.maximum(np.cos(np.radians(seen.dec)), 1e-6)) % 360
        moved = Observation(seen.object_id, ra, dec)
        astray &= cells(moved, CELL_DEPTH) != file.cell
    if astray.any():
        i = int(np.flatnonzero(astray)[0])
        where: Float[np.ndarray, " two"] = np.array([seen.ra[i], seen.dec[i]])
        raise CorruptFile(
            f"{file.path}: {int(astray.sum())} objects of other cells",
            saw=f"{seen.object_id[i]} at {where.tolist()}, cell {int(cells(seen.take([i]), CELL_DEPTH)[0])}",
            want=f"cell {file.cell} of nside 16, nested",
        )
