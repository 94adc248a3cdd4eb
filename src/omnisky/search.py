"""Look-alikes: the nearest embeddings by cosine, exactly."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float, Integer

from omnisky.embed import Embedding
from omnisky.errors import BadValue, MissingModality, ProvenanceError


@dataclass(frozen=True, eq=False)
class Matches:
    """The nearest objects to each query, nearest first."""

    rows: Integer[np.ndarray, "query k"]
    """rows of the index"""
    similarity: Float[np.ndarray, "query k"]
    """cosine, −1 … 1"""
    object_id: np.ndarray
    """strings, (query, k)"""


class Index:
    """Embeddings to search in. Their mean is taken away first: it is what all objects share."""

    def __init__(self, embedding: Embedding) -> None:
        self.embedding = embedding
        self.mean = embedding.vectors.mean(0)
        self.units = self._unit(embedding.vectors)
        self._row = {name: i for i, name in enumerate(embedding.object_id.tolist())}

    def __len__(self) -> int:
        return len(self.units)

    def like(self, query: Embedding, k: int = 10) -> Matches:
        """The k nearest to each query. Raises ProvenanceError when another model, layer or codec made the query."""
        if query.signature != self.embedding.signature:
            raise ProvenanceError(
                "these embeddings cannot be compared",
                saw=query.signature,
                want=self.embedding.signature,
                hint="embed both with the same model, layer and precision",
            )
        return self._nearest(self._unit(query.vectors), k, None)

    def like_ids(self, object_id: list[str], k: int = 10) -> Matches:
        """The k nearest to objects of the index, themselves left out. Raises MissingModality for an unknown id."""
        unknown = [name for name in object_id if name not in self._row]
        if unknown:
            raise MissingModality("not in this index", saw=tuple(unknown[:3]), want="object ids of the index")
        rows = np.asarray([self._row[name] for name in object_id])
        return self._nearest(self.units[rows], k, rows)

    def _unit(self, vectors: Float[np.ndarray, "object width"]) -> Float[np.ndarray, "object width"]:
        centred = vectors - self.mean
        return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)

    def _nearest(
        self, queries: Float[np.ndarray, "query width"], k: int, themselves: Integer[np.ndarray, " query"] | None
    ) -> Matches:
        most = len(self) - (themselves is not None)
        if not 1 <= k <= most:
            raise BadValue("k", saw=k, want=f"1 … {most}")
        similarity = queries @ self.units.T
        if themselves is not None:
            similarity[np.arange(len(themselves)), themselves] = -np.inf
        rows = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        order = np.take_along_axis(similarity, rows, 1).argsort(1)[:, ::-1]
        rows = np.take_along_axis(rows, order, 1)
        return Matches(rows, np.take_along_axis(similarity, rows, 1), self.embedding.object_id[rows])


@dataclass(frozen=True, eq=False)
class FlatMap:
    """Embeddings laid out on a plane, for looking at: near things were near, far things mean little."""

    xy: Float[np.ndarray, "object 2"]
    method: str
    """how it was made, for the caption"""


def flat_map(embedding: Embedding, neighbours: int = 15, seed: int = 0) -> FlatMap:
    """UMAP (McInnes et al. 2018, arXiv:1802.03426) on our exact cosine neighbours, or, without the `map` extra, PCA."""
    index = Index(embedding)
    axes = np.linalg.svd(index.units - index.units.mean(0), full_matrices=False)[2][:2]
    start = (index.units @ axes.T).astype(np.float32)
    if find_spec("umap") is None or len(index) <= neighbours:
        return FlatMap(start, "PCA")
    with warnings.catch_warnings():  # umap warns of what we ask for: a fixed seed, so one thread; given neighbours
        warnings.simplefilter("ignore")
        import umap

        near = index.like(embedding, neighbours)
        graph = (near.rows.astype(np.int32), (1 - near.similarity).clip(0).astype(np.float32))
        fit = umap.UMAP(
            n_neighbors=neighbours,
            init=10 * start / np.abs(start).max(),
            precomputed_knn=(*graph, None),
            metric="cosine",
            random_state=seed,
        )
        return FlatMap(fit.fit_transform(index.units).astype(np.float32), "UMAP")
