"""The Multimodal Universe's HDF5 files: every layout is read, only what is asked for, and bad files are named."""

import shutil

import h5py
import numpy as np
import pytest
import tiny_mmu as tiny

import omnisky
from omnisky.errors import BadValue, CorruptFile, MissingModality, ObservationError
from omnisky.observe.loader import Loader, Source
from omnisky.observe.mmu import MMUHdf5


@pytest.fixture
def desi(tmp_path):
    """Three cells, 2 + 3 + 4 objects."""
    root = tmp_path / "v1" / "desi" / "edr_sv3"
    for n, cell in ((2, 700), (3, 701), (4, 2000)):
        tiny.put(root, cell, tiny.desi(cell, n, first=100 * cell))
    return root


def whole(root) -> dict[str, np.ndarray]:
    """All files of a table set, by h5py alone, in the order of their paths."""
    held = {}
    for path in sorted(root.glob("healpix=*/*")):
        with h5py.File(path) as file:
            for name in file:
                held.setdefault(name, []).append(file[name][()])
    return {name: np.concatenate(values) for name, values in held.items()}


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_table_set_is_read(desi):
    want, seen = whole(desi), MMUHdf5(desi).read()
    assert seen.object_id.tolist() == [str(one) for one in want["object_id"]]  # 17 digits: never through a float
    np.testing.assert_array_equal(seen.ra, want["ra"])
    spectrum = seen["spectrum"]
    np.testing.assert_array_equal(spectrum.flux, want["spectrum_flux"])
    np.testing.assert_array_equal(spectrum.wavelength_aa, want["spectrum_lambda"])
    np.testing.assert_array_equal(spectrum.good, ~want["spectrum_mask"])
    np.testing.assert_array_equal(spectrum.lsf_sigma_pix, want["spectrum_lsf_sigma"])
    assert spectrum.survey == "desi" and spectrum.flux.dtype == np.float32
    np.testing.assert_array_equal(seen["scalars"]["Z"], want["Z"])
    assert dict(zip(seen["scalars"].names, seen["scalars"].units, strict=True)) == {"EBV": "mag", "Z": ""}
    assert seen["labels"]["DESI_TARGET"].dtype == np.int64 and (seen["labels"]["DESI_TARGET"] == 2**60 + 1).all()
    assert seen["labels"]["SPECTYPE"].tolist()[:2] == ["GALAXY", "QSO"]
    assert MMUHdf5(desi).left_out == ("spectrum_lsf",)


def test_omnisky_read_knows_the_layout(desi, tmp_path):
    assert len(omnisky.read(desi)) == 9
    assert len(omnisky.read(tmp_path / "v1" / "desi")) == 9
    assert len(omnisky.read(desi / "healpix=701")) == 3
    nameless = tmp_path / "mine"
    shutil.copytree(desi, nameless)
    with pytest.raises(ObservationError, match=r"which survey.*want .*desi.*survey="):
        omnisky.read(nameless)
    assert omnisky.read(nameless, survey="desi")["spectrum"].survey == "desi"
    with pytest.raises(BadValue, match="saw dessi"):
        omnisky.read(nameless, survey="dessi")
    (tmp_path / "notes.csv").write_text("a\n1\n")
    with pytest.raises(ObservationError, match=r"survey='desi' is for.*notes\.csv.*leave it out"):
        omnisky.read(tmp_path / "notes.csv", survey="desi")


@pytest.mark.parametrize(
    "index",
    [[0], [8, 0, 3, 3], slice(1, 7, 2), slice(None, None, -1), [-1], np.arange(9) % 2 == 0, np.arange(9)[::-1], 4],
)
def test_take_gives_rows_in_the_order_asked_for(desi, index):
    source = MMUHdf5(desi)
    every, some = source.read(), source.take(index)
    want = every.take(np.atleast_1d(np.arange(9)[index]))
    assert some.object_id.tolist() == want.object_id.tolist()
    np.testing.assert_array_equal(some["spectrum"].flux, want["spectrum"].flux)
    np.testing.assert_array_equal(some["labels"]["ZWARN"], want["labels"]["ZWARN"])


def test_nothing_asked_for_is_nothing_with_all_its_parts(desi):
    seen = MMUHdf5(desi).take([])
    assert len(seen) == 0 and set(seen.parts) == {"spectrum", "scalars", "labels"}


