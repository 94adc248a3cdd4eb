"""The catalogue codec, and the sequence that a transformer reads: hidden, shown, asked for, and whole again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnisky.codec import catalog
from omnisky.codec.catalog import CatalogCodec, drawn_hidden, fitted_catalog, hide, reveal, sample_shapes, sequence
from omnisky.codec.tokens import Span
from omnisky.errors import BadValue, MissingModality, ShapeMismatch
from omnisky.observe.types import Neighbours, Observation

CODEC = CatalogCodec(levels=torch.linspace(-1, 1, 1024).repeat(3, 1))


def listed(*sources: tuple[float, ...], names=catalog.COLUMNS) -> Observation:
    """One object with these sources: X, Y (in pixels of the cut-out of 160), e1, e2, r."""
    return Observation.of(["a"], neighbours=Neighbours(values=np.array([sources], dtype=np.float64), names=names))


def found(seen: Observation) -> list[list[float]]:
    part = seen["neighbours"]
    return part.values[0, part.good[0]].tolist()


# --- contracts -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def codec(mock_all) -> CatalogCodec:
    return fitted_catalog(sample_shapes([mock_all]))


def test_the_mock_skys_sources_come_back(codec, mock_all):
    """Those in the middle 96 px: positions within half a pixel, shapes within their bin; nearest first."""
    before, after = mock_all["neighbours"], codec.decode(codec.encode(mock_all), like=mock_all)["neighbours"]
    assert after.values.shape == (16, 20, 5) and after.good[:, 0].all()
    for row in range(16):
        x, y = before["X"][row], before["Y"][row]
        inside = before.good[row] & (np.floor(x + 0.5) >= 32) & (np.floor(x + 0.5) < 128)
        inside &= (np.floor(y + 0.5) >= 32) & (np.floor(y + 0.5) < 128)
        order = np.argsort(np.hypot(x - 79.5, y - 79.5)[inside], kind="stable")
        want = np.stack([before[name][row][inside][order] for name in catalog.COLUMNS], axis=1)
        got = after.values[row, after.good[row]]
        assert len(got) == len(want)
        assert np.abs(got[:, :2] - want[:, :2]).max() <= 0.5
        for i, levels in enumerate(codec.levels):
            bins = torch.bucketize(torch.from_numpy(want[:, 2 + i]).float(), levels[:-1])
            assert np.array_equal(got[:, 2 + i].astype(np.float32), levels[bins].numpy())


def test_the_callers_arrays_are_not_changed_and_one_object_is_row_0_of_many(codec, mock_all):
    before = mock_all["neighbours"].values.copy()
    many, one = codec.encode(mock_all)["catalog"], codec.encode(mock_all.take([0]))["catalog"]
    assert np.array_equal(mock_all["neighbours"].values, before, equal_nan=True)
    assert torch.equal(many.values[:1], one.values) and torch.equal(many.there()[:1], one.there())
    assert many.values.shape == (16, 100)


def test_absent_stays_absent(codec, mock_all):
    hidden = mock_all | {"neighbours": replace(mock_all["neighbours"], present=np.arange(16) != 1)}
    span = codec.encode(hidden)["catalog"]
    assert span.there().any(1).tolist() == (np.arange(16) != 1).tolist()
    assert not codec.decode(codec.encode(hidden))["neighbours"].good[1].any()


def test_columns_have_ids_of_their_own():
    span = CODEC.encode(listed((79, 80, -1, 1, 0)))["catalog"]
    assert span.values[0, :5].tolist() == [47, 96 + 48, 192, 1216 + 1023, 2240 + 512]
    assert span.there()[0].tolist() == [True] * 5 + [False] * 95


@pytest.mark.parametrize("x", [31.4, 127.5, -200, np.nan])
def test_sources_beyond_the_middle_are_left_out(x):
    seen = listed((x, 80, 0, 0, 0), (79.5, 79.4, 0, 0, 0), (90, 90, np.nan, 0, 0))
    assert [one[:2] for one in found(CODEC.decode(CODEC.encode(seen)))] == [[80, 79]]


def test_the_twenty_nearest_are_kept():
    far = [(40 + 3 * i, 79.5, 0, 0, 0) for i in range(28)]
    xs = [one[0] for one in found(CODEC.decode(CODEC.encode(listed(*far))))]
    assert len(xs) == 20
    assert np.all(np.diff(np.abs(np.array(xs) - 79.5)) >= 0)


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [-1, 3264, 9999])
def test_ids_outside_the_vocabulary_are_refused(bad):
    tokens = CODEC.encode(listed((80, 80, 0, 0, 0)))
    tokens["catalog"].values[0, 2] = bad
    with pytest.raises(BadValue, match=r"want 0 … 3263"):
        CODEC.decode(tokens)


def test_an_id_in_another_columns_place_makes_no_source():
    tokens = CODEC.encode(listed((80, 80, 0, 0, 0), (90, 90, 0, 0, 0)))
    tokens["catalog"].values[0, 1] = 5
    assert [one[:2] for one in found(CODEC.decode(tokens))] == [[90, 90]]


def test_half_a_source_is_refused():
    with pytest.raises(ShapeMismatch, match="want five a source"):
        CODEC.decode(CODEC.encode(listed((80, 80, 0, 0, 0))).map(lambda t: t[:, :7]))


def test_lists_without_shapes_are_refused():
    with pytest.raises(MissingModality, match="want SHAPE_R"):
        CODEC.encode(listed((80, 80, 0, 0), names=catalog.COLUMNS[:4]))


# --- for the transformer -------------------------------------------------------------------------------------------


def spans(lengths: list[int], width: int = 24) -> Span:
    """Sequences of so many tokens: 204 + 10 · row + place."""
    there = torch.arange(width) < torch.tensor(lengths)[:, None]
    ids = 204 + 100 * torch.arange(len(lengths))[:, None] + torch.arange(width)
    return Span(ids.where(there, 0), torch.arange(width).expand(len(lengths), -1), there)


def words(span: Span, row: int = 0) -> list[int]:
    return span.values[row, span.there()[row]].tolist()


def test_a_sequence_is_ids_moved_up_and_cut(codec, mock_all):
    span = codec.encode(mock_all)["catalog"]
    short, whole = sequence(span), sequence(span, 100)
    assert short.values.shape == (16, 50) and int(short.values[short.there()].min()) >= 204
    assert int(short.values.max()) < 3468 and int(short.values[~short.there()].sum()) == 0
    again = catalog.sources(whole)
    assert torch.equal(again.values, span.values) and torch.equal(again.there(), span.there())
    said = codec.decode(codec.encode(mock_all) | {"catalog": catalog.sources(short)})["neighbours"]
    assert said.good.sum(1).max() <= 10


def test_gaps_are_closed():
    span = spans([6])
    gap = replace(span, present=span.there() & (torch.arange(24) != 2))
    assert words(sequence(replace(gap, values=gap.values - 204), 10)) == [204, 205, 207, 208, 209]


def test_hidden_runs_leave_a_sentinel_and_are_asked_for_after_it():
    hidden = torch.zeros(1, 24, dtype=torch.bool)
    hidden[0, [1, 2, 5]] = True
    shown, asked = hide(spans([6]), hidden)
    assert words(shown) == [204, 5, 207, 208, 6]
    assert words(asked) == [5, 205, 206, 6, 209, 7]


def test_all_hidden_or_none():
    every = torch.ones(1, 24, dtype=torch.bool)
    shown, asked = hide(spans([3]), every)
    assert (words(shown), words(asked)) == ([5], [5, 204, 205, 206, 6])
    shown, asked = hide(spans([3]), ~every)
    assert (words(shown), words(asked)) == ([204, 205, 206], [5])


@given(lengths=st.lists(st.integers(0, 24), min_size=1, max_size=4), seed=st.integers(0, 10_000))
def test_what_was_hidden_can_be_revealed(lengths, seed):
    """And batch neighbours do not matter."""
    span = spans(lengths)
    hidden = torch.rand(span.values.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    shown, asked = hide(span, hidden)
    again = reveal(shown, asked)
    assert [words(again, row) for row in range(len(lengths))] == [words(span, row) for row in range(len(lengths))]
    alone = hide(span.map(lambda t: t[:1]), hidden[:1])
    assert (words(alone[0]), words(alone[1])) == (words(shown), words(asked))


def test_runs_come_in_any_order_and_unknown_ones_are_left_out():
    """As a model may write them: sentinel 2 before 1, and one, 9, that nobody asked for."""
    there = torch.ones(1, 5, dtype=torch.bool)
    place = torch.arange(5)[None]
    shown = Span(torch.tensor([[5, 300, 6, 0, 0]]), place, torch.tensor([[True] * 3 + [False] * 2]))
    asked = Span(torch.tensor([[6, 302, 5, 301, 13]]), place, there)
    assert words(reveal(shown, asked)) == [301, 300, 302]
    asked = Span(torch.tensor([[13, 302, 5, 301, 9]]), place, there)
    assert words(reveal(shown, asked)) == [301, 300]


@given(budget=st.integers(0, 30), seed=st.integers(0, 1000))
def test_what_is_shown_fits_the_budget(budget, seed):
    span = spans([24, 10, 0])
    hidden = drawn_hidden(span, budget, torch.Generator().manual_seed(seed))
    again = drawn_hidden(span, budget, torch.Generator().manual_seed(seed))
    shown, _ = hide(span, hidden)
    assert torch.equal(hidden, again) and not bool((hidden & ~span.there()).any())
    assert int(shown.there().sum(1).max()) <= max(budget, 1)  # 0: nothing but the sentinel of all that is hidden


def test_gaps_are_refused():
    span = spans([6])
    gap = replace(span, present=span.there() & (torch.arange(24) != 2))
    with pytest.raises(BadValue, match=r"want those of catalog\.sequence"):
        hide(gap, gap.there())
