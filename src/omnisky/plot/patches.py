"""What a model sees where: the states of an image's patches as colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omnisky.errors import BadPixels, BadValue, ShapeMismatch
from omnisky.plot.style import SOFT, Pixels, canvas, display, fitted, same_length, sheet, stamp

_EDGE, _GAP, _SIZE, _ACROSS = 0.3, 0.08, 1.12, 4  # inches; pairs in a row


def patch_colours(
    images: Pixels,
    states: Float[np.ndarray, "object patch number"],
    path: str | Path,
    titles: Sequence[str] | None = None,
) -> Path:
    """Each image, and beside it its patches by the first three principal components of their states.

    After Oquab et al. 2023 (arXiv:2304.07193), fig. 1. `states` are row by row from the top left, without
    class token. Equal colours are equal states, in all images.
    """
    same_length(images=images, states=states, titles=titles)
    pictures, colours = display(images), principal_colours(states)
    squares = np.concatenate([colours, np.ones((*colours.shape[:3], 1))], axis=-1)
    across = min(_ACROSS, len(pictures))
    down = -(-len(pictures) // across)
    pair, foot = 2 * _SIZE + _GAP + 0.25, 0.3 if titles is not None else 0.12
    wide = max(2 * _EDGE + across * pair - 0.25, 4.6)
    with sheet(path, wide, 0.75 + down * (_SIZE + foot) + 0.1) as figure:
        axes = canvas(figure)
        axes.text(
            _EDGE, 0.42, fitted("patches by the three directions in which their states differ most", wide - 0.6, 11)
        )
        for i, (picture, square) in enumerate(zip(pictures, squares, strict=True)):
            left, top = _EDGE + i % across * pair, 0.68 + i // across * (_SIZE + foot)
            stamp(axes, picture, left, top, _SIZE)
            stamp(axes, square, left + _SIZE + _GAP, top, _SIZE)
            if titles is not None:
                axes.text(left, top + _SIZE + 0.15, fitted(titles[i], 2 * _SIZE), color=SOFT, va="center")
    return Path(path)


def principal_colours(states: Float[np.ndarray, "object patch number"]) -> Float[np.ndarray, "object side side 3"]:
    """The first three principal components of all patches together, as 0 … 1: from their 2nd to their 98th percentile.

    Fewer directions than three leave the last colours at one half. Raises ShapeMismatch, BadPixels, BadValue.
    """
    side = math.isqrt(states.shape[1])
    if side**2 != states.shape[1] or not side:
        raise ShapeMismatch("states", saw=f"{states.shape[1]} patches", want="a square number: a whole image")
    rows = states.reshape(-1, states.shape[2]).astype(np.float64)
    if not len(rows):
        raise BadValue("there is nothing to draw", saw="no patches", want="one object or more")
    if not np.isfinite(rows).all():
        raise BadPixels("states", saw="NaN or infinity", want="finite numbers")
    rows = rows - rows.mean(0)
    spread, axes = np.linalg.eigh(rows.T @ rows)
    axes, spread = axes[:, ::-1][:, :3], spread[::-1][:3]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), range(axes.shape[1])])  # eigh leaves the sign to chance
    known = spread > 1e-9 * max(float(spread[0]), 1e-300)
    value = rows @ axes[:, known]
    low, high = np.percentile(value, [2, 98], axis=0)
    colours = np.full((len(rows), 3), 0.5)
    colours[:, : value.shape[1]] = ((value - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
    return colours.reshape(len(states), side, side, 3)
