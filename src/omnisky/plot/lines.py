"""Spectra, and the lines in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from omnisky.errors import BadPixels
from omnisky.plot.style import ACCENT, CLASSES, INK, SOFT, fitted, same_length, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EMISSION_AA = {
    **{"Lyα": 1215.67, "C IV": 1549.5, "C III]": 1908.7, "Mg II": 2799.1, "[O II]": 3728.5, "Hγ": 4341.7},
    **{"Hβ": 4862.7, "[O III]": 5008.2, "Hα": 6564.6, "[S II]": 6725.5},
}
"""Å in vacuum, at rest; doublets at their middle, of [O III] the stronger"""
ABSORPTION_AA = {"Ca H K": 3952.2, "G": 4305.6, "Mg b": 5176.6, "Na D": 5895.6}


def spectra(
    wavelength_aa: Float[np.ndarray, "object wave"],
    flux: Float[np.ndarray, "object wave"],
    names: Sequence[str],
    path: str | Path,
    redshifts: Float[np.ndarray, " object"] | None = None,
) -> Path:
    """Each spectrum, raw and smoothed over nine pixels, with the lines it may have at its redshift.

    Observed frame, vacuum Å; flux in 1e-17 erg s⁻¹ cm⁻² Å⁻¹, NaN where there is none. Redshift NaN: no lines are drawn.
    """
    same_length(wavelength_aa=wavelength_aa, flux=flux, names=names, redshifts=redshifts)
    bad = [name for name, row in zip(names, flux, strict=True) if not np.isfinite(row).any()]
    if bad:
        raise BadPixels("spectra without a single finite pixel", saw=bad, want="flux", hint="leave them out")
    good = np.isfinite(flux) & np.isfinite(wavelength_aa)
    low, high = wavelength_aa[good].min(), wavelength_aa[good].max()
    tall, head, foot = 2.15, 0.05, 0.7
    total = len(flux) * tall + head + foot
    with sheet(path, 10, total) as figure:
        for row, (wave, values) in enumerate(zip(wavelength_aa, flux, strict=True)):
            bottom = foot + (len(flux) - 1 - row) * tall
            axes = figure.add_axes((0.075, bottom / total, 0.9, (tall - 0.75) / total))
            _one(axes, wave[good[row]], values[good[row]])
            z = float(redshifts[row]) if redshifts is not None else float("nan")
            axes.set_xlim(low, high)
            axes.set_title(fitted(names[row], 7.4, 10), size=10, pad=30)
            if np.isfinite(z):
                axes.set_title(f"z = {z:.4f}", size=10, color=ACCENT, loc="right", pad=30)
                _mark(axes, z, low, high)
            if row < len(flux) - 1:
                axes.tick_params(labelbottom=False)
        axes.set_xlabel("observed wavelength / Å")
        figure.text(0.008, 0.5, "flux / 10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹", color=SOFT, size=10, va="center", rotation=90)
    return Path(path)


def _one(axes: Axes, wave: Float[np.ndarray, " wave"], flux: Float[np.ndarray, " wave"]) -> None:
    box = np.ones(min(9, len(flux)))
    smooth = np.convolve(flux, box, "same") / np.convolve(np.ones(len(flux)), box, "same")
    axes.plot(wave, flux, color=SOFT, linewidth=0.4, alpha=0.45)
    axes.plot(wave, smooth, color=INK, linewidth=0.9)
    bottom, top = np.percentile(flux, 0.5), np.percentile(smooth, 99.9)
    pad = 0.12 * max(top - bottom, 1e-6)
    axes.set_ylim(min(bottom, 0) - pad * (bottom < 0), top + pad)
    axes.grid(axis="x", visible=False)


def _mark(axes: Axes, z: float, low: float, high: float) -> None:
    """A thin line at each expected wavelength, its name above; names too close to one another move up a step."""
    ends = [-np.inf, -np.inf]  # of the last name on each step, Å
    kinds = [(rest, name, ACCENT) for name, rest in EMISSION_AA.items()]
    kinds += [(rest, name, CLASSES[0]) for name, rest in ABSORPTION_AA.items()]
    for rest, name, colour in sorted(kinds):
        at = rest * (1 + z)
        if not low + 0.008 * (high - low) < at < high:
            continue
        axes.axvline(at, color=colour, linewidth=0.8, alpha=0.55, zorder=1)
        half = (0.072 * len(name) + 0.08) / 2 * (high - low) / 9  # inches to Å: the axes are 9 inches wide
        step = next((i for i, end in enumerate(ends) if at - half > end), None)
        if step is not None:
            ends[step] = at + half
            y = 1.03 + 0.125 * step
            axes.text(at, y, name, color=colour, size=8.5, ha="center", transform=axes.get_xaxis_transform())
