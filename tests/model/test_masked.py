"""AION's promises: sizes, absent tokens invisible, neighbours silent, targets, sequences, learning, bad input."""

from dataclasses import replace

import pytest
import torch

from omnisky.codec.token_shards import IdTokens, read_shards, tokenize
from omnisky.codec.tokens import Span, Tokens
from omnisky.embed import embed
from omnisky.errors import BadValue, ContextOverflow, MissingModality, OmniskyError, ShapeMismatch, UnknownLayout
from omnisky.model import store
from omnisky.model.any_to_any import AION, FIRST_SENTINEL, SENTINELS, Vocabulary
from omnisky.model.deal import DirichletRule, PerLogit, PerModality, PerToken
from omnisky.model.masked import AnyToAny, AnyToAnyConfig, gated, published
from omnisky.model.port_aion import save_published
from omnisky.observe.types import Observation
from omnisky.recipes import recipe
from omnisky.train.config import Run
from omnisky.train.loop import train

WORDS = FIRST_SENTINEL + SENTINELS
TINY = (
    Vocabulary(name="image", size=30, grid=(5, 5)),
    Vocabulary(name="spectrum", size=20, grid=(7, 1)),
    Vocabulary(name="z", size=11),
    Vocabulary(name="mag", size=10),
    Vocabulary(name="catalog", size=WORDS + 20, longest=12),
)


def tiny(seed: int = 0, **more) -> AnyToAny:
    config = AnyToAnyConfig(core=gated(2, 16, 2), decoder_depth=2, vocabularies=TINY, shown=20, asked=12, **more)
    return config.build(seed).eval()


def span(v: Vocabulary, n: int, draw: torch.Generator) -> Span:
    length = v.length - 1 if v.longest else v.length
    first = WORDS if v.longest else 0
    ids = torch.randint(first, v.size, (n, length), generator=draw)
    return Span(ids, torch.arange(length).expand(n, -1))


def tokens(n: int = 6, names: tuple[str, ...] = ("image", "spectrum", "z", "mag", "catalog"), seed: int = 0) -> Tokens:
    draw = torch.Generator().manual_seed(seed)
    return Tokens({v.name: span(v, n, draw) for v in TINY if v.name in names})


def hide(given: Tokens, name: str, rows) -> Tokens:
    present = given[name].there().clone()
    present[rows] = False
    return given | {name: replace(given[name], present=present)}


# --- sizes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "parameters", "buffers"),
    [("base", 314_255_616, 3_895_296), ("large", 859_650_048, 5_270_528), ("xlarge", 3_130_772_480, 10_531_840)],
)
def test_published_sizes(size, parameters, buffers):
    """Exactly those of the release; its buffers are the positions, stored on both sides, and the norms' zero biases."""
    with torch.device("meta"):
        model = published(size).build()
    assert sum(p.numel() for p in model.parameters()) == parameters
    width, depth = model.config.core.width, model.config.core.depth
    places = 512 + sum(v.length for v in AION.values() if not v.longest)
    norms = depth * (2 * width + 2 * 64) + depth * (4 * width + 4 * 64) + 2 * width
    assert 2 * places * width + norms == buffers


def test_forty_modalities():
    assert len(AION) == 40
    assert sum(v.size for v in AION.values()) == 50_083


def test_mini_is_small():
    with torch.device("meta"):
        model = recipe("aion-mini").model.build()
    assert sum(p.numel() for p in model.parameters()) <= 8_000_000
    assert model.ends.words.weight.shape == (50_083, model.config.core.width)


# --- contracts ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_absent_tokens_are_invisible():
    model, given = tiny(), hide(tokens(names=("image", "z")), "z", slice(0, 3))
    other = given | {"z": replace(given["z"], values=(given["z"].values + 1) % 11)}
    for told in (model.vectors, lambda t: model.predict(t, ("mag",))["mag"]):
        said, again = told(given), told(other)
        assert torch.equal(said[:3], again[:3])
        assert not torch.equal(said[3:], again[3:])


