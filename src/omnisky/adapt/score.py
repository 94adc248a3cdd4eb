"""How good an answer is, each number with its bootstrap error: over objects, or over queries where those are asked.

a class       accuracy, balanced_accuracy, macro_f1, weighted_f1, auc, confusion
a number      r2, rmse, sigma_nmad, bias, outlier_fraction
a posterior   pit and pit_distance, crps, coverage
a map         iou, dice
a ranking     ndcg_at, recall_at, median_rank
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer

from omnisky.errors import BadPixels, BadValue, ShapeMismatch


@dataclass(frozen=True)
class Score:
    """A number and its error: the standard deviation of the same number over resampled test objects."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.error:.3f}"

    def item(self) -> float:
        """The number alone, by the name under which scikit-learn's cross-validation asks for it."""
        return self.value


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


def macro_f1(truth: np.ndarray, said: np.ndarray) -> Score:
    """The mean over classes of F1 = 2·TP / (2·TP + FP + FN)."""
    return bootstrap(lambda t, s: float(np.mean(_f1(t, s)[0])), np.asarray(truth), np.asarray(said))


def weighted_f1(truth: np.ndarray, said: np.ndarray) -> Score:
    """F1 of each class, weighted by how many objects are of it: what AstroCLIP's morphology table shows."""

    def measure(t: np.ndarray, s: np.ndarray) -> float:
        each, many = _f1(t, s)
        return float(np.average(each, weights=many))

    return bootstrap(measure, np.asarray(truth), np.asarray(said))


