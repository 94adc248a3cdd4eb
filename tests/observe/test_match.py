"""Matches on the sky: astropy's answers row by row, also where the sky has seams; and what must hold for any sky."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnisky.errors import BadValue, MissingModality, ObservationError
from omnisky.observe.match import (
    HALF_TURN_ARCSEC,
    Association,
    Places,
    all_pairs,
    crossmatch,
    mutual,
    nearest,
    same_id,
)
from omnisky.observe.motion import Motion, moved
from omnisky.observe.sky import cells
from omnisky.observe.types import Observation, Scalars

u = pytest.importorskip("astropy.units")
coordinates = pytest.importorskip("astropy.coordinates")
time = pytest.importorskip("astropy.time")


def sky(n: int, seed: int = 0) -> Observation:
    """n objects evenly over the sphere."""
    draw = np.random.default_rng(seed)
    return Observation.of(range(n), ra=draw.uniform(0, 360, n), dec=np.degrees(np.arcsin(draw.uniform(-1, 1, n))))


def jittered(seen: Observation, arcsec: float, seed: int = 1) -> Observation:
    """Each object somewhere else, up to `arcsec` away in any direction: also across poles and RA 0."""
    draw = np.random.default_rng(seed)
    apart, angle = draw.uniform(0, arcsec, len(seen)) * u.arcsec, draw.uniform(0, 360, len(seen)) * u.deg
    at = coord(seen).directional_offset_by(angle, apart)
    return Observation.of(seen.object_id, at.ra.deg, at.dec.deg)


def coord(seen: Observation):
    return coordinates.SkyCoord(seen.ra * u.deg, seen.dec * u.deg)


def at(*places: tuple[float, float]) -> Observation:
    return Observation.of(range(len(places)), [ra for ra, _ in places], [dec for _, dec in places])


def pairs(found: Association) -> list[tuple[int, int]]:
    return list(zip(found.left_row.tolist(), found.right_row.tolist(), strict=True))


def theirs_nearest(left: Observation, right: Observation, radius: float) -> list[tuple[int, int]]:
    index, apart, _ = coordinates.match_coordinates_sky(coord(left), coord(right))
    near = np.flatnonzero(apart.arcsec <= radius)
    return list(zip(near.tolist(), index[near].tolist(), strict=True))


# --- astropy says the same ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "radius"), [(1, 10.0), (500, 36_000.0), (5000, 3600.0), (20_000, 60.0)])
def test_nearest_is_astropys_row_by_row(n, radius):
    left = sky(n)
    right = jittered(left.take(np.random.default_rng(2).permutation(n)), 2 * radius)
    found = nearest(left, right, radius)
    assert pairs(found) == theirs_nearest(left, right, radius)
    assert len(found) > 0.4 * n or n == 1
    apart = coord(left.take(found.left_row)).separation(coord(right.take(found.right_row))).arcsec
    np.testing.assert_allclose(found.separation_arcsec, apart, rtol=1e-12, atol=1e-9)  # arcsec; rounding of both


@pytest.mark.parametrize(("n", "radius"), [(300, 36_000.0), (5000, 3600.0), (20_000, 120.0)])
def test_all_pairs_are_astropys(n, radius):
    left, right = sky(n), jittered(sky(n), radius, seed=3)
    found = all_pairs(left, right, radius)
    i, j, apart, _ = coordinates.search_around_sky(coord(left), coord(right), radius * u.arcsec)
    order = np.lexsort((j, apart.arcsec, i))
    assert pairs(found) == list(zip(i[order].tolist(), j[order].tolist(), strict=True))
    np.testing.assert_allclose(found.separation_arcsec, apart.arcsec[order], rtol=1e-12, atol=1e-9)


def test_mutual_is_both_ways_of_astropys_nearest():
    left, right = sky(5000), sky(5000, seed=9)
    out = dict(theirs_nearest(left, right, 7200))
    back = dict(theirs_nearest(right, left, 7200))
    assert pairs(mutual(left, right, 7200)) == [(i, j) for i, j in out.items() if back.get(j) == i]


# --- where the sky has seams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("choose", [nearest, mutual, all_pairs])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((0.0, 0.0), (360.0, 0.0)),
        ((0.0001, 10.0), (359.9999, 10.0)),
        ((-0.0001, 10.0), (359.9999, 10.0)),
        ((123.0, 90.0), (301.0, 90.0)),
        ((10.0, 89.9999), (190.0, 89.9999)),
        ((10.0, -89.9999), (190.0, -89.9999)),
        ((45.0, 0.0001), (45.0, -0.0001)),
    ],
)
def test_a_pair_across_a_seam_is_found(choose, a, b):
    found = choose(at((200.0, 50.0), a), at(b, (100.0, -50.0)), 1.0)
    assert pairs(found) == [(1, 0)]
    assert found.separation_arcsec[0] == pytest.approx(coord(at(a)).separation(coord(at(b))).arcsec[0], abs=1e-9)


@pytest.mark.parametrize("choose", [nearest, mutual, all_pairs])
def test_no_pair_is_lost_at_borders_of_healpix_cells(choose):
    """Half an arcsec on either side of cell corners and edges (order 4), where partners lie in different cells."""
    nested = pytest.importorskip("cdshealpix.nested")
    lon, lat = nested.vertices(np.arange(0, 3072, 7), 4, step=3)
    ra, dec = lon.deg.ravel(), lat.deg.ravel()
    apart = abs(dec) < 89.99  # the poles have their own test; here each place is wanted once
    ra, dec = np.unique([np.round(ra[apart], 6) % 360, np.round(dec[apart], 6)], axis=1)
    left, right = (jittered(Observation.of(range(len(ra)), ra, dec), 0.5, seed=seed) for seed in (1, 2))
    assert (cells(left, 4) != cells(right, 4)).mean() > 0.2
    assert pairs(choose(left, right, 1.0)) == [(i, i) for i in range(len(ra))]


def test_of_equals_the_first_is_taken():
    """Also where a thousand objects share one place, as catalogues do that write (0, 0) for unknown."""
    pile = at(*[(10.0, 10.0)] * 1000, (50.0, 50.0))
    assert pairs(nearest(at((10.0, 10.0), (50.0, 50.0)), pile, 1.0)) == [(0, 0), (1, 1000)]
    assert pairs(mutual(pile, pile, 1.0)) == [(0, 0), (1000, 1000)]
    assert set(pairs(nearest(pile, pile, 1.0))) == {*((i, 0) for i in range(1000)), (1000, 1000)}


def test_many_may_share_a_nearest_but_mutual_is_one_to_one():
    left, right = at((10.0, 0.0), (10.0002, 0.0), (10.0003, 0.0)), at((10.00021, 0.0))
    assert pairs(nearest(left, right, 2.0)) == [(0, 0), (1, 0), (2, 0)]
    assert pairs(mutual(left, right, 2.0)) == [(1, 0)]


@pytest.mark.parametrize("choose", [nearest, mutual, all_pairs])
def test_who_has_no_position_matches_nobody(choose):
    left = at((np.nan, 1.0), (5.0, np.nan), (5.0, 5.0), (np.nan, np.nan))
    right = at((5.0, 5.0), (np.nan, np.nan), (np.nan, 1.0))
    assert pairs(choose(left, right, HALF_TURN_ARCSEC)) == [(2, 0)]
    assert len(choose(left, at((np.nan, np.nan)), 1.0)) == 0
    assert len(choose(left.take([]), right, 1.0)) == len(choose(left, right.take([]), 1.0)) == 0


def test_a_radius_of_half_a_turn_reaches_the_antipode():
    found = all_pairs(at((0.0, 0.0)), at((180.0, 0.0), (0.0, 0.0)), HALF_TURN_ARCSEC)
    assert pairs(found) == [(0, 1), (0, 0)]
    assert found.separation_arcsec.tolist() == [0, HALF_TURN_ARCSEC]


@pytest.mark.parametrize("choose", [nearest, mutual, all_pairs])
@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf"), HALF_TURN_ARCSEC + 1])
def test_a_radius_that_is_none_is_refused(choose, radius):
    with pytest.raises(BadValue, match=r"radius_arcsec.*want 0 < radius"):
        choose(at((1.0, 1.0)), at((1.0, 1.0)), radius)


@pytest.mark.parametrize(
    "place", [(10.0, 90.1), (10.0, -95.0), (np.inf, 0.0), (10.0, np.inf), (-999.0, 0.0), (540.0, 5.0)]
)
def test_a_position_off_the_sky_is_refused(place):
    with pytest.raises(ObservationError, match="1 objects, first row 1"):
        crossmatch(at((1.0, 1.0)), at((2.0, 2.0), place), 1.0)


def test_more_pairs_than_memory_holds_are_refused_before_they_are_made():
    pile = Observation.of(np.zeros(30_000, int), np.zeros(30_000), np.zeros(30_000))
    with pytest.raises(BadValue, match=r"9\.0e\+08 pairs"):
        all_pairs(pile, pile, 1.0)


# --- for any sky --------------------------------------------------------------------------------------------------

DEGREES = st.floats(0, 360, exclude_max=True), st.floats(-90, 90)
ON_A_GRID = st.integers(0, 7).map(lambda k: 45.0 * k), st.integers(-2, 2).map(lambda k: 45.0 * k)
SKIES = st.lists(st.one_of(st.tuples(*DEGREES), st.tuples(*ON_A_GRID)), max_size=12)
RADII = st.floats(0.01, HALF_TURN_ARCSEC)


@settings(max_examples=80)
@given(left=SKIES, right=SKIES, radius=RADII)
def test_all_pairs_by_brute_force(left, right, radius):
    """Against astropy's separation of each with each; 1e-6 arcsec off the radius, where rounding cannot decide."""
    left, right = at(*left), at(*right)
    apart = coord(left)[:, None].separation(coord(right)[None]).arcsec if len(left) and len(right) else np.zeros((0, 0))
    found = set(pairs(all_pairs(left, right, radius)))
    assert set(map(tuple, np.argwhere(apart < radius - 1e-6).tolist())) <= found
    assert found <= set(map(tuple, np.argwhere(apart < radius + 1e-6).tolist()))


