"""All claims with their numbers: tasks run where their data is, the others' claims are said not to be measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omnisky.adapt.score import Score
from omnisky.evaluate.claims import photometry, runs, sky, spectra, zoo
from omnisky.evaluate.claims.found import Claim, Inputs, Result, Task, kept
from omnisky.evaluate.claims.sources import CLAIMS

TASKS = (*runs.TASKS, *zoo.TASKS, *photometry.TASKS, *spectra.TASKS, *sky.TASKS)
HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "not measured"


@dataclass(frozen=True)
class Row:
    """A claim and our number."""

    claim: Claim
    found: Score | None
    """None: not measured"""

    @property
    def verdict(self) -> str:
        """holds, does not hold, or not measured."""
        if self.found is None:
            return UNKNOWN
        return HOLDS if self.claim.wanted.held(self.found) else FAILS

    def state(self) -> dict[str, Any]:
        """For JSON."""
        said = {
            name: getattr(self.claim, name) for name in ("key", "source", "words", "number", "paper", "data", "command")
        }
        found = None if self.found is None else [self.found.value, self.found.error]
        return said | {"wanted": str(self.claim.wanted), "found": found, "verdict": self.verdict}


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
    scores = {key: score for result in results.values() for key, score in result.scores.items()}
    return Table(tuple(Row(claim, scores.get(claim.key)) for claim in claims), results)
