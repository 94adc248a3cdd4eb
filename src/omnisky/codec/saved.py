"""One codec from disk and back, in the published layout: a folder with config.json and model.safetensors.

A codec of numbers that is not as published, because it is squeezed otherwise or decodes to the middle of its bins, says
so under the key "omnisky" of its config.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omnisky.codec.catalog import EMPTY, SHAPES, CatalogCodec
from omnisky.codec.modalities import DOMAINS, Domain
from omnisky.codec.scalar import (
    Log,
    Plain,
    ScalarCodec,
    ScalarPlan,
    ScaledAsinh,
    Squeeze,
    Turned,
    TwiceAsinh,
    centred,
    plan,
)
from omnisky.codec.tokens import Codec
from omnisky.codec.weights import Blank, fill, packed, read_weights, write_weights
from omnisky.errors import BadValue, CorruptFile, UnknownLayout
from omnisky.storage import atomic

_SQUEEZES: Mapping[str, type] = {kind.__name__: kind for kind in (Plain, Log, TwiceAsinh, ScaledAsinh, Turned)}
_WEIGHTS = "model.safetensors"


def load_codec(folder: str | Path, key: str) -> Codec:
    """The codec of these tokens out of its own folder. Raises UnknownLayout, CorruptFile."""
    folder = Path(folder)
    domain = DOMAINS.get(key)
    if domain is not None and domain.codec in LEARNED:
        return around(load_network(folder, domain), domain)
    config, weights = config_of(folder), read_weights(folder / "model.safetensors")
    if domain is not None and domain.codec == "Catalog":
        return _catalog(config, weights, folder)
    return _scalar(config, weights, folder, domain)


def save_codec(codec: Any, folder: str | Path, *, small: bool = False) -> Path:
    """Its own folder, as published: whole or not at all. `small` keeps a network in a byte a number, which only we can
    read. Raises StorageError.
    """
    config, weights = _told(codec)
    if small and hasattr(codec, "network"):
        weights = packed(weights, dict(codec.network.named_parameters()))
    with atomic(folder) as draft:
        draft.mkdir()
        write_weights({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, draft / _WEIGHTS)
        (draft / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    return Path(folder)


def save_codecs(codecs: Mapping[str, Codec] | Iterable[Codec], folder: str | Path, *, small: bool = False) -> Path:
    """All of them, into folder/codecs/<name>, whole or not at all; a network that several share, once."""
    all_of_them = tuple(codecs.values() if isinstance(codecs, Mapping) else codecs)
    named = {DOMAINS[one.name].folder if one.name in DOMAINS else one.name: one for one in reversed(all_of_them)}
    if named:
        with atomic(Path(folder) / "codecs") as draft:
            for name, codec in named.items():
                save_codec(codec, draft / name, small=small)
    return Path(folder)


def has_layout(codec: Any) -> bool:
    """Whether a codec is kept as a folder of its own, since it holds tensors; others are told by a config.json."""
    return isinstance(codec, ScalarCodec | CatalogCodec) or hasattr(codec, "network")


def signature(codecs: Iterable[Codec]) -> str:
    """A hash of what these codecs make of anything: their tensors, and which part each reads."""
    seal = blake2b(digest_size=8)
    for codec in sorted(codecs, key=lambda one: one.name):
        config, weights = _told(codec)
        seal.update(json.dumps([codec.name, codec.part, config], sort_keys=True).encode())
        for name, weight in sorted(weights.items()):
            seal.update(name.encode())
            seal.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return seal.hexdigest()


def config_of(folder: Path) -> dict[str, Any]:
    """What config.json says. Raises CorruptFile."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{folder}/config.json: {error}", want="the config.json of a codec") from error
    if not isinstance(config, dict):
        raise CorruptFile(f"{folder}/config.json", saw=type(config).__name__, want="an object")
    return config


