"""States that a frozen model left on disk, as tokens again. `train.frozen` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Integer, UInt16

from omnisky.codec.tokens import Span, Tokens
from omnisky.errors import BadValue
from omnisky.observe.parts import Part
from omnisky.observe.types import Observation


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredStates(Part):
    """Some rows of a table of states. Taking rows reads nothing; encoding them does."""

    rows: Integer[np.ndarray, " object"]
    """of the table"""
    table: UInt16[np.ndarray, "row state width"]
    """the bits of bfloat16 numbers, on disk"""
    seen: Bool[np.ndarray, "row state"] | None = None
    """True where there is a state; None means everywhere"""

    def _rows(self) -> dict[str, np.ndarray]:
        return {"rows": self.rows}


@dataclass(frozen=True, kw_only=True)
class StoredTokens:
    """States as tokens, in bfloat16."""

    name: str
    part: str
    promised_error: ClassVar[str] = "none beyond bfloat16: 0.4 % of each number"

    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`, of the states of these rows."""
        stored = seen[self.part]
        values = torch.from_numpy(np.ascontiguousarray(stored.table[stored.rows])).view(torch.bfloat16)
        positions = torch.arange(values.shape[1]).expand(len(values), -1)
        present = None if stored.seen is None else torch.from_numpy(np.ascontiguousarray(stored.seen[stored.rows]))
        return Tokens({self.name: Span(values, positions, None if present is None or present.all() else present)})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """A table of these states, in memory."""
        span = tokens[self.name]
        if not span.values.is_floating_point():
            raise BadValue(saw="ids", want="states")
        table = bits(span.values)
        seen = Observation.of(range(len(table))) if like is None else like
        present = None if span.present is None else span.present.numpy()
        return seen | {self.part: StoredStates(rows=np.arange(len(table)), table=table, seen=present)}


def bits(states: torch.Tensor) -> UInt16[np.ndarray, ...]:
    """Numbers rounded to bfloat16, as numpy can hold them."""
    return states.to(torch.bfloat16).contiguous().view(torch.uint16).cpu().numpy()
