"""Past memory: LSDB gives the k-d tree's answer, row by row; runs where the extra "hats" is installed."""

import sys
import warnings

import numpy as np
import pytest

from omnisky.errors import BadValue, CorruptFile, MissingExtra, MissingModality, ObservationError
from omnisky.observe.hats_write import write_hats
from omnisky.observe.match import nearest
from omnisky.observe.match_hats import crossmatch_hats
from omnisky.observe.sky import cells
from omnisky.observe.types import Observation, concatenate


def test_without_lsdb_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lsdb", None)
    with pytest.raises(MissingExtra, match=r"omnisky\[hats\]"):
        crossmatch_hats(tmp_path, tmp_path, 1.0, tmp_path / "out")


def test_a_radius_that_is_none_is_refused(tmp_path):
    with pytest.raises(BadValue, match="radius_arcsec"):
        crossmatch_hats(tmp_path, tmp_path, 0.0, tmp_path / "out")


def sky(n: int, seed: int) -> Observation:
    """Objects around RA 0 and across the equator, so that partitions and the seam are crossed."""
    draw = np.random.default_rng(0)
    ra, dec = draw.uniform(-20, 20, n), draw.uniform(-15, 15, n)
    shake = np.random.default_rng(seed)
    ra, dec = ra + shake.normal(0, 0.5 / 3600, n), dec + shake.normal(0, 0.5 / 3600, n)
    return Observation.of([f"{seed}-{i}" for i in range(n)], ra % 360, dec)


@pytest.fixture(scope="module")
def lsdb():
    """Compiling takes longer than these few rows; only while LSDB is imported, for others here want compiled code."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        warnings.simplefilter("ignore")
        return pytest.importorskip("lsdb")


@pytest.fixture(scope="module")
def catalogues(tmp_path_factory, lsdb):
    pandas = pytest.importorskip("pandas")
    warnings.simplefilter("ignore")
    folder = tmp_path_factory.mktemp("hats")
    for seed in (1, 2):
        seen = sky(900, seed)
        frame = pandas.DataFrame({"object_id": seen.object_id.tolist(), "ra": seen.ra, "dec": seen.dec})
        made = lsdb.from_dataframe(
            frame, ra_column="ra", dec_column="dec", partition_rows=200, lowest_order=1, margin_threshold=5.0
        )
        made.write_catalog(folder / f"s{seed}", catalog_name=f"s{seed}", progress_bar=False)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lsdb_and_the_tree_say_the_same(catalogues, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    left, right = sky(900, 1), sky(900, 2)
    n = crossmatch_hats(catalogues / "s1", catalogues / "s2", 1.5, tmp_path / "out")
    found = nearest(left, right, 1.5)
    files = sorted((tmp_path / "out").rglob("Npix=*.parquet"))
    assert len(files) > 4  # really in parts
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    ids = (left.object_id[found.left_row].tolist(), right.object_id[found.right_row].tolist())
    ours = sorted(zip(*ids, found.separation_arcsec.tolist(), strict=True))
    theirs = sorted((row["object_id_left"], row["object_id_right"]) for row in rows)
    assert n == len(found) == len(rows) and 300 < n < 900
    assert theirs == [(a, b) for a, b, _ in ours]
    apart = {row["object_id_left"]: row["_dist_arcsec"] for row in rows}
    np.testing.assert_allclose([apart[a] for a, _, _ in ours], [s for _, _, s in ours], atol=1e-8)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_lsdb_would_do_wrong_is_refused(catalogues, tmp_path):
    with pytest.raises(ObservationError, match=r"margin of 5 arcsec; want 30"):
        crossmatch_hats(catalogues / "s1", catalogues / "s2", 30.0, tmp_path / "out")
    with pytest.raises(MissingModality, match="want targetid"):
        crossmatch_hats(catalogues / "s1", catalogues / "s2", 1.0, tmp_path / "out", object_id="targetid")
    with pytest.raises(CorruptFile, match="HATS"):
        crossmatch_hats(tmp_path / "nothing", catalogues / "s2", 1.0, tmp_path / "out")
    n = crossmatch_hats(catalogues / "s1", catalogues / "s2", 1e-4, tmp_path / "none")
    assert n == 0
    with pytest.raises(BadValue, match="other things in it"):  # which would have been replaced
        crossmatch_hats(catalogues / "s1", catalogues / "s2", 1.0, tmp_path)


@pytest.fixture(scope="module")
def beside():
    """Objects along the border of a cell of order 1: seen outside it by one survey, and inside by the other."""
    nested = pytest.importorskip("cdshealpix.nested")
    lon, lat = nested.vertices(np.array([17], dtype=np.uint64), 1, step=8)
    shake = np.random.default_rng(0).normal(0, 0.3 / 3600, (2, lon.size))
    one, other = (Observation.of(range(lon.size), lon.deg.ravel(), lat.deg.ravel() + dec) for dec in shake)
    return one.take(cells(one, 1) != 17), other.take(cells(other, 1) == 17)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_pairs_across_the_end_of_a_survey_are_found(beside, lsdb, tmp_path):
    """Where the right catalogue has no partition, only its margin can tell of objects next to it."""
    left, right = beside
    found = nearest(left, right, 2.0)
    assert len(found) >= 3
    write_hats(left, tmp_path / "left", max_rows=5)
    write_hats(right, tmp_path / "right", max_rows=5)
    assert crossmatch_hats(tmp_path / "left", tmp_path / "right", 2.0, tmp_path / "out") == len(found)
    far = Observation.of(["far"], [100.0], [50.0])
    write_hats(concatenate([left, far]), tmp_path / "l2", max_rows=5)
    write_hats(concatenate([right, far]), tmp_path / "r2", max_rows=5)
    assert crossmatch_hats(tmp_path / "l2", tmp_path / "r2", 2.0, tmp_path / "out2") == len(found) + 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_surveys_without_common_sky_are_refused(lsdb, tmp_path):
    for name, ra in (("a", 10.0), ("b", 200.0)):
        write_hats(Observation.of(["x"], [ra], [5.0]), tmp_path / name)
    with pytest.raises(ObservationError, match="no sky in common"):
        crossmatch_hats(tmp_path / "a", tmp_path / "b", 1.0, tmp_path / "out")
    assert not (tmp_path / "out").exists()
