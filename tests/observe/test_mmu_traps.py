"""The traps of the Multimodal Universe's files, each corrected once: by the survey's row and what reads it.

polarity of flags differs                  test_true_means_bad_in_these_spectra, test_true_means_good_in_these_images,
                                           test_bits_that_do_not_mean_bad_and_bits_written_as_floats,
                                           test_vipers_noise_is_a_standard_deviation_and_its_flags_are_0_for_good
flags that are none                        test_flags_that_are_errors_in_disguise_are_left_out
redshift warnings are inverted             test_a_redshift_warning_is_kept_and_said_the_right_way_round
padding: −1, 0, −99, NaN, zeros, edges     test_spectra_padded_per_file, test_times_count_from_their_own_zero,
                                           test_magnitudes_become_fluxes_and_false_errors_none,
                                           test_lists_of_neighbours_end_where_there_are_only_zeros
flux > 0 is no test for padding            test_negative_fluxes_are_no_padding
PLAsTiCC's Y is never filled               test_the_band_that_plasticc_never_filled_has_no_epochs
b'…' in ids                                test_ids_are_what_they_name, test_ids_of_all_kinds
float32 positions and times                test_of_two_positions_the_finer_is_taken,
                                           test_times_count_from_their_own_zero,
                                           test_positions_in_float32_are_float64_and_may_lie_across_a_border
no units, zero points outside              test_images_come_in_nanomaggies, test_spectra_come_in_1e_17_erg,
                                           test_light_curves_say_in_which_system_they_are
columns that the schema lacks (TYPE)       test_ids_of_all_kinds
−99, −999, −9 for "not measured"           test_numbers_that_stand_for_nothing_are_nan
arrays beside a light curve                test_what_lies_beside_a_light_curve_is_no_set_of_scalars
licences differ                            test_survey.test_what_rows_say
"""

import re

import h5py
import numpy as np
import pytest
import tiny_mmu as tiny

from omnisky.errors import BandMismatch, ShapeMismatch
from omnisky.observe.assemble import part_of, vacuum_from_air
from omnisky.observe.columns import word
from omnisky.observe.mmu import MMUHdf5
from omnisky.observe.survey import SURVEYS


def one_part(survey: str, name: str, **columns):
    row = next(part for part in SURVEYS[survey].mmu.parts if part.name == name)
    return part_of(row, columns, survey)


def spectrum(survey: str, flags: np.ndarray | None = None, **columns):
    flat = {"spectrum_flux": np.ones((1, 3), np.float32), "spectrum_ivar": np.ones((1, 3), np.float32)}
    flat["spectrum_lambda"] = np.array([[15200, 15201, 15202]], dtype=np.float32)
    return one_part(survey, "spectrum", **flat, **({} if flags is None else {"spectrum_mask": flags}), **columns)


# --- polarity of flags --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("survey", ["sdss", "desi", "apogee"])
def test_true_means_bad_in_these_spectra(survey):
    flags = np.array([[True, False, False]])
    assert spectrum(survey, flags).good.tolist() == [[False, True, True]]
    assert spectrum(survey, flags.astype(np.int64) * 2**40).good.tolist() == [[False, True, True]]  # raw bits


@pytest.mark.parametrize("survey", ["hsc", "legacysurvey", "jwst"])
def test_true_means_good_in_these_images(survey):
    row = SURVEYS[survey].mmu.parts[0]
    n = len(row.bands)
    good = np.array([[True, False], [True, True]])
    flags = good[None] if survey == "legacysurvey" else np.tile(good, (1, n, 1, 1))  # one mask for all bands, or each
    name = row.columns["flux"][0]
    image = part_of(row, {name: np.ones((1, n, 2, 2), np.float32), "image_mask": flags}, survey)
    assert image.good.shape == (1, n, 2, 2) and all(plane.tolist() == good.tolist() for plane in image.good[0])


