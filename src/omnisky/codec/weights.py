"""Tensors on disk, and into the module they belong to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from omnisky.errors import CorruptFile, UnknownLayout


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, those of bytes as numbers again. Raises CorruptFile, naming it."""
    try:
        return unpacked(load_file(file))
    except (SafetensorError, OSError) as error:
        raise CorruptFile(f"{file}: {error}", want="a whole safetensors file", hint="fetch it again") from error


def write_weights(weights: dict[str, torch.Tensor], file: Path, notes: Mapping[str, str] | None = None) -> None:
    """A safetensors file, with notes in its metadata. Raises OSError, which `atomic` turns into a StorageError."""
    try:
        save_file(weights, file, metadata={"format": "pt", **(notes or {})})
    except SafetensorError as error:  # how a full disk shows itself
        raise OSError(str(error)) from error


_SCALE = "|scale"


def packed(weights: Mapping[str, torch.Tensor], names: Collection[str]) -> dict[str, torch.Tensor]:
    """Those of these names that are matrices in a byte a number and a scale a row: off by up to 0.4 % of the row's
    largest. A quarter of the size, half that of bfloat16.
    """
    whole = {}
    for name, weight in weights.items():
        if name not in names or weight.ndim < 2:
            whole[name] = weight
            continue
        rows = weight.float().flatten(1)
        scale = rows.abs().amax(1).clamp(min=1e-12) / 127
        whole[name] = (rows / scale[:, None]).round().to(torch.int8).view(weight.shape)
        whole[name + _SCALE] = scale
    return whole


def unpacked(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `packed` packed; other tensors as they are."""
    whole = {name: weight for name, weight in weights.items() if not name.endswith(_SCALE)}
    for name, scale in weights.items():
        if name.endswith(_SCALE):
            rows = whole[name.removesuffix(_SCALE)]
            whole[name.removesuffix(_SCALE)] = (rows.flatten(1) * scale[:, None]).view(rows.shape)
    return whole


def fill(model: nn.Module, weights: dict[str, torch.Tensor], source: object) -> None:
    """Every tensor in its place, none left over. Raises UnknownLayout, saying which."""
    own = model.state_dict()
    wrong = {
        "missing": sorted(own.keys() - weights.keys()),
        "unknown": sorted(weights.keys() - own.keys()),
        "other shapes": sorted(n for n in own.keys() & weights.keys() if own[n].shape != weights[n].shape),
    }
    if any(wrong.values()):
        saw = "; ".join(f"{len(names)} {what} ({', '.join(names[:3])} …)" for what, names in wrong.items() if names)
        raise UnknownLayout(f"{source} does not fit {type(model).__name__}", saw=saw, want=f"{len(own)} tensors")
    model.load_state_dict(weights)
