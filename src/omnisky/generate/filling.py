"""Fill in whole modalities with a masked model: in random order, or the surest tokens first.

Tokens told become inputs for the next step, so each step reads all that is known (4M: Mizrahi et al. 2023, §4;
MaskGIT: Chang et al. 2022, arXiv:2202.04200). What is read grows token by token: nothing is read that is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from omnisky.codec.tokens import Span, Tokens
from omnisky.errors import BadValue, MissingModality
from omnisky.model.any_to_any import FIRST_SENTINEL, SENTINELS, Slots, beside
from omnisky.model.deal import Asked
from omnisky.model.masked import AnyToAny, Context, demand_tokens
from omnisky.model.transformer import Cache


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How ids are drawn from logits."""

    steps: int = 8
    temperature: float = 1.0
    """0 takes the likeliest"""
    cools: bool = False
    """the temperature falls with what is left to tell"""
    top_k: int = 0
    """only among so many likeliest ids; 0 means all"""
    top_p: float = 0.0
    """only among the likeliest that together reach this chance; 0 means all"""
    guidance: float = 1.0
    """how far to go from what is said without the inputs to what is said with them (Ho & Salimans 2022); 1 is with"""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.temperature < 0 or self.top_k < 0 or not 0 <= self.top_p <= 1:
            saw = f"steps={self.steps}, temperature={self.temperature}, top_k={self.top_k}, top_p={self.top_p}"
            raise BadValue(saw=saw, want="steps ≥ 1, temperature ≥ 0, top_k ≥ 0, top_p 0 … 1")

    def warmth(self, told: int, whole: int) -> float:
        """The temperature after so many tokens."""
        return self.temperature * (1 - told / whole) if self.cools else self.temperature

    def draw(
        self, logits: Float[Tensor, "object slot id"], warmth: float, generator: torch.Generator | None
    ) -> tuple[Integer[Tensor, "object slot"], Float[Tensor, "object slot"]]:
        """(ids, how likely each was)."""
        logits = logits.float()
        if warmth == 0:
            best = logits.softmax(-1).max(-1)
            return best.indices, best.values
        chance = (narrowed(logits, self.top_k, self.top_p) / warmth).softmax(-1)
        # Draws are made on the CPU, so that they are the same on every device.
        ids = torch.multinomial(chance.flatten(0, 1).cpu(), 1, generator=generator).view(chance.shape[:2])
        ids = ids.to(chance.device)
        return ids, chance.gather(-1, ids[..., None]).squeeze(-1)


