"""Which tokens of an object are shown, and which are asked for: AION's rule and 4M's; and how surprises are averaged.

All draws come from the generator handed in, object by object and on the CPU: the same batch and the same seed give the
same deal on every device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from omnisky.codec.tokens import LATER, Tokens
from omnisky.errors import BadValue, MissingModality
from omnisky.model.any_to_any import FIRST_SENTINEL, SENTINELS, Slots, beside
from omnisky.model.spans import Hidden, hide_stretches

if TYPE_CHECKING:
    from omnisky.model.any_to_any import Ends


@dataclass(frozen=True, eq=False)
class Asked:
    """Slots that the decoder is asked for."""

    slots: Slots
    """`rows`: the right answers"""
    before: Integer[Tensor, "object slot"] | None = None
    """in a sequence, the row of the token before, which the decoder is told; −1 elsewhere; None: no sequence"""


@dataclass(frozen=True, eq=False)
class Table:
    """All tokens of a batch, and which modality's are where."""

    slots: Slots
    starts: tuple[int, ...]
    """first slot of each modality, and the end"""
    names: tuple[str, ...]

    @property
    def kinds(self) -> Integer[Tensor, " slot"]:
        """Of each slot, which of `names`."""
        lengths = torch.tensor(self.starts).diff()
        return torch.arange(len(self.names)).repeat_interleave(lengths)

    def single(self) -> Bool[Tensor, " name"]:
        """Which of `names` are of one token: numbers."""
        return torch.tensor(self.starts).diff() == 1

    def counts(self, among: Bool[Tensor, "object slot"]) -> Integer[Tensor, "object name"]:
        """How many of these each modality has."""
        whole = torch.zeros(len(among), len(self.names), dtype=torch.long)
        return whole.index_add_(1, self.kinds, among.long())

    def ranks(self, keys: Float[Tensor, "object slot"], among: Bool[Tensor, "object slot"]) -> Tensor:
        """The place of each slot within its modality, by key; those not among them come last."""
        keys = torch.where(among, keys, 1.0) + 2.0 * self.kinds
        order = keys.argsort(dim=1)
        ranks = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
        return ranks - torch.tensor(self.starts)[self.kinds]


@dataclass(frozen=True, kw_only=True)
class AionRule:
    """AION's own (§4.2): one modality gives a random number of tokens, the others fill up.

    Shown: a modality drawn at random gives 1 … all of its tokens, the rest of the budget comes from the others, every
    token alike. Asked for, of what is left: all of a modality drawn at random, then up to a share Beta(skew, 1) of the
    budget from each other, then whatever fills the budget. The paper leaves open what "fill" means; tokens are drawn
    alike, so large modalities give most.
    """

    skew: float = 0.1
    kept_out: float = 0.0
    """ours: up to this chance (a uniform share of it, drawn for each object) of each modality to show nothing, so that
    few inputs are not a rarity where an object has many; 0 as published"""

    def __post_init__(self) -> None:
        if self.skew <= 0 or not 0 <= self.kept_out <= 1:
            raise BadValue(saw=f"skew={self.skew}, kept_out={self.kept_out}", want="skew > 0, kept_out 0 … 1")

    def deal(
        self, ends: Ends, tokens: Tokens, budgets: tuple[int, int], draw: torch.Generator | None = None
    ) -> tuple[Slots, Asked]:
        """(what is shown, what is asked for); at most `budgets` of each. Raises MissingModality."""
        table = spread(ends, tokens)
        there, kinds = table.slots.there().cpu(), table.kinds
        chance = torch.rand(there.shape, generator=draw)
        first = _one_of(table.counts(there) > 0, draw)
        out = _kept_out(self.kept_out, table, draw)
        out.scatter_(1, first[:, None], False)
        counts = table.counts(there).gather(1, first[:, None])
        given = 1 + (torch.rand(counts.shape, generator=draw) * counts).long()
        own = kinds == first[:, None]
        may = there & torch.where(own, table.ranks(chance, there) < given, ~out[:, kinds])
        shown = _lowest(chance + (~own).float(), may, (there.sum(1) - 1).clamp(1, budgets[0]))

        left = there & ~shown
        chance = torch.rand(there.shape, generator=draw)
        own = kinds == _one_of(table.counts(left) > 0, draw)[:, None]
        share = torch.rand(len(there), len(table.names), generator=draw) ** (1 / self.skew)
        within = table.ranks(chance, left) < (share * budgets[1]).ceil()[:, kinds]
        asked = _lowest(chance + torch.where(own, 0.0, torch.where(within, 1.0, 2.0)), left, budgets[1])
        return _dealt(ends, table, shown, asked, draw)