@torch.no_grad()
def test_absent_is_as_if_it_had_not_been_given():
    model, given = tiny(), hide(tokens(names=("image", "z")), "z", slice(None))
    without = Tokens({"image": given["image"]})
    assert torch.allclose(model.vectors(given), model.vectors(without), atol=1e-6)
    assert model.encode(given).states.shape[1] == 25


@torch.no_grad()
@pytest.mark.parametrize("names", [("image", "z", "catalog"), ("spectrum",)])
def test_neighbours_do_not_talk(names):
    model, given = tiny(), hide(tokens(names=names), names[0], ([1], [2]))
    whole, targets = model.predict(given, ("mag",))["mag"], ("mag",)
    for row in (0, 1, 5):
        alone = given.take(slice(row, row + 1))
        assert torch.allclose(model.predict(alone, targets)["mag"][0], whole[row], atol=1e-5)
        assert torch.allclose(model.vectors(alone)[0], model.vectors(given)[row], atol=1e-5)


@torch.no_grad()
def test_pooling_leaves_out_what_is_absent():
    model, given = tiny(), hide(tokens(2, names=("image", "z")), "image", ([0], [3]))
    context = model.encode(given)
    there = context.slots.there()
    for row in range(2):
        assert torch.allclose(context.mean()[row], context.states[row][there[row]].mean(0), atol=1e-6)


@torch.no_grad()
def test_states_stay_where_their_tokens_were():
    model, given = tiny(), hide(tokens(3, names=("image", "z")), "image", ([0], [0]))
    states = model.states(given)
    assert states.shape == (3, 26, 16)
    assert not states[0, 0].any() and bool(states[0, 1:].any(1).all())
    whole = model.states(tokens(3, names=("image", "z")))
    assert torch.allclose(states[1:], whole[1:], atol=1e-5)
    assert model.states(given, blocks=1).shape == states.shape


@torch.no_grad()
def test_all_tokens_unless_a_budget_is_named():
    model, given = tiny(), tokens(names=("image", "spectrum"))
    assert model.encode(given).states.shape[1] == 32
    assert model.encode(given, budget=10).states.shape[1] == 10


@torch.no_grad()
def test_the_order_of_inputs_does_not_matter():
    model, given = tiny(), tokens(names=("image", "mag", "spectrum"))
    turned = Tokens({name: given[name] for name in ("spectrum", "image", "mag")})
    assert torch.allclose(model.predict(given, ("z",))["z"], model.predict(turned, ("z",))["z"], atol=1e-5)


@torch.no_grad()
def test_targets_do_not_see_each_other():
    model, given = tiny(), tokens(names=("image",))
    names = ("z", "mag", "spectrum")
    together = model.predict(given, names)
    for name in names:
        assert torch.allclose(together[name], model.predict(given, (name,))[name], atol=1e-5)
    numbers = model.predict(given, ("z", "mag"))
    assert torch.allclose(numbers["z"], together["z"], atol=1e-5)


@torch.no_grad()
def test_as_released_targets_are_mixed():
    model, given = tiny(), tokens(names=("image",))
    alone = model.predict_as_released(given, ("z",))["z"]
    assert torch.allclose(alone, model.predict(given, ("z",))["z"], atol=1e-5)
    assert not torch.allclose(alone, model.predict_as_released(given, ("z", "mag"))["z"], atol=1e-3)
    assert not torch.allclose(
        model.predict_as_released(given, ("spectrum",))["spectrum"], model.predict(given, ("spectrum",))["spectrum"]
    )


