"""How an Observation lies in Arrow columns: which column holds which field of which part, and all that is not a column.

Driven by the dataclass fields of the parts, so a new kind of part needs nothing here:

    one number a row                 a plain column, `part_field`
    an array a row                   `arrow.fixed_shape_tensor`, row-major, without permutation; booleans as uint8
    Scalars, Labels                  one plain column a name (the name itself, if it is free)
    rows padded at the end           one column `part`, a struct of lists of equal length (LSDB calls this nested)
    the same wavelengths everywhere  once, in the metadata
    text, numbers, tuples            in the metadata: bands, unit, survey, pixel scale …

A part is ragged if all its fields count along one axis, it has `good`, and a tenth of its entries or more are padding:
entries at the end of a row that repeat, bit for bit, one filler, which is kept in the metadata. So padding comes back
exactly, whatever a reader padded with. The layout travels in the schema's metadata (`observe.schema`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from omnisky.errors import BadValue, ShapeMismatch
from omnisky.observe.types import Observation, Part, Scalars

CORE = ("object_id", "ra", "dec", "_healpix_29")
PADDED = 0.1
"""share of padding from which on a part is stored ragged"""
_GRID = "wavelength_aa"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One field that has a row per object."""

    dtype: str
    """as numpy spells it, this machine's byte order"""
    shape: tuple[int, ...]
    """of one row, padding included"""
    columns: tuple[str, ...] = ()
    """Arrow columns that hold it; none if `shared`"""
    shared: bytes | None = None
    """the one row that all objects have"""
    nothing: float = float("nan")
    """what stands in a column of floats where nothing was measured"""
    filler: bytes | None = None
    """the entry that ragged rows are padded with"""

    @property
    def empty(self) -> bool:
        """Rows of no entries: a column of booleans stands for them, and says who is present."""
        return prod(self.shape) == 0

    def blank(self) -> np.ndarray:
        """One entry of what stands where nothing was measured: NaN, 0, False or empty text."""
        dtype = np.dtype(self.dtype)
        return np.full((), self.nothing, dtype) if dtype.kind == "f" else np.zeros((), dtype)

    def one(self) -> np.ndarray:
        """The shared row."""
        assert self.shared is not None
        return np.frombuffer(self.shared, self.dtype).reshape(self.shape)


