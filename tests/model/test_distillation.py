"""DINO, iBOT and KoLeo as plain formulas say, a teacher that follows, and a run that survives a kill bit by bit."""

import json
import math
import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small import BANDS, galaxies

from omnisky.codec.patch import RasterPatches
from omnisky.codec.stretch import Linear
from omnisky.codec.tokens import Span, Tokens
from omnisky.errors import BadValue, MissingModality, ShapeMismatch
from omnisky.model import distill, store
from omnisky.model.augment import Lognormal, MultiCrop, View, Weather
from omnisky.model.distill import Centring, DistillConfig, Hiding, Said, Sinkhorn, Told, dino, ibot, koleo
from omnisky.model.vision import vit
from omnisky.recipes import recipe
from omnisky.train.config import Run
from omnisky.train.loop import train
from omnisky.train.optim import AdamW, LayerwiseAdamW

CALM = Lognormal(shape=(0.3,) * 3, loc=(0.5,) * 3, scale=(0.3,) * 3)
VIEWS = MultiCrop(
    first=View(size=12, shift=2, blur=1.0, noise=1.0),
    second=View(size=12, shift=2, turn=0.5, noise=0.5),
    small=View(size=8, shift=4, blur=0.5),
    small_views=3,
    weather=Weather(seeing=CALM, depth=CALM),
    stretch=Linear(centre=(40.0,), scale=(60.0,)),
)
CONFIG = DistillConfig(
    vision=vit(16, 2, 2, patch_size=4, grid=3, drop_path=0.1),
    views=VIEWS,
    hiding=Hiding(smallest=1),
    prototypes=24,
    hidden=20,
    bottleneck=8,
    warming=5,
)
PIXELS = RasterPatches(patch_size=1, bands=BANDS, name="pixels")


def model(**changes) -> distill.Distill:
    built = replace(CONFIG, **changes).build(seed=0)
    built.codecs = (PIXELS,)
    return built


def tokens(n: int = 6):
    return PIXELS.encode(galaxies(n))


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=draw(seed))


# --- losses against plain formulas -------------------------------------------------------------------------------


def test_dino_is_the_mean_cross_entropy_of_all_pairs_of_views():
    n, k, views = 5, 24, 3
    told = Told(
        large=logits(2 * n, k), small=logits(views * n, k, seed=1), patches=logits(0, k), states=logits(2 * n, 4)
    )
    target = Said(large=logits(2 * n, k, seed=2).softmax(-1), patches=logits(0, k))
    seen = [*told.large.split(n), *told.small.split(n)]
    terms = [
        -(teacher * (said / 0.1).log_softmax(-1)).sum(-1).mean()
        for j, teacher in enumerate(target.large.split(n))
        for i, said in enumerate(seen)
        if i != j
    ]
    assert len(terms) == 2 + 2 * views
    torch.testing.assert_close(dino(told, target, CONFIG), torch.stack(terms).mean())


def test_ibot_is_each_views_mean_over_what_it_hid():
    hidden = torch.tensor([[True, False, False], [True, True, True], [False, False, False], [False, True, True]])
    said, target = logits(6, 24), logits(6, 24, seed=1).softmax(-1)
    told = Told(large=logits(4, 24), small=logits(0, 24), patches=said, states=logits(4, 4))
    each = -(target * (said / 0.1).log_softmax(-1)).sum(-1)
    want = (each[:1].mean() + each[1:4].mean() + each[4:].mean()) / 4
    torch.testing.assert_close(ibot(told, Said(large=logits(4, 24), patches=target), hidden, CONFIG), want)


def test_koleo_is_minus_the_log_of_the_distance_to_the_nearest():
    x = logits(7, 5).double().float()
    units = F.normalize(x)
    apart = torch.cdist(units, units).fill_diagonal_(math.inf).amin(1)
    torch.testing.assert_close(koleo(x), -apart.log().mean(), rtol=1e-5, atol=1e-6)
    assert float(koleo(x[:1])) == 0


def test_koleo_drives_twins_apart():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.01], [-1.0, 0.3]], requires_grad=True)
    koleo(x).backward()
    assert float(x.grad[0, 1]) > 0 > float(x.grad[1, 1])  # downhill, the first goes down and the second up


