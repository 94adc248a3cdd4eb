"""Pooling of a frozen model's tokens: their mean, or a few learned queries (Lee et al. 2019, arXiv:1810.00825)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from safetensors.torch import save_file
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from omnisky.adapt.learn import Effort, Pick, Watch, learn, own_draws, said
from omnisky.adapt.neural import LEVELS, binned
from omnisky.adapt.probe import demand_classes
from omnisky.errors import BadPixels, MissingModality, ProvenanceError, ShapeMismatch
from omnisky.generate.posterior import Posterior
from omnisky.model import store
from omnisky.model.heads import Classes, Head, Mixture, Numbers, Quantiles, spread
from omnisky.storage import atomic


def mean_pooled(
    tokens: Float[np.ndarray, "row token width"], present: Bool[np.ndarray, "row token"] | None = None
) -> Float[np.ndarray, "row width"]:
    """The mean over the tokens that are there, in float32. Raises MissingModality for an object without any."""
    if present is None:
        return tokens.mean(1, dtype=np.float32)
    demand_tokens(present)
    kept = np.where(present[..., None], tokens, 0).sum(1, dtype=np.float32)
    return kept / present.sum(1, keepdims=True).astype(np.float32)


def demand_tokens(present: Bool[np.ndarray, "row token"]) -> None:
    """Raises MissingModality for an object without any token."""
    if empty := int((~present.any(1)).sum()):
        raise MissingModality(f"{empty} of {len(present)} objects have no token at all", want="at least one each")


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

    def forward(
        self, tokens: Float[Tensor, "object token width"], present: Bool[Tensor, "object token"] | None = None
    ) -> Float[Tensor, "object answer"]:
        x = self.norm(tokens)
        scores = self.scores(x)
        if present is not None:
            scores = scores.masked_fill(~present[..., None], -torch.inf)
        # A mean of linear values is the linear value of the mean: so tokens are averaged before they are mapped.
        mean = torch.einsum("oth,otw->ohw", scores.softmax(1), x)
        weight = self.values.weight.unflatten(0, (self.heads, -1))
        read = torch.einsum("ohw,hdw->ohd", mean, weight).flatten(1) + self.values.bias
        return self.answers(self.dropout(F.gelu(self.up(self.dropout(F.gelu(read))))))


class _Attentive(BaseEstimator):
    """An `AttentivePool` on token states, trained with AdamW and early stopping."""

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

    def _learn(
        self,
        x: np.ndarray,
        target: Tensor,
        head: Head,
        use: np.ndarray,
        present: np.ndarray | None,
        judge: np.ndarray | None,
        watch: Watch | None,
    ) -> None:
        if present is not None:
            demand_tokens(present)
        self.head_: Any = head
        self.width_ = x.shape[-1]
        draw = np.random.default_rng(self.seed)
        away = draw.permutation(len(use)) < max(len(use) // 10, 1) if judge is None else judge[use]
        effort = Effort(steps=self.steps, batch=self.batch, rate=self.rate, weight_decay=self.weight_decay)
        with own_draws(self.seed):
            self.model_ = self._network()
            pick = self._picker(x, present)
            learn(self.model_, head, pick, target, use[~away], use[away], effort, draw, watch)

    def _network(self) -> AttentivePool:
        return AttentivePool(self.width_, self.head_.width, self.heads, self.hidden, self.dropout)

    def _picker(self, x: np.ndarray, present: np.ndarray | None) -> Pick:
        states, there = torch.from_numpy(x), None if present is None else torch.from_numpy(present)

        def pick(rows: np.ndarray, draw: np.random.Generator | None) -> tuple[Tensor, ...]:
            if draw is None:  # judged by the first view, and by all tokens
                first = rows * self.views
                return (states[first].float(),) if there is None else (states[first].float(), there[first])
            seen = rows * self.views + draw.integers(self.views, size=len(rows))
            some = draw.permutation(x.shape[1])[: max(round(self.kept * x.shape[1]), 1)]
            if there is None:
                return (states[seen[:, None], some].float(),)
            left = there[seen][:, some]
            bare = ~left.any(1)  # whoever has none of those tokens reads all that it has, in place of a batch's draw
            if bool(bare.any()):
                return states[seen].float(), there[seen]
            return states[seen[:, None], some].float(), left

        return pick

    def _said(self, x: np.ndarray, present: np.ndarray | None) -> Tensor:
        """What the network says of every row, views and all."""
        check_is_fitted(self)
        if x.ndim != 3 or x.shape[-1] != self.width_ or len(x) % self.views:
            raise ShapeMismatch("x", saw=x.shape, want=f"(object · {self.views} views, token, {self.width_})")
        if present is not None:
            demand_tokens(present)
        states, there = torch.from_numpy(x), None if present is None else torch.from_numpy(present)

        def pick(rows: np.ndarray, _: object) -> tuple[Tensor, ...]:
            return (states[rows].float(),) if there is None else (states[rows].float(), there[rows])

        return said(self.model_, pick, np.arange(len(x)), 256)

    def _demand(self, x: np.ndarray, y: np.ndarray) -> None:
        if x.ndim != 3 or len(x) != len(y) * self.views:
            raise ShapeMismatch(
                saw=f"x {x.shape}, {len(y)} labels, {self.views} views", want="(labels·views, token, width)"
            )


class AttentiveProbe(ClassifierMixin, _Attentive):
    """A class out of token states (object, token, width).

    A tenth of the training objects decides when to stop. With `views` > 1, consecutive groups of that many rows of x
    are the same object seen differently (turned, mirrored): one is drawn per object and step, and `predict_proba`
    averages over them. A step reads a random share `kept` of the tokens: a probe that cannot lean on any one of them
    learns less by heart, and in half the time.
    """

    def fit(
        self,
        x: Float[np.ndarray, "row token width"],
        y: np.ndarray,
        objects: Integer[np.ndarray, " chosen"] | None = None,
        present: Bool[np.ndarray, "row token"] | None = None,
        judge: Bool[np.ndarray, " object"] | None = None,
        watch: Watch | None = None,
    ) -> AttentiveProbe:
        """x (object · views, token, width) in any float type, y labels (object,); learn from `objects`, or all.

        x may be memory-mapped: it is read batch by batch. `present` is True where there is a token, `judge` for those
        who decide when to stop. Raises ShapeMismatch, BadValue for a single class.
        """
        self._demand(x, y)
        use = np.arange(len(y)) if objects is None else np.asarray(objects)
        self.classes_ = np.unique(y[use])
        demand_classes(self.classes_)
        target = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)  # means nothing for those not used
        self._learn(x, torch.from_numpy(target), Classes(count=len(self.classes_)), use, present, judge, watch)
        return self

    def predict_proba(
        self, x: Float[np.ndarray, "row token width"], present: Bool[np.ndarray, "row token"] | None = None
    ) -> Float[np.ndarray, "object classes"]:
        """The chance of each class, in the order of `classes_`, the mean over an object's views."""
        chance = self._said(x, present).softmax(-1).numpy()
        return chance.reshape(-1, self.views, chance.shape[-1]).mean(1)

    def predict(
        self, x: Float[np.ndarray, "row token width"], present: Bool[np.ndarray, "row token"] | None = None
    ) -> np.ndarray:
        """The likeliest class."""
        return self.classes_[self.predict_proba(x, present).argmax(1)]

    def save(self, folder: str | Path, *, signature: str, names: tuple[str, ...] = ()) -> Path:
        """Write the fitted probe, signed by what made its tokens; `names` are those of the classes."""
        check_is_fitted(self)
        told = {"signature": signature, "names": list(names), "classes": self.classes_.tolist(), "width": self.width_}
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
        probe.head_, probe.width_ = Classes(count=len(probe.classes_)), told["width"]
        probe.model_ = probe._network()
        store.fill(probe.model_, store.read_weights(Path(folder) / "probe.safetensors"), folder)
        probe.model_.eval()
        return probe