@dataclass(frozen=True, kw_only=True)
class PartLayout:
    """One part: its class, the fields with rows, and the rest."""

    kind: type[Part]
    rows: Mapping[str, Rows]
    """by field; a field that is a mapping of arrays has one for each, as field:name"""
    constants: Mapping[str, Any]
    ragged: bool
    measured: bool = True
    """False where all objects lack it: then its shared row may be that of another piece"""

    @property
    def columns(self) -> tuple[str, ...]:
        """The Arrow columns of the part, each once."""
        return tuple(dict.fromkeys(name for one in self.rows.values() for name in one.columns))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All parts of an Observation, by name."""

    parts: Mapping[str, PartLayout]


# --- making one ---------------------------------------------------------------------------------------------------


def layout_of(seen: Observation) -> Layout:
    """The layout that holds `seen` without loss. Raises BadValue for dtypes or constants that Arrow cannot hold."""
    taken = set(CORE)
    return Layout(parts={name: _part_layout(name, part, taken) for name, part in seen.parts.items()})


def _part_layout(name: str, part: Part, taken: set[str]) -> PartLayout:
    arrays = arrays_of(part)
    values = {f.name: getattr(part, f.name) for f in fields(part) if f.name != "present"}
    constants = {key: {} if isinstance(value, Mapping) else value for key, value in values.items() if key not in arrays}
    there = part.there()
    fillers = _fillers(arrays, there)
    rows = {}
    for key, value in arrays.items():
        dtype = _dtype(value, f"{name}.{key}")
        shape, shared = value.shape[1:], None
        if key == _GRID and not fillers:
            shared = _shared(value.astype(dtype, copy=False)[there])
        rows[key] = Rows(dtype=dtype.str, shape=shape, nothing=nothing(key), shared=shared, filler=fillers.get(key))
    measured = bool(there.any())
    layout = PartLayout(kind=type(part), rows=rows, constants=constants, ragged=bool(fillers), measured=measured)
    return _named(name, layout, taken)


def nothing(key: str) -> float:
    """What stands in a field of floats where nothing was measured: an inverse variance of 0 says just that."""
    return 0.0 if key == "ivar" else float("nan")


def arrays_of(part: Part) -> dict[str, np.ndarray]:
    """The fields with a row per object, but for `present`; those of a mapping as field:name."""
    arrays: dict[str, np.ndarray] = {}
    for key in (f.name for f in fields(part) if f.name != "present"):
        value = getattr(part, key)
        if isinstance(value, np.ndarray):
            arrays[key] = value
        elif isinstance(value, Mapping):
            arrays |= {f"{key}:{name}": one for name, one in value.items()}
    return arrays


def _named(name: str, part: PartLayout, taken: set[str]) -> PartLayout:
    """With a free column name for all that needs one."""
    if part.ragged:
        column = _free(name, name, taken)
        return replace(part, rows={key: replace(rows, columns=(column,)) for key, rows in part.rows.items()})
    columns: dict[str, tuple[str, ...]] = {}
    for key, rows in part.rows.items():
        if rows.shared is not None:
            columns[key] = ()
        elif issubclass(part.kind, Scalars) and not rows.empty:
            columns[key] = tuple(_free(native, f"{name}_{native}", taken) for native in part.constants["names"])
        else:
            field, _, native = key.partition(":")
            columns[key] = (_free(native or f"{name}_{field}", f"{name}_{native or field}", taken),)
    return replace(part, rows={key: replace(rows, columns=columns[key]) for key, rows in part.rows.items()})


def _free(first: str, second: str, taken: set[str]) -> str:
    name, n = first, 1
    while name in taken:
        name = second if n == 1 else f"{second}_{n}"
        n += 1
    taken.add(name)
    return name


def _dtype(values: np.ndarray, label: str) -> np.dtype[Any]:
    """Of this machine's byte order."""
    dtype = values.dtype.newbyteorder("=")
    if dtype.kind not in "fiubU" or (dtype.itemsize > 8 and dtype.kind == "f"):
        raise BadValue(label, saw=values.dtype, want="floats up to 64 bits, integers, booleans or text")
    if dtype.kind == "U" and values.ndim > 1:
        raise BadValue(label, saw=f"text of shape {values.shape}", want="one text per object")
    return dtype


def _shared(values: np.ndarray) -> bytes | None:
    """The one row that all rows equal, bit for bit."""
    if not len(values) or not values[0].size or values.dtype.kind == "U":
        return None
    rows = bits(values).reshape(len(values), -1)
    return values[0].tobytes() if (rows == rows[0]).all() else None


def bits(values: np.ndarray) -> np.ndarray:
    """The same memory as unsigned integers: NaN equals itself, −0 is not 0."""
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def _fillers(arrays: Mapping[str, np.ndarray], there: Bool[np.ndarray, " object"]) -> dict[str, bytes]:
    """What the rows of a ragged part are padded with, by field; empty if the part is not ragged."""
    shapes = {value.shape[1:] for value in arrays.values()}
    good = arrays.get("good")
    if (
        good is None
        or len(shapes) > 1
        or good.ndim != 2
        or 0 in good.shape
        or "U" in {a.dtype.kind for a in arrays.values()}
    ):
        return {}
    ends_bad = there & ~good[:, -1]
    if not ends_bad.any():
        return {}
    first = int(np.argmax(ends_bad))
    native = {key: value.astype(value.dtype.newbyteorder("="), copy=False) for key, value in arrays.items()}
    fillers = {key: value[first, -1].tobytes() for key, value in native.items()}
    used = lengths(native, fillers)[there].sum()
    return fillers if used <= (1 - PADDED) * there.sum() * good.shape[1] else {}


