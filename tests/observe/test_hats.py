"""HATS: what was written is read back; filters give what filtering by hand gives; LSDB opens it."""

from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import omnisky
from omnisky.errors import BadValue, CorruptFile, MissingExtra, MissingModality, ObservationError
from omnisky.observe.hats import Hats
from omnisky.observe.hats_write import write_hats
from omnisky.observe.place import Cells, Cone, touch
from omnisky.observe.sky import cells
from omnisky.observe.types import Image, Labels, LightCurve, Observation, Scalars, Spectrum

N = 300


def sky(n: int = N, seed: int = 0) -> Observation:
    """Over the whole sky, in clumps, with pairs across RA 0 and near the poles."""
    rng = np.random.default_rng(seed)
    ra = np.concatenate([rng.uniform(0, 360, n // 2), rng.normal(0, 0.01, n - n // 2) % 360])
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    dec[-n // 6 :] = 90 - abs(rng.normal(0, 0.01, len(dec[-n // 6 :])))
    row = np.arange(n, dtype=np.float32)
    good = np.arange(5) < (row % 4 + 1)[:, None]
    return Observation.of(
        [f"o{i}" for i in range(n)],
        ra,
        dec,
        image=Image(flux=np.tile(row[:, None, None, None], (1, 2, 3, 3)), bands=("g", "r"), present=row % 3 != 2),
        spectrum=Spectrum(flux=np.tile(row[:, None], (1, 4)), wavelength_aa=np.tile(np.arange(4.0), (n, 1))),
        lightcurve=LightCurve(
            flux=np.where(good, row[:, None], np.nan),
            time_mjd=np.where(good, np.arange(5.0), np.nan),
            band=np.zeros((n, 5), dtype=np.int64),
            bands=("r",),
            good=good,
        ),
        scalars=Scalars(values=np.stack([row, rng.normal(size=n)], axis=1), names=("z", "w")),
        labels=Labels(columns={"kind": np.array([f"k{i}" for i in range(n)])}),
    )


def in_order(seen: Observation) -> Observation:
    return seen.take(np.argsort([int(name[1:]) for name in seen.object_id]))


def check(seen: Observation, names=None) -> None:
    """These objects, each once, with all that belongs to them."""
    seen, whole = in_order(seen), sky()
    if names is not None:
        assert sorted(seen.object_id) == sorted(names)
    row = np.array([int(name[1:]) for name in seen.object_id], dtype=int)
    assert seen.ra.tobytes() == whole.ra[row].tobytes() and seen.dec.tobytes() == whole.dec[row].tobytes()
    here = seen["image"].there()
    assert here.tolist() == (row % 3 != 2).tolist()
    assert (seen["image"].flux[here] == row[here][:, None, None, None]).all()
    assert seen["lightcurve"].good.sum(axis=1).tolist() == (row % 4 + 1).tolist()
    assert seen["scalars"].values.tobytes() == whole["scalars"].values[row].tobytes()
    assert seen["labels"]["kind"].tolist() == [f"k{i}" for i in row]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("hats") / "toys"
    write_hats((sky().take(slice(i, i + 70)) for i in range(0, N, 70)), path, max_rows=40, row_group=8)
    return path


# --- written and read ---------------------------------------------------------------------------------------------


def test_what_was_written_is_read(folder):
    check(Hats(folder).read(), sky().object_id)
    check(Hats(folder / "toys").read(), sky().object_id)
    check(omnisky.read(folder), sky().object_id)


def test_batches_are_the_whole(folder):
    batches = list(Hats(folder).batches(7))
    assert max(len(batch) for batch in batches) <= 7
    assert sorted(name for batch in batches for name in batch.object_id) == sorted(sky().object_id)
    check(batches[3])


def test_partitions_are_the_largest_cells_with_few_enough_rows(folder):
    catalogue = Hats(folder)
    sizes = []
    for one in catalogue.partitions:
        file = pq.ParquetFile(folder / "toys" / "dataset" / f"{one.path}.parquet")
        cell = file.read(columns=["_healpix_29"]).column(0).to_numpy()
        assert (cell >= one.first).all() and (cell <= one.last).all() and (np.diff(cell) >= 0).all()
        sizes.append(len(cell))
        if one.order:
            parent = cells(sky(), one.order - 1) == one.pixel >> 2
            assert parent.sum() > 40
        assert file.metadata.row_group(0).num_rows <= 8
    assert sum(sizes) == N and max(sizes) <= 40
    assert all(a.last < b.first for a, b in pairwise(catalogue.partitions))


def test_the_margin_holds_all_within_ten_arcsec(folder):
    """By brute force: every pair closer than 10″ in different partitions."""
    seen = sky()
    x = np.stack([f(np.radians(seen.dec)) * g for f, g in _xyz(seen)], axis=1)
    apart = np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(x[:, None] - x[None], axis=2) / 2, 0, 1))) * 3600
    cell = cells(seen, 29)
    partitions = Hats(folder).partitions
    of = np.array([next(i for i, p in enumerate(partitions) if p.first <= c <= p.last) for c in cell])
    close = np.argwhere((apart <= 10) & (of[:, None] != of[None]))
    assert len(close) >= 4, "the sky of the test has no pairs across borders"
    for i, j in close.tolist():
        path = folder / "toys_10arcs" / "dataset" / f"{partitions[of[i]].path}.parquet"
        assert seen.object_id[j] in pq.ParquetFile(path).read(columns=["object_id"]).column(0).to_pylist()


def test_empty_cells_beside_a_partition_have_a_margin(tmp_path):
    """Another catalogue may have objects there. One object 2 arcsec from the border at RA 45 on the equator."""
    write_hats(Observation.of(["a"], [45 - 2 / 3600], [0.0]), tmp_path / "one")
    held = {(one.order, one.pixel) for one in Hats(tmp_path / "one" / "one_10arcs").partitions}
    own, *around = cells(Observation.of("abcd", [45 - 2 / 3600, 45, 45, 45 + 2 / 3600], [0, 2 / 3600, -2 / 3600, 0]), 0)
    assert held == {(0, int(pixel)) for pixel in around} - {(0, int(own))} and len(held) == 3


def _xyz(seen: Observation):
    lon = np.radians(seen.ra)
    return (np.cos, np.cos(lon)), (np.cos, np.sin(lon)), (np.sin, np.ones(len(lon)))


def test_the_margin_holds_nothing_of_its_own_partition(folder):
    margin = Hats(folder / "toys_10arcs")
    for one in margin.partitions:
        cell = pq.ParquetFile(folder / "toys_10arcs" / "dataset" / f"{one.path}.parquet").read(columns=["_healpix_29"])
        inside = cell.column(0).to_numpy()
        assert not ((inside >= one.first) & (inside <= one.last)).any()


def test_nothing_but_the_collection_is_left(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["collection.properties", "toys", "toys_10arcs"]


# --- filters ------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    ra=st.floats(0, 360) | st.sampled_from([0.0, 359.999]),
    dec=st.floats(-90, 90) | st.sampled_from([89.999, -90.0]),
    radius=st.floats(0.0, 40.0) | st.sampled_from([0.01, 180.0]),
)
def test_a_cone_is_what_a_cone_by_hand_is(folder, ra, dec, radius):
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    found = Hats(folder, parts=(), columns=()).near(ra=ra, dec=dec, radius_deg=radius)
    names = {name for batch in found.batches() for name in batch.object_id}
    seen = sky()
    apart = SkyCoord(seen.ra * u.deg, seen.dec * u.deg).separation(SkyCoord(ra * u.deg, dec * u.deg)).deg
    assert set(seen.object_id[apart < radius - 1e-9]) <= names <= set(seen.object_id[apart < radius + 1e-9])


@pytest.mark.parametrize("depth", [0, 1, 4, 12])
def test_cells_are_what_cells_by_hand_are(folder, depth):
    where = cells(sky(), depth)
    some = np.unique(where)[::3]
    check(Hats(folder).inside(some, depth=depth).read(), sky().object_id[np.isin(where, some)])


def test_filters_join(folder):
    found = Hats(folder).between("z", 10, 200).between("w", -0.5, np.inf).near(ra=0, dec=0, radius_deg=90).read()
    seen = sky()
    near = np.cos(np.radians(seen.dec)) * np.cos(np.radians(seen.ra)) >= 0
    z, w = seen["scalars"]["z"], seen["scalars"]["w"]
    check(found, seen.object_id[near & (z >= 10) & (z <= 200) & (w >= -0.5)])


def test_nothing_found_is_an_empty_observation(folder):
    assert len(Hats(folder).between("z", 1e6, 1e7).read()) == 0


def test_only_what_is_needed_is_read(folder, monkeypatch):
    read = []
    real = pq.ParquetFile.read_row_group

    def counting(self, group, columns=None, **more):
        read.append(tuple(columns))
        return real(self, group, columns=columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    seen = sky()
    one = seen.take([5])
    found = Hats(folder, parts=("image",)).near(ra=one.ra[0], dec=one.dec[0], radius_deg=1e-4).read()
    assert found.object_id.tolist() == ["o5"] and list(found.parts) == ["image"]
    assert len(read) <= 4  # two groups at most, once to decide and once for the rest
    assert not any("spectrum_flux" in columns for columns in read)
    read.clear()
    Hats(folder).between("z", 7, 7).read()
    assert sum("image_flux" in columns for columns in read) == 1


def test_parts_and_columns_are_chosen(folder):
    some = Hats(folder, parts=("spectrum", "scalars"), columns=("w",)).read()
    assert sorted(some.parts) == ["scalars", "spectrum"] and some["scalars"].names == ("w",)
    with pytest.raises(MissingModality, match="spectra"):
        Hats(folder, parts=("spectra",)).read()
    with pytest.raises(MissingModality, match="no column"):
        Hats(folder).between("redshift", 0, 1).read()
    with pytest.raises(BadValue, match="one number"):
        Hats(folder).between("image_flux", 0, 1).read()


def test_stretches_touch_what_they_should():
    stretches = Cells((3, 4, 9), 2).stretches()
    assert len(stretches) == 2
    low, high = stretches[:, 0], stretches[:, 1] - 1
    assert touch(stretches, low, high).all() and touch(stretches, low - 5, low).all()
    assert not touch(stretches, high + 1, high + 2).any() and not touch(stretches, low - 2, low - 1).any()


@pytest.mark.parametrize("wrong", [(400.0, 0.0, 1.0), (0.0, 91.0, 1.0), (0.0, 0.0, -1.0)])
def test_cones_off_the_sky_are_refused(wrong):
    with pytest.raises(BadValue, match="cone"):
        Cone(*wrong)


# --- elsewhere ----------------------------------------------------------------------------------------------------


def test_a_catalogue_at_an_address(folder):
    """Through fsspec, as hf:// and https:// are."""
    import fsspec

    there = fsspec.filesystem("memory")
    there.put(str(folder), "/shelf/toys", recursive=True)
    check(Hats("memory://shelf/toys").read(), sky().object_id)
    check(omnisky.read("memory://shelf/toys/toys"), sky().object_id)
    with pytest.raises(ObservationError, match="memory://shelf/nothing"):
        Hats("memory://shelf/nothing").read()
    there.rm("/shelf", recursive=True)


def test_addresses_of_no_kind_are_refused():
    with pytest.raises(BadValue, match="hf://"):
        Hats("gopher://shelf/toys").read()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"omnisky\[hf\]"):
        Hats("hf://datasets/someone/something").read()


# --- broken, refused, interrupted ---------------------------------------------------------------------------------


def test_objects_without_a_position_are_named(tmp_path):
    with pytest.raises(ObservationError, match="lost"):
        write_hats([Observation.of(["lost"])], tmp_path / "h")


def test_no_catalogue_is_said(tmp_path):
    with pytest.raises(ObservationError, match="no HATS catalogue"):
        Hats(tmp_path).read()


def test_a_truncated_partition_is_named(tmp_path):
    write_hats([sky(20)], tmp_path / "h")
    path = next((tmp_path / "h" / "h" / "dataset").rglob("Npix*"))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CorruptFile, match="Npix"):
        Hats(tmp_path / "h").read()
    path.unlink()
    with pytest.raises(CorruptFile, match="Npix"):
        Hats(tmp_path / "h").read()


