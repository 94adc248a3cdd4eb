"""AstroCLIP's table on a toy sky where both parts tell one hidden number, with tiny towers."""

from dataclasses import replace

import numpy as np
import pairs as toy
import pytest

from omnisky.demo.pairs import draw_table, state
from omnisky.evaluate import astroclip, pairs
from omnisky.model.baseline import PhotometryRegressorConfig
from omnisky.observe.types import Scalars
from omnisky.recipes.astroclip import MAGNITUDES
from omnisky.train.config import Run
from omnisky.train.optim import AdamW

FAST = {"steps": 12, "batch": 16, "optim": AdamW(peak=3e-3, warmup=2), "precision": "fp32"}
RUNS = {
    "specformer-mini": Run(name="specformer-mini", model=toy.SPECFORMER, codecs=(toy.SECTIONS,), **FAST),
    "astrodino-mini": Run(name="astrodino-mini", model=PhotometryRegressorConfig(answers=5), codecs=(), **FAST),
    "astroclip-mini": Run(
        name="astroclip-mini", model=toy.CLIP, codecs=(toy.PATCHES, toy.SECTIONS), **{**FAST, "steps": 150}
    ),
    **{
        name: Run(name=name, model=PhotometryRegressorConfig(answers=5), codecs=(MAGNITUDES,), **FAST)
        for name in ("resnet18", "conv-attention", "photometry")
    },
}


def toy_pairs(n: int = 320):
    seen = toy.sky(n)
    red = seen["image"].flux.mean((-2, -1)) @ np.array([0.5, 0, -0.5])
    draw = np.random.default_rng(1)
    truth = {name: red + 0.1 * draw.normal(size=n) for name in pairs.PROPERTIES}
    truth |= {name: (draw.random(n) < share).astype(float) for name, share in (("is_merger", 0.1), ("is_edge_on", 0.3))}
    truth |= {"bulge_mass_fraction": (red > 0).astype(float), "is_irregular": np.zeros(n)}
    flux = 10 ** (0.4 * np.stack([1 - red, np.ones(n), 1 + red], axis=1))
    return seen | {
        "truth": Scalars(values=np.stack(list(truth.values()), axis=1), names=tuple(truth)),
        "scalars": Scalars(values=flux, names=("FLUX_G", "FLUX_R", "FLUX_Z")),
    }


@pytest.fixture
def found(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "recipe", lambda name: RUNS[name])
    monkeypatch.setattr(astroclip, "SUPERVISED", {k: (name, 12) for k, (name, _) in astroclip.SUPERVISED.items()})
    seen = pairs.Pairs.of(toy_pairs())
    towers = {"image": toy.VISION.build(3).eval(), "spectrum": toy.SPECFORMER.build(4).eval()}
    towers["image"].codecs, towers["spectrum"].codecs = (toy.PATCHES,), (toy.SECTIONS,)
    aligned = pairs.align(RUNS["astroclip-mini"], tmp_path / "astroclip", seen.source, towers)
    trained = pairs.Trained(towers["image"], towers["spectrum"], aligned)
    return seen, astroclip.measure(seen, trained, tmp_path, lambda name: lambda now: None), tmp_path, trained


def test_the_table_finds_what_both_parts_tell(found):
    seen, table, folder, trained = found
    scores = {(line.source, line.method): line.scores[0] for line in table.lines}
    assert len(table.lines) == 4 * 2 + 3
    assert scores["spectrum", "aligned, zero-shot"].value > 0.5  # the hidden number sets the spectrum's slope
    assert scores["image", "aligned, zero-shot"].value > 0.5
    assert all(score.error > 0 for score in scores.values())
    assert table.learnt + table.tested == len(seen.source)
    assert min(one.recall[10].value * one.among / 10 for one in table.across.values()) > 1.5
    again = astroclip.measure(seen, trained, folder, lambda name: pytest.fail)
    assert [line.scores for line in again.lines] == [line.scores for line in table.lines]
    drawn = draw_table(table, folder)
    assert drawn.figure.stat().st_size > 10_000
    assert [len(rows) for _, rows in drawn.tables] == [11, 4, 2, 5]
    assert state(table)["r2"]["image, aligned, zero-shot"]["redshift"][0] == scores["image", "aligned, zero-shot"].value


def test_claims_are_differences_with_errors(found):
    _, table, *_ = found
    by_name = {(line.source, line.method): line for line in table.lines}
    raised = table.claims[0].found
    want = by_name["image", "aligned, zero-shot"].scores[0].value
    want -= by_name["image", "AstroDINO alone, zero-shot"].scores[0].value
    assert raised.value == pytest.approx(want)
    worse = {key: replace(line, said=line.said * 0 + 9) for key, line in by_name.items() if key[1].startswith("aligned")}
    claims = astroclip.judge({**by_name, **worse}, table.across, np.random.default_rng(0).normal(size=(table.tested, 5)))
    assert [claim.holds for claim in claims[:3]] == [False] * 3


def test_objects_tested_on_are_held_out_of_every_small_recipe():
    from omnisky.recipes import recipe

    for name in RUNS:
        assert recipe(name).held_out == pairs.HELD_OUT


def test_the_vectors_of_other_weights_are_made_again(tmp_path):
    seen = pairs.Pairs.of(toy_pairs(40))
    models = [toy.clip(seed) for seed in (0, 1)]
    first, second, again = (pairs.vectors(tmp_path / "v.parquet", models[i], seen, "image") for i in (0, 1, 1))
    assert first.signature != second.signature == again.signature
    assert len(again) == 40
