"""Scores agree with closed forms and with distributions whose scores are known."""

import numpy as np
import pytest
from scipy.special import erf
from scipy.stats import norm
from sklearn.metrics import f1_score, ndcg_score, roc_auc_score

from omnisky.adapt import score
from omnisky.errors import BadPixels, BadValue, ShapeMismatch

MANY = 4000


@pytest.fixture(scope="module")
def photo_z():
    """Redshifts whose Δ is N(0.01, 0.02²), but for a tenth that are off by 0.3."""
    draw = np.random.default_rng(0)
    z = draw.uniform(0, 1, MANY)
    off = np.where(draw.random(MANY) < 0.1, 0.3, 0.01 + 0.02 * draw.normal(size=MANY))
    return z, z + off * (1 + z)


def test_redshift_scores_of_a_known_distribution(photo_z):
    z, said = photo_z
    clean = said[np.abs(said - z) / (1 + z) < 0.2], z[np.abs(said - z) / (1 + z) < 0.2]
    assert score.sigma_nmad(clean[1], clean[0]).value == pytest.approx(0.02, rel=0.05)
    assert score.sigma_nmad(z, said).value < 0.026  # the tenth of outliers hardly moves it
    assert score.bias(z, said).value == pytest.approx(0.9 * 0.01 + 0.1 * 0.3, abs=5e-3)
    found = score.outlier_fraction(z, said)
    assert found.value == pytest.approx(0.1, abs=3 * found.error)
    assert found.error == pytest.approx(np.sqrt(0.1 * 0.9 / MANY), rel=0.15)  # binomial, and 500 draws
    assert score.outlier_fraction(z, said, beyond=0.31).value == 0


def test_rmse_is_a_root_of_a_mean():
    assert score.rmse(np.zeros(4), np.array([3.0, -3, 4, -4])).value == pytest.approx(np.sqrt(12.5))


def test_f1_and_auc_are_those_of_scikit_learn():
    draw = np.random.default_rng(1)
    truth, said = draw.integers(4, size=200), draw.integers(5, size=200)
    kinds = np.unique(truth)
    assert score.macro_f1(truth, said).value == pytest.approx(f1_score(truth, said, average="macro", labels=kinds))
    assert score.weighted_f1(truth, said).value == pytest.approx(f1_score(truth, said, average="weighted"))
    value = np.round(draw.normal(size=200) + truth, 1)  # rounded: ties
    assert score.auc(truth > 1, value).value == pytest.approx(roc_auc_score(truth > 1, value))


def test_auc_of_two_gaussians():
    draw = np.random.default_rng(2)
    truth = draw.random(2000) < 0.3
    found = score.auc(truth, draw.normal(size=2000) + truth)
    assert found.value == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=3 * found.error)
    with pytest.raises(BadValue, match="some of both"):
        score.auc(np.ones(5, bool), np.zeros(5))


def test_pit_is_uniform_for_honest_posteriors_and_not_for_narrow_ones():
    draw = np.random.default_rng(3)
    middle = draw.normal(size=2000)
    truth = middle + draw.normal(size=2000)
    honest, narrow = (middle[:, None] + width * draw.normal(size=(2000, 100)) for width in (1.0, 0.5))
    found = score.pit(truth, honest)
    assert np.histogram(found, 4, (0, 1))[0] == pytest.approx(500, abs=80)
    assert score.pit_distance(truth, honest).value < 0.03  # 0.87 / √2000 = 0.019
    assert score.pit_distance(truth, narrow).value > 0.1


def test_pit_and_crps_of_a_single_draw():
    assert score.pit(np.array([1.0, 2.0]), np.array([[0.0], [2.0]])).tolist() == [1.0, 0.5]
    assert score.crps(np.array([1.0, 2.0]), np.array([[0.0], [5.0]])).value == 2.0  # no spread: the absolute error


def test_crps_of_a_gaussian_is_the_closed_form():
    """σ·[z·(2Φ(z) − 1) + 2φ(z) − 1/√π] (Gneiting & Raftery 2007, eq. 21)."""
    draw = np.random.default_rng(4)
    at, sigma = np.array([0.0, 0.7, -2.0]), 1.5
    each = norm.ppf((np.arange(4000) + 0.5) / 4000) * sigma
    z = at / sigma
    want = sigma * (z * erf(z / np.sqrt(2)) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert score.crps(at, draw.permutation(np.tile(each, (3, 1)), axis=1)).value == pytest.approx(want.mean(), rel=1e-3)


def test_coverage_counts_the_ends():
    low, high = np.zeros(4), np.ones(4)
    assert score.coverage(np.array([0.0, 1.0, 0.5, 2.0]), low, high).value == 0.75


def test_overlaps_of_squares():
    """Two of 4 × 4 that share 2 × 4 pixels: IoU 8 / 24, Dice 16 / 32. An empty map changes neither."""
    truth, said = np.zeros((3, 8, 8), bool), np.zeros((3, 8, 8), bool)
    truth[:2, :4, :4] = said[:2, 2:6, :4] = True
    assert score.iou(truth, said).value == pytest.approx(1 / 3)
    assert score.dice(truth, said).value == pytest.approx(0.5)
    with pytest.raises(BadValue, match="not one pixel"):
        score.iou(np.zeros((2, 8, 8), bool), np.zeros((2, 8, 8), bool))
    half = truth & (np.arange(8) < 2)
    assert score.iou_gain(truth, half, said).value == pytest.approx(1 / 2 - 1 / 3)
    assert score.iou_gain(truth, said, said) == score.Score(0.0, 0.0)


def test_ndcg_is_that_of_scikit_learn():
    draw = np.random.default_rng(5)
    relevance, value = draw.random((30, 40)), draw.normal(size=(30, 40))
    assert score.ndcg_at(relevance, value, 10).value == pytest.approx(ndcg_score(relevance, value, k=10))
    assert score.ndcg_at(relevance, relevance, 10).value == pytest.approx(1)


def test_the_query_itself_is_neither_found_nor_missed():
    relevance = np.array([[9.0, 1.0, 0.0], [1.0, 9.0, 0.0]])
    value = np.array([[-np.inf, 0.9, 0.1], [0.9, -np.inf, 0.1]])
    assert score.ndcg_at(relevance, value, 1).value == 1


def test_a_query_without_answers_does_not_count():
    relevance = np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 0]])
    assert score.ndcg_at(relevance, np.array([[3.0, 2, 1]] * 3), 2).value == 1


@pytest.mark.parametrize("name", ["sigma_nmad", "bias", "rmse", "outlier_fraction"])
def test_nan_is_refused_and_counted(name):
    with pytest.raises(BadPixels, match=r"\[1, 0\] of 3"):
        getattr(score, name)(np.array([0.0, np.nan, 1.0]), np.zeros(3))


def test_posteriors_of_other_objects_are_refused(unchecked):
    with pytest.raises(ShapeMismatch, match="same pixels"):
        score.iou(np.ones((3, 2, 2), bool), np.ones((2, 2, 2), bool))
    with pytest.raises(ShapeMismatch, match="posteriors"):
        score.crps(np.zeros(3), np.zeros((2, 5)))
    with pytest.raises(BadValue, match="1 … 3"):
        score.ndcg_at(np.zeros((2, 3)), np.zeros((2, 3)), 4)
