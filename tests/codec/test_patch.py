"""What every codec promises, and what patches do with bad pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omnisky.codec.patch import RasterPatches, ScalarTokens, SpectralSections, SpiralPatches, spiral_index, standardise
from omnisky.codec.sections import Grid, OverlappingSections
from omnisky.codec.stretch import Asinh, Linear
from omnisky.codec.tokens import encode_all
from omnisky.errors import BadPixels, BandMismatch, MissingModality, ShapeMismatch, TooSmall
from omnisky.observe.types import Image, Observation, Scalars, Spectrum

GRZ = ("g", "r", "z")


def sky(n: int = 3, size: int = 8, seed: int = 0) -> Observation:
    """n objects with an image, a spectrum of 21 pixels and two numbers; fluxes of order 1, some negative."""
    draw = np.random.default_rng(seed)
    wave = np.tile(np.linspace(3600, 9800, 21), (n, 1)).astype(np.float32)
    return Observation.of(
        range(n),
        image=Image(flux=draw.normal(size=(n, 3, size, size)).astype(np.float32), bands=GRZ),
        spectrum=Spectrum(flux=draw.normal(size=(n, 21)).astype(np.float32), wavelength_aa=wave),
        scalars=Scalars(values=draw.normal(size=(n, 2)) * [1, 100], names=("z", "mass")),
    )


CODECS = {
    "raster": RasterPatches(patch_size=2, bands=GRZ),
    "spiral": SpiralPatches(patch_size=2, bands=GRZ),
    "spiral, stretched": SpiralPatches(patch_size=4, bands=GRZ, stretch=Asinh(softening=(0.1, 0.2, 0.3))),
    "spiral, scaled": SpiralPatches(patch_size=2, bands=GRZ, stretch=Linear(centre=(1, 2, 3), scale=(4, 5, 6))),
    "astropt": SpiralPatches(patch_size=4, bands=GRZ, standardised=True, columns_first=True),
    "sections": SpectralSections(size=8, standardised=False),
    "sections, standardised": SpectralSections(size=8),
    "sections, overlapping": OverlappingSections(grid=Grid(first_aa=3600, step_aa=310, pixels=21), size=5, step=4),
    "numbers": ScalarTokens(columns=("z", "mass"), centre=(0.5, 10), scale=(2, 100)),
}
every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def numbers(seen: Observation, part: str) -> np.ndarray:
    return seen[part].values if part == "scalars" else seen[part].flux


# --- contracts ---------------------------------------------------------------------------------------------------


@every_codec
@settings(max_examples=15)
@given(n=st.integers(1, 4), seed=st.integers(0, 1000))
def test_the_loop_closes(codec, n, seed):
    """To float32: 1e-6 of the largest number, tenfold through asinh and back."""
    seen = sky(n, seed=seed)
    before = numbers(seen, codec.part)
    after = numbers(codec.decode(codec.encode(seen), like=seen), codec.part)[:, ..., : before.shape[-1]]
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()


@every_codec
def test_the_callers_arrays_are_not_changed(codec):
    seen = sky()
    before = numbers(seen, codec.part).copy()
    tokens = codec.encode(seen)
    tokens[codec.name].values.mul_(0)
    assert np.array_equal(numbers(seen, codec.part), before)


@every_codec
def test_one_object_is_row_0_of_many(codec):
    many, one = codec.encode(sky())[codec.name], codec.encode(sky().take([0]))[codec.name]
    assert torch.equal(many.values[:1], one.values) and torch.equal(many.positions[:1], one.positions)


@every_codec
def test_absent_stays_absent(codec):
    """Whatever lies there, NaN too: no token says it, and nobody else's token changes."""
    seen = sky()
    numbers(seen, codec.part)[1] = np.nan
    hidden = seen | {codec.part: replace(seen[codec.part], present=np.array([True, False, True]))}
    span = codec.encode(hidden)[codec.name]
    assert span.there().any(1).tolist() == [True, False, True]
    assert torch.isfinite(span.values).all()
    assert torch.equal(span.values[::2], codec.encode(sky())[codec.name].values[::2])


@every_codec
def test_what_a_codec_reads_must_be_there(codec):
    with pytest.raises(MissingModality, match=f"want {codec.part}"):
        codec.encode(Observation.of(range(2)))


def test_only_the_parts_that_were_observed_are_encoded():
    codecs = (CODECS["spiral"], CODECS["sections"])
    tokens = encode_all(codecs, Observation.of(range(3), spectrum=sky()["spectrum"]))
    assert list(tokens) == ["spectra"]
    with pytest.raises(MissingModality, match="want image spectrum"):
        encode_all(codecs, Observation.of(range(3)))


# --- patches -----------------------------------------------------------------------------------------------------


def test_raster_patches_run_row_by_row_and_hold_rows_columns_bands():
    flux = np.arange(2 * 4 * 4, dtype=np.float32).reshape(1, 2, 4, 4)
    seen = Observation.of(["a"], image=Image(flux=flux, bands=("g", "r")))
    values = RasterPatches(patch_size=2, bands=("g", "r")).encode(seen)["images"].values[0]
    assert values[1].tolist() == [2, 18, 3, 19, 6, 22, 7, 23]  # top right; g and r of each pixel side by side
    swapped = RasterPatches(patch_size=2, bands=("r", "g")).encode(seen)["images"].values[0]
    assert swapped[1].tolist() == [18, 2, 19, 3, 22, 6, 23, 7]
    transposed = RasterPatches(patch_size=2, bands=("g", "r"), columns_first=True).encode(seen)["images"].values[0]
    assert transposed[1].tolist() == [8, 24, 12, 28, 9, 25, 13, 29]  # bottom left, column by column


