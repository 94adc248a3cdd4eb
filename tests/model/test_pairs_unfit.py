"""What AstroCLIP does with data that do not fit: an error that says why, or just what is written here.

From observations through codecs and towers to an embedding, as users meet it: shapes are not checked.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pairs
import pytest

from omnisky.embed import embed
from omnisky.errors import BadPixels, BandMismatch, MissingModality, OmniskyError, ShapeMismatch, TooSmall
from omnisky.observe.types import Image, Observation, Spectrum
from omnisky.train.frozen import keep_states

pytestmark = pytest.mark.usefixtures("unchecked")


def spectrum(seen: Observation, **more: np.ndarray) -> Observation:
    return seen | {"spectrum": replace(seen["spectrum"], **more)}


def image(seen: Observation, flux: np.ndarray, bands: tuple[str, ...] = pairs.BANDS) -> Observation:
    return seen | {"image": Image(flux=np.ascontiguousarray(flux), bands=bands)}


def put(values: np.ndarray, where: object, value: float) -> np.ndarray:
    values = values.copy()
    values[where] = value
    return values


def vectors(seen: Observation, part: str) -> np.ndarray:
    return embed(pairs.clip(), seen, part=part).vectors


SEEN = pairs.sky(4)
FLUX, WAVE = SEEN["spectrum"].flux, SEEN["spectrum"].wavelength_aa
PIXELS = SEEN["image"].flux
IVAR = np.ones_like(FLUX)

REFUSED: dict[str, tuple[Callable[[], Observation], str, type[OmniskyError], str]] = {
    "NaN flux": (
        *(lambda: spectrum(SEEN, flux=put(FLUX, (1, 7), np.nan)), "spectrum", BadPixels),
        "NaN or infinite flux in 1 of 4 spectra. Try: mark those pixels `good=` False, or give them ivar 0",
    ),
    "NaN ivar": (
        *(lambda: spectrum(SEEN, ivar=put(IVAR, (1, 7), np.nan)), "spectrum", BadPixels),
        "NaN, infinite or negative ivar. Try: 0 where a pixel says nothing",
    ),
    "ivar 0 everywhere": (
        *(lambda: spectrum(SEEN, ivar=put(IVAR, 2, 0)), "spectrum", BadPixels),
        "nothing measured in 1 of 4 spectra",
    ),
    "from red to blue": (
        *(lambda: spectrum(SEEN, wavelength_aa=WAVE[:, ::-1]), "spectrum", BadPixels),
        "wavelengths do not increase in 4 of 4 spectra",
    ),
    "unsorted": (
        *(lambda: spectrum(SEEN, wavelength_aa=np.random.default_rng(0).permuted(WAVE, axis=1)), "spectrum", BadPixels),
        "Try: order = np.argsort",
    ),
    "nm for Å": (
        *(lambda: spectrum(SEEN, wavelength_aa=WAVE / 10), "spectrum", BadPixels),
        "some between 4000 and 5200 Å",
    ),
    "one pixel": (
        lambda: SEEN | {"spectrum": Spectrum(flux=FLUX[:, :1], wavelength_aa=WAVE[:, :1])},
        *("spectrum", TooSmall, "at least 2"),
    ),
    "NaN pixel": (
        *(lambda: image(SEEN, put(PIXELS, (3, 1, 2, 2), np.nan)), "image", BadPixels),
        "NaN or infinite pixels in 1 of 4 images, bands green",
    ),
    "other bands": (
        *(lambda: image(SEEN, PIXELS[:, :2], pairs.BANDS[:2]), "image", BandMismatch),
        "saw red green; want red green blue",
    ),
    "half a patch over": (
        *(lambda: image(SEEN, PIXELS[..., :15, :15]), "image", ShapeMismatch),
        "Try: crop the centre to 12×12",
    ),
    "oblong": (
        *(lambda: image(SEEN, PIXELS[..., :12, :]), "image", ShapeMismatch),
        "saw 12×16 px; want a square",
    ),
    "smaller than a patch": (
        *(lambda: image(SEEN, PIXELS[..., :3, :3]), "image", TooSmall),
        "want at least 4 px",
    ),
    "no spectrum at all": (
        *(lambda: Observation(SEEN.object_id, SEEN.ra, SEEN.dec, {"image": SEEN["image"]}), "spectrum"),
        *(MissingModality, "spectrum"),
    ),
    "no spectrum of one": (
        *(lambda: spectrum(SEEN, present=np.array([True, True, False, True])), "spectrum", MissingModality),
        "1 of 4 objects have no 'spectra'",
    ),
    "no image of two": (
        *(lambda: SEEN | {"image": replace(SEEN["image"], present=np.arange(4) > 1)}, "image", MissingModality),
        "2 of 4 objects have no 'images'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_saying_why(name, tmp_path):
    """The same words whether one embeds or keeps states for an alignment, which then leaves no states behind."""
    make, part, error, said = REFUSED[name]
    with pytest.raises(error) as refused:
        vectors(make(), part)
    assert said in str(refused.value)
    with pytest.raises(error):
        keep_states(pairs.clip(), make(), tmp_path / "states", precision="fp32")
    assert not (tmp_path / "states" / "done.json").exists()


# --- what may differ, and what it does ---------------------------------------------------------------------------


def test_pixels_that_say_nothing_do_not_matter():
    """NaN where `good` is False, and anything where ivar is 0."""
    good = np.ones(FLUX.shape, bool)
    good[:, 40:47] = False
    by_flag = vectors(spectrum(SEEN, flux=np.where(good, FLUX, np.nan).astype(np.float32), good=good), "spectrum")
    by_ivar = vectors(spectrum(SEEN, flux=np.where(good, FLUX, 1e9).astype(np.float32), ivar=good * IVAR), "spectrum")
    assert np.isfinite(by_flag).all() and np.array_equal(by_flag, by_ivar)
    assert not np.array_equal(by_flag, vectors(SEEN, "spectrum"))


def test_padding_does_not_matter():
    """Beyond rounding: on the model's own grid pixels are taken as they are, else laid on it."""
    padded = SEEN | {"spectrum": SEEN["spectrum"].padded(150)}
    assert vectors(padded, "spectrum") == pytest.approx(vectors(SEEN, "spectrum"), abs=1e-4)


