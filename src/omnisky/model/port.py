"""Published checkpoints → ours: one rename table a layout, no pickle executed.

AstroPT's releases hold the same network under three sets of names (M is a modality, e.g. "images"):

    v1.0         transformer.wte.{0,2}    transformer.wpe      lm_head.{0,2,4}    one modality, here called "images"
    2.0.x        transformer.wte.M        transformer.wpe.M    lm_head.M
    HEAD, 3.0    encoders.M               embedders.M          decoders.M

Their files are pickles and are read as `model.unpickle` says; AstroPT's own classes become `Inert`. What the weights
show by their shapes is taken from the weights; heads, attention, objective and loss weights come from `model_args` and
the registry.
`_orig_mod.` (torch.compile) is dropped wherever it stands, the optimiser's state is ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from omnisky.codec.patch import SpectralSections, SpiralPatches
from omnisky.codec.tokens import Codec
from omnisky.errors import CorruptFile, UnknownLayout
from omnisky.model import port_astroclip, store
from omnisky.model.autoregressive import AutoregressiveConfig, MaskedConfig
from omnisky.model.junction import Modality
from omnisky.model.rename import renamed, some
from omnisky.model.transformer import CoreConfig
from omnisky.model.unpickle import Inert, unpickle

EVERYTHING = 1 << 30
ATTENTION = {"causal": 0, "full": EVERYTHING, "prefix": EVERYTHING}
"""attn_type → `prefix`. Compat: AstroPT's releases drop the rule that "prefix" asks for, so weights trained with it
have always seen the whole sequence."""

_CORE = {
    "transformer.h.{i}.ln_1.{w}": "core.blocks.{i}.attention_norm.{w}",
    "transformer.h.{i}.attn.c_attn.{w}": "core.blocks.{i}.attention.qkv.{w}",
    "transformer.h.{i}.attn.c_attn.lora_A": "core.blocks.{i}.attention.qkv.lora_a",
    "transformer.h.{i}.attn.c_attn.lora_B": "core.blocks.{i}.attention.qkv.lora_b",
    "transformer.h.{i}.attn.c_proj.{w}": "core.blocks.{i}.attention.out.{w}",
    "transformer.h.{i}.ln_2.{w}": "core.blocks.{i}.mlp_norm.{w}",
    "transformer.h.{i}.mlp.c_fc.{w}": "core.blocks.{i}.mlp.up.{w}",
    "transformer.h.{i}.mlp.c_proj.{w}": "core.blocks.{i}.mlp.down.{w}",
    "transformer.ln_f.{w}": "core.norm.{w}",
    "mask_token": "hidden_token",
    "task_head.ln.{w}": "task_head.norm.{w}",
    "task_head.head.0.{w}": "task_head.first.{w}",
    "task_head.head.2.{w}": "task_head.second.{w}",
}


def _ends(encoders: str, positions: str, decoders: str, affine: bool) -> dict[str, str]:
    """What joins the core, for layouts that name their modalities. Affine ends are one linear each, aim ends two."""
    table = {}
    for theirs, ours in ((encoders, "encoders"), (positions, "positions"), (decoders, "decoders")):
        table[f"{theirs}.{{m}}.wpe.weight"] = f"junction.{ours}.{{m}}.weight"
        table[f"{theirs}.{{m}}.c_fc.{{w}}"] = f"junction.{ours}.{{m}}.{'' if affine else 'up.'}{{w}}"
        if not affine:
            table[f"{theirs}.{{m}}.c_proj.{{w}}"] = f"junction.{ours}.{{m}}.down.{{w}}"
    return table


_V1 = _CORE | {
    "transformer.wte.0.{w}": "junction.encoders.images.first.{w}",
    "transformer.wte.2.{w}": "junction.encoders.images.second.{w}",
    "transformer.wpe.weight": "junction.positions.images.weight",
    "lm_head.0.{w}": "junction.decoders.images.first.{w}",
    "lm_head.2.{w}": "junction.decoders.images.second.{w}",
    "lm_head.4.{w}": "junction.decoders.images.third.{w}",
}
_V2 = ("transformer.wte", "transformer.wpe", "lm_head")
_HEAD = ("encoders", "embedders", "decoders")

TABLES: dict[str, dict[str, str]] = {
    "v1": _V1,
    "2.0 aim": _CORE | _ends(*_V2, affine=False),
    "2.0 affine": _CORE | _ends(*_V2, affine=True),
    "3.0 aim": _CORE | _ends(*_HEAD, affine=False),
    "3.0 affine": _CORE | _ends(*_HEAD, affine=True),
}
"""layout → {their name: our name}. i: block, m: modality, w: weight or bias. Read backwards it names our tensors as
theirs; an affine end does not show whether it was `wpe` (a table of ids or positions) or `c_fc`, its Modality does"""

_HEADS = {128: 8, 256: 8, 384: 8, 512: 8, 768: 12, 1024: 16, 2048: 8, 2560: 32}
"""width → heads in every published size, for files that hold weights alone (the COLM study's step_*.pt)"""


_PICKLED = (
    *("astropt.model.ModalityRegistry", "astropt.model.ModalityConfig"),
    # `best_val_loss` is a numpy scalar in every file the training script wrote.
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "numpy.dtypes.Float32DType"),
)