@settings(max_examples=80)
@given(left=SKIES, right=SKIES, radius=RADII)
def test_the_three_ways_belong_together(left, right, radius):
    """nearest ⊆ all, as near as the nearest of all; mutual ⊆ nearest, one to one, never empty where others are not."""
    left, right = at(*left), at(*right)
    every, near, both = (choose(left, right, radius) for choose in (all_pairs, nearest, mutual))
    rows, first = np.unique(every.left_row, return_index=True)
    assert near.left_row.tolist() == rows.tolist()
    np.testing.assert_allclose(near.separation_arcsec, every.separation_arcsec[first], atol=1e-6, rtol=0)
    assert set(pairs(both)) <= set(pairs(near)) <= set(pairs(every))
    assert len(set(both.left_row)) == len(set(both.right_row)) == len(both)
    assert bool(len(both)) == bool(len(every))
    assert (every.separation_arcsec <= radius).all()


SEAMS = [
    (0.0, 90.0),
    (123.0, -90.0),
    (0.0, 0.0),
    (359.9999, 37.0),
    (45.0, 0.0),
    (180.0, 41.8103149),
    (22.5, -19.4712206),
]
"""the poles, RA 0, corners of HEALPix base cells and of cells of order 1"""
LOST = [(np.nan, np.nan), (10.0, np.nan), (np.nan, 10.0)]
OFFSETS = st.floats(-3, 3)
CROWDS = st.lists(st.tuples(st.sampled_from(SEAMS + LOST), OFFSETS, OFFSETS, st.integers(1, 2)), max_size=15)


