"""A run of ten steps and ways to be killed in it: python killable.py FOLDER MOMENT THREADS."""

import os
import signal
import sys
from dataclasses import replace

import small
import torch

from omnisky.model.autoregressive import AutoregressiveConfig
from omnisky.observe.loader import random_turns
from omnisky.train import loop
from omnisky.train.config import Run
from omnisky.train.optim import AdamW

SKY = small.galaxies(40)


def run(**changes) -> Run:
    """Everything that draws or remembers is on: dropout, turns, a mean of weights, read-ahead, pieces."""
    config = small.model(AutoregressiveConfig).config
    run = Run(
        name="toy",
        model=replace(config, core=replace(config.core, depth=2, dropout=0.1)),
        codecs=(small.codec(),),
        augment=random_turns,
        held_out=0.2,
        steps=10,
        batch=8,
        accumulate=2,
        optim=AdamW(peak=1e-2, warmup=3),
        mean_decay=0.9,
        precision="fp32",
        seed=7,
        workers=1,
        judge_every=4,
        save_every=3,
    )
    return replace(run, **changes)


def die(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def one_of_two_moves(a, b) -> None:
    move(a, b)
    if str(b).endswith(".old"):
        die()


move = os.replace
MOMENTS = {
    "in a step": lambda: {"watch": lambda progress: die() if progress.step == 5 else None},
    "between the two moves that put a checkpoint in place": lambda: setattr(os, "replace", one_of_two_moves),
}

if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    loop.train(run(), sys.argv[1], SKY, **(MOMENTS[sys.argv[2]]() or {}))
