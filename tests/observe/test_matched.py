"""Data sets on disk matched with each other: tables of pairs, and both surveys' measurements as one data set."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from test_join import images, spectra

import omnisky
from omnisky.errors import BadValue, ObservationError, StorageError
from omnisky.observe.hats_write import write_hats
from omnisky.observe.join import join, joined, star
from omnisky.observe.match import Association, all_pairs, crossmatch, mutual, nearest
from omnisky.observe.matched import match_files, write_pairs
from omnisky.observe.mmu_write import write_mmu
from omnisky.observe.motion import Motion, moved
from omnisky.observe.shards import Shards, write_shards
from omnisky.observe.types import Observation, Scalars

pq = pytest.importorskip("pyarrow.parquet")


def same(a: Observation, b: Observation) -> None:
    """The same objects in the same order with the same measurements, bit for bit."""
    assert a.object_id.tolist() == b.object_id.tolist() and set(a.parts) == set(b.parts)
    np.testing.assert_array_equal([a.ra, a.dec], [b.ra, b.dec])
    for name, part in a.parts.items():
        np.testing.assert_array_equal(part.there(), b[name].there())
        for key, value in part._rows().items():
            if key != "present":
                np.testing.assert_array_equal(value, getattr(b[name], key), err_msg=f"{name}.{key}")


def by_id(seen: Observation) -> Observation:
    return seen.take(np.argsort(seen.object_id))


@pytest.fixture
def folders(tmp_path):
    """Spectra as shards, images as HATS: nine of them are of ten and of twelve objects."""
    write_shards(spectra(10), tmp_path / "desi")
    write_hats(images([11, 3, 7, 1, 0, 2, 9, 4, 5, 6]), tmp_path / "legacy")
    return tmp_path


# --- one data set of both -----------------------------------------------------------------------------------------


def test_matched_objects_become_a_data_set_of_both_surveys(folders):
    told = match_files(folders / "desi", folders / "legacy", 1.0, pairs=mutual, folder=folders / "both")
    both = omnisky.read(folders / "both")
    left, right = omnisky.read(folders / "desi"), omnisky.read(folders / "legacy")
    same(by_id(both), by_id(joined(left, right, mutual(left, right, 1.0))))
    assert len(both) == len(told.found) == 9
    np.testing.assert_array_equal(both["image"].flux[:, 0, 0, 0], 10 * both["spectrum"].flux[:, 0])
    about = Shards(folders / "both").manifest
    assert about["sources"] == [str(folders / "desi"), str(folders / "legacy"), "mutual within 1.0 arcsec, epoch None"]
    assert [one.partition(":")[0] for one in about["licences"]] == ["desi", "legacysurvey"]


def test_of_a_long_table_only_matched_rows_are_kept(folders, monkeypatch):
    """Piece by piece: what is made of both is the same, whatever the pieces."""
    from omnisky.observe import opened

    match_files(folders / "desi", folders / "legacy", 1.0, pairs=mutual, folder=folders / "whole")
    monkeypatch.setattr("omnisky.observe.hats.Hats.read", lambda *_: pytest.fail("all of it"))
    monkeypatch.setattr(opened.Parquet, "catalogue", lambda self: places_of(self))
    monkeypatch.setattr(opened, "_MEASURED_AT_ONCE", 3)
    match_files(folders / "desi", folders / "legacy", 1.0, pairs=mutual, folder=folders / "both")
    monkeypatch.undo()
    same(omnisky.read(folders / "both"), omnisky.read(folders / "whole"))


def places_of(side) -> Observation:
    """Ids and positions, by another way than `read`."""
    seen = list(side.batches(100))
    return Observation(*(np.concatenate([getattr(one, key) for one in seen]) for key in ("object_id", "ra", "dec")))


def test_a_data_set_of_both_is_read_where_nothing_was_matched(folders):
    """In a fresh process, which knows only what `omnisky.read` brings in."""
    match_files(folders / "desi", folders / "legacy", 1.0, folder=folders / "both")
    code = f"import omnisky; print(sorted(omnisky.read({str(folders / 'both')!r}).parts))"
    said = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True)
    assert "match_legacysurvey" in said.stdout, said.stderr


def test_a_data_set_of_both_goes_on_after_it_was_stopped(folders, monkeypatch):
    """Stopped in the middle of writing: nothing that looks finished; called again, the same bytes as in one go."""
    from omnisky.observe import shards

    arguments = (folders / "desi", folders / "legacy", 1.0)
    match_files(*arguments, folder=folders / "whole")

    class Stopped(Exception):
        pass

    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(shards, "_shard", stop)
        match_files(*arguments, folder=folders / "both")
    with pytest.raises(ObservationError, match="not finished"):
        Shards(folders / "both")
    with pytest.raises(BadValue, match="begun otherwise"):  # another match is not mixed into this one
        match_files(*arguments[:2], 0.5, folder=folders / "both")
    match_files(*arguments, folder=folders / "both")
    for path in sorted((folders / "whole").iterdir()):
        if path.suffix == ".arrow":
            assert (folders / "both" / path.name).read_bytes() == path.read_bytes()
    assert not list((folders / "both").glob(".*"))


def test_no_pairs_make_no_data_set(folders):
    with pytest.raises(ObservationError, match=r"no pairs.*a larger radius"):
        match_files(folders / "desi", folders / "legacy", 0.01, folder=folders / "both")
    assert not (folders / "both").exists()


def test_who_is_alone_is_written_too_and_holds_nothing(tmp_path):
    left, right = spectra(5), images([4, 9, 0])
    rows = join(left, right, mutual(left, right, 1.0), keep_left=True, keep_right=True)
    write_shards(rows, tmp_path / "all")
    same(by_id(Shards(tmp_path / "all").take(slice(None))), by_id(rows.take(slice(None))))


def test_many_surveys_are_written_as_one(tmp_path):
    surveys = {"desi": spectra(4), "legacy": images([3, 2, 1]), "hsc": images([0, 1, 3])}
    rows = star(surveys, 1.0, keep_anchor=True)
    write_shards(rows, tmp_path / "all")
    same(by_id(Shards(tmp_path / "all").take(slice(None))), by_id(rows.take(slice(None))))


# --- what is read -------------------------------------------------------------------------------------------------


def test_every_format_matches_like_memory(folders, monkeypatch):
    """And of those that can give positions alone nothing else is read."""
    left, right = spectra(10), images([11, 3, 7, 1, 0, 2, 9, 4, 5, 6])
    write_mmu(left, folders / "mmu")
    rows = [f"{name},{ra},{dec}" for name, ra, dec in zip(right.object_id, right.ra, right.dec, strict=True)]
    (folders / "legacy.csv").write_text("\n".join(["object_id,ra,dec", *rows]))

    def pairs(told):
        ids = told.left.object_id[told.found.left_row], told.right.object_id[told.found.right_row]
        return sorted(zip(*ids, strict=True))

    want = [(f"d{i}", f"l{i}") for i in (0, 1, 2, 3, 4, 5, 6, 7, 9)]

    def read(*_, **__):
        raise AssertionError("read")

    with monkeypatch.context() as patch:
        patch.setattr("omnisky.observe.mmu.parts_of", lambda held, schema, rows, wanted, name: {})
        patch.setattr(Shards, "take", read)
        patch.setattr("omnisky.observe.matched.rows_of", read)
        for one in ("desi", "mmu"):
            assert pairs(match_files(folders / one, folders / "legacy", 1.0)) == want
    assert pairs(match_files(folders / "desi", folders / "legacy.csv", 1.0)) == want


def stars() -> Observation:
    """Ten stars, 5 arcsec a year to the north."""
    numbers = Scalars(values=np.tile([0.0, 5000.0], (10, 1)), names=("pmra", "pmdec"), units=("mas/yr", "mas/yr"))
    return Observation.of([f"g{i}" for i in range(10)], np.arange(10.0), np.arange(10.0), astrometry=numbers)


def places(seen: Observation) -> tuple[list, list, list]:
    return seen.object_id.tolist(), seen.ra.tolist(), seen.dec.tolist()


def test_stars_of_any_format_are_moved_to_the_epoch(tmp_path):
    """Also where the year is a column of whole numbers, as in most .csv files."""
    now = stars()
    there = moved(now, Motion.of(now, epoch_yr=2016.0), 2000.0)
    for name, seen, year in (("gaia", now, 2016), ("old", there, None)):
        lines = [f"{i},{ra!r},{dec!r}" for i, ra, dec in zip(*places(seen), strict=True)]
        more = ",pmra,pmdec,ref_epoch" if year else ""
        lines = [f"{line},0.5,5000.5,{year}" if year else line for line in lines]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"object_id,ra,dec{more}", *lines]))
    gaia = omnisky.read(tmp_path / "gaia.csv")
    assert gaia["labels"]["ref_epoch"].dtype.kind == "i"
    write_shards(gaia, tmp_path / "shards")
    write_hats(gaia, tmp_path / "hats")
    write_mmu(gaia, tmp_path / "mmu")
    for one in ("gaia.csv", "shards", "hats", "mmu"):
        assert not len(match_files(tmp_path / one, tmp_path / "old.csv", 1.0).found)
        assert len(match_files(tmp_path / one, tmp_path / "old.csv", 1.0, epoch_yr=2000.0).found) == 10


def test_what_is_wrong_is_said_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("omnisky.observe.matched.opened", lambda path: pytest.fail("read"))
    with pytest.raises(BadValue, match="radius_arcsec"):
        match_files("a", "b", 0.0)
    with pytest.raises(BadValue, match=r"saw pairs\.fits; want a name that ends in \.parquet or \.csv"):
        match_files("a", "b", 1.0, table=tmp_path / "pairs.fits")
    (tmp_path / "set.parquet").mkdir()
    with pytest.raises(BadValue, match="a folder"):  # which would have been replaced
        match_files("a", "b", 1.0, table=tmp_path / "set.parquet")


def test_a_side_without_positions_is_refused(tmp_path):
    write_shards(
        Observation.of(["a", "b"], numbers=Scalars(values=np.ones((2, 1)), names=("z",))), tmp_path / "nowhere"
    )
    write_shards(spectra(2), tmp_path / "desi")
    with pytest.raises(ObservationError, match=r"nowhere: nothing to match. saw 2 objects"):
        match_files(tmp_path / "desi", tmp_path / "nowhere", 1.0)


def test_a_match_in_numbers(tmp_path):
    write_shards(spectra(3), tmp_path / "a")
    write_shards(images([1, 2, 7]), tmp_path / "b")
    told = match_files(tmp_path / "a", tmp_path / "b", 0.5, pairs=all_pairs).state()
    assert (told["left_objects"], told["left_without_position"], told["pairs"], told["left_matched"]) == (3, 0, 2, 2)
    assert told["histogram"]["edges_arcsec"] == pytest.approx(np.arange(11) / 20)
    assert told["histogram"]["pairs"] in ([0, 2, *[0] * 8], [0, 1, 1, *[0] * 7], [0, 0, 2, *[0] * 7])  # 0.1 ± rounding
    json.dumps(told)


# --- tables -------------------------------------------------------------------------------------------------------


def test_pairs_are_written_as_a_table(tmp_path):
    left, right = spectra(3), images([2, 0])
    found = crossmatch(left, right, 1.0)
    for name in ("pairs.parquet", "pairs.csv"):
        write_pairs(tmp_path / name, left, right, found)
    table = pq.read_table(tmp_path / "pairs.parquet")
    with (tmp_path / "pairs.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert table.column_names == list(lines[0])
    assert table["left_id"].to_pylist() == [line["left_id"] for line in lines] == ["d0", "d2"]
    assert table["right_row"].to_pylist() == [int(line["right_row"]) for line in lines] == [1, 0]
    assert table["right_dec"].to_pylist() == [float(line["right_dec"]) for line in lines] == [0.1 / 3600] * 2
    assert table.schema.field("separation_arcsec").metadata == {b"unit": b"arcsec"}


def test_an_empty_match_is_an_empty_table(tmp_path):
    none = Association(left_row=np.zeros(0, int), right_row=np.zeros(0, int), separation_arcsec=np.zeros(0))
    write_pairs(tmp_path / "none.parquet", spectra(2), images([1]), none)
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_a_folder_that_takes_nothing_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    left, right = spectra(2), images([1])
    with pytest.raises(StorageError, match="could not write"):
        write_pairs(tmp_path / "file" / "pairs.csv", left, right, nearest(left, right, 1.0))
