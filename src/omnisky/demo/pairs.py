"""AstroCLIP's table as figures, tables and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from omnisky import plot
from omnisky.evaluate.astroclip import Table
from omnisky.evaluate.pairs import PROPERTIES

NAMES = ("redshift", "log stellar mass", "age", "log metallicity", "log sSFR")


@dataclass(frozen=True)
class Drawn:
    """A figure, its numbers, and what it says in words."""

    figure: Path
    tables: tuple[tuple[tuple[str, ...], tuple[tuple[str, ...], ...]], ...]
    words: str


def draw_table(found: Table, folder: Path) -> Drawn:
    """`folder`/astroclip.png and the tables: properties, morphology, retrieval, claims."""
    methods = [f"{line.source} · {line.method}" for line in found.lines]
    figure = plot.properties(
        methods,
        [line.source for line in found.lines],
        NAMES,
        np.array([[score.value for score in line.scores] for line in found.lines]),
        np.array([[score.error for score in line.scores] for line in found.lines]),
        folder / "astroclip.png",
        ours=[m for m, line in zip(methods, found.lines, strict=True) if line.method.startswith("aligned")],
    )
    told = tuple((line.source, line.method, *map(str, line.scores)) for line in found.lines)
    shapes = tuple((name, *map(str, scores)) for name, scores in found.morphology.items())
    recalls = tuple(
        (name, str(one.recall[1]), str(one.recall[10]), str(one.median_rank), f"{one.among:,}", f"{10 / one.among:.4f}")
        for name, one in found.across.items()
    )
    claims = tuple((c.words, str(c.found), c.wanted, "holds" if c.holds else "does not hold") for c in found.claims)
    tables = (
        (("from", "how", *(f"R² {name}" for name in NAMES)), told),
        (("morphology, linear probe", "accuracy", "mean over kinds"), shapes),
        (("retrieval", "recall@1", "recall@10", "median rank", "among", "recall@10 by chance"), recalls),
        (("claim", "difference", "wanted", ""), claims),
    )
    held = sum(c.holds for c in found.claims)
    words = f"{found.learnt:,} pairs learnt, {found.tested:,} tested; {held} of {len(found.claims)} claims hold"
    return Drawn(figure, tables, words)


def state(found: Table) -> dict[str, Any]:
    """All numbers, for JSON."""

    def two(score: Any) -> list[float]:
        return [score.value, score.error]

    return {
        "learnt": found.learnt,
        "tested": found.tested,
        "r2": {
            f"{line.source}, {line.method}": dict(zip(PROPERTIES, map(two, line.scores), strict=True))
            for line in found.lines
        },
        "morphology": {name: [two(a), two(b)] for name, (a, b) in found.morphology.items()},
        "retrieval": {
            name: {f"recall@{k}": two(score) for k, score in one.recall.items()}
            | {"median_rank": two(one.median_rank), "among": one.among}
            for name, one in found.across.items()
        },
        "claims": [
            {"claim": c.words, "found": two(c.found), "wanted": c.wanted, "holds": c.holds} for c in found.claims
        ],
    }
