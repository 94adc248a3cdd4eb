"""Observations piece by piece on disk: what the writers sort out of, and what the shards are read with.

A writer that must put rows in another order than they come in (shuffled, or by cells of sky) first spills the pieces as
they come into a hidden folder, one Arrow file each, then gathers from these. Every file appears whole or not at all, so
a run that was killed goes on where it stopped: what is there is not done again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Integer

from omnisky.errors import BadValue, CorruptFile, ObservationError
from omnisky.observe.arrow import Frame, Views, to_arrow
from omnisky.observe.layout import Layout, common, layout_of
from omnisky.observe.loader import Source
from omnisky.observe.schema import layout_in, only
from omnisky.observe.types import Observation
from omnisky.storage import atomic, recover

OPEN = 256
"""files kept open at once: fewer than any system's limit"""
_AT_ONCE = 256
"""rows taken from a source that is not in pieces"""
_SPILLED = "spilled.json"

Pieces = Iterable[Observation] | Source
"""Observations one after the other, always in the same order. A Sequence may make them when asked: those that are on
disk already are not asked for again. A Source (one Observation, say) is cut up."""


class Files:
    """Rows of several Arrow files, one after the other, as a Source: mapped into memory, copied once, when taken."""

    def __init__(self, paths: Sequence[Path], rows: Sequence[int], layout: Layout) -> None:
        self.paths, self.layout = list(paths), layout
        self.starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self._views = lru_cache(OPEN)(self._open)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, index: Any) -> Observation:
        """The chosen objects (a slice, integers or booleans), in the order asked for. Raises CorruptFile."""
        rows = self._rows(index)
        frame = Frame(self.layout, len(rows))
        file_of = np.searchsorted(self.starts, rows, side="right") - 1
        for file in np.unique(file_of).tolist():
            (at,) = np.nonzero(file_of == file)
            self._views(file).copy(rows[at] - self.starts[file], frame, at)
        return frame.observation()

    def catalogue(self) -> Observation:
        """Ids and positions of all objects, and no parts."""
        ids, ra, dec = (self.core(name) for name in ("object_id", "ra", "dec"))
        return Observation(np.asarray(ids.to_pylist(), dtype=np.str_), ra.to_numpy(), dec.to_numpy())

    def core(self, name: str) -> pa.ChunkedArray:
        """One of the columns that every file has: object_id, ra, dec, _healpix_29."""
        return pa.chunked_array([self._views(i).batch.column(name) for i in range(len(self.paths))])

    def _rows(self, index: Any) -> Integer[np.ndarray, " row"]:
        n = len(self)
        if not (isinstance(index, np.ndarray) and index.dtype.kind in "iu"):
            return np.arange(n)[index]
        rows = index.astype(np.int64)
        if len(rows) and not (-n <= rows.min() and rows.max() < n):
            raise IndexError(f"rows {rows.min()} … {rows.max()} of {n}")
        return np.where(rows < 0, rows + n, rows)

    def _open(self, file: int) -> Views:
        batch = open_arrow(self.paths[file])
        want = int(self.starts[file + 1] - self.starts[file])
        if batch.num_rows != want:
            raise CorruptFile(str(self.paths[file]), saw=f"{batch.num_rows} rows", want=want)
        layout = layout_in(batch.schema)
        if layout is None:
            raise CorruptFile(str(self.paths[file]), saw=tuple(batch.schema.names), want="a file made by Omnisky")
        wanted = Layout(parts={name: part for name, part in layout.parts.items() if name in self.layout.parts})
        columns = [column for name, part in wanted.parts.items() for column in self._chosen(name, part.columns)]
        return Views(batch, only(wanted, columns))

    def _chosen(self, name: str, columns: Sequence[str]) -> Sequence[str]:
        """Of a file laid out as we are, the columns we want; of a piece laid out by itself, all."""
        mine = self.layout.parts[name].columns
        return mine if set(mine) <= set(columns) else columns


