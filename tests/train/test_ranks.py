"""On two and on four ranks a run is what it is on one; killed, it goes on, also on another number of ranks."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import ranks
import torch
from safetensors.torch import load_file

from omnisky.errors import BadValue, CorruptFile
from omnisky.model.balance import Sinkhorn
from omnisky.model.contrastive import alone
from omnisky.train import loop
from omnisky.train.devices import here, joined

CURVE = 1e-4
"""relative: sums in another order differ by 1e-7, and steps of AdamW make more of it; seen after six: 2e-6"""
WEIGHTS = 2e-4
"""absolute: a step of AdamW is as long as its rate (up to 1e-2) whatever a gradient's size, so those that are nearly 0
may go other ways"""


FRESH = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""torch 2.13 tells ranks that start again the addresses of dead ones otherwise"""


def curve(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def demand_alike(folder: Path, want: Path) -> None:
    assert curve(folder) == pytest.approx(curve(want), rel=CURVE)
    model, other = (load_file(place / "model/model.safetensors") for place in (folder, want))
    for name, weight in other.items():
        torch.testing.assert_close(
            model[name], weight, rtol=1e-2, atol=WEIGHTS, msg=lambda m, name=name: f"{name}: {m}"
        )


def _two(folder: Path) -> None:
    """All that is quick, in one go: replicated, in pieces, and Sinkhorn over both ranks."""
    place = here()
    with joined(place):
        ranks.learn("astroclip", folder / "clip")
        ranks.learn("aion", folder / "aion", shard=True)
        ranks.learn("astroclip", folder / "cut", shard=True, mean_decay=0.9)
        ranks.learn("astroclip-v1", folder / "astroclip-v1")
        ranks.learn("astroclip-v1", folder / "v1-cut", shard=True)
        torch.save(_spread(place.rank, place.gather), folder / f"spread-{place.rank}.pt")


def _spread(rank: int | None, gather=alone) -> torch.Tensor:
    """Three and four rows, or all seven."""
    balance = Sinkhorn().build(5).train()
    balance.gather = gather
    rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    mine = {0: rows[:3], 1: rows[3:], None: rows}[rank]
    return balance(mine, 0.3)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    assert ranks.together(2, _two, folder) == [0, 0]
    return folder


def test_two_ranks_contrast_as_one_does(two, tmp_path):
    """Four pieces of two pairs each, compared at once: one rank tells four, two ranks tell two each."""
    ranks.learn("astroclip", tmp_path)
    demand_alike(two / "clip", tmp_path)
    files = sorted(os.listdir(two / "clip/last/ranks"))
    assert len(files) == 2 and all(file.endswith(".safetensors") for file in files)  # and nothing pickled


def test_a_model_in_pieces_learns_what_a_whole_one_does(two, tmp_path):
    ranks.learn("aion", tmp_path)
    demand_alike(two / "aion", tmp_path)


def test_a_single_number_is_not_cut_up_and_learns_all_the_same(two, tmp_path):
    """AstroCLIP's scale has no rows to share out; its file says the same as if nothing were."""
    ranks.learn("astroclip", tmp_path, mean_decay=0.9)
    demand_alike(two / "cut", tmp_path)
    scale = load_file(two / "cut/model/model.safetensors")["log_scale"]
    assert scale.shape == () and scale != math.log(ranks.LEARNING.scale)


@pytest.mark.parametrize("name", ["astroclip-v1", "v1-cut"])
def test_convolutions_are_kept_in_channels_last_by_one_rank_and_as_rows_by_several(two, tmp_path, name):
    ranks.learn("astroclip-v1", tmp_path)
    demand_alike(two / name, tmp_path)


@pytest.mark.parametrize("name", ["clip", "aion", "cut", "astroclip-v1"])
def test_one_process_goes_on_where_two_were(two, name):
    """Nothing is left to do: the checkpoint is read whole and the model written again is the same."""
    before = load_file(two / name / "model/model.safetensors")
    run, more = {"clip": ("astroclip", {}), "cut": ("astroclip", {"mean_decay": 0.9})}.get(name, (name, {}))
    ranks.learn(run, two / name, **more)
    after = load_file(two / name / "model/model.safetensors")
    assert all(torch.equal(after[key], weight) for key, weight in before.items())


def test_a_torn_checkpoint_of_ranks_is_named(two, tmp_path):
    import shutil

    shutil.copytree(two / "clip", tmp_path / "run")
    file = sorted((tmp_path / "run/last/ranks").iterdir())[0]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CorruptFile, match="ranks"):
        ranks.learn("astroclip", tmp_path / "run")


