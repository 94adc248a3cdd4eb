"""AstroCLIP: its towers, its alignment and its tokens of spectra, each beside a plain statement of the same in PyTorch.

The plain towers are what one writes down first: softmax(q·kᵀ/√d)·v as two products, nn.Linear, nn.GELU, nn.LayerNorm,
one operation after the other, with our weights under nn's names; they embed, and go there and back as a training step
does. An alignment step on kept states stands beside the same step through both towers. Sections of spectra stand beside
one slice a section, as the published code cuts them.
Both sides have the same weights and inputs, and their answers agree to rounding, or it fails.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import harness
from benchmarks.harness import Comparison, Job, Worker, versions_here

if TYPE_CHECKING:
    from torch import Tensor, nn

    from omnisky.codec.tokens import Tokens
    from omnisky.model.contrastive import Contrastive
    from omnisky.observe.types import Observation

OBJECTS = {"specformer": 2, "astrodino": 4}
TOKENS = {"specformer": 778, "astrodino": 145}
PAIRS, SPECTRA = 16, 64
ASKED = {"fp32": (1.5, 2e-5), "bf16": (4.0, 0.05)}
"""precision of ours → the ratio asked for over theirs in fp32, and how far answers may be apart"""


class Way(NamedTuple):
    """Through a tower: there, or there and back."""

    name: str
    ours: str
    theirs: str
    passes: int
    """each may be apart by so much"""
    products: int
    """of each weight: on the way back there are two"""
    asked: bool
    """whether the issue names a ratio"""


WAYS = (Way("", "embed", "plain", 1, 1, True), Way("-there-and-back", "learn", "plain_learn", 2, 3, False))


def comparisons(quick: bool = False) -> Iterator[Comparison]:
    """`quick` ones have towers of two blocks and prove only that everything runs."""
    for tower, objects in OBJECTS.items():
        given = {"tower": tower, "objects": objects, "quick": quick}
        for precision, (target, agree) in ASKED.items():
            for way in WAYS:
                yield Comparison(
                    name=f"pairs/{tower}{way.name}-{precision}-over-plain-fp32",
                    ours=Job("ours", way.ours, given | {"precision": precision}),
                    theirs=Job("plain", way.theirs, given),
                    unit="spectra" if tower == "specformer" else "images",
                    work=objects,
                    target=target if way.asked else None,
                    agree=way.passes * agree,
                    flops=way.products * objects * _flops(tower, quick),
                    precision=precision,
                    repeats=5,
                )
    given = {"objects": PAIRS, "quick": quick}
    yield Comparison(
        name="pairs/aligning-on-kept-states-over-both-towers",
        ours=Job("ours", "kept_step", given),
        theirs=Job("plain", "whole_step", given),
        first=Job("ours", "keep", given),
        unit="pairs",
        work=PAIRS,
        target=20.0,
        agree=0.05,
        repeats=3,
    )
    for theirs in ("slices", "slices_one_by_one"):
        yield Comparison(
            name=f"pairs/sections-{SPECTRA}-over-{theirs.replace('_', '-')}",
            ours=Job("ours", "sections", {"objects": SPECTRA}),
            theirs=Job("plain", theirs, {"objects": SPECTRA}),
            unit="spectra",
            work=SPECTRA,
            target=10.0,
            agree=1e-5,
            repeats=5,
        )


def workers() -> dict[str, Worker]:
    """One process a side."""
    return {name: Worker(Path(sys.executable), "benchmarks.pairs") for name in ("ours", "plain")}


def versions() -> dict[str, str]:
    """Of what takes part."""
    return versions_here("omnisky", "torch", "numpy")


def _flops(tower: str, quick: bool) -> float:
    """Of the matrix products for one object: four linears of a block, and attention."""
    width, depth = {"specformer": (768, 6), "astrodino": (1024, 24)}[tower]
    return (2 if quick else depth) * 2 * TOKENS[tower] * (12 * width**2 + 2 * TOKENS[tower] * width)


# --- what both sides have ----------------------------------------------------------------------------------------


def told(tower: str, objects: int) -> Tensor:
    """What a tower reads: noise, always the same."""
    import torch

    shape = (778, 22) if tower == "specformer" else (144, 432)
    return torch.randn(objects, *shape, generator=torch.Generator().manual_seed(1))


def built(tower: str, quick: bool) -> nn.Module:
    """A tower of the published size, with weights that let every part count (a fresh LayerScale would hide blocks)."""
    from dataclasses import replace

    import torch

    from omnisky.model.specformer import SpecformerConfig
    from omnisky.model.vision import SIZES, vit

    config = SpecformerConfig() if tower == "specformer" else vit(*SIZES["large"])
    config = replace(config, core=replace(config.core, depth=2)) if quick else config
    with torch.device("meta"):
        model = config.build()
    return filled(model.to_empty(device="cpu")).eval()


def filled(model: nn.Module) -> nn.Module:
    """Random numbers, the same ones for the same model: matrices shrink by √inputs, factors are near 1."""
    import torch

    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(generator=draw)
            if weight.dim() == 2:
                weight.mul_(weight.shape[1] ** -0.5)
            else:
                weight.mul_(0.1).add_(1.0 if name.endswith(("norm.weight", ".scale")) else 0.0)
    return model


# --- ours --------------------------------------------------------------------------------------------------------


def embed(folder: Path, tower: str, objects: int, quick: bool, precision: str) -> Callable[[], Tensor]:
    """As omnisky.embed does, from tokens on."""
    import torch

    from omnisky.train.devices import here

    place, model = here(precision), built(tower, quick)
    lean, tokens = place.lean(model), tokens_of(tower, objects)

    def call() -> Tensor:
        with torch.inference_mode(), place.autocast():
            return lean.vectors(tokens).float()

    return call


def learn(folder: Path, tower: str, objects: int, quick: bool, precision: str) -> Callable[[], Tensor]:
    """Forward and back, weights in fp32."""
    from omnisky.train.devices import here

    place, model, tokens = here(precision), built(tower, quick), tokens_of(tower, objects)

    def call() -> Tensor:
        with place.autocast():
            vectors = model.vectors(tokens).float()
        return _back(vectors, model, model.core.blocks[0].attention.qkv)

    return call


def tokens_of(tower: str, objects: int) -> Tokens:
    """What `told` says, as a tower of ours reads it."""
    import torch

    from omnisky.codec.tokens import Span, Tokens

    values = told(tower, objects)
    name = "spectra" if tower == "specformer" else "images"
    return Tokens({name: Span(values, torch.zeros(values.shape[:2], dtype=torch.int64))})


def _back(vectors: Tensor, model: nn.Module, first: nn.Linear) -> Tensor:
    """What a sum over vectors, numbers weighted from −1 to 1, says to the weights that it reaches last."""
    import torch

    model.zero_grad(set_to_none=True)
    (vectors * torch.linspace(-1, 1, vectors.shape[1])).sum().backward()
    return first.weight.grad[:4]


def sections(folder: Path, objects: int) -> Callable[[], Tensor]:
    """The published tokens, from observations, with every check."""
    from omnisky.codec.sections import OverlappingSections

    codec, seen = OverlappingSections(heedless=True, drops_last=True), galaxies(objects)
    return lambda: codec.encode(seen)["spectra"].values


def galaxies(objects: int) -> Observation:
    """Images of 152 px and spectra on DESI's grid: noise."""
    import numpy as np

    from omnisky.codec.sections import DESI
    from omnisky.observe.types import Image, Observation, Spectrum

    draw = np.random.default_rng(0)
    image = Image(flux=draw.normal(0, 0.1, (objects, 3, 152, 152)).astype(np.float32), bands=("g", "r", "z"))
    flux = draw.normal(2, 3, (objects, DESI.pixels)).astype(np.float32)
    wave = np.tile(DESI.wavelength_aa(), (objects, 1))
    return Observation.of(range(objects), image=image, spectrum=Spectrum(flux=flux, wavelength_aa=wave))


