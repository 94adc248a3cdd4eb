"""The order of the data is a pure function of (seed, epoch), whoever reads it and wherever reading stops."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnisky.errors import BadValue
from omnisky.observe.loader import Bookmark, Loader, random_turns, turn
from omnisky.observe.types import Image, Observation

N = 21
"""with batches of 4: five whole ones and one object left over"""


def sky(n: int = N) -> Observation:
    """Images whose every pixel is different, so that a turn or a wrong row shows."""
    flux = np.arange(n * 9, dtype=np.float32).reshape(n, 1, 3, 3)
    return Observation.of(range(n), image=Image(flux=flux, bands=("r",)))


def loader(**changes) -> Loader:
    return Loader(**({"source": sky(), "batch": 4, "seed": 5, "augment": random_turns} | changes))


def ids(batches) -> list[list[int]]:
    return [seen.object_id.astype(int).tolist() for seen in batches]


def same(a: list[Observation], b: list[Observation]) -> bool:
    """Objects, order and pixels."""
    pairs = list(zip(a, b, strict=True))
    return ids(a) == ids(b) and all(np.array_equal(x["image"].flux, y["image"].flux) for x, y in pairs)


def joined(parts) -> Observation:
    """The shares of one batch, one rank after the other."""
    flux = np.concatenate([part["image"].flux for part in parts])
    return Observation.of(np.concatenate([part.object_id for part in parts]), image=Image(flux=flux, bands=("r",)))


# --- order -------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**63), epoch=st.integers(0, 10**6), n=st.integers(1, 50))
def test_the_order_is_a_permutation_that_seed_and_epoch_decide(seed, epoch, n):
    one, other = (Loader(sky(n), 1, seed=seed, bookmark=Bookmark(3, 0)).order(epoch) for _ in range(2))
    assert np.array_equal(one, other)
    assert sorted(one) == list(range(n))


def test_epochs_and_seeds_differ():
    orders = {tuple(loader(seed=seed).order(epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_an_epoch_hands_out_every_object_once_but_for_what_fills_no_batch():
    batches = ids(islice(loader(), 10))
    for epoch in (batches[:5], batches[5:]):
        assert len({name for batch in epoch for name in batch}) == 20
    left = [set(range(N)) - {name for batch in epoch for name in batch} for epoch in (batches[:5], batches[5:])]
    assert left[0] != left[1]


# --- ranks, workers, bookmarks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_ranks_together_read_the_same_global_batches_turned_alike(ranks):
    whole = list(islice(loader(), 7))
    shares = [list(islice(loader(rank=rank, ranks=ranks), 7)) for rank in range(ranks)]
    assert all(len(share[0]) == 4 // ranks for share in shares)
    assert same([joined(parts) for parts in zip(*shares, strict=True)], whole)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_hand_out_the_same_in_the_same_order(workers):
    assert same(list(islice(loader(workers=workers), 12)), list(islice(loader(), 12)))


@settings(max_examples=20)
@given(
    stop=st.integers(0, 11), before=st.sampled_from([(1, 0), (2, 0), (1, 2)]), after=st.sampled_from([(1, 0), (2, 1)])
)
def test_resuming_anywhere_loses_and_repeats_nothing(stop, before, after):
    """Also with workers that had read ahead, and on another number of ranks."""

    def share(bookmark: Bookmark | None, how: tuple[int, int], count: int) -> list[Observation]:
        ranks, workers = how
        readers = [loader(rank=r, ranks=ranks, workers=workers, bookmark=bookmark) for r in range(ranks)]
        parts = [list(islice(reader, count)) for reader in readers]
        marks.append(readers[0].bookmark)
        return [joined(batch) for batch in zip(*parts, strict=True)]

    marks: list[Bookmark] = []
    first = share(None, before, stop)
    state = marks[0].state()
    rest = share(Bookmark(**state), after, 12 - stop)
    assert same(first + rest, list(islice(loader(), 12)))


def test_a_bookmark_is_plain_numbers():
    reader = loader(workers=2)
    assert reader.bookmark.state() == {"epoch": 0, "batch": 0}
    list(islice(reader, 6))
    assert reader.bookmark.state() == {"epoch": 1, "batch": 1}


def test_a_readers_error_reaches_the_caller():
    class Broken(Observation):
        def take(self, index):
            raise OSError("the disk is gone")

    broken = Broken(*(getattr(sky(), name) for name in ("object_id", "ra", "dec", "parts")))
    for workers in (0, 2):
        with pytest.raises(OSError, match="the disk is gone"):
            next(iter(loader(source=broken, workers=workers)))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"batch": 0}, "1 … 21"),
        ({"batch": 22}, "1 … 21"),
        ({"rank": 2, "ranks": 2}, "rank 2 of 2"),
        ({"ranks": 3}, "divides"),
    ],
)
def test_batches_and_ranks_that_do_not_fit_are_refused(wrong, said):
    with pytest.raises(BadValue, match=said):
        loader(**wrong)


# --- augmentation ------------------------------------------------------------------------------------------------


def test_the_eight_turns_are_the_symmetries_of_the_square():
    part = Image(flux=np.tile(np.arange(9.0).reshape(1, 1, 3, 3), (8, 1, 1, 1)), bands=("r",))
    turned = turn(part, np.arange(8)).flux[:, 0]
    assert len({tuple(one.ravel()) for one in turned}) == 8
    assert all(one[1, 1] == 4 for one in turned)
    assert np.array_equal(turned[0], part.flux[0, 0])
    assert np.array_equal(turned[2], part.flux[0, 0, ::-1, ::-1])
    assert np.array_equal(turned[4], part.flux[0, 0, :, ::-1])


def test_augmenting_leaves_the_source_alone_and_turns_pass_by_pass():
    source = sky()
    before = source["image"].flux.copy()
    batches = list(islice(loader(source=source), 10))
    assert np.array_equal(source["image"].flux, before)
    pixels = {
        name: [b["image"].flux[list(b.object_id).index(name)].tobytes() for b in batches if name in b.object_id]
        for name in source.object_id
    }
    seen_twice = [turns for turns in pixels.values() if len(turns) == 2]
    assert sum(a != b for a, b in seen_twice) > len(seen_twice) / 2  # 7 of 8 pairs differ on average


def test_without_augmentation_rows_come_as_they_are():
    (batch,) = islice(loader(augment=None), 1)
    rows = batch.object_id.astype(int)
    assert np.array_equal(batch["image"].flux, sky()["image"].flux[rows])


def test_absent_images_stay_absent_when_turned():
    present = np.arange(N) % 2 == 0
    source = sky() | {"image": replace(sky()["image"], present=present)}
    (batch,) = islice(loader(source=source), 1)
    assert np.array_equal(batch["image"].present, batch.object_id.astype(int) % 2 == 0)