@dataclass(frozen=True, kw_only=True)
class Focus:
    """Some objects take part with these modalities alone: what is hard to learn among all others."""

    share: float
    """of the objects that have at least two of them (if some of them have several tokens, of those), and no focus
    before this one"""
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not self.names:
            raise BadValue("focus", saw=(self.share, self.names), want="share 0 … 1, and names")


@dataclass(frozen=True, kw_only=True)
class DirichletRule:
    """4M's (Mizrahi et al. 2023, §3.2): the shares of the modalities are drawn from a symmetric Dirichlet.

    Shares of the budget are rounded down and what is left over goes to the largest of further draws; a modality that
    has less gives all it has. Only modalities that an object has take part.
    """

    shown: tuple[float, ...] = (0.2,)
    """concentrations, of which each object draws one: small ones show few modalities, large ones all alike"""
    asked: tuple[float, ...] = (0.2,)
    kept_out: float = 0.0
    """ours: as AionRule's, with no modality excepted"""
    numbers_first: bool = False
    """ours: modalities of one token have it shown or asked for, and the others share what is left of the budget; else
    numbers beside a thousand ids of images are hardly ever shown together"""
    focus: tuple[Focus, ...] = field(default=(), metadata=LATER)
    """ours: of such an object, one of several modalities (not its numbers) is shown at the lowest concentration, and
    none of those is kept out"""

    def __post_init__(self) -> None:
        if min((*self.shown, *self.asked, 1), default=0) <= 0 or not self.shown or not self.asked:
            raise BadValue("concentrations", saw=(self.shown, self.asked), want="numbers above 0")
        if not 0 <= self.kept_out <= 1:
            raise BadValue("kept_out", saw=self.kept_out, want="0 … 1")

    def deal(
        self, ends: Ends, tokens: Tokens, budgets: tuple[int, int], draw: torch.Generator | None = None
    ) -> tuple[Slots, Asked]:
        """(what is shown, what is asked for); at most `budgets` of each. Raises MissingModality."""
        table = spread(ends, tokens)
        there = table.slots.there().cpu()
        chance = torch.rand(there.shape, generator=draw)
        random = np.random.default_rng(int(torch.randint(1 << 62, (), generator=draw)))
        out, alphas = _kept_out(self.kept_out, table, draw), _one_each(random, self.shown, len(there))
        if self.focus:
            others, focused = self._focused(random, table, there)
            there = there & ~others[:, table.kinds]
            out &= ~focused[:, None] | table.single()
            alphas[focused.numpy()] = min(self.shown)
        may = there & ~out[:, table.kinds]
        shown = self._shared(random, alphas, table, may, chance, budgets[0])
        nothing = ~shown.any(1, keepdim=True)
        shown |= nothing & _lowest(chance, there, 1)
        shown = _lowest(chance, shown, (there.sum(1) - 1).clamp(1, budgets[0]))
        alphas = _one_each(random, self.asked, len(there))
        asked = self._shared(random, alphas, table, there & ~shown, chance, budgets[1])
        return _dealt(ends, table, shown, asked, draw)

    def _focused(
        self, random: np.random.Generator, table: Table, there: Tensor
    ) -> tuple[Bool[Tensor, "object name"], Bool[Tensor, " object"]]:
        """(modalities that take no part, objects with a focus)."""
        has, objects = table.counts(there) > 0, len(there)
        others = torch.zeros(objects, len(table.names), dtype=torch.bool)
        focused = torch.zeros(objects, dtype=torch.bool)
        for one in self.focus:
            of = torch.tensor([name in one.names for name in table.names])
            drawn = torch.from_numpy(random.random(objects) < one.share)
            large = of & ~table.single()
            mine = drawn & ~focused & ((has & (large if bool(large.any()) else of)).sum(1) > 1)
            others |= mine[:, None] & ~of
            focused |= mine
        return others, focused

    def _shared(
        self,
        random: np.random.Generator,
        alphas: Float[np.ndarray, "object 1"],
        table: Table,
        among: Tensor,
        keys: Tensor,
        most: int,
    ) -> Bool[Tensor, "object slot"]:
        """Of these slots, at most so many of each object, as the shares of their modalities have it."""
        single = table.single()[table.kinds] & self.numbers_first
        first = _lowest(keys, among & single, most)
        rest = among & ~single
        numbers = _shares(random, alphas, table.counts(rest), most - first.sum(1).numpy())
        return first | (rest & (table.ranks(keys, rest) < numbers[:, table.kinds]))


