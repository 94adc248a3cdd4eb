"""Scalar codecs: contracts for every modality that is a number, what better options save, and bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnisky.codec.modalities import DOMAINS, PLACE
from omnisky.codec.scalar import (
    PARALLAX_SOFTENING_MAS,
    Log,
    Plain,
    ScalarCodec,
    ScalarPlan,
    ScaledAsinh,
    Turned,
    TwiceAsinh,
    centred,
    fitted,
    merged,
    plan,
    redshift_grid,
    sample,
    widest_gap,
)
from omnisky.errors import BadValue, MissingModality, ShapeMismatch
from omnisky.observe.types import Observation, Scalars

NUMBERS = {key: domain for key, domain in DOMAINS.items() if domain.codec.endswith("Scalar")}
SQUEEZES = (Plain(), Log(), TwiceAsinh(), ScaledAsinh(softening=0.1), Turned(cut_deg=300.0))


def column(values, name: str = "x", **more) -> Observation:
    values = np.asarray(values, dtype=np.float64)[:, None]
    return Observation.of(range(len(values)), scalars=Scalars(values=values, names=(name,), **more))


def codec_of(values, squeeze=None, levels: int = 1024) -> ScalarCodec:
    one = ScalarPlan(name="n", part="scalars", columns=("x",), squeeze=squeeze or Plain())
    return fitted([one], sample([one], [column(values)]), levels)[0]


def ids(codec: ScalarCodec, values) -> list[int]:
    return codec.encode(column(values))["n"].values[:, 0].tolist()


def there_and_back(codec: ScalarCodec, values) -> np.ndarray:
    return codec.decode(codec.encode(column(values)))["scalars"].values[:, 0]


DRAWS = np.random.default_rng(0)


# --- all modalities on the mock sky --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def codecs(mock_all) -> dict[str, ScalarCodec]:
    plans = [plan(domain) for domain in NUMBERS.values()]
    made = {codec.name: codec for codec in fitted(plans, sample(plans, [mock_all]))}
    return made | {"tok_z": replace(made["tok_z"], levels=redshift_grid(), kept=None)}


def measured(codec: ScalarCodec, seen: Observation) -> np.ndarray:
    return codec.plan.read(seen).T.numpy()


@pytest.mark.parametrize("key", NUMBERS)
def test_a_round_trip_stays_within_the_bin(key, codecs, mock_all):
    """As published the upper edge; of what is below the floor of the logarithm, the floor."""
    for codec in (codecs[key], centred(codecs[key])):
        squeeze = codec.plan.squeeze
        before = squeeze.forward(codec.plan.read(mock_all))
        after = squeeze.forward(codec.plan.read(codec.decode(codec.encode(mock_all), like=mock_all)))
        assert torch.equal(after.isnan(), before.isnan())
        bins = codec.ids(codec.plan.read(mock_all))
        upper = codec.levels.gather(1, bins)
        width = upper - codec.levels.gather(1, (bins - 1).clamp(min=0))
        allowed = width / 2 if codec.says is not None else width
        error = (after - before).abs().nan_to_num()
        assert bool((error <= allowed * 1.001 + 2e-6 * upper.abs() + 1e-6).all())


@pytest.mark.parametrize("key", NUMBERS)
def test_the_callers_arrays_are_not_changed_and_one_object_is_row_0_of_many(key, codecs, mock_all):
    codec = codecs[key]
    before = measured(codec, mock_all).copy()
    many = codec.encode(mock_all)[key]
    one = codec.encode(mock_all.take([0]))[key]
    many.values.clone().mul_(0)
    assert np.array_equal(measured(codec, mock_all), before, equal_nan=True)
    assert torch.equal(many.values[:1], one.values) and torch.equal(many.there()[:1], one.there())
    assert many.values.shape == (16, DOMAINS[key].tokens)
    assert many.values.min() >= 0 and many.values.max() < DOMAINS[key].vocabulary


@pytest.mark.parametrize("key", [key for key in NUMBERS if DOMAINS[key].part != PLACE])
def test_absent_stays_absent(key, codecs, mock_all):
    """By `present` or by NaN, whatever lies there; nobody else's token changes."""
    codec, part = codecs[key], mock_all[DOMAINS[key].part]
    there = np.arange(16) != 1
    hidden = mock_all | {DOMAINS[key].part: replace(part, present=part.there() & there)}
    span, whole = codec.encode(hidden)[key], codec.encode(mock_all)[key]
    assert not span.there()[1].any() and torch.equal(span.there()[there], whole.there()[there])
    assert torch.equal(span.values[there], whole.values[there])
    assert np.isnan(codec.decode(codec.encode(hidden))[DOMAINS[key].part].values[1]).all()


