"""`omnisky fit` and `omnisky predict` as a user types them."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as Picture
from small import galaxies, model

from omnisky import cli
from omnisky.model import store


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    return int(end.value.code or 0)


@pytest.fixture
def folder(tmp_path):
    """Forty galaxies as PNG files, their labels, and a model."""
    seen = galaxies(40)
    (tmp_path / "galaxies").mkdir()
    for i, flux in enumerate(seen["image"].flux):
        Picture.fromarray(flux.transpose(1, 2, 0)).save(tmp_path / "galaxies" / f"g{i:02d}.png")
    kinds = np.array(["round", "flat"])[seen["scalars"]["class"].astype(int)]
    rows = [f"g{i:02d},{kind},{seen['image'].flux[i].mean() + 0.5}" for i, kind in enumerate(kinds)]
    (tmp_path / "labels.csv").write_text("\n".join(["object_id,kind,light", *rows]) + "\n")
    store.save(model(), tmp_path / "base")
    return tmp_path


def test_fit_then_predict(folder, capsys):
    about = ("--data", folder / "galaxies", "--base", folder / "base", "--cache", folder / "cache", "--json")
    words = ("fit", folder / "labels.csv", "--target", "kind", *about, "--test", "0.25", "--out", folder / "kinds")
    assert call(*words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["objects"] + told["tested on"] == 40 and 0 <= told["accuracy"] <= 1
    assert call("predict", folder / "kinds", folder / "galaxies", "--out", folder / "said.parquet") == 0
    table = pq.read_table(folder / "said.parquet")
    assert table["object_id"].to_pylist() == [f"g{i:02d}" for i in range(40)]
    np.testing.assert_allclose(table["chance_flat"].to_numpy() + table["chance_round"].to_numpy(), 1)
    mixture = ("--adaptation", "mixture", "steps=20", "--test", "0.2", "--calibrate", "0.25")
    mixture = (*mixture, "--coverage", "0.8", "--out", folder / "light")
    assert call("fit", folder / "labels.csv", "--target", "light", *about, *mixture) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["objects"] + told["tested on"] + told["calibrated on"] == 40 and 0 <= told["covered"] <= 1
    assert call("predict", folder / "light", folder / "galaxies", "--out", folder / "said.csv", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(row["q16"] < row["q50"] < row["q84"] for row in rows) and len(rows) == 40
    assert all(row["low"] < row["high"] for row in rows)
    assert (folder / "said.csv").read_text().count("\n") == 41


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target", "colour"), "no such column"),
        (("--target", "kind", "stepz=3", "--adaptation", "mlp"), "Try: steps"),
        (("--target", "kind", "--adaptation", "quantiles"), "decimal numbers"),
        (("--target", "kind", "--base", "no-such-model"), "omnisky-nano"),
        (("--target", "light", "--by", "light"), "no --calibrate"),
    ],
)
def test_a_fit_that_cannot_be_is_refused(folder, words, said, capsys):
    base = () if "--base" in words else ("--base", folder / "base")
    edits = [word for word in words if "=" in word]
    rest = [word for word in words if word not in edits]
    about = ("--data", folder / "galaxies", *base, "--out", folder / "x")
    assert call("fit", folder / "labels.csv", *edits, *about, *rest) == 2
    assert said in capsys.readouterr().err
    assert not (folder / "x").exists()


def test_labels_of_others_are_refused(folder, capsys):
    (folder / "labels.csv").write_text("object_id,kind\ng00,round\ng99,flat\n")
    about = ("--data", folder / "galaxies", "--base", folder / "base", "--out", folder / "x")
    assert call("fit", folder / "labels.csv", "--target", "kind", *about) == 2
    assert "labels of nobody here: g99" in capsys.readouterr().err
    about = ("--out", folder / "answers.txt")
    assert call("predict", folder / "no-such", folder / "galaxies", *about) == 2
    assert "config.json" in capsys.readouterr().err
