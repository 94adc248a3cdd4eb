"""Past memory: LSDB gives the k-d tree's answer, row by row; runs where the extra "hats" is installed."""

import sys
import warnings

import numpy as np
import pytest

from omnisky.cli import main
from omnisky.errors import BadValue, MissingExtra, MissingModality, ObservationError
from omnisky.observe.hats_write import write_hats
from omnisky.observe.match import all_pairs, crossmatch, mutual, nearest
from omnisky.observe.match_hats import crossmatch_hats
from omnisky.observe.sky import cells
from omnisky.observe.types import Observation, Scalars, concatenate


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
    with pytest.raises(ObservationError, match="nothing there"):
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


# --- mutual and all, everywhere on the sky ------------------------------------------------------------------------

RADIUS = 5.0


def crowded(seed: int, n: int = 500) -> Observation:
    """Around RA 0, at both poles, on a border of cells and twice at one place: several neighbours within the radius."""
    draw = np.random.default_rng(0)
    ra = [draw.uniform(-0.02, 0.02, n), draw.uniform(0, 360, n), draw.uniform(0, 360, n), draw.uniform(44.99, 45.01, n)]
    dec = [draw.uniform(-0.02, 0.02, n), *(90 - abs(draw.normal(0, 0.02, (2, n)))), draw.uniform(-0.01, 0.01, n)]
    dec[2] = -dec[2]
    shake = np.random.default_rng(seed).normal(0, 2 / 3600, (2, 4 * n))
    ra, dec = np.concatenate(ra), np.concatenate(dec)
    at = np.stack([np.cos(np.radians(dec)) * np.cos(np.radians(ra)), np.cos(np.radians(dec)) * np.sin(np.radians(ra))])
    x, y = at + np.radians(shake)  # a little somewhere else in space: so also across poles
    z = np.sin(np.radians(dec)) + np.radians(shake[0])
    ra, dec = np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))
    seen = Observation.of([f"{seed}-{i}" for i in range(len(ra))], ra, dec)
    return concatenate([seen, Observation.of([f"{seed}-same-{i}" for i in range(50)], ra[:50], dec[:50])])


def told(folder) -> list[tuple[str, str, float]]:
    """The pairs of a catalogue, sorted."""
    pq = pytest.importorskip("pyarrow.parquet")
    columns = ["object_id_left", "object_id_right", "_dist_arcsec"]
    files = sorted(folder.rglob("Npix=*.parquet"))
    rows = [row for file in files for row in pq.read_table(file, columns=columns, partitioning=None).to_pylist()]
    return sorted(tuple(row[name] for name in columns) for row in rows)


def ours(left: Observation, right: Observation, found) -> list[tuple[str, str, float]]:
    ids = left.object_id[found.left_row].tolist(), right.object_id[found.right_row].tolist()
    return sorted(zip(*ids, found.separation_arcsec.tolist(), strict=True))


@pytest.fixture(scope="module")
def two(tmp_path_factory, lsdb):
    folder = tmp_path_factory.mktemp("two")
    for seed, rows in ((1, 200), (2, 90)):  # cut differently: partitions of one lie inside those of the other
        write_hats(crowded(seed), folder / f"s{seed}", max_rows=rows)
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("choose", [nearest, mutual, all_pairs])
def test_every_way_to_match_says_what_the_tree_says(two, tmp_path, choose):
    """Pair by pair, and the separations to the last bit."""
    left, right = crowded(1), crowded(2)
    n = crossmatch_hats(two / "s1", two / "s2", RADIUS, tmp_path / "out", pairs=choose)
    found = choose(left, right, RADIUS)
    assert n == len(found) > 700
    assert told(tmp_path / "out") == ours(left, right, found)
    assert len(all_pairs(left, right, RADIUS)) > len(nearest(left, right, RADIUS)) > len(mutual(left, right, RADIUS))


