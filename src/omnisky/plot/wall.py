"""Objects with known truth: picture, spectrum and facts of each, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from omnisky.plot.lines import EMISSION_AA
from omnisky.plot.style import ACCENT, INK, SOFT, Pixels, canvas, display, fitted, same_length, sheet, stamp, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EDGE, _STAMP, _TALL, _GAP = 0.3, 1.5, 1.8, 0.35  # inches: around the sheet, a picture, a row, between columns
_WIDE = 5.05


def wall(
    images: Pixels,
    wavelength_aa: Float[np.ndarray, "object wave"],
    flux: Float[np.ndarray, "object wave"],
    expected: Float[np.ndarray, "object wave"],
    redshifts: Float[np.ndarray, " object"],
    titles: Sequence[str],
    facts: Sequence[str],
    path: str | Path,
) -> Path:
    """Two columns of objects: the picture, the spectrum with what it would be without noise, and what is true of it.

    Observed frame, vacuum Å; `flux` is NaN where there is none. `facts` may have two lines.
    """
    given = dict(images=images, wavelength_aa=wavelength_aa, flux=flux, expected=expected)
    same_length(**given, redshifts=redshifts, titles=titles, facts=facts)
    rows = (len(images) + 1) // 2
    width, height = 2 * (_EDGE + _WIDE) + _GAP, rows * _TALL + 0.85
    with sheet(path, width, height) as figure:
        page = canvas(figure)
        page.plot([_EDGE, _EDGE + 0.22], [0.33, 0.33], color=SOFT, linewidth=0.7)
        page.text(_EDGE + 0.3, 0.33, "as observed", color=SOFT, va="center")
        page.plot([1.75, 1.97], [0.33, 0.33], color=ACCENT, linewidth=1.2)
        page.text(2.05, 0.33, "without noise", color=ACCENT, va="center")
        for at, image in enumerate(display(images)):
            left, top = _EDGE + (at % 2) * (_WIDE + _GAP), 0.7 + (at // 2) * _TALL
            stamp(page, image, left, top, _STAMP)
            beside = left + _STAMP + 0.2
            page.text(beside, top + 0.06, fitted(titles[at], 2.6, 10), size=10, va="center_baseline")
            write(page, beside, top + 1.29, facts[at], leading=0.18, color=SOFT, size=8)
            axes = _axes(figure, beside, top + 0.35, _WIDE - _STAMP - 0.2, 0.63)
            _spectrum(axes, wavelength_aa[at], flux[at], expected[at], float(redshifts[at]))
    return Path(path)


def _axes(figure: Figure, x: float, y: float, wide: float, tall: float) -> Axes:
    """Axes at a place in inches from the top left corner."""
    width, height = figure.get_size_inches()
    return figure.add_axes((x / width, 1 - (y + tall) / height, wide / width, tall / height))


def _spectrum(axes: Axes, wave: np.ndarray, flux: np.ndarray, expected: np.ndarray, z: float) -> None:
    there = np.isfinite(flux)
    box = np.ones(5)
    smooth = np.convolve(np.where(there, flux, 0), box, "same") / np.maximum(np.convolve(there, box, "same"), 1)
    axes.plot(wave, smooth, color=SOFT, linewidth=0.4, alpha=0.8)
    axes.plot(wave, expected, color=ACCENT, linewidth=0.8)
    low, high = np.percentile(smooth, 1), np.percentile(expected, 99.9)
    axes.set(xlim=(wave[0], wave[-1]), ylim=(min(low, 0), 1.2 * high), yticks=[])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(labelsize=7, pad=1.5, length=2)
    last = -np.inf
    for name, rest in sorted(EMISSION_AA.items(), key=lambda line: line[1]):
        at = rest * (1 + z)
        if z > 0 and wave[0] + 100 < at < wave[-1] - 100:
            axes.axvline(at, color=INK, linewidth=0.5, alpha=0.25, zorder=0)
            if at - last > 330:
                axes.text(at, 1.02, name, color=SOFT, size=6.5, ha="center", transform=axes.get_xaxis_transform())
                last = at
