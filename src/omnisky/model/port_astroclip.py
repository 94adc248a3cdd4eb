"""AstroCLIP's published checkpoints, and Stein's, → ours.

    specformer.ckpt   state_dict: data_embed, position_embed, blocks.{i}, final_layernorm, head
    astrodino.ckpt    teacher: backbone.(cls_token, pos_embed, mask_token, patch_embed, blocks.{c}.{i}, norm), dino_head
    astroclip.ckpt    state_dict: (image|spectrum)_encoder.(backbone, cross_attention, mlp)
    resnet50.ckpt     state_dict: encoder_q (torchvision's ResNet50 with two last layers), encoder_k, queues

What else is in them (pickled modules under hyper_parameters, optimisers) is read as inert facts: how many heads there
are, and what the cosines are multiplied by. Every tensor has its place in a table, or is named in `ASIDE`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from omnisky.codec.patch import RasterPatches
from omnisky.codec.sections import OverlappingSections
from omnisky.codec.stretch import LegacyColours, SteinColours
from omnisky.errors import UnknownLayout
from omnisky.model import store
from omnisky.model.contrastive import ContrastiveConfig, PoolConfig, TowerConfig
from omnisky.model.rename import renamed, some
from omnisky.model.resnet import RESNET50, MomentumEncoderConfig
from omnisky.model.specformer import SpecformerConfig
from omnisky.model.transformer import CoreConfig
from omnisky.model.unpickle import Inert
from omnisky.model.vision import VisionConfig, vit

PICKLED = (
    *("astroclip.", "dinov2.", "torch.nn.", "torch._C.", "lightning.", "pytorch_lightning.", "pl_bolts."),
    *("functools.partial", "argparse.Namespace", "__builtin__.set"),
)
"""what becomes `Inert`"""

DICTS = (
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "ref_astroclip.HP",  # in the recorded packs
)
"""Lightning's hyper-parameters, which derive from dict"""

ASIDE: dict[str, str] = {
    "specformer": "",
    "astrodino": r"(dino_head|ibot_head)\..*",
    "astroclip": "",
    "resnet50": r"encoder_k\..*|(val_)?queue(_ptr)?",
}
"""tensors that pre-training needs and the model does not"""

_HEADS = {768: 6}
"""of a SpecFormer of this width; a ViT has one for each 64 numbers"""

_SPECFORMER = {
    "data_embed.{w}": "sections.{w}",
    "position_embed.weight": "positions.weight",
    "blocks.{i}.layernorm1.{w}": "core.blocks.{i}.attention_norm.{w}",
    "blocks.{i}.attention.attention.{w}": "core.blocks.{i}.attention.qkv.{w}",
    "blocks.{i}.attention.projection.{w}": "core.blocks.{i}.attention.out.{w}",
    "blocks.{i}.layernorm2.{w}": "core.blocks.{i}.mlp_norm.{w}",
    "blocks.{i}.mlp.encoder.{w}": "core.blocks.{i}.mlp.up.{w}",
    "blocks.{i}.mlp.decoder.{w}": "core.blocks.{i}.mlp.down.{w}",
    "final_layernorm.{w}": "core.norm.{w}",
    "head.{w}": "head.{w}",
}

_VISION_ENDS = {
    "cls_token": "class_token",
    "pos_embed": "positions",
    "mask_token": "hidden_token",
    "patch_embed.proj.{w}": "patches.{w}",
    "norm.{w}": "core.norm.{w}",
}
_VISION_BLOCK = {
    "norm1.{w}": "attention_norm.{w}",
    "attn.qkv.{w}": "attention.qkv.{w}",
    "attn.proj.{w}": "attention.out.{w}",
    "ls1.gamma": "attention_branch.scale",
    "norm2.{w}": "mlp_norm.{w}",
    "mlp.fc1.{w}": "mlp.up.{w}",
    "mlp.fc2.{w}": "mlp.down.{w}",
    "ls2.gamma": "mlp_branch.scale",
}
_VISION = _VISION_ENDS | {
    f"blocks.{chunk}{{i}}.{theirs}": f"core.blocks.{{i}}.{ours}"
    for chunk in ("{c}.", "")  # DINOv2 groups blocks in chunks or does not; the number of a block is the same
    for theirs, ours in _VISION_BLOCK.items()
}

_POOL = {
    "cross_attention.query": "pool.query",
    "cross_attention.multihead_attn.q_proj_{w}": "pool.to_query.{w}",
    "cross_attention.multihead_attn.k_proj_{w}": "pool.to_key.{w}",
    "cross_attention.multihead_attn.v_proj_{w}": "pool.to_value.{w}",
    "cross_attention.multihead_attn.out_proj.{w}": "pool.out.{w}",
    "cross_attention.layernorm.{w}": "pool.norm.{w}",
    "mlp.encoder.{w}": "pool.up.{w}",
    "mlp.decoder.{w}": "pool.down.{w}",
}


