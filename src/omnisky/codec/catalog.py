"""A list of the sources in a cut-out ↔ ids, and ids as the sequence that AION-1's transformer reads.

Five ids a source (Parker et al. 2025, arXiv:2510.17960, and its release): X and Y are pixels of the middle 96 × 96 of
the cut-out, SHAPE_E1, SHAPE_E2 and SHAPE_R lie between quantiles; up to 20 sources, nearest to the middle first. Each
of the five has ids of its own: 96 + 96 + 3 × 1,024 in all.

For the transformer, which the release leaves undone, ids move up by 204: 0 is padding, 1 … 3 are reserved, 4 + k is
sentinel k, which marks where tokens were hidden (T5: Raffel et al. 2020, JMLR 21, 140, as in 4M). `sequence` and
`sources` go there and back, `hide` and `reveal` too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, Integer
from torch import Tensor

from omnisky.codec.bins import Bins, Sample
from omnisky.codec.tokens import Span, Tokens
from omnisky.errors import BadValue, MissingModality, ShapeMismatch
from omnisky.observe.types import Neighbours, Observation

EMPTY = 9999
"""what the release writes where there is no source; here such tokens are not present, and 0"""
SHAPES = ("SHAPE_E1", "SHAPE_E2", "SHAPE_R")
COLUMNS = ("X", "Y", *SHAPES)
UNITS = ("pix", "pix", "", "", "arcsec")
PAD = 0
SENTINEL = 4
"""id of sentinel 0; the first that is used is sentinel 1"""
OFFSET = 204
"""after 200 sentinels"""
LENGTH = 50
"""tokens that the transformer has positions for"""


@dataclass(frozen=True, kw_only=True, eq=False)
class CatalogCodec:
    """Sources in the middle of a cut-out ↔ 100 ids. Sources beyond it, or without a shape, are left out."""

    levels: Float32[Tensor, "3 level"]
    """of SHAPE_E1, SHAPE_E2 and SHAPE_R, rising: an id says between which two"""
    kept: Float32[Tensor, "3 object"] | None = None
    """the numbers that the levels are quantiles of, as the published codec has them"""
    side: int = 96
    """px of the middle that is read"""
    cutout_px: int = 160
    """px of the cut-out whose pixels X and Y count, from 0: 160 in the Multimodal Universe"""
    most: int = 20
    """sources"""
    name: str = "catalog"
    part: str = "neighbours"
    promised_error: ClassVar[str] = "half a pixel in X and Y; shapes less than the width of their bin"

    @property
    def offsets(self) -> tuple[int, ...]:
        """The first id of each column, and one after the last."""
        sizes = (self.side, self.side, *[self.levels.shape[1]] * len(SHAPES))
        return (0, *np.cumsum(sizes).tolist())

    @cached_property
    def _bins(self) -> tuple[Bins, ...]:
        return tuple(Bins(row) for row in self.levels)

    def ids(
        self, pixels: Int64[Tensor, "2 object source"], shapes: Float32[Tensor, "3 object source"]
    ) -> Int64[Tensor, "object token"]:
        """Of sources that are all there and lie within: column by column of one source, then the next."""
        binned = [bins(row.flatten()).view_as(row) for bins, row in zip(self._bins, shapes.unbind(), strict=True)]
        columns = torch.stack([*pixels.unbind(), *binned], dim=-1)
        return (columns + torch.tensor(self.offsets[:-1])).flatten(1)

    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`: five ids a source, nearest first; absent where there is no source."""
        x, y, shapes, there = self._listed(seen[self.part])
        ids = self.ids(torch.stack([x, y]), shapes)
        present = there.repeat_interleave(len(COLUMNS), dim=1)
        positions = torch.arange(ids.shape[1]).expand(len(ids), -1)
        return Tokens({self.name: Span(ids.where(present, 0), positions, present)})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """The list again, in pixels of the cut-out. A source of which an id stands in another's column is left out.

        Raises ShapeMismatch, and BadValue for ids outside the vocabulary.
        """
        span = tokens[self.name]
        there = span.there().cpu()
        ids = span.values.cpu().long().where(there, 0)
        if ids.shape[1] % len(COLUMNS):
            raise ShapeMismatch(self.name, saw=f"{ids.shape[1]} tokens", want="five a source")
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.offsets[-1]:
            saw = f"{int(ids.min())} … {int(ids.max())}"
            hint = "catalog.sources(span), for ids out of the transformer" if int(ids.min()) >= 0 else ""
            raise BadValue(f"ids of {self.name}", saw=saw, want=f"0 … {self.offsets[-1] - 1}", hint=hint)
        columns = ids.unflatten(1, (-1, len(COLUMNS))) - torch.tensor(self.offsets[:-1])
        sizes = torch.tensor(self.offsets).diff()
        good = ((columns >= 0) & (columns < sizes) & there.unflatten(1, (-1, len(COLUMNS)))).all(-1)
        inside = columns.clamp(min=torch.zeros_like(sizes), max=sizes - 1)
        values = inside.float()
        values[..., :2] += (self.cutout_px - self.side) // 2
        for i, levels in enumerate(self.levels):
            values[..., 2 + i] = levels[inside[..., 2 + i]]
        values = values.where(good[..., None], torch.nan)
        found = Neighbours(values=values.numpy(), names=COLUMNS, units=UNITS, good=good.numpy())
        seen = Observation.of(range(len(values))) if like is None else like
        return seen | {self.part: found}

    def _listed(self, listed: Neighbours) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, y, shapes, and which are there, of the nearest sources."""
        missing = tuple(name for name in COLUMNS if name not in listed.names)
        if missing:
            raise MissingModality(f"no such column in {self.part!r}", saw=listed.names, want=missing)
        numbers = torch.from_numpy(np.stack([listed[name] for name in COLUMNS])).double()
        there = torch.from_numpy(listed.where_good() & listed.there()[:, None]) & numbers.isfinite().all(0)
        x, y = (numbers[:2].nan_to_num() + 0.5).floor() - (self.cutout_px - self.side) // 2
        there &= (x >= 0) & (x < self.side) & (y >= 0) & (y < self.side)
        away = (numbers[:2].nan_to_num() - (self.cutout_px - 1) / 2).square().sum(0)
        nearest = away.where(there, torch.inf).argsort(dim=1, stable=True)[:, : self.most]
        short = self.most - nearest.shape[1]

        def chosen(row: Tensor) -> Tensor:
            return torch.nn.functional.pad(row.gather(1, nearest), (0, short))

        there = chosen(there)
        x, y = (chosen(row).where(there, 0).long() for row in (x, y))
        return x, y, torch.stack([chosen(row).where(there, 0) for row in numbers[2:]]).float(), there


def sample_shapes(batches: Iterable[Observation], size: int = 100_000, part: str = "neighbours") -> Sample:
    """The shapes of all sources of all lists, in one pass; samples of shards merge with `|`."""
    drawn = Sample.empty(size, len(SHAPES))
    for batch in batches:
        listed: Neighbours = batch[part]
        there = listed.where_good() & listed.there()[:, None]
        number = np.broadcast_to(np.arange(there.shape[1]).astype(np.str_), there.shape)
        ids = np.char.add(np.char.add(batch.object_id[:, None], "/"), number)
        values = np.stack([listed[name] for name in SHAPES], axis=-1)
        drawn = drawn.add(ids[there], values[there].astype(np.float32))
    return drawn


def fitted_catalog(drawn: Sample, levels: int = 1024) -> CatalogCodec:
    """A codec whose levels are the quantiles of the sample."""
    return CatalogCodec(levels=drawn.levels(levels), kept=torch.from_numpy(drawn.values.T.copy()))


# --- for the transformer -------------------------------------------------------------------------------------------


def sequence(span: Span, length: int = LENGTH) -> Span:
    """The first `length` ids of the sources that are there, moved up by 204, without gaps; padding is absent."""
    return _gathered(span.values.long() + OFFSET, span.there(), length)


def sources(span: Span, length: int = 100) -> Span:
    """The ids of the codec again; sentinels and padding are dropped. The opposite of `sequence`."""
    found = _gathered(span.values.long() - OFFSET, span.there() & (span.values >= OFFSET), length)
    return replace(found, present=found.there())


def hide(span: Span, hidden: Bool[Tensor, "object token"]) -> tuple[Span, Span]:
    """A sequence with a sentinel for each run of hidden tokens; and the runs, each after its sentinel, one at the end.

    `hidden` says which tokens of a `sequence` are hidden; those that are not there are neither shown nor asked for.
    """
    ids, there = span.values, span.there()
    _demand_gapless(there)
    hidden = hidden & there
    begins = hidden & ~torch.nn.functional.pad(hidden, (1, -1))
    run = begins.cumsum(1)
    shown = _gathered(ids.where(~begins, SENTINEL + run), there & (~hidden | begins), ids.shape[1])
    before = hidden.cumsum(1) - 1
    objects, count, runs = len(ids), hidden.sum(1), run[:, -1] if run.shape[1] else hidden.sum(1)
    asked = torch.zeros(objects, 2 * ids.shape[1] + 2, dtype=torch.int64, device=ids.device)
    spare = asked.shape[1] - 1  # where what is not asked for is put, and forgotten
    asked.scatter_(1, (before + run).where(hidden, spare), ids.long())
    asked.scatter_(1, (before + run - 1).where(begins, spare), (SENTINEL + run).long())
    asked.scatter_(1, (count + runs)[:, None], (SENTINEL + runs + 1)[:, None].long())
    total = (count + runs + 1)[:, None]
    return shown, _gathered(asked, torch.arange(asked.shape[1], device=ids.device) < total, int(total.max()))


def reveal(shown: Span, asked: Span) -> Span:
    """The sequence again: each run in the place of its sentinel. Runs whose sentinel is not shown are left out."""
    where = torch.full((len(shown.values), OFFSET), -1, dtype=torch.int64, device=shown.values.device)
    marks = _is_sentinel(shown)
    index = torch.arange(shown.values.shape[1], device=where.device).expand_as(shown.values)
    where.scatter_(1, shown.values.long().where(marks, 0), index.where(marks, -1))
    starts = _is_sentinel(asked)
    # Of each token asked for, the sentinel before it: sentinels need not be in order, as a model may write them.
    last = torch.arange(asked.values.shape[1], device=where.device).where(starts, -1).cummax(1).values
    sentinel = asked.values.long().gather(1, last.clamp(min=0)).where(last >= 0, 0)
    place = where.gather(1, sentinel.clamp(max=OFFSET - 1))
    told = asked.there() & (asked.values >= OFFSET) & (place >= 0)
    stride = asked.values.shape[1] + 1
    order = torch.cat([index * stride, place * stride + 1 + torch.arange(stride - 1, device=where.device)], dim=1)
    there = torch.cat([shown.there() & ~marks, told], dim=1)
    ids = torch.cat([shown.values.long(), asked.values.long()], dim=1)
    sorted_ = order.where(there, torch.iinfo(torch.int64).max).argsort(dim=1, stable=True)
    length = int(there.sum(1).max()) if len(there) else 0
    return _gathered(ids.gather(1, sorted_), there.gather(1, sorted_), length)


def drawn_hidden(span: Span, budget: int, generator: torch.Generator) -> Bool[Tensor, "object token"]:
    """Tokens to hide, as 4M draws them: kept with a chance drawn per object, lowered until what is shown fits."""
    there = span.there()
    if budget < 1:
        return there.clone()
    chance = torch.rand(len(there), 1, generator=generator)
    lots = torch.rand(there.shape, generator=generator)
    while True:
        hidden = there & (lots > chance)
        begins = hidden & ~torch.nn.functional.pad(hidden, (1, -1))
        over = (there & (~hidden | begins)).sum(1, keepdim=True) > budget
        if not bool(over.any()):
            return hidden
        chance = torch.where(over, chance * 0.9, chance)


def _is_sentinel(span: Span) -> Bool[Tensor, "object token"]:
    return span.there() & (span.values >= SENTINEL) & (span.values < OFFSET)


def _demand_gapless(there: Bool[Tensor, "object token"]) -> None:
    if bool((there[:, 1:] & ~there[:, :-1]).any()):
        raise BadValue("tokens with gaps between them", want="those of catalog.sequence")


def _gathered(ids: Integer[Tensor, "object token"], there: Bool[Tensor, "object token"], length: int) -> Span:
    """What is there, moved to the front; `length` tokens, the rest padding."""
    front = (~there).to(torch.uint8).argsort(dim=1, stable=True)[:, :length]
    short = length - front.shape[1]
    present = torch.nn.functional.pad(there.gather(1, front), (0, short))
    values = torch.nn.functional.pad(ids.gather(1, front), (0, short)).where(present, PAD)
    positions = torch.arange(length, device=ids.device).expand(len(ids), -1)
    return Span(values, positions, present)
