"""Augmentation: 2 large and 8 small views of galaxies, in batches of tensors and, beside it, image by image in NumPy.

The NumPy side states AstroDINO's views as plainly as one can: for each image and view a crop, two flips, for each band
a Gaussian filter and noise, and the stretch. Both sides draw their own chances, so their answers are not the same
numbers: means and spreads of every band of large and small views over the batch, alike within a few per cent, or it
fails. That each operation alone is right, tests say.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks import harness
from benchmarks.harness import Comparison, Job, Worker, versions_here

OBJECTS, QUICK = 64, 16
CHANCES = (1.0, 0.1, 0.5)
"""of blur, and of noise, in the first and the second large view and in small ones"""


def comparisons(quick: bool = False) -> Iterator[Comparison]:
    """One; a `quick` one proves only that it runs."""
    given = {"n": QUICK if quick else OBJECTS}
    yield Comparison(
        name=f"augment/views-{given['n']}-over-numpy",
        ours=Job("ours", "ours", given),
        theirs=Job("numpy", "numpy", given),
        unit="images",
        work=given["n"],
        target=5.0,
        agree=0.2 if quick else 0.1,
    )


def workers() -> dict[str, Worker]:
    """One process a side."""
    return {name: Worker(Path(sys.executable), "benchmarks.views") for name in ("ours", "numpy")}


def versions() -> dict[str, str]:
    """Of what takes part."""
    return versions_here("omnisky", "torch", "numpy", "scipy")


# --- the workers -------------------------------------------------------------------------------------------------


def galaxies(n: int) -> np.ndarray:
    """Round galaxies of many sizes on a noisy sky, 152 px, z r g nanomaggies."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:152, :152] - 75.5
    wide = draw.uniform(2, 12, (n, 1, 1, 1))
    light = draw.uniform(0.1, 1, (n, 3, 1, 1)) * np.exp(-np.hypot(x, y) / wide)
    return (light + draw.normal(0, 0.005, (n, 3, 152, 152))).astype(np.float32)


def answer(large: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Mean and spread of each band of the large and of the small views."""
    some = [large.mean((0, 2, 3)), large.std((0, 2, 3)), small.mean((0, 2, 3)), small.std((0, 2, 3))]
    return np.concatenate(some).astype(np.float64)


def ours(folder: Path, n: int) -> Callable[[], _Seen]:
    """As model.distill makes its views."""
    import torch

    from omnisky.model.augment import PAPER
    from omnisky.train.devices import keep_memory

    keep_memory()
    images, draw = torch.from_numpy(galaxies(n)), torch.Generator().manual_seed(1)

    def call() -> _Seen:
        crops = PAPER.crops(images, draw)
        return _Seen(crops.large.numpy(), crops.small.numpy())

    return call


def one_by_one(folder: Path, n: int) -> Callable[[], _Seen]:
    """The same image by image, with NumPy and scipy."""
    from omnisky.model.augment import Weather

    images, draw, weather = galaxies(n), np.random.default_rng(1), Weather()

    def call() -> _Seen:
        large = [_view(image, 144, chance, weather, draw) for chance in CHANCES[:2] for image in images]
        small = [_view(image, 60, CHANCES[2], weather, draw) for image in images for _ in range(8)]
        return _Seen(np.stack(large), np.stack(small))

    return call


class _Seen:
    """The views; what is compared of them is worked out only when asked for, outside the timing."""

    def __init__(self, large: np.ndarray, small: np.ndarray) -> None:
        self.large, self.small = large, small

    def flatten(self) -> np.ndarray:
        return answer(self.large, self.small)


def _view(image: np.ndarray, size: int, chance: float, weather: object, draw: np.random.Generator) -> np.ndarray:
    from scipy import ndimage

    top, left = draw.integers(0, 152 - size + 1, 2)
    seen = image[:, top : top + size, left : left + size]
    seen = seen[:, :, ::-1] if draw.random() < 0.5 else seen
    seen = seen[:, ::-1] if draw.random() < 0.5 else seen
    if draw.random() < chance:
        sigma = _extra(weather.seeing, draw)
        seen = np.stack([ndimage.gaussian_filter(band, s, mode="reflect") for band, s in zip(seen, sigma, strict=True)])
    if draw.random() < chance:
        sigma = _extra(weather.depth, draw)[:, None, None]
        seen = seen + sigma * draw.standard_normal(seen.shape, dtype=np.float32)
    return _stretched(seen.astype(np.float32))


def _extra(told: object, draw: np.random.Generator) -> np.ndarray:
    have, want = (np.asarray(told.loc) + told.scale * np.exp(told.shape * draw.standard_normal(3)) for _ in range(2))
    return np.sqrt(np.maximum(0, want**2 - have**2)).astype(np.float32)


def _stretched(seen: np.ndarray) -> np.ndarray:
    x = seen * np.array([2.2, 3.4, 6.0], np.float32)[:, None, None] + np.float32(0.03)
    light = np.maximum(x, 0).mean(0)
    light[light == 0] = 1e-6
    return np.clip(x * (np.arcsinh(20 * light) / np.sqrt(np.float32(20)) / light), 0, 1)


if __name__ == "__main__":
    harness.serve({"ours": ours, "numpy": one_by_one})
