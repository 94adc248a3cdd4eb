"""The comparison is fair: same split for all, no leak, chances for every class."""

from dataclasses import replace

import numpy as np
import pytest
from small import galaxies, model

from omnisky.embed import token_states
from omnisky.errors import BadValue, MissingModality
from omnisky.evaluate.morphology import (
    Task,
    attentive_on,
    cnn_in,
    judge,
    linear_on,
    majority,
    mean_and_spread,
    measured_shapes,
    trees_on,
)
from omnisky.observe.sky import held_out
from omnisky.recipes import recipe


def test_no_test_object_is_learned_from_and_the_split_is_the_houses():
    seen = galaxies(200)
    task, tenth = Task.of(seen), Task.of(seen, share=0.1)
    np.testing.assert_array_equal(task.test, held_out(seen, 0.2))
    assert not task.test[task.learn].any()
    assert set(tenth.learn) <= set(task.learn)
    assert len(tenth.learn) == pytest.approx(0.1 * len(task.learn), abs=2)


def test_a_run_is_known_by_whom_it_learns_and_what_it_is_told():
    task = Task.of(galaxies(60))
    assert task.key == Task.of(galaxies(60)).key
    assert task.key != replace(task, learn=task.learn[1:]).key
    assert task.key != replace(task, label=1 - task.label).key


def test_labels_are_needed():
    seen = galaxies(20)
    with pytest.raises(MissingModality, match="class"):
        Task.of(seen.__class__(seen.object_id, seen.ra, seen.dec, {"image": seen["image"]}))
    with pytest.raises(BadValue):
        Task.of(seen, share=0.0)


def test_every_method_answers_for_every_test_object(tmp_path):
    seen, net = galaxies(160), model()
    task = Task.of(seen)
    states = token_states(net, seen, views=2)
    x = mean_and_spread(states, 2)
    methods = {
        "majority": majority,
        "linear": linear_on(x),
        "trees": trees_on(x),
        "attentive": attentive_on(states, 2, steps=20, hidden=16, heads=2),
        "cnn": cnn_in(tmp_path, steps=25),
    }
    answers = {name: judge(name, task, say) for name, say in methods.items()}
    for answer in answers.values():
        assert answer.chance.shape == (task.test.sum(), 2)
        np.testing.assert_allclose(answer.chance.sum(1), 1, rtol=1e-3)
    assert answers["majority"].accuracy.error > 0  # half right is half chance
    assert answers["cnn"].accuracy.value > 0.9  # round against flat: any working network sees it


def test_each_modality_has_its_own_mean_and_spread():
    """Two views of one object; tokens 0–1 are one modality, token 2 another."""
    states = np.array([[[1.0], [3.0], [7.0]], [[1.0], [5.0], [9.0]]], dtype=np.float16)
    np.testing.assert_allclose(mean_and_spread(states, 2, (2, 1)), [[2.5, 1.5, 8.0, 0.0]])
    assert mean_and_spread(states, 2).shape == (1, 2)


def test_measured_shapes_come_from_the_codecs_that_measure():
    seen = galaxies(3, size=32)
    numbers = measured_shapes(recipe("astropt-nano").codecs, seen)
    assert numbers.shape == (3, 24 * 22 * 2 + 17)
    with pytest.raises(BadValue):
        measured_shapes(model().codecs, seen)
