"""AstroCLIP's and Stein's files: every tensor accounted for, nothing executed, hyper-parameters read as inert facts."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pairs
import published
import pytest
import torch
from torch import Tensor, nn

import omnisky
from omnisky.codec.patch import RasterPatches
from omnisky.codec.sections import OverlappingSections
from omnisky.errors import CorruptFile, UnknownLayout, UnsafePickle
from omnisky.model import port_astroclip, store
from omnisky.model.contrastive import ContrastiveConfig, PoolConfig, TowerConfig
from omnisky.model.port import load_published
from omnisky.model.rename import renamed
from omnisky.model.resnet import RESNET50, MomentumEncoderConfig
from omnisky.model.specformer import SpecformerConfig
from omnisky.model.transformer import CoreConfig
from omnisky.model.vision import vit

VISION = vit(64, 4, 4, patch_size=4, grid=3)
SPECFORMER = SpecformerConfig(
    core=CoreConfig(width=48, depth=2, heads=4, bias=True, activation="gelu"), token_width=12, context=30, runs=3, run=5
)
CLIP = ContrastiveConfig(
    image=TowerConfig(backbone=VISION, pool=PoolConfig(inside=64, width=64, heads=4, residual=False), bare=True),
    spectrum=TowerConfig(backbone=SPECFORMER, pool=PoolConfig(inside=48, width=64, heads=2)),
    scale=12.5,
    learns_scale=False,
)
HYPER = {
    **{"input_dim": 12, "embed_dim": 48, "num_layers": 2, "num_heads": 4, "max_len": 30, "dropout": 0.0},
    **{"mask_num_chunks": 3, "mask_chunk_width": 5, "slice_section_length": 10, "slice_overlap": 4},
}


def theirs(model: nn.Module, layout: str) -> dict[str, Tensor]:
    """Our weights under their names, packed as theirs are, blocks in chunks of two."""
    back = {ours: name for name, ours in port_astroclip.TABLES[layout].items() if "{c}" not in name}
    state = {renamed(name, back): weight for name, weight in model.state_dict().items()}
    state = {re.sub(r"blocks\.(\d+)\.(?=norm|attn|ls|mlp\.fc)", _chunked, name): w for name, w in state.items()}
    for name in [name for name in state if name.endswith("patch_embed.proj.weight")]:
        state[name] = state[name].unflatten(1, (4, 4, 3)).permute(0, 3, 1, 2)
    for stem in [name.removesuffix("q_proj_weight") for name in state if name.endswith("q_proj_weight")]:
        weights = [state.pop(f"{stem}{one}_proj_weight") for one in "qkv"]
        if len({weight.shape for weight in weights}) == 1:  # torch packs them then
            state[f"{stem}in_proj_weight"] = torch.cat(weights)
        else:
            state |= {f"{stem}{one}_proj_weight": w for one, w in zip("qkv", weights, strict=True)}
        state[f"{stem}in_proj_bias"] = torch.cat([state.pop(f"{stem}{one}_proj_bias") for one in "qkv"])
    return state


def _chunked(found: re.Match[str]) -> str:
    return f"blocks.{int(found[1]) // 2}.{found[1]}."


def noisy(model: nn.Module) -> nn.Module:
    """Every number is different from every other, so that a tensor in the wrong place shows."""
    draw = torch.Generator().manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.normal_(generator=draw)
    return model


def same(a: nn.Module, b: nn.Module) -> bool:
    return a.state_dict().keys() == b.state_dict().keys() and all(
        torch.equal(weight, b.state_dict()[name]) for name, weight in a.state_dict().items()
    )


@pytest.fixture
def pickled_modules():
    """Classes under the names that are pickled in published files; gone again when they are read."""
    made: dict[str, ModuleType] = {}

    def kind(path: str, base: type = object) -> type:
        room, name = path.rsplit(".", 1)
        parts = room.split(".")
        for i in range(len(parts)):
            made.setdefault(".".join(parts[: i + 1]), ModuleType(".".join(parts[: i + 1])))
        built = type(name, (base,), {"__module__": room, "__qualname__": name})
        setattr(made[room], name, built)
        return built

    def write(file: Path, content: Any) -> Path:
        sys.modules |= {name: module for name, module in made.items() if name not in sys.modules}
        try:
            torch.save(content, file)
        finally:
            for name in made:
                if sys.modules.get(name) is made[name]:
                    del sys.modules[name]
        return file

    return kind, write


def module(kind: type, **facts: Any) -> Any:
    """An instance as torch pickles modules: children under `_modules`."""
    children = {name: fact for name, fact in facts.items() if type(fact).__name__[0].isupper() and fact is not None}
    built = kind.__new__(kind)
    built.__dict__ |= {"training": True, "_modules": children} | {k: v for k, v in facts.items() if k not in children}
    return built


@pytest.fixture
def clip_file(tmp_path, pickled_modules):
    """What AstroCLIP's training leaves: modules and hyper-parameters pickled beside weights and optimiser."""
    kind, write = pickled_modules

    def file(weights: Mapping[str, Tensor], name: str = "astroclip.ckpt") -> Path:
        head, block = kind("astroclip.modules.CrossAttentionHead"), kind("astroclip.modules.SelfAttention")
        dino = kind("dinov2.layers.attention.MemEffAttention")
        hyper = kind("lightning.fabric.utilities.data.AttributeDict", dict)
        image = module(
            kind("astroclip.models.astroclip.ImageHead"),
            backbone=module(
                kind("dinov2.models.vision_transformer.DinoVisionTransformer"), attn=module(dino, num_heads=4)
            ),
            cross_attention=module(head, multihead_attn=nn.MultiheadAttention(8, 4)),
        )
        specformer = module(kind("astroclip.models.specformer.SpecFormer"), block=module(block, num_heads=4))
        specformer.hparams = hyper(HYPER)
        spectrum = module(
            kind("astroclip.models.astroclip.SpectrumHead"),
            backbone=specformer,
            cross_attention=module(head, multihead_attn=nn.MultiheadAttention(8, 2)),
        )
        facts = {"image_encoder": image, "spectrum_encoder": spectrum, "temperature": 12.5, "epochs": {1, 2}}
        optimiser = [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.0}]}]
        content = {"state_dict": dict(weights), "hyper_parameters": facts, "optimizer_states": optimiser, "epoch": 3}
        return write(tmp_path / name, content)

    return file