def test_it_is_a_source_for_the_loader(desi):
    source = MMUHdf5(desi)
    assert isinstance(source, Source) and len(source) == 9
    seen = next(iter(Loader(source, 4, workers=2)))
    assert len(seen) == 4 and seen["spectrum"].flux.shape == (4, 12)
    assert [len(batch) for batch in source.batches(4)] == [4, 4, 1]
    ids = [name for batch in source.batches(4) for name in batch.object_id]
    assert ids == source.read().object_id.tolist()


def test_only_what_is_asked_for_is_read(desi, monkeypatch):
    source = MMUHdf5(desi, parts=(), columns=("Z", "z_ok"))
    read = []
    from omnisky.observe import mmu_files

    some = mmu_files._some
    monkeypatch.setattr(mmu_files, "_some", lambda d, rows, path, name: read.append(name) or some(d, rows, path, name))
    seen = source.read()
    assert set(seen.parts) == {"scalars", "labels"} and seen["scalars"].names == ("Z",)
    assert tuple(seen["labels"].columns) == ("z_ok",)
    assert set(read) <= {"object_id", "ra", "dec", "Z", "ZWARN"}
    with pytest.raises(MissingModality, match=r"saw redshift.*want .*Z"):
        MMUHdf5(desi, columns=("redshift",)).take([0])
    with pytest.raises(MissingModality, match=r"saw image.*want spectrum scalars labels"):
        MMUHdf5(desi, parts=("image",)).take([0])


# --- deviations of the layout -------------------------------------------------------------------------------------


def test_zero_padded_cells_and_h5_and_split_names(tmp_path):
    root = tmp_path / "plasticc" / "data"
    for name, cell in (("train_01.hdf5", 58), ("test_03.hdf5", 58), ("test_01.hdf5", 59)):
        columns = tiny.plasticc(cell)
        columns["object_id"] = columns["object_id"] + 10000 * len(list(root.rglob("*.hdf5")))
        tiny.write(root / f"healpix={cell:04d}" / name, columns)
    assert len(MMUHdf5(root)) == 6 and len(MMUHdf5(root, split="train")) == 2
    assert sorted(MMUHdf5(root).read()["labels"]["split"].tolist()) == ["test"] * 4 + ["train"] * 2
    assert len(MMUHdf5(root).inside(58)) == 4
    with pytest.raises(ObservationError, match=r"plasticc.*6|files of other splits"):
        MMUHdf5(root, split="val").read()
    vipers = tmp_path / "vipers" / "vipers_w1"
    columns = {"object_id": np.array([101133478.0, 101133479.0]), **tiny.places(9, 2)}
    wave = np.tile(np.linspace(5500, 9500, 4, dtype=np.float32), (2, 1))
    spectra = {f"spectrum_{key}": np.full((2, 4), 1e-18, np.float32) for key in ("flux", "noise")}
    spectra |= {"spectrum_wave": wave, "spectrum_mask": np.zeros((2, 4), np.float32)}
    tiny.put(vipers, 9, {**columns, **spectra}, name="001-of-001.h5")
    assert MMUHdf5(vipers).read().object_id.tolist() == ["101133478", "101133479"]


def test_one_more_level_of_folders(tmp_path):
    root = tmp_path / "tess"
    n = 2
    time = np.array([[2000.5, 2001.5, 0], [2000.5, 0, 0]])
    columns = {
        "object_id": np.array([b"tic1", b"tic2"]),
        **tiny.places(5, n),
        "time": time,
        "flux": np.array([[1.0, 2, 0], [3, 0, 0]], dtype=np.float32),
        "flux_err": np.ones((n, 3), dtype=np.float32),
    }
    tiny.put(root / "spoc" / "s0064", 5, columns)
    (root / "spoc" / "s0064" / "healpix=5" / "001-of-001.hdf5.lock").touch()
    (root / "spoc" / "s0064" / "healpix=5" / ".001-of-001.hdf5.3f2a.draft").write_bytes(b"half")
    assert len(MMUHdf5(root)) == len(MMUHdf5(root, config="spoc")) == 2
    with pytest.raises(ObservationError, match="no files"):
        MMUHdf5(root, config="qlp").read()