def open_arrow(path: Path) -> pa.RecordBatch:
    """The one record batch of a file, mapped into memory. Raises CorruptFile."""
    try:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        if file.num_record_batches != 1:
            raise CorruptFile(str(path), saw=f"{file.num_record_batches} record batches", want="one")
        return file.get_batch(0)
    except (OSError, pa.ArrowException) as error:
        raise CorruptFile(str(path), saw=error, want="a complete Arrow file", hint="fetch or write it again") from error


def save_arrow(batch: pa.RecordBatch, path: Path) -> None:
    """One record batch as an Arrow file, at once or not at all. Raises StorageError."""
    with atomic(path) as draft, pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def spill(pieces: Pieces, scratch: Path) -> Files:
    """All pieces in `scratch`, as one Source in the order they came. Goes on where an earlier call was stopped.

    Raises BadValue where what is in `scratch` came from other pieces, ObservationError where there are none.
    """
    told = scratch / _SPILLED
    if not told.exists():
        rows = [
            _spill_one(piece, scratch / f"piece-{i:06d}.arrow") for i, piece in enumerate(_pending(pieces, scratch))
        ]
        save_json({"rows": rows}, told)
    counts = json.loads(told.read_text())["rows"]
    if not sum(counts):
        raise ObservationError("nothing to write", saw=f"{len(counts)} pieces without objects", want="an object")
    paths = [scratch / f"piece-{i:06d}.arrow" for i in range(len(counts))]
    kept = [(path, count) for path, count in zip(paths, counts, strict=True) if count]
    layout = common(_layout_of_file(path) for path, _ in kept)
    return Files([path for path, _ in kept], [count for _, count in kept], layout)


def _layout_of_file(path: Path) -> Layout:
    layout = layout_in(open_arrow(path).schema)
    if layout is None:
        raise CorruptFile(str(path), saw="no layout", want="a file made by Omnisky")
    return layout


def _pending(pieces: Pieces, scratch: Path) -> Iterable[Observation | None]:
    """Each piece; None for one that is spilled already and need not be made again."""
    if isinstance(pieces, Source):
        source = pieces
        starts = range(0, len(source), _AT_ONCE)
        for i, start in enumerate(starts):
            done = (scratch / f"piece-{i:06d}.arrow").exists()
            yield None if done else source.take(slice(start, min(start + _AT_ONCE, len(source))))
    elif isinstance(pieces, Sequence):
        for i in range(len(pieces)):
            yield None if (scratch / f"piece-{i:06d}.arrow").exists() else pieces[i]
    else:
        yield from pieces


def _spill_one(piece: Observation | None, path: Path) -> int:
    recover(path)
    if piece is None:
        return open_arrow(path).num_rows
    if not path.exists():
        save_arrow(to_arrow(piece, layout_of(piece)), path)
    elif open_arrow(path).column("object_id").to_pylist() != piece.object_id.tolist():
        raise BadValue(
            f"{path.parent.parent} was begun with other objects",
            saw=f"piece {path.stem}: {piece.object_id[:3].tolist()} …",
            want="the same pieces in the same order",
            hint="another folder, or remove this one",
        )
    return len(piece)


# --- the job in a folder ------------------------------------------------------------------------------------------


def begin(folder: Path, settings: dict[str, Any], finished: str) -> Path | None:
    """The hidden folder to work in; None if `folder/finished` says that all is done. Raises BadValue."""
    scratch = folder / ".scratch"
    job = scratch / "job.json"
    if (folder / finished).exists():
        finish(scratch)
        return None
    if folder.exists() and not scratch.exists() and any(folder.iterdir()):
        raise BadValue("folder", saw=f"{folder} with other things in it", want="a new or empty folder")
    if not job.exists():
        save_json(settings, job)
    elif json.loads(job.read_text()) != json.loads(json.dumps(settings)):
        raise BadValue(
            f"{folder} was begun otherwise",
            saw=settings,
            want=json.loads(job.read_text()),
            hint="the same settings, another folder, or remove this one",
        )
    return scratch


def finish(scratch: Path) -> None:
    """What was only needed on the way is removed."""
    shutil.rmtree(scratch, ignore_errors=True)


def save_json(told: dict[str, Any], path: Path) -> None:
    recover(path)
    with atomic(path) as draft:
        draft.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
