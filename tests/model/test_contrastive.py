"""AstroCLIP: heads that pool, a loss of pairs, and what it refuses."""

import math
from dataclasses import replace

import numpy as np
import pairs
import pytest
import torch
import torch.nn.functional as F

from omnisky.codec.patch import RasterPatches
from omnisky.codec.tokens import Span, Tokens, encode_all
from omnisky.embed import embed
from omnisky.errors import BadValue, MissingModality, ShapeMismatch
from omnisky.model import store
from omnisky.model.contrastive import HIGHEST, ContrastiveConfig, Pool, PoolConfig, unit
from omnisky.model.resnet import MomentumEncoderConfig, ResNetConfig


def told(n: int = 6, seed: int = 0) -> Tokens:
    return encode_all((pairs.PATCHES, pairs.SECTIONS), pairs.sky(n, seed))


def images(tokens: Tokens) -> Tokens:
    return Tokens({"images": tokens["images"]})


def spectra(tokens: Tokens) -> Tokens:
    return Tokens({"spectra": tokens["spectra"]})


# --- the head ----------------------------------------------------------------------------------------------------


def plain(pool: Pool, states: torch.Tensor) -> torch.Tensor:
    """Cross-attention spelled out with torch's own module, keys and values of every state."""
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True, kdim=16, vdim=16)
    linears = (pool.to_query, pool.to_key, pool.to_value)
    packed = dict(
        zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), (one.weight for one in linears), strict=True)
    )
    packed |= {"in_proj_bias": torch.cat([one.bias for one in linears])}
    attention.load_state_dict(packed | {"out_proj.weight": pool.out.weight, "out_proj.bias": pool.out.bias})
    read, weights = attention(pool.query.expand(len(states), -1, -1), states, states, average_attn_weights=False)
    assert torch.allclose(weights[:, :, 0], pool.attention(states), atol=1e-6)
    x = pool.norm(read[:, 0])
    y = pool.down(F.gelu(pool.up(x)))
    return x + y if pool.config.residual else y


@pytest.mark.parametrize("residual", [True, False])
def test_the_folded_head_is_plain_cross_attention(residual):
    pool = Pool(replace(pairs.POOL, residual=residual)).eval()
    for p in pool.parameters():
        torch.nn.init.normal_(p)
    states = torch.randn(5, 9, 16)
    assert torch.allclose(pool(states), plain(pool, states), atol=1e-4)
    assert torch.allclose(pool(states[:1]), pool(states)[:1], atol=1e-5)


def test_states_that_are_absent_are_not_looked_at():
    pool = pairs.clip().spectrum.pool
    states, present = torch.randn(3, 7, 16), torch.ones(3, 7, dtype=torch.bool)
    present[1, 4:] = False
    weights = pool.attention(states, present)
    assert (weights[1, :, 4:] == 0).all() and torch.allclose(weights.sum(-1), torch.ones(3, 2))
    assert torch.allclose(pool(states, present)[1], pool(states[1:2, :4])[0], atol=1e-6)


def test_attention_maps_are_there_for_one_object_too():
    model, tokens = pairs.clip(), told(1)
    assert model.image.attention(images(tokens)).shape == (1, 2, 17)  # class token and 4×4 patches
    assert model.spectrum.attention(spectra(tokens)).shape == (1, 2, 24)
    bare = pairs.clip(image=replace(pairs.CLIP.image, bare=True))
    assert bare.image.attention(images(tokens)).shape == (1, 2, 16)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(BadValue, match="10 / 4"):
        PoolConfig(inside=16, width=10)


# --- the loss ----------------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_of_both_questions():
    model = pairs.clip(learns_scale=False)
    image, spectrum = torch.randn(6, 8), torch.randn(6, 8)
    logits = 15.5 * F.normalize(image) @ F.normalize(spectrum).T
    own = torch.arange(6)
    want = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert float(model.contrast(image, spectrum)) == pytest.approx(float(want), rel=1e-5)


def test_one_pair_has_nobody_to_be_told_from():
    model, tokens = pairs.clip(), told(1)
    loss = model.loss(tokens)
    loss.backward()
    assert float(loss.detach()) == 0 and all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_scale_learns_and_keeps_its_bound():
    model = pairs.clip()
    assert float(model.scale.detach()) == pytest.approx(15.5, rel=1e-6)
    before = model.log_scale.detach().clone()
    optimiser = torch.optim.SGD([model.log_scale], lr=0.1)
    image = torch.randn(6, 8)
    model.contrast(image, image).backward()  # true pairs coincide: a higher scale is better
    optimiser.step()
    assert model.log_scale > before
    model.log_scale.data.fill_(math.log(1e6))
    assert float(model.scale.detach()) == pytest.approx(HIGHEST, rel=1e-5)
    fixed = pairs.clip(learns_scale=False)
    assert float(fixed.scale) == 15.5 and "log_scale" not in fixed.state_dict()


def test_ranks_together_have_the_loss_and_the_gradients_of_one():
    """Two ranks of three pairs, the gather played by a tensor that holds everybody's rows."""
    model = pairs.clip().train()
    image, spectrum = torch.randn(6, 8, requires_grad=True), torch.randn(6, 8, requires_grad=True)
    whole = model.contrast(image, spectrum)
    want = torch.autograd.grad(whole, (image, spectrum))
    total = torch.zeros(())
    for first in (0, 3):
        both = iter((unit(image), unit(spectrum)))
        model.gather = lambda rows, both=both, first=first: (next(both), first)
        total = total + model.contrast(image[first : first + 3], spectrum[first : first + 3]) / 2
    got = torch.autograd.grad(total, (image, spectrum))
    assert float(total.detach()) == pytest.approx(float(whole.detach()), rel=1e-5)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(want, got, strict=True))