def _f1(truth: np.ndarray, said: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 of each class that is among the truths, and how many are."""
    kinds, many = np.unique(truth, return_counts=True)
    right = np.array([np.sum((said == kind) & (truth == kind)) for kind in kinds])
    called = np.array([np.sum(said == kind) for kind in kinds])
    return 2 * right / (many + called), many


def auc(truth: Bool[np.ndarray, " object"], score: Float[np.ndarray, " object"]) -> Score:
    """The area under the ROC curve: how often a true one scores above a false one; ties count half.

    By ranks (Mann & Whitney 1947, Ann. Math. Stat. 18, 50). Raises BadValue where all are true, or none.
    """
    if truth.all() or not truth.any():
        raise BadValue("auc", saw=f"{int(truth.sum())} of {len(truth)} true", want="some of both")
    return bootstrap(area, truth, *_finite(score))


def area(truth: Bool[np.ndarray, " object"], score: Float[np.ndarray, " object"]) -> float:
    """`auc` without its error; NaN where all are true, or none."""
    no, yes = np.sort(score[~truth]), score[truth]
    below = np.searchsorted(no, yes, "left") + np.searchsorted(no, yes, "right")
    return float(below.mean() / (2 * len(no))) if len(yes) and len(no) else float("nan")


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


def rmse(truth: Float[np.ndarray, " object"], said: Float[np.ndarray, " object"]) -> Score:
    """The root of the mean square error, in the unit of the truth."""
    return bootstrap(lambda t, s: float(np.sqrt(np.mean((s - t) ** 2))), *_finite(truth, said))


# --- redshifts ----------------------------------------------------------------------------------------------------


def sigma_nmad(truth: Float[np.ndarray, " object"], said: Float[np.ndarray, " object"]) -> Score:
    """1.4826 · median |Δ − median Δ|, Δ = (said − truth) / (1 + truth) (Hoaglin et al. 1983; Ilbert et al. 2006)."""

    return bootstrap(lambda t, s: nmad((s - t) / (1 + t)), *_finite(truth, said))


def nmad(off: Float[np.ndarray, " object"]) -> float:
    """1.4826 times the median absolute deviation."""
    return float(1.4826 * np.median(np.abs(off - np.median(off))))


def bias(truth: Float[np.ndarray, " object"], said: Float[np.ndarray, " object"]) -> Score:
    """The mean of (said − truth) / (1 + truth)."""
    return bootstrap(lambda t, s: float(np.mean((s - t) / (1 + t))), *_finite(truth, said))


def outlier_fraction(
    truth: Float[np.ndarray, " object"], said: Float[np.ndarray, " object"], beyond: float = 0.15
) -> Score:
    """The share with |said − truth| / (1 + truth) > `beyond`."""
    return bootstrap(lambda t, s: float(np.mean(np.abs(s - t) / (1 + t) > beyond)), *_finite(truth, said))


# --- posteriors ---------------------------------------------------------------------------------------------------


def pit(truth: Float[np.ndarray, " object"], draws: Float[np.ndarray, "object draw"]) -> Float[np.ndarray, " object"]:
    """Where each truth lies among the draws of its posterior, 0 … 1: uniform if posteriors are honest (Dawid 1984).

    The share of draws below it, ties count half.
    """
    value, posterior = _posterior(truth, draws)
    return (posterior < value).mean(1) + 0.5 * (posterior == value).mean(1)


def pit_distance(truth: Float[np.ndarray, " object"], draws: Float[np.ndarray, "object draw"]) -> Score:
    """The largest distance of the distribution of `pit` from the uniform one (Kolmogorov): 0 if posteriors are honest.

    Of n objects with honest posteriors it is 0.87 / √n on average.
    """
    return from_uniform(pit(truth, draws))


def from_uniform(values: Float[np.ndarray, " object"]) -> Score:
    """The largest distance of the distribution of values in 0 … 1 from the uniform one (Kolmogorov)."""

    def measure(p: np.ndarray) -> float:
        rises = np.arange(len(p) + 1) / len(p)  # the distribution jumps at each object: both sides of the jump count
        return float(max(np.max(rises[1:] - np.sort(p)), np.max(np.sort(p) - rises[:-1])))

    return bootstrap(measure, values)


def crps(truth: Float[np.ndarray, " object"], draws: Float[np.ndarray, "object draw"]) -> Score:
    """The continuous ranked probability score, E|X − truth| − E|X − X′| / 2, in the unit of the truth; less is better.

    Of posteriors by their draws (Gneiting & Raftery 2007, JASA 102, 359, eq. 21).
    """
    value, posterior = _posterior(truth, draws)
    n = posterior.shape[1]
    weight = (2 * np.arange(1, n + 1) - n - 1) / n**2  # Σ|xᵢ − xⱼ| / 2n² of sorted draws, in one pass
    each = np.abs(posterior - value).mean(1) - np.sort(posterior, axis=1) @ weight
    return bootstrap(lambda e: float(np.mean(e)), each)


def coverage(
    truth: Float[np.ndarray, " object"], low: Float[np.ndarray, " object"], high: Float[np.ndarray, " object"]
) -> Score:
    """The share of truths from `low` to `high`, both included: 0.9 if 90 % intervals are honest."""
    return bootstrap(lambda t, a, b: float(np.mean((a <= t) & (t <= b))), *_finite(truth, low, high))


# --- maps ---------------------------------------------------------------------------------------------------------


def iou(truth: Bool[np.ndarray, "object height width"], said: Bool[np.ndarray, "object height width"]) -> Score:
    """Intersection over union of all objects' pixels; the error is over objects. Raises ShapeMismatch, BadValue."""
    return bootstrap(lambda b, a, c: _share(b.sum(), (a + c - b).sum()), *_overlap(truth, said))


def iou_gain(
    truth: Bool[np.ndarray, "object height width"],
    ours: Bool[np.ndarray, "object height width"],
    theirs: Bool[np.ndarray, "object height width"],
) -> Score:
    """Intersection over union of ours less that of theirs, on the same resampled objects; else as `iou`."""
    both, true, called = _overlap(truth, ours)
    others, _, other = _overlap(truth, theirs)
    return bootstrap(
        lambda t, b, c, d, e: _share(b.sum(), (t + c - b).sum()) - _share(d.sum(), (t + e - d).sum()),
        *(true, both, called, others, other),
    )


def dice(truth: Bool[np.ndarray, "object height width"], said: Bool[np.ndarray, "object height width"]) -> Score:
    """Twice the intersection over the sum of both; else as `iou`."""
    return bootstrap(lambda b, a, c: _share(2 * b.sum(), (a + c).sum()), *_overlap(truth, said))


# --- rankings -----------------------------------------------------------------------------------------------------


def ndcg_at(relevance: Float[np.ndarray, "query object"], score: Float[np.ndarray, "query object"], k: int) -> Score:
    """How good the k best-scored are, 1 if no order could be better (Järvelin & Kekäläinen 2002, linear gain).

    Σ relevance / log2(1 + place) over the first k, over that of the best order. Objects that may not be found, such as
    the query itself, have a score of −inf. Queries to which nothing is relevant do not count. The error is over
    queries. Raises ShapeMismatch, BadValue.
    """
    if relevance.shape != score.shape:
        raise ShapeMismatch("ndcg_at", saw=(relevance.shape, score.shape), want="a relevance for every score")
    if not 1 <= k <= score.shape[1]:
        raise BadValue("k", saw=k, want=f"1 … {score.shape[1]}")
    worth = np.where(np.isneginf(score), 0, relevance)
    first = np.argsort(-score, axis=1, kind="stable")[:, :k]
    fade = 1 / np.log2(np.arange(2, k + 2))
    best = np.sort(worth, axis=1)[:, ::-1][:, :k] @ fade
    found = np.take_along_axis(worth, first, axis=1) @ fade
    return bootstrap(lambda each: float(np.mean(each)), found[best > 0] / best[best > 0])


def recall_at(ranks: Integer[np.ndarray, " query"], k: int) -> Score:
    """The share of queries whose true answer is among the first k; ranks count from 1."""
    return bootstrap(lambda r: float(np.mean(r <= k)), np.asarray(ranks))


def median_rank(ranks: Integer[np.ndarray, " query"]) -> Score:
    """The median place of the true answers, 1 the first."""
    return bootstrap(lambda r: float(np.median(r)), np.asarray(ranks))


# --- inside -------------------------------------------------------------------------------------------------------


def _finite(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """As float64. Raises BadPixels for NaN and infinity: of a score over fewer objects the caller should know."""
    numbers = tuple(np.asarray(column, np.float64) for column in columns)
    bad = [int((~np.isfinite(column)).sum()) for column in numbers]
    if any(bad):
        raise BadPixels("not a number", saw=f"{bad} of {len(numbers[0])}", want="finite values", hint="leave them out")
    return numbers


def _posterior(truth: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Truths as a column beside their draws."""
    if draws.ndim != 2 or len(draws) != len(truth) or not draws.shape[1]:
        raise ShapeMismatch("posteriors", saw=(truth.shape, draws.shape), want="(object,) and (object, draw)")
    value, posterior = _finite(truth, draws)
    return value[:, None], posterior


def _overlap(truth: np.ndarray, said: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each object: pixels in both, in the truth, in what was said."""
    if truth.shape != said.shape:
        raise ShapeMismatch("maps", saw=(truth.shape, said.shape), want="the same pixels")
    if not (truth.any() or said.any()):
        raise BadValue("maps", saw="not one pixel marked", want="some, in the truth or in the answer")
    both, true, called = (one.sum((1, 2), dtype=np.float64) for one in (truth & said, truth, said))
    return both, true, called


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
