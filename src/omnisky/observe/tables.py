"""Plain catalogues: Parquet, CSV, VOTable and FITS tables → Observations with Scalars and Labels.

Ids stay what they are, digit by digit: never through a float. Numbers become columns of the part "scalars", words and
whole numbers of the part "labels", each under its own name; what is neither (images in a cell, say) is left out, or
refused where it is asked for by name. Right ascension and declination are found by their usual names, in degrees; in
the unit that a VOTable or FITS column says; or as text "hh mm ss", "±dd mm ss".
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from omnisky.errors import CorruptFile, MissingModality, ObservationError
from omnisky.observe.columns import native, word
from omnisky.observe.nested import regular
from omnisky.observe.types import Labels, Observation, Part, Scalars

PARQUET, CSV = (".parquet", ".parq", ".pq"), (".csv", ".csv.gz", ".tsv")
VOTABLE, FITS = (".vot", ".votable", ".xml", ".vot.gz"), (".fits", ".fit", ".fits.gz", ".fit.gz")
SUFFIXES = (*PARQUET, *CSV, *VOTABLE)
"""those that are always tables; FITS files may be"""

# Without case, blanks, underscores and units in brackets; the first that a table has is taken, ICRS before J2000, which
# is less than 0.1 arcsec away.
_RA = ("ra", "radeg", "raicrs", "rightascension", "targetra", "ramean", "raj2000", "alphaj2000", "alpha", "raepoch2000")
_DEC = (
    *("dec", "dedeg", "decdeg", "deicrs", "decicrs", "declination", "targetdec", "decmean", "dej2000", "decj2000"),
    *("deltaj2000", "delta", "decepoch2000", "de", "decl"),
)
_ID = (
    *("objectid", "sourceid", "targetid", "objid", "specobjid", "dr7objid", "dr8objid", "iauname", "plateifu", "id"),
    *("name", "designation", "galaxyid", "source", "target"),
)
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_SEXAGESIMAL = re.compile(r"\s*[+-]?\d+[\s:hd°]+\d+[\s:m'′]+\d+(\.\d*)?[s\"″]?\s*")


@dataclass(frozen=True)
class Table:
    """Columns of equal length, one row an object."""

    columns: dict[str, np.ndarray]
    units: dict[str, str] = field(default_factory=dict)
    """astropy's spelling; those of columns that say it"""
    left_out: tuple[str, ...] = ()
    """columns that are no numbers and no words"""


def read_table(
    path: str | Path,
    *,
    object_id: str | None = "",
    ra: str | None = "",
    dec: str | None = "",
    columns: Sequence[str] | None = None,
) -> Observation:
    """The objects of a catalogue. Name the columns that are not found by themselves; `columns` chooses among the rest.

    Without a column of ids, or with object_id=None, objects are called by the file and the row. With ra=None they have
    no position. Raises ObservationError (no position found: it says which columns there are), CorruptFile,
    MissingModality (no such column).
    """
    path = Path(path).expanduser()
    return from_table(load_table(path), str(path), object_id=object_id, ra=ra, dec=dec, columns=columns)


def from_table(
    table: Table,
    where: str,
    *,
    object_id: str | None = "",
    ra: str | None = "",
    dec: str | None = "",
    columns: Sequence[str] | None = None,
) -> Observation:
    """The objects of a table that is in memory. `where` names it in errors. Arguments and errors are `read_table`'s."""
    names = tuple(table.columns)
    missing = [name for name in (object_id, ra, dec, *(columns or ())) if name and name not in names]
    if missing:
        note = " (of a kind that is no number and no word)" if set(missing) & set(table.left_out) else ""
        raise MissingModality(f"{where}: no such column{note}", saw=names[:60], want=missing)
    named = _known(names, _ID) if object_id == "" else object_id
    ids = _ids(table.columns[named], where) if named else _numbered(where, len(next(iter(table.columns.values()), ())))
    place: tuple[str, ...] = ()
    east = north = None
    if ra is not None and dec is not None:
        place = _place(names, ra, dec, where)
        east, north = _degrees(table, place[0], where, hours=True), _degrees(table, place[1], where, hours=False)
        _refuse_off_sky(east, north, ids, where)
    chosen = [name for name in (names if columns is None else columns) if name not in (named, *place)]
    return Observation.of(ids, east, north) | _parts(table, chosen)


def _place(names: tuple[str, ...], ra: str, dec: str, where: str) -> tuple[str, ...]:
    """The columns of right ascension and declination."""
    found = ra or _known(names, _RA), dec or _known(names, _DEC)
    if not all(found):
        raise ObservationError(
            f"{where}: which columns are the position?",
            saw=names[:60],
            want="right ascension and declination, e.g. ra and dec, RAJ2000 and DEJ2000",
            hint=f'omnisky.observe.tables.read_table({where!r}, ra="…", dec="…"), or ra=None if there are none',
        )
    return found


