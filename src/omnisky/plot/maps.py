"""A property on a map of embeddings, and marked regions on images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from omnisky.errors import BadPixels, BadValue, ShapeMismatch
from omnisky.plot.style import (
    CLASSES,
    SOFT,
    Pixels,
    canvas,
    display,
    fitted,
    ramp,
    same_length,
    sheet,
    stamp,
)

_EDGE, _SIZE, _GAP = 0.3, 1.45, 0.1  # inches


def property_map(
    xy: Float[np.ndarray, "object 2"],
    properties: Sequence[tuple[str, Float[np.ndarray, " object"]]],
    path: str | Path,
    *,
    note: str = "",
    cells: int = 44,
) -> Path:
    """A panel for each (name, value): cells of a hexagonal grid, coloured by the median of the objects in each.

    `xy` has no unit; the outermost 0.5 % are left out. Colours run from the 2nd to the 98th percentile, evenly bright
    to colour-blind eyes. Objects without a value do not count. Raises BadPixels, BadValue, ShapeMismatch.
    """
    same_length(properties=properties)
    for name, value in properties:
        if len(value) != len(xy):
            raise ShapeMismatch(name, saw=len(value), want=f"{len(xy)} values")
        if not np.isfinite(value).any():
            raise BadValue(name, saw="no finite value", want="one or more")
    if not np.isfinite(xy).all():
        raise BadPixels("xy", saw="NaN or infinity", want="finite positions")
    low, high = np.percentile(xy, (0.25, 99.75), axis=0)
    span = np.maximum(high - low, 1e-9)
    low, high = low - 0.04 * span, high + 0.04 * span
    panel, head, foot = 3.5, 0.45, 0.55 + 0.3 * bool(note)
    wide, tall = _EDGE + len(properties) * (panel + _EDGE), head + panel + foot
    with sheet(path, wide, tall) as figure:
        for column, (name, value) in enumerate(properties):
            left = _EDGE + column * (panel + _EDGE)
            axes = figure.add_axes((left / wide, foot / tall, panel / wide, panel / tall))
            known = np.isfinite(value)
            (x, y), ends = xy[known].T, np.percentile(value[known], (2, 98))
            drawn = axes.hexbin(
                x, y, value[known], gridsize=cells, extent=(low[0], high[0], low[1], high[1]), mincnt=1,
                reduce_C_function=np.median, cmap=ramp(), vmin=ends[0], vmax=ends[1], linewidths=0.1, edgecolors="face",
            )  # fmt: skip
            axes.set(xticks=[], yticks=[], xlim=(low[0], high[0]), ylim=(low[1], high[1]))
            axes.set_title(fitted(name, panel, 11), pad=6)
            axes.spines[:].set_visible(False)
            axes.grid(visible=False)
            scale = figure.add_axes((left / wide, (foot - 0.2) / tall, panel / wide, 0.1 / tall))
            figure.colorbar(drawn, cax=scale, orientation="horizontal").outline.set_visible(False)
            scale.tick_params(length=2)
        figure.text(_EDGE / wide, 0.16 / tall, fitted(note, wide - 2 * _EDGE, 9), color=SOFT)
    return Path(path)


def overlays(
    images: Pixels,
    maps: Sequence[tuple[str, Bool[np.ndarray, "object _row _column"]]],
    path: str | Path,
    titles: Sequence[str] | None = None,
) -> Path:
    """A row an object: its image, and the same again for each (name, map), what is marked outlined and tinted.

    For the truth beside predictions. Maps may have fewer pixels than the images. Raises ShapeMismatch.
    """
    same_length(images=images, titles=titles, **{name: marked for name, marked in maps})
    pictures = display(images)
    foot = 0.24 if titles is not None else 0.0
    wide = max(2 * _EDGE + (len(maps) + 1) * (_SIZE + _GAP) - _GAP, 3.0)
    with sheet(path, wide, 0.62 + len(pictures) * (_SIZE + _GAP + foot) + 0.1) as figure:
        axes = canvas(figure)
        for column, name in enumerate(["image", *(name for name, _ in maps)]):
            ink = SOFT if not column else CLASSES[(column - 1) % len(CLASSES)]
            axes.text(_EDGE + column * (_SIZE + _GAP), 0.46, fitted(name, _SIZE, 9), color=ink)
        for row, picture in enumerate(pictures):
            top = 0.6 + row * (_SIZE + _GAP + foot)
            stamp(axes, picture, _EDGE, top, _SIZE)
            for column, (_, marked) in enumerate(maps):
                left = _EDGE + (column + 1) * (_SIZE + _GAP)
                stamp(axes, _tinted(picture, marked[row], CLASSES[column % len(CLASSES)]), left, top, _SIZE)
            if titles is not None:
                axes.text(_EDGE, top + _SIZE + 0.13, fitted(titles[row], wide - 2 * _EDGE), color=SOFT, va="center")
    return Path(path)


def _tinted(picture: np.ndarray, marked: Bool[np.ndarray, "height width"], ink: str) -> np.ndarray:
    """The image at three pixels for one, a third of the colour over what is marked, and all of it on its edge."""
    high, wide = (3 * size for size in picture.shape[:2])
    rows, columns = np.arange(high) * marked.shape[0] // high, np.arange(wide) * marked.shape[1] // wide
    inside = marked[rows][:, columns]
    around = np.pad(inside, 1)
    deep = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    colour = np.array([int(ink[i : i + 2], 16) for i in (1, 3, 5)])
    weight = np.where(inside & ~deep, 1.0, np.where(inside, 0.28, 0.0))[..., None]
    large = picture.repeat(3, 0).repeat(3, 1)
    return np.round(large * (1 - weight) + colour * weight).astype(np.uint8)
