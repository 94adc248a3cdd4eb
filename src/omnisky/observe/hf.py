"""Hugging Face `datasets` as Observations: row by row when asked (a Source), or as a stream.

    rows = HfRows(load("UniverseTBD/mmu_gz10", split="train"))            # for a Loader; needs the data on this disk
    for batch in HfStream(load("UniverseTBD/mmu_gz10", split="train", streaming=True)): …

What the columns mean is said by the survey's row (`observe.survey`), which is known by the name of the data set or is
given; tables of plain columns need none. The package `datasets` comes with the extra [hf].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from omnisky.errors import BadValue, MissingExtra, MissingModality
from omnisky.observe.nested import Reading, is_nested, survey_named
from omnisky.observe.parquet import plain_columns
from omnisky.observe.scan import Choosing, Rows, in_range, within
from omnisky.observe.survey import SURVEYS, Survey
from omnisky.observe.tables import from_arrow_table, from_table
from omnisky.observe.types import Observation, concatenate


def load(name: str, **options: Any) -> Any:
    """`datasets.load_dataset(name, **options)`, or MissingExtra. Nothing of it is run as code: version 4 and later."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra(
            "Hugging Face data sets need the package datasets", hint="pip install 'omnisky[hf]'"
        ) from error
    return datasets.load_dataset(name, **options)


@dataclass(frozen=True, eq=False)
class _Opened:
    """What both ways of reading share."""

    dataset: Any
    """a `datasets.Dataset`, or an `IterableDataset`"""
    survey: str = ""
    """a row of `observe.survey`; empty: known by the data set's name"""
    parts: tuple[str, ...] | None = None
    """which parts to read; None: all there are"""
    columns: tuple[str, ...] | None = None
    """which columns of the parts "scalars" and "labels"; None: all"""

    def __post_init__(self) -> None:
        if isinstance(self.dataset, dict):
            raise BadValue("dataset", saw=f"splits {' '.join(self.dataset)}", want="one split", hint='dataset["train"]')

    @cached_property
    def row(self) -> Survey:
        """What is known of the survey."""
        if self.survey:
            if self.survey not in SURVEYS or SURVEYS[self.survey].mmu is None:
                raise BadValue("survey", saw=self.survey, want=tuple(name for name, row in SURVEYS.items() if row.mmu))
            return SURVEYS[self.survey]
        info = getattr(self.dataset, "info", None)
        names = [getattr(info, key, None) or "" for key in ("dataset_name", "builder_name", "config_name")]
        return survey_named(*names)

    def _needs(self, schema: pa.Schema) -> list[str]:
        """The columns of the answer."""
        if self.row.name or is_nested(schema):
            return self._reading.needs(schema)
        return plain_columns(schema, self.columns, self._name)

    def _observation(self, table: pa.Table) -> Observation:
        if self.row.name or is_nested(table.schema):
            return self._reading.observation(table)
        return from_table(from_arrow_table(table, self._name), self._name)

    @cached_property
    def _reading(self) -> Reading:
        return Reading(survey=self.row, where=self._name, parts=self.parts, columns=self.columns)

    @property
    def _name(self) -> str:
        return getattr(getattr(self.dataset, "info", None), "dataset_name", None) or "the data set"


@dataclass(frozen=True, eq=False)
class HfRows(_Opened):
    """A `datasets.Dataset` as a Source: `len` and `take`; only the columns that are needed are read."""

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, index: Any) -> Observation:
        """The chosen objects (a slice, integers or booleans), in the order asked for."""
        rows = np.arange(len(self))[index]
        return self._observation(self._narrow[rows.tolist()])

    def scan(self) -> Rows:
        """The same objects, to be chosen from; see `observe.scan`."""
        return Rows(lambda parts, columns: replace(self, parts=parts, columns=columns), self.parts, self.columns)

    @cached_property
    def _narrow(self) -> Any:
        needed = self._needs(self.dataset.features.arrow_schema)
        return self.dataset.select_columns(needed).with_format("arrow")


@dataclass(frozen=True, eq=False)
class HfStream(_Opened, Choosing):
    """A `datasets.IterableDataset` (or a Dataset) as a Scan, from its beginning each time it is iterated.

    Only the columns that are needed are asked for; which rows are in the selection is decided as they come in.
    """

    def batches(self, size: int = 64) -> Iterator[Observation]:
        """The objects of the selection in the order of the data set, at most `size` at a time."""
        if size < 1:
            raise BadValue("size", saw=size, want="1 or more")
        return self._batches(size)

    def _batches(self, size: int) -> Iterator[Observation]:
        given, deciding = self.dataset, [one.column for one in self._ranges]
        if given.features is not None:
            _demand(deciding, list(given.features), self._name)
            given = given.select_columns(sorted({*self._needs(given.features.arrow_schema), *deciding}))
        for table in given.with_format("arrow").iter(batch_size=size):
            _demand(deciding, table.column_names, self._name)
            kept = np.ones(table.num_rows, dtype=bool)
            for one in self._ranges:
                kept &= in_range(one, table.column(one.column).to_numpy())
            if not kept.any():
                continue
            seen = self._observation(table.filter(pa.array(kept)).select(self._needs(table.schema)))
            seen = seen.take(within(self._regions, seen.ra, seen.dec)) if self._regions else seen
            if len(seen):
                yield seen

    def read(self) -> Observation:
        """All objects of the selection at once."""
        found = list(self.batches(512))
        return concatenate(found) if found else Observation.of([])

    def __iter__(self) -> Iterator[Observation]:
        return self.batches()


def _demand(names: list[str], there: list[str], where: str) -> None:
    missing = [name for name in names if name not in there]
    if missing:
        raise MissingModality(f"{where}: no column", saw=there[:40], want=missing)
