"""Load on a server over loopback: how many objects a second, how long each waits, and what HTTP costs.

A server of its own process (omnisky-nano, fp32, one thread); so many clients at a time, each with one galaxy a request
and its next as soon as it is answered. Every answer is compared with what the model says here of the same. As a
comparison it stands beside the bare model, which embeds the same galaxies in one process, one thread, in batches. The
table of docs/serving.md, for a bounded time:

    python -m benchmarks.serving --seconds 6
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import harness
from benchmarks.harness import Comparison, Job, Worker, versions_here

if TYPE_CHECKING:
    import numpy as np

    from omnisky.embed import Embedding
    from omnisky.observe.types import Observation

MODEL, SIDE, OBJECTS, QUICK, BATCH = "omnisky-nano", 64, 256, 16, 32
CLIENTS = (1, 4, 16, 64)
APART = 1e-3
"""the largest difference that batches of another size may make, in units of the vectors' own spread"""


def comparisons(quick: bool = False) -> Iterator[Comparison]:
    """One for each number of clients; `quick` ones ask for few objects and prove only that everything runs."""
    n = QUICK if quick else OBJECTS
    for clients in CLIENTS[:2] if quick else CLIENTS:
        yield Comparison(
            name=f"serving/clients-{clients}-over-bare-model",
            ours=Job("ours", "served", {"n": n, "clients": clients}),
            theirs=Job("bare", "bare", {"n": n}),
            unit="objects",
            work=n,
            target=None,
            agree=APART,
            repeats=3,
        )


def workers() -> dict[str, Worker]:
    """One process a side; the server is a child of ours."""
    return {name: Worker(Path(sys.executable), "benchmarks.serving") for name in ("ours", "bare")}


def versions() -> dict[str, str]:
    """Of what takes part."""
    return versions_here("omnisky", "torch", "fastapi", "uvicorn", "httpx")


# --- the workers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """One row of the table."""

    at_once: int
    objects_s: float
    p50_ms: float
    p99_ms: float
    answers: int
    wrong: int
    lost: int


def galaxies(n: int) -> Observation:
    """Slanted spots of light of random colour and size on a noisy sky, 8-bit."""
    import numpy as np

    from omnisky.observe.types import Image, Observation

    draw = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    wide, slant = draw.uniform(3, 12, (n, 1, 1)), draw.uniform(-0.9, 0.9, (n, 1, 1))
    light = np.exp(-(x**2 + 2 * slant * x * y + 1.5 * y**2) / (2 * wide**2))
    noise = draw.normal(0, 3, (n, 3, SIDE, SIDE))
    flux = (draw.uniform(60, 220, (n, 3, 1, 1)) * light[:, None] + 12 + noise).clip(0, 255).astype(np.uint8)
    return Observation.of(range(n), image=Image(flux=flux, bands=("red", "green", "blue"), unit="display"))


async def load(address: str, seen: Observation, want: Embedding, at_once: int, todo: Iterator[int]) -> Load:
    """`at_once` clients; each takes the next object of `todo` when its last is answered."""
    import numpy as np

    from omnisky.serve import AsyncClient

    clients = [AsyncClient(address, retries=0) for _ in range(at_once)]  # before the clock: each reads certificates
    times, wrong, lost = [], 0, 0
    spread = want.vectors.std()

    async def one(client: AsyncClient) -> None:
        nonlocal wrong, lost
        for i in todo:
            start = time.perf_counter()
            try:
                found = await client.embed(MODEL, seen.take([i]))
            except Exception:
                lost += 1
                raise
            times.append(time.perf_counter() - start)
            apart = np.abs(found.vectors[0] - want.vectors[i]).max() / spread
            wrong += int(found.object_id[0] != want.object_id[i] or apart > APART)

    begun = time.perf_counter()
    await asyncio.gather(*map(one, clients))
    whole = time.perf_counter() - begun
    for client in clients:
        await client.close()
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    return Load(at_once, len(times) / whole, p50, p99, len(times), wrong, lost)


@cache
def server() -> str:
    """The address of a server that ends with this process."""
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "omnisky", "serve", MODEL, "--port", str(port)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, env=one_thread, stdout=subprocess.DEVNULL)
    atexit.register(process.wait, 30)
    atexit.register(process.terminate)
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            if httpx.get(f"{address}/health").is_success:
                return address
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit(f"no server at {address}")


@cache
def told(n: int) -> tuple[Observation, Embedding]:
    """Galaxies, and what the model says of them here."""
    from omnisky.embed import embed
    from omnisky.model import store

    seen = galaxies(n)
    return seen, embed(store.load(MODEL), seen, batch=BATCH)


def served(folder: Path, n: int, clients: int) -> Callable[[], np.ndarray]:
    """All of them, one a request. Raises where an answer is wrong or none comes."""
    (seen, want), address = told(n), server()

    def call() -> np.ndarray:
        row = asyncio.run(load(address, seen, want, clients, iter(range(n))))
        if row.wrong or row.lost:
            raise RuntimeError(f"{row.wrong} wrong answers, {row.lost} lost")
        call.also = {"p50_ms": row.p50_ms, "p99_ms": row.p99_ms}
        return want.vectors

    return call


def bare(folder: Path, n: int) -> Callable[[], np.ndarray]:
    """The model alone, on one thread."""
    import torch

    from omnisky.embed import embed
    from omnisky.model import store

    torch.set_num_threads(1)
    model, seen = store.load(MODEL), galaxies(n)
    return lambda: embed(model, seen, batch=BATCH).vectors


def main() -> None:
    import torch

    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seconds", type=float, default=8.0)
    asked = words.parse_args()
    torch.set_num_threads(1)
    (seen, want), address = told(OBJECTS), server()
    asyncio.run(load(address, seen, want, 4, iter(range(32))))  # warm
    print("| clients | objects/s | p50, ms | p99, ms | answers | wrong or mixed up | lost |")
    print("|---|---|---|---|---|---|---|")
    for at_once in CLIENTS:
        until = time.perf_counter() + asked.seconds
        todo = itertools.takewhile(lambda _: time.perf_counter() < until, itertools.cycle(range(OBJECTS)))  # noqa: B023
        row = asyncio.run(load(address, seen, want, at_once, todo))
        print(
            f"| {row.at_once} | {row.objects_s:.0f} | {row.p50_ms:.0f} | {row.p99_ms:.0f} | {row.answers} "
            f"| {row.wrong} | {row.lost} |",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:]:
        main()
    else:
        harness.serve({"served": served, "bare": bare})
