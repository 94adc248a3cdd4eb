"""What every AstroPT promises, whatever its objective. Newcomers join KINDS and inherit all of it."""

from dataclasses import replace

import pytest
import torch

from omnisky.codec.tokens import Span, Tokens
from omnisky.errors import BadValue, ContextOverflow, MissingModality, ShapeMismatch
from omnisky.model import store
from omnisky.model.autoregressive import AutoregressiveConfig, MaskedConfig, PrefixConfig
from omnisky.model.junction import Modality
from omnisky.model.transformer import CoreConfig
from omnisky.recipes.astropt import SIZES, published

CORE = CoreConfig(width=16, depth=2, heads=2)
IMAGES = Modality(name="images", width=6)
SPECTRA = Modality(name="spectra", width=4, position_width=4, weight=0.5)
KINDS = {
    "causal": AutoregressiveConfig(core=CORE, modalities=(IMAGES, SPECTRA), context=12),
    "full": AutoregressiveConfig(core=CORE, modalities=(IMAGES, SPECTRA), context=12, prefix=1 << 30),
    "prefix": PrefixConfig(core=CORE, modalities=(IMAGES, SPECTRA), context=12),
    "masked": MaskedConfig(core=CORE, modalities=(IMAGES, SPECTRA), context=12),
}
every_kind = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
SAME = 1e-5
"""relative; float32 sums in another order"""


def made(config):
    """Weights large enough for every token to matter."""
    model = config.build(seed=3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5) if weight.ndim > 1 else weight
    return model.eval()


def toy(objects: int = 4, present: dict[str, list[list[int]]] | None = None, seed: int = 0) -> Tokens:
    """Five patches along a line whose slope is the object's own, and three sections of a spectrum that repeats it."""
    draw = torch.Generator().manual_seed(seed)
    slope = torch.randn(objects, 1, 1, generator=draw)
    images = slope * torch.linspace(-1, 1, 6) + 0.1 * torch.randn(objects, 5, 6, generator=draw)
    spectra = slope * torch.linspace(1, -1, 4) + 0.1 * torch.randn(objects, 3, 4, generator=draw)
    where = torch.rand(objects, 3, 4, generator=draw)
    there = {name: torch.tensor(rows).bool() for name, rows in (present or {}).items()}
    return Tokens(
        {
            "images": Span(images, torch.arange(5).expand(objects, -1), there.get("images")),
            "spectra": Span(spectra, where, there.get("spectra")),
        }
    )


def loss(model, tokens: Tokens) -> float:
    return float(model.loss(tokens, torch.Generator().manual_seed(11)).detach())


# --- contracts ---------------------------------------------------------------------------------------------------


@every_kind
def test_saved_and_loaded_it_is_exactly_the_same(config, tmp_path):
    model = made(config)
    store.save(model, tmp_path / "model")
    again = store.load(tmp_path / "model")
    assert again.config == config and type(again) is type(model)
    assert torch.equal(again.states(toy()), model.states(toy()))
    assert store.signature(again) == store.signature(model)


@every_kind
def test_fifty_steps_on_a_toy_lower_the_loss(config):
    """Objects differ in one number: a model that uses it gets below half of where it starts."""
    model, tokens = config.build(seed=0).train(), toy(objects=16)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    draw = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(50):
        loss = model.loss(tokens, draw)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    first, last = sum(losses[:5]), sum(losses[-5:])
    assert last < 0.5 * first, (first, last)


