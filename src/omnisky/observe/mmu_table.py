"""What one file of the Multimodal Universe holds, by its survey's row, and its rows as ids, positions and parts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from omnisky.errors import CorruptFile, MissingModality, ShapeMismatch
from omnisky.observe.assemble import part_of
from omnisky.observe.columns import band_words, claimed, column, native, word, words
from omnisky.observe.mmu_files import Held
from omnisky.observe.mmu_header import Header
from omnisky.observe.survey import Layout, MmuRow, PartRow
from omnisky.observe.types import Labels, LightCurve, Neighbours, Observation, Part, Scalars

_THROUGH_FLOAT = re.compile(r"^(\d{1,15})\.0$")
_WIDE = 64  # numbers per object: what is longer is no set of scalars


@dataclass(frozen=True)
class Entry:
    """Where one scalar or label comes from."""

    column: str
    at: int | None = None
    """which of the column's entries, where it has several"""
    short: bool = False
    """True for whole numbers that float64 holds exactly"""


@dataclass(frozen=True)
class Wanted:
    """What is to be read, the same from every file."""

    parts: tuple[str, ...]
    scalars: tuple[str, ...]
    labels: tuple[str, ...]
    bands: Mapping[str, tuple[str, ...]]
    """of light curves whose files name their bands: all names in the set"""
    fields: Mapping[str, tuple[str, ...]]
    """of each part: what the first file that has it has columns for, and every other must"""


@dataclass(frozen=True, eq=False)
class Schema:
    """Which columns of a file are what."""

    row: MmuRow
    id_column: str = "object_id"
    ra: str | None = "ra"
    dec: str | None = "dec"
    header: Header | None = None
    """of a file of ours, which describes itself; then nothing is mended"""
    parts: tuple[PartRow, ...] = ()
    """those that the file has"""
    scalars: Mapping[str, Entry] = field(default_factory=dict)
    labels: Mapping[str, Entry] = field(default_factory=dict)
    bands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """of all columns"""

    @classmethod
    def of_header(cls, header: Header, held: Held) -> Schema:
        missing = header.columns() - set(held.names)
        if missing:
            raise CorruptFile(f"{held.file.path}: columns are missing", saw=held.names, want=tuple(sorted(missing)))
        scalars = {name: Entry(name) for part in header.parts if part.name == "scalars" for name in part.names}
        labels = {name: Entry(name) for part in header.parts if part.name == "labels" for name in part.names}
        return cls(row=MmuRow(layout=header.layout, configs=()), header=header, scalars=scalars, labels=labels)

    @classmethod
    def of_row(cls, row: MmuRow, held: Held, id_column: str) -> Schema:
        parts = tuple(part for part in row.parts if claimed(part, held.names))
        ra, dec = (_finest(held, names) for names in (row.ra, row.dec))
        taken = {
            id_column,
            *row.ra,
            *row.dec,
            "healpix",
            *(name for part in parts for name in claimed(part, held.names)),
        }
        # What belongs to a part is no scalar, also where the file lacks what makes the part.
        others = {name for part in row.parts for names in part.columns.values() for name in names} - taken
        found = _Sorted({}, {}, [name for name in held.names if name in others])
        for name in held.names:
            if name not in taken and name not in others:
                _sort(name, row, held, found)
        if held.file.split and "split" not in found.labels:
            found.labels["split"] = Entry("")
        named = [part for part in parts if part.kind is LightCurve and column(part, "band", held.names)]
        return cls(
            row=row,
            id_column=id_column,
            ra=ra,
            dec=dec,
            parts=parts,
            scalars=found.scalars,
            labels=found.labels,
            bands={part.name: _named_bands(part, held) for part in named},
            left_out=tuple(found.left_out),
            names=held.names,
        )

    def fields(self) -> dict[str, tuple[str, ...]]:
        """What each part has columns for."""
        return {part.name: self._fields_of(part) for part in self.parts}

    def _fields_of(self, part: PartRow) -> tuple[str, ...]:
        if part.kind is Neighbours:
            return tuple(name for name in part.names if f"{part.prefix}{name}" in self.names)
        return tuple(sorted(key for key in part.columns if column(part, key, self.names)))

    @property
    def available(self) -> tuple[str, ...]:
        """Names of the parts that can be read."""
        if self.header is not None:
            return tuple(part.name for part in self.header.parts)
        more = (("scalars", self.scalars), ("labels", self.labels))
        return (*(part.name for part in self.parts), *(name for name, held in more if held))

    def mended(self, name: str, values: np.ndarray) -> np.ndarray:
        """A column of numbers, NaN where the row says that a number stands for "not measured"."""
        values = native(values)
        if name not in self.row.missing:
            return values
        floats = values if values.dtype.kind == "f" else values.astype(np.float64)
        return np.where(np.isin(floats, self.row.missing[name]), np.nan, floats).astype(floats.dtype)

    def wanted(
        self, parts: tuple[str, ...] | None, columns: tuple[str, ...] | None, schemas: Sequence[Schema]
    ) -> Wanted:
        """What was asked for, checked against what there is in the files. Raises MissingModality."""
        scalars = tuple(dict.fromkeys(name for schema in schemas for name in schema.scalars))
        labels = tuple(dict.fromkeys(name for schema in schemas for name in schema.labels))
        # Catalogues differ from field to field. A flag that some lack can be NaN there, which whole numbers cannot.
        flags = tuple(name for name in labels if _is_flag_of_some(name, schemas))
        labels, scalars = tuple(name for name in labels if name not in flags), scalars + flags
        if columns is not None:
            unknown = tuple(name for name in columns if name not in (*scalars, *labels))
            if unknown:
                raise MissingModality("no such column", saw=unknown, want=(*scalars, *labels)[:60])
            scalars = tuple(name for name in scalars if name in columns)
            labels = tuple(name for name in labels if name in columns)
        there = dict.fromkeys(name for schema in schemas for name in schema.available)
        available = tuple(there | ({"scalars": None} if scalars else {}))
        unknown = tuple(name for name in parts or () if name not in available)
        if unknown:
            raise MissingModality("no such part", saw=unknown, want=available)
        chosen = available if parts is None else parts
        asked = columns or ()
        bands: dict[str, tuple[str, ...]] = {}
        for schema in schemas:
            for name, more in schema.bands.items():
                bands[name] = tuple(sorted({*bands.get(name, ()), *more}))
        return Wanted(
            parts=tuple(name for name in chosen if name not in ("scalars", "labels")),
            scalars=scalars if "scalars" in chosen or set(scalars) & set(asked) else (),
            labels=labels if "labels" in chosen or set(labels) & set(asked) else (),
            bands=bands,
            fields={name: fields for schema in reversed(schemas) for name, fields in schema.fields().items()},
        )


