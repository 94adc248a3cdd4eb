"""AstroPT: a causal transformer that predicts the next patch (Smith et al. 2024, arXiv:2405.14930).

`Autoregressive` predicts each token from those before it; `PrefixAutoregressive` lets a random first part be seen
whole; `MaskedPatch` fills in hidden tokens instead. All three share tokenisers, core and heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omnisky.codec.tokens import Codec, Span, Tokens
from omnisky.errors import BadValue, MissingModality
from omnisky.model import lowrank
from omnisky.model.junction import Junction, Layout, Modality, surprise
from omnisky.model.transformer import Cache, CoreConfig, Stack, initialise, prefixed


@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """An AstroPT: its core, what it reads, and how. Build one of its three kinds below."""

    core: CoreConfig
    modalities: tuple[Modality, ...]
    context: int = 1024
    """how many integer positions each modality has"""
    tokeniser: str = "aim"
    """aim (a tanh-GELU MLP each way), affine (one linear each way), v1 (ReLU MLPs)"""
    prefix: int = 0
    """how many first tokens all tokens may look at: 0 is causal, `context` or more is full attention"""
    answers: int = 0
    """numbers the published task head predicts; 0 means there is no such head"""
    lora_rank: int = 0
    """of the low-rank updates on the queries, keys and values; 0 means there are none"""
    lora_scale: float = 1.0
    """what the update is multiplied by"""


class TaskHead(nn.Module):
    """Mean over tokens → norm → linear → ReLU → linear: AstroPT's head for fine-tuning."""

    def __init__(self, width: int, answers: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, bias=False)
        self.first, self.second = nn.Linear(width, width // 2), nn.Linear(width // 2, answers)

    def forward(self, states: Float[Tensor, "object token width"]) -> Float[Tensor, "object answer"]:
        return self.second(self.first(self.norm(states.mean(1))).relu())


class PatchModel(nn.Module):
    """What AstroPT's objectives share: tokens in, states through the core, predictions out."""

    def __init__(self, config: PatchConfig, seed: int | None = None) -> None:
        super().__init__()
        core = config.core
        self.config = config
        self.codecs: tuple[Codec, ...] = ()
        self.junction = Junction(config.modalities, core.width, config.context, config.tokeniser, core.bias)
        self.core = Stack(core)
        self.task_head = TaskHead(core.width, config.answers) if config.answers else None
        draw = None if seed is None else torch.Generator().manual_seed(seed)
        initialise(self, core.depth, draw)
        if config.lora_rank:
            lowrank.add(self.core, "attention.qkv", rank=config.lora_rank, scale=config.lora_scale, generator=draw)

    @property
    def centre(self) -> int:
        """How many blocks AstroPT's embeddings go through: one more than half of them."""
        return self.config.core.depth // 2 + 1

    def states(
        self, tokens: Tokens, blocks: int | None = None, cache: Cache | None = None
    ) -> Float[Tensor, "object token width"]:
        """States of every token after the last norm, or raw after `blocks` blocks (the rest is not computed)."""
        layout = self.junction.layout(tokens)
        return self._through(self.junction.enter(tokens), layout, blocks, cache)

    def vectors(self, tokens: Tokens, blocks: int | None = None) -> Float[Tensor, "object width"]:
        """One vector an object: the mean over its tokens' states after `blocks` blocks, or at the centre."""
        states = self.states(tokens, blocks=self.centre if blocks is None else blocks).float()
        present = self.junction.layout(tokens).present
        if present is None:
            return states.mean(1)
        weight = present[..., None].to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1).clamp(min=1)

    def _through(self, x: Tensor, layout: Layout, blocks: int | None = None, cache: Cache | None = None) -> Tensor:
        attend = self._attend(x.shape[1], layout.present, x.device)
        return self.core(x, attend, causal=attend is None and self.config.prefix == 0, cache=cache, blocks=blocks)

    def _attend(self, t: int, present: Tensor | None, device: torch.device) -> Tensor | None:
        """None where the core's fast paths (causal, or everybody sees everybody) say the same."""
        free = self.config.prefix >= t
        if present is None and (free or self.config.prefix == 0):
            return None
        rule = torch.ones(1, t, t, dtype=torch.bool) if free else prefixed(t, self.config.prefix)
        if present is None:
            return rule.to(device)
        # An absent token is seen by nobody but itself, so that its own row of scores is not empty.
        return rule.to(device) & present[:, None, :] | torch.eye(t, dtype=torch.bool, device=device)

    def answer(self, tokens: Tokens) -> Float[Tensor, "object answer"]:
        """What the task head says, from the states at the centre of the core. Raises MissingModality without a head."""
        if self.task_head is None:
            raise MissingModality("this model has no task head", want="config.answers > 0")
        return self.task_head(self.states(tokens, blocks=self.centre))


