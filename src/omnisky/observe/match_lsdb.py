"""`observe.match` as LSDB's ways to match two partitions. Imports LSDB: only for `observe.match_hats`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from lsdb.core.crossmatch.abstract_crossmatch_algorithm import AbstractCrossmatchAlgorithm
from lsdb.core.crossmatch.crossmatch_args import CrossmatchArgs

from omnisky.observe.match import Pairs, Places, nearest

Matched = tuple[np.ndarray, np.ndarray, pd.DataFrame]
"""rows of the left partition, of the right one, and further columns"""
_ARCSEC = pd.ArrowDtype(pa.float64())


class Chosen(AbstractCrossmatchAlgorithm):
    """Left objects with those right ones that `pairs` chooses, seeing one left object at a time."""

    extra_columns = pd.DataFrame({"_dist_arcsec": pd.Series(dtype=_ARCSEC)})

    def __init__(self, pairs: Pairs, radius_arcsec: float) -> None:
        super().__init__()
        self.pairs, self.radius_arcsec = pairs, radius_arcsec

    def perform_crossmatch(self, crossmatch_args: CrossmatchArgs) -> Matched:
        """See LSDB."""
        left, here = crossmatch_args.left_df, crossmatch_args.left_catalog_info
        right, there = crossmatch_args.right_df, crossmatch_args.right_catalog_info
        found = self.pairs(
            _places(left[here.ra_column], left[here.dec_column]),
            _places(right[there.ra_column], right[there.dec_column]),
            self.radius_arcsec,
        )
        apart = pd.DataFrame({"_dist_arcsec": pd.Series(found.separation_arcsec, dtype=_ARCSEC)})
        return found.left_row, found.right_row, apart


class Returned(AbstractCrossmatchAlgorithm):
    """Of pairs on the left, those whose left one is of all of its survey the nearest to the right one.

    The pairs' columns end in _left and _right; on the right are all objects of the left survey.
    """

    def __init__(self, radius_arcsec: float, left_place: tuple[str, str], right_place: tuple[str, str]) -> None:
        super().__init__()
        self.radius_arcsec = radius_arcsec
        self.left_place, self.right_place = left_place, right_place

    def perform_crossmatch(self, crossmatch_args: CrossmatchArgs) -> Matched:
        """See LSDB."""
        pairs, every = crossmatch_args.left_df, crossmatch_args.right_df
        asked = _places(*(pairs[f"{name}_right"] for name in self.right_place))
        back = nearest(asked, _places(*(every[name] for name in self.left_place)), self.radius_arcsec)
        agreed = np.ones(len(back), dtype=bool)
        for name in every.columns:  # the id and the position, as ids alone may not be unique
            own, found = pairs[f"{name}_left"].to_numpy(), every[name].to_numpy()
            agreed &= np.asarray(own[back.left_row] == found[back.right_row], dtype=bool)
        kept = back.take(agreed)
        return kept.left_row, kept.right_row, pd.DataFrame(index=pd.RangeIndex(len(kept)))


def place_of(catalogue: Any) -> tuple[str, str]:
    """The columns of right ascension and declination."""
    info = catalogue.hc_structure.catalog_info
    return info.ra_column, info.dec_column


def _places(ra: Any, dec: Any) -> Places:
    return Places(object_id=np.arange(len(ra)), ra=ra.to_numpy(dtype=np.float64), dec=dec.to_numpy(dtype=np.float64))
