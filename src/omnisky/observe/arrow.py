"""Observation ↔ Arrow, without loss. What lies in which column is told by `observe.layout`.

Every array comes back bit for bit (NaN payloads, dtype, padding), and so do bands, units, survey and pixel scale. Where
`present` is False the columns are null: what stood there meant nothing and comes back as NaN, 0, False or empty text.
`present` that is True everywhere comes back as None, which says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Integer

from omnisky.errors import CorruptFile, ObservationError, ShapeMismatch
from omnisky.observe.layout import CORE, Layout, PartLayout, Rows, arrays_of, bits, layout_of, lengths
from omnisky.observe.schema import arrow_type, column_type, layout_in, only, schema_of
from omnisky.observe.sky import cells
from omnisky.observe.types import Observation, Part, Scalars

_BY_ROW = 2048
"""bytes of a row from which on copying row by row beats numpy's fancy indexing, which copies twice"""


def to_arrow(seen: Observation, layout: Layout | None = None) -> pa.RecordBatch:
    """One record batch; arrays are not copied where they can be borrowed. With `layout`, laid out as told.

    Raises ObservationError (a position off the sky), ShapeMismatch (`seen` does not fit `layout`), BadValue.
    """
    layout = layout_of(seen) if layout is None else layout
    strange = set(seen.parts) - set(layout.parts)
    if strange:
        raise ShapeMismatch("parts that the layout does not have", saw=sorted(strange), want=sorted(layout.parts))
    columns: dict[str, pa.Array] = dict(zip(CORE, _core(seen), strict=True))
    for name, part in layout.parts.items():
        columns |= _encode(name, part, seen.parts.get(name), len(seen))
    schema = schema_of(layout)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def from_arrow(table: pa.RecordBatch | pa.Table) -> Observation:
    """The objects of a table that `to_arrow` made, or of some of its columns.

    Raises ObservationError where the schema carries no layout, CorruptFile where columns are not what it says.
    """
    layout = layout_in(table.schema)
    if layout is None:
        raise ObservationError(
            "this table was not made by Omnisky",
            saw=tuple(table.schema.names),
            want="a schema with our layout",
            hint="omnisky.observe.nested.from_foreign",
        )
    batches = [table] if isinstance(table, pa.RecordBatch) else table.to_batches()
    layout = only(layout, table.schema.names)
    frame, start = Frame(layout, table.num_rows), 0
    for batch in batches:
        rows = np.arange(batch.num_rows)
        Views(batch, layout).copy(rows, frame, start + rows)
        start += batch.num_rows
    return frame.observation()


# --- Observation → columns ----------------------------------------------------------------------------------------


def _core(seen: Observation) -> list[pa.Array]:
    ra, dec = (np.ascontiguousarray(values, dtype=np.float64) for values in (seen.ra, seen.dec))
    off = np.isfinite(ra) & np.isfinite(dec) & ((abs(dec) > 90) | (ra < -180) | (ra > 360))
    if off.any():
        i = int(np.argmax(off))
        raise ObservationError(
            f"object {seen.object_id[i]} is off the sky",
            saw=f"ra {ra[i]}, dec {dec[i]}",
            want="ra −180 … 360, dec −90 … 90, degrees",
            hint="are these hours, radians, or the other way round?",
        )
    cell = cells(seen, 29)
    ids = pa.array([str(name) for name in seen.object_id.tolist()], pa.string())
    return [ids, _borrow(ra), _borrow(dec), _borrow(cell, None if (cell >= 0).all() else cell >= 0)]


