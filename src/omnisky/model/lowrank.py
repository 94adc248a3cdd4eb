"""Low-rank updates of linear layers (LoRA: Hu et al. 2021, arXiv:2106.09685), as AstroPT's checkpoints hold them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowRankLinear(nn.Linear):
    """y = x·(W + scale · B·A)ᵀ, with A (rank, in) and B (out, rank); B starts at 0, so nothing changes at first.

    A fused layer answers with several equal parts (queries, keys, values): `parts=(True, False, True)` gives each part
    that learns a rank of its own. Their A stand one below the other, and B has a block for each and 0 elsewhere.
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        *,
        bias: bool,
        rank: int,
        scale: float,
        parts: tuple[bool, ...] = (True,),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(inside, outside, bias=bias)
        self.scale = scale
        self.lora_a = nn.Parameter(torch.empty(rank * sum(parts), inside))
        self.lora_b = nn.Parameter(torch.zeros(outside, rank * sum(parts)))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5, generator=generator)
        learns = torch.zeros(len(parts), outside // len(parts), sum(parts), rank)
        for block, part in enumerate(i for i, learnt in enumerate(parts) if learnt):
            learns[part, :, block] = 1
        self.register_buffer("learns", None if len(parts) == 1 else learns.flatten(2).flatten(0, 1), persistent=False)

    @property
    def update(self) -> Tensor:
        """B, 0 where nothing learns."""
        return self.lora_b if self.learns is None else self.lora_b * self.learns

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.scale * F.linear(F.linear(x, self.lora_a), self.update)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The same map as one plain linear layer."""
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        plain.weight.copy_(self.weight + self.scale * self.update @ self.lora_a)
        if self.bias is not None:
            plain.bias.copy_(self.bias)
        return plain


def add(
    model: nn.Module,
    ending: str,
    *,
    rank: int,
    scale: float,
    parts: tuple[bool, ...] = (True,),
    generator: torch.Generator | None = None,
) -> tuple[str, ...]:
    """Give every linear layer whose name ends so a low-rank update, in place; its own weights are kept. Their names."""
    found = [(n, m) for n, m in model.named_modules() if n.endswith(ending) and type(m) is nn.Linear]
    for name, old in found:
        bias, sizes = old.bias is not None, (old.in_features, old.out_features)
        new = LowRankLinear(*sizes, bias=bias, rank=rank, scale=scale, parts=parts, generator=generator)
        new.weight, new.bias = old.weight, old.bias
        model.set_submodule(name, new)
    return tuple(name for name, _ in found)


def fold(model: nn.Module) -> None:
    """Fold every low-rank update into its layer, in place: same answers, plain layers."""
    for name, layer in [(n, m) for n, m in model.named_modules() if isinstance(m, LowRankLinear)]:
        model.set_submodule(name, layer.folded())
