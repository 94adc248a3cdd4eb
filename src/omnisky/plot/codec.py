"""Before and after a codec: images and maps side by side, spectra one over the other; and what becomes of fluxes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from omnisky.errors import BadValue, ShapeMismatch
from omnisky.plot.style import ACCENT, SOFT, class_colour, same_length, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def before_after(
    before: Float[np.ndarray, object * pixel],
    after: Float[np.ndarray, object * pixel],
    path: str | Path,
    wavelength_aa: Float[np.ndarray, "object wave"] | None = None,
) -> Path:
    """A row an object: images or maps before, after and what is left; or spectra, before faint and after bright.

    Without wavelengths, numbers are drawn in their order. Raises ShapeMismatch.
    """
    same_length(before=before, after=after)
    if before.shape != after.shape or before.ndim not in (2, 3):
        raise ShapeMismatch("before, after", saw=(before.shape, after.shape), want="(object, wave) or (object, y, x)")
    maps = before.ndim == 3
    if wavelength_aa is not None and wavelength_aa.shape != before.shape:
        raise ShapeMismatch("wavelength_aa", saw=wavelength_aa.shape, want=before.shape)
    with sheet(path, 6.6 if maps else 10, (2.3 if maps else 1.9) * len(before)) as figure:
        if maps:
            _pictures(figure, before, after)
        else:
            _lines(figure, before, after, wavelength_aa)
    return Path(path)


def flux_bias(curves: Mapping[str, Float[np.ndarray, "bin 3"]], path: str | Path, within: float = 0.02) -> Path:
    """By band, (magnitude, share by which the median flux changes, its error) of each bin; the stripe is ± `within`.

    Raises BadValue for no band.
    """
    if not curves:
        raise BadValue("curves", saw="none", want="at least one band")
    with sheet(path, 7, 4) as figure:
        axes = figure.add_axes((0.12, 0.14, 0.85, 0.82))
        axes.axhspan(-100 * within, 100 * within, color=SOFT, alpha=0.15, linewidth=0)
        for i, (band, bins) in enumerate(curves.items()):
            mag, bias, error = bins.T
            axes.errorbar(
                mag + 0.03 * i, 100 * bias, 100 * error, color=class_colour(i), marker="o", markersize=3, label=band
            )
        far = 100 * max(2 * within, *(float(np.nanmax(np.abs(bins[:, 1]))) for bins in curves.values()))
        axes.set(xlabel="magnitude before", ylabel="flux after / before − 1, median, %", ylim=(-1.15 * far, 1.15 * far))
        axes.legend(loc="upper left", ncols=len(curves))
    return Path(path)


def _pictures(figure: Figure, before: np.ndarray, after: np.ndarray) -> None:
    grid = figure.subplots(len(before), 3, squeeze=False)
    for row, (old, new) in enumerate(zip(before, after, strict=True)):
        top = np.nanpercentile(old, 99.7) or 1.0
        soft = max(1.4826 * np.nanmedian(np.abs(old - np.nanmedian(old))), 1e-3 * abs(top))
        shown_as = {"before": old, "after": new, "before − after": old - new}
        for one, (name, values) in zip(grid[row], shown_as.items(), strict=True):
            shown = np.arcsinh(values / soft) / np.arcsinh(top / soft)
            one.imshow(shown, cmap="gray", vmin=-0.3, vmax=1, origin="lower")
            one.set_axis_off()
            one.set_title("" if row else name, size=9, color=SOFT)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.96, 0.03, 0.03)


def _lines(figure: Figure, before: np.ndarray, after: np.ndarray, wavelength_aa: np.ndarray | None) -> None:
    grid = figure.subplots(len(before), 1, squeeze=False)
    where = np.broadcast_to(np.arange(before.shape[1]), before.shape) if wavelength_aa is None else wavelength_aa
    axes: Axes
    for axes, x, old, new in zip(grid[:, 0], where, before, after, strict=True):
        axes.plot(x, old, color=SOFT, linewidth=0.4, alpha=0.6)
        axes.plot(x, new, color=ACCENT, linewidth=0.7)
        low, high = np.nanpercentile(old, [0.5, 99.7])
        axes.set_ylim(low - 0.1 * (high - low), high + 0.2 * (high - low))
    grid[-1, 0].set_xlabel("pixel" if wavelength_aa is None else "wavelength, Å")
    figure.subplots_adjust(0.06, 0.45 / figure.get_figheight(), 0.98, 0.98, 0.1, 0.25)
