"""Small networks on frozen embeddings: a class, numbers, a mixture density or quantiles out of one hidden layer."""

from __future__ import annotations

from typing import Any, Self, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from omnisky.adapt.learn import Effort, Watch, aside, learn, own_draws, said
from omnisky.adapt.probe import FLOATS, Several, demand_classes
from omnisky.errors import BadValue
from omnisky.generate.posterior import Posterior
from omnisky.model.heads import Classes, Head, Mixture, Numbers, Quantiles, spread


class Perceptron(nn.Sequential):
    """One hidden layer, as in the probes of AION-1 (Parker et al. 2025, §5): linear, GELU, dropout, linear."""

    def __init__(self, width: int, hidden: int, answers: int, dropout: float) -> None:
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, answers))


class _Neural(BaseEstimator):
    """A perceptron on standardised vectors, trained with AdamW; a tenth of the objects decides when to stop."""

    def __init__(
        self,
        hidden: int = 256,
        dropout: float = 0.1,
        steps: int = 1000,
        batch: int = 256,
        rate: float = 2e-3,
        weight_decay: float = 0.05,
        seed: int = 0,
    ) -> None:
        self.hidden, self.dropout, self.steps, self.batch = hidden, dropout, steps, batch
        self.rate, self.weight_decay, self.seed = rate, weight_decay, seed

    def _learn(self, x: np.ndarray, target: Tensor, head: Head, judge: np.ndarray | None, watch: Watch | None) -> None:
        self.scaler_ = StandardScaler().fit(x)
        scaled = torch.from_numpy(self.scaler_.transform(x)).float()
        kinds = target.numpy() if isinstance(head, Classes) else None
        away = aside(np.arange(len(x)), 0.1, self.seed, kinds) if judge is None else judge
        effort = Effort(steps=self.steps, batch=self.batch, rate=self.rate, weight_decay=self.weight_decay, patience=8)
        self.head_: Any = head
        self.n_iter_ = self.steps
        with own_draws(self.seed) as draw:
            self.model_ = self._network()
            use, judges = np.flatnonzero(~away), np.flatnonzero(away)
            learn(self.model_, head, lambda rows, _: (scaled[rows],), target, use, judges, effort, draw, watch)

    def _network(self) -> nn.Module:
        return Perceptron(len(self.scaler_.mean_), self.hidden, self.head_.width, self.dropout)

    def _said(self, x: ArrayLike) -> Tensor:
        check_is_fitted(self)
        scaled = self.scaler_.transform(validate_data(self, x, reset=False, dtype=FLOATS))
        values = torch.from_numpy(scaled).float()
        return said(self.model_, lambda rows, _: (values[rows],), np.arange(len(values)))


class MLPClassifier(ClassifierMixin, _Neural):
    """A class."""

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        judge: Bool[np.ndarray, " object"] | None = None,
        watch: Watch | None = None,
    ) -> MLPClassifier:
        """x (object, width), y labels (object,); `judge` is True for those who decide when to stop.

        Raises BadValue for a single class.
        """
        checked, labels = cast(Any, validate_data(self, x, y, dtype=FLOATS))
        check_classification_targets(labels)
        self.classes_ = unique_labels(labels)
        demand_classes(self.classes_)
        target = torch.from_numpy(np.searchsorted(self.classes_, labels))
        self._learn(checked, target, Classes(count=len(self.classes_)), judge, watch)
        return self

    def predict_proba(self, x: ArrayLike) -> Float[np.ndarray, "object classes"]:
        """The chance of each class, in the order of `classes_`."""
        told = self._said(x)
        return self.head_.chance(told).double().numpy()

    def predict(self, x: ArrayLike) -> np.ndarray:
        """The likeliest class."""
        chance = self.predict_proba(x)
        return self.classes_[chance.argmax(1)]


