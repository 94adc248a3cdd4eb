"""The scaling law as a figure, a table and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnisky import plot
from omnisky.evaluate import scaling


@dataclass(frozen=True)
class Drawn:
    """A figure, its numbers, and what it says in words."""

    figure: Path
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: str


def draw_scaling(points: list[scaling.Point], path: Path) -> Drawn:
    """The scaling figure with its fit."""
    found = scaling.fit(points)
    figure = plot.scaling_law(
        np.array([p.parameters for p in points]),
        [np.array(p.flop) for p in points],
        [np.array(p.held_out) for p in points],
        plot.PowerLaw(found.floor, found.scale, found.slope),
        path,
        probe=np.array([[p.accuracy, p.error] for p in points]),
    )
    rows = tuple(
        (p.name, f"{p.parameters:,}", f"{p.flop[-1]:.2e}", f"{p.held_out[-1]:.5f}", f"{p.accuracy:.3f} ± {p.error:.3f}")
        for p in points
    )
    words = f"held-out loss = {found.floor:.4f} + {found.scale:.3g} · parameters^−{found.slope:.2f}"
    return Drawn(figure, ("size", "parameters", "FLOP", "held-out loss", "linear probe accuracy"), rows, words)
