"""Galaxies side by side: look-alikes, completions, predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Integer, Num

from omnisky.errors import BadValue, ShapeMismatch
from omnisky.plot.style import (
    ACCENT,
    FAINT,
    INK,
    SOFT,
    Pixels,
    canvas,
    class_colour,
    display,
    fitted,
    same_length,
    sheet,
    stamp,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EDGE, _GAP = 0.3, 0.1  # inches: around the sheet, between stamps


def lookalike_wall(
    images: Pixels,
    queries: Integer[np.ndarray, " query"],
    neighbours: Integer[np.ndarray, "query rank"],
    path: str | Path,
    titles: Sequence[str] | None = None,
    scores: Float[np.ndarray, "query rank"] | None = None,
) -> Path:
    """A row for each query: the galaxy asked about, framed, then its look-alikes, closest first.

    `queries` and `neighbours` are rows of `images`; `titles` head the rows; `scores` are cosine similarities.
    """
    same_length(queries=queries, neighbours=neighbours, titles=titles, scores=scores)
    if scores is not None and scores.shape != neighbours.shape:
        raise ShapeMismatch("scores", saw=scores.shape, want=f"{neighbours.shape}, the shape of neighbours")
    used = np.concatenate([queries, neighbours.ravel()])
    if used.min() < 0 or used.max() >= len(images):
        raise BadValue("look-alikes", saw=f"rows {used.min()} to {used.max()}", want=f"rows of {len(images)} images")
    many = neighbours.shape[1]
    size = min(1.5, (10 - 2 * _EDGE - 0.3 - _GAP * many) / (many + 1))
    start = _EDGE + size + 0.3 + _GAP
    head, foot = 0.3 if titles is not None else 0.0, 0.28 if scores is not None else _GAP
    tall = head + size + foot + 0.06
    wide = max(start + many * (size + _GAP) - _GAP + _EDGE, 4.6)
    with sheet(path, wide, 0.7 + tall * len(queries)) as figure:
        axes = canvas(figure)
        axes.text(_EDGE, 0.45, "asked for", color=ACCENT, size=11)
        axes.text(start, 0.45, "most alike, closest first", size=11)
        for row, query in enumerate(queries):
            top = 0.68 + row * tall + head
            if titles is not None:
                axes.text(_EDGE, top - 0.1, fitted(titles[row], wide - 2 * _EDGE), color=SOFT)
            stamp(axes, display(images[query][None])[0], _EDGE, top, size, ACCENT, 2.0)
            for rank, found in enumerate(neighbours[row]):
                left = start + rank * (size + _GAP)
                stamp(axes, display(images[found][None])[0], left, top, size)
                if scores is not None:
                    score = f"{scores[row, rank]:.3f}"
                    axes.text(left + size / 2, top + size + 0.16, score, color=SOFT, ha="center", va="center")
    return Path(path)


def completions(
    truth: Pixels,
    shown: Bool[np.ndarray, "object height width"],
    completed: Pixels,
    path: str | Path,
    sampled: Num[np.ndarray, "object draw 3 height width"] | None = None,
) -> Path:
    """What the model was shown of each galaxy, what it drew, and the truth.

    `shown` is True where the model saw the pixel; `sampled` are further drawings of the same galaxies, with chance.
    """
    same_length(truth=truth, shown=shown, completed=completed, sampled=sampled)
    if shown.shape[1:] != truth.shape[2:] or completed.shape != truth.shape:
        saw = f"truth {truth.shape}, shown {shown.shape}, completed {completed.shape}"
        raise ShapeMismatch("completions", saw=saw, want="one height and width in all three")
    real = display(truth)
    draws = np.empty((len(truth), 0, *real.shape[1:]), np.uint8) if sampled is None else display(sampled)
    columns = [("shown to the model", real), ("what it drew", display(completed))]
    columns += [(f"drawn again, {draw + 1}", draws[:, draw]) for draw in range(draws.shape[1])]
    columns += [("the truth", real)]
    wide = len(columns)
    size = min(1.85, (10 - 2 * _EDGE - _GAP * (wide - 1)) / wide)
    with sheet(path, 2 * _EDGE + wide * size + (wide - 1) * _GAP, 0.72 + len(real) * (size + _GAP)) as figure:
        axes = canvas(figure)
        for column, (heading, pictures) in enumerate(columns):
            left = _EDGE + column * (size + _GAP)
            ink = ACCENT if column == 1 else INK if column in (0, wide - 1) else SOFT
            axes.text(left, 0.42, fitted(heading, size, 10), size=10, color=ink)
            for row, picture in enumerate(pictures):
                top = 0.56 + row * (size + _GAP)
                stamp(axes, picture, left, top, size)
                if column == 0:
                    stamp(axes, _veil(~shown[row]), left, top, size)
    return Path(path)


def _veil(unseen: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "tall wide 4"]:
    """Dark grey with thin diagonal lines over the pixels that were not shown, clear elsewhere."""
    fine = max(1, 512 // max(unseen.shape))
    cover = unseen.repeat(fine, axis=0).repeat(fine, axis=1)
    y, x = np.indices(cover.shape)
    stripe = (x + y) % max(4, max(cover.shape) // 24) < max(1, max(cover.shape) // 256)
    grey = np.where(stripe[..., None], (0.30, 0.33, 0.38), (0.12, 0.135, 0.16))
    return np.concatenate([grey, cover[..., None].astype(np.float64)], axis=-1)


def predictions(
    images: Pixels,
    names: Sequence[str],
    probabilities: Float[np.ndarray, "object class"],
    path: str | Path,
    truth: Integer[np.ndarray, " object"] | None = None,
) -> Path:
    """Each galaxy with the class the model finds likeliest, and a bar as long as its probability.

    `names` are the classes; `truth`, where known, is the index of the right one: those missed are marked.
    """
    same_length(images=images, probabilities=probabilities, truth=truth)
    if probabilities.shape[1] != len(names):
        raise ShapeMismatch("probabilities", saw=probabilities.shape, want=f"a column for each of {len(names)} names")
    across, size, gap = min(8, len(images)), 1.06, 0.14
    best = probabilities.argmax(axis=1)
    said = [fitted(names[kind], size, 8.5, 2) for kind in best]
    right = best if truth is None else truth
    was = [fitted(f"is {names[t]}", size, 8.5, 2) if t != b else "" for t, b in zip(right, best, strict=True)]
    lines = [len([*a.splitlines(), *b.splitlines()]) for a, b in zip(said, was, strict=True)]
    tall = [size + 0.46 + 0.165 * max(lines[i : i + across]) for i in range(0, len(lines), across)]
    with sheet(path, 2 * _EDGE + across * (size + gap) - gap, _EDGE + sum(tall) + 0.05) as figure:
        axes = canvas(figure)
        for i, picture in enumerate(display(images)):
            left, top = _EDGE + i % across * (size + gap), _EDGE + sum(tall[: i // across])
            stamp(axes, picture, left, top, size)
            _bar(axes, left, top + size + 0.12, size, float(probabilities[i, best[i]]), class_colour(int(best[i])))
            below = write(axes, left, top + size + 0.32, said[i], 0.165, size=8.5)
            write(axes, left, below, was[i], 0.165, size=8.5, color=ACCENT)
    return Path(path)


def _bar(axes: Axes, left: float, y: float, size: float, share: float, colour: str) -> None:
    """A bar for a probability, and the number beside it."""
    full = size - 0.38
    for end, ink in ((full, FAINT), (full * share, colour)):
        axes.plot([left, left + end], [y, y], color=ink, linewidth=3, solid_capstyle="butt")
    axes.text(left + size, y, f"{share:.0%}", color=SOFT, size=8.5, ha="right", va="center_baseline")