def test_flags_that_are_errors_in_disguise_are_left_out(tmp_path):
    """APOGEE's early builder wrote the errors once more as "spectrum_bitmask", and fractions are no bits."""
    flat = np.ones((1, 100), np.float32)
    columns = {"object_id": np.array([b"2M1"]), **tiny.places(5, 1), "spectrum_flux": flat, "spectrum_ivar": 4 * flat}
    columns |= {"spectrum_lambda": np.arange(15200, 15300, dtype=np.float32)[None], "spectrum_bitmask": flat / 2}
    tiny.put(tmp_path / "apogee", 5, columns)
    source = MMUHdf5(tmp_path / "apogee")
    assert source.read()["spectrum"].good.all() and source.left_out == ("spectrum_bitmask",)


def test_bits_that_do_not_mean_bad_and_bits_written_as_floats(tmp_path):
    tiny.manga(tmp_path / "manga", 3, ["a"])
    seen = MMUHdf5(tmp_path / "manga").read()
    assert seen["cube"].good[0, 0].sum() == 15  # of 16: bits 0 and 1 alone are no reason
    assert seen["maps"].good[0, 0].all() and not seen["maps"].good[0, 1].any()  # 2^30, as a float


def test_pixels_that_say_nothing_are_not_good():
    image = one_part("hsc", "image", image_array=np.array([[[[1, np.nan]]] * 5], dtype=np.float32))
    assert image.good[0, 0, 0].tolist() == [True, False]
    ivar = np.array([[[[-1, np.nan]]] * 5], dtype=np.float32)
    flux = np.ones((1, 5, 1, 2), np.float32)
    assert one_part("hsc", "image", image_array=flux, image_ivar=ivar).ivar.tolist() == np.zeros((1, 5, 1, 2)).tolist()


def test_a_redshift_warning_is_kept_and_said_the_right_way_round(tmp_path):
    tiny.put(tmp_path / "desi", 700, tiny.desi(700, 4))
    labels = MMUHdf5(tmp_path / "desi").read()["labels"]
    assert labels["ZWARN"].tolist() == [0, 4, 0, 4]  # the bits, under their own name
    assert labels["z_ok"].tolist() == [True, False, True, False]
    tiny.put(tmp_path / "sdss", 700, tiny.sdss(700, 2, 5, 5))
    assert MMUHdf5(tmp_path / "sdss").read()["labels"]["z_ok"].tolist() == [True, False]


# --- padding ------------------------------------------------------------------------------------------------------


def test_spectra_padded_per_file(tmp_path):
    tiny.put(tmp_path / "sdss", 700, tiny.sdss(700, 2, pixels=6, length=8))
    tiny.put(tmp_path / "sdss", 701, tiny.sdss(701, 1, pixels=4, length=4))
    source = MMUHdf5(tmp_path / "sdss")
    part = source.read()["spectrum"]
    assert part.flux.shape == (3, 6)  # what pads all of them is off
    np.testing.assert_array_equal(part.good.sum(axis=1), [6, 6, 4])
    np.testing.assert_array_equal(np.isfinite(part.wavelength_aa), part.good)
    assert np.isnan(part.flux[2, 4:]).all() and (part.ivar[2, 4:] == 0).all()  # not the last flux, repeated
    assert part.flux.dtype == part.wavelength_aa.dtype == np.float32
    scalars = source.read()["scalars"]
    assert "SPECTROFLUX_G" in scalars.names and scalars["SPECTROFLUX_Z"].tolist() == [4, 4, 4]


def test_negative_fluxes_are_no_padding(tmp_path):
    tiny.put(tmp_path / "plasticc", 58, tiny.plasticc(58), name="train_01.hdf5")
    curve = MMUHdf5(tmp_path / "plasticc").read()["lightcurve"]
    assert curve.good.sum() == 2 * 5 * 3 and curve.flux.shape == (2, 15)
    np.testing.assert_allclose(curve.flux, -1, rtol=1e-6)  # −100 at zero point 27.5
    np.testing.assert_allclose(curve.ivar, 25, rtol=1e-6)
    assert (np.diff(curve.time_mjd) > 0).all()


