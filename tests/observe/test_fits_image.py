"""Images and cubes in FITS files as archives hand them out: nanomaggies, 1/nanomaggy², Å, and where they look."""

from pathlib import Path

import numpy as np
import pytest

from omnisky.errors import BandMismatch, CorruptFile, MissingModality, ObservationError, ShapeMismatch
from omnisky.observe.fits_image import read_image
from omnisky.observe.read import read

fits = pytest.importorskip("astropy.io.fits")

RNG = np.random.default_rng(21)


def header_of(planes: np.ndarray, **cards: object) -> object:
    """TAN, the middle pixel at 150°, +2°, 0.25 arcsec per pixel."""
    header = fits.Header(cards)
    for axis, (kind, value) in enumerate((("RA---TAN", 150.0), ("DEC--TAN", 2.0)), start=1):
        step = (-1) ** axis * 0.25 / 3600
        middle = (planes.shape[-axis] + 1) / 2
        header.update({f"CTYPE{axis}": kind, f"CRVAL{axis}": value, f"CRPIX{axis}": middle, f"CDELT{axis}": step})
    return header


def fits_image(path: Path, planes: np.ndarray, **cards: object) -> Path:
    fits.PrimaryHDU(planes, header_of(planes, **cards)).writeto(path)
    return path


def test_a_fits_cutout_of_a_survey(tmp_path):
    planes = RNG.normal(size=(3, 5, 7)).astype(np.float32)
    planes[1, 2, 3] = np.nan
    seen = read(fits_image(tmp_path / "galaxy.fits.gz", planes, SURVEY="LegacySurvey", BANDS="grz"))
    image = seen["image"]
    assert seen.object_id.tolist() == ["galaxy"]
    assert image.bands == ("g", "r", "z") and image.survey == "legacysurvey" and image.unit == "nanomaggy"
    np.testing.assert_array_equal(image.flux[0], planes)
    assert not image.good[0, 1, 2, 3] and image.good.sum() == planes.size - 1
    np.testing.assert_allclose([seen.ra[0], seen.dec[0], image.pixel_scale_arcsec], [150, 2, 0.25], rtol=1e-9)


@pytest.mark.parametrize(
    ("bunit", "factor"),
    [("nanomaggies", 1), ("nanomaggy", 1), ("Jy", 1 / 3.631e-6), ("uJy", 1 / 3.631)],  # 1 nanomaggy = 3.631 µJy
)
def test_flux_comes_in_nanomaggies(tmp_path, bunit, factor):
    path = fits_image(tmp_path / "galaxy.fits", np.ones((4, 4), np.float32), BUNIT=bunit, FILTER="r")
    image = read(path)["image"]
    assert image.bands == ("r",)
    np.testing.assert_allclose(image.flux, factor, rtol=1e-6)


def test_a_fits_image_that_does_not_say_enough(tmp_path):
    path = fits_image(tmp_path / "galaxy.fits", np.ones((2, 4, 4), np.float32), BUNIT="adu")
    with pytest.raises(BandMismatch, match="2 planes"):
        read(path)
    with pytest.raises(ObservationError, match=r"galaxy\.fits.*zero_point_mag"):
        read_image(path, bands=("g", "r"))
    seen = read_image(path, bands=("g", "r"), zero_point_mag=25.0)
    np.testing.assert_allclose(seen["image"].flux, 0.1, rtol=1e-6)  # 2.5 mag fainter than a nanomaggy


def test_a_folder_of_fits_images_is_one_observation(tmp_path):
    for i in range(3):
        fits_image(tmp_path / f"g{i}.fits", np.full((4, 4), i, np.float32), BUNIT="nanomaggy", FILTER="r")
    seen = read(tmp_path)
    assert seen.object_id.tolist() == ["g0", "g1", "g2"]
    assert seen["image"].flux[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert seen["image"].pixel_scale_arcsec == pytest.approx(0.25)
    fits_image(tmp_path / "g3.fits", np.zeros((4, 4), np.float32), BUNIT="nanomaggy", FILTER="z")
    with pytest.raises(ShapeMismatch, match=r"image\.bands differs"):
        read(tmp_path)


# --- several units ------------------------------------------------------------------------------------------------


def units(path: Path, primary: dict[str, object], *made: tuple[str, np.ndarray, dict[str, object]]) -> Path:
    """An empty primary unit with these cards, and the others by name."""
    held = [fits.ImageHDU(planes, header_of(planes, **about), name=name) for name, planes, about in made]
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(primary)), *held]).writeto(path)
    return path


