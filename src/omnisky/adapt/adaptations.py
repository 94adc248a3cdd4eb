"""How a model is adapted to an answer: what is read of it, and what learns. Settings only; nothing is fitted here."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

from sklearn.base import BaseEstimator, clone

from omnisky.adapt.frozen import Frozen
from omnisky.adapt.learn import Watch
from omnisky.adapt.neural import LEVELS, MixtureDensityRegressor, MLPClassifier, MLPRegressor, QuantileRegressor
from omnisky.adapt.pool import (
    AttentiveDensity,
    AttentiveProbe,
    AttentiveQuantiles,
    AttentiveRegressor,
    mean_pooled,
)
from omnisky.adapt.probe import KNNClassifier, KNNRegressor, LinearProbe, RidgeProbe
from omnisky.adapt.rows import Rows
from omnisky.adapt.segment import Segmenter
from omnisky.adapt.tuned import TunedClassifier, TunedDensity, TunedRegressor
from omnisky.errors import BadValue


@runtime_checkable
class Adaptation(Protocol):
    """What `FineTunedModel` is told to do."""

    def read(self, frozen: Frozen, rows: Rows, watch: Watch | None = None) -> dict[str, Any]:
        """What the estimators are given of these objects, by the names of their arguments."""
        ...

    def classifier(self) -> BaseEstimator: ...

    def regressor(self) -> BaseEstimator: ...


class _Vectors:
    """Reads one vector an object."""

    def read(self, frozen: Frozen, rows: Rows, watch: Watch | None = None) -> dict[str, Any]:
        return {"x": frozen.vectors(rows, watch)}


class _Tokens:
    """Reads the states of all tokens."""

    def read(self, frozen: Frozen, rows: Rows, watch: Watch | None = None) -> dict[str, Any]:
        states = frozen.states(rows, watch)
        return {"x": states.values, "present": states.present}


class _Whole:
    """Reads nothing ahead: the model itself learns."""

    def read(self, frozen: Frozen, rows: Rows, watch: Watch | None = None) -> dict[str, Any]:
        return {"frozen": frozen, "rows": rows}


def _settings(adaptation: Any) -> dict[str, Any]:
    return {f.name: getattr(adaptation, f.name) for f in fields(adaptation)}


@dataclass(frozen=True, kw_only=True)
class KNN(_Vectors):
    """The nearest in embedding space: nothing is learnt."""

    k: int = 16

    def classifier(self) -> KNNClassifier:
        return KNNClassifier(self.k)

    def regressor(self) -> KNNRegressor:
        return KNNRegressor(self.k)


@dataclass(frozen=True, kw_only=True)
class Linear(_Vectors):
    """Logistic or ridge regression, the penalty chosen on objects put aside."""

    seed: int = 0

    def classifier(self) -> LinearProbe:
        return LinearProbe(seed=self.seed)

    def regressor(self) -> RidgeProbe:
        return RidgeProbe(seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class MLP(_Vectors):
    """One hidden layer."""

    hidden: int = 256
    dropout: float = 0.1
    steps: int = 1000
    batch: int = 256
    rate: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 0

    def classifier(self) -> BaseEstimator:
        return MLPClassifier(**_settings(self))

    def regressor(self) -> BaseEstimator:
        return MLPRegressor(**_settings(self))


class _NoClasses:
    """For numbers alone."""

    def classifier(self) -> BaseEstimator:
        raise BadValue(type(self).__name__, saw="classes", want="decimal numbers", hint="MLP or AttentivePooling")


@dataclass(frozen=True, kw_only=True)
class MixtureDensity(_NoClasses, MLP):
    """One hidden layer that tells a sum of Gaussians: gives posteriors."""

    components: int = 6

    def regressor(self) -> BaseEstimator:
        return MixtureDensityRegressor(**_settings(self))


@dataclass(frozen=True, kw_only=True)
class QuantileRegression(_NoClasses, MLP):
    """One hidden layer that tells quantiles: gives posteriors."""

    levels: tuple[float, ...] = LEVELS

    def regressor(self) -> BaseEstimator:
        return QuantileRegressor(**_settings(self))


@dataclass(frozen=True, kw_only=True)
class MeanPooling(MLP):
    """One hidden layer on the mean of all tokens, whatever vectors the model itself makes."""

    def read(self, frozen: Frozen, rows: Rows, watch: Watch | None = None) -> dict[str, Any]:
        states = frozen.states(rows, watch)
        return {"x": mean_pooled(states.values, states.present)}


@dataclass(frozen=True, kw_only=True)
class AttentivePooling(_Tokens):
    """A few learned queries read the tokens (Parker et al. 2025, §5)."""

    heads: int = 8
    hidden: int = 256
    dropout: float = 0.2
    steps: int = 1500
    batch: int = 256
    rate: float = 2e-3
    weight_decay: float = 0.05
    kept: float = 0.5
    seed: int = 0

    def classifier(self) -> BaseEstimator:
        return AttentiveProbe(**_settings(self))

    def regressor(self) -> BaseEstimator:
        return AttentiveRegressor(**_settings(self))


@dataclass(frozen=True, kw_only=True)
class AttentiveMixture(_NoClasses, AttentivePooling):
    """The same, telling a sum of Gaussians: gives posteriors."""

    def regressor(self) -> BaseEstimator:
        return AttentiveDensity(**_settings(self))


@dataclass(frozen=True, kw_only=True)
class AttentiveQuantileRegression(_NoClasses, AttentivePooling):
    """The same, telling quantiles: gives posteriors."""

    def regressor(self) -> BaseEstimator:
        return AttentiveQuantiles(**_settings(self))


@dataclass(frozen=True, kw_only=True)
class FullFineTuning(_Whole):
    """All weights learn, with a linear head on the model's vectors."""

    steps: int = 300
    batch: int = 32
    rate: float = 1e-4
    weight_decay: float = 0.05
    patience: int = 5
    seed: int = 0

    def classifier(self) -> BaseEstimator:
        return TunedClassifier(**_settings(self))

    def regressor(self) -> BaseEstimator:
        return TunedRegressor(**_settings(self))


@dataclass(frozen=True, kw_only=True)
class LoRA(FullFineTuning):
    """Low-rank updates of queries and values learn, with a linear head (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = 8
    alpha: float = 16.0
    """updates are scaled by alpha / rank"""
    rate: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class LoRAMixture(_NoClasses, LoRA):
    """The same, telling a sum of Gaussians: gives posteriors."""

    def regressor(self) -> BaseEstimator:
        return TunedDensity(**_settings(self))


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """An up-sampler on patch states; labels are maps (object, class, height, width)."""

    hidden: int = 64
    steps: int = 800
    batch: int = 16
    rate: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 0

    def read(self, frozen: Frozen, rows: Rows, watch: Watch | None = None) -> dict[str, Any]:
        return {"x": frozen.patches(rows, watch)}

    def classifier(self) -> BaseEstimator:
        return Segmenter(**_settings(self))

    def regressor(self) -> BaseEstimator:
        return Segmenter(**_settings(self))


@dataclass(frozen=True)
class OnVectors(_Vectors):
    """Any estimator of scikit-learn on the model's vectors. It cannot be saved: that would need pickle."""

    estimator: BaseEstimator

    def classifier(self) -> BaseEstimator:
        return clone(self.estimator)

    def regressor(self) -> BaseEstimator:
        return clone(self.estimator)