def _encode(name: str, layout: PartLayout, part: Part | None, n: int) -> dict[str, pa.Array]:
    there = np.zeros(n, dtype=bool) if part is None else np.asarray(part.there())
    valid = None if there.all() else there
    values, given = {}, {} if part is None else arrays_of(part)
    for key, rows in layout.rows.items():
        value = given.get(key)
        if part is None:
            shape = tuple(0 for _ in rows.shape) if layout.ragged else rows.shape
            value = np.broadcast_to(rows.blank(), (n, *shape))
        values[key] = _fitting(f"{name}.{key}", value, rows, layout)
    if layout.ragged:
        return {layout.columns[0]: _struct(values, layout, there)}
    made: dict[str, pa.Array] = {}
    for key, rows in layout.rows.items():
        value = values[key]
        if rows.shared is not None:
            if not (bits(value[there]) == bits(rows.one())).all():
                raise ShapeMismatch(f"{name}.{key}", saw="other rows", want="the one row of the layout in each")
        elif rows.empty:
            made[rows.columns[0]] = pa.array(np.ones(n, dtype=bool), mask=None if valid is None else ~valid)
        elif issubclass(layout.kind, Scalars):
            blanked = _blanked(value, rows, valid)
            columns = (np.ascontiguousarray(blanked[:, i]) for i in range(value.shape[1]))
            made |= dict(zip(rows.columns, (_borrow(column, valid) for column in columns), strict=True))
        else:
            made[rows.columns[0]] = _tensor(_blanked(value, rows, valid), column_type(layout, rows), valid)
    return made


def _fitting(label: str, value: Any, rows: Rows, layout: PartLayout) -> np.ndarray:
    """The array as the layout wants it, or ShapeMismatch."""
    dtype = np.dtype(rows.dtype)
    fits = isinstance(value, np.ndarray) and _stretches(value.shape[1:], rows.shape, layout)
    if not fits or (value.dtype.newbyteorder("=") != dtype and not value.dtype.kind == dtype.kind == "U"):
        saw = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else value
        raise ShapeMismatch(label, saw=saw, want=f"{dtype} (object, {', '.join(map(str, rows.shape))})")
    value = np.ascontiguousarray(value, dtype=dtype if dtype.kind != "U" else None)
    if layout.ragged or value.shape[1:] == rows.shape:
        return value
    longer = np.full((len(value), *rows.shape), rows.blank(), dtype)
    longer[:, : value.shape[1]] = value
    return longer


def _stretches(shape: tuple[int, ...], want: tuple[int, ...], layout: PartLayout) -> bool:
    """True where rows of this shape fit, if need be with padding."""
    if shape == want:
        return True
    longer = layout.ragged or (layout.kind.ragged == 1 and "good" in layout.rows)
    return longer and len(shape) == len(want) and shape[1:] == want[1:] and shape[0] <= want[0]


def _blanked(value: np.ndarray, rows: Rows, valid: Bool[np.ndarray, " object"] | None) -> np.ndarray:
    if valid is None:
        return value
    value = value.copy()
    value[~valid] = rows.blank()
    return value


def _borrow(values: np.ndarray, valid: np.ndarray | None = None) -> pa.Array:
    """An array of the same memory; numpy's booleans are bytes."""
    if values.dtype.kind == "U":
        return pa.array(values.tolist(), pa.string(), mask=None if valid is None else ~valid)
    flat = values.reshape(-1)
    nulls = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(arrow_type(values.dtype.str), len(flat), [nulls, pa.py_buffer(flat)])


def _tensor(values: np.ndarray, kind: pa.DataType, valid: np.ndarray | None) -> pa.Array:
    if values.ndim == 1:
        return _borrow(values, valid)
    nulls = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    rows = pa.Array.from_buffers(kind.storage_type, len(values), [nulls], children=[_borrow(values)])
    return pa.ExtensionArray.from_storage(kind, rows)


def _struct(values: dict[str, np.ndarray], layout: PartLayout, there: np.ndarray) -> pa.Array:
    """A struct of lists: the rows without their padding."""
    fillers = {key: rows.filler or rows.blank().tobytes() for key, rows in layout.rows.items()}
    used = np.where(there, lengths(values, fillers), 0)
    total = int(used.sum())
    if total >= 2**31:
        raise ShapeMismatch("too much for one batch", saw=f"{total} entries", want="< 2³¹", hint="write in pieces")
    kept = np.arange(next(iter(values.values())).shape[1]) < used[:, None]
    offsets = _borrow(np.concatenate([[0], np.cumsum(used)]).astype(np.int32))
    lists = [pa.ListArray.from_arrays(offsets, _borrow(np.ascontiguousarray(one[kept]))) for one in values.values()]
    fields = [pa.field(key, one.type) for key, one in zip(values, lists, strict=True)]
    return pa.StructArray.from_arrays(lists, fields=fields, mask=None if there.all() else pa.array(~there))


