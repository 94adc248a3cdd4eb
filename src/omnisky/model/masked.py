"""AION: an any-to-any masked encoder–decoder (Parker et al. 2025, arXiv:2510.17960; after 4M, arXiv:2312.06647).

The encoder reads any tokens of any modalities; the decoder is asked for any others, each by its modality and its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from omnisky.codec.tokens import LATER, Codec, Span, Tokens
from omnisky.codec.weights import Blank
from omnisky.errors import BadValue, MissingModality
from omnisky.model.any_to_any import AION, Ends, Slots, Vocabulary, beside
from omnisky.model.deal import AionRule, Asked, DirichletRule, PerLogit, PerModality, PerToken, Surprise
from omnisky.model.transformer import CoreConfig, Stack


@dataclass(frozen=True, kw_only=True)
class AnyToAnyConfig:
    """An AION: its core, its modalities, and how it learns."""

    core: CoreConfig
    """of the encoder; the decoder's is the same, and looks at the context too"""
    decoder_depth: int
    vocabularies: tuple[Vocabulary, ...] = tuple(AION.values())
    shown: int = 256
    """tokens an object shows in training, at most"""
    asked: int = 128
    """tokens it is asked for, at most"""
    rule: AionRule | DirichletRule = field(default_factory=AionRule)
    average: PerToken | PerModality | PerLogit = field(default_factory=PerToken)
    tied: bool = False
    """one table for what is read, told and answered, instead of three"""
    unread: bool = False
    """keep decoder tables of modalities whose ids never enter the decoder: the published files hold them"""
    spread: float = field(default=0.02, metadata=LATER)
    """of the tables of ids and of modalities at the start; 0.02 as published. Beside places, whose sines are of size 1,
    that is little: who learns from few objects tells ids apart much sooner from 0.2"""
    ordered: bool = field(default=False, metadata=LATER)
    """tables begin with ids alike that stand for about the same, not all at random; surveys whose ids are of one codec
    begin with the same rows"""
    alike: bool = field(default=False, metadata=LATER)
    """the decoder begins by looking at what stands at the same place, and says what it sees there: keys begin as
    queries, in its first half as the fastest sines of places, outputs as values turned back (after Trockman & Kolter
    2023, arXiv:2305.09828), branches at a tenth"""

    def __post_init__(self) -> None:
        if min(self.shown, self.asked, self.decoder_depth) < 1:
            saw = f"shown={self.shown}, asked={self.asked}, decoder_depth={self.decoder_depth}"
            raise BadValue("budgets and depth", saw=saw, want="1 or more")
        if self.core.width % 4:
            raise BadValue("core.width", saw=self.core.width, want="a multiple of 4, for the sines of two axes")
        if len({v.name for v in self.vocabularies}) != len(self.vocabularies):
            raise BadValue("vocabularies", saw=tuple(v.name for v in self.vocabularies), want="each name once")
        if self.tied and self.unread:
            raise BadValue(saw="tied=True, unread=True", want="one of them", hint="unread is for published files")

    def build(self, seed: int | None = None) -> AnyToAny:
        return AnyToAny(self, seed)


SIZES = {"base": (12, 768, 12), "large": (24, 1024, 16), "xlarge": (24, 2048, 32)}
"""published size → blocks of the encoder and of the decoder, width, heads"""


def gated(depth: int, width: int, heads: int) -> CoreConfig:
    """AION's blocks: gated SiLU MLPs of 8/3 · width, normalised queries and keys, no biases."""
    return CoreConfig(
        width=width,
        depth=depth,
        heads=heads,
        hidden=int(2 / 3 * 4 * width),
        activation="silu_gated",
        norm_heads=True,
        eps=1e-6,
    )


def published(size: str) -> AnyToAnyConfig:
    """AION-1's base, large or xlarge: 0.31, 0.86 and 3.13 billion parameters."""
    if size not in SIZES:
        raise BadValue("size", saw=size, want=tuple(SIZES))
    return AnyToAnyConfig(core=gated(*SIZES[size]), decoder_depth=SIZES[size][0], unread=True)


@dataclass(frozen=True, eq=False)
class Context:
    """What the encoder says of the tokens that are there: what the decoder looks at, and embeddings are made of."""

    states: Float[Tensor, "object slot width"]
    slots: Slots
    """whose they are"""

    @property
    def present(self) -> Bool[Tensor, "object slot"] | None:
        """True where there is a token; None means everywhere."""
        return self.slots.present

    def take(self, index: Integer[Tensor, " row"]) -> Context:
        """Other objects, or the same ones again."""
        return Context(self.states[index], self.slots.take(index))

    def mean(self) -> Float[Tensor, "object width"]:
        """The mean over the tokens that are there."""
        if self.present is None:
            return self.states.mean(1)
        weight = self.present[..., None].to(self.states.dtype)
        return (self.states * weight).sum(1) / weight.sum(1)