def test_places_are_the_observations_own(codecs, mock_all):
    seen = codecs["tok_ra"].decode(codecs["tok_ra"].encode(mock_all), like=mock_all)
    assert np.abs(seen.ra - mock_all.ra).max() < np.ptp(mock_all.ra)
    unknown = replace(mock_all, ra=np.where(np.arange(16) == 3, np.nan, mock_all.ra))
    assert codecs["tok_ra"].encode(unknown)["tok_ra"].there()[:, 0].tolist() == (np.arange(16) != 3).tolist()


# --- as published, and better --------------------------------------------------------------------------------------


def test_a_number_is_in_the_first_bin_whose_level_is_not_below_it():
    codec = replace(codec_of([0.0, 1.0]), levels=torch.tensor([[0.0, 1.0, 2.0, 4.0]]), kept=None)
    assert ids(codec, [-9, 0, 0.5, 1, 1.01, 2, 3, 4, 9]) == [0, 0, 1, 1, 2, 2, 3, 3, 3]
    assert there_and_back(codec, [-9, 0.5, 3, 9]).tolist() == [0, 1, 4, 4]
    assert there_and_back(centred(codec), [-9, 0.5, 3, 9]).tolist() == [0, 0.5, 3, 3]


def test_decoding_to_the_middle_takes_the_bias_away_and_halves_the_error():
    values = DRAWS.normal(size=20_000)
    codec = codec_of(values, levels=64)
    upper, middle = (there_and_back(one, values) - values for one in (codec, centred(codec)))
    assert upper.mean() > 0.03 and abs(middle.mean()) < 0.002
    inside = np.abs(values) < 2  # the outermost bins have no width to speak of
    assert np.abs(middle[inside]).mean() < 0.55 * np.abs(upper[inside]).mean()


@pytest.mark.parametrize("squeeze", [Plain(), Log(), TwiceAsinh(), ScaledAsinh(softening=0.1)])
def test_nothing_need_be_squeezed_to_find_its_bin(squeeze):
    """The bins are those of squeezed numbers all the same, on both sides of every edge too; for few and for many."""
    g = torch.Generator().manual_seed(0)
    drawn = torch.randn(4000, generator=g) * torch.exp(3 * torch.randn(4000, generator=g))
    levels = squeeze.forward(drawn[:1024]).sort().values
    codec = ScalarCodec(plan=ScalarPlan(name="x", part="x", squeeze=squeeze), levels=levels[None])
    tops = codec._tops[0]
    beside = torch.cat([torch.nextafter(tops, torch.full_like(tops, end)) for end in (-torch.inf, torch.inf)])
    for numbers in (torch.cat([drawn, tops, beside]), beside[:100]):
        want = torch.bucketize(squeeze.forward(numbers), levels[:-1])
        assert torch.equal(codec.ids(numbers[None])[0], want)


def test_what_lies_beyond_the_levels_is_in_the_last_bin_on_its_side():
    codec = codec_of(DRAWS.normal(size=500))
    assert ids(codec, [-np.inf, -1e30, 1e30, np.inf, 1e300, -1e300]) == [0, 0, 1023, 1023, 1023, 0]


def test_negative_parallaxes_are_lost_as_published_and_kept_otherwise():
    parallax = DRAWS.normal(0.0, 0.3, 4000)
    published, ours = codec_of(parallax, Log()), codec_of(parallax, ScaledAsinh(softening=PARALLAX_SOFTENING_MAS))
    assert set(ids(published, parallax[parallax < 0])) == {0}
    assert len(set(ids(ours, parallax[parallax < 0]))) > 400
    assert np.abs(there_and_back(centred(ours), parallax) - parallax).max() < 0.2
    assert np.abs(there_and_back(published, parallax) - parallax).max() > 0.5


def test_right_ascension_goes_round():
    """A strip across 0: as published its halves are at the two ends, and −10° is taken as 0°."""
    ra = np.mod(DRAWS.uniform(-30, 30, 4000), 360)
    cut = widest_gap(ra)
    assert 170 < cut < 190
    published, ours = codec_of(ra), codec_of(ra, Turned(cut_deg=cut))
    east, west = ids(ours, [0.1]) + ids(ours, [359.9])
    assert abs(east - west) < 10 and abs(ids(published, [0.1])[0] - ids(published, [359.9])[0]) > 900
    assert ids(ours, [-10.0]) == ids(ours, [350.0]) and ids(published, [-10.0]) == [0]
    apart = np.mod(there_and_back(ours, ra) - ra + 180, 360) - 180
    assert np.abs(apart).max() < 1


