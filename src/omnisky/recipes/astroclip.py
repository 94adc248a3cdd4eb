"""AstroCLIP's trainings (Parker et al. 2024, MNRAS 531, 4990), and small ones for two cores and the mock sky.

A model of pairs is made in three steps: `specformer-…` on spectra, `astrodino-…` on images, then `train.frozen.align`
with `astroclip-…` and both towers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from omnisky.codec.patch import RasterPatches, ScalarTokens, SpectralSections
from omnisky.codec.scalar import MagnitudeTokens
from omnisky.codec.sections import OverlappingSections
from omnisky.codec.stretch import LegacyColours
from omnisky.codec.tokens import Codec
from omnisky.model.baseline import ImageRegressorConfig, PhotometryRegressorConfig, SpectrumRegressorConfig
from omnisky.model.contrastive import ContrastiveConfig, PoolConfig, TowerConfig
from omnisky.model.first_clip import FirstClipConfig
from omnisky.model.resnet import MomentumEncoderConfig
from omnisky.model.specformer import SpecformerConfig
from omnisky.model.transformer import CoreConfig
from omnisky.model.vision import SIZES, VisionConfig, vit
from omnisky.observe.loader import random_turns
from omnisky.train.config import ModelConfig, Run
from omnisky.train.optim import AdamW

HELD_OUT = 0.2
"""share of the sky that the small trainings leave alone, for `omnisky evaluate astroclip` to test on"""

COLOURS = LegacyColours()
COLOUR_BANDS = ("z", "r", "g")

# --- spectra -----------------------------------------------------------------------------------------------------


def specformer() -> Run:
    """As published: 30,000 steps of 256 spectra in float32; the rate falls as if it were to go on to 500,000."""
    return Run(
        name="specformer",
        model=SpecformerConfig(),
        codecs=(OverlappingSections(),),
        steps=30_000,
        batch=256,
        accumulate=32,
        optim=AdamW(peak=1e-5, warmup=2000, decay_until=500_000, floor=0.0, weight_decay=0.1),
        precision="fp32",
        judge_every=1000,
        save_every=1000,
    )


SECTIONS = OverlappingSections(size=80, step=40, weighted=True)
"""194 tokens a spectrum: a quarter of the published number"""

SPECFORMER_MINI = SpecformerConfig(
    core=CoreConfig(width=192, depth=6, heads=3, bias=True, activation="gelu"),
    token_width=SECTIONS.size + 2,
    context=SECTIONS.sections + 1,
    run=12,
)
"""2.8M parameters"""


def specformer_mini() -> Run:
    """A small SpecFormer, weighted by ivar."""
    return Run(
        name="specformer-mini",
        model=SPECFORMER_MINI,
        codecs=(SECTIONS,),
        held_out=HELD_OUT,
        steps=1200,
        batch=64,
        optim=AdamW(peak=1e-3, warmup=100, floor=0.02, weight_decay=0.05),
        workers=1,
    )


# --- images ------------------------------------------------------------------------------------------------------

PATCHES = RasterPatches(patch_size=12, bands=COLOUR_BANDS, stretch=COLOURS, side=144)
"""AstroDINO's input"""

PATCHES_MINI = RasterPatches(patch_size=12, bands=COLOUR_BANDS, stretch=COLOURS, side=96)
"""the middle 25 arcsec of a Legacy Survey image, as 64 patches"""

STEM = (48, 96, 192)
"""channels of the convolutions before a small ViT, which learns faster from labels with them: dev/LOG.md"""
VISION_MINI: VisionConfig = vit(192, 6, 3, patch_size=12, grid=8, stem=STEM)
"""2.9M parameters"""


# --- pairs -------------------------------------------------------------------------------------------------------


def astroclip() -> Run:
    """The published training, with our heads: class token and positions, residuals, a scale that learns."""
    return Run(
        name="astroclip",
        model=ContrastiveConfig(
            image=TowerConfig(backbone=vit(*SIZES["large"]), pool=PoolConfig(inside=1024)),
            spectrum=TowerConfig(backbone=SpecformerConfig(), pool=PoolConfig(inside=768)),
        ),
        codecs=(PATCHES, OverlappingSections()),
        steps=25_000,
        batch=1024,
        optim=AdamW(peak=1e-4, warmup=1000, floor=0.0, weight_decay=0.05, betas=(0.9, 0.999)),
        judge_every=500,
        save_every=500,
    )


