"""Intervals hold the truth as often as they promise, also where it is hard; chances become frequencies."""

import numpy as np
import pytest

from omnisky.adapt.conformal import ConformalQuantiles, Mondrian, SplitConformal, Temperature, reach
from omnisky.errors import BadPixels, BadValue, ShapeMismatch


def measured(n: int, seed: int):
    """Errors grow with magnitude: 0.1 at 18, 1.0 at 22."""
    draw = np.random.default_rng(seed)
    magnitude, truth = draw.uniform(18, 22, n), draw.normal(size=n)
    return truth + draw.normal(size=n) * 10 ** ((magnitude - 22) / 4), truth, magnitude


def inside(ends: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return (ends[:, 0] <= truth) & (truth <= ends[:, 1])


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_split_conformal_covers_what_it_promises(coverage):
    said, truth, _ = measured(4000, 0)
    conformal = SplitConformal.of(said, truth, coverage)
    said, truth, _ = measured(4000, 1)
    assert inside(conformal.interval(said), truth).mean() == pytest.approx(coverage, abs=0.03)  # 3 σ of both samples


def test_mondrian_covers_the_faint_as_well_as_the_bright():
    said, truth, magnitude = measured(8000, 0)
    plain, mondrian = SplitConformal.of(said, truth), Mondrian.of(said, truth, magnitude, (19, 20, 21))
    said, truth, magnitude = measured(8000, 1)
    faint = magnitude > 21
    assert inside(plain.interval(said), truth)[faint].mean() < 0.8
    held = inside(mondrian.interval(said, magnitude), truth)
    assert held[faint].mean() == pytest.approx(0.9, abs=0.03)
    assert held[~faint].mean() == pytest.approx(0.9, abs=0.03)


def test_mondrian_moves_intervals_too():
    said, truth, magnitude = measured(200, 0)
    ends, edges = np.stack([said - 0.1, said + 0.1], 1), (20.0,)
    by_ends, by_numbers = (Mondrian.of(one, truth, magnitude, edges) for one in (ends, said))
    np.testing.assert_allclose(by_ends.interval(ends, magnitude), by_numbers.interval(said, magnitude))
    inward = Mondrian((20.0,), (-0.2, 0.0), 0.9).interval(ends[:1], np.array([19.0]))
    np.testing.assert_allclose(inward, [[said[0], said[0]]])  # never crossed


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_quantiles_that_are_too_narrow_or_too_wide_are_mended(share):
    draw = np.random.default_rng(0)
    width, truth = draw.uniform(0.1, 1, 6000), draw.normal(size=6000)
    truth *= width
    ends = np.stack([-1.645 * share * width, 1.645 * share * width], 1)
    mended = ConformalQuantiles.of(ends[:3000], truth[:3000])
    assert (mended.margin > 0) == (share < 1)
    assert inside(mended.interval(ends[3000:]), truth[3000:]).mean() == pytest.approx(0.9, abs=0.03)


def test_the_rank_is_that_of_theory_and_too_few_promise_nothing():
    assert reach(np.arange(9.0), 0.9) == 8  # ⌈10 · 0.9⌉ = 9th
    assert reach(np.arange(8.0), 0.9) == np.inf


def test_temperature_finds_by_how_much_chances_were_overconfident():
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 2, (5000, 3))
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = np.array([draw.choice(3, p=row) for row in chance])
    bold = chance**2.5 / (chance**2.5).sum(1, keepdims=True)
    found = Temperature.of(bold, truth)
    assert found.value == pytest.approx(2.5, rel=0.1)
    np.testing.assert_allclose(found.chance(bold).sum(1), 1)
    assert (found.chance(bold).argmax(1) == bold.argmax(1)).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: SplitConformal.of(np.zeros(3), np.zeros(4)), ShapeMismatch),
        (lambda: SplitConformal.of(np.zeros(3), np.array([0, np.nan, 0])), BadPixels),
        (lambda: SplitConformal.of(np.zeros(3), np.zeros(3), 1.0), BadValue),
        (lambda: SplitConformal.of(np.zeros(0), np.zeros(0)), BadValue),
        (lambda: Mondrian.of(np.zeros(3), np.zeros(3), np.zeros(3), (1.0,)), BadValue),
        (lambda: Mondrian.of(np.zeros(3), np.zeros(3), np.full(3, np.nan), (1.0,)), BadPixels),
        (lambda: Temperature.of(np.full((2, 2), 0.5), np.array([0, 2])), BadValue),
    ],
)
def test_what_cannot_be_calibrated_is_refused(call, error):
    with pytest.raises(error):
        call()
