"""Attentive pooling: a few learned queries read the tokens of a frozen model (Lee et al. 2019, arXiv:1810.00825)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from safetensors.torch import save_file
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from omnisky.errors import ProvenanceError, ShapeMismatch
from omnisky.model import store
from omnisky.storage import atomic


class AttentivePool(nn.Module):
    """softmax(Q·Kᵀ/√d)·V with learned Q, one read per head, then a hidden layer and the answers.

    As AION-1 probes are built (Parker et al. 2025, §5): K and V are linear in the normed tokens.
    """

    def __init__(self, width: int, answers: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, heads)  # Q·K of a learned Q and a linear K is one linear map
        self.values = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.up, self.answers = nn.Linear(hidden, hidden), nn.Linear(hidden, answers)
        self.heads = heads

    def forward(self, tokens: Float[Tensor, "object token width"]) -> Float[Tensor, "object answer"]:
        x = self.norm(tokens)
        weight = self.scores(x).softmax(1)
        value = self.values(x).unflatten(-1, (self.heads, -1))
        read = torch.einsum("oth,othd->ohd", weight, value).flatten(1)
        return self.answers(self.dropout(F.gelu(self.up(self.dropout(F.gelu(read))))))


class AttentiveProbe(ClassifierMixin, BaseEstimator):
    """A classifier on token states (object, token, width), trained with AdamW and early stopping.

    A tenth of the training objects decides when to stop. With `views` > 1, consecutive groups of that many rows of x
    are the same object seen differently (turned, mirrored): one is drawn per object and step, and `predict_proba`
    averages over them. A step reads a random share `kept` of the tokens: a probe that cannot lean on any one of them
    learns less by heart, and in half the time.
    """

    def __init__(  # noqa: PLR0913 - scikit-learn wants every setting by name here
        self,
        heads: int = 8,
        hidden: int = 256,
        dropout: float = 0.2,
        steps: int = 1500,
        batch: int = 256,
        rate: float = 2e-3,
        weight_decay: float = 0.05,
        kept: float = 0.5,
        views: int = 1,
        seed: int = 0,
    ) -> None:
        self.heads, self.hidden, self.dropout, self.steps, self.batch = heads, hidden, dropout, steps, batch
        self.rate, self.weight_decay, self.kept, self.views, self.seed = rate, weight_decay, kept, views, seed

    def fit(
        self,
        x: Float[np.ndarray, "row token width"],
        y: np.ndarray,
        objects: Integer[np.ndarray, " chosen"] | None = None,
    ) -> AttentiveProbe:
        """x (object · views, token, width) in any float type, y labels (object,); learn from `objects`, or all.

        x may be memory-mapped: it is read batch by batch. Raises ShapeMismatch.
        """
        if x.ndim != 3 or len(x) != len(y) * self.views:
            raise ShapeMismatch(
                saw=f"x {x.shape}, {len(y)} labels, {self.views} views", want="(labels·views, token, width)"
            )
        use = np.arange(len(y)) if objects is None else np.asarray(objects)
        self.classes_ = np.unique(y[use])
        target = np.searchsorted(self.classes_, y)  # means nothing for objects not used
        draw = np.random.default_rng(self.seed)
        away = draw.permutation(len(use)) < max(len(use) // 10, 1)
        with torch.random.fork_rng():  # dropout and the start are this probe's own, not the caller's
            torch.manual_seed(self.seed)
            self.model_ = AttentivePool(x.shape[-1], len(self.classes_), self.heads, self.hidden, self.dropout)
            self._learn(torch.from_numpy(x), torch.from_numpy(target), use[~away], use[away], draw)
        return self

    def predict_proba(self, x: Float[np.ndarray, "row token width"]) -> Float[np.ndarray, "object classes"]:
        """The chance of each class, in the order of `classes_`, the mean over an object's views."""
        check_is_fitted(self)
        chance = self._chance(torch.from_numpy(x)).numpy()
        return chance.reshape(-1, self.views, chance.shape[-1]).mean(1)

    def predict(self, x: Float[np.ndarray, "row token width"]) -> Integer[np.ndarray, " object"]:
        """The likeliest class."""
        return self.classes_[self.predict_proba(x).argmax(1)]

    def save(self, folder: str | Path, *, signature: str, names: tuple[str, ...] = ()) -> Path:
        """Write the fitted probe, signed by what made its tokens; `names` are those of the classes."""
        check_is_fitted(self)
        width = self.model_.norm.normalized_shape[0]
        told = {"signature": signature, "names": list(names), "classes": self.classes_.tolist(), "width": width}
        with atomic(folder) as draft:
            draft.mkdir()
            save_file(self.model_.state_dict(), draft / "probe.safetensors")
            (draft / "probe.json").write_text(json.dumps(told | {"settings": self.get_params()}, indent=1) + "\n")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, *, signature: str) -> AttentiveProbe:
        """What `save` wrote, with `names_`. Raises ProvenanceError for the tokens of another model."""
        told = json.loads((Path(folder) / "probe.json").read_text())
        if told["signature"] != signature:
            raise ProvenanceError(
                f"{folder} reads other tokens", saw=signature, want=told["signature"], hint="fit it anew"
            )
        probe = cls(**told["settings"])
        probe.classes_, probe.names_ = np.asarray(told["classes"]), tuple(told["names"])
        probe.model_ = AttentivePool(told["width"], len(probe.classes_), probe.heads, probe.hidden, probe.dropout)
        store.fill(probe.model_, store.read_weights(Path(folder) / "probe.safetensors"), folder)
        probe.model_.eval()
        return probe

    def _learn(self, x: Tensor, target: Tensor, use: np.ndarray, judge: np.ndarray, draw: np.random.Generator) -> None:
        optimiser = torch.optim.AdamW(self.model_.parameters(), lr=self.rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.rate, total_steps=self.steps)
        look = max(self.steps // 25, 1)
        best: tuple[float, dict[str, Any]] = (float("inf"), {})
        for step, rows in zip(range(1, self.steps + 1), self._batches(use, draw), strict=False):
            self.model_.train()
            seen = rows * self.views + draw.integers(self.views, size=len(rows))
            tokens = draw.permutation(x.shape[1])[: max(round(self.kept * x.shape[1]), 1)]
            loss = F.cross_entropy(self.model_(x[seen][:, tokens].float()), target[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if step % look == 0 or step == self.steps:
                said = self._chance(x[judge * self.views]).clamp(min=1e-9).log()
                surprise = float(F.nll_loss(said, target[judge]))
                if surprise < best[0]:
                    best = (surprise, {name: t.clone() for name, t in self.model_.state_dict().items()})
        self.model_.load_state_dict(best[1])

    def _batches(self, rows: np.ndarray, draw: np.random.Generator) -> Iterator[np.ndarray]:
        """Shuffled, without end; the last batch of a pass may be smaller."""
        while True:
            yield from np.array_split(draw.permutation(rows), max(len(rows) // self.batch, 1))

    @torch.no_grad()
    def _chance(self, x: Tensor, rows: int = 1024) -> Tensor:
        self.model_.eval()
        return torch.cat([self.model_(piece.float()).softmax(-1) for piece in x.split(rows)])
