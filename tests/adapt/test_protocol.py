"""The papers' protocols cut, split and count as they say."""

import numpy as np
import pytest

from omnisky.adapt import protocol
from omnisky.errors import BadValue


def line(n: int = 400, width: int = 6, noise: float = 0.3, seed: int = 0):
    """Numbers that are linear in the vectors but for noise."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, width))
    return x, x @ np.arange(1.0, width + 1) + noise * draw.normal(size=n)


def test_zero_shot_is_the_mean_of_64_and_needs_64():
    x, y = line(64)
    said = protocol.astroclip_zero_shot(x, y[:, None], np.full((2, 6), 50.0))  # far away: all weigh almost the same
    np.testing.assert_allclose(said, y.mean(), atol=0.5)
    with pytest.raises(BadValue, match="64 or more"):
        protocol.astroclip_zero_shot(x[:63], y[:63, None], x)


def test_few_shot_learns_a_line():
    x, y = line(600)
    said = protocol.astroclip_few_shot(x[:500], y[:500, None], x[500:])
    assert np.corrcoef(said[:, 0], y[500:])[0, 1] > 0.95


def test_galaxy_zoo_is_cut_by_votes_and_split_by_rows():
    first, asked = np.full(20, 40.0), np.full(20, 40.0)
    first[:10] = 2  # too few on the first question: not in the set at all
    asked[19] = 34  # not more than 34
    sides = protocol.astroclip_galaxy_zoo(first, asked)
    assert np.flatnonzero(sides.learn).tolist() == list(range(10, 18))
    assert np.flatnonzero(sides.test).tolist() == [18]


def test_aion_sets_a_fifth_aside():
    sides = protocol.aion_split(101)
    assert sides.test.sum() == 20 and (sides.learn ^ sides.test).all()


def test_a_linear_probe_tells_what_is_linear():
    x, y = line()
    other = np.random.default_rng(9).normal(size=len(y))
    told, nothing = protocol.aion_linear_probe(x, np.stack([y, other], 1), protocol.aion_split(len(y)))
    assert told.value > 0.98 and nothing.value < 0.1


def test_retrieval_finds_kinds_and_more_examples_find_more():
    """A tenth of the objects lean one way, by less than the noise: the mean of several leans more clearly."""
    draw = np.random.default_rng(0)
    vote = np.where(draw.random(600) < 0.1, 0.95, 0.0)
    x = draw.normal(size=(600, 20)) + 3 * vote[:, None] * np.eye(20)[0]
    one, ten = (protocol.aion_retrieval(x, vote, examples) for examples in (1, 10))
    shuffled = protocol.aion_retrieval(draw.permutation(x), vote)
    assert ten.value > one.value + 0.1 > shuffled.value + 0.2
    assert shuffled.value == pytest.approx(0.1, abs=0.07)  # the share of them, by chance
    with pytest.raises(BadValue, match="more than 70"):
        protocol.aion_retrieval(x, vote, 70)


def test_the_examples_are_not_the_answer():
    """Of four alike, three are shown: one is left to be found, and it is."""
    x = np.concatenate([np.tile([1.0, 0], (4, 1)), np.tile([0, 1.0], (10, 1))])
    assert protocol.aion_retrieval(x, np.array([1.0] * 4 + [0.0] * 10), 3, k=1).value == 1


def test_astropt_drops_what_is_far_off():
    y = np.append(np.arange(100.0), [np.nan, np.inf, 1e6])
    kept = protocol.astropt_kept(y)
    assert kept[:100].all() and not kept[100:].any()


def test_astropt_probe_is_the_error_in_quartile_widths():
    x, y = line(4000, noise=0.5)
    found = protocol.astropt_linear_probe(x, y)
    kept = y[protocol.astropt_kept(y)]
    want = 0.6745 * 0.5 / np.subtract(*np.percentile(kept, (75, 25)))  # the median of |N(0, σ)| is 0.6745 σ
    assert found.value == pytest.approx(want, rel=0.08)
    assert protocol.astropt_ridge(x, y).value > 0.95


def test_photo_z_says_nothing_of_a_perfect_one():
    z = np.linspace(0, 1, 50)
    found = protocol.photo_z(z, z)
    assert (found.bias.value, found.sigma_nmad.value, found.outliers.value, found.r2.value) == (0, 0, 0, 1)


def test_a_smaller_share_of_the_labels_is_part_of_a_larger():
    learn = np.arange(100, 300)
    shares = [protocol.labelled_share(learn, share) for share in (0.01, 0.1, 1.0)]
    assert [len(rows) for rows in shares] == [2, 20, 200]
    assert set(shares[0]) < set(shares[1]) < set(shares[2])
