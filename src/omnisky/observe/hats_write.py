"""Observations → a HATS collection: Parquet by HEALPix cell, sorted within, and a margin; `lsdb.open_catalog` opens it.

    folder/collection.properties            written last: its being there says that all the rest is
    folder/NAME/                            the catalogue
        hats.properties, partition_info.csv
        dataset/_metadata, _common_metadata
        dataset/Norder=k/Dir=d/Npix=p.parquet
    folder/NAME_10arcs/                     objects within 10″ of a partition, and not in it, for cross-matches; also of
                                            empty cells, where another catalogue may have objects

A partition is the largest cell with at most `max_rows` objects. Row groups are small, because a reader of Parquet must
read whole ones. Format: IVOA Note "HATS" (2025), version 1.0. Columns are those of `observe.arrow`; LSDB shows tensors
and nested columns as such. One process writes; `observe.hats_import` has several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Integer

from omnisky import __version__
from omnisky.errors import BadValue, ObservationError
from omnisky.observe.arrow import to_arrow
from omnisky.observe.hats import Hats, Partition
from omnisky.observe.pieces import Files, Pieces, begin, finish, spill
from omnisky.observe.place import DEPTH
from omnisky.observe.schema import schema_of
from omnisky.storage import atomic, recover

ROW_GROUP = 64
PARTITION_BYTES = 512 << 20
FINISHED = "collection.properties"
"""what says that all the rest is there"""
_DEEPEST = 12
_PIXEL_ARCSEC = 211076.29
"""side of a HEALPix cell of order 0, were it square: sqrt(4π/12); half as much with every order"""
_MORE_ROWS = 1_000_000
"""most rows a partition may have, however small they are"""


@dataclass(frozen=True, eq=False)
class _Sorted:
    """All objects by place."""

    order: Integer[np.ndarray, " object"]
    """rows of the spilled pieces, by rising cell"""
    cell: Integer[np.ndarray, " object"]
    """of order 29, in this order"""
    partitions: tuple[Partition, ...]
    """by rising cell"""
    edges: Integer[np.ndarray, " edge"]
    """partition i has edges[i] … edges[i + 1] of the order"""
    tiles: tuple[Partition, ...]
    """the partitions and the empty cells between them: the whole sky, by rising cell"""


def write_hats(
    pieces: Pieces,
    folder: str | Path,
    *,
    name: str = "",
    max_rows: int | None = None,
    margin_arcsec: float = 10.0,
    row_group: int = ROW_GROUP,
) -> Hats:
    """Write all objects as a HATS collection, and open it. Needs twice their size on disk while it works.

    `name` is the catalogue's, by default the folder's. `max_rows` is the most that a partition may have; by default as
    many as make 512 MB. Called again after it was killed, with the same input and settings, it goes on.

    The margin holds all objects within `margin_arcsec` of a partition, and some up to a few times further away. Raises
    ObservationError (objects without a position, or none at all), BadValue (a folder with other things in it, or begun
    otherwise), StorageError, ShapeMismatch (pieces that measure alike-named parts differently).
    """
    folder = Path(folder).expanduser()
    name = name or folder.name
    settings = {"name": name, "max_rows": max_rows, "margin_arcsec": margin_arcsec, "row_group": row_group}
    refuse_settings(max_rows, margin_arcsec, row_group)
    scratch = begin(folder, settings, FINISHED)
    if scratch is None:
        return Hats(folder)
    spilled = spill(pieces, scratch)
    refuse_lost(spilled)
    limit = max_rows or rows_in(PARTITION_BYTES, spilled)
    depth = min(_DEEPEST, int(np.log2(_PIXEL_ARCSEC / (2 * margin_arcsec))))
    order = _by_place(spilled, limit, depth)
    margin = f"{name}_{margin_arcsec:g}arcs"
    for i, partition in enumerate(order.partitions):
        rows = order.order[order.edges[i] : order.edges[i + 1]]
        _write_partition(spilled, rows, folder / name / "dataset" / f"{partition.path}.parquet", row_group)
    beside = _margin(order, margin_arcsec)
    for tile, rows in beside.items():
        path = folder / margin / "dataset" / f"{tile.path}.parquet"
        _write_partition(spilled, order.order[rows], path, row_group)
    about = {"hats_max_rows": limit, "hats_nrows": len(spilled), "dataproduct_type": "object"}
    schema = schema_of(spilled.layout)
    describe(folder / name, order.partitions, schema, about)
    about = {
        "dataproduct_type": "margin",
        "hats_nrows": sum(len(rows) for rows in beside.values()),
        "hats_primary_table_url": name,
        "hats_margin_threshold": margin_arcsec,
    }
    describe(folder / margin, list(beside), schema, about)
    told = {"obs_collection": name, "hats_primary_table_url": name, "all_margins": margin, "default_margin": margin}
    _write_text(folder / FINISHED, _as_properties(told))
    finish(scratch)
    return Hats(folder)


def refuse_settings(max_rows: int | None, margin_arcsec: float, row_group: int) -> None:
    """Raises BadValue where they are none."""
    if not 0 < margin_arcsec < 3600 or row_group < 1 or (max_rows is not None and max_rows < 1):
        saw = f"margin {margin_arcsec}, row groups of {row_group}, partitions of {max_rows}"
        raise BadValue("a HATS catalogue", saw=saw, want="a margin of 0 … 3600 arcsec, and 1 or more rows")


def refuse_lost(spilled: Files) -> None:
    """Raises ObservationError where objects have no position."""
    column = spilled.core("_healpix_29")
    if column.null_count:
        (lost,) = np.nonzero(column.is_null().to_numpy())
        raise ObservationError(
            f"{len(lost)} objects without a position",
            saw=spilled.core("object_id").take(pa.array(lost[:3])).to_pylist(),
            want="ra and dec of every object",
            hint="leave them out, or write shards, which need no positions",
        )


# --- who goes where -----------------------------------------------------------------------------------------------


def _by_place(spilled: Files, limit: int, depth: int) -> _Sorted:
    cell = spilled.core("_healpix_29").to_numpy()
    order = np.argsort(cell, kind="stable")
    tiles = tuple(_split(cell[order], limit, depth))
    low, high = (
        np.searchsorted(cell[order], ends) for ends in zip(*((t.first, t.last + 1) for t in tiles), strict=True)
    )
    held = np.flatnonzero(low < high)
    return _Sorted(order, cell[order], tuple(tiles[i] for i in held), np.append(low[held], len(order)), tiles)


def _split(cell: Integer[np.ndarray, " object"], limit: int, depth: int) -> Iterator[Partition]:
    """The largest cells with at most `limit` of these (sorted) objects, or of order `depth`; they tile the sky."""
    waiting = [Partition(0, pixel) for pixel in reversed(range(12))]
    while waiting:
        one = waiting.pop()
        low, high = np.searchsorted(cell, [one.first, one.last + 1])
        if high - low <= limit or one.order >= depth:
            yield one
        else:
            waiting += [Partition(one.order + 1, 4 * one.pixel + i) for i in (3, 2, 1, 0)]


def _margin(order: _Sorted, margin_arcsec: float) -> dict[Partition, Integer[np.ndarray, " row"]]:
    """tile → places (in the order) of objects of other tiles that are near it. An empty one may be where another
    catalogue has objects, whose matches across its border would be lost without a margin.

    Near is: in one of the eight neighbours of a cell of the partition, where cells are at least twice as wide as the
    margin. That is enough, as cells are nowhere narrower than 1/1.6 of their average.
    """
    from cdshealpix.nested import neighbours

    depth = int(np.log2(_PIXEL_ARCSEC / (2 * margin_arcsec)))
    fine, which = np.unique(order.cell >> 2 * (DEPTH - depth), return_inverse=True)
    around = neighbours(fine.astype(np.uint64), depth).astype(np.int64).reshape(len(fine), -1)
    first = np.array([one.first for one in order.tiles])
    of, own = (np.searchsorted(first, one << 2 * (DEPTH - depth), side="right") - 1 for one in (around, fine))
    cells, at = np.nonzero((around >= 0) & (of != own[:, None]))
    pairs = np.unique(np.stack([of[cells, at], cells], axis=1), axis=0)
    near: dict[int, list[np.ndarray]] = {}
    by_cell = np.argsort(which, kind="stable")  # already sorted: cells rise with the order
    edges = np.searchsorted(which[by_cell], np.arange(len(fine) + 1))
    for tile, one in pairs.tolist():
        near.setdefault(tile, []).append(by_cell[edges[one] : edges[one + 1]])
    return {order.tiles[tile]: np.sort(np.concatenate(rows)) for tile, rows in near.items()}


def rows_in(size: int, spilled: Files) -> int:
    """How many objects make so many bytes."""
    each = sum(path.stat().st_size for path in spilled.paths) / len(spilled)
    return int(np.clip(size / each, 1, _MORE_ROWS))


# --- files --------------------------------------------------------------------------------------------------------


def _write_partition(spilled: Files, rows: Integer[np.ndarray, " row"], path: Path, row_group: int) -> None:
    recover(path)
    if path.exists():
        return
    schema = schema_of(spilled.layout)
    floats, others = _leaves(schema)
    with (
        atomic(path) as draft,
        pq.ParquetWriter(
            draft, schema, compression="zstd", use_dictionary=others, use_byte_stream_split=floats
        ) as writer,
    ):
        for start in range(0, len(rows), row_group):
            seen = spilled.take(rows[start : start + row_group])
            writer.write_batch(to_arrow(seen, spilled.layout), row_group_size=row_group)


def _leaves(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """Columns as Parquet counts them: floats, whose bytes are stored apart because they compress better so; others."""
    file = BytesIO()
    pq.write_table(schema.empty_table(), file)
    kinds = pq.ParquetFile(file).schema
    leaves = [kinds.column(i) for i in range(len(kinds))]
    floats = [leaf.path for leaf in leaves if leaf.physical_type in ("FLOAT", "DOUBLE")]
    return floats, [leaf.path for leaf in leaves if leaf.path not in floats]


def describe(folder: Path, partitions: Sequence[Partition], schema: pa.Schema, about: Mapping[str, object]) -> None:
    """Write all that a catalogue has beside its partitions, hats.properties last. Raises StorageError."""
    dataset = folder / "dataset"
    held = []
    for one in partitions:
        footer = pq.read_metadata(dataset / f"{one.path}.parquet")
        footer.set_file_path(f"{one.path}.parquet")
        held.append(footer)
    for name, collected in (("_common_metadata", None), ("_metadata", held or None)):
        recover(dataset / name)
        with atomic(dataset / name) as draft:
            pq.write_metadata(schema, draft, metadata_collector=collected)
    _write_text(folder / "partition_info.csv", "Norder,Npix\n" + "".join(f"{p.order},{p.pixel}\n" for p in partitions))
    sky = sum(1 / (12 * 4**one.order) for one in partitions)
    size = sum((dataset / f"{one.path}.parquet").stat().st_size for one in partitions)
    told = {
        "obs_collection": folder.name,
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": "_healpix_29",
        "hats_col_healpix_order": DEPTH,
        "hats_order": max((one.order for one in partitions), default=0),
        "hats_npix_suffix": ".parquet",
        "hats_estsize": size // 1024,
        "moc_sky_fraction": f"{sky:.6g}",
        "hats_builder": f"omnisky {__version__}",
        "hats_version": "v1.0",
        **about,
    }
    _write_text(folder / "hats.properties", _as_properties(told))


def _as_properties(told: Mapping[str, object]) -> str:
    return "#HATS catalog\n" + "".join(f"{key}={value}\n" for key, value in told.items())


def _write_text(path: Path, text: str) -> None:
    recover(path)
    with atomic(path) as draft:
        draft.write_text(text, encoding="utf-8")