@torch.no_grad()
def test_a_sequence_as_a_target_does_not_see_the_future():
    model, given = tiny(), tokens(names=("image",))
    told = tokens(names=("catalog",))
    later = told["catalog"].values.clone()
    later[:, 6:] = WORDS
    other = Tokens({"catalog": replace(told["catalog"], values=later)})
    said, again = (model.predict(given, ("catalog", "z"), told=one) for one in (told, other))
    assert torch.allclose(said["catalog"][:, :6], again["catalog"][:, :6], atol=1e-6)
    assert not torch.allclose(said["catalog"][:, 6:], again["catalog"][:, 6:], atol=1e-3)
    assert torch.allclose(said["z"], again["z"], atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("slots", [40, 8])
def test_one_query_is_folded_and_nothing_changes(slots):
    """Values of a long context are mixed before they are projected, when no gradient is wanted."""
    model = tiny()
    core, context = model.decoder, torch.randn(3, slots, 16)
    x, seen = torch.randn(3, 1, 16), torch.rand(3, 1, slots) > 0.3
    folded = core(x, context=context, attend_context=seen, alone=True)
    with torch.enable_grad():
        assert torch.allclose(folded, core(x, context=context, attend_context=seen), atol=1e-5)
    remembered = core(x, context=core.remember(context), attend_context=seen)
    assert torch.allclose(folded, remembered, atol=1e-5)


@torch.no_grad()
def test_alone_is_an_attention_to_oneself():
    core, x = tiny().encoder, torch.randn(2, 5, 16)
    assert torch.allclose(core(x, alone=True), core(x, torch.eye(5, dtype=torch.bool)[None]), atol=1e-5)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"tied": True, "spread": 0.2, "ordered": True, "alike": True},
        {"rule": DirichletRule(), "average": PerModality()},
    ],
)
@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(tmp_path, more):
    model, given = tiny(**more), tokens(names=("image", "z"))
    again = store.load(store.save(model, tmp_path / "model"))
    assert again.config == model.config
    assert store.signature(again) == store.signature(model)
    assert torch.equal(again.vectors(given), model.vectors(given))


@torch.no_grad()
def test_ids_begin_alike_where_their_digits_are():
    words = (Vocabulary(name="code", size=32, digits=(2,) * 5), Vocabulary(name="z", size=128, digits=(128,)))
    model = replace(tiny().config, vocabularies=words, spread=0.3, ordered=True).build(0)
    code, z = model.ends.words.weight.split([32, 128])

    def alike(a, b):
        return float(torch.cosine_similarity(a, b).mean())

    assert alike(z[:-1], z[1:]) > 0.9 > alike(z[:-60], z[60:]) + 0.3
    ids = torch.arange(32)
    assert alike(code, code[ids ^ 4]) > alike(code, code[ids ^ 31]) + 0.3
    assert all(float(rows.std()) == pytest.approx(0.3, rel=0.2) for rows in (code, z, model.ends.kinds.weight))
    with pytest.raises(BadValue, match="digits"):
        Vocabulary(name="z", size=100, digits=(128,))


@torch.no_grad()
def test_begun_alike_the_decoder_says_what_stands_at_the_same_place():
    """Two surveys whose ids are of one codec: the id at a place is likelier to be told there than any other is."""
    words = tuple(Vocabulary(name=name, size=32, grid=(12, 1), digits=(2,) * 5) for name in ("desi", "sdss"))
    config = AnyToAnyConfig(core=gated(2, 64, 4), decoder_depth=2, vocabularies=words, tied=True, spread=0.5)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(32, (64, 12), generator=draw)
    given = Tokens({"sdss": Span(ids, torch.arange(12).expand(64, -1))})

    def surprise(**more: bool) -> float:
        said = replace(config, **more).build(0).predict(given, ("desi",))["desi"]
        return float(torch.nn.functional.cross_entropy(said.flatten(0, 1), ids.flatten()))

    assert surprise(ordered=True, alike=True) < min(surprise(ordered=True), surprise(alike=True)) - 0.2


@pytest.mark.parametrize(("average", "tied"), [(PerToken(), False), (PerLogit(), True)], ids=repr)
def test_fifty_steps_lower_the_loss(average, tied):
    """The tokens of an object are all the same number: those shown tell those asked for."""
    draw = torch.Generator().manual_seed(0)
    number = torch.randint(10, (24, 1), generator=draw)
    given = Tokens(
        {
            v.name: Span(number.expand(-1, v.length) + WORDS * (v.longest > 0), torch.arange(v.length).expand(24, -1))
            for v in TINY
        }
    )
    model = tiny(average=average, tied=tied).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(50):
        loss = model.loss(given, draw)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_a_batch_of_one_learns_too():
    loss = tiny().loss(tokens(1), torch.Generator().manual_seed(0))
    loss.backward()
    assert torch.isfinite(loss)


