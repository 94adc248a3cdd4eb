"""A run of ten steps and ways to be killed in it: python killable.py FOLDER MOMENT. Imported by test_loop.py."""

import os
import signal
import sys
from dataclasses import replace

import small
import torch

from omnisky.model import store
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


def half_a_line(learner, file) -> None:
    if learner.step == 6:
        with open(file, "a") as log:
            log.write('{"step": 4, "loss": 0.1}\n{"step": 5, "lo')
        die()


def half_the_weights(weights, file) -> None:
    if "random" in weights and int(weights["optimiser/0/step"]) == 6:
        file.write_bytes(b"half")
        die()
    save(weights, file)


def one_of_two_moves(a, b) -> None:
    move(a, b)
    if str(b).endswith(".old"):
        die()


log, save, move = loop._log, store.write_weights, os.replace
MOMENTS = {
    "in a step": lambda: {"watch": lambda progress: die() if progress.step == 5 else None},
    "in the metrics": lambda: setattr(loop, "_log", lambda *a: (half_a_line(*a), log(*a))),
    "in the weights": lambda: setattr(store, "write_weights", half_the_weights),
    "between the moves": lambda: setattr(os, "replace", one_of_two_moves),
}

if __name__ == "__main__":
    torch.set_num_threads(2)  # as in conftest.py: the order of a sum depends on it
    loop.train(run(), sys.argv[1], SKY, **(MOMENTS[sys.argv[2]]() or {}))
