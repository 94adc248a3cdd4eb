"""A mock sky onto disk: files as the Multimodal Universe has them, in parallel, and again from where it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from omnisky.errors import BadValue, StorageError
from omnisky.observe.mmu_write import write_mmu_file
from omnisky.observe.mock.images import needs_galsim
from omnisky.observe.mock.photometry import needs_speclite
from omnisky.observe.mock.sky import MockSky
from omnisky.storage import atomic

RECIPE = "mock.json"
"""beside the files: what the sky is"""
OBJECTS_PER_FILE = 128
"""what is made again, at most, after a run was killed; some 150 MB with one camera and one spectrograph"""


@dataclass(frozen=True)
class Piece:
    """One file of a sky."""

    path: Path
    index: Integer[np.ndarray, " object"]
    """the numbers of its objects, all in one cell"""


def build(sky: MockSky, folder: str | Path, *, workers: int = 2) -> Iterator[Piece]:
    """Write the sky; yields each file as it is done, in a fixed order. `read(folder)` reads them.

    The bytes do not depend on the number of workers. A file that is there is not made again: a run that was killed goes
    on where it was. Raises MissingExtra, and StorageError where the folder holds another sky or the disk is full.
    """
    if workers < 1:
        raise BadValue("workers", saw=workers, want="1 or more")
    needs_speclite()
    if sky.cameras:
        needs_galsim()
    folder = Path(folder).expanduser()
    _claim(sky, folder)
    todo = list(pieces(sky, folder))
    if workers == 1:
        yield from (_write(sky, piece) for piece in todo)
        return
    # Fresh processes: GalSim and BLAS keep threads and locks that a fork would copy half-held.
    with ProcessPoolExecutor(min(workers, len(todo)), mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_write, sky, piece) for piece in todo]
        try:
            yield from (job.result() for job in jobs)
        finally:
            pool.shutdown(cancel_futures=True)  # one that failed, or a reader that had enough, ends the others


def pieces(sky: MockSky, folder: Path) -> Iterator[Piece]:
    """The files of a sky, cell by cell."""
    for cell, index in sky.cells().items():
        parts = np.array_split(index, -(-len(index) // OBJECTS_PER_FILE))
        for number, part in enumerate(parts, 1):
            yield Piece(folder / f"healpix={cell}" / f"{number:03d}-of-{len(parts):03d}.hdf5", part)


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


def _write(sky: MockSky, piece: Piece) -> Piece:
    if not piece.path.exists():
        write_mmu_file(sky.take(piece.index), piece.path)
    return piece
