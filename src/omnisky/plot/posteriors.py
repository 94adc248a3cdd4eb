"""Posteriors of a number from more and more inputs, and whether they are honest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omnisky.plot.style import CLASSES, INK, SOFT, same_length, sheet


def posteriors(
    edges: Float[np.ndarray, " edge"],
    density: Mapping[str, Float[np.ndarray, "object bin"]],
    truth: Float[np.ndarray, " object"],
    path: str | Path,
    label: str = "redshift",
) -> Path:
    """A panel an object, a curve each set of inputs, a line at the truth (NaN: none). `density` is per unit.

    An axis holds 99 % of each curve, and the truth.
    """
    same_length(truth=truth, **{f"density {i}": one for i, one in enumerate(density.values())})
    rows = -(-len(truth) // 3)
    with sheet(path, 10, 2.4 * rows + 0.7) as figure:
        grid = figure.subplots(rows, 3, squeeze=False)
        for i, axes in enumerate(grid.flat):
            if i >= len(truth):
                axes.set_axis_off()
                continue
            reach = [_reach(edges, one[i]) for one in density.values()]
            for (name, one), colour in zip(density.items(), CLASSES, strict=False):
                axes.stairs(one[i], edges, color=colour, linewidth=1.2, label=name if i == 0 else None)
            low, high = min(low for low, _ in reach), max(high for _, high in reach)
            if np.isfinite(truth[i]):
                axes.axvline(truth[i], color=INK, linewidth=0.9, linestyle=(0, (3, 3)))
                low, high = min(low, truth[i]), max(high, truth[i])
            pad = 0.08 * max(high - low, 1e-6)
            axes.set_xlim(low - pad, high + pad)
            axes.set_yticks([])
        for axes in grid[-1]:
            axes.set_xlabel(label)
        figure.legend(loc="upper left", ncols=len(density), fontsize=9)
        figure.subplots_adjust(0.03, 0.6 / (2.4 * rows + 0.7), 0.99, 1 - 0.45 / (2.4 * rows + 0.7), 0.06, 0.25)
    return Path(path)


def _reach(edges: np.ndarray, density: np.ndarray) -> tuple[float, float]:
    """From where to where all but a hundredth of it lies: a thin tail that goes far would leave no room."""
    rising = np.cumsum(density * np.diff(edges))
    share = rising / rising[-1]
    low, high = np.searchsorted(share, (5e-3, 1 - 5e-3)).tolist()
    return float(edges[low]), float(edges[min(high + 1, len(share))])


def pit(found: Mapping[str, Float[np.ndarray, " object"]], path: str | Path, bins: int = 20) -> Path:
    """Where truths lie in their posteriors, by inputs: flat if honest; the band is what chance does to a flat one."""
    with sheet(path, 10, 3.0) as figure:
        grid = figure.subplots(1, len(found), squeeze=False, sharey=True)
        for axes, (name, values), colour in zip(grid[0], found.items(), CLASSES, strict=False):
            axes.hist(values, bins=np.linspace(0, 1, bins + 1), density=True, color=colour, alpha=0.85)
            spread = 2 * np.sqrt((bins - 1) / max(len(values), 1))
            axes.axhspan(1 - spread, 1 + spread, color=SOFT, alpha=0.25, linewidth=0)
            axes.axhline(1, color=INK, linewidth=0.8)
            axes.set_title(name, size=9)
            axes.set_xlabel("chance of less than the truth")
        figure.subplots_adjust(0.05, 0.18, 0.99, 0.88, 0.08)
    return Path(path)