@dataclass(frozen=True, kw_only=True)
class AutoregressiveConfig(PatchConfig):
    """An AstroPT that predicts the next token."""

    def build(self, seed: int | None = None) -> Autoregressive:
        return Autoregressive(self, seed)


class Autoregressive(PatchModel):
    """Predict the next token: a patch, a stretch of spectrum, a number, or an id."""

    def predict(self, tokens: Tokens) -> Mapping[str, Float[Tensor, "object _token _out"]]:
        """What is said of each token from those before it; the sequence's first token has nothing before it.

        So the first modality has one prediction less than tokens. Ids are predicted as logits.
        """
        layout = self.junction.layout(tokens)
        states = self._before(tokens, layout)
        said = {}
        for i, (name, where) in enumerate(layout.slices()):
            first = 1 if i == 0 else 0
            said[name] = self.junction.leave(name, states[:, where.start + first - 1 : where.stop - 1])
        return said

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """Σ over modalities of weight · mean surprise, divided by how many modalities the model knows (§2.4)."""
        layout = self.junction.layout(tokens)
        total = torch.zeros((), device=next(self.parameters()).device)
        asked, said = _asked(layout), self.predict(tokens)
        for name, where in layout.slices():
            start = max(where.start, 1)
            span = tokens[name].span(start - where.start, None)
            present = None if asked is None else asked[:, start - 1 : where.stop - 1]
            total = total + self.junction.modalities[name].weight * surprise(said[name], span, present)
        return total / len(self.junction.modalities)

    def _before(self, tokens: Tokens, layout: Layout) -> Float[Tensor, "object token width"]:
        """For each token but the first, the state of the last *present* token before it."""
        x = self.junction.enter(tokens)
        if layout.present is None and self.config.prefix == 0:
            # Nothing is predicted from the last token, but 256 tokens go through faster than 255 (dev/LOG.md).
            return self._through(x, layout)[:, :-1]
        x = x[:, :-1]
        if layout.present is None:
            return self._through(x, layout)
        present = layout.present[:, :-1]
        states = self._through(x, Layout(names=layout.names, lengths=layout.lengths, present=present))
        return _last_present(states, present)


def _last_present(states: Float[Tensor, "object token width"], present: Bool[Tensor, "object token"]) -> Tensor:
    """For each token its own state, or, where it is absent, that of the last present one before it."""
    place = torch.arange(states.shape[1], device=states.device) * present
    return states.gather(1, place.cummax(1).values[..., None].expand_as(states))


def _asked(layout: Layout) -> Bool[Tensor, "object token"] | None:
    """Which tokens after the first are there and have something before them to be told from; None means all."""
    if layout.present is None:
        return None
    return layout.present[:, 1:] & (layout.present[:, :-1].cumsum(1) > 0)


@dataclass(frozen=True, kw_only=True)
class PrefixConfig(PatchConfig):
    """An AstroPT that predicts the next token and sees what it is given from both sides."""

    def build(self, seed: int | None = None) -> PrefixAutoregressive:
        return PrefixAutoregressive(self, seed)


class PrefixAutoregressive(Autoregressive):
    """Predict the next token, with a random first part of the sequence seen whole, from both sides.

    For embeddings and prompts everything given is the prefix, so each token has looked at all others. The published
    AstroPT has such a switch, but its releases drop the rule it asks for; this is our own.
    """

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """As Autoregressive.loss, on the tokens after a prefix of random length, one for the batch.

        Its length is the cube of a uniform number: prefixes of all lengths come, but most are short, so that most
        tokens are asked for. Drawn uniformly, the first modality of several is hardly ever asked for (dev/LOG.md).
        """
        layout = self.junction.layout(tokens)
        length = int(float(torch.rand((), generator=generator)) ** 3 * max(len(layout) - 1, 1))
        asked, states = _asked(layout), self._before(tokens, layout, length)
        total = torch.zeros((), device=states.device)
        for name, where in layout.slices():
            start = max(where.start, length, 1)
            if start >= where.stop:
                continue
            span = tokens[name].span(start - where.start, None)
            said = self.junction.leave(name, states[:, start - 1 : where.stop - 1])
            present = None if asked is None else asked[:, start - 1 : where.stop - 1]
            weight = self.junction.modalities[name].weight * len(span) / len(tokens[name])
            total = total + weight * surprise(said, span, present)
        return total / len(self.junction.modalities)

    def _before(self, tokens: Tokens, layout: Layout, length: int = 0) -> Float[Tensor, "object token width"]:
        """As Autoregressive._before, when all tokens may look at the first `length`."""
        x = self.junction.enter(tokens)[:, :-1]
        rule = prefixed(x.shape[1], length).to(x.device)
        if layout.present is None:
            return self.core(x, rule)
        present = layout.present[:, :-1]
        eye = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        return _last_present(self.core(x, rule & present[:, None, :] | eye), present)

    def _attend(self, t: int, present: Tensor | None, device: torch.device) -> Tensor | None:
        if present is None:
            return None
        return present[:, None, :] | torch.eye(t, dtype=torch.bool, device=device)

    def _through(self, x: Tensor, layout: Layout, blocks: int | None = None, cache: Cache | None = None) -> Tensor:
        return self.core(x, self._attend(x.shape[1], layout.present, x.device), cache=cache, blocks=blocks)