class AttentiveRegressor(RegressorMixin, _Attentive):
    """Numbers out of token states, read as `AttentiveProbe` reads them."""

    def fit(
        self,
        x: Float[np.ndarray, "row token width"],
        y: np.ndarray,
        present: Bool[np.ndarray, "row token"] | None = None,
        judge: Bool[np.ndarray, " object"] | None = None,
        watch: Watch | None = None,
    ) -> Self:
        """x (object · views, token, width), y numbers (object,) or (object, number); the rest as for AttentiveProbe.

        Raises ShapeMismatch, BadPixels for numbers that are not finite.
        """
        self._demand(x, y)
        if not np.isfinite(y).all():
            raise BadPixels("y", saw=f"{int((~np.isfinite(y)).sum())} that are not finite", want="numbers")
        self.flat_ = np.ndim(y) == 1
        table = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        head = self._head(table)
        self._learn(x, torch.from_numpy(table).float(), head, np.arange(len(y)), present, judge, watch)
        return self

    def predict(
        self, x: Float[np.ndarray, "row token width"], present: Bool[np.ndarray, "row token"] | None = None
    ) -> Float[np.ndarray, "object ..."]:
        """Numbers, shaped as y was: the mean over an object's views."""
        told = self._said(x, present)
        found = self.head_.values(told)
        found = found.reshape(-1, self.views, found.shape[-1]).mean(1)
        return found[:, 0] if self.flat_ else found

    def _head(self, table: np.ndarray) -> Head:
        return Numbers(**spread(table))


class AttentiveDensity(AttentiveRegressor):
    """A number as a sum of six Gaussians, out of token states."""

    def predict_posterior(
        self,
        x: Float[np.ndarray, "row token width"],
        edges: Float[np.ndarray, " edge"],
        present: Bool[np.ndarray, "row token"] | None = None,
    ) -> Posterior:
        """How likely each bin between these edges is, the mean over an object's views."""
        told = self._said(x, present)
        found = binned(self.head_, told, edges)
        return Posterior(found.chance.reshape(-1, self.views, found.chance.shape[1]).mean(1), found.edges)

    def _head(self, table: np.ndarray) -> Head:
        return Mixture(**spread(_one(table)))


class AttentiveQuantiles(AttentiveDensity):
    """Quantiles of a number out of token states; `predict` gives the median."""

    def _head(self, table: np.ndarray) -> Head:
        return Quantiles(levels=LEVELS, **spread(_one(table)))


def _one(table: np.ndarray) -> np.ndarray:
    if table.shape[1] != 1:
        raise ShapeMismatch("y", saw=f"{table.shape[1]} numbers an object", want="one, for a posterior")
    return table
