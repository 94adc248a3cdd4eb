"""Batches that cannot be learnt from: found, named, and refused or left out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from omnisky.codec.tokens import Tokens, encode_all
from omnisky.errors import NonFiniteLoss, ObservationError, OmniskyError
from omnisky.observe.types import Observation
from omnisky.train.gradient import forget

if TYPE_CHECKING:
    from omnisky.train.loop import Learner

NAMED = 5
"""objects that a complaint names, at most"""


class Unfit(Exception):
    """This batch is not learnt from; `error` says why. The same on every rank."""

    def __init__(self, error: OmniskyError, objects: list[str]) -> None:
        self.error, self.objects = error, objects
        super().__init__(str(error))


def encoded(learner: Learner, seen: Observation) -> Tokens:
    """The tokens of this rank's rows. Raises Unfit where those of any rank cannot be read."""
    try:
        tokens, wrong = encode_all(learner.run.codecs, seen).to(learner.place.device), None
    except ObservationError as error:
        tokens, wrong = Tokens({}), error
    if learner.place.any(wrong is not None):
        said = learner.place.all(None if wrong is None else (type(wrong), str(wrong)))
        kind, words = next(one for one in said if one is not None)
        bad = [] if wrong is None else [i for i in range(len(seen)) if not _reads(learner, seen.take([i]))]
        objects = _named(learner, seen, bad)
        raise Unfit(kind(f"{_batch(learner)}, {_few(objects)}: {words}"), objects) from wrong
    return tokens


def demand_finite(learner: Learner, seen: Observation, loss: float, norm: float) -> None:
    """Raises Unfit for a loss or gradient that is not finite, naming the objects that alone give such a loss."""
    if math.isfinite(loss + norm):  # a finite loss may have a gradient that is not
        return
    objects = _named(learner, seen, _culprits(learner, seen))
    error = NonFiniteLoss(
        f"step {learner.step + 1}",
        saw=f"loss {loss}, gradient {norm}, {_batch(learner)}, {_few(objects)}",
        want="finite numbers",
        hint="a lower optim.peak, or look for broken inputs; forgive=1 leaves the batch out; last/ is whole",
    )
    raise Unfit(error, objects)


def leave_out(learner: Learner, unfit: Unfit) -> None:
    """Go on behind this batch, if the run forgives as many; else raise what was wrong with it."""
    forget(learner)
    if learner.forgiven >= learner.run.forgive:
        raise unfit.error from unfit.__cause__
    learner.forgiven += 1
    place = learner.loader.bookmark
    what = {"epoch": place.epoch, "batch": place.batch - 1, "objects": unfit.objects, "why": str(unfit.error)}
    learner.metrics.append({"step": learner.step + 1, "left_out": what})


def _reads(learner: Learner, one: Observation) -> bool:
    try:
        encode_all(learner.run.codecs, one)
    except ObservationError:
        return False
    return True


@torch.no_grad()
def _culprits(learner: Learner, seen: Observation) -> list[int]:
    """Rows whose loss alone is not finite."""
    learner.model.eval()
    found = []
    for i in range(len(seen)):
        tokens = encode_all(learner.run.codecs, seen.take([i])).to(learner.place.device)
        with learner.place.autocast():
            loss = learner.model.loss(tokens, torch.Generator().manual_seed(learner.run.seed))
        if not math.isfinite(float(loss)):
            found.append(i)
    return found


def _named(learner: Learner, seen: Observation, rows: list[int]) -> list[str]:
    """Ids of these rows, and of those that other ranks found."""
    ids = [str(seen.object_id[i]) for i in rows]
    return [name for names in learner.place.all(ids) for name in names]


def _few(objects: list[str]) -> str:
    if not objects:
        return "no single object"
    more = f" and {len(objects) - NAMED} more" if len(objects) > NAMED else ""
    return "object" + "s" * (len(objects) > 1) + " " + " ".join(objects[:NAMED]) + more


def _batch(learner: Learner) -> str:
    place = learner.loader.bookmark
    return f"batch {place.batch - 1} of pass {place.epoch}"
