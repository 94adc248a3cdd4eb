"""Checkpoint files as AstroPT's training script leaves them, made from the recorded packs. A module beside conftest."""

import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor


class ModalityConfig:
    """AstroPT's, as far as a pickle shows it."""

    __module__ = "astropt.model"

    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)


class ModalityRegistry:
    """AstroPT's, as far as a pickle shows it."""

    __module__ = "astropt.model"

    def __init__(self, modalities: list[ModalityConfig]) -> None:
        self.modalities = {one.name: one for one in modalities}


def write(
    file: Path, weights: dict[str, Tensor], args: dict[str, Any], modalities: list[dict[str, Any]] | None = None
) -> Path:
    """What `torch.save` writes in AstroPT's loop: numpy scalar, pickled classes, optimiser and all."""
    checkpoint = {
        "model": weights,
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
        "model_args": args,
        "iter_num": 30000,
        "best_val_loss": np.float32(0.4),
        "config": {"batch_size": 16, "decay_lr": True, "out_dir": "logs", "learning_rate": 6e-4},
    }
    if modalities is not None:
        kinds = [ModalityConfig(**facts) for facts in modalities]
        checkpoint["model_args"] = args | {"modalities": kinds}
        checkpoint["modality_registry"] = ModalityRegistry(kinds)
    module = ModuleType("astropt.model")
    module.ModalityConfig, module.ModalityRegistry = ModalityConfig, ModalityRegistry
    sys.modules |= {"astropt": ModuleType("astropt"), "astropt.model": module}
    try:
        torch.save(checkpoint, file)
    finally:
        del sys.modules["astropt"], sys.modules["astropt.model"]
    return file


class Runs:
    """Unpickling it calls `function(*arguments)`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def pickled(content: Any, protocol: int) -> bytes:
    return pickle.dumps(content, protocol=protocol)