def test_the_band_that_plasticc_never_filled_has_no_epochs(tmp_path):
    tiny.put(tmp_path / "plasticc", 58, tiny.plasticc(58), name="train_01.hdf5")
    seen = MMUHdf5(tmp_path / "plasticc").read()
    curve = seen["lightcurve"]
    assert curve.bands == tuple("ugrizY") and set(curve.band[curve.good]) == {0, 1, 2, 3, 4}
    assert np.isnan(seen["scalars"]["hostgal_specz"]).all()  # −9
    assert seen["labels"]["obj_type"].tolist() == [90, 90]


def test_times_count_from_their_own_zero():
    """In float64 from the first sum on: in float32 an MJD is off by up to 169 s."""
    short = np.array([[2000.25, 2001, 0]], dtype=np.float32)
    curve = one_part("tess", "lightcurve", time=short, flux=np.ones((1, 3), np.float32), flux_err=short)
    assert curve.time_mjd.dtype == np.float64 and curve.time_mjd.tolist() == [[58999.75, 59000.5]]
    flux = np.array([[1.0, 2, 0]], dtype=np.float32)
    tess = one_part("tess", "lightcurve", time=np.array([[2000.25, 2001, 0]]), flux=flux, flux_err=flux)
    assert tess.time_mjd.tolist() == [[58999.75, 59000.5]] and tess.unit == "electron / s"  # BTJD + 56999.5
    kepler = {"time": np.array([[np.nan, 131.5, 130]]), "pdcsap_flux": flux, "pdcsap_flux_err": flux}
    curve = one_part("kepler", "lightcurve", **kepler)
    assert curve.time_mjd.tolist() == [[54962.5, 54964]] and curve.flux.tolist() == [[0, 2]]  # BKJD + 54832.5
    assert curve.ivar.tolist() == [[0, 0.25]]  # an error of 0 is none


def test_magnitudes_become_fluxes_and_false_errors_none(tmp_path):
    mag = np.array([[17.5, 20, 0], [22.5, 0, 0]], dtype=np.float32)
    err = np.array([[0.1, 20, 0], [0.2, 0, 0]], dtype=np.float32)  # 20: the builder wrote the magnitude again
    time = np.array([[53000, 53001, -99], [53002, -99, -99]], dtype=np.float32)
    tiny.supernova(tmp_path / "cfa" / "cfa3", 58, "SN1", bands=np.array([b"V", b"r'"]), time=time, mag=mag, mag_err=err)
    curve = MMUHdf5(tmp_path / "cfa").read()["lightcurve"]
    np.testing.assert_allclose(curve.flux, [[100, 10, 1]], rtol=1e-6)
    assert curve.bands == ("V", "r'") and curve.unit == "native nanomaggy" and curve.good.all()
    sigma = 100 * 0.1 * np.log(10) / 2.5
    np.testing.assert_allclose(curve.ivar, [[sigma**-2, 0, (0.2 * np.log(10) / 2.5) ** -2]], rtol=1e-5)


def test_lists_of_neighbours_end_where_there_are_only_zeros(tmp_path):
    tiny.put(tmp_path / "legacysurvey", 700, tiny.legacysurvey(700, 2), compression="lzf", chunks=True)
    seen = MMUHdf5(tmp_path / "legacysurvey").read()
    near = seen["neighbours"]
    assert near.good.sum(axis=1).tolist() == [3, 3] and near["FLUX_G"][0, :3].tolist() == [5, -2, 1]
    assert np.isnan(near["FLUX_G"][0, 3:]).all() and (near["X"][0, :3] == 0).all()  # at 0 there may be a source
    assert near.names == ("FLUX_G", "TYPE", "X", "Y") and near.units == ("nmgy", "", "pix", "pix")


def test_numbers_that_stand_for_nothing_are_nan(tmp_path):
    columns = {"object_id": np.array([b"a", b"b"]), **tiny.places(5, 2), "z_spec": np.float32([-99, 0.3])}
    tiny.put(tmp_path / "ssl_legacysurvey", 5, columns)
    seen = MMUHdf5(tmp_path / "ssl_legacysurvey").read()
    np.testing.assert_array_equal(seen["scalars"]["z_spec"], np.float32([np.nan, 0.3]))
    for i, mass in enumerate((-99, -999, 10.5)):
        tiny.supernova(tmp_path / "ps1_sne_ia", 58, f"SN{i}", host_log_mass=np.float32(mass))
    mass = MMUHdf5(tmp_path / "ps1_sne_ia").read()["scalars"]["host_log_mass"]
    np.testing.assert_array_equal(mass, [np.nan, np.nan, 10.5])


