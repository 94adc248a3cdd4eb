"""How the time of an embedding grows with objects, tokens and model size: `python -m benchmarks.scaling`.

One of the three changes, the others stand; all amounts are timed by turns, so that a slow minute is slow for each. To
their medians time = a · amount^b is fitted, by least squares in logarithms. The error of b is its spread over medians
of rounds drawn anew (a bootstrap): how well it is measured. How far the times leave the law is told beside it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.harness import Effort, Job, Worker, keep, versions_here
from benchmarks.machine import Load, circumstances

KINDS = ("astropt", "specformer", "astrodino", "any_to_any")
WIDTH, DEPTH, OBJECTS, TOKENS = 256, 6, 8, 256
"""what stands while another changes"""
DRAWS = 1000
"""of rounds, for the error"""


@dataclass(frozen=True)
class Sweep:
    """One kind of model, one thing that changes."""

    kind: str
    by: str
    """objects, tokens, or parameters"""
    amounts: tuple[int, ...]
    jobs: tuple[Job, ...]

    @property
    def name(self) -> str:
        return f"scaling/{self.kind}-{self.by}"


@dataclass(frozen=True)
class Law:
    """time = a · amount^exponent."""

    exponent: float
    error: float
    """of the exponent, one standard deviation"""
    off: float
    """the largest departure of a time from the law, as a share of it"""


def sweeps(quick: bool = False) -> Iterator[Sweep]:
    """Three a kind; `quick` ones are smaller and prove only that everything runs. Tokens are squares: an image's."""
    objects, tokens, widths = (4, 8, 16, 32, 64), (64, 144, 256, 576, 1024), (128, 192, 256, 384, 512)
    stand = {"objects": OBJECTS, "tokens": TOKENS, "width": WIDTH, "depth": DEPTH}
    if quick:
        objects, tokens, widths = (1, 8, 64), (16, 64, 256), (64, 128, 256)
        stand = {"objects": 2, "tokens": 64, "width": 64, "depth": 2}
    parameters = tuple(12 * stand["depth"] * width**2 for width in widths)  # of the blocks, which do the work
    for kind in KINDS:
        for by, amounts, option, values in (
            ("objects", objects, "objects", objects),
            ("tokens", tokens, "tokens", tokens),
            ("parameters", parameters, "width", widths),
        ):
            yield Sweep(kind, by, amounts, tuple(Job("ours", kind, stand | {option: value}) for value in values))


def fitted(amounts: ArrayLike, seconds: ArrayLike) -> Law:
    """To times of (round, amount)."""
    x, y = np.log(amounts), np.log(seconds)
    x = x - x.mean()

    def slope(rounds: Any) -> Any:
        return np.median(rounds, axis=-2) @ x / (x @ x)

    middle, exponent = np.median(y, axis=0), slope(y)
    drawn = y[np.random.default_rng(0).integers(len(y), size=(DRAWS, len(y)))]
    away = np.abs(middle - middle.mean() - exponent * x).max()
    return Law(float(exponent), float(slope(drawn).std()), float(np.expm1(away)))


def measure(sweep: Sweep, worker: Worker, effort: Effort) -> dict[str, Any]:
    """A row of results.jsonl. The first round is for warming up."""
    with tempfile.TemporaryDirectory() as folder:
        for job in sweep.jobs:
            worker.ask(do="prepare", key=job.key, folder=folder)
    load, rounds = Load([worker.process.pid]), []
    for _ in range(1 + (effort.repeats or 9)):
        told = [worker.ask(do="time", key=job.key, seconds=effort.seconds) for job in sweep.jobs]
        rounds.append([one["seconds"] for one in told])
    others, law = load.others(), fitted(sweep.amounts, rounds[1:])
    for job in sweep.jobs:
        worker.ask(do="forget", key=job.key)
    return {
        "name": sweep.name,
        "by": sweep.by,
        "amounts": sweep.amounts,
        "seconds": np.median(rounds[1:], axis=0).tolist(),
        **vars(law),
        "repeats": len(rounds) - 1,
        "others_cpus": others,
        "versions": versions_here("omnisky", "torch"),
        **circumstances("benchmarks.scaling"),
    }


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    words.add_argument("names", nargs="*", help="parts of names; none means all")
    words.add_argument("--quick", action="store_true", help="tiny sizes, two rounds, nothing kept: does it run?")
    asked = words.parse_args()
    effort = Effort(repeats=2, seconds=0.0, keep=False) if asked.quick else Effort(seconds=0.2)
    worker = Worker(Path(sys.executable), "benchmarks.ours_scaling")
    try:
        for sweep in sweeps(asked.quick):
            if asked.names and not any(name in sweep.name for name in asked.names):
                continue
            row = measure(sweep, worker, effort)
            if effort.keep:
                keep(row)
            print(
                f"{row['name']}: {row['exponent']:.2f} ± {row['error']:.2f}, off by {row['off']:.0%} at most",
                flush=True,
            )
    finally:
        worker.close()


if __name__ == "__main__":
    main()
