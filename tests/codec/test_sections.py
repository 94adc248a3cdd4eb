"""SpecFormer's tokens: any grid, ivar and gaps heeded, and what cannot be used named."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnisky.codec.sections import DESI, Grid, Laid, OverlappingSections, rebinned
from omnisky.errors import BadPixels, BadValue, ShapeMismatch, TooSmall
from omnisky.observe.types import Observation, Spectrum

GRID = Grid(first_aa=4000, step_aa=2, pixels=101)
CODEC = OverlappingSections(grid=GRID, size=10, step=5)
HEEDLESS = replace(CODEC, heedless=True)


def spectra(n: int = 3, grid: Grid = GRID, **more) -> Observation:
    """Smooth spectra of mean 3 and spread 1."""
    wave = np.tile(grid.wavelength_aa(), (n, 1))
    flux = 3 + 1.4 * np.sin(wave / 20 + np.arange(n)[:, None])
    return Observation.of(range(n), spectrum=Spectrum(flux=flux.astype(np.float32), wavelength_aa=wave, **more))


def changed(seen: Observation, **more) -> Observation:
    return seen | {"spectrum": replace(seen["spectrum"], **more)}


def test_tokens_of_a_whole_spectrum():
    """Token 0 tells mean and spread; each section has the standardised pixels from its start."""
    flux = spectra(1)["spectrum"].flux[0]
    values = CODEC.encode(spectra(1))["spectra"].values[0].numpy()
    assert values.shape == (20, 12)
    std = flux.std(ddof=1)
    assert values[0] == pytest.approx([(flux.mean() - 2) / 2, (std - 2) / 8, *[0] * 10], abs=1e-6)
    assert (values[1:, :2] == 0).all()
    assert values[4, 2:] == pytest.approx((flux[15:25] - flux.mean()) / std, abs=1e-6)


def test_a_spread_below_the_least_is_taken_as_the_least():
    flat = changed(spectra(1), flux=np.full((1, 101), 5, dtype=np.float32))
    values = CODEC.encode(flat)["spectra"].values
    assert values[0, 0, :2].tolist() == pytest.approx([1.5, (0.2 - 2) / 8])
    assert (values[:, 1:] == 0).all()
    assert CODEC.decode(CODEC.encode(flat))["spectrum"].flux[0, :100] == pytest.approx(5)


@pytest.mark.parametrize(("pixels", "ours", "published"), [(100, 9, 8), (101, 9, 9), (104, 9, 9), (110, 10, 9)])
def test_the_last_section_is_kept_unless_published_weights_want_otherwise(pixels, ours, published):
    codec = OverlappingSections(grid=replace(GRID, pixels=pixels), size=20, step=10)
    assert (codec.sections, replace(codec, drops_last=True).sections) == (ours, published)


def test_heeding_changes_nothing_where_all_is_well():
    told = CODEC.encode(spectra(ivar=np.full((3, 101), 2, dtype=np.float32)))["spectra"]
    assert torch.equal(told.values, HEEDLESS.encode(spectra())["spectra"].values)
    assert told.present is None


# --- ivar, gaps and other grids ----------------------------------------------------------------------------------


def test_bad_pixels_move_nobody_else():
    """Mean, spread and far sections are those of the good pixels, whatever the bad ones hold."""
    good = np.ones((3, 101), dtype=bool)
    good[0, 30:34] = False
    flux = spectra()["spectrum"].flux.copy()
    flux[0, 30:34] = [np.nan, 1e9, -np.inf, 7]
    values = CODEC.encode(changed(spectra(), flux=flux, good=good))["spectra"].values
    kept = spectra()["spectrum"].flux[0, good[0]]
    assert values[0, 0, 0] == pytest.approx((kept.mean() - 2) / 2, abs=1e-6)
    assert values[0, 0, 1] == pytest.approx((kept.std(ddof=1) - 2) / 8, abs=1e-6)
    bridge = values[0, 6, 2 + 4 : 2 + 10].numpy()  # section 5 is pixels 25 … 34: good 29, the gap, good 34
    assert np.diff(bridge) == pytest.approx((bridge[-1] - bridge[0]) / 5, abs=1e-5)
    assert torch.equal(values[1:], CODEC.encode(spectra())["spectra"].values[1:])


def test_a_pixel_without_ivar_is_as_bad_as_one_that_says_so():
    good = np.random.default_rng(0).random((3, 101)) > 0.2
    by_flag = CODEC.encode(changed(spectra(), good=good))["spectra"].values
    by_ivar = CODEC.encode(changed(spectra(), ivar=np.where(good, 4.0, 0.0).astype(np.float32)))["spectra"].values
    assert torch.equal(by_flag, by_ivar)


def test_sections_of_nothing_but_bad_pixels_are_absent():
    ivar = np.ones((3, 101), dtype=np.float32)
    ivar[1, 50:] = 0
    span = CODEC.encode(changed(spectra(), ivar=ivar))["spectra"]
    assert span.there()[1].tolist() == [True] * 11 + [False] * 9
    assert (span.values[1, 11:] == 0).all()
    back = CODEC.decode(CODEC.encode(changed(spectra(), ivar=ivar)))["spectrum"]
    assert np.isnan(back.flux[1, 60:]).all() and not back.good[1, 60:].any()


def test_weights_are_the_share_of_the_signal():
    ivar = np.full((3, 101), 1e6, dtype=np.float32)
    ivar[0, 20:30] = 0
    ivar[0, 40:50] = 1
    codec = replace(CODEC, weighted=True)
    weights = codec.encode(changed(spectra(), ivar=ivar))[codec.weights_name].values
    assert (weights[0, 5, 2:] == 0).all()  # pixels 20 … 29
    assert weights[0, 9, 2:].mean() == pytest.approx(0.5, abs=0.05)  # a spread of 1 under a noise of 1
    assert weights[1, 1:, 2:].min() > 0.999
    assert codec.encode(spectra())[codec.weights_name].values[:, 1:, 2:].eq(1).all()


@given(seed=st.integers(0, 100))
def test_laying_on_a_grid_keeps_light_and_information(seed):
    draw = np.random.default_rng(seed)
    wave = torch.from_numpy(np.sort(draw.uniform(4010, 4190, (2, 60)), axis=1))
    flux, ivar = torch.from_numpy(draw.uniform(1, 2, (2, 60))), torch.from_numpy(draw.uniform(0, 1, (2, 60)))
    ivar[(wave < wave[:, :1] + 4) | (wave > wave[:, -1:] - 4)] = 0  # at both ends, less than half a pixel is lost
    laid = rebinned(Laid(flux.float(), None, ivar.float()), wave, GRID)
    assert laid.ivar.sum(1).numpy() == pytest.approx(ivar.sum(1).numpy(), rel=1e-5)
    assert laid.flux[laid.good].min() >= 0.999 and laid.flux.max() <= 2.001


def test_a_straight_line_on_any_grid_is_the_same_line_on_ours():
    wave = 10 ** (np.log10(3900) + 5e-5 * np.arange(1600))[None]
    line = torch.from_numpy(1 + (wave - 4000) / 100).float()
    laid = rebinned(Laid(line, None, None), torch.from_numpy(wave), GRID)
    assert laid.good.all()
    assert laid.flux[0].numpy() == pytest.approx(1 + (GRID.wavelength_aa() - 4000) / 100, abs=2e-3)


def test_padded_spectra_of_another_grid_read_as_the_shorter_ones():
    wave = np.linspace(3990, 4150, 200)[None]
    short = Observation.of(["a"], spectrum=Spectrum(flux=np.sin(wave / 20).astype(np.float32), wavelength_aa=wave))
    padded = short | {"spectrum": short["spectrum"].padded(260)}
    a, b = CODEC.encode(short)["spectra"], CODEC.encode(padded)["spectra"]
    assert torch.equal(a.values, b.values) and torch.equal(a.present, b.present)
    assert a.there()[0].tolist() == [True] * 17 + [False] * 3  # nothing beyond 4150 Å


# --- what cannot be used -----------------------------------------------------------------------------------------


def put(field: str, value: float, where=(1, 7)):
    def change(spectrum: Spectrum) -> Spectrum:
        ivar = np.ones(spectrum.flux.shape, dtype=np.float32) if field == "ivar" else getattr(spectrum, field).copy()
        ivar[where] = value
        return replace(spectrum, **{field: ivar})

    return change


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (put("flux", np.nan), BadPixels, "NaN or infinite flux in 1 of 3 spectra"),
        (put("flux", np.inf), BadPixels, "NaN or infinite flux"),
        (put("ivar", np.nan), BadPixels, "NaN, infinite or negative ivar"),
        (put("ivar", -1), BadPixels, "NaN, infinite or negative ivar"),
        (put("ivar", 0, where=1), BadPixels, "nothing measured in 1 of 3 spectra"),
        (put("wavelength_aa", 4500.0), BadPixels, "wavelengths do not increase in 1 of 3"),
        (put("wavelength_aa", np.nan), BadPixels, "NaN among the wavelengths of 1 of 3"),
        (lambda s: replace(s, wavelength_aa=s.wavelength_aa + 5000), BadPixels, "nothing measured in 3 of 3"),
        (lambda s: Spectrum(flux=s.flux[:, :1], wavelength_aa=s.wavelength_aa[:, :1]), TooSmall, "at least 2"),
    ],
)
def test_bad_spectra_are_refused_saying_why(change, error, said):
    seen = spectra()
    with pytest.raises(error, match=said):
        CODEC.encode(seen | {"spectrum": change(seen["spectrum"])})


@pytest.mark.parametrize("change", [lambda w: w + 1, lambda w: w[:, :-1], lambda w: w * 1.001])
def test_published_tokens_want_the_published_grid(change):
    """Any flux of about the right length would give tokens, and nonsense."""
    seen = spectra()["spectrum"]
    wave = change(seen.wavelength_aa)
    other = Observation.of(range(3), spectrum=Spectrum(flux=seen.flux[:, : wave.shape[1]], wavelength_aa=wave))
    with pytest.raises(ShapeMismatch, match="published SpecFormer reads one grid"):
        HEEDLESS.encode(other)
    assert CODEC.encode(other)["spectra"].values.isfinite().all()


def test_published_tokens_do_not_hide_nan():
    seen = spectra()
    seen["spectrum"].flux[2, 3] = np.nan
    with pytest.raises(BadPixels, match="NaN or infinite flux in 1 of 3"):
        HEEDLESS.encode(seen)


def test_tokens_of_another_codec_are_not_decoded():
    with pytest.raises(ShapeMismatch, match="want 20 tokens of 12 numbers"):
        CODEC.decode(replace(CODEC, size=5).encode(spectra()))


def test_sections_that_do_not_fit_are_refused():
    with pytest.raises(BadValue, match="step ≤ size ≤ pixels"):
        OverlappingSections(grid=replace(GRID, pixels=10))
    assert OverlappingSections().sections == 777 and DESI.wavelength_aa()[-1] == pytest.approx(9824)
