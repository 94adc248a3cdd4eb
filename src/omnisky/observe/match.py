"""Which object of one survey is which of another: matches on the sky, correct at RA 0/360, at the poles, everywhere.

    found = crossmatch(desi, legacy, 1.0)               # of every left object, the nearest right one within 1″
    found = crossmatch(desi, legacy, 1.0, pairs=mutual)   # one to one: each is the other's nearest
    found = crossmatch(desi, legacy, 3.0, pairs=all_pairs)
    found = crossmatch(gaia, sdss, 1.0, epoch_yr=2000.0)  # after Gaia's stars have been moved to where they were then

Positions become unit vectors, for which the sky has no borders, and a k-d tree finds neighbours by their chord
2 sin(r/2). Only rows and separations come back; `observe.join` gathers the measurements. For catalogues that do not fit
into memory there is `observe.match_hats`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer

from omnisky.errors import BadValue, MissingModality, ObservationError
from omnisky.observe.loader import Source, blocks
from omnisky.observe.motion import Motion, moved, unit_vectors
from omnisky.observe.types import Observation

HALF_TURN_ARCSEC = 180 * 3600.0
MOST_PAIRS = 500_000_000
"""more than these would take over 20 GB: a radius in the wrong unit, or a job for `observe.match_hats`"""

_IN_CACHE = 5000
_LEAF_ORDER = 14
"""HealPix order by which queries are sorted: cells of 13″, so that neighbours ask for the same leaf of the tree"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Association:
    """Pairs of rows that are the same object, in the order of `left_row`."""

    left_row: Int64[np.ndarray, " pair"]
    right_row: Int64[np.ndarray, " pair"]
    separation_arcsec: Float[np.ndarray, " pair"]
    """arcsec, on the sphere; NaN where matched by id without positions"""

    def __len__(self) -> int:
        return len(self.left_row)

    def take(self, index: Any) -> Association:
        """The chosen pairs, in the order asked for."""
        return Association(
            left_row=self.left_row[index],
            right_row=self.right_row[index],
            separation_arcsec=self.separation_arcsec[index],
        )

    def summary(self) -> dict[str, float | int | None]:
        """In numbers, for people and for JSON."""
        apart = self.separation_arcsec[np.isfinite(self.separation_arcsec)]
        middle, most = (float(np.quantile(apart, q)) for q in (0.5, 0.95)) if len(apart) else (None, None)
        return {
            "pairs": len(self),
            "left_matched": len(np.unique(self.left_row)),
            "right_matched": len(np.unique(self.right_row)),
            "median_arcsec": middle,
            "within_95_percent_arcsec": most,
        }

    def histogram(self, radius_arcsec: float, bins: int = 10) -> Int64[np.ndarray, " bin"]:
        """Pairs by separation, in equal steps from 0 to the radius. Chance alone makes counts that rise in a line."""
        return np.histogram(self.separation_arcsec, bins, (0, radius_arcsec))[0].astype(np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Who is where: what a match needs of a survey. ICRS, degrees."""

    object_id: np.ndarray
    ra: Float[np.ndarray, " object"]
    """deg; NaN where not known"""
    dec: Float[np.ndarray, " object"]
    """deg; NaN where not known"""

    @classmethod
    def of(cls, source: Source | Places) -> Places:
        """From a source that holds them in memory or reads them alone (`catalogue()`); else all rows are read once."""
        if isinstance(source, Places):
            return source
        if not isinstance(source, Observation) and hasattr(source, "catalogue"):
            source = source.catalogue()
        held = [(seen.object_id, seen.ra, seen.dec) for seen in blocks(source)]
        object_id, ra, dec = held[0] if len(held) == 1 else map(np.concatenate, zip(*held, strict=True))
        return cls(object_id=object_id, ra=ra, dec=dec)

    def __len__(self) -> int:
        return len(self.ra)

    def moved(self, motion: Motion, to_yr: float) -> Places:
        """See `observe.motion.moved`."""
        at = moved(Observation(self.object_id, self.ra, self.dec), motion, to_yr)
        return Places(object_id=at.object_id, ra=at.ra, dec=at.dec)

    def take(self, index: Any) -> Observation:
        """The chosen objects, without any measurement."""
        return Observation(self.object_id[index], self.ra[index], self.dec[index])


Pairs = Callable[[Places, Places, float], Association]
"""How to choose among candidates: `nearest`, `mutual`, `all_pairs`, or one's own"""


def crossmatch(
    left: Source,
    right: Source,
    radius_arcsec: float,
    *,
    pairs: Pairs | None = None,
    epoch_yr: float | None = None,
    left_motion: Motion | None = None,
    right_motion: Motion | None = None,
) -> Association:
    """The pairs of objects within `radius_arcsec` of each other; `pairs` chooses which, `nearest` if not given.

    With `epoch_yr` (Julian year) each side is moved there first: by the motion given for it, else by its own columns
    (see `Motion.of`), else not at all. Objects without a position (NaN) match nobody. Raises BadValue (radius, epoch),
    ObservationError (positions that are none), MissingModality (no motion on either side, or no epoch beside one).
    """
    checked_radius(radius_arcsec)
    sides = [Places.of(left), Places.of(right)]
    motions = _motions(left, right, epoch_yr, left_motion, right_motion)
    if epoch_yr is not None:
        sides = [side if how is None else side.moved(how, epoch_yr) for side, how in zip(sides, motions, strict=True)]
    return (pairs or nearest)(sides[0], sides[1], radius_arcsec)


def checked_radius(radius_arcsec: float) -> float:
    """The radius, if it is one. Raises BadValue."""
    if not 0 < radius_arcsec <= HALF_TURN_ARCSEC:
        raise BadValue("radius_arcsec", saw=radius_arcsec, want=f"0 < radius ≤ {HALF_TURN_ARCSEC:.0f} arcsec (180°)")
    return float(radius_arcsec)


def nearest(left: Source, right: Source, radius_arcsec: float) -> Association:
    """Of every left object its nearest right one: at most one each, but a right one may serve several left ones.

    Of right objects at the very same distance, the first row.
    """
    here, there = _Sky.of(left), _Sky.of(right)
    return _pairs(here, there, _nearest(here.vectors, there.vectors, checked_radius(radius_arcsec)), radius_arcsec)


def mutual(left: Source, right: Source, radius_arcsec: float) -> Association:
    """One to one: pairs of which each is the other's nearest. The same pairs whichever side is called left."""
    here, there = _Sky.of(left), _Sky.of(right)
    out = _nearest(here.vectors, there.vectors, checked_radius(radius_arcsec))
    asked, inverse = np.unique(out.right, return_inverse=True)
    back = _nearest(there.vectors[asked], here.vectors, radius_arcsec)
    answer = np.full(len(asked), -1)
    answer[back.left] = back.right
    agreed = answer[inverse] == out.left
    return _pairs(here, there, _Candidates(out.left[agreed], out.right[agreed]), radius_arcsec)


def all_pairs(left: Source, right: Source, radius_arcsec: float) -> Association:
    """Everybody within the radius: for each left object its right ones, nearest first.

    Raises BadValue where that would be more than `MOST_PAIRS`.
    """
    here, there = _Sky.of(left), _Sky.of(right)
    reach = _reach(checked_radius(radius_arcsec))
    if not len(here.row) or not len(there.row):
        return _pairs(here, there, _Candidates(np.zeros(0, int), np.zeros(0, int)), radius_arcsec)
    theirs = _tree(there.vectors)
    two = _two_nearest(here.vectors, theirs, reach)
    met = np.isfinite(two.distance)
    one, many = np.flatnonzero(met[:, 0] & ~met[:, 1]), np.flatnonzero(met[:, 1])
    some = here.vectors[many[:: max(len(many) // 1000, 1)]]
    crowd = len(one)
    if len(many):
        crowd += theirs.query_ball_point(some, reach, return_length=True, workers=-1).mean() * len(many)
    if crowd > MOST_PAIRS:
        raise BadValue(
            "radius_arcsec",
            saw=f"{radius_arcsec:g} arcsec, some {crowd:.1e} pairs",
            want=f"at most {MOST_PAIRS:.0e} pairs",
            hint="a smaller radius (it is in arcsec), or a part of the left side at a time",
        )
    # Mostly the nearest is the only one; who has more neighbours is asked for all of them.
    more = _tree(here.vectors[many]).sparse_distance_matrix(theirs, reach, output_type="ndarray")
    left, right = np.concatenate([one, many[more["i"]]]), np.concatenate([two.found[one, 0], more["j"]])
    return _pairs(here, there, _Candidates(left, right), radius_arcsec)


def same_id(left: Source, right: Source) -> Association:
    """Pairs with the same object_id, wherever they are. Raises ObservationError where a side has an id twice."""
    here, there = Places.of(left), Places.of(right)
    for side, name in ((here, "left"), (there, "right")):
        ids, count = np.unique(side.object_id, return_counts=True)
        if (count > 1).any():
            raise ObservationError(f"ids are not unique on the {name}", saw=ids[count > 1][0], want="each id once")
    _, at_left, at_right = np.intersect1d(here.object_id, there.object_id, assume_unique=True, return_indices=True)
    order = np.argsort(at_left)
    at_left, at_right = at_left[order].astype(np.int64), at_right[order].astype(np.int64)
    a, b = (unit_vectors(side.ra[at], side.dec[at]) for side, at in ((here, at_left), (there, at_right)))
    return Association(left_row=at_left, right_row=at_right, separation_arcsec=_separation(a, b))


def _motions(
    left: Source, right: Source, epoch_yr: float | None, left_motion: Motion | None, right_motion: Motion | None
) -> tuple[Motion | None, Motion | None]:
    given = (left_motion, right_motion)
    if epoch_yr is None and any(given):
        hint = "crossmatch(gaia, sdss, 1.0, epoch_yr=2000.0, left_motion=Motion.of(gaia))"
        raise BadValue("epoch_yr", saw="a motion and no epoch", want="both", hint=hint)
    if epoch_yr is None:
        return given
    told = [
        how or (None if isinstance(side, Places) else Motion.told_by(side))
        for side, how in zip((left, right), given, strict=True)
    ]
    if not any(told):
        hint = "left_motion=Motion(pm_ra_cosdec=…, pm_dec=…, epoch_yr=…)"
        raise MissingModality("no proper motions", saw="none on either side", want="pmra, pmdec, ref_epoch", hint=hint)
    return told[0], told[1]


# --- on the sphere ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sky:
    """The rows that have a position, as unit vectors."""

    row: Int64[np.ndarray, " known"]
    vectors: Float[np.ndarray, "known 3"]

    @classmethod
    def of(cls, source: Source) -> _Sky:
        at = Places.of(source)
        known = ~(np.isnan(at.ra) | np.isnan(at.dec))
        wrong = known & ~((at.ra >= -180) & (at.ra <= 360) & (abs(at.dec) <= 90))
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            saw = f"{wrong.sum()} objects, first row {i}: ra {at.ra[i]}, dec {at.dec[i]}"
            want = "ra −180 … 360, dec −90 … 90 deg; NaN if not known"
            raise ObservationError("positions off the sky", saw=saw, want=want)
        row = np.flatnonzero(known).astype(np.int64)
        return cls(row, unit_vectors(at.ra[row], at.dec[row]))


@dataclass(frozen=True)
class _Candidates:
    """Pairs by their place among the known ones, not yet by row."""

    left: Integer[np.ndarray, " pair"]
    right: Integer[np.ndarray, " pair"]


def _separation(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """arcsec between unit vectors; exact to rounding from 0 to 180° (Kahan 2006, "How futile …", §12)."""
    half = np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
    return np.degrees(2 * half) * 3600


def _reach(radius_arcsec: float) -> float:
    """The chord of the radius, and a little more: who is really within is told from the separations."""
    return float(2 * np.sin(np.radians(radius_arcsec / 3600) / 2)) * (1 + 1e-9) + 1e-15


def _tree(vectors: Float[np.ndarray, "n 3"]) -> Any:
    from scipy.spatial import cKDTree

    # Splitting in the middle and leaving boxes loose: twice as fast to make, and as fast to ask.
    return cKDTree(vectors, balanced_tree=False, compact_nodes=False)


def _nearest(here: Float[np.ndarray, "n 3"], there: Float[np.ndarray, "m 3"], radius_arcsec: float) -> _Candidates:
    """Of each of `here` the nearest of `there`; of equally near ones the first."""
    if not len(here) or not len(there):
        return _Candidates(np.zeros(0, np.int64), np.zeros(0, np.int64))
    reach = _reach(radius_arcsec)
    two = _two_nearest(here, _tree(there), reach)
    chosen, (first, second) = two.found[:, 0], two.distance.T
    tied = np.isfinite(second) & (first == second)
    if tied.any():
        chosen[tied] = _first_of_equals(here[tied], there, reach)
    met = np.flatnonzero(np.isfinite(first))
    return _Candidates(met, chosen[met])


@dataclass(frozen=True)
class _Two:
    """The nearest and the next but it, which costs nothing extra and shows ties and crowds."""

    distance: Float[np.ndarray, "n 2"]
    """chord; infinite where there is none within reach"""
    found: Integer[np.ndarray, "n 2"]


def _two_nearest(here: Float[np.ndarray, "n 3"], tree: Any, reach: float) -> _Two:
    if len(here) <= _IN_CACHE:
        return _Two(*tree.query(here, k=2, distance_upper_bound=reach, workers=-1))
    order = _neighbours_first(here)
    distance, found = tree.query(here[order], k=2, distance_upper_bound=reach, workers=-1)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return _Two(distance[back], found[back])


def _first_of_equals(
    here: Float[np.ndarray, "n 3"], there: Float[np.ndarray, "m 3"], reach: float
) -> Integer[np.ndarray, " n"]:
    """The lowest row at the smallest distance. A place that many share is one place in the tree."""
    places, first = np.unique(there, axis=0, return_index=True)
    tree, k = _tree(places), 2
    best = np.zeros(len(here), dtype=np.int64)
    open_rows = np.arange(len(here))
    while len(open_rows):
        distance, found = tree.query(here[open_rows], k=k, distance_upper_bound=reach, workers=-1)
        equal = (distance == distance[:, :1]) & np.isfinite(distance)
        rows = np.where(equal, np.append(first, 0)[found], len(there))  # "nobody" is place number len(places)
        best[open_rows] = rows.min(axis=1)
        open_rows = open_rows[equal[:, -1]]
        k *= 2
    return best


def _neighbours_first(vectors: Float[np.ndarray, "n 3"]) -> Integer[np.ndarray, " n"]:
    """An order in which neighbours follow each other: the tree then answers from the cache, twice as fast."""
    from astropy import units as u
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import lonlat_to_healpix

    lon = Longitude(np.arctan2(vectors[:, 1], vectors[:, 0]) * u.rad)
    lat = Latitude(np.arcsin(np.clip(vectors[:, 2], -1, 1)) * u.rad)
    return np.argsort(lonlat_to_healpix(lon, lat, _LEAF_ORDER))


def _pairs(here: _Sky, there: _Sky, found: _Candidates, radius_arcsec: float) -> Association:
    """By row, in order, without those the little more of `_reach` let in."""
    separation = _separation(here.vectors[found.left], there.vectors[found.right])
    within: Bool[np.ndarray, " pair"] = separation <= radius_arcsec
    left, right = here.row[found.left[within]], there.row[found.right[within]]
    separation = separation[within]
    if len(left) > 1 and (np.diff(left) <= 0).any():
        order = np.lexsort((right, separation, left))
        left, right, separation = left[order], right[order], separation[order]
    return Association(left_row=left, right_row=right, separation_arcsec=separation)
