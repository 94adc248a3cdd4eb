"""Tokens, the noun between codecs and models; and what every codec promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from omnisky.errors import MissingModality, ShapeMismatch
from omnisky.observe.types import Observation

LATER = {"later": True}
"""metadata of a field added to a codec after models with it were saved: at its default it is not written, nor signed"""


@dataclass(frozen=True, eq=False)
class Span:
    """One modality's tokens, for many objects.

    A token is a vector of numbers (continuous) or an id (discrete); its position is an integer (a learned table looks
    it up) or a vector of numbers (wavelengths, phases).
    """

    values: Float[Tensor, "object token width"] | Integer[Tensor, "object token"]
    positions: Integer[Tensor, "object token"] | Float[Tensor, "object token where"]
    present: Bool[Tensor, "object token"] | None = None
    """True where there is a token; None means everywhere"""

    def __post_init__(self) -> None:
        if self.values.shape[:2] != self.positions.shape[:2]:
            raise ShapeMismatch(
                "Span", saw=f"positions {tuple(self.positions.shape)}", want=f"values {tuple(self.values.shape)}"
            )

    def __len__(self) -> int:
        return self.values.shape[1]

    def there(self) -> Bool[Tensor, "object token"]:
        """`present`, spelled out: one boolean per token."""
        if self.present is not None:
            return self.present
        return torch.ones(self.values.shape[:2], dtype=torch.bool, device=self.values.device)

    def map(self, change: Callable[[Tensor], Tensor]) -> Span:
        """The same change to values, positions and present (a slice, a device move)."""
        present = None if self.present is None else change(self.present)
        return Span(change(self.values), change(self.positions), present)

    def span(self, start: int | None, stop: int | None) -> Span:
        """Tokens start … stop−1 of every object."""
        return self.map(lambda t: t[:, start:stop])


@dataclass(frozen=True, eq=False)
class Tokens(Mapping[str, Span]):
    """Spans of the same objects, by modality name. Row i of every span is the same object."""

    spans: Mapping[str, Span]

    def __post_init__(self) -> None:
        rows = {name: span.values.shape[0] for name, span in self.spans.items()}
        if len(set(rows.values())) > 1:
            raise ShapeMismatch("Tokens: rows do not agree", saw=rows, want="the same number of objects in each")

    def __getitem__(self, name: str) -> Span:
        if name not in self.spans:
            raise MissingModality(saw=tuple(self.spans), want=name)
        return self.spans[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.spans)

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def objects(self) -> int:
        """How many objects these are the tokens of."""
        return next(iter(self.spans.values())).values.shape[0] if self.spans else 0

    def map(self, change: Callable[[Tensor], Tensor]) -> Tokens:
        """The same change to every tensor."""
        return Tokens({name: span.map(change) for name, span in self.spans.items()})

    def to(self, *place: Any) -> Tokens:
        """On another device."""
        return self.map(lambda t: t.to(*place))

    def take(self, index: Any) -> Tokens:
        """The chosen objects."""
        return self.map(lambda t: t[index])

    def __or__(self, more: Mapping[str, Span]) -> Tokens:  # type: ignore[override]
        """The same objects with more modalities."""
        return Tokens({**self.spans, **more})


@runtime_checkable
class Codec(Protocol):
    """What turns one part of an observation into one span of tokens, and back.

    `encode` never changes the caller's arrays; one object encodes as row 0 of many; absent stays absent.
    """

    @property
    def name(self) -> str:
        """the modality's name among the tokens"""

    @property
    def part(self) -> str:
        """the part's name in the observation"""

    promised_error: ClassVar[str]
    """what a round trip loses, in words and numbers; tests hold it"""

    def encode(self, seen: Observation) -> Tokens: ...

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation: ...


@runtime_checkable
class WithNeighbours(Codec, Protocol):
    """A codec of maps, which reads the list of neighbours too where there is one."""

    @property
    def neighbours(self) -> str:
        """that part's name in the observation"""


def beside(codec: Codec) -> str:
    """The part that a codec reads beside its own, where there is one; empty if none."""
    return codec.neighbours if isinstance(codec, WithNeighbours) else ""


def encode_all(codecs: tuple[Codec, ...], seen: Observation) -> Tokens:
    """The tokens of every codec whose part was observed. Raises MissingModality if none was."""
    usable = [codec for codec in codecs if codec.part in seen]
    if not usable:
        raise MissingModality(
            "nothing here that this model reads", saw=tuple(seen.parts), want=tuple(codec.part for codec in codecs)
        )
    tokens = Tokens({})
    for codec in usable:
        tokens = tokens | codec.encode(seen)
    return tokens


def parts_read(codecs: Iterable[Codec], known: Iterable[str]) -> list[str]:
    """The parts that codecs read, sorted; lists of neighbours, which a codec of maps may have beside it, if `known`."""
    chosen = tuple(codecs)
    return sorted({codec.part for codec in chosen} | {beside(codec) for codec in chosen} & set(known))


def demand_present(tokens: Tokens, name: str) -> Span:
    """The span of that name, of which each object has at least one token. Raises MissingModality."""
    span = tokens[name]
    if span.present is not None and not bool(span.present.any(1).all()):
        absent = int((~span.present.any(1)).sum())
        raise MissingModality(
            f"{absent} of {tokens.objects} objects have no {name!r}",
            want="every object to have it",
            hint="seen.take(seen[part].there())",
        )
    return span


def absent_where(span: Span, present: Tensor) -> Span:
    """Hide all tokens of the objects where `present` (object,) is False."""
    if bool(present.all()):
        return span
    return replace(span, present=span.there() & present[:, None])
