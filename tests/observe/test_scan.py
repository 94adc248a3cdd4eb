"""One way to choose for all readers: the same answer as choosing by hand, and only what is needed is read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omnisky.errors import BadValue, CorruptFile, MissingModality, ObservationError
from omnisky.observe.arrow import from_arrow, to_arrow
from omnisky.observe.hats_write import write_hats
from omnisky.observe.mmu_write import write_mmu
from omnisky.observe.read import read, scan
from omnisky.observe.scan import Scan, column_of
from omnisky.observe.shards import write_shards
from omnisky.observe.sky import cells
from omnisky.observe.types import Image, Labels, Observation, Scalars

N = 60


def sky() -> Observation:
    draw = np.random.default_rng(31)
    ids, z = np.arange(N), np.linspace(0, 1, N)
    z[7] = np.nan
    flux = np.broadcast_to(ids[:, None, None, None], (N, 2, 3, 3)).astype(np.float32)
    return Observation.of(
        ids,
        150 + draw.uniform(-3, 3, N),
        2 + draw.uniform(-3, 3, N),
        image=Image(flux=flux.copy(), bands=("g", "r"), pixel_scale_arcsec=0.262),
        scalars=Scalars(values=np.stack([z, 2 * z], axis=1), names=("z", "w"), units=("", "Jy")),
        labels=Labels(columns={"flag": ids % 4}),
    )


def hats(folder: Path) -> Path:
    write_hats(sky(), folder / "toys", max_rows=20, row_group=5)
    return folder / "toys"


def shards(folder: Path) -> Path:
    write_shards(sky(), folder / "shards", shard_bytes=10_000)
    return folder / "shards"


def mmu(folder: Path) -> Path:
    write_mmu(sky(), folder / "mmu")
    return folder / "mmu"


def ours_in_parquet(folder: Path) -> Path:
    pq.write_table(pa.Table.from_batches([to_arrow(sky())]), folder / "ours.parquet", row_group_size=7)
    return folder / "ours.parquet"


def plain(folder: Path) -> Path:
    """Somebody's two files of columns, one below the other."""
    seen = sky()
    table = pa.table(
        {
            "objid": seen.object_id.astype(np.int64),
            "RAJ2000": seen.ra,
            "DEJ2000": seen.dec,
            "z": seen["scalars"]["z"],
            "w": seen["scalars"]["w"],
            "flag": seen["labels"]["flag"],
        }
    )
    (folder / "plain" / "more").mkdir(parents=True)
    pq.write_table(table.slice(0, 40), folder / "plain" / "a.parquet", row_group_size=7)
    pq.write_table(table.slice(40), folder / "plain" / "more" / "b.parquet", row_group_size=7)
    return folder / "plain"


def csv(folder: Path) -> Path:
    seen = sky()
    rows = zip(seen.object_id, seen.ra, seen.dec, *seen["scalars"].values.T, seen["labels"]["flag"], strict=True)
    lines = [",".join("" if str(cell) == "nan" else str(cell) for cell in row) for row in rows]
    (folder / "toys.csv").write_text("\n".join(["object_id,ra,dec,z,w,flag", *lines]) + "\n")
    return folder / "toys.csv"


FORMS = (hats, shards, mmu, ours_in_parquet, plain, csv)


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: form.__name__)
def path(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp(request.param.__name__))


def ids(seen: Observation) -> list[int]:
    """What is there, each row checked against the truth."""
    truth, rows = sky(), seen.object_id.astype(int)
    np.testing.assert_allclose(seen.ra, truth.ra[rows], rtol=1e-12)
    if "image" in seen:
        np.testing.assert_array_equal(seen["image"].flux, truth["image"].flux[rows])
    for name in ("z", "w"):
        if any(isinstance(part, Scalars) and name in part.names for part in seen.parts.values()):
            np.testing.assert_array_equal(column_of(seen, name), truth["scalars"][name][rows])
    return sorted(rows.tolist())


def test_every_reader_keeps_the_promise(path):
    found = scan(path)
    assert isinstance(found, Scan)
    assert ids(found.read()) == ids(read(path)) == list(range(N))


def test_a_cone_is_what_a_cone_by_hand_is(path):
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    truth = sky()
    apart = SkyCoord(truth.ra * u.deg, truth.dec * u.deg).separation(SkyCoord(150 * u.deg, 2 * u.deg)).deg
    for radius in (0.5, 2.0):
        found = scan(path).near(ra=150, dec=2, radius_deg=radius)
        assert ids(found.read()) == np.flatnonzero(apart <= radius).tolist()


@pytest.mark.parametrize("depth", [4, 8])
def test_cells_are_what_cells_by_hand_are(path, depth):
    cell = cells(sky(), depth)
    chosen = np.unique(cell)[:2]
    assert ids(scan(path).inside(chosen, depth=depth).read()) == np.flatnonzero(np.isin(cell, chosen)).tolist()


def test_ranges_join_and_leave_out_what_is_not_known(path):
    found = scan(path).between("z", 0.05, 0.5).between("flag", 1, 3)
    truth = sky()
    z, flag = truth["scalars"]["z"], truth["labels"]["flag"]
    want = np.flatnonzero((z >= 0.05) & (z <= 0.5) & (flag >= 1)).tolist()
    assert 7 not in want and ids(found.read()) == want
    assert [one for batch in found.batches(4) for one in ids(batch)] != [] and ids(scan(path).read()) == list(range(N))
    assert sorted(one for batch in found.batches(4) for one in ids(batch)) == want
    assert all(0 < len(batch) <= 4 for batch in found.batches(4))


