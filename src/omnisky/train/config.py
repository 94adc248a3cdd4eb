"""What a training run is, and how to vary it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Protocol, get_type_hints, runtime_checkable

from torch import nn

from omnisky.codec.tokens import Codec
from omnisky.errors import BadValue, UnknownKey
from omnisky.observe.loader import Augment
from omnisky.train.optim import AdamW


@runtime_checkable
class ModelConfig(Protocol):
    """A frozen dataclass that builds a model with `.loss(tokens, generator)`, `.config` and `.codecs`."""

    def build(self, seed: int | None = None) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that decides a run. A variation is `dataclasses.replace` or `edit(run, ["steps=100", "optim.peak=3e-4"])`."""

    name: str
    model: ModelConfig
    codecs: tuple[Codec, ...] = ()
    augment: Augment | None = None
    data: str = ""
    """what `observe.read` opens"""
    held_out: float = 0.1
    """share of the sky (or of the objects, where positions are not known) kept for the validation loss"""
    steps: int = 1000
    batch: int = 64
    """objects per step, over all ranks"""
    accumulate: int = 1
    """pieces each batch is cut into, each with draws of its own; a rank works on its share one after the other, which
    saves memory. The loss is the mean of theirs, or, where objects are compared with each other, that of the whole.
    So the run is the same on all numbers of ranks that divide it; others cut more finely (`pieces`)"""
    optim: AdamW = field(default_factory=AdamW)
    mean_decay: float = 0.0
    """of the running mean of weights that is saved as the model; 0 saves the weights themselves"""
    precision: str = "bf16"
    """fp32, or bf16 matrix products where the device multiplies them itself (else those, too, are fp32)"""
    remat: bool = False
    """recompute activations in the backward pass instead of keeping them"""
    compile: bool = False
    """translate each block with torch.compile: minutes at the start, faster steps"""
    shard: bool = False
    """weights, gradients and moments in pieces over the ranks (FSDP2), for models that fit no single device"""
    forgive: int = 0
    """batches that may be left out because their loss is not finite or their data cannot be read; 0 stops at the
    first. Each is named in metrics.jsonl"""
    seed: int = 0
    workers: int = 0
    """threads that read ahead"""
    judge_every: int = 200
    """steps between validation losses"""
    save_every: int = 200
    """steps between checkpoints"""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "judge_every", "save_every"):
            if getattr(self, name) < 1:
                raise BadValue(name, saw=getattr(self, name), want="1 or more")
        if self.batch % self.accumulate:
            raise BadValue("accumulate", saw=f"{self.batch} / {self.accumulate}", want="a whole number of objects each")
        for name in ("forgive", "seed", "workers"):
            if getattr(self, name) < 0:
                raise BadValue(name, saw=getattr(self, name), want="0 or more")
        for name in ("held_out", "mean_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise BadValue(name, saw=getattr(self, name), want="0 … 1, less than 1")


def edit(run: Any, changes: Iterable[str]) -> Any:
    """The run with fields changed, all at once, the last of a name counts: `key=value`, dots reach inside.

    Raises UnknownKey (with the nearest), BadValue.
    """
    asked = []
    for change in changes:
        key, found, text = change.partition("=")
        if not found:
            raise BadValue(saw=change, want="key=value", hint=f"{key}=…")
        if key not in (known := tuple(_keys(run))):
            room = key.rpartition(".")[0]
            want = [one for one in known if one.rpartition(".")[0] == room] or [f.name for f in fields(run)]
            raise UnknownKey(saw=key, want=want, hint=_nearest(key, known))
        asked.append((key.split("."), text, key))
    return _edit(run, asked) if asked else run


def _keys(node: Any, before: str = "") -> Iterator[str]:
    """Of all fields, also of those inside others: with dots."""
    for one in fields(node):
        yield before + one.name
        if is_dataclass(inside := getattr(node, one.name)):
            yield from _keys(inside, f"{before}{one.name}.")


def _nearest(key: str, known: tuple[str, ...]) -> str:
    """The same key further in, or else one that is spelt alike."""
    further = [one for one in known if one.endswith(f".{key}")]
    return (further or difflib.get_close_matches(key, known, 1) or ["one of those"])[0]


def _edit(node: Any, changes: list[tuple[list[str], str, str]]) -> Any:
    """All of one node together: a width and the heads that divide it are no error in either order."""
    new: dict[str, Any] = {}
    inside: dict[str, list[tuple[list[str], str, str]]] = {}
    for (name, *deeper), text, whole in changes:
        if deeper:
            inside.setdefault(name, []).append((deeper, text, whole))
        else:
            new[name] = _parse(text, _kind(node, name, getattr(node, name)), whole)
    new |= {name: _edit(getattr(node, name), those) for name, those in inside.items()}
    return replace(node, **new)


def _kind(node: Any, name: str, old: Any) -> type:
    hints = get_type_hints(type(node))[name]
    options = [t for t in getattr(hints, "__args__", (hints,)) if t in (bool, int, float, str)]
    kind = options[0] if options and not str(hints).startswith("tuple") else type(old)
    if kind not in (bool, int, float, str):
        raise BadValue(f"{name} is set in Python, not by key=value", saw=f"a {type(old).__name__}")
    return kind


def _parse(text: str, kind: type, key: str) -> Any:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        if kind is bool:
            return words[text.lower()]
        return int(text.replace("_", "")) if kind is int else kind(text)
    except (ValueError, KeyError) as error:
        raise BadValue(key, saw=text, want=f"a value of type {kind.__name__}") from error
