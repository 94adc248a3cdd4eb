"""Past memory, one data set of both surveys: to the byte what the k-d tree makes; runs where the extra "hats" is."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from test_match_hats import RADIUS, crowded, stars

import omnisky
from omnisky.cli import main
from omnisky.errors import BadValue, CorruptFile, MissingExtra, ObservationError
from omnisky.observe import matched_hats
from omnisky.observe.hats import Hats
from omnisky.observe.hats_write import write_hats
from omnisky.observe.match import all_pairs, mutual, nearest
from omnisky.observe.matched import match_files
from omnisky.observe.matched_hats import match_hats_files
from omnisky.observe.shards import write_shards
from omnisky.observe.types import Image, Observation, Scalars, Spectrum, concatenate

pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.filterwarnings("ignore")


def twice(seen: Observation) -> Observation:
    """Thirty objects are there a second time, by the same name at the same place, and some of them a third time."""
    return concatenate([seen, seen.take(slice(0, 30)), seen.take(slice(20, 30))])


def spectra() -> Observation:
    """Of other lengths, and numbers by which each row of the survey can be told."""
    seen = twice(crowded(1))
    n, draw = len(seen), np.random.default_rng(3)
    flux = draw.normal(size=(n, 12))
    good = np.arange(12) < draw.integers(4, 13, n)[:, None]
    flux[~good] = 0
    wave = np.tile(4000.0 + np.arange(12), (n, 1))
    spectrum = Spectrum(flux=flux, wavelength_aa=wave, good=good, survey="desi")
    return seen | {"spectrum": spectrum, "scalars": Scalars(values=np.arange(float(n))[:, None], names=("row",))}


def images() -> Observation:
    seen = twice(crowded(2))
    flux = np.random.default_rng(4).normal(size=(len(seen), 2, 3, 3)).astype(np.float32)
    image = Image(flux=flux, bands=("g", "r"), survey="legacysurvey", pixel_scale_arcsec=0.262)
    return seen | {"image": image, "scalars": Scalars(values=flux[:, 0, 0, :1].astype(float), names=("first",))}


@pytest.fixture(scope="module")
def two(tmp_path_factory, lsdb):
    """As HATS, cut differently; the left one also as shards."""
    folder = tmp_path_factory.mktemp("both")
    write_hats(spectra(), folder / "desi", max_rows=200)
    write_hats(images(), folder / "legacy", max_rows=90)
    write_shards(spectra(), folder / "shards")
    return folder


def same_files(one: Path, other: Path) -> None:
    """Every file of a data set, to the byte."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir()) and "manifest.json" in names
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("choose", [nearest, mutual, all_pairs])
def test_the_data_set_of_both_is_that_of_the_tree(two, tmp_path, choose):
    """On RA 0, at both poles, on a border of cells, at one place, and where several rows have one name."""
    sides = two / "desi", two / "legacy", RADIUS
    told = match_files(*sides, pairs=choose, folder=tmp_path / "tree")
    many = match_hats_files(*sides, tmp_path / "both", pairs=choose)
    same_files(tmp_path / "tree", tmp_path / "both")
    both = omnisky.read(tmp_path / "both")
    assert many == len(both) == len(told.found) > 700
    assert {"spectrum", "image", "scalars_desi", "scalars_legacysurvey", "match_desi"} < set(both.parts)
    rows = sorted(zip(both["scalars_desi"]["row"], both["scalars_legacysurvey"]["first"], strict=True))
    first = images()["image"].flux[:, 0, 0, 0]
    left, right = omnisky.read(two / "desi"), omnisky.read(two / "legacy")
    found = choose(left, right, RADIUS)  # row by row, from what the files hold
    want = left["scalars"]["row"][found.left_row], right["scalars"]["first"][found.right_row]
    assert rows == sorted(zip(*want, strict=True)) and set(want[1]) <= set(first.astype(float))


@pytest.mark.parametrize("choose", [nearest, mutual, all_pairs])
def test_what_is_no_hats_is_matched_by_the_numbers_of_its_rows(two, tmp_path, choose):
    """Shards with ids that are not unique on the left, a table of positions on the right."""
    seen = crowded(2)
    lines = [
        f"{name},{ra!r},{dec!r},{ra}"
        for name, ra, dec in zip(seen.object_id, seen.ra.tolist(), seen.dec.tolist(), strict=True)
    ]
    (tmp_path / "b.csv").write_text("\n".join(["object_id,ra,dec,copy", "lost,,,1", *lines]))
    sides = two / "shards", tmp_path / "b.csv", RADIUS
    match_files(*sides, pairs=choose, folder=tmp_path / "tree")
    match_hats_files(*sides, tmp_path / "both", pairs=choose)
    same_files(tmp_path / "tree", tmp_path / "both")


def test_stars_are_moved_first_and_written_where_they_were(two, tmp_path):
    write_hats(stars(), tmp_path / "gaia", max_rows=200)
    sides, how = (tmp_path / "gaia", two / "legacy", RADIUS), {"pairs": mutual, "epoch_yr": 2000.0}
    match_files(*sides, **how, folder=tmp_path / "tree")
    assert match_hats_files(*sides, tmp_path / "both", **how) > 100
    same_files(tmp_path / "tree", tmp_path / "both")


