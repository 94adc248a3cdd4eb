"""Two programs, each in its own environment, doing the same work by turns: A B A B …

Each side lives in one worker process for the whole run, fed by JSON lines. Both are alive, only one works at a time.
A worker's tasks are functions `task(folder, **options)` that prepare everything and return the call to be timed, whose
value (a tensor or an array) is the answer that both sides must agree on. This file runs in foreign environments too: it
imports only the standard library, and torch where a worker has it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import ROOFS, Load, Memory, circumstances

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.jsonl"
Task = Callable[..., Callable[[], Any]]


@dataclass(frozen=True)
class Job:
    """One side of a comparison: which worker does what."""

    worker: str
    task: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return json.dumps([self.task, dict(self.options)])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The same work, ours and theirs."""

    name: str
    ours: Job
    theirs: Job
    unit: str
    """what is counted per second"""
    work: float
    """how much of it one call does"""
    target: float | None
    """the ratio asked for"""
    agree: float
    """largest |ours − theirs| allowed, as a share of the largest |theirs|; of `ids`, the share that may differ"""
    ids: bool = False
    """answers are ids, of which some may differ"""
    flops: float | None = None
    """of the matrix products that one call of ours needs; None where products are not the work"""
    moved: float | None = None
    """bytes that one call of ours must read and write at least; None where moving them is not the work"""
    precision: str = "fp32"
    """of ours: whose matmul rate is the roof"""
    first: Job | None = None
    """what must have been done before, once"""
    repeats: int = 9


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure."""

    repeats: int | None = None
    """pairs; None means what each comparison asks for"""
    seconds: float = 0.5
    """each timing repeats the call until this has passed"""
    keep: bool = True
    """write rows to results.jsonl"""


class Disagreement(Exception):
    """The two sides did not compute the same thing: their times say nothing."""


# --- the worker's side -------------------------------------------------------------------------------------------


def serve(tasks: Mapping[str, Task]) -> None:
    """Answer requests until stdin ends. What tasks print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    ready: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        try:
            reply = _obey(json.loads(line), {**tasks, **ROOFS}, ready)
        except Exception as error:  # told to the conductor, which raises it
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")


def _obey(request: dict[str, Any], tasks: Mapping[str, Task], ready: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    key = request["key"]
    if request["do"] == "prepare":
        name, options = json.loads(key)
        ready[key] = tasks[name](Path(request["folder"]), **options)
        return {}
    if request["do"] == "forget":
        ready.pop(key, None)
        return {}
    if request["do"] == "answer":
        value = ready[key]()
        return {"answer": [] if value is None else value.flatten().tolist()}
    runs, start = 0, time.perf_counter()
    while not runs or time.perf_counter() - start < request["seconds"]:
        ready[key]()
        runs += 1
    return {"seconds": (time.perf_counter() - start) / runs, "also": getattr(ready[key], "also", {})}


# --- the conductor's side ----------------------------------------------------------------------------------------


class Worker:
    """A process that does one thing at a time."""

    def __init__(self, python: Path, module: str) -> None:
        self.noise = tempfile.TemporaryFile()  # noqa: SIM115  what it prints, told only if it fails
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.noise}
        self.process = subprocess.Popen([python, "-m", module], cwd=ROOT, text=True, **pipes)

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died: the empty line below says so
        reply = json.loads(self.process.stdout.readline() or '{"error": "the worker died"}')
        if "error" in reply:
            self.noise.seek(0)
            said = self.noise.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{self.process.args[-1]}: {reply['error']}\n{said}")
        return reply

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.noise.close()


def run(
    comparisons: Sequence[Comparison], workers: Mapping[str, Worker], versions: Mapping[str, str], effort: Effort
) -> Iterator[dict[str, Any]]:
    """One row a comparison, as each is done. Raises Disagreement at the end, for all those that disagree."""
    unlike: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        done: set[Job] = set()
        for comparison in comparisons:
            first = comparison.first
            if first is not None and first.key not in done:
                _prepare(workers, first, folder)
                _answer(workers, first)
                done.add(first.key)
            try:
                row = compare(comparison, workers, folder, effort)
            except Disagreement as error:
                unlike.append(str(error))
                continue
            row |= {"versions": dict(versions)} | circumstances(f"benchmarks {comparison.name}")
            if effort.keep:
                keep(row)
            yield row
    if unlike:
        raise Disagreement("; ".join(unlike))


