"""Look-alikes: the nearest embeddings by cosine, within one modality and across; exactly, up to two million a side.

index = Index({"image": images, "spectrum": spectra}, catalogue=seen)  # both of one aligned model
index.like_ids(["39633"], by="image", across="spectrum", where=Where(between={"redshift": (0.1, 0.2)}))
index.save("sky-index"); Index.open("sky-index")                       # vectors stay on disk, memory-mapped
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Integer

from omnisky.embed import Embedding
from omnisky.errors import BadValue, CorruptFile, MissingModality, ProvenanceError, ShapeMismatch
from omnisky.observe.place import apart_deg
from omnisky.observe.types import Observation
from omnisky.search.approximate import GRAPH_FROM, Graph, grow, open_graph, proposed
from omnisky.search.catalogue import Where, columns, objects_of, union
from omnisky.storage import atomic

BLOCK = 1 << 16
"""rows of a side that are compared at a time: 64 MB of 256 numbers each"""
GROUP = 64
"""numbers of which only the largest is looked at first"""


@dataclass(frozen=True, eq=False)
class Matches:
    """The nearest objects to each query, nearest first."""

    rows: Integer[np.ndarray, "query k"]
    """rows of `Index.objects`"""
    similarity: Float[np.ndarray, "query k"]
    """cosine, −1 … 1"""
    object_id: np.ndarray
    """strings, (query, k)"""


@dataclass(frozen=True, eq=False)
class Side:
    """One modality's embeddings."""

    units: Float[np.ndarray, "row width"]
    """on the unit sphere, after `mean` was taken away; perhaps memory-mapped"""
    mean: Float[np.ndarray, " width"]
    rows: Integer[np.ndarray, " row"]
    """of `Index.objects`, whose they are"""
    graph: Graph | None = None
    """of a side so large that not every row is compared"""

    def __len__(self) -> int:
        return len(self.rows)

    def unit(self, vectors: Float[np.ndarray, "object width"]) -> Float[np.ndarray, "object width"]:
        """Other embeddings of this side, treated as these were. Raises ShapeMismatch."""
        if vectors.shape[1:] != self.mean.shape:
            raise ShapeMismatch("embeddings", saw=f"{vectors.shape[1]} numbers", want=f"{len(self.mean)}")
        return _unit(vectors - self.mean)