def keep(folder: Path, objects: int, quick: bool) -> Callable[[], None]:
    """States of both towers, on disk."""
    from omnisky.train.frozen import keep_states

    def call() -> None:
        keep_states(_aligned(quick), galaxies(objects), folder / "states")

    return call


def _aligned(quick: bool) -> Contrastive:
    """Heads on both published towers, in bf16 as the recipe runs them; no dropout, so that steps can be compared."""
    from dataclasses import replace

    from omnisky.recipes.astroclip import astroclip

    run = astroclip()
    towers = []
    for config in (run.model.image, run.model.spectrum):
        core = replace(config.backbone.core, depth=2 if quick else config.backbone.core.depth)
        backbone, pool = replace(config.backbone, core=core), replace(config.pool, dropout=0.0)
        towers.append(replace(config, backbone=backbone, pool=pool))
    import torch

    with torch.device("meta"):
        model = replace(run.model, image=towers[0], spectrum=towers[1]).build()
    filled(model.to_empty(device="cpu"))
    model.log_scale.data.fill_(2.74)
    model.codecs = run.codecs
    return model


def kept_step(folder: Path, objects: int, quick: bool) -> Callable[[], Tensor]:
    """One step of `train.frozen.align`, from the disk on."""
    from omnisky.train.frozen import keep_states, stored_codecs

    model = _aligned(quick)
    return _step(model, keep_states(model, galaxies(objects), folder / "states"), stored_codecs(model))


