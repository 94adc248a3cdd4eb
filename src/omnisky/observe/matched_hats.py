"""Catalogues past memory as one data set of both: pairs by LSDB, and all that was measured of them (extra "hats").

many = match_hats_files("desi/", "legacysurvey/", 1.0, "matched/")
both = omnisky.read("matched/")

The same data set, to the byte, as `observe.matched.match_files` makes by the k-d tree. LSDB tells ids and positions;
whose rows these are is found by reading no more than these columns once. In memory is what a pair takes, never what a
survey takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from omnisky.errors import CorruptFile, OmniskyError
from omnisky.observe.hats import Hats
from omnisky.observe.match import Association, Pairs, Places, all_pairs, mutual, nearest
from omnisky.observe.match_hats import Sides, demand_lsdb, write_pairs_by_lsdb
from omnisky.observe.matched import about, write_matched
from omnisky.observe.pieces import finish
from omnisky.observe.shards import Shards, begin_shards

_APART = "_dist_arcsec"


def match_hats_files(
    left: str | Path,
    right: str | Path,
    radius_arcsec: float,
    folder: str | Path,
    *,
    pairs: Pairs = nearest,
    epoch_yr: float | None = None,
    object_id: str | tuple[str, str] = "object_id",
) -> int:
    """Match as `crossmatch_hats`, write as `match_files`: training shards, one row a pair; returns how many pairs.

    Killed and called again, it goes on where it was; only what LSDB does, ids and positions, is done in one go. Raises
    what `crossmatch_hats` and `write_matched` raise.
    """
    demand_lsdb(radius_arcsec, pairs)
    folder = Path(folder).expanduser()
    sides = Sides.of((left, right), epoch_yr, object_id)
    told = about(sides.paths, sides.held, radius_arcsec, pairs, epoch_yr)
    scratch = begin_shards(folder, **told)
    if scratch is None:
        return len(Shards(folder))
    found = scratch / "pairs"
    if not found.exists():
        try:
            many = write_pairs_by_lsdb(sides, radius_arcsec, found, pairs=pairs, numbered=True)
        except OmniskyError:
            _forget(folder, scratch)
            raise
        if not many:
            _forget(folder, scratch)
            return len(write_matched(sides.held, _none(), folder, told))  # which says that there is none
    return len(write_matched(sides.held, _rows_in(found, sides, pairs), folder, told))


def _forget(folder: Path, scratch: Path) -> None:
    """So that the next call may be another one, with a smaller radius say."""
    finish(scratch)
    with suppress(OSError):
        folder.rmdir()


def _none() -> Association:
    none = np.zeros(0, dtype=np.int64)
    return Association(left_row=none, right_row=none, separation_arcsec=np.zeros(0))


# --- names → rows -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Named:
    """Which rows of a side have the name of which pair. A name is id and position: several rows may have the same."""

    name: Int64[np.ndarray, " pair"]
    """number of the name of each pair"""
    start: Int64[np.ndarray, " name_and_1"]
    """name i has row[start[i]] … row[start[i + 1] − 1]"""
    row: Int64[np.ndarray, " row"]
    """rising within a name"""

    def many(self, every: bool) -> Int64[np.ndarray, " name"]:
        """How many rows of each name to pair: every one, or the first."""
        return np.diff(self.start) if every else np.ones(len(self.start) - 1, dtype=np.int64)


def _rows_in(found: Path, sides: Sides, pairs: Pairs) -> Association:
    """LSDB's pairs by the rows of both sides, as `observe.match` has them: also where several rows have one name."""
    columns = [
        [f"{name}_{which}" for name in ours] for ours, which in zip(sides.columns, ("left", "right"), strict=True)
    ]
    table = pa.Table.from_batches(list(Hats(found).raw([*columns[0], *columns[1], _APART])))
    asked = [_places(table, ours) for ours in columns]
    left, right = (
        _named(side, ours, at) if own else _numbered(at)
        for side, ours, at, own in zip(sides.held, sides.columns, asked, sides.as_they_are, strict=True)
    )
    _, first = np.unique(left.name * len(right.start) + right.name, return_index=True)
    one, other, apart = left.name[first], right.name[first], np.asarray(table[_APART], dtype=np.float64)[first]
    many, times = left.many(pairs is not mutual)[one], right.many(pairs is all_pairs)[other]
    pair, k = _counted(many * times)
    left_row = left.row[left.start[one[pair]] + k // times[pair]]
    right_row = right.row[right.start[other[pair]] + k % times[pair]]
    order = np.lexsort((right_row, apart[pair], left_row))
    return Association(left_row=left_row, right_row=right_row, separation_arcsec=apart[pair]).take(order)


def _named(side: Hats, columns: tuple[str, str, str], asked: Places) -> _Named:
    """Every row of the catalogue is looked at once. Raises CorruptFile where it has other objects than before."""
    order = np.lexsort((asked.object_id, asked.dec, asked.ra))
    at = Places(object_id=asked.object_id[order], ra=asked.ra[order], dec=asked.dec[order])
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(at.ra) != 0) | (np.diff(at.dec) != 0) | (at.object_id[1:] != at.object_id[:-1])
    name = np.empty(len(order), dtype=np.int64)
    name[order] = np.cumsum(new) - 1
    at = Places(object_id=at.object_id[new], ra=at.ra[new], dec=at.dec[new])
    start, met = 0, []
    for batch in side.raw(columns):
        ra = np.asarray(batch.column(columns[1]), dtype=np.float64)
        low = np.searchsorted(at.ra, ra)
        row, k = _counted(np.searchsorted(at.ra, ra, side="right") - low)
        one, seen = low[row] + k, _places(batch.take(pa.array(row)), columns)
        same = (seen.dec == at.dec[one]) & (seen.object_id == at.object_id[one])
        met.append((one[same], start + row[same]))
        start += len(ra)
    one, row = (np.concatenate(column) for column in zip(*met, strict=True))
    edges = np.searchsorted(np.sort(one), np.arange(len(at) + 1))
    if lost := int((np.diff(edges) == 0).sum()):
        saw = f"{lost} of {len(at)} matched objects no longer in it"
        raise CorruptFile(str(side.path), saw=saw, want="the catalogue that was matched", hint="another folder")
    return _Named(name=name, start=edges, row=row[np.argsort(one, kind="stable")])


def _numbered(asked: Places) -> _Named:
    """Where names are the numbers of rows."""
    row, name = np.unique(asked.object_id.astype(np.int64), return_inverse=True)
    return _Named(name=name, start=np.arange(len(row) + 1), row=row)


def _places(table: pa.Table | pa.RecordBatch, columns: Sequence[str]) -> Places:
    who, ra, dec = (table.column(name) for name in columns)
    names = np.asarray(pc.fill_null(who.cast(pa.string()), "").to_pylist(), dtype=np.str_)
    return Places(object_id=names, ra=np.asarray(ra, dtype=np.float64), dec=np.asarray(dec, dtype=np.float64))


def _counted(many: Int64[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " all"], Int64[np.ndarray, " all"]]:
    """0 many[0] times, 1 many[1] times, …; and how often each was there before."""
    which = np.repeat(np.arange(len(many)), many)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(many) - many, many)
