"""Tiny towers, and a toy sky where image and spectrum tell of the same colour. A module beside conftest."""

from dataclasses import replace
from typing import Any

import numpy as np
from small import BANDS

from omnisky.codec.patch import RasterPatches
from omnisky.codec.sections import Grid, OverlappingSections
from omnisky.codec.stretch import Linear
from omnisky.model.contrastive import Contrastive, ContrastiveConfig, PoolConfig, TowerConfig
from omnisky.model.specformer import SpecformerConfig
from omnisky.model.transformer import CoreConfig
from omnisky.model.vision import vit
from omnisky.observe.types import Image, Observation, Spectrum

GRID = Grid(first_aa=4000, step_aa=10, pixels=120)
PATCHES = RasterPatches(patch_size=4, bands=BANDS, stretch=Linear(centre=(1.0,), scale=(1.0,)))
SECTIONS = OverlappingSections(grid=GRID, size=10, step=5)

VISION = vit(16, 2, 2, patch_size=4, grid=4, scale_init=1.0)  # from 1e-5, blocks would do nothing yet
STEMMED = replace(VISION, stem=(6, 8, 8))
SPECFORMER = SpecformerConfig(
    core=CoreConfig(width=16, depth=2, heads=2, bias=True, activation="gelu"),
    token_width=12,
    context=30,
    runs=2,
    run=4,
)
POOL = PoolConfig(inside=16, width=8, heads=2)
CLIP = ContrastiveConfig(
    image=TowerConfig(backbone=VISION, pool=POOL), spectrum=TowerConfig(backbone=SPECFORMER, pool=POOL)
)


def sky(n: int = 8, seed: int = 0, size: int = 16) -> Observation:
    """Galaxies of one hidden number each: how red the image is, and how steep the spectrum."""
    draw = np.random.default_rng(seed)
    red = draw.uniform(-1, 1, n)
    colour = np.stack([1 + red, np.ones(n), 1 - red], 1)[:, :, None, None]
    flux = colour * draw.uniform(0.9, 1.1, (n, 1, size, size))
    wave = np.tile(GRID.wavelength_aa(), (n, 1))
    light = 3 + red[:, None] * (wave - 4600) / 300 + np.sin(wave / 40) + 0.1 * draw.normal(size=wave.shape)
    return Observation.of(
        [f"pair-{i}" for i in range(n)],
        draw.uniform(0, 360, n),
        draw.uniform(-60, 60, n),
        image=Image(flux=flux.astype(np.float32), bands=BANDS),
        spectrum=Spectrum(flux=light.astype(np.float32), wavelength_aa=wave),
    )


def clip(seed: int = 0, **more: Any) -> Contrastive:
    built = replace(CLIP, **more).build(seed).eval()
    built.codecs = (PATCHES, SECTIONS)
    return built
