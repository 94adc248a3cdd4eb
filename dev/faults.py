"""Break things on purpose and see what survives: kills, a full disk, torn files, poison, no memory, clocks that jump.

    python dev/faults.py [--times 3] > docs/faults.md

Every line is a fault done to a real call, called again afterwards, its result compared bit by bit with that of a call
nobody disturbed. Kills are SIGKILL; the full disk is the kernel's limit on the size of a file; the clock is one that is
loaded before libc's, so that every library is told of it (needs Linux and a C compiler); only the lack of memory is
injected.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from omnisky.codec.patch import RasterPatches
from omnisky.codec.stretch import Linear
from omnisky.embed import Embedding, embed_file
from omnisky.errors import OmniskyError, ServiceError
from omnisky.model import store
from omnisky.model.autoregressive import Autoregressive, AutoregressiveConfig
from omnisky.model.junction import Modality
from omnisky.model.transformer import CoreConfig
from omnisky.observe.shards import Shards, write_shards
from omnisky.observe.types import Image, Observation
from omnisky.search import Index
from omnisky.serve import Client
from omnisky.train.config import Run
from omnisky.train.loop import train
from omnisky.train.optim import AdamW

BANDS = ("red", "green", "blue")
CODEC = RasterPatches(patch_size=4, bands=BANDS, stretch=Linear(centre=(40.0,), scale=(60.0,)))
MODEL = AutoregressiveConfig(
    core=CoreConfig(width=16, depth=2, heads=2, dropout=0.1),
    modalities=(Modality(name="images", width=48),),
    context=16,
    tokeniser="affine",
)
RUN = Run(
    name="faults",
    model=MODEL,
    codecs=(CODEC,),
    held_out=0.0,
    steps=60,
    batch=16,
    optim=AdamW(peak=1e-2, warmup=3),
    mean_decay=0.9,
    precision="fp32",
    judge_every=60,
    save_every=2,
)


def sky(n: int = 256) -> Observation:
    """Noise, a picture each."""
    flux = np.random.default_rng(0).integers(0, 255, (n, 3, 16, 16)).astype(np.float32)
    return Observation.of([f"made-{i}" for i in range(n)], image=Image(flux=flux, bands=BANDS, unit="display"))


SKY = sky()


def learn(folder: Path, seen: Observation = SKY, **changes: object) -> None:
    train(replace(RUN, **changes), folder, seen)


def toy() -> Autoregressive:
    model = MODEL.build(0).eval()
    model.codecs = (CODEC,)
    return model


def embed(folder: Path) -> None:
    embed_file(toy(), SKY, folder / "embeddings.parquet", batch=4, part_size=16)


def write(folder: Path) -> None:
    write_shards(SKY, folder / "shards", shard_bytes=100_000)


def child(work: Callable[[Path], None], folder: Path, limit: int = 0) -> multiprocessing.Process:
    """`work` in a process of its own, in which no file may be larger than `limit` bytes."""

    def inside() -> None:
        torch.set_num_threads(1)
        if limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            work(folder)
        except OmniskyError as error:
            (folder.parent / "said").write_text(f"{type(error).__name__}: {error}"[:200])
            sys.exit(2)

    process = multiprocessing.get_context("fork").Process(target=inside)
    process.start()
    return process


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def demand(wanted: bool, what: str) -> str:
    if not wanted:
        raise SystemExit(f"did NOT survive: {what}")
    return what


def killed(work: Callable[[Path], None], place: Path, times: int) -> str:
    """Killed at random moments of its time, up to three times in a row; then left alone."""
    chance, whole = np.random.default_rng(1), place / "whole"
    start = time.perf_counter()
    child(work, whole).join()
    seconds, deaths = time.perf_counter() - start, 0
    for i in range(times):
        folder = place / f"killed-{i}"
        for _ in range(3):
            process = child(work, folder)
            process.join(chance.uniform(0, seconds))
            deaths += process.is_alive()
            process.kill()
            process.join()
        child(work, folder).join()
        demand(content(folder) == content(whole), f"{folder}: other files than undisturbed")
        shutil.rmtree(folder)
    return f"{deaths} kills in {times} runs: all files the same to the byte, none left over"


def full(work: Callable[[Path], None], place: Path, limit: int) -> str:
    """Once the disk takes nothing more, and then again with room."""
    child(work, place / "whole").join()
    process = child(work, place / "full", limit)
    process.join()
    said = (place / "said").read_text() if (place / "said").exists() else f"exit code {process.exitcode}"
    demand(said.startswith("StorageError"), f"a full disk: {said}")
    child(work, place / "full").join()
    demand(content(place / "full") == content(place / "whole"), "a full disk: other files afterwards")
    return "StorageError; with room again: all files the same to the byte"


def poisoned(place: Path, value: float) -> str:
    flux = SKY["image"].flux.copy()
    flux[7, 0, 0, 0] = value
    seen = SKY | {"image": replace(SKY["image"], flux=flux)}
    try:
        learn(place / "run", seen)
    except OmniskyError as error:
        demand("object made-7" in str(error), f"names the object: {error}")
        learn(place / "again", seen, forgive=4)
        return f"{type(error).__name__} names batch and object; with forgive=4 it is left out and the run ends"
    return demand(False, "poison was learnt from")


def crowded(place: Path) -> str:
    learns = Autoregressive.loss

    def loss(self, tokens, generator=None):
        if self.training and tokens.objects > 4:
            raise torch.OutOfMemoryError("injected")
        return learns(self, tokens, generator)

    learn(place / "cut", accumulate=4)
    Autoregressive.loss = loss
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            learn(place / "crowded", accumulate=1)
    finally:
        Autoregressive.loss = learns
    demand(len(said) == 2, "one warning a halving")
    weights = [(place / name / "model/model.safetensors").read_bytes() for name in ("cut", "crowded")]
    demand(weights[0] == weights[1], "as accumulate=4")
    return "16 → 8 → 4 objects at a time, a warning each; weights the same to the bit as with accumulate=4"


def torn(place: Path, file: str) -> str:
    learn(place / "run", steps=4)
    whole = (place / "run" / file).read_bytes()
    (place / "run" / file).write_bytes(whole[: len(whole) // 2])
    try:
        learn(place / "run", steps=4)
    except OmniskyError as error:
        demand(file in str(error), f"names the file: {error}")
        return f"{type(error).__name__} names the file"
    return demand(False, f"half of {file} was read")


def spoilt(place: Path, harm: Callable[[bytes], bytes], use: Callable[[Path], object]) -> str:
    """One of several shards is not what was written."""
    write(place)
    shard = sorted((place / "shards").glob("*.arrow"))[-1]
    shard.write_bytes(harm(shard.read_bytes()))
    try:
        use(place / "shards")
    except OmniskyError as error:
        demand(shard.name in str(error), f"names the shard: {error}")
        return f"{type(error).__name__} names the file"
    return demand(False, f"{shard.name} was read")


def learn_from(shards: Path) -> None:
    train(replace(RUN, data=str(shards)), shards.parent / "run")


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


# --- a server -----------------------------------------------------------------------------------------------------


class Server:
    """`omnisky serve` of a model and its index, in a process of its own."""

    def __init__(self, place: Path, *more: str, env: Mapping[str, str] = os.environ) -> None:
        store.save(toy(), place / "toy")
        embed(place)
        self.want = Embedding.load(place / "embeddings.parquet")
        Index(self.want).save(place / "index")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        words = ["serve", place / "toy", "--index", place / "index", "--port", str(self.port), *more]
        self.command, self.env = [sys.executable, "-m", "omnisky", *words], env
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, env=self.env, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def accept(self, found: Embedding) -> None:
        same = np.allclose(found.vectors, self.want.vectors, rtol=1e-4, atol=1e-5)  # batches of other sizes
        demand(same and list(found.object_id) == list(self.want.object_id), "each object has its own answer")


def unserved(place: Path, times: int) -> str:
    """Killed at random moments while two clients ask for one object a request; started again each time."""
    chance, refused, deaths = np.random.default_rng(1), 0, 0
    with Server(place) as server, ThreadPoolExecutor(2) as pool:
        before = content(place)
        patient, hasty = Client(server.address, retries=40), Client(server.address, retries=0)
        patient.models()  # it listens
        alike, start = patient.search(like=["made-7"])["object_id"], time.perf_counter()
        patient.embed("toy", SKY, batch=1)
        seconds = time.perf_counter() - start
        for _ in range(times):
            asked = [pool.submit(client.embed, "toy", SKY, batch=1) for client in (patient, hasty)]
            time.sleep(chance.uniform(0, seconds))
            deaths += not asked[0].done()
            server.kill()
            server.start()
            server.accept(asked[0].result())
            told = asked[1].exception()
            demand(isinstance(told, ServiceError | None), f"who asks once is told: {told!r}")
            refused += told is not None
            demand(patient.search(like=["made-7"])["object_id"] == alike, "the same look-alikes")
        demand(content(place) == before, "model and index")
    demand(deaths > 0, "a kill in the middle")
    asks = f"{deaths} kills among {times * len(SKY)} requests: all answered by asking again, each with its own"
    return f"{asks}; {refused} times who asks only once got ServiceError; model and index the same to the byte"


# --- a clock ------------------------------------------------------------------------------------------------------

CLOCK = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t which, struct timespec *now) {
    static int jump = 86400;
    int failed = syscall(SYS_clock_gettime, which, now);
    if (which == CLOCK_REALTIME) now->tv_sec += jump = -jump;
    return failed;
}
"""
"""libc's, but the time of day is a day late and a day early by turns"""