def test_sinkhorn_knopp_becomes_doubly_stochastic():
    """Rows sum to 1 after any round; columns to rows/prototypes in the limit, and nearly after three."""
    say = logits(40, 8)
    for rounds, temperature, off in ((3, 1.0, 0.02), (300, 0.2, 1e-3)):
        share = Sinkhorn(rounds=rounds).build(8)(say, temperature)
        torch.testing.assert_close(share.sum(1), torch.ones(40))
        assert float((share.sum(0) / 5 - 1).abs().max()) < off
    plain = torch.exp(say / 0.2)
    for _ in range(3):
        plain = plain / plain.sum(0, keepdim=True)
        plain = plain / plain.sum(1, keepdim=True)
    torch.testing.assert_close(Sinkhorn().build(8)(say, 0.2), plain)


def test_sinkhorn_survives_confident_teachers():
    share = Sinkhorn().build(8)(60 * logits(10, 8), 0.04)  # exp(1500) is no float32
    assert bool(torch.isfinite(share).all())


def test_the_centre_moves_by_the_mean_of_a_steps_pieces_and_counts_from_the_next_step():
    centre = Centring().build(8)
    first, second = logits(5, 8) + 1, logits(3, 8, seed=1)
    torch.testing.assert_close(centre(first, 0.5), (first / 0.5).softmax(-1))
    centre(second, 0.5)
    centre.settle()
    mean = torch.cat([first, second]).mean(0, keepdim=True)
    torch.testing.assert_close(centre.centre, 0.1 * mean)
    torch.testing.assert_close(centre(first, 0.5), ((first - 0.1 * mean) / 0.5).softmax(-1))
    before = centre.settle() or centre.centre.clone()
    centre.eval()(second, 0.5)
    centre.settle()
    assert torch.equal(centre.centre, before)


def test_the_loss_is_the_sum_of_its_three_parts():
    net, n = model(), 4
    net.eval()
    loss = net.loss(tokens(n), draw(3))
    chance = draw(3)
    crops = VIEWS.crops(net.images(tokens(n)), chance)
    large, small = (distill.cut(views, 4) for views in (crops.large, crops.small))
    hidden = net.hide(large, chance)
    assert 0 < int(hidden.sum()) < hidden.numel()
    target, told = net.teach(large, hidden), net.learn(large, small, hidden)
    near = 0.1 * (koleo(told.states[:n]) + koleo(told.states[n:]))
    want = dino(told, target, CONFIG) + ibot(told, target, hidden, CONFIG) + near
    torch.testing.assert_close(loss, want)


def test_hidden_patches_are_hidden_from_the_student_only():
    """Other pixels behind them change what the teacher says and nothing of what the student says."""
    net = model().eval()
    large, small = torch.rand(4, 9, 48, generator=draw()), torch.rand(6, 4, 48, generator=draw(1))
    hidden = torch.zeros(4, 9, dtype=torch.bool)
    hidden[1, 3:5] = True
    other = torch.where(hidden[..., None], 1 - large, large)
    assert torch.equal(net.learn(large, small, hidden).patches, net.learn(other, small, hidden).patches)
    assert not torch.allclose(net.teach(large, hidden).patches, net.teach(other, hidden).patches)


# --- hiding ------------------------------------------------------------------------------------------------------


def test_half_of_the_views_hide_blocks_of_shares_spread_evenly():
    hiding = Hiding()
    hidden = hiding.draw(20, 12, random.Random(1))
    counts = sorted(hidden.sum(1).tolist())
    assert counts[:10] == [0] * 10
    for i, count in enumerate(counts[10:]):  # a last block that does not fit leaves a few patches over
        assert 144 * (0.1 + 0.04 * i) - 12 <= count <= 144 * (0.1 + 0.04 * (i + 1))
    assert sorted(hiding.draw(20, 12, random.Random(1)).sum(1).tolist()) == counts


def test_one_view_or_none_may_be_hidden():
    assert Hiding().draw(1, 12, random.Random(0)).sum() == 0
    net = model(hiding=Hiding(images=0.0)).eval()
    assert bool(torch.isfinite(net.loss(tokens(2), draw())))


# --- the teacher -------------------------------------------------------------------------------------------------