class AnyToAny(nn.Module):
    """Read any tokens, tell any others."""

    def __init__(self, config: AnyToAnyConfig, seed: int | None = None) -> None:
        super().__init__()
        width = config.core.width
        self.config = config
        self.codecs: tuple[Codec, ...] = ()
        self.ends = Ends(config.vocabularies, width, tied=config.tied, unread=config.unread)
        self.encoder = Stack(config.core)
        self.project = nn.Linear(width, width)
        self.decoder = Stack(replace(config.core, depth=config.decoder_depth, cross=True))
        self.hidden_token = nn.Parameter(torch.empty(1, 1, width))
        self._initialise(None if seed is None else torch.Generator().manual_seed(seed))

    @property
    def centre(self) -> int:
        """How many blocks embeddings go through: all of the encoder."""
        return self.config.core.depth

    # --- reading ---

    def encode(self, tokens: Tokens, budget: int | None = None) -> Context:
        """States of all tokens that are there, or of the first `budget` of each object.

        Raises MissingModality for an object without any token, BadValue, and as `Ends.lay_out` does.
        """
        if budget is not None and budget < 1:
            raise BadValue("budget", saw=budget, want="1 or more, or None for all tokens")
        return self.read(demand_tokens(self.ends.lay_out(tokens)).compact(budget))

    def read(self, shown: Slots, blocks: int | None = None) -> Context:
        """As `encode`, of slots; with `blocks`, the raw states after so many of them."""
        where = self.ends.where(shown)
        attend = None if shown.present is None else shown.present[:, None, :]
        x = self.encoder(self.ends.words(shown.rows) + where, attend, blocks=blocks)
        return Context(x if blocks is not None else self.project(x) + where, shown)

    def vectors(self, tokens: Tokens, blocks: int | None = None) -> Float[Tensor, "object width"]:
        """One vector an object: the mean over its tokens; `blocks` as in `states`."""
        return self._read_until(tokens, blocks).mean()

    def states(self, tokens: Tokens, blocks: int | None = None) -> Float[Tensor, "object token width"]:
        """As `encode`, in the order given and 0 where there is no token; raw after fewer than all blocks."""
        context = self._read_until(tokens, blocks)
        if context.present is None:
            return context.states
        there = self.ends.lay_out(tokens).there()
        whole = context.states.new_zeros(*there.shape, context.states.shape[-1])
        whole[there] = context.states[context.slots.there()]
        return whole

    def _read_until(self, tokens: Tokens, blocks: int | None) -> Context:
        shown = demand_tokens(self.ends.lay_out(tokens)).compact()
        return self.read(shown, None if blocks in (None, self.centre) else blocks)

    # --- telling ---

    def predict(
        self, tokens: Tokens, targets: Sequence[str], told: Tokens | None = None
    ) -> Mapping[str, Float[Tensor, "object _token _id"]]:
        """Logits of every token of the targets, each modality told by itself, whatever is asked with it.

        Of a sequence, `told` holds what is known of it, and the logits are those of each next token.
        """
        self.demand_targets(tokens, targets)
        return self.answers(self.encode(tokens), targets, told)

    def predict_as_released(
        self, tokens: Tokens, targets: Sequence[str]
    ) -> Mapping[str, Float[Tensor, "object _token _id"]]:
        """Compat: the released AION lets no target token look at any, which makes all of them look at all alike.

        The same as `predict` for one target of one token; others depend on what is asked together with them.
        """
        self.demand_targets(tokens, targets)
        context, asked = self.encode(tokens), self.asked(targets, tokens.objects)
        nobody = torch.full((1, len(asked.slots), len(asked.slots)), torch.finfo(torch.float32).min)
        return self._named(self._tell(asked, context, nobody.to(context.states.device)), targets, None)

    def answers(
        self, context: Context, targets: Sequence[str], told: Tokens | None = None
    ) -> Mapping[str, Float[Tensor, "object _token _id"]]:
        """As `predict`, of a context that was read before."""
        asked = self.asked(targets, len(context.states), told)
        return self._named(self.ask(asked, context), targets, told)

    def asked(self, targets: Sequence[str], objects: int, told: Tokens | None = None) -> Asked:
        """All tokens of these modalities, as they are asked for."""
        slots, before = [], []
        for name in targets:
            kinds, places = self.ends.places(name)
            if self.ends.vocabularies[name].longest:
                if told is None or name not in told.spans:
                    raise MissingModality(f"{name!r} is told token by token", want="told=", hint="omnisky.generate")
                rows = self.ends.checked(name, told[name]) + self.ends.first[name]
                kinds, places = kinds[:, : rows.shape[1]], places[:, : rows.shape[1]]
                before.append(rows)
            else:
                rows = torch.zeros(objects, places.shape[1], dtype=torch.long, device=places.device)
                before.append(torch.full_like(rows, -1))
            known = None if told is None else told.spans.get(name)
            slots.append(Slots(rows, kinds, places, None if known is None else known.present))
        return Asked(beside(slots), torch.cat(before, 1) if any(bool((b >= 0).any()) for b in before) else None)

    def ask(self, asked: Asked, context: Context | None) -> Float[Tensor, "object slot width"]:
        """States of the tokens asked for; each looks at those of its own modality, in a sequence at earlier ones."""
        alone, attend = self._company(asked)
        return self._tell(asked, context, attend, alone)

    def _tell(self, asked: Asked, context: Context | None, attend: Tensor | None, alone: bool = False) -> Tensor:
        where = self.ends.where(asked.slots)
        x = self.hidden_token + where.expand(len(asked.slots.rows), -1, -1)
        if asked.before is not None:
            for name in (v.name for v in self.config.vocabularies if v.longest):
                mine = (asked.slots.kinds == self.ends.names.index(name)) & (asked.before >= 0)
                rows = torch.where(mine, asked.before, self.ends.first[name])
                x = torch.where(mine[..., None], self.ends.told(rows, name) + where, x)
        if context is None:  # nothing is known: looking at nothing adds nothing, since there are no biases
            return self.decoder(x, attend, alone=alone)
        seen = None if context.present is None else context.present[:, None, :]
        return self.decoder(x, attend, context=context.states, attend_context=seen, alone=alone)

    def _company(self, asked: Asked) -> tuple[bool, Tensor | None]:
        """(everybody is alone, who may look at whom); None where all look at all."""
        slots, sequences = asked.slots, [v.longest > 0 for v in self.ends.vocabularies.values()]
        single = [v.length == 1 for v in self.ends.vocabularies.values()]
        used = slots.kinds.unique()
        if all(single[kind] for kind in used.tolist()):
            return True, None
        if len(used) == 1 and slots.present is None and asked.before is None:
            return False, None
        attend = slots.kinds[:, :, None] == slots.kinds[:, None, :]
        if any(sequences[kind] for kind in used.tolist()):
            told = torch.tensor(sequences, device=slots.kinds.device)[slots.kinds][:, :, None]
            attend = attend & ~(told & (slots.places[:, None, :] > slots.places[:, :, None]))
        if slots.present is not None:
            attend = attend & slots.present[:, None, :] | torch.eye(len(slots), dtype=torch.bool, device=attend.device)
        return False, attend

    def _named(self, states: Tensor, targets: Sequence[str], told: Tokens | None) -> dict[str, Tensor]:
        known = {} if told is None else told.spans
        lengths = [len(known[n]) if n in known else self.ends.vocabularies[n].length for n in targets]
        pieces = states.split(lengths, dim=1)
        return {name: self.ends.answer(name, piece) for name, piece in zip(targets, pieces, strict=True)}

    def demand_targets(self, tokens: Tokens, targets: Sequence[str]) -> None:
        """Raises BadValue, MissingModality."""
        if isinstance(targets, str) or not targets or len(set(targets)) != len(targets):
            raise BadValue("targets", saw=targets, want="names of modalities, each once", hint='("tok_z",)')
        if strange := [name for name in targets if name not in self.ends.vocabularies]:
            raise MissingModality("the model does not know it", saw=tuple(strange), want=self.ends.names)
        if both := [name for name in targets if name in tokens.spans]:
            raise BadValue("a target that is also an input", saw=tuple(both), want="one or the other")

    # --- learning ---

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """Show some tokens, ask for others, and average the surprise (§4.2)."""
        rule, budgets = self.config.rule, (self.config.shown, self.config.asked)
        shown, asked = rule.deal(self.ends, tokens, budgets, generator)
        return self.config.average.of(self.score(shown, asked), self.ends)

    def score(self, shown: Slots, asked: Asked) -> list[Surprise]:
        """The surprise of all tokens asked for, by modality."""
        states = self.ask(asked, self.read(shown)).flatten(0, 1)
        kinds, rows = asked.slots.kinds.expand_as(asked.slots.rows).flatten(), asked.slots.rows.flatten()
        there, all_names = asked.slots.there().flatten(), self.ends.names
        order = torch.where(there, kinds, len(all_names)).argsort(stable=True)
        counts = kinds[there].bincount(minlength=len(all_names)).tolist()
        only_shown = {all_names[kind] for kind in shown.kinds.unique().tolist()}
        states, rows, start, found, tables = states[order], rows[order], 0, [], self.ends.answerers()
        for name, count in zip(all_names, counts, strict=True):
            if count:
                logits = F.linear(states[start : start + count], tables[name]).float()
                wanted = rows[start : start + count] - self.ends.first[name]
                found.append(Surprise(name, F.cross_entropy(logits, wanted, reduction="sum"), count))
                start += count
            elif name in only_shown:
                found.append(Surprise(name, states.new_zeros((), dtype=torch.float32), 0))
        return found

    def _initialise(self, draw: torch.Generator | None) -> None:
        """Tables N(0, spread); linears uniform (Glorot & Bengio 2010), packed ones each by itself; biases 0."""
        if Blank.inside():
            return
        for name, module in self.named_modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.spread, generator=draw)
            elif isinstance(module, nn.Linear):
                packed = {"qkv": 3, "key_value": 2}.get(name.rpartition(".")[2], 1)
                whole, sizes = module.weight.data, [v.size for v in self.ends.vocabularies.values()]
                for piece in whole.split(sizes) if name == "ends.answers" else whole.chunk(packed):
                    bound = sqrt(6 / sum(piece.shape))
                    nn.init.uniform_(piece, -bound, bound, generator=draw)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.hidden_token, std=0.02, generator=draw)
        if self.config.ordered:
            self._order(draw)
        if self.config.alike:
            self._align(draw)

    @torch.no_grad()
    def _order(self, draw: torch.Generator | None) -> None:
        """Of what stands in the tables, keep the size."""
        ends = self.ends
        for table in [ends.words.weight] + ([] if ends.answers is None else [ends.answers.weight]):
            waves: dict[str | tuple[int, ...], Tensor] = {}
            for name, v in ends.vocabularies.items():
                if v.digits:
                    rows = table[ends.first[name] : ends.first[name] + v.size]
                    codec = v.digits if len(v.digits) > 1 else name  # a quantiser has the same levels for all surveys
                    if codec not in waves:
                        waves[codec] = v.ordered(table.shape[1], draw)
                    rows.copy_(rows.std() * waves[codec])

    @torch.no_grad()
    def _align(self, draw: torch.Generator | None) -> None:
        width = self.config.core.width
        for block in (*self.encoder.blocks, *self.decoder.blocks):
            for last in (block.attention.out, block.mlp.down):
                last.weight.mul_(0.1)
        self.project.weight.copy_(torch.eye(width))
        for i, block in enumerate(self.decoder.blocks):
            key, value = block.cross.key_value.weight.chunk(2)
            if 2 * i < len(self.decoder.blocks):
                block.cross.query.weight.copy_(self._fastest())
                for norm in (block.cross.norm_query, block.cross.norm_key):
                    if isinstance(norm, nn.LayerNorm):
                        norm.weight.fill_(_SHARP)
            key.copy_(block.cross.query.weight)
            nn.init.orthogonal_(value, generator=draw)
            block.cross.out.weight.copy_(value.mT)

    def _fastest(self) -> Float[Tensor, "width width"]:
        """Each head takes what turns fastest in places: of both axes, sines and cosines, as `across` lays them."""
        core = self.config.core
        each = core.width // core.heads
        rows = torch.arange(each)
        picked = rows % 4 * (core.width // 4) + rows // 4
        return torch.eye(core.width)[picked].repeat(core.heads, 1)


_SHARP = 2.0
"""of normalised queries and keys: with heads of 28 numbers half of the weight falls on the very place"""


def demand_tokens(slots: Slots) -> Slots:
    """These slots, of which each object has at least one. Raises MissingModality."""
    if slots.present is not None and not bool(slots.present.any(1).all()):
        empty = int((~slots.present.any(1)).sum())
        raise MissingModality(f"{empty} of {len(slots.rows)} objects have no token at all", want="at least one each")
    return slots


__all__ = ["AION", "AnyToAny", "AnyToAnyConfig", "Context", "Span", "published"]