def test_missing_modalities_are_no_obstacle():
    """Objects of two surveys in one batch; the loss is the same whatever lies in the tokens that are not there."""
    given = hide(hide(tokens(8), "image", slice(0, 4)), "spectrum", slice(4, 8))
    other = given | {"image": replace(given["image"], values=given["image"].values.clone())}
    other["image"].values[:4] = 0
    one, two = (tiny().loss(t, torch.Generator().manual_seed(3)) for t in (given, other))
    assert torch.equal(one, two)


# --- bad input ---------------------------------------------------------------------------------------------------


def ids(*shape: int) -> Span:
    return Span(torch.zeros(shape, dtype=torch.long), torch.arange(shape[1]).expand(shape))


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (Tokens({}), MissingModality, "nothing to start from"),
        (Tokens({"tok_imgae": ids(2, 25)}), MissingModality, "tok_imgae"),
        (Tokens({"image": ids(2, 24)}), ShapeMismatch, "want 25"),
        (Tokens({"z": Span(torch.full((2, 1), 11), torch.zeros(2, 1, dtype=torch.long))}), BadValue, "0 … 10"),
        (Tokens({"z": Span(torch.full((2, 1), -1), torch.zeros(2, 1, dtype=torch.long))}), BadValue, "0 … 10"),
        (Tokens({"z": Span(torch.zeros(2, 1, 3), torch.zeros(2, 1, dtype=torch.long))}), ShapeMismatch, "want ids"),
        (Tokens({"z": replace(ids(2, 1), positions=torch.ones(2, 1, dtype=torch.long))}), ContextOverflow, "0 … 0"),
        (Tokens({"catalog": ids(2, 13)}), ContextOverflow, "at most 12"),
        (Tokens({"z": replace(ids(2, 1), present=torch.tensor([[True], [False]]))}), MissingModality, "1 of 2 objects"),
    ],
)
def test_bad_tokens(given, error, says, unchecked):
    with pytest.raises(error, match=says):
        tiny().encode(given)


@pytest.mark.parametrize(
    ("targets", "error", "says"),
    [
        (("image",), BadValue, "also an input"),
        (("zz",), MissingModality, "zz"),
        ((), BadValue, "names of modalities"),
        ("z", BadValue, "names of modalities"),
        (("z", "z"), BadValue, "each once"),
        (("catalog",), MissingModality, "told"),
    ],
)
def test_bad_targets(targets, error, says, unchecked):
    with pytest.raises(error, match=says):
        tiny().predict(tokens(2, ("image",)), targets)


def test_absurd_budgets():
    with pytest.raises(BadValue, match="budget"):
        tiny().encode(tokens(2, ("image",)), budget=0)
    for wrong in ({"shown": 0}, {"asked": -1}, {"decoder_depth": 0}, {"tied": True, "unread": True}):
        with pytest.raises(BadValue):
            replace(tiny().config, **wrong)
    with pytest.raises(BadValue):
        published("huge")


def test_a_model_that_the_published_layout_cannot_hold(tmp_path):
    with pytest.raises(UnknownLayout):
        save_published(tiny(), tmp_path / "model")
    with pytest.raises(OmniskyError):
        AnyToAnyConfig(core=gated(1, 16, 2), decoder_depth=1, vocabularies=()).build()


# --- in the house ------------------------------------------------------------------------------------------------


def test_it_learns_in_the_one_loop_from_ids_on_disk(tmp_path):
    """And what comes out is a model like any other: saved, loaded, embedding with a signature."""
    codecs = tuple(IdTokens(name=v.name) for v in TINY)
    seen = Observation.of(range(24))
    for codec in codecs:
        seen = codec.decode(hide(tokens(24), "image", slice(0, 9)), seen)
    source = read_shards(tokenize(codecs, seen, tmp_path / "ids", shard=10))
    run = Run(name="tiny", model=tiny().config, codecs=codecs, steps=3, batch=8, precision="fp32", held_out=0.2)
    model = train(run, tmp_path / "run", source=source)
    again = store.load(tmp_path / "run" / "model")
    one, two = embed(model, source), embed(again, source)
    assert one.vectors.shape == (24, 16) and one.signature == two.signature
    assert (one.vectors == two.vectors).all()
