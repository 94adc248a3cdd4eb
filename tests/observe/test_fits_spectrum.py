"""Spectra in FITS files of their published layouts: SDSS, LAMOST, JWST, ESO and IRAF; Å in vacuum, our unit, one id."""

from pathlib import Path

import numpy as np
import pytest

from omnisky.errors import CorruptFile, MissingModality, ObservationError, ShapeMismatch
from omnisky.observe.fits_spectrum import read_spectrum
from omnisky.observe.read import read

fits = pytest.importorskip("astropy.io.fits")

N = 40
LOGLAM = 3.58 + 1e-4 * np.arange(N)
FLUX, IVAR = np.linspace(1, 2, N).astype(np.float32), np.full(N, 4, np.float32)
FLAGS = np.zeros(N, np.int32)
FLAGS[3] = 1 << 24  # NODATA
IVAR[5] = 0


def save(path: Path, *hdus: object, **cards: object) -> Path:
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(cards)), *hdus]).writeto(path)
    return path


def table(name: str = "", units: tuple[str, ...] = (), **columns: np.ndarray) -> object:
    """A BINTABLE; arrays of two axes are cells."""
    made = []
    for i, (key, values) in enumerate(columns.items()):
        letter = {"f4": "E", "f8": "D", "i4": "J", "i8": "K"}.get(
            values.dtype.str[1:], f"{values.dtype.itemsize // 4}A"
        )
        count = values.shape[1] if values.ndim == 2 else ""
        made.append(fits.Column(key, f"{count}{letter}", array=values, unit=units[i] if i < len(units) else None))
    return fits.BinTableHDU.from_columns(made, name=name)


def sdss(path: Path, upper: bool = False) -> Path:
    """spec-PLATE-MJD-FIBER: COADD with a row a pixel, SPECOBJ with one row, SPZLINE."""
    columns = {"flux": FLUX, "loglam": LOGLAM.astype(np.float32), "ivar": IVAR, "and_mask": FLAGS, "or_mask": FLAGS + 1}
    columns |= {"wdisp": np.full(N, 1.1, np.float32), "sky": FLUX, "model": FLUX}
    row = {"SPECOBJID": np.array(["299489677444933632    "]), "PLUG_RA": np.array([146.714]), "PLUG_DEC": [-1.041]}
    row |= {"Z": np.array([0.0212], np.float32), "Z_ERR": np.array([1e-5], np.float32), "ZWARNING": np.array([4], "i4")}
    one = table("SPECOBJ", **{name: np.asarray(value) for name, value in row.items()})
    lines = table("SPZLINE", LINEWAVE=np.array([5007.0]), LINEZ=np.array([0.02], np.float32))
    coadd = table("COADD", **{name.upper() if upper else name: values for name, values in columns.items()})
    about = {"TELESCOP": "SDSS 2.5-M", "PLATEID": 266, "MJD": 51602, "FIBERID": 3, "PLUG_RA": 146.7, "PLUG_DEC": -1.0}
    return save(path, coadd, one, lines, BUNIT="1E-17 erg/cm^2/s/Ang", COEFF0=3.58, COEFF1=1e-4, **about)


@pytest.mark.parametrize("upper", [False, True])  # SDSS-V writes FLUX, LOGLAM …
def test_sdss_spec(tmp_path, upper):
    seen = read(sdss(tmp_path / "spec-0266-51602-0003.fits", upper))
    spectrum = seen["spectrum"]
    assert seen.object_id.tolist() == ["299489677444933632"]
    assert (seen.ra[0], seen.dec[0]) == (146.714, -1.041)
    np.testing.assert_allclose(spectrum.wavelength_aa[0], 10**LOGLAM, rtol=1e-6)
    np.testing.assert_array_equal(spectrum.flux[0], FLUX)
    np.testing.assert_array_equal(spectrum.ivar[0], IVAR)
    assert np.flatnonzero(~spectrum.good[0]).tolist() == [3, 5]
    assert spectrum.unit == "1e-17 erg / (s cm2 AA)" and spectrum.survey == "sdss"
    np.testing.assert_allclose(spectrum.lsf_sigma_pix, 1.1, rtol=1e-6)
    assert seen["scalars"]["redshift"][0] == np.float32(0.0212) and seen["scalars"]["redshift_warning"][0] == 4


