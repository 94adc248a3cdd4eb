"""How good an answer is, each number with its bootstrap error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from omnisky.errors import BadValue, ShapeMismatch


@dataclass(frozen=True)
class Score:
    """A number and its error: the standard deviation of the same number over resampled test objects."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.error:.3f}"


def bootstrap(measure: Callable[..., float], *columns: np.ndarray, draws: int = 500, seed: int = 0) -> Score:
    """`measure(*columns)`, its error from `draws` resamplings of rows (Efron 1979, Ann. Statist. 7, 1).

    Objects are drawn, not pixels or tokens; give clusters of related objects one row each. Raises ShapeMismatch,
    BadValue.
    """
    n = len(columns[0])
    if any(len(column) != n for column in columns):
        raise ShapeMismatch(saw=[len(column) for column in columns], want="as many answers as truths")
    if n < 2:
        raise BadValue(saw=f"{n} objects", want="at least 2 to have an error")
    draw = np.random.default_rng(seed)
    again = [measure(*(column[rows] for column in columns)) for rows in draw.integers(n, size=(draws, n))]
    return Score(float(measure(*columns)), float(np.nanstd(again)))


def accuracy(truth: np.ndarray, said: np.ndarray) -> Score:
    """The share of right answers."""
    return bootstrap(lambda t, s: float(np.mean(t == s)), np.asarray(truth), np.asarray(said))


def balanced_accuracy(truth: np.ndarray, said: np.ndarray) -> Score:
    """The mean over classes of the share of right answers in each: rare classes count as much as common ones."""

    def measure(t: np.ndarray, s: np.ndarray) -> float:
        return float(np.mean([np.mean(s[t == c] == c) for c in np.unique(t)]))

    return bootstrap(measure, np.asarray(truth), np.asarray(said))


def confusion(
    truth: Integer[np.ndarray, " object"], said: Integer[np.ndarray, " object"], classes: int
) -> Integer[np.ndarray, "classes classes"]:
    """How many objects of each class (row) were called what (column)."""
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (truth, said), 1)
    return table


def r2(truth: Float[np.ndarray, " object"], said: Float[np.ndarray, " object"]) -> Score:
    """The share of the variance that is explained, 1 − Σ(said − truth)² / Σ(truth − mean)²; negative is possible."""
    return bootstrap(_r2, np.asarray(truth, np.float64), np.asarray(said, np.float64))


def r2_gain(
    truth: Float[np.ndarray, " object"], ours: Float[np.ndarray, " object"], theirs: Float[np.ndarray, " object"]
) -> Score:
    """R² of ours less R² of theirs, on the same resampled objects: what both find hard cancels out of the error."""
    columns = (np.asarray(column, np.float64) for column in (truth, ours, theirs))
    return bootstrap(lambda t, a, b: _r2(t, a) - _r2(t, b), *columns)


def _r2(truth: np.ndarray, said: np.ndarray) -> float:
    spread = np.sum((truth - truth.mean()) ** 2)
    return float(1 - np.sum((said - truth) ** 2) / spread) if spread else float("nan")


def recall_at(ranks: Integer[np.ndarray, " query"], k: int) -> Score:
    """The share of queries whose true answer is among the first k; ranks count from 1."""
    return bootstrap(lambda r: float(np.mean(r <= k)), np.asarray(ranks))


def median_rank(ranks: Integer[np.ndarray, " query"]) -> Score:
    """The median place of the true answers, 1 the first."""
    return bootstrap(lambda r: float(np.median(r)), np.asarray(ranks))
