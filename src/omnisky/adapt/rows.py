"""Objects in whatever form they are handed in: who they are, where they are, and who of them must stay together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int64, Integer

from omnisky.adapt.learn import aside
from omnisky.codec.tokens import Tokens
from omnisky.embed import Embedding, only
from omnisky.embed.fits import holds_embeddings, is_fits
from omnisky.errors import BadPixels, BadValue, MissingModality, ObservationError, ShapeMismatch
from omnisky.observe.arrow import from_arrow
from omnisky.observe.loader import Chosen, Source, blocks
from omnisky.observe.match import Places
from omnisky.observe.read import read
from omnisky.observe.schema import layout_in
from omnisky.observe.shards import Shards, is_shards
from omnisky.observe.sky import SPLIT_DEPTH, cells
from omnisky.observe.types import Observation

DEPTHS = (SPLIT_DEPTH, SPLIT_DEPTH + 2, SPLIT_DEPTH + 4, SPLIT_DEPTH + 6)
"""HEALPix orders that are put aside together, the coarsest at which it works: cells of 55, 14, 3.4 and 0.9 arcmin"""


@dataclass(frozen=True, eq=False)
class Rows:
    """Observations, tokens, embeddings or numbers, and the objects that they are of."""

    held: Any
    """a Source, Tokens, an Embedding or an array"""
    places: Places | None
    """None where nothing is said of them: tokens and arrays"""

    @classmethod
    def of(cls, x: Any) -> Rows:
        """x: Observation, Source, Tokens, Embedding, array (object, width) or (object, token, width), Arrow table of
        either kind, or a path of any. Raises ObservationError.
        """
        if isinstance(x, Rows):
            return x
        if isinstance(x, str | Path):
            x = _opened(x)
        if isinstance(x, pa.Table | pa.RecordBatch):
            x = _of_table(x)
        if isinstance(x, Embedding):
            return cls(x, Places(object_id=x.object_id, ra=x.ra, dec=x.dec))
        if isinstance(x, Tokens):
            return cls(x, None)
        if isinstance(x, Source) and not isinstance(x, np.ndarray):  # an array has rows to take too
            return cls(x, Places.of(x))
        x = np.asarray(x)
        if x.ndim not in (2, 3, 4) or x.dtype.kind not in "fiu":
            want = "observations, tokens, an embedding, a table, a path, or numbers (object, …)"
            raise ObservationError("x", saw=f"{x.dtype} {x.shape}", want=want)
        return cls(x, None)

    def __len__(self) -> int:
        return self.held.objects if isinstance(self.held, Tokens) else len(self.held)

    def take(self, index: Integer[np.ndarray, " chosen"]) -> Rows:
        """The chosen objects; of a source that is not in memory, they are read when asked for."""
        places = None
        if self.places is not None:
            kept = self.places
            places = Places(object_id=kept.object_id[index], ra=kept.ra[index], dec=kept.dec[index])
        if isinstance(self.held, np.ndarray):
            return Rows(self.held[index], places)
        if isinstance(self.held, Tokens | Embedding | Observation):
            return Rows(self.held.take(index), places)
        return Rows(Chosen(self.held, index), places)

    def labelled(self, y: Any) -> tuple[Rows, np.ndarray]:
        """The objects that have a label, and the labels. Of a mapping {object id: label} those without are left out.

        Raises ShapeMismatch, BadPixels (NaN), BadValue (labels of nobody here, ids that come twice).
        """
        rows, labels = self._joined(y) if isinstance(y, Mapping) else (self, np.asarray(y))
        if len(labels) != len(rows) or labels.ndim == 0:
            raise ShapeMismatch(saw=f"{len(rows)} objects, {len(labels)} labels", want="one label each")
        if labels.dtype == object:
            raise BadValue("labels", saw="mixed or missing ones", want="numbers, words, or true and false")
        if labels.dtype.kind == "U" and (labels == "").any():
            lost = int((labels == "").sum())
            raise BadValue(f"{lost} of {len(labels)} labels are empty", want="a label each", hint="leave those out")
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            lost = int((~np.isfinite(labels)).reshape(len(labels), -1).any(1).sum())
            raise BadPixels(f"{lost} of {len(labels)} labels are NaN", want="a label each", hint="leave those out")
        return rows, labels

    def _joined(self, y: Mapping[str, Any]) -> tuple[Rows, np.ndarray]:
        if self.places is None:
            raise BadValue("labels by object id", saw="x without ids", want="observations or an embedding")
        ids = self.places.object_id.tolist()
        if len(set(ids)) < len(ids):
            raise BadValue("object ids", saw=f"{len(ids) - len(set(ids))} that come twice", want="each once")
        if strangers := sorted(set(y) - set(ids)):
            some = " ".join(strangers[:3])
            hint = f"ids here look like {ids[0]!r}; leave out labels of others"
            raise BadValue(f"labels of nobody here: {some} …", saw=f"{len(strangers)} of {len(y)}", want="0", hint=hint)
        there = np.flatnonzero([one in y for one in ids])
        return self.take(there), np.asarray([y[ids[i]] for i in there])

    def column(self, by: str | np.ndarray) -> Float[np.ndarray, " object"]:
        """A number of each object: those told, or a column of its scalars. Raises MissingModality, ShapeMismatch."""
        if isinstance(by, str):
            if not isinstance(self.held, Source) or isinstance(self.held, np.ndarray | Tokens | Embedding):
                what = type(self.held).__name__
                raise MissingModality(f"no column {by!r}", saw=what, want="observations with scalars, or numbers")
            return np.concatenate([one["scalars"][by] for one in blocks(only(self.held, "scalars"))]).astype(float)
        if np.shape(by) != (len(self),):
            raise ShapeMismatch("by", saw=np.shape(by), want=f"({len(self)},), a number for each object")
        return np.asarray(by, dtype=float)

    def aside(self, share: float, seed: int, labels: np.ndarray | None) -> Bool[np.ndarray, " object"]:
        """True for about `share` of the objects, nobody of whom is, or lies in a cell of sky with, one of the others.

        Cells are as large as the set allows (`DEPTHS`); without positions an object's id decides.
        """
        for groups in (*(self._groups(depth) for depth in DEPTHS), self._groups(None)):
            away = aside(groups, share, seed, labels)
            if away.sum() >= share * len(self) / 2:
                break
        return away

    def _groups(self, depth: int | None) -> Int64[np.ndarray, " object"]:
        if self.places is None:
            return np.arange(len(self))
        alone = -1 - np.unique(self.places.object_id, return_inverse=True)[1].astype(np.int64)
        if depth is None:
            return alone
        cell = cells(self.places.take(slice(None)), depth)
        return np.where(cell < 0, alone, cell)


@dataclass(frozen=True, eq=False)
class Seen:
    """Whom a model has learnt from: enough to know them again, not enough to name them."""

    ids: Int64[np.ndarray, " object"]
    """hashes of object ids, or of the rows of an array, sorted"""
    cells: Int64[np.ndarray, " cell"]
    """HEALPix cells of order `SPLIT_DEPTH`, sorted"""

    @classmethod
    def of(cls, rows: Rows) -> Seen:
        ids = np.unique(_ids(rows))
        if rows.places is None:
            return cls(ids, np.zeros(0, np.int64))
        found = np.unique(cells(rows.places.take(slice(None))))
        return cls(ids, found[found >= 0].astype(np.int64))

    def __or__(self, more: Seen) -> Seen:
        return Seen(np.union1d(self.ids, more.ids), np.union1d(self.cells, more.cells))

    def demand_apart(self, rows: Rows) -> None:
        """Raises BadValue where one of these was learnt from, or lies in a cell of sky with one that was."""
        same, near = int(np.isin(_ids(rows), self.ids).sum()), 0
        if rows.places is not None:
            near = int(np.isin(cells(rows.places.take(slice(None))), self.cells).sum())
        if same or near:
            saw = f"of {len(rows)} objects {same} were learnt from, {near} lie in a cell of sky with one that was"
            hint = "split with observe.sky.splits before fitting, or leaky=True"
            raise BadValue("fit and test are not apart", saw=saw, want="none", hint=hint)


def _ids(rows: Rows) -> Int64[np.ndarray, " object"]:
    """A hash of each object's id; of arrays, which carry none, of its numbers; tokens of two objects may be equal."""
    if rows.places is not None:
        named = (str(one).encode() for one in rows.places.object_id.tolist())
    elif isinstance(rows.held, np.ndarray):
        named = (one.tobytes() for one in rows.held)
    else:
        return np.zeros(0, np.int64)
    digests = (blake2b(one, digest_size=8).digest() for one in named)
    return np.asarray([int.from_bytes(one, "big", signed=True) for one in digests], dtype=np.int64)


def _opened(path: str | Path) -> Any:
    if "://" in str(path):
        return read(path)
    path = Path(path).expanduser()
    if is_shards(path):
        return Shards(path)
    if path.suffix == ".parquet" and path.is_file() and "embedding" in pq.read_schema(path).names:
        return Embedding.load(path)
    if is_fits(path) and path.is_file() and holds_embeddings(path):
        return Embedding.load(path)
    return read(path)


def _of_table(table: pa.Table | pa.RecordBatch) -> Any:
    if "embedding" in table.schema.names:
        return Embedding.of(table if isinstance(table, pa.Table) else pa.Table.from_batches([table]))
    if layout_in(table.schema) is not None:
        return from_arrow(table)
    want = "a table of omnisky embed, or observations as scan(…).arrow() lays them out"
    raise ObservationError("a table", saw=tuple(table.schema.names), want=want)
