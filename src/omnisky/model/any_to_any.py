"""Many modalities' ids ↔ one sequence of slots, and the answers back out: AION's ends (arXiv:2510.17960, §4.1).

A model has one table of all ids of all modalities, each modality a range of its rows, and likewise one table of
answers and one of places. So a sequence of forty modalities is entered by one look-up, and what is not chosen is never
looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from omnisky.codec.catalog import FIRST_SENTINEL as FIRST_SENTINEL
from omnisky.codec.catalog import LENGTH
from omnisky.codec.catalog import SENTINELS as SENTINELS
from omnisky.codec.field import FieldCodecConfig
from omnisky.codec.image_network import ImageCodecConfig
from omnisky.codec.modalities import DOMAINS, Domain
from omnisky.codec.spectrum_network import SpectrumCodecConfig
from omnisky.codec.tokens import LATER, Span, Tokens
from omnisky.errors import BadValue, ContextOverflow, MissingModality, ShapeMismatch


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """One modality's ids and where they stand."""

    name: str
    """its key among the tokens"""
    size: int
    """how many ids there are"""
    grid: tuple[int, int] = (1, 1)
    """places of its tokens along two axes, the first one fast"""
    longest: int = 0
    """0 for a grid, whose tokens are told all at once; else a sequence of at most so many, told one after the other"""
    digits: tuple[int, ...] = field(default=(), metadata=LATER)
    """what ids count by, the fastest first: a number's is its size, a quantiser's are its levels. () where ids that are
    neighbours are not alike"""

    def __post_init__(self) -> None:
        if self.digits and prod(self.digits) != self.size:
            raise BadValue(f"digits of {self.name!r}", saw=self.digits, want=f"{self.size} ids in all")

    def ordered(self, width: int, draw: torch.Generator | None) -> Float[Tensor, "id width"]:
        """Rows of mean square 1, alike where digits are: of each digit a wave of a few turns. Needs digits."""
        rows, below = torch.zeros(self.size, width), 1
        for radix in self.digits:
            digit = torch.arange(self.size)[:, None] // below % radix
            turns, phase = torch.randn(2, width, generator=draw)
            rows += torch.cos(2 * torch.pi * (_TURNS * turns * digit / (radix - 1) + phase))
            below *= radix
        return rows * (2 / len(self.digits)) ** 0.5

    @property
    def length(self) -> int:
        """How many places there are."""
        return self.longest or self.grid[0] * self.grid[1]


@dataclass(frozen=True, eq=False)
class Slots:
    """Tokens of many modalities, side by side."""

    rows: Integer[Tensor, "object slot"]
    """of the table of ids"""
    kinds: Integer[Tensor, "#object slot"]
    """modalities, by their number"""
    places: Integer[Tensor, "#object slot"]
    """rows of the table of places"""
    present: Bool[Tensor, "object slot"] | None = None
    """True where there is a token; None means everywhere"""

    def __len__(self) -> int:
        return self.rows.shape[1]

    def there(self) -> Bool[Tensor, "object slot"]:
        """`present`, spelled out."""
        return torch.ones_like(self.rows, dtype=torch.bool) if self.present is None else self.present

    def at(self, index: Integer[Tensor, "object chosen"]) -> Slots:
        """Other slots for each object; `present` goes with them."""
        rows = len(self.rows)
        kinds, places = (t.expand(rows, -1).gather(1, index) for t in (self.kinds, self.places))
        present = None if self.present is None else self.present.gather(1, index)
        return Slots(self.rows.gather(1, index), kinds, places, present)

    def compact(self, budget: int | None = None) -> Slots:
        """The tokens that are there, in their order, the first `budget` of each object; no more slots than needed."""
        if self.present is None:
            cut = slice(None, budget)
            return Slots(self.rows[:, cut], self.kinds[:, cut], self.places[:, cut])
        count = int(self.present.sum(1).max()) if self.present.numel() else 0
        order = (~self.present).to(torch.uint8).argsort(dim=1, stable=True)
        kept = self.at(order[:, : count if budget is None else min(budget, count)])
        return replace(kept, present=None) if bool(kept.there().all()) else kept

    def take(self, index: Integer[Tensor, " row"]) -> Slots:
        """Other objects, or the same ones again."""
        kinds, places = (t if len(t) == 1 else t[index] for t in (self.kinds, self.places))
        return Slots(self.rows[index], kinds, places, None if self.present is None else self.present[index])


