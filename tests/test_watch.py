"""Trackers get what metrics.jsonl gets; one that is not installed says so."""

import sys
from types import SimpleNamespace

import pytest

from omnisky.errors import MissingExtra
from omnisky.train.loop import Progress
from omnisky.watch import tracked

NOW = Progress(step=3, steps=9, loss=0.5, rate=1e-3, norm=2.0, objects_per_second=40.0)
NUMBERS = {"loss": 0.5, "rate": 1e-3, "norm": 2.0, "objects_per_second": 40.0}


def fake(said: list) -> SimpleNamespace:
    """wandb, trackio and tensorboard at once."""
    writer = SimpleNamespace(
        add_scalar=lambda key, value, step: said.append((key, value, step)), close=lambda: said.append("closed")
    )
    return SimpleNamespace(
        init=lambda **settings: said.append(settings),
        log=lambda numbers, step: said.append((numbers, step)),
        finish=lambda: said.append("finished"),
        SummaryWriter=lambda folder: said.append(folder) or writer,
    )


@pytest.mark.parametrize("where", ["wandb", "trackio"])
def test_numbers_of_each_step_are_sent_and_the_run_is_ended_even_by_an_error(tmp_path, monkeypatch, where):
    said, seen = [], []
    monkeypatch.setitem(sys.modules, where, fake(said))
    with pytest.raises(KeyboardInterrupt), tracked(where, "nano", tmp_path, seen.append) as watch:
        watch(NOW)
        raise KeyboardInterrupt
    assert said == [{"project": "omnisky", "name": "nano"}, (NUMBERS, 3), "finished"]
    assert seen == [NOW]


def test_tensorboard_writes_beside_the_run(tmp_path, monkeypatch):
    said = []
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake(said))
    with tracked("tensorboard", "nano", tmp_path, lambda now: None) as watch:
        watch(NOW)
    assert said == [str(tmp_path / "tensorboard"), *((key, value, 3) for key, value in NUMBERS.items()), "closed"]


def test_one_that_is_not_installed_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with (
        pytest.raises(MissingExtra, match="pip install trackio"),
        tracked("trackio", "nano", tmp_path, lambda now: None),
    ):
        pass


def test_nobody_is_told_where_nobody_asked(tmp_path):
    seen = []
    with tracked(None, "nano", tmp_path, seen.append) as watch:
        watch(NOW)
    assert seen == [NOW]
