"""A measured number ↔ an id."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from omnisky.codec.patch import ScalarTokens
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


@dataclass(frozen=True, kw_only=True)
class MagnitudeTokens(ScalarTokens):
    """Fluxes in nanomaggies as AB magnitudes, (m − centre) / scale; what has no magnitude (flux ≤ 0, NaN) is absent."""

    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`, of one token per column."""
        with np.errstate(divide="ignore", invalid="ignore"):
            magnitude = 22.5 - 2.5 * np.log10(seen[self.part].values)
        values = np.where(np.isfinite(magnitude), magnitude, np.nan)
        return super().encode(seen | {self.part: replace(seen[self.part], values=values)})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """The fluxes again; absent ones are NaN."""
        said = super().decode(tokens, like)
        return said | {self.part: replace(said[self.part], values=10 ** (0.4 * (22.5 - said[self.part].values)))}