def test_sdss_without_its_table_is_named_by_plate_mjd_and_fibre(tmp_path):
    columns = {"flux": FLUX, "loglam": LOGLAM, "ivar": IVAR, "and_mask": FLAGS}
    about = {"TELESCOP": "SDSS 2.5-M", "PLATEID": 266, "MJD": 51602, "FIBERID": 3, "PLUG_RA": 146.7, "PLUG_DEC": -1.0}
    seen = read(save(tmp_path / "x.fits", table("COADD", **columns), BUNIT="1E-17 erg/cm^2/s/Ang", **about))
    assert seen.object_id.tolist() == ["0266-51602-0003"] and seen.ra[0] == 146.7 and "scalars" not in seen


def test_sdss_one_and_two_spspec(tmp_path):
    """Rows: flux, flux less continuum, error, flags. The header calls the grid linear; it is logarithmic."""
    error = np.where(IVAR > 0, 0.5, 0).astype(np.float32)
    rows = np.stack([FLUX, FLUX - 1, error, FLAGS.astype(np.float32), FLUX])
    about = {"TELESCOP": "SDSS 2.5-M", "COEFF0": 3.58, "COEFF1": 1e-4, "RAOBJ": 1.0, "Z": 0.1, "Z_ERR": 1e-4}
    primary = fits.PrimaryHDU(
        rows, fits.Header({**about, "BUNIT": "1.0E-17 erg/cm/s/Ang", "CTYPE1": "", "CRVAL1": 3.58})
    )
    path = tmp_path / "spSpec-51602-0266-003.fit"
    primary.writeto(path)
    seen = read(path)
    np.testing.assert_allclose(seen["spectrum"].wavelength_aa[0], 10**LOGLAM, rtol=1e-12)
    np.testing.assert_array_equal(seen["spectrum"].ivar[0], IVAR)
    assert np.flatnonzero(~seen["spectrum"].good[0]).tolist() == [3, 5]
    assert seen["spectrum"].unit == "1e-17 erg / (s cm2 AA)" and seen["scalars"]["redshift"].tolist() == [0.1]


LAMOST = {"TELESCOP": "LAMOST", "OBSID": 101001, "RA": 332.2, "DEC": -2.0567, "Z": -9999.0, "VACUUM": True}


def lamost_rows(path: Path) -> Path:
    """To DR7: flux, ivar, wavelength, and-mask, or-mask in one image."""
    rows = np.stack([FLUX, IVAR, 10**LOGLAM, FLAGS, FLAGS]).astype(np.float32)
    fits.PrimaryHDU(rows, fits.Header({**LAMOST, "COEFF0": 3.58, "COEFF1": 1e-4})).writeto(path)
    return path


def lamost_table(path: Path) -> Path:
    """From DR8: COADD of one row, its cells the pixels."""
    cells = {
        "FLUX": FLUX,
        "IVAR": IVAR,
        "WAVELENGTH": (10**LOGLAM).astype(np.float32),
        "ANDMASK": FLAGS,
        "ORMASK": FLAGS,
    }
    return save(path, table("COADD", **{key: one[None] for key, one in cells.items()}), **LAMOST)


@pytest.mark.parametrize("write", [lamost_rows, lamost_table])
def test_lamost_of_all_releases(tmp_path, write):
    seen = read(write(tmp_path / "spec-55859-F5902_sp01-001.fits"))
    spectrum = seen["spectrum"]
    assert seen.object_id.tolist() == ["101001"] and (seen.ra[0], seen.dec[0]) == (332.2, -2.0567)
    np.testing.assert_allclose(spectrum.wavelength_aa[0], 10**LOGLAM, rtol=1e-6)
    np.testing.assert_array_equal(spectrum.flux[0], FLUX)
    assert np.flatnonzero(~spectrum.good[0]).tolist() == [3, 5]
    assert spectrum.unit == "uncalibrated" and spectrum.survey == "lamost"
    assert np.isnan(seen["scalars"]["redshift"]).all()  # −9999 is not a redshift


