"""A HATS catalogue of observations → a HATS catalogue of their embeddings, partition by partition, by any engine.

    OUT/dataset/Norder=k/Dir=d/Npix=p.parquet    object_id, ra, dec, _healpix_29, embedding; those of the input, each
    OUT/hats.properties                          written last: its being there says that all the rest is

`as_table` is all that is ever computed: observations in, an Arrow table out. Around it, `embed_partition` reads one
partition and writes one file, whole or not at all, and does nothing where that file is; so the engines
(`embed.engines`) may do it anywhere, in any order, and again. `lsdb.open_catalog(OUT)` and `Embedding.load(OUT)` open
what is made. Partitions are read by `observe.hats` also on a Dask cluster: through a data frame, layouts would be lost.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq

from omnisky.embed.engines import Engine, Local
from omnisky.embed.vectors import Embedder, Embedding, Watch
from omnisky.errors import BadValue, ObservationError, ProvenanceError
from omnisky.model import store
from omnisky.observe.hats import Hats, Partition
from omnisky.observe.hats_write import describe
from omnisky.observe.pieces import begin, finish
from omnisky.observe.sky import cells
from omnisky.observe.types import Observation
from omnisky.storage import atomic, recover
from omnisky.train.devices import here

_FINISHED = "hats.properties"
_SOON = 0.2
"""seconds between two looks at what other ranks have done"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What there is to do: small, and the same in every process."""

    model: str
    """a shipped model, a folder, or a Hub repository: each process loads it once"""
    source: Hats
    folder: Path
    part: str | None = None
    blocks: int | None = None
    batch: int = 64
    precision: str = "fp32"
    signature: str = ""
    width: int = 0

    def file(self, partition: Partition) -> Path:
        """Where a partition's embeddings go."""
        return self.folder / "dataset" / f"{partition.path}.parquet"


@dataclass(frozen=True, kw_only=True)
class Done:
    """A partition that is embedded."""

    partition: Partition
    objects: int
    seconds: float
    """reading, embedding and writing; 0 where it was there already"""
    worker: str
    """host:process"""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one call of `embed_hats` did."""

    folder: Path
    done: tuple[Done, ...]
    """by this process, or by its workers, those included that were there already"""
    seconds: float
    """from the first partition begun to the last one ended"""

    @property
    def objects(self) -> int:
        return sum(one.objects for one in self.done)

    def rates(self) -> dict[str, float]:
        """Objects a second of each worker, over the time that it worked."""
        busy: dict[str, list[Done]] = {}
        for one in self.done:
            if one.seconds:
                busy.setdefault(one.worker, []).append(one)
        return {name: sum(d.objects for d in dones) / sum(d.seconds for d in dones) for name, dones in busy.items()}

    def overhead(self) -> float:
        """The share of the workers' time in which none of this was done: starting, loading the model, waiting."""
        return 1 - sum(one.seconds for one in self.done) / (self.seconds * max(len(self.rates()), 1))


def as_table(make: Embedder, batches: Iterable[Observation], width: int) -> pa.Table:
    """Observations → object_id, ra, dec, _healpix_29, embedding: the same answer wherever it is called, also to none.

    Raises what the model's codecs raise of bad observations.
    """
    tables = [_columns(make(seen)) for seen in batches]
    return pa.concat_tables(tables) if tables else schema_of(width, make.signature).empty_table()


def schema_of(width: int, signature: str) -> pa.Schema:
    """Of what `as_table` makes."""
    fields = {"object_id": pa.string(), "ra": pa.float64(), "dec": pa.float64(), "_healpix_29": pa.int64()}
    fields |= {"embedding": pa.list_(pa.float32(), width)}
    return pa.schema(list(fields.items()), metadata={"omnisky_signature": signature})


