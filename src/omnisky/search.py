"""Look-alikes: the nearest embeddings by cosine, exactly."""

from __future__ import annotations

from dataclasses import dataclass

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