def test_what_is_judged_is_judged_alone():
    """Held-out objects are the same on every rank: gathered, each would be its own rival."""
    model, image, spectrum = pairs.clip(learns_scale=False), torch.randn(6, 8), torch.randn(6, 8)
    want = model.eval().contrast(image, spectrum)
    model.gather = lambda rows: (torch.cat([rows, rows]), 0)
    assert torch.equal(model.contrast(image, spectrum), want)
    assert float(model.train().contrast(image, spectrum)) > float(want)


def test_fifty_steps_lower_the_loss_and_move_the_heads_alone():
    model, tokens = pairs.clip(), told(32)
    model.train()
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    first = float(model.loss(tokens).detach())
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(50):
        optimiser.zero_grad()
        loss = model.loss(tokens)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.8 * first
    moved = {key for key, p in model.named_parameters() if not torch.equal(p, before[key])}
    assert moved and not any(".backbone." in key for key in moved)
    assert any(key.startswith("image.pool") for key in moved) and any(key.startswith("spectrum.pool") for key in moved)
    assert "log_scale" in moved


def test_a_standing_backbone_drops_nothing_while_the_heads_learn():
    core = replace(pairs.SPECFORMER.core, dropout=0.5)
    tower = replace(pairs.CLIP.spectrum, backbone=replace(pairs.SPECFORMER, core=core))
    model, tokens = pairs.clip(spectrum=tower).train(), spectra(told(4))
    assert torch.equal(model.spectrum.read(tokens).states, model.spectrum.read(tokens).states)
    assert not model.spectrum.read(tokens).states.requires_grad
    learning = pairs.clip(spectrum=replace(tower, frozen=False)).train()
    assert learning.spectrum.read(tokens).states.requires_grad
    assert not torch.equal(learning.spectrum.read(tokens).states, learning.spectrum.read(tokens).states)


# --- reading -----------------------------------------------------------------------------------------------------


def test_saved_and_loaded_is_the_same(tmp_path):
    model, tokens = pairs.clip(), told()
    again = store.load(store.save(model, tmp_path / "model"))
    assert again.config == model.config
    assert torch.equal(again.vectors(images(tokens)), model.vectors(images(tokens)))
    assert float(again.scale.detach()) == pytest.approx(15.5, rel=1e-6)


def test_image_and_spectrum_are_embedded_into_one_space_and_signed_alike():
    model, seen = pairs.clip(), pairs.sky(5)
    image, spectrum = embed(model, seen, part="image", batch=2), embed(model, seen, part="spectrum", batch=2)
    assert image.vectors.shape == spectrum.vectors.shape == (5, 8)
    assert image.signature == spectrum.signature
    assert not np.allclose(image.vectors, spectrum.vectors)
    alone = embed(model, seen.take([2]), part="image")
    assert alone.vectors == pytest.approx(image.vectors[2:3], abs=1e-5)


def test_which_of_two_must_be_said():
    with pytest.raises(BadValue, match='part="image"'):
        embed(pairs.clip(), pairs.sky(3))
    with pytest.raises(MissingModality, match="want images spectra"):
        pairs.clip().vectors(Tokens({"scalars": Span(torch.zeros(2, 1, 1), torch.zeros(2, 1).long())}))


@pytest.mark.parametrize("gone", ["images", "spectra"])
def test_unpaired_batches_are_refused(gone):
    """A modality that is not there at all, or not for every object."""
    model, tokens = pairs.clip(), told(4)
    with pytest.raises(MissingModality, match=gone):
        model.loss(Tokens({name: span for name, span in tokens.items() if name != gone}))
    there = torch.ones(tokens[gone].values.shape[:2], dtype=torch.bool)
    there[2] = False
    holed = tokens | {gone: replace(tokens[gone], present=there)}
    with pytest.raises(MissingModality, match=f"1 of 4 objects have no '{gone}'"):
        model.loss(holed)


def test_pairs_of_other_lengths_are_refused(unchecked):
    with pytest.raises(ShapeMismatch, match="not pairs"):
        pairs.clip().contrast(torch.randn(4, 8), torch.randn(3, 8))


@pytest.mark.parametrize("read", ["vectors", "states"])
def test_an_aligned_model_has_one_layer(read):
    with pytest.raises(BadValue, match="blocks"):
        getattr(pairs.clip(), read)(images(told(2)), blocks=1)


def test_a_spectrum_tower_has_no_bare_patches():
    with pytest.raises(BadValue, match="bare"):
        replace(pairs.CLIP.spectrum, bare=True).build()


# --- version 1 ---------------------------------------------------------------------------------------------------


def test_version_1_trains_two_last_layers_and_a_head():
    network = ResNetConfig(blocks=(1, 1, 1, 1), bottleneck=True)
    config = ContrastiveConfig(
        image=MomentumEncoderConfig(network=network, projected=8), spectrum=pairs.CLIP.spectrum, learns_scale=False
    )
    model = config.build(0).train()
    pixels = RasterPatches(patch_size=1, bands=pairs.BANDS, name="pixels")
    seen = pairs.sky(4, size=32)
    model.codecs = (pixels, pairs.SECTIONS)
    running = model.image.backbone.network.stem[1].running_mean.clone()
    model.loss(encode_all(model.codecs, seen)).backward()
    learnt = {key for key, p in model.named_parameters() if p.grad is not None}
    assert {key.split(".")[2] for key in learnt if key.startswith("image")} == {"up", "down"}
    assert all(key.startswith("spectrum.pool") for key in learnt if not key.startswith("image"))
    assert torch.equal(running, model.image.backbone.network.stem[1].running_mean)
    assert embed(model.eval(), seen, part="image").vectors.shape == (4, 8)
