"""Scores of posteriors: honest ones are found honest, temperatures undo what was done, CRPS is its integral."""

import json
from dataclasses import replace

import numpy as np
import pytest

from omnisky.adapt.score import Score
from omnisky.demo.any_to_any import draw, page, state
from omnisky.errors import ShapeMismatch
from omnisky.evaluate.aion import UNSEEN, Table, judged
from omnisky.evaluate.aion_drawn import ImagesTold, SpectraTold, binned
from omnisky.evaluate.aion_probes import PROPERTIES, Probed
from omnisky.evaluate.posteriors import crps, fitted_temperature, judge, judge_halves, tempered
from omnisky.generate import Posterior
from omnisky.observe.types import Spectrum

EDGES = np.linspace(0, 1, 101)


def honest(n: int, seed: int, width: float = 0.05) -> tuple[Posterior, np.ndarray]:
    """Gaussians, and truths drawn from them."""
    draw = np.random.default_rng(seed)
    middle = draw.uniform(0.3, 0.7, (n, 1))
    chance = np.exp(-0.5 * (((EDGES[1:] + EDGES[:-1]) / 2 - middle) / width) ** 2)
    found = Posterior(chance / chance.sum(1, keepdims=True), EDGES, "tok_z")
    return found, found.sample(1, draw)[:, 0]


def test_a_temperature_undoes_what_another_did():
    found, truth = honest(800, 0)
    assert fitted_temperature(found, truth) == pytest.approx(1, abs=0.2)
    assert fitted_temperature(tempered(found, 0.5), truth) == pytest.approx(2, abs=0.4)
    np.testing.assert_allclose(tempered(tempered(found, 0.5), 2.0).chance, found.chance, atol=1e-9)
    with pytest.raises(ShapeMismatch):
        fitted_temperature(found, truth[:5])


def test_a_few_surprises_do_not_widen_all():
    """A twentieth of the truths is anywhere. 68 % intervals hold 68 % still."""
    found, truth = honest(1000, 5)
    truth[:50] = np.random.default_rng(6).uniform(0, 1, 50)
    low, high = tempered(found, fitted_temperature(found, truth)).interval(0.68).T
    assert np.mean((low < truth) & (truth < high)) == pytest.approx(0.68, abs=0.015)


def test_truths_in_a_bin_without_width_do_not_widen_the_rest():
    """Three in ten are stars, at 0, and told to be so."""
    found, truth = honest(1000, 7)
    edges = np.concatenate([[0.0], EDGES])
    star = np.arange(1000) % 10 < 3
    chance = np.column_stack([np.where(star, 0.9, 0.02), found.chance * np.where(star, 0.1, 0.98)[:, None]])
    told = Posterior(chance, edges, "tok_z")
    assert fitted_temperature(told, np.where(star, 0.0, truth)) < 1.5


def test_honest_posteriors_are_found_honest_and_others_not():
    told = judge("toy", honest(1000, 1), honest(1000, 2))
    for share in (0.68, 0.95):
        assert told.covered[f"{share:.0%}"].value == pytest.approx(share, abs=0.045)
    assert told.pit_distance.value < 0.06
    sure = tempered(honest(1000, 2)[0], 0.25), honest(1000, 2)[1]
    told = judge("too sure", (tempered(honest(1000, 1)[0], 0.25), honest(1000, 1)[1]), sure)
    assert told.covered["68% before"].value < 0.45 < told.covered["68%"].value
    assert told.state()["covered"]["68%"][0] == told.covered["68%"].value


def test_a_half_that_is_hard_by_chance_does_not_widen_all_intervals():
    """One half's posteriors are too narrow, the other's too wide: each alone is misled, both together are not."""
    (one, first), (other, second) = honest(1000, 11), honest(1000, 12)
    narrow, wide = (tempered(one, 1 / 1.3), first), (tempered(other, 1.3), second)
    assert judge("toy", narrow, wide).covered["68%"].value > 0.74
    told = judge_halves("toy", narrow, wide)
    assert told.objects == 2000 and told.temperature == pytest.approx(1.0, abs=0.06)
    assert told.covered["68%"].value == pytest.approx(0.68, abs=0.03)
    same = judge_halves("toy", (one, first), (one, first))  # the same heat for both
    assert same.crps.value == pytest.approx(judge("toy", (one, first), (one, first)).crps.value)


def test_crps_is_the_integral_of_its_definition():
    found, truth = honest(20, 3)
    truth[0], truth[1] = -0.2, 1.3
    x = np.linspace(-0.5, 1.5, 200_001)
    for i in range(20):
        rising = np.interp(x, found.edges, np.concatenate([[0], found.chance[i].cumsum()]))
        want = np.trapezoid((rising - (x >= truth[i])) ** 2, x)
        assert crps(found.take([i]), truth[i : i + 1])[0] == pytest.approx(want, abs=3e-5)


def test_bins_of_spectra_leave_out_what_was_not_seen():
    wave = np.tile(3600 + 0.8 * np.arange(100.0), (2, 1))
    flux = np.tile(np.repeat([1.0, 2.0, 4.0, 0.0], [32, 32, 32, 4]), (2, 1)).astype(np.float32)
    seen = Spectrum(flux=flux, ivar=np.ones_like(flux), wavelength_aa=wave, good=np.ones(flux.shape, bool))
    good = seen.good.copy()
    good[1, 32:64], good[0, 0] = False, False
    dirty = flux.copy()
    dirty[~good] = 1e6
    shape, there = binned(dirty, replace(seen, good=good))
    np.testing.assert_allclose(shape[0], [0.5, 1, 2])
    assert there.tolist() == [[True] * 3, [True, False, True]]


def test_what_was_found_becomes_figures_tables_and_a_page(tmp_path):
    found, truth = honest(40, 4)
    told, score = judge("photometry", honest(40, 5), (found, truth)), Score(0.5, 0.01)
    drawn = np.random.default_rng(0).normal(size=(2, 2, 64))
    spectra = SpectraTold(
        way=UNSEEN, objects=40, r2=score, gain=score, chi2=score, chi2_codec=score, lines=None, lines_other=None,
        lines_codec=None, bright=0, shown=(drawn[0], drawn[1]), wavelength_aa=np.tile(np.arange(64.0), (2, 1)),
    )  # fmt: skip
    pictures = np.random.default_rng(1).normal(size=(2, 2, 8, 8))
    images = ImagesTold("Legacy → HSC", 40, {"r": score}, {"r": score}, score, (pictures[0], pictures[1]))
    probed = Probed("photometry", 30, 40, *[dict.fromkeys(PROPERTIES, score)] * 3)
    claims = tuple(judged([told, told], [spectra], [images], [probed]))
    some = {"photometry": found.take(slice(0, 4))}
    table = Table((told,), some, truth[:4], (spectra,), (images,), (probed,), claims, 100)
    made = draw(table, tmp_path)
    assert all(figure.stat().st_size > 1000 for figure in made.figures.values())
    assert not claims[0].holds  # the same inputs twice: nothing falls
    text = page(made, "Title", "Head.")
    assert text.startswith("# Title") and "| photometry | 40 |" in text and "0.500 ± 0.010" in text
    assert json.loads(json.dumps(state(table)))["spectra"][UNSEEN]["lines"] is None