def test_one_file_per_object(tmp_path):
    root = tmp_path / "ps1_sne_ia"
    tiny.supernova(root, 58, "PS1_1")
    longer = np.zeros((3, 4), dtype=np.float32) - 99
    longer[2] = [56000, 56001, 56002, 56003]
    tiny.supernova(root, 1058, "PS1_2", bands="g,i,z", time=longer, flux=-longer, flux_err=np.ones((3, 4), np.float32))
    seen = MMUHdf5(root).read()
    assert seen.object_id.tolist() == ["PS1_1", "PS1_2"]
    curve = seen["lightcurve"]
    assert curve.bands == ("g", "i", "r", "z")  # all names in the set, the same in every batch
    assert MMUHdf5(root).take([0])["lightcurve"].bands == curve.bands
    np.testing.assert_array_equal(curve.good.sum(axis=1), [3, 4])
    np.testing.assert_array_equal(curve.time_mjd[0], [55000.5, 55001.5, 55002.5, np.nan])  # in order of time
    assert [curve.bands[i] for i in curve.band[0, :3]] == ["g", "r", "g"]
    np.testing.assert_allclose(curve.flux[0, :3], [-0.5, 2, 1], rtol=1e-6)  # FLUXCAL 27.5 → nanomaggies
    np.testing.assert_allclose(curve.ivar[0], [100, 25, 100, 0], rtol=1e-6)
    assert np.isnan(seen["scalars"]["host_log_mass"]).all() and seen["labels"]["obj_type"].tolist() == ["Ia", "Ia"]


def test_one_group_per_object(tmp_path):
    root = tmp_path / "manga" / "manga"
    tiny.manga(root, 77, ["7443-12701", "7443-12702"])
    seen = MMUHdf5(root).read()
    assert seen.object_id.tolist() == ["7443-12701", "7443-12702"]
    cube = seen["cube"]
    assert cube.flux.shape == (2, 5, 4, 4) and cube.pixel_scale_arcsec == 0.5
    assert cube.flux[1, 2, 3, 1] == 312  # 100 y + 10 x + wave
    assert not cube.good[0, :, 0, 0].any() and cube.good[0, :, 0, 1].all()
    np.testing.assert_array_equal(cube.wavelength_aa[0], 3600 + np.arange(5))
    assert seen["maps"].bands == ("vel", "sigma") and not seen["maps"].good[:, 1].any()
    assert seen["image"].bands == ("g", "r", "i", "z")
    assert MMUHdf5(root, parts=("maps",)).take([1]).object_id.tolist() == ["7443-12702"]
    assert len(MMUHdf5(root, parts=()).take([])) == 0


# --- choosing by place and number ---------------------------------------------------------------------------------


@pytest.fixture
def scattered(tmp_path):
    """300 objects all over the sky, and some at RA 0/360 and the poles; galex has no parts, only columns."""
    rng = np.random.default_rng(4)
    ra = np.concatenate([rng.uniform(0, 360, 300), [359.9999, 0.0001, 0, 360, 12, 200]])
    dec = np.concatenate([np.degrees(np.arcsin(rng.uniform(-1, 1, 300))), [1, 1, 1.0005, 1, 89.9999, 89.9998]])
    cell, root = tiny.cell_of(ra, dec), tmp_path / "galex" / "ais"
    for one in np.unique(cell):
        at = cell == one
        names = np.array([f"g{i}".encode() for i in np.flatnonzero(at)])
        mag = np.where(np.flatnonzero(at) % 3 == 0, -999, np.flatnonzero(at)).astype(np.float32)
        tiny.put(root, one, {"object_id": names, "ra": ra[at], "dec": dec[at], "nuv_mag": mag})
    return root


@pytest.mark.parametrize(
    ("ra", "dec", "radius"), [(0, 1, 0.01), (360, 1, 0.01), (77, 90, 0.001), (150, 20, 25), (10, -40, 180), (1, 1, 0)]
)
def test_a_cone_holds_what_astropy_says(scattered, ra, dec, radius):
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    every = MMUHdf5(scattered).read()
    away = SkyCoord(every.ra, every.dec, unit="deg").separation(SkyCoord(ra, dec, unit="deg")).to_value(u.deg)
    near = MMUHdf5(scattered).near(ra=ra, dec=dec, radius_deg=radius).read()
    assert set(near.object_id) == set(every.object_id[away <= radius])


