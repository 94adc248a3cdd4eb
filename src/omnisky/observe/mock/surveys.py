"""The mock sky as all of AION-1's surveys see it: forty modalities of each object, the middle of its pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from omnisky.observe.mock.images import needs_galsim
from omnisky.observe.mock.pairs import Ahead
from omnisky.observe.mock.photometry import needs_speclite
from omnisky.observe.mock.population import Population
from omnisky.observe.mock.sky import MockSky
from omnisky.observe.shards import Shards, write_shards
from omnisky.observe.types import Image, Observation, Part, SegmentationMap, Spectrum

SIDE_PX = 96
"""what AION's codecs of images read"""
KEPT = (
    *("image", "image_hsc", "spectrum", "spectrum_sdss", "bp", "rp"),
    *("scalars", "neighbours", "segmentation", "truth", "lines"),
)


def all_surveys(objects: int, *, seed: int = 6, faintest_r_mag: float = 19.5, stars: float = 0.1) -> MockSky:
    """Legacy Survey and HSC, DESI and SDSS, Gaia. Cells are small, so that a tenth of the sky is many of them."""
    return MockSky(
        objects=objects,
        population=Population(seed=seed, faintest_r_mag=faintest_r_mag, stars=stars),
        cameras=("legacysurvey", "hsc"),
        spectrographs=("desi", "sdss"),
        gaia_xp=True,
        objects_per_cell=64,
    )


def middle(seen: Observation) -> Observation:
    """The middle 96 pixels of pictures and maps, and what codecs do not read left out. Neighbours keep their X and Y,
    counted on the whole cut-out.
    """
    return Observation(seen.object_id, seen.ra, seen.dec, {name: _cut(seen[name]) for name in KEPT if name in seen})


def _cut(part: Part) -> Part:
    if isinstance(part, SegmentationMap):
        return replace(part, label=_centre(part.label))
    if isinstance(part, Spectrum):
        return replace(part, lsf_sigma_pix=None)
    if isinstance(part, Image):
        ivar, good = (None if one is None else _centre(one) for one in (part.ivar, part.good))
        return replace(part, flux=_centre(part.flux), ivar=ivar, good=good)
    return part


def _centre(plane: np.ndarray) -> np.ndarray:
    top, left = ((size - SIDE_PX) // 2 for size in plane.shape[-2:])
    return np.ascontiguousarray(plane[..., top : top + SIDE_PX, left : left + SIDE_PX])


def write_all_surveys(
    folder: str | Path,
    objects: int,
    *,
    seed: int = 6,
    workers: int = 2,
    watch: Callable[[int, int], None] | None = None,
) -> Shards:
    """So many objects, `middle` of them, in shards: 1 MB each, twice that while writing. Killed, the same call goes on.

    Raises MissingExtra, BadValue, StorageError.
    """
    sky = all_surveys(objects, seed=seed)
    needs_speclite()
    needs_galsim()
    told = (f"mock sky, seed {seed}, r < {sky.population.faintest_r_mag}, {objects} objects, all surveys",)
    with Ahead(sky, workers, watch, middle) as pieces:
        return write_shards(pieces, folder, sources=told)