def test_sinkhorn_spreads_over_all_ranks(two):
    parts = [torch.load(two / f"spread-{rank}.pt") for rank in (0, 1)]
    torch.testing.assert_close(torch.cat(parts), _spread(None))


# --- slow: all models, four ranks, kills --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(
    ("name", "shard"),
    [(name, shard) for shard in (False, True) for name in ranks.RUNS],
)
def test_the_curve_does_not_depend_on_the_ranks(tmp_path, name, count, shard):
    ranks.learn(name, tmp_path / "one")
    assert ranks.together(count, lambda: ranks.learn(name, tmp_path / "many", shard=shard)) == [0] * count
    demand_alike(tmp_path / "many", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_rank_killed_under_torchrun_changes_no_bit(tmp_path):
    """torchrun starts all ranks again; they go on from `last/`."""
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        if name == "killed":
            (tmp_path / name / "die").write_text("1 3")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command += ["--max-restarts", "1", ranks.__file__, str(tmp_path / name / "run"), "astrodino"]
        paths = os.pathsep.join([str(Path(ranks.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            command,
            env=os.environ | FRESH | {"PYTHONPATH": paths, ranks.WITNESS: str(tmp_path / name), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "killed" / "die").exists()
    killed, whole = (load_file(tmp_path / name / "run/model/model.safetensors") for name in ("killed", "whole"))
    assert all(torch.equal(killed[name], weight) for name, weight in whole.items())
    assert curve(tmp_path / "killed/run") == curve(tmp_path / "whole/run")


@pytest.mark.slow
@pytest.mark.parametrize(("model", "shard"), [("aion", False), ("aion", True), ("astroclip", True)])
def test_two_then_four_then_one_rank_lose_and_repeat_nothing(tmp_path, monkeypatch, model, shard):
    def phase(count: int, name: str, die: str = "") -> list[list[str]]:
        """What it read, batch by batch, all ranks together."""
        (tmp_path / name).mkdir()
        if die:
            (tmp_path / name / "die").write_text(die)
        monkeypatch.setenv(ranks.WITNESS, str(tmp_path / name))
        more = {"augment": ranks.witnessed, "shard": shard}
        codes = ranks.together(count, lambda: ranks.learn(model, tmp_path / run, **more))
        assert (codes == [0] * count) == (not die)
        logs = [(tmp_path / name / f"{rank}.txt").read_text().splitlines() for rank in range(count)]
        return [" ".join(lines).split() for lines in zip(*logs, strict=False)]

    run = "run"
    first = phase(2, "two", die="1 2")  # the third batch is never finished: last/ is at step 2
    second = phase(4, "four", die="3 3")  # … and now at step 4
    third = phase(1, "one")
    run = "whole"
    assert first[:2] + second[:2] + third == phase(1, "alone")
    demand_alike(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # of the compiler, which also reads what our import hook adds
@pytest.mark.parametrize("name", ["aion", "astropt"])
def test_compiled_blocks_say_the_same(name, tmp_path):
    """Dropout is off: compiled, it draws otherwise."""
    model = ranks.RUNS[name][0].model
    still = {"steps": 2, "model": replace(model, core=replace(model.core, dropout=0.0))}
    ranks.learn(name, tmp_path / "plain", **still)
    ranks.learn(name, tmp_path / "compiled", **still, compile=True)
    assert curve(tmp_path / "compiled") == pytest.approx(curve(tmp_path / "plain"), rel=CURVE)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_compiler_is_said_before_anything_is_learnt(tmp_path):
    """A process of its own: torch looks for its compiler when it is imported."""
    code = f"import ranks, pathlib; ranks.learn('aion', pathlib.Path({str(tmp_path / 'run')!r}), compile=True)"
    paths = os.pathsep.join(
        [str(Path(__file__).parent), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    env = os.environ | {"CXX": "/no/such/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("omnisky.errors.MissingExtra: compile=true") and "compile=false" in last and "C++" in last
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_divide_into_ranks_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    run, sky = ranks.RUNS["astropt"]
    with pytest.raises(BadValue, match="ranks"):
        loop._begin(run, tmp_path, sky, None, replace(here(), ranks=3))
