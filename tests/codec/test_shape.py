"""Shapes as tokens: what does not depend on how a galaxy is turned, and what drawn galaxies are known to be."""

import numpy as np
import pytest
import torch

from omnisky.codec.shape import Moments, Rings, above_sky, tilt
from omnisky.errors import BadPixels, BandMismatch, ShapeMismatch
from omnisky.observe.loader import turned
from omnisky.observe.types import Image, Observation

BANDS = ("red", "green", "blue")
CODECS = (
    Rings(bands=BANDS, softening=12.0),
    Rings(bands=BANDS, softening=12.0, face_on=False, name="circles"),
    Moments(bands=BANDS, softening=12.0),
)
SIZE = 64


def disc(ratio=1.0, angle=0.0, mode=0, wind=0.0, contrast=0.8, scale=8.0):
    """An exponential disc of that axis ratio and angle (rad) with one mode of light that leads by wind·ln r."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    u, v = x * np.cos(angle) + y * np.sin(angle), (y * np.cos(angle) - x * np.sin(angle)) / ratio
    r, phi = np.hypot(u, v) + 1e-6, np.arctan2(v, u)
    light = 200 * np.exp(-r / scale) * (1 + (contrast * np.cos(mode * phi - wind * np.log(r)) if mode else 0))
    return np.repeat(light[None], 3, axis=0)


def seen(*pictures):
    flux = np.stack(pictures).astype(np.float32)
    return Observation.of(range(len(flux)), image=Image(flux=flux, bands=BANDS, unit="display"))


def galaxies(n=6, seed=0):
    draw = np.random.default_rng(seed)
    each = [disc(draw.uniform(0.4, 1), draw.uniform(0, 3), 2, draw.uniform(-4, 4)) for _ in range(n)]
    return seen(*[picture + draw.normal(0, 2, picture.shape) for picture in each])


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)
class TestBoth:
    def test_a_turned_or_mirrored_galaxy_has_the_same_shape(self, codec):
        some = galaxies()
        for k in range(1, 8):
            torch.testing.assert_close(
                codec.encode(turned(some, k))[codec.name].values, codec.encode(some)[codec.name].values, **LOOSE
            )

    def test_one_object_is_row_0_of_many(self, codec):
        some = galaxies()
        one = codec.encode(some.take([0]))[codec.name].values
        torch.testing.assert_close(one[0], codec.encode(some)[codec.name].values[0], atol=1e-4, rtol=1e-4)

    def test_numbers_come_back_with_their_names(self, codec):
        from dataclasses import replace

        scaled, some = replace(codec, centre=(0.5,), scale=(2.0,)), galaxies(2)
        raw = codec.encode(some)[codec.name].values.flatten(1)
        back = scaled.decode(scaled.encode(some), like=some)[codec.name]
        np.testing.assert_allclose(back.values, raw, rtol=1e-5, atol=1e-5)
        assert len(back.names) == raw.shape[1] == len(set(back.names))

    def test_absent_stays_absent_and_the_callers_array_as_it_was(self, codec):
        image = galaxies(3)["image"]
        before = image.flux.copy()
        some = Observation.of(
            range(3), image=Image(flux=image.flux, bands=BANDS, unit="display", present=np.array([True, False, True]))
        )
        span = codec.encode(some)[codec.name]
        assert span.there()[:, 0].tolist() == [True, False, True]
        assert np.isnan(codec.decode(codec.encode(some))[codec.name].values[1]).all()
        np.testing.assert_array_equal(image.flux, before)

    def test_an_empty_sky_gives_finite_numbers(self, codec):
        assert torch.isfinite(codec.encode(seen(np.zeros((3, SIZE, SIZE))))[codec.name].values).all()

    def test_bad_pixels_and_bands_are_named(self, codec):
        hole = disc()
        hole[1, 3, 3] = np.nan
        with pytest.raises(BadPixels, match="green"):
            codec.encode(seen(hole))
        with pytest.raises(BandMismatch):
            codec.encode(Observation.of([0], image=Image(flux=disc()[None], bands=("g", "r", "z"))))
        with pytest.raises(ShapeMismatch):
            codec.encode(seen(disc()[:, :, :40]))


LOOSE = {"atol": 2e-3, "rtol": 2e-3}
"""a galaxy rounder than the noise has no long axis: its angle then hangs on rounding"""


@pytest.mark.parametrize("ratio", [0.4, 0.6, 0.8])
def test_the_tilt_of_a_disc_is_found(ratio):
    """The Gaussian window rounds a disc it cuts off; a small disc shows its own ratio within 0.07."""
    light = torch.from_numpy(disc(ratio, angle=0.7, scale=3.0).mean(0)[None]).float()
    middle, angle, found = tilt(light)
    assert abs(float(found) - ratio) < 0.07
    assert abs(float(angle) - 0.7) < 0.02
    assert float(middle.norm()) < 0.05


@pytest.mark.parametrize("wind", [-3.0, 1.5, 5.0])
def test_arms_lead_by_what_they_were_wound(wind):
    """cos(2φ − w·ln r): between rings a factor q apart, mode 2 turns by w·ln q."""
    codec = CODECS[0]
    numbers = codec.encode(seen(disc(mode=2, wind=wind)))["rings"].values[0, 12:18]
    names = codec.names()
    step = wind * np.log(codec.outer / codec.inner) / (codec.count - 1)
    cos, sin = numbers[:, names.index("lead_cos_2")], numbers[:, names.index("lead_sin_2")]
    found = torch.atan2(sin, cos).mean()
    assert abs(float(found) - abs(step)) < 0.1 * abs(step) + 0.02


def test_the_strongest_mode_is_the_one_drawn():
    codec = CODECS[0]
    for mode in (1, 2, 3, 4):
        numbers = codec.encode(seen(disc(mode=mode, contrast=0.5)))["rings"].values[0, 8:18]
        strengths = numbers[:, codec.names().index("strength_1") :][:, : codec.modes]
        assert int(strengths.mean(0).argmax()) + 1 == mode


def test_light_above_the_sky_does_not_know_the_sky():
    picture = torch.from_numpy(disc()[None]).float()
    torch.testing.assert_close(above_sky(picture + 40.0), above_sky(picture), atol=1e-3, rtol=1e-4)