def _under(theirs: str, ours: str, table: Mapping[str, str]) -> dict[str, str]:
    return {f"{theirs}{key}": f"{ours}{value}" for key, value in table.items()}


def _resnet() -> dict[str, str]:
    table = {"conv1.weight": "network.stem.0.weight", "bn1.{b}": "network.stem.1.{b}"}
    for stage in range(4):
        theirs, ours = f"layer{stage + 1}.{{i}}.", f"network.stages.{stage}.{{i}}."
        for k in range(3):
            table[f"{theirs}conv{k + 1}.weight"] = f"{ours}parts.{k}.0.weight"
            table[f"{theirs}bn{k + 1}.{{b}}"] = f"{ours}parts.{k}.1.{{b}}"
        table[f"{theirs}downsample.0.weight"] = f"{ours}skip.0.weight"
        table[f"{theirs}downsample.1.{{b}}"] = f"{ours}skip.1.{{b}}"
    return table | {"fc.0.{w}": "up.{w}", "fc.2.{w}": "down.{w}"}


TABLES: dict[str, dict[str, str]] = {
    "specformer": _SPECFORMER,
    "astrodino": _under("backbone.", "", _VISION),
    "astroclip": _under("image_encoder.backbone.", "image.backbone.", _VISION)
    | _under("image_encoder.", "image.", _POOL)
    | _under("spectrum_encoder.backbone.", "spectrum.backbone.", _SPECFORMER)
    | _under("spectrum_encoder.", "spectrum.", _POOL),
    "resnet50": _under("encoder_q.", "", _resnet()),
}
"""layout → {their name: our name}"""


@dataclass(frozen=True)
class Facts:
    """What a file says: weights under our names, and hyper-parameters."""

    file: Path
    weights: dict[str, Tensor]
    said: Mapping[str, Any]
    heads: int | None
    """what the caller knows"""


