"""DINOv2's losses, masks, schedules and layer decay, and AstroDINO's blur and dust, as recorded from the reference."""

import math
import random
from dataclasses import replace

import pytest
import torch

from omnisky.codec.stretch import Linear
from omnisky.model.augment import MultiCrop, View, Weather, blurred, reddened
from omnisky.model.distill import Centring, DistillConfig, Head, Hiding, Said, Sinkhorn, Told, ibot, koleo, surprise
from omnisky.model.vision import vit
from omnisky.train.optim import LayerwiseAdamW


@pytest.fixture(scope="module")
def pack(parity_folder):
    """The full pack, or the part of it that is kept here."""
    trimmed = parity_folder / "astroclip_distill.pt"
    return torch.load(trimmed if trimmed.exists() else parity_folder / "astroclip_parity.pt", weights_only=True)


def close(ours, theirs) -> bool:
    return ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


def config(**changes) -> DistillConfig:
    view = View(size=48, shift=0)
    views = MultiCrop(first=view, second=view, small=replace(view, size=24), stretch=Linear())
    core = vit(8, 8, 2, patch_size=12, grid=4)
    return DistillConfig(vision=core, views=views, prototypes=16, hidden=8, bottleneck=4, **changes)


# --- losses ------------------------------------------------------------------------------------------------------


def test_centred_probabilities(pack):
    dino, centre = pack["dino"], Centring().build(64)
    assert close(centre(dino["teacher1"], dino["temp"]), dino["softmax1"])
    centre.settle()
    assert close(centre.centre, dino["center_after"])
    assert close(centre(dino["teacher2"], dino["temp"]), dino["softmax2_centered"])


def test_sinkhorn_knopp(pack):
    dino = pack["dino"]
    assert close(Sinkhorn().build(64)(dino["teacher1"], dino["temp"]), dino["sinkhorn1"])


def test_dino(pack):
    """The reference's sum over all pairs of two students and two teachers."""
    dino = pack["dino"]
    teachers = (dino["softmax1"], dino["softmax2_centered"])
    total = sum(float(surprise(said, target, 0.1).mean()) for said in dino["student"] for target in teachers)
    assert total == pytest.approx(float(dino["dino_loss"]), rel=1e-5)


def test_ibot(pack):
    told = pack["dino"]["ibot"]
    centre = Centring().build(64)
    soft = centre(told["teacher"][0], pack["dino"]["temp"])
    centre.settle()
    assert close(soft, told["soft"][0]) and close(centre.centre, told["center_after"][0])
    student = Told(large=soft, small=soft, patches=told["student"], states=soft)
    loss = ibot(student, Said(large=soft, patches=told["soft"][0]), told["mask"], config())
    assert float(loss) == pytest.approx(float(told["loss"]), rel=1e-5)


def test_koleo(pack):
    told = pack["dino"]["koleo"]
    assert float(koleo(told["x"])) == pytest.approx(float(told["loss"]), rel=1e-5)