class _Numeric(_Neural):
    """What answers with numbers."""

    _several = False
    """whether more than one number an object can be asked for"""

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        judge: Bool[np.ndarray, " object"] | None = None,
        watch: Watch | None = None,
    ) -> Self:
        """x (object, width), y numbers (object,) or (object, number); `judge` as for MLPClassifier."""
        checked, numbers = cast(
            Any, validate_data(self, x, y, dtype=FLOATS, multi_output=self._several, y_numeric=True)
        )
        self.flat_ = numbers.ndim == 1
        table = numbers.reshape(len(numbers), -1).astype(np.float64)
        self._learn(checked, torch.from_numpy(table).float(), self._head(table), judge, watch)
        return self

    def predict(self, x: ArrayLike) -> Float[np.ndarray, "object ..."]:
        """Numbers, shaped as y was."""
        told = self._said(x)
        found = self.head_.values(told)
        return found[:, 0] if self.flat_ else found

    def _head(self, table: np.ndarray) -> Head:
        raise NotImplementedError


class MLPRegressor(Several, _Numeric):
    """Numbers."""

    _several = True

    def _head(self, table: np.ndarray) -> Head:
        return Numbers(**spread(table))


class _Posterior(RegressorMixin, _Numeric):
    """One number, with what is not known of it."""

    def predict_posterior(self, x: ArrayLike, edges: Float[np.ndarray, " edge"]) -> Posterior:
        """How likely each bin between these edges is; what lies outside counts to the first and last bin."""
        told = self._said(x)
        return binned(self.head_, told, edges)


class MixtureDensityRegressor(_Posterior):
    """A number as a sum of Gaussians whose weights, means and widths are told (Bishop 1994)."""

    def __init__(
        self,
        components: int = 6,
        hidden: int = 256,
        dropout: float = 0.1,
        steps: int = 1000,
        batch: int = 256,
        rate: float = 2e-3,
        weight_decay: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__(hidden, dropout, steps, batch, rate, weight_decay, seed)
        self.components = components

    def _head(self, table: np.ndarray) -> Head:
        return Mixture(components=self.components, **spread(table))


LEVELS = (0.025, 0.05, 0.16, 0.25, 0.5, 0.75, 0.84, 0.95, 0.975)
"""quantiles asked for: the median, and the ends of the central 50, 68, 90 and 95 %"""


class QuantileRegressor(_Posterior):
    """Quantiles of a number, by the pinball loss; `predict` gives the median."""

    def __init__(
        self,
        levels: tuple[float, ...] = LEVELS,
        hidden: int = 256,
        dropout: float = 0.1,
        steps: int = 1000,
        batch: int = 256,
        rate: float = 2e-3,
        weight_decay: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__(hidden, dropout, steps, batch, rate, weight_decay, seed)
        self.levels = levels

    def predict_quantiles(self, x: ArrayLike) -> Float[np.ndarray, "object level"]:
        """In the unit of y, rising with the level."""
        told = self._said(x)
        return self.head_.quantiles(told)

    def _head(self, table: np.ndarray) -> Head:
        return Quantiles(levels=tuple(self.levels), **spread(table))


def binned(head: Head, told: Tensor, edges: Float[np.ndarray, " edge"]) -> Posterior:
    """A mixture or quantiles as chances of bins. Raises BadValue of heads that say a single number."""
    if not isinstance(head, Mixture | Quantiles):
        raise BadValue("no posterior", saw=type(head).__name__, want="a mixture density or quantiles")
    edges = np.asarray(edges, dtype=np.float64)
    if len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise BadValue("edges", saw=edges, want="two or more, rising")
    inner = head.below(told, edges[1:-1])
    ends = np.zeros((len(inner), 1)), np.ones((len(inner), 1))
    return Posterior(np.diff(np.concatenate([ends[0], inner, ends[1]], 1), axis=1), edges)


def grid(y: Float[np.ndarray, " object"], bins: int = 300) -> Float[np.ndarray, " edge"]:
    """Edges over the range of y and a tenth of it on both sides."""
    low, high = float(np.min(y)), float(np.max(y))
    room = (high - low or 1.0) / 10
    return np.linspace(low - room, high + room, bins + 1)
