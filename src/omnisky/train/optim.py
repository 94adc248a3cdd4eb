"""Which parameters decay, how the learning rate moves, and the running mean of weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with linear warm-up, then a cosine down to a floor.

    AstroPT's rule: peak·step/warmup, cosine from peak at `warmup` to floor·peak at `decay_until`, then flat.
    """

    peak: float = 1e-3
    warmup: int = 100
    decay_until: int | None = None
    """step at which the floor is reached; None means the last one"""
    floor: float = 0.1
    """of `peak`"""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    """on tensors of two or more dimensions"""
    clip: float = 1.0
    """largest norm of the gradient; 0 means no limit"""

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step (counted from 0) of a run of `steps`."""
        until = self.decay_until or steps
        if step < self.warmup:
            return self.peak * step / self.warmup
        if step >= until:
            return self.peak * self.floor
        share = (step - self.warmup) / max(until - self.warmup, 1)
        return self.peak * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * share)))

    def build(self, model: nn.Module) -> torch.optim.AdamW:
        """Two groups, in the order of the model's parameters: decayed and not."""
        learning = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learning if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=0.0, betas=self.betas, eps=self.eps, fused=True)


class MeanWeights:
    """An exponential mean of a model's weights: mean ← decay · mean + (1 − decay) · weights, after every step."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.mean = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """The first steps weigh more, so that the random start is soon forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        now = dict(model.named_parameters())
        torch._foreach_lerp_(list(self.mean.values()), [now[name].detach() for name in self.mean], 1 - decay)
