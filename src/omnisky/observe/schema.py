"""A layout as an Arrow schema, and as the JSON that travels in its metadata under the key `omnisky`."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import MISSING, fields, replace
from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa

from omnisky.errors import BadValue, CorruptFile, MissingModality, ObservationError
from omnisky.observe.layout import Layout, PartLayout, Rows, nothing
from omnisky.observe.types import Part, Scalars

KEY = b"omnisky"
_UNITS = {"wavelength_aa": "Angstrom", "time_mjd": "d"}


def schema_of(layout: Layout) -> pa.Schema:
    """The core columns and those of the parts; units and bands also beside each column, for people."""
    core = [pa.field("object_id", pa.string(), nullable=False)]
    core += [pa.field(name, pa.float64(), False, {"unit": "deg", "frame": "ICRS"}) for name in ("ra", "dec")]
    core += [pa.field("_healpix_29", pa.int64())]
    more = [column for name, part in layout.parts.items() for column in _columns(name, part)]
    return pa.schema([*core, *more], metadata={KEY: layout_json(layout).encode()})


def layout_json(layout: Layout) -> str:
    parts = {
        name: {
            "kind": part.kind.__name__,
            "ragged": part.ragged,
            "measured": part.measured,
            "constants": {key: _to_json(value, f"{name}.{key}") for key, value in part.constants.items()},
            "rows": {key: _rows_to_json(rows) for key, rows in part.rows.items()},
        }
        for name, part in layout.parts.items()
    }
    return json.dumps({"version": 1, "parts": parts}, allow_nan=False)


def only(layout: Layout, columns: Iterable[str]) -> Layout:
    """What is left where only some columns are there. Raises MissingModality for a part that is half there."""
    there = set(columns)
    left = {name: _left(name, part, there) for name, part in layout.parts.items()}
    return Layout(parts={name: part for name, part in left.items() if part is not None})


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
            nothing=nothing(key),
            **{what: b64decode(rows[what]) for what in ("shared", "filler") if what in rows},
        )
        for key, rows in told["rows"].items()
    }
    constants = {key: _from_json(value) for key, value in told["constants"].items()}
    flags = {key: told[key] for key in ("ragged", "measured")}
    return PartLayout(kind=known[told["kind"]], rows=rows, constants=constants, **flags)


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
    if isinstance(value, dict) and not value:
        return value
    if isinstance(value, tuple | list):
        return [_to_json(one, label) for one in value]
    raise BadValue(label, saw=type(value).__name__, want="text, numbers, None, or tuples of these")


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(one) for one in value)
    return float(value["float"]) if isinstance(value, dict) and value else value


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
    flux = str(part.constants.get("unit", ""))
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
    constants |= {key: None for key in gone if ":" not in key}
    if issubclass(part.kind, Scalars) and not rows["values"].empty:
        kept = [i for i, column in enumerate(rows["values"].columns) if column in there]
        columns = tuple(rows["values"].columns[i] for i in kept)
        rows["values"] = replace(rows["values"], columns=columns, shape=(len(kept),))
        constants |= {key: tuple(constants[key][i] for i in kept) for key in ("names", "units") if constants[key]}
    return replace(part, rows=rows, constants=constants)
