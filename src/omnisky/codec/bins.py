"""Numbers ↔ the bins they fall into; and where the bins lie, from one pass over data of any size.

Bin t holds what is above level t−1 and up to level t. What is below the first level is in bin 0, what is above the last
in the last bin: 1,024 levels make 1,024 bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64, Integer, UInt64
from torch import Tensor

from omnisky.errors import BadValue, ShapeMismatch

CELLS = 1 << 15
"""of the table: 256 kB, so that it stays in the cache"""
FEW = 2048
"""numbers, below which a binary search of torch is as fast"""
PIECE = 1 << 16
"""numbers at a time, for the cache again, and for threads to take"""


@dataclass(frozen=True, eq=False)
class Bins:
    """Looks up in which bin a number lies: what torch.bucketize finds, several times as fast.

    A number names one of many small cells; a table says how many levels lie before the cell, and the few levels within
    it are searched without branches. Any way from numbers to cells will do that does not fall: equal steps where levels
    are spread evenly enough, or the leading bits of a float, which grow with its logarithm.
    """

    levels: Float32[Tensor, " level"]
    """rising"""

    def __call__(self, values: Float32[Tensor, " number"]) -> Int64[Tensor, " number"]:
        """0 … levels−1; of NaN, any of them."""
        found = torch.empty(len(values), dtype=torch.int64)
        self.fill(found, values)
        return found

    def fill(self, found: Int64[Tensor, " number"], values: Float32[Tensor, " number"]) -> None:
        """The bins of values, into `found`: piece by piece, so that all happens in the cache.

        By NumPy, whose threads do not share out each of these short operations and wait for each other after it, as
        torch's do: as many threads as torch may use take the next piece whenever they are done with one.
        """
        if len(values) < FEW:
            found.copy_(torch.bucketize(values, self.levels[:-1]))
            return
        starts, table = iter(range(0, len(values), PIECE)), self._table
        threads = min(torch.get_num_threads(), len(values) // PIECE)
        if threads < 2:
            table.fill(found.numpy(), values.numpy(), starts)
            return
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(table.fill, found.numpy(), values.numpy(), starts) for _ in range(threads)]:
                done.result()

    @cached_property
    def _table(self) -> _Table:
        edges, counts = np.unique(self.levels[:-1].numpy() + 0.0, return_counts=True)  # + 0: no −0
        first = np.concatenate([[0], counts.cumsum()])
        ways = (_EqualSteps.over(edges), _LeadingBits.over(edges))
        tables = [_Table.of(edges, None if len(edges) == len(self.levels) - 1 else first, way) for way in ways]
        return min(tables, key=lambda table: len(table.steps))


@dataclass(frozen=True, eq=False)
class _Table:
    way: _EqualSteps | _LeadingBits
    edges: Float32[np.ndarray, " edge"]
    """each once, and infinities after the last"""
    first: Int64[np.ndarray, " bin"] | None
    """the bin below each edge, where edges were repeated"""
    before: Int64[np.ndarray, " cell"]
    steps: tuple[int, ...]
    """halvings of the largest number of edges within a cell"""

    @classmethod
    def of(cls, edges: np.ndarray, first: np.ndarray | None, way: _EqualSteps | _LeadingBits) -> _Table:
        cell = way.cells(edges, np.empty(len(edges), np.int32))
        before = np.searchsorted(cell.clip(0, CELLS - 1), np.arange(CELLS + 1))
        most = int(np.diff(before).max())
        steps = tuple(1 << i for i in reversed(range(most.bit_length())))
        padded = np.append(edges, np.full(2 << most.bit_length(), np.inf, np.float32))
        return cls(way, padded, first, before[:-1], steps)

    def fill(self, found: np.ndarray, values: np.ndarray, starts: Iterator[int]) -> None:
        """The bins of values, into `found`, piece by piece until no start is left."""
        # Made once: for each piece anew they would be handed back to the system and zeroed again.
        spare = [np.empty(min(PIECE, len(values)), kind) for kind in (np.int64, np.int32, np.float32, np.bool_)]
        for start in starts:
            piece = values[start : start + PIECE]
            self._search(found[start : start + PIECE], piece, *(one[: len(piece)] for one in spare))

    def _search(
        self,
        found: np.ndarray,
        values: np.ndarray,
        t: np.ndarray,
        cell: np.ndarray,
        edge: np.ndarray,
        above: np.ndarray,
    ) -> None:
        t = found if self.first is None else t
        self.before.take(self.way.cells(values, cell, edge), out=t, mode="clip")
        for step in self.steps:
            self.edges[step - 1 :].take(t, out=edge, mode="clip")
            np.add(t, step, out=t, where=np.less(edge, values, out=above))
        if self.first is not None:
            self.first.take(t, out=found, mode="clip")


@dataclass(frozen=True)
class _EqualSteps:
    low: float
    per_unit: float

    @classmethod
    def over(cls, edges: np.ndarray) -> _EqualSteps:
        low, high = float(edges[0]), float(edges[-1])
        return cls(low, CELLS / (high - low) if high > low else 1.0)

    def cells(self, values: np.ndarray, out: np.ndarray, spare: np.ndarray | None = None) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # the largest numbers, and NaN
            steps = np.subtract(values, self.low, out=spare)
            np.clip(np.multiply(steps, self.per_unit, out=steps), -1, CELLS, out=steps)
            return np.floor(steps, out=out, casting="unsafe")


@dataclass(frozen=True)
class _LeadingBits:
    shift: int
    low: int
    signed: bool

    @classmethod
    def over(cls, edges: np.ndarray) -> _LeadingBits:
        low, high = _ordered(edges[[0, -1]]).tolist()
        shift = max(1, ((high - low) // CELLS).bit_length())  # 1: so that no difference overflows
        return cls(shift, low >> shift, low < 0)

    def cells(self, values: np.ndarray, out: np.ndarray, spare: np.ndarray | None = None) -> np.ndarray:
        bits = _ordered(values, out) if self.signed else values.view(np.int32)
        cell = np.right_shift(bits, self.shift, out=out)
        return np.subtract(cell, self.low, out=cell)


def _ordered(values: Float32[np.ndarray, "*number"], out: np.ndarray | None = None) -> Int32[np.ndarray, "*number"]:
    """Integers that are ordered as the floats are."""
    bits = values.view(np.int32)
    flip = np.right_shift(bits, 31, out=out)
    return np.bitwise_xor(np.bitwise_and(flip, 0x7FFFFFFF, out=flip), bits, out=flip)


def largest(squeezed: Callable[[Tensor], Tensor], levels: Float32[Tensor, "*level"]) -> Float32[Tensor, "*level"]:
    """The largest number that is squeezed to a level or below, found by halving; `squeezed` must not fall.

    Where there is none, the smallest number there is, and where all are, infinity.
    """
    ends = np.array([-np.finfo(np.float32).max, np.inf], np.float32)
    low, high = (np.full(levels.shape, end, np.int64) for end in _ordered(ends))
    while (low < high).any():
        middle = (low + high + 1) >> 1
        fits = (squeezed(torch.from_numpy(_floats(middle))) <= levels).numpy()
        low, high = np.where(fits, middle, low), np.where(fits, high, middle - 1)
    return torch.from_numpy(_floats(low))


def _floats(ordered: Int64[np.ndarray, "*number"]) -> Float32[np.ndarray, "*number"]:
    """Back from `_ordered`, which is its own inverse."""
    return _ordered(ordered.astype(np.int32).view(np.float32)).view(np.float32)


# --- where the bins lie --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """At most `size` objects of a stream, each as likely as every other.

    Who is kept is decided by a hash of the object's id: so samples of shards may be taken anywhere and merged in any
    order, and an object that was seen in two of them counts once. Up to `size` objects, it is all of them.
    """

    size: int
    priority: UInt64[np.ndarray, " object"] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """rising; the smallest are kept"""
    values: Float[np.ndarray, "object column"]

    @classmethod
    def empty(cls, size: int, columns: int) -> Sample:
        if size < 2:
            raise BadValue("size of a sample", saw=size, want="2 or more")
        return cls(size=size, values=np.zeros((0, columns), np.float32))

    def __len__(self) -> int:
        return len(self.priority)

    def add(self, object_id: np.ndarray, values: Float[np.ndarray, "object column"]) -> Sample:
        """With these objects; rows with a NaN are left out."""
        if len(object_id) != len(values) or values.shape[1] != self.values.shape[1]:
            want = f"({len(object_id)}, {self.values.shape[1]})"
            raise ShapeMismatch("values of a sample", saw=values.shape, want=want)
        priority = hashed(object_id)
        kept = ~np.isnan(values).any(axis=1)
        if len(self) == self.size:
            kept &= priority < self.priority[-1]
        if not kept.any():
            return self
        return self._with(priority[kept], values[kept])

    def __or__(self, other: Sample) -> Sample:
        """Of both streams together."""
        if (other.size, other.values.shape[1]) != (self.size, self.values.shape[1]):
            raise BadValue("samples of two kinds", saw=f"size {other.size}", want=f"size {self.size}")
        return self._with(other.priority, other.values)

    def _with(self, priority: np.ndarray, values: np.ndarray) -> Sample:
        together = np.concatenate([self.priority, priority])
        both = np.concatenate([self.values, values.astype(np.float32, copy=False)])
        # Objects of one id are rare; that of smallest values stays, so that the order they came in does not matter.
        order = np.lexsort((*both.T[:1], together))
        once = np.concatenate([[True], np.diff(together[order]) > 0]) if len(order) else np.zeros(0, bool)
        order = order[once][: self.size]
        return Sample(size=self.size, priority=together[order], values=both[order])

    def levels(self, count: int = 1024) -> Float32[Tensor, "column level"]:
        """Equally many objects between each two: the quantiles 0 … 1, linear between objects."""
        if len(self) < 2:
            raise BadValue("a sample too small for quantiles", saw=f"{len(self)} objects", want="2 or more")
        quantiles = np.quantile(self.values.astype(np.float64), np.linspace(0, 1, count), axis=0)
        return torch.from_numpy(quantiles.T.astype(np.float32).copy())


def hashed(object_id: np.ndarray) -> UInt64[np.ndarray, " object"]:
    """64 well-mixed bits of each id, the same on every machine and however wide the array of strings is."""
    letters = np.ascontiguousarray(object_id.astype(np.str_))
    codes = letters.view(np.uint32).reshape(len(letters), letters.dtype.itemsize // 4)
    bits = np.full(len(letters), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in codes.T.astype(np.uint64):
        bits = np.where(column > 0, _mixed(bits ^ column), bits)  # 0 is the padding
    return _mixed(bits)


def _mixed(bits: Integer[np.ndarray, " object"]) -> UInt64[np.ndarray, " object"]:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014, OOPSLA)."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
