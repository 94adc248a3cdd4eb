"""What is written for MMU's own loaders: the layout, names and numbers that they take for granted."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnisky.errors import BadValue
from omnisky.observe.assemble import vacuum_from_air
from omnisky.observe.mmu import MMUHdf5
from omnisky.observe.mmu_view import air_from_vacuum
from omnisky.observe.mmu_write import write_mmu
from omnisky.observe.survey import SURVEYS, part_row, part_table
from omnisky.observe.types import Cube, Image, Labels, LightCurve, Observation, Part, Scalars, Spectrum

N = 3


def places(**parts: Part) -> Observation:
    return Observation.of([f"SN{i}" for i in range(N)], np.array([10, 10.1, 200]), np.array([0.1, 0.2, -30]), **parts)


def curve(survey: str, bands: tuple[str, ...], unit: str = "nanomaggy") -> LightCurve:
    """Epochs of several bands among each other, 4, 6 and 5 of them; some negative, one without an error."""
    draw = np.random.default_rng(1)
    good = np.arange(6) < np.array([4, 6, 5])[:, None]
    flux = draw.normal(10, 4, (N, 6)).astype(np.float32)
    flux[0, 1] = -3
    ivar = draw.uniform(0.5, 2, (N, 6)).astype(np.float32)
    ivar[1, 2] = 0
    return LightCurve(
        flux=np.where(good, flux, np.nan).astype(np.float32),
        time_mjd=np.where(good, 59000 + np.arange(6) + np.arange(N)[:, None] / 8, np.nan),
        band=np.where(good, draw.integers(0, len(bands), (N, 6)), 0),
        bands=bands,
        unit=unit,
        survey=survey,
        ivar=np.where(good, ivar, 0).astype(np.float32),
        good=good,
    )


def as_mmu_s(folder) -> None:
    """Take away what only we know of: what is left is what MMU would have written."""
    for path in folder.rglob("*.hdf5"):
        with h5py.File(path, "a") as file:
            for top in [file, *(one for one in file.values() if isinstance(one, h5py.Group))]:
                for name in [one for one in top if one.startswith("omnisky")]:
                    del top[name]


def close(a: Part, b: Part) -> None:
    """The same measurement, but for rounding, and order in time."""
    assert type(a) is type(b) and a.survey == b.survey and a.unit == b.unit
    for key, value in vars(a).items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            np.testing.assert_allclose(value, getattr(b, key), rtol=2e-6, atol=1e-9, err_msg=key)
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(b, key), err_msg=key)


def both_ways(tmp_path, survey: str, part: Part, name: str = "lightcurve") -> Observation:
    """Read by our note, bit for bit; and without it, by the survey's row, as anybody's file."""
    from test_mmu_write import in_order, same_sky

    seen = places(**{name: part})
    write_mmu(seen, tmp_path / survey, survey=survey)
    same_sky(in_order(MMUHdf5(tmp_path / survey).read(), seen), seen)
    as_mmu_s(tmp_path / survey)
    again = in_order(MMUHdf5(tmp_path / survey, survey=survey).read(), seen)
    close(part, again[name])
    return again


@pytest.mark.parametrize("survey", ["yse", "ps1_sne_ia", "des_y3_sne_ia", "snls", "foundation", "swift_sne_ia"])
def test_supernovae_are_a_file_each(tmp_path, survey):
    row = SURVEYS[survey].mmu.parts[0]
    part = curve(survey, ("X", "g", "r"), row.unit or "nanomaggy")
    seen = places(
        lightcurve=part,
        scalars=Scalars(values=np.full((N, 1), 0.03, np.float32), names=("redshift",)),
        labels=Labels(columns={"obj_type": np.array(["Ia", "II", "Ia"])}),
    )
    paths = write_mmu(seen, tmp_path, survey=survey)
    assert {path.name for path in paths} == {"SN0.hdf5", "SN1.hdf5", "SN2.hdf5"}
    assert all(len(path.parent.name) == len("healpix=0000") for path in paths)
    path = next(path for path in paths if path.name == "SN1.hdf5")
    with h5py.File(path) as file:  # as MMU's loaders ask
        bands = file["bands"][()].decode("utf-8").split(",")
        assert bands == ["X", "g", "r"] and file["object_id"][()].astype("str") == "SN1"
        assert file["flux"].shape == file["time"].shape == file["flux_err"].shape == (3, file["flux"].shape[1])
        assert file["ra"][()] == 10.1 and np.asarray(file["redshift"]).astype("float32") == np.float32(0.03)
        assert file["obj_type"][()].astype("str") == "II" and file["healpix"][()] == int(path.parent.name[8:])
        used = file["time"][()] != row.padding[0]
        assert used.sum() == 6 and (file["flux"][()][~used] == 0).all()
        np.testing.assert_allclose(np.sort(file["flux"][()][used] * row.factor), np.sort(part.flux[1]), rtol=1e-6)
    both_ways(tmp_path / "again", survey, part)


@pytest.mark.parametrize("survey", ["cfa", "csp"])
def test_supernovae_in_magnitudes(tmp_path, survey):
    part = curve(survey, ("B", "V"), "native nanomaggy")
    flux = abs(part.flux)  # of what is below zero there is no magnitude
    both_ways(tmp_path, survey, LightCurve(**{**vars(part), "flux": flux}))
    paths = write_mmu(places(lightcurve=part), tmp_path / "dark", survey=survey)
    with h5py.File(next(path for path in paths if path.name == "SN0.hdf5")) as file:
        assert np.isnan(file["mag"][()]).sum() == 1
    assert np.nanmin(MMUHdf5(tmp_path / "dark").read()["lightcurve"].flux) == -3  # and yet it is not lost


def test_plasticc_is_one_array(tmp_path):
    part = curve("plasticc", tuple("ugrizY"))
    write_mmu(places(lightcurve=part), tmp_path / "plasticc", survey="plasticc")
    with h5py.File(next(tmp_path.rglob("*.hdf5"))) as file:
        n, bands, three, _ = file["lightcurve"].shape
        assert (n, bands, three) == (len(file["object_id"]), 6, 3)
        assert (file["lightcurve"][:, :, 1][file["lightcurve"][:, :, 0] == 0] == 0).all()
    both_ways(tmp_path / "again", "plasticc", part)


@pytest.mark.parametrize(("survey", "band"), [("tess", "tess"), ("kepler", "kepler")])
def test_light_curves_of_one_band_have_no_axis_for_it(tmp_path, survey, band):
    part = curve(survey, (band,), "electron / s")
    write_mmu(places(lightcurve=part), tmp_path / survey, survey=survey)
    name = SURVEYS[survey].mmu.parts[0].columns["flux"][0]
    with h5py.File(next(tmp_path.rglob("*.hdf5"))) as file:
        assert file[name].shape == file["time"].shape and file["time"].ndim == 2
        assert np.nanmax(file["time"]) < 59010 - SURVEYS[survey].mmu.parts[0].time_offset_mjd
    both_ways(tmp_path / "again", survey, part)


def spectrum(survey: str, unit: str, **more) -> Spectrum:
    draw = np.random.default_rng(2)
    wave = np.tile(np.linspace(5500, 9500, 8).astype(np.float32), (N, 1))
    flux, ivar = draw.normal(1, 1, (N, 8)).astype(np.float32), draw.uniform(1, 2, (N, 8)).astype(np.float32)
    good = np.ones((N, 8), dtype=bool)
    values = {"flux": flux, "wavelength_aa": wave, "ivar": ivar, "good": good, "unit": unit, "survey": survey}
    return Spectrum(**values | more)


def test_noise_energies_and_air(tmp_path):
    part = spectrum("vipers", Spectrum.unit)
    good = part.good.copy()
    good[1, 2] = False
    write_mmu(places(spectrum=part), tmp_path / "vipers", survey="vipers")
    with h5py.File(next(tmp_path.rglob("*.hdf5"))) as file:
        assert 1e-18 < file["spectrum_noise"][0, 0] < 2e-17 and file["spectrum_mask"][0, 0] == 0
    both_ways(tmp_path / "a", "vipers", Spectrum(**{**vars(part), "good": good}), "spectrum")
    wave = np.linspace(2.0, 20, 8) * np.ones((N, 1))
    flat = {key: getattr(part, key).astype(np.float64) for key in ("flux", "ivar")}
    part = spectrum("chandra", "ct / (s keV)", wavelength_aa=wave, **flat)
    write_mmu(places(spectrum=part), tmp_path / "chandra", survey="chandra")
    with h5py.File(next((tmp_path / "chandra").rglob("*.hdf5"))) as file:
        assert h5py.check_vlen_dtype(file["spectrum_flux"].dtype) and (np.diff(file["spectrum_ene"][0]) > 0).all()
    both_ways(tmp_path / "b", "chandra", part, "spectrum")
    part = spectrum("galah", "uncalibrated", wavelength_aa=np.linspace(4713.0, 7887, 8) * np.ones((N, 1)))
    again = both_ways(tmp_path / "c", "galah", part, "spectrum")["spectrum"]
    np.testing.assert_allclose(again.wavelength_aa, part.wavelength_aa, atol=1e-8)


@given(st.floats(2100, 30000))
@settings(max_examples=50)
def test_air_and_vacuum_are_inverses(wave):
    assert vacuum_from_air(air_from_vacuum(np.array([wave])))[0] == pytest.approx(wave, abs=1e-8)


def cubes() -> dict[str, Part]:
    draw = np.random.default_rng(4)
    flux = draw.normal(1, 1, (N, 5, 4, 4)).astype(np.float32)
    good = draw.uniform(size=flux.shape) > 0.2
    wave = np.tile(np.linspace(3600, 10300, 5).astype(np.float32), (N, 1))
    cube = Cube(flux=flux, wavelength_aa=wave, ivar=abs(flux), good=good, survey="manga", pixel_scale_arcsec=0.5)
    image = Image(flux=flux[:, :4], bands=tuple("griz"), survey="manga", pixel_scale_arcsec=0.5)
    maps = Image(
        flux=flux[:, :2],
        bands=("stellar_vel", "stellar_sigma"),
        unit="of each map",
        survey="manga",
        pixel_scale_arcsec=0.5,
        ivar=abs(flux[:, :2]),
        good=good[:, :2],
    )
    return {"cube": cube, "image": image, "maps": maps}


def test_manga_is_a_group_each(tmp_path):
    """Fields of the compound tables by their places, as MMU's loader takes them."""
    parts = cubes()
    z = Scalars(values=np.full((N, 1), 0.02), names=("z",))
    write_mmu(places(**parts, scalars=z), tmp_path / "manga", survey="manga", objects_per_file=1)
    with h5py.File(next(tmp_path.rglob("*.hdf5"))) as file:
        group = next(iter(file.values()))
        i = int(group["object_id"].asstr()[()][2:])
        assert group["spaxel_size"][()] == 0.5 and group["spaxel_size_unit"].asstr()[()] == "arcsec"
        assert group["z"][()] == 0.02 and group["ra"].shape == ()
        spaxel = group["spaxels"][6]  # y 1, x 2
        assert len(spaxel) == 21 and (spaxel[5], spaxel[6], spaxel[7]) == (2, 1, 6)
        np.testing.assert_array_equal(spaxel[0], parts["cube"].flux[i, :, 1, 2])
        np.testing.assert_array_equal(spaxel[2] == 0, parts["cube"].good[i, :, 1, 2])
        np.testing.assert_array_equal(spaxel[4], parts["cube"].wavelength_aa[i])
        assert [one[0] for one in group["images"]] == [b"g", b"r", b"i", b"z"] and len(group["images"][0]) == 7
        assert group["maps"][1][1] == b"stellar_sigma" and len(group["maps"][0]) == 6
        np.testing.assert_array_equal(group["maps"][1][2], parts["maps"].flux[i, 1])
        assert not [one for one in group if one.startswith("omnisky_cube")]  # nothing is kept twice