def test_the_widest_gap():
    assert widest_gap(np.array([350.0, 10.0, 20.0])) == pytest.approx(185)
    assert widest_gap(np.array([100.0, np.nan])) == pytest.approx(280)
    assert widest_gap(np.array([np.nan])) == 0


@pytest.mark.parametrize("squeeze", SQUEEZES, ids=lambda s: type(s).__name__)
@given(value=st.floats(0.125, 359.875, width=32))
def test_squeezes_can_be_undone(squeeze, value):
    x = torch.tensor([value])
    assert torch.allclose(squeeze.inverse(squeeze.forward(x)), x, rtol=1e-5, atol=1e-4)


# --- from data -----------------------------------------------------------------------------------------------------


def test_every_id_is_used_equally_often():
    values = DRAWS.lognormal(size=50_000)
    used = np.bincount(ids(codec_of(values, Log()), values), minlength=1024)
    middle = used[100:1000]  # below exp(−3) all are one
    assert np.abs(middle - 49).max() <= 2


def test_shards_fitted_apart_are_the_whole_fitted_at_once(mock_all):
    plans = [plan(DOMAINS[key]) for key in ("tok_flux_g", "tok_xp_bp", "tok_ra")]
    whole = fitted(plans, sample(plans, [mock_all], size=10))
    shards = [sample(plans, [mock_all.take(rows)], size=10) for rows in (slice(0, 7), slice(7, 8), slice(8, 16))]
    for order in (shards, shards[::-1]):
        for one, other in zip(whole, fitted(plans, merged(*order)), strict=True):
            assert torch.equal(one.levels, other.levels) and torch.equal(one.kept, other.kept)


def test_one_pass_passes_over_what_a_batch_lacks(mock_all):
    plans = [plan(DOMAINS["tok_flux_g"]), plan(DOMAINS["tok_ebv"])]
    drawn = sample(plans, [mock_all, Observation.of("ab"), column([1.0, 2.0], "EBV")])
    assert (len(drawn["tok_flux_g"]), len(drawn["tok_ebv"])) == (16, 18)
    with pytest.raises(MissingModality, match="want tok_z"):
        fitted([plan(DOMAINS["tok_z"])], drawn)


def test_long_streams_are_sampled():
    one = ScalarPlan(name="n", part="scalars", columns=("x",))
    batches = (column(np.arange(a, a + 500), units=("mag",)) for a in range(0, 20_000, 500))
    named = (replace(b, object_id=np.array([f"{v:g}" for v in b["scalars"].values[:, 0]])) for b in batches)
    drawn = sample([one], named, size=2000)["n"]
    assert len(drawn) == 2000
    assert np.abs(drawn.levels(5)[0].numpy() - np.linspace(0, 20_000, 5)).max() < 900


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [-1, 4, 1025])
def test_ids_that_no_bin_has_are_refused(bad):
    codec = replace(codec_of([0.0, 1.0]), levels=torch.tensor([[0.0, 1.0, 2.0, 4.0]]), kept=None)
    tokens = codec.encode(column([1.0, 2.0]))
    tokens["n"].values[1] = bad
    with pytest.raises(BadValue, match=rf"ids of n. saw .*{bad}.*; want 0 … 3"):
        codec.decode(tokens)


def test_an_absent_id_may_be_anything():
    codec = codec_of([0.0, 1.0])
    tokens = codec.encode(column([1.0, np.nan]))
    tokens["n"].values[1] = 9999
    assert np.isnan(codec.decode(tokens)["scalars"].values[1, 0])


def test_other_columns_are_refused_by_name(unchecked):
    codec = codec_of([0.0, 1.0])
    with pytest.raises(MissingModality, match="saw y; want x"):
        codec.encode(column([1.0], "y"))
    xp = replace(codec, plan=ScalarPlan(name="xp", part="scalars"), levels=codec.levels.repeat(55, 1), kept=None)
    with pytest.raises(ShapeMismatch, match="saw 1 columns; want 55"):
        xp.encode(column([1.0]))
    with pytest.raises(ShapeMismatch, match="want 55 ids"):
        xp.decode(codec.encode(column([1.0])).map(lambda t: t) | {"xp": codec.encode(column([1.0]))["n"]})


def test_levels_must_rise():
    with pytest.raises(BadValue, match="not rising"):
        replace(codec_of([0.0, 1.0]), levels=torch.tensor([[1.0, 0.0]]))
    with pytest.raises(BadValue, match="not rising"):
        replace(codec_of([0.0, 1.0]), levels=torch.tensor([[0.0, torch.nan]]))


def test_what_is_no_number_has_no_plan():
    with pytest.raises(BadValue, match="a codec of kind Image"):
        plan(DOMAINS["tok_image"])
