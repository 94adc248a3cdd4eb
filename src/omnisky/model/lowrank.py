"""Low-rank updates of linear layers (LoRA: Hu et al. 2021, arXiv:2106.09685), as AstroPT's checkpoints hold them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowRankLinear(nn.Linear):
    """y = x·(W + scale · B·A)ᵀ, with A (rank, in) and B (out, rank); B starts at 0, so nothing changes at first."""

    def __init__(
        self,
        inside: int,
        outside: int,
        *,
        bias: bool,
        rank: int,
        scale: float,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(inside, outside, bias=bias)
        self.scale = scale
        self.lora_a = nn.Parameter(torch.empty(rank, inside))
        self.lora_b = nn.Parameter(torch.zeros(outside, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The same map as one plain linear layer."""
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        plain.weight.copy_(self.weight + self.scale * self.lora_b @ self.lora_a)
        if self.bias is not None:
            plain.bias.copy_(self.bias)
        return plain


def add(model: nn.Module, ending: str, *, rank: int, scale: float, generator: torch.Generator | None = None) -> None:
    """Give every linear layer whose name ends so a low-rank update, in place. Its own weights are kept."""
    for name, old in [(n, m) for n, m in model.named_modules() if n.endswith(ending) and type(m) is nn.Linear]:
        bias = old.bias is not None
        new = LowRankLinear(old.in_features, old.out_features, bias=bias, rank=rank, scale=scale, generator=generator)
        new.weight, new.bias = old.weight, old.bias
        model.set_submodule(name, new)


def fold(model: nn.Module) -> None:
    """Fold every low-rank update into its layer, in place: same answers, plain layers."""
    for name, layer in [(n, m) for n, m in model.named_modules() if isinstance(m, LowRankLinear)]:
        model.set_submodule(name, layer.folded())
