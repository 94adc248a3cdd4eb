"""Observations → HDF5 files as the Multimodal Universe lays them out: one folder a HEALPix cell, its column names.

    folder/healpix=<cell>/001-of-001.hdf5          nside 16, nested; a table of objects (most surveys)
    folder/healpix=<cell>/<object_id>.hdf5         one object a file (supernovae); four digits of cell
    folder/healpix=<cell>/001-of-001.hdf5          one group an object, with compound tables (MaNGA)

Contiguous datasets, never compressed or cut into chunks: single rows are read often. Each file appears when it is
complete, so a run that is killed leaves whole files, and the next one goes on after them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from omnisky.errors import BadValue, CorruptFile, ObservationError, StorageError
from omnisky.observe.loader import Source
from omnisky.observe.mmu import MMUHdf5
from omnisky.observe.mmu_files import CELL_DEPTH, HEADER, SUFFIXES, note
from omnisky.observe.mmu_header import Header, encoded, lay_out
from omnisky.observe.mmu_view import grouped
from omnisky.observe.sky import cells
from omnisky.observe.survey import SURVEYS, Layout, MmuRow
from omnisky.observe.types import Observation
from omnisky.storage import atomic, recover

_BLOCK = 256  # objects that are read at once, only to learn where they are
_OWN = ("object_id", "ra", "dec", "healpix")
_PLAIN = MmuRow(layout=Layout.TABLE, configs=())


def write_mmu(source: Source, folder: str | Path, *, survey: str = "", objects_per_file: int = 1024) -> list[Path]:
    """Write all objects of an Observation or a reader; the paths of the files, by cell. `MMUHdf5(folder)` reads them.

    `survey`: a row of `observe.survey` whose layout, column names and units the parts get (names of parts as in the
    row); others, and parts that the row does not have, get MMU's usual names. All comes back bit for bit.
    Files that are there already, of the same content, are left alone: a run goes on where it was killed.

    Raises ObservationError (no position, ids that come twice), BadValue (two columns of one name), StorageError (the
    disk is full, or other files are in the way; nothing half-written is left).
    """
    if survey and survey not in SURVEYS:
        raise BadValue("survey", saw=survey, want=tuple(SURVEYS))
    if objects_per_file < 1:
        raise BadValue("objects_per_file", saw=objects_per_file, want="1 or more")
    folder = Path(folder).expanduser()
    if not len(source):
        return []
    row = (SURVEYS[survey].mmu if survey else None) or _PLAIN
    if row.layout is not Layout.TABLE:
        _refuse_ids(source)
    where = _where(source)
    paths = []
    for cell in np.unique(where).tolist():
        mine = np.flatnonzero(where == cell)
        alone = row.layout is Layout.PER_OBJECT
        pieces = np.array_split(mine, len(mine) if alone else -(-len(mine) // objects_per_file))
        names = [f"{i:03d}-of-{len(pieces):03d}.hdf5" for i in range(1, len(pieces) + 1)]
        if alone:
            names = [f"{one}.hdf5" for one in _ids_of(source, mine)]
        here = folder / f"healpix={cell:04d}" if alone else folder / f"healpix={cell}"
        _refuse_others(here, names)
        for name, rows in zip(names, pieces, strict=True):
            _write(source.take(rows), here / name, cell, _Target(survey, row))
            paths.append(here / name)
    return paths


def write_mmu_file(seen: Observation, path: str | Path) -> None:
    """One file of objects that share a cell, for who names the files himself. Raises as `write_mmu`."""
    where = np.unique(_where(seen))
    if len(where) != 1:
        raise BadValue("objects of one file", saw=f"cells {where.tolist()}", want="one cell", hint="write_mmu")
    _write(seen, Path(path), int(where[0]), _Target("", _PLAIN))


@dataclass(frozen=True)
class _Target:
    """Whose files these shall be."""

    survey: str
    row: MmuRow


def _ids_of(source: Source, rows: np.ndarray) -> list[str]:
    every = np.concatenate([block.object_id for block in _catalogue(source)])
    return [str(one) for one in every[rows]]


def _refuse_ids(source: Source) -> None:
    """Ids become names of files or groups."""
    for one in _ids_of(source, np.arange(len(source))):
        if not re.fullmatch(r"[^/.\0][^/\0]*", one) or len(one.encode()) > 200:
            want = "1 … 200 bytes without / and not beginning with a dot: here they name files or groups"
            raise BadValue("object_id", saw=repr(one), want=want, hint="other ids, or no survey=")


def _where(source: Source) -> np.ndarray:
    """The cell of every object, each of which has a place, and an id of its own."""
    blocks = list(_catalogue(source))
    where = np.concatenate([cells(block, CELL_DEPTH) for block in blocks])
    ids = np.concatenate([block.object_id for block in blocks])
    if (where < 0).any():
        lost = ids[where < 0]
        raise ObservationError(
            "objects without a position have no cell",
            saw=f"{len(lost)} of them, the first {lost[0]}",
            want="ra and dec",
            hint="leave them out: seen.take(numpy.isfinite(seen.ra))",
        )
    names, counts = np.unique(ids, return_counts=True)
    if len(names) != len(ids):
        raise ObservationError("ids that come twice", saw=tuple(names[counts > 1][:5].tolist()), want="each once")
    return where


def _catalogue(source: Source) -> Iterator[Observation]:
    if isinstance(source, MMUHdf5):
        yield source.catalogue()
    elif isinstance(source, Observation):
        yield source
    else:
        for start in range(0, len(source), _BLOCK):
            yield replace(source.take(np.arange(start, min(start + _BLOCK, len(source)))), parts={})


def _refuse_others(here: Path, names: Sequence[str]) -> None:
    there = here.iterdir() if here.is_dir() else ()
    others = tuple(one.name for one in there if one.suffix in SUFFIXES and one.name[0] != "." and one.name not in names)
    if others:
        raise StorageError(f"{here} holds other files", saw=others, want=tuple(names), hint="another folder")


def _write(seen: Observation, path: Path, cell: int, target: _Target) -> None:
    columns, header = _laid_out(seen, cell, target)
    recover(path)
    if path.exists():
        if _digest_of(path) != header.digest:
            raise StorageError(f"{path} is there already", saw="other content", hint="another folder, or remove it")
        return
    import h5py

    with atomic(path) as draft:
        try:
            with h5py.File(draft, "w") as handle:
                _fill(handle, columns, header, target.row)
        except RuntimeError as error:  # what HDF5 says when it cannot close a file on a full disk
            raise OSError(str(error)) from error


def _fill(handle: Any, columns: Mapping[str, np.ndarray], header: Header, row: MmuRow) -> None:
    """The datasets of a file, and the note about them."""
    if row.layout is Layout.TABLE:
        for name, values in columns.items():
            _create(handle, name, values)
        _annotate(handle, header)
    elif row.layout is Layout.PER_OBJECT:
        for name, values in columns.items():
            handle.create_dataset(name, data=values[0])
        _annotate(handle, header)
    else:
        for i, name in enumerate(columns["object_id"].tolist()):
            group = handle.create_group(name.decode())
            for key, values in grouped(columns, i, row).items():
                group.create_dataset(key, data=values)
            _annotate(group, header)


def _create(handle: Any, name: str, values: np.ndarray) -> None:
    import h5py

    if values.dtype != object:
        handle.create_dataset(name, data=values)
        return
    held = handle.create_dataset(name, (len(values),), dtype=h5py.vlen_dtype(np.float64))
    for i, one in enumerate(values):
        held[i] = one


def _annotate(handle: Any, header: Header) -> None:
    import h5py

    held = handle.create_dataset(HEADER, data=header.dump(), dtype=h5py.string_dtype())
    held.attrs["layout"] = header.layout.value


def _laid_out(seen: Observation, cell: int, target: _Target) -> tuple[dict[str, np.ndarray], Header]:
    row, survey = target.row, target.survey
    rows = {part.name: part for part in row.parts}
    as_text = row.layout is not Layout.TABLE
    columns: dict[str, np.ndarray] = {
        "object_id": encoded(seen.object_id) if as_text else _ids(seen.object_id),
        "ra": seen.ra.astype(np.float64),
        "dec": seen.dec.astype(np.float64),
        "healpix": np.full(len(seen), cell, dtype=np.int64),
    }
    parts = []
    for name, part in seen.parts.items():
        laid = lay_out(name, part, rows.get(name))
        if set(laid.header.view) & set(columns):  # two light curves in one column of times
            laid = lay_out(name, part)
        twice = tuple(sorted({*columns, HEADER} & set(laid.columns)))
        if twice:
            hint = "rename them" if set(twice) - {*_OWN, HEADER} else f"positions and ids are not for {name}"
            raise BadValue(f"{name}: two columns of one name", saw=twice, want="a name each", hint=hint)
        columns.update(laid.columns)
        parts.append(laid.header)
    for name, ends in row.suffixes.items():  # a column with an entry per band, as MMU's loader wants it
        each = [columns[f"{name}_{end}"] for end in ends if f"{name}_{end}" in columns]
        if len(each) == len(ends) and name not in columns:
            columns[name] = np.stack(each, axis=1)
    return columns, Header(tuple(parts), survey, _digest(columns, parts), row.layout)


def _ids(ids: np.ndarray) -> np.ndarray:
    """int64 where all of them are whole numbers in their plain form, as MMU's loaders expect; otherwise UTF-8."""
    plain = [one for one in ids.tolist() if one.lstrip("-").isdecimal() and one.isascii() and len(one) < 20]
    if len(plain) == len(ids):
        numbers = [int(one) for one in plain]
        if all(str(n) == one and abs(n) < 2**63 for n, one in zip(numbers, plain, strict=True)):
            return np.array(numbers, dtype=np.int64)
    return encoded(ids)


def _digest(columns: Mapping[str, np.ndarray], parts: Sequence[Any]) -> str:
    total = blake2b(repr(parts).encode(), digest_size=16)
    for name, values in columns.items():
        total.update(f"{name} {values.dtype.str} {values.shape}".encode())
        rows = values if values.dtype == object else [values]
        for one in rows:
            total.update(np.ascontiguousarray(one).tobytes())
    return total.hexdigest()


def _digest_of(path: Path) -> str:
    import h5py

    try:
        with h5py.File(path, "r") as handle:
            ours = note(handle)
            return Header.parse(ours.asstr()[()]).digest if ours is not None else ""
    except (OSError, KeyError, RuntimeError) as error:
        raise CorruptFile(str(path), saw=error, want="a complete HDF5 file", hint="remove it") from error
