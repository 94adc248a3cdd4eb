"""A list of the sources in a cut-out ↔ ids, and ids as the sequence that AION-1's transformer reads.

Five ids a source (Parker et al. 2025, arXiv:2510.17960, and its release): X and Y are pixels of the middle 96 × 96 of
the cut-out, SHAPE_E1, SHAPE_E2 and SHAPE_R lie between quantiles; up to 20 sources, nearest to the middle first. Each
of the five has ids of its own: 96 + 96 + 3 × 1,024 in all.

For the transformer, which the release leaves undone, ids move up by 204: 0 is padding, 1 … 3 are reserved, then come
sentinels, which mark where tokens were hidden (`omnisky.model.spans`). `sequence` and `sources` go there and back.
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
FIRST_SENTINEL, SENTINELS = 5, 199
"""ids that stand for hidden stretches, the first for the first; 4, sentinel 0, is never used (4M counts from 1)"""
OFFSET = FIRST_SENTINEL + SENTINELS
"""by which the ids of sources move up"""
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


def _gathered(ids: Integer[Tensor, "object token"], there: Bool[Tensor, "object token"], length: int) -> Span:
    """What is there, moved to the front; `length` tokens, the rest padding."""
    front = (~there).to(torch.uint8).argsort(dim=1, stable=True)[:, :length]
    short = length - front.shape[1]
    present = torch.nn.functional.pad(there.gather(1, front), (0, short))
    values = torch.nn.functional.pad(ids.gather(1, front), (0, short)).where(present, PAD)
    positions = torch.arange(length, device=ids.device).expand(len(ids), -1)
    return Span(values, positions, present)
