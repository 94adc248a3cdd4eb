"""Probes find what is there, say nothing where there is nothing, and come back from disk the same."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from omnisky.adapt.pool import AttentiveProbe
from omnisky.adapt.probe import LinearProbe
from omnisky.adapt.score import accuracy, balanced_accuracy, bootstrap, confusion
from omnisky.errors import ProvenanceError, ShapeMismatch

QUICK = {"steps": 60, "batch": 32, "heads": 2, "hidden": 16}


@pytest.mark.usefixtures("unchecked")  # the checks hand in what no signature allows
@parametrize_with_checks([LinearProbe(strength=0.1)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def one_telling_token(n: int = 300, seed: int = 0):
    """Noise, but one token at a random place carries the class in its direction: its mean over tokens is weak."""
    draw = np.random.default_rng(seed)
    x, y = draw.normal(0, 0.3, (n, 12, 8)), draw.integers(2, size=n)
    x[np.arange(n), draw.integers(12, size=n)] += np.where(y, 3.0, -3.0)[:, None] * np.eye(8)[0] + 3 * np.eye(8)[1]
    return x.astype(np.float16), y


def test_the_attentive_probe_finds_the_telling_token():
    probe = AttentiveProbe(**(QUICK | {"steps": 400})).fit(*one_telling_token())
    x, y = one_telling_token(seed=1)
    assert (probe.predict(x) == y).mean() > 0.95
    np.testing.assert_allclose(probe.predict_proba(x).sum(1), 1, rtol=1e-5)


def test_views_count_as_one_object():
    x, y = one_telling_token(100)
    probe = AttentiveProbe(views=2, **QUICK).fit(np.repeat(x, 2, axis=0), y)
    assert probe.predict_proba(np.repeat(x, 2, axis=0)).shape == (100, 2)


def test_the_same_seed_gives_the_same_probe():
    x, y = one_telling_token(100)
    a, b = (AttentiveProbe(**QUICK).fit(x, y).predict_proba(x) for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_a_probe_comes_back_from_disk_and_refuses_other_tokens(tmp_path):
    x, y = one_telling_token(100)
    probe = AttentiveProbe(**QUICK).fit(x, y)
    probe.save(tmp_path / "p", signature="made-by", names=("round", "flat"))
    again = AttentiveProbe.load(tmp_path / "p", signature="made-by")
    np.testing.assert_array_equal(again.predict_proba(x), probe.predict_proba(x))
    assert again.names_ == ("round", "flat")
    with pytest.raises(ProvenanceError, match="other tokens"):
        AttentiveProbe.load(tmp_path / "p", signature="another")


def test_the_wrong_number_of_labels_is_refused():
    x, y = one_telling_token(20)
    with pytest.raises(ShapeMismatch):
        AttentiveProbe(**QUICK).fit(x, y[:-1])


def test_the_bootstrap_error_is_that_of_theory():
    draw = np.random.default_rng(0)
    truth = np.zeros(900, dtype=int)
    said = (draw.random(900) < 0.1).astype(int)
    score = accuracy(truth, said)
    assert score.value == np.mean(said == 0)
    assert score.error == pytest.approx(np.sqrt(0.9 * 0.1 / 900), rel=0.15)  # binomial, and 500 draws


def test_balanced_accuracy_does_not_reward_the_commonest_class():
    truth, said = np.array([0] * 90 + [1] * 10), np.zeros(100, dtype=int)
    assert accuracy(truth, said).value == 0.9
    assert balanced_accuracy(truth, said).value == 0.5


def test_confusion_counts_every_object_once():
    table = confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3)
    assert table.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_columns_of_other_lengths_are_refused():
    with pytest.raises(ShapeMismatch):
        bootstrap(lambda a, b: 0.0, np.zeros(3), np.zeros(4))