def test_a_cone_opens_only_files_that_it_touches(scattered):
    far = tiny.cell_of(200, -60)[0]
    for path in scattered.glob("healpix=*/*"):
        if path.parent.name != f"healpix={tiny.cell_of(0, 1)[0]}":
            path.write_bytes(b"not looked at")
    ra, dec = tiny.middle(tiny.cell_of(0, 1)[0])
    assert len(MMUHdf5(scattered).near(ra=ra, dec=dec, radius_deg=0.1)) == 0
    (scattered / f"healpix={far}").mkdir(exist_ok=True)
    (scattered / f"healpix={far}" / "001-of-001.hdf5").write_bytes(b"looked at")
    with pytest.raises(CorruptFile, match=f"healpix={far}"):
        MMUHdf5(scattered).near(ra=200, dec=-60, radius_deg=0.1).read()


@pytest.mark.parametrize("depth", [0, 2, 4, 5, 9])
def test_cells_of_any_order(scattered, depth):
    every = MMUHdf5(scattered).read()
    of = tiny.cell_of(every.ra, every.dec, depth)
    chosen = MMUHdf5(scattered).inside(of[:7], depth=depth).read()
    assert set(chosen.object_id) == set(every.object_id[np.isin(of, of[:7])])


def test_a_range_of_a_column_and_all_together(scattered):
    source = MMUHdf5(scattered).between("nuv_mag", -1e9, 100)  # −999 means not measured
    assert set(source.read().object_id) == {f"g{i}" for i in range(101) if i % 3}
    both = source.near(ra=180, dec=0, radius_deg=60).between("nuv_mag", 50, 100)
    assert set(both.read().object_id) <= set(source.read().object_id) and 0 < len(both) < len(source)
    nothing = source.between("nuv_mag", 5000, 6000)
    assert len(nothing) == 0 and len(nothing.read()) == 0
    with pytest.raises(MissingModality, match="want fuv_mag"):
        len(source.between("fuv_mag", 0, 1))


@pytest.mark.parametrize(
    "choose",
    [
        lambda s: s.near(ra=400, dec=0, radius_deg=1),
        lambda s: s.near(ra=0, dec=-91, radius_deg=1),
        lambda s: s.inside(3072),
        lambda s: s.inside([0], depth=30),
        lambda s: s.batches(0),
    ],
)
def test_choices_that_cannot_be(scattered, choose):
    with pytest.raises(BadValue):
        choose(MMUHdf5(scattered))


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_named(desi, share):
    path = desi / "healpix=701" / "001-of-001.hdf5"
    held = path.read_bytes()
    path.write_bytes(held[: int(len(held) * share)])
    with pytest.raises(CorruptFile, match=r"healpix=701/001-of-001\.hdf5.*fetch it again"):
        MMUHdf5(desi).read()


def test_a_file_with_scrambled_bytes_is_named_or_whole(desi):
    path = desi / "healpix=701" / "001-of-001.hdf5"
    held = bytearray(path.read_bytes())
    for start in range(200, len(held), 97):
        broken = held.copy()
        broken[start : start + 40] = bytes(40)
        path.write_bytes(broken)
        try:
            assert len(MMUHdf5(desi).read()) == 9  # only numbers were hit
        except CorruptFile as error:
            assert "healpix=701" in str(error)


def test_a_file_that_disappears_while_it_is_read_is_named(desi):
    source = MMUHdf5(desi)
    batches = source.batches(2)
    next(batches)
    (desi / "healpix=701" / "001-of-001.hdf5").unlink()
    with pytest.raises(CorruptFile, match=r"healpix=701/001-of-001\.hdf5 is gone"):
        list(batches)


