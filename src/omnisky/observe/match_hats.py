"""Cross-match of catalogues that do not fit into memory: HATS folders, partition by partition, by LSDB (extra "hats").

The same pairs as `observe.match.nearest`, written as they are found; of right objects at the very same place LSDB may
choose another. Runs on this machine's threads; inside
`with dask.distributed.Client(…):` it runs on that cluster. Plan for some five seconds of compilation in each process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omnisky.errors import BadValue, CorruptFile, MissingExtra, MissingModality, ObservationError
from omnisky.observe.match import checked_radius
from omnisky.storage import atomic


def crossmatch_hats(
    left: str | Path, right: str | Path, radius_arcsec: float, out: str | Path, *, object_id: str = "object_id"
) -> int:
    """Of every left object its nearest right one within the radius; returns how many pairs there are.

    `left` and `right` are HATS catalogues or collections (folder or address); only ids and positions are read. `out`
    becomes a HATS catalogue with the columns object_id_left, ra_left, dec_left, object_id_right, ra_right, dec_right
    (deg) and _dist_arcsec. Borders of partitions are bridged by the right side's margin, which must reach as far as
    the radius. Raises MissingExtra, BadValue (radius, a folder in use), MissingModality (no such column),
    ObservationError (margin, no sky in common), CorruptFile, StorageError.
    """
    checked_radius(radius_arcsec)
    out = Path(out).expanduser()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise BadValue("out", saw=f"{out} with other things in it", want="a new or empty folder")
    try:
        import lsdb
    except ImportError as error:
        raise MissingExtra("HATS catalogues are matched by LSDB", hint="pip install 'omnisky[hats]'") from error
    sides = [_opened(lsdb, path, object_id) for path in (left, right)]
    reach = _margin_arcsec(sides[1])
    if reach < radius_arcsec:
        raise ObservationError(
            f"{right}: pairs across partition borders would be lost",
            saw=f"a margin of {reach:g} arcsec" if reach else "no margin",
            want=f"{radius_arcsec:g} arcsec or more",
            hint="a smaller radius, the sides exchanged, or the right catalogue written with a wider margin",
        )
    try:
        found = sides[0].crossmatch(
            sides[1],
            radius_arcsec=radius_arcsec,
            n_neighbors=1,
            require_right_margin=True,
            suffixes=("_left", "_right"),
            suffix_method="all_columns",
        )
    except RuntimeError as error:
        if "do not overlap" not in str(error):
            raise
        raise ObservationError(f"{left} and {right} have no sky in common", saw="no partition of both") from error
    with atomic(out) as draft:
        found.write_catalog(
            draft,
            catalog_name=out.name,
            as_collection=False,
            progress_bar=False,
            error_if_empty=False,
        )
    return int(lsdb.open_catalog(out).hc_structure.catalog_info.total_rows or 0)


def _opened(lsdb: Any, path: str | Path, object_id: str) -> Any:
    """Ids and positions of a catalogue, not yet read."""
    try:
        info = lsdb.open_catalog(path).hc_structure
        place = [info.catalog_info.ra_column, info.catalog_info.dec_column]
        names = info.schema.names
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CorruptFile(str(path), saw=error, want="a HATS catalogue or collection") from error
    if object_id not in names:
        raise MissingModality(str(path), saw=tuple(names), want=object_id, hint="object_id=…, the column that names")
    return lsdb.open_catalog(path, columns=[object_id, *place])


def _margin_arcsec(catalogue: Any) -> float:
    if catalogue.margin is None:
        return 0.0
    return float(catalogue.margin.hc_structure.catalog_info.margin_threshold)