def lengths(arrays: Mapping[str, np.ndarray], fillers: Mapping[str, bytes]) -> Integer[np.ndarray, " object"]:
    """Entries of each row before the padding: up to the last one that differs from the filler in any field."""
    n, width = next(iter(arrays.values())).shape
    if not width:
        return np.zeros(n, dtype=np.int64)
    differs = np.zeros((n, width), dtype=bool)
    for key, value in arrays.items():
        differs |= bits(value) != bits(np.frombuffer(fillers[key], value.dtype))[0]
    last = width - np.argmax(differs[:, ::-1], axis=1)
    return np.where(differs.any(axis=1), last, 0)


# --- one for many -------------------------------------------------------------------------------------------------


def common(layouts: Iterable[Layout]) -> Layout:
    """One layout for pieces of a set. A part that a piece lacks is absent there; ragged rows are padded to the longest.

    Raises ShapeMismatch where pieces measure alike-named parts differently (other bands, shapes, dtypes).
    """
    parts: dict[str, PartLayout] = {}
    for layout in layouts:
        for name, part in layout.parts.items():
            parts[name] = _both(name, parts[name], part) if name in parts else part
    taken = set(CORE)
    return Layout(parts={name: _named(name, part, taken) for name, part in parts.items()})


def _both(name: str, a: PartLayout, b: PartLayout) -> PartLayout:
    if a.kind is not b.kind or set(a.rows) != set(b.rows):
        saw = [f"{part.kind.__name__}({', '.join(part.rows)})" for part in (a, b)]
        raise ShapeMismatch(f"{name} differs between pieces", saw=saw, want="the same fields in each")
    ragged = a.ragged or b.ragged
    # Padding shows by `good`: without it, rows of different lengths could not be told from longer ones.
    stretch = ragged or (a.kind.ragged == 1 and "good" in a.rows)
    rows = {key: _both_rows(f"{name}.{key}", rows, b.rows[key], stretch) for key, rows in a.rows.items()}
    if a.measured != b.measured and not ragged:  # who has nothing agrees with the other's grid
        known = (a if a.measured else b).rows
        rows = {
            key: replace(one, shared=known[key].shared) if one.shape == known[key].shape else one
            for key, one in rows.items()
        }
    constants = {key: agreed(f"{name}.{key}", value, b.constants[key]) for key, value in a.constants.items()}
    measured = a.measured or b.measured
    return PartLayout(kind=a.kind, rows=rows, constants=constants, ragged=ragged, measured=measured)


def _both_rows(label: str, a: Rows, b: Rows, stretch: bool) -> Rows:
    text = a.dtype[1] == b.dtype[1] == "U"
    if a.dtype != b.dtype and not text:
        raise ShapeMismatch(f"{label} differs between pieces", saw=[a.dtype, b.dtype], want="one dtype")
    same = a.shape[1:] == b.shape[1:] and len(a.shape) == len(b.shape) if stretch else a.shape == b.shape
    if not same:
        raise ShapeMismatch(f"{label} differs between pieces", saw=[a.shape, b.shape], want="one shape per object")
    shape = tuple(max(pair) for pair in zip(a.shape, b.shape, strict=True))
    shared = a.shared if a.shared == b.shared and a.shape == b.shape else None
    dtype = max(a.dtype, b.dtype, key=lambda one: int(one[2:]))
    return replace(a, dtype=dtype, shape=shape, columns=(), shared=shared, filler=a.filler or b.filler)


def agreed(label: str, a: Any, b: Any) -> Any:
    """What two pieces say of themselves, where they say the same."""
    if a == b or repr(a) == repr(b):
        return a
    if label.endswith(".pixel_scale_arcsec"):
        # WCS of neighbouring cut-outs differ by rounding; more than that is "differs from object to object".
        return a if abs(a - b) <= 1e-3 * abs(a) else float("nan")
    raise ShapeMismatch(
        f"{label} differs between pieces", saw=[a, b], want="the same in each", hint="give the parts different names"
    )
