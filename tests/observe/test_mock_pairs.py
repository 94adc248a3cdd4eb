"""Pairs of the mock sky as shards: what is trimmed, and that a killed run goes on."""

import numpy as np
import pytest

from omnisky.errors import BadValue
from omnisky.observe.mock import MockSky
from omnisky.observe.mock.pairs import BRIGHT, SIDE_PX, _make, trimmed, write_pairs

pytest.importorskip("galsim")
pytest.importorskip("speclite")


def test_pairs_are_the_middle_of_what_the_sky_shows(tmp_path, unchecked):  # checks would ask for pieces, too
    counted = []
    shards = write_pairs(tmp_path / "sky", 5, workers=1, watch=lambda done, total: counted.append((done, total)))
    assert counted == [(5, 5)]
    seen = shards.take(slice(None))
    whole = MockSky(objects=5, population=BRIGHT).take([int(name[-8:]) for name in seen.object_id])
    assert set(seen.parts) == {"image", "spectrum", "scalars", "truth"}
    assert seen["image"].bands == ("g", "r", "z") and seen["image"].flux.shape == (5, 3, SIDE_PX, SIDE_PX)
    assert np.array_equal(seen["image"].flux, whole["image"].flux[:, [0, 1, 3], 24:-24, 24:-24])
    assert np.array_equal(seen["spectrum"].flux, whole["spectrum"].flux)
    assert np.array_equal(seen["truth"]["redshift"], whole["truth"]["redshift"])
    assert np.array_equal(trimmed(whole)["image"].flux, seen["image"].flux)
    write_pairs(tmp_path / "sky", 5, workers=1, watch=lambda *_: pytest.fail("made again"))


def test_the_last_piece_is_shorter():
    assert len(_make(MockSky(objects=66, population=BRIGHT), 64, trimmed)) == 2


def test_no_workers_is_refused(tmp_path):
    with pytest.raises(BadValue, match="workers"):
        write_pairs(tmp_path / "sky", 5, workers=0)
