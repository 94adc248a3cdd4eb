"""What is asked of an object: a class, numbers, a mixture, quantiles; what says it, and how wrong that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from omnisky.errors import BadValue


@runtime_checkable
class Head(Protocol):
    """How the numbers that a network says are read, and how wrong they are."""

    @property
    def width(self) -> int:
        """how many numbers the network says of each object"""

    def loss(self, said: Tensor, target: Tensor) -> Float[Tensor, ""]: ...


@dataclass(frozen=True, kw_only=True)
class Classes:
    """One of so many classes: logits, judged by cross-entropy on class numbers."""

    count: int

    @property
    def width(self) -> int:
        return self.count

    def loss(self, said: Tensor, target: Tensor) -> Float[Tensor, ""]:
        return F.cross_entropy(said.float(), target)

    def chance(self, said: Tensor) -> Float[Tensor, "object class"]:
        """Of each class."""
        return said.float().softmax(-1)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Numbers, judged by Huber's loss (δ=1) in units of their own spread."""

    centre: tuple[float, ...]
    """one per number, in its unit"""
    scale: tuple[float, ...]
    """one per number, in its unit"""

    @property
    def width(self) -> int:
        return len(self.centre)

    def loss(self, said: Tensor, target: Tensor) -> Float[Tensor, ""]:
        return F.huber_loss(said.float(), _scaled(self, target))

    def values(self, said: Tensor) -> Float[np.ndarray, "object number"]:
        """In their unit."""
        return said.double().cpu().numpy() * np.asarray(self.scale) + np.asarray(self.centre)


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """A sum of Gaussians for one number, judged by −log of its density (Bishop 1994, NCRG/94/004)."""

    centre: tuple[float, ...]
    """of the number, in its unit"""
    scale: tuple[float, ...]
    """of the number, in its unit"""
    components: int = 6
    narrowest: float = 1e-3
    """least width of a component, in units of `scale`"""

    @property
    def width(self) -> int:
        return 3 * self.components

    def loss(self, said: Tensor, target: Tensor) -> Float[Tensor, ""]:
        weight, mean, log_std = self._parts(said.float())
        away = (_scaled(self, target) - mean) * (-log_std).exp()
        each = weight.log_softmax(-1) - log_std - 0.5 * away.square() - 0.5 * math.log(2 * math.pi)
        return -each.logsumexp(-1).mean()

    def values(self, said: Tensor) -> Float[np.ndarray, "object 1"]:
        """The expectation, in the unit of the number."""
        weight, mean, _ = self._parts(said.double())
        found = (weight.softmax(-1) * mean).sum(-1, keepdim=True)
        return found.cpu().numpy() * self.scale[0] + self.centre[0]

    def below(self, said: Tensor, edges: Float[np.ndarray, " edge"]) -> Float[np.ndarray, "object edge"]:
        """The chance of less than each edge."""
        weight, mean, log_std = (part[..., None] for part in self._parts(said.double()))
        scaled = (torch.from_numpy(edges).to(said.device) - self.centre[0]) / self.scale[0]
        rising = torch.special.ndtr((scaled - mean) * (-log_std).exp())
        return (weight.softmax(1) * rising).sum(1).cpu().numpy()

    def _parts(self, said: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, mean, width = said.chunk(3, -1)
        return weight, mean, (F.softplus(width) + self.narrowest).log()


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """Quantiles of one number, judged by the pinball loss (Koenker & Bassett 1978); they never cross."""

    centre: tuple[float, ...]
    """of the number, in its unit"""
    scale: tuple[float, ...]
    """of the number, in its unit"""
    levels: tuple[float, ...]
    """rising, within 0 … 1"""

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.levels[:-1], self.levels[1:], strict=True))
        if not self.levels or not rising or not self.levels[0] > 0 or not self.levels[-1] < 1:
            raise BadValue("levels", saw=self.levels, want="rising numbers between 0 and 1")

    @property
    def width(self) -> int:
        return len(self.levels)

    def loss(self, said: Tensor, target: Tensor) -> Float[Tensor, ""]:
        level = torch.tensor(self.levels, device=said.device)
        short = _scaled(self, target) - self._rising(said.float())
        return torch.maximum(level * short, (level - 1) * short).mean()

    def quantiles(self, said: Tensor) -> Float[np.ndarray, "object level"]:
        """In the unit of the number."""
        return self._rising(said.double()).cpu().numpy() * self.scale[0] + self.centre[0]

    def values(self, said: Tensor) -> Float[np.ndarray, "object 1"]:
        """The median, in the unit of the number."""
        found = self.quantiles(said)
        return np.stack([np.interp(0.5, self.levels, row) for row in found])[:, None]

    def below(self, said: Tensor, edges: Float[np.ndarray, " edge"]) -> Float[np.ndarray, "object edge"]:
        """The chance of less than each edge: linear between the quantiles, the first and last gap again beyond them."""
        found, level = self.quantiles(said), np.asarray(self.levels)
        if len(level) < 2:
            raise BadValue("levels", saw=self.levels, want="two or more, for a posterior")
        first = found[:, :1] - (found[:, 1:2] - found[:, :1]) * level[0] / (level[1] - level[0])
        last = found[:, -1:] + (found[:, -1:] - found[:, -2:-1]) * (1 - level[-1]) / (level[-1] - level[-2])
        known, at = np.concatenate([first, found, last], 1), np.concatenate([[0.0], level, [1.0]])
        return np.stack([np.interp(edges, row, at) for row in known])

    def _rising(self, said: Tensor) -> Tensor:
        steps = torch.cat([said[:, :1], F.softplus(said[:, 1:])], 1)
        return steps.cumsum(1)


def _scaled(head: Numbers | Mixture | Quantiles, target: Tensor) -> Tensor:
    centre, scale = (torch.tensor(part, device=target.device) for part in (head.centre, head.scale))
    return (target.float() - centre) / scale


def spread(y: Float[np.ndarray, "object number"]) -> dict[str, Any]:
    """`centre` and `scale` of each column: mean and standard deviation (1 where it is constant)."""
    std = y.std(0)
    return {"centre": tuple(y.mean(0).tolist()), "scale": tuple(np.where(std > 0, std, 1.0).tolist())}