def test_what_lies_beside_a_light_curve_is_no_set_of_scalars(tmp_path):
    """SNANA's MAG has the shape of the curve, which differs from object to object."""
    for n in (2, 5):
        two = {key: np.ones((2, n), np.float32) for key in ("flux", "flux_err", "MAG")}
        tiny.supernova(tmp_path / "snls", 58, f"SN{n}", time=np.tile(53000 + np.arange(n), (2, 1)), **two)
    source = MMUHdf5(tmp_path / "snls")
    assert source.read()["scalars"].names == ("host_log_mass", "redshift") and source.left_out == ("MAG",)


# --- names and places ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        (b"0001m002-123", "0001m002-123"),
        ("b'0001m002-123'", "0001m002-123"),
        (b"b'x'", "x"),
        ('b"x"', "x"),
        (np.int64(39627733810020382), "39627733810020382"),
        (b"299489677444933632  ", "299489677444933632"),
        ("b'", "b'"),
    ],
)
def test_ids_are_what_they_name(raw, want):
    assert word(raw) == want


def test_ids_of_all_kinds(tmp_path):
    columns = tiny.legacysurvey(700, 2)
    columns["object_id"] = np.array([b"b'0700m002-0'", b"b'0700m002-1'"])
    tiny.put(tmp_path / "legacysurvey", 700, columns)
    seen = MMUHdf5(tmp_path / "legacysurvey").read()
    assert seen.object_id.tolist() == ["0700m002-0", "0700m002-1"] and seen["labels"]["TYPE"].tolist() == ["REX"] * 2


def test_of_two_positions_the_finer_is_taken(tmp_path):
    exact = tiny.places(5, 2)
    columns = {"object_id": np.array([b"a", b"b"]), **exact, "RA": exact["ra"], "DEC": exact["dec"]}
    columns |= {"ra": exact["ra"].astype(np.float32), "dec": exact["dec"].astype(np.float32)}
    tiny.put(tmp_path / "galex", 5, columns)
    seen = MMUHdf5(tmp_path / "galex").read()
    assert seen.ra.tolist() == exact["ra"].tolist() and seen.dec.tolist() == exact["dec"].tolist()


def test_positions_in_float32_are_float64_and_may_lie_across_a_border(tmp_path):
    """As close to the border of a cell as float32 rounds away: the file is right, and is read."""
    middles = np.array([tiny.middle(cell) for cell in range(0, 3072, 97)])
    ra, dec = middles.T
    beyond, home = ra + 8, tiny.cell_of(ra, dec)
    for _ in range(60):  # halve the way to the border, from within
        half = (ra + beyond) / 2
        inside = tiny.cell_of(half % 360, dec) == home
        ra, beyond = np.where(inside, half, ra), np.where(inside, beyond, half)
    ra = ra % 360
    rounded = ra.astype(np.float32).astype(np.float64), dec.astype(np.float32).astype(np.float64)
    across = np.flatnonzero(tiny.cell_of(ra, dec) != tiny.cell_of(*rounded))
    assert len(across)
    for i in across[:3]:
        columns = {"object_id": np.array([b"a"]), "ra": np.float32(ra[i : i + 1]), "dec": np.float32(dec[i : i + 1])}
        root = tmp_path / f"galex{i}" / "ais"
        tiny.put(root, tiny.cell_of(ra[i], dec[i])[0], columns)
        seen = MMUHdf5(root).near(ra=ra[i], dec=dec[i], radius_deg=1e-4).read()
        assert seen.ra.dtype == np.float64 and seen.ra[0] == rounded[0][i]