def beside(pieces: list[Slots]) -> Slots:
    """One row of slots after the other."""

    def joined(tensors: list[Tensor]) -> Tensor:
        rows = max(map(len, tensors))
        return torch.cat([t.expand(rows, -1) for t in tensors], 1)

    kinds, places = joined([one.kinds for one in pieces]), joined([one.places for one in pieces])
    absent = any(one.present is not None for one in pieces)
    present = joined([one.there() for one in pieces]) if absent else None
    return Slots(joined([one.rows for one in pieces]), kinds, places, present)


class Ends(nn.Module):
    """Tables of ids, of kinds and of answers; modalities are numbered in the order of their names."""

    positions: Tensor

    def __init__(self, vocabularies: Iterable[Vocabulary], width: int, *, tied: bool, unread: bool) -> None:
        super().__init__()
        self.vocabularies = {v.name: v for v in sorted(vocabularies, key=lambda v: v.name)}
        if not self.vocabularies:
            raise BadValue("a model needs at least one modality", saw="none")
        self.names = tuple(self.vocabularies)
        sizes = [v.size for v in self.vocabularies.values()]
        self.first = {name: sum(sizes[:i]) for i, name in enumerate(self.names)}
        self.words = nn.Embedding(sum(sizes), width)
        self.kinds = nn.Embedding(len(sizes), width)
        sequences = [v for v in self.vocabularies.values() if v.longest]
        asked = self.vocabularies.values() if unread else sequences
        self.first_asked = {v.name: sum(w.size for w in asked if w.name < v.name) for v in asked}
        self.asked = None if tied or not asked else nn.Embedding(sum(v.size for v in asked), width)
        self.answers = None if tied else nn.Linear(width, sum(sizes), bias=False)
        self.width = width
        self._lay_places()

    def _lay_places(self) -> None:
        """Compute the table of places: not among the weights, since a formula gives it."""
        tables: dict[tuple[int, ...], Tensor] = {}
        for v in self.vocabularies.values():
            key = (v.longest,) if v.longest else v.grid
            if key not in tables:
                tables[key] = along(v.longest, self.width) if v.longest else across(v.grid, self.width)
        starts = dict(zip(tables, (sum(map(len, list(tables.values())[:i])) for i in range(len(tables))), strict=True))
        self.first_place = {v.name: starts[(v.longest,) if v.longest else v.grid] for v in self.vocabularies.values()}
        self.register_buffer("positions", torch.cat(list(tables.values())), persistent=False)

    # --- in ---

    def lay_out(self, tokens: Tokens) -> Slots:
        """The tokens in the order given. Raises MissingModality, ShapeMismatch, BadValue, ContextOverflow."""
        if not tokens.spans or not tokens.objects:
            raise MissingModality("nothing to start from", saw="no tokens", want="at least one modality")
        strange = [name for name in tokens if name not in self.vocabularies]
        if strange:
            raise MissingModality("the model does not know it", saw=tuple(strange), want=self.names)
        return beside([self.laid(name, tokens[name]) for name in tokens])

    def laid(self, name: str, span: Span, *, whole: bool = False) -> Slots:
        """One modality's tokens. `whole`: a sequence of any length, whose places are decided later."""
        v, ids = self.vocabularies[name], self.checked(name, span)
        kinds = torch.full((1, len(span)), self.names.index(name), device=ids.device)
        present = None if span.present is None or bool(span.present.all()) else span.present
        if whole and v.longest:
            return Slots(ids + self.first[name], kinds, torch.zeros_like(kinds), present)
        if v.longest:  # the place of a token in a sequence is how many there are before it
            there = torch.ones_like(ids, dtype=torch.bool) if present is None else present
            places = there.cumsum(1).sub(1).clamp(min=0)
            most, want = int(there.sum(1).max()), f"at most {v.longest}"
            if most > v.longest:
                raise ContextOverflow(f"{name!r}", saw=f"{most} tokens", want=want, hint="fewer neighbours")
        else:
            places = span.positions.long()
            low, high, want = int(places.min()), int(places.max()), f"0 … {v.length - 1}"
            if low < 0 or high >= v.length:
                raise ContextOverflow(f"positions of {name!r}", saw=f"{low} … {high}", want=want)
        if len(places) > 1 and bool((places == places[:1]).all()):
            places = places[:1]
        return Slots(ids + self.first[name], kinds, places + self.first_place[name], present)

    def checked(self, name: str, span: Span) -> Integer[Tensor, "object token"]:
        """The ids of a span, 0 where there is none. Raises ShapeMismatch, BadValue."""
        v = self.vocabularies[name]
        if span.values.ndim != 2 or span.values.is_floating_point():
            saw = f"{span.values.dtype} {tuple(span.values.shape)}"
            raise ShapeMismatch(f"tokens of {name!r}", saw=saw, want="ids")
        if not v.longest and len(span) != v.length:
            hint = "all of them, with present=False where one is not to be seen"
            raise ShapeMismatch(f"tokens of {name!r}", saw=len(span), want=v.length, hint=hint)
        ids = span.values.long()
        ids = ids if span.present is None else ids.masked_fill(~span.present, 0)
        low, high = (int(ids.min()), int(ids.max())) if ids.numel() else (0, 0)
        if low < 0 or high >= v.size:
            raise BadValue(f"ids of {name!r}", saw=f"{low} … {high}", want=f"0 … {v.size - 1}", hint="the right codec?")
        return ids

    def where(self, slots: Slots) -> Float[Tensor, "#object slot width"]:
        """What says which modality's token stands where."""
        return self.kinds(slots.kinds) + F.embedding(slots.places, self.positions)

    def places(self, name: str) -> tuple[Integer[Tensor, "1 slot"], Integer[Tensor, "1 slot"]]:
        """Kinds and places of all tokens of a modality."""
        v, device = self.vocabularies[name], self.kinds.weight.device
        first = self.first_place[name]
        places = torch.arange(first, first + v.length, device=device)[None]
        return torch.full_like(places, self.names.index(name)), places

    # --- out ---

    def told(self, rows: Integer[Tensor, "object slot"], name: str) -> Float[Tensor, "object slot width"]:
        """How tokens of a sequence that are told already enter the decoder."""
        if self.asked is None:
            return self.words(rows)
        return self.asked(rows - self.first[name] + self.first_asked[name])

    def answer(self, name: str, states: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows id"]:
        """A logit for each id of this modality."""
        start = self.first[name]
        return F.linear(states, self._table[start : start + self.vocabularies[name].size])

    def answerers(self) -> dict[str, Float[Tensor, "_id width"]]:
        """Every modality's rows of the table of answers, cut at once.

        The gradient of one cut is one table; that of a slice is a whole table too, for each slice.
        """
        return dict(zip(self.names, self._table.split([v.size for v in self.vocabularies.values()]), strict=True))

    @property
    def _table(self) -> Tensor:
        return self.words.weight if self.answers is None else self.answers.weight


def across(grid: tuple[int, int], width: int) -> Float[Tensor, "place width"]:
    """Sines and cosines of the slow axis, then of the fast one (after Chen et al. 2021, arXiv:2104.02057)."""
    fast, slow = grid
    turns = _turns(width // 4)
    places = torch.cartesian_prod(torch.arange(slow, dtype=torch.float32), torch.arange(fast, dtype=torch.float32))
    parts = [place[:, None] * turns for place in places.unbind(1)]
    return torch.cat([f(part) for part in parts for f in (torch.sin, torch.cos)], 1)


def along(length: int, width: int) -> Float[Tensor, "place width"]:
    """Sines and cosines of one axis (Vaswani et al. 2017, §3.5)."""
    part = torch.arange(length, dtype=torch.float32)[:, None] * _turns(width // 2)
    return torch.cat([part.sin(), part.cos()], 1)


def _turns(count: int) -> Float[Tensor, " frequency"]:
    return 1 / 10000 ** (torch.arange(count, dtype=torch.float32) / count)


_TURNS = 2.0
_LEVELS = {
    "Image": ImageCodecConfig.quantizer_levels,
    "ScalarField": FieldCodecConfig.levels,
    "Spectrum": (2,) * SpectrumCodecConfig.embedding_dim,
}
"""of the published quantisers; an id of any other kind of codec counts one number"""
_SQUARES = {"tok_image": (24, 24), "tok_image_hsc": (24, 24), "tok_segmap": (12, 12)}


def _vocabulary(domain: Domain) -> Vocabulary:
    """What the model knows of a modality. Of neighbours it reads fewer tokens than the codec makes."""
    if domain.key == "catalog":
        return Vocabulary(name=domain.key, size=domain.vocabulary, longest=LENGTH)
    size, digits = domain.vocabulary, _LEVELS.get(domain.codec, (domain.vocabulary,))
    return Vocabulary(name=domain.key, size=size, grid=_SQUARES.get(domain.key, (domain.tokens, 1)), digits=digits)


AION: Mapping[str, Vocabulary] = {key: _vocabulary(domain) for key, domain in DOMAINS.items()}
"""AION-1's forty modalities: Legacy Survey, HSC, DESI, SDSS and Gaia"""