@pytest.mark.filterwarnings("ignore")
def test_mutual_wants_a_margin_on_both_sides(two, tmp_path):
    """Who is nearest to the right one of a pair may be two radii away from the left one."""
    with pytest.raises(ObservationError, match=r"s1: pairs .* margin of 10 arcsec; want 12 arcsec"):
        crossmatch_hats(two / "s1", two / "s2", 6.0, tmp_path / "out", pairs=mutual)
    with pytest.raises(BadValue, match="nearest, mutual or all_pairs"):
        crossmatch_hats(two / "s1", two / "s2", 6.0, tmp_path / "out", pairs=lambda *_: None)
    assert not list(tmp_path.iterdir())


def stars(seed: int = 1) -> Observation:
    """The same with proper motions of up to some arcsec a year: in 16 years far beyond any margin."""
    seen, draw = crowded(seed), np.random.default_rng(5)
    values = np.stack([*draw.normal(0, 3000, (2, len(seen))), np.full(len(seen), 2016.0)], axis=1)
    values[::7, 0] = np.nan  # not known: these stay
    names, units = ("pmra", "pmdec", "ref_epoch"), ("mas / yr", "mas / yr", "yr")
    return seen | {"astrometry": Scalars(values=values, names=names, units=units)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("choose", [nearest, mutual, all_pairs])
def test_stars_are_moved_to_the_epoch_first(two, tmp_path, choose):
    write_hats(stars(), tmp_path / "gaia", max_rows=200)
    n = crossmatch_hats(tmp_path / "gaia", two / "s2", RADIUS, tmp_path / "out", pairs=choose, epoch_yr=2000.0)
    found = crossmatch(stars(), crowded(2), RADIUS, pairs=choose, epoch_yr=2000.0)
    assert n == len(found) > 100 and told(tmp_path / "out") == ours(stars(), crowded(2), found)
    assert ours(stars(), crowded(2), found) != ours(stars(), crowded(2), choose(stars(), crowded(2), RADIUS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gaia", "out"]
    with pytest.raises(MissingModality, match="no proper motions"):
        crossmatch_hats(two / "s1", two / "s2", RADIUS, tmp_path / "more", epoch_yr=2000.0)


@pytest.mark.filterwarnings("ignore")
def test_other_files_and_addresses_are_sorted_first(two, tmp_path, capsys):
    """A plain Parquet file elsewhere and a .csv with rows that have no position; by the command line too."""
    fsspec, pa, pq = (pytest.importorskip(name) for name in ("fsspec", "pyarrow", "pyarrow.parquet"))
    seen = crowded(1)
    table = pa.table({"object_id": seen.object_id.tolist(), "ra": seen.ra, "dec": seen.dec, "mag": np.ones(len(seen))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=300)
    there = fsspec.filesystem("memory")
    there.put(str(tmp_path / "a.parquet"), "/shelf/a.parquet")
    n = crossmatch_hats("memory://shelf/a.parquet", two / "s2", RADIUS, tmp_path / "out", pairs=mutual)
    found = mutual(seen, crowded(2), RADIUS)
    assert n == len(found) and told(tmp_path / "out") == ours(seen, crowded(2), found)
    there.rm("/shelf", recursive=True)
    places = zip(seen.object_id.tolist(), seen.ra.tolist(), seen.dec.tolist(), strict=True)
    lines = [f"{name},{ra!r},{dec!r}" for name, ra, dec in places]
    (tmp_path / "a.csv").write_text("\n".join(["object_id,ra,dec", "lost,,", *lines]))
    sides, how = (str(tmp_path / "a.csv"), str(two / "s2")), ("--radius", "5", "--lsdb", "--pairs", "all", "--json")
    with pytest.raises(SystemExit) as end:
        main(["data", "crossmatch", *sides, *how, "--out", str(tmp_path / "all")])
    assert not end.value.code
    assert told(tmp_path / "all") == ours(seen, crowded(2), all_pairs(seen, crowded(2), RADIUS))
    assert f'"pairs": {len(told(tmp_path / "all"))}' in capsys.readouterr().out
