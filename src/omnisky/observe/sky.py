"""Where things are: cells of sky, and splits that do not leak.

A split is a function of the cell of sky an object lies in, and of nothing else: new data moves nobody, and whatever
lies in one cell lies on one side, in every survey. Two things may still straddle a border between cells: one object
that two surveys see at slightly different places, and two cut-outs that share pixels. Against both there is a guard
band: `splits(seen, shares, guard_arcsec=r)` calls "border" whoever has another side's sky within r. Of what is left, no
two objects on different sides are within 2r, whatever the surveys, with no match needed and none remembered. So r is
the radius of the match (1 arcsec, as if not told, costs 0.1 % of the objects) or the side of a cut-out (42 arcsec: 4 %;
300: 31 %). Those at the border belong to no side: a twin of theirs, beyond the guard, is in use.

Where nobody may be lost, move matched objects to their anchor survey's place first, with `on_anchor`. (Groups made by
chaining matches together would also stay on one side, but another survey can join two groups and move both.)
An object without a position goes by its id alone: what another survey sees of it may lie on another side.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer

from omnisky.errors import BadValue, ObservationError
from omnisky.observe.match import Association
from omnisky.observe.types import Observation

SPLIT_DEPTH = 6
"""HealPix order of the cells that are held out together: 0.9° across, wider than any cut-out"""
BORDER = "border"
"""what objects that are too close to another side are called instead of by theirs"""
GUARD_ARCSEC = 1.0
"""wide enough for matches within 2 arcsec"""

_NARROWEST_RAD = 0.66
"""rad × 2^order: less than the smallest distance between opposite edges of a cell, which is 0.69 beside the poles"""


def cells(seen: Observation, depth: int = SPLIT_DEPTH) -> Integer[np.ndarray, " object"]:
    """The HealPix cell (nested, order `depth`) of each object; −1 where the position is not known.

    Raises ObservationError for a declination beyond a pole.
    """
    from astropy import units as u
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import lonlat_to_healpix

    known = np.isfinite(seen.ra) & np.isfinite(seen.dec)
    found = np.full(len(seen), -1, dtype=np.int64)
    if (abs(seen.dec[known]) > 90).any():
        i = int(np.flatnonzero(known & (abs(seen.dec) > 90))[0])
        saw, want = f"dec {seen.dec[i]} of {seen.object_id[i]}", "−90 … 90 deg; NaN if not known"
        raise ObservationError("a position off the sky", saw=saw, want=want)
    if known.any():
        lon, lat = Longitude(seen.ra[known] * u.deg), Latitude(seen.dec[known] * u.deg)
        found[known] = lonlat_to_healpix(lon, lat, depth).astype(np.int64)
    return found


def held_out(seen: Observation, fraction: float, salt: str = "v1") -> Bool[np.ndarray, " object"]:
    """True for the objects kept away from training: whole cells of sky, or single objects where the sky is not known.

    Depends on each object's own cell (or id) and on `salt` alone, so new data moves nobody from one side to the other.
    For one survey: two sides leave no room for a border, so what several surveys see of an object wants `splits`.
    """
    if not 0 <= fraction <= 1:
        raise BadValue("fraction", saw=fraction, want="0 … 1")
    return splits(seen, {"held out": fraction, "train": 1 - fraction}, salt=salt, guard_arcsec=0) == "held out"


def splits(
    seen: Observation, shares: Mapping[str, float], *, salt: str = "v1", guard_arcsec: float = GUARD_ARCSEC
) -> np.ndarray:
    """The side of each object, one of the names in `shares`: splits(seen, {"train": 0.8, "val": 0.1, "test": 0.1}).

    A pure function of the object's cell (where the position is not known: of its id), of `shares`, in whatever order,
    and `salt`. Objects within `guard_arcsec` of another side's sky are "border", and some that are farther, see
    `clear`; 0 means that nobody is. Raises BadValue where the shares do not add up to 1.
    """
    edges = _edges(shares)
    cell = cells(seen)
    ids = seen.object_id.tolist()
    unique, inverse = np.unique(cell, return_inverse=True)
    lots = _lots(unique, salt)[inverse]
    lots[cell < 0] = [_lot(f"{salt}/id/{ids[i]}") for i in np.flatnonzero(cell < 0)]
    names = np.asarray([*sorted(shares), BORDER])
    side = np.searchsorted(edges, lots, side="right")
    if guard_arcsec:
        side[~clear(seen, shares, guard_arcsec, salt=salt)] = len(shares)
    return names[side]


def clear(
    seen: Observation, shares: Mapping[str, float], guard_arcsec: float, *, salt: str = "v1"
) -> Bool[np.ndarray, " object"]:
    """True where all sky within `guard_arcsec` is on the object's own side, also where its position is not known.

    Asked of small cells, at least as wide as the guard: the object's own and its eight neighbours hold all that is
    so near. Nobody nearer is ever missed; some count who are up to ten times as far (two diagonals of small cells).
    """
    if not 0 < guard_arcsec < 1800:
        raise BadValue("guard_arcsec", saw=guard_arcsec, want="0 … 1800 arcsec, half a cell of the split")
    from cdshealpix.nested import neighbours

    edges = _edges(shares)
    depth = min(int(np.log2(_NARROWEST_RAD / np.radians(guard_arcsec / 3600))), 29)
    small = cells(seen, depth)
    found = np.ones(len(seen), dtype=bool)
    known, inverse = np.unique(small[small >= 0], return_inverse=True)
    if not len(known):
        return found
    around = neighbours(known.astype(np.uint64), depth).astype(np.int64)
    around = np.where(around < 0, known[:, None], around) >> 2 * (depth - SPLIT_DEPTH)  # −1: a corner of only three
    parents, back = np.unique(around, return_inverse=True)
    sides = np.searchsorted(edges, _lots(parents, salt), side="right")[back].reshape(around.shape)
    found[small >= 0] = (sides == sides[:, :1]).all(axis=1)[inverse]
    return found


def on_anchor(anchor: Observation, seen: Observation, found: Association) -> Observation:
    """`seen` with matched objects at the place that the anchor survey (left in `found`) gives them: one side for both.

    Where several objects of the anchor share a match, the nearest one's place.
    """
    ra, dec = seen.ra.copy(), seen.dec.copy()
    order = np.argsort(-found.separation_arcsec, kind="stable")  # the nearest last, so that it stays
    ra[found.right_row[order]] = anchor.ra[found.left_row[order]]
    dec[found.right_row[order]] = anchor.dec[found.left_row[order]]
    return Observation(seen.object_id, ra, dec, seen.parts)


def _edges(shares: Mapping[str, float]) -> Float[np.ndarray, " share"]:
    """Where each share ends between 0 and 1, by name, without the last."""
    sizes = [shares[name] for name in sorted(shares)]
    if not all(0 <= size <= 1 for size in sizes) or abs(sum(sizes) - 1) > 1e-9 or BORDER in shares or "" in shares:
        raise BadValue(
            "shares",
            saw=dict(shares),
            want=f'shares that add up to 1, none called "{BORDER}"',
            hint='{"train": 0.8, "val": 0.1, "test": 0.1}',
        )
    return np.cumsum(sizes)[:-1].astype(np.float64)


def _lots(cell: Int64[np.ndarray, " cell"], salt: str) -> Float[np.ndarray, " cell"]:
    return np.asarray([_lot(f"{salt}/cell/{one}") for one in cell.tolist()], dtype=np.float64)


def _lot(key: str) -> float:
    """A number in [0, 1) drawn by the key alone."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
