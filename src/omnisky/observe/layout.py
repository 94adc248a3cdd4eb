"""How an Observation lies in Arrow columns: which column holds which field of which part, and all that is not a column.

Driven by the dataclass fields of the parts, so a new kind of part needs nothing here:

    one number a row                 a plain column, `part_field`
    an array a row                   `arrow.fixed_shape_tensor`, row-major, without permutation; booleans as uint8
    Scalars                          one plain column a name (the name itself, if it is free)
    rows padded at the end           one column `part`, a struct of lists of equal length (LSDB calls this nested)
    the same wavelengths everywhere  once, in the metadata
    text, numbers, tuples            in the metadata: bands, unit, survey, pixel scale …

A part is ragged if all its fields count along one axis, it has `good`, and a tenth of its entries or more are padding:
entries at the end of a row that repeat, bit for bit, one filler, which is kept in the metadata. So padding comes back
exactly, whatever a reader padded with. The layout travels as JSON in the schema's metadata, key `omnisky`.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from math import isfinite, prod
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Integer

from omnisky.errors import BadValue, CorruptFile, MissingModality, ObservationError, ShapeMismatch
from omnisky.observe.types import Observation, Part, Scalars

KEY = b"omnisky"
CORE = ("object_id", "ra", "dec", "_healpix_29")
PADDED = 0.1
"""share of padding from which on a part is stored ragged"""
_GRID = "wavelength_aa"
_UNITS = {
    "wavelength_aa": "Angstrom",
    "time_mjd": "d",
    "Spectrum.flux": "1e-17 erg s-1 cm-2 Angstrom-1",
    "LightCurve.flux": "nmgy",
}


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
    filler: bytes | None = None
    """the entry that ragged rows are padded with"""

    @property
    def empty(self) -> bool:
        """Rows of no entries: a column of booleans stands for them, and says who is present."""
        return prod(self.shape) == 0

    def blank(self) -> np.ndarray:
        """One entry of what stands where nothing was measured: NaN, 0, False or empty text."""
        dtype = np.dtype(self.dtype)
        return np.full((), np.nan, dtype) if dtype.kind == "f" else np.zeros((), dtype)

    def one(self) -> np.ndarray:
        """The shared row."""
        assert self.shared is not None
        return np.frombuffer(self.shared, self.dtype).reshape(self.shape)


@dataclass(frozen=True, kw_only=True)
class PartLayout:
    """One part: its class, the fields with rows, and the rest."""

    kind: type[Part]
    rows: Mapping[str, Rows]
    constants: Mapping[str, Any]
    ragged: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """The Arrow columns of the part, each once."""
        return tuple(dict.fromkeys(name for one in self.rows.values() for name in one.columns))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All parts of an Observation, by name."""

    parts: Mapping[str, PartLayout]

    def schema(self) -> pa.Schema:
        """The core columns and those of the parts; units and bands also beside each column, for people."""
        core = [pa.field("object_id", pa.string(), nullable=False)]
        core += [pa.field(name, pa.float64(), False, {"unit": "deg", "frame": "ICRS"}) for name in ("ra", "dec")]
        core += [pa.field("_healpix_29", pa.int64())]
        more = [column for name, part in self.parts.items() for column in _columns(name, part)]
        return pa.schema([*core, *more], metadata={KEY: self.json().encode()})

    def json(self) -> str:
        parts = {
            name: {
                "kind": part.kind.__name__,
                "ragged": part.ragged,
                "constants": {key: _to_json(value, f"{name}.{key}") for key, value in part.constants.items()},
                "rows": {key: _rows_to_json(rows) for key, rows in part.rows.items()},
            }
            for name, part in self.parts.items()
        }
        return json.dumps({"version": 1, "parts": parts}, allow_nan=False)

    def only(self, columns: Iterable[str]) -> Layout:
        """What is left where only some columns are there. Raises MissingModality for a part that is half there."""
        there = set(columns)
        left = {name: _left(name, part, there) for name, part in self.parts.items()}
        return Layout(parts={name: part for name, part in left.items() if part is not None})


# --- making one ---------------------------------------------------------------------------------------------------


