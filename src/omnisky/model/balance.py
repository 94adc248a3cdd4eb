"""How a teacher is kept from saying the same of everything: by a centre, or by Sinkhorn–Knopp; over all ranks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from omnisky.model.contrastive import Gather, alone


@dataclass(frozen=True, kw_only=True)
class Centring:
    """Take a running mean of the teacher's logits away (DINO, §3.1)."""

    memory: float = 0.9

    def build(self, prototypes: int) -> Centre:
        return Centre(prototypes, self.memory)


class Centre(nn.Module):
    """softmax((logits − centre) / temperature). The centre moves once a step, by what all pieces of all ranks said."""

    def __init__(self, prototypes: int, memory: float) -> None:
        super().__init__()
        self.memory = memory
        self.gather: Gather = alone
        self.register_buffer("centre", torch.zeros(1, prototypes))
        self.heard: list[tuple[Tensor, int]] = []
        """what will move the centre: sums over rows, and how many they are"""

    def forward(self, logits: Float[Tensor, "row prototype"], temperature: float) -> Float[Tensor, "row prototype"]:
        if self.training:
            self.heard.append((logits.sum(0), len(logits)))
        return ((logits - self.centre) / temperature).softmax(-1)

    def settle(self) -> None:
        """centre ← memory · centre + (1 − memory) · mean of what was heard."""
        if self.heard:
            totals = torch.stack([total for total, _ in self.heard]).sum(0)
            rows = totals.new_tensor([sum(count for _, count in self.heard)])
            heard = self.gather(torch.cat([totals, rows])[None])[0].sum(0)
            if heard[-1]:
                self.centre.lerp_(heard[:-1] / heard[-1], 1 - self.memory)
        self.forget()

    def forget(self) -> None:
        """Nothing was heard."""
        self.heard.clear()


@dataclass(frozen=True, kw_only=True)
class Sinkhorn:
    """Spread a batch evenly over the prototypes (SwAV: Caron et al. 2020, arXiv:2006.09882, §3.1)."""

    rounds: int = 3

    def build(self, prototypes: int) -> SinkhornKnopp:
        return SinkhornKnopp(self.rounds)


class SinkhornKnopp(nn.Module):
    """Scale exp(logits / temperature) until rows sum to 1 and columns all to the same, as nearly as `rounds` do.

    While training, rows are those that all ranks work on at this moment: one piece of each rank's share of the batch.
    """

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.gather: Gather = alone

    def forward(self, logits: Float[Tensor, "row prototype"], temperature: float) -> Float[Tensor, "row prototype"]:
        # In logarithms: exp(logits / 0.04) leaves float32 at logits of 3.5.
        share = logits / temperature
        gather = self.gather if self.training else alone
        for _ in range(self.rounds):
            columns = gather(share.logsumexp(0, keepdim=True))[0].logsumexp(0, keepdim=True)
            share = (share - columns).log_softmax(-1)
        return share.exp()

    def settle(self) -> None:
        """Nothing is remembered."""

    forget = settle
