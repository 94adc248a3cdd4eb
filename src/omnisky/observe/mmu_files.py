"""Files of the Multimodal Universe's HDF5 layout: which there are, and how to open one and read columns of some rows.

    <root>/<config>/healpix=<cell>/001-of-001.hdf5

Cells are HEALPix, nside 16, nested. The deviations of version 1 are understood: zero-padded cells, .h5, prefixes
train_ val_ test_, one file or one group per object, further levels of folders.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from omnisky.errors import CorruptFile, ObservationError, OmniskyError
from omnisky.observe.survey import SURVEYS, Layout, MmuRow, Survey

CELL_DEPTH = 4
"""HEALPix order of the folders: nside 16"""
_CELLS = 12 * 4**CELL_DEPTH
SUFFIXES = (".hdf5", ".h5")
HEADER = "omnisky"
"""the dataset in which a file of ours says what its columns are"""
_LEVELS = 4  # of folders above healpix=…: survey, config, sector, and one to spare


@dataclass(frozen=True)
class CellFile:
    """One file, and what its path says."""

    path: Path
    cell: int
    """HEALPix, nside 16, nested"""
    split: str = ""
    """train, val or test, where the name begins with it"""


def is_cells(path: Path) -> bool:
    """Whether there are folders healpix=… at or below this one."""
    return path.is_dir() and next(_cell_folders(path), None) is not None


def cell_files(root: Path, *, config: str = "", split: str = "") -> list[CellFile]:
    """All files below `root`, by path. Raises ObservationError where there are none, or a folder is no cell."""
    found = []
    for folder in _cell_folders(root):
        if config and config not in folder.parts:
            continue
        number = folder.name.removeprefix("healpix=")
        if not number.isdigit() or int(number) >= _CELLS:
            raise ObservationError(str(folder), saw=number, want=f"0 … {_CELLS - 1}, HEALPix of nside 16, nested")
        for path in sorted(folder.iterdir()):
            if path.suffix in SUFFIXES and not path.name.startswith("."):
                said = re.match(r"(train|val|test)_", path.name)
                found.append(CellFile(path, int(number), said[1] if said else ""))
    chosen = [one for one in found if not split or one.split == split]
    if not chosen:
        saw = f"{len(found)} files of other splits" if found else "none"
        raise ObservationError(f"no files in {root}", saw=saw, want="healpix=…/*.hdf5", hint="check config and split")
    return chosen


def _cell_folders(root: Path) -> Iterator[Path]:
    if root.name.startswith("healpix="):
        yield root
        return
    depth = len(root.parts)
    for at, folders, _ in os.walk(root):
        here = Path(at)
        if here.name.startswith("healpix="):
            folders[:] = []
            yield here
            continue
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        if len(here.parts) - depth > _LEVELS:
            folders[:] = []


def survey_of(path: Path) -> Survey | None:
    """The survey that a folder of the path is called after, or a config that only one survey has."""
    owners: dict[str, list[Survey]] = {}
    for row in SURVEYS.values():
        for config in row.mmu.configs if row.mmu else ():
            owners.setdefault(config, []).append(row)
    folders = [part for part in reversed(path.resolve().parts) if not part.startswith("healpix=")]
    for name in folders:
        if name in SURVEYS and SURVEYS[name].mmu:
            return SURVEYS[name]
    return next((owners[name][0] for name in folders if len(owners.get(name, ())) == 1), None)


# --- one open file ------------------------------------------------------------------------------------------------


@contextmanager
def opened(file: CellFile, layout: Layout) -> Iterator[Held]:
    """The file, open for reading. Whatever goes wrong with it meanwhile is CorruptFile, and names it."""
    import h5py

    try:
        # Nobody writes to these files, and network disks often cannot lock.
        with h5py.File(file.path, "r", locking=False) as handle:
            ours = note(handle)
            yield Held(file, handle, Layout(ours.attrs.get("layout", "table")) if ours is not None else layout)
    except FileNotFoundError as error:
        raise CorruptFile(
            f"{file.path} is gone", saw="no such file", want="files that stay while they are read", hint="open it anew"
        ) from error
    except OmniskyError as error:
        if str(file.path) in str(error):
            raise
        raise type(error)(f"{file.path}: {error}") from error
    # What HDF5 raises on bytes that are not what they should be depends on where they break off.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, UnicodeDecodeError) as error:
        raise CorruptFile(str(file.path), saw=error, want="a complete HDF5 file", hint="fetch it again") from error


def note(handle: Any) -> Any:
    """The dataset in which a file of ours says what it is, at the top or in the first group; None in others."""
    if HEADER in handle:
        return handle[HEADER]
    first = handle[next(iter(handle))] if len(handle) else None
    return first[HEADER] if first is not None and hasattr(first, "keys") and HEADER in first else None


class Held:
    """An open file as a table of objects, whatever its layout."""

    def __init__(self, file: CellFile, handle: Any, layout: Layout) -> None:
        self.file, self._handle, self._layout = file, handle, layout
        self._groups = sorted(handle) if layout is Layout.GROUP else []

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All columns; "table.field" of compound tables. To know them each must be opened, which takes its time."""
        return tuple(self._find_names())

    def _find_names(self) -> Iterator[str]:
        import h5py

        if self._layout is Layout.GROUP and not all(isinstance(self._handle[one], h5py.Group) for one in self._groups):
            raise CorruptFile(str(self.file.path), saw="columns", want="a group for each object")
        top = self._handle[self._groups[0]] if self._groups else self._handle
        for name, held in top.items():
            if name == HEADER or not isinstance(held, h5py.Dataset):
                continue
            if held.dtype.names is not None:
                yield from (f"{name}.{field}" for field in held.dtype.names)
            elif self._layout is not Layout.TABLE or held.shape:
                yield name

    @property
    def header(self) -> str | None:
        """What a file of ours says about itself; None in others."""
        ours = note(self._handle)
        return None if ours is None else ours.asstr()[()]

    def count(self, id_column: str) -> int:
        """Objects in the file."""
        if self._layout is Layout.GROUP:
            return len(self._groups)
        return 1 if self._layout is Layout.PER_OBJECT else len(self._handle[id_column])

    def described(self, name: str) -> Described:
        """Type and shape of a column, without reading it."""
        import h5py

        top = self._handle[self._groups[0]] if self._groups else self._handle
        table, _, field = name.partition(".") if name not in top else (name, "", "")
        held = top[table]
        dtype = held.dtype[field] if field else held.dtype
        text = h5py.check_string_dtype(dtype) is not None or dtype.kind == "S"
        ragged = dtype.kind == "O" and not text
        shape = held.shape[1:] if self._layout is Layout.TABLE else held.shape
        kind = "U" if text else dtype.base.kind
        return Described(kind, (*shape, *dtype.shape) if field else shape, ragged, dtype.base.itemsize)

    def read(self, name: str, rows: Integer[np.ndarray, " row"] | None) -> np.ndarray:
        """A column of these rows (in rising order, without repeats; None for all), axis 0 counts objects."""
        if self._layout is Layout.TABLE:
            return _some(self._handle[name], rows, self.file.path, name)
        if self._layout is Layout.PER_OBJECT:
            return np.asarray(self._handle[name][()])[None][slice(None) if rows is None else rows]
        chosen = range(len(self._groups)) if rows is None else rows.tolist()
        # One is read also where none is asked for, to know the shape.
        each = [np.asarray(self._cell(self._handle[self._groups[i]], name)) for i in chosen or [0]]
        return np.stack(each)[: len(chosen)]

    @staticmethod
    def _cell(group: Any, name: str) -> Any:
        if name in group:
            return group[name][()]
        table, _, field = name.partition(".")
        return group[table][field]


def _some(dataset: Any, rows: Integer[np.ndarray, " row"] | None, path: Path, name: str) -> np.ndarray:
    if rows is None:
        return dataset[()]
    if not len(rows):
        return dataset[:0]
    first, last = int(rows[0]), int(rows[-1]) + 1
    if last > len(dataset):
        raise CorruptFile(f"{path}, column {name}", saw=f"{len(dataset)} rows", want=f"{last} or more")
    if last - first <= 2 * len(rows):  # one piece is read much faster than its rows one by one
        return dataset[first:last][rows - first]
    return dataset[rows]


@dataclass(frozen=True)
class Described:
    """What a column holds."""

    kind: str
    """numpy's letter: f, i, u, b; U for text of any kind"""
    shape: tuple[int, ...]
    """of one object's entry"""
    ragged: bool
    """rows of different lengths"""
    itemsize: int
    """bytes of a number"""


def id_column(names: tuple[str, ...], row: MmuRow, path: Path) -> str:
    """The column of object ids. Raises CorruptFile."""
    found = next((name for name in row.object_id if name in names), None)
    if found is None:
        raise CorruptFile(f"{path}: another schema", saw=names[:20], want=f"a column {' or '.join(row.object_id)}")
    return found
