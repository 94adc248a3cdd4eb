"""AION-1's tokenisers against polymathic-aion 0.0.2, published sizes, the same random weights. Targets are issue 5's.

Their side runs in an environment of its own: AION_PYTHON, or one that is made. Gates and norms are drawn too: as built,
most are zero, and nothing would be compared. Ids are compared one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.aion import AION, reference
from benchmarks.harness import Comparison, Job, Worker, versions_here

IMAGES, SPECTRA, FLUXES = 8, 16, 1_000_000
TARGETS = {"image": {"fp32": 1.5, "bf16": 3.5}, "spectrum": {"fp32": 1.5, "bf16": 3.0}}
SCALARS = 5.0
"""the target for fluxes"""
SAME = {"fp32": 5e-4, "bf16": 5e-3}
"""share of ids that may differ from theirs in float32, or it is not the same work; what it was stands in each row under
`apart`"""


def workers() -> dict[str, Worker]:
    """Ours here, theirs in its own environment, and who draws weights for both; all are this file."""
    return {
        "weights": Worker(Path(sys.executable), "benchmarks.codecs"),
        "ours": Worker(Path(sys.executable), "benchmarks.codecs"),
        "reference": Worker(reference(), "benchmarks.codecs"),
    }


def versions() -> dict[str, str]:
    """Of both sides."""
    return versions_here("omnisky", "torch") | {"polymathic-aion": AION}


def comparisons(quick: bool = False) -> Iterator[Comparison]:
    """Tokenising, in float32 on both sides, and in bfloat16 on ours alone."""
    for kind, targets in TARGETS.items():
        objects = 1 if quick else {"image": IMAGES, "spectrum": SPECTRA}[kind]
        for precision, target in targets.items():
            yield Comparison(
                name=f"codecs/{kind}-tokenise-{precision}-over-fp32",
                ours=Job("ours", f"our_{kind}", {"objects": objects, "precision": precision}),
                theirs=Job("reference", f"their_{kind}", {"objects": objects}),
                unit="images" if kind == "image" else "spectra",
                work=objects,
                target=target,
                agree=SAME[precision],
                ids=True,
                flops=objects * _flops(kind),
                precision=precision,
                first=Job("weights", f"share_{kind}", {"objects": objects}),
                repeats=3,
            )
    objects = FLUXES // 100 if quick else FLUXES
    yield Comparison(
        name="codecs/scalar-tokenise",
        ours=Job("ours", "our_scalar", {"objects": objects}),
        theirs=Job("reference", "their_scalar", {"objects": objects}),
        unit="fluxes",
        work=objects,
        target=SCALARS,
        agree=0.0,
        ids=True,
        precision="fp32",
        first=Job("weights", "share_scalar", {"objects": objects}),
        repeats=7,
    )


@cache
def _flops(kind: str) -> float:
    """Of all products and plain convolutions of the encoder for one object, counted by torch on its outline.

    Ours in float32 has fewer products (codec/bilinear.py), and may so be above the roof.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from omnisky.codec.image import ImageCodecConfig
    from omnisky.codec.spectrum import SpectrumCodecConfig

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        if kind == "spectrum":
            config = SpectrumCodecConfig()
            config.build().encoder(torch.empty(1, config.length * config.stride, 2))
        else:
            image = ImageCodecConfig()
            x = torch.empty(1, image.multisurvey_projection_dims, image.side, image.side)
            network = image.build().model
            for layer in (network.conv_in, *network.encoder_layers):
                x = layer(x)
    return float(counter.get_total_flops())


# --- the workers -------------------------------------------------------------------------------------------------


def draw(network: Any) -> dict[str, Any]:
    """Weights at random, all of them alive."""
    import torch

    draws = torch.Generator().manual_seed(0)
    state = {name: t.clone() for name, t in network.state_dict().items()}
    for name, p in network.named_parameters():
        wide = 0.3 if p.ndim < 2 else p[0].numel() ** -0.5
        state[name] = torch.randn(p.shape, generator=draws) * wide
    return state


def images(objects: int) -> np.ndarray:
    """Galaxies in noise, g r i z nanomaggies, 160 px."""
    chance = np.random.default_rng(0)
    y, x = np.mgrid[:160, :160] - 79.5
    wide = chance.uniform(2, 8, (objects, 1, 1, 1))
    light = chance.uniform(0.1, 5, (objects, 4, 1, 1)) * np.exp(-np.hypot(x, y) / wide)
    return (light + chance.normal(0, 0.02, light.shape)).astype(np.float32)


