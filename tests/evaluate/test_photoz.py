"""The comparison on made-up galaxies, with a tiny model: sides, copies, numbers for all methods."""

import json

import numpy as np
import pytest

from omnisky.demo.photoz import draw, state
from omnisky.errors import MissingModality
from omnisky.evaluate import photoz
from omnisky.evaluate.photoz import Galaxies, measure
from omnisky.observe.types import Labels, Observation, Scalars

TINY = ("model.core.width=16", "model.core.depth=1", "model.core.hidden=16", "model.core.heads=2")
TINY += ("model.decoder_depth=1", "steps=4", "batch=32", "optim.warmup=1")


@pytest.fixture(scope="module")
def table() -> Observation:
    draw = np.random.default_rng(0)
    z = draw.uniform(0.01, 0.4, 400)
    mags = 17 + draw.normal(0, 1, (400, 1)) + np.stack([2 * z, 3 * z, z, 0 * z, -z], 1) + draw.normal(0, 0.05, (400, 5))
    names = (*"ugriz", "redshift")
    return Observation.of(
        range(400),
        draw.uniform(0, 360, 400),
        draw.uniform(-60, 60, 400),
        scalars=Scalars(values=np.column_stack([mags, z]), names=names),
        labels=Labels(columns={"class": np.where(np.arange(400) % 8, "GALAXY", "STAR")}),
    )


def test_stars_are_left_out_and_copies_move_within_errors(table):
    galaxies = Galaxies.of(table)
    assert len(galaxies.seen) == 350 and set(galaxies.side) == {"train", "validation", "test"}
    many, once = galaxies.copies(3)["scalars"].values, galaxies.on("train")["scalars"].values
    np.testing.assert_array_equal(many[: len(once)], once)
    moved = many[len(once) :, :5] - np.tile(once[:, :5], (2, 1))
    assert 0.005 < moved.std() < 0.02 and np.allclose(many[:, 5], many[:, 0] - many[:, 1])
    with pytest.raises(MissingModality):
        Galaxies.of(Observation.of(range(2), scalars=Scalars(values=np.zeros((2, 1)), names=("u",))))


def test_all_methods_are_told_and_a_second_call_trains_nothing(table, tmp_path, monkeypatch):
    monkeypatch.setattr(photoz, "FOREST", 10)
    steps = []
    found = measure(table, tmp_path, lambda name: steps.append, TINY, copies=2)
    assert len(steps) == 4 and set(found.yardsticks) == {"k nearest neighbours", "random forest", "gradient boosting"}
    assert found.yardsticks["gradient boosting"]["sigma_nmad"].value < 0.05
    again = measure(table, tmp_path, lambda name: steps.append, TINY, copies=2)
    assert len(steps) == 4
    np.testing.assert_array_equal(found.posteriors.chance, again.posteriors.chance)
    assert draw(found, tmp_path).figures["pit"].stat().st_size > 1000
    json.dumps(state(found))