@dataclass(frozen=True)
class Published:
    """What a file says: weights under its own names, and plain facts about them."""

    file: Path
    weights: dict[str, Tensor]
    args: Mapping[str, Any]
    """`model_args`"""
    registry: Mapping[str, Mapping[str, Any]]
    """by modality: patch_size, loss_weight, …"""

    @property
    def layout(self) -> str:
        """A key of TABLES. Raises UnknownLayout."""
        names = self.weights.keys()
        if "transformer.wte.0.weight" in names and "lm_head.0.weight" in names:
            return "v1"
        for version, ends in (("2.0", _V2), ("3.0", _HEAD)):
            if any(name.startswith(f"{ends[0]}.") for name in names):
                deep = any(name.startswith(f"{ends[2]}.") and ".c_proj." in name for name in names)
                return f"{version} {'aim' if deep else 'affine'}"
        ours = any(name.startswith("core.blocks.") for name in names)
        raise UnknownLayout(
            str(self.file),
            saw=some(names),
            want="AstroPT's v1.0, 2.0.x or 3.0 names (native backbone)",
            hint="load the folder it is in: this is one of ours" if ours else "",
        )

    def number(self, name: str, default: float) -> float:
        """One of `model_args`, if it is there. Raises UnknownLayout where it is not a number."""
        value = self.args.get(name)
        value = default if value is None else value
        if not isinstance(value, int | float):
            raise UnknownLayout(f"{self.file}: model_args[{name!r}]", saw=type(value).__name__, want="a number")
        return value


def load_published(file: str | Path, *, heads: int | None = None) -> nn.Module:
    """The model in a published file (.pt, .ckpt, AstroPT's .safetensors with an optional config.json), in eval mode.

    AstroPT's layouts are below, those of AstroCLIP, SpecFormer, AstroDINO and Stein et al. in `port_astroclip`.
    `heads` is for weights that come without a word on how many there are, at a width nobody published.

    `model.codecs` is the preprocessing it was trained with, or () where that is not known: other bands than red, green
    and blue (their names are not in the file), light curves, ids of somebody else's codec.

    Raises UnknownLayout, UnsafePickle, CorruptFile.
    """
    said = _opened(Path(file))
    if (layout := port_astroclip.layout_of(said)) is not None:
        return layout.load(Path(file), said, heads)
    published = _read(Path(file), said)
    found = {theirs: renamed(theirs, TABLES[published.layout]) for theirs in published.weights}
    names = {theirs: ours for theirs, ours in found.items() if ours is not None}
    if strange := found.keys() - names.keys():
        raise UnknownLayout(f"{file}: {published.layout}", saw=some(sorted(strange)), want="that layout's names alone")
    weights = {names[theirs]: weight for theirs, weight in published.weights.items()}
    tables = {ours for theirs, ours in names.items() if ".wpe." in theirs}
    try:
        config = _config(published, weights, tables)
    except KeyError as error:
        raise UnknownLayout(f"{file}: {published.layout}", saw=f"no tensor that becomes {error}") from error
    with store.Blank():
        model = config.build()
    store.fill(model, weights, file, adopt=True)
    model.codecs = _codecs(published, config)
    return model.eval()


# --- names and config --------------------------------------------------------------------------------------------


def _config(
    published: Published, weights: Mapping[str, Tensor], tables: set[str]
) -> AutoregressiveConfig | MaskedConfig:
    """Read off the weights (under our names; `tables` are embeddings), and completed from what the file says."""
    width = len(weights["core.norm.weight"])
    depth = sum(bool(re.fullmatch(r"core\.blocks\.\d+\.mlp_norm\.weight", name)) for name in weights)
    heads = int(published.number("n_head", _HEADS.get(width, 0)))
    if heads < 1 or width % heads:
        raise UnknownLayout(
            str(published.file),
            saw=f"{heads} heads for width {width}",
            want="model_args with n_head",
            hint="a config.json",
        )
    names = sorted({name.split(".")[2] for name in weights if name.startswith("junction.decoders.")})
    answers = weights.get("task_head.second.bias")
    shared = {
        "core": CoreConfig(
            width=width,
            depth=depth,
            heads=heads,
            bias="core.norm.bias" in weights,
            dropout=float(published.number("dropout", 0.0)),
        ),
        "modalities": tuple(_modality(name, published, weights, tables) for name in names),
        "context": max((len(weights[t]) for t in tables if ".positions." in t), default=_context(published)),
        "tokeniser": published.layout.split()[-1],
        "answers": 0 if answers is None else len(answers),
        **_low_rank(published, weights),
    }
    if "hidden_token" in weights:
        return MaskedConfig(
            hidden_fraction=float(published.number("mae_mask_ratio", 0.5)),
            standardised_targets=bool(published.number("norm_pix_loss", False)),
            **shared,
        )
    return AutoregressiveConfig(prefix=_attention(published), **shared)