@every_kind
def test_a_seed_decides_every_weight(config):
    """Also of what is seldom there: task head and low-rank updates, of which B starts at 0."""
    config = replace(config, answers=2, lora_rank=2)
    a, b, other = (config.build(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not any(torch.equal(a[name], other[name]) for name in a if a[name].ndim > 1 and "lora_b" not in name)


@every_kind
def test_absent_tokens_are_invisible(config):
    """Whatever lies in their place, states of the others and the loss are the same."""
    model = made(config)
    present = {
        "images": [[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 1, 1, 1, 1], [1] * 5],
        "spectra": [[1, 1, 0]] * 3 + [[0] * 3],
    }
    tokens = toy(present=present)
    other = Tokens(
        {name: replace(s, values=torch.where(s.present[..., None], s.values, 50.0)) for name, s in tokens.items()}
    )
    there = torch.cat([tokens["images"].present, tokens["spectra"].present], 1)
    assert torch.allclose(model.states(tokens)[there], model.states(other)[there], rtol=SAME, atol=SAME)
    assert loss(model, tokens) == pytest.approx(loss(model, other), rel=SAME)


@every_kind
def test_an_object_without_a_modality_is_as_if_read_without_it(config):
    model = made(config)
    tokens = toy(present={"images": [[1] * 5, [0] * 5], "spectra": [[0] * 3, [1] * 3]}, objects=2)
    states = model.states(tokens)
    only = [Tokens({name: replace(tokens[name], present=None).map(lambda t: t)}) for name in ("images", "spectra")]
    assert torch.allclose(states[:1, :5], model.states(only[0].take(slice(0, 1))), rtol=SAME, atol=SAME)
    assert torch.allclose(states[1:, 5:], model.states(only[1].take(slice(1, 2))), rtol=SAME, atol=SAME)


@every_kind
def test_batch_neighbours_do_not_talk_and_a_batch_of_one_works(config):
    model, tokens = made(config), toy()
    assert torch.allclose(model.states(tokens)[2:3], model.states(tokens.take(slice(2, 3))), rtol=SAME, atol=SAME)
    assert torch.isfinite(torch.tensor(loss(model, tokens.take(slice(0, 1)))))


@every_kind
def test_objects_with_nothing_at_all_do_not_break_a_batch(config):
    tokens = toy(present={"images": [[0] * 5] * 4, "spectra": [[0] * 3] * 4})
    assert loss(made(config), tokens) == 0


@every_kind
def test_stopping_early_gives_the_states_of_that_layer(config):
    model, tokens = made(config), toy()
    assert model.centre == 2
    assert torch.allclose(model.core.norm(model.states(tokens, blocks=2)), model.states(tokens), atol=SAME)


# --- bad input ---------------------------------------------------------------------------------------------------


@every_kind
def test_a_modality_the_model_does_not_know_is_refused(config):
    tokens = Tokens({"radio": toy()["images"]})
    with pytest.raises(MissingModality, match=r"saw radio; want images spectra"):
        made(config).loss(tokens)


@every_kind
def test_tokens_of_another_width_are_refused(config, unchecked):
    tokens = Tokens({"images": Span(torch.zeros(2, 5, 7), torch.arange(5).expand(2, -1))})
    with pytest.raises(ShapeMismatch, match=r"'images'.*saw width \(7,\); want \(6,\)"):
        made(config).loss(tokens)


@every_kind
def test_more_tokens_than_positions_are_refused(config):
    tokens = Tokens({"images": Span(torch.zeros(2, 13, 6), torch.arange(13).expand(2, -1))})
    with pytest.raises(ContextOverflow, match="saw position 12 of 'images'; want less than 12"):
        made(config).loss(tokens)


@pytest.mark.parametrize("change", [{"tokeniser": "linear"}, {"modalities": ()}])
def test_a_model_that_cannot_be_is_refused(change):
    with pytest.raises(BadValue):
        replace(KINDS["causal"], **change).build()


def test_the_masked_objective_refuses_ids():
    ids = Modality(name="ids", width=9, vocabulary=9)
    with pytest.raises(BadValue, match="vocabulary=0"):
        replace(KINDS["masked"], modalities=(ids,)).build()


# --- next token --------------------------------------------------------------------------------------------------


def test_predictions_do_not_see_what_they_predict():
    """Change one token: what is said of it and of those before it stays, what is said of the next one changes."""
    for kind in ("causal", "prefix"):
        model, tokens = made(KINDS[kind]), toy()
        values = tokens["images"].values.clone()
        values[:, 3] = values[:, 3].flip(-1)
        was, now = model.predict(tokens), model.predict(tokens | {"images": replace(tokens["images"], values=values)})
        assert torch.allclose(was["images"][:, :3], now["images"][:, :3], atol=SAME)
        assert not torch.allclose(was["images"][:, 3], now["images"][:, 3], atol=SAME)
        assert not torch.allclose(was["spectra"][:, 0], now["spectra"][:, 0], atol=SAME)


def test_objects_that_lack_a_modality_count_for_what_they_have():
    """Mean over images of all objects, over spectra of the two that have one; each as if computed by itself."""
    model = made(KINDS["causal"])
    tokens = toy(present={"spectra": [[1] * 3, [0] * 3, [1] * 3, [0] * 3]})
    whole = Tokens({name: replace(span, present=None) for name, span in tokens.items()})
    images = Tokens({"images": whole["images"]})
    halves = [loss(model, whole.take([0, 2])), loss(model, images.take([0, 2])), loss(model, images.take([1, 3]))]
    both, images_of_both, images_of_rest = halves
    spectra = both - images_of_both
    assert loss(model, tokens) == pytest.approx((images_of_both + images_of_rest) / 2 + spectra, rel=SAME)


def test_what_follows_an_absent_first_modality_starts_from_its_own_second_token():
    """Nothing lies before its first, so it cannot be told; the loss is that of the spectrum alone."""
    model = made(KINDS["causal"])
    tokens = toy(present={"images": [[0] * 5] * 4})
    alone = Tokens({"spectra": tokens["spectra"]})
    assert loss(model, tokens) == pytest.approx(loss(model, alone), rel=SAME)


def test_one_first_token_alone_has_no_loss_and_no_nan():
    model = AutoregressiveConfig(core=CORE, modalities=(Modality(name="a", width=1), IMAGES), context=12).build(seed=0)
    tokens = toy()
    first = Span(torch.ones(4, 1, 1), torch.zeros(4, 1, dtype=torch.long))
    said = model.predict(Tokens({"a": first, "images": tokens["images"]}))
    assert {name: one.shape[1] for name, one in said.items()} == {"a": 0, "images": 5}
    assert 0 < loss(model, Tokens({"a": first, "images": tokens["images"]})) < 10


def test_ids_are_predicted_as_logits():
    config = AutoregressiveConfig(core=CORE, modalities=(Modality(name="ids", width=9, vocabulary=9),), context=12)
    tokens = Tokens({"ids": Span(torch.arange(12).reshape(2, 6) % 9, torch.arange(6).expand(2, -1))})
    model = config.build(seed=0)
    assert model.predict(tokens)["ids"].shape == (2, 5, 9)
    assert loss(model, tokens) == pytest.approx(
        torch.log(torch.tensor(9.0)).item(), rel=0.02
    )  # weights near 0: uniform


# --- fill in -----------------------------------------------------------------------------------------------------


def test_hidden_tokens_are_not_seen_but_their_places_are():
    model, tokens = made(KINDS["masked"]), toy()
    held_out = torch.zeros(4, 8, dtype=torch.bool)
    held_out[:, 2] = True
    values = tokens["images"].values.clone()
    values[:, 2] = 9
    changed = tokens | {"images": replace(tokens["images"], values=values)}
    assert torch.equal(model.fill(tokens, held_out)["images"], model.fill(changed, held_out)["images"])
    moved = tokens["images"].positions.clone()
    moved[:, 2] = 11
    changed = tokens | {"images": replace(tokens["images"], positions=moved)}
    assert not torch.equal(model.fill(tokens, held_out)["images"], model.fill(changed, held_out)["images"])


def test_the_share_of_hidden_tokens_is_the_one_asked_for_and_never_none():
    """1600 × 8 tokens at 0.5: standard deviation 0.0044; 5 σ."""
    model = made(KINDS["masked"])
    assert abs(float(model.deal(toy(objects=1600)).float().mean()) - 0.5) < 0.022
    rare = replace(KINDS["masked"], hidden_fraction=1e-9).build(seed=0)
    assert rare.deal(toy()).sum(1).tolist() == [1] * 4
    absent = toy(present={"images": [[0, 0, 1, 0, 0]] * 4, "spectra": [[0] * 3] * 4})
    assert rare.deal(absent)[:, 2].all()


# --- the published sizes -----------------------------------------------------------------------------------------

PUBLISHED = {  # v1, aim, affine: astropt.md §2.6, counted on the reference
    "1m": (1_198_592, 1_836_160, 1_115_264),
    "5m": (5_707_008, 7_081_216, 5_377_280),
    "12m": (12_344_832, 14_553_984, 11_604_864),
    "21m": (21_505_792, 24_648_192, 20_191_744),
    "89m": (89_873_664, 95_177_472, 86_919_936),
    "309m": (309_910_272, 317_768_704, 304_661_504),
    "830m": (831_599_360, 853_608_448, 810_616_832),
    "2100m": (2_084_194_048, 2_115_637_760, 2_051_412_480),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_have_as_many_parameters_as_published(size):
    counts = []
    for tokeniser in ("v1", "aim", "affine"):
        with torch.device("meta"):
            model = published(size, tokeniser).build()
        counts.append(sum(p.numel() for p in model.parameters()))
    assert tuple(counts) == PUBLISHED[size]


def test_all_eight_sizes_are_recipes():
    assert list(SIZES) == list(PUBLISHED)
