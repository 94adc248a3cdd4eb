"""Tables as the Multimodal Universe's v1.5 has them: flattened without a loop, read by the survey's row."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omnisky.errors import MissingModality, ObservationError
from omnisky.observe.assemble import part_of
from omnisky.observe.hats import Hats
from omnisky.observe.nested import Reading, regular, survey_named
from omnisky.observe.place import DEPTH
from omnisky.observe.sky import cells
from omnisky.observe.survey import SURVEYS
from omnisky.observe.types import Observation

N = 6


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def legacysurvey() -> pa.Table:
    flux, ivar = numbers(N, 4, 8, 8), abs(numbers(N, 4, 8, 8, seed=1))
    good = numbers(N, 4, 8, 8, seed=2) > -1
    image = [
        {
            "band": ["DES-G", "DES-R", "DES-I", "DES-Z"],
            "flux": flux[i].tolist(),
            "mask": good[i].tolist(),
            "ivar": ivar[i].tolist(),
            "psf_fwhm": [1.0, 1.1, 1.2, 1.3],
            "scale": [0.262] * 4,
        }
        for i in range(N)
    ]
    planes = pa.list_(pa.list_(pa.list_(pa.float32())))
    kind = pa.struct(
        [
            ("band", pa.list_(pa.string())),
            ("flux", planes),
            ("mask", pa.list_(pa.list_(pa.list_(pa.bool_())))),
            ("ivar", planes),
            ("psf_fwhm", pa.list_(pa.float32())),
            ("scale", pa.list_(pa.float32())),
        ]
    )
    return pa.table(
        {
            "image": pa.array(image, kind),
            "EBV": pa.array(numbers(N)),
            "TYPE": pa.array(["PSF"] * N),
            "object_id": pa.array([f"b'0001m002-{i}'" for i in range(N)]),
            **place(),
        }
    )


def place() -> dict[str, np.ndarray]:
    ra, dec = np.linspace(10, 12, N), np.linspace(-3, 3, N)
    return {"ra": ra, "dec": dec, "_healpix_29": cells(Observation.of(range(N), ra, dec), DEPTH)}


def sdss(lengths=(5, 7, 4, 7, 6, 7)) -> pa.Table:
    one = [numbers(n, seed=n + 1) for n in lengths]
    spectrum = [
        {
            "flux": flux.tolist(),
            "ivar": [1.0] * len(flux),
            "lsf_sigma": [1.0] * len(flux),
            "lambda": [4000.0 + k for k in range(len(flux) - 1)] + [-1.0],
            "mask": [k == 1 for k in range(len(flux))],
        }
        for flux in one
    ]
    floats = pa.list_(pa.float32())
    kind = pa.struct(
        [*((name, floats) for name in ("flux", "ivar", "lsf_sigma", "lambda")), ("mask", pa.list_(pa.bool_()))]
    )
    return pa.table(
        {
            "spectrum": pa.array([None, *spectrum[1:]], kind),
            "Z": numbers(N),
            "ZWARNING": [True, False] * (N // 2),
            "object_id": [f"{2**62 + i}" for i in range(N)],
            **place(),
        }
    )


def read(table: pa.Table, survey: str, **more) -> Observation:
    return Reading(survey=SURVEYS[survey], where="the test", **more).observation(table)


def test_images_and_their_survey():
    table = legacysurvey()
    seen = read(table, "legacysurvey")
    image = seen["image"]
    assert image.flux.shape == (N, 4, 8, 8) and image.bands == ("g", "r", "i", "z")
    assert np.array_equal(image.flux, numbers(N, 4, 8, 8))
    assert np.array_equal(image.good, numbers(N, 4, 8, 8, seed=2) > -1)  # True = good in this survey
    assert image.pixel_scale_arcsec == 0.262 and image.survey == "legacysurvey"
    assert seen.object_id[2] == "0001m002-2"  # mended
    assert seen["scalars"].names == ("EBV",) and seen["labels"]["TYPE"].tolist() == ["PSF"] * N


def test_ragged_spectra_absent_ones_and_polarity():
    seen = read(sdss(), "sdss")
    part = seen["spectrum"]
    assert part.there().tolist() == [False] + [True] * 5
    assert part.flux.shape == (N, 6)  # the last pixel of each is MMU's padding
    assert part.good[1].tolist() == [True, False, True, True, True, True]  # True = bad in this survey
    assert part.good[2].tolist() == [True, False, True, False, False, False]
    assert np.isnan(part.wavelength_aa[2, 3:]).all()
    assert seen.object_id[0] == str(2**62)


def test_flags_that_some_converters_invert_stay_as_they_are():
    seen = read(sdss(), "sdss")
    assert "z_ok" not in seen["labels"].columns
    assert seen["labels"]["ZWARNING"].tolist() == [True, False] * (N // 2)


def test_light_curves_with_a_band_each_epoch():
    curve = {"band": ["g", "r", "g"], "time": [3.0, 2.0, 1.0], "flux": [1.0, 2.0, 3.0], "flux_err": [0.5] * 3}
    short = {"band": ["r"], "time": [9.0], "flux": [4.0], "flux_err": [1.0]}
    floats = pa.list_(pa.float32())
    kind = pa.struct([("band", pa.list_(pa.string())), ("time", floats), ("flux", floats), ("flux_err", floats)])
    table = pa.table(
        {"lightcurve": pa.array([curve, short], kind), "object_id": ["a", "b"], "ra": [1.0, 2.0], "dec": [0.0, 0.0]}
    )
    part = read(table, "yse")["lightcurve"]
    assert part.good.sum(axis=1).tolist() == [3, 1]
    assert [part.bands[i] for i in part.band[0]] == ["g", "r", "g"]
    assert np.diff(part.time_mjd[0]).min() > 0
    assert part.flux[0, 0] / part.flux[1, 0] == pytest.approx(0.75)


def test_what_loaders_scale_is_not_scaled_again():
    """VIPERS: files have erg / (s cm2 AA) and σ; the tables 1e17 times the flux, and 1 / (σ × 1e34) called ivar."""
    flux, noise = np.float32([[3e-18, -1e-18, 2e-18]]), np.float32([[1e-18, 2e-18, 0]])
    wave, flags = np.float32([[5514, 5521, 5529]]), np.float32([[0, 2, 0]])
    held = {"spectrum_flux": flux, "spectrum_noise": noise, "spectrum_wave": wave, "spectrum_mask": flags}
    file = part_of(SURVEYS["vipers"].mmu.parts[0], held, "vipers")
    with np.errstate(divide="ignore"):
        lists = {"flux": flux * 1e17, "ivar": 1 / (noise * 1e34), "lambda": wave, "mask": flags}
    kind = pa.struct([(name, pa.list_(pa.float32())) for name in lists])
    spectrum = pa.array([{name: rows[0].tolist() for name, rows in lists.items()}], kind)
    table = pa.table(
        {"spectrum": spectrum, "object_id": ["116024139.0"], "ra": [36.1], "dec": [-5.5], "EXPTIME": [540.0]}
    )
    seen = read(table, "vipers")
    part = seen["spectrum"]
    for name in ("flux", "ivar", "wavelength_aa"):
        np.testing.assert_allclose(getattr(part, name), getattr(file, name), rtol=1e-5)
    np.testing.assert_allclose(part.flux, [[0.3, -0.1, 0.2]], rtol=1e-6)
    np.testing.assert_allclose(part.ivar, [[100, 25, 0]], rtol=1e-5)
    assert part.good.tolist() == file.good.tolist() == [[True, False, False]] and part.unit == file.unit
    assert seen.object_id.tolist() == ["116024139"] and seen["scalars"].units == ("s",)


def test_counts_at_energies_have_other_names_in_tables():
    """Chandra: as its converter writes them, lists of different lengths."""
    one = {"ene_center_bin": [1.0, 2.0], "ene_high_bin": [1.5, 3.0], "ene_low_bin": [0.5, 1.5], "flux": [10.0, 20.0]}
    two = {name: values[:1] for name, values in one.items()}
    rows = [one | {"flux_error": [1.0, 2.0]}, two | {"flux_error": [4.0]}]
    table = pa.table({"spectrum": rows, "object_id": ["1", "2"], "ra": [1.0, 2.0], "dec": [0.0, 0.0]})
    part = read(table, "chandra")["spectrum"]
    np.testing.assert_allclose(part.wavelength_aa[0], [6.1992, 12.3984], rtol=1e-4)
    assert part.flux[0].tolist() == [20, 10] and part.ivar[0].tolist() == [0.25, 1]
    assert part.good.tolist() == [[True, True], [True, False]]


def test_lists_of_structs_are_understood_too():
    """As Hugging Face's datasets 4 and later write them."""
    rows = [[{"band": b, "flux": [[1.0, 2.0], [3.0, 4.0]]} for b in ("DES-G", "DES-R", "DES-Z")]] * 2
    table = pa.table({"image": rows, "object_id": ["a", "b"]})
    image = read(table, "ssl_legacysurvey")["image"]
    assert image.flux.shape == (2, 3, 2, 2) and image.bands == ("g", "r", "z")


