"""The one training loop, for anything with `.loss(tokens, generator)`.

A run lives in a folder:

    run.json            the Run, to compare with on resume
    metrics.jsonl       one line a step (loss, rate, norm), one a judgement (held_out)
    last/               the newest checkpoint (`train.checkpoint`)
    model/              the finished model, for omnisky.load

torchrun starts it on several ranks, which share every batch and write one folder that all of them see. Killed at any
moment, the same call goes on from `last/` and ends with the same bits: weights, optimiser and the place in the data are
there, and all random draws of piece p of step k (dropout too) come from (seed, k, p) alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from omnisky.codec.token_shards import are_token_shards, read_shards
from omnisky.codec.tokens import encode_all, parts_read
from omnisky.errors import BadValue
from omnisky.model import store
from omnisky.model.transformer import Block, Stack
from omnisky.observe.loader import Chosen, Loader, Ordered, Source
from omnisky.observe.match import Places
from omnisky.observe.read import read
from omnisky.observe.shards import Shards, is_shards
from omnisky.observe.sky import held_out
from omnisky.observe.types import Observation
from omnisky.train import checkpoint, sharding
from omnisky.train.config import Run
from omnisky.train.devices import Place, demand_compiler, here, joined
from omnisky.train.faults import Unfit, demand_finite, encoded, leave_out
from omnisky.train.gradient import gradient
from omnisky.train.optim import MeanWeights
from omnisky.train.tokens import codecs_beside

JUDGED = 1024
"""held-out objects that a validation loss is the mean of, at most"""


@dataclass(frozen=True)
class Progress:
    """What a step tells whoever watches."""

    step: int
    steps: int
    loss: float
    rate: float
    norm: float
    """of the gradient, before clipping"""
    objects_per_second: float
    held_out: float | None = None
    """validation loss, on steps that judge"""


@dataclass
class Learner:
    """Everything that changes while learning."""

    run: Run
    model: nn.Module
    optimiser: torch.optim.Optimizer
    mean: MeanWeights | None
    loader: Loader
    judged: Observation | None
    place: Place
    pieces: int = 1
    """a batch is cut into, over all ranks"""
    step: int = 0
    forgiven: int = 0
    """batches left out"""
    metrics: list[dict] = field(default_factory=list)

    def cut(self, least: int) -> None:
        """Into as many pieces, or as few more as the ranks can share equally. Raises BadValue."""
        batch, ranks = self.run.batch, self.place.ranks
        fits = [n for n in range(least, batch + 1) if n % ranks == 0 and batch % n == 0]
        if not fits:
            raise BadValue("pieces", saw=f"{batch} objects, {least} pieces, {ranks} ranks", want="equal shares")
        self.pieces = fits[0]


def train(
    run: Run,
    folder: str | Path,
    source: Source | None = None,
    start: nn.Module | None = None,
    watch: Callable[[Progress], None] | None = None,
    judged: Observation | None = None,
) -> nn.Module:
    """Train, or go on training, and return the model in eval mode; it is also saved as `folder`/model.

    `source` replaces `run.data`; `start` gives the weights to begin with; `judged` are the objects of the validation
    loss, instead of `run.held_out` of the source. Of several ranks the first one watches; with `run.shard` each gets
    back its pieces of the model. Raises ResumeMismatch when the folder holds another run,
    NonFiniteLoss and ObservationError (naming the batch), OutOfMemory, StorageError, MissingExtra (no compiler).
    """
    folder, place = Path(folder), here(run.precision)
    with joined(place):
        learner = _begin(run, folder, source, start, place)
        learner.judged = learner.judged if judged is None else judged
        for seen in _until(run.steps, learner):
            progress = _step(learner, seen)
            if progress is None:
                continue
            if watch is not None and place.rank == 0:
                watch(progress)
            if learner.step % run.save_every == 0 or learner.step == run.steps:
                checkpoint.save(learner, folder)
        if learner.mean is not None:
            learner.model.load_state_dict(learner.mean.mean, strict=False)
        _finish(learner, folder)
    return learner.model.eval()


def _finish(learner: Learner, folder: Path) -> None:
    model: nn.Module | None = learner.model
    if learner.run.shard:
        model = sharding.put_together(learner.model, learner.run.model, learner.place)
    if model is not None and learner.place.rank == 0:
        if learner.run.data and are_token_shards(Path(learner.run.data).expanduser()):
            made_by = codecs_beside(learner.run.data, [codec.name for codec in learner.run.codecs])
            model.codecs = made_by or learner.run.codecs  # so that the model reads observations, not ids alone
        store.save(model, folder / "model")
    learner.place.all(None)  # it is there for every rank


def _begin(run: Run, folder: Path, source: Source | None, start: nn.Module | None, place: Place) -> Learner:
    if source is None and not run.data:
        raise BadValue("no data", want="data=PATH, or source=observations", hint=f"omnisky train {run.name} data=…")
    learnt, judged = _sides(_opened(run) if source is None else source, run.held_out)
    model = _build(run, start, place)
    loader = Loader(
        learnt,
        run.batch,
        seed=run.seed,
        augment=run.augment,
        rank=place.rank,
        ranks=place.ranks,
        workers=run.workers,
    )
    mean = MeanWeights(model, run.mean_decay) if run.mean_decay else None
    learner = Learner(run, model, run.optim.build(model), mean, loader, judged, place)
    learner.cut(math.lcm(run.accumulate, place.ranks))
    checkpoint.resume(learner, folder)
    return learner


def _build(run: Run, start: nn.Module | None, place: Place) -> nn.Module:
    """The model at its start, where and how it will learn. Raises BadValue, UnknownLayout, MissingExtra."""
    if run.compile:
        demand_compiler(place.device)
    if run.shard and place.ranks > 1:
        model = sharding.build_in_pieces(run.model, run.seed, place)
    else:
        model = run.model.build(run.seed).to(place.device)
    model.codecs = run.codecs
    if start is None and getattr(model, "standing", False):
        hint = "train.frozen.align(run, folder, source, towers), or start="
        raise BadValue(f"{run.name}: its backbones would stand still at a random start", want="trained ones", hint=hint)
    if start is not None:
        own = model.state_dict()
        given = {name: sharding.like(t, own[name]) if name in own else t for name, t in start.state_dict().items()}
        store.fill(model, given, "the model to start from")
    for module in model.modules():
        if hasattr(module, "gather"):
            module.gather = place.gather  # a contrast, a centre: among the objects of all ranks
        if isinstance(module, Stack):
            module.remat = module.remat or run.remat
        if isinstance(module, Block) and run.compile:
            module.compile()
    return model


def _opened(run: Run) -> Source:
    """Shards stay on disk and may be larger than memory; of them, only parts that a codec reads are ever read. Shards
    of token ids, two bytes a token, are held in memory.
    """
    if are_token_shards(Path(run.data).expanduser()):
        return read_shards(Path(run.data).expanduser(), names=[codec.name for codec in run.codecs])
    if is_shards(Path(run.data).expanduser()):
        shards = Shards(run.data)
        return shards.of_parts(parts_read(run.codecs, shards.layout.parts))
    return read(run.data)


def _sides(seen: Source, share: float) -> tuple[Source, Observation | None]:
    """What is learnt from, and what is judged. Only an Observation is in memory: of another source, rows are named."""
    if not share:
        return seen, None
    if isinstance(seen, Ordered):
        raise BadValue("held_out", saw=share, want="0 for a mix", hint="split each of its sources before mixing")
    away = held_out(Places.of(seen).take(slice(None)), share)
    learnt, judged = np.flatnonzero(~away), np.flatnonzero(away)[:JUDGED]
    kept = seen.take(learnt) if isinstance(seen, Observation) else Chosen(seen, learnt)
    return kept, seen.take(judged) if len(judged) else None


def _until(steps: int, learner: Learner) -> Iterator[Observation]:
    if learner.step < steps:
        for seen in learner.loader:
            yield seen
            if learner.step >= steps:
                return


def _step(learner: Learner, seen: Observation) -> Progress | None:
    """One step: the gradient of the whole batch, clipped, applied. None for a batch that was left out."""
    run, start = learner.run, time.perf_counter()
    learner.model.train()
    rate = run.optim.steer(learner.optimiser, learner.step + 1, run.steps)
    try:
        loss = gradient(learner, encoded(learner, seen))
        learner.place.average(learner.model)
        norm = run.optim.shorten(learner.model)
        demand_finite(learner, seen, loss, norm)
    except Unfit as unfit:
        leave_out(learner, unfit)
        return None
    learner.optimiser.step()
    learner.optimiser.zero_grad(set_to_none=True)
    learner.step += 1
    if hasattr(learner.model, "after_step"):  # a teacher that follows its student
        learner.model.after_step(learner.step, run.steps)
    if learner.mean is not None:
        learner.mean.update(learner.model, learner.step)
    judgement = _judge(learner) if learner.step % run.judge_every == 0 or learner.step == run.steps else None
    speed = len(seen) * learner.place.ranks / (time.perf_counter() - start)
    learner.metrics.append({"step": learner.step, "loss": loss, "rate": rate, "norm": norm})
    if judgement is not None:
        learner.metrics[-1]["held_out"] = judgement
    return Progress(learner.step, run.steps, loss, rate, norm, speed, judgement)


@torch.no_grad()
def _judge(learner: Learner) -> float | None:
    """The mean loss on held-out objects, with the same random draws every time."""
    if learner.judged is None:
        return None
    learner.model.eval()
    draw = torch.Generator().manual_seed(learner.run.seed)
    total, size = 0.0, min(learner.run.batch, len(learner.judged))
    for start in range(0, len(learner.judged), size):
        seen = learner.judged.take(slice(start, start + size))
        with learner.place.autocast():
            loss = learner.model.loss(encode_all(learner.run.codecs, seen).to(learner.place.device), draw)
        total += float(loss) * len(seen)
    sharding.let_go(learner.model)
    return total / len(learner.judged)


__all__ = ["Progress", "Source", "train"]
