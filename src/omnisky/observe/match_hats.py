"""Cross-match of catalogues that do not fit into memory: by LSDB, partition by partition (extra "hats").

The same pairs as those of `observe.match`, because each partition is matched by it, together with the objects around
the partition that a margin holds. What is no HATS catalogue, or moves to another epoch, is sorted into one beside the
answer first, ids and positions alone. Runs on this machine's threads; inside `with dask.distributed.Client(…):` it runs
on that cluster. Plan for some five seconds of compilation in each process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omnisky.errors import BadValue, CorruptFile, MissingExtra, MissingModality, ObservationError
from omnisky.observe.hats import Hats
from omnisky.observe.hats_write import write_hats
from omnisky.observe.match import Pairs, all_pairs, checked_radius, mutual, nearest
from omnisky.observe.opened import moves, opened, placed
from omnisky.storage import atomic

_KINDS = (nearest, mutual, all_pairs)
_ROW_GROUP = 1 << 16
"""of positions alone, which are all read"""


def crossmatch_hats(
    left: str | Path,
    right: str | Path,
    radius_arcsec: float,
    out: str | Path,
    *,
    pairs: Pairs = nearest,
    epoch_yr: float | None = None,
    object_id: str | tuple[str, str] = "object_id",
) -> int:
    """Match two catalogues as `omnisky.crossmatch` does, by `nearest`, `mutual` or `all_pairs`; returns how many pairs.

    `left` and `right` are paths or addresses of all that `omnisky.read` opens; of these only ids and positions are read
    and, with `epoch_yr`, proper motions. `out` becomes a HATS catalogue with the columns object_id_left, ra_left,
    dec_left, object_id_right, ra_right, dec_right (deg) and _dist_arcsec. `object_id` is the column of ids of HATS
    catalogues, one name for both or one each; it names those columns of `out` too. For all that was measured of the
    pairs there is `observe.matched_hats`.

    The margin of a HATS catalogue must reach as far as the radius on the right side, twice as far on the left one if
    `mutual`. Raises MissingExtra, BadValue (radius, pairs, a folder in use), MissingModality (no such column, no
    motion), ObservationError (margin, no sky in common), CorruptFile, StorageError.
    """
    demand_lsdb(radius_arcsec, pairs)
    out = Path(out).expanduser()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise BadValue("out", saw=f"{out} with other things in it", want="a new or empty folder")
    return write_pairs_by_lsdb(Sides.of((left, right), epoch_yr, object_id), radius_arcsec, out, pairs=pairs)


def demand_lsdb(radius_arcsec: float, pairs: Pairs) -> None:
    """Raises MissingExtra, BadValue, before anything is read."""
    checked_radius(radius_arcsec)
    if pairs not in _KINDS:
        raise BadValue("pairs", saw=pairs, want="nearest, mutual or all_pairs")
    try:
        import lsdb  # noqa: F401
    except ImportError as error:
        raise MissingExtra("HATS catalogues are matched by LSDB", hint="pip install 'omnisky[hats]'") from error


@dataclass(frozen=True, eq=False)
class Sides:
    """Two catalogues to match, opened."""

    paths: tuple[str | Path, str | Path]
    held: tuple[Any, Any]
    """as `observe.opened.opened` gives them"""
    epochs_yr: tuple[float | None, float | None]
    """Julian year to which a side is moved; None: not at all"""
    ids: tuple[str, str]
    """columns of ids, where a side is a HATS catalogue"""

    @classmethod
    def of(
        cls, paths: tuple[str | Path, str | Path], epoch_yr: float | None, object_id: str | tuple[str, str]
    ) -> Sides:
        """Raises MissingModality where there is an epoch and no side with proper motions."""
        held = opened(paths[0]), opened(paths[1])
        first, second = (epoch_yr if epoch_yr is not None and moves(side) else None for side in held)
        if epoch_yr is not None and first is None and second is None:
            raise MissingModality("no proper motions", saw="none on either side", want="pmra, pmdec, ref_epoch")
        ids = (object_id, object_id) if isinstance(object_id, str) else object_id
        return cls(paths, held, (first, second), ids)

    @property
    def as_they_are(self) -> tuple[bool, bool]:
        """True for a side that LSDB reads itself; the other kind is sorted into a HATS catalogue first."""
        first, second = (
            isinstance(side, Hats) and year is None for side, year in zip(self.held, self.epochs_yr, strict=True)
        )
        return first, second

    @property
    def columns(self) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
        """Those of ids, right ascension and declination, in what LSDB reads."""
        left, right = (
            (name, *side.position) if own else ("object_id", "ra", "dec")
            for name, side, own in zip(self.ids, self.held, self.as_they_are, strict=True)
        )
        return left, right


def write_pairs_by_lsdb(sides: Sides, radius_arcsec: float, out: Path, *, pairs: Pairs, numbered: bool = False) -> int:
    """What `crossmatch_hats` writes; `numbered`: the ids of a side that is sorted first are the numbers of its rows."""
    import lsdb

    from omnisky.observe.match_lsdb import Chosen, Returned, place_of

    reaches = (2 * radius_arcsec if pairs is mutual else 0.0, radius_arcsec)
    left, right = sides.paths
    with _openable(sides, reaches, out, numbered) as paths, atomic(out) as draft:
        here, there = (_catalogue(lsdb, *side) for side in zip(paths, sides.columns, reaches, strict=True))
        match = partial(_matched, left=left, right=right)
        found = match(here, there, Chosen(nearest if pairs is mutual else pairs, radius_arcsec), ("_left", "_right"))
        if pairs is mutual:  # of whom is the right one of each pair nearest?
            names = list(found.columns)
            found = match(found, here, Returned(radius_arcsec, place_of(here), place_of(there)), ("", "_again"))[names]
        found.write_catalog(draft, catalog_name=out.name, as_collection=False, progress_bar=False, error_if_empty=False)
    return int(lsdb.open_catalog(out).hc_structure.catalog_info.total_rows or 0)


@contextmanager
def _openable(sides: Sides, reaches: tuple[float, float], out: Path, numbered: bool) -> Iterator[list[str | Path]]:
    """Where LSDB can open them: HATS catalogues as they are; others, and such that move, as new ones, for now."""
    if all(sides.as_they_are):
        yield list(sides.paths)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}.", suffix=".draft", dir=out.parent) as scratch:
        paths = list(sides.paths)
        for i, name in enumerate(("left", "right")):
            if not sides.as_they_are[i]:
                paths[i] = Path(scratch) / name
                pieces = placed(sides.held[i], sides.epochs_yr[i], numbered=numbered)
                write_hats(pieces, paths[i], margin_arcsec=max(reaches[i], 1.0), row_group=_ROW_GROUP)
        yield paths


def _catalogue(lsdb: Any, path: str | Path, columns: tuple[str, str, str], reach_arcsec: float) -> Any:
    """Ids and positions, not yet read. Raises ObservationError where the margin does not reach."""
    try:
        names = lsdb.open_catalog(path).hc_structure.schema.names
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CorruptFile(str(path), saw=error, want="a HATS catalogue or collection") from error
    if columns[0] not in names:
        raise MissingModality(str(path), saw=tuple(names), want=columns[0], hint="object_id=…, the column that names")
    catalogue = lsdb.open_catalog(path, columns=list(columns))
    margin = 0.0
    if catalogue.margin is not None:
        margin = float(catalogue.margin.hc_structure.catalog_info.margin_threshold)
    if margin < reach_arcsec:
        raise ObservationError(
            f"{path}: pairs across partition borders would be lost",
            saw=f"a margin of {margin:g} arcsec" if margin else "no margin",
            want=f"{reach_arcsec:g} arcsec or more",
            hint="a smaller radius, the sides exchanged, or the catalogue written with a wider margin",
        )
    return catalogue


def _matched(one: Any, other: Any, how: Any, suffixes: tuple[str, str], left: str | Path, right: str | Path) -> Any:
    method = "all_columns" if suffixes[0] else "overlapping_columns"
    try:
        return one.crossmatch(
            other, algorithm=how, suffixes=suffixes, suffix_method=method, require_right_margin=True, log_changes=False
        )
    except RuntimeError as error:
        if "do not overlap" not in str(error):
            raise
        raise ObservationError(f"{left} and {right} have no sky in common", saw="no partition of both") from error
