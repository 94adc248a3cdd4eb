"""AstroPT's published sizes (Smith et al. 2024, arXiv:2405.14930, table 1) and our own small ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from omnisky.codec.patch import SpiralPatches
from omnisky.codec.shape import Moments, Rings
from omnisky.codec.stretch import Asinh, Linear
from omnisky.model.autoregressive import AutoregressiveConfig, PrefixConfig
from omnisky.model.junction import Modality
from omnisky.model.transformer import CoreConfig
from omnisky.observe.loader import random_turns
from omnisky.train.config import Run
from omnisky.train.optim import AdamW

SIZES = {
    "1m": (4, 8, 128, 1e-3),
    "5m": (6, 8, 256, 1e-3),
    "12m": (6, 8, 384, 1e-3),
    "21m": (6, 8, 512, 1e-3),
    "89m": (12, 12, 768, 6e-4),
    "309m": (24, 16, 1024, 3e-4),
    "830m": (16, 8, 2048, 3e-4),
    "2100m": (26, 32, 2560, 1.6e-4),
}
"""name → depth, heads, width, peak learning rate; the names count v1 parameters without the position table"""


def published(size: str, tokeniser: str = "aim") -> AutoregressiveConfig:
    """One of the eight sizes: 16-px patches of 3 bands, up to 1024 tokens (512 px)."""
    depth, heads, width, _ = SIZES[size]
    return AutoregressiveConfig(
        core=CoreConfig(width=width, depth=depth, heads=heads),
        modalities=(Modality(name="images", width=16 * 16 * 3),),
        context=1024,
        tokeniser=tokeniser,
    )


def astropt(size: str) -> Run:
    """The published training: 320 galaxies a step, 2000 steps of warm-up, cosine to a tenth at 29,700, 30,000 steps."""
    peak = SIZES[size][-1]
    return Run(
        name=f"astropt-{size}",
        model=published(size),
        codecs=(SpiralPatches(patch_size=16, bands=("red", "green", "blue"), standardised=True),),
        steps=40_000 if size == "2100m" else 30_000,
        batch=320,
        accumulate=20 if size == "2100m" else 40,
        optim=AdamW(peak=peak, warmup=2000, decay_until=29_700, floor=0.1, weight_decay=0.1),
        judge_every=1000,
        save_every=1000,
    )


GALAXY_COLOURS = Linear(centre=(26.0, 22.0, 17.0), scale=(36.0, 31.0, 26.0))
"""mean and standard deviation of Galaxy Zoo 2's 8-bit red, green and blue, measured on its 24,759 images"""


GALAXY_PATCHES = SpiralPatches(patch_size=8, bands=("red", "green", "blue"), stretch=Asinh(softening=(12.0,)))
"""64-px colour galaxies as 64 patches; 12 of 255 is a few times the noise of their sky"""

PATCH = Modality(name="images", width=8 * 8 * 3)

GALAXY_RINGS = Rings(
    bands=("red", "green", "blue"),
    softening=12.0,
    # colours, contrast; then, for modes 1 … 6: strength, cosine, sine
    centre=(2.5, 2.4, 2.2, 0.6, *(-2.5,) * 6, *(0.6, 0.6, 0.3, 0.3, 0.1, 0.1), *(0.1,) * 6),
    scale=(1.0, 1.0, 0.9, 0.35, *(0.5,) * 6, *(0.4, 0.4, 0.3, 0.3, 0.2, 0.2), *(0.15,) * 6),
)
"""the rings of 64-px colour galaxies; centre and scale are rounded means and spreads of Galaxy Zoo 2's images"""

GALAXY_CIRCLES = replace(GALAXY_RINGS, face_on=False, name="rings_on_sky")
"""the same along circles: how flat the galaxy is seen, ring by ring"""

GALAXY_MOMENTS = Moments(
    bands=("red", "green", "blue"),
    softening=12.0,
    centre=(-2.2, 0.16, 0.01, 8.1, -1.8, 0.23, 0.01, 8.7, -1.6, 0.25, 0.02, 9.1, 0.8, 0.46, 1.24, 1.11, 0.96),
    scale=(0.06, 0.16, 0.004, 0.3, 0.07, 0.18, 0.008, 0.36, 0.08, 0.16, 0.02, 0.39, 0.14, 0.19, 0.33, 0.3, 0.32),
)
"""likewise their moments"""


def nano() -> Run:
    """`omnisky-nano`, the model that ships with the package: 64-px colour galaxies as patches, moments and rings.

    The patches come first, so the model also learns to tell a galaxy's measured shape from its pixels.
    """
    return Run(
        name="astropt-nano",
        model=PrefixConfig(
            core=CoreConfig(width=256, depth=6, heads=4, activation="gelu"),
            modalities=(
                replace(PATCH, weight=10.0),
                Modality(name="moments", width=17, weight=0.25),
                Modality(name="rings", width=22),
                Modality(name="rings_on_sky", width=22),
            ),
            context=64,
            tokeniser="affine",
        ),
        codecs=(GALAXY_PATCHES, GALAXY_MOMENTS, GALAXY_RINGS, GALAXY_CIRCLES),
        augment=random_turns,
        held_out=0.2,
        steps=1800,
        batch=128,
        optim=AdamW(peak=1e-3, warmup=100, floor=0.02, weight_decay=0.05),
        mean_decay=0.999,
        workers=1,
    )


RECIPES: dict[str, Callable[[], Run]] = {f"astropt-{size}": partial(astropt, size=size) for size in SIZES}
RECIPES["astropt-nano"] = nano