def spread(ends: Ends, tokens: Tokens) -> Table:
    """The tokens of all modalities that any object has, sequences in full. Raises as `Ends.lay_out` does."""
    if strange := [name for name in tokens if name not in ends.vocabularies]:
        raise MissingModality("the model does not know it", saw=tuple(strange), want=ends.names)
    names = tuple(name for name, one in tokens.items() if one.present is None or bool(one.present.any()))
    if not names or not tokens.objects:
        raise MissingModality("nothing to learn from", saw="no tokens", want="at least one modality")
    pieces = [ends.laid(name, tokens[name], whole=True) for name in names]
    starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
    return Table(beside(pieces), tuple(int(s) for s in starts), names)


def _kept_out(most: float, table: Table, draw: torch.Generator | None) -> Bool[Tensor, "object name"]:
    """Modalities that show nothing, each by a chance that is drawn for each object, up to the most."""
    rows = len(table.slots.rows)
    shy = most * torch.rand(rows, 1, generator=draw)
    return torch.rand(rows, len(table.names), generator=draw) < shy


def _one_of(possible: Bool[Tensor, "object name"], draw: torch.Generator | None) -> Integer[Tensor, " object"]:
    return torch.where(possible, torch.rand(possible.shape, generator=draw), -1.0).argmax(1)


def _lowest(keys: Tensor, among: Tensor, count: Tensor | int) -> Bool[Tensor, "object slot"]:
    """Those of the lowest keys, `count` of each object."""
    order = torch.where(among, keys, torch.inf).argsort(dim=1)
    ranks = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
    return among & (ranks < (count if isinstance(count, int) else count[:, None]))


def _one_each(random: np.random.Generator, alphas: tuple[float, ...], objects: int) -> Float[np.ndarray, "object 1"]:
    return random.choice(np.array(alphas), size=(objects, 1))


def _shares(
    random: np.random.Generator,
    alphas: Float[np.ndarray, "object 1"],
    counts: Tensor,
    budgets: Integer[np.ndarray, " object"],
) -> Tensor:
    """How many tokens each modality gives, 4M's way."""
    has = counts.numpy() > 0

    def drawn() -> np.ndarray:
        shares = np.where(has, random.standard_gamma(alphas, size=has.shape) + 1e-30, 0.0)
        return shares / shares.sum(1, keepdims=True).clip(1e-30)

    numbers = np.floor(drawn() * budgets[:, None]).astype(np.int64)
    left = budgets - numbers.sum(1)
    for i in range(int(left[has.any(1)].max(initial=0))):
        numbers[np.arange(len(has)), drawn().argmax(1)] += left > i
    return torch.from_numpy(np.minimum(numbers, counts.numpy()))


