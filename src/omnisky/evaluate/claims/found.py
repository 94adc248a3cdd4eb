"""What a claim is, what a task finds, and how a finding is kept so that it is not made twice."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from omnisky.adapt.score import Score
from omnisky.errors import CorruptFile
from omnisky.storage import atomic

ALL = "omnisky evaluate all --data DATA"
Counting = Callable[[str], AbstractContextManager[Any]]
"""the name of a job → a block in which (done, in all) is watched, as `watch.counting_bar`"""


@dataclass(frozen=True)
class Wanted:
    """When a claim holds: by two standard errors above a level, or no worse than it."""

    level: float = 0.0
    clearly: bool = True
    """False: it is enough that two errors reach the level"""

    def __str__(self) -> str:
        return f"> {self.level:g} by 2 σ" if self.clearly else f"≥ {self.level:g} within 2 σ"

    def held(self, found: Score) -> bool:
        """Whether the score is as wanted; NaN never is."""
        return bool(found.value + (-2 if self.clearly else 2) * found.error >= self.level)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A row of the table: who says what, and how we ask whether it is so."""

    key: str
    """under which a task's result has its number"""
    source: str
    words: str
    number: str
    """what is measured"""
    paper: str
    """what the paper has, at its scale"""
    data: str
    """what we measure it on"""
    wanted: Wanted = field(default_factory=Wanted)
    command: str = ALL
    """what makes the number"""


@dataclass(frozen=True)
class Grid:
    """A table to be read: what stands behind the claims."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Stated:
    """A claim that another command judged itself."""

    words: str
    found: Score
    wanted: str
    holds: bool


@dataclass(frozen=True)
class Result:
    """What a task found."""

    scores: Mapping[str, Score] = field(default_factory=dict)
    """claim's key → its number"""
    grids: tuple[Grid, ...] = ()
    drawn: Mapping[str, Any] = field(default_factory=dict)
    """what figures are drawn from: lists of numbers and words"""
    stated: tuple[Stated, ...] = ()
    """rows of their own"""
    note: str = ""
    """when and where it was measured, if that was not here and now"""

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Result:
        """From `asdict` and JSON."""
        grids = (Grid(g["title"], tuple(g["headers"]), tuple(map(tuple, g["rows"]))) for g in state["grids"])
        stated = (Stated(**one | {"found": Score(**one["found"])}) for one in state["stated"])
        scores = {key: Score(**score) for key, score in state["scores"].items()}
        return cls(scores, tuple(grids), state["drawn"], tuple(stated), state["note"])


@dataclass(frozen=True)
class Inputs:
    """Where things are."""

    data: Path | None
    """a folder of real data sets by their names"""
    runs: Path
    """what other commands of `omnisky evaluate` left"""
    work: Path
    """for results, embeddings and small networks"""
    count: Counting = nullcontext
    measured: Path | None = None
    """what `dev/measured.py` copied from pages of the documentation, for where the runs behind them are gone"""

    def folder(self, name: str) -> Path:
        """A set of real data."""
        assert self.data is not None
        return self.data / name


@dataclass(frozen=True)
class Task:
    """A measurement, and the real data it needs: folders of `Inputs.data`."""

    name: str
    make: Callable[[Inputs], Result]
    needs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    """shipped models whose weights it reads"""
    reads: tuple[str, ...] = ()
    """patterns of files in `Inputs.runs`"""

    def can(self, given: Inputs) -> bool:
        """Whether its data is there."""
        return all(given.data is not None and given.folder(name).is_dir() for name in self.needs)


def kept(task: Task, given: Inputs) -> Result:
    """The task's result, from disk where it was made of the same data and weights by the same file of code."""
    file, signature = given.work / f"{task.name}.json", _signature(task, given)
    if file.exists():
        try:
            state = json.loads(file.read_text())
            if state["signature"] == signature:
                return Result.of(state["result"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptFile(f"{file}: {error}", want="what omnisky evaluate all wrote", hint="remove it") from error
    result = task.make(given)
    with atomic(file) as draft:
        draft.write_text(json.dumps({"signature": signature, "result": asdict(result)}, ensure_ascii=False))
    return result


def _signature(task: Task, given: Inputs) -> str:
    from omnisky.model import store

    files = [one for name in task.needs for one in sorted(given.folder(name).iterdir()) if one.is_file()]
    files += [one for pattern in task.reads for one in sorted(given.runs.glob(pattern))]
    files += [] if given.measured is None else sorted(given.measured.glob(f"{task.name}.json"))
    module = inspect.getmodule(task.make)
    told = [inspect.getsource(module) if module is not None else "", *map(_stamp, files)]
    told += [store.signature(store.load(name)) for name in task.models]
    return blake2b("\n".join(told).encode(), digest_size=8).hexdigest()


def _stamp(file: Path) -> str:
    """Small files by what is in them; of large ones the size must do."""
    size = file.stat().st_size
    return f"{file.name} {size} {blake2b(file.read_bytes()).hexdigest() if size < 1 << 20 else ''}"
