"""A measured number ↔ an id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from omnisky.codec.tokens import Span, Tokens
from omnisky.errors import BadValue
from omnisky.observe.types import Observation, Scalars


@dataclass(frozen=True, kw_only=True)
class ClassIds:
    """A column that already holds class numbers 0 … classes−1; NaN is absent."""

    column: str
    classes: int
    name: str = "labels"
    part: str = "scalars"
    promised_error: ClassVar[str] = "none"

    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`, of one id per object. Raises BadValue for numbers that are no class."""
        numbers = seen[self.part][self.column]
        there = np.isfinite(numbers) & seen[self.part].there()
        ids = np.where(there, numbers, 0)
        if ((ids < 0) | (ids >= self.classes) | (ids != np.floor(ids))).any():
            raise BadValue(self.column, saw=f"{ids.min()} … {ids.max()}", want=f"whole numbers 0 … {self.classes - 1}")
        values = torch.from_numpy(ids.astype(np.int64))[:, None]
        present = None if there.all() else torch.from_numpy(there)[:, None]
        return Tokens({self.name: Span(values, torch.zeros_like(values), present)})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """The class numbers again."""
        span = tokens[self.name]
        numbers = np.where(span.there().numpy(), span.values.double().numpy(), np.nan)
        seen = Observation.of(range(len(numbers))) if like is None else like
        return seen | {self.part: Scalars(values=numbers, names=(self.column,))}