def test_a_legacy_survey_cutout_with_inverse_variance(tmp_path):
    """`subimage` of the viewer: for each band the image, then its inverse variance, told apart by IMAGETYP."""
    flux, ivar = RNG.normal(size=(2, 4, 5)).astype(np.float32), np.full((2, 4, 5), 9, np.float32)
    ivar[1, 2, 3] = 0
    made = []
    for i, band in enumerate("gz"):
        about = {"SURVEY": "LegacySurvey", "BAND": band}
        made += [("", flux[i], about | {"IMAGETYP": "image"}), ("", ivar[i], about | {"IMAGETYP": "invvar"})]
    seen = read(units(tmp_path / "cutout.fits", {}, *made))
    image = seen["image"]
    assert image.bands == ("g", "z") and image.survey == "legacysurvey"
    np.testing.assert_array_equal(image.flux[0], flux)
    np.testing.assert_array_equal(image.ivar[0], ivar)
    assert np.argwhere(~image.good).tolist() == [[0, 1, 2, 3]]
    np.testing.assert_allclose([seen.ra[0], seen.dec[0], image.pixel_scale_arcsec], [150, 2, 0.25], rtol=1e-9)


def test_an_hsc_cutout_is_scaled_by_its_zero_point(tmp_path):
    """IMAGE, MASK, VARIANCE; FLUXMAG0 counts at magnitude 0. Bits of MASK say "detected", and spoil no pixel."""
    counts, bits = np.full((4, 4), 63.0957, np.float32), np.full((4, 4), 32, np.int32)
    made = [(kind, planes, {"EXTTYPE": kind}) for kind, planes in (("IMAGE", counts), ("MASK", bits))]
    made.append(("VARIANCE", np.full((4, 4), 4, np.float32), {"EXTTYPE": "VARIANCE"}))
    seen = read(units(tmp_path / "hsc.fits", {"FLUXMAG0": 63095734448.0194, "FILTER": "HSC-I"}, *made))
    image = seen["image"]
    assert image.bands == ("HSC-I",) and image.good.all()
    np.testing.assert_allclose(image.flux, 1, rtol=1e-6)  # zero point 27: 10^(0.4 (27 − 22.5)) counts a nanomaggy
    np.testing.assert_allclose(image.ivar, 63.0957**2 / 4, rtol=1e-5)


def test_an_extension_a_band_may_differ_in_scale(tmp_path):
    made = [
        (name, np.ones((3, 3), np.float32), {"FILTER": name, "BUNIT": unit})
        for name, unit in (("g", "uJy"), ("r", "nJy"))
    ]
    image = read(units(tmp_path / "two.fits", {}, *made))["image"]
    assert image.bands == ("g", "r")
    np.testing.assert_allclose(image.flux[0, 0] / image.flux[0, 1], 1000, rtol=1e-6)


def test_images_of_several_sizes_are_the_first(tmp_path):
    made = [(f"E{n}", np.full((n, n), n, np.float32), {"FILTER": "r", "BUNIT": "nmgy"}) for n in (3, 4)]
    assert read(units(tmp_path / "mosaic.fits", {}, *made))["image"].flux.shape == (1, 1, 3, 3)


def test_errors_and_nothing_but_masks(tmp_path):
    flux = ("SCI", np.ones((3, 3), np.float32), {"FILTER": "F150W", "BUNIT": "nmgy"})
    image = read(units(tmp_path / "jwst.fits", {}, flux, ("ERR", np.full((3, 3), 0.5, np.float32), {})))["image"]
    np.testing.assert_array_equal(image.ivar, np.full((1, 1, 3, 3), 4, np.float32))
    with pytest.raises(MissingModality, match="no image"):
        read(units(tmp_path / "mask.fits", {}, ("MASK", np.ones((3, 3), np.int32), {})))


def test_a_compressed_image_is_read(tmp_path):
    planes = RNG.normal(size=(4, 6)).astype(np.float32)
    held = fits.CompImageHDU(
        planes, header_of(planes, BUNIT="nmgy", FILTER="r"), quantize_level=0, compression_type="GZIP_1"
    )
    fits.HDUList([fits.PrimaryHDU(), held]).writeto(tmp_path / "x.fits.fz")
    np.testing.assert_array_equal(read(tmp_path / "x.fits.fz")["image"].flux[0, 0], planes)


# --- cubes --------------------------------------------------------------------------------------------------------


def spectral(planes: np.ndarray, kind: str, start: float, step: float, unit: str, **cards: object) -> object:
    return header_of(planes, CTYPE3=kind, CRVAL3=start, CRPIX3=1.0, CDELT3=step, CUNIT3=unit, **cards)


