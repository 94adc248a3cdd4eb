"""AstroDINO's trainings: a vision learns galaxies without labels (Parker et al. 2024, MNRAS 531, 4990, §3.1).

What is learned is `omnisky.load("runs/…/model").encoder()`; AstroCLIP takes it as its tower of images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from omnisky.codec.patch import RasterPatches
from omnisky.model.augment import AS_RUN, PAPER, MultiCrop, View
from omnisky.model.distill import DistillConfig, Sinkhorn
from omnisky.model.vision import SIZES, vit
from omnisky.recipes.astroclip import HELD_OUT, STEM
from omnisky.train.config import Run
from omnisky.train.optim import LayerwiseAdamW

BANDS = ("z", "r", "g")
PIXELS = RasterPatches(patch_size=1, bands=BANDS, side=152, name="pixels")
"""raw nanomaggies: seeing, depth and dust belong before the stretch"""


def astrodino(views: MultiCrop = PAPER) -> Run:
    """A ViT-L/12 as published, with the views of the paper: 200 epochs of 1250 steps of 1440 galaxies."""
    batch, epoch = 1440, 1250
    peak = 2e-4 * math.sqrt(batch / 1024)
    return Run(
        name="astrodino",
        model=DistillConfig(vision=vit(*SIZES["large"], drop_path=0.3), views=views, warming=30 * epoch),
        codecs=(PIXELS,),
        steps=200 * epoch,
        batch=batch,
        optim=LayerwiseAdamW(
            peak=peak,
            warmup=32 * epoch,
            floor=1e-6 / peak,
            weight_decay=0.001,
            weight_decay_end=0.01,
            betas=(0.9, 0.999),
            clip=3.0,
            frozen=epoch,
        ),
        judge_every=epoch,
        save_every=epoch,
    )


def astrodino_as_run() -> Run:
    """Compat: with the views as the released code makes them, its chances of blur and noise turned round."""
    return replace(astrodino(AS_RUN), name="astrodino-as-run")


def astrodino_mini() -> Run:
    """A ViT of 2.8M parameters on the middle 25 arcsec, for two cores and the mock sky; small views keep the galaxy.

    With Sinkhorn–Knopp and few prototypes: with 2,048, centred, at three times the rate, it soon said the same of all.
    """
    large = View(size=96, shift=8, blur=1.0, noise=1.0)
    views = MultiCrop(
        first=large,
        second=replace(large, blur=0.1, noise=0.1),
        small=View(size=48, shift=16, blur=0.5, noise=0.5),
        small_views=4,
    )
    return Run(
        name="astrodino-mini",
        model=DistillConfig(
            vision=vit(192, 6, 3, patch_size=12, grid=8, stem=STEM, drop_path=0.05, scale_init=0.1),
            views=views,
            balance=Sinkhorn(),
            prototypes=512,
            hidden=256,
            bottleneck=64,
            momentum=0.98,
            warming=200,
        ),
        codecs=(replace(PIXELS, side=112),),
        held_out=HELD_OUT,
        steps=500,
        batch=64,
        optim=LayerwiseAdamW(
            peak=3e-4,
            warmup=50,
            floor=0.01,
            weight_decay=0.01,
            weight_decay_end=0.1,
            betas=(0.9, 0.999),
            clip=3.0,
            frozen=30,
            first=1.0,
        ),
        workers=1,
    )


RECIPES: dict[str, Callable[[], Run]] = {
    "astrodino": astrodino,
    "astrodino-as-run": astrodino_as_run,
    "astrodino-mini": astrodino_mini,
}
