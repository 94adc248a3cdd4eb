"""Look-alikes among millions of vectors, by a graph and by comparing with all: `python -m benchmarks.neighbours`.

Vectors are made up: eight numbers and some noise, turned into `--width` dimensions, so that neighbours mean something
as they do among galaxies. Recall is the share of the ten truly nearest that are found; "graph alone" is the order of
its half-precision copies, "ranked exactly" what `Index` answers.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from dataclasses import asdict, dataclass

import numpy as np

from omnisky.embed import Embedding
from omnisky.search import Index
from omnisky.search.approximate import GRAPH_FROM

MEANT, NOISE, NEAREST = 8, 0.3, 10
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Found:
    """What one run says."""

    rows: int
    width: int
    build_cpu_s: float
    """of all threads: the machine may do other things meanwhile"""
    graph_mb: float
    peak_mb: float
    """of the process, vectors twice"""
    recall_graph_alone: float
    recall_ranked_exactly: float
    graph_ms: float
    """median of single questions"""
    all_ms: float
    questions: int


def cloud(rows: int, width: int, seed: int = 0) -> Embedding:
    """Made block by block, so that no more than the vectors is in memory."""
    draw = np.random.default_rng(seed)
    turned = draw.normal(size=(MEANT, width)).astype(np.float32)
    vectors = np.empty((rows, width), np.float32)
    for start in range(0, rows, _BLOCK):
        part = vectors[start : start + _BLOCK]
        part[:] = draw.standard_normal((len(part), MEANT), np.float32) @ turned
        part += NOISE * draw.standard_normal(part.shape, np.float32)
    nowhere = np.full(rows, np.nan)
    return Embedding(vectors, np.char.add("o", np.arange(rows).astype(str)), nowhere, nowhere, "made up")


def measure(rows: int, width: int, questions: int) -> Found:
    """Minutes for a million rows."""
    seen = cloud(rows, width)
    started = time.process_time()
    by_graph = Index(seen, graph_from=rows)
    build = time.process_time() - started
    by_all = Index(seen, graph_from=None)
    graph, units = by_graph.side().graph, by_all.side().units
    asked = np.random.default_rng(1).choice(rows, questions, replace=False)
    answers, times = {}, {}
    for name, index in (("graph", by_graph), ("all", by_all)):
        answers[name], times[name] = _ask(index, seen.object_id[asked].tolist())
    alone = graph.search(np.ascontiguousarray(units[asked]), NEAREST + 1).keys.astype(np.int64)
    alone = [[row for row in found if row != own][:NEAREST] for found, own in zip(alone.tolist(), asked, strict=True)]
    return Found(
        rows=rows,
        width=width,
        build_cpu_s=round(build),
        graph_mb=round(graph.serialized_length / 2**20),
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
        recall_graph_alone=_recall(alone, answers["all"]),
        recall_ranked_exactly=_recall(answers["graph"], answers["all"]),
        graph_ms=round(1000 * float(np.median(times["graph"])), 2),
        all_ms=round(1000 * float(np.median(times["all"])), 2),
        questions=questions,
    )


def _ask(index: Index, ids: list[str]) -> tuple[list[list[int]], list[float]]:
    """Rows of the nearest, and how long each question took, s."""
    found, times = [], []
    for one in ids:
        started = time.perf_counter()
        found.append(index.like_ids([one], NEAREST).rows[0].tolist())
        times.append(time.perf_counter() - started)
    return found, times


def _recall(found: list[list[int]], true: list[list[int]]) -> float:
    return round(float(np.mean([len(set(f) & set(t)) / len(t) for f, t in zip(found, true, strict=True)])), 4)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbours", description=__doc__)
    parser.add_argument("--rows", type=int, default=GRAPH_FROM)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--questions", type=int, default=500)
    asked = parser.parse_args()
    print(json.dumps(asdict(measure(asked.rows, asked.width, asked.questions))))


if __name__ == "__main__":
    main()