def _numbered(where: str, n: int) -> list[str]:
    stem = Path(where).name.split(".")[0]
    return [f"{stem}-{i:05d}" for i in range(n)]


# --- files → columns ----------------------------------------------------------------------------------------------


def load_table(path: Path) -> Table:
    """All columns of a file. Raises CorruptFile, ObservationError."""
    name = path.name.lower()
    if not path.is_file():
        raise ObservationError("no such file", saw=path, want="a table")
    if name.endswith(PARQUET):
        return from_arrow_table(_load_parquet(path), str(path))
    if name.endswith(CSV):
        return from_arrow_table(_load_csv(path), str(path))
    if name.endswith((*VOTABLE, *FITS)):
        return _load_astropy(path, "votable" if name.endswith(VOTABLE) else "fits")
    raise ObservationError(f"no table in {path}", saw=path.suffix, want=(*SUFFIXES, *FITS))


def from_arrow_table(table: pa.Table, where: str) -> Table:
    """The columns of an Arrow table that are numbers or words."""
    columns: dict[str, np.ndarray] = {}
    left_out: list[str] = []
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            left_out.append(name)
            continue
        try:
            values = regular(column.combine_chunks())
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise CorruptFile(f"{where}, column {name}", saw=error, want="numbers or words") from error
        if values.dtype.kind == "O":
            left_out.append(name)
        else:
            columns[name] = values
    units = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in table.schema}
    return Table(columns, {name: unit for name, unit in units.items() if unit}, tuple(left_out))