def crowd(drawn: list[tuple[tuple[float, float], float, float, int]]) -> Observation:
    """Objects some arcsec east and north of the seams of the sky, some twice, some without a position."""
    chosen = [one for one in drawn for _ in range(one[3])]
    east, north = (np.array([1000 * one[k] for one in chosen], dtype=float) for k in (1, 2))
    year = np.full(len(chosen), 2000.0)
    return moved(at(*(one[0] for one in chosen)), Motion(pm_ra_cosdec=east, pm_dec=north, epoch_yr=year), 2001)


@settings(max_examples=60)
@given(left=CROWDS, right=CROWDS, radius=st.floats(0.1, 6.0))
def test_crowds_at_seams_by_astropy(left, right, radius):
    """search_around_sky and match_to_catalog_sky of those that have a position; 1e-6 arcsec off the radius and among
    equals rounding may decide, nowhere else.
    """
    left, right = crowd(left), crowd(right)
    rows = [np.flatnonzero(np.isfinite(one.ra) & np.isfinite(one.dec)) for one in (left, right)]
    a, b = (coord(one.take(row)) for one, row in zip((left, right), rows, strict=True))
    every, near = all_pairs(left, right, radius), nearest(left, right, radius)
    if not len(a) or not len(b):
        assert not len(every) and not len(near)
        return
    for reach, holds in ((radius - 1e-6, set.__ge__), (radius + 1e-6, set.__le__)):
        i, j, _, _ = coordinates.search_around_sky(a, b, reach * u.arcsec)
        assert holds(set(pairs(every)), set(zip(rows[0][i].tolist(), rows[1][j].tolist(), strict=True)))
    assert len(set(pairs(every))) == len(every)
    _, apart, _ = a.match_to_catalog_sky(b)
    told = dict(zip(near.left_row.tolist(), near.separation_arcsec.tolist(), strict=True))
    for row, arcsec in zip(rows[0].tolist(), apart.arcsec.tolist(), strict=True):
        if abs(arcsec - radius) > 1e-6:
            assert (row in told) == (arcsec < radius)
        assert told.get(row, arcsec) == pytest.approx(arcsec, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("radius", [3600.0, 30_000.0])
def test_the_sides_and_the_order_of_rows_do_not_matter(seed, radius):
    left, right = sky(200, seed), sky(150, seed + 1)
    mixed = np.random.default_rng(seed).permutation(200)
    for choose in (all_pairs, mutual):
        found = set(pairs(choose(left, right, radius)))
        assert {(j, i) for i, j in pairs(choose(right, left, radius))} == found
        assert {(int(mixed[i]), j) for i, j in pairs(choose(left.take(mixed), right, radius))} == found


# --- from anywhere ------------------------------------------------------------------------------------------------


class Lazy:
    """A source that says nothing of its positions until rows are read."""

    def __init__(self, seen: Observation) -> None:
        self._seen = seen

    def __len__(self) -> int:
        return len(self._seen)

    def take(self, index: object) -> Observation:
        return self._seen.take(index)


def test_a_source_that_must_be_read_matches_like_one_in_memory():
    left, right = sky(5000), jittered(sky(5000), 3.0)
    assert pairs(crossmatch(Lazy(left), Lazy(right), 2.0)) == pairs(crossmatch(left, right, 2.0))
    assert len(Places.of(Lazy(left.take([])))) == 0


def test_a_source_that_knows_its_places_is_not_read():
    class Catalogued(Lazy):
        def take(self, index: object) -> Observation:
            raise AssertionError("read")

        def catalogue(self) -> Observation:
            return self._seen

    left, right = sky(100), jittered(sky(100), 3.0)
    assert pairs(crossmatch(Catalogued(left), Catalogued(right), 2.0)) == pairs(crossmatch(left, right, 2.0))


def test_of_what_must_be_read_only_a_piece_is_in_memory_at_a_time():
    class Counted(Lazy):
        most = 0

        def take(self, index: object) -> Observation:
            seen = super().take(index)
            self.most = max(self.most, len(seen))
            return seen

    left = Counted(sky(5000))
    assert len(crossmatch(left, left, 1.0)) == 5000 and left.most < 500


def test_single_precision_is_only_as_bad_as_it_is():
    """Positions held as float32 are 10 arcsec wrong at worst; the same numbers match themselves."""
    seen = sky(500)
    seen = Observation(seen.object_id, seen.ra.astype(np.float32), seen.dec.astype(np.float32))
    wide = Observation(seen.object_id, seen.ra.astype(float), seen.dec.astype(float))
    found = nearest(seen, wide, 1e-6)
    assert pairs(found) == [(i, i) for i in range(500)] and not found.separation_arcsec.any()


def test_ids_match_where_positions_do_not():
    left = Observation.of(["b", "a", "c"], [1, 2, 3], [0, 0, 0])
    right = Observation.of(["c", "x", "b"], [3, 9, np.nan], [0.001, 0, 0])
    found = same_id(left, right)
    assert pairs(found) == [(0, 2), (2, 0)]
    np.testing.assert_allclose(found.separation_arcsec, [np.nan, 3.6], atol=1e-9)
    with pytest.raises(ObservationError, match="not unique on the right"):
        same_id(left, Observation.of(["c", "c"]))


# --- in time ------------------------------------------------------------------------------------------------------


def motion(n: int, pm: float, seed: int = 5, epoch: float = 2016.0) -> Motion:
    draw = np.random.default_rng(seed)
    east, north = draw.normal(0, pm, (2, n))
    return Motion(pm_ra_cosdec=east, pm_dec=north, epoch_yr=np.full(n, epoch))


@pytest.mark.parametrize("pm", [10.0, 1000.0, 10_000.0])  # mas/yr: a usual star, a near one, Barnard's
def test_motion_is_astropys(pm):
    """Within 10 µas after 25 years, also beside the poles and across RA 0."""
    seen = sky(300)
    seen = Observation.of(
        range(306), [*seen.ra, 0, 10, 20, 359.9999, 0, 77], [*seen.dec, 90, 89.9999, -90, 5, 0, -89.99]
    )
    how = motion(len(seen), pm)
    start = coordinates.SkyCoord(
        seen.ra * u.deg,
        seen.dec * u.deg,
        pm_ra_cosdec=how.pm_ra_cosdec * u.mas / u.yr,
        pm_dec=how.pm_dec * u.mas / u.yr,
        obstime=time.Time("J2016.0"),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*distance overridden", category=Warning)
        there = start.apply_space_motion(new_obstime=time.Time("J1991.0"))
    got = coord(moved(seen, how, 1991.0))
    assert got.separation(coordinates.SkyCoord(there.ra, there.dec)).mas.max() < 0.01


def test_a_fast_star_is_found_after_it_has_been_moved():
    """61 Cygni moves 5.2 arcsec a year: in 16 years out of any sensible radius."""
    star = at((316.7247, 38.7494))
    how = Motion(
        pm_ra_cosdec=np.array([4164.2]), pm_dec=np.array([3249.9]), epoch_yr=np.array([2016.0])
    )  # Gaia DR2, mas/yr
    earlier = moved(star, how, 2000.0)
    assert coord(star).separation(coord(earlier)).arcsec[0] == pytest.approx(16 * 5.2823, rel=1e-3)
    assert len(crossmatch(star, earlier, 1.0)) == 0
    for left, right, side in ((star, earlier, "left_motion"), (earlier, star, "right_motion")):
        assert pairs(crossmatch(left, right, 1e-3, epoch_yr=2000.0, **{side: how})) == [(0, 0)]


def test_there_and_back_again():
    """Straight lines in space come back but for the change of perspective: (pm × t)³ ≈ (0.5″)³, far below a µas."""
    seen, how = sky(200), motion(200, 20.0)
    back = moved(moved(seen, how, 2041.0), replace(how, epoch_yr=np.full(200, 2041.0)), 2016.0)
    assert coord(seen).separation(coord(back)).mas.max() < 0.05  # directions turn: pm × t × pm × t × tan(dec)


def test_who_has_no_motion_stays():
    seen = at((10.0, 10.0), (20.0, 20.0), (np.nan, 5.0))
    how = Motion(
        pm_ra_cosdec=np.array([np.nan, 5.0, 5.0]), pm_dec=np.full(3, 1.0), epoch_yr=np.array([2016, np.nan, 2016.0])
    )
    there = moved(seen, how, 2000.0)
    np.testing.assert_array_equal(there.ra, seen.ra)
    np.testing.assert_array_equal(there.dec, seen.dec)


def gaia(names: tuple[str, ...], units: tuple[str, ...], values: list[list[float]]) -> Observation:
    table = Scalars(values=np.array(values), names=names, units=units)
    return Observation.of(range(len(values)), [1.0] * len(values), [2.0] * len(values), astrometry=table)


def test_motions_come_out_of_the_columns():
    seen = gaia(("pmra", "pmdec", "ref_epoch"), ("arcsec/yr", "", "yr"), [[1.5, 2.0, 2016.0], [np.nan, 1.0, 2016.0]])
    how = Motion.of(seen)
    np.testing.assert_allclose(how.pm_ra_cosdec, [1500, np.nan])
    np.testing.assert_allclose(how.pm_dec, [2.0, 1.0])


def test_a_match_takes_the_motions_of_its_sides_columns():
    seen = gaia(("pmra", "pmdec", "ref_epoch"), (), [[5000.0, 0.0, 2016.0]])
    earlier = moved(seen, Motion.of(seen), 2000.0)
    plain = Observation.of(["a"], earlier.ra, earlier.dec)
    assert pairs(crossmatch(seen, plain, 0.01, epoch_yr=2000.0)) == [(0, 0)]
    assert pairs(crossmatch(plain, seen, 0.01, epoch_yr=2000.0)) == [(0, 0)]
    assert len(crossmatch(plain, seen, 0.01)) == 0


def test_each_side_is_moved_by_its_own():
    """A motion given for one side does not keep the other, whose columns tell one, where it was."""
    seen = gaia(("pmra", "pmdec", "ref_epoch"), (), [[5000.0, 0.0, 2016.0]])
    told = Motion.of(seen)
    there = moved(seen, told, 2000.0)
    assert not there.parts  # its columns would have told the old epoch
    other = Observation(there.object_id, there.ra, there.dec)
    still = Motion(pm_ra_cosdec=np.zeros(1), pm_dec=np.zeros(1), epoch_yr=np.full(1, 2000.0))
    assert pairs(crossmatch(seen, other, 0.01, epoch_yr=2000.0, right_motion=still)) == [(0, 0)]
    assert not len(crossmatch(Places.of(seen), other, 0.01, epoch_yr=2000.0, right_motion=still))


def test_a_source_that_must_be_read_is_moved_too():
    n = 600
    seen = sky(n) | {"a": Scalars(values=np.tile([5000.0, 0.0, 2016.0], (n, 1)), names=("pmra", "pmdec", "ref_epoch"))}
    there = moved(seen, Motion.of(seen), 2000.0)
    assert pairs(crossmatch(Lazy(seen), there, 0.01, epoch_yr=2000.0)) == [(i, i) for i in range(n)]


def test_epochs_differ_from_row_to_row():
    """Two stars with one motion, seen in different years: each is moved by its own years, a third stays."""
    values = [[0.0, 1000.0, 2016.0], [0.0, 1000.0, 1990.0], [0.0, 1000.0, np.nan]]
    seen = gaia(("pmra", "pmdec", "ref_epoch"), (), values)
    there = moved(seen, Motion.of(seen), 2000.0)
    np.testing.assert_allclose((there.dec - 2.0) * 3600, [-16, 10, 0], atol=1e-6)


def test_a_motion_without_an_epoch_is_refused_or_told():
    seen = gaia(("pmra", "pmdec"), (), [[5000.0, 0.0]])
    with pytest.raises(MissingModality, match=r"no epoch of the positions.*epoch_yr=2016"):
        crossmatch(seen, seen, 1.0, epoch_yr=2000.0)
    assert Motion.of(seen, epoch_yr=2016.0).epoch_yr.tolist() == [2016.0]


def test_a_match_in_numbers():
    found = nearest(at((1.0, 0.0), (1.0, 0.0), (9.0, 0.0)), at((1.0, 1 / 3600)), 2.0)
    told = found.summary()
    assert (told["pairs"], told["left_matched"], told["right_matched"]) == (2, 2, 1)
    assert told["median_arcsec"] == pytest.approx(1)
    assert found.take([]).summary()["median_arcsec"] is None
    assert found.histogram(2.5, bins=5).tolist() == [0, 0, 2, 0, 0] and found.take([]).histogram(2.0).sum() == 0


@pytest.mark.parametrize(
    ("names", "units", "value", "error", "said"),
    [
        (("pmra", "ref_epoch"), (), 1.0, MissingModality, "want pm_dec or pmdec"),
        (("pmra", "pmdec", "ref_epoch"), ("mag", "", ""), 1.0, ObservationError, "column pmra"),
        (("pmra", "pmdec", "ref_epoch"), (), np.nan, MissingModality, "NaN in every row"),
    ],
)
def test_columns_that_are_no_motions_are_refused(names, units, value, error, said):
    with pytest.raises(error, match=said):
        Motion.of(gaia(names, units, [[value] * len(names)]))


def test_an_epoch_wants_a_motion_and_a_motion_an_epoch():
    seen = at((1.0, 1.0))
    with pytest.raises(BadValue, match="epoch_yr"):
        crossmatch(seen, seen, 1.0, left_motion=motion(1, 1.0))
    with pytest.raises(MissingModality, match="none on either side"):
        crossmatch(seen, seen, 1.0, epoch_yr=2000.0)
    for year in (57388.5, float("nan")):
        with pytest.raises(BadValue, match="Julian year"):
            moved(seen, motion(1, 1.0), year)
    with pytest.raises(ObservationError, match="one per object"):
        moved(seen, motion(2, 1.0), 2000.0)