def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch):
    from omnisky.observe import hats_write

    real, count = hats_write.atomic, 0

    def dying(path):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(hats_write, "atomic", dying)
    with pytest.raises(KeyboardInterrupt):
        write_hats([sky()], tmp_path / "toys", max_rows=40)
    with pytest.raises(ObservationError):
        Hats(tmp_path / "toys").read()
    check(write_hats([sky()], tmp_path / "toys", max_rows=40).read(), sky().object_id)


def test_a_partition_info_that_is_none_is_named(tmp_path):
    write_hats([sky(20)], tmp_path / "h")
    (tmp_path / "h" / "h" / "partition_info.csv").write_text("this,that\n1,2\n")
    with pytest.raises(CorruptFile, match=r"partition_info\.csv"):
        Hats(tmp_path / "h").read()
    (tmp_path / "h" / "h" / "partition_info.csv").unlink()
    assert len(Hats(tmp_path / "h").read()) == 20  # the names of the files say it too


# --- LSDB ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_lsdb_opens_it(folder, lsdb):
    catalogue = lsdb.open_catalog(str(folder))
    frame = catalogue.compute()
    assert sorted(frame["object_id"]) == sorted(sky().object_id)
    assert len(catalogue.cone_search(0, 0, 3600 * 10).compute()) == len(
        Hats(folder).near(ra=0, dec=0, radius_deg=10).read()
    )
    light = lsdb.open_catalog(str(folder), columns=["object_id", "ra", "dec"])
    matched = light.crossmatch(light, radius_arcsec=5, n_neighbors=50, suffixes=("_a", "_b"))
    seen = sky()
    x = np.stack([f(np.radians(seen.dec)) * g for f, g in _xyz(seen)], axis=1)
    apart = np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(x[:, None] - x[None], axis=2) / 2, 0, 1))) * 3600
    assert len(matched.compute()) == (apart < 5).sum()