@dataclass(frozen=True)
class Layout:
    """One of TABLES, and how to read a model off it."""

    name: str
    build: Callable[[Facts], nn.Module]

    def load(self, file: Path, said: Mapping[str, Any], heads: int | None = None) -> nn.Module:
        """The model, in eval mode. Raises UnknownLayout."""
        theirs = said["teacher"] if self.name == "astrodino" else said["state_dict"]
        if not isinstance(theirs, dict) or not all(isinstance(one, Tensor) for one in theirs.values()):
            raise UnknownLayout(f"{file}: {self.name}", saw="other things among the weights", want="tensors alone")
        weights = self._renamed(file, {name.removeprefix("module."): one for name, one in theirs.items()})
        try:
            model = self.build(Facts(file, weights, _facts(said.get("hyper_parameters")), heads))
        except KeyError as error:
            raise UnknownLayout(f"{file}: {self.name}", saw=f"no tensor that becomes {error}") from error
        store.fill(model, weights, file, adopt=True)
        return model.eval()

    def _renamed(self, file: Path, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        strange: list[str] = []
        for name, weight in _taken_apart(theirs):
            if ours := renamed(name, TABLES[self.name]):
                found[ours] = weight
            elif not (ASIDE[self.name] and re.fullmatch(ASIDE[self.name], name)):
                strange.append(name)
        if strange:
            raise UnknownLayout(f"{file}: {self.name}", saw=some(sorted(strange)), want="that layout's names alone")
        return found


def _taken_apart(theirs: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """torch's packed queries, keys and values one by one; patches as a linear layer on (row, column, band)."""
    for name, weight in theirs.items():
        stem, packed, kind = name.rpartition("in_proj_")
        if packed:
            yield from zip((f"{stem}{one}_proj_{kind}" for one in "qkv"), weight.chunk(3), strict=True)
        elif name.endswith("patch_embed.proj.weight"):
            yield name, weight.permute(0, 2, 3, 1).flatten(1)
        else:
            yield name, weight


def layout_of(said: Any) -> Layout | None:
    """The layout of an opened file, or None where it is none of these."""
    if not isinstance(said, dict):
        return None
    if isinstance(said.get("teacher"), dict):
        return Layout("astrodino", _astrodino)
    names = said.get("state_dict")
    if not isinstance(names, dict):
        return None
    marks = {
        "data_embed.weight": Layout("specformer", _specformer),
        "image_encoder.backbone.cls_token": Layout("astroclip", _astroclip),
        "encoder_q.conv1.weight": Layout("resnet50", _resnet50),
    }
    return next((layout for mark, layout in marks.items() if mark in names), None)


# --- models ------------------------------------------------------------------------------------------------------


def _specformer(facts: Facts) -> nn.Module:
    return _built(_specformer_config(facts, "", facts.said), (_sections(facts.said),))


def _astrodino(facts: Facts) -> nn.Module:
    config = _vision_config(facts, "", None)
    return _built(config, (_patches(config),))


def _astroclip(facts: Facts) -> nn.Module:
    image, spectrum = facts.said.get("image_encoder"), facts.said.get("spectrum_encoder")
    vision = _vision_config(facts, "image.backbone.", _inside(image, "backbone"))
    inner = _facts(getattr(_inside(spectrum, "backbone"), "hparams", None))
    specformer = _specformer_config(facts, "spectrum.backbone.", inner, _inside(spectrum, "backbone"))
    config = ContrastiveConfig(
        image=TowerConfig(backbone=vision, pool=_pool(facts, "image.", image, residual=False), bare=True),
        spectrum=TowerConfig(backbone=specformer, pool=_pool(facts, "spectrum.", spectrum, residual=True)),
        scale=float(facts.said.get("temperature", 15.5)),
        learns_scale=False,
    )
    return _built(config, (_patches(vision), _sections(inner)))


def _resnet50(facts: Facts) -> nn.Module:
    bands = ("z", "r", "g")
    pixels = RasterPatches(patch_size=1, bands=bands, stretch=SteinColours(), side=96, name="pixels")
    config = MomentumEncoderConfig(network=RESNET50, projected=len(facts.weights["down.bias"]))
    return _built(config, (pixels,))


def _built(config: Any, codecs: tuple) -> nn.Module:
    with store.Blank():
        model = config.build()
    model.codecs = codecs
    return model


def _vision_config(facts: Facts, prefix: str, module: Any) -> VisionConfig:
    width = facts.weights[f"{prefix}class_token"].shape[-1]
    patch_size = isqrt(facts.weights[f"{prefix}patches.weight"].shape[1] // 3)
    grid = isqrt(facts.weights[f"{prefix}positions"].shape[1] - 1)
    heads = facts.heads or _heads_in(module) or width // 64
    return vit(width, _depth(facts, prefix), heads, patch_size=patch_size, grid=grid)


def _specformer_config(facts: Facts, prefix: str, said: Mapping[str, Any], module: Any = None) -> SpecformerConfig:
    width, inside = facts.weights[f"{prefix}sections.weight"].shape
    heads = facts.heads or said.get("num_heads") or _heads_in(module) or _HEADS.get(width, 0)
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise UnknownLayout(str(facts.file), saw=f"{heads} heads for width {width}", want="load_published(…, heads=n)")
    return SpecformerConfig(
        core=CoreConfig(width=width, depth=_depth(facts, prefix), heads=heads, bias=True, activation="gelu"),
        token_width=inside,
        context=len(facts.weights[f"{prefix}positions.weight"]),
        runs=int(said.get("mask_num_chunks", 6)),
        run=int(said.get("mask_chunk_width", 50)),
    )


def _pool(facts: Facts, prefix: str, module: Any, residual: bool) -> PoolConfig:
    width, inside = facts.weights[f"{prefix}pool.to_key.weight"].shape
    heads = _heads_in(_inside(module, "cross_attention")) or 4
    return PoolConfig(inside=inside, width=width, heads=heads, residual=residual)


def _depth(facts: Facts, prefix: str) -> int:
    block = re.compile(re.escape(prefix) + r"core\.blocks\.\d+\.mlp_norm\.weight")
    return sum(bool(block.fullmatch(name)) for name in facts.weights)


def _patches(config: VisionConfig) -> RasterPatches:
    side = config.grid * config.patch_size
    return RasterPatches(patch_size=config.patch_size, bands=("z", "r", "g"), stretch=LegacyColours(), side=side)


def _sections(said: Mapping[str, Any]) -> OverlappingSections:
    size, overlap = int(said.get("slice_section_length", 20)), int(said.get("slice_overlap", 10))
    return OverlappingSections(size=size, step=size - overlap, heedless=True, drops_last=True)


# --- inert facts -------------------------------------------------------------------------------------------------


def _facts(said: Any) -> Mapping[str, Any]:
    """Names and values of a dict, or of what was pickled in its place."""
    return vars(said) if isinstance(said, Inert) else said if isinstance(said, dict) else {}


def _inside(module: Any, name: str) -> Any:
    """A module's child, where both were pickled."""
    return _facts(_facts(module).get("_modules")).get(name)


def _heads_in(module: Any) -> int | None:
    """`num_heads` of a pickled module, or of the first of its descendants that says so."""
    said = _facts(module).get("num_heads")
    if isinstance(said, int):
        return said
    children = _facts(_facts(module).get("_modules")).values()
    return next((heads for child in children if (heads := _heads_in(child)) is not None), None)