def test_a_muse_cube(tmp_path):
    """DATA and STAT, a variance, on a linear grid in air."""
    flux, variance = RNG.normal(size=(5, 3, 4)).astype(np.float32), np.full((5, 3, 4), 100, np.float32)
    flux[2, 1, 1] = np.nan
    about = {"BUNIT": "10**(-20)*erg/s/cm**2/Angstrom"}
    made = [
        fits.ImageHDU(flux, spectral(flux, "AWAV", 4750.0, 1.25, "Angstrom", **about), name="DATA"),
        fits.ImageHDU(variance, spectral(flux, "AWAV", 4750.0, 1.25, "Angstrom"), name="STAT"),
    ]
    fits.HDUList([fits.PrimaryHDU(), *made]).writeto(tmp_path / "muse.fits")
    seen = read(tmp_path / "muse.fits")
    cube = seen["cube"]
    np.testing.assert_allclose(cube.flux[0], flux * 1e-3, rtol=1e-6)
    np.testing.assert_allclose(cube.ivar, 1e4, rtol=1e-6)
    np.testing.assert_allclose(cube.wavelength_aa[0] - (4750 + 1.25 * np.arange(5)), 1.33, atol=0.01)  # air → vacuum
    assert np.argwhere(~cube.good).tolist() == [[0, 2, 1, 1]]
    assert cube.unit == "1e-17 erg / (s cm2 AA)" and cube.pixel_scale_arcsec == pytest.approx(0.25)
    assert (seen.ra[0], seen.dec[0]) == (pytest.approx(150), pytest.approx(2))


def test_a_manga_cube(tmp_path):
    """LOGCUBE: FLUX, IVAR, MASK (bit 10 is DONOTUSE, others are not), WAVE in vacuum."""
    flux = RNG.normal(size=(5, 3, 3)).astype(np.float32)
    ivar, bits = np.full(flux.shape, 2, np.float32), np.zeros(flux.shape, np.int32)
    bits[0, 0, 0], bits[1, 1, 1] = 1024, 8
    wave = 10 ** (3.56 + 1e-4 * np.arange(5))
    about = {"MANGAID": "1-209232", "PLATEIFU": "8485-1901", "BUNIT": "1E-17 erg/s/cm^2/ang/spaxel"}
    primary = fits.PrimaryHDU(header=fits.Header(about | {"MASKNAME": "MANGA_DRP3PIXMASK"}))
    made = [fits.ImageHDU(flux, spectral(flux, "WAVE-LOG", 3630.8, 0.836, "Angstrom"), name="FLUX")]
    made += [fits.ImageHDU(ivar, name="IVAR"), fits.ImageHDU(bits, name="MASK"), fits.ImageHDU(wave, name="WAVE")]
    fits.HDUList([primary, *made]).writeto(tmp_path / "manga-8485-1901-LOGCUBE.fits.gz")
    seen = read(tmp_path / "manga-8485-1901-LOGCUBE.fits.gz")
    cube = seen["cube"]
    assert seen.object_id.tolist() == ["8485-1901"] and cube.survey == "manga"
    np.testing.assert_array_equal(cube.flux[0], flux)
    np.testing.assert_array_equal(cube.wavelength_aa[0], wave)
    assert np.argwhere(~cube.good).tolist() == [[0, 0, 0, 0]]


def test_a_cube_in_hertz_is_turned_round(tmp_path):
    flux = np.arange(3, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    fits.PrimaryHDU(flux, spectral(flux, "FREQ", 1e14, 1e13, "Hz", BUNIT="K")).writeto(tmp_path / "radio.fits")
    cube = read(tmp_path / "radio.fits")["cube"]
    np.testing.assert_allclose(cube.wavelength_aa[0], 2.99792458e18 / np.array([1.2e14, 1.1e14, 1e14]))
    assert cube.flux[0, :, 0, 0].tolist() == [2, 1, 0] and cube.unit == "K"


def test_a_cube_that_does_not_fit_itself_is_named(tmp_path):
    flux = np.ones((3, 2, 2), np.float32)
    made = [fits.ImageHDU(flux, spectral(flux, "WAVE", 5e3, 1.0, "Angstrom"), name="FLUX")]
    made += [fits.ImageHDU(np.ones(4), name="WAVE")]
    fits.HDUList([fits.PrimaryHDU(), *made]).writeto(tmp_path / "x.fits")
    with pytest.raises(ShapeMismatch, match=r"x\.fits, WAVE"):
        read(tmp_path / "x.fits")
    (tmp_path / "y.fits").write_bytes((tmp_path / "x.fits").read_bytes()[:6000])
    with pytest.raises(CorruptFile, match=r"y\.fits"):
        read(tmp_path / "y.fits")