def test_lamost_of_medium_resolution_has_two_arms(tmp_path):
    arms = [
        table(f"COADD_{arm}", FLUX=FLUX[None], IVAR=IVAR[None], LOGLAM=LOGLAM[None] + shift)
        for arm, shift in (("B", 0.0), ("R", 0.1))
    ]
    seen = read(save(tmp_path / "med-1.fits", *arms, **LAMOST))
    assert set(seen.parts) == {"spectrum_b", "spectrum_r", "scalars"}
    np.testing.assert_allclose(seen["spectrum_r"].wavelength_aa, 10**0.1 * seen["spectrum_b"].wavelength_aa)


# --- anybody's ----------------------------------------------------------------------------------------------------


def test_jwst_x1d_in_micron_and_jansky(tmp_path):
    micron, jansky = np.linspace(1, 5, N), np.full(N, 1e-6)
    dq = np.zeros(N, np.int32)
    dq[2] = 1
    columns = {"WAVELENGTH": micron, "FLUX": jansky, "FLUX_ERROR": 0.1 * jansky, "DQ": dq}
    extract = table("EXTRACT1D", ("um", "Jy", "Jy", ""), **columns)
    seen = read(save(tmp_path / "jw_x1d.fits", extract, TELESCOP="JWST", TARG_RA=1.0, RA_TARG=53.1, DEC_TARG=-27.8))
    spectrum = seen["spectrum"]
    # F_λ = F_ν c / λ²: 1 µJy at 1 µm is 1e-29 · 2.998e18 / 1e8 = 2.998e-19 erg/s/cm²/Å
    np.testing.assert_allclose(spectrum.flux[0] * micron**2, 2.99792458e-2, rtol=1e-5)
    np.testing.assert_allclose(spectrum.ivar[0] * spectrum.flux[0] ** 2, 100, rtol=1e-4)
    np.testing.assert_allclose(spectrum.wavelength_aa[0], 1e4 * micron)
    assert np.flatnonzero(~spectrum.good[0]).tolist() == [2]
    assert seen.object_id.tolist() == ["jw_x1d"] and (seen.ra[0], seen.dec[0]) == (53.1, -27.8)


def test_eso_one_row_in_nanometre_of_air(tmp_path):
    nm = np.linspace(400, 700, N)
    cells = {"WAVE": nm[None], "FLUX": FLUX[None].astype(np.float64), "ERR": np.full((1, N), 0.5)}
    one = table("SPECTRUM", ("nm", "erg.cm**(-2).s**(-1).angstrom**(-1)", ""), **cells)
    seen = read_spectrum(save(tmp_path / "ADP.fits", one, RA="05:20:00.0", DEC="-69:30:00"), in_air=True)
    wave = seen["spectrum"].wavelength_aa[0]
    np.testing.assert_allclose(wave / (10 * nm), 1.00028, atol=1e-5)  # the index of air
    np.testing.assert_allclose(seen["spectrum"].flux[0], 1e17 * FLUX, rtol=1e-6)
    np.testing.assert_allclose(seen["spectrum"].ivar[0], 4e-34, rtol=1e-6)
    np.testing.assert_allclose([seen.ra[0], seen.dec[0]], [80.0, -69.5])


def test_a_stack_of_objects_has_ids_and_positions(tmp_path):
    """Frequencies fall as wavelengths rise: pixels are put in order, whatever order they are in."""
    hertz = np.tile(np.linspace(5e14, 6e14, N), (3, 1))
    ids, place = np.array([39633345008634465 + i for i in range(3)]), np.arange(3.0)
    flux = np.tile(FLUX, (3, 1)) * np.array([[1], [2], [3]], np.float32)
    stack = table("", ("", "deg", "deg", "Hz", "count"), TARGETID=ids, RA=place, DEC=place, FREQ=hertz, FLUX=flux)
    seen = read(save(tmp_path / "stack.fits", stack))
    assert seen.object_id.tolist() == [str(one) for one in ids] and seen.ra.tolist() == [0, 1, 2]
    assert (np.diff(seen["spectrum"].wavelength_aa) > 0).all()
    np.testing.assert_allclose(seen["spectrum"].wavelength_aa[1, 0], 2.99792458e18 / 6e14)
    np.testing.assert_array_equal(seen["spectrum"].flux, flux[:, ::-1])
    assert seen["spectrum"].unit == "count" and seen["spectrum"].ivar is None


