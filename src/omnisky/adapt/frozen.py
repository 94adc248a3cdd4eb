"""What a frozen model makes of objects, for adaptations to read: vectors, token states, patches on a grid.

With a folder `cache`, each block of objects is computed once: its file is named by the model's signature and by all
that was observed, so that other weights, layers or pixels are never mistaken for these, and a killed call goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omnisky.adapt.learn import Watch
from omnisky.adapt.rows import Rows
from omnisky.codec.patch import RasterPatches
from omnisky.codec.tokens import Tokens, encode_all
from omnisky.embed import Embedding, only, signature
from omnisky.errors import BadValue, ProvenanceError, ShapeMismatch
from omnisky.model import store
from omnisky.model.any_to_any import Ends
from omnisky.model.contrastive import Pairs, Read
from omnisky.model.junction import Junction
from omnisky.storage import atomic
from omnisky.train.devices import here

BLOCK = 256
"""objects a file of the cache"""


@dataclass(frozen=True, eq=False)
class States:
    """Token states of many objects."""

    values: Float[np.ndarray, "object token width"]
    present: Bool[np.ndarray, "object token"] | None = None
    """True where there is a token; None means everywhere"""


@dataclass(frozen=True, eq=False)
class Frozen:
    """A model, and how it is read."""

    model: nn.Module
    part: str | None = None
    """the one part to read, where there are several"""
    blocks: int | None = None
    """how many blocks to go through; None is the model's own embedding layer"""
    precision: str = "fp32"
    cache: Path | None = None
    batch: int = 64

    @property
    def layer(self) -> int | None:
        return self.model.centre if self.blocks is None else self.blocks

    @property
    def signature(self) -> str:
        """As embeddings are signed."""
        return signature(self.model, self.blocks, self.precision)

    def vectors(self, rows: Rows, watch: Watch | None = None) -> Float[np.ndarray, "object width"]:
        """One vector an object. Raises ProvenanceError for another model's embedding, ShapeMismatch."""
        if isinstance(rows.held, Embedding):
            if rows.held.signature != self.signature:
                hint = "embed again with this model, layer and precision"
                raise ProvenanceError(
                    "another model's embedding", saw=rows.held.signature, want=self.signature, hint=hint
                )
            return rows.held.vectors
        if isinstance(rows.held, np.ndarray):
            return _demand(rows.held, 2)
        return np.concatenate([one["vectors"] for one in self._blocks(rows, "vectors", self._vectors, watch)])

    def states(self, rows: Rows, watch: Watch | None = None) -> States:
        """The states of every token, float16, padded to the longest. Raises BadValue, ShapeMismatch."""
        if isinstance(rows.held, Embedding):
            raise BadValue("an embedding has no tokens", want="observations, tokens, or an array of states")
        if isinstance(rows.held, np.ndarray):
            return States(_demand(rows.held, 3))
        found = list(self._blocks(rows, "states", self._states, watch))
        most = max(one["states"].shape[1] for one in found)
        padded = [_padded(one["states"], most) for one in found]
        there = [_padded(one["present"].astype(bool), most) for one in found]
        present = np.concatenate(there)
        return States(np.concatenate(padded), None if present.all() else present)

    def patches(self, rows: Rows, watch: Watch | None = None) -> Float[np.ndarray, "object row column width"]:
        """The states of the image's patches, where they are on the sky. Raises BadValue for a model without patches."""
        if isinstance(rows.held, np.ndarray):
            return _demand(rows.held, 4)
        states = self.states(rows, watch).values
        first: Any = rows.take(np.arange(1)).held
        tokens = first if isinstance(first, Tokens) else encode_all(self.model.codecs, only(first.take([0]), self.part))
        start, index = _grid(self.model, tokens, states.shape[1])
        return states[:, start + index]

    def _vectors(self, model: nn.Module, tokens: Tokens) -> dict[str, Tensor]:
        return {"vectors": model.vectors(tokens, blocks=self.layer).float()}

    def _states(self, model: nn.Module, tokens: Tokens) -> dict[str, Tensor]:
        read = read_states(model, tokens, self.layer)
        present = torch.ones(read.states.shape[:2], dtype=torch.bool) if read.present is None else read.present
        return {"states": read.states.half(), "present": present.to(torch.uint8)}

    def _blocks(
        self, rows: Rows, what: str, make: Callable[[nn.Module, Tokens], dict[str, Tensor]], watch: Watch | None
    ) -> Iterator[dict[str, np.ndarray]]:
        if not len(rows):
            raise BadValue(saw="no objects", want="at least one")
        lean = here(self.precision).lean(self.model.eval())
        for start in range(0, len(rows), BLOCK):
            held: Any = rows.held.take(slice(start, min(start + BLOCK, len(rows))))
            held = held if isinstance(held, Tokens) else only(held, self.part)
            file = None
            if self.cache is not None:
                file = self.cache / f"{self.signature}-{what}-{digest(held)}.safetensors"
            yield self._block(lean, held, file, make)
            if watch is not None:
                watch(min(start + BLOCK, len(rows)), len(rows))

    def _block(self, lean: nn.Module, held: Any, file: Path | None, make: Callable) -> dict[str, np.ndarray]:
        if file is not None and file.exists():
            return {name: t.numpy() for name, t in store.read_weights(file).items()}
        objects = held.objects if isinstance(held, Tokens) else len(held)
        pieces: list[dict[str, Tensor]] = []
        for i in range(0, objects, self.batch):
            piece = held.take(slice(i, i + self.batch))
            tokens = piece if isinstance(piece, Tokens) else encode_all(self.model.codecs, piece)
            with torch.inference_mode(), here(self.precision).autocast():
                made = make(lean, tokens.to(next(self.model.parameters()).device))
            pieces.append({name: t.cpu() for name, t in made.items()})
        found = {name: _longest([piece[name] for piece in pieces]) for name in pieces[0]}
        if file is not None:
            with atomic(file) as draft:
                store.write_weights(found, draft)
        return {name: t.numpy() for name, t in found.items()}


