"""Arrow tables that others wrote (the Multimodal Universe's HATS catalogues, Hugging Face datasets) → Observations.

MMU v1.5 keeps a spectrum as one column, a struct of lists of equal length, and an image as a struct of lists of lists
of lists. They are flattened, level by level and without a loop over objects, into the flat columns of MMU's HDF5 files
(`spectrum` with `flux` becomes `spectrum_flux`), and then read as these are: by the survey's row, see `observe.survey`.
Where MMU's loaders scale what the files hold, these tables are scaled already: the row says so under `loaded`.

Warning flags that are booleans (ZWARN, ZWARNING) stay as they are under their own name: some of MMU's converters invert
them and some do not, and the file does not say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Integer

from omnisky.errors import CorruptFile, MissingModality, ObservationError, ShapeMismatch
from omnisky.observe.columns import claimed
from omnisky.observe.mmu_files import CellFile, Described, Held, id_column
from omnisky.observe.mmu_table import Schema, objects, parts_of
from omnisky.observe.survey import SURVEYS, Layout, MmuRow, PartRow, Survey
from omnisky.observe.types import LightCurve, Observation

_CURVE = "lightcurve"
_EXACT = 2**53
"""whole numbers up to here are exact in a float64"""
# How tables are cut into files, not what was seen.
_BOOKKEEPING = ("_healpix_29", "Norder", "Dir", "Npix", "margin_Norder", "margin_Dir", "margin_Npix")
# The same column under the name that MMU's HDF5 files have for it.
_ALSO = {"image_flux": "image_array", "image_triplet": "image_array"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What to take from tables of one schema, and how."""

    survey: Survey
    where: str
    """what to call the table in errors"""
    parts: tuple[str, ...] | None = None
    """None means all there are"""
    columns: tuple[str, ...] | None = None
    """of scalars and labels; None means all"""

    def needs(self, schema: pa.Schema) -> list[str]:
        """The top-level columns that must be read. Raises MissingModality, ObservationError (which survey?)."""
        self._refuse_guessing(schema)
        assert self.survey.mmu is not None
        row = self.survey.mmu.as_loaded()
        flat = {name: top for top in schema.names for name in _flat(schema.field(top), row)}
        claims = {part.name: claimed(part, tuple(flat)) for part in row.parts}
        taken = {flat[name] for names in claims.values() for name in names}
        core = {*row.object_id, *row.ra, *row.dec}
        other = {*taken, *core, *_BOOKKEEPING}
        plain = [field.name for field in schema if field.name not in other and not pa.types.is_nested(field.type)]
        known = (*(name for name, names in claims.items() if names), "scalars", "labels")
        unknown = [name for name in self.parts or () if name not in known]
        if unknown:
            raise MissingModality(f"{self.where}: no such part", saw=unknown, want=known)
        wanted = set(known if self.parts is None else self.parts)
        chosen = {flat[name] for part in wanted - {"scalars", "labels"} for name in claims[part]}
        if self.columns is not None:
            chosen |= set(self.columns) & set(schema.names)
        elif wanted & {"scalars", "labels"}:
            chosen |= set(plain)
        return [name for name in schema.names if name in chosen | core]

    def observation(self, table: pa.Table | pa.RecordBatch) -> Observation:
        """The objects of the table. Raises CorruptFile, ObservationError (which survey?), or as `assemble` does."""
        table = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
        if self.survey.mmu is None:
            raise ObservationError(f"{self.where}: which survey?", want=_described(), hint='survey="…"')
        self._refuse_guessing(table.schema)
        row = self.survey.mmu.as_loaded()
        held = Flat(table.combine_chunks(), row, self.where)
        booleans = {name for name in held.names if held.described(name).kind == "b"}
        row = replace(row, fine_when_zero={old: new for old, new in row.fine_when_zero.items() if old not in booleans})
        name = next((one for one in row.object_id if one in held.names), None)
        schema = Schema.of_row(row, held, name or id_column(held.names, row, held.file.path))
        rows = np.arange(table.num_rows)
        seen = objects(held, schema)
        made = parts_of(held, schema, rows, schema.wanted(self.parts, self.columns, [schema]), self.survey.name)
        for key, part in made.items():
            there = held.there(next((one for one in schema.parts if one.name == key), None))
            made[key] = part if there is None else replace(part, present=there)
        return seen | made

    def _refuse_guessing(self, schema: pa.Schema) -> None:
        """A measurement that no row describes could be of either polarity and any unit."""
        nested = [field.name for field in schema if _is_measurement(field.type)]
        if nested and not self.survey.name and self.parts is None:
            raise ObservationError(f"{self.where}: which survey?", saw=nested, want=_described(), hint='survey="…"')