def spectra(objects: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux, ivar and wavelengths on DESI's grid."""
    chance = np.random.default_rng(0)
    wave = np.tile((3600 + 0.8 * np.arange(7781)).astype(np.float32), (objects, 1))
    flux = chance.uniform(1, 20, (objects, 1)) * (wave / 6000) ** chance.normal(0, 1, (objects, 1))
    flux = flux + 30 * np.exp(-(((wave - chance.uniform(4000, 9000, (objects, 1))) / 10) ** 2))
    return (flux + chance.normal(0, 1, wave.shape)).astype(np.float32), np.full_like(wave, 1.0), wave


def _share(folder: Path, config: Any, around: Any) -> Callable[[], None]:
    import torch

    from omnisky.codec.saved import save_codec

    def shared() -> None:
        network = config.build()
        state = draw(network)
        network.load_state_dict(state)
        codec = around(network=network.eval())
        save_codec(codec, folder / codec.name)
        torch.save(state, folder / f"{codec.name}.pt")

    return shared


def share_image(folder: Path, objects: int) -> Callable[[], None]:
    """Weights for both sides, to each as it reads them."""
    from omnisky.codec.image import ImageCodec, ImageCodecConfig

    return _share(folder, ImageCodecConfig(), ImageCodec)


def share_spectrum(folder: Path, objects: int) -> Callable[[], None]:
    """Weights for both sides, to each as it reads them."""
    from omnisky.codec.spectrum import SpectrumCodec, SpectrumCodecConfig

    return _share(folder, SpectrumCodecConfig(), SpectrumCodec)


def _ours(folder: Path, key: str, seen: Any, precision: str) -> Callable[[], Any]:
    from omnisky.codec.saved import load_codec
    from omnisky.train.devices import PRECISIONS, keep_memory

    keep_memory()
    loaded: Any = load_codec(folder / key, key)
    codec = replace(loaded, dtype=PRECISIONS[precision])
    return lambda: codec.encode(seen)[key].values


def our_image(folder: Path, objects: int, precision: str) -> Callable[[], Any]:
    """As `ImageCodec.encode` does it, from pixels on."""
    from omnisky.observe.types import Image, Observation

    seen = Observation.of(range(objects), image=Image(flux=images(objects), bands=("g", "r", "i", "z")))
    return _ours(folder, "tok_image", seen, precision)


def our_spectrum(folder: Path, objects: int, precision: str) -> Callable[[], Any]:
    """As `SpectrumCodec.encode` does it, from pixels on."""
    from omnisky.observe.types import Observation, Spectrum

    flux, ivar, wave = spectra(objects)
    seen = Observation.of(range(objects), spectrum=Spectrum(flux=flux, ivar=ivar, wavelength_aa=wave))
    return _ours(folder, "tok_spectrum_desi", seen, precision)


def their_image(folder: Path, objects: int) -> Callable[[], Any]:
    """Their codec's `encode`, from tensors on."""
    import torch
    from aion.codecs.image import ImageCodec
    from aion.modalities import LegacySurveyImage

    codec = ImageCodec(
        quantizer_levels=[7, 5, 5, 5, 5],
        hidden_dims=512,
        multisurvey_projection_dims=54,
        n_compressions=2,
        num_consecutive=4,
        embedding_dim=5,
        range_compression_factor=0.01,
        mult_factor=10.0,
    )
    bands = ["DES-G", "DES-R", "DES-I", "DES-Z"]
    seen = LegacySurveyImage(flux=torch.from_numpy(images(objects)), bands=bands)
    return _theirs(folder, "tok_image", codec, seen)


def their_spectrum(folder: Path, objects: int) -> Callable[[], Any]:
    """Their codec's `encode`, from tensors on."""
    import torch
    from aion.codecs.spectrum import SpectrumCodec
    from aion.modalities import DESISpectrum

    codec = SpectrumCodec(
        encoder_depths=[3, 3, 27, 3],
        encoder_dims=[64, 128, 256, 512],
        decoder_depths=[3, 9, 3, 3],
        decoder_dims=[256, 128, 64, 2],
        latent_channels=512,
        embedding_dim=10,
        codebook_size=1024,
        dim=10,
        clip_ivar=100.0,
        input_scaling=0.2,
    )
    flux, ivar, wave = (torch.from_numpy(array) for array in spectra(objects))
    seen = DESISpectrum(flux=flux, ivar=ivar, mask=torch.zeros_like(flux, dtype=torch.bool), wavelength=wave)
    return _theirs(folder, "tok_spectrum_desi", codec, seen)


def fluxes(objects: int) -> np.ndarray:
    """Nanomaggies, some negative, one column."""
    chance = np.random.default_rng(0)
    return (chance.lognormal(1, 1.5, (objects, 1)) + chance.normal(0, 0.3, (objects, 1))).astype(np.float32)


def share_scalar(folder: Path, objects: int) -> Callable[[], None]:
    """Levels for both sides: the quantiles of the first 100,000 logarithms."""
    import torch

    kept = torch.from_numpy(fluxes(100_000)[:, 0]).clamp(min=float(np.exp(-3))).log()
    levels = torch.quantile(kept, torch.linspace(0, 1, 1024))
    state = {"_quantizer._reservoir": kept, "_quantizer._index_to_val": levels}
    return lambda: torch.save(state, folder / "scalar.pt")


def our_scalar(folder: Path, objects: int) -> Callable[[], Any]:
    """As `ScalarCodec.encode` does it, from an observation on."""
    import torch

    from omnisky.codec.modalities import DOMAINS
    from omnisky.codec.scalar import ScalarCodec, plan
    from omnisky.observe.types import Observation, Scalars

    state = torch.load(folder / "scalar.pt", weights_only=True)
    codec = ScalarCodec(plan=plan(DOMAINS["tok_flux_g"]), levels=state["_quantizer._index_to_val"][None])
    seen = Observation.of(range(objects), scalars=Scalars(values=fluxes(objects), names=("FLUX_G",)))
    return lambda: codec.encode(seen)[codec.name].values


def their_scalar(folder: Path, objects: int) -> Callable[[], Any]:
    """Their codec's `encode`, from a tensor on."""
    import torch
    from aion.codecs.scalar import LogScalarCodec
    from aion.modalities import LegacySurveyFluxG

    codec = LogScalarCodec(modality="FLUX_G", codebook_size=1024, reservoir_size=100_000)
    return _theirs(folder, "scalar", codec, LegacySurveyFluxG(value=torch.from_numpy(fluxes(objects))))


def _theirs(folder: Path, name: str, codec: Any, seen: Any) -> Callable[[], Any]:
    import torch

    codec.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True, mmap=True))
    codec.eval()

    @torch.no_grad()
    def call() -> Any:
        return codec.encode(seen)

    return call


if __name__ == "__main__":
    kinds = ("share", "our", "their")
    harness.serve({f"{who}_{kind}": globals()[f"{who}_{kind}"] for who in kinds for kind in (*TARGETS, "scalar")})
