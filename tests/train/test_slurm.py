"""docs/slurm.sh does what it says, on a "cluster" of this machine: srun and scontrol are stand-ins, torchrun is not."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from small import galaxies

from omnisky.observe.shards import write_shards

SCRIPT = Path(__file__).parents[2] / "docs" / "slurm.sh"
SMALL = ("model.core.depth=2", "model.core.width=32", "model.core.heads=2", "precision=fp32", "batch=8", "steps=2")
STAND_INS = {
    "scontrol": "echo 127.0.0.1",
    "srun": 'exec "$@"',
    "torchrun": 'exec "$PYTHON" -m torch.distributed.run "$@"',
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_job_trains_on_all_its_ranks(tmp_path):
    write_shards(galaxies(40, size=64), tmp_path / "shards")
    (tmp_path / "bin").mkdir()
    for name, does in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"SLURM_JOB_NODELIST": "here", "SLURM_NNODES": "1", "SLURM_GPUS_ON_NODE": "2", "SLURM_JOB_ID": "7"}
    paths = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHON": sys.executable}
    words = ["bash", SCRIPT, "astropt-nano", f"data={tmp_path / 'shards'}", "shard=true", *SMALL]
    env = os.environ | job | paths | {"PORT": str(port), "RUN": str(tmp_path / "run")}
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line)["step"] for line in done.stdout.splitlines() if line.startswith("{")]
    assert steps == [1, 2], done.stdout  # from the first rank alone
    assert len(list((tmp_path / "run/last/ranks").iterdir())) == 2 and (tmp_path / "run/model/config.json").exists()
