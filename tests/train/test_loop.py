"""The loop: what a run is, that it learns, and that being killed changes no bit of it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import killable
import numpy as np
import pairs
import pytest
import small
import torch
from safetensors.torch import load_file

from omnisky.errors import (
    BadPixels,
    BadValue,
    CorruptFile,
    NonFiniteLoss,
    OutOfMemory,
    ResumeMismatch,
    StorageError,
    UnknownKey,
)
from omnisky.model import store
from omnisky.model.autoregressive import Autoregressive
from omnisky.observe.types import Observation
from omnisky.train import checkpoint
from omnisky.train.config import Run, edit
from omnisky.train.loop import train
from omnisky.train.optim import AdamW, MeanWeights

RUN = killable.run()
CALM = replace(pairs.POOL, dropout=0.0)
CALM_CLIP = replace(
    pairs.CLIP,
    image=replace(pairs.CLIP.image, frozen=False, pool=CALM),
    spectrum=replace(pairs.CLIP.spectrum, frozen=False, pool=CALM),
)


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- kill -9 and resume ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    train(RUN, folder, killable.SKY)
    return folder


@pytest.mark.parametrize("moment", killable.MOMENTS)
def test_killed_at_any_moment_it_ends_with_the_same_bits(whole, tmp_path, moment):
    threads = str(torch.get_num_threads())  # the order of a sum depends on them
    command = [sys.executable, killable.__file__, tmp_path / "run", moment, threads]
    paths = os.pathsep.join([os.path.dirname(small.__file__), os.environ.get("PYTHONPATH", "")])
    died = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert not (tmp_path / "run" / "model").exists()
    train(RUN, tmp_path / "run", killable.SKY)
    for file in ("last/state.safetensors", "model/model.safetensors"):
        assert same(load_file(tmp_path / "run" / file), load_file(whole / file)), file
    for file in ("metrics.jsonl", "last/state.json", "run.json"):
        assert (tmp_path / "run" / file).read_text() == (whole / file).read_text(), file
    assert sorted(os.listdir(tmp_path / "run")) == sorted(os.listdir(whole))


def test_a_line_of_metrics_cut_off_by_a_kill_is_written_again(whole, tmp_path, monkeypatch):
    """Nothing tidies up behind an append, so an interrupt in its midst leaves what a kill would."""

    def half(learner, file):
        if learner.step == 6:
            with open(file, "a") as lines:
                lines.write('{"step": 4, "loss": 0.1}\n{"step": 5, "lo')
            raise KeyboardInterrupt
        log(learner, file)

    log = checkpoint._log
    monkeypatch.setattr(checkpoint, "_log", half)
    with pytest.raises(KeyboardInterrupt):
        train(RUN, tmp_path, killable.SKY)
    monkeypatch.undo()
    train(RUN, tmp_path, killable.SKY)
    assert (tmp_path / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_a_run_does_not_read_the_global_random_numbers(whole, tmp_path):
    torch.manual_seed(99)
    train(RUN, tmp_path, killable.SKY)
    assert same(load_file(tmp_path / "last/state.safetensors"), load_file(whole / "last/state.safetensors"))


def test_the_same_call_on_a_finished_run_changes_nothing(whole, tmp_path):
    before = {file: file.read_bytes() for file in whole.rglob("*") if file.is_file()}
    train(RUN, whole, killable.SKY)
    assert {file: file.read_bytes() for file in whole.rglob("*") if file.is_file()} == before


def test_workers_do_not_change_a_bit(whole, tmp_path):
    train(replace(RUN, workers=0), tmp_path, killable.SKY)
    assert same(load_file(tmp_path / "last/state.safetensors"), load_file(whole / "last/state.safetensors"))


@pytest.mark.parametrize(
    "change", ["seed=8", "batch=4", "steps=20", "optim.peak=0.02", "model.core.dropout=0.2", "mean_decay=0.5"]
)
def test_resuming_with_other_settings_is_refused_naming_them(whole, change):
    other = edit(RUN, [change])
    name = change.split(".")[0].split("=")[0]
    with pytest.raises(ResumeMismatch, match=rf"holds another run\. saw {name}="):
        train(other, whole, killable.SKY)


@pytest.mark.parametrize("file", ["last/state.json", "last/state.safetensors", "run.json"])
def test_a_broken_checkpoint_is_named(tmp_path, file):
    train(replace(RUN, steps=2), tmp_path, killable.SKY)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptFile, match=file):
        train(replace(RUN, steps=2), tmp_path, killable.SKY)


# --- learning ----------------------------------------------------------------------------------------------------


def test_what_a_run_leaves_behind(whole):
    assert sorted(os.listdir(whole)) == ["last", "metrics.jsonl", "model", "run.json"]
    lines = metrics(whole)
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert [line["step"] for line in lines if "held_out" in line] == [4, 8, 10]
    assert [line["rate"] for line in lines] == [RUN.optim.rate(step, 10) for step in range(1, 11)]
    assert store.load(whole / "model").codecs == RUN.codecs


def test_the_saved_model_is_the_mean_of_weights_if_one_is_kept(whole, tmp_path):
    last, model = load_file(whole / "last/state.safetensors"), load_file(whole / "model/model.safetensors")
    assert same(model, {name: last[f"mean/{name}"] for name in model})
    assert not same(model, {name: last[f"model/{name}"] for name in model})
    train(replace(RUN, mean_decay=0.0, steps=2), tmp_path, killable.SKY)
    last, model = load_file(tmp_path / "last/state.safetensors"), load_file(tmp_path / "model/model.safetensors")
    assert same(model, {name: last[f"model/{name}"] for name in model})


def test_a_mean_of_weights_soon_forgets_its_start():
    """Decay min(0.9, (1 + n)/(10 + n)): from 0 towards constant 1, what is left of the start is their product."""
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.zero_()
    mean = MeanWeights(model, 0.9)
    model.weight.data.fill_(1)
    left = 1.0
    for step in range(1, 6):
        mean.update(model, step)
        left *= min(0.9, (1 + step) / (10 + step))
    assert float(mean.mean["weight"]) == pytest.approx(1 - left)


def test_it_learns(tmp_path):
    """Galaxies are smooth: predicting the next patch from the last ones takes off most of the error."""
    train(replace(RUN, steps=40, judge_every=40), tmp_path, killable.SKY)
    lines = metrics(tmp_path)
    assert lines[-1]["held_out"] < 0.6 * lines[0]["loss"]


def test_pieces_of_a_batch_give_the_gradient_of_the_whole(tmp_path):
    """With eps = 1 ≫ gradient, the first step of AdamW is proportional to the gradient (here 0.1 · lr · g)."""
    optim = AdamW(peak=1.0, warmup=0, eps=1.0, weight_decay=0.0, clip=0.0)
    model = replace(RUN.model, core=replace(RUN.model.core, dropout=0.0))
    weights, lines = [], []
    for pieces in (1, 4):
        run = replace(RUN, model=model, optim=optim, accumulate=pieces, steps=1, mean_decay=0.0)
        weights.append(train(run, tmp_path / str(pieces), killable.SKY).state_dict())
        lines += metrics(tmp_path / str(pieces))
    start = model.build(RUN.seed).state_dict()
    assert lines[0]["norm"] == pytest.approx(lines[1]["norm"], rel=1e-5)
    assert lines[0]["loss"] == pytest.approx(lines[1]["loss"], rel=1e-6)
    for name, before in start.items():
        steps = [after[name] - before for after in weights]
        assert torch.allclose(*steps, rtol=1e-4, atol=1e-7), name
        assert steps[0].any(), name


def test_gradients_are_clipped(tmp_path):
    """The recorded norm is that before clipping; after it, a step of lr · g cannot be longer than lr · clip."""
    optim = AdamW(peak=1.0, warmup=0, eps=1.0, weight_decay=0.0, clip=1e-3)
    run = replace(RUN, optim=optim, steps=1, mean_decay=0.0)
    after = train(run, tmp_path, killable.SKY).state_dict()
    before = RUN.model.build(RUN.seed).state_dict()
    step = sum(float((after[name] - before[name]).square().sum()) for name in before) ** 0.5
    assert metrics(tmp_path)[0]["norm"] > 1e-3
    assert 0 < step <= 0.1 * 1e-3 * 1.001


def test_decay_spares_vectors():
    groups = AdamW(weight_decay=0.3).build(RUN.model.build(seed=0)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert {p.ndim for p in groups[0]["params"]} == {2} and {p.ndim for p in groups[1]["params"]} == {1}


def test_the_watcher_sees_every_step(tmp_path):
    seen = []
    train(replace(RUN, steps=3), tmp_path, killable.SKY, watch=seen.append)
    assert [(progress.step, progress.steps) for progress in seen] == [(1, 3), (2, 3), (3, 3)]
    assert all(progress.objects_per_second > 0 for progress in seen)


# --- what goes wrong ---------------------------------------------------------------------------------------------


def floats(value: float):
    """The sky in float32, with one pixel of each image set to this."""
    image = killable.SKY["image"]
    flux = image.flux.astype(np.float32)
    flux[:, 0, 0, 0] = value
    return killable.SKY | {"image": replace(image, flux=flux)}


def test_nan_in_the_data_is_named_before_it_reaches_the_model(tmp_path):
    with pytest.raises(BadPixels, match=r"batch 0 of pass 0, objects toy-\d+ toy-\d+ .* and 3 more: .*bands red"):
        train(RUN, tmp_path, floats(np.nan))


def poisoned(value: float) -> Observation:
    """The sky in float32, with one pixel of one galaxy set to this."""
    flux = killable.SKY["image"].flux.astype(np.float32)
    flux[POISONED, 0, 0, 0] = value
    return killable.SKY | {"image": replace(killable.SKY["image"], flux=flux)}


POISONED = 3
NAME = killable.SKY.object_id[POISONED]


@pytest.mark.parametrize(("value", "error"), [(1e30, NonFiniteLoss), (np.nan, BadPixels)])
def test_a_poisoned_batch_is_named_down_to_the_object(tmp_path, value, error):
    with pytest.raises(error, match=rf"batch \d of pass 0, object {NAME}\b"):
        train(replace(RUN, held_out=0.0), tmp_path, poisoned(value))


@pytest.mark.parametrize("value", [1e30, np.nan])
def test_a_poisoned_batch_is_left_out_where_the_run_forgives(tmp_path, value):
    """Each pass of five batches meets it once; the second time is one too often."""
    run = replace(RUN, held_out=0.0, forgive=1, save_every=2)
    train(replace(run, steps=4), tmp_path / "short", poisoned(value))
    lines = metrics(tmp_path / "short")
    [left_out] = [line["left_out"] for line in lines if "left_out" in line]
    assert left_out["objects"] == [NAME] and left_out["epoch"] == 0
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    with pytest.raises((NonFiniteLoss, BadPixels), match="pass 1"):
        train(run, tmp_path / "long", poisoned(value))


def crowded(most: int):
    """A model that does not fit with more than `most` objects at a time."""
    learns = Autoregressive.loss

    def loss(self, tokens, generator=None):
        if self.training and tokens.objects > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return learns(self, tokens, generator)

    return loss


def test_out_of_memory_halves_the_pieces_and_is_the_same_as_accumulating(tmp_path, monkeypatch):
    run = replace(RUN, accumulate=1, steps=4)
    train(replace(run, accumulate=4), tmp_path / "cut", killable.SKY)
    monkeypatch.setattr(Autoregressive, "loss", crowded(2))
    with pytest.warns(RuntimeWarning, match=r"step 1: out of memory with (8|4) objects at a time, going on with (4|2)"):
        train(run, tmp_path / "crowded", killable.SKY)
    states = [load_file(tmp_path / name / "last/state.safetensors") for name in ("cut", "crowded")]
    assert same(*states)
    assert [line["pieces"] for line in metrics(tmp_path / "crowded") if "pieces" in line] == [2, 4]
    assert json.loads((tmp_path / "crowded/last/state.json").read_text())["pieces"] == 4


def test_a_single_object_that_does_not_fit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Autoregressive, "loss", crowded(0))
    with pytest.raises(OutOfMemory, match="1 objects at a time"), pytest.warns(RuntimeWarning):
        train(RUN, tmp_path, killable.SKY)


def test_recomputed_activations_change_no_bit(whole, tmp_path):
    train(replace(RUN, remat=True), tmp_path, killable.SKY)
    assert same(load_file(tmp_path / "last/state.safetensors"), load_file(whole / "last/state.safetensors"))


def test_pieces_of_pairs_are_compared_with_all_of_the_batch(tmp_path):
    """Without dropout the gradient is that of the whole batch, which no mean over pieces is."""
    run = Run(name="clip", model=CALM_CLIP, codecs=(pairs.PATCHES, pairs.SECTIONS), batch=8, steps=2, precision="fp32")
    for pieces in (1, 4):
        train(replace(run, accumulate=pieces, optim=AdamW(peak=1e-3, warmup=0)), tmp_path / str(pieces), pairs.sky(16))
    whole, cut = (metrics(tmp_path / pieces) for pieces in ("1", "4"))
    assert [line["loss"] for line in cut] == pytest.approx([line["loss"] for line in whole], rel=1e-5)
    assert [line["norm"] for line in cut] == pytest.approx([line["norm"] for line in whole], rel=1e-4)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path):
    """1e30 is finite, its square is not."""
    train(replace(RUN, steps=3), tmp_path, killable.SKY)
    kept = (tmp_path / "last" / "state.safetensors").read_bytes()
    (tmp_path / "run.json").write_text((tmp_path / "run.json").read_text().replace('"steps": 3', '"steps": 6'))
    with pytest.raises(NonFiniteLoss, match=r"step 4\. saw loss (nan|inf)"):
        train(replace(RUN, steps=6), tmp_path, floats(1e30))
    assert (tmp_path / "last" / "state.safetensors").read_bytes() == kept


def test_a_full_disk_is_a_storage_error_and_the_run_can_go_on(whole, tmp_path, monkeypatch):
    def full(weights, file):
        if int(weights["optimiser/0/step"]) == 6:
            raise OSError(28, "No space left on device")
        write(weights, file)

    write = store.write_weights
    monkeypatch.setattr(store, "write_weights", full)
    with pytest.raises(StorageError, match=r"last.*No space left"):
        train(RUN, tmp_path, killable.SKY)
    monkeypatch.undo()
    train(RUN, tmp_path, killable.SKY)
    assert same(load_file(tmp_path / "last/state.safetensors"), load_file(whole / "last/state.safetensors"))


def test_a_run_without_data_says_how_to_give_it_some(tmp_path):
    with pytest.raises(BadValue, match="data=PATH"):
        train(RUN, tmp_path)


# --- variations --------------------------------------------------------------------------------------------------


def test_what_only_together_makes_sense_may_come_in_any_order():
    """A width that its own heads divide, but not the old ones; the last of a name counts."""
    changes = ["model.core.width=36", "model.core.heads=3", "steps=7", "steps=9"]
    for order in (changes, changes[:2][::-1] + changes[2:]):
        run = edit(RUN, order)
        assert (run.model.core.width, run.model.core.heads, run.steps) == (36, 3, 9)


def test_edits_reach_inside_and_leave_the_original_alone():
    run = edit(RUN, ["steps=1_000", "optim.peak=3e-4", "model.core.remat=true", "name=mine", "optim.decay_until=7"])
    assert (run.steps, run.optim.peak, run.model.core.remat, run.name) == (1000, 3e-4, True, "mine")
    assert run.optim.decay_until == 7
    assert (RUN.steps, RUN.optim.peak, RUN.model.core.remat) == (10, 1e-2, False)


@pytest.mark.parametrize(
    ("change", "nearest"),
    [
        ("stpes=3", "steps"),
        ("optim.paek=1", "optim.peak"),
        ("model.core.widht=8", "model.core.width"),
        ("peak=1", "optim.peak"),
        ("core.depth=2", "model.core.depth"),
    ],
)
def test_an_unknown_key_is_refused_naming_the_nearest(change, nearest):
    with pytest.raises(UnknownKey, match=f"Try: {nearest}$"):
        edit(RUN, [change])


NONSENSE = ["steps", "steps=many", "steps=0", "batch=9", "augment=none", "model.core.heads=3", "seed=-1", "workers=-1"]
NONSENSE += ["held_out=1.5", "mean_decay=2", "optim.peak=nan", "optim.peak=-1", "optim.clip=inf", "optim.warmup=-1"]


@pytest.mark.parametrize("change", NONSENSE)
def test_values_that_make_no_sense_are_refused(change):
    with pytest.raises(BadValue):
        edit(RUN, [change])


def test_shards_are_learnt_from_as_observations_are(tmp_path):
    from omnisky.observe.shards import Shards, write_shards

    source = write_shards(killable.SKY, tmp_path / "sky", seed=2)
    run = replace(RUN, steps=3, held_out=0.3)
    parts = sorted({codec.part for codec in run.codecs})
    models = [
        train(run, tmp_path / "whole", source.take(slice(None))),
        train(run, tmp_path / "rows", Shards(tmp_path / "sky", parts=parts)),
        train(replace(run, data=str(tmp_path / "sky")), tmp_path / "path"),
    ]
    states = [model.state_dict() for model in models]
    assert same(states[0], states[1]) and same(states[0], states[2])
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "rows")


def test_a_mix_is_not_split_here(tmp_path):
    from omnisky.observe.mix import Mix

    with pytest.raises(BadValue, match="held_out"):
        train(replace(RUN, held_out=0.1), tmp_path, Mix([killable.SKY]))
