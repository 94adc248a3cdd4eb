"""What is odd: objects that lie apart from all others in an embedding.

As the Euclid Q1 work on AstroPT embeddings did (Siudek et al. 2025, arXiv:2503.15312): an isolation forest (Liu et al.
2008, ICDM, 413) and the local outlier factor (Breunig et al. 2000, SIGMOD, 93) by cosine among 5 … 50 neighbours, each
score brought to 0 … 1, and their mean.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from omnisky.embed import Embedding
from omnisky.errors import BadPixels, BadValue

NEIGHBOURS = (5, 10, 20, 50)
LEAST = 10
"""objects, of which fewer are not a crowd that one could stand out from"""


def oddness(embedding: Embedding, *, seed: int = 0) -> Float[np.ndarray, " object"]:
    """How odd each object is, 0 … 1; no unit, and nothing to compare between sets. The strangest: `argsort` of it.

    Neighbours are found once, exactly: a minute for 30,000 objects. Raises BadValue below 10 objects, BadPixels for
    vectors that are not finite.
    """
    x = embedding.vectors
    if len(x) < LEAST:
        raise BadValue("oddness", saw=f"{len(x)} objects", want=f"{LEAST} or more")
    if not np.isfinite(x).all():
        raise BadPixels("embeddings", saw="NaN or infinity", want="finite vectors")
    forest = IsolationForest(n_estimators=200, random_state=seed).fit(x)
    return (_to_unit(-forest.score_samples(x)) + _local(x)) / 2


def _local(x: Float[np.ndarray, "object width"]) -> Float[np.ndarray, " object"]:
    """The local outlier factor, the mean of those at each number of neighbours."""
    every = sorted({min(n, len(x) - 2) for n in NEIGHBOURS})
    near = NearestNeighbors(n_neighbors=every[-1] + 1, metric="cosine").fit(x)
    distances = near.kneighbors_graph(mode="distance")  # of each object to others, not to itself
    scores = []
    for n in every:
        factor = LocalOutlierFactor(n, metric="precomputed").fit(distances)
        scores.append(_to_unit(np.log(-factor.negative_outlier_factor_)))  # a ratio of densities: its logarithm
    return np.mean(scores, axis=0)


def _to_unit(score: Float[np.ndarray, " object"]) -> Float[np.ndarray, " object"]:
    span = float(np.ptp(score))
    return (score - score.min()) / span if span else np.zeros_like(score)
