"""Hide stretches of a sequence behind sentinels, and put them back: T5's spans (Raffel et al. 2020, §3.1.4).

sequence   a b c d e f         hidden: b c, e
shown      a S₁ d S₂ f
asked      S₁ b c S₂ e S₃      each told from those before it, after S₁
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Integer
from torch import Tensor

from omnisky.errors import BadValue

DECAY = 0.9
"""of the share that is shown, until it fits its budget (4M)"""


@dataclass(frozen=True, eq=False)
class Hidden:
    """Ids of each object, left-aligned."""

    ids: Integer[Tensor, "object token"]
    lengths: Integer[Tensor, " object"]
    """how many of them count"""


@dataclass(frozen=True, eq=False)
class Stretches:
    """What is shown of a sequence, what is asked for, and what is told before each token asked for."""

    kept: Hidden
    wanted: Hidden
    before: Hidden


def hide_stretches(
    ids: Integer[Tensor, "object token"],
    there: Bool[Tensor, "object token"],
    room: tuple[Integer[Tensor, " object"], Integer[Tensor, " object"]],
    sentinels: tuple[int, int],
    draw: torch.Generator | None = None,
) -> Stretches:
    """Hide each token with a chance drawn for each object, more of them until what is shown fits into `room[0]`.

    Where `room[0]` is 0 nothing is shown and all is asked for. What is asked for and does not fit into `room[1]` is
    cut: it begins with a sentinel drawn at random.
    """
    first, count = sentinels
    ids, there = _packed(ids, there)
    chance = torch.rand(ids.shape, generator=draw)
    share = torch.rand(len(ids), 1, generator=draw) * (room[0] > 0)[:, None]
    start = torch.rand(len(ids), generator=draw)
    hidden = there & (chance >= share)
    while bool((over := (_stream(ids, there & ~hidden, hidden, first)[1] > room[0]) & (room[0] > 0)).any()):
        share = torch.where(over[:, None], torch.where(share > 1e-3, share * DECAY, 0.0), share)
        hidden = there & (chance >= share)
    if int(_begins(hidden).sum(1).max()) + 1 > count:
        raise BadValue("stretches", saw=int(_begins(hidden).sum(1).max()), want=f"fewer than {count} sentinels")
    kept, shown = _stream(ids, there & ~hidden, hidden, first)
    told, length = _stream(ids, hidden, hidden, first)
    told = torch.cat([told, torch.zeros_like(told[:, :2])], 1)
    told.scatter_(1, length[:, None], (first + _begins(hidden).sum(1))[:, None])  # the last one says: no more
    told, asked = _cut(told, length, room[1], first, count, start)
    wanted = Hidden(told[:, 1:], asked)
    return Stretches(Hidden(kept, torch.minimum(shown, room[0])), wanted, Hidden(told[:, :-1], asked))


def merge_stretches(
    kept: Integer[Tensor, " shown"], told: Integer[Tensor, " asked"], sentinels: tuple[int, int]
) -> Integer[Tensor, " token"]:
    """The sequence again, of one object: each sentinel shown is replaced by what was told after it."""
    first, count = sentinels
    pieces: dict[int, list[int]] = {}
    now = first
    for token in told.tolist():
        if first <= token < first + count:
            now = token
        else:
            pieces.setdefault(now, []).append(token)
    whole: list[int] = []
    for token in kept.tolist():
        whole += pieces.get(token, []) if first <= token < first + count else [token]
    return torch.tensor(whole, dtype=torch.long)


def _packed(ids: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens that are there first, in their order."""
    order = (~there).to(torch.uint8).argsort(dim=1, stable=True)
    return ids.gather(1, order), there.gather(1, order)


def _begins(hidden: Tensor) -> Tensor:
    return hidden & ~torch.nn.functional.pad(hidden, (1, 0))[:, :-1]


def _stream(ids: Tensor, chosen: Tensor, hidden: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """(the chosen tokens, with a sentinel where each hidden stretch begins, left-aligned; how many)."""
    begins = _begins(hidden)
    marks = first + begins.long().cumsum(1) - 1
    both = torch.stack([marks, ids], 2).flatten(1)
    used = torch.stack([begins, chosen], 2).flatten(1)
    packed, _ = _packed(both, used)
    return packed, used.sum(1)


def _cut(told: Tensor, length: Tensor, room: Tensor, first: int, count: int, start: Tensor) -> tuple[Tensor, Tensor]:
    """From a sentinel on, one of all but the last; an earlier one where the end would leave room unused."""
    whole = length + 1
    place = torch.arange(told.shape[1]).expand_as(told)
    marks = (told >= first) & (told < first + count) & (place < whole[:, None])
    rank = marks.long().cumsum(1) - 1
    number = (start * (marks.sum(1) - 1).clamp(min=1)).long()
    drawn = (marks & (rank == number[:, None])).long().argmax(1)
    fits = marks & (whole[:, None] - place <= room[:, None] + 1)
    earliest = torch.where(fits.any(1), fits.long().argmax(1), drawn)
    begin = torch.minimum(drawn, earliest)
    index = (place + begin[:, None]).clamp(max=told.shape[1] - 1)
    return told.gather(1, index), torch.minimum(whole - begin - 1, room)
