"""Look-alikes four ways: asked with an image or with a spectrum, answered with images or with spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Integer

from omnisky.errors import BadValue
from omnisky.plot.style import ACCENT, INK, SOFT, Pixels, canvas, display, fitted, same_length, sheet, stamp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAYS = {f"{by} → {across}": (by, across) for by in ("image", "spectrum") for across in ("image", "spectrum")}
"""the four ways by name: asked with, answered with"""
_EDGE, _SIZE, _GAP, _HEAD = 0.3, 0.8, 0.09, 0.62  # inches
_SPAN = 1.06
"""inches of a spectrum, across"""


def four_ways(
    images: Pixels,
    wavelength_aa: Float[np.ndarray, " wave"],
    flux: Float[np.ndarray, "object wave"],
    redshifts: Float[np.ndarray, " object"],
    queries: Sequence[int],
    found: Mapping[str, Integer[np.ndarray, "query rank"]],
    path: str | Path,
    titles: Sequence[str] | None = None,
) -> Path:
    """A block for each query: it, framed, then its answers in each of WAYS with their redshifts, nearest first.

    `found` has one of WAYS as key; rows of `images` and `flux` as values. Flux is NaN where there is none. Where the
    object finds itself in its other modality, its redshift is in the accent colour.
    """
    same_length(images=images, flux=flux, redshifts=redshifts)
    same_length(queries=queries, titles=titles, **found)
    if set(found) != set(WAYS):
        raise BadValue("ways", saw=tuple(found), want=tuple(WAYS))
    many = found["image → image"].shape[1]
    block = 2 * (_SIZE + 0.27) + 0.28
    columns = {"image": _EDGE + 1.65, "spectrum": _EDGE + 1.65 + many * (_SIZE + _GAP) + 0.3}
    wide = columns["spectrum"] + many * (_SPAN + _GAP) + _EDGE - _GAP
    with sheet(path, wide, _HEAD + block * len(queries) + 0.1) as figure:
        page = canvas(figure)
        page.text(_EDGE, 0.36, "asked for", color=ACCENT, size=11)
        page.text(columns["image"], 0.36, "images most alike", size=11)
        page.text(columns["spectrum"], 0.36, "spectra most alike", size=11)
        for row, query in enumerate(queries):
            for line, by in enumerate(("image", "spectrum")):
                top = _HEAD + row * block + line * (_SIZE + 0.27)
                if by == "image":
                    stamp(page, display(images[query][None])[0], _EDGE, top, _SIZE, ACCENT, 1.6)
                    if titles is not None:
                        page.text(_EDGE + _SIZE + 0.1, top + 0.1, fitted(titles[row], 0.7, 8, 3), size=8, va="top")
                else:
                    _spectrum(figure, _EDGE, top, 1.4, wavelength_aa, flux[query], ACCENT)
                for rank in range(many):
                    for answer in ("image", "spectrum"):
                        one = int(found[f"{by} → {answer}"][row, rank])
                        step = _SIZE if answer == "image" else _SPAN
                        left = columns[answer] + rank * (step + _GAP)
                        if answer == "image":
                            stamp(page, display(images[one][None])[0], left, top, _SIZE)
                        else:
                            _spectrum(figure, left, top, _SPAN, wavelength_aa, flux[one], INK)
                        ink = ACCENT if one == query else SOFT
                        told = f"z {redshifts[one]:.3f}"
                        page.text(
                            left + step / 2, top + _SIZE + 0.13, told, color=ink, ha="center", va="center", size=8
                        )
                page.text(
                    _EDGE, top + _SIZE + 0.13, f"{by}, z {redshifts[query]:.3f}", color=ACCENT, va="center", size=8
                )
    return Path(path)


def _spectrum(figure: Figure, x: float, y: float, span: float, wave: np.ndarray, flux: np.ndarray, ink: str) -> None:
    """A small one, smoothed, without any axes."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((x / width, 1 - (y + _SIZE) / height, span / width, _SIZE / height))
    there = np.isfinite(flux)
    box = np.ones(25)
    held = np.convolve(there, box, "same")
    smooth = np.convolve(np.where(there, flux, 0), box, "same") / np.where(held > 0.5, held, np.nan)
    axes.plot(wave[::8], smooth[::8], color=ink, linewidth=0.6)
    low, high = np.nanpercentile(smooth, (1, 99.7))
    axes.set(xlim=(wave[0], wave[-1]), ylim=(min(low, 0), 1.15 * high), xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
