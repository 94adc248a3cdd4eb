"""Vectors ↔ ids, without a learned table: finite scalar quantisation and lookup-free quantisation.

FSQ (Mentzer et al. 2023, arXiv:2309.15505) bounds each number and rounds it to one of a few levels; LFQ (Yu et al.
2023, arXiv:2310.05737) keeps its sign. Both let gradients pass straight through the rounding, and both work in float32
whatever surrounds them: ids in the thousands do not fit half precision, nor do numbers beside a border of levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from omnisky.errors import BadValue

MARGIN = 1e-3
"""by how much the bounds lie beyond the outermost levels"""


class FSQ(nn.Module):
    """Each of the last axis' numbers becomes one of `levels` values in −1 … 1; the id counts them all, the first number
    fastest. Takes the axis of numbers second, as convolutions have it.
    """

    levels: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise BadValue("levels", saw=levels, want="2 or more for each number")
        self.codes = math.prod(levels)
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.int32))

    def forward(self, z: Float[Tensor, "object number *place"]) -> Float[Tensor, "object number *place"]:
        """The nearest levels; the gradient is that of the bounded numbers."""
        bounded = self._bounded(z)
        return (bounded + (bounded.round() - bounded).detach()) / self._half(z.ndim)

    def ids(self, z: Float[Tensor, "object number *place"]) -> Integer[Tensor, object * place]:
        """0 … codes − 1, int32."""
        digits = self._bounded(z).round().int() + self._half(z.ndim)
        return (digits * _column(self._basis(), z.ndim)).sum(1, dtype=torch.int32)

    def vectors(self, ids: Integer[Tensor, object * place]) -> Float[Tensor, "object number *place"]:
        """What these ids stand for. Raises BadValue for ids outside the vocabulary."""
        demand_ids(ids, self.codes)
        n = ids.ndim + 1
        digits = (ids[:, None] // _column(self._basis(), n)) % _column(self.levels, n)
        return (digits - self._half(n)).float() / self._half(n)

    def _half(self, ndim: int) -> Tensor:
        return _column(self.levels // 2, ndim)

    def _basis(self) -> Tensor:
        below = self.levels.cumprod(0, dtype=torch.int32)
        return torch.cat([torch.ones_like(below[:1]), below[:-1]])

    def _bounded(self, z: Tensor) -> Tensor:
        """Between the outermost levels, rounding to which is nearest. An even number of levels has none at 0."""
        with torch.autocast(z.device.type, enabled=False):
            reach = (self.levels - 1) * (1 + MARGIN) / 2
            offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
            shift = torch.atanh(offset / reach)
            bounded = (z.float() + _column(shift, z.ndim)).tanh() * _column(reach, z.ndim)
            return bounded - _column(offset, z.ndim)


class LFQ(nn.Module):
    """The sign of each number; the id has a bit for each, the first the most significant."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.codes = 2**bits
        self.register_buffer("mask", 2 ** torch.arange(bits - 1, -1, -1))

    def forward(self, z: Float[Tensor, "object number *place"]) -> Float[Tensor, "object number *place"]:
        """±1; the gradient passes as if nothing had happened."""
        z = z.float()
        return z + (torch.where(z > 0, 1.0, -1.0) - z).detach()

    def ids(self, z: Float[Tensor, "object number *place"]) -> Integer[Tensor, object * place]:
        """0 … codes − 1."""
        return ((z > 0) * _column(self._place(), z.ndim)).sum(1)

    def vectors(self, ids: Integer[Tensor, object * place]) -> Float[Tensor, "object number *place"]:
        """±1 for each bit. Raises BadValue for ids outside the vocabulary."""
        demand_ids(ids, self.codes)
        return torch.where((ids[:, None].long() & _column(self._place(), ids.ndim + 1)) != 0, 1.0, -1.0)

    def _place(self) -> Integer[Tensor, " bit"]:
        """What each bit is worth; published weights hold it under a name that says less."""
        return self.get_buffer("mask")

    def commitment(self, z: Float[Tensor, "object number *place"]) -> Float[Tensor, ""]:
        """Mean square distance from the signs: what keeps numbers from growing where only their sign counts."""
        z = z.float()
        return (z - torch.where(z > 0, 1.0, -1.0)).square().mean()

    def indecision(self, z: Float[Tensor, "object number *place"], sharpness: float = 1.0) -> Float[Tensor, ""]:
        """Mean entropy of one vector's choice less that of all, nats: low when each is sure and all codes serve.

        A code's chance goes as exp(2 · sharpness · its product with the vector), so bits are drawn independently.
        """
        rows = z.float().movedim(1, -1).flatten(0, -2)
        chance = torch.sigmoid(4 * sharpness * rows)
        each = -(_xlogx(chance) + _xlogx(1 - chance)).sum(-1).mean()
        codes = self.vectors(torch.arange(self.codes, device=z.device))
        mean = (2 * sharpness * rows @ codes.mT).softmax(-1).mean(0)
        return each + _xlogx(mean).sum()


@dataclass(frozen=True)
class Usage:
    """How a codebook is used by a sample of ids."""

    codes: int
    """there are"""
    used: float
    """share of them that occur at all; a sample of few ids cannot show more"""
    perplexity: float
    """e to the entropy of the ids: as many equally common codes would say as much"""

    @property
    def bits(self) -> float:
        """Information in one token, if its neighbours tell nothing of it."""
        return math.log2(self.perplexity)


def usage(ids: Integer[Tensor, "*place"], codes: int) -> Usage:
    """Of any number of ids. Raises BadValue for none, and for ids outside the vocabulary."""
    if not ids.numel():
        raise BadValue("ids", saw="none", want="at least one")
    demand_ids(ids, codes)
    counts = torch.bincount(ids.flatten().long(), minlength=codes).double()
    share = counts / counts.sum()
    return Usage(codes, float((counts > 0).double().mean()), math.exp(-float(_xlogx(share).sum())))


def demand_ids(ids: Integer[Tensor, "*place"], codes: int) -> None:
    """Refuse ids outside 0 … codes − 1. Raises BadValue."""
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < codes:
        saw = f"ids from {int(ids.min())} to {int(ids.max())}"
        raise BadValue(
            "tokens outside the vocabulary", saw=saw, want=f"0 … {codes - 1}", hint="another codec's tokens?"
        )


def _column(numbers: Tensor, ndim: int) -> Tensor:
    """Along the second of `ndim` axes."""
    return numbers.reshape(-1, *[1] * (ndim - 2))


def _xlogx(x: Tensor) -> Tensor:
    return x * x.clamp(min=1e-12).log()
