"""Low-rank updates: nothing at first, only where they should, the same when folded in, and peft's files."""

import copy
import json

import numpy as np
import pytest
import torch
from pairs import clip
from pairs import sky as pair_sky
from small import galaxies, model

from omnisky.adapt import lora
from omnisky.codec.tokens import encode_all
from omnisky.embed import only
from omnisky.errors import CorruptFile, UnknownLayout
from omnisky.model import lowrank
from omnisky.model.adapted import FUSED, UPDATED, AdaptedConfig, thawed
from omnisky.model.heads import Classes
from omnisky.model.store import read_weights, write_weights


def updated(seed: int = 0):
    """A tiny AstroPT with updates of queries and values that are no longer 0."""
    base = model()
    lowrank.add(base, FUSED, rank=2, scale=0.5, parts=UPDATED, generator=torch.Generator().manual_seed(seed))
    for layer in lora.updates(base).values():
        torch.nn.init.normal_(layer.lora_b, generator=torch.Generator().manual_seed(seed))
    return base


@pytest.fixture(scope="module")
def tokens():
    return encode_all(model().codecs, galaxies(4))


def vectors(one, tokens):
    with torch.no_grad():
        return one.vectors(tokens)


def test_a_new_update_changes_nothing(tokens):
    base = model()
    before = vectors(base, tokens)
    assert lowrank.add(base, FUSED, rank=2, scale=1.0, parts=UPDATED)
    torch.testing.assert_close(vectors(base, tokens), before)


def test_keys_of_a_fused_layer_stay_as_they_were():
    layer = next(iter(lora.updates(updated()).values()))
    change = (layer.update @ layer.lora_a).unflatten(0, (3, -1))
    assert change[1].abs().max() == 0
    assert change[0].abs().max() > 0 and change[2].abs().max() > 0
    assert torch.linalg.matrix_rank(change[0]) == torch.linalg.matrix_rank(change[2]) == 2


def test_folded_in_it_answers_the_same_with_plain_layers(tokens):
    base = updated()
    before = vectors(base, tokens)
    lowrank.fold(base)
    assert not lora.updates(base) and base.state_dict().keys() == model().state_dict().keys()
    torch.testing.assert_close(vectors(base, tokens), before)
    assert (vectors(model(), tokens) - before).abs().max() > 1e-3


def test_files_come_back_and_are_pefts(tokens, tmp_path):
    base = updated()
    lora.save(base, tmp_path / "a", base="small")
    again = model()
    lora.load(again, tmp_path / "a")
    torch.testing.assert_close(vectors(again, tokens), vectors(base, tokens))
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 2.0)  # two parts of rank 2, · 0.5
    weights = read_weights(tmp_path / "a" / "adapter_model.safetensors")
    name = config["target_modules"][0]
    a, b = (weights[f"base_model.model.{name}.lora_{letter}.weight"] for letter in "AB")
    old = dict(model().named_modules())[name].weight
    lowrank.fold(base)
    # peft's own formula: W + lora_alpha / r · B A
    torch.testing.assert_close(
        old + config["lora_alpha"] / config["r"] * b @ a, dict(base.named_modules())[name].weight
    )


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_broken_file_is_named(name, tmp_path):
    lora.save(updated(), tmp_path / "a")
    (tmp_path / "a" / name).write_bytes(b"{")
    with pytest.raises(CorruptFile, match=name):
        lora.load(model(), tmp_path / "a")


def test_updates_of_another_model_are_refused(tmp_path):
    lora.save(updated(), tmp_path / "a")
    other = model()
    other.core.blocks[0].attention.qkv = torch.nn.Linear(4, 12)
    with pytest.raises(UnknownLayout, match="qkv"):
        lora.load(other, tmp_path / "a")
    with pytest.raises(UnknownLayout, match="no low-rank"):
        lora.save(model(), tmp_path / "b")
    write_weights(
        {"base_model.model.no.such.lora_A.weight": torch.zeros(1, 1)}, tmp_path / "a/adapter_model.safetensors"
    )
    with pytest.raises(UnknownLayout, match="no such layer"):
        lora.load(model(), tmp_path / "a")


def test_only_updates_and_the_head_learn():
    adapted = AdaptedConfig(base=model().config, width=16, head=Classes(count=2), lora_rank=2).build(0)
    learns = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert learns and all(".lora_" in name or name.startswith(("norm", "answers")) for name in learns)


def test_a_tower_that_stands_still_learns_when_adapted():
    base = clip()
    assert not any(p.requires_grad for p in base.image.backbone.parameters())
    adapted = AdaptedConfig(base=base.config, width=8, head=Classes(count=2), lora_rank=2).build(0)
    tokens = encode_all(base.codecs, only(pair_sky(4), "image"))
    adapted.base.vectors(tokens).square().sum().backward()
    gradients = [layer.lora_b.grad for layer in lora.updates(adapted.base.image).values()]
    assert gradients and all(g is not None and g.abs().max() > 0 for g in gradients)
    assert thawed(model().config) == model().config


def test_the_caller_keeps_its_model(tokens):
    base = updated()
    before = vectors(base, tokens)
    lowrank.fold(copy.deepcopy(base))
    np.testing.assert_array_equal(vectors(base, tokens), before)
