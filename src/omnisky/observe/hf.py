"""Hugging Face `datasets` as Observations: row by row when asked (a Source), or as a stream.

    rows = HfRows(load("UniverseTBD/mmu_gz10", split="train"))            # for a Loader; needs the data on this disk
    for batch in HfStream(load("UniverseTBD/mmu_gz10", split="train", streaming=True)): …

What the columns mean is said by the survey's row (`observe.survey`), which is known by the name of the data set or is
given; tables of plain columns need none. The package `datasets` comes with the extra [hf].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from omnisky.errors import BadValue, MissingExtra
from omnisky.observe.arrow import from_arrow
from omnisky.observe.nested import Reading, is_nested, survey_named
from omnisky.observe.schema import layout_in
from omnisky.observe.survey import SURVEYS, Survey
from omnisky.observe.tables import from_arrow_table, from_table
from omnisky.observe.types import Observation


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
class _Rows:
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
        if self.survey:
            if self.survey not in SURVEYS or SURVEYS[self.survey].mmu is None:
                raise BadValue("survey", saw=self.survey, want=tuple(name for name, row in SURVEYS.items() if row.mmu))
            return SURVEYS[self.survey]
        info = getattr(self.dataset, "info", None)
        names = [getattr(info, key, None) or "" for key in ("dataset_name", "builder_name", "config_name")]
        return survey_named(*names)

    def _observation(self, table: pa.Table) -> Observation:
        if layout_in(table.schema) is not None:
            return from_arrow(table)
        if self.row.name or is_nested(table.schema):
            reading = Reading(survey=self.row, where=self._name, parts=self.parts, columns=self.columns)
            return reading.observation(table.select(reading.needs(table.schema)))
        return from_table(from_arrow_table(table, self._name), self._name, columns=self.columns)

    @property
    def _name(self) -> str:
        return getattr(getattr(self.dataset, "info", None), "dataset_name", None) or "the data set"


class HfRows(_Rows):
    """A `datasets.Dataset` as a Source: `len` and `take`."""

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, index: Any) -> Observation:
        """The chosen objects (a slice, integers or booleans), in the order asked for."""
        rows = np.arange(len(self))[index]
        return self._observation(self.dataset.with_format("arrow")[rows.tolist()])


class HfStream(_Rows):
    """A `datasets.IterableDataset` (or a Dataset), from its beginning each time it is iterated."""

    def batches(self, size: int = 64) -> Iterator[Observation]:
        """All objects in the order of the data set, `size` at a time; the last batch may be shorter."""
        if size < 1:
            raise BadValue("size", saw=size, want="1 or more")
        for table in self.dataset.with_format("arrow").iter(batch_size=size):
            yield self._observation(table)

    def __iter__(self) -> Iterator[Observation]:
        return self.batches()
