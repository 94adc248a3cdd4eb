"""What the learned codecs share: words of published config.json files, and objects a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jaxtyping import Bool, Integer
from torch import Tensor

from omnisky.errors import UnknownLayout


def known_fields(what: str, said: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a published config.json, lists as tuples. Raises UnknownLayout for one that we do not know."""
    strange = tuple(name for name in said if name not in names)
    if strange:
        raise UnknownLayout(f"config.json of the {what}", saw=strange, want=names)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}


def plain(value: Any) -> Any:
    """As JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def some_at_once(there: Bool[Tensor, " object"], size: int) -> Iterator[Integer[Tensor, " row"]]:
    """The rows that are there, so many at a time; none where there is none."""
    yield from (rows for rows in there.nonzero()[:, 0].split(size) if len(rows))