def change(root, cell, **columns):
    path = root / f"healpix={cell}" / "001-of-001.hdf5"
    with h5py.File(path, "a") as file:
        for name, values in columns.items():
            if name in file:
                del file[name]
            if values is not None:
                file[name] = values


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"object_id": None}, "another schema.*want a column object_id"),
        ({"spectrum_flux": None}, "another schema.*want .*spectrum"),
        ({"spectrum_lambda": None}, "another schema.*want .*wavelength_aa"),
        ({"spectrum_ivar": None}, "another schema: spectrum.*saw bad flux lsf.*want .*ivar"),
        ({"SPECTYPE": None}, "another schema.*SPECTYPE"),
        ({"spectrum_ivar": np.ones((2, 12))}, "saw 2 rows|rows"),
        ({"ra": np.ones(2)}, "column ra.*saw 2 rows; want 3"),
        ({"spectrum_mask": np.zeros((3, 5), dtype=bool)}, "flags"),
        ({"object_id": np.array([7, 8, 7])}, "ids that come twice.*saw 7"),
        ({"object_id": np.array([1.5, 2, 3])}, "not rounded"),
        ({"object_id": np.array([1e17, 2, 3])}, "not rounded"),
        ({"ra": np.array([10, 360.5, 400])}, "positions.*ra = 360.5 of .*and 1 more.*0 … 360"),
        ({"ra": np.array([-1.0, 0, 0])}, "ra = -1"),
        ({"dec": np.array([0, 0, -90.5])}, "dec = -90.5"),
        ({"dec": np.array([0, 0, np.inf])}, "dec = inf"),
        ({"ra": np.array([10.0, 10, 10])}, "objects of other cells.*want cell 701"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(desi, columns, said):
    change(desi, 701, **columns)
    with pytest.raises(ObservationError, match=f"(?s)healpix=701.*{said}"):
        MMUHdf5(desi).read()


def test_ids_that_come_twice_in_different_files(desi):
    with h5py.File(desi / "healpix=700" / "001-of-001.hdf5") as file:
        twin = file["object_id"][0]
    change(desi, 701, object_id=np.array([1, twin, 3]))
    with pytest.raises(CorruptFile, match=f"ids that come twice.*saw {twin}"):
        MMUHdf5(desi).read()


def test_cells_that_are_none(tmp_path):
    for name in ("healpix=3072", "healpix=x1"):
        (tmp_path / "desi" / name).mkdir(parents=True)
        with pytest.raises(ObservationError, match=f"{name}.*0 … 3071"):
            MMUHdf5(tmp_path / "desi").read()
        (tmp_path / "desi" / name).rmdir()
    (tmp_path / "desi" / "healpix=3").mkdir()
    with pytest.raises(ObservationError, match="no files"):
        MMUHdf5(tmp_path / "desi").read()
    with pytest.raises(ObservationError, match="nothing there"):
        MMUHdf5(tmp_path / "dessi").read()


def test_a_catalogue_that_other_files_have_more_columns_of(tmp_path):
    root = tmp_path / "galex"
    tiny.put(root, 3, {"object_id": np.array([b"a"]), **tiny.places(3, 1), "nuv_mag": np.float32([20])})
    tiny.put(root, 4, {"object_id": np.array([b"b"]), **tiny.places(4, 1), "fuv_mag": np.float32([21])})
    seen = MMUHdf5(root).read()
    np.testing.assert_array_equal(seen["scalars"]["nuv_mag"], [20, np.nan])
    np.testing.assert_array_equal(seen["scalars"]["fuv_mag"], [np.nan, 21])


def test_flags_that_only_some_catalogues_have_are_numbers_with_nan(tmp_path):
    """As JWST's fields have flags of filters of their own; ids and words that are missing cannot be made up."""
    root = tmp_path / "jwst"
    flags = {"f105w_flag": np.array([3], dtype=np.int16), "flag": np.array([2**31 - 1], dtype=np.int32)}
    tiny.put(root / "gds", 3, {"object_id": np.array([1]), **tiny.places(3, 1), **flags})
    tiny.put(root / "gdn", 4, {"object_id": np.array([2]), **tiny.places(4, 1), "flag": flags["flag"]})
    seen = MMUHdf5(root).read()
    assert seen.object_id.tolist() == ["2", "1"]
    np.testing.assert_array_equal(seen["scalars"]["f105w_flag"], [np.nan, 3])
    assert tuple(seen["labels"].columns) == ("flag",) and seen["labels"]["flag"].dtype == np.int32
    tiny.put(root / "ceers", 5, {"object_id": np.array([5]), **tiny.places(5, 1), "long": np.array([2**60])})
    with pytest.raises(CorruptFile, match=r"gdn.*want a column long, as other files"):
        MMUHdf5(root).read()
    assert MMUHdf5(root, columns=("flag",)).read()["scalars"].names == ("flag",)
