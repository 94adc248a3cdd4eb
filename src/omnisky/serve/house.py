"""What is served: models by name, indices to search in, heads that answer, and how much may be asked at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from torch import nn

from omnisky.embed import signature
from omnisky.errors import BadValue, ConfigError, MissingModality, ProvenanceError, UnknownModel
from omnisky.model import store
from omnisky.search import Index
from omnisky.serve.heads import Head, TokenHead, TunedHead
from omnisky.train.devices import PRECISIONS


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may be asked of the server. Beyond these it says 413, 429 or 503, and what it takes."""

    body_bytes: int = 64 << 20
    """of one request"""
    unpacked_bytes: int = 512 << 20
    """of what a body becomes in memory: told by headers before anything is unpacked"""
    held_bytes: int = 1 << 30
    """of all bodies being worked on, and again of what they became"""
    rows: int = 2048
    """objects of one request"""
    pixels: int = 1 << 24
    """of one object: bands × height × width, or points of a spectrum"""
    waiting: int = 256
    """requests that wait for the models"""
    inside: int = 1024
    """requests being answered, by models or without"""
    batch: int = 64
    """objects at a time"""
    seconds: float = 120.0
    """until an answer; a body must have come by then, too, and who hardly takes an answer for as long is let go"""
    header_seconds: float = 10.0
    """until the header of a request has come"""

    def __post_init__(self) -> None:
        if wrong := {name: value for name, value in vars(self).items() if not value > 0}:
            raise BadValue("limits", saw=wrong, want="more than 0")


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Who made the vectors of an index."""

    model: str
    precision: str


@dataclass(frozen=True, kw_only=True, eq=False)
class House:
    """All that the server knows. Nothing is added later: another house is another server."""

    models: Mapping[str, nn.Module]
    indices: Mapping[str, Index] = field(default_factory=dict)
    heads: Mapping[str, Head] = field(default_factory=dict)
    limits: Limits = Limits()
    api_key: str = ""
    """what a request must bring; empty: nothing"""

    @classmethod
    def open(
        cls,
        models: Sequence[str],
        *,
        indices: Sequence[str] = (),
        heads: Sequence[str] = (),
        limits: Limits = Limits(),
        api_key: str = "",
    ) -> House:
        """Each word is a folder, a shipped model, or NAME=FOLDER; by default things are called as their folders are.

        Models that came with an index or a probe bring them along. Raises what their loaders raise, BadValue for two
        of one name.
        """
        built = {name: store.load(where) for name, where in _named(models).items()}
        shipped = {name: _shipped(where) for name, where in _named(models).items() if not Path(where).exists()}
        found = {name: folder / "index" for name, folder in shipped.items() if (folder / "index").is_dir()}
        found |= {name: Path(where) for name, where in _named(indices).items()}
        probes = {name: folder / "probe" for name, folder in shipped.items() if (folder / "probe").is_dir()}
        answering: dict[str, Head] = {name: TokenHead.open(built[name], folder) for name, folder in probes.items()}
        answering |= {name: TunedHead(Path(folder)) for name, folder in _named(heads).items()}
        opened = {name: Index.open(folder) for name, folder in found.items()}
        return cls(models=built, indices=opened, heads=answering, limits=limits, api_key=api_key)

    def model(self, name: str) -> nn.Module:
        """Raises UnknownModel."""
        if name not in self.models:
            raise UnknownModel(saw=name, want=tuple(self.models), hint="omnisky serve MODEL … names what is served")
        return self.models[name]

    def index(self, name: str | None) -> Index:
        """By name; None is the only one. Raises MissingModality, BadValue."""
        if name is None and len(self.indices) == 1:
            return next(iter(self.indices.values()))
        if name is None and self.indices:
            raise BadValue("which index", saw="no name", want=tuple(self.indices))
        if name is None or name not in self.indices:
            raise MissingModality("no such index", saw=name, want=tuple(self.indices), hint="omnisky serve --index DIR")
        return self.indices[name]

    @cached_property
    def signatures(self) -> Mapping[str, str | None]:
        """Of each model; None where its codecs cannot be signed."""
        found: dict[str, str | None] = {}
        for name, model in self.models.items():
            try:
                found[name] = store.signature(model)
            except ConfigError:
                found[name] = None
        return found

    @cached_property
    def makers(self) -> Mapping[str, Maker]:
        """By signature: which model makes such vectors, in which precision."""
        return {
            signature(model, None, precision): Maker(model=name, precision=precision)
            for name, model in self.models.items()
            if self.signatures[name] is not None
            for precision in PRECISIONS
        }

    def maker(self, index: Index) -> Maker:
        """Who can embed for this index. Raises ProvenanceError where none of the models did."""
        if index.signature not in self.makers:
            hint = "serve the model that made the index; ids and places of the index can be asked for without it"
            raise ProvenanceError(
                "no model here made this index", saw=index.signature, want=tuple(self.makers), hint=hint
            )
        return self.makers[index.signature]


def _shipped(name: str) -> Path:
    """Where the package would keep it."""
    return Path(str(files("omnisky"))) / "weights" / name


def _named(words: Sequence[str]) -> dict[str, str]:
    """NAME=PLACE, or a place, called by its last part."""
    found: dict[str, str] = {}
    for word in words:
        name, there, where = word.partition("=")
        name, where = (name, where) if there else (Path(word).name, word)
        if not name or not where or name in found:
            raise BadValue("names", saw=tuple(words), want="NAME=FOLDER …, each name once")
        found[name] = where
    return found
