"""What tests of learned codecs share: made-up images, spectra and maps, and tiny networks."""

import numpy as np
import torch

from omnisky.codec.field import FieldCodecConfig
from omnisky.codec.image import ImageCodecConfig
from omnisky.codec.spectrum import SpectrumCodecConfig
from omnisky.observe.types import Image, Neighbours, Observation, SegmentationMap, Spectrum

IMAGE = ImageCodecConfig(hidden_dims=16, num_consecutive=1, multisurvey_projection_dims=8)
SPECTRUM = SpectrumCodecConfig(
    encoder_depths=(1, 1, 1, 1),
    encoder_dims=(4, 8, 12, 16),
    decoder_depths=(1, 1, 1, 1),
    decoder_dims=(12, 8, 4, 2),
    latent_channels=16,
    indecision=0.1,
)
FIELD = FieldCodecConfig(encoder_output_dim=16, res_hidden_dims=8, num_res_layers=1)


def alive(network: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """At random, gates and norms too: as built, much is zero, and hides what is wrong."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in network.named_parameters():
            chance = torch.randn(p.shape, generator=draw)
            if p.ndim < 2:
                p.copy_(0.1 * chance + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
            else:
                told = any(word in name for word in ("pre_quant", "quant_conv", "encode_proj"))
                p.copy_(chance * (5.0 if told else 1.5) * p[0].numel() ** -0.5)
    return network.eval()


def images(n: int = 4, size: int = 96, bands: str = "griz", seed: int = 0, noise: float = 0.02) -> Image:
    """Round galaxies, nanomaggies."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    wide = draw.uniform(2, 6, (n, 1, 1, 1)) * size / 96
    light = draw.uniform(0.2, 2, (n, len(bands), 1, 1)) * np.exp(-np.hypot(x, y) / wide)
    flux = (light + draw.normal(0, noise, light.shape)).astype(np.float32)
    return Image(flux=flux, bands=tuple(bands), ivar=np.full_like(flux, noise**-2), survey="legacysurvey")


def spectra(n: int = 4, pixels: int = 7781, seed: int = 0) -> Spectrum:
    """A slope and a line, on DESI's grid."""
    draw = np.random.default_rng(seed)
    wave = np.tile(3600 + 0.8 * np.arange(pixels, dtype=np.float64), (n, 1))
    line = np.exp(-(((wave - draw.uniform(4000, 9000, (n, 1))) / 20) ** 2)) * 20
    flux = draw.uniform(1, 10, (n, 1)) * (wave / 6000) ** draw.normal(0, 1, (n, 1)) + line
    good = draw.random(wave.shape) > 0.02
    flux = (flux + draw.normal(0, 0.5, wave.shape)).astype(np.float32)
    return Spectrum(flux=flux, ivar=np.full_like(flux, 4.0), wavelength_aa=wave, good=good, survey="desi")


def maps(n: int = 4, size: int = 96, seed: int = 0) -> dict[str, SegmentationMap | Neighbours]:
    """Two round sources each, of kinds 1 … 5."""
    draw = np.random.default_rng(seed)
    label = np.zeros((n, size, size), dtype=np.uint8)
    y, x = np.mgrid[:size, :size]
    for i in range(n):
        for k in (1, 2):
            a, b = draw.uniform(0.2 * size, 0.8 * size, 2)
            label[i][np.hypot(x - a, y - b) < draw.uniform(4, 12)] = k
    kinds = draw.integers(1, 6, (n, 2, 1)).astype(float)
    return {"segmentation": SegmentationMap(label=label), "neighbours": Neighbours(values=kinds, names=("TYPE",))}


def sky(n: int = 4, **parts: object) -> Observation:
    return Observation.of(range(n), **parts)
