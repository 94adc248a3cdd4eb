"""Probes of a frozen any-to-any encoder: the mean over tokens, and tokens read with attention (AION-1, §5).

The mean is read by ridge regression; attention by `AttentiveRegressor`, as the paper's probes are built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Integer
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from omnisky.adapt.pool import AttentiveRegressor, mean_pooled
from omnisky.adapt.score import Score, r2, r2_gain
from omnisky.evaluate.aion_drawn import tokens_of
from omnisky.evaluate.aion_runs import Ready

PROPERTIES = ("redshift", "log_mass", "log_ssfr")
STEPS = 800


@dataclass(frozen=True, eq=False)
class Probed:
    """How well probes of one set of inputs tell properties."""

    inputs: str
    learnt: int
    tested: int
    mean: Mapping[str, Score]
    """property → R²"""
    attentive: Mapping[str, Score]
    gain: Mapping[str, Score]
    """R² of attention less R² of the mean"""


def probes(
    ready: Ready,
    asked: Mapping[str, Sequence[str]],
    learnt: Integer[np.ndarray, " learnt"],
    test: Integer[np.ndarray, " tested"],
    most: int,
    steps: int = STEPS,
) -> tuple[Probed, ...]:
    """One line an input set, all learnt from the same galaxies: those that have the tokens of every set."""
    names = tuple(dict.fromkeys(name for inputs in asked.values() for name in inputs))
    have = np.all([ready.tokens[name].table[learnt, 0] >= 0 for name in names], axis=0)
    y = np.stack([ready.truth[name] for name in PROPERTIES], axis=1)
    sides = [rows[np.isfinite(y[rows]).all(1)] for rows in (learnt[have], test)]
    sides[0] = sides[0][:most]
    return tuple(_probed(ready, inputs, asked[inputs], y, sides, steps) for inputs in asked)


def _probed(
    ready: Ready, inputs: str, names: Sequence[str], y: Float[np.ndarray, "object property"], sides: list, steps: int
) -> Probed:
    learnt, tested = (_states(ready, rows, names) for rows in sides)
    told, truth = (y[rows] for rows in sides)
    ridge = TransformedTargetRegressor(RidgeCV(np.logspace(-3, 3, 7)), transformer=StandardScaler())
    by_mean = ridge.fit(mean_pooled(learnt), told).predict(mean_pooled(tested))
    pool = AttentiveRegressor(heads=4, hidden=128, dropout=0.1, steps=steps, batch=64, kept=1.0)
    by_attention = pool.fit(learnt, told).predict(tested)

    def scores(said: np.ndarray) -> dict[str, Score]:
        return {name: r2(truth[:, i], said[:, i]) for i, name in enumerate(PROPERTIES)}

    more = {name: r2_gain(truth[:, i], by_attention[:, i], by_mean[:, i]) for i, name in enumerate(PROPERTIES)}
    return Probed(inputs, len(sides[0]), len(sides[1]), scores(by_mean), scores(by_attention), more)


@torch.inference_mode()
def _states(
    ready: Ready, rows: np.ndarray, names: Sequence[str], batch: int = 32
) -> Float[np.ndarray, "object token width"]:
    """In half precision: 160 kB an object with image and spectrum."""
    tokens = tokens_of(ready, rows, names)
    starts = range(0, len(rows), batch)
    return torch.cat([ready.model.states(tokens.take(slice(i, i + batch))).half() for i in starts]).numpy()
