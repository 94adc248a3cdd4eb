"""Load on a server over loopback: `python -m benchmarks.serving`. How many objects a second, how long each waits.

A server of its own process (omnisky-nano, fp32); so many clients at a time, each with one galaxy a request and its
next as soon as it is answered, for a bounded time. Every answer is compared with what the model says here of the same.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from dataclasses import dataclass

import httpx
import numpy as np
import torch

from omnisky.embed import Embedding, embed
from omnisky.model import store
from omnisky.observe.types import Image, Observation
from omnisky.serve import AsyncClient

MODEL, PORT, SIDE = "omnisky-nano", 8123, 64
APART = 1e-3
"""the largest difference that batches of another size may make, in units of the vectors' own spread"""


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
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    wide, slant = draw.uniform(3, 12, (n, 1, 1)), draw.uniform(-0.9, 0.9, (n, 1, 1))
    light = np.exp(-(x**2 + 2 * slant * x * y + 1.5 * y**2) / (2 * wide**2))
    noise = draw.normal(0, 3, (n, 3, SIDE, SIDE))
    flux = (draw.uniform(60, 220, (n, 3, 1, 1)) * light[:, None] + 12 + noise).clip(0, 255).astype(np.uint8)
    return Observation.of(range(n), image=Image(flux=flux, bands=("red", "green", "blue"), unit="display"))


async def load(address: str, seen: Observation, want: Embedding, at_once: int, seconds: float) -> Load:
    """`at_once` clients for `seconds`."""
    clients = [AsyncClient(address, retries=0) for _ in range(at_once)]  # before the clock: each reads certificates
    until, times, wrong, lost = time.perf_counter() + seconds, [], 0, 0
    spread = want.vectors.std()

    async def one(first: int, client: AsyncClient) -> None:
        nonlocal wrong, lost
        i = first
        while time.perf_counter() < until:
            start = time.perf_counter()
            try:
                found = await client.embed(MODEL, seen.take([i]))
            except Exception:
                lost += 1
                raise
            times.append(time.perf_counter() - start)
            apart = np.abs(found.vectors[0] - want.vectors[i]).max() / spread
            wrong += int(found.object_id[0] != want.object_id[i] or apart > APART)
            i = (i + 37) % len(seen)

    begun = time.perf_counter()
    await asyncio.gather(*(one(k * 7 % len(seen), client) for k, client in enumerate(clients)))
    whole = time.perf_counter() - begun
    for client in clients:
        await client.close()
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    return Load(at_once, len(times) / whole, p50, p99, len(times), wrong, lost)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seconds", type=float, default=8.0)
    asked = words.parse_args()
    torch.set_num_threads(1)
    seen = galaxies(256)
    want = embed(store.load(MODEL), seen)
    server = subprocess.Popen(
        [sys.executable, "-m", "omnisky", "serve", MODEL, "--port", str(PORT)], stdout=subprocess.PIPE, text=True
    )
    try:
        address = server.stdout.readline().split()[0]  # type: ignore[union-attr]
        _wait_for(address)
        asyncio.run(load(address, seen, want, 4, 1.0))  # warm
        print("| clients | objects/s | p50, ms | p99, ms | answers | wrong or mixed up | lost |")
        print("|---|---|---|---|---|---|---|")
        for at_once in (1, 4, 16, 64):
            row = asyncio.run(load(address, seen, want, at_once, asked.seconds))
            print(
                f"| {row.at_once} | {row.objects_s:.0f} | {row.p50_ms:.0f} | {row.p99_ms:.0f} | {row.answers} "
                f"| {row.wrong} | {row.lost} |",
                flush=True,
            )
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(address: str) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{address}/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit(f"no server at {address}")


if __name__ == "__main__":
    main()