def test_a_catalogue_of_others_is_read_as_its_survey_says(two, tmp_path, lsdb):
    """Whole numbers as ids, in a column of another name, and another name for the position too."""
    pandas = pytest.importorskip("pandas")
    seen = crowded(1)
    columns = {"source_id": np.arange(len(seen)) + 2**60, "ra": seen.ra, "dec": seen.dec, "parallax": seen.dec / 90}
    made = lsdb.from_dataframe(
        pandas.DataFrame(columns), ra_column="ra", dec_column="dec", partition_rows=300, lowest_order=1
    )
    made.write_catalog(tmp_path / "mmu_gaia_gaia", catalog_name="mmu_gaia_gaia", progress_bar=False)
    sides = tmp_path / "mmu_gaia_gaia", two / "legacy", RADIUS
    match_files(*sides, folder=tmp_path / "tree")
    match_hats_files(*sides, tmp_path / "both", object_id=("source_id", "object_id"))
    same_files(tmp_path / "tree", tmp_path / "both")
    assert int(omnisky.read(tmp_path / "both").object_id[0]) >= 2**60


def test_no_survey_is_held_in_memory(two, tmp_path, monkeypatch):
    """Neither all positions nor all measurements; row groups without a match are not read."""
    near, rest = spectra().take(slice(0, 40)), spectra().take(slice(40, 340))
    far = Observation(rest.object_id, np.arange(300.0), np.full(300, 45.0), rest.parts)
    write_hats(concatenate([near, far]), tmp_path / "left", row_group=20)
    groups = sum(pq.read_metadata(file.path).num_row_groups for file in Hats(tmp_path / "left").files)
    read, slowly = [], Hats._slowly

    def noted(self, file, group, size, place):
        read.append((Path(self.path).name, place.path, group))
        return slowly(self, file, group, size, place)

    monkeypatch.setattr(Hats, "_slowly", noted)
    for name in ("read", "catalogue"):
        monkeypatch.setattr(Hats, name, lambda *_: pytest.fail("all of it"))
    assert match_hats_files(tmp_path / "left", two / "legacy", RADIUS, tmp_path / "both") >= 20
    assert len({one for one in read if one[0] == "left"}) <= 3 < 15 < groups


def test_it_goes_on_after_it_was_stopped(two, tmp_path, monkeypatch):
    """After the pairs were found, after one side was laid out, after some shards: the same bytes as in one go."""
    sides = two / "desi", two / "legacy", RADIUS
    match_hats_files(*sides, tmp_path / "whole")

    class Stopped(BaseException):
        pass

    def stop(*_, **__):
        raise Stopped

    for place in ("matched_hats._rows_in", "matched.join", "shards._index"):
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(f"omnisky.observe.{place}", stop)
            match_hats_files(*sides, tmp_path / "both")
        monkeypatch.setattr(matched_hats, "write_pairs_by_lsdb", lambda *_, **__: pytest.fail("found already"))
        with pytest.raises(ObservationError, match="not finished"):
            omnisky.observe.shards.Shards(tmp_path / "both")
    with pytest.raises(BadValue, match="begun otherwise"):
        match_hats_files(*sides, tmp_path / "both", pairs=mutual)
    match_hats_files(*sides, tmp_path / "both")
    same_files(tmp_path / "whole", tmp_path / "both")
    assert match_hats_files(*sides, tmp_path / "both") == match_files(*sides, folder=tmp_path / "both").state()["pairs"]
    with pytest.raises(BadValue, match="is finished"):
        match_hats_files(*sides, tmp_path / "both", pairs=mutual)


def test_what_cannot_be_leaves_nothing_behind(two, tmp_path, monkeypatch):
    """So that another radius may be tried."""
    sides = two / "desi", two / "legacy"
    with pytest.raises(ObservationError, match="margin of 10 arcsec; want 12"):
        match_hats_files(*sides, 12.0, tmp_path / "both")
    with pytest.raises(ObservationError, match=r"no pairs.*a larger radius"):
        match_hats_files(*sides, 1e-9, tmp_path / "both")
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(BadValue, match="new or empty folder"):
        match_hats_files(*sides, 1.0, tmp_path / "mine")
    monkeypatch.setitem(sys.modules, "lsdb", None)
    with pytest.raises(MissingExtra, match=r"omnisky\[hats\]"):
        match_hats_files(*sides, 1.0, tmp_path / "both")


def test_a_catalogue_that_changed_meanwhile_is_named(two, tmp_path, monkeypatch):
    write_hats(crowded(1), tmp_path / "left")
    with monkeypatch.context() as patch:
        patch.setattr(matched_hats, "_rows_in", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            match_hats_files(tmp_path / "left", two / "legacy", RADIUS, tmp_path / "both")
    (tmp_path / "left").rename(tmp_path / "old")
    write_hats(crowded(1).take(slice(1000, None)), tmp_path / "left")
    with pytest.raises(CorruptFile, match="matched objects no longer in it"):
        match_hats_files(tmp_path / "left", two / "legacy", RADIUS, tmp_path / "both")


def test_by_the_command_line(two, tmp_path, capsys):
    words = ["data", "crossmatch", str(two / "desi"), str(two / "legacy"), "--radius", "5", "--lsdb", "--pairs", "all"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--into", str(tmp_path / "both"), "--json"])
    assert not end.value.code
    told = json.loads(capsys.readouterr().out)
    assert told["pairs"] == len(omnisky.read(tmp_path / "both")) and told["into"] == str(tmp_path / "both")
