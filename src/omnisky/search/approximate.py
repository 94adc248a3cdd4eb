"""Many millions of vectors: a graph proposes, cosines of what it proposes decide.

The graph is HNSW (Malkov & Yashunin 2018, arXiv:1603.09320), usearch's, of half-precision copies of the vectors. What
it proposes is ranked by the vectors themselves, so similarities are exact and a neighbour is at worst not proposed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from omnisky.errors import MissingExtra

GRAPH_FROM = 2_000_000
"""rows of a side from which a graph is worth its memory: comparing with all takes 30 ms (64 numbers each) and more"""

_DEGREE, _WIDTH_OF_BUILDING, _WIDTH_OF_SEARCH = 16, 128, 256
_PROPOSED, _MOST = 4, 256
"""candidates an answer, and the most answers a graph is asked for: beyond, comparing with all is as good"""
_BLOCK = 1 << 10

Graph = Any
"""usearch.index.Index"""


def grow(units: Float[np.ndarray, "row width"]) -> Graph:
    """A graph over all rows; by all processors, so that no two are the same. Raises MissingExtra."""
    graph = _usearch().Index(
        ndim=units.shape[1],
        metric="cos",
        dtype="f16",
        connectivity=_DEGREE,
        expansion_add=_WIDTH_OF_BUILDING,
        expansion_search=_WIDTH_OF_SEARCH,
    )
    for start in range(0, len(units), 1 << 16):
        block = np.asarray(units[start : start + (1 << 16)], dtype=np.float32)
        graph.add(np.arange(start, start + len(block), dtype=np.uint64), block)
    return graph


def open_graph(file: Path, shape: tuple[int, int], size: int) -> Graph:
    """What `graph.save` wrote, memory-mapped, of vectors of that shape. Raises ValueError, MissingExtra."""
    if file.stat().st_size != size:  # looked at first: a mapped file that ends early ends the process
        raise ValueError(f"{file.stat().st_size} bytes, not {size}")
    try:
        graph = _usearch().Index.restore(str(file), view=True)
    except RuntimeError as error:
        raise ValueError(error) from error
    if graph is None or (len(graph), graph.ndim) != shape:
        raise ValueError(f"a graph of other vectors, not of {shape}")
    graph.expansion_search = _WIDTH_OF_SEARCH
    return graph


def proposed(
    graph: Graph, units: Float[np.ndarray, "row width"], queries: Float[np.ndarray, "query width"], k: int
) -> tuple[Float[np.ndarray, "query k"], Integer[np.ndarray, "query k"]] | None:
    """Cosines and rows of the k nearest of what the graph proposes; None where it cannot tell k for each query."""
    many = min(_PROPOSED * k, len(units))
    if not 1 <= k <= min(_MOST, len(units)):
        return None
    best, places = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), _BLOCK):
        part = slice(start, start + _BLOCK)
        asked = np.ascontiguousarray(queries[part], dtype=np.float32)
        found = graph.search(asked, many)
        if np.min(getattr(found, "counts", len(found.keys))) < many:
            return None
        rows = np.sort(np.asarray(found.keys, dtype=np.int64).reshape(len(asked), many), axis=1)  # as they lie on disk
        similarity = np.einsum("qcw,qw->qc", units[rows], asked)
        order = similarity.argsort(1)[:, ::-1][:, :k]
        best[part], places[part] = (np.take_along_axis(one, order, 1) for one in (similarity, rows))
    return best, places


def _usearch() -> Any:
    try:
        import usearch.index
    except ImportError as error:
        hint = "pip install 'omnisky[ann]', or exact search: graph_from=None, omnisky index --exact"
        raise MissingExtra("so many vectors are searched by way of usearch", hint=hint) from error
    return usearch.index