def _context(published: Published) -> int:
    return int(published.number("block_size", 1024))


def _attention(published: Published) -> int:
    kind = published.args.get("attn_type") or "causal"
    if kind not in ATTENTION:
        raise UnknownLayout(f"{published.file}: attn_type", saw=kind, want=tuple(ATTENTION))
    return ATTENTION[kind]


def _modality(name: str, published: Published, weights: Mapping[str, Tensor], tables: set[str]) -> Modality:
    encoder, position = f"junction.encoders.{name}.weight", f"junction.positions.{name}.weight"
    weight = published.registry.get(name, {}).get("loss_weight", 1.0)
    return Modality(
        name=name,
        width=len(_one_of(weights, f"junction.decoders.{name}", ("third", "down", ""))),
        vocabulary=len(weights[encoder]) if encoder in tables else 0,
        position_width=0 if position in tables else _one_of(weights, f"junction.positions.{name}", ("up", "")).shape[1],
        weight=float(weight) if isinstance(weight, int | float) else 1.0,
    )


def _one_of(weights: Mapping[str, Tensor], stem: str, layers: tuple[str, ...]) -> Tensor:
    """The weight of the first of these layers that is there, "" being the stem itself."""
    names = [f"{stem}.{layer}.weight" if layer else f"{stem}.weight" for layer in layers]
    return weights[next((name for name in names if name in weights), names[-1])]


def _low_rank(published: Published, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Compat: HEAD scales updates by lora_alpha/√rank; before it, alpha was never passed on and the scale is 1/rank."""
    update = weights.get("core.blocks.0.attention.qkv.lora_a")
    if update is None:
        return {}
    rank = len(update)
    scale = published.number("lora_alpha", 2.0) / rank**0.5 if published.layout.startswith("3.0") else 1 / rank
    return {"lora_rank": rank, "lora_scale": scale}


def _codecs(published: Published, config: AutoregressiveConfig | MaskedConfig) -> tuple[Codec, ...]:
    """One for each modality, or () if any is not known.

    Images alone came through AstroPT's Hugging Face pipeline: x before y, each patch standardised and rounded to
    float16. Images beside spectra came through its script for local files, which does none of this, and which leaves
    spectra as they are but for their rounding to bfloat16.
    """
    alone = len(config.modalities) == 1
    found: list[Codec] = []
    for m in config.modalities:
        size = published.registry.get(m.name, {}).get("patch_size") or published.args.get("patch_size")
        size = size if isinstance(size, int) else isqrt(m.width // 3)
        if m.name == "images" and not m.vocabulary and m.width == 3 * size**2:
            bands = ("red", "green", "blue")
            found.append(
                SpiralPatches(patch_size=size, bands=bands, standardised=alone, columns_first=alone, half=alone)
            )
        elif m.name == "spectra" and not m.vocabulary and m.width == m.position_width:
            found.append(SpectralSections(size=m.width, standardised=False, rounded=True))
    return tuple(found) if len(found) == len(config.modalities) else ()


# --- files -------------------------------------------------------------------------------------------------------


def _opened(file: Path) -> Any:
    if file.suffix != ".safetensors":
        return unpickle(file, (*_PICKLED, *port_astroclip.PICKLED), port_astroclip.DICTS)
    beside = file.parent / "config.json"
    said = (_json(beside) if beside.exists() else {}) | {"model": store.read_weights(file)}
    return {"model_args": said} | said


def _read(file: Path, said: Any) -> Published:
    said = said if isinstance(said, dict) and "model" in said else {"model": said}
    weights, args = said["model"], said.get("model_args", {})
    if not isinstance(args, dict) or not isinstance(weights, dict) or not weights or not _all_tensors(weights):
        saw = some(map(str, weights)) if isinstance(weights, dict) else type(weights).__name__
        raise UnknownLayout(f"{file}: no state dict", saw=saw, want="AstroPT's: model, model_args, modality_registry")
    registry = _registry(said.get("modality_registry", args.get("modalities")))
    return Published(file, {str(k).replace("_orig_mod.", ""): w for k, w in weights.items()}, args, registry)


def _all_tensors(weights: Mapping[Any, Any]) -> bool:
    return all(isinstance(weight, Tensor) for weight in weights.values())


def _registry(said: Any) -> dict[str, Mapping[str, Any]]:
    """By name, whether the file holds a registry, a dict or a list of modalities."""
    said = vars(said).get("modalities") if isinstance(said, Inert) else said
    listed = said.values() if isinstance(said, dict) else said if isinstance(said, list | tuple) else ()
    facts = [vars(one) if isinstance(one, Inert) else one for one in listed]
    return {one["name"]: one for one in facts if isinstance(one, dict) and isinstance(one.get("name"), str)}


def _json(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{file}: {error}", want="a JSON object") from error
    return said if isinstance(said, dict) else {}
