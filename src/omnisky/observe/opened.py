"""A path as something to match: opened no further than needed; where its objects are, or were, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from omnisky.observe.loader import Source, blocks
from omnisky.observe.mmu import MMUHdf5
from omnisky.observe.motion import COLUMNS, Motion, moved
from omnisky.observe.parquet import Parquet
from omnisky.observe.pieces import spill
from omnisky.observe.read import scan
from omnisky.observe.scan import as_source
from omnisky.observe.shards import Shards
from omnisky.observe.types import Labels, Observation, Scalars

_AT_ONCE = 1 << 16
"""rows of ids, positions and motions: some 5 MB"""
_MEASURED_AT_ONCE = 256


def opened(path: str | Path) -> Any:
    """A Source, or a scan of Parquet; rows stay on disk, or at their address, where the format lets them."""
    found = scan(path)
    return found if isinstance(found, Parquet) else as_source(found)


def first_of(side: Any) -> Observation:
    """The first object, or none: what parts there are."""
    return next(_pieces(side, 1), Observation.of([]))


def rows_of(
    side: Any, rows: Integer[np.ndarray, " wanted"], scratch: Path
) -> tuple[Source, Integer[np.ndarray, " wanted"]]:
    """What `opened` gave, as rows to take, with all that was measured; and which of them are the rows asked for.

    Parquet has no rows to take: those asked for, and no others, are laid out in `scratch`. Called again after it was
    killed, this goes on.
    """
    if not isinstance(side, Parquet):
        return side, rows
    kept, at = np.unique(rows, return_inverse=True)
    return spill(side.batches_at(kept, _MEASURED_AT_ONCE), scratch), at.astype(np.int64)


def motions_of(side: Any) -> Any:
    """The same with no more than is needed to know how the objects move, as far as columns can be told apart."""
    if isinstance(side, Parquet):
        return replace(side, parts=(), columns=tuple(name for name in side.schema.names if name.lower() in COLUMNS))
    if isinstance(side, Shards):
        kinds = {name: part.kind for name, part in side.layout.parts.items()}
        return Shards(side.folder, parts=[name for name, kind in kinds.items() if issubclass(kind, Scalars | Labels)])
    if isinstance(side, MMUHdf5):
        return replace(side, parts=tuple(name for name in ("scalars", "labels") if name in side.available))
    return side


def motion_of(side: Any) -> Motion | None:
    """How all of them move; None where there are no columns of proper motion. Raises as `Motion.of`."""
    held = motions_of(side)
    return Motion.told_by(held.read() if isinstance(held, Parquet) else held)


def moves(side: Any) -> bool:
    """True where there are columns of proper motion."""
    return Motion.piece(first_of(motions_of(side))) is not None


def placed(side: Any, epoch_yr: float | None = None, *, numbered: bool = False) -> Iterator[Observation]:
    """Ids and positions, piece by piece, of those that have a position; with `epoch_yr` (Julian year) moved there, as
    far as their proper motions are known; `numbered`: as ids the numbers of their rows. Raises MissingModality (no
    epoch of the positions), ObservationError (units).
    """
    if epoch_yr is not None:
        held = motions_of(side)
    else:
        held = replace(side, parts=(), columns=()) if isinstance(side, Parquet) else side
    start = 0
    for seen in _pieces(held, _AT_ONCE):
        motion = None if epoch_yr is None else Motion.piece(seen)
        names = np.arange(start, start + len(seen)).astype(np.str_) if numbered else seen.object_id
        start += len(seen)
        at = Observation(names, seen.ra, seen.dec)
        if motion is not None and epoch_yr is not None:
            at = moved(at, motion, epoch_yr)
        yield at.take(np.isfinite(at.ra) & np.isfinite(at.dec))


def _pieces(side: Any, size: int) -> Iterator[Observation]:
    return side.batches(size) if isinstance(side, Parquet) else blocks(side, size)