def whole_step(folder: Path, objects: int, quick: bool) -> Callable[[], Tensor]:
    """The same step from observations, through both towers."""
    model = _aligned(quick)
    return _step(model, galaxies(objects), model.codecs)


def _step(model: Contrastive, seen: Observation, codecs: tuple) -> Callable[[], Tensor]:
    """Answers with the loss and the norm of the gradient; the rate is 0, so that each step is like the first."""
    import torch

    from omnisky.codec.tokens import encode_all
    from omnisky.recipes.astroclip import astroclip
    from omnisky.train.devices import here

    recipe, place = astroclip().optim, here("bf16")
    optimiser = recipe.build(model.train())
    for group in optimiser.param_groups:
        group["lr"] = 0.0

    def step() -> Tensor:
        with place.autocast():
            loss = model.loss(encode_all(codecs, seen))
        loss.backward()
        norm = torch.tensor(recipe.shorten(model))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return torch.stack([loss.detach(), norm])

    return step


# --- the plain statements ----------------------------------------------------------------------------------------


def plain(folder: Path, tower: str, objects: int, quick: bool) -> Callable[[], Tensor]:
    """The tower in fp32, and its embedding: the mean over a spectrum's states, an image's class token."""
    import torch

    return torch.inference_mode()(_plain_tower(tower, objects, quick)[0])


def plain_learn(folder: Path, tower: str, objects: int, quick: bool) -> Callable[[], Tensor]:
    """The same, and back."""
    call, blocks = _plain_tower(tower, objects, quick)
    return lambda: _back(call(), blocks, blocks[0].attention.qkv)


def _plain_tower(tower: str, objects: int, quick: bool) -> tuple[Callable[[], Tensor], nn.Module]:
    import torch

    from benchmarks.plain import blocks_of

    model, values = built(tower, quick), told(tower, objects)
    blocks, last = blocks_of(model.config.core, model.core.state_dict())

    def call() -> Tensor:
        if tower == "specformer":
            x = model.sections(values) + model.positions.weight[: values.shape[1]]
            return last(blocks(x)).mean(1)
        x = torch.cat([model.class_token.expand(len(values), -1, -1), model.patches(values)], 1)
        return last(blocks(x + model.positions))[:, 0]

    return call, blocks


def slices(folder: Path, objects: int) -> Callable[[], Tensor]:
    """Standardise, one slice for each section of the batch, stack, pad, and the two moments in front."""
    import torch

    flux = torch.from_numpy(galaxies(objects)["spectrum"].flux)
    return lambda: _sliced(flux)


def slices_one_by_one(folder: Path, objects: int) -> Callable[[], Tensor]:
    """The same, spectrum by spectrum, as a data set hands them out."""
    import torch

    flux = torch.from_numpy(galaxies(objects)["spectrum"].flux)
    return lambda: torch.cat([_sliced(one) for one in flux.split(1)])


def _sliced(flux: Tensor) -> Tensor:
    import torch
    import torch.nn.functional as F

    mean, std = flux.mean(1, keepdim=True), flux.std(1, keepdim=True).clamp(0.2)
    x = (flux - mean) / std
    cut = [x[:, start : start + 20] for start in range(0, x.shape[1] - 10, 10)][:-1]
    tokens = F.pad(torch.stack(cut, 1), (2, 0, 1, 0))
    tokens[:, 0, 0], tokens[:, 0, 1] = (mean[:, 0] - 2) / 2, (std[:, 0] - 2) / 8
    return tokens


if __name__ == "__main__":
    from omnisky.train.devices import keep_memory

    keep_memory()
    tasks = (embed, learn, sections, keep, kept_step, whole_step, plain, plain_learn, slices, slices_one_by_one)
    harness.serve({task.__name__: task for task in tasks})