def test_tensors_are_read_as_they_are():
    kind = pa.fixed_shape_tensor(pa.float32(), (3, 4, 4))
    flat = pa.FixedSizeListArray.from_arrays(pa.array(numbers(2, 3, 4, 4).ravel()), 48)
    table = pa.table({"image_flux": pa.ExtensionArray.from_storage(kind, flat), "object_id": ["a", "b"]})
    assert np.array_equal(read(table, "ssl_legacysurvey")["image"].flux, numbers(2, 3, 4, 4))


def test_measurements_without_a_row_are_not_guessed_at():
    with pytest.raises(ObservationError, match="which survey"):
        Reading(survey=survey_named("mmu_unheard_of"), where="t").observation(sdss())


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("mmu_sdss_sdss", "sdss"),
        ("mmu_desi_edr_sv3", "desi"),
        ("mmu_desi_provabgs", "desi_provabgs"),
        ("mmu_ssl_legacysurvey_north", "ssl_legacysurvey"),
        ("mmu_legacysurvey_dr10_south_21", "legacysurvey"),
        ("mmu_gaia_gaia", "gaia"),
        ("my own things", ""),
    ],
)
def test_surveys_are_known_by_the_names_of_their_catalogues(name, row):
    assert survey_named(name).name == row


def test_only_the_columns_asked_for_are_needed():
    reading = Reading(survey=SURVEYS["legacysurvey"], where="t", parts=("scalars",))
    assert set(reading.needs(legacysurvey().schema)) == {"EBV", "TYPE", "object_id", "ra", "dec"}
    reading = Reading(survey=SURVEYS["legacysurvey"], where="t", parts=("image",), columns=("EBV",))
    assert set(reading.needs(legacysurvey().schema)) == {"image", "EBV", "object_id", "ra", "dec"}
    with pytest.raises(MissingModality, match="spectrum"):
        Reading(survey=SURVEYS["legacysurvey"], where="t", parts=("spectrum",)).needs(legacysurvey().schema)


