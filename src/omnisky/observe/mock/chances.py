"""Chance as a function: of the seed, the object's number, what it is for, and how often it was tried."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from jaxtyping import Float, Integer
from scipy.special import ndtri


class Use(IntEnum):
    """What chance is asked for. A new use never changes what the others draw."""

    TRUTH = 0
    PLACE = 1
    NEIGHBOURS = 2
    CATALOGUE = 3
    TEXTURE = 4
    IMAGE = 16
    """+ the number of the survey"""
    SPECTRUM = 32
    """+ the number of the instrument"""


def generator(seed: int, index: int, use: int, trial: int = 0) -> np.random.Generator:
    """A generator of this object's own. Philox counts: the same numbers on every machine."""
    return np.random.Generator(np.random.Philox(key=[seed, index], counter=[0, 0, trial, use]))


class Chances:
    """Numbers for many objects at once, drawn column by column: row i depends on object i alone."""

    def __init__(self, seed: int, index: Integer[np.ndarray, " object"], use: Use, trial: int = 0, columns: int = 64):
        self._lots = np.stack([generator(seed, int(i), use, trial).random(columns) for i in index.tolist()])
        self._used = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Float[np.ndarray, " object"]:
        """Between low and high."""
        lots = self._lots[:, self._used]
        self._used += 1
        return low + (high - low) * lots

    def normal(self, mean: float = 0.0, sigma: float = 1.0) -> Float[np.ndarray, " object"]:
        """Gaussian, cut off at 6 σ."""
        return mean + sigma * ndtri(np.clip(self.uniform(), 1e-9, 1 - 1e-9))

    def happens(self, probability: Float[np.ndarray, " object"] | float) -> np.ndarray:
        """True with this probability."""
        return self.uniform() < probability