def layout_of(seen: Observation) -> Layout:
    """The layout that holds `seen` without loss. Raises BadValue for dtypes or constants that Arrow cannot hold."""
    taken = set(CORE)
    return Layout(parts={name: _part_layout(name, part, taken) for name, part in seen.parts.items()})


def _part_layout(name: str, part: Part, taken: set[str]) -> PartLayout:
    values = {f.name: getattr(part, f.name) for f in fields(part) if f.name != "present"}
    arrays = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
    constants = {key: value for key, value in values.items() if key not in arrays}
    there = part.there()
    fillers = _fillers(arrays, there)
    rows = {}
    for key, value in arrays.items():
        dtype = _dtype(value, f"{name}.{key}")
        shape, shared = value.shape[1:], None
        if key == _GRID and not fillers:
            shared = _shared(value.astype(dtype, copy=False)[there])
        rows[key] = Rows(dtype=dtype.str, shape=shape, shared=shared, filler=fillers.get(key))
    layout = PartLayout(kind=type(part), rows=rows, constants=constants, ragged=bool(fillers))
    return _named(name, layout, taken)


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
            columns[key] = (_free(f"{name}_{key}", f"{name}_{key}", taken),)
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
    rows = {key: _both_rows(f"{name}.{key}", rows, b.rows[key], ragged) for key, rows in a.rows.items()}
    constants = {key: agreed(f"{name}.{key}", value, b.constants[key]) for key, value in a.constants.items()}
    return PartLayout(kind=a.kind, rows=rows, constants=constants, ragged=ragged)


def _both_rows(label: str, a: Rows, b: Rows, ragged: bool) -> Rows:
    text = a.dtype[1] == b.dtype[1] == "U"
    if a.dtype != b.dtype and not text:
        raise ShapeMismatch(f"{label} differs between pieces", saw=[a.dtype, b.dtype], want="one dtype")
    if len(a.shape) != len(b.shape) or (a.shape != b.shape and not ragged):
        raise ShapeMismatch(f"{label} differs between pieces", saw=[a.shape, b.shape], want="one shape per object")
    shape = tuple(max(pair) for pair in zip(a.shape, b.shape, strict=True))
    shared = a.shared if a.shared == b.shared and not ragged else None
    return Rows(
        dtype=max(a.dtype, b.dtype, key=lambda d: int(d[2:])), shape=shape, shared=shared, filler=a.filler or b.filler
    )


def agreed(label: str, a: Any, b: Any) -> Any:
    """What two pieces say of themselves, where they say the same."""
    if a == b or _to_json(a, label) == _to_json(b, label):
        return a
    if label.endswith(".pixel_scale_arcsec"):
        # WCS of neighbouring cut-outs differ by rounding; more than that is "differs from object to object".
        return a if abs(a - b) <= 1e-3 * abs(a) else float("nan")
    raise ShapeMismatch(
        f"{label} differs between pieces", saw=[a, b], want="the same in each", hint="give the parts different names"
    )


# --- there and back as JSON ---------------------------------------------------------------------------------------


def layout_in(schema: pa.Schema) -> Layout | None:
    """The layout that travels in a schema; None in a schema of somebody else. Raises CorruptFile."""
    told = (schema.metadata or {}).get(KEY)
    try:
        if told is None:
            return None
        parts = json.loads(told)["parts"]
        return Layout(parts={name: _part_from_json(name, part) for name, part in parts.items()})
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFile("the layout in the schema", saw=repr(error), want="what Omnisky wrote") from error


def _part_from_json(name: str, told: dict[str, Any]) -> PartLayout:
    known = _kinds(Part)
    if told["kind"] not in known:
        raise ObservationError(
            f"part {name} is of a kind not known here", saw=told["kind"], want=tuple(known), hint="a newer Omnisky"
        )
    rows = {
        key: Rows(
            dtype=rows["dtype"],
            shape=tuple(rows["shape"]),
            columns=tuple(rows["columns"]),
            **{what: b64decode(rows[what]) for what in ("shared", "filler") if what in rows},
        )
        for key, rows in told["rows"].items()
    }
    constants = {key: _from_json(value) for key, value in told["constants"].items()}
    return PartLayout(kind=known[told["kind"]], rows=rows, constants=constants, ragged=told["ragged"])


