"""AION-1's tokenisers (Parker et al. 2025, arXiv:2510.17960, app. C), and small ones for two cores and the mock sky."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from omnisky.codec.field import FieldCodecConfig, FieldRows
from omnisky.codec.image import ImageCodecConfig, Planes
from omnisky.codec.light_curve import CurveRows, LightCurveCodecConfig
from omnisky.codec.spectrum import GridRows, SpectrumCodecConfig
from omnisky.codec.tokens import Codec
from omnisky.train.config import Run
from omnisky.train.optim import AdamW

# --- images ------------------------------------------------------------------------------------------------------


def codec_image() -> Run:
    """As published: Legacy Survey and HSC, 400,000 steps of 256 images. Give it twenty of the first to one."""
    config = ImageCodecConfig()
    return Run(
        name="codec-image",
        model=config,
        codecs=_planes(Planes(config=config)),
        steps=400_000,
        batch=256,
        accumulate=32,
        optim=AdamW(peak=5e-4, warmup=1000, floor=0.0, weight_decay=0.0, betas=(0.9, 0.999)),
        judge_every=2000,
        save_every=1000,
    )


IMAGE_MINI = ImageCodecConfig(
    hidden_dims=128, num_consecutive=1, multisurvey_projection_dims=24, gate=-2.0, profiled=True
)
"""2.0M parameters; as many tokens and codes as published"""
PLANES_MINI = Planes(config=IMAGE_MINI, floor=0.02)


def codec_image_mini(cut: int | None = 48) -> Run:
    """A small image codec: Legacy Survey and HSC images of the mock sky, or those of them that there are.

    It learns from the middle 48 px, a quarter of what it reads: a convolution is the same everywhere. But its gates
    weigh all of an image: light comes out 5 to 10 % too bright until `codec-image-mini-whole` goes on from here.
    """
    return Run(
        name="codec-image-mini",
        model=IMAGE_MINI,
        codecs=_planes(replace(PLANES_MINI, cut=cut)),
        steps=4500,
        batch=8,
        optim=AdamW(peak=1.5e-3, warmup=100, floor=0.01, weight_decay=0.01, betas=(0.9, 0.99)),
        judge_every=250,
        workers=1,
    )


def _planes(legacy: Planes) -> tuple[Codec, ...]:
    """And HSC's."""
    return legacy, replace(legacy, survey="hsc", part="image_hsc", name="planes_hsc")


def codec_image_mini_whole() -> Run:
    """The end of a run of `codec-image-mini`, on whole images: start it --from that one."""
    run = codec_image_mini(cut=None)
    return replace(
        run, name="codec-image-mini-whole", steps=800, batch=4, optim=replace(run.optim, peak=5e-4, warmup=20)
    )


def codec_image_mini_light() -> Run:
    """After `codec-image-mini-whole`, what draws pixels alone: start it --from that one. Ids stay as they are.

    Light of bright objects comes back, that of clipped pixels too. Skies with many of them teach it best.
    """
    model = replace(IMAGE_MINI, drawing_alone=True, photometric=True)
    run = codec_image_mini_whole()
    return replace(
        run,
        name="codec-image-mini-light",
        model=model,
        codecs=_planes(replace(PLANES_MINI, config=model, unclipped=True)),
        batch=8,
        optim=replace(run.optim, peak=8e-4, weight_decay=0.0),
    )


# --- spectra -----------------------------------------------------------------------------------------------------


def codec_spectrum() -> Run:
    """As published: 215,000 steps of 128 spectra at a constant rate."""
    config = SpectrumCodecConfig()
    return Run(
        name="codec-spectrum",
        model=config,
        codecs=(GridRows(config=config),),
        steps=215_000,
        batch=128,
        accumulate=8,
        optim=AdamW(peak=1e-4, warmup=0, floor=1.0, weight_decay=0.1, betas=(0.9, 0.999)),
        judge_every=2000,
        save_every=1000,
    )


SPECTRUM_MINI = SpectrumCodecConfig(
    encoder_depths=(2, 2, 4, 2),
    encoder_dims=(24, 48, 96, 192),
    decoder_depths=(3, 2, 2, 1),
    decoder_dims=(96, 48, 24, 2),
    latent_channels=192,
    indecision=0.1,
    profiled=True,
    crossed=0.8,
)
"""1.3M parameters; as many tokens and codes as published"""


def codec_spectrum_mini() -> Run:
    """A small spectrum codec: DESI and SDSS spectra of the same objects of the mock sky, each judged by the other."""
    return Run(
        name="codec-spectrum-mini",
        model=SPECTRUM_MINI,
        codecs=(
            GridRows(config=SPECTRUM_MINI),
            GridRows(config=SPECTRUM_MINI, part="spectrum_sdss", name="spectrum_sdss"),
        ),
        steps=2000,
        batch=16,
        optim=AdamW(peak=1e-3, warmup=100, floor=0.01, weight_decay=0.05, betas=(0.9, 0.99)),
        workers=1,
    )


# --- maps --------------------------------------------------------------------------------------------------------


def codec_field() -> Run:
    """As published: 114,000 steps of 256 maps."""
    return Run(
        name="codec-field",
        model=FieldCodecConfig(),
        codecs=(FieldRows(),),
        steps=114_000,
        batch=256,
        accumulate=8,
        optim=AdamW(peak=1e-4, warmup=1000, floor=0.0, weight_decay=0.01, betas=(0.9, 0.999)),
        judge_every=2000,
        save_every=1000,
    )


FIELD_MINI = FieldCodecConfig(encoder_output_dim=128, res_hidden_dims=64, ema_decay=0.999)
"""0.9M parameters, and as many again for their mean; as many tokens and codes as published"""


def codec_field_mini() -> Run:
    """A small codec of segmentation maps: those of the mock sky."""
    return Run(
        name="codec-field-mini",
        model=FIELD_MINI,
        codecs=(FieldRows(),),
        steps=2000,
        batch=32,
        optim=AdamW(peak=5e-4, warmup=100, floor=0.01, weight_decay=0.01, betas=(0.9, 0.99)),
        workers=1,
    )


# --- light curves ------------------------------------------------------------------------------------------------


def codec_light_curve_mini() -> Run:
    """A codec of light curves, which AION-1 lacks, for those of `omnisky mock --light-curves`."""
    config = LightCurveCodecConfig()
    return Run(
        name="codec-light-curve-mini",
        model=config,
        codecs=(CurveRows(config=config),),
        steps=3000,
        batch=64,
        optim=AdamW(peak=2e-3, warmup=100, floor=0.01, weight_decay=0.01, betas=(0.9, 0.99)),
    )


RECIPES: dict[str, Callable[[], Run]] = {
    "codec-image": codec_image,
    "codec-image-mini": codec_image_mini,
    "codec-image-mini-whole": codec_image_mini_whole,
    "codec-image-mini-light": codec_image_mini_light,
    "codec-spectrum": codec_spectrum,
    "codec-spectrum-mini": codec_spectrum_mini,
    "codec-field": codec_field,
    "codec-field-mini": codec_field_mini,
    "codec-light-curve-mini": codec_light_curve_mini,
}
