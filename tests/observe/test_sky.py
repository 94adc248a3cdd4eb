"""Splits that do not leak: neighbours stay together, and new data moves nobody."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnisky.errors import BadValue
from omnisky.observe.sky import SPLIT_DEPTH, cells, held_out
from omnisky.observe.types import Observation

FRACTIONS = st.floats(0, 1)


def spread(n: int, seed: int = 0) -> Observation:
    """n objects evenly over the sphere."""
    draw = np.random.default_rng(seed)
    return Observation.of(range(n), ra=draw.uniform(0, 360, n), dec=np.degrees(np.arcsin(draw.uniform(-1, 1, n))))


def test_cells_are_those_of_healpix():
    """Order 0 nested: the twelve base pixels; the poles' four each, the equator's in between (Górski et al. 2005)."""
    seen = Observation.of(range(4), ra=[45, 0, 45, 135], dec=[80, 0, -80, 80])
    assert cells(seen, depth=0).tolist() == [0, 4, 8, 1]
    assert cells(spread(1000)).max() < 12 * 4**SPLIT_DEPTH


def test_where_the_position_is_not_known_there_is_no_cell():
    seen = Observation.of(range(3), ra=[10, np.nan, 10], dec=[10, 10, np.nan])
    assert (cells(seen) >= 0).tolist() == [True, False, False]


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_objects_of_one_cell_stay_together(fraction):
    """A thousand objects in some six square degrees, where most cells hold many."""
    seen = spread(1000)
    seen = Observation.of(range(1000), ra=seen.ra / 150, dec=seen.dec / 90)
    cell, away = cells(seen), held_out(seen, fraction)
    groups = [away[cell == one] for one in np.unique(cell)]
    assert 5 < len(groups) < 50
    assert all(group.all() or not group.any() for group in groups)


@settings(max_examples=20)
@given(fraction=FRACTIONS, seed=st.integers(0, 5))
def test_an_objects_side_depends_on_itself_alone(fraction, seed):
    """In another order, or among others, it stays where it was; also where it has no position."""
    for seen in (spread(200), Observation.of(range(200))):
        chosen = np.random.default_rng(seed).permutation(200)[:50]
        assert np.array_equal(held_out(seen.take(chosen), fraction), held_out(seen, fraction)[chosen])


@settings(max_examples=20)
@given(a=FRACTIONS, b=FRACTIONS)
def test_a_larger_share_holds_out_whom_a_smaller_one_does(a, b):
    seen = spread(300)
    small, large = (held_out(seen, f) for f in sorted((a, b)))
    assert not (small & ~large).any()


def test_the_share_is_about_the_one_asked_for():
    """20,000 objects in 49,152 cells, 0.1 held out: standard deviation 0.0025 (some share a cell); 5 σ."""
    assert abs(held_out(spread(20_000), 0.1).mean() - 0.1) < 0.0125
    assert not held_out(spread(100), 0).any()
    assert held_out(spread(100), 1).all()


def test_another_salt_is_another_split():
    seen = spread(500)
    assert not np.array_equal(held_out(seen, 0.5), held_out(seen, 0.5, salt="v2"))


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(fraction):
    with pytest.raises(BadValue, match="want 0 … 1"):
        held_out(spread(3), fraction)
