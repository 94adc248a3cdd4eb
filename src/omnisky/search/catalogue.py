"""The objects of an index: who they are, where, what is known of them, and which of them may answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from omnisky.embed import Embedding
from omnisky.errors import BadValue, MissingModality
from omnisky.observe.place import Cone
from omnisky.observe.types import Observation, Scalars


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which objects may answer."""

    cone: Cone | None = None
    between: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """column → its least and largest value, both of them included; NaN lies nowhere"""

    def keeps(self, objects: Observation) -> Bool[np.ndarray, " object"]:
        """True for those. Raises MissingModality for a column that is not in the catalogue."""
        kept = np.ones(len(objects), dtype=bool)
        if self.cone is not None:
            kept &= self.cone.holds(objects.ra, objects.dec, np.zeros(len(objects), dtype=np.int64))
        for column, (low, high) in self.between.items():
            value = objects["scalars"][column]
            kept &= (value >= low) & (value <= high)
        return kept


def union(named: Mapping[str, Embedding]) -> tuple[Observation, dict[str, np.ndarray]]:
    """All objects of all sides, in the order in which they come, and each side's rows among them."""
    ids = np.concatenate([one.object_id for one in named.values()])
    ra, dec = (np.concatenate([getattr(one, what) for one in named.values()]) for what in ("ra", "dec"))
    if len(named) == 1:
        return Observation(ids, ra, dec), {name: np.arange(len(ids)) for name in named}
    for name, one in named.items():
        if len(np.unique(one.object_id)) != len(one):
            raise BadValue(f"ids of {name!r}", saw="some twice", want="each object once, or nobody knows who is who")
    _, first, back = np.unique(ids, return_index=True, return_inverse=True)
    order = np.sort(first)
    back = np.argsort(np.argsort(first))[back]
    ends = np.cumsum([len(one) for one in named.values()])[:-1]
    return Observation(ids[order], ra[order], dec[order]), dict(zip(named, np.split(back, ends), strict=True))


def columns(catalogue: Observation, object_id: np.ndarray) -> Scalars:
    """All numbers of the catalogue, for these objects."""
    scalars = {name: part for name, part in catalogue.parts.items() if isinstance(part, Scalars)}
    if not scalars:
        raise MissingModality("nothing to filter by", saw=tuple(catalogue.parts), want="a part of Scalars")
    row = {name: i for i, name in enumerate(catalogue.object_id.tolist())}
    take = np.asarray([row.get(name, -1) for name in object_id.tolist()])
    names = [name for part in scalars.values() for name in part.names]
    units = [unit for part in scalars.values() for unit in part.units or ("",) * len(part.names)]
    if len(set(names)) != len(names):
        raise BadValue("columns", saw=tuple(names), want="each name once")
    values = np.concatenate([part.values for part in scalars.values()], axis=1).astype(np.float64)
    values = np.where(take[:, None] >= 0, values[take], np.nan)
    return Scalars(values=values, names=tuple(names), units=tuple(units))


def objects_of(table: pa.Table, units: Mapping[str, str]) -> Observation:
    ids = np.asarray(table["object_id"].to_pylist(), dtype=np.str_)
    objects = Observation(ids, table["ra"].to_numpy(), table["dec"].to_numpy())
    if not units:
        return objects
    values = np.stack([table[f"scalars:{name}"].to_numpy() for name in units], axis=1)
    return objects | {"scalars": Scalars(values=values, names=tuple(units), units=tuple(units.values()))}
