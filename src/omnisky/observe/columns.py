"""Columns of a file as they should have been: bytes of this machine, words without b'…', flags that are True for good.

What a column means stands in its survey's row (`observe.survey`); `observe.assemble` makes parts of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from omnisky.errors import BadPixels, MissingModality, ShapeMismatch
from omnisky.observe.survey import PartRow
from omnisky.observe.types import Cube, Image, LightCurve, Neighbours, Part, Scalars, SegmentationMap, Spectrum

Columns = Mapping[str, np.ndarray]
"""name → values with an axis of objects first"""

# The fields without which there is no such part: one of them will do.
_MAIN: Mapping[type[Part], tuple[str, ...]] = {
    Image: ("flux",),
    Spectrum: ("flux",),
    LightCurve: ("flux", "mag", "stack"),
    SegmentationMap: ("label",),
    Scalars: ("values",),
    Cube: ("flux",),
}


def column(row: PartRow, key: str, names: Any) -> str | None:
    """Which of the names for this field a file has; None if none."""
    return next((name for name in row.columns.get(key, ()) if name in names), None)


def claimed(row: PartRow, names: Sequence[str]) -> list[str]:
    """The columns that this part is made of, of those in a file; none if what makes the part is missing."""
    if row.kind is Neighbours:
        return [f"{row.prefix}{name}" for name in row.names if f"{row.prefix}{name}" in names]
    found = {key: column(row, key, names) for key in row.columns}
    if not any(found.get(key) for key in _MAIN[row.kind]):
        return []
    return [name for name in found.values() if name]


@dataclass(frozen=True)
class Given:
    """A row, and the columns of the objects at hand."""

    row: PartRow
    columns: Columns

    def get(self, key: str) -> np.ndarray | None:
        """The column of a field, in this machine's byte order."""
        name = column(self.row, key, self.columns)
        return None if name is None else native(self.columns[name])

    def need(self, key: str) -> np.ndarray:
        found = self.get(key)
        if found is None:
            want = self.row.columns.get(key, (key,))
            raise MissingModality(f"no column for {self.row.name}.{key}", saw=tuple(self.columns), want=want)
        return found

    def scaled(self, values: np.ndarray, factor: float) -> np.ndarray:
        """values × factor, reckoned in float64, in their own type; untouched where the factor is 1."""
        return values if factor == 1 else (values.astype(np.float64) * factor).astype(as_float(values).dtype)

    def good(self, shape: tuple[int, ...]) -> Bool[np.ndarray, ...] | None:
        """True where a pixel may be used, by the file's flags of either polarity; None if it has none."""
        good, bad = self.get("good"), self.get("bad")
        if bad is not None:
            good = self._not_bad(bad)
        if good is None:
            return None
        good = good.astype(bool)
        if good.ndim == len(shape) - 1:
            good = good[:, None]  # one for all planes
        if good.ndim != len(shape) or any(mine not in (1, want) for mine, want in zip(good.shape, shape, strict=True)):
            raise ShapeMismatch(f"{self.row.name}: flags", saw=good.shape, want=shape)
        return np.broadcast_to(good, shape).copy()

    def _not_bad(self, bad: np.ndarray) -> Bool[np.ndarray, ...]:
        if bad.dtype == np.bool_:
            return ~bad
        if bad.dtype.kind == "f":  # some builders write bit masks as floats
            if not (bad == np.trunc(bad)).all():
                raise BadPixels(f"column {column(self.row, 'bad', self.columns)}", saw="fractions", want="0 for good")
            bad = bad.astype(np.int64)
        return (bad.astype(np.int64) & self.row.bad_bits) == 0

    def ivar(self, dtype: Any) -> np.ndarray | None:
        """1/σ² in our unit; 0 where the file's is not a positive number."""
        ivar, err, factor = self.get("ivar"), self.get("err"), self.row.factor
        inverse = self.get("inverse_err")
        if inverse is not None:
            root = np.where(np.isfinite(inverse) & (inverse > 0), inverse, 0).astype(np.float64)
            return ((root * self.row.inverse_err_factor) ** 2).astype(dtype)
        if err is not None:
            sigma = err.astype(np.float64) * factor
            known = np.isfinite(sigma) & (sigma > 0)
            return np.divide(1.0, sigma**2, out=np.zeros(sigma.shape), where=known).astype(dtype)
        if ivar is None:
            return None
        known = np.isfinite(ivar) & (ivar > 0)
        return np.where(known, self.scaled(as_float(ivar), factor**-2), 0).astype(as_float(ivar).dtype)


def native(values: np.ndarray) -> np.ndarray:
    """In this machine's byte order."""
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def as_float(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.kind == "f" else values.astype(np.float32)


# --- words --------------------------------------------------------------------------------------------------------


def words(values: Any) -> list[str]:
    """Text out of an array of it, in whatever way the file holds it; without the b'…' that str(bytes) leaves."""
    return [word(one) for one in np.atleast_1d(values).tolist()]


def word(value: Any) -> str:
    """One text, mended: bytes are decoded, b'…' is undone, the blanks that fixed-length columns end with are off."""
    text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
    if len(text) >= 3 and text[:2] in ("b'", 'b"') and text[-1] == text[1]:
        text = text[2:-1]
    return text.strip().rstrip("\0")


def band_words(value: Any) -> list[str]:
    """Band names, held as an array of them or as one text with commas."""
    named = words(value)
    return [one.strip() for one in named[0].split(",")] if len(named) == 1 else named