def _is_flag_of_some(name: str, schemas: Sequence[Schema]) -> bool:
    here = [schema.labels[name] for schema in schemas if name in schema.labels]
    return len(here) < len(schemas) and all(entry.short for entry in here)


@dataclass(frozen=True)
class _Sorted:
    scalars: dict[str, Entry]
    labels: dict[str, Entry]
    left_out: list[str]


def _sort(name: str, row: MmuRow, held: Held, found: _Sorted) -> None:
    """A column that no part claims: numbers measured are scalars, whole numbers and words labels, the long neither."""
    what = held.described(name)
    size = int(np.prod(what.shape))
    of_table = row.layout is Layout.GROUP and "." in name
    # Beside each light curve lie others of its shape (MAG, SNR, Zpt), which differs from object to object.
    of_curve = row.layout is Layout.PER_OBJECT and what.shape != ()
    if of_table or of_curve or what.ragged or size > _WIDE or what.kind not in "fiubU" or size == 0:
        found.left_out.append(name)
        return
    into = found.scalars if what.kind == "f" or name in row.missing else found.labels
    short = what.kind in "iub" and what.itemsize <= 4
    if size == 1:
        into[name] = Entry(name, 0 if what.shape else None, short)
    else:
        ends = row.suffixes.get(name, tuple(str(i) for i in range(size)))
        if len(ends) != size:
            raise ShapeMismatch(f"column {name}", saw=f"{size} entries", want=ends)
        into.update({f"{name}_{end}": Entry(name, i, short) for i, end in enumerate(ends)})
    if name in row.fine_when_zero:
        found.labels[row.fine_when_zero[name]] = Entry(name, 0 if what.shape else None)


def _finest(held: Held, names: Sequence[str]) -> str | None:
    """Of the columns of one coordinate that a file has, the one of most precision: TESS has RA beside a float32 ra."""
    there = [name for name in names if name in held.names]
    return max(there, key=lambda name: held.described(name).itemsize) if there else None


def _named_bands(part: PartRow, held: Held) -> tuple[str, ...]:
    name = column(part, "band", held.names)
    assert name is not None
    return tuple(sorted({band for one in held.read(name, None) for band in band_words(one)}))


# --- objects ------------------------------------------------------------------------------------------------------


def objects(held: Held, schema: Schema, rows: Integer[np.ndarray, " row"] | None = None) -> Observation:
    """Ids and positions of these rows (None: all), checked. Raises CorruptFile."""
    raw = held.read(schema.id_column, rows)
    ids = _ids(raw, schema, str(held.file.path))
    ra, dec = (_degrees(held, name, rows, len(ids)) for name in (schema.ra, schema.dec))
    if schema.row.unknown_position:
        unknown = (ra == schema.row.unknown_position[0]) & (dec == schema.row.unknown_position[1])
        ra, dec = np.where(unknown, np.nan, ra), np.where(unknown, np.nan, dec)
    for name, values, low, high in (("ra", ra, 0, 360), ("dec", dec, -90, 90)):
        wrong = np.flatnonzero((values < low) | (values > high) | np.isinf(values))
        if len(wrong):
            saw = f"{name} = {values[wrong[0]]} of {ids[wrong[0]]}, and {len(wrong) - 1} more"
            raise CorruptFile(f"{held.file.path}: positions", saw=saw, want=f"degrees, {low} … {high}")
    return Observation(ids, ra, dec)