def _dealt(ends: Ends, table: Table, shown: Tensor, asked: Tensor, draw: torch.Generator | None) -> tuple[Slots, Asked]:
    """Both, with no more slots than needed; sequences as stretches behind sentinels."""
    slots, device = table.slots, table.slots.rows.device
    rows, places = slots.rows.cpu(), slots.places.cpu().expand(slots.rows.shape)
    before = torch.full_like(rows, -1)
    new = {"in": (rows.clone(), places.clone()), "out": (rows.clone(), places.clone())}
    told = False
    for i, name in enumerate(table.names):
        v = ends.vocabularies[name]
        if v.longest:
            told, where = True, slice(table.starts[i], table.starts[i + 1])
            there = slots.there()[:, where].cpu()
            room = tuple(t[:, where].sum(1).clamp(max=v.longest) for t in (shown, asked))
            ids = rows[:, where] - ends.first[name]
            hidden = hide_stretches(ids, there, room, (FIRST_SENTINEL, SENTINELS), draw)
            _write(new["in"], shown, where, hidden.kept, ends.first[name], ends.first_place[name])
            _write(new["out"], asked, where, hidden.wanted, ends.first[name], ends.first_place[name])
            _write((before, None), asked.clone(), where, hidden.before, ends.first[name], 0)
    if not bool(shown.any(1).all()) or not bool(asked.any()):
        raise MissingModality("nothing left to ask for", saw="one token an object, or none", want="at least two")
    kinds = slots.kinds.cpu().expand(rows.shape)
    found = []
    for chosen, (r, p) in ((shown, new["in"]), (asked, new["out"])):
        order = (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(chosen.sum(1).max())]
        one = Slots(*(t.gather(1, order).to(device) for t in (r, kinds, p, chosen)))
        found.append((Slots(one.rows, one.kinds, one.places) if bool(one.there().all()) else one, order))
    (shown_slots, _), (asked_slots, order) = found
    return shown_slots, Asked(asked_slots, before.gather(1, order).to(device) if told else None)


def _write(
    into: tuple[Tensor, Tensor | None], chosen: Tensor, where: slice, stream: Hidden, first: int, place: int
) -> None:
    """A stream of ids into the chosen slots of a sequence, in their order; surplus slots are chosen no more."""
    rows, places = into
    mine = chosen[:, where]
    rank = mine.long().cumsum(1) - 1
    fits = mine & (rank < stream.lengths[:, None])
    ids = stream.ids.gather(1, rank.clamp(0, stream.ids.shape[1] - 1))
    rows[:, where] = torch.where(fits, ids + first, rows[:, where])
    if places is not None:
        places[:, where] = torch.where(fits, rank + place, places[:, where])
    chosen[:, where] = fits


# --- averaging ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Surprise:
    """Of one modality's tokens."""

    name: str
    total: Float[Tensor, ""]
    """sum of cross-entropies, nats"""
    count: int
    """tokens asked for; 0 where they were only shown"""


@dataclass(frozen=True, kw_only=True)
class PerToken:
    """The mean over all tokens asked for: the paper's formula."""

    def of(self, found: list[Surprise], ends: Ends) -> Float[Tensor, ""]:
        """The average surprise."""
        return torch.stack([one.total for one in found]).sum() / max(sum(one.count for one in found), 1)


@dataclass(frozen=True, kw_only=True)
class PerModality:
    """The mean over modalities of their means; those that were only shown count as 0 (4M's "mod")."""

    def of(self, found: list[Surprise], ends: Ends) -> Float[Tensor, ""]:
        """The average surprise."""
        return torch.stack([one.total / max(one.count, 1) for one in found]).mean()


@dataclass(frozen=True, kw_only=True)
class PerLogit:
    """Compat: a token weighs as much as its modality has ids, as in the code AION inherited (called "token" there)."""

    def of(self, found: list[Surprise], ends: Ends) -> Float[Tensor, ""]:
        """The average surprise."""
        sizes = [ends.vocabularies[one.name].size for one in found]
        logits = sum(one.count * size for one, size in zip(found, sizes, strict=True))
        return torch.stack([one.total * size for one, size in zip(found, sizes, strict=True)]).sum() / max(logits, 1)