class Index:
    """Embeddings to search in: one modality's, or several that one aligned model made, each a side.

    Of each side its mean is taken away first: it is what all its objects share (`centred=False` leaves it in).
    `catalogue` holds columns to filter by, in any order and perhaps of other objects too; who is not in it has NaN.
    Sides of `graph_from` rows and more get a graph (extra `ann`; see `approximate`); None: all is compared, always.
    Raises ProvenanceError when sides were made by different models, ShapeMismatch, BadValue, MissingExtra.
    """

    def __init__(
        self,
        sides: Embedding | Mapping[str, Embedding],
        *,
        catalogue: Observation | None = None,
        centred: bool = True,
        graph_from: int | None = GRAPH_FROM,
    ) -> None:
        named = {"embedding": sides} if isinstance(sides, Embedding) else dict(sides)
        if not named or not all(len(one) for one in named.values()):
            raise BadValue("an index", saw="no embeddings", want="one or more in each side")
        self.signature = next(iter(named.values())).signature
        for one in named.values():
            self._demand_ours(one)
        widths = {name: one.vectors.shape[1] for name, one in named.items()}
        if len(set(widths.values())) > 1:
            raise ShapeMismatch("sides of other widths", saw=widths, want="one space for all sides")
        self.objects, rows = union(named)
        if catalogue is not None:
            self.objects |= {"scalars": columns(catalogue, self.objects.object_id)}
        self.sides = {name: _side(one.vectors, rows[name], centred, graph_from) for name, one in named.items()}
        self._begin()

    def _begin(self) -> None:
        self._row = {name: i for i, name in enumerate(self.objects.object_id.tolist())}

    def __len__(self) -> int:
        return len(self.objects)

    def side(self, name: str | None = None) -> Side:
        """A side by name; None is the only one. Raises MissingModality, BadValue."""
        if name is None and len(self.sides) > 1:
            raise BadValue("which side", saw="no name", want=tuple(self.sides), hint="by=… and across=…")
        name = next(iter(self.sides)) if name is None else name
        if name not in self.sides:
            raise MissingModality(saw=name, want=tuple(self.sides))
        return self.sides[name]

    # --- questions ---

    def like(
        self,
        query: Embedding,
        k: int = 10,
        *,
        by: str | None = None,
        across: str | None = None,
        where: Where | None = None,
    ) -> Matches:
        """The k nearest to each query, an embedding of modality `by`, among those of modality `across` (None: of `by`).

        Raises ProvenanceError when another model, layer or codec made the query, and BadValue where fewer than k may
        answer.
        """
        self._demand_ours(query)
        asked = self.side(by).unit(query.vectors)
        return self._nearest(asked, k, self.side(across or by), where)

    def like_ids(
        self,
        object_id: Sequence[str],
        k: int = 10,
        *,
        by: str | None = None,
        across: str | None = None,
        where: Where | None = None,
    ) -> Matches:
        """The k nearest to objects of the index. Themselves are left out, but may be found across modalities.

        Raises MissingModality for an id that is not in the index, or has no modality `by`.
        """
        asked, rows = self._known(object_id, by)
        themselves = rows[:, None] if across in (None, by) else np.empty((len(rows), 0), dtype=rows.dtype)
        return self._nearest(asked, k, self.side(across or by), where, themselves)

    def like_all(
        self,
        wanted: Sequence[str] | Embedding,
        k: int = 10,
        *,
        unwanted: Sequence[str] | Embedding = (),
        by: str | None = None,
        across: str | None = None,
        where: Where | None = None,
    ) -> Matches:
        """One row: the k nearest to the mean of several examples, less the mean of those that are not meant.

        Each example counts the same, whatever its length. Examples of the index are left out of the answer.
        """
        if not len(wanted):
            raise BadValue("examples", saw="none", want="at least one that is wanted")
        (asked, rows), (other, others) = (self._examples(some, by) for some in (wanted, unwanted))
        direction = asked.mean(0) - (other.mean(0) if len(other) else 0)
        left_out = np.concatenate([rows, others])[None]
        return self._nearest(_unit(direction[None]), k, self.side(across or by), where, left_out)

    def at(self, ra: float, dec: float, radius_arcsec: float = 5.0) -> str:
        """The id of the object nearest to a place (deg, ICRS). Raises MissingModality where there is none."""
        apart_arcsec = apart_deg(self.objects.ra, self.objects.dec, ra, dec) * 3600
        if not np.isfinite(apart_arcsec).any():
            raise MissingModality("this index knows no positions", hint="search by object id")
        nearest = int(np.nanargmin(apart_arcsec))
        if apart_arcsec[nearest] > radius_arcsec:
            saw = f"the nearest, {self.objects.object_id[nearest]}, {apart_arcsec[nearest]:.1f} arcsec away"
            raise MissingModality(f"nothing at {ra} {dec}", saw=saw, want=f"an object within {radius_arcsec} arcsec")
        return str(self.objects.object_id[nearest])

    def ranks(self, by: str, across: str) -> Integer[np.ndarray, " query"]:
        """Of each object that has both: the place of its own `across` among all of that side, 1 the first.

        What is exactly as near as its own comes before it.
        """
        asked, among = self.side(by), self.side(across)
        _, mine, own = np.intersect1d(asked.rows, among.rows, return_indices=True)
        place, many = [], max(1, (1 << 25) // len(among))
        for start in range(0, len(mine), many):
            part = slice(start, start + many)
            similarity = asked.units[mine[part]] @ among.units.T
            true = np.take_along_axis(similarity, own[part][:, None], 1)
            place.append((similarity >= true).sum(1))
        return np.concatenate([*place, np.empty(0, np.int64)])

    # --- on disk ---

    def save(self, folder: str | Path) -> Path:
        """A folder: index.json, objects.parquet, and of each side its vectors and rows. Whole or not at all."""
        about: dict[str, Any] = {"omnisky": 1, "signature": self.signature}
        about["sides"] = {name: len(side) for name, side in self.sides.items()}
        table = {"object_id": self.objects.object_id.tolist(), "ra": self.objects.ra, "dec": self.objects.dec}
        if "scalars" in self.objects:
            scalars = self.objects["scalars"]
            table |= {f"scalars:{name}": scalars[name] for name in scalars.names}
            about["units"] = dict(zip(scalars.names, scalars.units or ("",) * len(scalars.names), strict=True))
        with atomic(folder) as draft:
            draft.mkdir()
            pq.write_table(pa.table(table), draft / "objects.parquet")
            for name, side in self.sides.items():
                for what in ("units", "mean", "rows"):
                    np.save(draft / f"{name}.{what}.npy", getattr(side, what))
                if side.graph is not None:
                    side.graph.save(str(draft / f"{name}.usearch"))
                    about.setdefault("graphs", {})[name] = (draft / f"{name}.usearch").stat().st_size
            (draft / "index.json").write_text(json.dumps(about, indent=1))
        return Path(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """What `save` wrote, its vectors memory-mapped. Raises CorruptFile, naming the file, and MissingExtra."""
        folder, index = Path(folder), cls.__new__(cls)
        file = folder / "index.json"
        try:
            about = json.loads(file.read_text())
            index.signature = about["signature"]
            file = folder / "objects.parquet"
            index.objects = objects_of(pq.read_table(file), about.get("units", {}))
            index.sides = {}
            for name, count in about["sides"].items():
                file = folder / f"{name}.units.npy"
                units = np.load(file, mmap_mode="r")
                mean, rows = (np.load(file := folder / f"{name}.{what}.npy") for what in ("mean", "rows"))
                if not len(units) == len(rows) == count or units.shape[1:] != mean.shape:
                    raise ValueError(f"{units.shape} vectors, {len(rows)} rows, not {count}")
                graph, size = None, about.get("graphs", {}).get(name)
                if size is not None:
                    file = folder / f"{name}.usearch"
                    graph = open_graph(file, units.shape, size)
                index.sides[name] = Side(units, mean, rows, graph)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise CorruptFile(
                f"{file}: {error}", want="a folder written by Index.save", hint="build it again"
            ) from error
        index._begin()
        return index

    # --- inside ---

    def _demand_ours(self, embedding: Embedding) -> None:
        if embedding.signature != self.signature:
            raise ProvenanceError(
                "these embeddings cannot be compared",
                saw=embedding.signature,
                want=self.signature,
                hint="embed both with the same model, layer and precision",
            )

    def _known(self, object_id: Sequence[str], by: str | None) -> tuple[np.ndarray, np.ndarray]:
        """The unit vectors of objects of the index, and their rows in `objects`."""
        unknown = [name for name in object_id if name not in self._row]
        if unknown:
            raise MissingModality("not in this index", saw=tuple(unknown[:3]), want="object ids of the index")
        rows, side = np.asarray([self._row[name] for name in object_id], dtype=np.int64), self.side(by)
        place = _place_of(side.rows, len(self))[rows]
        if (place < 0).any():
            without = tuple(np.asarray(object_id)[place < 0][:3].tolist())
            raise MissingModality(f"objects without {by!r}", saw=without, want="ids that have it", hint="another by=")
        return np.asarray(side.units[place]), rows

    def _examples(self, some: Sequence[str] | Embedding, by: str | None) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(some, Embedding):
            self._demand_ours(some)
            return self.side(by).unit(some.vectors), np.empty(0, dtype=np.int64)
        return self._known(some, by)

    def _nearest(
        self,
        queries: Float[np.ndarray, "query width"],
        k: int,
        side: Side,
        where: Where | None,
        left_out: Integer[np.ndarray, "query other"] | None = None,
    ) -> Matches:
        """By the side's graph where it has one and nothing is filtered away, else by comparing with all."""
        spare = 0 if left_out is None else left_out.shape[1]
        found = None
        if side.graph is not None and where is None:
            found = proposed(side.graph, side.units, queries, k + spare)
        allowed = None if where is None else np.nonzero(where.keeps(self.objects)[side.rows])[0]
        best, places = _of_all(side.units, queries, k + spare, allowed) if found is None else found
        most = len(side) if allowed is None else len(allowed)
        rows = side.rows[places]
        if left_out is not None:
            unwelcome = (rows[:, :, None] == left_out[:, None, :]).any(-1)
            order = unwelcome.argsort(1, kind="stable")
            best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
            most = rows.shape[1] - int(unwelcome.sum(1).max(initial=0))
        if not 1 <= k <= most:
            raise BadValue("k", saw=k, want=f"1 … {most}", hint="a wider filter" if where is not None else "")
        rows = rows[:, :k]
        return Matches(rows, best[:, :k], self.objects.object_id[rows])


def _unit(vectors: Float[np.ndarray, "row width"]) -> Float[np.ndarray, "row width"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _side(
    vectors: Float[np.ndarray, "row width"], rows: Integer[np.ndarray, " row"], centred: bool, graph_from: int | None
) -> Side:
    mean = vectors.mean(0) if centred else np.zeros_like(vectors[0])
    units = _unit(vectors - mean)
    return Side(units, mean, rows, None if graph_from is None or len(units) < graph_from else grow(units))


def _of_all(
    units: Float[np.ndarray, "row width"],
    queries: Float[np.ndarray, "query width"],
    k: int,
    allowed: Integer[np.ndarray, " allowed"] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and rows of the k nearest, fewer where fewer are allowed; block by block, so that vectors on disk are
    read once and never all in memory."""
    most = len(units) if allowed is None else len(allowed)
    best, places = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for start in range(0, most, BLOCK):
        block = np.arange(start, min(start + BLOCK, most)) if allowed is None else allowed[start : start + BLOCK]
        vectors = units[start : start + BLOCK] if allowed is None else units[block]
        similarity = queries @ vectors.T
        if k < len(block):  # of a block the best alone: all else of it is never copied
            chosen = _largest(similarity, k)
            similarity, block = np.take_along_axis(similarity, chosen, 1), block[chosen]
        similarity = np.concatenate([best, similarity], axis=1)
        places = np.concatenate([places, np.broadcast_to(block, (len(queries), block.shape[-1]))], axis=1)
        order = similarity.argsort(1)[:, ::-1][:, :k]
        best, places = (np.take_along_axis(one, order, 1) for one in (similarity, places))
    return best, places


def _largest(numbers: Float[np.ndarray, "row number"], k: int) -> Integer[np.ndarray, "row k"]:
    """Columns of the k largest of each row, in no order. They lie in the k groups whose own largest are largest."""
    columns = None
    if numbers.shape[1] > 4 * k * GROUP:
        whole = numbers.shape[1] // GROUP * GROUP
        groups = np.fmax.reduce(numbers[:, :whole].reshape(len(numbers), -1, GROUP), axis=2)
        chosen = np.argpartition(-groups, k - 1, axis=1)[:, :k, None] * GROUP + np.arange(GROUP)
        rest = np.broadcast_to(np.arange(whole, numbers.shape[1]), (len(numbers), numbers.shape[1] - whole))
        columns = np.concatenate([chosen.reshape(len(numbers), -1), rest], axis=1)
        numbers = np.take_along_axis(numbers, columns, 1)
    found = np.argpartition(-numbers, k - 1, axis=1)[:, :k]
    return found if columns is None else np.take_along_axis(columns, found, 1)


def _place_of(rows: Integer[np.ndarray, " row"], n: int) -> Integer[np.ndarray, " object"]:
    """Where in a side each object is; −1 where it is not."""
    place = np.full(n, -1)
    place[rows] = np.arange(len(rows))
    return place
