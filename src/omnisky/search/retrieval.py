"""How well an aligned model finds an object in its other modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omnisky.adapt.score import Score, median_rank, recall_at
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