def test_batches_of_arrow_are_the_same(path):
    found = scan(path).between("z", 0.2, 0.4)
    batches = list(found.arrow(5))
    assert all(isinstance(one, pa.RecordBatch) for one in batches)
    assert sorted(one for batch in batches for one in ids(from_arrow(batch))) == ids(found.read())


def test_columns_are_chosen_and_others_may_decide(path):
    found = scan(path, parts=(), columns=("w",)).between("z", 0.2, 0.4).read()
    assert list(found.parts) == ["scalars"] and found["scalars"].names == ("w",)
    assert found["scalars"].units in (("Jy",), ())
    assert len(found) == len(ids(scan(path).between("z", 0.2, 0.4).read()))


def test_what_cannot_be_chosen_by_is_said(path):
    with pytest.raises(MissingModality, match="redshift"):
        scan(path).between("redshift", 0, 1).read()
    with pytest.raises(BadValue, match="cone"):
        scan(path).near(ra=0, dec=95, radius_deg=1)
    with pytest.raises(BadValue, match="size"):
        list(scan(path).batches(0))


def test_nothing_found_is_nothing(path):
    assert list(scan(path).between("z", 5, 6).batches()) == []
    assert len(scan(path).between("z", 5, 6).read()) == 0


# --- only what is needed ------------------------------------------------------------------------------------------


def test_plain_parquet_is_pushed_down(tmp_path, monkeypatch):
    """Groups that cannot hold anything are not read; of the others the deciding column first."""
    path = plain(tmp_path)
    asked = []
    real = pq.ParquetFile.read_row_group

    def counting(self, group, columns=None, **more):
        asked.append(tuple(columns))
        return real(self, group, columns=columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    scan(path, columns=("w",)).between("z", 0.0, 0.05).read()
    assert asked == [("z",), ("objid", "RAJ2000", "DEJ2000", "w")]  # one of nine groups
    asked.clear()
    assert len(scan(path).near(ra=150, dec=60, radius_deg=1).read()) == 0 and asked == []


def test_shards_are_pushed_down(tmp_path, monkeypatch):
    """Images of objects that are not in the selection are never copied."""
    from omnisky.observe import arrow

    path, copied = shards(tmp_path), []
    real = arrow._copy

    def counting(view, target, rows, source, at):
        copied.append((target.shape[1:], len(source)))
        real(view, target, rows, source, at)

    monkeypatch.setattr(arrow, "_copy", counting)
    found = scan(path, parts=("image",)).between("z", 0.2, 0.4).read()
    assert sum(n for shape, n in copied if shape == (2, 3, 3)) == len(found) == 12
    assert sum(n for shape, n in copied if shape == (1,)) == N  # z alone


# --- what is wrong ------------------------------------------------------------------------------------------------


def test_files_of_another_schema_are_named(tmp_path):
    path = plain(tmp_path)
    pq.write_table(pa.table({"objid": [1], "z": [0.5]}), path / "stray.parquet")
    with pytest.raises(CorruptFile, match=r"stray\.parquet: another schema"):
        scan(path).read()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, share):
    path = ours_in_parquet(tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CorruptFile, match=r"ours\.parquet"):
        scan(path).read()


def test_a_file_deleted_while_it_is_read_is_named(tmp_path):
    path = plain(tmp_path)
    batches = scan(path).batches(5)
    next(batches)
    (path / "more" / "b.parquet").unlink()
    with pytest.raises(CorruptFile, match=r"b\.parquet"):
        list(batches)


def test_a_set_without_positions_has_no_cones(tmp_path):
    np.savez(tmp_path / "set.npz", flux_nanomaggies=np.ones((2, 1, 3, 3), np.float32), bands=np.array(["r"]))
    with pytest.raises(MissingModality, match="position"):
        scan(tmp_path / "set.npz").near(ra=0, dec=0, radius_deg=1).read()


def test_an_address_of_plain_parquet(tmp_path):
    """Any file system that fsspec knows, e.g. hf://: here one in memory."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(plain(tmp_path)), "/shelf/plain", recursive=True)
    assert ids(scan("memory://shelf/plain").between("z", 0.2, 0.4).read()) == list(range(12, 24))
    with pytest.raises(ObservationError, match="no Parquet files"):
        scan("memory://shelf/nothing").read()


def test_measurements_in_parquet_want_a_survey(tmp_path):
    """An image as MMU v1.5 keeps it, a struct of lists: the row says what it is."""
    flux = [[[[float(i)] * 3] * 3] * 3 for i in range(4)]
    image = pa.array([{"band": ["DES-G", "DES-R", "DES-Z"], "flux": one} for one in flux])
    table = pa.table({"object_id": ["a", "b", "c", "d"], "ra": [1.0, 2, 3, 4], "dec": [0.0] * 4, "image": image})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(ObservationError, match="which survey"):
        scan(tmp_path / "train.parquet").read()
    found = scan(tmp_path / "train.parquet", survey="ssl_legacysurvey").near(ra=3, dec=0, radius_deg=0.1).read()
    assert found.object_id.tolist() == ["c"] and found["image"].bands == ("g", "r", "z")
    assert (found["image"].flux == 2).all()