# --- each layout -------------------------------------------------------------------------------------------------


def test_specformer(tmp_path):
    model = noisy(SPECFORMER.build(0))
    file = tmp_path / "specformer.ckpt"
    torch.save({"state_dict": theirs(model, "specformer"), "hyper_parameters": HYPER, "epoch": 1}, file)
    again = load_published(file)
    assert same(again, model) and again.config == SPECFORMER and not again.training
    assert again.codecs == (OverlappingSections(size=10, step=6, heedless=True, drops_last=True),)


@pytest.mark.parametrize("chunks", [True, False], ids=["chunks", "plain"])
def test_astrodino(tmp_path, chunks):
    """The teacher's backbone; the heads it was trained with are named and left. FSDP's prefix does not matter."""
    model = noisy(VISION.build(0))
    weights = theirs(model, "astrodino")
    if not chunks:
        weights = {re.sub(r"blocks\.\d\.(?=\d)", "blocks.", name): w for name, w in weights.items()}
        weights = {f"module.{name}": w for name, w in weights.items()}
    head = {"dino_head.mlp.0.weight": torch.ones(2, 2), "dino_head.last_layer.weight_g": torch.ones(2, 1)}
    torch.save({"teacher": weights | head}, tmp_path / "astrodino.ckpt")
    again = load_published(tmp_path / "astrodino.ckpt", heads=4)
    assert same(again, model) and again.config == VISION
    (codec,) = again.codecs
    assert isinstance(codec, RasterPatches) and codec.bands == ("z", "r", "g") and codec.side == 12
    assert load_published(tmp_path / "astrodino.ckpt").config.core.heads == 1  # a ViT's rule: one for each 64 numbers


def test_astroclip(clip_file):
    model = noisy(CLIP.build(0))
    weights = theirs(model, "astroclip")
    assert "image_encoder.cross_attention.multihead_attn.in_proj_weight" in weights
    assert "spectrum_encoder.cross_attention.multihead_attn.q_proj_weight" in weights
    again = load_published(clip_file(weights))
    assert same(again, model) and again.config == CLIP
    assert [type(codec).__name__ for codec in again.codecs] == ["RasterPatches", "OverlappingSections"]


@pytest.mark.slow
def test_stein(tmp_path):
    """The query encoder; the key encoder and the queues are named and left."""
    model = noisy(MomentumEncoderConfig(network=RESNET50).build(0))
    query = {f"encoder_q.{name.removeprefix('encoder_q.')}": w for name, w in theirs(model, "resnet50").items()}
    other = {"encoder_k.conv1.weight": torch.ones(2), "queue": torch.ones(2), "val_queue_ptr": torch.zeros(1)}
    torch.save({"state_dict": query | other}, tmp_path / "resnet50.ckpt")
    again = load_published(tmp_path / "resnet50.ckpt")
    assert same(again, model) and again.config.projected == 128


def test_torchvisions_names_of_a_resnet50():
    """As many tensors as torchvision's, under its names; the last two layers are the head of momentum contrast."""
    with torch.device("meta"):
        names = theirs(MomentumEncoderConfig().build(), "resnet50")
    assert len(names) == 318 + 4
    shapes = {
        "encoder_q.conv1.weight": (64, 3, 7, 7),
        "encoder_q.layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "encoder_q.layer2.3.conv2.weight": (128, 128, 3, 3),
        "encoder_q.layer3.0.bn3.running_var": (1024,),
        "encoder_q.layer4.2.conv3.weight": (2048, 512, 1, 1),
        "encoder_q.fc.0.weight": (2048, 2048),
        "encoder_q.fc.2.bias": (128,),
    }
    assert {name: tuple(names[name].shape) for name in shapes} == shapes


