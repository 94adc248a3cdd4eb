"""Which parameters decay, how the learning rate moves, and the running mean of weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from omnisky.errors import BadValue


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

    def __post_init__(self) -> None:
        for name in ("peak", "warmup", "floor", "eps", "weight_decay", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadValue(f"optim.{name}", saw=getattr(self, name), want="0 or more, and finite")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise BadValue("optim.betas", saw=self.betas, want="0 … 1, less than 1")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step (counted from 0) of a run of `steps`."""
        until = self.decay_until or steps
        if step < self.warmup:
            return self.peak * step / self.warmup
        if step >= until:
            return self.peak * self.floor
        share = (step - self.warmup) / max(until - self.warmup, 1)
        return self.peak * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * share)))

    def steer(self, optimiser: torch.optim.Optimizer, step: int, steps: int) -> float:
        """Give every group what this step wants; returns the learning rate."""
        rate = self.rate(step, steps)
        for group in optimiser.param_groups:
            group["lr"] = rate
        return rate

    def shorten(self, model: nn.Module) -> float:
        """Clip the gradient; returns its norm before."""
        return float(_clip(model, self.clip))

    def build(self, model: nn.Module) -> torch.optim.AdamW:
        """Groups in the order of the model's parameters: decayed, single numbers, and other vectors.

        A single number is not cut up with the rest, and a fused step takes tensors of one kind.
        """
        learning = [p for p in model.parameters() if p.requires_grad]
        decays = {2: self.weight_decay, 0: 0.0, 1: 0.0}
        groups = [
            {"params": those, "weight_decay": decay}
            for rank, decay in decays.items()
            if (those := [p for p in learning if min(p.ndim, 2) == rank])
        ]
        return torch.optim.AdamW(groups, lr=0.0, betas=self.betas, eps=self.eps, fused=True)


@runtime_checkable
class Layered(Protocol):
    """A model whose layers learn at their own rates."""

    layers: int
    """the last layer's number"""
    parts: tuple[nn.Module, ...]
    """whose gradients are clipped apart"""

    def layer_of(self, name: str) -> int:
        """The layer of a parameter, 0 for what lies before the first block."""
        ...


@dataclass(frozen=True, kw_only=True)
class LayerwiseAdamW(AdamW):
    """DINOv2's AdamW (Oquab et al. 2023, arXiv:2304.07193, app. B): early layers learn more slowly, decay grows.

    Its steps count from 0: linear warm-up from 0 to peak, then a cosine to floor · peak, which the last step just
    misses. Models must be `Layered`; parameters of a module called `patches` learn at `first` of their layer's rate,
    those of one called `last` not at all up to step `frozen`.
    """

    weight_decay_end: float = 0.01
    """reached by a cosine from `weight_decay`"""
    layer_decay: float = 0.9
    """of the rate, from a layer to the one before"""
    first: float = 0.2
    frozen: int = 0
    """steps"""

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 1 … `steps`."""
        if step <= self.warmup:
            return self.peak * (step - 1) / max(self.warmup - 1, 1)
        until = self.decay_until or steps
        return cosine(self.peak, self.floor * self.peak, step - 1 - self.warmup, until - self.warmup)

    def steer(self, optimiser: torch.optim.Optimizer, step: int, steps: int) -> float:
        rate, decay = self.rate(step, steps), cosine(self.weight_decay, self.weight_decay_end, step - 1, steps)
        for group in optimiser.param_groups:
            group["lr"] = 0.0 if group["last"] and step <= self.frozen else rate * group["share"]
            group["weight_decay"] = decay * group["decays"]
        return rate

    def shorten(self, model: nn.Module) -> float:
        """Clip the gradient of each part by itself; returns the norm of all, before."""
        return float(torch.stack([_clip(part, self.clip) for part in _layered(model).parts]).norm())

    def build(self, model: nn.Module) -> torch.optim.AdamW:
        """A group for each layer's decayed parameters and one for its others. Raises BadValue."""
        groups: dict[tuple, list[nn.Parameter]] = {}
        layered = _layered(model)
        for name, p in model.named_parameters():
            if p.requires_grad:
                among = name.split(".")
                share = self.layer_decay ** (layered.layers - layered.layer_of(name))
                share *= self.first if "patches" in among else 1.0
                groups.setdefault((share, p.ndim >= 2, "last" in among), []).append(p)
        listed = [
            {"params": params, "share": share, "decays": decays, "last": last}
            for (share, decays, last), params in groups.items()
        ]
        return torch.optim.AdamW(listed, lr=0.0, betas=self.betas, eps=self.eps, fused=True)


def _clip(model: nn.Module, most: float) -> Tensor:
    """To this norm of all gradients together; returns it as it was."""
    learnt = {name: p for name, p in model.named_parameters() if p.grad is not None}
    norms = [nn.utils.get_total_norm([p.grad for p in kind]) for kind in _kinds(learnt)]
    whole = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    total = reduce(torch.hypot, whole, torch.zeros(()))
    for kind in _kinds(learnt):
        nn.utils.clip_grads_with_norm_(kind, most or math.inf, total)
    return total


def _kinds(tensors: Mapping[str, Tensor]) -> list[list[Tensor]]:
    """Those in pieces (FSDP2), and those that are whole on every rank: torch adds up either, but not both at once."""
    kinds = ([t for t in tensors.values() if isinstance(t, DTensor) is cut] for cut in (True, False))
    return [kind for kind in kinds if kind]


def cosine(start: float, end: float, step: int, steps: int) -> float:
    """From `start` at step 0 to `end` at step `steps`, and there it stays."""
    share = min(step / max(steps, 1), 1.0)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def _layered(model: nn.Module) -> Layered:
    if not isinstance(model, Layered):
        raise BadValue("LayerwiseAdamW", saw=type(model).__name__, want="a model that names its layers", hint="AdamW")
    return model


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
        for means, weights in zip(_kinds(self.mean), _kinds({n: now[n].detach() for n in self.mean}), strict=True):
            torch._foreach_lerp_(means, weights, 1 - decay)