def survey_named(*names: str) -> Survey:
    """The survey whose name one of these begins with, after "mmu_"; one without a name if none does."""
    for name in names:
        stem = name.lower().removeprefix("mmu_")
        known = [one for one in SURVEYS if stem.startswith(one) and SURVEYS[one].mmu]
        if known:
            return SURVEYS[max(known, key=len)]
    return Survey(name="", mmu=MmuRow(layout=Layout.TABLE, configs=()))


def _described() -> tuple[str, ...]:
    return tuple(name for name, row in SURVEYS.items() if row.mmu)


# --- a table as if it were one of MMU's files ---------------------------------------------------------------------


def _flat(field: pa.Field, row: MmuRow | None) -> dict[str, str]:
    """The flat columns that a column of a table stands for → the field of its struct, empty where it is none."""
    if field.name in _BOOKKEEPING:
        return {}
    kind = _inner(field.type)
    if not pa.types.is_struct(kind):
        return {_as_in_hdf5(field.name, row): ""}
    inner = [kind.field(i).name for i in range(kind.num_fields)]
    if field.name == _CURVE:
        return {"bands" if name == "band" else name: name for name in inner} | dict.fromkeys(_stack_name(row), "time")
    return {_as_in_hdf5(f"{field.name}_{name}", row): name for name in inner}


def _as_in_hdf5(name: str, row: MmuRow | None) -> str:
    """The name that the survey's row knows."""
    known = {one for part in (row.parts if row else ()) for names in part.columns.values() for one in names}
    other = _ALSO.get(name, name)
    return other if other in known and name not in known else name


def _stack_name(row: MmuRow | None) -> list[str]:
    """The column in which a set has times, fluxes and errors in one array, if it has."""
    parts = row.parts if row else ()
    return [part.columns["stack"][0] for part in parts if part.kind is LightCurve and "stack" in part.columns]


class Flat(Held):
    """A table with the names, types and arrays of one of MMU's HDF5 files, as `mmu_table` asks for them."""

    def __init__(self, table: pa.Table, row: MmuRow, where: str) -> None:
        self.file = CellFile(Path(where), cell=-1, split="")
        self._table, self._row = table, row
        every = {name: (field.name, key) for field in table.schema for name, key in _flat(field, row).items()}
        wanted = {name for part in row.parts for name in claimed(part, tuple(every))}
        # What stands with a measurement, and is not asked for, is no number of its own.
        self._place = {name: place for name, place in every.items() if name in wanted or not place[1]}
        self.names = tuple(self._place)
        self._read: dict[str, np.ndarray] = {}

    def described(self, name: str) -> Described:
        values = self.read(name, None)
        kind = "O" if values.dtype.kind == "O" else values.dtype.kind
        return Described(kind, values.shape[1:], values.dtype.kind == "O", values.dtype.itemsize)

    def read(self, name: str, rows: Integer[np.ndarray, " row"] | None) -> np.ndarray:
        if name not in self._read:
            try:
                self._read |= self._find(name)
            except (pa.ArrowException, ValueError, TypeError, KeyError) as error:
                raise CorruptFile(f"{self.file.path}, column {name}", saw=error, want="what MMU has there") from error
        return self._read[name] if rows is None else self._read[name][rows]

    def there(self, part: PartRow | None) -> Bool[np.ndarray, " object"] | None:
        """Who has the part: the others are null in all columns of it. None if all have."""
        tops = {self._place[name][0] for name in claimed(part, self.names)} if part else set()
        columns = [self._table.column(top) for top in tops]
        if not columns or any(not column.null_count for column in columns):
            return None
        return np.logical_or.reduce([column.is_valid().to_numpy() for column in columns])

    def _find(self, name: str) -> dict[str, np.ndarray]:
        top, key = self._place[name]
        column = _whole(self._table.column(top))
        if top == _CURVE and key:
            return self._curve(column)
        return {name: regular(_child(column, key) if key else column)}

    def _curve(self, column: pa.StructArray) -> dict[str, np.ndarray]:
        """Epochs with a band each → (object, band, epoch), NaN where an epoch is of another band."""
        inner = {field.name: _child(column, field.name) for field in column.type}
        plain = {key: regular(one) for key, one in inner.items() if key != "band"}
        if "band" not in inner:
            return plain
        words = pc.list_flatten(inner["band"])
        found = sorted(set(words.to_pylist()))
        known = next((part.bands for part in self._row.parts if part.kind is LightCurve and part.bands), ())
        bands = [*known, *(band for band in found if band not in known)]
        index = np.array([bands.index(word) for word in words.to_pylist()], dtype=np.int64)
        lengths = np.asarray(pc.fill_null(pc.list_value_length(inner["band"]), 0))
        here = np.arange(lengths.max(initial=0)) < lengths[:, None]
        of = np.full(here.shape, -1)
        of[here] = index
        made = {}
        for key, values in plain.items():
            if values.shape != here.shape:
                raise ShapeMismatch(f"{self.file.path}: {_CURVE}.{key}", saw=values.shape, want=here.shape)
            blank = np.nan if values.dtype.kind == "f" else 0
            made[key] = np.stack([np.where(of == k, values, blank) for k in range(len(bands))], axis=1)
        made["bands"] = np.tile(np.array(bands, dtype=np.str_), (len(lengths), 1))
        for stack in _stack_name(self._row):
            made[stack] = np.stack([made["time"], made["flux"], made["flux_err"]], axis=2)
        return made