@dataclass(frozen=True, kw_only=True)
class MaskedConfig(PatchConfig):
    """An AstroPT that fills in hidden patches."""

    prefix: int = 1 << 30
    hidden_fraction: float = 0.5
    """chance of each token to be hidden"""
    standardised_targets: bool = False
    """compare with each target's own (x − mean)/√(variance + 1e-6), unbiased (He et al. 2021, §4.1)"""

    def build(self, seed: int | None = None) -> MaskedPatch:
        return MaskedPatch(self, seed)


class MaskedPatch(PatchModel):
    """Fill in hidden tokens from all the others (BERT-like: hidden tokens are replaced, not left out)."""

    config: MaskedConfig

    def __init__(self, config: MaskedConfig, seed: int | None = None) -> None:
        super().__init__(config, seed)
        if any(m.vocabulary for m in config.modalities):
            raise BadValue("MaskedPatch fills in numbers", saw="a modality of ids", want="vocabulary=0")
        generator = None if seed is None else torch.Generator().manual_seed(seed + 1)
        self.hidden_token = nn.Parameter(torch.empty(1, 1, config.core.width).normal_(std=0.02, generator=generator))

    def deal(self, tokens: Tokens, generator: torch.Generator | None = None) -> Bool[Tensor, "object token"]:
        """Which tokens to hide: each by itself with chance `hidden_fraction`, at least one per object."""
        layout = self.junction.layout(tokens)
        chance = torch.rand(tokens.objects, len(layout), generator=generator)
        chance = chance if layout.present is None else chance.masked_fill(~layout.present.cpu(), 2.0)
        held_out = chance < self.config.hidden_fraction
        held_out.scatter_(1, chance.argmin(1, keepdim=True), True)
        return held_out if layout.present is None else held_out & layout.present.cpu()

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """Mean over the hidden tokens of Huber, weighted by modality."""
        return self.score(tokens, self.deal(tokens, generator))

    def score(self, tokens: Tokens, held_out: Bool[Tensor, "object token"]) -> Float[Tensor, ""]:
        """The loss when just these tokens are hidden."""
        total = torch.zeros((), device=self.hidden_token.device)
        for name, said in self.fill(tokens, held_out).items():
            span = tokens[name]
            where = dict(self.junction.layout(tokens).slices())[name]
            target = Span(_own_scale(span.values), span.positions) if self.config.standardised_targets else span
            hidden = held_out[:, where].to(said.device)
            total = total + self.junction.modalities[name].weight * surprise(said, target, hidden)
        return total

    def fill(
        self, tokens: Tokens, held_out: Bool[Tensor, "object token"]
    ) -> Mapping[str, Float[Tensor, "object _token _out"]]:
        """What is said of every token when `held_out` ones are hidden; their positions stay known."""
        layout = self.junction.layout(tokens)
        x = self.junction.enter(tokens)
        where = torch.cat([self.junction.positions[name](tokens[name].positions) for name in layout.names], dim=1)
        x = torch.where(held_out.to(x.device)[..., None], self.hidden_token + where, x)
        states = self._through(x, layout)
        return {name: self.junction.leave(name, states[:, place]) for name, place in layout.slices()}


def _own_scale(values: Float[Tensor, "object token width"]) -> Float[Tensor, "object token width"]:
    return (values - values.mean(-1, keepdim=True)) / (values.var(-1, keepdim=True) + 1e-6).sqrt()