def jumping(place: Path) -> dict[str, str]:
    """The environment of processes whose time of day jumps at every reading."""
    (place / "clock.c").write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", place / "clock.so", place / "clock.c"], check=True)
    env = os.environ | {"LD_PRELOAD": str(place / "clock.so")}
    code = "import time; print(abs(time.time() - time.time()))"
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    demand(float(said.stdout) > 86400, "the clock did not jump")
    return env


def paced(folder: Path) -> None:
    """Learn, and write down how fast each step was."""
    torch.set_num_threads(1)
    speeds: list[float] = []
    train(RUN, folder, SKY, watch=lambda progress: speeds.append(progress.objects_per_second))
    (folder.parent / "speeds").write_text(" ".join(map(str, speeds)))


def mistimed(place: Path) -> str:
    child(learn, place / "whole").join()
    code = f"import faults, pathlib; faults.paced(pathlib.Path({str(place / 'jumped')!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, env=jumping(place), check=True, timeout=900)
    demand(content(place / "jumped") == content(place / "whole"), "a clock that jumps: other files")
    speeds = [float(one) for one in (place / "speeds").read_text().split()]
    demand(len(speeds) == RUN.steps and min(speeds) > 1, f"speeds by a clock that jumps: {speeds}")
    return "all files the same to the byte; speeds are those of a clock that only runs"


