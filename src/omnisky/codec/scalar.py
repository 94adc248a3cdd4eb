"""A measured number ↔ an id.

`ScalarCodec` is that of AION-1 (Parker et al. 2025, arXiv:2510.17960, and its release): numbers are squeezed, and an id
says between which two of 1,024 levels one lies. As published it decodes to the upper edge of that bin, a little too
high; `centred(codec)` decodes to its middle, which halves the error. Where the published squeeze loses something there
is another beside it: `ScaledAsinh` for parallaxes, of which `Log` drops all below 0.05 mas, and `Turned` for right
ascensions, which `Plain` tears apart at 0.

    plans = tuple(plan(DOMAINS[key]) for key in ("tok_flux_g", "tok_ebv"))
    first, second = (sample(plans, shard) for shard in shards)      # anywhere, in any order
    codecs = fitted(plans, merged(first, second))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, Integer
from torch import Tensor

from omnisky.codec.bins import FEW, Bins, Sample, largest
from omnisky.codec.modalities import PLACE, Domain
from omnisky.codec.patch import ScalarTokens
from omnisky.codec.tokens import Span, Tokens
from omnisky.errors import BadValue, MissingModality, ShapeMismatch
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


# --- squeezes: a number onto a scale on which it is spread more evenly, and back -----------------------------------


@runtime_checkable
class Squeeze(Protocol):
    """Of tensors of any shape, number by number."""

    rises: ClassVar[bool]
    """a larger number is never squeezed to a smaller one"""

    def forward(self, value: Tensor) -> Tensor: ...

    def inverse(self, squeezed: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Plain:
    """As it is."""

    rises: ClassVar[bool] = True

    def forward(self, value: Tensor) -> Tensor:
        return value

    def inverse(self, squeezed: Tensor) -> Tensor:
        return squeezed


@dataclass(frozen=True, kw_only=True)
class Log:
    """The natural logarithm; what is below exp(floor), negative numbers too, is taken as exp(floor)."""

    floor: float = -3.0
    rises: ClassVar[bool] = True

    def forward(self, value: Tensor) -> Tensor:
        return value.clamp(min=float(np.exp(self.floor))).log()

    def inverse(self, squeezed: Tensor) -> Tensor:
        return squeezed.exp()


@dataclass(frozen=True, kw_only=True)
class TwiceAsinh:
    """asinh(asinh(x)): for the coefficients of Gaia's spectra, whose sizes span six decades."""

    rises: ClassVar[bool] = True

    def forward(self, value: Tensor) -> Tensor:
        return value.asinh().asinh()

    def inverse(self, squeezed: Tensor) -> Tensor:
        return squeezed.sinh().sinh()


@dataclass(frozen=True, kw_only=True)
class ScaledAsinh:
    """asinh(x / softening): a logarithm for large numbers that goes on through 0 to negative ones."""

    softening: float
    """in the unit of the number, about its noise"""
    rises: ClassVar[bool] = True

    def forward(self, value: Tensor) -> Tensor:
        return (value / self.softening).asinh()

    def inverse(self, squeezed: Tensor) -> Tensor:
        return squeezed.sinh() * self.softening


@dataclass(frozen=True, kw_only=True)
class Turned:
    """An angle, counted from `cut_deg`, 0 … 360: neighbours on the sky stay neighbours, but for those at the cut."""

    cut_deg: float
    rises: ClassVar[bool] = False

    def forward(self, value: Tensor) -> Tensor:
        return (value - self.cut_deg).remainder(360)

    def inverse(self, squeezed: Tensor) -> Tensor:
        return (squeezed + self.cut_deg).remainder(360)


def widest_gap(angle_deg: Float[np.ndarray, " object"]) -> float:
    """The middle of the widest arc without objects: where to cut the circle, deg."""
    rising = np.sort(np.mod(angle_deg[np.isfinite(angle_deg)], 360))
    if not len(rising):
        return 0.0
    gaps = np.diff(np.append(rising, rising[0] + 360))
    widest = int(gaps.argmax())
    return float(np.mod(rising[widest] + gaps[widest] / 2, 360))


