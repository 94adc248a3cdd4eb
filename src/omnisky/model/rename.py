"""Names of published tensors → ours, by tables of templates such as "blocks.{i}.norm1.{w}"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

_HOLES = {
    "{c}": r"(?P<c>\d+)",
    "{i}": r"(?P<i>\d+)",
    "{m}": r"(?P<m>[^.]+)",
    "{w}": "(?P<w>weight|bias)",
    "{b}": "(?P<b>weight|bias|running_mean|running_var|num_batches_tracked)",
}
"""c: chunk of blocks, i: block, m: modality, w: of a linear, b: of a batch norm"""


@cache
def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    for hole, what in _HOLES.items():
        text = text.replace(hole, what)
    return re.compile(text)


def renamed(name: str, table: Mapping[str, str]) -> str | None:
    """Our name of a tensor, or None where the table has none."""
    for theirs, ours in table.items():
        if found := _pattern(theirs).fullmatch(name):
            return ours.format(**found.groupdict())
    return None


def some(names: Iterable[str]) -> tuple[str, ...]:
    """The first of them, for an error."""
    listed = list(names)
    return (*listed[:4], f"… {len(listed)} in all") if len(listed) > 4 else tuple(listed)