def _load_parquet(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise CorruptFile(str(path), saw=error, want="a complete Parquet file", hint="fetch it again") from error


def _load_csv(path: Path) -> pa.Table:
    """Types are those that all cells of a column have; whole numbers too long for 64 bits stay text."""
    from pyarrow import csv

    delimiter = "\t" if path.name.lower().endswith(".tsv") else ","
    try:
        compression = "gzip" if path.name.lower().endswith(".gz") else None
        with pa.input_stream(str(path), compression=compression) as stream:
            table = csv.read_csv(stream, parse_options=csv.ParseOptions(delimiter=delimiter))
        wide = [name for name in table.column_names if _was_rounded(table.column(name))]
        if not wide:
            return table
        options = csv.ConvertOptions(column_types={name: pa.string() for name in wide})
        with pa.input_stream(str(path), compression=compression) as stream:
            return csv.read_csv(stream, parse_options=csv.ParseOptions(delimiter=delimiter), convert_options=options)
    except (OSError, pa.ArrowException) as error:
        raise CorruptFile(str(path), saw=error, want="a table in UTF-8 with a header", hint="fetch it again") from error


def _was_rounded(column: pa.ChunkedArray) -> bool:
    """Whole numbers that only fit a float, with digits lost: ids of more than 19 digits."""
    if not pa.types.is_floating(column.type):
        return False
    values = column.drop_null().to_numpy()
    values = values[np.isfinite(values)]
    return len(values) > 0 and bool((values == np.trunc(values)).all() and abs(values).max() > 2**63)


def _load_astropy(path: Path, kind: str) -> Table:
    import warnings

    from astropy.io import fits, votable

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", votable.exceptions.VOWarning)  # most files bend the standard a little
            warnings.filterwarnings("error", message="File may have been truncated|Error validating header")
            if kind == "votable":
                held = votable.parse_single_table(str(path)).to_table()
            else:
                with _opened(path) as file, fits.open(file, memmap=False) as hdus:
                    held = _first_table(hdus, path)
    except ObservationError:
        raise
    # What astropy raises on bytes that are not what they should be depends on where they break off.
    except Exception as error:
        want = f"a complete {'VOTable' if kind == 'votable' else 'FITS table'}"
        raise CorruptFile(str(path), saw=error, want=want, hint="fetch it again") from error
    columns: dict[str, np.ndarray] = {}
    units: dict[str, str] = {}
    left_out: list[str] = []
    for name in held.colnames:
        values = _unmasked(held[name])
        if values.ndim != 1 or values.dtype.kind not in "fiubUS":
            left_out.append(name)
            continue
        columns[name] = values
        if held[name].unit is not None:
            units[name] = str(held[name].unit)
    return Table(columns, units, tuple(left_out))


def _opened(path: Path) -> Any:
    """Opened here, so that it is closed also when astropy gives up half-way."""
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


def _first_table(hdus: Any, path: Path) -> Any:
    from astropy.table import Table as AstropyTable

    found = next((hdu for hdu in hdus if getattr(hdu, "columns", None) is not None), None)
    if found is None:
        raise ObservationError(f"{path} holds no table", saw=tuple(hdu.name for hdu in hdus), want="a BINTABLE")
    return AstropyTable.read(found)


def _unmasked(column: Any) -> np.ndarray:
    """NaN where a number is missing, empty where a word is; whole numbers with gaps become floats if that is exact."""
    values = native(np.asarray(column.filled() if hasattr(column, "filled") else column))
    if values.dtype.kind in "SO":
        values = np.asarray([word(one) for one in values.tolist()], dtype=np.str_) if values.ndim == 1 else values
    gone = np.asarray(getattr(column, "mask", False))
    if not gone.any():
        return values
    if values.dtype.kind == "U":
        return np.where(gone, "", values)
    if values.dtype.kind == "i" and abs(values[~gone]).max(initial=0) > 2**53:
        return np.where(gone, "", values.astype(np.str_))
    return np.where(gone, np.nan, values.astype(np.float64 if values.dtype.kind != "f" else values.dtype))


# --- columns → objects --------------------------------------------------------------------------------------------


def _known(names: Sequence[str], spellings: Sequence[str]) -> str:
    """The column that is called by the first of the usual spellings that there is."""
    plain = {re.sub(r"\[.*?\]|\(.*?\)|[\s_.-]", "", name).lower(): name for name in reversed(names)}
    return next((plain[one] for one in spellings if one in plain), "")


def find_position(names: Sequence[str]) -> bool:
    """True where columns of right ascension and declination would be found by their names."""
    return len(find_columns(names)) == 2


def find_columns(names: Sequence[str], *, ids: bool = False) -> tuple[str, ...]:
    """The columns of right ascension and declination, and with `ids` that of ids, as they are called; if there are."""
    found = (_known(names, _RA), _known(names, _DEC), _known(names, _ID) if ids else "")
    return tuple(name for name in found if name)


def _ids(values: np.ndarray, where: str) -> list[str]:
    if values.dtype.kind == "f":
        known = np.isfinite(values)
        if not known.all() or (values != np.trunc(values)).any() or abs(values).max(initial=0) >= 2**53:
            raise CorruptFile(
                f"{where}: ids",
                saw=f"{values.dtype} {values[:3]}",
                want="ids that were not rounded",
                hint="read_table(path, object_id=…), another column, or None to number the rows",
            )
        values = values.astype(np.int64)
    return [word(one) for one in values.tolist()]


def _degrees(table: Table, name: str, where: str, *, hours: bool) -> Float[np.ndarray, " object"]:
    from astropy import units as u
    from astropy.coordinates import Angle

    values, unit = table.columns[name], table.units.get(name, "")
    if values.dtype.kind == "U" and all(_NUMBER.fullmatch(one) for one in values.tolist()):
        values = values.astype(np.float64)
    if values.dtype.kind == "U":
        wrong = [one for one in values.tolist() if not _SEXAGESIMAL.fullmatch(one)]
        if wrong:
            want = "degrees, or hh mm ss and ±dd mm ss"
            raise ObservationError(f"{where}: column {name} is text", saw=wrong[:3], want=want)
        return Angle(values.tolist(), unit=u.hourangle if hours else u.deg).deg
    if values.dtype.kind not in "fiu":
        raise ObservationError(f"{where}: column {name}", saw=values.dtype, want="degrees")
    degrees = values.astype(np.float64)
    if unit and u.Unit(unit, parse_strict="silent") not in (u.deg, u.dimensionless_unscaled):
        try:
            return u.Quantity(degrees, unit).to_value(u.deg)
        except (u.UnitConversionError, ValueError, TypeError) as error:
            raise ObservationError(f"{where}: column {name}", saw=f"unit {unit}", want="an angle") from error
    return degrees


def _refuse_off_sky(ra: np.ndarray, dec: np.ndarray, ids: Sequence[str], where: str) -> None:
    off = (abs(dec) > 90) | (ra < -180) | (ra > 360)
    if off.any():
        i = int(np.argmax(off))
        raise ObservationError(
            f"{where}: {int(off.sum())} positions off the sky",
            saw=f"ra {ra[i]}, dec {dec[i]} of {ids[i]}",
            want="degrees, ra −180 … 360, dec −90 … 90",
            hint="are these hours or radians?",
        )


def _parts(table: Table, names: Sequence[str]) -> dict[str, Part]:
    numbers = [name for name in names if table.columns[name].dtype.kind == "f"]
    words = {name: table.columns[name] for name in names if name not in numbers}
    parts: dict[str, Part] = {}
    if numbers:
        units = tuple(table.units.get(name, "") for name in numbers)
        values = np.stack([table.columns[name] for name in numbers], axis=1)
        parts["scalars"] = Scalars(values=values, names=tuple(numbers), units=units if any(units) else ())
    if words:
        parts["labels"] = Labels(columns=words)
    return parts