# --- the codec -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ScalarPlan:
    """Which numbers become tokens, and how they are squeezed: a codec that has not seen data yet."""

    name: str
    part: str
    """a part that holds `Scalars`; "place": the observation's own ra and dec"""
    columns: tuple[str, ...] = ()
    """of the part; empty: all of them"""
    unit: str = ""
    squeeze: Squeeze = Plain()

    def read(self, seen: Observation) -> Float32[Tensor, "column object"]:
        """NaN where it was not measured."""
        if self.part == PLACE:
            return torch.stack([torch.from_numpy(getattr(seen, column)).float() for column in self.columns])
        part: Scalars = seen[self.part]
        missing = tuple(name for name in self.columns if name not in part.names)
        if missing:
            raise MissingModality(f"no such column in {self.part!r}", saw=part.names, want=missing)
        chosen = [part.values[:, part.names.index(name)] for name in self.columns] or list(part.values.T)
        columns = [torch.from_numpy(np.ascontiguousarray(column)).float() for column in chosen]
        numbers = columns[0][None] if len(columns) == 1 else torch.stack(columns)
        return numbers if part.present is None else numbers.where(torch.from_numpy(part.present.copy()), torch.nan)

    def write(self, numbers: Float32[Tensor, "column object"], like: Observation | None) -> Observation:
        values = numbers.T.contiguous().cpu().numpy()
        seen = Observation.of(range(len(values))) if like is None else like
        if self.part == PLACE:
            said = {name: values[:, i].astype(np.float64) for i, name in enumerate(self.columns)}
            return replace(seen, **said)
        names = self.columns or tuple(f"{self.part}_{i}" for i in range(len(numbers)))
        units = (self.unit,) * len(names)
        return seen | {self.part: Scalars(values=values, names=names, units=units)}


@dataclass(frozen=True, kw_only=True, eq=False)
class ScalarCodec:
    """One id a number: the bin between two levels, each column with levels of its own. NaN is absent.

    What lies outside the levels, infinities too, is in the first or last bin.
    """

    plan: ScalarPlan
    levels: Float32[Tensor, "column level"]
    """squeezed, rising"""
    says: Float32[Tensor, "column level"] | None = None
    """squeezed: what each id decodes to; None: its level, the upper edge of the bin, as published"""
    kept: Float32[Tensor, "column object"] | None = None
    """squeezed: the numbers that the levels are quantiles of, as a published codec has them"""
    config: Mapping[str, Any] | None = None
    """the published config.json it came with"""
    prefix: str = "_quantizer."
    """of its tensors' names on disk; older files have "quantizer." """
    promised_error: ClassVar[str] = "the width of the bin, half of it when `centred`"

    def __post_init__(self) -> None:
        if self.plan.columns and len(self.plan.columns) != len(self.levels):
            raise ShapeMismatch(
                f"levels of {self.name}", saw=f"{len(self.levels)} rows", want=f"{len(self.plan.columns)}"
            )
        if self.levels.shape[1] < 2 or not bool((self.levels.diff() >= 0).all()):
            raise BadValue(f"levels of {self.name}", saw="not rising", want="two or more, rising")

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def part(self) -> str:
        return self.plan.part

    @property
    def edges(self) -> Float32[Tensor, "column level"]:
        """The upper edges of the bins, in the unit of the number."""
        return self.plan.squeeze.inverse(self.levels)

    @cached_property
    def _tops(self) -> Float32[Tensor, "column level"]:
        """The largest number of each bin, so that nothing need be squeezed; the levels, where that does not rise."""
        return largest(self.plan.squeeze.forward, self.levels) if self.plan.squeeze.rises else self.levels

    @cached_property
    def _bins(self) -> tuple[Bins, ...]:
        return tuple(Bins(row) for row in self._tops)

    def ids(self, numbers: Float32[Tensor, "column object"]) -> Int64[Tensor, "column object"]:
        """The bins of numbers; of NaN, any."""
        if not self.plan.squeeze.rises:
            numbers = self.plan.squeeze.forward(numbers)
        if len(numbers) > 1 and numbers.shape[1] < FEW:
            return torch.searchsorted(self._tops[:, :-1].contiguous(), numbers.contiguous())
        found = torch.empty(numbers.shape, dtype=torch.int64)
        for bins, row, column in zip(self._bins, found.unbind(), numbers.unbind(), strict=True):
            bins.fill(row, column)
        return found

    def numbers(self, ids: Integer[Tensor, "column object"]) -> Float32[Tensor, "column object"]:
        """What ids say. Raises BadValue for those that no bin has."""
        most = self.levels.shape[1]
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < most:
            raise BadValue(f"ids of {self.name}", saw=f"{int(ids.min())} … {int(ids.max())}", want=f"0 … {most - 1}")
        says = self.levels if self.says is None else self.says
        return self.plan.squeeze.inverse(says.gather(1, ids.long()))

    def encode(self, seen: Observation) -> Tokens:
        """One span, of one id a column; position = the column's place. Raises MissingModality, ShapeMismatch."""
        numbers = self.plan.read(seen)
        if len(numbers) != len(self.levels):
            raise ShapeMismatch(self.part, saw=f"{len(numbers)} columns", want=f"{len(self.levels)}")
        ids, present = self.ids(numbers), None
        if np.isnan(numbers.numpy().max(initial=-np.inf)):  # of a million, in a tenth of the time of torch's isnan
            there = ~numbers.isnan()
            ids, present = ids.where(there, 0), there.T.contiguous()
        positions = torch.arange(len(numbers)).expand(len(seen), -1)
        return Tokens({self.name: Span(ids.T.contiguous(), positions, present)})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """The numbers again; absent ones are NaN. Raises BadValue for ids that no bin has."""
        span = tokens[self.name].map(Tensor.cpu)
        there = span.there().T
        if span.values.is_floating_point() or len(there) != len(self.levels):
            raise ShapeMismatch(f"tokens of {self.name}", saw=tuple(span.values.shape), want=f"{len(self.levels)} ids")
        return self.plan.write(self.numbers(span.values.T.where(there, 0)).where(there, torch.nan), like)


