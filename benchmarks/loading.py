"""Shuffled and sequential batches of 32 from disk: our shards beside Hugging Face `datasets` and MMU-style HDF5.

An object is an image of 4 × 160 × 160 float32 and a spectrum of 7,781 pixels with flux, ivar and good: 480 kB. All
sides hold the same objects in the same order, read the same rows in the same shuffled order, and hand out one array a
field; their answers are the ids of a batch and a sum over every 37th number of each object, the same or it fails.
Files are in the page cache: this measures what reading costs, not the disk. "own MB" in a row is the most memory, above
the page cache, that each side's process has had (imports and all); ours shall stay below 300.

The ratio asked for is over datasets-loader, which is what the manual of `datasets` tells users to do: its own
Arrow files, `with_format("torch")`, a torch DataLoader in this process that asks for 32 shuffled rows at once
(`__getitems__`) and collates them its default way, just as `DataLoader(set, batch_size=32, shuffle=True)` does.

`datasets` runs in the Python that DATASETS_PYTHON names, else in .venv-datasets, which is made if there is none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

from benchmarks.harness import ROOT, Comparison, Job, Worker, environment, versions_here

DATASETS = "5.2.0"
OBJECTS, QUICK, BATCH = 5000, 200, 32
OBJECT_BYTES = 4 * 160 * 160 * 4 + 7781 * (4 + 4 + 1)

OTHERS = {
    "shuffled": {
        "datasets-loader": ("datasets", 3.0),
        "datasets-batches": ("datasets", None),
        "datasets-stream": ("datasets", None),
        "hdf5-contiguous": ("hdf5", None),
        "hdf5-gzip": ("hdf5", None),
    },
    "sequential": {
        "datasets-batches": ("datasets", None),
        "hdf5-contiguous": ("hdf5", None),
        "hdf5-gzip": ("hdf5", None),
    },
}
"""order → the other side → its worker and the ratio asked for. -loader is a torch DataLoader over rows, as the manual
has it; -batches asks for 32 rows at once; -stream is Parquet with a shuffle buffer of 128; gzip is how MMU keeps HSC,
and contiguous how it keeps DESI"""


def comparisons(quick: bool = False) -> Iterator[Comparison]:
    """All of them; `quick` ones are smaller and prove only that everything runs."""
    n = QUICK if quick else OBJECTS
    for order, others in OTHERS.items():
        for name, (worker, target) in others.items():
            yield Comparison(
                name=f"loading/{order}-{n}-over-{name}",
                ours=Job("ours", "shards", {"n": n, "order": order}),
                theirs=Job(worker, name.replace("-", "_"), {"n": n, "order": order}),
                unit="objects",
                work=BATCH,
                moved=2 * BATCH * OBJECT_BYTES if order == "shuffled" else None,  # read, and written into a batch
                target=target,
                # The stream has an order of its own: that it hands out objects as they are is checked in its worker.
                agree=float("inf") if name == "datasets-stream" else 0.0,
                first=Job("ours", "write", {"n": n}),
                repeats=5,
            )


def workers() -> dict[str, Worker]:
    """One process a side."""
    here = Path(sys.executable)
    return {name: Worker(python, "benchmarks.stored") for name, python in _pythons(here).items()}


def versions() -> dict[str, str]:
    """Of what takes part."""
    code = "from importlib.metadata import version; print(version('datasets'))"
    found = subprocess.run([_datasets_python(), "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    return versions_here("omnisky", "pyarrow", "h5py", "torch") | {"datasets": found}


def _pythons(here: Path) -> dict[str, Path]:
    return {"ours": here, "hdf5": here, "datasets": _datasets_python()}


@cache
def _datasets_python() -> Path:
    told = os.environ.get("DATASETS_PYTHON")
    if told:
        return Path(told)
    torch = f"torch=={version('torch').partition('+')[0]}"
    return environment(ROOT / ".venv-datasets", ([torch], [f"datasets=={DATASETS}", f"numpy=={version('numpy')}"]))
