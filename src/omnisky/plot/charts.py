"""How good is it: confusion, yardsticks, training curves, scaling laws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Integer, Num

from omnisky.errors import BadPixels, BadValue, ShapeMismatch
from omnisky.plot.style import ACCENT, CLASSES, FAINT, GROUND, INK, SOFT, fitted, same_length, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MANY, _FEW = INK, CLASSES[0]


@dataclass(frozen=True)
class Yardstick:
    """How well one method does, with all labels and with few."""

    name: str
    value: float
    """a share of 1"""
    error: float = 0.0
    """one standard error"""
    few_value: float = float("nan")
    """with few labels; NaN if not measured"""
    few_error: float = 0.0
    ours: bool = False
    """drawn in the accent colour"""


@dataclass(frozen=True)
class PowerLaw:
    """L(N) = floor + scale · N^−exponent, N in parameters."""

    floor: float
    scale: float
    exponent: float

    def __call__(self, parameters: Num[np.ndarray, "*size"]) -> Float[np.ndarray, "*size"]:
        return self.floor + self.scale * np.asarray(parameters, np.float64) ** -self.exponent


def confusion(matrix: Integer[np.ndarray, "truth predicted"], names: Sequence[str], path: str | Path) -> Path:
    """Counts of objects: a row for each true class, a column for each predicted one, shaded by the share of the row."""
    if matrix.shape != (len(names), len(names)) or not len(names):
        raise ShapeMismatch("confusion", saw=matrix.shape, want=f"a row and a column for each of {len(names)} names")
    from_row = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    row_names = [fitted(name, 1.25, 9, 2) for name in names]
    longest = max(len(line) for name in row_names for line in name.splitlines())
    side, left, head = max(0.85 * len(names), 1.7), 0.45 + 0.073 * max(longest, 6), 0.95
    with sheet(path, left + side + 0.3, head + side + 0.35) as figure:
        from matplotlib.colors import LinearSegmentedColormap

        wide, high = figure.get_size_inches()
        axes = figure.add_axes((left / wide, 0.35 / high, side / wide, side / high))
        shades = LinearSegmentedColormap.from_list("share", ["#14171e", "#5b4a2c", ACCENT])
        axes.imshow(from_row, cmap=shades, vmin=0, vmax=1)
        for row, column in np.ndindex(*matrix.shape):
            ink = GROUND if from_row[row, column] > 0.55 else INK
            axes.text(column, row - 0.11, f"{matrix[row, column]:,}", color=ink, ha="center", va="center", size=10.5)
            share = f"{from_row[row, column]:.0%}" if matrix[row].any() else "–"
            axes.text(column, row + 0.2, share, color=ink, ha="center", va="center", size=8.5, alpha=0.8)
        cell = side / len(names)
        axes.set_xticks(range(len(names)), [fitted(name, cell * 1.0, 8.5, 3) for name in names], size=8.5)
        axes.set_yticks(range(len(names)), row_names)
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False, pad=5)
        axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axes.grid(False)
        axes.grid(which="minor", color=GROUND, linewidth=2.5, alpha=1)
        axes.tick_params(which="minor", length=0)
        axes.spines[:].set_visible(False)
        figure.text(left / wide, 1 - 0.27 / high, "predicted →", color=ACCENT, size=9)
        figure.text((left - 0.09) / wide, 1 - (head - 0.14) / high, "truth ↓", color=ACCENT, size=9, ha="right")
    return Path(path)


def yardsticks(
    rows: Sequence[Yardstick],
    path: str | Path,
    quantity: str = "accuracy",
    many: str = "all labels",
    few: str = "1 % of the labels",
) -> Path:
    """A dot and its error bar for each method, best at the top; a second dot where few labels were tried."""
    same_length(rows=rows)
    rows = sorted(rows, key=lambda row: row.value)
    left, right, top, bottom, tall = 3.0, 2.5, 0.5, 0.6, 0.46
    high = tall * len(rows) + top + bottom
    with sheet(path, 10, high) as figure:
        box = left / 10, bottom / high, (10 - left - right) / 10, tall * len(rows) / high
        axes = figure.add_axes(box)
        for place, row in enumerate(rows):
            ends = [value for value in (row.value, row.few_value) if np.isfinite(value)]
            axes.plot([min(ends), max(ends)], [place] * 2, color=FAINT, linewidth=2.2, zorder=2)
            _dot(axes, row.few_value, row.few_error, place, _FEW, size=8, face=GROUND)
            _dot(axes, row.value, row.error, place, ACCENT if row.ours else _MANY)
            for column, (value, error, ink) in enumerate(
                ((row.value, row.error, ACCENT if row.ours else _MANY), (row.few_value, row.few_error, _FEW))
            ):
                x = 1 + (0.2 + 1.15 * column) / (10 - left - right)
                said = "" if np.isnan(value) else f"{value:.3f}" + (f" ± {error:.3f}" if error else "")
                axes.text(x, place, said, color=ink, va="center_baseline", transform=axes.get_yaxis_transform())
        low = min(np.nanmin([row.value - row.error, row.few_value - row.few_error]) for row in rows)
        edge = max(np.nanmax([row.value + row.error, row.few_value + row.few_error]) for row in rows)
        pad = max(0.06 * (edge - low), 0.04)
        axes.set(xlim=(max(0, low - pad), edge + pad), ylim=(-0.5, len(rows) - 0.5), xlabel=quantity)
        axes.set_yticks(range(len(rows)), [fitted(row.name, left - 0.3, 9.5, 2) for row in rows], size=9.5)
        for row, label in zip(rows, axes.get_yticklabels(), strict=True):
            label.set_color(ACCENT if row.ours else INK)
        axes.tick_params(axis="y", length=0, pad=8)
        axes.spines["left"].set_visible(False)
        dots = [axes.plot([], [], "o", color=_MANY, label=many, markersize=6.5)[0]]
        if any(np.isfinite(row.few_value) for row in rows):
            dots += axes.plot([], [], "o", color=_FEW, label=few, markersize=8, markerfacecolor=GROUND)
        look: dict[str, Any] = {"ncols": 2, "borderpad": 0, "borderaxespad": 0.6, "handletextpad": 0.2}
        axes.legend(handles=dots, loc="lower left", bbox_to_anchor=(0, 1), **look)
    return Path(path)


def _dot(axes: Axes, value: float, error: float, place: float, ink: str, size: float = 6.5, face: str = "") -> None:
    if np.isfinite(value):
        look: dict[str, Any] = {"markersize": size, "markerfacecolor": face or ink, "elinewidth": 2, "zorder": 4}
        axes.errorbar(value, place, xerr=error or None, fmt="o", color=ink, **look)


def curve(
    steps: Num[np.ndarray, " step"],
    loss: Float[np.ndarray, " step"],
    path: str | Path,
    held_out: Num[np.ndarray, "evaluation 2"] | None = None,
    log_steps: bool = False,
) -> Path:
    """The training loss, raw and smoothed, on a logarithmic scale if it is positive.

    `held_out` are pairs (step, loss) on objects that are not trained on; `log_steps` spreads out the beginning.
    """
    same_length(steps=steps, loss=loss)
    if not np.isfinite(loss).any():
        raise BadPixels("loss", saw="no finite value", want="one or more")
    with sheet(path, 9, 4.6) as figure:
        axes = figure.add_axes((0.09, 0.13, 0.88, 0.82))
        few = len(steps) <= 60
        look: dict[str, Any] = {"marker": "o", "markersize": 3} if few else {"alpha": 0.4, "linewidth": 0.6}
        axes.plot(steps, loss, color=SOFT, label="training, each step", **look)
        if not few:
            axes.plot(*_smoothed(steps, loss, log_steps), color=INK, linewidth=1.6, label="training, smoothed")
        if held_out is not None:
            axes.plot(*held_out.T, color=ACCENT, marker="o", markersize=4, linewidth=1.3, label="held out")
        if 0 < 2 * np.nanmin(loss) < np.nanmax(loss):
            log_axis(axes, "y")
        if log_steps:
            axes.set_xlim(left=max(1, np.min(steps)))
            log_axis(axes, "x")
        axes.set(xlabel="step", ylabel="loss")
        axes.margins(x=0.015)
        axes.legend(loc="upper right", borderaxespad=0.2)
    return Path(path)


def _smoothed(
    steps: Num[np.ndarray, " step"], loss: Float[np.ndarray, " step"], log_steps: bool
) -> tuple[Float[np.ndarray, " bin"], Float[np.ndarray, " bin"]]:
    """Means over 80 equal stretches of the run, equal on the scale it is drawn on."""
    along = np.log(np.maximum(steps, 1)) if log_steps else np.asarray(steps, np.float64)
    span = max(float(np.ptp(along)), 1e-12)
    stretch = np.minimum((along - along.min()) / span * 80, 79).astype(int)
    good = np.isfinite(loss)
    count = np.bincount(stretch[good], minlength=80)
    some = count > 0
    middle = np.bincount(stretch[good], along[good], 80)[some] / count[some]
    mean = np.bincount(stretch[good], loss[good], 80)[some] / count[some]
    return (np.exp(middle) if log_steps else middle), mean


def scaling_law(
    parameters: Num[np.ndarray, " size"],
    compute: Sequence[Float[np.ndarray, " step"]],
    loss: Sequence[Float[np.ndarray, " step"]],
    fit: PowerLaw | None,
    path: str | Path,
    probe: Float[np.ndarray, "size 2"] | None = None,
) -> Path:
    """Held-out loss against model size with a power-law fit, against compute, and what it is worth to a probe.

    One run for each entry of `parameters`: `compute[i]` (FLOP spent so far) and `loss[i]` are its curve, which ends at
    the loss of the finished model. `probe` has a row (accuracy, its standard error) for each.
    """
    same_length(parameters=parameters, compute=compute, loss=loss, probe=probe)
    if any(len(spent) != len(curve) or not len(curve) for spent, curve in zip(compute, loss, strict=True)):
        raise ShapeMismatch("scaling_law", saw=[len(curve) for curve in loss], want="compute and loss of one length")
    order = np.argsort(parameters)
    size, final = parameters[order], np.array([loss[i][-1] for i in order])
    panels = 2 if probe is None else 3
    wide = 0.25 + 3.25 * panels
    with sheet(path, wide, 3.7) as figure:
        first, *others = (
            figure.add_axes(((0.72 + 3.25 * panel) / wide, 0.17, 2.45 / wide, 0.69)) for panel in range(panels)
        )
        shades = _ramp(len(size))
        _against_size(first, size, final, fit, shades)
        for i, shade in zip(order, shades, strict=True):
            others[0].plot(compute[i], loss[i], color=shade, linewidth=1.5)
            others[0].plot(compute[i][-1], loss[i][-1], "o", color=shade, markersize=6)
        others[0].set(title="loss and compute", xlabel="compute / FLOP", ylabel="held-out loss")
        if probe is not None:
            accuracy, error = probe[order].T
            others[1].plot(size, accuracy, color=FAINT, linewidth=1.2)
            for place, shade in enumerate(shades):
                bar: dict[str, Any] = {"elinewidth": 2, "markersize": 6.5, "color": shade}
                others[1].errorbar(size[place], accuracy[place], yerr=error[place], fmt="o", **bar)
            others[1].set(title="what a probe makes of it", xlabel="parameters", ylabel="accuracy")
        for axes in [first, *others]:
            axes.margins(0.09)
            log_axis(axes, "x")
        if min(np.min(curve) for curve in loss) > 0:
            log_axis(others[0], "y")
    return Path(path)


def _against_size(
    axes: Axes,
    size: Num[np.ndarray, " size"],
    final: Float[np.ndarray, " size"],
    fit: PowerLaw | None,
    shades: Sequence[str],
) -> None:
    if fit is not None:
        if fit.exponent <= 0:
            raise BadValue("fit", saw=f"exponent {fit.exponent}", want="a loss that falls: exponent > 0")
        line = np.geomspace(size[0] / 1.6, size[-1] * 1.6, 100)
        axes.plot(line, fit(line), color=ACCENT, linewidth=1.3, zorder=1)
        law = rf"$L = {fit.floor:.3g} + {fit.scale:.3g}\,N^{{-{fit.exponent:.2f}}}$"
        look: dict[str, Any] = {"ha": "right", "va": "top", "transform": axes.transAxes, "parse_math": True}
        axes.text(0.97, 0.96, law, color=ACCENT, size=10, **look)
    axes.scatter(size, final, c=shades, s=44, zorder=3, linewidths=0)
    axes.set(title="loss and size", xlabel="parameters", ylabel="held-out loss")


def _ramp(count: int) -> list[str]:
    """From the smallest model, dim, to the largest, bright."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    ramp = LinearSegmentedColormap.from_list("size", ["#3d6ea5", CLASSES[0], "#ffffff"])
    return [to_hex(ramp(share)) for share in np.linspace(0, 1, count)]


def log_axis(axes: Axes, which: str) -> None:
    """A logarithmic axis with plain numbers: 20, 100k, 3M, 10¹⁵; between the decades only where there is room."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(max(high / max(low, 1e-300), 1.0001))
    roomy = decades if high < 1e12 else 2 * decades  # 3·10¹² is twice as long as 30k
    steps = (tuple(range(1, 10)), 0.7), ((1, 2, 5), 1.6), ((1, 3), 3.0), ((1,), np.inf)
    marks = next(marks for marks, limit in steps if roomy < limit)
    axis.set_major_locator(LogLocator(subs=marks, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)


def _plain(value: float) -> str:
    if value >= 1e12 or value < 1e-4:
        power = int(np.floor(np.log10(value) + 1e-9))
        factor = f"{value / 10.0**power:.2g}"
        raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"10{raised}" if factor == "1" else f"{factor}·10{raised}"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= unit:
            return f"{value / (1e3 if letter == 'k' else unit):g}{letter}"
    return f"{value:.6g}"