@pytest.mark.parametrize("log", [False, True])
def test_an_iraf_line_of_pixels(tmp_path, log):
    about = (
        {"CRVAL1": 3.6, "CD1_1": 1e-4, "DC-FLAG": 1} if log else {"CRVAL1": 4000.0, "CDELT1": 2.0, "CUNIT1": "Angstrom"}
    )
    header = fits.Header({**about, "CRPIX1": 1.0, "CTYPE1": "LINEAR", "BUNIT": "erg/s/cm2/Ang"})
    fits.PrimaryHDU(FLUX * 1e-17, header).writeto(tmp_path / "star.fits")
    seen = read(tmp_path / "star.fits")
    want = 10 ** (3.6 + 1e-4 * np.arange(N)) if log else 4000 + 2 * np.arange(N)
    np.testing.assert_allclose(seen["spectrum"].wavelength_aa[0], want, rtol=1e-9)
    np.testing.assert_allclose(seen["spectrum"].flux[0], FLUX, rtol=1e-5)


def test_cells_of_several_lengths_are_padded(tmp_path):
    cells = np.empty(2, dtype=object)
    cells[:] = [np.arange(1.0, 4.0), np.arange(1.0, 6.0)]
    columns = [
        fits.Column("wave", "PD()", array=cells * 1000, unit="Angstrom"),
        fits.Column("flux", "PD()", array=cells),
    ]
    seen = read(save(tmp_path / "two.fits", fits.BinTableHDU.from_columns(columns)))
    assert seen.object_id.tolist() == ["two-00000", "two-00001"]
    assert seen["spectrum"].good.tolist() == [[True] * 3 + [False] * 2, [True] * 5]


# --- what is not enough -------------------------------------------------------------------------------------------


def test_a_wavelength_without_a_unit_is_asked_for(tmp_path):
    path = save(tmp_path / "x.fits", table(wave=np.arange(1.0, 9.0), flux=np.arange(8.0)))
    with pytest.raises(ObservationError, match=r"x\.fits.*wavelength_unit"):
        read(path)
    wave = read_spectrum(path, wavelength_unit="nm")["spectrum"].wavelength_aa
    assert wave[0, 0] == pytest.approx(10)


def test_columns_that_do_not_fit_are_named(tmp_path, unchecked):
    path = save(tmp_path / "x.fits", table("", ("nm",), wave=np.ones((2, 3)), flux=np.ones((2, 4))))
    with pytest.raises(ShapeMismatch, match=r"x\.fits.*wave"):
        read(path)


def test_a_line_list_with_positions_is_a_catalogue(tmp_path):
    columns = {
        "ra": np.array([1.0, 2]),
        "dec": np.array([3.0, 4]),
        "wavelength": np.array([5007.0, 4959]),
        "flux": np.ones(2),
    }
    seen = read(save(tmp_path / "lines.fits", table(**columns)))
    assert seen.ra.tolist() == [1, 2] and seen["scalars"]["wavelength"].tolist() == [5007, 4959]


def test_a_table_of_nothing_known(tmp_path):
    path = save(tmp_path / "x.fits", table(a=np.arange(3.0)))
    with pytest.raises(ObservationError, match=r"no reader.*a"):
        read(path)
    with pytest.raises(MissingModality, match="no spectrum"):
        read_spectrum(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_spectrum_is_named(tmp_path, share):
    path = sdss(tmp_path / "spec.fits")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CorruptFile, match=r"spec\.fits"):
        read(path)
