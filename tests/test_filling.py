"""Filling in and posteriors: n asked, n given; seeds decide; several draws; filters; guidance; arithmetic."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from omnisky.codec.tokens import Span, Tokens
from omnisky.errors import BadValue, MissingModality, ShapeMismatch
from omnisky.generate import MaskGit, Posterior, Roar, fill, posterior, posteriors
from omnisky.generate.filling import narrowed
from omnisky.model.any_to_any import FIRST_SENTINEL, SENTINELS, Vocabulary
from omnisky.model.masked import AnyToAny, AnyToAnyConfig, gated

WORDS = FIRST_SENTINEL + SENTINELS
VOCABULARIES = (
    Vocabulary(name="image", size=30, grid=(4, 4)),
    Vocabulary(name="spectrum", size=20, grid=(7, 1)),
    Vocabulary(name="tok_z", size=11),
    Vocabulary(name="tok_mag", size=10),
    Vocabulary(name="catalog", size=WORDS + 20, longest=12),
)


@pytest.fixture(scope="module")
def model() -> AnyToAny:
    return AnyToAnyConfig(core=gated(2, 16, 2), decoder_depth=2, vocabularies=VOCABULARIES).build(0).eval()


def image(n: int = 3) -> Tokens:
    ids = torch.randint(30, (n, 16), generator=torch.Generator().manual_seed(1))
    return Tokens({"image": Span(ids, torch.arange(16).expand(n, -1))})


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


WAYS = (Roar(steps=3), Roar(steps=50), MaskGit(steps=3), MaskGit(steps=1), Roar(temperature=0))


@pytest.mark.parametrize("how", WAYS, ids=repr)
def test_all_tokens_are_told(model, how):
    said = fill(model, image(), ("spectrum", "tok_z"), how, generator=draw())
    assert said["spectrum"].values.shape == (3, 7) and said["tok_z"].values.shape == (3, 1)
    assert int(said["spectrum"].values.min()) >= 0 and int(said["spectrum"].values.max()) < 20
    assert torch.equal(said["image"].values, image()["image"].values)


def test_the_seed_decides(model):
    one, two, other = (fill(model, image(), ("spectrum",), Roar(steps=3), generator=draw(s)) for s in (1, 1, 2))
    assert torch.equal(one["spectrum"].values, two["spectrum"].values)
    assert not torch.equal(one["spectrum"].values, other["spectrum"].values)


def test_several_draws_of_each_object(model):
    said = fill(model, image(2), ("tok_z",), Roar(steps=1), draws=200, generator=draw())
    assert said.objects == 400 and torch.equal(said["image"].values[0], said["image"].values[199])
    with torch.no_grad():
        chance = model.predict(image(2), ("tok_z",))["tok_z"].softmax(-1)[:, 0]
    for row in range(2):
        drawn = said["tok_z"].values[200 * row : 200 * (row + 1), 0].bincount(minlength=11) / 200
        error = (chance[row] * (1 - chance[row]) / 200).max().sqrt()
        assert float((drawn - chance[row]).abs().max()) < 5 * float(error)


def test_a_chain_reads_what_it_told(model):
    """The second target is told as if the first had been given."""
    said = fill(model, image(), ("spectrum", "tok_z"), Roar(steps=2, temperature=0), generator=draw())
    given = image() | {"spectrum": said["spectrum"]}
    with torch.no_grad():
        want = model.predict(given, ("tok_z",))["tok_z"].argmax(-1)
    assert torch.equal(said["tok_z"].values, want)


def test_a_way_for_each_target(model):
    said = fill(model, image(), ("spectrum", "tok_z"), (MaskGit(steps=2), Roar(steps=1)), generator=draw())
    assert said["tok_z"].values.shape == (3, 1)


def test_guidance_of_one_changes_nothing_and_more_does(model):
    def told(guidance, names):
        how = Roar(steps=3, guidance=guidance)
        return fill(model, image(), ("spectrum",), how, guided=names, generator=draw())["spectrum"].values

    plain, one, three = told(1.0, ()), told(1.0, ("image",)), told(30.0, ("image",))
    assert torch.equal(plain, one) and not torch.equal(plain, three)


def test_guidance_without_some_of_the_inputs(model):
    given = image() | {"tok_mag": Span(torch.zeros(3, 1, dtype=torch.long), torch.zeros(3, 1, dtype=torch.long))}
    said = fill(model, given, ("spectrum",), Roar(steps=3, guidance=2.0), guided=("image",), generator=draw())
    assert said["spectrum"].values.shape == (3, 7)


def test_a_sequence_ends_by_itself(model):
    said = fill(model, image(8), ("catalog",), Roar(), generator=draw())["catalog"]
    ids, there = said.values, said.there()
    assert ids.shape[1] <= 12 and bool((ids[there] >= WORDS).all())
    assert not bool((there[:, 1:] & ~there[:, :-1]).any())


def test_a_sequence_is_told_as_the_model_says_without_a_cache(model):
    said = fill(model, image(4), ("catalog",), Roar(temperature=0), generator=draw())["catalog"]
    told = torch.cat([torch.full((4, 1), FIRST_SENTINEL), said.values[:, :-1]], 1)
    rows = Tokens({"catalog": Span(told, torch.arange(told.shape[1]).expand(told.shape))})
    with torch.no_grad():
        logits = model.predict(image(4), ("catalog",), told=rows)["catalog"]
    allowed = torch.cat([torch.tensor([FIRST_SENTINEL + 1]), torch.arange(WORDS, WORDS + 20)])
    best = allowed[logits[..., allowed].argmax(-1)]
    assert torch.equal(best[said.there()], said.values[said.there()])


def test_cooling():
    assert Roar(temperature=2.0, cools=True).warmth(5, 10) == pytest.approx(1.0)
    assert Roar(temperature=2.0).warmth(5, 10) == 2.0


@pytest.mark.parametrize("how", [Roar(steps=8), MaskGit(steps=6), MaskGit(steps=300), Roar(steps=1)])
@pytest.mark.parametrize("whole", [1, 7, 273, 576])
def test_steps_add_up(how, whole):
    assert sum(how.counts(whole)) == whole and min(how.counts(whole)) > 0


def test_filters():
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    assert narrowed(logits, 2, 0.0).isinf().tolist() == [[True, True, False, False]]
    assert narrowed(logits, 0, 0.5).isinf().tolist() == [[True, True, True, False]]
    assert narrowed(logits, 0, 0.7).isinf().tolist() == [[True, True, False, False]]
    assert narrowed(logits, 9, 1.0).isinf().sum() == 0


@pytest.mark.parametrize(
    ("targets", "more", "error"),
    [
        (("image",), {}, BadValue),
        (("spektrum",), {}, MissingModality),
        (("spectrum",), {"draws": 0}, BadValue),
        (("spectrum",), {"guided": ("tok_mag",)}, MissingModality),
        (("spectrum",), {"how": (Roar(), Roar())}, BadValue),
    ],
)
def test_what_is_refused(model, targets, more, error):
    with pytest.raises(error):
        fill(model, image(), targets, **more)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"temperature": -1.0}, {"top_p": 2.0}, {"top_k": -1}])
def test_absurd_ways(wrong):
    with pytest.raises(BadValue):
        Roar(**wrong)


# --- posteriors --------------------------------------------------------------------------------------------------

BINS = SimpleNamespace(name="tok_z", edges=torch.linspace(0, 5, 10)[None], unit="")


def gaussian(n: int = 4, bins: int = 600) -> Posterior:
    edges = np.linspace(-6, 6, bins + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    chance = np.exp(-0.5 * (centres[None] - np.linspace(-1, 1, n)[:, None]) ** 2)
    return Posterior(chance / chance.sum(1, keepdims=True), edges)


def test_a_gaussian_has_its_numbers():
    told, at = gaussian(), np.linspace(-1, 1, 4)
    for said in (told.mean(), told.quantile(0.5), told.mode()):
        assert np.allclose(said, at, atol=0.03)
    assert np.allclose(told.std(), 1, atol=0.01)
    low, high = told.interval(0.6827).T
    assert np.allclose(low, at - 1, atol=0.02) and np.allclose(high, at + 1, atol=0.02)
    assert np.allclose(told.below(at), 0.5, atol=0.01)
    assert np.allclose((told.pdf * np.diff(told.edges)).sum(1), 1)
    drawn = told.sample(4000, np.random.default_rng(0))
    assert drawn.shape == (4, 4000) and np.allclose(drawn.mean(1), at, atol=0.08)
    assert np.allclose(told.take([1]).mean(), told.mean()[1])


def test_bins_without_width_count_to_the_next():
    told = Posterior(np.array([[0.2, 0.3, 0.1, 0.4]]), np.array([0.0, 0.0, 1.0, 1.0, 3.0]))
    assert np.allclose(told.pdf, [[0, 0.5, 0, 0.25]])
    assert np.isclose((told.pdf * np.diff(told.edges)).sum(), 1)
    assert told.quantile([0.0, 1.0]).tolist() == [[0.0, 3.0]]


def test_the_models_posterior_is_its_softmax(model):
    with torch.no_grad():
        logits = model.predict(image(), ("tok_z",))["tok_z"][:, 0, :10].double()
    said = posterior(model, image(), "z", bins=BINS, batch=2)
    assert len(said) == 3 and said.name == "tok_z"
    assert np.allclose(said.chance, logits.softmax(-1).numpy(), atol=1e-6)
    warm = posterior(model, image(), "tok_z", bins=BINS, temperature=2.0)
    assert np.allclose(warm.chance, (logits / 2).softmax(-1).numpy(), atol=1e-6)
    mag = SimpleNamespace(name="tok_mag", edges=torch.linspace(10, 20, 10)[None], unit="mag")
    both = posteriors(model, image(), ("z", "mag"), bins=(BINS, mag))
    assert np.allclose(both[0].chance, said.chance, atol=1e-6)
    assert 10 <= both[1].mean().min() <= both[1].mean().max() <= 20


def test_posteriors_that_cannot_be(model):
    for name, error in (("age", MissingModality), ("spectrum", BadValue)):
        with pytest.raises(error):
            posterior(model, image(), name, bins=BINS)
    with pytest.raises(MissingModality, match="bins"):
        posterior(model, image(), "mag")
    with pytest.raises(BadValue, match="also an input"):
        z = Span(torch.zeros(3, 1, dtype=torch.long), torch.zeros(3, 1, dtype=torch.long))
        posterior(model, image() | {"tok_z": z}, "z", bins=BINS)
    with pytest.raises(BadValue):
        posterior(model, image(), "z", bins=BINS, temperature=0.0)
    with pytest.raises(ShapeMismatch):
        Posterior(np.ones((1, 3)), np.array([0.0, 2.0, 1.0, 3.0]))
    with pytest.raises(BadValue):
        gaussian().quantile(1.5)
