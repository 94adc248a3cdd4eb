"""The up-sampler finds maps in patch states, at the pixel, and says what it cannot do."""

import numpy as np
import pytest
import torch

from omnisky.adapt.segment import Segmenter, UpSampler, intersection_over_union
from omnisky.codec.patch import factors
from omnisky.errors import BadValue, ShapeMismatch

QUICK = {"steps": 120, "batch": 16, "hidden": 16, "rate": 1e-2}


def maps(n: int = 48, rows: int = 4, patch: int = 4, seed: int = 0):
    """Discs; a patch's state tells where the disc is, and where the patch is itself."""
    draw = np.random.default_rng(seed)
    side = rows * patch
    y, x = np.mgrid[:side, :side]
    centre, radius = draw.uniform(side * 0.3, side * 0.7, (n, 2)), draw.uniform(side * 0.15, side * 0.3, n)
    away = np.hypot(y - centre[:, 0, None, None], x - centre[:, 1, None, None])
    inside = (away < radius[:, None, None])[:, None]
    row, column = np.mgrid[:rows, :rows] * patch + (patch - 1) / 2
    offset = [centre[:, i, None, None] - place for i, place in enumerate((row, column))]
    states = np.stack([*offset, np.broadcast_to(radius[:, None, None], offset[0].shape)], -1) / patch
    return states.astype(np.float16), inside


def test_discs_are_found_at_the_pixel():
    probe = Segmenter(**QUICK).fit(*maps())
    states, truth = maps(seed=1)
    assert intersection_over_union(probe.predict(states), truth)[0] > 0.75
    assert probe.predict(states[:1]).shape == (1, 1, 16, 16)


@pytest.mark.parametrize(("patch_px", "steps"), [(8, (2, 2, 2)), (12, (2, 2, 3)), (17, (17,))])
def test_a_patch_of_12_px_is_two_doublings_and_a_tripling(patch_px, steps):
    assert factors(patch_px) == steps
    grown = UpSampler(width=5, patch_px=patch_px, classes=2, hidden=8)(torch.zeros(1, 2, 3, 5))
    assert grown.shape == (1, 2, 2 * patch_px, 3 * patch_px)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda x, y: (x, y[:, 0]), ShapeMismatch),
        (lambda x, y: (x, y[..., :-1]), ShapeMismatch),
        (lambda x, y: (x[:-1], y), ShapeMismatch),
        (lambda x, y: (x, y * 2.0), BadValue),
        (lambda x, y: (x, y * 0), BadValue),
        (lambda x, y: (x, np.where(y, np.nan, 0)), BadValue),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_maps_that_do_not_fit_are_refused(change, error):
    with pytest.raises(error):
        Segmenter(**QUICK).fit(*change(*maps(8)))


def test_intersection_over_union_counts_pixels():
    said, truth = np.zeros((1, 2, 2, 2), bool), np.zeros((1, 2, 2, 2), bool)
    said[0, 0, 0], truth[0, 0, :, 0] = True, True
    found = intersection_over_union(said, truth)
    assert found[0] == pytest.approx(1 / 3) and np.isnan(found[1])
