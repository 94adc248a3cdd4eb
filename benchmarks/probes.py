"""Probes on 100,000 embeddings of 768 numbers, fitted and asked again, each beside plain scikit-learn.

Logistic regression stands beside `LogisticRegression` at the same penalty on the same standardised numbers, ridge
regression beside `Ridge` with the solver that it chooses itself: both sides find the same optimum, and their answers
agree to what the stopping rule leaves, or it fails.
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

OBJECTS, WIDTH, CLASSES = 100_000, 768, 5
STRENGTH, PENALTY = 0.01, 0.01


def comparisons(quick: bool = False) -> Iterator[Comparison]:
    """`quick` ones have a hundredth of the objects and prove only that everything runs."""
    objects = OBJECTS // 100 if quick else OBJECTS
    width = 48 if quick else WIDTH
    for task, agree in {"logistic": 0.02, "ridge": 1e-3}.items():
        given = {"objects": objects, "width": width}
        yield Comparison(
            name=f"probes/{task}-{objects}x{width}-over-scikit-learn",
            ours=Job("ours", f"our_{task}", given),
            theirs=Job("scikit-learn", f"their_{task}", given),
            unit="objects",
            work=objects,
            target=1.0,
            agree=agree,
            flops=2.0 * objects * width * (width + 2) if task == "ridge" else None,  # xᵀx, xᵀy and x·w
            repeats=3,
        )


def workers() -> dict[str, Worker]:
    """One process a side."""
    return {name: Worker(Path(sys.executable), "benchmarks.probes") for name in ("ours", "scikit-learn")}


def versions() -> dict[str, str]:
    """Of what takes part."""
    return versions_here("omnisky", "scikit-learn", "numpy", "scipy")


@cache
def told(objects: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings as models make them (a few strong directions, many weak ones), a class and a number of each."""
    import numpy as np

    draw = np.random.default_rng(0)
    spread = (np.arange(1, width + 1) ** -0.5).astype(np.float32)
    x = draw.normal(size=(objects, width)).astype(np.float32) * spread
    x = x @ np.linalg.qr(draw.normal(size=(width, width)))[0].astype(np.float32)
    logits = x @ draw.normal(size=(width, CLASSES)).astype(np.float32) + draw.gumbel(size=(objects, CLASSES))
    number = x @ draw.normal(size=width).astype(np.float32) + draw.normal(size=objects)
    return x, logits.argmax(1), number


def our_logistic(folder: Path, objects: int, width: int) -> Callable[[], np.ndarray]:
    """As FineTunedModel's Linear does, at one penalty."""
    from omnisky.adapt.probe import LinearProbe

    x, kind, _ = told(objects, width)
    return lambda: LinearProbe(strength=STRENGTH).fit(x, kind).predict_proba(x)


def their_logistic(folder: Path, objects: int, width: int) -> Callable[[], np.ndarray]:
    """What one writes down first."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, kind, _ = told(objects, width)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=500))
    return lambda: model.fit(x, kind).predict_proba(x)


def our_ridge(folder: Path, objects: int, width: int) -> Callable[[], np.ndarray]:
    """At one penalty."""
    from omnisky.adapt.probe import RidgeProbe

    x, _, number = told(objects, width)
    return lambda: RidgeProbe(penalty=PENALTY).fit(x, number).predict(x)


def their_ridge(folder: Path, objects: int, width: int) -> Callable[[], np.ndarray]:
    """The same penalty, which scikit-learn counts for all objects together."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, _, number = told(objects, width)
    model = make_pipeline(StandardScaler(), Ridge(alpha=PENALTY * objects))
    return lambda: model.fit(x, number).predict(x)


if __name__ == "__main__":
    tasks = (our_logistic, their_logistic, our_ridge, their_ridge)
    harness.serve({task.__name__: task for task in tasks})
