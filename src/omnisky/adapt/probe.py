"""Probes on frozen embeddings: scikit-learn estimators with our defaults. Linear ones and neighbours; see `neural`."""

from __future__ import annotations

import warnings
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from omnisky.adapt.learn import aside
from omnisky.errors import BadValue

FLOATS = [np.float32, np.float64]
"""what is computed in as it comes; everything else becomes float32"""
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""inverse penalties that are tried, the heaviest first"""


class _Probe(BaseEstimator):
    """Checked, standardised vectors."""

    def _told(self, x: ArrayLike, y: ArrayLike, **rules: Any) -> tuple[np.ndarray, np.ndarray]:
        checked, labels = cast(Any, validate_data(self, x, y, dtype=FLOATS, **rules))
        self.scaler_ = StandardScaler().fit(checked)
        return self.scaler_.transform(checked), labels

    def _asked(self, x: ArrayLike) -> np.ndarray:
        check_is_fitted(self)
        return self.scaler_.transform(validate_data(self, x, reset=False, dtype=FLOATS))


class LinearProbe(ClassifierMixin, _Probe):
    """Logistic regression on standardised embeddings: what an embedding knows, as a linear layer can read it.

    `strength` is the inverse of the L2 penalty; None chooses among 0.001 … 1 on a tenth of the training objects, or on
    those that `fit` is told to judge by. The optimum is scikit-learn's; the way there is shorter (`Turned`).
    """

    def __init__(self, strength: float | None = None, seed: int = 0, max_iter: int = 500) -> None:
        self.strength, self.seed, self.max_iter = strength, seed, max_iter

    def fit(self, x: ArrayLike, y: ArrayLike, judge: Bool[np.ndarray, " object"] | None = None) -> LinearProbe:
        """x (object, width), y labels (object,); `judge` is True for those by whom the penalty is chosen.

        Raises BadValue for a single class.
        """
        scaled, labels = self._told(x, y)
        check_classification_targets(labels)
        self.classes_ = unique_labels(labels)
        demand_classes(self.classes_)
        turned = Turned(scaled, np.searchsorted(self.classes_, labels), len(self.classes_), self.max_iter)
        self.strength_ = self._choose(turned, judge) if self.strength is None else self.strength
        self.coef_, self.intercept_, self.n_iter_ = turned.fit(self.strength_, slice(None))
        return self

    def predict_proba(self, x: ArrayLike) -> Float[np.ndarray, "object classes"]:
        """The chance of each class, in the order of `classes_`."""
        logits = self._asked(x) @ self.coef_ + self.intercept_
        logits = np.exp(logits - logits.max(1, keepdims=True))
        return logits / logits.sum(1, keepdims=True)

    def predict(self, x: ArrayLike) -> np.ndarray:
        """The likeliest class."""
        chance = self.predict_proba(x)
        return self.classes_[chance.argmax(1)]

    def _choose(self, turned: Turned, judge: np.ndarray | None) -> float:
        away = np.random.default_rng(self.seed).permutation(len(turned.y)) < len(turned.y) // 10
        away = away if judge is None else judge
        if len(np.unique(turned.y[~away])) < len(self.classes_) or not away.any():
            return 0.01
        with warnings.catch_warnings():  # a weak penalty that does not converge is judged like the others
            warnings.simplefilter("ignore", ConvergenceWarning)
            tried = {s: turned.score(turned.fit(s, ~away), away) for s in STRENGTHS}
        return max(tried, key=lambda s: tried[s])


class Turned:
    """Logistic regression along the principal axes of x.

    There the curvature of the loss is nearly diagonal, about p(1−p)·variance + 1/(strength·n): scaled by it, L-BFGS
    needs a dozen steps where it needs hundreds otherwise. Fits of several strengths share the axes; each starts where
    the one before ended.
    """

    def __init__(self, x: Float[np.ndarray, "object width"], y: np.ndarray, classes: int, most: int) -> None:
        self.mean = x.mean(0)
        centred = x - self.mean
        variance, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64) / len(x))
        self.variance, self.axes = variance.clip(min=0), axes.astype(x.dtype)
        self.x, self.y, self.classes, self.most = centred @ self.axes, y, classes, most
        self.start = np.zeros((x.shape[1] + 1, 1 if classes == 2 else classes))

    def fit(self, strength: float, rows: Any) -> tuple[np.ndarray, np.ndarray, int]:
        """(coefficients, intercepts, steps) for Σ surprise + |coefficients|² / 2 strength, as scikit-learn has it."""
        x, y = self.x[rows], self.y[rows]
        penalty, share = 1 / (strength * len(x)), np.bincount(y, minlength=self.classes) / len(x)
        curved = float(np.mean(share * (1 - share))) or 0.25
        scale = np.sqrt(np.append(curved * self.variance + penalty, curved))[:, None]
        once = np.eye(self.classes, dtype=x.dtype)[y]

        def slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
            free = flat.reshape(self.start.shape) / scale
            logits = self._logits(x, free)
            top = logits.max(1, keepdims=True)
            total = np.exp(logits - top).sum(1, keepdims=True)
            surprise = np.log(total) + top - (logits * once).sum(1, keepdims=True)
            off = (np.exp(logits - top) / total - once)[:, -free.shape[1] :]
            down = np.concatenate([x.T @ off, off.sum(0, keepdims=True)]) / len(x)
            down[:-1] += penalty * free[:-1]
            return float(surprise.mean() + penalty / 2 * np.sum(free[:-1] ** 2)), (down / scale).ravel().astype(float)

        most = {"maxiter": self.most, "gtol": 1e-4, "ftol": 1e-12}
        found = minimize(slope, (self.start * scale).ravel(), jac=True, method="L-BFGS-B", options=most)
        if found.status == 1:
            warnings.warn(f"LinearProbe: not there after {self.most} steps", ConvergenceWarning, stacklevel=2)
        self.start = found.x.reshape(self.start.shape) / scale
        whole = self._all(self.axes @ self.start[:-1])
        first = self._all(self.start[-1:])[0] - self.mean @ whole
        return whole.astype(x.dtype), first.astype(x.dtype), max(int(found.nit), 1)

    def score(self, fitted: tuple[np.ndarray, np.ndarray, int], rows: Any) -> float:
        """The share of right answers of what was fitted last."""
        return float(np.mean(self._logits(self.x[rows], self.start).argmax(1) == self.y[rows]))

    def _logits(self, x: np.ndarray, free: np.ndarray) -> np.ndarray:
        return self._all(x @ free[:-1].astype(x.dtype) + free[-1].astype(x.dtype))

    def _all(self, free: np.ndarray) -> np.ndarray:
        """Of two classes, the first one's logit is 0."""
        return np.concatenate([np.zeros_like(free), free], 1) if self.classes == 2 else free


