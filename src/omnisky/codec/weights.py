"""Tensors on disk, and into the module they belong to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from omnisky.errors import CorruptFile, UnknownLayout


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, those of bytes as numbers again. Raises CorruptFile, naming it."""
    try:
        return unpacked(load_file(file))
    except (SafetensorError, OSError) as error:
        raise CorruptFile(f"{file}: {error}", want="a whole safetensors file", hint="fetch it again") from error


def write_weights(
    weights: dict[str, torch.Tensor], file: Path, notes: Mapping[str, str] | None = None, *, aligned: bool = False
) -> None:
    """A safetensors file, with notes in its metadata; `aligned`, with blanks there, so that `fill` can adopt all of it.

    Raises OSError, which `atomic` turns into a StorageError.
    """
    told = {"format": "pt", **(notes or {})}
    if aligned:  # one note alone: of several, safetensors draws the order
        told = {"layout": "omnisky"}
        told["layout"] += " " * (-_head(weights, told) % LINE)
    try:
        save_file(weights, file, metadata=told)
    except SafetensorError as error:  # how a full disk shows itself
        raise OSError(str(error)) from error


LINE = 64
"""bytes that torch's own memory begins at a multiple of: products of tensors elsewhere differ in the last bits"""


def _head(weights: Mapping[str, torch.Tensor], notes: Mapping[str, str]) -> int:
    """Bytes before the tensors in a safetensors file, but for blanks at its end. Wide ones come first, as it has it."""
    told: dict[str, Any] = {"__metadata__": dict(notes)}
    kinds = {name: str(weight.dtype).removeprefix("torch.") for name, weight in weights.items()}
    start = 0
    for name in sorted(weights, key=lambda one: (-weights[one].element_size(), "int" in kinds[one], one)):
        weight, kind = weights[name], kinds[name].replace("float", "f").replace("uint", "u").replace("int", "i")
        stop = start + weight.nbytes
        told[name] = {"dtype": kind, "shape": list(weight.shape), "data_offsets": [start, stop]}
        start = stop
    return 8 + len(json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode())


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


class Blank(TorchFunctionMode):
    """Modules built inside draw no weights, since they are about to be filled; buffers are worked out as ever."""

    _here = threading.local()

    @staticmethod
    def inside() -> bool:
        """For starts that take time and are no operations on parameters."""
        return getattr(Blank._here, "inside", False)

    def __enter__(self) -> Blank:
        self._here.inside = True
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._here.inside = False
        super().__exit__(*error)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = func.__name__, kwargs or {}
        draws = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        changed = args[0] if args else kwargs.get("tensor")  # nn.init's come by name
        return changed if draws and isinstance(changed, nn.Parameter) else func(*args, **kwargs)


def fill(model: nn.Module, weights: dict[str, torch.Tensor], source: object, *, adopt: bool = False) -> None:
    """Every tensor in its place, none left over. Raises UnknownLayout, saying which.

    With `adopt` parameters become these very tensors, where they are laid out alike: out of a file they are read when
    first used, and take no memory but the page cache's until they are changed. Others' files often begin their tensors
    at any byte; of those only kernels are taken, which convolutions lay out anew (`bilinear.convolved`).
    """
    own = model.state_dict()
    wrong = {
        "missing": sorted(own.keys() - weights.keys()),
        "unknown": sorted(weights.keys() - own.keys()),
        "other shapes": sorted(n for n in own.keys() & weights.keys() if own[n].shape != weights[n].shape),
    }
    if any(wrong.values()):
        saw = "; ".join(f"{len(names)} {what} ({', '.join(names[:3])} …)" for what, names in wrong.items() if names)
        raise UnknownLayout(f"{source} does not fit {type(model).__name__}", saw=saw, want=f"{len(own)} tensors")
    if not adopt:
        model.load_state_dict(weights)
        return
    taken = set()
    with torch.no_grad():
        for name, mine in model.state_dict(keep_vars=True).items():
            new = weights[name]
            alike = mine.dtype == new.dtype and mine.stride() == new.stride() and new.data_ptr() not in taken
            alike &= new.data_ptr() % LINE == 0 or (new.ndim == 4 and new.shape[2:].numel() > 1)
            if isinstance(mine, nn.Parameter) and alike:
                taken.add(new.data_ptr())  # of two names for one tensor, the second has memory of its own
                mine.data = new
            else:
                mine.copy_(new)
