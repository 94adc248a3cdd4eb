"""Supervised yardsticks."""

from __future__ import annotations

from collections.abc import Callable

from omnisky.codec.patch import RasterPatches
from omnisky.codec.scalar import ClassIds
from omnisky.model.baseline import SmallCNNConfig
from omnisky.observe.loader import random_turns
from omnisky.recipes.astropt import GALAXY_COLOURS
from omnisky.train.config import Run
from omnisky.train.optim import AdamW


def galaxy_cnn(classes: int = 5) -> Run:
    """A small CNN on classes (Galaxy Zoo 2 has five): 64-px colour images, turned and mirrored at random."""
    return Run(
        name="galaxy-cnn",
        model=SmallCNNConfig(classes=classes),
        codecs=(
            RasterPatches(patch_size=1, bands=("red", "green", "blue"), stretch=GALAXY_COLOURS, name="pixels"),
            ClassIds(column="class", classes=classes),
        ),
        augment=random_turns,
        held_out=0.1,
        steps=3000,
        batch=128,
        optim=AdamW(peak=2e-3, warmup=200, floor=0.01, weight_decay=0.05, betas=(0.9, 0.99)),
        workers=1,
    )


RECIPES: dict[str, Callable[[], Run]] = {"galaxy-cnn": galaxy_cnn}
