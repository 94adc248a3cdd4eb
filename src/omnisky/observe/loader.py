"""Batches of observations, in an order that is a pure function of (seed, epoch), with a bookmark to come back to.

The *global* batch k of an epoch holds the same objects, turned the same way, whatever the number of ranks and workers;
each rank takes its share of rows. So a run may stop after any batch and go on elsewhere, on more or fewer ranks, with
nothing lost and nothing repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer

from omnisky.errors import BadValue
from omnisky.observe.types import Image, Observation


@runtime_checkable
class Source(Protocol):
    """Anything with rows: an Observation in memory, or a reader that fetches rows when asked."""

    def __len__(self) -> int: ...

    def take(self, index: Any) -> Observation: ...


def blocks(source: Source, size: int = 256) -> Iterator[Observation]:
    """All rows in their order, `size` at a time, so that no more is in memory; without rows, one empty block."""
    if isinstance(source, Observation):
        yield source
        return
    for start in range(0, max(len(source), 1), size):
        yield source.take(slice(start, min(start + size, len(source))))


@runtime_checkable
class Narrowing(Source, Protocol):
    """A source that leaves parts unread that nobody asks for."""

    def of_parts(self, names: Iterable[str]) -> Source:
        """The same objects with these of its parts alone. Raises MissingModality, here or when read."""
        ...


def of_parts(source: Source, names: Iterable[str]) -> Source:
    """The same objects; other parts are not read where the source can leave them out, and come along where not."""
    return source.of_parts(names) if isinstance(source, Narrowing) else source


@dataclass(frozen=True)
class Chosen:
    """Some rows of a source, read when they are asked for."""

    source: Source
    rows: Integer[np.ndarray, " object"]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Any) -> Observation:
        return self.source.take(self.rows[index])

    def of_parts(self, names: Iterable[str]) -> Chosen:
        """The same rows of fewer parts, as far as the source can."""
        return replace(self, source=of_parts(self.source, names))


@runtime_checkable
class Ordered(Source, Protocol):
    """A source that says itself which of its rows a pass reads, and in which order."""

    epoch_length: int
    """rows that one pass reads"""

    def order(self, seed: int, epoch: int) -> Integer[np.ndarray, " object"]:
        """`epoch_length` rows: a pure function of (seed, epoch)."""
        ...


@runtime_checkable
class Draws(Protocol):
    """Where an augmentation takes its chances from, one number per object: a numpy Generator, or a share of one."""

    def integers(self, high: int, /, *, size: int) -> Integer[np.ndarray, " object"]: ...

    def normal(self, *, size: int) -> Float[np.ndarray, " object"]: ...

    def uniform(self, *, size: int) -> Float[np.ndarray, " object"]: ...


Augment = Callable[[Observation, Draws], Observation]
"""(batch, its own draws) → the batch, changed row by row. Never changes its argument."""


@dataclass(frozen=True)
class Bookmark:
    """Where reading goes on: before global batch `batch` of pass `epoch`."""

    epoch: int = 0
    batch: int = 0

    def state(self) -> dict[str, int]:
        """For a JSON file."""
        return asdict(self)


class Loader:
    """An endless iterator over global batches, this rank's rows of each.

    `loader.bookmark` is where to go on after the last batch that was handed out, also when workers read ahead.
    An epoch ends with its last whole batch; what is left over changes from epoch to epoch.
    """

    def __init__(
        self,
        source: Source,
        batch: int,
        *,
        seed: int = 0,
        augment: Augment | None = None,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 0,
        bookmark: Bookmark | None = None,
    ) -> None:
        self.objects = source.epoch_length if isinstance(source, Ordered) else len(source)
        if not 0 < batch <= self.objects:
            raise BadValue("batch", saw=batch, want=f"1 … {self.objects}, the number of objects")
        if not 0 <= rank < ranks or batch % ranks:
            raise BadValue(
                "ranks", saw=f"rank {rank} of {ranks}, batch {batch}", want="a batch that divides into ranks"
            )
        self.source, self.batch, self.seed, self.augment = source, batch, seed, augment
        self.rank, self.ranks, self.workers = rank, ranks, workers
        self.bookmark = bookmark or Bookmark()
        self._order = lru_cache(2)(self.order)  # drawn once a pass, not once a batch; workers may be in the next one

    @property
    def batches(self) -> int:
        """Whole batches in an epoch."""
        return self.objects // self.batch

    def order(self, epoch: int) -> Integer[np.ndarray, " object"]:
        """The rows of the source in the order of this pass."""
        if isinstance(self.source, Ordered):
            return self.source.order(self.seed, epoch)
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.source))

    def __iter__(self) -> Iterator[Observation]:
        places = self._places()
        if not self.workers:
            for place in places:
                yield self._hand_out(place, self._read(place))
            return
        with ThreadPoolExecutor(self.workers) as pool:
            ahead: list[tuple[Bookmark, Future[Observation]]] = []
            for place in places:
                ahead.append((place, pool.submit(self._read, place)))
                if len(ahead) > 2 * self.workers:
                    first, future = ahead.pop(0)
                    yield self._hand_out(first, future.result())

    def _places(self) -> Iterator[Bookmark]:
        place = self.bookmark
        while True:
            if place.batch >= self.batches:
                place = Bookmark(place.epoch + 1, 0)
            yield place
            place = replace(place, batch=place.batch + 1)

    def _hand_out(self, place: Bookmark, seen: Observation) -> Observation:
        self.bookmark = replace(place, batch=place.batch + 1)
        return seen

    def _read(self, place: Bookmark) -> Observation:
        rows = self._order(place.epoch)[place.batch * self.batch : (place.batch + 1) * self.batch]
        share = slice(self.rank * self.batch // self.ranks, (self.rank + 1) * self.batch // self.ranks)
        if self.augment is None:
            return self.source.take(rows[share])
        # Every rank draws for the whole batch, so that an object's turn does not depend on who reads it.
        draw = np.random.default_rng((self.seed, place.epoch, place.batch))
        return self.augment(self.source.take(rows[share]), _Share(draw, self.batch, share))


class _Share:
    """A generator whose draws are this rank's rows of the whole batch's draws."""

    def __init__(self, draw: np.random.Generator, batch: int, share: slice) -> None:
        self._draw, self._batch, self._share = draw, batch, share

    def integers(self, high: int, /, *, size: int) -> Integer[np.ndarray, " object"]:
        return self._draw.integers(high, size=self._batch)[self._share]

    def normal(self, *, size: int) -> Float[np.ndarray, " object"]:
        return self._draw.normal(size=self._batch)[self._share]

    def uniform(self, *, size: int) -> Float[np.ndarray, " object"]:
        return self._draw.uniform(size=self._batch)[self._share]


def turn(part: Image, turns: Integer[np.ndarray, " object"]) -> Image:
    """Each image by its own symmetry of the square: 0–3 quarter turns, 4–7 the same after a mirror."""
    flux = np.empty_like(part.flux)
    for k in range(8):
        chosen = turns == k
        if chosen.any():
            piece = part.flux[chosen]
            flux[chosen] = np.rot90(piece[..., ::-1] if k >= 4 else piece, k % 4, axes=(-2, -1))
    return replace(part, flux=flux, ivar=None, good=None)


def random_turns(seen: Observation, draw: Draws) -> Observation:
    """Augment: every image by a random symmetry of the square."""
    return _turned(seen, draw.integers(8, size=len(seen)))


def turned(seen: Observation, k: int) -> Observation:
    """All images by the same symmetry of the square, 0 … 7; 0 leaves them as they are."""
    return seen if k == 0 else _turned(seen, np.full(len(seen), k))


def _turned(seen: Observation, turns: Integer[np.ndarray, " object"]) -> Observation:
    return seen | {name: turn(part, turns) for name, part in seen.parts.items() if isinstance(part, Image)}