def test_the_head(pack):
    told = pack["dino_head"]
    head, state = Head(64, 96, 32, 256), told["state_dict"]
    names = {"mlp.0": "first", "mlp.2": "second", "mlp.4": "third"}
    ours = {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": t for key, t in state.items() if "mlp" in key}
    head.load_state_dict(
        ours | {"last.length": state["last_layer.weight_g"], "last.direction": state["last_layer.weight_v"]}
    )
    assert close(head(told["x"]).detach(), told["y"])


# --- hiding, schedules -------------------------------------------------------------------------------------------


def test_blocks_are_those_of_the_reference(pack):
    told, chance = pack["masking"], random.Random(pack["masking"]["py_seed"])
    for want, theirs in zip(told["want"], told["masks"], strict=True):
        assert torch.equal(Hiding().blocks(int(want), 12, chance), theirs.bool())


def test_schedules(pack):
    told, steps = pack["dino_schedules"], 250_000
    peak = 2e-4 * math.sqrt(72 * 20 / 1024)
    optim = LayerwiseAdamW(peak=peak, warmup=40_000, floor=1e-6 / peak, weight_decay=0.001, weight_decay_end=0.01)
    model = config().build(seed=0)
    optimiser = optim.build(model)
    for i, iteration in enumerate(told["iters"]):
        assert optim.steer(optimiser, iteration + 1, steps) == pytest.approx(told["lr"][i], rel=1e-9)
        assert max(g["weight_decay"] for g in optimiser.param_groups) == pytest.approx(told["wd"][i], rel=1e-9)
        model.step.fill_(iteration)
        assert model.temperature() == pytest.approx(told["temp"][i], rel=1e-9)
        before = {name: p.clone() for name, p in model.teacher.named_parameters()}
        model.student.head.first.bias.data.fill_(1.0)
        model.teacher.head.first.bias.data.zero_()
        model.after_step(iteration + 1, steps)
        assert float(model.teacher.head.first.bias[0]) == pytest.approx(1 - told["mom"][i], abs=1e-7)
        assert torch.equal(before["vision.positions"], model.teacher.vision.positions)


def test_layer_decay(pack):
    """Rates and decays of every parameter of an 8-block ViT."""
    names = {"cls_token": "class_token", "pos_embed": "positions", "mask_token": "hidden_token"}
    parts = {
        **{"norm1": "attention_norm", "attn.qkv": "attention.qkv", "attn.proj": "attention.out"},
        **{"norm2": "mlp_norm", "mlp.fc1": "mlp.up", "mlp.fc2": "mlp.down"},
        **{"ls1.gamma": "attention_branch.scale", "ls2.gamma": "mlp_branch.scale"},
    }
    model, optim = config().build(seed=0), LayerwiseAdamW()
    found = {id(p): group for group in optim.build(model).param_groups for p in group["params"]}
    ours = dict(model.student.vision.named_parameters())
    for theirs, (rate, decays) in pack["layer_decay"].items():
        name = names.get(theirs, theirs.replace("patch_embed.proj", "patches"))
        if name.startswith("blocks."):
            _, _, i, rest = name.split(".", 3)
            stem = next(part for part in parts if rest.startswith(part))
            name = f"core.blocks.{i}.{parts[stem]}{rest.removeprefix(stem)}"
        elif name.startswith("norm."):
            name = f"core.{name}"
        group = found[id(ours.pop(name))]
        assert (group["share"], float(group["decays"])) == pytest.approx((rate, decays)), theirs
    assert not ours


# --- augmentations -----------------------------------------------------------------------------------------------


def test_blur(pack):
    """Recorded with bands g, r, z, of which only z was blurred; scipy worked in float32 too."""
    if "blur" not in pack:
        pytest.skip("images are in the full pack only: set OMNISKY_PARITY")
    told = pack["blur"]
    ours = blurred(told["chw"], told["sigma_augment"].float())
    assert float((ours - told["out"]).abs().max()) <= 1e-6 * float(told["chw"].abs().max())


def test_extra_widths(pack):
    """σ² of what is added is the difference of what was drawn, where it is positive."""
    if "blur" not in pack:
        pytest.skip("images are in the full pack only: set OMNISKY_PARITY")
    for name in ("blur", "noise"):
        told = pack[name]
        extra = (told["sigma_final"] ** 2 - told["sigma_true"] ** 2).clamp(min=0).sqrt()
        torch.testing.assert_close(extra, told["sigma_augment"])
    added = (pack["noise"]["out"] - pack["noise"]["chw"])[2]
    assert float(added.std()) == pytest.approx(float(pack["noise"]["sigma_augment"][2]), rel=0.02)


def test_reddening_follows_the_same_law(pack):
    """Whatever E(B−V) was drawn, one number explains all bands: the recording has g, r, z, ours are z, r, g."""
    if "stein" not in pack:
        pytest.skip("images are in the full pack only: set OMNISKY_PARITY")
    for name in ("reddening", "reddening_known_ebv"):
        before, after = pack["stein"]["hwc"], pack["stein"]["out"][name].float()
        law = Weather().extinction
        bright = before[..., 0].flatten().argmax()
        ratio = float(after.flatten(0, 1)[bright, 0] / before.flatten(0, 1)[bright, 0])
        ebv = -2.5 * math.log10(ratio) / law[2]
        ours = reddened(before.permute(2, 0, 1)[None], torch.tensor([ebv]), law[::-1])[0].permute(1, 2, 0)
        assert float((ours - after).abs().max()) <= 1e-5 * float(after.abs().max()), name
