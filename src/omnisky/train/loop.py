"""The one training loop, for anything with `.loss(tokens, generator)`.

A run lives in a folder:

    run.json            the Run, to compare with on resume
    metrics.jsonl       one line a step (loss, rate, norm), one a judgement (held_out)
    last/               the newest checkpoint: state.safetensors, state.json
    model/              the finished model, for omnisky.load

Killed at any moment, the same call goes on from `last/` and ends with the same bits: weights, optimiser and the place
in the data are there, and all random draws of step k (dropout too) come from (seed, k) alone.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from omnisky.codec.token_shards import are_token_shards, read_shards
from omnisky.codec.tokens import Tokens, encode_all
from omnisky.errors import BadValue, CorruptFile, NonFiniteLoss, ResumeMismatch, StorageError
from omnisky.model import store
from omnisky.observe.loader import Bookmark, Chosen, Loader, Ordered, Source
from omnisky.observe.match import Places
from omnisky.observe.read import read
from omnisky.observe.shards import Shards, is_shards
from omnisky.observe.sky import held_out
from omnisky.observe.types import Observation
from omnisky.storage import atomic, recover
from omnisky.train.config import Run
from omnisky.train.devices import Place, here
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
    step: int = 0
    metrics: list[dict] = field(default_factory=list)


def train(
    run: Run,
    folder: str | Path,
    source: Source | None = None,
    start: nn.Module | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> nn.Module:
    """Train, or go on training, and return the model in eval mode; it is also saved as `folder`/model.

    `source` replaces `run.data`; `start` gives the weights to begin with. Raises
    ResumeMismatch when the folder holds another run, NonFiniteLoss, StorageError.
    """
    folder = Path(folder)
    learner = _begin(run, folder, source, start)
    for seen in _until(run.steps, learner):
        progress = _step(learner, seen)
        if watch is not None:
            watch(progress)
        if learner.step % run.save_every == 0 or learner.step == run.steps:
            _save(learner, folder)
    if learner.mean is not None:
        learner.model.load_state_dict(learner.mean.mean, strict=False)
    if run.data and are_token_shards(Path(run.data).expanduser()):
        made_by = codecs_beside(run.data, [codec.name for codec in run.codecs])
        learner.model.codecs = made_by or run.codecs  # so that the model reads observations, not ids alone
    store.save(learner.model, folder / "model")
    return learner.model.eval()


def _begin(run: Run, folder: Path, source: Source | None, start: nn.Module | None) -> Learner:
    if source is None and not run.data:
        raise BadValue("no data", want="data=PATH, or source=observations", hint=f"omnisky train {run.name} data=…")
    learnt, judged = _sides(_opened(run) if source is None else source, run.held_out)
    place = here(run.precision)
    model = run.model.build(run.seed).to(place.device)
    model.codecs = run.codecs
    if hasattr(model, "gather"):
        model.gather = place.gather  # a contrast is among the objects of all ranks
    if start is None and getattr(model, "standing", False):
        hint = "train.frozen.align(run, folder, source, towers), or start="
        raise BadValue(f"{run.name}: its backbones would stand still at a random start", want="trained ones", hint=hint)
    if start is not None:
        store.fill(model, start.state_dict(), "the model to start from")
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
    _resume(learner, folder)
    return learner


def _opened(run: Run) -> Source:
    """Shards stay on disk and may be larger than memory; of them, only parts that a codec reads are ever read. Shards
    of token ids, two bytes a token, are held in memory.
    """
    if are_token_shards(Path(run.data).expanduser()):
        return read_shards(Path(run.data).expanduser(), names=[codec.name for codec in run.codecs])
    if is_shards(Path(run.data).expanduser()):
        return Shards(run.data, parts=sorted({codec.part for codec in run.codecs}))
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


def _step(learner: Learner, seen: Observation) -> Progress:
    """One step: the gradient of the whole batch, clipped, applied."""
    run, start = learner.run, time.perf_counter()
    learner.model.train()
    rate = run.optim.steer(learner.optimiser, learner.step + 1, run.steps)
    seed = run.seed * 1_000_003 + learner.step
    with learner.place.drawing(seed):
        draw = torch.Generator().manual_seed(seed)
        loss = _accumulate(learner, encode_all(run.codecs, seen).to(learner.place.device), draw)
    learner.place.average(learner.model)
    norm = run.optim.shorten(learner.model)
    if not math.isfinite(loss + norm):  # a finite loss may have a gradient that is not
        raise NonFiniteLoss(
            f"step {learner.step + 1}",
            saw=f"loss {loss}, gradient {norm}",
            want="finite numbers",
            hint="a lower optim.peak, or look for broken inputs; last/ is whole",
        )
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


def _accumulate(learner: Learner, tokens: Tokens, draw: torch.Generator) -> float:
    """Gradients of the mean loss, piece by piece; the pieces are equally large, so the mean of means is the mean."""
    pieces, total = learner.run.accumulate, 0.0
    rows = tokens.objects // pieces
    for i in range(pieces):
        with learner.place.autocast():
            loss = learner.model.loss(tokens.take(slice(i * rows, (i + 1) * rows)), draw)
        (loss / pieces).backward()
        total += float(loss.detach()) / pieces
    return total


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
    return total / len(learner.judged)


def _save(learner: Learner, folder: Path) -> None:
    tensors = {f"model/{name}": t for name, t in learner.model.state_dict().items()}
    for i, state in learner.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{i}/{name}": t for name, t in state.items()}
    if learner.mean is not None:
        tensors |= {f"mean/{name}": t for name, t in learner.mean.mean.items()}
    state = {"step": learner.step, "bookmark": learner.loader.bookmark.state()}
    _log(learner, folder / "metrics.jsonl")
    with atomic(folder / "last") as draft:
        draft.mkdir()
        tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        store.write_weights(tensors, draft / "state.safetensors")
        (draft / "state.json").write_text(json.dumps(state))


def _log(learner: Learner, file: Path) -> None:
    """Append what was measured: before `last/` moves on, so that no line is ever missing. Raises StorageError."""
    try:
        with open(file, "a") as log:
            log.writelines(json.dumps(line) + "\n" for line in learner.metrics)
    except OSError as error:
        raise StorageError(f"could not write {file}", saw=str(error), hint="another disk, or make room") from error
    learner.metrics.clear()


def _resume(learner: Learner, folder: Path) -> None:
    """Go on from `last/`, if there is one, and cut the metrics back to it."""
    asked = json.dumps(_identity(learner.run), sort_keys=True, indent=1)
    for name in ("last", "model", "run.json", "metrics.jsonl"):
        recover(folder / name)
    if not (folder / "last").is_dir():
        (folder / "metrics.jsonl").unlink(missing_ok=True)  # killed before its first checkpoint
        with atomic(folder / "run.json") as draft:
            draft.write_text(asked)
        return
    _demand_same(folder, asked)
    try:
        state = json.loads((folder / "last" / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{folder}/last/state.json: {error}", hint="start in a new folder") from error
    tensors = store.read_weights(folder / "last" / "state.safetensors")
    store.fill(learner.model, _under("model/", tensors), folder / "last")
    if learner.mean is not None:
        learner.mean.mean = _under("mean/", tensors)
    _fill_optimiser(learner.optimiser, _under("optimiser/", tensors))
    learner.step = state["step"]
    learner.loader.bookmark = Bookmark(**state["bookmark"])
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= learner.step]
    with atomic(folder / "metrics.jsonl") as draft:
        draft.write_text("".join(whole))


def _fill_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    packed = optimiser.state_dict()
    packed["state"] = {}
    for key, tensor in tensors.items():
        i, name = key.split("/")
        packed["state"].setdefault(int(i), {})[name] = tensor
    optimiser.load_state_dict(packed)
    for (
        p,
        state,
    ) in optimiser.state.items():  # fused steps go by memory, so channels last of one is channels last of all
        state.update({name: torch.empty_like(p).copy_(t) for name, t in state.items() if t.shape == p.shape})


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _identity(run: Run) -> dict:
    """What must not change between a run and its resumption: all but where the data lie and how often to look.

    How long it is counts too: the learning rate of every step depends on it.
    """
    free = ("data", "workers", "judge_every", "save_every", "augment", "optim", "model", "codecs")
    plain = {name: value for name, value in vars(run).items() if name not in free}
    return plain | {
        "augment": getattr(run.augment, "__name__", None),
        "optim": vars(run.optim) | {"betas": list(run.optim.betas)},
        "model": store.pack(run.model),
        "codecs": store.pack(run.codecs),
    }


def _demand_same(folder: Path, asked: str) -> None:
    try:
        before = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{folder}/run.json: {error}", hint="start in a new folder") from error
    now = json.loads(asked)
    other = [name for name in now if now[name] != before.get(name)]
    if other:
        raise ResumeMismatch(
            f"{folder} holds another run",
            saw=", ".join(f"{name}={now[name]}" for name in other),
            want=", ".join(f"{name}={before.get(name)}" for name in other),
            hint="another folder (out=…), or the same settings",
        )


__all__ = ["Progress", "Source", "train"]
