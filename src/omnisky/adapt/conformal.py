"""Intervals that hold what they promise, and chances that mean what they say, whatever the model is.

Calibration objects, which the model did not learn from, say how far it errs; under exchangeability an interval then
holds the truth at least as often as asked (Vovk et al. 2005). Not for each kind of object: `Mondrian` calibrates bins
of a column, such as magnitude, one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from omnisky.errors import BadPixels, BadValue, ShapeMismatch


@dataclass(frozen=True)
class SplitConformal:
    """said ± margin, with the margin that a share of calibration objects stay within (Lei et al. 2018, §2.2)."""

    margin: float
    """in the unit of the number; infinite where there were too few objects for the coverage asked for"""
    coverage: float

    @classmethod
    def of(
        cls, said: Float[np.ndarray, " object"], truth: Float[np.ndarray, " object"], coverage: float = 0.9
    ) -> SplitConformal:
        """From what was said of calibration objects, and the truth. Raises ShapeMismatch, BadPixels, BadValue."""
        _demand(said, truth)
        return cls(reach(np.abs(truth - said), coverage), coverage)

    def interval(self, said: Float[np.ndarray, " object"]) -> Float[np.ndarray, "object 2"]:
        """Its ends."""
        return np.stack([said - self.margin, said + self.margin], 1)


@dataclass(frozen=True)
class ConformalQuantiles:
    """Told quantiles, moved outwards (or inwards) by one margin: CQR (Romano et al. 2019, arXiv:1905.03222)."""

    margin: float
    """in the unit of the number; negative where the quantiles were too cautious"""
    coverage: float

    @classmethod
    def of(
        cls, ends: Float[np.ndarray, "object 2"], truth: Float[np.ndarray, " object"], coverage: float = 0.9
    ) -> ConformalQuantiles:
        """From the intervals told of calibration objects, and the truth. Raises as `SplitConformal.of`."""
        _demand(ends[:, 0], truth)
        return cls(reach(np.maximum(ends[:, 0] - truth, truth - ends[:, 1]), coverage), coverage)

    def interval(self, ends: Float[np.ndarray, "object 2"]) -> Float[np.ndarray, "object 2"]:
        """Its ends; where an inward margin would let them cross, both are the middle."""
        return _moved(ends, self.margin)


@dataclass(frozen=True)
class Mondrian:
    """A margin for each bin of a column: faint objects get what faint objects need (Vovk et al. 2005, §4.5)."""

    edges: tuple[float, ...]
    """between the bins, in the unit of the column; the first and last bin are open"""
    margins: tuple[float, ...]
    """one per bin, in the unit of the number; infinite in a bin of too few objects"""
    coverage: float
    column: str = ""
    """its name, where it is one of the objects' own"""

    @classmethod
    def of(
        cls,
        said: Float[np.ndarray, "object ..."],
        truth: Float[np.ndarray, " object"],
        column: Float[np.ndarray, " object"],
        edges: Sequence[float],
        coverage: float = 0.9,
        name: str = "",
    ) -> Mondrian:
        """From numbers (object,) or intervals (object, 2) told of calibration objects, and a number of each of them.

        Raises BadValue for an empty bin, and as `SplitConformal.of`.
        """
        ends = _ends(said)
        _demand(ends[:, 0], truth)
        if list(edges) != sorted(set(edges)):
            raise BadValue("edges", saw=tuple(edges), want="rising numbers")
        places = _place(edges, column, len(truth))
        counts = np.bincount(places, minlength=len(edges) + 1)
        if not counts.all():
            raise BadValue("a bin without objects", saw=counts.tolist(), want="some in each", hint="other edges")
        away = np.maximum(ends[:, 0] - truth, truth - ends[:, 1])
        margins = tuple(reach(away[places == i], coverage) for i in range(len(counts)))
        return cls(tuple(map(float, edges)), margins, coverage, name)

    def interval(
        self, said: Float[np.ndarray, "object ..."], column: Float[np.ndarray, " object"]
    ) -> Float[np.ndarray, "object 2"]:
        """Its ends, of numbers or intervals as `of` was told them."""
        return _moved(_ends(said), np.asarray(self.margins)[_place(self.edges, column, len(said))])


def reach(away: Float[np.ndarray, " object"], coverage: float) -> float:
    """The ⌈(n+1)·coverage⌉-th smallest; infinite where n is too small for it."""
    if not 0 < coverage < 1 or not len(away):
        raise BadValue(saw=f"coverage {coverage}, {len(away)} objects", want="between 0 and 1, and at least one")
    rank = int(np.ceil((len(away) + 1) * coverage))
    return float(np.sort(away)[rank - 1]) if rank <= len(away) else float("inf")


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by so that chances are frequencies (Guo et al. 2017, arXiv:1706.04599)."""

    value: float

    @classmethod
    def of(cls, chance: Float[np.ndarray, "object class"], truth: Integer[np.ndarray, " object"]) -> Temperature:
        """The one of least surprise for calibration objects; `truth` are columns of `chance`. Raises as above."""
        if len(chance) != len(truth) or not len(truth):
            raise ShapeMismatch(saw=f"{len(chance)} chances, {len(truth)} truths", want="one truth each, not none")
        if truth.min() < 0 or truth.max() >= chance.shape[1]:
            raise BadValue("truth", saw=f"{truth.min()} … {truth.max()}", want=f"0 … {chance.shape[1] - 1}")
        logits = _logits(chance)

        def surprise(log_value: float) -> float:
            return -float(log_softmax(logits / np.exp(log_value), axis=1)[np.arange(len(truth)), truth].mean())

        found = minimize_scalar(surprise, bounds=(np.log(0.05), np.log(20)), method="bounded")
        return cls(float(np.exp(found.x)))

    def chance(self, chance: Float[np.ndarray, "object class"]) -> Float[np.ndarray, "object class"]:
        """The same, calibrated; the likeliest stays the likeliest."""
        return softmax(_logits(chance) / self.value, axis=1)


def _logits(chance: np.ndarray) -> np.ndarray:
    return np.log(np.asarray(chance, dtype=np.float64).clip(min=1e-12))


def _ends(said: np.ndarray) -> np.ndarray:
    """A number is an interval without width."""
    return np.stack([said, said], 1) if said.ndim == 1 else said


def _moved(ends: np.ndarray, margin: np.ndarray | float) -> np.ndarray:
    low, high = ends[:, 0] - margin, ends[:, 1] + margin
    middle = ends.mean(1)
    return np.stack([np.where(low > high, middle, low), np.where(low > high, middle, high)], 1)


def _place(edges: Sequence[float], column: np.ndarray, objects: int) -> np.ndarray:
    if len(column) != objects:
        raise ShapeMismatch("column", saw=len(column), want=objects)
    if not np.isfinite(column).all():
        raise BadPixels("column", saw=f"{int((~np.isfinite(column)).sum())} that are not finite", want="numbers")
    return np.searchsorted(np.asarray(edges), column, side="right")


def _demand(said: np.ndarray, truth: np.ndarray) -> None:
    if len(said) != len(truth):
        raise ShapeMismatch(saw=f"{len(said)} answers, {len(truth)} truths", want="one truth each")
    if not (np.isfinite(said).all() and np.isfinite(truth).all()):
        raise BadPixels("calibration objects", saw="NaN or infinity", want="numbers")
