"""Stars by the time they formed: what share of which template a galaxy is made of.

Star formation is delayed and dies away, SFR ∝ t exp(−t/τ) from the first stars to now; x is the time since the first
stars in units of τ.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float

from omnisky.observe.mock.templates import Basis

LIVING = 0.6
"""share of the mass formed that is in stars and remnants after some Gyr, for Chabrier's initial mass function"""
YOUNG_GYR = 0.1
"""stars younger than this are drawn into spiral arms"""

_LOOKBACK = np.concatenate([[0.0], np.geomspace(1e-3, 14.0, 97)])  # Gyr, edges of bins
_X = np.geomspace(1e-2, 60.0, 400)
# Specific star formation rate times the time since the first stars, both of the mass formed.
_RATE = _X**2 * np.exp(-_X) / (1 - (1 + _X) * np.exp(-_X))


def decline(rate_times_span: Float[np.ndarray, " object"]) -> Float[np.ndarray, " object"]:
    """x, from SFR / (mass formed) × (time since the first stars), which lies between 0 and 2."""
    return np.interp(-np.log(rate_times_span), -np.log(_RATE), _X)


def formed(span_gyr: Float[np.ndarray, " object"], x: Float[np.ndarray, " object"]) -> Float[np.ndarray, "object time"]:
    """Share of the mass that formed in each bin of lookback time."""
    edge = np.clip((span_gyr[:, None] - _LOOKBACK) / span_gyr[:, None], 0, 1) * x[:, None]
    before = 1 - (1 + edge) * np.exp(-edge)  # mass formed up to then, × 1/τ²
    share = before[:, :-1] - before[:, 1:]
    return share / share.sum(axis=1, keepdims=True)


def mean_age(share: Float[np.ndarray, "object time"]) -> Float[np.ndarray, " object"]:
    """Gyr, weighted by mass formed."""
    return (share * _middle()).sum(axis=1)


def is_young() -> np.ndarray:
    """True for the bins of lookback time that count as young."""
    return _middle() < YOUNG_GYR


@cache
def _middle() -> Float[np.ndarray, " time"]:
    return (_LOOKBACK[1:] + _LOOKBACK[:-1]) / 2


def weights(
    share: Float[np.ndarray, "object time"], log_metals: Float[np.ndarray, " object"], templates: Basis
) -> Float[np.ndarray, "object template"]:
    """How much of each template: linear in log age and in log Z between neighbouring ones, the last one beyond."""
    by_age = (share[:, :, None] * _hats(np.log(_middle()), np.log(templates.age_gyr))).sum(axis=1)
    by_metals = _hats(log_metals, templates.log_metals)
    return (by_age[:, :, None] * by_metals[:, None, :]).reshape(len(share), -1)


def _hats(at: Float[np.ndarray, " point"], knots: Float[np.ndarray, " knot"]) -> Float[np.ndarray, "point knot"]:
    """Weights of linear interpolation."""
    return np.stack([np.interp(at, knots, one) for one in np.eye(len(knots))], axis=1)
