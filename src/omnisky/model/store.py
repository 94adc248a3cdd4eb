"""A model is a folder: config.json, model.safetensors, README.md; and codecs/, where its codecs hold tensors.

Save, load, sign; from disk, package or Hub.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import nn

from omnisky.codec import saved
from omnisky.codec.book import CodecBook
from omnisky.codec.field import FieldCodecConfig, FieldRows
from omnisky.codec.image import BandRow, ImageCodecConfig, Planes
from omnisky.codec.light_curve import CurveRows, LightCurveCodecConfig
from omnisky.codec.patch import RasterPatches, ScalarTokens, SpectralSections, SpiralPatches
from omnisky.codec.scalar import ClassIds, MagnitudeTokens
from omnisky.codec.sections import Grid, OverlappingSections
from omnisky.codec.shape import Moments, Rings
from omnisky.codec.spectrum import GridRows, SpectrumCodecConfig
from omnisky.codec.stored import StoredTokens
from omnisky.codec.stretch import Asinh, LegacyColours, Linear, SteinColours
from omnisky.codec.token_shards import IdTokens
from omnisky.codec.tokens import Codec
from omnisky.codec.weights import Blank as Blank
from omnisky.codec.weights import fill as fill
from omnisky.codec.weights import packed
from omnisky.codec.weights import read_weights as read_weights
from omnisky.codec.weights import write_weights as write_weights
from omnisky.errors import ConfigError, CorruptFile, UnknownModel
from omnisky.model.adapted import AdaptedConfig
from omnisky.model.any_to_any import Vocabulary
from omnisky.model.augment import Lognormal, MultiCrop, View, Weather
from omnisky.model.autoregressive import AutoregressiveConfig, MaskedConfig, PrefixConfig
from omnisky.model.baseline import (
    ImageRegressorConfig,
    PhotometryRegressorConfig,
    SmallCNNConfig,
    SpectrumRegressorConfig,
)
from omnisky.model.contrastive import ContrastiveConfig, PoolConfig, TowerConfig
from omnisky.model.deal import AionRule, DirichletRule, Focus, PerLogit, PerModality, PerToken
from omnisky.model.distill import Centring, DistillConfig, Hiding, Sinkhorn
from omnisky.model.first_clip import FirstClipConfig
from omnisky.model.heads import Classes, Mixture, Numbers, Quantiles
from omnisky.model.junction import Modality
from omnisky.model.masked import AnyToAnyConfig
from omnisky.model.resnet import MomentumEncoderConfig, ResNetConfig
from omnisky.model.specformer import SpecformerConfig
from omnisky.model.transformer import CoreConfig
from omnisky.model.vision import VisionConfig
from omnisky.storage import atomic

KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(AutoregressiveConfig, PrefixConfig, MaskedConfig, CoreConfig, Modality, SmallCNNConfig, VisionConfig),
        *(SpecformerConfig, OverlappingSections, Grid, StoredTokens, ContrastiveConfig, PoolConfig, TowerConfig),
        *(
            MomentumEncoderConfig,
            ResNetConfig,
            ImageRegressorConfig,
            SpectrumRegressorConfig,
            PhotometryRegressorConfig,
            FirstClipConfig,
        ),
        *(RasterPatches, SpiralPatches, SpectralSections, ScalarTokens, ClassIds, MagnitudeTokens, Rings, Moments),
        *(DistillConfig, Centring, Sinkhorn, Hiding, MultiCrop, View, Weather, Lognormal),
        *(Linear, Asinh, LegacyColours, SteinColours),
        *(ImageCodecConfig, BandRow, Planes, SpectrumCodecConfig, GridRows, FieldCodecConfig, FieldRows),
        *(LightCurveCodecConfig, CurveRows),
        *(IdTokens, AnyToAnyConfig, Vocabulary, AionRule, DirichletRule, Focus, PerToken, PerModality, PerLogit),
        *(AdaptedConfig, Classes, Numbers, Mixture, Quantiles),
    )
}
"""every dataclass a config.json may name"""


def pack(value: Any) -> Any:
    """Frozen dataclasses as plain JSON; each names its kind. Raises ConfigError for one that `unpack` will not know.

    A field marked `tokens.LATER` is left out at its default, so that models from before it keep their signature.
    """
    if is_dataclass(value):
        if type(value) is not KINDS.get(type(value).__name__):
            raise ConfigError("cannot be saved", saw=type(value).__name__, want=tuple(KINDS))
        told = [f for f in fields(value) if "later" not in f.metadata or getattr(value, f.name) != f.default]
        return {"kind": type(value).__name__} | {f.name: pack(getattr(value, f.name)) for f in told}
    return [pack(item) for item in value] if isinstance(value, tuple | list) else value


def unpack(value: Any, kinds: dict[str, type] | None = None) -> Any:
    """What `pack` packed. Raises ConfigError for a kind or field we do not know."""
    kinds = kinds or KINDS
    if isinstance(value, list):
        return tuple(unpack(item, kinds) for item in value)
    if not isinstance(value, dict):
        return value
    kind = kinds.get(value.get("kind", ""))
    if kind is None:
        raise ConfigError(saw=f"kind {value.get('kind')!r}", want=tuple(kinds), hint="a newer Omnisky?")
    try:
        return kind(**{name: unpack(item, kinds) for name, item in value.items() if name != "kind"})
    except TypeError as error:
        raise ConfigError(f"{kind.__name__}: {error}", hint="a newer Omnisky?") from error


def signature(model: nn.Module) -> str:
    """A hash of config, codecs and weights: two models with the same one give the same numbers."""
    told, beside = _kept(model.codecs)
    seal = blake2b(json.dumps([pack(model.config), pack(told)], sort_keys=True).encode(), digest_size=8)
    if beside:
        seal.update(saved.signature(beside).encode())
    for name, weight in sorted(model.state_dict().items()):
        seal.update(name.encode())
        seal.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return seal.hexdigest()


def codecs_told(codecs: Sequence[Codec]) -> list[Any]:
    """What codecs are, for JSON: all their settings, or of those that hold tensors the name and a hash."""
    return [
        {"name": codec.name, "signature": saved.signature((codec,))} if saved.has_layout(codec) else pack(codec)
        for codec in codecs
    ]


def save(model: nn.Module, folder: str | Path, *, card: str = "", dtype: torch.dtype | None = None) -> Path:
    """Write the folder, whole or not at all. `dtype=torch.bfloat16` halves it, torch.int8 makes it a quarter (a scale
    a row). Codecs that hold tensors go beside the model, into codecs/<name>/, as published. Raises StorageError.
    """
    told, beside = _kept(model.codecs)
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    small = dtype == torch.int8
    if small:
        weights = packed(weights, dict(model.named_parameters()))
    elif dtype:
        weights = {name: weight.to(dtype) for name, weight in weights.items()}
    config = {"omnisky": 1, "model": pack(model.config), "codecs": pack(told)}
    config |= {"beside": [codec.name for codec in beside]} if beside else {}
    with atomic(folder) as draft:
        draft.mkdir()
        saved.save_codecs(beside, draft, small=small)
        write_weights(weights, draft / "model.safetensors", aligned=True)
        (draft / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        (draft / "README.md").write_text(card or _card(model))
    return Path(folder)


def _kept(codecs: Sequence[Codec]) -> tuple[tuple[Codec, ...], tuple[Codec, ...]]:
    """Codecs that config.json tells, and those that are kept beside it."""
    beside = tuple(codec for codec in codecs if saved.has_layout(codec))
    return tuple(codec for codec in codecs if not saved.has_layout(codec)), beside


def load(name: str | Path, path: str = "", *, revision: str | None = None) -> nn.Module:
    """A model ready to use (eval mode, float32), its codecs with it.

    `name` is a folder or file on disk, a model or codec shipped in the package ("omnisky-nano", "omnisky-light-curve"),
    or a repository on the Hugging Face Hub ("Smith42/astroPT_v2.0"), `path` a folder or file within ("astropt/095M").
    Published layouts of AstroPT (v1.0, 2.0.x, 3.0), AstroCLIP and AION-1 are recognised; no pickle is executed.

    Raises UnknownModel, UnknownLayout, UnsafePickle, CorruptFile.
    """
    found = _find(str(name), path, revision)
    if found.is_file():
        from omnisky.model import port

        return port.load_published(found)
    return _load_folder(found)


def _find(name: str, path: str, revision: str | None) -> Path:
    local = Path(name) / path if path else Path(name)
    if local.exists():
        return _weights_in(local)
    for shipped in (_shipped() / name, _shipped() / "codecs" / name):
        if (shipped / "config.json").exists():
            return shipped
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UnknownModel(saw=name, want=(*shipped_models(), "a folder", "a Hub repository"))
    return _weights_in(_download(name, path, revision))


def _weights_in(place: Path) -> Path:
    """The folder itself if it is ours, else the published weights file within."""
    if place.is_file() or (place / "model.safetensors").exists():
        return place
    published = sorted(f for f in place.iterdir() if f.suffix in (".pt", ".ckpt", ".bin"))
    if len(published) != 1:
        run = (place / "run.json").exists()
        raise UnknownModel(
            f"no single model in {place}",
            saw=tuple(f.name for f in sorted(place.iterdir())) or "an empty folder",
            want="config.json and model.safetensors, or one .pt file",
            hint=f"{place / 'model'}, where a finished run puts it"
            if run
            else "name the file: load(folder, 'file.pt')",
        )
    return published[0]


def _download(name: str, path: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = [path, f"{path}/*"] if path else ["*.json", "*.safetensors", "*.pt", "*.ckpt", "*.md"]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UnknownModel(
            f"{name!r} is not on this machine, and the Hub did not give it: {type(error).__name__}",
            want=(*shipped_models(), "a folder", "a Hub repository"),
            hint="check the name, the network, or HF_TOKEN for a private repository",
        ) from error
    if not (folder / path).exists():
        raise UnknownModel(saw=f"no {path!r} in {name}", want="a folder or file of that repository")
    return folder / path


def shipped_models() -> tuple[str, ...]:
    """The models that come with the package; codecs that belong to none of them are in a folder of their own."""
    return tuple(sorted(f.parent.name for f in _shipped().glob("*/config.json")))


def _shipped() -> Path:
    return Path(str(files("omnisky"))) / "weights"


def _load_folder(folder: Path) -> nn.Module:
    try:
        config = json.loads((folder / "config.json").read_text())
        if "domains_in" in config and "model" not in config:
            from omnisky.model import port_aion

            return port_aion.load_folder(folder, config)
        model, codecs = config["model"], config["codecs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptFile(
            f"{folder}/config.json: {type(error).__name__} {error}", want="a config.json written by model.store.save"
        ) from error
    unpacked = unpack(model)
    with Blank():
        built = unpacked.build()
    fill(built, read_weights(folder / "model.safetensors"), folder, adopt=True)
    built.codecs = unpack(codecs)
    if beside := config.get("beside"):
        book = CodecBook(folder)
        built.codecs += tuple(book[name] for name in beside)
    return built.eval()


def _card(model: nn.Module) -> str:
    count = sum(p.numel() for p in model.parameters())
    return f"# {type(model).__name__}\n\n{count:,} parameters, signature {signature(model)}. Written by Omnisky.\n"
