"""What every encoder promises: the contracts of models, for the ViT and for SpecFormer; and what each alone does."""

from dataclasses import replace

import numpy as np
import pairs
import pytest
import torch
import torch.nn.functional as F

from omnisky.codec.patch import cut, paste
from omnisky.codec.tokens import Span, Tokens, encode_all
from omnisky.errors import BadValue, ContextOverflow, MissingModality, ShapeMismatch
from omnisky.model import store
from omnisky.model.specformer import PUBLISHED, SpecformerConfig
from omnisky.model.vision import SIZES, vit
from omnisky.observe.types import Observation

TOWERS = {
    "vision": (pairs.VISION, pairs.PATCHES, "images"),
    "stemmed": (pairs.STEMMED, pairs.PATCHES, "images"),
    "specformer": (pairs.SPECFORMER, pairs.SECTIONS, "spectra"),
}
every = pytest.mark.parametrize("name", TOWERS)


def built(name: str, seed: int = 0):
    config, codec, _ = TOWERS[name]
    model = config.build(seed).eval()
    model.codecs = (codec,)
    return model


def told(name: str, n: int = 4) -> Tokens:
    return TOWERS[name][1].encode(pairs.sky(n))


@every
def test_saved_and_loaded_is_the_same(name, tmp_path):
    model = built(name)
    again = store.load(store.save(model, tmp_path / "model"))
    assert again.config == model.config and again.codecs == model.codecs
    assert torch.equal(again.vectors(told(name)), model.vectors(told(name)))


@every
def test_a_batch_of_one_is_row_0_of_many(name):
    model, tokens = built(name), told(name)
    for read in (model.states, model.vectors):
        assert torch.allclose(read(tokens.take(slice(0, 1))), read(tokens)[:1], atol=1e-6)


@every
def test_neighbours_do_not_talk(name):
    model, tokens = built(name), told(name)
    other = tokens.map(torch.clone)
    other[TOWERS[name][2]].values[1] += 5
    assert torch.equal(model.states(other)[[0, 2, 3]], model.states(tokens)[[0, 2, 3]])


@every
def test_absent_tokens_are_invisible(name):
    """Whatever they hold, nobody's state changes."""
    model, tokens = built(name), told(name)
    span = tokens[TOWERS[name][2]]
    present = torch.ones(span.values.shape[:2], dtype=torch.bool)
    present[0, 5:8] = False
    loud = span.values.clone()
    loud[0, 5:8] = 1e3
    a, b = (model.vectors(Tokens({TOWERS[name][2]: Span(v, span.positions, present)})) for v in (span.values, loud))
    assert torch.allclose(a, b, atol=1e-6)
    assert not torch.allclose(a[0], model.vectors(tokens)[0], atol=1e-4)
    assert torch.allclose(a[1:], model.vectors(tokens)[1:], atol=1e-5)


@every
def test_objects_that_are_not_there_are_refused(name):
    span = told(name)[TOWERS[name][2]]
    present = torch.ones(span.values.shape[:2], dtype=torch.bool)
    present[1:3] = False
    with pytest.raises(MissingModality, match=f"2 of 4 objects have no '{TOWERS[name][2]}'"):
        built(name).vectors(Tokens({TOWERS[name][2]: Span(span.values, span.positions, present)}))
    with pytest.raises(MissingModality):
        built(name).vectors(Tokens({}))


@every
def test_tokens_of_another_width_are_refused(name):
    span = told(name)[TOWERS[name][2]]
    with pytest.raises(ShapeMismatch, match="the codec this model was trained with"):
        built(name).states(Tokens({TOWERS[name][2]: Span(span.values[..., 1:], span.positions)}))


