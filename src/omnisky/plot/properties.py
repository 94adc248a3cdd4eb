"""How well several methods tell several quantities: a panel for each quantity, a row for each method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omnisky.errors import ShapeMismatch
from omnisky.plot.style import ACCENT, CLASSES, FAINT, INK, fitted, sheet


def properties(
    methods: Sequence[str],
    groups: Sequence[str],
    names: Sequence[str],
    value: Float[np.ndarray, "method name"],
    error: Float[np.ndarray, "method name"],
    path: str | Path,
    *,
    quantity: str = "R²",
    ours: Sequence[str] = (),
) -> Path:
    """Dots with error bars, methods from top to bottom in the order given, a gap and a colour for each group.

    `ours` are the methods in the accent colour. Values below 0 are drawn at the edge: worse than the mean.
    """
    if value.shape != error.shape or value.shape != (len(methods), len(names)) or len(groups) != len(methods):
        raise ShapeMismatch("properties", saw=(value.shape, len(groups)), want=(len(methods), len(names)))
    left, right, top, bottom, tall, wide = 2.9, 0.25, 0.55, 0.55, 0.3, 1.75
    steps = np.cumsum([0.6 if i and group != groups[i - 1] else 0 for i, group in enumerate(groups)])
    place = -(np.arange(len(methods)) + steps)
    high = top + bottom + tall * (1 - place[-1])
    across = left + right + wide * len(names)
    shade = {group: CLASSES[i % len(CLASSES)] for i, group in enumerate(dict.fromkeys(groups))}
    with sheet(path, across, high) as figure:
        for column, name in enumerate(names):
            box = (left + wide * column + 0.1) / across, bottom / high, (wide - 0.2) / across, 1 - (top + bottom) / high
            axes = figure.add_axes(box)
            for i, group in enumerate(groups):
                ink = ACCENT if methods[i] in ours else shade[group]
                x = max(float(value[i, column]), 0.0)
                axes.plot([0, x], [place[i]] * 2, color=FAINT, linewidth=1.4, zorder=1)
                axes.errorbar(x, place[i], xerr=error[i, column], fmt="o", color=ink, markersize=5, elinewidth=1.6)
                axes.text(1.04, place[i], f"{value[i, column]:.2f}", color=ink, size=7.5, va="center_baseline")
            axes.set(xlim=(0, 1.22), ylim=(place[-1] - 0.6, 0.6), title=name)
            axes.set_xticks([0, 0.5, 1.0])
            axes.set_yticks(place, [fitted(m, left - 0.2, 8.5, 1) for m in methods] if not column else [""] * len(place))
            axes.tick_params(axis="y", length=0, pad=6)
            axes.spines["left"].set_visible(False)
            for label, method in zip(axes.get_yticklabels(), methods, strict=True):
                label.set_color(ACCENT if method in ours else INK)
        figure.text(left / across, 0.12 / high, f"{quantity}; bars are one bootstrap error", color=INK, size=8.5)
    return Path(path)