def test_the_published_name_on_the_hub(clip_file, tmp_path, monkeypatch):
    """`omnisky.load("polymathic-ai/astroclip")`: the one .ckpt of the repository."""
    import huggingface_hub

    folder = tmp_path / "snapshot"
    folder.mkdir()
    clip_file(theirs(noisy(CLIP.build(0)), "astroclip"), "snapshot/astroclip.ckpt")
    (folder / "README.md").touch()
    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: asked.append(name) or str(folder))
    assert omnisky.load("polymathic-ai/astroclip").config == CLIP
    assert asked == ["polymathic-ai/astroclip"]


def test_what_was_loaded_is_saved_and_loaded_as_ours(clip_file, tmp_path):
    model = load_published(clip_file(theirs(noisy(CLIP.build(0)), "astroclip")))
    again = store.load(store.save(model, tmp_path / "ours"))
    assert store.signature(again) == store.signature(model)
    tokens = pairs.PATCHES.encode(pairs.sky(2, size=12))
    assert torch.equal(again.vectors(tokens), model.vectors(tokens))


# --- strictly ----------------------------------------------------------------------------------------------------


def specformer_file(tmp_path: Path, change) -> Path:
    weights = theirs(noisy(SPECFORMER.build(0)), "specformer")
    change(weights)
    torch.save({"state_dict": weights, "hyper_parameters": HYPER}, tmp_path / "specformer.ckpt")
    return tmp_path / "specformer.ckpt"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("blocks.1.mlp.decoder.bias"), "1 missing (core.blocks.1.mlp.down.bias"),
        (lambda w: w.pop("position_embed.weight"), "no tensor that becomes 'positions.weight'"),
        (lambda w: w.update({"blocks.0.extra.weight": torch.ones(1)}), "blocks.0.extra.weight"),
        (lambda w: w.update({"head.weight": torch.ones(12, 47)}), "1 other shapes (head.weight"),
        (lambda w: w.update({"head.weight": [1.0]}), "tensors alone"),
    ],
)
def test_files_that_do_not_add_up_are_refused(tmp_path, change, said):
    with pytest.raises(UnknownLayout, match=re.escape(said)):
        load_published(specformer_file(tmp_path, change))


def test_heads_that_nobody_tells_must_be_said(tmp_path):
    torch.save({"state_dict": theirs(SPECFORMER.build(0), "specformer")}, tmp_path / "bare.ckpt")
    with pytest.raises(UnknownLayout, match=r"0 heads for width 48; want load_published\(…, heads=n\)"):
        load_published(tmp_path / "bare.ckpt")
    assert load_published(tmp_path / "bare.ckpt", heads=3).config.core.heads == 3


def test_a_truncated_file_is_named(clip_file):
    file = clip_file(theirs(CLIP.build(0), "astroclip"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CorruptFile, match=r"astroclip\.ckpt"):
        load_published(file)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_hyper_parameters_that_would_run_are_not_run(tmp_path, old):
    """Where AstroCLIP pickles its modules somebody may pickle a command."""
    weights = theirs(CLIP.build(0), "astroclip")
    facts = {"image_encoder": published.Runs(os.system, f"touch {tmp_path}/ran"), "temperature": 15.5}
    content = {"state_dict": weights, "hyper_parameters": facts}
    torch.save(content, tmp_path / "astroclip.ckpt", _use_new_zipfile_serialization=not old)
    with pytest.raises(UnsafePickle, match="none was run"):
        load_published(tmp_path / "astroclip.ckpt")
    assert not (tmp_path / "ran").exists()


def test_classes_of_known_packages_are_not_imported_or_called(tmp_path, pickled_modules):
    """A class that claims to be AstroCLIP's, with a constructor that would leave a mark."""
    kind, write = pickled_modules

    touch = kind("astroclip.modules.Touch")

    class Marks:
        def __reduce__(self):
            return touch, (f"{tmp_path}/ran",)

    weights = theirs(SPECFORMER.build(0), "specformer")
    file = write(tmp_path / "specformer.ckpt", {"state_dict": weights, "hyper_parameters": HYPER, "more": Marks()})
    assert "astroclip" not in sys.modules
    assert load_published(file).config == SPECFORMER
    assert "astroclip" not in sys.modules


def test_published_sizes_are_those_of_the_published_files():
    """AstroCLIP's 370,798,358 numbers, and what is left out of 446 + 4 packed tensors."""
    config = replace(
        CLIP,
        image=TowerConfig(backbone=vit(1024, 24, 16), pool=PoolConfig(inside=1024, residual=False), bare=True),
        spectrum=TowerConfig(backbone=SpecformerConfig(), pool=PoolConfig(inside=768)),
    )
    with torch.device("meta"):
        model = config.build()
    assert sum(p.numel() for p in model.parameters()) == 370_798_358
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 24_666_112
    back = {ours: name for name, ours in port_astroclip.TABLES["astroclip"].items() if "{c}" not in name}
    names = [renamed(name, back) for name in model.state_dict()]
    packed = {re.sub(r"[qkv]_proj_bias", "in_proj_bias", str(name)) for name in names}
    image = {re.sub(r"[qkv]_proj_weight", "in_proj_weight", n) if n.startswith("image") else n for n in packed}
    assert len(image) == 446
