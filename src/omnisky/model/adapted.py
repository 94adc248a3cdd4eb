"""A model and a head on its vectors, to be trained for one answer: whole, or by low-rank updates of its attention."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from omnisky.codec.tokens import Codec, Tokens, demand_present
from omnisky.errors import BadValue
from omnisky.model import lowrank
from omnisky.model.heads import Classes, Mixture, Numbers, Quantiles

ANSWER = "answer"
"""the span of labels"""
FUSED, UPDATED = "attention.qkv", (True, False, True)
"""layers with low-rank updates; of their parts queries and values learn (Hu et al. 2021, §7.1)"""


@dataclass(frozen=True, kw_only=True)
class AdaptedConfig:
    """A model that is adapted to one answer."""

    base: Any
    """the config of the model"""
    width: int
    """numbers in its vectors"""
    head: Classes | Numbers | Mixture | Quantiles
    blocks: int | None = None
    """how many blocks vectors go through; None is the model's own embedding layer"""
    lora_rank: int = 0
    """of the low-rank updates; 0 trains all weights"""
    lora_scale: float = 1.0

    def build(self, seed: int | None = None) -> Adapted:
        return Adapted(self, seed)


class Adapted(nn.Module):
    """Vectors of a model → norm → one linear layer."""

    def __init__(self, config: AdaptedConfig, seed: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.codecs: tuple[Codec, ...] = ()
        self.base = thawed(config.base).build(seed)
        draw = None if seed is None else torch.Generator().manual_seed(seed)
        if config.lora_rank:
            self.base.requires_grad_(False)
            reading = getattr(self.base, "encoder", self.base)  # a decoder has no part in vectors
            rank, scale = config.lora_rank, config.lora_scale
            if not lowrank.add(reading, FUSED, rank=rank, scale=scale, parts=UPDATED, generator=draw):
                raise BadValue("low-rank updates", saw="no attention in this model", want="a transformer")
        self.norm = nn.LayerNorm(config.width)
        self.answers = nn.Linear(config.width, config.head.width)
        nn.init.normal_(self.answers.weight, std=0.02, generator=draw)
        nn.init.zeros_(self.answers.bias)

    def forward(self, tokens: Tokens) -> Float[Tensor, "object answer"]:
        """What the head reads."""
        layer = self.base.centre if self.config.blocks is None else self.config.blocks
        return self.answers(self.norm(self.base.vectors(tokens, blocks=layer).float()))

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """The head's surprise at the labels. Raises MissingModality where an object has none."""
        label = demand_present(tokens, ANSWER).values
        target = label[:, 0] if isinstance(self.config.head, Classes) else label[..., 0]
        seen = Tokens({name: span for name, span in tokens.spans.items() if name != ANSWER})
        return self.config.head.loss(self(seen), target)


def thawed(config: Any) -> Any:
    """The same model with towers that learn, where it has towers that stand still."""
    towers = {f.name: getattr(config, f.name) for f in fields(config)}
    frozen = {name: replace(tower, frozen=False) for name, tower in towers.items() if getattr(tower, "frozen", False)}
    return replace(config, **frozen) if frozen else config
