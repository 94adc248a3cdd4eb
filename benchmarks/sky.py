"""The workers of the cross-match comparison: ours, astropy's, LSDB's. `python -m benchmarks.sky` waits for JSON lines.

An answer is the pairs end to end: all left rows, then all right rows, in the order of the left ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.crossmatch import RADIUS_ARCSEC

Answer = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Catalogue:
    """Positions in degrees."""

    ra: np.ndarray
    dec: np.ndarray


@dataclass(frozen=True)
class Sky:
    left: Catalogue
    right: Catalogue


def sky(n: int) -> Sky:
    """Two catalogues of n objects on 800 square degrees, always the same ones; 60 % of the right one are true pairs."""
    draw = np.random.default_rng(17)
    ra, dec = (
        draw.uniform(150, 190, (2, n)),
        np.degrees(np.arcsin(draw.uniform(-1, 1, (2, n)) * np.sin(np.radians(10)))),
    )
    true = int(0.6 * n)
    shaken = draw.normal(0, 0.3 / 3600, (2, true))
    ra[1, :true], dec[1, :true] = (
        ra[0, :true] + shaken[0] / np.cos(np.radians(dec[0, :true])),
        dec[0, :true] + shaken[1],
    )
    order = draw.permutation(n)
    return Sky(Catalogue(ra[0], dec[0]), Catalogue(ra[1][order], dec[1][order]))


def _answer(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    if (np.diff(left) <= 0).any():
        order = np.lexsort((right, left))
        left, right = left[order], right[order]
    return np.concatenate([left, right])


# --- ours ---------------------------------------------------------------------------------------------------------


def _ours(way: str) -> Callable[..., Answer]:
    def task(folder: Path, n: int) -> Answer:
        from omnisky.observe import match

        given = sky(n)
        ids = np.arange(n).astype(str)
        left, right = (match.Places(object_id=ids, ra=one.ra, dec=one.dec) for one in (given.left, given.right))
        pairs = {"nearest": match.nearest, "mutual": match.mutual, "all": match.all_pairs}[way]

        def call() -> np.ndarray:
            found = match.crossmatch(left, right, RADIUS_ARCSEC, pairs=pairs)
            return _answer(found.left_row, found.right_row)

        return call

    return task


# --- theirs -------------------------------------------------------------------------------------------------------


def _astropy(n: int) -> tuple[Any, Any]:
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    given = sky(n)
    left, right = (SkyCoord(one.ra * u.deg, one.dec * u.deg) for one in (given.left, given.right))
    return left, right


def astropy_nearest(folder: Path, n: int) -> Answer:
    """The tree made anew each time, as ours is."""
    from astropy.coordinates import match_coordinates_sky

    left, right = _astropy(n)

    def call() -> np.ndarray:
        index, apart, _ = match_coordinates_sky(left, right, storekdtree=False)
        near = np.flatnonzero(apart.arcsec <= RADIUS_ARCSEC)
        return _answer(near, index[near])

    return call


def astropy_mutual(folder: Path, n: int) -> Answer:
    """Both ways, kept where they agree."""
    from astropy.coordinates import match_coordinates_sky

    left, right = _astropy(n)

    def call() -> np.ndarray:
        out, apart, _ = match_coordinates_sky(left, right, storekdtree=False)
        near = np.flatnonzero(apart.arcsec <= RADIUS_ARCSEC)
        back, _, _ = match_coordinates_sky(right[out[near]], left, storekdtree=False)
        agreed = near[back == near]
        return _answer(agreed, out[agreed])

    return call


def astropy_all(folder: Path, n: int) -> Answer:
    from astropy import units as u
    from astropy.coordinates import search_around_sky

    left, right = _astropy(n)

    def call() -> np.ndarray:
        i, j, _, _ = search_around_sky(left, right, RADIUS_ARCSEC * u.arcsec, storekdtree=False)
        return _answer(i, j)

    return call


def lsdb_nearest(folder: Path, n: int) -> Answer:
    """Two HATS catalogues on disk, opened, planned and matched each time; compiled code stays."""
    import lsdb
    import pandas

    given = sky(n)
    for name, one in (("left", given.left), ("right", given.right)):
        frame = pandas.DataFrame({"row": np.arange(n), "ra": one.ra, "dec": one.dec})
        made = lsdb.from_dataframe(
            frame, ra_column="ra", dec_column="dec", partition_rows=100_000, margin_threshold=5.0
        )
        made.write_catalog(folder / f"{name}-{n}", catalog_name=name, progress_bar=False)

    def call() -> np.ndarray:
        left, right = (lsdb.open_catalog(folder / f"{name}-{n}") for name in ("left", "right"))
        found = left.crossmatch(
            right, radius_arcsec=RADIUS_ARCSEC, suffixes=("_left", "_right"), suffix_method="all_columns"
        ).compute()
        return _answer(found["row_left"].to_numpy().astype(int), found["row_right"].to_numpy().astype(int))

    return call


if __name__ == "__main__":
    harness.serve(
        {
            "ours_nearest": _ours("nearest"),
            "ours_mutual": _ours("mutual"),
            "ours_all": _ours("all"),
            "astropy_nearest": astropy_nearest,
            "astropy_mutual": astropy_mutual,
            "astropy_all": astropy_all,
            "lsdb_nearest": lsdb_nearest,
        }
    )