def read_states(model: nn.Module, tokens: Tokens, blocks: int | None) -> Read:
    """States of every token, and which of them are there, of every model of the package."""
    if isinstance(model, Pairs):
        return model.tower(tokens).read(tokens)
    if not hasattr(model, "states"):
        hint = "KNN, Linear or MLP read one vector an object"
        raise BadValue("no tokens to read", saw=type(model).__name__, want="a model of tokens", hint=hint)
    states = model.states(tokens, blocks=blocks)
    ends, junction = getattr(model, "ends", None), getattr(model, "junction", None)
    if isinstance(ends, Ends):
        return Read(states, ends.lay_out(tokens).present)
    if isinstance(junction, Junction):
        return Read(states, junction.layout(tokens).present)
    present = tokens[model.config.name].present
    ahead = states.shape[1] - len(tokens[model.config.name])  # the class token
    return Read(states, None if present is None else F.pad(present, (ahead, 0), value=True))


def _grid(model: nn.Module, tokens: Tokens, states: int) -> tuple[int, np.ndarray]:
    """(where the image's states begin, which of them stands where)."""
    names = tuple(tokens)
    junction = getattr(model, "junction", None)
    if isinstance(junction, Junction):
        names = junction.layout(tokens).names
    codecs = {codec.name: codec for codec in model.codecs}
    name = next((n for n in names if isinstance(codecs.get(n), RasterPatches) or n.startswith("tok_image")), None)
    if name is None:
        raise BadValue("no patches of an image", saw=names, want="a model that reads images patch by patch")
    start = sum(len(tokens[n]) for n in names[: names.index(name)])
    start += states - sum(len(tokens[n]) for n in names)  # the class token
    n = round(len(tokens[name]) ** 0.5)
    codec = codecs.get(name)
    if not isinstance(codec, RasterPatches):
        return start, np.arange(n * n).reshape(n, n)
    index = codec.index(n).numpy()
    return start, index.T if codec.columns_first else index


def digest(held: Any) -> str:
    """Of all that was observed, or of all tokens."""
    seal = blake2b(digest_size=16)
    for name, value in _arrays("", held):
        value = np.ascontiguousarray(value)
        seal.update(f"{name} {value.dtype} {value.shape};".encode())
        seal.update(repr(value.tolist()).encode() if value.dtype.kind == "O" else value.view(np.uint8).data)
    return seal.hexdigest()


def _arrays(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, Mapping) and not isinstance(value, Tokens):
        for key in sorted(value):
            yield from _arrays(f"{name}.{key}", value[key])
    elif isinstance(value, np.ndarray):
        yield name, value if value.ndim else value[None]
    elif hasattr(value, "__dataclass_fields__"):
        yield f"{name}:{type(value).__name__}", np.zeros(1)
        for one in fields(value):
            yield from _arrays(f"{name}.{one.name}", getattr(value, one.name))
    else:
        yield f"{name}={value!r}", np.zeros(1)


def _demand(x: np.ndarray, ndim: int) -> np.ndarray:
    if x.ndim != ndim:
        shapes = {2: "(object, width)", 3: "(object, token, width)", 4: "(object, row, column, width)"}
        raise ShapeMismatch("x", saw=x.shape, want=shapes[ndim])
    return x


def _longest(pieces: list[Tensor]) -> Tensor:
    if pieces[0].ndim == 1 or len({piece.shape[1] for piece in pieces}) == 1:
        return torch.cat(pieces).contiguous()
    most = max(piece.shape[1] for piece in pieces)
    return torch.cat([torch.from_numpy(_padded(piece.numpy(), most)) for piece in pieces])


def _padded(x: np.ndarray, length: int) -> np.ndarray:
    return np.pad(x, [(0, 0), (0, length - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])