@pytest.mark.parametrize("name", ["cube", "image", "maps"])
def test_manga_both_ways(tmp_path, name):
    both_ways(tmp_path, "manga", cubes()[name], name)


def test_sdss_has_an_entry_per_band(tmp_path):
    names = tuple(f"SPECTROFLUX_{band}" for band in "UGRIZ")
    values = np.arange(N * 5, dtype=np.float32).reshape(N, 5)
    write_mmu(places(scalars=Scalars(values=values, names=names)), tmp_path, survey="sdss")
    with h5py.File(next(tmp_path.rglob("*.hdf5"))) as file:
        assert file["SPECTROFLUX"].shape == (len(file["object_id"]), 5)


def test_other_bands_than_the_survey_s_are_kept_all_the_same(tmp_path):
    from test_mmu_write import in_order, same_sky

    seen = places(lightcurve=curve("plasticc", ("g", "r")))
    write_mmu(seen, tmp_path, survey="plasticc")
    same_sky(in_order(MMUHdf5(tmp_path).read(), seen), seen)


@pytest.mark.parametrize("survey", ["yse", "manga"])
@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "", "x" * 300])
def test_ids_that_cannot_be_names_of_files(tmp_path, survey, name):
    seen = Observation.of([name], [10], [0], scalars=Scalars(values=np.zeros((1, 1)), names=("z",)))
    with pytest.raises(BadValue, match="object_id"):
        write_mmu(seen, tmp_path, survey=survey)
    assert not list(tmp_path.iterdir())


def test_supernovae_that_are_there_are_left_alone(tmp_path):
    seen = places(lightcurve=curve("yse", ("g", "r")))
    paths = write_mmu(seen, tmp_path, survey="yse")
    before = [path.stat().st_mtime_ns for path in paths]
    paths[1].unlink()
    assert write_mmu(seen, tmp_path, survey="yse") == paths
    after = [path.stat().st_mtime_ns for path in paths]
    assert after[::2] == before[::2] and after[1] != before[1]


@pytest.mark.parametrize("survey", [name for name, row in SURVEYS.items() if row.mmu])
def test_rows_of_parts_are_tables_and_back(survey):
    for part in SURVEYS[survey].mmu.parts:
        assert repr(part_row(part.name, part.name, part_table(part))) == repr(part)
