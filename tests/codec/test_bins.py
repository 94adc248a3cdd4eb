"""Bins: the same as torch.bucketize wherever a number may lie; samples: the same however a stream is cut."""

from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnisky.codec.bins import FEW, Bins, Sample, hashed
from omnisky.errors import BadValue, ShapeMismatch

LEVELS = {
    "normal": lambda g: torch.randn(1024, generator=g),
    "fluxes": lambda g: torch.exp(3 * torch.randn(1024, generator=g)),
    "both signs, ten decades": lambda g: torch.randn(1024, generator=g) * torch.exp(6 * torch.randn(1024, generator=g)),
    "far outlier": lambda g: torch.cat([torch.randn(1022, generator=g), torch.tensor([-1e30, 1e30])]),
    "many equal": lambda g: torch.randn(1024, generator=g).clamp(min=-0.5),
    "one value": lambda g: torch.full((1024,), 3.0),
    "zeros": lambda g: torch.randn(1024, generator=g).clamp(min=0.0),
    "minus zeros": lambda g: torch.cat([torch.randn(1000, generator=g), torch.tensor([-0.0, 0.0] * 12)]),
    "two": lambda g: torch.tensor([0.0, 1.0]),
    "grid": lambda g: torch.linspace(0, 6, 1024),
}


@pytest.mark.parametrize("name", LEVELS)
def test_every_number_is_in_the_bin_that_bucketize_finds(name):
    """On levels, beside them, far from them, at infinity; by the table (many) and without it (few)."""
    g = torch.Generator().manual_seed(0)
    levels = LEVELS[name](g).sort().values
    beside = torch.cat([torch.nextafter(levels, torch.full_like(levels, end)) for end in (-torch.inf, torch.inf)])
    special = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, torch.inf, -torch.inf])
    spread = torch.randn(5000, generator=g) * torch.exp(10 * torch.randn(5000, generator=g))
    values = torch.cat([levels, beside, special, spread, levels[:1] + torch.rand(5000, generator=g)])
    assert len(values) > FEW
    assert torch.equal(Bins(levels)(values), torch.bucketize(values, levels[:-1]))
    assert torch.equal(Bins(levels)(values[: FEW - 1]), torch.bucketize(values[: FEW - 1], levels[:-1]))


def test_nan_is_in_some_bin():
    values = torch.full((FEW,), torch.nan)
    for levels in (torch.linspace(-1, 1, 1024), torch.tensor([1e-3, 1.0, 1e9])):
        ids = Bins(levels)(values)
        assert ids.min() >= 0 and ids.max() < len(levels)


# --- samples -------------------------------------------------------------------------------------------------------


def ids(start: int, stop: int) -> np.ndarray:
    return np.array([f"object-{i}" for i in range(start, stop)])


def numbers(start: int, stop: int) -> np.ndarray:
    return np.stack([np.arange(start, stop), -np.arange(start, stop) / 7], axis=1).astype(np.float32)


def equal(a: Sample, b: Sample) -> bool:
    return np.array_equal(a.priority, b.priority) and np.array_equal(a.values, b.values)


@given(cuts=st.lists(st.integers(0, 400), min_size=2, max_size=2))
def test_shards_merge_to_the_same_sample_in_any_order(cuts):
    edges = [0, *sorted(cuts), 400]
    empty = Sample.empty(100, 2)
    shards = [empty.add(ids(a, b), numbers(a, b)) for a, b in pairwise(edges)]
    whole = empty.add(ids(0, 400), numbers(0, 400))
    for order in permutations(shards):
        assert equal(order[0] | order[1] | order[2], whole)
        assert equal(order[0] | (order[1] | order[2]), whole)


def test_small_data_are_kept_whole_and_an_object_seen_twice_counts_once():
    sample = Sample.empty(1000, 2).add(ids(0, 300), numbers(0, 300))
    assert len(sample) == 300 and equal(sample | sample, sample)
    assert sample.levels(3)[0].tolist() == [0, 149.5, 299]


def test_every_object_is_as_likely():
    """Of 4,000 the 1,000 kept are spread evenly over the stream: 250 ± 3 √(250 · 3/4) in each quarter."""
    kept = Sample.empty(1000, 2).add(ids(0, 4000), numbers(0, 4000)).values[:, 0]
    assert np.abs(np.histogram(kept, bins=4, range=(0, 4000))[0] - 250).max() < 42


def test_a_hash_does_not_depend_on_how_wide_the_strings_are():
    wide = np.array(["7", "object-1", ""]).astype("<U64")
    assert np.array_equal(hashed(wide), hashed(np.array(["7", "object-1", ""])))
    assert len(set(hashed(ids(0, 10_000)).tolist())) == 10_000
    assert len(set(hashed(np.array(["ab", "ba", "a", "b", ""])).tolist())) == 5


def test_what_was_not_measured_is_not_drawn():
    values = numbers(0, 10)
    values[3, 1] = np.nan
    assert len(Sample.empty(100, 2).add(ids(0, 10), values)) == 9


def test_samples_that_do_not_fit_are_refused(unchecked):
    sample = Sample.empty(100, 2)
    with pytest.raises(ShapeMismatch, match="saw \\(10, 1\\)"):
        sample.add(ids(0, 10), numbers(0, 10)[:, :1])
    with pytest.raises(BadValue, match="want size 100"):
        _ = sample | Sample.empty(50, 2)
    with pytest.raises(BadValue, match="saw 0 objects"):
        sample.levels()
    with pytest.raises(BadValue, match="want 2 or more"):
        Sample.empty(1, 2)
