"""Probes on frozen embeddings: scikit-learn estimators with our defaults."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data


class LinearProbe(ClassifierMixin, BaseEstimator):
    """Logistic regression on standardised embeddings: what an embedding knows, as a linear layer can read it.

    `strength` is the inverse of the L2 penalty; None chooses among 0.001 … 1 on a tenth of the training objects.
    """

    def __init__(self, strength: float | None = None, seed: int = 0, max_iter: int = 500) -> None:
        self.strength, self.seed, self.max_iter = strength, seed, max_iter

    def fit(self, x: ArrayLike, y: ArrayLike) -> LinearProbe:
        """x (object, width), y labels (object,)."""
        checked, labels = validate_data(self, x, y)
        check_classification_targets(labels)
        self.classes_ = unique_labels(labels)
        self.scaler_ = StandardScaler().fit(checked)
        scaled = self.scaler_.transform(checked)
        self.strength_ = self._choose(scaled, labels) if self.strength is None else self.strength
        self.model_ = self._fit(scaled, labels, self.strength_)
        self.n_iter_ = int(self.model_.n_iter_.max())
        return self

    def predict_proba(self, x: ArrayLike) -> Float[np.ndarray, "object classes"]:
        """The chance of each class, in the order of `classes_`."""
        check_is_fitted(self)
        return self.model_.predict_proba(self.scaler_.transform(validate_data(self, x, reset=False)))

    def predict(self, x: ArrayLike) -> np.ndarray:
        """The likeliest class."""
        chance = self.predict_proba(x)
        return self.classes_[chance.argmax(1)]

    def _choose(self, x: np.ndarray, y: np.ndarray) -> float:
        away = np.random.default_rng(self.seed).permutation(len(x)) < len(x) // 10
        if len(np.unique(y[~away])) < len(self.classes_) or not away.any():
            return 0.01
        with warnings.catch_warnings():  # a weak penalty that does not converge is judged like the others
            warnings.simplefilter("ignore", ConvergenceWarning)
            tried = {s: self._fit(x[~away], y[~away], s).score(x[away], y[away]) for s in (0.001, 0.01, 0.1, 1.0)}
        return max(tried, key=lambda s: tried[s])

    def _fit(self, x: np.ndarray, y: np.ndarray, strength: float) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=self.max_iter).fit(x, y)
