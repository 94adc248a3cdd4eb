"""What tests of several rooms share: galaxies with known truth, and models of a few thousand parameters."""

import numpy as np

from omnisky.codec.patch import SpiralPatches
from omnisky.codec.stretch import Linear
from omnisky.model.autoregressive import AutoregressiveConfig, PatchModel, PrefixConfig
from omnisky.model.junction import Modality
from omnisky.model.transformer import CoreConfig
from omnisky.observe.types import Image, Observation, Scalars

BANDS = ("red", "green", "blue")


def galaxies(n: int = 24, size: int = 16, seed: int = 0) -> Observation:
    """Elliptical Gaussians on a noisy sky; the column "class" is 0 for round ones and 1 for flat ones."""
    draw = np.random.default_rng(seed)
    kind, angle = draw.integers(2, size=n), draw.uniform(0, np.pi, n)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    u = x * np.cos(angle)[:, None, None] + y * np.sin(angle)[:, None, None]
    v = -x * np.sin(angle)[:, None, None] + y * np.cos(angle)[:, None, None]
    flat = np.where(kind, 0.3, 1.0)[:, None, None]
    light = 200 * np.exp(-(u**2 + (v / flat) ** 2) / (2 * (size / 6) ** 2))
    flux = light[:, None] * np.array([1.0, 0.8, 0.6])[:, None, None] + draw.normal(0, 3, (n, 3, size, size))
    return Observation.of(
        [f"toy-{i}" for i in range(n)],
        image=Image(flux=flux.clip(0, 255).astype(np.uint8), bands=BANDS, unit="display"),
        scalars=Scalars(values=kind[:, None].astype(float), names=("class",)),
    )


def codec(patch: int = 4) -> SpiralPatches:
    return SpiralPatches(patch_size=patch, bands=BANDS, stretch=Linear(centre=(40.0,), scale=(60.0,)))


def model(kind: type = AutoregressiveConfig, *, seed: int = 0, patch: int = 4, **more: object) -> PatchModel:
    core = CoreConfig(width=16, depth=3, heads=2)
    images = Modality(name="images", width=patch * patch * 3)
    config = kind(core=core, modalities=(images, *more.pop("others", ())), context=64, tokeniser="affine", **more)
    built = config.build(seed).eval()
    built.codecs = (codec(patch),)
    return built


KINDS = (AutoregressiveConfig, PrefixConfig)
