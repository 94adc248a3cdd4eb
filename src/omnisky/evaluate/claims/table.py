"""All claims with their numbers: tasks run where their data is, the others' claims are said not to be measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omnisky.adapt.score import Score
from omnisky.evaluate.claims import fusion, photometry, runs, segments, sky, spectra, zoo
from omnisky.evaluate.claims.found import ALL, Claim, Inputs, Result, Stated, Task, kept
from omnisky.evaluate.claims.sources import CLAIMS

TASKS = (*runs.TASKS, *zoo.TASKS, *photometry.TASKS, *spectra.TASKS, *sky.TASKS, *fusion.TASKS, *segments.TASKS)
HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "not measured"


@dataclass(frozen=True)
class Row:
    """A claim and our number."""

    claim: Claim
    found: Score | None
    """None: not measured"""
    stated: Stated | None = None
    """how the command that measured it judges it, where it has a rule of its own"""
    task: str = ""
    """which found the number"""
    note: str = ""
    """when and where it was measured, if that was not here and now"""

    @property
    def wanted(self) -> str:
        """When it holds, in words."""
        return str(self.claim.wanted) if self.stated is None else self.stated.wanted

    @property
    def verdict(self) -> str:
        """holds, does not hold, or not measured."""
        if self.found is None:
            return UNKNOWN
        holds = self.claim.wanted.held(self.found) if self.stated is None else self.stated.holds
        return HOLDS if holds else FAILS

    @property
    def command(self) -> str:
        """What makes the number, and no other."""
        return f"{ALL} --only {self.task}" if self.task and self.claim.command == ALL else self.claim.command

    def state(self) -> dict[str, Any]:
        """For JSON."""
        said = {name: getattr(self.claim, name) for name in ("key", "source", "words", "number", "paper", "data")}
        both = () if self.found is None else (self.found.value, self.found.error)
        found = [None if number != number else number for number in both] or None  # JSON knows no NaN
        told = {"command": self.command, "wanted": self.wanted, "found": found, "verdict": self.verdict}
        return said | told | {"note": self.note}


@dataclass(frozen=True, eq=False)
class Table:
    """All rows, and what each task found besides."""

    rows: tuple[Row, ...]
    results: Mapping[str, Result]
    """task's name → what it found; those that could not run are not in it"""

    def count(self, verdict: str) -> int:
        """How many rows say so."""
        return sum(row.verdict == verdict for row in self.rows)


def measure(
    given: Inputs,
    *,
    tasks: Sequence[Task] = TASKS,
    claims: Sequence[Claim] = CLAIMS,
    only: Sequence[str] = (),
    watch: Callable[[str], None] | None = None,
) -> Table:
    """Run every task whose data is there, or those named in `only`; results on disk are taken as they are.

    `watch` hears the name of each task before it begins. Raises what the tasks raise of broken data.
    """
    results = {}
    for task in tasks:
        if (not only or task.name in only) and task.can(given):
            if watch is not None:
                watch(task.name)
            results[task.name] = kept(task, given)
    found = {key: name for name, result in results.items() for key in result.scores}
    rows = [_row_of(claim, found.get(claim.key, ""), results) for claim in claims]
    rows += [_row(name, one, result.note) for name, result in results.items() for one in result.stated]
    return Table(tuple(rows), results)


def _row_of(claim: Claim, task: str, results: Mapping[str, Result]) -> Row:
    """With the number that `task` found; empty: none did."""
    return Row(claim, results[task].scores[claim.key], None, task, results[task].note) if task else Row(claim, None)


def _row(task: str, one: Stated, note: str) -> Row:
    """A row that is not among the sources' own."""
    told: dict[str, Any] = {
        "number": "as its command counts it",
        "paper": "–",
        "data": "mock sky",
        "command": f"omnisky evaluate {task}",
    }
    return Row(
        Claim(key=f"{task}/{one.words}", source=task.upper(), words=one.words, **told), one.found, one, task, note
    )