# --- columns → Observation ----------------------------------------------------------------------------------------


class Frame:
    """Empty arrays for `n` objects, to be filled row by row; then an Observation, without another copy."""

    def __init__(self, layout: Layout, n: int) -> None:
        self.layout = layout
        self.object_id: list[str] = [""] * n
        self.ra, self.dec = np.full(n, np.nan), np.full(n, np.nan)
        self.present = {name: np.ones(n, dtype=bool) for name in layout.parts}
        self.arrays = {name: _empty(part, n) for name, part in layout.parts.items()}

    def observation(self) -> Observation:
        parts = {}
        for name, part in self.layout.parts.items():
            there = self.present[name]
            arrays = self.arrays[name]
            if not there.all():
                for key, rows in part.rows.items():
                    arrays[key][~there] = rows.blank()
            parts[name] = _part(part, arrays, None if there.all() else there)
        return Observation(np.asarray(self.object_id, dtype=np.str_), self.ra, self.dec, parts)


def _part(layout: PartLayout, arrays: dict[str, np.ndarray], present: np.ndarray | None) -> Part:
    values: dict[str, Any] = {key: {} if value == {} else value for key, value in layout.constants.items()}
    for key, array in arrays.items():
        field, colon, name = key.partition(":")
        if colon:
            values[field][name] = array
        else:
            values[field] = array
    return layout.kind(**values, present=present)


def _empty(part: PartLayout, n: int) -> dict[str, np.ndarray]:
    arrays = {key: np.empty((n, *rows.shape), rows.dtype) for key, rows in part.rows.items()}
    for key, rows in part.rows.items():
        if rows.shared is not None:
            arrays[key][:] = rows.one()
    return arrays


class Views:
    """A record batch as numpy views of its memory. `layout` names the parts wanted."""

    def __init__(self, batch: pa.RecordBatch, layout: Layout) -> None:
        self.batch, self.layout = batch, layout
        self.ids = batch.column("object_id")
        self.ra, self.dec = (batch.column(name).to_numpy(zero_copy_only=False) for name in ("ra", "dec"))
        self.there: dict[str, np.ndarray | None] = {}
        self.views: dict[str, dict[str, Any]] = {}
        for name, part in layout.parts.items():
            columns = {column: batch.column(column) for column in part.columns}
            self.there[name] = _there(list(columns.values()))
            self.views[name] = {key: _view(name, key, part, columns) for key in part.rows}

    def copy(self, rows: Integer[np.ndarray, " row"], frame: Frame, at: Integer[np.ndarray, " row"]) -> None:
        """Row rows[i] of this batch becomes row at[i] of the frame."""
        for place, name in zip(at.tolist(), self.ids.take(pa.array(rows)).to_pylist(), strict=True):
            frame.object_id[place] = name
        frame.ra[at], frame.dec[at] = self.ra[rows], self.dec[rows]
        for name, part in frame.layout.parts.items():
            if name not in self.views:  # this piece of the set has not measured it
                frame.present[name][at] = False
                continue
            there = self.there[name]
            if there is not None:
                frame.present[name][at] = there[rows]
            own = self.layout.parts[name]
            for key, target in frame.arrays[name].items():
                _copy(self.views[name][key], target, part.rows[key], rows, at)
                if own.ragged and own.rows[key].filler not in (None, part.rows[key].filler):
                    self._pad(self.views[name][key], target, own.rows[key], rows, at)

    def _pad(self, view: Any, target: np.ndarray, own: Rows, rows: np.ndarray, at: np.ndarray) -> None:
        """Padding as this piece had it: others of the set may be padded with something else."""
        if isinstance(view, _Ragged):
            filler = np.frombuffer(own.filler or b"", own.dtype)[0]
            used = (view.offsets[rows + 1] - view.offsets[rows]).tolist()
            for place, start in zip(at.tolist(), used, strict=True):
                target[place, start : own.shape[0]] = filler


def _there(columns: Sequence[pa.Array]) -> Bool[np.ndarray, " object"] | None:
    """Who has the part: all columns of the others are null. None if all have."""
    if any(not column.null_count for column in columns):
        return None
    return np.logical_or.reduce([_valid(column) for column in columns])


