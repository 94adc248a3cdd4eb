"""The gradient of a batch, piece by piece: what a rank does between encoding and averaging."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from omnisky.codec.tokens import Tokens
from omnisky.errors import BadValue, OutOfMemory
from omnisky.train.devices import out_of_memory

if TYPE_CHECKING:
    from omnisky.train.loop import Learner


@runtime_checkable
class Joint(Protocol):
    """A model that compares objects with each other: pieces of a batch are told one by one, and compared at once."""

    def told(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, object * told]: ...

    def among(self, told: Float[Tensor, object * told]) -> Float[Tensor, ""]: ...


def gradient(learner: Learner, tokens: Tokens) -> float:
    """Leave the gradient of this rank's rows in the model; return the loss of the whole batch.

    Where a piece does not fit into memory, all are halved, with a warning, and stay so. Raises OutOfMemory.
    """
    while True:
        loss = _attempt(learner, tokens)
        if not learner.place.any(loss is None):
            return learner.place.mean(loss if loss is not None else 0.0)
        forget(learner)
        _halve(learner)


def forget(learner: Learner) -> None:
    """As if this batch had never been begun."""
    learner.optimiser.zero_grad(set_to_none=True)
    if hasattr(learner.model, "forget"):
        learner.model.forget()


def _attempt(learner: Learner, tokens: Tokens) -> float | None:
    """None where memory did not suffice."""
    mine = learner.pieces // learner.place.ranks
    try:
        whole = isinstance(learner.model, Joint) and mine > 1
        return (_compared if whole else _one_by_one)(learner, tokens, mine)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        if learner.place.ranks > 1 and _talks(learner):
            hint = f"accumulate={2 * learner.pieces}"
            raise OutOfMemory(f"rank {learner.place.rank}", saw=f"{learner.pieces} pieces", hint=hint) from error
    return None


def _talks(learner: Learner) -> bool:
    """Ranks speak to each other within a loss: one that gives up there leaves the others waiting."""
    return learner.run.shard or any(hasattr(module, "gather") for module in learner.model.modules())


def _halve(learner: Learner) -> None:
    before = learner.run.batch // learner.pieces
    try:
        learner.cut(2 * learner.pieces)
    except BadValue as error:
        hint = "a smaller model, remat=true, shard=true, or more memory"
        raise OutOfMemory(f"step {learner.step + 1}", saw=f"{before} objects at a time", hint=hint) from error
    now = learner.run.batch // learner.pieces
    learner.metrics.append({"step": learner.step + 1, "pieces": learner.pieces})
    if learner.place.rank == 0:
        said = f"out of memory with {before} objects at a time, going on with {now}: accumulate={learner.pieces}"
        warnings.warn(f"step {learner.step + 1}: {said}", RuntimeWarning, stacklevel=2)


def _one_by_one(learner: Learner, tokens: Tokens, mine: int) -> float:
    """Pieces are equally large: the mean of their losses."""
    total, rows = 0.0, tokens.objects // mine
    for i in range(mine):
        with _drawing(learner, i) as draw:
            loss = learner.model.loss(tokens.take(slice(i * rows, (i + 1) * rows)), draw)
        (loss / mine).backward()
        total += float(loss.detach()) / mine
    return total


def _compared(learner: Learner, tokens: Tokens, mine: int) -> float:
    """The gradient of the loss among all objects of all pieces (Gao et al. 2021, arXiv:2101.06983).

    First all are told without a gradient and compared; then each piece is told again, with the same draws, and led
    back from what the comparison said of it. Twice the forward work, and the memory of one piece.
    """
    rows = tokens.objects // mine
    pieces = [tokens.take(slice(i * rows, (i + 1) * rows)) for i in range(mine)]

    def tell(i: int) -> Tensor:
        with _drawing(learner, i) as draw:
            return learner.model.told(pieces[i], draw)

    with torch.no_grad():
        told = torch.cat([tell(i) for i in range(mine)])
    told.requires_grad_()
    with learner.place.autocast():
        loss = learner.model.among(told)
    loss.backward()
    assert told.grad is not None
    for i, grad in enumerate(told.grad.split(rows)):
        tell(i).backward(grad)
    return float(loss.detach())


GOLDEN = 2_654_435_769
"""2³² over the golden ratio: seeds of pieces far from those of other steps; torch keeps 32 bits of a seed"""


@contextmanager
def _drawing(learner: Learner, i: int) -> Iterator[torch.Generator]:
    """Precision and draws of this rank's piece i: they depend on which piece of the batch it is, not on the rank."""
    piece = learner.place.rank * (learner.pieces // learner.place.ranks) + i
    seed = learner.run.seed * 1_000_003 + learner.step + piece * GOLDEN
    with learner.place.drawing(seed), learner.place.autocast():
        yield torch.Generator().manual_seed(seed)
