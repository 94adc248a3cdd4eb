"""Pairs of image and spectrum of a mock sky, trimmed to what small models read, as shuffled shards.

An object takes 0.2 MB here and 1 MB in the files of `build`, so that 26,000 of them fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import overload

import numpy as np

from omnisky.errors import BadValue
from omnisky.observe.mock.images import needs_galsim
from omnisky.observe.mock.photometry import needs_speclite
from omnisky.observe.mock.population import Population
from omnisky.observe.mock.sky import MockSky
from omnisky.observe.shards import Shards, write_shards
from omnisky.observe.types import Image, Observation

BANDS = ("g", "r", "z")
"""what AstroCLIP reads of the Legacy Survey"""
SIDE_PX = 112
"""the middle 29 arcsec"""
BRIGHT = Population(seed=4, faintest_r_mag=19.5, stars=0.0)
"""galaxies as DESI's bright survey has them"""
_AT_ONCE = 64
"""objects a piece: what is made again, at most, after a run was killed"""


def trimmed(seen: Observation) -> Observation:
    """The middle of the image in g, r, z, without its noise; the spectrum, the numbers and the truth."""
    image: Image = seen["image"]
    top, left = ((size - SIDE_PX) // 2 for size in image.flux.shape[-2:])
    planes = [image.bands.index(band) for band in BANDS]
    flux = image.flux[:, planes, top : top + SIDE_PX, left : left + SIDE_PX]
    blur = None if image.psf_fwhm_arcsec is None else image.psf_fwhm_arcsec[:, planes]
    small = replace(image, flux=np.ascontiguousarray(flux), bands=BANDS, ivar=None, good=None, psf_fwhm_arcsec=blur)
    kept = {name: seen[name] for name in ("spectrum", "scalars", "truth")}
    return Observation(seen.object_id, seen.ra, seen.dec, {"image": small, **kept})


def write_pairs(
    folder: str | Path,
    objects: int,
    *,
    population: Population = BRIGHT,
    workers: int = 2,
    watch: Callable[[int, int], None] | None = None,
) -> Shards:
    """So many galaxies of the mock sky, `trimmed`, in shards. Killed, the same call goes on; done, it opens them.

    Raises MissingExtra, BadValue, StorageError.
    """
    needs_speclite()
    needs_galsim()
    sky = MockSky(objects=objects, population=population)
    told = (f"mock sky, seed {population.seed}, r < {population.faintest_r_mag}, {objects} objects",)
    with Ahead(sky, workers, watch) as pieces:
        return write_shards(pieces, folder, sources=told)


class Ahead(Sequence[Observation]):
    """The pieces of a sky, made in other processes, a few before they are asked for."""

    def __init__(
        self,
        sky: MockSky,
        workers: int,
        watch: Callable[[int, int], None] | None,
        cut: Callable[[Observation], Observation] = trimmed,
    ) -> None:
        if workers < 1:
            raise BadValue("workers", saw=workers, want="1 or more")
        self.sky, self.workers, self.watch, self.cut = sky, workers, watch, cut
        self.starts = range(0, len(sky), _AT_ONCE)
        self.jobs: dict[int, Future[Observation]] = {}
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, i: int) -> Observation: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Observation]: ...
    def __getitem__(self, i: int | slice) -> Observation | Sequence[Observation]:
        if isinstance(i, slice):
            return [self[j] for j in range(len(self))[i]]
        if self.pool is None:
            # Fresh processes: GalSim and BLAS keep threads and locks that a fork would copy half-held.
            self.pool = ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"))
        for j in range(i, min(i + 2 * self.workers, len(self))):
            if j not in self.jobs:
                self.jobs[j] = self.pool.submit(_make, self.sky, self.starts[j], self.cut)
        piece = self.jobs.pop(i).result()
        if self.watch is not None:
            self.watch(min(self.starts[i] + _AT_ONCE, len(self.sky)), len(self.sky))
        return piece


def _make(sky: MockSky, start: int, cut: Callable[[Observation], Observation]) -> Observation:
    return cut(sky.take(slice(start, min(start + _AT_ONCE, len(sky)))))