def test_a_catalogue_of_v1_5_on_disk(tmp_path):
    """Layout and properties as its cards describe them."""
    root = tmp_path / "mmu_legacysurvey_dr10_south_21"
    table = legacysurvey().sort_by("_healpix_29")
    pixel = np.asarray(table["_healpix_29"]) >> 2 * DEPTH
    info = "Norder,Npix\n"
    for one in np.unique(pixel):
        folder = root / "dataset" / "Norder=0" / "Dir=0"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.filter(pa.array(pixel == one)), folder / f"Npix={one}.parquet", row_group_size=2)
        info += f"0,{one}\n"
    (root / "partition_info.csv").write_text(info)
    (root / "hats.properties").write_text(
        "obs_collection=mmu_legacysurvey_dr10_south_21\nhats_col_ra=ra\nhats_col_dec=dec\n"
    )
    catalogue = Hats(root)
    assert catalogue.row.name == "legacysurvey"
    seen = catalogue.read()
    assert len(seen) == N and seen["image"].flux.shape == (N, 4, 8, 8)
    one = catalogue.near(ra=10.0, dec=-3.0, radius_deg=0.1).read()
    assert one.object_id.tolist() == ["0001m002-0"]
    assert np.array_equal(one["image"].flux[0], numbers(N, 4, 8, 8)[0])


def test_lists_become_arrays_level_by_level():
    nested = pa.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    assert regular(nested).tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    ragged = regular(pa.array([[1.0], [2.0, 3.0], None]))
    assert ragged.shape == (3, 2) and np.isnan(ragged[0, 1]) and np.isnan(ragged[2]).all()
    assert regular(nested.slice(1)).tolist() == [[[5, 6], [7, 8]]]