@given(n=st.integers(1, 40))
def test_the_spiral_visits_every_cell_by_single_steps_from_the_centre_to_the_top_left(n):
    index = spiral_index(n)
    assert sorted(index.flatten().tolist()) == list(range(n * n))
    path = torch.nonzero(torch.ones(n, n))[index.flatten().argsort()]
    assert path[-1].tolist() == [0, 0]
    assert all((path[1:] - path[:-1]).abs().sum(1) == 1) if n > 1 else path[0].tolist() == [0, 0]
    assert ((path[0] * 2 - (n - 1)).abs() <= 1).all()  # half a cell from the middle at most


def test_the_spiral_is_astropts():
    assert spiral_index(4).tolist() == [[15, 14, 13, 12], [4, 3, 2, 11], [5, 0, 1, 10], [6, 7, 8, 9]]
    assert spiral_index(3).tolist() == [[8, 7, 6], [1, 0, 5], [2, 3, 4]]


def test_standardising_takes_each_patchs_own_mean_and_unbiased_scatter():
    patches = torch.tensor([[1.0, 2, 3, 4], [5, 5, 5, 5]])
    want = torch.tensor([-1.5, -0.5, 0.5, 1.5]) / (5 / 3) ** 0.5
    assert torch.allclose(standardise(patches), torch.stack([want, torch.zeros(4)]))


def test_standardised_patches_need_somebody_to_give_back_their_contrast():
    codec = CODECS["astropt"]
    with pytest.raises(ShapeMismatch, match="want like=observation"):
        codec.decode(codec.encode(sky()))


def test_8_bit_images_are_read_as_they_are():
    flux = np.full((1, 3, 2, 2), 255, dtype=np.uint8)
    seen = Observation.of(["a"], image=Image(flux=flux, bands=GRZ, unit="display"))
    assert RasterPatches(patch_size=2, bands=GRZ).encode(seen)["images"].values.unique().tolist() == [255]


def test_half_a_picture_is_not_decoded():
    codec = CODECS["raster"]
    with pytest.raises(ShapeMismatch, match="15 tokens"):
        codec.decode(codec.encode(sky()).map(lambda t: t[:, :15]))


# --- bad input ---------------------------------------------------------------------------------------------------


def picture(bands=GRZ, height=8, width=8) -> Observation:
    return Observation.of(range(2), image=Image(flux=np.ones((2, len(bands), height, width), np.float32), bands=bands))


def test_other_bands_are_refused_naming_both():
    with pytest.raises(BandMismatch, match=r"saw g r; want g r z\. Try: a codec without z"):
        CODECS["spiral"].encode(picture(bands=("g", "r")))


def test_more_bands_than_needed_in_another_order_are_fine():
    seen = picture(bands=("z", "i", "g", "r"))
    seen["image"].flux[:] = np.arange(4)[:, None, None]
    assert CODECS["raster"].encode(seen)["images"].values[0, 0, :3].tolist() == [2, 3, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_pixels_are_refused_saying_where(bad):
    seen = sky()
    seen["image"].flux[1, 2, 3, 4] = bad
    with pytest.raises(BadPixels, match="1 of 3 images, bands z"):
        CODECS["spiral"].encode(seen)


@pytest.mark.parametrize(
    ("height", "width", "error", "said"),
    [
        (3, 8, TooSmall, "saw 3×8 px; want at least 4 px"),
        (8, 6, ShapeMismatch, "crop the centre to 4×4"),
        (10, 10, ShapeMismatch, "saw 10×10 px; want a square of whole 4-px patches. Try: crop the centre to 8×8"),
    ],
)
def test_pictures_that_are_not_whole_patches_are_refused(height, width, error, said):
    with pytest.raises(error, match=said):
        SpiralPatches(patch_size=4, bands=GRZ).encode(picture(height=height, width=width))


# --- spectra and numbers -----------------------------------------------------------------------------------------


def test_sections_are_padded_and_carry_their_wavelengths():
    seen = sky()
    span = CODECS["sections"].encode(seen)["spectra"]
    assert span.values.shape == span.positions.shape == (3, 3, 8)
    assert np.array_equal(span.values[:, 2, 5:], np.zeros((3, 3)))
    assert span.positions[0, 0, 0] == pytest.approx((3600 - 3000) / 7000)


def test_bad_spectral_pixels_are_zero_and_sections_of_nothing_else_are_absent():
    seen = sky()
    good = np.ones((3, 21), dtype=bool)
    good[0, :8] = False
    good[1, 3] = False
    seen["spectrum"].flux[~good] = np.nan
    span = CODECS["sections"].encode(seen | {"spectrum": replace(seen["spectrum"], good=good)})["spectra"]
    assert span.there().tolist() == [[False, True, True], [True] * 3, [True] * 3]
    assert span.values[1, 0, 3] == 0
    with pytest.raises(BadPixels, match="`good=` False"):
        CODECS["sections"].encode(seen)


def test_an_empty_spectrum_is_refused():
    empty = np.zeros((2, 0), np.float32)
    with pytest.raises(TooSmall):
        CODECS["sections"].encode(Observation.of(range(2), spectrum=Spectrum(flux=empty, wavelength_aa=empty)))


def test_a_number_that_was_not_measured_is_absent_and_stays_nan():
    seen = sky()
    seen["scalars"].values[1, 0] = np.nan
    tokens = CODECS["numbers"].encode(seen)
    assert tokens["scalars"].there().tolist() == [[True, True], [False, True], [True, True]]
    assert np.array_equal(
        np.isnan(CODECS["numbers"].decode(tokens)["scalars"].values), np.isnan(seen["scalars"].values)
    )