def misserved(place: Path, seconds: float = 10.0) -> str:
    """Deadlines: who is answered in time is answered, and a body that stops coming is let go in time."""
    with Server(place, "--seconds", str(seconds), env=jumping(place)) as server:
        Client(server.address, retries=40).models()  # it listens
        server.accept(Client(server.address, retries=0).embed("toy", SKY, batch=1))
        start = time.perf_counter()
        with socket.create_connection(("127.0.0.1", server.port), timeout=10 * seconds) as slow:
            slow.sendall(b"POST /v1/embed?model=toy HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nabc")
            said, took = slow.recv(4096), time.perf_counter() - start
        demand(b" 408 " in said and seconds - 0.1 < took < 3 * seconds, f"after {took:.1f} s: {said[:40]!r}")
    return f"{len(SKY)} requests answered, none too late; half a body is let go after its {seconds:g} s"


def faults(times: int) -> dict[str, Callable[[Path], str]]:
    return {
        "kill -9 at a random moment of train": lambda place: killed(learn, place, times),
        "kill -9 at a random moment of embed": lambda place: killed(embed, place, times),
        "kill -9 at a random moment of write": lambda place: killed(write, place, times),
        "kill -9 at a random moment of serve": lambda place: unserved(place, times),
        "disk full while a checkpoint is written": lambda place: full(learn, place, 20_000),
        "disk full while embeddings are written": lambda place: full(embed, place, 1_000),
        "disk full while shards are written": lambda place: full(write, place, 20_000),
        "a loss that is not finite (flux of 1e30)": lambda place: poisoned(place, 1e30),
        "NaN in a picture": lambda place: poisoned(place, float("nan")),
        "a batch that does not fit into memory": crowded,
        "a clock that jumps by two days at every reading, training": mistimed,
        "a clock that jumps by two days at every reading, serving": misserved,
        "half a shard, training": lambda place: spoilt(place, lambda told: told[: len(told) // 2], learn_from),
        "a bit turned round in a shard, Shards.verify": lambda place: spoilt(
            place, flipped, lambda shards: Shards(shards).verify()
        ),
        "half a checkpoint": lambda place: torn(place, "last/state.safetensors"),
        "half a state.json": lambda place: torn(place, "last/state.json"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    torch.set_num_threads(1)
    print(f"# Faults\n\nBy `python dev/faults.py --times {times}`, which stops where something does not survive.\n")
    print("| fault | what survived |\n|---|---|")
    for name, inject in faults(times).items():
        with tempfile.TemporaryDirectory() as scratch:
            print(f"| {name} | {inject(Path(scratch))} |", flush=True)


if __name__ == "__main__":
    main()
