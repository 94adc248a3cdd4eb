"""Hugging Face data sets in memory, row by row and as streams. Needs the extra [hf]."""

from itertools import islice

import numpy as np
import pytest

from omnisky.errors import BadValue, MissingExtra, MissingModality, ObservationError
from omnisky.observe import hf
from omnisky.observe.hf import HfRows, HfStream
from omnisky.observe.loader import Loader
from omnisky.observe.scan import Scan

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


# --- as a Scan ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["rows", "stream"])
def found(images, request):
    if request.param == "rows":
        return HfRows(images, survey="ssl_legacysurvey").scan()
    return HfStream(images.to_iterable_dataset(), survey="ssl_legacysurvey")


def test_both_are_chosen_from_alike(found):
    assert isinstance(found, Scan)
    some = found.between("z", 0.25, 0.8).near(ra=5, dec=-5, radius_deg=3)
    check(some.read())
    assert some.read().object_id.tolist() == ["o3", "o4", "o5", "o6", "o7"]
    assert [name for batch in some.arrow(2) for name in batch["object_id"].to_pylist()] == [
        "o3",
        "o4",
        "o5",
        "o6",
        "o7",
    ]
    with pytest.raises(MissingModality, match="redshift"):
        found.between("redshift", 0, 1).read()


def test_only_the_columns_that_are_needed_are_asked_for(images, monkeypatch):
    asked = []
    real = type(images).select_columns

    def counting(self, names, *more):
        asked.append(sorted(names))
        return real(self, names, *more)

    monkeypatch.setattr(type(images), "select_columns", counting)
    rows = HfRows(images, survey="ssl_legacysurvey", parts=(), columns=("z",))
    assert rows.scan().between("z", 0.25, 0.8).read()["scalars"].names == ("z",)
    assert asked and all("image" not in names for names in asked)
