"""Sources in proportions: the order is a pure function of (seed, epoch), sources are read evenly, rows stay whole."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnisky.errors import BadValue, ShapeMismatch
from omnisky.observe.loader import Bookmark, Loader
from omnisky.observe.mix import Mix, Renamed
from omnisky.observe.types import Image, Labels, LightCurve, Observation, Scalars, Spectrum


def sky(n: int, name: str, **more) -> Observation:
    flux = np.tile(np.arange(n, dtype=np.float32)[:, None, None, None], (1, 1, 2, 2))
    words = Labels(columns={"from": np.array([name] * n)})
    return Observation.of([f"{name}{i}" for i in range(n)], image=Image(flux=flux, bands=("r",)), labels=words, **more)


def pair() -> list[Observation]:
    return [sky(7, "a"), sky(20, "b")]


def ids(batches) -> list[list[str]]:
    return [seen.object_id.tolist() for seen in batches]


@given(seed=st.integers(0, 2**40), epoch=st.integers(0, 10**6))
def test_the_order_is_a_pure_function_of_seed_and_epoch(seed, epoch):
    one, other = (Mix(pair(), weights=[1, 2], epoch_length=12).order(seed, epoch) for _ in range(2))
    assert np.array_equal(one, other)
    assert ((one < 7).sum(), (one >= 7).sum()) == (4, 8)


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3), length=st.integers(3, 40), epochs=st.integers(1, 6))
def test_a_source_is_read_to_its_end_before_any_row_comes_again(sizes, length, epochs):
    mix = Mix([sky(n, "x") for n in sizes], weights=[1.0] * len(sizes), epoch_length=length)
    rows = np.concatenate([mix.order(5, epoch) for epoch in range(epochs)])
    counts = np.bincount(rows, minlength=len(mix))
    for i in range(len(sizes)):
        mine = counts[mix.starts[i] : mix.starts[i + 1]]
        assert mine.max() - mine.min() <= 1
        assert mine.sum() == epochs * mix.shares[i]


def test_without_weights_a_pass_reads_every_object_once():
    assert sorted(Mix(pair()).order(0, 3)) == list(range(27))


def test_shares_follow_the_weights():
    assert Mix(pair(), weights=[0.3, 0.7], epoch_length=10).shares == [3, 7]
    assert sum(Mix(pair(), weights=[1, 2], epoch_length=100).shares) == 100


def test_rows_are_whole_and_in_the_order_asked_for():
    seen = Mix(pair()).take(np.array([26, 0, 8, 6]))
    assert seen.object_id.tolist() == ["b19", "a0", "b1", "a6"]
    assert seen["image"].flux[:, 0, 0, 0].tolist() == [19, 0, 1, 6]
    assert seen["labels"]["from"].tolist() == ["b", "a", "b", "a"]


def mixed(**changes) -> Loader:
    source = Mix(pair(), weights=[1, 3], epoch_length=24)
    return Loader(**({"source": source, "batch": 4, "seed": 9} | changes))


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_global_batches(ranks):
    whole = ids(islice(mixed(), 8))
    shares = [ids(islice(mixed(rank=rank, ranks=ranks), 8)) for rank in range(ranks)]
    assert [[name for part in parts for name in part] for parts in zip(*shares, strict=True)] == whole


@settings(max_examples=15)
@given(stop=st.integers(0, 13), workers=st.sampled_from([0, 2]))
def test_resuming_anywhere_loses_and_repeats_nothing(stop, workers):
    first = mixed(workers=workers)
    begun = ids(islice(first, stop))
    rest = ids(islice(mixed(bookmark=Bookmark(**first.bookmark.state())), 14 - stop))
    assert begun + rest == ids(islice(mixed(), 14))


def test_an_epoch_has_as_many_batches_as_asked_for():
    assert mixed().batches == 6
    with pytest.raises(BadValue, match="1 … 24"):
        mixed(batch=25)


def test_what_a_source_lacks_is_absent():
    scalars = Scalars(values=np.arange(20.0)[:, None], names=("z",))
    seen = Mix([sky(7, "a"), sky(20, "b", scalars=scalars)]).take([8, 0])
    assert seen["scalars"].there().tolist() == [True, False]
    assert seen["scalars"]["z"][0] == 1 and np.isnan(seen["scalars"]["z"][1])


def test_spectra_of_different_lengths_are_padded():
    def spectra(n, length):
        wave = np.tile(np.arange(float(length)), (n, 1))
        return Observation.of(range(n), spectrum=Spectrum(flux=wave + 1, wavelength_aa=wave))

    part = Mix([spectra(2, 3), spectra(2, 5)]).take([0, 2])["spectrum"]
    assert part.good.sum(axis=1).tolist() == [3, 5]
    assert part.flux[0, :3].tolist() == [1, 2, 3] and np.isnan(part.flux[0, 3:]).all()


@pytest.mark.parametrize("change", [{"bands": ("g",)}, {"flux": np.zeros((20, 1, 3, 3), dtype=np.float32)}])
def test_surveys_that_measure_otherwise_want_other_names(change):
    other = sky(20, "b")
    other = other | {"image": replace(other["image"], **change)}
    with pytest.raises(ShapeMismatch, match="image"):
        Mix([sky(7, "a"), other]).take([0, 10])
    both = Mix([sky(7, "a"), Renamed(other, {"image": "image_hsc"})]).take([0, 10])
    assert both["image"].there().tolist() == [True, False]
    assert both["image_hsc"].there().tolist() == [False, True]


def test_light_curves_mix_too():
    def curves(n, length):
        time = np.tile(np.arange(float(length)), (n, 1))
        curve = LightCurve(flux=time, time_mjd=time, band=np.zeros((n, length), dtype=int), bands=("r",))
        return Observation.of(range(n), lightcurve=curve)

    seen = Mix([curves(2, 2), curves(2, 4)]).take([3, 1])
    assert seen["lightcurve"].good.sum(axis=1).tolist() == [4, 2]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sources": []}, "sources with objects"),
        ({"weights": [1]}, "2 positive"),
        ({"weights": [1, 0]}, "2 positive"),
        ({"weights": [1, float("nan")]}, "2 positive"),
        ({"weights": [1, 1000], "epoch_length": 10}, "at least one"),
    ],
)
def test_weights_that_make_no_mix_are_refused(wrong, said):
    with pytest.raises(BadValue, match=said):
        Mix(**({"sources": pair()} | wrong))