@dataclass(frozen=True, kw_only=True)
class Roar(Drawing):
    """Random order autoregression: as many tokens a step, at places drawn at random, the same for the whole batch."""

    def counts(self, whole: int) -> list[int]:
        """How many tokens each step tells."""
        steps = min(self.steps, whole)
        return [whole // steps + (i < whole % steps) for i in range(steps)]


@dataclass(frozen=True, kw_only=True)
class MaskGit(Drawing):
    """Tell all that is left, keep the surest: few tokens in the first and last steps, as the release has it."""

    def counts(self, whole: int) -> list[int]:
        """How many tokens each step tells."""
        told = [round(whole * 0.5 * (1 - cos(pi * i / self.steps))) for i in range(self.steps + 1)]
        return [after - before for before, after in pairwise(told) if after > before]


Way = Roar | MaskGit
"""how a modality is filled in"""


def narrowed(logits: Float[Tensor, "*rows id"], top_k: int, top_p: float) -> Float[Tensor, "*rows id"]:
    """−∞ for ids that are not to be drawn. The id that reaches `top_p` is kept."""
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p:
        falling, order = logits.sort(dim=-1, descending=True)
        before = falling.softmax(-1).cumsum(-1).roll(1, -1)
        before[..., 0] = 0
        beyond = torch.zeros_like(before, dtype=torch.bool).scatter_(-1, order, before > top_p)
        logits = logits.masked_fill(beyond, -torch.inf)
    return logits


@torch.inference_mode()
def fill(
    model: AnyToAny,
    tokens: Tokens,
    targets: Sequence[str],
    how: Way | Sequence[Way] = Roar(),
    *,
    draws: int = 1,
    guided: Sequence[str] = (),
    generator: torch.Generator | None = None,
    watch: Callable[[int], None] | None = None,
) -> Tokens:
    """`tokens` with all tokens of these modalities, told one modality after the other, each reading those before it.

    `how` is one way for all or one for each. With `draws` each object comes that many times in a row. `guided` are the
    inputs that guidance does without; none named: all of them. A sequence (`catalog`) is told token by token until it
    ends by itself; its tokens after the end are absent. `watch` hears of each step.

    Raises BadValue (a target that is also an input, draws < 1), MissingModality, and as `model.encode` does.
    """
    model.demand_targets(tokens, targets)
    ways = [how] * len(targets) if isinstance(how, Drawing) else list(how)
    if draws < 1 or len(ways) != len(targets):
        raise BadValue(saw=f"draws={draws}, {len(ways)} ways", want=f"draws ≥ 1, one way or {len(targets)}")
    if strange := [name for name in guided if name not in tokens.spans]:
        raise MissingModality("guided", saw=tuple(strange), want=tuple(tokens))
    known = demand_tokens(model.ends.lay_out(tokens)).compact()
    free = Tokens({name: tokens[name] for name in tokens if guided and name not in guided})
    rest = model.ends.lay_out(free).compact() if free.spans else None
    telling = _Telling(model, known, rest, draws, generator, watch)
    told = {name: telling.tell(name, way) for name, way in zip(targets, ways, strict=True)}
    rows = torch.arange(tokens.objects, device=known.rows.device).repeat_interleave(draws)
    return (tokens.take(rows) if draws > 1 else tokens) | told


class _Telling:
    """What is known so far, with the inputs and without those that guidance does without."""

    def __init__(
        self,
        model: AnyToAny,
        known: Slots,
        rest: Slots | None,
        draws: int,
        generator: torch.Generator | None,
        watch: Callable[[int], None] | None,
    ) -> None:
        self.model, self.generator, self.watch, self.steps = model, generator, watch, 0
        self.repeat = torch.arange(len(known.rows), device=known.rows.device).repeat_interleave(draws)
        # All draws of an object begin with the same context: it is read once.
        self.first: Context | None = model.read(known)
        self.known, self.rest = known.take(self.repeat), None if rest is None else rest.take(self.repeat)
        self.extra: list[Slots] = []

    def tell(self, name: str, way: Way) -> Span:
        if self.model.ends.vocabularies[name].longest:
            return self._sequence(name, way)
        kinds, places = self.model.ends.places(name)
        n = places.shape[1]
        ids = torch.zeros(len(self.repeat), n, dtype=torch.long, device=places.device)
        open_: Bool[Tensor, "object slot"] = torch.ones_like(ids, dtype=torch.bool)
        done = 0
        for count in way.counts(n):
            step = self._random if isinstance(way, Roar) else self._surest
            where, said = step(name, way, open_, count, way.warmth(done, n))
            ids.scatter_(1, where.expand(len(ids), -1), said)
            open_.scatter_(1, where.expand(len(ids), -1), False)
            chosen = (t.expand(len(where), -1).gather(1, where) for t in (kinds, places))
            self._promote(Slots(said + self.model.ends.first[name], *chosen))
            done += count
        return Span(ids, torch.arange(n, device=ids.device).expand(ids.shape))

    def _random(self, name: str, way: Drawing, open_: Tensor, count: int, warmth: float) -> tuple[Tensor, Tensor]:
        lots = torch.rand(open_.shape[1], generator=self.generator).to(open_.device)
        where = lots.masked_fill(~open_[0], torch.inf).argsort()[None, :count]
        return where, way.draw(self._logits(name, where, way.guidance), warmth, self.generator)[0]

    def _surest(self, name: str, way: Drawing, open_: Tensor, count: int, warmth: float) -> tuple[Tensor, Tensor]:
        left = int(open_[0].sum())
        where = (~open_).to(torch.uint8).argsort(dim=1, stable=True)[:, :left]
        ids, chance = way.draw(self._logits(name, where, way.guidance), warmth, self.generator)
        best = chance.topk(count, dim=-1).indices
        return where.gather(1, best), ids.gather(1, best)

    def _logits(self, name: str, where: Integer[Tensor, "#object slot"], guidance: float) -> Tensor:
        kinds, places = (t.expand(len(where), -1).gather(1, where) for t in self.model.ends.places(name))
        asked = Asked(Slots(torch.zeros_like(where).expand(len(self.repeat), -1), kinds, places))
        said = self.model.ends.answer(name, self.model.ask(asked, self._context()))
        if guidance == 1:
            return said
        pieces = [*([] if self.rest is None else [self.rest]), *self.extra]
        without = self.model.read(demand_tokens(beside(pieces))) if pieces else None
        alone = self.model.ends.answer(name, self.model.ask(asked, without))
        return alone + guidance * (said - alone)

    def _context(self) -> Context:
        if self.first is not None and not self.extra:
            return self.first if len(self.repeat) == len(self.first.states) else self.first.take(self.repeat)
        return self.model.read(beside([self.known, *self.extra]))

    def _promote(self, told: Slots) -> None:
        self.extra.append(told)
        self.steps += 1
        if self.watch is not None:
            self.watch(self.steps)

    def _sequence(self, name: str, way: Drawing) -> Span:
        """Token by token after the first sentinel, until the second one; keys and values are remembered."""
        model, v, context = self.model, self.model.ends.vocabularies[name], self._context()
        first, memory = model.ends.first[name], model.decoder.remember(context.states)
        cache = Cache(model.config.decoder_depth, v.longest)
        seen = None if context.present is None else context.present[:, None, :]
        kinds, places = model.ends.places(name)
        last = torch.full((len(self.repeat), 1), FIRST_SENTINEL, device=places.device)
        going, told, present = torch.ones_like(last, dtype=torch.bool), [], []
        nonsense = torch.arange(v.size, device=places.device) < FIRST_SENTINEL + SENTINELS
        nonsense[FIRST_SENTINEL + 1] = False
        for i in range(v.longest):
            where = model.ends.where(Slots(last, kinds[:, i : i + 1], places[:, i : i + 1]))
            x = model.ends.told(last + first, name) + where
            states = model.decoder(x, cache=cache, context=memory, attend_context=seen)
            logits = model.ends.answer(name, states).masked_fill(nonsense, -torch.inf)
            last = way.draw(logits, way.warmth(i, v.longest), self.generator)[0]
            going = going & (last != FIRST_SENTINEL + 1)
            if not bool(going.any()):
                break
            told.append(last.masked_fill(~going, 0))
            present.append(going)
        if not told:
            raise BadValue(f"{name!r}", saw="an end at once", want="one token or more", hint="draw again")
        ids, there = torch.cat(told, 1), torch.cat(present, 1)
        where = Slots(ids + first, kinds[:, : ids.shape[1]], places[:, : ids.shape[1]], there)
        self._promote(where)
        return Span(ids, torch.arange(ids.shape[1], device=ids.device).expand(ids.shape), there)
