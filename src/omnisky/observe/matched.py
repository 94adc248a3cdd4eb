"""Cross-match of two data sets on disk: opened no further than needed, written as pairs or as one data set of both.

told = match_files("desi/", "legacysurvey/", 1.0, table="pairs.parquet", folder="matched/")
both = omnisky.read("matched/")     # both["spectrum"], both["image"], both["match_desi"], both["match_legacysurvey"]
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from omnisky.errors import BadValue, ObservationError
from omnisky.observe.join import join
from omnisky.observe.loader import Source
from omnisky.observe.match import Association, Pairs, Places, checked_radius, crossmatch, nearest
from omnisky.observe.opened import first_of, motion_of, opened, rows_of
from omnisky.observe.shards import Shards, begin_shards, write_shards
from omnisky.observe.survey import SURVEYS
from omnisky.storage import atomic

TABLES = (".parquet", ".csv")


@dataclass(frozen=True, kw_only=True, eq=False)
class Matched:
    """Who matched whom, within what."""

    found: Association
    left: Places
    right: Places
    radius_arcsec: float

    def state(self) -> dict[str, Any]:
        """In numbers, for JSON."""
        told: dict[str, Any] = {}
        for name, side in (("left", self.left), ("right", self.right)):
            told |= {f"{name}_objects": len(side), f"{name}_without_position": len(side) - _placed(side)}
        edges = np.linspace(0, self.radius_arcsec, 11).tolist()
        counts = self.found.histogram(self.radius_arcsec).tolist()
        return told | self.found.summary() | {"histogram": {"edges_arcsec": edges, "pairs": counts}}


def match_files(
    left: str | Path,
    right: str | Path,
    radius_arcsec: float,
    *,
    pairs: Pairs = nearest,
    epoch_yr: float | None = None,
    table: str | Path | None = None,
    folder: str | Path | None = None,
) -> Matched:
    """Match what two paths hold, and write the pairs to `table`, all that both sides measured of them to `folder`.

    Of the Multimodal Universe, shards, HATS and Parquet only the positions are held in memory. `table` is Parquet or
    .csv (see `write_pairs`), `folder` what `write_matched` makes. A radius or table that cannot be is refused before
    anything is read. Raises what `crossmatch`, the readers and `write_shards` raise; ObservationError where one side
    has no positions, or nothing is left to write.
    """
    checked_radius(radius_arcsec)
    if table is not None:
        _refuse_table(Path(table))
    here, there = opened(left), opened(right)
    pm = [None if epoch_yr is None else motion_of(side) for side in (here, there)]
    a, b = Places.of(here), Places.of(there)
    for path, side in ((left, a), (right, b)):
        if not _placed(side):
            raise ObservationError(f"{path}: nothing to match", saw=f"{len(side)} objects", want="one with ra and dec")
    found = crossmatch(a, b, radius_arcsec, pairs=pairs, epoch_yr=epoch_yr, left_motion=pm[0], right_motion=pm[1])
    if table is not None:
        write_pairs(table, a, b, found)
    if folder is not None:
        told = about((left, right), (here, there), radius_arcsec, pairs, epoch_yr)
        write_matched((here, there), found, folder, told)
    return Matched(found=found, left=a, right=b, radius_arcsec=radius_arcsec)


class About(TypedDict):
    """What the manifest of a data set of both sides says."""

    sources: list[str]
    licences: list[str]


def about(
    paths: Sequence[str | Path], sides: Sequence[Any], radius_arcsec: float, pairs: Pairs, epoch_yr: float | None
) -> About:
    """Which sides, as `opened` gave them, were matched how; and the licences of the surveys that their parts name."""
    how = f"{getattr(pairs, '__name__', pairs)} within {radius_arcsec} arcsec, epoch {epoch_yr}"
    held = [part for side in sides for part in first_of(side).parts.values()]
    surveys = {getattr(part, "survey", "") for part in held} & set(SURVEYS)
    licences = sorted(f"{name}: {SURVEYS[name].licence}" for name in surveys if SURVEYS[name].licence)
    return About(sources=[*map(str, paths), how], licences=licences)


def write_matched(sides: Sequence[Any], found: Association, folder: str | Path, told: About) -> Shards:
    """All that both sides, as `opened` gave them, measured of the pairs: training shards, one row a pair.

    No side is held in memory; the matched rows need three times their size on disk meanwhile. Killed and called again,
    this goes on where it was. Raises ObservationError (no pairs), and what `write_shards` raises.
    """
    if not len(found):
        raise ObservationError("no pairs, so no data set", saw="nobody within the radius", hint="a larger radius")
    scratch = begin_shards(folder, **told)
    if scratch is None:
        return Shards(folder)
    left, left_row = rows_of(sides[0], found.left_row, scratch / "left")
    right, right_row = rows_of(sides[1], found.right_row, scratch / "right")
    rows = join(left, right, replace(found, left_row=left_row, right_row=right_row))
    return write_shards(rows, folder, **told)


def write_pairs(path: str | Path, left: Source | Places, right: Source | Places, found: Association) -> None:
    """A match as a table, one line a pair: ids, rows, positions (deg) and separation_arcsec. Parquet, or .csv.

    Raises BadValue (another suffix, a folder in the way), StorageError.
    """
    path = Path(path)
    _refuse_table(path)
    columns: dict[str, np.ndarray] = {}
    for side, source, row in (("left", left, found.left_row), ("right", right, found.right_row)):
        at = Places.of(source)
        columns |= {f"{side}_id": at.object_id[row], f"{side}_row": row}
        columns |= {f"{side}_ra": at.ra[row], f"{side}_dec": at.dec[row]}
    columns["separation_arcsec"] = found.separation_arcsec
    with atomic(path) as draft:
        if path.suffix == ".csv":
            with draft.open("w", newline="", encoding="utf-8") as file:
                lines = csv.writer(file)
                lines.writerow(columns)
                lines.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        unit = {name: b"deg" for name in columns if name.endswith(("_ra", "_dec"))} | {"separation_arcsec": b"arcsec"}
        arrays = {name: pa.array(column) for name, column in columns.items()}
        schema = pa.schema(
            pa.field(name, array.type, metadata={b"unit": unit[name]} if name in unit else None)
            for name, array in arrays.items()
        )
        pq.write_table(pa.table(list(arrays.values()), schema=schema), draft, compression="zstd")


def _refuse_table(path: Path) -> None:
    if path.suffix not in TABLES or path.is_dir():
        saw = f"{path.name}, a folder" if path.is_dir() else path.name
        raise BadValue("format of the table", saw=saw, want="a name that ends in .parquet or .csv")


def _placed(side: Places) -> int:
    return int((np.isfinite(side.ra) & np.isfinite(side.dec)).sum())
