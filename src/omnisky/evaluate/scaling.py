"""The scaling law: the same galaxies and the same number of tokens, larger and larger models.

As AstroPT's figure (Smith et al. 2024, arXiv:2405.14930, §4): held-out loss against parameters and compute, with
the fit L(N) = L∞ + a·N^−b (Kaplan et al. 2020, arXiv:2001.08361, eq. 1.1, with a floor), and what a linear probe
makes of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import nn

from omnisky.embed import embed
from omnisky.errors import BadValue
from omnisky.evaluate.morphology import Task, judge, linear_on
from omnisky.model.autoregressive import AutoregressiveConfig
from omnisky.model.transformer import CoreConfig
from omnisky.observe.types import Observation
from omnisky.recipes.astropt import GALAXY_PATCHES, PATCH, nano
from omnisky.storage import atomic
from omnisky.train.checkpoint import demand_same
from omnisky.train.config import Run
from omnisky.train.loop import Progress, train

SIZES = {"0.1M": (48, 3, 3), "0.3M": (80, 4, 5), "1M": (128, 5, 4), "3M": (208, 6, 4), "10M": (352, 7, 8)}
"""name → width, depth, heads; the names are the parameters, rounded"""

TOKENS = 64
"""in each galaxy"""


@dataclass(frozen=True)
class Point:
    """One finished run."""

    name: str
    parameters: int
    flop: list[float]
    """spent so far, 6 · parameters · tokens (Kaplan et al. 2020, table 1), at each held-out loss"""
    held_out: list[float]
    accuracy: float
    error: float


@dataclass(frozen=True)
class Fit:
    """L(N) = floor + scale · N^−slope."""

    floor: float
    scale: float
    slope: float


def law(
    seen: Observation,
    folder: str | Path,
    galaxies: int = 60_000,
    watch: Callable[[str], Callable[[Progress], None]] | None = None,
) -> list[Point]:
    """Train every size on `galaxies` galaxies (the same ones in the same order), and probe it. Goes on where stopped.

    `watch(name)` gives a watcher for each run. Raises what `train` raises; ResumeMismatch where runs in the folder saw
    another number of galaxies.
    """
    folder, points = Path(folder), []
    for name in SIZES:
        done = folder / name / "point.json"
        if done.exists():
            demand_same(run_of(name, galaxies), folder / name)
        else:
            point = _point(name, seen, folder / name, galaxies, watch(name) if watch else None)
            with atomic(done) as draft:
                draft.write_text(json.dumps(asdict(point)))
        points.append(Point(**json.loads(done.read_text())))
    return points


def fit(points: list[Point]) -> Fit:
    """Least squares in the loss, over a grid of slopes (for each, floor and scale are linear). Raises BadValue."""
    if len(points) < 3:
        raise BadValue(saw=f"{len(points)} sizes", want="at least 3 for three unknowns")
    n = np.array([p.parameters for p in points], dtype=float)
    loss = np.array([p.held_out[-1] for p in points])
    best: tuple[float, Fit] | None = None
    for slope in np.geomspace(0.02, 2.0, 200):
        columns = np.stack([np.ones_like(n), n**-slope], axis=1)
        (floor, scale), *_ = np.linalg.lstsq(columns, loss, rcond=None)
        off = float(((columns @ (floor, scale) - loss) ** 2).sum())
        if floor >= 0 and scale > 0 and (best is None or off < best[0]):
            best = (off, Fit(float(floor), float(scale), float(slope)))
    if best is None:
        raise BadValue("no power law", saw=[f"{x:.4g}" for x in loss], want="a loss that falls with size")
    return best[1]


def run_of(name: str, galaxies: int) -> Run:
    """The nano recipe on patches alone, with a causal model of another size; the learning rate falls as width grows."""
    width, depth, heads = SIZES[name]
    base = nano()
    steps = galaxies // base.batch
    core = CoreConfig(width=width, depth=depth, heads=heads, activation="gelu")
    return replace(
        base,
        name=f"scaling-{name}",
        model=AutoregressiveConfig(core=core, modalities=(PATCH,), context=TOKENS, tokeniser="affine"),
        codecs=(GALAXY_PATCHES,),
        steps=steps,
        optim=replace(base.optim, peak=1e-3 * min((256 / width) ** 0.5, 2.0), warmup=max(steps // 20, 1)),
        mean_decay=0.0,
        judge_every=max(steps // 12, 1),
        save_every=max(steps // 4, 1),
    )


def _point(
    name: str, seen: Observation, folder: Path, galaxies: int, watch: Callable[[Progress], None] | None
) -> Point:
    run = run_of(name, galaxies)
    model = train(run, folder, source=seen, watch=watch)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    judged = [(line["step"], line["held_out"]) for line in lines if "held_out" in line]
    count = sum(p.numel() for p in model.parameters())
    per_step = 6.0 * count * run.batch * TOKENS
    score = _probe(model, seen)
    return Point(name, count, [per_step * step for step, _ in judged], [loss for _, loss in judged], *score)


def _probe(model: nn.Module, seen: Observation) -> Float[np.ndarray, " two"]:
    """Accuracy of a linear probe on mean embeddings at the middle of the core, and its bootstrap error."""
    task = Task.of(seen)
    answer = judge("linear", task, linear_on(embed(model, seen, batch=256, precision="bf16").vectors))
    return np.array([answer.accuracy.value, answer.accuracy.error])