def _told(codec: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and tensors of a codec."""
    if isinstance(codec, ScalarCodec):
        return _scalar_told(codec)
    if isinstance(codec, CatalogCodec):
        return {"mask_value": EMPTY}, _catalog_told(codec)
    network = getattr(codec, "network", None)
    if network is None or not hasattr(network.config, "published"):
        raise BadValue("a codec that has no published layout", saw=type(codec).__name__)
    return network.config.published(), network.state_dict()


# --- numbers -------------------------------------------------------------------------------------------------------


def _scalar(config: dict[str, Any], weights: dict[str, Tensor], folder: Path, domain: Domain | None) -> ScalarCodec:
    ours = config.get("omnisky")
    if ours is None and domain is None:
        raise UnknownLayout(f"{folder} is no codec of AION-1", saw=folder.name, want="a key 'omnisky' in config.json")
    how = _plan_told(ours, folder) if ours is not None else plan(domain)  # type: ignore[arg-type]
    prefixes = {name.partition("uantizer")[0] + "uantizer." for name in weights}
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    if prefix not in ("quantizer.", "_quantizer."):
        raise UnknownLayout(f"tensors of {folder}", saw=tuple(weights)[:4], want="names that begin with _quantizer.")
    own = {name.removeprefix(prefix): weight for name, weight in weights.items()}
    levels, kept = _levels(own, folder)
    _demand_told(config, how, levels, kept, folder)
    codec = ScalarCodec(plan=how, levels=levels, kept=kept, config=config, prefix=prefix)
    return centred(codec) if ours is not None and ours["centred"] else codec


def _levels(weights: dict[str, Tensor], folder: Path) -> tuple[Tensor, Tensor | None]:
    """Levels, and the numbers they are quantiles of, of one column or several; each tensor is used."""
    if set(weights) == {"buckets"}:
        return weights["buckets"].float()[None], None
    many = any(name.startswith("quantizers.") for name in weights)
    stems = [f"quantizers.{i}." for i in range(len(weights) // 2)] if many else [""]
    wanted = {f"{stem}{leaf}" for stem in stems for leaf in ("_reservoir", "_index_to_val")}
    if set(weights) != wanted:
        strange = tuple(sorted(set(weights) ^ wanted))
        raise UnknownLayout(f"tensors of {folder}", saw=strange[:4], want="_reservoir, _index_to_val of each column")
    leaves = ("_index_to_val", "_reservoir")
    levels, kept = (torch.stack([weights[f"{stem}{leaf}"] for stem in stems]) for leaf in leaves)
    return levels, kept


def _demand_told(config: dict[str, Any], how: ScalarPlan, levels: Tensor, kept: Tensor | None, folder: Path) -> None:
    """What config.json says must be what the tensors are."""
    want: dict[str, Any] = {"codebook_size": levels.shape[1], "modality": config.get("modality")}
    if kept is not None:
        want["reservoir_size"] = kept.shape[1]
    if isinstance(how.squeeze, Log):
        want["min_log_value"] = how.squeeze.floor
    if "num_quantizers" in config:
        want |= {"num_quantizers": len(levels)}
        want |= _TWICE if isinstance(how.squeeze, TwiceAsinh) else {}
    said = {name: value for name, value in config.items() if name != "omnisky"}
    if said != want:
        differ = {name: said.get(name) for name in said.keys() | want.keys() if said.get(name) != want.get(name)}
        raise UnknownLayout(
            f"{folder}/config.json", saw=differ, want={name: want.get(name, "not there") for name in differ}
        )


_TWICE = {"compression_fns": ["arcsinh", "arcsinh"], "decompression_fns": ["sinh", "sinh"]}


def _scalar_told(codec: ScalarCodec) -> tuple[dict[str, Any], dict[str, Tensor]]:
    domain, levels, kept = DOMAINS.get(codec.name), codec.levels, codec.kept
    stems = [f"quantizers.{i}." for i in range(len(levels))] if len(levels) > 1 else [""]
    config: dict[str, Any] = {"codebook_size": levels.shape[1]}
    config["modality"] = codec.name if domain is None else domain.folder
    if kept is None:
        if len(levels) > 1:
            raise BadValue(f"{codec.name} was not fitted to data", want="`kept`, which the published layout asks for")
        weights = {"buckets": levels[0]}
    else:
        weights = {f"{stem}_reservoir": row for stem, row in zip(stems, kept, strict=True)}
        weights |= {f"{stem}_index_to_val": row for stem, row in zip(stems, levels, strict=True)}
        config["reservoir_size"] = kept.shape[1]
    if isinstance(codec.plan.squeeze, Log):
        config["min_log_value"] = codec.plan.squeeze.floor
    if len(levels) > 1:
        config |= {"num_quantizers": len(levels)} | (_TWICE if isinstance(codec.plan.squeeze, TwiceAsinh) else {})
    if codec.config is not None:
        config = {name: value for name, value in codec.config.items() if name != "omnisky"}
    if domain is None or codec.says is not None or codec.plan != plan(domain):
        config["omnisky"] = _plan_said(codec)
    return config, {codec.prefix + name: weight for name, weight in weights.items()}


def _plan_said(codec: ScalarCodec) -> dict[str, Any]:
    how = codec.plan
    squeeze: Any = how.squeeze
    kind = type(squeeze).__name__
    if kind not in _SQUEEZES:
        raise BadValue("a squeeze that cannot be saved", saw=kind, want=tuple(_SQUEEZES))
    said = {"name": how.name, "part": how.part, "columns": list(how.columns), "unit": how.unit}
    return said | {"squeeze": {"kind": kind, **asdict(squeeze)}, "centred": codec.says is not None}


def _plan_told(said: Any, folder: Path) -> ScalarPlan:
    try:
        squeeze = dict(said["squeeze"])
        kind: Squeeze = _SQUEEZES[squeeze.pop("kind")](**squeeze)
        return ScalarPlan(
            name=said["name"], part=said["part"], columns=tuple(said["columns"]), unit=said["unit"], squeeze=kind
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownLayout(f"{folder}/config.json, 'omnisky': {error}", hint="a newer Omnisky?") from error


# --- the catalogue -------------------------------------------------------------------------------------------------


def _catalog(config: dict[str, Any], weights: dict[str, Tensor], folder: Path) -> CatalogCodec:
    if config != {"mask_value": EMPTY}:
        raise UnknownLayout(f"{folder}/config.json", saw=config, want={"mask_value": EMPTY})
    stem = "_quantizer.quantizers."
    sizes = {f"{stem}{axis}._codebook_size" for axis in "XY"}
    wanted = sizes | {f"{stem}{name}.{leaf}" for name in SHAPES for leaf in ("_reservoir", "_index_to_val")}
    if set(weights) != wanted:
        raise UnknownLayout(f"tensors of {folder}", saw=tuple(sorted(set(weights) ^ wanted)[:4]), want="as published")
    side = {int(weights[name]) for name in sizes}
    if len(side) > 1:
        raise UnknownLayout(f"tensors of {folder}", saw=f"X and Y of {side} px", want="a square")
    levels, kept = (
        torch.stack([weights[f"{stem}{name}.{leaf}"] for name in SHAPES]) for leaf in ("_index_to_val", "_reservoir")
    )
    return CatalogCodec(levels=levels, kept=kept, side=side.pop())


def _catalog_told(codec: CatalogCodec) -> dict[str, Tensor]:
    stem = "_quantizer.quantizers."
    if codec.kept is None:
        raise BadValue(f"{codec.name} was not fitted to data", want="`kept`, which the published layout asks for")
    weights = {f"{stem}{axis}._codebook_size": torch.tensor(codec.side) for axis in "XY"}
    weights |= {f"{stem}{name}._reservoir": row for name, row in zip(SHAPES, codec.kept, strict=True)}
    return weights | {f"{stem}{name}._index_to_val": row for name, row in zip(SHAPES, codec.levels, strict=True)}


# --- networks ------------------------------------------------------------------------------------------------------


def load_network(folder: Path, domain: Domain) -> nn.Module:
    """The network of a learned codec, in eval mode. Raises UnknownLayout, CorruptFile."""
    with Blank():
        network = LEARNED[domain.codec][0](config_of(folder))
    fill(network, read_weights(folder / _WEIGHTS), folder, adopt=True)
    return network.eval()


def around(network: nn.Module, domain: Domain) -> Codec:
    """The codec of that modality over a network, which several may share."""
    return LEARNED[domain.codec][1](network, domain)


def _image_network(config: Mapping[str, Any]) -> nn.Module:
    from omnisky.codec.image import ImageCodecConfig, ImageNetwork

    return ImageNetwork(ImageCodecConfig.from_published(config))


def _image(network: Any, domain: Domain) -> Codec:
    from omnisky.codec.image import ImageCodec

    return ImageCodec(network=network, survey=domain.surveys[0], part=domain.part)


def _spectrum_network(config: Mapping[str, Any]) -> nn.Module:
    from omnisky.codec.spectrum import SpectrumCodecConfig, SpectrumNetwork

    return SpectrumNetwork(SpectrumCodecConfig.from_published(config))


def _spectrum(network: Any, domain: Domain) -> Codec:
    from omnisky.codec.spectrum import SpectrumCodec

    return SpectrumCodec(network=network, survey=domain.surveys[0], part=domain.part)


def _field_network(config: Mapping[str, Any]) -> nn.Module:
    from omnisky.codec.field import FieldCodecConfig, FieldNetwork

    return FieldNetwork(FieldCodecConfig.from_published(config))


def _field(network: Any, domain: Domain) -> Codec:
    from omnisky.codec.field import FieldCodec

    return FieldCodec(network=network, name=domain.key, part=domain.part)


LEARNED = {
    "Image": (_image_network, _image),
    "Spectrum": (_spectrum_network, _spectrum),
    "ScalarField": (_field_network, _field),
}
"""kind → network of a config.json, codec of a network and modality; imported when needed: they are large"""