def compare(comparison: Comparison, workers: Mapping[str, Worker], folder: str, effort: Effort) -> dict[str, Any]:
    """Check that the answers agree, then time by turns; the roof is measured before and after, and the best counts."""
    sides = (comparison.ours, comparison.theirs)
    for job in sides:
        _prepare(workers, job, folder)
    apart = (_unlike if comparison.ids else _apart)(*(_answer(workers, job) for job in sides))
    if not apart <= comparison.agree:
        raise Disagreement(f"{comparison.name}: answers differ by {apart:.1e}, allowed {comparison.agree:.0e}")
    rates = [_roof(comparison, workers, folder, effort)]
    pids = [workers[job.worker].process.pid for job in sides]
    load, pairs = Load(worker.process.pid for worker in workers.values()), []
    with Memory(pids) as memory:
        for _ in range(1 + (effort.repeats or comparison.repeats)):
            pairs.append([workers[job.worker].ask(do="time", key=job.key, seconds=effort.seconds) for job in sides])
    seconds = [[side["seconds"] for side in pair] for pair in pairs[1:]]  # the first pair is for warming up
    others = load.others()
    rates.append(_roof(comparison, workers, folder, effort))
    for job in sides:
        workers[job.worker].ask(do="forget", key=job.key)
    ratios = [theirs / ours for ours, theirs in seconds]
    ours, theirs = (median(side) for side in zip(*seconds, strict=True))
    return {
        "name": comparison.name,
        "ours": comparison.work / ours,
        "theirs": comparison.work / theirs,
        "unit": f"{comparison.unit}/s",
        "ratio": median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "target": comparison.target,
        **_of_the_roof(comparison, ours, max(rates)),
        "repeats": len(ratios),
        "apart": apart,
        "others_cpus": others,
        "own_mb": memory.most,
        "also": {name: median(pair[0]["also"][name] for pair in pairs[1:]) for name in pairs[0][0]["also"]},
    }


def _of_the_roof(comparison: Comparison, seconds: float, roof: float) -> dict[str, float | None]:
    """The share that one call of ours in so many seconds reaches, and the roof itself: of products, or of memory."""
    work = comparison.flops or comparison.moved
    return {
        "roofline_share": work / seconds / roof if work else None,
        "roof_gflops": roof / 1e9 if comparison.flops else None,
        "roof_gb_s": roof / 1e9 if work and not comparison.flops else None,
    }


def _roof(comparison: Comparison, workers: Mapping[str, Worker], folder: str, effort: Effort) -> float:
    """The best rate of matrix products of ours, in flop/s, or of memory, in bytes/s; 0 where neither is the work."""
    given: dict[str, Any] = {"repeats": 20 if effort.seconds else 3}
    if comparison.flops is not None:
        roof = Job("ours", "matmul", given | {"precision": comparison.precision})
    elif comparison.moved is not None:
        roof = Job("ours", "memory", given)
    else:
        return 0.0
    _prepare(workers, roof, folder)
    return _answer(workers, roof)[0]


def _prepare(workers: Mapping[str, Worker], job: Job, folder: str) -> None:
    workers[job.worker].ask(do="prepare", key=job.key, folder=folder)


def _answer(workers: Mapping[str, Worker], job: Job) -> list[float]:
    return workers[job.worker].ask(do="answer", key=job.key)["answer"]


def _apart(ours: list[float], theirs: list[float]) -> float:
    if len(ours) != len(theirs):
        return float("inf")
    scale = max(map(abs, theirs), default=1.0)
    return max((abs(a - b) / scale for a, b in zip(ours, theirs, strict=True)), default=0.0)


def _unlike(ours: list[float], theirs: list[float]) -> float:
    if len(ours) != len(theirs):
        return float("inf")
    return sum(a != b for a, b in zip(ours, theirs, strict=True)) / max(len(theirs), 1)


def keep(row: Mapping[str, Any]) -> None:
    """A line of results.jsonl."""
    with RESULTS.open("a") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


# --- environments ------------------------------------------------------------------------------------------------


def environment(folder: Path, installs: Sequence[Sequence[str]]) -> Path:
    """The Python of a virtual environment, made by these `pip install`s if there is none. Git does not see it."""
    python = folder / "bin" / "python"
    ready = folder / "ready"
    wanted = json.dumps(installs)
    if python.exists() and ready.exists() and ready.read_text() == wanted:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    (folder / ".gitignore").write_text("*\n")
    for packages in installs:
        subprocess.run([python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *packages], check=True)
    ready.write_text(wanted)
    return python


def versions_here(*packages: str) -> dict[str, str]:
    """Of this Python and of packages in it."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
