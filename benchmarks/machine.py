"""What this machine can do at best, what it is, and who is busy on it. Standard library only, and torch for roofs."""

from __future__ import annotations

import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SHAPES = ((2048, 768, 3072), (2048, 3072, 768), (2048, 512, 2048), (2048, 2048, 2048))
"""rows, inside, columns of the products whose best rate is the roof"""
MOVED = 1 << 28
"""bytes that are read, and copied, to know the rate of memory: more than any cache holds"""


# --- roofs -------------------------------------------------------------------------------------------------------


def matmul(folder: Path, precision: str, repeats: int) -> Callable[[], Any]:
    """The best rate of products of this machine, in flop/s."""
    import torch

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]

    def rate(rows: int, inside: int, columns: int) -> float:
        x, weight = torch.randn(rows, inside, dtype=kind), torch.randn(columns, inside, dtype=kind)
        return 2 * rows * inside * columns / _best(lambda: torch.nn.functional.linear(x, weight), repeats)

    return lambda: torch.tensor(max(rate(*shape) for shape in SHAPES), dtype=torch.float64)


def memory(folder: Path, repeats: int) -> Callable[[], Any]:
    """The best rate at which this machine reads memory, or reads and writes it, in bytes/s."""
    import torch

    def rates() -> tuple[float, float]:
        here = torch.ones(MOVED // 4)
        there = torch.empty_like(here)
        return MOVED / _best(here.sum, repeats), 2 * MOVED / _best(lambda: there.copy_(here), repeats)

    return lambda: torch.tensor(max(rates()), dtype=torch.float64)


ROOFS = {"matmul": matmul, "memory": memory}


def _best(call: Callable[[], Any], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


# --- processes ---------------------------------------------------------------------------------------------------


def family(pid: int) -> list[int]:
    """A process and all that it started, and those these started; just itself where /proc does not tell."""
    found = [pid]
    for one in found:  # which grows meanwhile
        for told in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, _read(told).split())
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time that a process and its family have used so far; 0 where /proc does not tell."""
    ticks = 0
    for one in family(pid):
        fields = _read(Path(f"/proc/{one}/stat")).rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))  # its own, and that of children who have ended
    return ticks / os.sysconf("SC_CLK_TCK")


def own_mb(pid: int) -> float:
    """Memory that is its family's own, and not the page cache's, in 10⁶ bytes; 0 where /proc does not tell."""
    found = (re.search(r"RssAnon:\s+(\d+) kB", _read(Path(f"/proc/{one}/status"))) for one in family(pid))
    return sum(int(one[1]) * 1.024e-3 for one in found if one)


def _read(path: Path) -> str:
    """Nothing where there is no such file: a process that has ended, or a system without /proc."""
    try:
        return path.read_text()
    except OSError:
        return ""


class Memory:
    """The most memory of their own that processes have had, looked at fifty times a second."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids, self.most = pids, [own_mb(pid) for pid in pids]
        self.done = threading.Event()
        self.watching = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self.done.wait(0.02):
            self.most = [max(before, own_mb(pid)) for before, pid in zip(self.most, self.pids, strict=True)]

    def __enter__(self) -> Memory:
        self.watching.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.watching.join()


class Load:
    """How busy everybody else than these processes keeps this machine."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.pids, self.start = tuple(pids), time.perf_counter()
        self.before = self._now()

    def _now(self) -> tuple[float, float]:
        mine, told = sum(map(cpu_seconds, self.pids)), _read(Path("/proc/stat"))
        if not told:
            return 0.0, 0.0
        user, nice, system, _, _, irq, soft, *_ = map(int, told.split("\n", 1)[0].split()[1:])
        return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK"), mine

    def others(self) -> float:
        """Processors that others used, on average since this was made."""
        everybody, mine = (now - before for now, before in zip(self._now(), self.before, strict=True))
        return max(0.0, round((everybody - mine) / (time.perf_counter() - self.start), 2))


# --- what a row must say besides its numbers ---------------------------------------------------------------------


def circumstances(module: str) -> dict[str, Any]:
    """How, when and where. `module` is what `python -m` is told."""
    return {
        "command": f"python -m {module}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}{_limit()}",
    }


def _limit() -> str:
    threads = os.environ.get("OMP_NUM_THREADS")
    return f", OMP_NUM_THREADS={threads}" if threads else ""


def _processor() -> str:
    """Its name and, where Linux tells, its model number: many are just called "Intel(R) Xeon(R) Processor"."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or "unknown processor"
    facts = dict(re.findall(r"^([^\t\n]+?)\s*: (.+)$", info.read_text(), flags=re.MULTILINE))
    return f"{facts.get('model name', 'unknown processor')} (model {facts.get('model', '?')})"