def embed_hats(  # noqa: PLR0913 - as many settings as `embed`, and two places
    model: str | Path,
    source: Hats,
    out: str | Path,
    *,
    engine: Engine | None = None,
    part: str | None = None,
    blocks: int | None = None,
    batch: int = 64,
    precision: str = "fp32",
    watch: Watch | None = None,
) -> Report:
    """The embeddings of all objects of a catalogue, or of a selection of it, as a HATS catalogue with its partitions.

    `engine`: None or `Local()`, `Ranks()`, `Cluster(workers=2)`; the answer is the same. One object is embedded first,
    here: what does not fit is refused before a cluster starts. Called again after it was killed, it goes on. `watch`
    is told (partitions done, partitions in all).

    Raises ObservationError (no objects), BadValue (a folder with other things in it, or begun otherwise),
    ProvenanceError (it was made by another model, or the model changed meanwhile), StorageError, UnknownModel.
    """
    engine = Local() if engine is None else engine
    folder = Path(out).expanduser().absolute()
    job = Job(
        model=str(model), source=source, folder=folder, part=part, blocks=blocks, batch=batch, precision=precision
    )
    job, start = _tried(job), time.perf_counter()
    if not _begun(job, engine):
        return Report(folder=folder, done=(), seconds=0.0)
    done = []
    for one in engine(partial(embed_partition, job), source.partitions):
        done.append(one)
        if watch is not None:
            watch(len(done), len(source.partitions))
    if engine.leads:
        _close(job)
    return Report(folder=folder, done=tuple(done), seconds=time.perf_counter() - start)


def embed_partition(job: Job, partition: Partition) -> Done:
    """Make its file, if it is not there. Raises ProvenanceError where the model is not the one of the job."""
    path = job.file(partition)
    worker = f"{platform.node()}:{os.getpid()}"
    recover(path)
    if path.exists():
        return Done(partition=partition, objects=pq.read_metadata(path).num_rows, seconds=0.0, worker=worker)
    make = _embedder(job)
    if make.signature != job.signature:
        saw = f"{make.signature} on {worker}"
        raise ProvenanceError(f"{job.model} is not the same everywhere", saw=saw, want=job.signature)
    start = time.perf_counter()
    table = as_table(make, job.source.batches_in(partition, job.batch), job.width)
    with atomic(path) as draft:
        pq.write_table(table, draft)
    return Done(partition=partition, objects=table.num_rows, seconds=time.perf_counter() - start, worker=worker)


# --- on the way ---------------------------------------------------------------------------------------------------

_ONE_AT_A_TIME = Lock()


def _embedder(job: Job) -> Embedder:
    """This process's own, made when first asked for."""
    with _ONE_AT_A_TIME:  # threads of one worker share it
        return _made(job.model, job.part, job.blocks, job.precision)


@lru_cache(maxsize=1)
def _made(model: str, part: str | None, blocks: int | None, precision: str) -> Embedder:
    loaded = store.load(model).to(here().device)
    return Embedder(loaded, part=part, blocks=blocks, precision=precision)


def _tried(job: Job) -> Job:
    """With the signature and the width, known from one object."""
    first = next(job.source.batches(1), None)
    if first is None:
        raise ObservationError(f"nothing to embed in {job.source.path}", saw="no objects", want="one or more")
    if job.batch < 1:
        raise BadValue("batch", saw=job.batch, want="1 or more")
    _made.cache_clear()  # a folder may hold another model than when it was last asked for
    found = _embedder(job)(first)
    return replace(job, signature=found.signature, width=found.vectors.shape[1])


def _begun(job: Job, engine: Engine) -> bool:
    """False if all is done already."""
    started = (job.folder / ".scratch" / "job.json", job.folder / _FINISHED)
    while not engine.leads and not any(one.exists() for one in started):
        time.sleep(_SOON)
    settings = {"source": repr(job.source), "signature": job.signature, "part": job.part}
    if begin(job.folder, settings, _FINISHED) is not None:
        return True
    made_by = Hats(job.folder).properties.get("omnisky_signature")
    if made_by != job.signature:
        raise ProvenanceError(
            f"{job.folder} was made otherwise", saw=job.signature, want=made_by, hint="another folder"
        )
    return False


def _close(job: Job) -> None:
    """Wait for the others, then say that the catalogue is complete."""
    partitions = job.source.partitions
    while not all(job.file(one).exists() for one in partitions):
        time.sleep(_SOON)
    for one in partitions:
        recover(job.file(one))
    about = {
        "dataproduct_type": "object",
        "hats_nrows": sum(pq.read_metadata(job.file(one)).num_rows for one in partitions),
        "omnisky_model": job.model,
        "omnisky_signature": job.signature,
    }
    describe(job.folder, partitions, schema_of(job.width, job.signature), about)
    finish(job.folder / ".scratch")


def _columns(found: Embedding) -> pa.Table:
    table = found.table()
    cell = cells(Observation(found.object_id, found.ra, found.dec), 29)
    return table.add_column(3, "_healpix_29", pa.array(cell))
