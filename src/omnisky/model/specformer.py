"""SpecFormer: a transformer that fills in hidden stretches of a spectrum (Parker et al. 2024, MNRAS 531, 4990)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omnisky.codec.tokens import Codec, Span, Tokens, demand_present
from omnisky.codec.weights import Blank
from omnisky.errors import BadValue, ContextOverflow, ShapeMismatch
from omnisky.model.transformer import CoreConfig, Stack

PUBLISHED = CoreConfig(width=768, depth=6, heads=6, bias=True, activation="gelu")


@dataclass(frozen=True, kw_only=True)
class SpecformerConfig:
    """A SpecFormer: its core, its tokens, and how they are hidden from it. The defaults are as published."""

    core: CoreConfig = PUBLISHED
    token_width: int = 22
    """numbers a token: two for mean and spread, then a section's pixels"""
    context: int = 800
    """positions there are"""
    runs: int = 6
    """stretches that are hidden, one in each of as many equal parts of the sequence"""
    run: int = 50
    """tokens in each"""
    name: str = "spectra"
    """of the span it reads"""

    def build(self, seed: int | None = None) -> Specformer:
        return Specformer(self, seed)


class Specformer(nn.Module):
    """Sections of a spectrum → states, and back."""

    def __init__(self, config: SpecformerConfig, seed: int | None = None) -> None:
        super().__init__()
        width = config.core.width
        self.config = config
        self.codecs: tuple[Codec, ...] = ()
        self.sections = nn.Linear(config.token_width, width)
        self.positions = nn.Embedding(config.context, width)
        self.core = Stack(config.core)
        self.head = nn.Linear(width, config.token_width)
        self._begin(None if seed is None else torch.Generator().manual_seed(seed))

    @property
    def centre(self) -> None:
        """Embeddings are read after the last norm."""
        return None

    def forward(
        self,
        values: Float[Tensor, "object token number"],
        present: Bool[Tensor, "object token"] | None = None,
        blocks: int | None = None,
    ) -> Float[Tensor, "object token width"]:
        """States after the last norm, or raw after `blocks` blocks; every present token looks at every other."""
        if values.shape[1] > self.config.context:
            raise ContextOverflow(
                saw=f"{values.shape[1]} tokens", want=f"at most {self.config.context}", hint="longer sections"
            )
        x = self.sections(values) + self.positions.weight[: values.shape[1]]
        attend = None
        if present is not None:
            attend = present[:, None, :] | torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
        return self.core(x, attend, blocks=blocks)

    def states(self, tokens: Tokens, blocks: int | None = None) -> Float[Tensor, "object token width"]:
        """`forward` on the span this model reads."""
        span = self._span(tokens)
        return self(span.values, span.present, blocks)

    def vectors(self, tokens: Tokens, blocks: int | None = None) -> Float[Tensor, "object width"]:
        """One vector an object: the mean over its tokens' states."""
        present = self._span(tokens).present
        states = self.states(tokens, blocks)
        if present is None:
            return states.mean(1)
        weight = present[..., None].to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1)

    def predict(self, tokens: Tokens) -> Float[Tensor, "object token number"]:
        """What is said of every token."""
        return self.head(self.states(tokens))

    def deal(self, tokens: Tokens, generator: torch.Generator | None = None) -> Bool[Tensor, "object token"]:
        """Which tokens to hide: one run in each part, anywhere within it (the mean and spread may be among them)."""
        (rows, length), config = self._span(tokens).values.shape[:2], self.config
        part = length // config.runs
        if part <= config.run:
            saw = f"{config.runs} runs of {config.run} in {length} tokens"
            raise BadValue("more would be hidden than there is", saw=saw, want="runs shorter than their parts")
        first = torch.arange(config.runs) * length // config.runs
        start = first + torch.randint(0, part - config.run, (rows, config.runs), generator=generator)
        place = torch.arange(length)
        inside = (place >= start[..., None]) & (place < start[..., None] + config.run)
        return inside.any(1)

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """Mean square error of what was hidden."""
        return self.score(tokens, self.deal(tokens, generator))

    def score(self, tokens: Tokens, held_out: Bool[Tensor, "object token"]) -> Float[Tensor, ""]:
        """The loss when just these tokens are hidden, that is 0. Numbers that are 0 anyway are not asked for.

        With a span of weights (codec.sections) the mean is weighted, and what was not measured does not count.
        """
        span, held_out = self._span(tokens), held_out.to(tokens[self.config.name].values.device)
        shown = span.values.masked_fill(held_out[..., None], 0)
        said = self.head(self(shown, span.present)).float()
        asked = (held_out[..., None] & (span.values != 0)).float()
        if span.present is not None:
            asked = asked * span.present[..., None]
        weights = tokens.spans.get(f"{self.config.name}_weights")
        asked = asked if weights is None else asked * weights.values
        return ((said - span.values).square() * asked).sum() / asked.sum().clamp(min=1e-6)

    def _span(self, tokens: Tokens) -> Span:
        span = demand_present(tokens, self.config.name)
        if span.values.shape[-1] != self.config.token_width:
            raise ShapeMismatch(
                f"tokens of {self.config.name!r}",
                saw=f"{span.values.shape[-1]} numbers",
                want=f"{self.config.token_width}",
                hint="the codec this model was trained with",
            )
        return span

    def _begin(self, draw: torch.Generator | None) -> None:
        """As published: tables N(0, 1/√width) within 3 σ, blocks N(0, 1/√(2·inputs·depth)), head N(0, 1/√inputs)."""
        if Blank.inside():
            return
        width, depth = self.config.core.width, self.config.core.depth
        for table in (self.sections, self.positions):
            std = width**-0.5
            nn.init.trunc_normal_(table.weight, std=std, a=-3 * std, b=3 * std, generator=draw)
        for module in self.core.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=(2 * module.in_features * depth) ** -0.5, generator=draw)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.weight, std=width**-0.5, generator=draw)
        nn.init.zeros_(self.sections.bias)
        nn.init.zeros_(self.head.bias)