def _kinds(kind: type[Part]) -> dict[str, type[Part]]:
    """All kinds of part there are, by name."""
    every = {one.__name__: one for one in kind.__subclasses__()}
    return every | {name: one for each in list(every.values()) for name, one in _kinds(each).items()}


def _rows_to_json(rows: Rows) -> dict[str, Any]:
    told: dict[str, Any] = {"dtype": rows.dtype, "shape": rows.shape, "columns": rows.columns}
    more = {"shared": rows.shared, "filler": rows.filler}
    return told | {key: b64encode(value).decode() for key, value in more.items() if value is not None}


def _to_json(value: Any, label: str) -> Any:
    """Tuples become lists; what JSON has no number for is spelled out."""
    if isinstance(value, float | np.floating) and not isinstance(value, bool):
        return float(value) if isfinite(value) else {"float": str(float(value))}
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, tuple | list):
        return [_to_json(one, label) for one in value]
    raise BadValue(label, saw=type(value).__name__, want="text, numbers, None, or tuples of these")


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(one) for one in value)
    return float(value["float"]) if isinstance(value, dict) else value


# --- columns ------------------------------------------------------------------------------------------------------


def arrow_type(dtype: str) -> pa.DataType:
    """Of one entry. Booleans are a byte, which other formats can hold too, and which need no unpacking."""
    kind = np.dtype(dtype)
    return pa.string() if kind.kind == "U" else pa.uint8() if kind.kind == "b" else pa.from_numpy_dtype(kind)


def column_type(part: PartLayout, rows: Rows) -> pa.DataType:
    one = arrow_type(rows.dtype)
    if rows.empty:
        return pa.bool_()
    plain = not rows.shape or issubclass(part.kind, Scalars)
    return one if plain else pa.fixed_shape_tensor(one, rows.shape)


def _columns(name: str, part: PartLayout) -> list[pa.Field]:
    about = {"part": name, "kind": part.kind.__name__} | {
        key: " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for key, value in part.constants.items()
        if key in ("bands", "survey", "pixel_scale_arcsec") and value
    }
    if part.ragged:
        lists = [pa.field(key, pa.list_(arrow_type(rows.dtype))) for key, rows in part.rows.items()]
        return [pa.field(part.columns[0], pa.struct(lists), metadata=about)]
    made = []
    for key, rows in part.rows.items():
        for i, column in enumerate(rows.columns):
            more = {"field": key, "unit": _unit(part, key, i)}
            metadata = about | {word: said for word, said in more.items() if said}
            made.append(pa.field(column, column_type(part, rows), metadata=metadata))
    return made


def _unit(part: PartLayout, key: str, column: int) -> str:
    if issubclass(part.kind, Scalars):
        return part.constants["units"][column] if part.constants["units"] else ""
    flux = _UNITS.get(f"{part.kind.__name__}.flux") or str(part.constants.get("unit", ""))
    said = {"flux": flux, "ivar": f"({flux})-2" if flux else ""}
    return said.get(key) or _UNITS.get(key, "")


def _left(name: str, part: PartLayout, there: set[str]) -> PartLayout | None:
    gone = [key for key, rows in part.rows.items() if rows.columns and not there & set(rows.columns)]
    if len(gone) == sum(bool(rows.columns) for rows in part.rows.values()):
        return None
    must = {f.name for f in fields(part.kind) if f.default is MISSING and f.default_factory is MISSING}
    if must & set(gone):
        raise MissingModality(f"{name} is only half there", saw=tuple(sorted(there)), want=part.columns)
    rows, constants = {key: one for key, one in part.rows.items() if key not in gone}, dict(part.constants)
    constants |= {key: None for key in gone}
    if issubclass(part.kind, Scalars) and not rows["values"].empty:
        kept = [i for i, column in enumerate(rows["values"].columns) if column in there]
        columns = tuple(rows["values"].columns[i] for i in kept)
        rows["values"] = replace(rows["values"], columns=columns, shape=(len(kept),))
        constants |= {key: tuple(constants[key][i] for i in kept) for key in ("names", "units") if constants[key]}
    return replace(part, rows=rows, constants=constants)