def test_supernovae_without_a_place_are_nowhere(tmp_path):
    nowhere = int(tiny.cell_of(0, 0)[0])
    zero = {"ra": np.float32(0), "dec": np.float32(0), "redshift": np.float32(0)}
    mags = {"mag": np.ones((2, 3), np.float32), "mag_err": np.ones((2, 3), np.float32)}
    tiny.supernova(tmp_path / "cfa", nowhere, "SNsnf1", **zero, **mags)
    seen = MMUHdf5(tmp_path / "cfa").read()
    assert np.isnan(seen.ra[0]) and np.isnan(seen.dec[0]) and np.isnan(seen["scalars"]["redshift"][0])


# --- units --------------------------------------------------------------------------------------------------------


def test_images_come_in_nanomaggies():
    """A star of AB magnitude 20 is 10 nanomaggies in every survey: the golden number of each row."""
    for survey, count in (("hsc", 10**2.8), ("jwst", 10**3.56), ("legacysurvey", 10.0)):
        row = SURVEYS[survey].mmu.parts[0]
        flux = np.full((1, len(row.bands), 1, 1), count, dtype=np.float32)
        image = part_of(row, {row.columns["flux"][0]: flux, "image_ivar": flux}, survey)
        np.testing.assert_allclose(image.flux, 10, rtol=1e-5)
        np.testing.assert_allclose(image.ivar, count / row.factor**2, rtol=1e-5)
        assert image.unit == "nanomaggy" and image.flux.dtype == np.float32


def test_spectra_come_in_1e_17_erg():
    for survey in ("sdss", "desi", "apogee"):
        part = spectrum(survey)
        assert part.unit == "1e-17 erg / (s cm2 AA)" and part.flux.tolist() == [[1, 1, 1]]
    assert one_part("manga", "cube", **cube_columns()).unit == "1e-17 erg / (s cm2 AA)"


def cube_columns() -> dict:
    flat = np.ones((1, 4, 3), np.float32)
    where = {"spaxels.x": np.array([[0, 1, 0, 1]]), "spaxels.y": np.array([[0, 0, 1, 1]])}
    return {"spaxels.flux": flat, "spaxels.lambda": flat * np.arange(3600, 3603, dtype=np.float32)} | where


def test_light_curves_say_in_which_system_they_are():
    """FLUXCAL counts 27.5 − 2.5 log10: rows of SN 03D1au and SN 2005am in the files that MMU's builders read."""
    for survey, fluxcal, mag, unit in (
        ("snls", 41.256, 23.461, "nanomaggy"),
        ("swift_sne_ia", 13905.9, 17.142, "vega nanomaggy"),
    ):
        one = np.full((1, 1, 1), fluxcal)
        when = np.full((1, 1, 1), 53000.0)
        columns = {"flux": one, "flux_err": one, "time": when, "bands": np.array(["g"])}
        curve = part_of(SURVEYS[survey].mmu.parts[0], columns, survey, ("g",))
        assert curve.unit == unit
        np.testing.assert_allclose(22.5 - 2.5 * np.log10(curve.flux), mag, atol=6e-4)
    for survey in ("cfa", "csp"):  # u g r i near AB, B V by Vega: one word for all would be wrong
        assert SURVEYS[survey].mmu.parts[0].unit == "native nanomaggy"
    for survey in ("yse", "ps1_sne_ia", "des_y3_sne_ia", "foundation", "plasticc"):
        assert SURVEYS[survey].mmu.parts[0].unit == "" and SURVEYS[survey].mmu.parts[0].zero_point_mag == 27.5


def test_vipers_noise_is_a_standard_deviation_and_its_flags_are_0_for_good():
    flat = {"spectrum_flux": np.full((1, 2), 3e-18, np.float32), "spectrum_noise": np.full((1, 2), 1e-18, np.float32)}
    flat |= {"spectrum_wave": np.array([[5500, 5507]], dtype=np.float32)}
    part = one_part("vipers", "spectrum", **flat, spectrum_mask=np.array([[0, 2]], dtype=np.float32))
    np.testing.assert_allclose(part.flux, 0.3, rtol=1e-6)
    np.testing.assert_allclose(part.ivar, 100, rtol=1e-5)
    assert part.good.tolist() == [[True, False]]


