"""Batch embedding of a HATS catalogue by `omnisky-nano`: engines beside the bare model, and what each worker does.

Everybody embeds the same 64-pixel galaxies in the same batches, and answers with a sum over each vector. "bare" is
`omnisky.embed` of what is in memory already; "local" reads partitions, embeds and writes them, in one process; "lsdb"
does so in two, on a Dask cluster that is up, if LSDB is installed here (extra `hats`). Processes get one thread each.
Rates and overheads of workers:

    python -m benchmarks.batch 400 2        # objects, workers
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import harness
from benchmarks.harness import Comparison, Job, Worker, versions_here

if TYPE_CHECKING:
    from omnisky.observe.types import Observation

OBJECTS, QUICK, PARTITION, BATCH, WORKERS = 400, 32, 50, 32, 2
MODEL = "omnisky-nano"


def comparisons(quick: bool = False) -> Iterator[Comparison]:
    """All of them; `quick` ones are smaller and prove only that everything runs."""
    n = QUICK if quick else OBJECTS
    clusters = [("lsdb", "local")] if find_spec("lsdb") else []
    for ours, theirs in [("local", "bare"), *clusters]:
        yield Comparison(
            name=f"catalogue/{ours}{WORKERS if ours == 'lsdb' else ''}-{n}-over-{theirs}",
            ours=Job("ours", ours, {"n": n}),
            theirs=Job("theirs", theirs, {"n": n}),
            unit="objects",
            work=n,
            target=None,
            agree=1e-4,  # other batches, other sums
            repeats=3,
        )


def workers() -> dict[str, Worker]:
    """One process a side; Dask's are children of ours."""
    return {name: Worker(Path(sys.executable), "benchmarks.batch") for name in ("ours", "theirs")}


def versions() -> dict[str, str]:
    """Of what takes part."""
    return versions_here("omnisky", "torch", "distributed", "lsdb")


# --- the workers -------------------------------------------------------------------------------------------------


@cache
def galaxies(n: int) -> Observation:
    """Round galaxies on a noisy sky, around RA 0."""
    import numpy as np

    from omnisky.observe.types import Image, Observation

    draw = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] - 31.5
    light = 200 * np.exp(-np.hypot(x, y) / draw.uniform(2, 9, (n, 1, 1, 1))) * np.array([1, 0.8, 0.6])[:, None, None]
    flux = (light + draw.normal(10, 3, (n, 3, 64, 64))).clip(0, 255).astype(np.uint8)
    seen = Observation.of(range(n), image=Image(flux=flux, bands=("red", "green", "blue"), unit="display"))
    return replace(seen, ra=draw.uniform(-20, 20, n) % 360, dec=draw.uniform(-15, 15, n))


def catalogue(folder: Path, n: int) -> Any:
    """The same as partitions on disk, written once a process."""
    import os

    from omnisky.observe.hats import Hats
    from omnisky.observe.hats_write import write_hats

    place = folder / f"sky-{n}-{os.getpid()}"
    write_hats(galaxies(n), place, max_rows=PARTITION)
    return Hats(place)


def bare(folder: Path, n: int) -> Callable[[], Any]:
    """The model alone."""
    import omnisky
    from omnisky.model import store

    model, seen = store.load(MODEL), catalogue(folder, n).read()
    return lambda: _answer(omnisky.embed(model, seen, batch=BATCH))


def local(folder: Path, n: int) -> Callable[[], Any]:
    return _engine(folder, n, None)


def lsdb(folder: Path, n: int) -> Callable[[], Any]:
    from distributed import Client, LocalCluster

    from omnisky.embed import Cluster

    Client(LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None))
    return _engine(folder, n, Cluster())


def _engine(folder: Path, n: int, engine: Any) -> Callable[[], Any]:
    from omnisky.embed import Embedding, embed_hats

    source = catalogue(folder, n)

    def call() -> Any:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            embed_hats(MODEL, source, Path(out) / "out", engine=engine, batch=BATCH)
            return _answer(Embedding.load(Path(out) / "out"))

    return call


def _answer(found: Any) -> Any:
    """A number an object, by id."""
    return found.vectors[found.object_id.astype(int).argsort()].sum(1)


def report(n: int, workers: int) -> None:
    """What each worker did, by engine."""
    from omnisky.embed import Cluster, Local, embed_hats

    print("engine    objects/s  overhead  each worker, objects/s")
    with tempfile.TemporaryDirectory() as folder:
        source = catalogue(Path(folder), n)
        for name, engine in (("local", Local()), ("lsdb", Cluster(workers))):
            told = embed_hats(MODEL, source, Path(folder) / name, engine=engine, batch=BATCH)
            rates = ", ".join(f"{rate:.1f}" for rate in told.rates().values())
            print(f"{name:9} {told.objects / told.seconds:9.1f}  {told.overhead():8.0%}  {rates}")


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    if sys.argv[1:]:
        report(*map(int, sys.argv[1:]))
    else:
        harness.serve({"bare": bare, "local": local, "lsdb": lsdb})
