"""The map: embeddings laid out on a plane."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float

from omnisky.embed import Embedding
from omnisky.search.index import Index


@dataclass(frozen=True, eq=False)
class FlatMap:
    """Embeddings laid out on a plane, for looking at: near things were near, far things mean little."""

    xy: Float[np.ndarray, "object 2"]
    method: str
    """how it was made, for the caption"""


def flat_map(embedding: Embedding, neighbours: int = 15, seed: int = 0) -> FlatMap:
    """UMAP (McInnes et al. 2018, arXiv:1802.03426) on our exact cosine neighbours, or, without the `map` extra, PCA."""
    index = Index(embedding)
    units = index.side().units
    axes = np.linalg.svd(units - units.mean(0), full_matrices=False)[2][:2]
    start = (units @ axes.T).astype(np.float32)
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
        return FlatMap(fit.fit_transform(units).astype(np.float32), "UMAP")