class Several(RegressorMixin):
    """One number an object, or several."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class RidgeProbe(Several, _Probe):
    """Linear regression with an L2 penalty on standardised embeddings, in closed form.

    `penalty` is per object; None chooses among 1e-6 … 1 on a tenth of the training objects, or on those that `fit` is
    told to judge by. All penalties share one eigenbasis.
    """

    def __init__(self, penalty: float | None = None, seed: int = 0) -> None:
        self.penalty, self.seed = penalty, seed

    def fit(self, x: ArrayLike, y: ArrayLike, judge: Bool[np.ndarray, " object"] | None = None) -> RidgeProbe:
        """x (object, width), y numbers (object,) or (object, number)."""
        scaled, numbers = self._told(x, y, multi_output=True, y_numeric=True)
        self.intercept_ = numbers.mean(0).astype(float)
        away = aside(np.arange(len(scaled)), 0.1, self.seed) if judge is None else judge
        tried = np.geomspace(1e-6, 1, 13) if self.penalty is None and away.any() else np.array([self.penalty or 0.01])
        if len(tried) > 1:
            basis = _Basis(scaled[~away], numbers[~away] - self.intercept_)
            missed = [np.mean((scaled[away] @ basis.at(p) + self.intercept_ - numbers[away]) ** 2) for p in tried]
            tried = tried[[int(np.argmin(missed))]]
        self.penalty_ = float(tried[0])
        self.coef_ = _Basis(scaled, numbers - self.intercept_).at(self.penalty_).astype(scaled.dtype)
        return self

    def predict(self, x: ArrayLike) -> Float[np.ndarray, "object ..."]:
        """Numbers, shaped as y was."""
        return self._asked(x) @ self.coef_ + self.intercept_


class _Basis:
    """Ridge regression for any penalty, from one eigendecomposition."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.size, self.axes = np.linalg.eigh((x.T @ x).astype(np.float64) / len(x))
        self.drawn = self.axes.T @ ((x.T @ y.astype(x.dtype)).astype(np.float64) / len(x))

    def at(self, penalty: float) -> np.ndarray:
        weight = 1 / (self.size.clip(min=0) + penalty)
        return self.axes @ (self.drawn * (weight if self.drawn.ndim == 1 else weight[:, None]))


class _Neighbours(_Probe):
    """The k nearest in standardised vectors, the nearer the weightier (1 / distance)."""

    _kind: Any

    def __init__(self, k: int = 16) -> None:
        self.k = k

    def _remember(self, x: ArrayLike, y: ArrayLike, **rules: Any) -> None:
        self.x_, self.y_ = self._told(x, y, **rules)
        if not 1 <= self.k <= len(self.x_):
            raise BadValue("k", saw=self.k, want=f"1 … n_samples={len(self.x_)}")
        self.model_ = self._remembered()

    def _remembered(self) -> Any:
        return self._kind(n_neighbors=self.k, weights="distance", algorithm="brute").fit(self.x_, self.y_)


class KNNClassifier(ClassifierMixin, _Neighbours):
    """The commonest class among the k nearest: what an embedding knows without learning anything."""

    _kind = KNeighborsClassifier

    def fit(self, x: ArrayLike, y: ArrayLike) -> KNNClassifier:
        """x (object, width), y labels (object,). Raises BadValue for fewer samples than k, or a single class."""
        self._remember(x, y)
        self.classes_ = self.model_.classes_
        demand_classes(self.classes_)
        return self

    def predict_proba(self, x: ArrayLike) -> Float[np.ndarray, "object classes"]:
        """The chance of each class, in the order of `classes_`."""
        scaled = self._asked(x)
        return self.model_.predict_proba(scaled)

    def predict(self, x: ArrayLike) -> np.ndarray:
        """The likeliest class."""
        chance = self.predict_proba(x)
        return self.classes_[chance.argmax(1)]


class KNNRegressor(Several, _Neighbours):
    """The mean of the k nearest, as in AstroCLIP's zero-shot tests (Parker et al. 2024, §5.2)."""

    _kind = KNeighborsRegressor

    def fit(self, x: ArrayLike, y: ArrayLike) -> KNNRegressor:
        """x (object, width), y numbers (object,) or (object, number). Raises BadValue for fewer samples than k."""
        self._remember(x, y, multi_output=True, y_numeric=True)
        return self

    def predict(self, x: ArrayLike) -> Float[np.ndarray, "object ..."]:
        """Numbers, shaped as y was."""
        scaled = self._asked(x)
        return self.model_.predict(scaled)


def demand_classes(classes: np.ndarray) -> None:
    """Raises BadValue where there is only one class."""
    if len(classes) < 2:
        raise BadValue("one class", saw=str(classes[0]), want="labels of at least two classes")
