"""Observations → a HATS collection by several processes: by hats-import, on Dask (extra "hats").

The content is that of `observe.hats_write`, partition by partition, for catalogues whose sorting is too long for one
process. Columns are those of `observe.arrow`: tensors, lists and what they mean go through hats-import unchanged. Its
margins are those of the neighbouring cells as HATS wants them, of another width, and hold all within the threshold too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from omnisky.errors import BadValue, CorruptFile, MissingExtra, ObservationError
from omnisky.observe.arrow import to_arrow
from omnisky.observe.hats import Hats
from omnisky.observe.hats_write import (
    FINISHED,
    PARTITION_BYTES,
    ROW_GROUP,
    refuse_lost,
    refuse_settings,
    rows_in,
)
from omnisky.observe.pieces import Files, Pieces, begin, finish, open_arrow, spill
from omnisky.observe.place import DEPTH
from omnisky.observe.schema import layout_in, schema_of
from omnisky.storage import atomic, recover

_DEEPEST = 10
"""order of the smallest partitions: each process counts all cells of this order, which takes 100 MB"""
_AT_ONCE = 1024


def import_hats(
    pieces: Pieces,
    folder: str | Path,
    *,
    name: str = "",
    max_rows: int | None = None,
    margin_arcsec: float = 10.0,
    row_group: int = ROW_GROUP,
    workers: int = 2,
) -> Hats:
    """Write all objects as a HATS collection, and open it: as `write_hats`, by `workers` processes of this machine, or
    on the cluster of `with dask.distributed.Client(…):`, which must see the same disk. Needs up to three times their
    size on disk while it works.

    Called again after it was killed, with the same input and settings, it goes on. Raises what `write_hats` raises, and
    MissingExtra.
    """
    folder = Path(folder).expanduser().absolute()
    name = name or folder.name
    refuse_settings(max_rows, margin_arcsec, row_group)
    if workers < 1:
        raise BadValue("workers", saw=workers, want="1 or more")
    try:
        from hats_import import CollectionArguments, pipeline_with_client
    except ImportError as error:
        raise MissingExtra("several processes sort by hats-import", hint="pip install 'omnisky[hats]'") from error
    told = {"name": name, "max_rows": max_rows, "margin_arcsec": margin_arcsec, "row_group": row_group}
    scratch = begin(folder, told | {"by": "hats-import"}, FINISHED)
    if scratch is None:
        return Hats(folder)
    spilled = spill(pieces, scratch)
    refuse_lost(spilled)
    schema = scratch / "schema.parquet"
    recover(schema)
    with atomic(schema) as draft:
        pq.write_metadata(schema_of(spilled.layout), draft)
    try:
        job = CollectionArguments(
            output_artifact_name=folder.name,
            output_path=folder.parent,
            tmp_dir=scratch,
            progress_bar=False,
            row_group_kwargs={"num_rows": row_group},
        )
        job.catalog(
            output_artifact_name=name,
            input_file_list=[str(path) for path in spilled.paths],
            file_reader=SpilledReader(str(schema)),
            use_schema_file=schema,
            use_healpix_29=True,
            addl_hats_properties={"hats_col_healpix": "_healpix_29", "hats_col_healpix_order": DEPTH},
            highest_healpix_order=_DEEPEST,
            pixel_threshold=max_rows or rows_in(PARTITION_BYTES, spilled),
            drop_empty_siblings=False,
            expected_total_rows=len(spilled),
        )
        margin = f"{name}_{margin_arcsec:g}arcs"
        job.add_margin(margin_threshold=margin_arcsec, is_default=True, output_artifact_name=margin)
        with ExitStack() as stack:
            pipeline_with_client(job, _client(stack, workers))
    except (ValueError, RuntimeError, OSError) as error:
        hint = "larger partitions (max_rows), another name, room on the disk; called again it goes on"
        raise ObservationError(f"hats-import stopped at {folder}", saw=error, hint=hint) from error
    finish(scratch)
    return Hats(folder)


@dataclass(frozen=True)
class SpilledReader:
    """What hats-import reads with: one spilled file, as tables of the schema that all files have in common."""

    schema: str
    """a Parquet file of that schema, without rows"""

    def read(self, input_file: Any, read_columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Some rows at a time; with `read_columns` these alone."""
        path = Path(str(input_file))
        batch = open_arrow(path)
        if read_columns is not None and set(read_columns) <= set(batch.schema.names):
            yield pa.Table.from_batches([batch.select(read_columns)])
            return
        layout = layout_in(pq.read_schema(self.schema))
        if layout is None:
            raise CorruptFile(self.schema, saw="no layout", want="a schema of Omnisky")
        rows = Files([path], [batch.num_rows], layout)
        for start in range(0, len(rows), _AT_ONCE):
            yield pa.Table.from_batches([to_arrow(rows.take(slice(start, start + _AT_ONCE)), layout)])


def _client(stack: ExitStack, workers: int) -> Any:
    """The one there is, or one of our own, closed with the stack."""
    from distributed import Client, LocalCluster, get_client

    try:
        return get_client()
    except ValueError:
        cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
        return stack.enter_context(Client(stack.enter_context(cluster)))
