"""Probes of a frozen any-to-any encoder: the mean over tokens, and tokens read with attention (AION-1, §5).

The mean is read by ridge regression; attention by `AttentivePool`, as the paper's probes are built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from omnisky.adapt.pool import AttentivePool
from omnisky.adapt.score import Score, r2, r2_gain
from omnisky.evaluate.aion_drawn import tokens_of
from omnisky.evaluate.aion_runs import Ready

PROPERTIES = ("redshift", "log_mass", "log_ssfr")
STEPS, BATCH, RATE = 400, 64, 2e-3


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
    learnt: Integer[np.ndarray, " object"],
    test: Integer[np.ndarray, " object"],
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
    truth, scaler = y[sides[1]], StandardScaler().fit(y[sides[0]])
    ridge = RidgeCV(np.logspace(-3, 3, 7)).fit(learnt.float().mean(1).numpy(), scaler.transform(y[sides[0]]))
    by_mean = scaler.inverse_transform(ridge.predict(tested.float().mean(1).numpy()))
    target = torch.from_numpy(scaler.transform(y[sides[0]])).float()
    by_attention = scaler.inverse_transform(attentive(learnt, target, tested, steps).numpy())

    def scores(said: np.ndarray) -> dict[str, Score]:
        return {name: r2(truth[:, i], said[:, i]) for i, name in enumerate(PROPERTIES)}

    more = {name: r2_gain(truth[:, i], by_attention[:, i], by_mean[:, i]) for i, name in enumerate(PROPERTIES)}
    return Probed(inputs, len(sides[0]), len(sides[1]), scores(by_mean), scores(by_attention), more)


@torch.inference_mode()
def _states(ready: Ready, rows: np.ndarray, names: Sequence[str], batch: int = 32) -> Tensor:
    """(object, token, width) in half precision: 160 kB an object with image and spectrum."""
    tokens = tokens_of(ready, rows, names)
    starts = range(0, len(rows), batch)
    return torch.cat([ready.model.states(tokens.take(slice(i, i + batch))).half() for i in starts])


def attentive(learnt: Tensor, target: Tensor, asked: Tensor, steps: int = STEPS, seed: int = 0) -> Tensor:
    """What an attentive pool of tokens, trained for so many steps on squared error, says of others."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pool = AttentivePool(learnt.shape[-1], target.shape[1], heads=4, hidden=128, dropout=0.1)
        optimiser = torch.optim.AdamW(pool.parameters(), lr=RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
        for _ in range(steps):
            rows = torch.randint(len(learnt), (BATCH,))
            loss = F.mse_loss(pool(learnt[rows].float()), target[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    pool.eval()
    with torch.inference_mode():
        return torch.cat([pool(piece.float()) for piece in asked.split(256)])
