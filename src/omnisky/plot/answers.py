"""What predictions are worth: photometric redshifts with residuals, learning curves, honest posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from omnisky.errors import BadPixels, BadValue, ShapeMismatch
from omnisky.plot.charts import log_axis
from omnisky.plot.style import ACCENT, CLASSES, FAINT, INK, SOFT, fitted, glow, same_length, sheet


def photo_z(
    truth: Float[np.ndarray, " object"],
    said: Float[np.ndarray, " object"],
    path: str | Path,
    *,
    told: str = "",
    beyond: float = 0.15,
    quantity: str = "redshift",
) -> Path:
    """Predicted against true redshifts, below them Δz / (1 + z); dashed where outliers begin, `told` in the corner.

    Above 2,000 objects cells of a grid, brighter where there are more. Raises BadPixels, ShapeMismatch.
    """
    same_length(truth=truth, said=said)
    if not (np.isfinite(truth).all() and np.isfinite(said).all()):
        raise BadPixels("photo_z", saw="NaN or infinity", want="finite redshifts", hint="leave the others out")
    off = (said - truth) / (1 + truth)
    low, high = np.percentile(np.concatenate([truth, said]), (0.2, 99.8))
    pad = 0.04 * max(high - low, 1e-3)
    low, high = low - pad, high + pad
    line, edge = np.array([low, high]), beyond * (1 + np.array([low, high]))
    tall = min(max(6 * float(np.std(off)), 0.3 * beyond), 2 * beyond)
    with sheet(path, 5.6, 7.2) as figure:
        above = figure.add_axes((0.13, 0.33, 0.83, 0.63))
        below = figure.add_axes((0.13, 0.08, 0.83, 0.2))
        for axes, value, limits in ((above, said, (low, high)), (below, off, (-tall, tall))):
            if len(truth) > 2000:
                box = (low, high, *limits)
                axes.hexbin(
                    truth, value, gridsize=(60, 60 if axes is above else 20), extent=box, mincnt=1, bins="log",
                    cmap=glow(), linewidths=0,
                )  # fmt: skip
            else:
                axes.plot(truth, value, ".", color=CLASSES[0], markersize=4, alpha=0.7, markeredgewidth=0)
            axes.set(xlim=(low, high), ylim=limits)
        above.plot(line, line, color=INK, linewidth=1)
        below.axhline(0, color=INK, linewidth=1)
        for sign in (-1, 1):
            above.plot(line, line + sign * edge, color=ACCENT, linewidth=0.9, linestyle=(0, (5, 4)))
            below.axhline(sign * beyond, color=ACCENT, linewidth=0.9, linestyle=(0, (5, 4)))
        above.set(ylabel=f"predicted {quantity}")
        above.tick_params(labelbottom=False)
        below.set(xlabel=f"true {quantity}", ylabel="Δz / (1 + z)")
        above.text(0.03, 0.97, told, color=INK, size=10, va="top", linespacing=1.5, transform=above.transAxes)
    return Path(path)


@dataclass(frozen=True, eq=False)
class Curve:
    """How well one method does with more and more labels."""

    name: str
    value: Float[np.ndarray, " size"]
    error: Float[np.ndarray, " size"]
    ours: bool = False
    """drawn in the accent colour"""


def learning_curves(
    labels: Num[np.ndarray, " size"], curves: Sequence[Curve], path: str | Path, *, quantity: str = "accuracy"
) -> Path:
    """A line a method with a band of one error, against the number of labels, and its name at the line's end.

    Raises BadValue without any, ShapeMismatch unless each has a value and an error at every number of labels.
    """
    same_length(labels=labels)
    if not curves:
        raise BadValue("curves", saw="none", want="one method or more")
    if any(one.value.shape != labels.shape or one.error.shape != labels.shape for one in curves):
        raise ShapeMismatch("curves", saw=[one.value.shape for one in curves], want=labels.shape)
    with sheet(path, 8.6, 4.8) as figure:
        axes = figure.add_axes((0.08, 0.13, 0.62, 0.8))
        ends = []
        shades = iter([*CLASSES[:1], *CLASSES[2:], *CLASSES] * len(curves))  # not the orange beside the accent
        for one in curves:
            ink = ACCENT if one.ours else next(shades)
            axes.fill_between(labels, one.value - one.error, one.value + one.error, color=ink, alpha=0.22, linewidth=0)
            look: dict[str, Any] = {
                "linewidth": 2.2 if one.ours else 1.5,
                "markersize": 5,
                "zorder": 4 if one.ours else 3,
            }
            axes.plot(labels, one.value, "o-", color=ink, **look)
            ends.append((float(one.value[-1]), one.name, ink))
        axes.margins(x=0.03)
        log_axis(axes, "x")
        axes.set(xlabel="labels", ylabel=quantity)
        low, high = axes.get_ylim()
        place = -np.inf
        for value, name, ink in sorted(ends):
            at = (value - low) / (high - low)
            lines = fitted(name, 2.3, 9, 2)
            place = max(at, place + 0.055 * (1 + lines.count("\n")))
            axes.annotate(
                lines, (1, at), (1.05, place), "axes fraction", "axes fraction", color=ink, va="center", size=9,
                arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.8, "shrinkA": 2, "shrinkB": 3},
            )  # fmt: skip
    return Path(path)


def pit_histogram(value: Float[np.ndarray, " object"], path: str | Path, *, bins: int = 20, told: str = "") -> Path:
    """Where truths lie in their posteriors: flat if these are honest, a bowl if too narrow, a hill if too wide.

    The band holds 95 % of the bars of honest posteriors. Raises BadValue for what is not 0 … 1.
    """
    same_length(value=value)
    if not ((value >= 0) & (value <= 1)).all():
        raise BadValue("pit", saw="values beyond 0 … 1, or NaN", want="adapt.score.pit of posteriors")
    count = np.histogram(value, bins, (0, 1))[0]
    even = len(value) / bins
    spread = 1.96 * np.sqrt(even * (1 - 1 / bins))
    with sheet(path, 6.4, 4.2) as figure:
        axes = figure.add_axes((0.12, 0.14, 0.84, 0.76))
        axes.bar((np.arange(bins) + 0.5) / bins, count / even, 0.9 / bins, color=CLASSES[0], zorder=2)
        axes.axhspan(max(1 - spread / even, 0), 1 + spread / even, color=ACCENT, alpha=0.25, linewidth=0, zorder=3)
        axes.axhline(1, color=ACCENT, linewidth=1.2, zorder=4)
        axes.set(xlim=(0, 1), xlabel="share of the posterior below the truth", ylabel="objects / expected", title=told)
        axes.set_ylim(0, max(1.15 * float((count / even).max()), 1.5))
        axes.grid(axis="x", visible=False)
        axes.text(0.99, 0.97, f"{len(value):,} objects", color=SOFT, ha="right", va="top", transform=axes.transAxes)
    return Path(path)
