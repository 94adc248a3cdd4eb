"""What an index is worth: finding an object in its other modality, and telling numbers by those of the neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from omnisky.adapt.score import Score, median_rank, recall_at
from omnisky.embed import Embedding
from omnisky.search.index import Index


@dataclass(frozen=True)
class Retrieval:
    """How well objects find themselves in the other modality."""

    recall: Mapping[int, Score]
    """k → share of objects whose own is among the k nearest"""
    median_rank: Score
    among: int
    """how many there are to choose from: by chance recall@k is k / among, the median rank half of it"""


def retrieval(index: Index, by: str, across: str, k: Sequence[int] = (1, 10)) -> Retrieval:
    """Recall and median rank of this direction, with bootstrap errors over the objects that ask."""
    ranks = index.ranks(by, across)
    return Retrieval({one: recall_at(ranks, one) for one in k}, median_rank(ranks), len(index.side(across)))


def by_neighbours(
    index: Index, query: Embedding, column: str, *, by: str | None = None, across: str | None = None, k: int = 16
) -> Float[np.ndarray, " query"]:
    """The median of a column of the catalogue over the k nearest objects: a number for what was never trained on it."""
    rows = index.like(query, k, by=by, across=across).rows
    return np.nanmedian(index.objects["scalars"][column][rows], axis=1)
