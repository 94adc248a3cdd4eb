"""Colour stretches: back to flux where nothing was clipped, hue kept, and the middle of a larger picture."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnisky.codec.patch import RasterPatches
from omnisky.codec.stretch import LegacyColours, SteinColours
from omnisky.errors import TooSmall
from omnisky.observe.types import Image, Observation

ZRG = ("z", "r", "g")
both = pytest.mark.parametrize("stretch", [LegacyColours(), SteinColours()], ids=["legacy", "stein"])


@both
@given(seed=st.integers(0, 1000), size=st.floats(0.001, 0.15))
def test_flux_comes_back_where_nothing_was_clipped(stretch, seed, size):
    """Float32 through asinh, sinh and a difference with `lift`: 1e-6 nanomaggies."""
    flux = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * size
    value = stretch.forward(flux)
    whole = ((value > 0) & (value < 1)).all(1, keepdim=True).expand_as(flux)
    assert whole.any()
    assert (stretch.inverse(value) - flux)[whole].abs().max() < 1e-6


@both
def test_values_lie_between_0_and_1_and_dark_is_dark(stretch):
    flux = torch.tensor([-1e3, -1.0, 0.0, 1e-3, 1.0, 1e4])[:, None, None, None].expand(-1, 3, 2, 2)
    value = stretch.forward(flux)
    assert torch.isfinite(value).all() and value.min() == 0 and value.max() == 1
    assert (value[:2] == 0).all()


def test_hue_does_not_depend_on_brightness():
    """Lupton et al. 2004: the ratios of the stretched bands are those of scale · flux + lift."""
    stretch = LegacyColours(lift=0.0)
    flux = torch.tensor([0.3, 0.2, 0.1])[None, :, None, None] * torch.tensor([0.01, 1.0])[:, None, None, None]
    faint, bright = stretch.forward(flux)[..., 0, 0]
    assert torch.allclose(faint / faint.sum(), bright / bright.sum(), atol=1e-6)
    assert bright.sum() < 40 * faint.sum()  # a hundred times the light


def picture(side: int) -> Observation:
    flux = np.arange(3 * side * side, dtype=np.float32).reshape(1, 3, side, side) / (3 * side * side)
    return Observation.of(["a"], image=Image(flux=flux, bands=("g", "r", "z")))


def test_the_middle_of_a_larger_picture_is_kept():
    codec = RasterPatches(patch_size=1, bands=ZRG, side=4)
    values = codec.encode(picture(12))["images"].values[0].unflatten(0, (4, 4)).numpy()
    assert np.array_equal(values.transpose(2, 0, 1), picture(12)["image"].flux[0, ::-1, 4:8, 4:8])


def test_a_smaller_picture_is_refused():
    with pytest.raises(TooSmall, match=r"saw 3×3 px; want at least 4 px a side"):
        RasterPatches(patch_size=1, bands=ZRG, side=4).encode(picture(3))