def test_spectra_of_other_lengths_are_read_and_the_rest_is_absent():
    short = SEEN | {"spectrum": Spectrum(flux=FLUX[:, 20:90], wavelength_aa=WAVE[:, 20:90])}
    model = pairs.clip()
    span = model.codecs[1].encode(short)["spectra"]
    assert span.there()[0].tolist() == [False] * 0 + [True] + [i * 5 + 10 > 20 and i * 5 < 90 for i in range(23)]
    assert np.isfinite(embed(model, short, part="spectrum").vectors).all()


def test_a_finer_spectrum_is_read_as_the_same_object():
    """The mean over each pixel of the model's grid: nearer its own galaxy than any other's."""
    wave = np.tile(np.arange(3995.0, 5196.0, 2.0), (4, 1))
    fine = np.stack([np.interp(wave[0], WAVE[0], row) for row in FLUX]).astype(np.float32)
    there = vectors(SEEN | {"spectrum": Spectrum(flux=fine, wavelength_aa=wave)}, "spectrum")
    here = vectors(SEEN, "spectrum")
    away = np.linalg.norm(there[:, None] - here[None], axis=-1)
    assert (away.argmin(1) == np.arange(4)).all()


def test_bands_in_another_order_and_more_of_them_are_sorted_out():
    flux = np.concatenate([PIXELS[:, ::-1], PIXELS[:, :1] * 9], axis=1)
    assert np.array_equal(vectors(image(SEEN, flux, (*pairs.BANDS[::-1], "infrared")), "image"), vectors(SEEN, "image"))


@pytest.mark.parametrize("side", [8, 12, 20])
def test_images_of_other_sizes_are_whole_patches_with_interpolated_positions(side):
    assert vectors(pairs.sky(3, size=side), "image").shape == (3, 8)


def test_a_codec_that_keeps_the_middle_reads_larger_images_and_refuses_smaller_ones():
    """As the published one keeps 144 px."""
    model = pairs.clip()
    model.codecs = (replace(pairs.PATCHES, side=16), pairs.SECTIONS)
    large = pairs.sky(3, size=24)
    middle = image(large, large["image"].flux[..., 4:20, 4:20])
    assert np.array_equal(embed(model, large, part="image").vectors, embed(model, middle, part="image").vectors)
    with pytest.raises(TooSmall, match="saw 12×12 px; want at least 16 px a side"):
        embed(model, pairs.sky(3, size=12), part="image")
