"""Low-rank updates as files, in the format of peft: adapter_config.json and adapter_model.safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from omnisky.errors import CorruptFile, UnknownLayout
from omnisky.model.lowrank import LowRankLinear
from omnisky.model.store import read_weights, write_weights
from omnisky.storage import atomic

PREFIX = "base_model.model."


def updates(model: nn.Module) -> dict[str, LowRankLinear]:
    """The layers of the model that have low-rank updates, by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LowRankLinear)}


def save(model: nn.Module, folder: str | Path, *, base: str = "") -> Path:
    """Write the updates alone, as peft does; `base` says of which model they are.

    The parts of a fused layer stand side by side in one update, 0 where a part did not learn: A (rank, in) and
    B (out, rank), scaled by lora_alpha / r. Raises UnknownLayout for a model without updates, StorageError.
    """
    layers = updates(model)
    if not layers:
        raise UnknownLayout("no low-rank updates", saw=type(model).__name__, want="a model that lowrank.add was given")
    ranks = {name: layer.lora_a.shape[0] for name, layer in layers.items()}
    alphas = {name: layer.scale * ranks[name] for name, layer in layers.items()}
    rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: r for name, r in ranks.items() if r != rank},
        "alpha_pattern": {name: a for name, a in alphas.items() if a != alpha},
        "target_modules": sorted(layers),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
        "task_type": None,
    }
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_a.detach().cpu().contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.update.detach().cpu().contiguous()
    with atomic(folder) as draft:
        draft.mkdir()
        write_weights(tensors, draft / "adapter_model.safetensors")
        (draft / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return Path(folder)


def load(model: nn.Module, folder: str | Path) -> None:
    """Put the updates of a folder, ours or peft's, on the layers they belong to, in place. See `lowrank.fold`.

    Raises CorruptFile, UnknownLayout where a layer is not there, or is no plain linear of that shape.
    """
    folder = Path(folder)
    config, tensors = _config(folder), read_weights(folder / "adapter_model.safetensors")
    layers: dict[str, Any] = dict(model.named_modules())
    names = sorted({key.removeprefix(PREFIX).rsplit(".lora_", 1)[0] for key in tensors})
    for name in names:
        a, b = (tensors.get(f"{PREFIX}{name}.lora_{letter}.weight") for letter in "AB")
        old: Any = layers.get(name)
        if a is None or b is None or type(old) is not nn.Linear or (len(b), a.shape[1]) != tuple(old.weight.shape):
            saw = "no such layer" if old is None else str(old)
            raise UnknownLayout(f"{folder}: an update of {name!r}", saw=saw, want="a linear layer of that shape")
        rank = a.shape[0]
        scale = config["alpha_pattern"].get(name, config["lora_alpha"]) / (rank**0.5 if config["use_rslora"] else rank)
        new = LowRankLinear(old.in_features, old.out_features, bias=old.bias is not None, rank=rank, scale=scale)
        new.weight, new.bias = old.weight, old.bias
        with torch.no_grad():
            new.lora_a.copy_(a)
            new.lora_b.copy_(b)
        model.set_submodule(name, new)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        found = {"alpha_pattern": {}, "use_rslora": False, "use_dora": False, "fan_in_fan_out": False} | config
        if found["peft_type"] != "LORA" or found["use_dora"] or found["fan_in_fan_out"]:
            raise UnknownLayout(str(folder), saw=found["peft_type"], want="plain LoRA of linear layers")
        float(found["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UnknownLayout):
            raise
        raise CorruptFile(f"{folder}/adapter_config.json: {error}", want="peft's adapter_config.json") from error
    return found