def _whole(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _inner(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind


def _child(column: pa.Array, name: str) -> pa.Array:
    """A field of a struct of lists, or of a list of structs, as a list; null where the struct is."""
    if pa.types.is_struct(column.type):
        return pc.struct_field(column, name)
    if column.null_count:  # a slice cannot be given nulls: make it whole first
        column = column.take(pa.array(np.arange(len(column))))
        return pa.ListArray.from_arrays(column.offsets, column.values.field(name), mask=column.is_null())
    return pa.ListArray.from_arrays(column.offsets, column.values.field(name))


# --- lists → arrays -----------------------------------------------------------------------------------------------


def regular(column: pa.Array) -> np.ndarray:
    """(object, …): nested lists of equal lengths, level by level. Rows of other lengths are padded, the outermost only.

    What is null becomes NaN, empty text, or 0 within lists; whole numbers among which are nulls become floats, or text
    where a float would round them. Raises ShapeMismatch.
    """
    if isinstance(column, pa.ExtensionArray):
        rows = regular(column.storage)
        return rows.reshape(len(column), *getattr(column.type, "shape", rows.shape[1:]))
    if pa.types.is_fixed_size_list(column.type) and not column.null_count:
        return _shaped(regular(column.flatten()), len(column), column.type.list_size)
    if _is_list(column.type):
        return _lists(column)
    return _plain(column)


def _is_list(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _shaped(inner: np.ndarray, n: int, length: int) -> np.ndarray:
    return inner.reshape(n, length, *inner.shape[1:])


def _lists(column: pa.Array) -> np.ndarray:
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0))
    inner, longest = regular(pc.list_flatten(column)), int(lengths.max(initial=0))
    if (lengths == longest).all():
        return _shaped(inner, len(lengths), longest)
    blank: Any = np.nan if inner.dtype.kind == "f" else inner.dtype.type()
    out = np.full((len(lengths), longest, *inner.shape[1:]), blank, inner.dtype)
    out[np.arange(longest) < lengths[:, None]] = inner
    return out


def _plain(column: pa.Array) -> np.ndarray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary_decode())
    if pa.types.is_decimal(kind):
        return _plain(column.cast(pa.float64()))
    if pa.types.is_temporal(kind):
        return _plain(column.cast(pa.string()))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return np.asarray(pc.fill_null(column, "").to_pylist(), dtype=np.str_)
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return np.asarray([*column.to_pylist(), None], dtype=object)[:-1]
    if column.null_count and pa.types.is_integer(kind):
        known = column.drop_null().to_numpy(zero_copy_only=False)
        if len(known) and (known.max() > _EXACT or known.min() < -_EXACT):
            return _plain(column.cast(pa.string()))
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if column.null_count and pa.types.is_boolean(kind):
        return column.cast(pa.uint8()).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return column.to_numpy(zero_copy_only=False)


def is_nested(schema: pa.Schema) -> bool:
    """True for tables in which columns belong together as structs, or hold arrays of a fixed shape."""
    return any(_is_measurement(field.type) for field in schema)


def _is_measurement(kind: pa.DataType) -> bool:
    return pa.types.is_struct(_inner(kind)) or isinstance(kind, pa.BaseExtensionType)
