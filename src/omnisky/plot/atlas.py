"""A map of many galaxies in two numbers each, with the galaxies themselves on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Integer, UInt8

from omnisky.errors import BadPixels, BadValue
from omnisky.plot.style import (
    CLASSES,
    DPI,
    GROUND,
    SOFT,
    Pixels,
    canvas,
    class_colour,
    display,
    fitted,
    glow,
    same_length,
    sheet,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EDGE, _BOX, _SIDE = 0.3, 6.6, 2.5  # inches: around the sheet, the map, the column beside it


def map_with_thumbnails(
    xy: Float[np.ndarray, "object 2"],
    images: Pixels,
    path: str | Path,
    colour: Integer[np.ndarray, " object"] | None = None,
    names: Sequence[str] | None = None,
    note: str = "",
) -> Path:
    """A map drawn with the galaxies themselves, one for each occupied cell of a grid, and every object as a dot beside.

    `xy` has no unit. `colour` is the class of each object, an index into `names`, at most eight, −1 if not known.
    `note` says how the map was made and what it does not mean. Objects far from all others are drawn at the edge.
    """
    same_length(xy=xy, images=images, colour=colour)
    if not np.isfinite(xy).all():
        raise BadPixels("xy", saw="NaN or infinity", want="finite positions")
    if colour is not None:
        known = len(names) if names is not None else int(colour.max()) + 1
        if known > len(CLASSES) or colour.max() >= known:
            raise BadValue("colour", saw=f"{known} names, class {colour.max()}", want="at most 8 classes, all named")
    place = _framed(xy)
    cells = int(np.clip(round(1.1 * len(xy) ** 0.5), 3, 28))
    with sheet(path, 2 * _EDGE + _BOX + 0.3 + _SIDE, 2 * _EDGE + _BOX) as figure:
        axes = canvas(figure)
        chosen = _one_per_cell(place, cells)
        spot = np.minimum(place[chosen] * cells, cells - 1).astype(int)
        picture, filled = _quilt(images, chosen, spot, cells)
        grows = max(picture.shape) < _BOX * DPI
        box: dict[str, Any] = {"extent": (_EDGE, _EDGE + _BOX, _EDGE + _BOX, _EDGE), "aspect": "auto"}
        axes.imshow(picture, interpolation="bicubic" if grows else "antialiased", **box)
        axes.set_autoscale_on(False)
        if colour is not None:
            x, y = _EDGE + spot.T * (_BOX / cells)
            size, shade = filled * _BOX / cells, [class_colour(int(kind)) for kind in colour[chosen]]
            axes.hlines(y + size, x, x + size, colors=shade, linewidth=1.5)
        left = _EDGE + _BOX + 0.3
        _dots(axes, place * _SIDE + (left, _EDGE), colour)
        below = _legend(axes, left, _EDGE + _SIDE + 0.3, len(xy), colour, names)
        write(axes, left, below, fitted(note, _SIDE, 9, 12), color=SOFT)
    return Path(path)


def _framed(xy: Float[np.ndarray, "object 2"]) -> Float[np.ndarray, "object 2"]:
    """Positions in the unit square, y downwards; the outermost 0.5 % do not shrink the rest, they wait at the edge."""
    low, high = np.percentile(xy, (0.5, 99.5), axis=0)
    middle, half = (low + high) / 2, np.maximum(high - low, 1e-12) / 2 * 1.06
    place = np.clip((xy - middle) / half, -1, 1) / 2 + 0.5
    return np.stack([place[:, 0], 1 - place[:, 1]], axis=1)


def _one_per_cell(place: Float[np.ndarray, "object 2"], cells: int) -> Integer[np.ndarray, " chosen"]:
    """Of the objects in each occupied cell, the one nearest its centre."""
    spot = np.minimum((place * cells).astype(int), cells - 1)
    off_centre = np.square(place * cells - spot - 0.5).sum(axis=1)
    nearest_first = np.argsort(off_centre, kind="stable")
    _, first = np.unique(spot[nearest_first] @ (1, cells), return_index=True)
    return nearest_first[first]


def _quilt(
    images: Pixels, chosen: Integer[np.ndarray, " chosen"], spot: Integer[np.ndarray, "chosen 2"], cells: int
) -> tuple[UInt8[np.ndarray, "side side 3"], float]:
    """The chosen images at their (column, row), in one picture; and the share of a cell's side that an image fills."""
    shrink = max(1, max(images.shape[2:]) // 64)  # by whole pixels: means, no aliasing
    high, wide = (length // shrink for length in images.shape[2:])
    tile = max(high, wide)
    pitch = tile + max(1, tile // 12)
    ground = [int(GROUND[i : i + 2], 16) for i in (1, 3, 5)]
    quilt = np.full((cells * pitch, cells * pitch, 3), ground, np.uint8)
    for index, (column, row) in zip(chosen, spot, strict=True):
        whole = display(images[index][None])[0, : high * shrink, : wide * shrink]
        top, left = row * pitch + (tile - high) // 2, column * pitch + (tile - wide) // 2
        small = whole.reshape(high, shrink, wide, shrink, 3).mean(axis=(1, 3))
        quilt[top : top + high, left : left + wide] = np.round(small)
    return quilt, tile / pitch


def _dots(axes: Axes, at: Float[np.ndarray, "object 2"], colour: Integer[np.ndarray, " object"] | None) -> None:
    """Every object, in inches; where no classes are known, how many there are."""
    if colour is not None or len(at) < 2000:
        order = np.random.default_rng(0).permutation(len(at))  # no class lies on top of the others
        shade = CLASSES[0] if colour is None else [class_colour(int(kind)) for kind in colour[order]]
        axes.scatter(at[order, 0], at[order, 1], s=np.clip(8000 / len(at), 1, 9), c=shade, linewidths=0, alpha=0.8)
        return
    axes.hexbin(*at.T, gridsize=34, mincnt=1, bins="log", cmap=glow(), linewidths=0.2, edgecolors=GROUND)


def _legend(
    axes: Axes,
    left: float,
    top: float,
    count: int,
    colour: Integer[np.ndarray, " object"] | None,
    names: Sequence[str] | None,
) -> float:
    """One line a class with its count; returns where the next line may start."""
    if colour is None:
        said = f"{count:,} object{'s' * (count > 1)}" + (", brighter: more of them" if count >= 2000 else "")
        axes.text(left, top, said, color=SOFT, va="center_baseline")
        return top + 0.3
    for kind, many in zip(*np.unique(colour, return_counts=True), strict=True):
        name = "not classified" if kind < 0 else names[kind] if names is not None else f"class {kind}"
        axes.plot(left + 0.06, top, "s", color=class_colour(int(kind)), markersize=6.5)
        axes.text(left + _SIDE, top, f"{many:,}", color=SOFT, ha="right", va="center_baseline")
        top = write(axes, left + 0.22, top, fitted(name, _SIDE - 0.85, 9, 2), 0.17) + 0.07
    return top + 0.16
