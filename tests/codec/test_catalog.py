"""The catalogue codec, and the sequence that a transformer reads."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from omnisky.codec import catalog
from omnisky.codec.catalog import CatalogCodec, fitted_catalog, sample_shapes, sequence
from omnisky.codec.tokens import Span
from omnisky.errors import BadValue, MissingModality, ShapeMismatch
from omnisky.model.spans import hide_stretches
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


def test_sentinels_are_counted_as_4m_counts_them():
    """From 1: `simple_span_masking` of apple/ml-4m asks for sentinel 1 first, and sentinel k is id 4 + k."""
    assert (catalog.FIRST_SENTINEL, catalog.OFFSET) == (5, 204)
    whole, room = spans([3]), torch.tensor([0])
    cut = hide_stretches(
        whole.values, whole.there(), (room, room + 9), (catalog.FIRST_SENTINEL, catalog.SENTINELS), None
    )
    assert cut.wanted.ids[0, :4].tolist() == [204, 205, 206, 6] and cut.before.ids[0, 0] == 5