def test_the_teacher_is_a_running_mean_of_the_student():
    net = model()
    start = [p.clone() for p in net.teacher.parameters()]
    for p in net.student.parameters():
        p.data.add_(1.0)
    net.after_step(1, 100)
    for before, now in zip(start, net.teacher.parameters(), strict=True):
        torch.testing.assert_close(now, before + 0.008)
    net.after_step(51, 100)  # half-way: the cosine stands at (1 + 0.992) / 2
    for before, now in zip(start, net.teacher.parameters(), strict=True):
        torch.testing.assert_close(now - before, torch.full_like(now, 0.008 + 0.992 * 0.004), rtol=1e-4, atol=1e-6)


def test_the_teacher_begins_as_the_student_and_gets_no_gradient():
    net = model()
    for mine, theirs in zip(net.student.parameters(), net.teacher.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    net.loss(tokens(), draw()).backward()
    assert all(p.grad is None for p in net.teacher.parameters())
    assert all(p.grad is not None for name, p in net.student.named_parameters())


def test_the_teacher_warms_up():
    net = model()
    assert net.temperature() == 0.04
    for step, want in ((2, 0.055), (4, 0.07), (9, 0.07)):
        net.after_step(step, 10)
        assert net.temperature() == pytest.approx(want)


def test_a_batch_of_one_has_a_loss():
    assert bool(torch.isfinite(model().loss(tokens(1), draw())))


def test_the_loss_is_a_function_of_tokens_and_seed():
    net = model(vision=replace(CONFIG.vision, core=replace(CONFIG.vision.core, drop_path=0.0)))
    one, two, other = (float(net.loss(tokens(), draw(seed)).detach()) for seed in (1, 1, 2))
    assert one == two != other


def test_pixels_that_do_not_fit_are_refused():
    with pytest.raises(ShapeMismatch, match="patch_size=1"):
        model().loss(RasterPatches(patch_size=2, bands=BANDS, name="pixels").encode(galaxies(2)))
    with pytest.raises(MissingModality):
        model().loss(RasterPatches(patch_size=1, bands=BANDS).encode(galaxies(2)))
    with pytest.raises(BadValue, match="whole 4 px"):
        replace(CONFIG, views=replace(VIEWS, small=View(size=7, shift=1)))


# --- the run -----------------------------------------------------------------------------------------------------

RUN = Run(
    name="toy",
    model=CONFIG,
    codecs=(PIXELS,),
    held_out=0.2,
    steps=6,
    batch=8,
    accumulate=2,
    optim=LayerwiseAdamW(peak=2e-3, warmup=2, weight_decay=0.001, clip=3.0, betas=(0.9, 0.999), frozen=1),
    precision="fp32",
    seed=3,
    judge_every=3,
    save_every=2,
)
SKY = galaxies(40)


@pytest.mark.parametrize("balance", [Centring(), Sinkhorn()])
def test_a_killed_run_ends_with_the_same_bits(tmp_path, balance):
    run = replace(RUN, model=replace(CONFIG, balance=balance))
    whole = train(run, tmp_path / "whole", SKY).state_dict()

    def stop(progress) -> None:
        if progress.step == 5:  # the checkpoint is that of step 4
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path / "killed", SKY, watch=stop)
    again = train(run, tmp_path / "killed", SKY).state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole) and whole.keys() == again.keys()
    assert (tmp_path / "killed/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()
    assert int(whole["step"]) == 6


def test_the_last_layer_is_frozen_at_first_and_then_learns(tmp_path):
    start = CONFIG.build(seed=3).state_dict()
    for steps, frozen in ((2, True), (3, False)):
        run = replace(RUN, steps=steps, optim=replace(RUN.optim, frozen=2, warmup=0))
        after = train(run, tmp_path / str(steps), SKY).state_dict()
        for leaf in ("length", "direction"):
            name = f"student.head.last.{leaf}"
            assert torch.equal(after[name], start[name]) is frozen
        assert not torch.equal(after["student.head.first.weight"], start["student.head.first.weight"])


def test_what_was_learned_is_saved_loaded_and_embeds(tmp_path):
    trained = train(replace(RUN, steps=2), tmp_path, SKY)
    again = store.load(tmp_path / "model")
    assert again.config == CONFIG and again.codecs == (PIXELS,)
    vision = again.encoder()
    assert vision.codecs[0].side == 12 and vision.codecs[0].stretch == VIEWS.stretch
    want = trained.encoder().vectors(vision.codecs[0].encode(SKY.take(slice(0, 5))))
    store.save(vision, tmp_path / "vision")
    found = store.load(tmp_path / "vision").vectors(vision.codecs[0].encode(SKY.take(slice(0, 5))))
    torch.testing.assert_close(found, want)


def test_a_student_learns_what_a_teacher_that_stands_still_says(tmp_path):
    """A teacher that moves can make the loss of a student who learns rise; one that does not cannot."""
    still = replace(CONFIG, balance=Sinkhorn(), momentum=1.0, teacher_temperature=(0.1, 0.1), koleo=0.0)
    train(replace(RUN, model=still, steps=50, optim=replace(RUN.optim, peak=3e-3)), tmp_path, SKY)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    judged = [line["held_out"] for line in lines if "held_out" in line]
    assert judged[-1] < judged[0] - 0.3


def test_the_recipes_are_the_published_one_and_a_small_one():
    with torch.device("meta"):
        head = distill.Head(1024, 2048, 256, 65_536)
    assert sum(p.numel() for p in head.parameters()) == 23_662_848
    run = recipe("astrodino")
    assert run.steps == 250_000 and run.optim.peak == pytest.approx(2.3717e-4, rel=1e-4)
    assert run.model.views.first.blur == 1.0 and recipe("astrodino-as-run").model.views.second.blur == 0.9
    net = recipe("astrodino-mini").model.build(seed=0)
    image = torch.randn(2, 112 * 112, 3, generator=draw()) * 0.1
    span = Span(image, torch.arange(112 * 112).expand(2, -1))
    assert bool(torch.isfinite(net.loss(Tokens({"pixels": span}), draw())))


# --- the optimiser -----------------------------------------------------------------------------------------------


def test_layers_learn_at_their_own_rates():
    net = model()
    optimiser = RUN.optim.build(net)
    RUN.optim.steer(optimiser, 3, 6)
    names = {id(p): name for name, p in net.named_parameters()}
    group_of = {names[id(p)]: group for group in optimiser.param_groups for p in group["params"]}
    assert set(group_of) == {f"student.{name}" for name, _ in net.student.named_parameters()}
    peak = RUN.optim.peak
    for name, layers, factor in (
        ("vision.class_token", 3, 1.0),
        ("vision.patches.weight", 3, 0.2),
        ("vision.core.blocks.0.mlp.up.weight", 2, 1.0),
        ("vision.core.blocks.1.attention.qkv.bias", 1, 1.0),
        ("vision.core.norm.weight", 0, 1.0),
        ("head.first.weight", 0, 1.0),
    ):
        assert group_of[f"student.{name}"]["lr"] == pytest.approx(peak * 0.9**layers * factor), name
    for name, group in group_of.items():
        spared = name.endswith((".bias", "norm.weight", "branch.scale"))
        assert (group["decays"] == 0) == spared, name


def test_decay_grows_by_a_cosine():
    optim = LayerwiseAdamW(weight_decay=0.001, weight_decay_end=0.01)
    optimiser = optim.build(model())
    for step, want in ((1, 0.001), (501, 0.0055), (1000, 0.01)):
        optim.steer(optimiser, step, 1000)
        assert max(group["weight_decay"] for group in optimiser.param_groups) == pytest.approx(want, rel=1e-3)
        assert min(group["weight_decay"] for group in optimiser.param_groups) == 0


def test_parts_are_clipped_apart():
    net = model()
    for p in net.student.parameters():
        p.grad = torch.ones_like(p)
    sizes = [sum(p.numel() for p in part.parameters()) for part in (net.student.vision, net.student.head)]
    assert LayerwiseAdamW(clip=3.0).shorten(net) == pytest.approx(math.sqrt(sum(sizes)), rel=1e-5)
    for part in (net.student.vision, net.student.head):
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in part.parameters()))
        assert norm == pytest.approx(3.0, rel=1e-4)


def test_a_model_without_layers_is_refused():
    with pytest.raises(BadValue, match="names its layers"):
        LayerwiseAdamW().build(torch.nn.Linear(2, 2))
    assert isinstance(AdamW().build(torch.nn.Linear(2, 2)), torch.optim.AdamW)
