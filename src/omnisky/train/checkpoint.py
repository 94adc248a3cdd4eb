"""`last/`, the newest checkpoint of a run: written whole or not at all, read on any number of ranks.

state.json          step, bookmark, pieces, forgiven
state.safetensors   weights, moments, running mean: where one process wrote it
ranks/              the same as torch's distributed checkpoint, a safetensors file a rank; no pickle
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnisky.errors import CorruptFile, ResumeMismatch, StorageError
from omnisky.model import store
from omnisky.observe.loader import Bookmark
from omnisky.storage import atomic, recover
from omnisky.train.config import Run
from omnisky.train.sharding import like

if TYPE_CHECKING:
    from omnisky.train.loop import Learner


def save(learner: Learner, folder: Path) -> None:
    """Write `last/`. Raises StorageError; what was there before then stays."""
    if learner.place.rank == 0:
        _log(learner, folder / "metrics.jsonl")
    learner.metrics.clear()
    state = {
        "step": learner.step,
        "bookmark": learner.loader.bookmark.state(),
        "pieces": learner.pieces,
        "forgiven": learner.forgiven,
    }
    with ExitStack() as stack:
        draft = folder
        if learner.place.rank == 0:
            draft = stack.enter_context(atomic(folder / "last"))
            draft.mkdir()
            (draft / "state.json").write_text(json.dumps(state))
        draft = Path(learner.place.all(str(draft))[0])
        if learner.place.ranks > 1:
            _save_together(learner, draft)
        else:
            tensors = {name: t.detach().cpu().contiguous() for name, t in _tensors(learner).items()}
            store.write_weights(tensors, draft / "state.safetensors")
    learner.place.all(None)  # nobody goes on before it is in its place


def _tensors(learner: Learner) -> dict[str, Tensor]:
    tensors = {f"model/{name}": t for name, t in learner.model.state_dict().items()}
    for i, state in learner.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{i}/{name}": t for name, t in state.items()}
    if learner.mean is not None:
        tensors |= {f"mean/{name}": t for name, t in learner.mean.mean.items()}
    return tensors


def _save_together(learner: Learner, draft: Path) -> None:
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.api import CheckpointException

    # A file of slices has no slices of a single number, nor of convolutions in channels last.
    tensors = {name: t.contiguous() if t.ndim else t.reshape(1) for name, t in _tensors(learner).items()}
    writer = checkpoint.HuggingFaceStorageWriter(str(draft / "ranks"), save_distributed=True)
    try:
        checkpoint.save(tensors, storage_writer=writer)
    except CheckpointException as error:
        hint = "another disk, or make room"
        raise StorageError(f"could not write {draft.parent / 'last'}", saw=_first_line(error), hint=hint) from error


def _first_line(error: BaseException) -> str:
    """Of what the ranks said, the first failure."""
    failures = getattr(error, "failures", {})
    return "; ".join(f"rank {rank}: {failure[0]}" for rank, failure in failures.items()) or str(error)


def _log(learner: Learner, file: Path) -> None:
    """Append what was measured: before `last/` moves on, so that no line is ever missing. Raises StorageError."""
    try:
        with open(file, "a") as log:
            log.writelines(json.dumps(line) + "\n" for line in learner.metrics)
    except OSError as error:
        raise StorageError(f"could not write {file}", saw=str(error), hint="another disk, or make room") from error


# --- and back ----------------------------------------------------------------------------------------------------


def resume(learner: Learner, folder: Path) -> None:
    """Go on from `last/`, if there is one, and cut the metrics back to it. Raises ResumeMismatch, CorruptFile."""
    if learner.place.rank == 0:
        _tidy(folder, _told(learner.run))
    learner.place.all(None)  # nobody looks before things are right
    demand_same(learner.run, folder)
    if not (folder / "last").is_dir():
        return
    try:
        state = json.loads((folder / "last" / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{folder}/last/state.json: {error}", hint="start in a new folder") from error
    together = (folder / "last" / "ranks").is_dir()
    tensors = _read_together(learner, folder / "last" / "ranks") if together else _read(learner, folder / "last")
    store.fill(learner.model, _under("model/", tensors), folder / "last")
    if learner.mean is not None:
        learner.mean.mean = _under("mean/", tensors)
    _fill_optimiser(learner.optimiser, _under("optimiser/", tensors))
    learner.step, learner.forgiven = state["step"], state.get("forgiven", 0)
    learner.cut(state.get("pieces", learner.pieces))
    learner.loader.bookmark = Bookmark(**state["bookmark"])
    if learner.place.rank == 0:
        _cut_back(folder / "metrics.jsonl", learner.step)


def _tidy(folder: Path, asked: str) -> None:
    for name in ("last", "model", "run.json", "metrics.jsonl"):
        recover(folder / name)
    if not (folder / "last").is_dir():
        (folder / "metrics.jsonl").unlink(missing_ok=True)  # killed before its first checkpoint
        with atomic(folder / "run.json") as draft:
            draft.write_text(asked)


def _cut_back(file: Path, step: int) -> None:
    lines = file.read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    with atomic(file) as draft:
        draft.write_text("".join(whole))


def _read(learner: Learner, last: Path) -> dict[str, Tensor]:
    tensors = store.read_weights(last / "state.safetensors")
    patterns = _patterns(learner, {name: t.shape for name, t in tensors.items()}, last)
    return {name: like(t, patterns[name]) for name, t in tensors.items()}


def _read_together(learner: Learner, ranks: Path) -> dict[str, Tensor]:
    """Every rank reads just its pieces, whoever wrote them. Raises CorruptFile."""
    from safetensors import SafetensorError
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        reader = checkpoint.HuggingFaceStorageReader(str(ranks))
        sizes = {name: told.size for name, told in reader.read_metadata().state_dict_metadata.items()}
        patterns = _patterns(learner, sizes, ranks)
        tensors = {name: torch.empty_like(p) if p.ndim else p.new_empty(1) for name, p in patterns.items()}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # by a single process, which it is
            checkpoint.load(tensors, storage_reader=reader)
    except (CheckpointException, SafetensorError, OSError, RuntimeError) as error:
        raise CorruptFile(f"{ranks}: {_first_line(error)}", want="whole files of all ranks") from error
    return {name: t if patterns[name].ndim else t.reshape(()) for name, t in tensors.items()}


def _patterns(learner: Learner, sizes: Mapping[str, torch.Size], source: Path) -> dict[str, Tensor]:
    """Tensors of the shapes, dtypes and pieces that those of these names shall have. Raises CorruptFile."""
    known = {f"model/{name}": t for name, t in learner.model.state_dict().items()}
    if learner.mean is not None:
        known |= {f"mean/{name}": t for name, t in learner.mean.mean.items()}
    params = [p for group in learner.optimiser.param_groups for p in group["params"]]
    for i, p in enumerate(params):
        known |= {f"optimiser/{i}/{name}": p.detach() for name in MOMENTS} | {f"optimiser/{i}/step": torch.zeros(())}
    if strange := sorted(sizes.keys() - known.keys()):
        raise CorruptFile(str(source), saw=strange[0], want="a checkpoint of this model", hint="a new folder")
    return {name: known[name] for name in sizes}


MOMENTS = ("exp_avg", "exp_avg_sq")
"""what AdamW remembers of each number; beside them it counts steps"""


def _fill_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    packed = optimiser.state_dict()
    packed["state"] = {}
    for key, tensor in tensors.items():
        i, name = key.split("/")
        packed["state"].setdefault(int(i), {})[name] = tensor
    optimiser.load_state_dict(packed)
    for p, state in optimiser.state.items():
        # Fused steps go by memory, so channels last of one is channels last of all.
        state.update({name: torch.empty_like(p).copy_(t) for name, t in state.items() if t.shape == p.shape})


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


FREE = (
    *("data", "workers", "judge_every", "save_every", "remat", "compile", "shard", "forgive"),
    *("augment", "optim", "model", "codecs"),
)
"""what may change, and what is told below in its own way"""


def identity(run: Run) -> dict:
    """What must not change between a run and its resumption: all but where the data lie and how it is computed.

    How long it is counts too: the learning rate of every step depends on it.
    """
    plain = {name: value for name, value in vars(run).items() if name not in FREE}
    return plain | {
        "augment": getattr(run.augment, "__name__", None),
        "optim": vars(run.optim) | {"betas": list(run.optim.betas)},
        "model": store.pack(run.model),
        "codecs": store.codecs_told(run.codecs),
    }


def _told(run: Run) -> str:
    return json.dumps(identity(run), sort_keys=True, indent=1)


def demand_same(run: Run, folder: Path) -> None:
    """Raises ResumeMismatch where the folder holds another run, CorruptFile where it does not say which."""
    try:
        before = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{folder}/run.json: {error}", hint="start in a new folder") from error
    now = json.loads(_told(run))
    other = [name for name in now if now[name] != before.get(name)]
    if other:
        raise ResumeMismatch(
            f"{folder} holds another run",
            saw=", ".join(f"{name}={now[name]}" for name in other),
            want=", ".join(f"{name}={before.get(name)}" for name in other),
            hint="another folder (out=…), or the same settings",
        )