@every
def test_one_seed_one_start(name):
    a, b, c = (built(name, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


@every
def test_embedding_a_sky(name):
    from omnisky.embed import embed

    found = embed(built(name), pairs.sky(5), batch=2)
    assert found.vectors.shape == (5, 16) and np.isfinite(found.vectors).all()
    assert found.vectors == pytest.approx(built(name).vectors(told(name, 5)).detach().numpy(), abs=1e-5)


# --- the image tower ---------------------------------------------------------------------------------------------


def test_astrodino_has_as_many_parameters_as_published():
    with torch.device("meta"):
        model = vit(*SIZES["large"]).build()
    assert sum(p.numel() for p in model.parameters()) == 302_954_496


@pytest.mark.parametrize("name", ["vision", "stemmed"])
def test_hidden_patches_say_nothing_of_themselves_and_keep_their_place(name):
    model, patches = built(name), told(name)["images"].values
    held_out = torch.zeros(4, 16, dtype=torch.bool)
    held_out[:, [2, 9]] = True
    other = patches.clone()
    other[:, [2, 9]] = 7
    assert torch.equal(model(patches, held_out), model(other, held_out))
    states = model(patches, held_out)
    assert not torch.allclose(states[:, 3], states[:, 10], atol=1e-3)  # both hidden, in different places


@pytest.mark.parametrize("name", ["vision", "stemmed"])
@pytest.mark.parametrize("side", [8, 12, 20, 32])
def test_other_sizes_are_read_with_interpolated_positions(side, name):
    model = built(name)
    states = model(cut(torch.rand(2, 3, side, side), 4))
    assert states.shape == (2, 1 + (side // 4) ** 2, 16)
    where = model.places((side // 4) ** 2)
    assert torch.equal(where[:, 0], model.positions[:, 0])
    assert float(where[:, 1:].detach().mean()) == pytest.approx(float(model.positions[:, 1:].detach().mean()), abs=3e-3)


@pytest.mark.parametrize("name", ["vision", "stemmed"])
def test_patches_of_half_a_picture_are_refused(name):
    with pytest.raises(ShapeMismatch, match="15 patches; want a square number"):
        built(name)(torch.rand(2, 15, 48))


# --- a stem of convolutions --------------------------------------------------------------------------------------


def test_a_stem_puts_patches_together_as_they_were_cut():
    pixels = torch.rand(2, 3, 24, 24)
    assert torch.equal(paste(cut(pixels, 4), 4), pixels)


def test_a_stem_is_convolutions_of_the_whole_image():
    model = built("stemmed")
    pixels = torch.rand(2, 3, 16, 16)
    x = pixels
    for layer, stride in zip(model.patches.convolutions, (2, 2, 1), strict=True):
        x = F.gelu(F.conv2d(x, layer.weight, layer.bias, stride=stride, padding=1))
    expected = torch.einsum("obhw,cb->ohwc", x, model.patches.out.weight).flatten(1, 2) + model.patches.out.bias
    assert torch.allclose(model.patches(cut(pixels, 4)), expected, atol=1e-5)


@pytest.mark.parametrize("size", [4, 6, 7, 10, 12, 14])
def test_every_pixel_goes_through_a_stem(size):
    model = replace(pairs.VISION, patch_size=size, stem=(4, 4, 4)).build(0)
    patches = torch.rand(1, 9, size**2 * 3, requires_grad=True)
    model.patches(patches).square().sum().backward()
    seen = (paste(patches.grad, size) != 0).all((0, 1))
    edge = {4: 0, 6: 2, 7: 3, 10: 4, 12: 4, 14: 6}[size]  # what is left over where a stride is odd
    inside = 3 * size - edge
    assert seen[:inside, :inside].all() and not seen[inside:].any() and not seen[:, inside:].any()


def test_numbers_keep_their_size_through_a_stem():
    """He's start: states of unit pixels are neither tiny nor huge, however deep the stem."""
    model = replace(pairs.VISION, patch_size=12, stem=(48, 64, 64, 64, 64)).build(0)
    assert 0.3 < float(model.patches(torch.randn(8, 16, 432)).detach().std()) < 3


def test_too_few_convolutions_for_a_patch_are_refused():
    with pytest.raises(
        BadValue, match=r"2 convolutions for patches of 12 px; want 3 or more: one for each of \(2, 2, 3\)"
    ):
        replace(pairs.VISION, patch_size=12, stem=(8, 8)).build()


def test_bare_patches_do_not_know_where_they_are():
    """Compat with AstroCLIP's image head: shuffled patches have shuffled states."""
    model, patches = built("vision"), told("vision")["images"].values
    order = torch.randperm(16)
    assert torch.allclose(model.bare(patches[:, order]), model.bare(patches)[:, order], atol=1e-5)
    assert not torch.allclose(model(patches[:, order])[:, 1:], model(patches)[:, 1:][:, order], atol=1e-3)


# --- the spectrum tower ------------------------------------------------------------------------------------------


def test_specformer_has_as_many_parameters_as_published():
    with torch.device("meta"):
        model = SpecformerConfig().build()
    assert sum(p.numel() for p in model.parameters()) == 43_177_750
    assert len(model.state_dict()) == 79


def test_the_start_is_as_published():
    model = replace(SpecformerConfig(), core=replace(PUBLISHED, depth=2)).build(seed=3).requires_grad_(False)
    limit = 3 * 768**-0.5
    assert model.positions.weight.abs().max() <= limit and model.sections.weight.abs().max() <= limit
    assert model.positions.weight.std() == pytest.approx(768**-0.5, rel=0.02)
    up, down = model.core.blocks[0].mlp.up.weight, model.core.blocks[1].mlp.down.weight
    assert up.std() == pytest.approx((2 * 768 * 2) ** -0.5, rel=0.01)
    assert down.std() == pytest.approx((2 * 3072 * 2) ** -0.5, rel=0.01)
    assert model.head.weight.std() == pytest.approx(768**-0.5, rel=0.02)
    assert not any(p.any() for key, p in model.named_parameters() if key.endswith("bias") and "norm" not in key)


def test_runs_are_hidden_one_in_each_part():
    model = built("specformer")
    tokens = told("specformer", 200)
    held_out = model.deal(tokens, torch.Generator().manual_seed(0))
    assert held_out.shape == (200, 24)
    assert held_out.sum(1).tolist() == [8] * 200  # two runs of four in 24 tokens
    assert (held_out[:, :12].sum(1) == 4).all()
    starts = held_out[:, :12].int().argmax(1)
    assert starts.min() == 0 and starts.max() == 7  # the last start of a run is left out, as published
    assert torch.equal(held_out, model.deal(tokens, torch.Generator().manual_seed(0)))


def test_only_what_was_hidden_is_scored():
    model, tokens = built("specformer"), told("specformer")
    held_out = torch.zeros(4, 24, dtype=torch.bool)
    held_out[:, 5:9] = True
    score = model.score(tokens, held_out).detach()
    span = tokens["spectra"]
    said = model.head(model(span.values.masked_fill(held_out[..., None], 0)))
    want = (said - span.values)[:, 5:9, 2:].square().mean().detach()  # not the two numbers that sections leave 0
    assert float(score) == pytest.approx(float(want), rel=1e-5)


def test_weights_leave_out_what_was_not_measured():
    """The loss does not hang on what is under zero ivar."""
    model = built("specformer")
    seen = pairs.sky(3)
    ivar = np.full((3, 120), 4, dtype=np.float32)
    ivar[:, 40:47] = 0
    codec = replace(pairs.SECTIONS, weighted=True)
    flux = seen["spectrum"].flux.copy()
    flux[:, 40:47] = 1e4

    def loss(flux):
        spectrum = replace(seen["spectrum"], flux=flux, ivar=ivar)
        return model.loss(codec.encode(seen | {"spectrum": spectrum}), torch.Generator().manual_seed(1))

    assert loss(flux) == loss(seen["spectrum"].flux)


def test_fifty_steps_lower_the_loss():
    model = built("specformer").train()
    tokens = told("specformer", 64)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def judged() -> float:
        with torch.no_grad():
            return float(model.loss(tokens, torch.Generator().manual_seed(9)))

    before, draw = judged(), torch.Generator().manual_seed(0)
    for _ in range(50):
        optimiser.zero_grad()
        model.loss(tokens, draw).backward()
        optimiser.step()
    assert judged() < 0.7 * before


def test_too_many_sections_are_refused():
    model = replace(pairs.SPECFORMER, context=20).build(0)
    with pytest.raises(ContextOverflow, match="saw 24 tokens; want at most 20"):
        model.states(told("specformer"))


def test_runs_as_long_as_their_parts_are_refused():
    model = replace(pairs.SPECFORMER, run=12).build(0)
    with pytest.raises(BadValue, match="2 runs of 12 in 24 tokens"):
        model.loss(told("specformer"))


def test_a_model_reads_the_part_it_knows_and_no_other():
    tokens = encode_all((pairs.PATCHES, pairs.SECTIONS), pairs.sky(3))
    assert torch.equal(built("vision").vectors(tokens), built("vision").vectors(told("vision", 3)))
    with pytest.raises(MissingModality, match="want image"):
        encode_all((pairs.PATCHES,), Observation.of(range(2), spectrum=pairs.sky(2)["spectrum"]))