def _ids(raw: np.ndarray, schema: Schema, where: str) -> np.ndarray:
    if schema.header is not None:
        return np.array([_text(one) for one in raw.tolist()], dtype=np.str_)
    if raw.dtype.kind == "f":
        if not (np.isfinite(raw).all() and (raw == np.trunc(raw)).all() and (abs(raw) < 2**53).all()):
            raise CorruptFile(f"{where}: object ids", saw=f"{raw.dtype} {raw[:3]}", want="ids that were not rounded")
        raw = raw.astype(np.int64)
    named = words(raw) if len(raw) else []
    if schema.row.float_ids:  # as text already, of up to 15 digits, which a float holds
        named = [_THROUGH_FLOAT.sub(r"\1", name) for name in named]
    return np.array(named, dtype=np.str_)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _degrees(held: Held, name: str | None, rows: Any, n: int) -> Float[np.ndarray, " object"]:
    if name is None:
        return np.full(n, np.nan)
    values = native(held.read(name, rows)).astype(np.float64).reshape(-1)
    if len(values) != n:
        raise CorruptFile(f"{held.file.path}, column {name}", saw=f"{len(values)} rows", want=f"{n}, as of ids")
    return values


# --- parts --------------------------------------------------------------------------------------------------------


def parts_of(
    held: Held, schema: Schema, rows: Integer[np.ndarray, " row"], wanted: Wanted, survey: str
) -> dict[str, Part]:
    """The parts asked for, of these rows. Raises CorruptFile where the file lacks one that others have."""
    made: dict[str, Part] = {}
    if schema.header is not None:
        keep = {"scalars": wanted.scalars, "labels": wanted.labels}
        for head in schema.header.parts:
            names = keep.get(head.name, head.names)
            if head.name in wanted.parts or (head.name in keep and names):
                made[head.name] = head.part({n: _rows_of(held, n, rows) for n in head.needs(names)}, names)
        return made
    by_name = {part.name: part for part in schema.parts}
    for name in wanted.parts:
        if name not in by_name:
            raise CorruptFile(f"{held.file.path}: another schema", saw=schema.available, want=wanted.parts)
        part, fields = by_name[name], schema.fields().get(name, ())
        if fields != wanted.fields[name]:
            raise CorruptFile(f"{held.file.path}: another schema: {name}", saw=fields, want=wanted.fields[name])
        columns = {one: _rows_of(held, one, rows) for one in claimed(part, schema.names)}
        made[name] = part_of(part, columns, survey, wanted.bands.get(name, ()))
    if wanted.scalars:
        made["scalars"] = _scalars(held, schema, rows, wanted.scalars)
    if wanted.labels:
        made["labels"] = Labels(columns={name: _label(held, schema, rows, name) for name in wanted.labels})
    return made


def _rows_of(held: Held, name: str, rows: Integer[np.ndarray, " row"]) -> np.ndarray:
    values = held.read(name, rows)
    if len(values) != len(rows):
        raise CorruptFile(f"{held.file.path}, column {name}", saw=f"{len(values)} rows", want=f"{len(rows)}")
    return values


def _scalars(held: Held, schema: Schema, rows: Any, names: tuple[str, ...]) -> Scalars:
    """NaN where this file does not have the column: catalogues differ from field to field."""
    read: dict[str, np.ndarray] = {}
    columns = []
    for name in names:
        entry = schema.scalars.get(name) or schema.labels.get(name)
        if entry is None:
            columns.append(np.full(len(rows), np.nan, dtype=np.float32))
            continue
        if entry.column not in read:
            read[entry.column] = schema.mended(entry.column, _rows_of(held, entry.column, rows))
        values = _entry_of(read[entry.column], entry)
        columns.append(values if values.dtype.kind == "f" else values.astype(np.float64))
    units = tuple(schema.row.unit_of(_column_of(schema, name)) for name in names)
    return Scalars(values=np.stack(columns, axis=1), names=names, units=units if any(units) else ())


def _column_of(schema: Schema, name: str) -> str:
    return schema.scalars[name].column if name in schema.scalars else name


def _label(held: Held, schema: Schema, rows: Any, name: str) -> np.ndarray:
    entry = schema.labels.get(name)
    if entry is None:
        want = f"a column {name}, as other files of the set have"
        raise CorruptFile(f"{held.file.path}: another schema", saw=tuple(schema.labels), want=want, hint="columns=(…)")
    if not entry.column:
        return np.full(len(rows), held.file.split)
    values = _entry_of(_rows_of(held, entry.column, rows), entry)
    if name in schema.row.fine_when_zero.values() and name != entry.column:
        return values == 0
    if values.dtype.kind in "biu":
        return native(values)
    return np.array([word(one) for one in values.tolist()], dtype=np.str_)


def _entry_of(values: np.ndarray, entry: Entry) -> np.ndarray:
    return values if entry.at is None else values.reshape(len(values), -1)[:, entry.at]
