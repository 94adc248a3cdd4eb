"""The real sample sky: real galaxies where they really are, real spectra, and nothing slow imported for it."""

import subprocess
import sys

import numpy as np
import pytest

from omnisky.errors import MissingExtra
from omnisky.observe import sample
from omnisky.observe.survey import SURVEYS


@pytest.fixture(scope="module")
def galaxies():
    return sample.hubble_deep_field()


@pytest.fixture(scope="module")
def spectra():
    return sample.desi_spectra()


# --- images -------------------------------------------------------------------------------------------------------


def test_several_hundred_galaxies(galaxies):
    image = galaxies["image"]
    assert 400 <= len(galaxies) <= 600
    assert image.flux.shape == (len(galaxies), 3, 64, 64) and image.flux.dtype == np.uint8
    assert image.bands == ("red", "green", "blue") and image.unit == "display" and image.survey in SURVEYS
    assert len(set(galaxies.object_id.tolist())) == len(galaxies) and galaxies.object_id[0] == "hdf-0000"
    assert np.isfinite(galaxies["scalars"].values).all()


def test_the_object_is_in_the_middle_of_its_stamp(galaxies):
    light = galaxies["image"].flux.sum(axis=1, dtype=float)
    middle, rim = light[:, 26:38, 26:38].mean(axis=(1, 2)), np.median(light, axis=(1, 2))
    assert (middle > rim).mean() > 0.99
    assert (light.std(axis=(1, 2)) > 10).all()  # no blank stamps; the noise of the sky alone has about 8


def test_galaxies_are_as_large_in_their_stamps_as_in_galaxy_zoo(galaxies):
    """Galaxy Zoo 2's 64 px stamps have half-light radii of 10.5 ± 1.4 px (1,499 measured with sep)."""
    scalars = galaxies["scalars"]
    radius = scalars["half_light_pix"] * 64 / scalars["side_pix"]
    assert np.median(radius[:200]) == pytest.approx(10.5, abs=0.1)
    assert scalars["side_pix"].min() >= 16  # never more than four stamp pixels to one of the image


def test_stamps_lie_inside_the_image(galaxies):
    scalars = galaxies["scalars"]
    for axis, length in (("x_pix", 1000), ("y_pix", 872)):
        assert (scalars[axis] + 0.5 - scalars["side_pix"] / 2 >= 0).all()
        assert (scalars[axis] + 0.5 + scalars["side_pix"] / 2 <= length).all()


def test_brightest_first(galaxies):
    flux = sum(galaxies["scalars"][f"flux_{colour}"] for colour in ("red", "green", "blue"))
    assert (np.diff(flux) <= 0).all()


def test_positions_are_those_of_the_ultra_deep_field(galaxies):
    """XDF: RA 53.16, Dec −27.783, 2.4 × 2.1 arcmin. The brightest foreground spiral of the HUDF is where it is."""
    x = (galaxies.ra - 53.1606) * np.cos(np.radians(-27.78)) * 60
    y = (galaxies.dec + 27.7836) * 60
    assert np.hypot(x, y).max() < np.hypot(1000, 872) / 2 * 0.143 / 60
    scalars = galaxies["scalars"]
    apart = np.hypot(
        np.subtract.outer(scalars["x_pix"], scalars["x_pix"]), np.subtract.outer(scalars["y_pix"], scalars["y_pix"])
    )
    sky = 60 * np.hypot(np.subtract.outer(x, x), np.subtract.outer(y, y))
    np.testing.assert_allclose(sky, apart * 0.142953, atol=0.02)  # the cosine varies by 2e-4 over the field


def test_the_sample_is_the_same_every_time(galaxies):
    again = sample.hubble_deep_field()
    np.testing.assert_array_equal(again["image"].flux, galaxies["image"].flux)
    np.testing.assert_array_equal(again.object_id, galaxies.object_id)


# --- spectra ------------------------------------------------------------------------------------------------------


def test_five_desi_targets(spectra):
    spectrum = spectra["spectrum"]
    assert len(spectra) == 5 and spectrum.survey == "desi" and spectrum.there().all()
    assert spectrum.flux.shape == (5, 7781) and (np.diff(spectrum.wavelength_aa[0]) > 0).all()
    assert "39633345008634465" in spectra.object_id.tolist()
    assert (spectrum.good.mean(axis=1) > 0.99).all()
    assert np.isfinite(spectrum.flux).all() and (spectrum.ivar[spectrum.good] > 0).all()


def test_the_redshift_fits_the_lines(spectra):
    """Vacuum wavelengths of the strongest lines, times 1 + z, are the brightest pixels nearby: to 1 Å, a DESI pixel."""
    redshift = spectra["scalars"]["redshift"]
    (i,) = np.flatnonzero(np.isfinite(redshift))
    assert redshift[i] == pytest.approx(0.36874, abs=1e-5)
    wave, flux = spectra["spectrum"].wavelength_aa[i], spectra["spectrum"].flux[i]
    for rest in (4862.69, 4960.30, 5008.24, 6564.61):  # Hβ, [O III], [O III], Hα
        near = abs(wave - rest * (1 + redshift[i])) < 15
        assert abs(wave[near][flux[near].argmax()] - rest * (1 + redshift[i])) < 1.0


def test_a_refuted_redshift_is_not_repeated(spectra):
    (i,) = np.flatnonzero(spectra.object_id == "39089837499744649")
    assert np.isnan(spectra["scalars"]["redshift"][i])
    spectrum = spectra["spectrum"]
    wave = spectrum.wavelength_aa[i]

    def line(middle: float) -> float:
        near = abs(wave - middle) < 10
        return float(spectrum.flux[i][near].sum() * 0.8)  # 1e-17 erg/s/cm²

    # As [O III] at z = 0.00727 the 5045 Å line would come with a third of its flux at 4996 Å.
    assert line(5045) > 10 and line(4960.3 * 1.00727) < 0.15 * line(5045)


# --- both ---------------------------------------------------------------------------------------------------------


def test_sample_sky_has_both_and_says_whom_to_thank():
    sky = sample.sample_sky()
    for seen, part in ((sky.galaxies, "image"), (sky.spectra, "spectrum")):
        source = sample.SOURCES[seen[part].survey]
        assert source.citation and source.licence and source.packages


def test_one_object_can_be_taken(galaxies, spectra):
    assert galaxies.take(slice(0, 1))["image"].flux.shape == (1, 3, 64, 64)
    assert spectra.take(slice(0, 1))["spectrum"].flux.shape == (1, 7781)


def test_the_carriers_are_not_imported():
    """They take seconds; their files are all we want. In a fresh interpreter: here, other tests may have."""
    script = (
        "import sys; from omnisky.observe.sample import sample_sky; sample_sky(); "
        "heavy = {'torch', 'skimage', 'specutils', 'fastspecfit', 'pandas'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["skimage", "specutils", "fastspecfit"])
def test_a_missing_carrier_is_named(monkeypatch, package):
    found = sample.find_spec
    monkeypatch.setattr(sample, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(MissingExtra, match=rf"{package}.*pip install 'omnisky\[sample\]'"):
        sample.sample_sky()


def test_without_sep_we_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sep", None)
    with pytest.raises(MissingExtra, match=r"sep.*pip install 'omnisky\[sample\]'"):
        sample.hubble_deep_field()
