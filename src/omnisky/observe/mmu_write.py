"""Observations → HDF5 files as the Multimodal Universe lays them out: one folder a HEALPix cell, its column names.

    folder/healpix=<cell>/001-of-001.hdf5          nside 16, nested

Contiguous datasets, never compressed or cut into chunks: single rows are read often. Each file appears when it is
complete, so a run that is killed leaves whole files, and the next one goes on after them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from omnisky.errors import BadValue, CorruptFile, ObservationError, StorageError
from omnisky.observe.loader import Source
from omnisky.observe.mmu import MMUHdf5
from omnisky.observe.mmu_files import CELL_DEPTH, HEADER, SUFFIXES
from omnisky.observe.mmu_header import Header, lay_out
from omnisky.observe.sky import cells
from omnisky.observe.survey import SURVEYS, Layout
from omnisky.observe.types import Observation
from omnisky.storage import atomic, recover

_BLOCK = 256  # objects that are read at once, only to learn where they are
_OWN = ("object_id", "ra", "dec", "healpix")


def write_mmu(source: Source, folder: str | Path, *, survey: str = "", objects_per_file: int = 1024) -> list[Path]:
    """Write all objects of an Observation or a reader; the paths of the files, by cell. `MMUHdf5(folder)` reads them.

    `survey`: a row of `observe.survey` whose column names and units the parts get (names of parts as in the row);
    others, and parts that the row does not have, get MMU's usual names. float32 and shorter come back bit for bit.
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
    where = _where(source)
    paths = []
    for cell in np.unique(where).tolist():
        mine = np.flatnonzero(where == cell)
        pieces = np.array_split(mine, -(-len(mine) // objects_per_file))
        names = [f"{i:03d}-of-{len(pieces):03d}.hdf5" for i in range(1, len(pieces) + 1)]
        here = folder / f"healpix={cell}"
        _refuse_others(here, names)
        for name, rows in zip(names, pieces, strict=True):
            _write(source.take(rows), here / name, cell, survey)
            paths.append(here / name)
    return paths


def write_mmu_file(seen: Observation, path: str | Path) -> None:
    """One file of objects that share a cell, for who names the files himself. Raises as `write_mmu`."""
    where = np.unique(_where(seen))
    if len(where) != 1:
        raise BadValue("objects of one file", saw=f"cells {where.tolist()}", want="one cell", hint="write_mmu")
    _write(seen, Path(path), int(where[0]), "")


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


def _write(seen: Observation, path: Path, cell: int, survey: str) -> None:
    columns, header = _laid_out(seen, cell, survey)
    recover(path)
    if path.exists():
        if _digest_of(path) != header.digest:
            raise StorageError(f"{path} is there already", saw="other content", hint="another folder, or remove it")
        return
    import h5py

    with atomic(path) as draft:
        try:
            with h5py.File(draft, "w") as handle:
                for name, values in columns.items():
                    handle.create_dataset(name, data=values)
                handle.create_dataset(HEADER, data=header.dump(), dtype=h5py.string_dtype())
        except RuntimeError as error:  # what HDF5 says when it cannot close a file on a full disk
            raise OSError(str(error)) from error


def _laid_out(seen: Observation, cell: int, survey: str) -> tuple[dict[str, np.ndarray], Header]:
    row = SURVEYS[survey].mmu if survey else None
    rows = {part.name: part for part in row.parts} if row and row.layout is Layout.TABLE else {}
    columns: dict[str, np.ndarray] = {
        "object_id": _ids(seen.object_id),
        "ra": seen.ra.astype(np.float64),
        "dec": seen.dec.astype(np.float64),
        "healpix": np.full(len(seen), cell, dtype=np.int64),
    }
    parts = []
    for name, part in seen.parts.items():
        laid = lay_out(name, part, rows.get(name))
        twice = tuple(sorted({*columns, HEADER} & set(laid.columns)))
        if twice:
            hint = "rename them" if set(twice) - {*_OWN, HEADER} else f"positions and ids are not for {name}"
            raise BadValue(f"{name}: two columns of one name", saw=twice, want="a name each", hint=hint)
        columns.update(laid.columns)
        parts.append(laid.header)
    return columns, Header(parts=tuple(parts), survey=survey, digest=_digest(columns, parts))


def _ids(ids: np.ndarray) -> np.ndarray:
    """int64 where all of them are whole numbers in their plain form, as MMU's loaders expect; otherwise UTF-8."""
    plain = [one for one in ids.tolist() if one.lstrip("-").isdecimal() and one.isascii() and len(one) < 20]
    if len(plain) == len(ids):
        numbers = [int(one) for one in plain]
        if all(str(n) == one and abs(n) < 2**63 for n, one in zip(numbers, plain, strict=True)):
            return np.array(numbers, dtype=np.int64)
    encoded = np.char.encode(ids, "utf-8")
    return encoded if encoded.dtype.itemsize else encoded.astype("S1")


def _digest(columns: Mapping[str, np.ndarray], parts: Sequence[Any]) -> str:
    total = blake2b(repr(parts).encode(), digest_size=16)
    for name, values in columns.items():
        total.update(f"{name} {values.dtype.str} {values.shape}".encode())
        total.update(np.ascontiguousarray(values).tobytes())
    return total.hexdigest()


def _digest_of(path: Path) -> str:
    import h5py

    try:
        with h5py.File(path, "r") as handle:
            return Header.parse(handle[HEADER].asstr()[()]).digest if HEADER in handle else ""
    except (OSError, KeyError, RuntimeError) as error:
        raise CorruptFile(str(path), saw=error, want="a complete HDF5 file", hint="remove it") from error
