"""The verbs as a user types them: what they print, where they leave things, how they refuse."""

import json

import numpy as np
import pytest
from PIL import Image as Picture
from small import galaxies, model

from omnisky import cli
from omnisky.embed import Embedding
from omnisky.model import store


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    return int(end.value.code or 0)


@pytest.fixture
def folder(tmp_path):
    """Twelve galaxies as PNG files, 64 px."""
    (tmp_path / "galaxies").mkdir()
    for i, flux in enumerate(galaxies(12, size=64)["image"].flux):
        Picture.fromarray(flux.transpose(1, 2, 0)).save(tmp_path / "galaxies" / f"g{i:02d}.png")
    return tmp_path / "galaxies"


def test_train_leaves_a_model_that_loads_and_goes_on_from_there(folder, tmp_path, capsys):
    core = ("model.core.depth=2", "model.core.width=32", "model.core.heads=2")
    small = (*core, "batch=4", "workers=0", "precision=fp32")
    words = ("train", "astropt-nano", f"data={folder}", "steps=3", *small, "--out", tmp_path / "run", "--json")
    assert call(*words) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert store.load(tmp_path / "run" / "model").config.core.depth == 2
    assert call(*words) == 0
    assert capsys.readouterr().out == ""  # nothing was left to do


def test_embed_writes_a_catalogue_of_the_files(folder, tmp_path):
    store.save(model(patch=8), tmp_path / "m")
    assert call("embed", tmp_path / "m", folder, tmp_path / "out.parquet") == 0
    found = Embedding.load(tmp_path / "out.parquet")
    assert found.object_id.tolist() == [f"g{i:02d}" for i in range(12)]
    assert np.isfinite(found.vectors).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "astropt-nana"), "Try: astropt-nano"),
        (("train", "astropt-nano", "stepz=3"), "Try: steps"),
        (("train", "astropt-nano", "optim.peek=1"), "Try: optim.peak"),
        (("train", "astropt-nano", "steps=many"), "type int"),
        (("train", "astropt-nano"), "omnisky train astropt-nano data="),
        (("embed", "no-such-model", "x", "y"), "omnisky-nano"),
        (("embed", "omnisky-nano", "/no/such/folder", "y"), "/no/such/folder"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_try(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())  # nothing is left behind


def test_recipes_are_listed(capsys):
    assert call("recipes") == 0
    assert {"astropt-nano", "astropt-2100m", "galaxy-cnn"} <= set(capsys.readouterr().out.split())
