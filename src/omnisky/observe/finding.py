"""What a check found, and all of it as one report: a table for people, JSON for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from jaxtyping import Bool

from omnisky.observe.types import Part

_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is not as it should be."""

    check: str
    where: str
    """part, band, column or file"""
    saw: str
    want: str
    hint: str = ""
    serious: bool = True
    """False: worth a look, and may be meant"""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One band or column in numbers."""

    name: str
    objects: int
    """that have the part"""
    usable: float
    """share of the entries that are good and finite; padding counts as not usable"""
    blank: float
    """share of the objects of which nothing is usable, or all of it is 0"""
    low: float
    """smallest usable value; NaN if there is none"""
    high: float
    """largest usable value"""


@dataclass
class Offenders:
    """How many objects fail a check, and the names of the first."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, wrong: Bool[np.ndarray, " object"], ids: np.ndarray) -> None:
        self.count += int(wrong.sum())
        if len(self.names) < _EXAMPLES and wrong.any():
            self.names += [str(name) for name in ids[wrong][: _EXAMPLES - len(self.names)]]

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.names) else ""
        return f"{self.count} object{'s' * (self.count != 1)}: {', '.join(self.names)}{more}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `validate` has to say."""

    what: str
    """path, or kind of source"""
    objects: int
    """how many were read"""
    findings: tuple[Finding, ...]
    """the serious ones first"""
    summaries: tuple[Summary, ...]

    @property
    def ok(self) -> bool:
        """Nothing serious."""
        return not any(finding.serious for finding in self.findings)

    def state(self) -> dict[str, Any]:
        """For JSON, in which NaN becomes null."""
        told = {"ok": self.ok, **asdict(self)}
        return {key: _plain(value) for key, value in told.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


# --- what checks ask of a part ------------------------------------------------------------------------------------


def good_of(part: Part) -> np.ndarray:
    """`good`, spelled out; without the axis of columns where there is one."""
    good = getattr(part, "good", None)
    if good is not None:
        return good
    values = measured(part)
    return np.ones(values.shape[:-1] if hasattr(part, "names") else values.shape, dtype=bool)


def first_of(part: Part) -> str:
    return "flux" if hasattr(part, "flux") else "values" if hasattr(part, "values") else part._first


def measured(part: Part) -> np.ndarray:
    value = getattr(part, first_of(part))
    return value if isinstance(value, np.ndarray) else np.zeros((len(part), 0), dtype=bool)
