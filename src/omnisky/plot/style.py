"""How our figures look, and the sheet they are drawn on. matplotlib is imported here and nowhere else, when drawing.

Galleries are laid out in inches, x to the right and y downwards from the top left corner, so that nothing overlaps by
accident: a letter of 9 points is about 0.075 inch wide.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Num, UInt8

from omnisky.errors import BadPixels, BadValue, MissingExtra, ShapeMismatch
from omnisky.storage import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = Num[np.ndarray, "object 3 height width"]
"""colour images for the eye: uint8, or floats in [0, 1]; planes are red, green, blue"""

DPI = 180  # a 10 inch sheet is 1800 pixels: sharp on a page 900 points wide, and in print

INK, SOFT, FAINT, GROUND = "#e9ecf1", "#a3abb8", "#39404c", "#0b0d12"
"""text, secondary text, lines and empty cells, the sheet"""
ACCENT = "#ffb84d"
CLASSES = ("#7daff9", "#e0782a", "#4fdf98", "#f7e03c", "#c08fae", "#8175ff", "#e9ecf1", "#b4794b")
"""Okabe & Ito 2008, moved on a dark ground until the nearest two were as far apart as they go to colour-blind eyes"""

_SHEET = {
    "figure.facecolor": GROUND,
    "savefig.facecolor": GROUND,
    "axes.facecolor": GROUND,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 10,
    "axes.titlesize": 11,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in the name of a galaxy is a dollar sign
    "font.size": 9,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same sheet on every machine
    "legend.facecolor": GROUND,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.9,
    "legend.labelcolor": SOFT,
    "lines.solid_capstyle": "round",
}


@contextmanager
def sheet(path: str | Path, width_in: float, height_in: float) -> Iterator[Figure]:
    """An empty figure in our style, written when the block ends well: an .svg, else a PNG. Raises MissingExtra."""
    try:
        from matplotlib import style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("drawing needs matplotlib", hint="pip install 'omnisky[plot]'") from error
    with style.context(["default", _SHEET]):  # whatever the user's matplotlibrc says
        figure = Figure(figsize=(width_in, height_in), dpi=DPI)
        FigureCanvasAgg(figure)
        yield figure
        with atomic(path) as draft:
            figure.savefig(draft, format="svg" if Path(path).suffix == ".svg" else "png")


def canvas(figure: Figure) -> Axes:
    """The whole sheet as one pair of axes in inches, y downwards."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    return axes


def stamp(axes: Axes, image: np.ndarray, x: float, y: float, size: float, frame: str = "", width: float = 1.6) -> None:
    """An image (height, width, 3 or 4) with its top left corner at (x, y), fitted into a square of `size` inches."""
    height_px, width_px = image.shape[:2]
    wide, high = size * width_px / max(image.shape[:2]), size * height_px / max(image.shape[:2])
    left, top = x + (size - wide) / 2, y + (size - high) / 2
    grows = size * DPI > max(image.shape[:2])
    smooth = "nearest" if image.shape[-1] == 4 else "bicubic" if grows else "antialiased"
    axes.imshow(image, extent=(left, left + wide, top + high, top), interpolation=smooth, aspect="auto", zorder=2)
    axes.set_autoscale_on(False)
    if frame:
        from matplotlib.patches import Rectangle

        box: dict[str, Any] = {"fill": False, "edgecolor": frame, "linewidth": width, "zorder": 3, "joinstyle": "miter"}
        axes.add_patch(Rectangle((left, top), wide, high, **box))


def display(
    images: Num[np.ndarray, "*object 3 height width"],
) -> UInt8[np.ndarray, "*object height width 3"]:
    """Images as 8-bit colour with the planes last: (…, 3, height, width) → (…, height, width, 3).

    Floats are clipped to [0, 1], since a model may draw a little outside. Raises BadPixels, ShapeMismatch.
    """
    if images.ndim < 4 or images.shape[-3] != 3:
        raise ShapeMismatch("images", saw=images.shape, want="(object, 3, height, width)", hint="image[None] for one")
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise BadPixels("images", saw=images.dtype, want="uint8, or floats in [0, 1]")
        if not np.isfinite(images).all():
            raise BadPixels("images", saw="NaN or infinity", want="finite floats in [0, 1]", hint="np.nan_to_num")
        if images.size and np.median(images) > 1:
            raise BadPixels(
                "images", saw=f"median {np.median(images):.3g}", want="floats in [0, 1]", hint="images / 255"
            )
        images = np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)
    return np.moveaxis(images, -3, -1)


def same_length(**counted: object) -> None:
    """Refuse arguments that should have one entry an object and do not agree. None is left out."""
    lengths = {name: len(value) for name, value in counted.items() if value is not None}  # type: ignore[arg-type]
    if len(set(lengths.values())) > 1:
        raise ShapeMismatch("these do not go together", saw=lengths, want="one entry an object in each")
    if 0 in lengths.values():
        raise BadValue("there is nothing to draw", saw=lengths, want="one object or more")


def fitted(text: object, width_in: float, points: float = 9, lines: int = 1) -> str:
    """Text broken into at most so many lines that fit the width; what is left over becomes an ellipsis."""
    letters = max(4, int(width_in * 72 / (0.58 * points)))
    return "\n".join(textwrap.wrap(str(text), letters, max_lines=lines, placeholder=" …")) or str(text)[:0]


def write(axes: Axes, x: float, y: float, text: str, leading: float = 0.19, **look: Any) -> float:
    """Lines of text below one another from `y` on, evenly spaced whatever letters they have; returns where they end."""
    for line in text.splitlines():
        axes.text(x, y, line, va="center_baseline", **look)
        y += leading
    return y


def class_colour(index: int) -> str:
    """One colour a class; past the eighth they come round again, and the name must tell. Negative: not classified."""
    return CLASSES[index % len(CLASSES)] if index >= 0 else SOFT


def glow() -> Any:
    """How many: from few, faint, to many, bright."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("glow", [FAINT, CLASSES[0], "#ffffff"])


def ramp() -> Any:
    """How much: from blue over grey to the accent, ever brighter, as cividis (Nuñez et al. 2018, PLoS ONE 13)."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("ramp", ["#24447a", "#4d6c9e", "#8f8f94", "#d0a45c", "#ffd873"])