def _valid(column: pa.Array) -> Bool[np.ndarray, " object"]:
    return column.is_valid().to_numpy(zero_copy_only=False)


def _view(name: str, key: str, part: PartLayout, columns: dict[str, pa.Array]) -> Any:
    """One array (a row each), a list of arrays (Scalars), or (offsets, entries); None where nothing is stored."""
    rows = part.rows[key]
    if rows.shared is not None or rows.empty:
        return np.broadcast_to(rows.one() if rows.shared is not None else rows.blank(), (_size(columns), *rows.shape))
    try:
        if part.ragged:
            lists = columns[part.columns[0]].field(key)
            return _Ragged(lists.offsets.to_numpy(), _plain(lists.values, rows))
        if issubclass(part.kind, Scalars):
            return [_plain(columns[column], rows) for column in rows.columns]
        column = columns[rows.columns[0]]
        return _plain(column, rows) if not rows.shape else _dense(column, rows)
    except (KeyError, ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise CorruptFile(f"column of {name}.{key}", saw=error, want=f"{rows.dtype} {rows.shape}") from error


class _Ragged:
    """Lists end to end: row r is entries[offsets[r]:offsets[r + 1]]."""

    def __init__(self, offsets: np.ndarray, entries: np.ndarray) -> None:
        self.offsets, self.entries = offsets, entries


def _size(columns: dict[str, pa.Array]) -> int:
    return len(next(iter(columns.values())))


def _plain(column: pa.Array, rows: Rows) -> np.ndarray:
    """A column of single entries. Nulls become blanks."""
    dtype = np.dtype(rows.dtype)
    if dtype.kind == "U":
        return np.asarray([text or "" for text in column.to_pylist()], dtype=dtype)
    if column.type != arrow_type(rows.dtype):
        raise TypeError(f"{column.type}, not {arrow_type(rows.dtype)}")
    memory = column.buffers()[1]
    values = np.frombuffer(memory, dtype, len(column), column.offset * dtype.itemsize) if memory else np.empty(0, dtype)
    if column.null_count:
        return np.where(_valid(column), values, rows.blank())
    return values


def _dense(column: pa.Array, rows: Rows) -> np.ndarray:
    """A column of fixed-size rows as one array, borrowed."""
    stored = column.storage if isinstance(column, pa.ExtensionArray) else column
    size = int(np.prod(rows.shape))
    if not pa.types.is_fixed_size_list(stored.type) or stored.type.list_size != size:
        raise TypeError(f"{column.type}, not rows of {size}")
    dtype, inner = np.dtype(rows.dtype), stored.values
    if inner.type != arrow_type(rows.dtype):
        raise TypeError(f"{inner.type}, not {arrow_type(rows.dtype)}")
    start = (inner.offset + stored.offset * size) * dtype.itemsize
    if not len(stored):
        return np.empty((0, *rows.shape), dtype)
    return np.frombuffer(inner.buffers()[1], dtype, len(stored) * size, start).reshape(-1, *rows.shape)


def _copy(view: Any, target: np.ndarray, rows: Rows, source: np.ndarray, at: np.ndarray) -> None:
    if rows.shared is not None or rows.empty:
        return  # there already
    if isinstance(view, list):
        for i, column in enumerate(view):
            target[at, i] = column[source]
    elif isinstance(view, _Ragged):
        filler = np.frombuffer(rows.filler or rows.blank().tobytes(), rows.dtype)[0]
        starts, ends = view.offsets[source].tolist(), view.offsets[source + 1].tolist()
        for place, start, end in zip(at.tolist(), starts, ends, strict=True):
            target[place, : end - start] = view.entries[start:end]
            target[place, end - start :] = filler
    elif view.shape[1:] != target.shape[1:]:  # a piece whose rows are shorter than the longest of the set
        width = view.shape[1]
        target[at, :width] = view[source]
        target[at, width:] = np.frombuffer(rows.filler or rows.blank().tobytes(), rows.dtype)[0]
    elif target.nbytes >= _BY_ROW * len(target):
        for place, row in zip(at.tolist(), source.tolist(), strict=True):
            target[place] = view[row]
    else:
        target[at] = view[source]
