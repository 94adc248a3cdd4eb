"""A mock sky onto disk: files as the Multimodal Universe has them, cell by cell, in parallel, and again from where it
stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from omnisky.errors import BadValue, StorageError
from omnisky.observe.mmu_write import write_mmu
from omnisky.observe.mock.sky import MockSky
from omnisky.storage import atomic

RECIPE = "mock.json"
"""beside the files: what the sky is"""


def build(sky: MockSky, folder: str | Path, *, workers: int = 2) -> Iterator[Path]:
    """Write the sky; yields each cell's file as it is done, in the order of the cells. `read(folder)` reads them.

    A file that is there is not made again: a run that was killed goes on where it was. Raises StorageError where the
    folder holds another sky, or the disk is full.
    """
    if workers < 1:
        raise BadValue("workers", saw=workers, want="1 or more")
    folder = Path(folder).expanduser()
    _claim(sky, folder)
    cells = list(sky.cells())
    if workers == 1:
        yield from (_write(sky, folder, cell) for cell in cells)
        return
    # Fresh processes: GalSim and BLAS keep threads and locks that a fork would copy half-held.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_write, sky, folder, cell) for cell in cells]
        yield from (job.result() for job in jobs)


def _claim(sky: MockSky, folder: Path) -> None:
    """The recipe into the folder, or the one that is there compared."""
    recipe = json.dumps(asdict(sky), indent=1, sort_keys=True)
    path = folder / RECIPE
    if path.exists():
        if path.read_text(encoding="utf-8") != recipe:
            raise StorageError(f"{folder} holds another mock sky", want="the one asked for", hint="another folder")
        return
    with atomic(path) as draft:
        draft.write_text(recipe, encoding="utf-8")


def _write(sky: MockSky, folder: Path, cell: int) -> Path:
    rows = sky.cells()[cell]
    path = folder / f"healpix={cell}" / "001-of-001.hdf5"
    if not path.exists():
        write_mmu(sky.take(rows), folder, objects_per_file=len(rows))
    return path