def astroclip_v1() -> Run:
    """AstroCLIP's first version: Stein's ResNet50, SpecFormer and a small head, 128 numbers.

    Images are flux as it is, as in the notebook that made the paper's model.
    """
    spectrum = PoolConfig(inside=768, width=128, hidden_dropout=0.1)
    return Run(
        name="astroclip-v1",
        model=ContrastiveConfig(
            image=MomentumEncoderConfig(),
            spectrum=TowerConfig(backbone=SpecformerConfig(), pool=spectrum),
            learns_scale=False,
        ),
        codecs=(RasterPatches(patch_size=1, bands=COLOUR_BANDS, side=96, name="pixels"), OverlappingSections()),
        steps=50_000,
        batch=512,
        optim=AdamW(peak=5e-5, warmup=0, floor=0.1, weight_decay=0.2, betas=(0.9, 0.999)),
        judge_every=500,
        save_every=500,
    )


def astroclip_first() -> Run:
    """The module that version 1 began with: convolutions on spectra, a linear layer after each network.

    Its image network stands still, so `train` wants `start=`, a model with Stein's weights in place. What is not known
    of this training is as in `astroclip_v1`.
    """
    flux = SpectralSections(size=7781, standardised=False, name="flux")
    return Run(
        name="astroclip-first",
        model=FirstClipConfig(),
        codecs=(RasterPatches(patch_size=1, bands=COLOUR_BANDS, side=96, name="pixels"), flux),
        steps=50_000,
        batch=1024,
        optim=AdamW(peak=5e-4, warmup=0, floor=1.0, weight_decay=0.0, betas=(0.9, 0.999)),
        judge_every=500,
        save_every=500,
    )


def astroclip_mini() -> Run:
    """Small heads on `specformer-mini` and `astrodino-mini`, of which the image's learns on; 6.1M parameters in all."""
    pool = PoolConfig(inside=192, width=128)
    return Run(
        name="astroclip-mini",
        model=ContrastiveConfig(
            image=TowerConfig(
                backbone=replace(VISION_MINI, core=replace(VISION_MINI.core, drop_path=0.05)), pool=pool, frozen=False
            ),
            spectrum=TowerConfig(backbone=SPECFORMER_MINI, pool=pool),
        ),
        codecs=(PATCHES_MINI, SECTIONS),
        augment=random_turns,
        held_out=HELD_OUT,
        steps=1000,
        batch=256,
        optim=AdamW(peak=1e-3, warmup=60, floor=0.02, weight_decay=0.05, betas=(0.9, 0.98)),
        workers=1,
    )


# --- yardsticks --------------------------------------------------------------------------------------------------


def targets(columns: tuple[str, ...], centre: tuple[float, ...], scale: tuple[float, ...]) -> ScalarTokens:
    """Columns to predict, standardised."""
    return ScalarTokens(columns=columns, centre=centre, scale=scale, name="targets")


REDSHIFT = targets(("Z",), (0.2,), (0.1,))
MAGNITUDES = MagnitudeTokens(columns=("FLUX_G", "FLUX_R", "FLUX_Z"), centre=(18.5,), name="photometry")


def resnet18(asked: ScalarTokens = REDSHIFT) -> Run:
    """ResNet18 on images, turned and mirrored; batches of 128 as the paper has them, a rate that falls."""
    pixels = RasterPatches(patch_size=1, bands=COLOUR_BANDS, stretch=COLOURS, side=96, name="pixels")
    return _supervised("resnet18", ImageRegressorConfig(answers=len(asked.columns)), pixels, asked)


def conv_attention(asked: ScalarTokens = REDSHIFT) -> Run:
    """Convolutions with attention on spectra."""
    flux = SpectralSections(size=7781, standardised=False, name="flux")
    return _supervised("conv-attention", SpectrumRegressorConfig(answers=len(asked.columns)), flux, asked)


def photometry(asked: ScalarTokens = REDSHIFT) -> Run:
    """A perceptron on magnitudes in g, r and z."""
    model = PhotometryRegressorConfig(answers=len(asked.columns), columns=len(MAGNITUDES.columns))
    return _supervised("photometry", model, MAGNITUDES, asked)


def _supervised(name: str, model: ModelConfig, codec: Codec, asked: ScalarTokens) -> Run:
    return Run(
        name=name,
        model=model,
        codecs=(codec, asked),
        augment=random_turns,
        held_out=HELD_OUT,
        steps=1000,
        batch=128,
        optim=AdamW(peak=1e-3, warmup=100, floor=0.01, weight_decay=0.0, betas=(0.9, 0.999), clip=0.0),
        workers=1,
    )


RECIPES: dict[str, Callable[[], Run]] = {
    "specformer": specformer,
    "specformer-mini": specformer_mini,
    "astroclip": astroclip,
    "astroclip-v1": astroclip_v1,
    "astroclip-first": astroclip_first,
    "astroclip-mini": astroclip_mini,
    "resnet18": resnet18,
    "conv-attention": conv_attention,
    "photometry": photometry,
}