def centred(codec: ScalarCodec) -> ScalarCodec:
    """The same ids, which decode to the middle of their bin on the squeezed scale: half the error, and no bias.

    The first bin, which has no lower edge, decodes to the first level.
    """
    below = torch.cat([codec.levels[:, :1], codec.levels[:, :-1]], dim=1)
    return replace(codec, says=(below + codec.levels) / 2)


def redshift_grid(levels: int = 1024, highest: float = 6.0) -> Float32[Tensor, "1 level"]:
    """Levels of the published codec of redshifts, equally far apart on 0 … 6."""
    return torch.linspace(0, highest, levels)[None]


# --- from data -----------------------------------------------------------------------------------------------------

PARALLAX_SOFTENING_MAS = 0.1
"""about the error of Gaia DR3's parallaxes at G = 17.5 (Lindegren et al. 2021, A&A 649, A2: 0.07 mas at G = 17)"""

_PUBLISHED: Mapping[str, Squeeze] = {
    "Scalar": Plain(),
    "GridScalar": Plain(),
    "LogScalar": Log(),
    "MultiScalar": TwiceAsinh(),
}


def plan(domain: Domain, squeeze: Squeeze | None = None) -> ScalarPlan:
    """How a modality is read; squeezed as published if not said otherwise. Raises BadValue where it is no number."""
    if domain.codec not in _PUBLISHED:
        raise BadValue(domain.key, saw=f"a codec of kind {domain.codec}", want=tuple(_PUBLISHED))
    squeeze = _PUBLISHED[domain.codec] if squeeze is None else squeeze
    return ScalarPlan(name=domain.key, part=domain.part, columns=domain.columns, unit=domain.unit, squeeze=squeeze)


def sample(plans: Iterable[ScalarPlan], batches: Iterable[Observation], size: int = 100_000) -> dict[str, Sample]:
    """What codecs need to know of data, by name, in one pass; a batch without a part or column is passed over."""
    plans = tuple(plans)
    drawn: dict[str, Sample] = {}
    waiting: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {one.name: [] for one in plans}
    for batch in batches:
        for one in plans:
            if (numbers := _measured(one, batch)) is None:
                continue
            rows = waiting[one.name]
            rows.append((batch.object_id, numbers))
            if sum(len(ids) for ids, _ in rows) > size // 4:
                drawn[one.name] = _poured(drawn.get(one.name), rows, size)
    for name, rows in waiting.items():
        if rows:
            drawn[name] = _poured(drawn.get(name), rows, size)
    return drawn


def _measured(one: ScalarPlan, batch: Observation) -> Float[np.ndarray, "object column"] | None:
    if one.part != PLACE and (one.part not in batch or not set(one.columns) <= set(batch[one.part].names)):
        return None
    return one.squeeze.forward(one.read(batch)).T.numpy()


def _poured(into: Sample | None, rows: list[tuple[np.ndarray, np.ndarray]], size: int) -> Sample:
    """Rows that waited, into the sample: sorting is worth it for many at a time."""
    ids, values = (np.concatenate(column) for column in zip(*rows, strict=True))
    rows.clear()
    return (Sample.empty(size, values.shape[1]) if into is None else into).add(ids, values)


def merged(*drawn: Mapping[str, Sample]) -> dict[str, Sample]:
    """Samples of shards as one; in any order the same."""
    whole: dict[str, Sample] = {}
    for one in drawn:
        whole |= {name: whole[name] | more if name in whole else more for name, more in one.items()}
    return whole


def fitted(plans: Iterable[ScalarPlan], drawn: Mapping[str, Sample], levels: int = 1024) -> tuple[ScalarCodec, ...]:
    """A codec for each plan, its levels the quantiles of the sample. Raises MissingModality where nothing was drawn."""
    codecs = []
    for one in plans:
        if one.name not in drawn:
            raise MissingModality("nothing to fit it to", saw=tuple(drawn), want=one.name)
        known = drawn[one.name]
        kept = torch.from_numpy(known.values.T.copy())
        codecs.append(ScalarCodec(plan=one, levels=known.levels(levels), kept=kept))
    return tuple(codecs)
