"""Hugging Face data sets in memory, row by row and as streams. Needs the extra [hf]."""

from itertools import islice

import numpy as np
import pytest

from omnisky.errors import BadValue, MissingExtra, ObservationError
from omnisky.observe import hf
from omnisky.observe.hf import HfRows, HfStream
from omnisky.observe.loader import Loader

N = 12


def test_without_the_package_we_say_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"omnisky\[hf\]"):
        hf.load("anything")


@pytest.fixture
def datasets():
    return pytest.importorskip("datasets")


@pytest.fixture
def images(datasets):
    features = datasets.Features(
        {
            "object_id": datasets.Value("string"),
            "ra": datasets.Value("float64"),
            "dec": datasets.Value("float64"),
            "image": datasets.List(
                {
                    "band": datasets.Value("string"),
                    "flux": datasets.Array2D((4, 4), "float32"),
                }
            ),
            "z": datasets.Value("float32"),
        }
    )
    rows = [
        {
            "object_id": f"o{i}",
            "ra": float(i),
            "dec": -float(i),
            "image": [{"band": b, "flux": np.full((4, 4), i, "float32")} for b in ("DES-G", "DES-R", "DES-Z")],
            "z": i / 10,
        }
        for i in range(N)
    ]
    return datasets.Dataset.from_list(rows, features=features)


def check(seen):
    row = np.array([int(name[1:]) for name in seen.object_id])
    assert (seen["image"].flux == row[:, None, None, None]).all() and seen["image"].bands == ("g", "r", "z")
    assert np.allclose(seen["scalars"]["z"], row / 10) and (seen.ra == row).all()


def test_rows_are_a_source(images):
    rows = HfRows(images, survey="ssl_legacysurvey")
    assert len(rows) == N
    check(rows.take([3, 1]))
    assert rows.take(np.array([3, 1])).object_id.tolist() == ["o3", "o1"]
    for batch in islice(Loader(rows, 4, seed=1), 3):
        check(batch)


def test_streams_come_in_order(images):
    batches = list(HfStream(images.to_iterable_dataset(), survey="ssl_legacysurvey").batches(5))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    for batch in batches:
        check(batch)
    assert [name for batch in batches for name in batch.object_id] == [f"o{i}" for i in range(N)]


def test_measurements_want_a_survey(images):
    with pytest.raises(ObservationError, match="which survey"):
        HfRows(images).take([0])
    with pytest.raises(BadValue, match="survey"):
        HfRows(images, survey="nowhere").take([0])


def test_plain_tables_need_none(datasets):
    table = datasets.Dataset.from_dict(
        {"objid": [2**60, 5], "RAJ2000": [1.0, 2.0], "DEJ2000": [3.0, 4.0], "g": [20.0, 21.0]}
    )
    seen = HfRows(table).take(slice(None))
    assert seen.object_id.tolist() == [str(2**60), "5"] and seen["scalars"]["g"].tolist() == [20.0, 21.0]


def test_a_choice_of_split_is_asked_for(images):
    with pytest.raises(BadValue, match="one split"):
        HfRows({"train": images})
