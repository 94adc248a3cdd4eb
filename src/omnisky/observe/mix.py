"""Several sources read as one, in proportions of your choosing.

The mixing is done on row numbers before anything is read, not by taking turns between iterators: which rows a pass
reads, and in which order, is a pure function of (seed, epoch). So `loader.Loader` resumes and changes ranks as exactly
as with one source.

    Loader(Mix([Shards("sdss"), Shards("desi")], weights=[1, 3]), batch=32, seed=1)

Each source is read through to its end before any of its rows comes again, also across passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Integer

from omnisky.errors import BadValue, ShapeMismatch
from omnisky.observe.layout import agreed, arrays_of
from omnisky.observe.loader import Source
from omnisky.observe.types import Observation, Part


class Mix:
    """A Source whose rows are those of all `sources`, one after the other; a Loader reads `weights` of each.

    `weights` are shares of a pass, by objects; None means as many as each source has, so that a pass reads every object
    once. `epoch_length` is the number of objects in a pass; None means as many as all sources have together.
    A part that one source lacks is absent in its rows. Raises BadValue.
    """

    def __init__(
        self, sources: Sequence[Source], *, weights: Sequence[float] | None = None, epoch_length: int | None = None
    ) -> None:
        self.sources = list(sources)
        sizes = [len(source) for source in self.sources]
        if not sizes or 0 in sizes:
            raise BadValue("sources", saw=f"{len(sizes)} sources of {sizes} objects", want="sources with objects")
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        self.epoch_length = int(self.starts[-1]) if epoch_length is None else epoch_length
        self.shares = _shares(sizes if weights is None else weights, len(sizes), self.epoch_length)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def order(self, seed: int, epoch: int) -> Integer[np.ndarray, " object"]:
        """The rows of this pass. Raises nothing; see `loader.Ordered`."""
        chosen = [self._next(i, seed, epoch) + self.starts[i] for i in range(len(self.sources))]
        return np.random.default_rng((seed, epoch)).permutation(np.concatenate(chosen))

    def _next(self, i: int, seed: int, epoch: int) -> Integer[np.ndarray, " object"]:
        """The share of source i: a stretch of its endless sequence of permutations."""
        size = len(self.sources[i])
        start, end = epoch * self.shares[i], (epoch + 1) * self.shares[i]
        lap, last = start // size, -(-end // size)
        laps = [np.random.default_rng((seed, i, k)).permutation(size) for k in range(lap, last)]
        return np.concatenate(laps)[start - lap * size : end - lap * size]

    def take(self, index: Any) -> Observation:
        """The chosen objects, in the order asked for. Raises ShapeMismatch where sources measure parts differently."""
        rows = np.arange(len(self))[index] if not isinstance(index, np.ndarray) or index.dtype == bool else index
        source_of = np.searchsorted(self.starts, rows, side="right") - 1
        found = [(i, np.nonzero(source_of == i)[0]) for i in np.unique(source_of).tolist()]
        pieces = [self.sources[i].take(rows[at] - self.starts[i]) for i, at in found]
        if len(pieces) == 1:
            return pieces[0]
        return union(pieces, [at for _, at in found])


@dataclass(frozen=True)
class Renamed:
    """A Source whose parts go by other names, e.g. {"spectrum": "spectrum_desi"}, so that a Mix keeps them apart."""

    source: Source
    names: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.source)

    def take(self, index: Any) -> Observation:
        seen = self.source.take(index)
        parts = {self.names.get(name, name): part for name, part in seen.parts.items()}
        return Observation(seen.object_id, seen.ra, seen.dec, parts)


def _shares(weights: Sequence[float], n: int, length: int) -> list[int]:
    """How many objects of each make a pass, by largest remainder; they add up to `length`."""
    share = np.asarray(weights, dtype=np.float64)
    if len(share) != n or not np.isfinite(share).all() or (share <= 0).any():
        raise BadValue("weights", saw=list(weights), want=f"{n} positive numbers, one for each source")
    share = share / share.sum() * length
    whole = np.floor(share).astype(np.int64)
    for i in np.argsort(whole - share, kind="stable")[: length - whole.sum()]:
        whole[i] += 1
    if (whole == 0).any():
        raise BadValue("weights", saw=list(weights), want="at least one object of each in a pass", hint="a longer pass")
    return whole.tolist()


def union(pieces: Sequence[Observation], at: Sequence[np.ndarray]) -> Observation:
    """One Observation of several: object k of piece i becomes object at[i][k]. What a piece lacks is absent there.

    Parts of one name must be alike; rows with `good` may be of different lengths. Raises ShapeMismatch.
    """
    n = sum(len(piece) for piece in pieces)
    object_id = np.empty(n, dtype=np.result_type(*(piece.object_id.dtype for piece in pieces)))
    ra, dec = np.empty(n), np.empty(n)
    for piece, to in zip(pieces, at, strict=True):
        object_id[to], ra[to], dec[to] = piece.object_id, piece.ra, piece.dec
    names = dict.fromkeys(name for piece in pieces for name in piece.parts)
    parts = {}
    for name in names:
        held = [(piece[name], to) for piece, to in zip(pieces, at, strict=True) if name in piece]
        parts[name] = _joined(name, [part for part, _ in held], [to for _, to in held], n)
    return Observation(object_id, ra, dec, parts)


def _joined(name: str, parts: Sequence[Part], at: Sequence[np.ndarray], n: int) -> Part:
    kind = type(parts[0])
    if any(type(part) is not kind for part in parts):
        raise ShapeMismatch(name, saw=[type(part).__name__ for part in parts], want="one kind of part")
    if kind.ragged and len({part.length for part in parts}) > 1:
        length = max(part.length for part in parts)
        parts = [replace(part.padded(length), **{"good": part.padded(length).where_good()}) for part in parts]
    present = np.zeros(n, dtype=bool)
    for part, to in zip(parts, at, strict=True):
        present[to] = part.there()
    arrays = [arrays_of(part) for part in parts]
    if any(set(one) != set(arrays[0]) for one in arrays):
        raise ShapeMismatch(name, saw=[tuple(one) for one in arrays], want="the same fields in each source")
    values: dict[str, Any] = {}
    for key in (f.name for f in fields(kind) if f.name != "present" and f.name not in arrays[0]):
        first, *others = (getattr(part, key) for part in parts)
        for other in others if not isinstance(first, Mapping) else ():
            first = agreed(f"{name}.{key}", first, other)
        values[key] = {} if isinstance(first, Mapping) else first
    for key in arrays[0]:
        field, colon, inner = key.partition(":")
        stacked = _stacked(f"{name}.{key}", [one[key] for one in arrays], at, n)
        if colon:
            values[field][inner] = stacked
        else:
            values[field] = stacked
    return kind(**values, present=None if present.all() else present)


def _stacked(label: str, each: Sequence[np.ndarray], at: Sequence[np.ndarray], n: int) -> np.ndarray:
    shapes, dtypes = {one.shape[1:] for one in each}, {one.dtype for one in each}
    if len(shapes) > 1 or (len(dtypes) > 1 and {dtype.kind for dtype in dtypes} != {"U"}):
        saw = sorted({f"{one.dtype} {one.shape[1:]}" for one in each})
        raise ShapeMismatch(f"{label} differs between sources", saw=saw, want="the same", hint="Renamed(source, …)")
    dtype, shape = np.result_type(*dtypes), (n, *shapes.pop())
    all_there = sum(len(to) for to in at) == n
    out = np.empty(shape, dtype) if all_there else np.full(shape, np.nan if dtype.kind == "f" else 0, dtype)
    for one, to in zip(each, at, strict=True):
        out[to] = one
    return out
