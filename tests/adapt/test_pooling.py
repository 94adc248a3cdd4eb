"""Pooling reads only tokens that are there, and answers with classes, numbers or a posterior."""

import numpy as np
import pytest

from omnisky.adapt.pool import (
    AttentiveDensity,
    AttentiveProbe,
    AttentiveQuantiles,
    AttentiveRegressor,
    mean_pooled,
)
from omnisky.errors import BadPixels, BadValue, MissingModality, ShapeMismatch

QUICK = {"steps": 150, "batch": 64, "heads": 2, "hidden": 16, "rate": 1e-2, "dropout": 0.0, "kept": 1.0}


def ragged(n: int = 200, seed: int = 0):
    """One token at a random place carries a number; a random rest of each sequence is not there, and holds rubbish."""
    draw = np.random.default_rng(seed)
    x, y = draw.normal(0, 0.1, (n, 10, 6)), draw.uniform(-1, 1, n)
    place, length = draw.integers(5, size=n), draw.integers(5, 11, size=n)
    x[np.arange(n), place, 0] += 3
    x[np.arange(n), place, 1] += 3 * y
    present = np.arange(10) < length[:, None]
    x[~present] = draw.normal(0, 50, x[~present].shape)
    return x.astype(np.float16), y, present


@pytest.fixture(scope="module")
def sequences():
    return ragged()


def test_the_regressor_finds_the_telling_token_among_those_that_are_there(sequences):
    x, y, present = sequences
    probe = AttentiveRegressor(**QUICK).fit(x, y, present=present)
    x, y, present = ragged(seed=1)
    assert 1 - np.mean((probe.predict(x, present) - y) ** 2) / y.var() > 0.8


@pytest.mark.parametrize("kind", [AttentiveRegressor, AttentiveProbe])
def test_what_is_not_there_changes_nothing(sequences, kind):
    x, y, present = sequences
    y = y if kind is AttentiveRegressor else y > 0
    changed = x.copy()
    changed[~present] = 0
    quick = QUICK | {"steps": 20}
    before, after = (kind(**quick).fit(one, y, present=present).predict(one, present) for one in (x, changed))
    np.testing.assert_array_equal(before, after)


def test_one_object_is_row_0_of_many(sequences):
    x, y, present = sequences
    probe = AttentiveRegressor(**QUICK | {"steps": 20}).fit(x, np.stack([y, -y], 1), present=present)
    assert probe.predict(x, present).shape == (200, 2)
    np.testing.assert_allclose(probe.predict(x[:1], present[:1]), probe.predict(x, present)[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [AttentiveDensity, AttentiveQuantiles])
def test_posteriors_add_up_and_hold_the_truth(sequences, kind):
    x, y, present = sequences
    probe = kind(**QUICK).fit(x, y, present=present)
    posterior = probe.predict_posterior(x, np.linspace(-2, 2, 81), present)
    np.testing.assert_allclose(posterior.chance.sum(1), 1, rtol=1e-9)
    low, high = posterior.interval(0.9).T
    assert ((low <= y) & (y <= high)).mean() > 0.7
    assert np.corrcoef(posterior.mean(), y)[0, 1] > 0.8


def test_the_mean_is_over_what_is_there(sequences):
    x, _, present = sequences
    want = np.stack([row[there].astype(np.float32).mean(0) for row, there in zip(x, present, strict=True)])
    np.testing.assert_allclose(mean_pooled(x, present), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean_pooled(x[:, :3]), x[:, :3].astype(np.float32).mean(1), rtol=1e-5)


def test_what_cannot_be_read_is_refused(sequences):
    x, y, present = sequences
    nobody = np.zeros_like(present)
    with pytest.raises(MissingModality, match="200 of 200"):
        AttentiveRegressor(**QUICK).fit(x, y, present=nobody)
    with pytest.raises(BadPixels):
        AttentiveRegressor(**QUICK).fit(x, np.where(np.arange(200) == 3, np.nan, y))
    with pytest.raises(ShapeMismatch, match="2 numbers"):
        AttentiveDensity(**QUICK).fit(x, np.stack([y, y], 1))
    with pytest.raises(BadValue, match="one class"):
        AttentiveProbe(**QUICK).fit(x, np.zeros(200, dtype=int))
    probe = AttentiveRegressor(**QUICK | {"steps": 2}).fit(x, y)
    with pytest.raises(ShapeMismatch):
        probe.predict(x[..., :3])
