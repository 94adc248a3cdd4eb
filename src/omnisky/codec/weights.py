"""Tensors on disk, and into the module they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from omnisky.errors import CorruptFile, UnknownLayout


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises CorruptFile, naming it."""
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise CorruptFile(f"{file}: {error}", want="a whole safetensors file", hint="fetch it again") from error


def write_weights(weights: dict[str, torch.Tensor], file: Path, notes: Mapping[str, str] | None = None) -> None:
    """A safetensors file, with notes in its metadata. Raises OSError, which `atomic` turns into a StorageError."""
    try:
        save_file(weights, file, metadata={"format": "pt", **(notes or {})})
    except SafetensorError as error:  # how a full disk shows itself
        raise OSError(str(error)) from error


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