def test_chandra_energies_become_rising_wavelengths(tmp_path):
    path = tmp_path / "chandra" / "spectra" / "healpix=5" / "001-of-001.hdf5"
    columns = {"object_id": np.arange(2), **tiny.places(5, 2), "name": np.array([b"2CXO J1", b"2CXO J2"])}
    tiny.write(path, columns)
    with h5py.File(path, "a") as file:
        for name, rows in (
            ("spectrum_ene", ([1.0, 2, 4], [1.0])),
            ("spectrum_flux", ([10.0, 20, 40], [7.0])),
            ("spectrum_flux_err", ([1.0, 2, 4], [1.0])),
        ):
            held = file.create_dataset(name, (2,), dtype=h5py.vlen_dtype(np.float64))
            held[0], held[1] = np.array(rows[0]), np.array(rows[1])
    part = MMUHdf5(tmp_path / "chandra").read()["spectrum"]
    np.testing.assert_allclose(part.wavelength_aa, [[3.0996, 6.1992, 12.3984], [12.3984, np.nan, np.nan]], rtol=1e-4)
    np.testing.assert_array_equal(part.flux, [[40, 20, 10], [7, np.nan, np.nan]])
    assert part.good.tolist() == [[True] * 3, [True, False, False]] and part.unit == "ct / (s keV)"


def test_wavelengths_in_air_become_those_in_vacuum():
    # Hα and Na D1: air and vacuum wavelengths as the NIST Atomic Spectra Database lists them.
    np.testing.assert_allclose(vacuum_from_air(np.array([6562.79, 5895.924])), [6564.60, 5897.558], atol=0.01)
    galah = {"spectrum_flux": np.ones((1, 2)), "spectrum_lambda": np.array([[6562.79, -1]])}
    part = one_part("galah", "spectrum", **galah)
    np.testing.assert_allclose(part.wavelength_aa, [[6564.60]], atol=0.01)


def test_big_endian_columns_are_native(tmp_path):
    columns = tiny.legacysurvey(700, 2)
    swapped = {k: v.astype(v.dtype.newbyteorder(">")) if v.dtype.kind in "fi" else v for k, v in columns.items()}
    half = {k: (v if k in ("image_ivar", "ra") else swapped[k]) for k, v in columns.items()}  # and mixed
    seen = {}
    for name, given in (("a", columns), ("b", swapped), ("c", half)):
        tiny.put(tmp_path / name / "legacysurvey", 700, given)
        seen[name] = MMUHdf5(tmp_path / name / "legacysurvey").read()
    for other in ("b", "c"):
        assert seen[other]["image"].flux.dtype.isnative and seen[other]["scalars"].values.dtype.isnative
        np.testing.assert_array_equal(seen[other]["image"].flux, seen["a"]["image"].flux)
        np.testing.assert_array_equal(seen[other]["neighbours"].values, seen["a"]["neighbours"].values)
        assert seen[other].ra.tolist() == seen["a"].ra.tolist()


# --- bands --------------------------------------------------------------------------------------------------------


def jwst(bands: tuple[str, ...], cell: int) -> dict:
    n = 2
    flux = np.tile(np.arange(len(bands), dtype=np.float32)[:, None, None], (n, 1, 3, 3))
    return {
        "object_id": np.arange(n) + 10 * cell,
        **tiny.places(cell, n),
        "image_band": np.array([[band.encode() for band in bands]] * n),
        "image_flux": flux,
        "image_ivar": np.ones_like(flux),
        "image_mask": np.ones(flux.shape, dtype=bool),
        "image_scale": np.tile(np.float32([0.02 if band < "f2" else 0.04 for band in bands]), (n, 1)),
        "image_psf_fwhm": np.full((n, len(bands)), 0.1, dtype=np.float32),
    }


