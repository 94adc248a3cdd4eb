"""Fine-tuning: a model learns an answer by the one training loop, whole or by low-rank updates; the best is kept."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from torch import Tensor, nn

from omnisky.adapt.frozen import Frozen
from omnisky.adapt.learn import Watch
from omnisky.adapt.neural import binned
from omnisky.adapt.probe import demand_classes
from omnisky.adapt.rows import Rows
from omnisky.codec.patch import ScalarTokens
from omnisky.codec.scalar import ClassIds
from omnisky.codec.tokens import Codec, Tokens, encode_all
from omnisky.embed import Embedding, only
from omnisky.errors import BadValue
from omnisky.generate.posterior import Posterior
from omnisky.model import lowrank, store
from omnisky.model.adapted import ANSWER, Adapted, AdaptedConfig
from omnisky.model.heads import Classes, Head, Mixture, Numbers, spread
from omnisky.observe.loader import Chosen, Source
from omnisky.observe.types import Observation, Scalars
from omnisky.storage import atomic
from omnisky.train.config import Run
from omnisky.train.devices import here
from omnisky.train.loop import JUDGED, Progress, train
from omnisky.train.optim import AdamW


@dataclass(frozen=True, eq=False)
class Answered:
    """A source with its labels as one more part."""

    source: Source
    table: np.ndarray
    part: str | None

    def __len__(self) -> int:
        return len(self.source)

    def take(self, index: Any) -> Observation:
        table = self.table[index]
        names = tuple(f"{ANSWER}_{i}" for i in range(table.shape[1]))
        return only(self.source.take(index), self.part) | {ANSWER: Scalars(values=table, names=names)}


class _Enough(Exception):
    """No better look for a while."""


class _Best:
    """Watches the loop, and keeps the checkpoint of the lowest validation loss.

    The loop tells of a step before it writes its checkpoint, so that of step s is fetched when it tells of s + 1; of a
    call that was killed, the metrics say which was best so far.
    """

    def __init__(self, folder: Path, patience: int, watch: Watch | None) -> None:
        self.file, self.kept = folder / "last" / "state.safetensors", folder / "best.safetensors"
        self.patience, self.watch = patience, watch
        self.lowest, self.worse, self.fresh = float("inf"), 0, False
        if self.file.exists():
            self._remember(folder)

    def __call__(self, now: Progress) -> None:
        self.fetch()
        if now.held_out is not None:
            self.fresh = now.held_out < self.lowest
            self.lowest, self.worse = min(self.lowest, now.held_out), 0 if self.fresh else self.worse + 1
            if self.worse > self.patience:
                raise _Enough
        if self.watch is not None:
            self.watch(now.step, now.steps)

    def fetch(self) -> None:
        if self.fresh:
            with atomic(self.kept) as draft:
                shutil.copyfile(self.file, draft)
            self.fresh = False

    def _remember(self, folder: Path) -> None:
        last = json.loads((folder / "last" / "state.json").read_text())["step"]
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        looks = [(line["held_out"], line["step"]) for line in lines if "held_out" in line and line["step"] <= last]
        if looks:
            self.lowest, at = min(looks)
            self.worse = sum(step > at for _, step in looks)
            self.fresh = at == last


class _Tuned(BaseEstimator):
    """An `Adapted` model. `rank` 0 trains all weights."""

    def __init__(
        self,
        rank: int = 0,
        alpha: float = 16.0,
        steps: int = 300,
        batch: int = 32,
        rate: float = 1e-4,
        weight_decay: float = 0.05,
        patience: int = 5,
        seed: int = 0,
    ) -> None:
        self.rank, self.alpha, self.steps, self.batch = rank, alpha, steps, batch
        self.rate, self.weight_decay, self.patience, self.seed = rate, weight_decay, patience, seed

    def _learn(
        self,
        frozen: Frozen,
        rows: Rows,
        table: np.ndarray,
        head: Any,
        codec: Codec,
        judge: np.ndarray,
        folder: Path | None,
        watch: Watch | None,
    ) -> None:
        source = demand_source(rows)
        width = frozen.vectors(rows.take(np.arange(1))).shape[1]
        scale = self.alpha / self.rank if self.rank else 1.0
        config = AdaptedConfig(
            base=frozen.model.config,
            width=width,
            head=head,
            blocks=frozen.blocks,
            lora_rank=self.rank,
            lora_scale=scale,
        )
        start = config.build(self.seed)
        start.base.load_state_dict(start.base.state_dict() | frozen.model.state_dict())
        use = np.flatnonzero(~judge)
        every = max(self.steps // 15, 1)
        run = Run(
            name=f"fine-tuning-{_mark(frozen.signature, rows, table, judge)}",
            model=config,
            codecs=(*frozen.model.codecs, codec),
            held_out=0.0,
            steps=self.steps,
            batch=min(self.batch, len(use)),
            optim=AdamW(peak=self.rate, warmup=max(self.steps // 20, 1), weight_decay=self.weight_decay),
            precision=frozen.precision,
            seed=self.seed,
            judge_every=every,
            save_every=every,
        )
        answered = Answered(source, table, frozen.part)
        judged = answered.take(np.flatnonzero(judge)[:JUDGED]) if judge.any() else None
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch) if folder is None else folder
            self._settle(train_best(run, place, Chosen(answered, use), start, judged, self.patience, watch), frozen)

    def _settle(self, model: Adapted, frozen: Frozen) -> None:
        model.codecs = model.base.codecs = frozen.model.codecs
        self.model_ = model.eval()

    @torch.inference_mode()
    def _said(self, frozen: Frozen, rows: Rows) -> Tensor:
        source = rows.held if isinstance(rows.held, Tokens) else demand_source(rows)
        place, pieces = here(frozen.precision), []
        for start in range(0, len(rows), frozen.batch):
            held: Any = source.take(slice(start, min(start + frozen.batch, len(rows))))
            tokens = held if isinstance(held, Tokens) else encode_all(self.model_.codecs, only(held, frozen.part))
            with place.autocast():
                pieces.append(self.model_(tokens.to(next(self.model_.parameters()).device)).float().cpu())
        return torch.cat(pieces)


def _mark(signature: str, rows: Rows, table: np.ndarray, judge: np.ndarray) -> str:
    """Of the base, the objects and their labels: a folder of other ones is refused, not gone on with."""
    ids = [] if rows.places is None else rows.places.object_id.tolist()
    seal = blake2b(f"{signature} {ids}".encode(), digest_size=8)
    seal.update(table.tobytes() + judge.tobytes())
    return seal.hexdigest()


class TunedClassifier(ClassifierMixin, _Tuned):
    """A class, from a fine-tuned model."""

    def fit(
        self,
        frozen: Frozen,
        rows: Rows,
        y: np.ndarray,
        judge: Bool[np.ndarray, " object"],
        folder: Path | None = None,
        watch: Watch | None = None,
    ) -> TunedClassifier:
        """`judge` is True for those who decide which weights are kept; called again with `folder`, it goes on."""
        self.classes_ = np.unique(y)
        demand_classes(self.classes_)
        self.head_ = Classes(count=len(self.classes_))
        table = np.searchsorted(self.classes_, y).astype(float)[:, None]
        codec = ClassIds(column=f"{ANSWER}_0", classes=len(self.classes_), name=ANSWER, part=ANSWER)
        self._learn(frozen, rows, table, self.head_, codec, judge, folder, watch)
        return self

    def predict_proba(self, frozen: Frozen, rows: Rows) -> np.ndarray:
        """The chance of each class, in the order of `classes_`."""
        return self.head_.chance(self._said(frozen, rows)).double().numpy()

    def predict(self, frozen: Frozen, rows: Rows) -> np.ndarray:
        """The likeliest class."""
        return self.classes_[self.predict_proba(frozen, rows).argmax(1)]


class TunedRegressor(RegressorMixin, _Tuned):
    """Numbers, from a fine-tuned model."""

    def fit(
        self,
        frozen: Frozen,
        rows: Rows,
        y: np.ndarray,
        judge: Bool[np.ndarray, " object"],
        folder: Path | None = None,
        watch: Watch | None = None,
    ) -> Self:
        """As TunedClassifier.fit; y (object,) or (object, number)."""
        self.flat_ = y.ndim == 1
        table = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        self.head_: Any = self._head(table)
        codec = ScalarTokens(columns=tuple(f"{ANSWER}_{i}" for i in range(table.shape[1])), name=ANSWER, part=ANSWER)
        self._learn(frozen, rows, table, self.head_, codec, judge, folder, watch)
        return self

    def predict(self, frozen: Frozen, rows: Rows) -> np.ndarray:
        """Numbers, shaped as y was."""
        found = self.head_.values(self._said(frozen, rows))
        return found[:, 0] if self.flat_ else found

    def _head(self, table: np.ndarray) -> Head:
        return Numbers(**spread(table))


class TunedDensity(TunedRegressor):
    """A number as a sum of Gaussians, from a fine-tuned model."""

    def predict_posterior(self, frozen: Frozen, rows: Rows, edges: np.ndarray) -> Posterior:
        """How likely each bin between these edges is."""
        return binned(self.head_, self._said(frozen, rows), edges)

    def _head(self, table: np.ndarray) -> Head:
        if table.shape[1] != 1:
            raise BadValue("y", saw=f"{table.shape[1]} numbers an object", want="one, for a posterior")
        return Mixture(**spread(table))


def train_best(
    run: Run,
    folder: Path,
    source: Source,
    start: nn.Module,
    judged: Observation | None,
    patience: int,
    watch: Watch | None,
) -> Adapted:
    """`train.loop.train` until nothing gets better; the weights of the lowest validation loss, or the last ones."""
    best = _Best(folder, patience, watch)
    try:
        model: Any = train(run, folder, source=source, start=start, watch=best, judged=judged)
    except _Enough:
        model = run.model.build(run.seed)
    best.fetch()
    if best.kept.exists():
        tensors = store.read_weights(best.kept)
        weights = {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")}
        store.fill(model, weights, best.kept)
    return model


def demand_source(rows: Rows) -> Any:
    """The observations themselves. Raises BadValue for what was embedded or encoded before."""
    if not isinstance(rows.held, Source) or isinstance(rows.held, Embedding | Tokens | np.ndarray):
        raise BadValue("fine-tuning", saw=type(rows.held).__name__, want="observations, which the model reads anew")
    return rows.held


def folded(model: Adapted) -> nn.Module:
    """The model alone, its updates folded in: same vectors, plain layers, for `store.save` and everything else."""
    base = copy.deepcopy(model.base)
    lowrank.fold(base)
    return base.eval()
