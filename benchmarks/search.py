"""Search: the ten nearest of vectors of 256 numbers by cosine, as `Index` finds them.

Exact search stands beside scikit-learn's brute force on the same unit vectors, whose Euclidean neighbours are the
nearest by cosine: many questions at once are products, a single one is a walk through memory. The graph of `usearch`
stands beside our own exact search, and tells its recall, which must be RECALL at least. Exact answers are compared by
their cosines.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import harness
from benchmarks.harness import Comparison, Job, Worker, versions_here

if TYPE_CHECKING:
    import numpy as np

    from omnisky.embed import Embedding

OBJECTS, OF_GRAPH, QUICK, WIDTH, NEAREST = 500_000, 100_000, 20_000, 256, 10
QUESTIONS = (64, 1)
ROUNDED, RECALL = 1e-4, 0.95
"""how far cosines of exact search may be apart; the least share of true neighbours that a graph finds"""


def comparisons(quick: bool = False) -> Iterator[Comparison]:
    """`quick` ones have fewer vectors and prove only that everything runs."""
    n, of_graph = (QUICK, QUICK // 4) if quick else (OBJECTS, OF_GRAPH)
    for questions in QUESTIONS:
        given = {"n": n, "questions": questions}
        products = questions > 1
        yield Comparison(
            name=f"search/exact-{questions}-among-{n // 1000}k-over-scikit-learn",
            ours=Job("ours", "exact", given),
            theirs=Job("scikit-learn", "brute", given),
            unit="questions",
            work=questions,
            target=None,
            agree=ROUNDED,
            flops=2.0 * questions * n * WIDTH if products else None,
            moved=None if products else 4.0 * n * WIDTH,
            repeats=5,
        )
    given = {"n": of_graph, "questions": QUESTIONS[0]}
    yield Comparison(
        name=f"search/graph-{QUESTIONS[0]}-among-{of_graph // 1000}k-over-exact",
        ours=Job("ours", "graph", given),
        theirs=Job("exact", "exact", given),
        unit="questions",
        work=QUESTIONS[0],
        target=None,
        agree=float("inf"),  # it may miss some: what share, is in the row
        repeats=5,
    )


def workers() -> dict[str, Worker]:
    """One process a side."""
    return {name: Worker(Path(sys.executable), "benchmarks.search") for name in ("ours", "scikit-learn", "exact")}


def versions() -> dict[str, str]:
    """Of what takes part."""
    return versions_here("omnisky", "numpy", "scikit-learn", "usearch")


# --- the workers -------------------------------------------------------------------------------------------------


@cache
def embedding(n: int) -> Embedding:
    """A sky of objects."""
    import numpy as np

    from omnisky.embed import Embedding

    unknown = np.full(n, np.nan)
    return Embedding(drawn(np.random.default_rng(0), n), np.arange(n).astype(str), unknown, unknown, "made up")


def drawn(draw: np.random.Generator, n: int) -> np.ndarray:
    """Vectors with a few strong directions and many weak ones."""
    import numpy as np

    spread = (np.arange(1, WIDTH + 1) ** -1.0).astype(np.float32)
    return draw.standard_normal((n, WIDTH), dtype=np.float32) * spread


def asked(n: int, questions: int) -> Embedding:
    """Other objects of the same sky, none of the index."""
    from dataclasses import replace

    import numpy as np

    some = embedding(n).take(slice(0, questions))
    return replace(some, vectors=drawn(np.random.default_rng(1), questions))


def exact(folder: Path, n: int, questions: int) -> Callable[[], np.ndarray]:
    """All are compared."""
    from omnisky.search import Index

    index, question = Index(embedding(n), graph_from=None), asked(n, questions)
    return lambda: index.like(question, NEAREST).similarity


def graph(folder: Path, n: int, questions: int) -> Callable[[], np.ndarray]:
    """Those that a graph proposes; growing it is not timed."""
    import numpy as np

    from omnisky.search import Index

    index, question = Index(embedding(n), graph_from=0), asked(n, questions)

    def call() -> np.ndarray:
        return index.like(question, NEAREST).similarity

    true = Index(embedding(n), graph_from=None).like(question, NEAREST).rows
    found = index.like(question, NEAREST).rows
    recall = np.mean([len(np.intersect1d(a, b)) for a, b in zip(true, found, strict=True)]) / NEAREST
    if recall < RECALL:
        raise RuntimeError(f"recall {recall:.3f}, not {RECALL}")
    call.also = {"recall": float(recall)}
    return call


def brute(folder: Path, n: int, questions: int) -> Callable[[], np.ndarray]:
    """The mean is taken away, as ours does, before anything is timed."""
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    vectors = embedding(n).vectors
    mean = vectors.mean(0)

    def unit(rows: np.ndarray) -> np.ndarray:
        return (rows - mean) / np.linalg.norm(rows - mean, axis=1, keepdims=True)

    near, question = NearestNeighbors(algorithm="brute").fit(unit(vectors)), unit(asked(n, questions).vectors)
    return lambda: 1 - near.kneighbors(question, NEAREST)[0] ** 2 / 2


if __name__ == "__main__":
    harness.serve({"exact": exact, "graph": graph, "brute": brute})
