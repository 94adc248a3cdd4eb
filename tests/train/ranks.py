"""Several ranks on one machine, and tiny runs of every kind of model for them: python ranks.py FOLDER NAME."""

import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import killable
import numpy as np
import pairs
import small
import torch

from omnisky.codec.patch import RasterPatches, SpectralSections
from omnisky.codec.stretch import Linear
from omnisky.codec.token_shards import IdTokens, StoredIds
from omnisky.model.any_to_any import Vocabulary
from omnisky.model.augment import MultiCrop, View
from omnisky.model.baseline import SpectrumRegressorConfig
from omnisky.model.distill import DistillConfig, Hiding
from omnisky.model.first_clip import FirstClipConfig
from omnisky.model.masked import AnyToAnyConfig, gated
from omnisky.model.resnet import MomentumEncoderConfig, ResNetConfig
from omnisky.model.vision import vit
from omnisky.observe.types import Observation
from omnisky.train.config import Run
from omnisky.train.loop import train
from omnisky.train.optim import AdamW, LayerwiseAdamW


def together(ranks: int, work: Callable[..., None], *args: object) -> list[int | None]:
    """Run `work` as torchrun would; exit codes by rank. Forked, so that nothing is imported again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_one, args=(rank, ranks, port, work, args)) for rank in range(ranks)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: none of theirs is used
        for process in processes:
            process.start()
    while any(process.is_alive() for process in processes):
        time.sleep(0.02)
        if any(process.exitcode for process in processes):  # torchrun ends those whose partner died
            for process in processes:
                process.kill()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def _one(rank: int, ranks: int, port: int, work: Callable[..., None], args: tuple) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    try:
        work(*args)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


# --- runs: dropout and all other draws are on ---------------------------------------------------------------------

SIX = {"steps": 6, "batch": 8, "accumulate": 4, "save_every": 2, "judge_every": 3, "precision": "fp32", "workers": 0}
OPTIM = AdamW(peak=3e-3, warmup=2)

POOL = replace(pairs.POOL, dropout=0.1)
CLIP = pairs.CLIP
LEARNING = replace(
    CLIP, image=replace(CLIP.image, frozen=False, pool=POOL), spectrum=replace(CLIP.spectrum, frozen=False, pool=POOL)
)
WORDS = (
    Vocabulary(name="image", size=30, grid=(5, 5)),
    Vocabulary(name="spectrum", size=20, grid=(7, 1)),
    Vocabulary(name="z", size=11),
)
ANY = AnyToAnyConfig(core=gated(2, 16, 2), decoder_depth=2, vocabularies=WORDS, shown=12, asked=8)
VIEW = View(size=12, shift=2, noise=0.0, blur=0.0)
DINO = DistillConfig(
    vision=vit(16, 2, 2, patch_size=4, grid=3, drop_path=0.1),
    views=MultiCrop(
        first=VIEW,
        second=VIEW,
        small=replace(VIEW, size=8),
        small_views=2,
        stretch=Linear(centre=(40.0,), scale=(60.0,)),
    ),
    hiding=Hiding(smallest=1),
    prototypes=24,
    hidden=20,
    bottleneck=8,
    warming=5,
)
PIXELS = RasterPatches(patch_size=1, bands=small.BANDS, name="pixels")
FLUX = SpectralSections(size=120, standardised=False, name="flux")
STEIN = MomentumEncoderConfig(network=ResNetConfig(blocks=(1, 1, 1, 1), bottleneck=True), projected=8)
FIRST = FirstClipConfig(
    image=STEIN,
    spectrum=SpectrumRegressorConfig(answers=8, channels=(4, 4, 8), kernels=(3, 4, 5), hidden=8),
    width=6,
)


def ids(n: int = 40, words: tuple[Vocabulary, ...] = WORDS, all_there: bool = False) -> Observation:
    """Random ids; some objects have no spectrum."""
    draw, rows = np.random.default_rng(3), np.arange(n)
    tables = {v.name: draw.integers(v.size, size=(n, v.length)).astype(np.int16) for v in words}
    if not all_there:
        tables["spectrum"][::5] = -1
    parts = {name: StoredIds(rows=rows, table=table) for name, table in tables.items()}
    return Observation.of([f"id-{i}" for i in rows], **parts)


RUNS: dict[str, tuple[Run, Observation]] = {
    "astropt": (killable.run(**{**SIX, "augment": None}), killable.SKY),
    "astroclip": (
        Run(name="clip", model=LEARNING, codecs=(pairs.PATCHES, pairs.SECTIONS), optim=OPTIM, **SIX),
        pairs.sky(40),
    ),
    "astrodino": (
        Run(name="dino", model=DINO, codecs=(PIXELS,), optim=LayerwiseAdamW(peak=1e-3, warmup=2), **SIX),
        killable.SKY,
    ),
    "aion": (
        Run(name="aion", model=ANY, codecs=tuple(IdTokens(name=v.name) for v in WORDS), optim=OPTIM, **SIX),
        ids(),
    ),
    "specformer": (
        Run(name="specformer", model=pairs.SPECFORMER, codecs=(pairs.SECTIONS,), optim=OPTIM, **SIX),
        pairs.sky(40),
    ),
    "astroclip-v1": (
        Run(name="v1", model=replace(CLIP, image=STEIN, learns_scale=False), codecs=(PIXELS, pairs.SECTIONS), **SIX),
        pairs.sky(40, size=32),
    ),
    "astroclip-first": (
        Run(name="first", model=FIRST, codecs=(PIXELS, FLUX), optim=OPTIM, **SIX),
        pairs.sky(40, size=32),
    ),
}


def learn(name: str, folder: Path, **changes: object) -> None:
    """Train one of them; what stands still in it is as it was drawn."""
    run, sky = RUNS[name]
    model = run.model.build(run.seed)
    start = model if getattr(model, "standing", False) else None
    train(replace(run, **changes), folder, sky, start)


# --- witnesses ---------------------------------------------------------------------------------------------------

WITNESS = "OMNISKY_TEST_WITNESS"
"""a folder for what each rank reads; the file `die` in it names who dies before which of its batches"""


def witnessed(seen: Observation, draw: object) -> Observation:
    """Augment: changes nothing, writes down what was read, and dies where it is told to."""
    folder, rank = Path(os.environ[WITNESS]), os.environ.get("RANK", "0")
    log = folder / f"{rank}.txt"
    done = len(log.read_text().splitlines()) if log.exists() else 0
    if (folder / "die").exists() and (folder / "die").read_text() == f"{rank} {done}":
        (folder / "die").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    with open(log, "a") as lines:
        lines.write(" ".join(seen.object_id.tolist()) + "\n")
    return seen


if __name__ == "__main__":
    torch.set_num_threads(1)
    learn(sys.argv[2], Path(sys.argv[1]), augment=witnessed)