def test_bands_in_another_order_and_bands_that_a_field_lacks(tmp_path):
    all_of_them = ("f444w", "f090w", "f115w", "f150w", "f200w", "f277w", "f356w")
    tiny.put(tmp_path / "jwst" / "ceers", 5, jwst(all_of_them, 5))
    tiny.put(tmp_path / "jwst" / "ngdeep", 6, jwst(all_of_them[2:] + all_of_them[:1], 6))
    image = MMUHdf5(tmp_path / "jwst").read()["image"]
    assert image.bands == SURVEYS["jwst"].bands
    factor = SURVEYS["jwst"].mmu.parts[0].factor
    np.testing.assert_allclose(image.flux[0, :, 0, 0] / factor, [1, 2, 3, 4, 5, 6, 0], rtol=1e-6)
    np.testing.assert_allclose(image.flux[2, :, 0, 0] / factor, [np.nan, 0, 1, 2, 3, 4, 5], rtol=1e-6)
    assert not image.good[2, 0].any() and image.good[2, 1:].all() and (image.ivar[2, 0] == 0).all()
    assert np.isnan(image.pixel_scale_arcsec)  # it differs from band to band, so says each
    np.testing.assert_allclose(image.pixel_scales_arcsec[0], [0.02, 0.02, 0.02, 0.04, 0.04, 0.04, 0.04], rtol=1e-6)


def test_bands_that_are_not_the_survey_s(tmp_path):
    columns = tiny.legacysurvey(700, 1) | {"image_band": np.array([[b"des-g", b"des-r", b"des-i", b"des-u"]])}
    tiny.put(tmp_path / "legacysurvey", 700, columns)
    with pytest.raises(BandMismatch, match=r"healpix=700.*saw des-g des-r des-i des-u; want des-g"):
        MMUHdf5(tmp_path / "legacysurvey").read()


def test_pictures_in_other_orders_of_axes(tmp_path):
    columns = tiny.legacysurvey(700, 2)
    tiny.put(tmp_path / "legacysurvey", 700, columns)
    rgb = MMUHdf5(tmp_path / "legacysurvey").read()["rgb"]
    assert rgb.unit == "display" and rgb.flux.dtype == np.uint8 and rgb.bands == ("red", "green", "blue")
    np.testing.assert_array_equal(rgb.flux[:, 2], columns["image_rgb"][..., 2])
    triplet = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    image = one_part("btsbot", "image", image_triplet=triplet, image_scale=np.float32([1.01, 1.01]))
    np.testing.assert_array_equal(image.flux[:, 1], triplet[..., 1])
    assert image.pixel_scale_arcsec == pytest.approx(1.01)
    gz10 = one_part("gz10", "image", images=columns["image_rgb"], pxscale=np.float32([0.262, 0.3]))
    assert np.isnan(gz10.pixel_scale_arcsec) and gz10.pixel_scales_arcsec.shape == (2, 3)


def test_one_scale_is_known_better_than_float32(tmp_path):
    tiny.put(tmp_path / "legacysurvey", 700, tiny.legacysurvey(700, 1))
    image = MMUHdf5(tmp_path / "legacysurvey").read()["image"]
    assert image.pixel_scale_arcsec == 0.262 and image.bands == tuple("griz")
    np.testing.assert_allclose(image.psf_fwhm_arcsec, 1.3, rtol=1e-6)


def test_vectors_are_scalars_by_number(tmp_path):
    coeff = np.arange(220.0).reshape(2, 110)
    columns = {
        "source_id": np.array([2**60 + 1, 2**60 + 3]),
        **tiny.places(5, 2),
        "coeff": coeff,
        "parallax": [1.0, -1],
    }
    tiny.put(tmp_path / "gaia", 5, columns)
    seen = MMUHdf5(tmp_path / "gaia").read()
    assert seen.object_id.tolist() == [str(2**60 + 1), str(2**60 + 3)]
    np.testing.assert_array_equal(seen["xp"]["55"], coeff[:, 55])
    with pytest.raises(ShapeMismatch):
        one_part("sdss", "spectrum", spectrum_flux=np.ones((1, 3)), spectrum_lambda=np.ones((1, 4)))


def test_the_list_of_traps_names_tests_that_exist():
    named = set(re.findall(r"(?<![.\w])test_\w+", __doc__))
    assert len(named) > 15 and named - {"test_survey"} <= set(globals())
