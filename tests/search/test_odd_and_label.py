"""The odd one out is found whatever its kind, and labels steer what is shown."""

import json

import numpy as np
import pytest

from omnisky import cli
from omnisky.embed import Embedding
from omnisky.errors import BadPixels, BadValue, CorruptFile, MissingModality
from omnisky.search.label import ask, read_labels
from omnisky.search.odd import oddness


def crowd(n: int = 200, width: int = 8, seed: int = 0) -> Embedding:
    """Two clouds; the last three objects lie apart: outside of all, and between both."""
    draw = np.random.default_rng(seed)
    side = np.arange(n) % 2 * 2 - 1
    vectors = draw.normal(0, 0.3, (n, width)) + np.outer(side, np.ones(width)) + 3 * np.eye(width)[0]
    vectors[-3:] = draw.normal(0, 0.3, (3, width)) + 6 * np.array([[-1], [1], [1]]) * np.eye(width)[[0, 1, 5]]
    unknown = np.full(n, np.nan)
    return Embedding(vectors.astype(np.float32), np.array([f"o{i}" for i in range(n)]), unknown, unknown, "s")


def said(folder, *lines):
    file = folder / "labels.csv"
    file.write_text("object_id,label\n" + "\n".join(lines) + "\n")
    return file


def test_those_apart_are_the_oddest():
    found = oddness(crowd())
    assert set(np.argsort(-found)[:3]) == {197, 198, 199}
    assert found.min() >= 0 and found.max() <= 1


def test_few_or_broken_vectors_are_refused():
    with pytest.raises(BadValue, match="10 or more"):
        oddness(crowd().take(slice(9)))
    broken = crowd()
    broken.vectors[3, 3] = np.nan
    with pytest.raises(BadPixels, match="finite"):
        oddness(broken)
    assert np.isfinite(oddness(crowd().take(slice(10)))).all()
    same = crowd().take(np.zeros(20, dtype=int))
    assert not oddness(same).any()  # nobody stands out among equals


def test_more_like_these_not_like_those():
    found = ask(crowd(), {"o1": True, "o3": True, "o0": False, "o2": False}, k=20)
    assert (found.best % 2 == 1).all()
    assert not set(found.best) & {0, 1, 2, 3}
    assert np.abs(found.chance[found.unsure] - 0.5).max() <= np.abs(found.chance[found.best] - 0.5).min()


def test_labels_come_from_a_file(tmp_path):
    assert read_labels(said(tmp_path, "a,Yes", "b,0", "c,", "b,like")) == {"a": True, "b": True}
    with pytest.raises(BadValue, match="perhaps"):
        read_labels(said(tmp_path, "a,perhaps"))
    (tmp_path / "other.csv").write_text("id,label\na,1\n")
    with pytest.raises(CorruptFile, match="object_id and label"):
        read_labels(tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("labels", "k", "wrong", "words"),
    [
        ({"o1": True}, 5, BadValue, "1 wanted, 0 not"),
        ({"o1": True, "nobody": False}, 5, MissingModality, "nobody"),
        ({"o1": True, "o2": False}, 199, BadValue, "1 … 198"),
    ],
)
def test_what_cannot_be_asked_is_refused(labels, k, wrong, words):
    with pytest.raises(wrong, match=words):
        ask(crowd(), labels, k)


def test_the_verbs(tmp_path, capsys):
    file = crowd().save(tmp_path / "e.parquet")
    with pytest.raises(SystemExit) as end:
        cli.main(["odd", str(file), "--k", "3", "--json"])
    assert not end.value.code
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["object_id"] for line in lines} == {"o197", "o198", "o199"}
    labels = said(tmp_path, "o1,1", "o0,0")
    with pytest.raises(SystemExit) as end:
        cli.main(["label", str(file), str(labels), "--k", "4", "--out", str(tmp_path / "next.csv")])
    assert not end.value.code
    assert "o" in capsys.readouterr().out
    lines = (tmp_path / "next.csv").read_text().splitlines()
    assert lines[0] == "object_id,label,chance" and len(lines) == 9
    assert read_labels(tmp_path / "next.csv") == {}  # to be filled in and handed back
