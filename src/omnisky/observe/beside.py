"""Images and the tables (.csv) that lie beside them, joined by object id → Observation.

Numbers become columns of the part "scalars", positions ra and dec. A table in UTF-8 with a header; text is left alone.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omnisky.errors import CorruptFile
from omnisky.observe.types import Image, Observation, Part, Scalars

# How tables call right ascension and declination; deg, ICRS.
_POSITION = (("ra", "radeg", "ra_deg"), ("dec", "dedeg", "decdeg", "dec_deg"))

# The survey of a set that does not say it itself: by the beginning of the name of its file or folder.
_SURVEY_OF = {
    "galaxyzoo2": "galaxyzoo2",
    "gz2": "galaxyzoo2",
    "legacysurvey": "legacysurvey-colour",
    "sdss_frames": "sdss",
}


def files_in(folder: Path, suffixes: tuple[str, ...], depth: int = 0) -> list[Path]:
    """The visible files with one of the suffixes, in the folder and `depth` (0 or 1) levels below, sorted."""
    found = [*folder.glob("*"), *(folder.glob("*/*") if depth else ())]
    seen = (one for one in found if not any(part.startswith(".") for part in one.relative_to(folder).parts))
    return sorted(one for one in seen if one.name.lower().endswith(suffixes) and one.is_file())


def survey_of(path: Path) -> str:
    names = (path.stem.lower(), path.resolve().parent.name.lower())
    return next((row for start, row in _SURVEY_OF.items() if any(name.startswith(start) for name in names)), "")


def with_columns(ids: Sequence[str], parts: Mapping[str, Part], columns: dict[str, np.ndarray]) -> Observation:
    """Positions out of the columns; the rest, if any, are the scalars."""
    ra, dec = (next((name for name in columns if name.lower() in known), "") for known in _POSITION)
    rest = {name: values for name, values in columns.items() if name not in (ra, dec)}
    seen = Observation.of(ids, columns.get(ra), columns.get(dec), **parts)
    if not rest:
        return seen
    image = parts.get("image")
    calibrated = isinstance(image, Image) and image.unit == "nanomaggy"
    units = tuple(_unit(name) if calibrated else "" for name in rest)
    return seen | {"scalars": Scalars(values=np.stack(list(rest.values()), axis=1), names=tuple(rest), units=units)}


def _unit(column: str) -> str:
    """Units of the columns of calibrated stamps, by how they are called."""
    if column.startswith(("flux_", "fluxerr_", "ap3_", "rms_")):
        return "nmgy"
    return "mag" if "mag" in column.split("_") else "arcsec" if column.endswith("_arcsec") else ""


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """A .csv file, as text."""

    columns: dict[str, list[str]] = field(default_factory=dict)
    rows: int = 0


def _table(path: Path) -> _Table:
    """The columns of a .csv; none if it has no header (a number in the first line says so)."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            header, *rows = [row for row in csv.reader(lines) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorruptFile(str(path), saw=error, want="a .csv table in UTF-8") from error
    if not header or any(_number(cell) is not None for cell in header if cell):
        return _Table()
    wrong = next((i for i, row in enumerate(rows, start=2) if len(row) != len(header)), None)
    if wrong is not None:
        saw = f"{len(rows[wrong - 2])} cells in line {wrong}"
        raise CorruptFile(str(path), saw=saw, want=f"{len(header)}, as in the header", hint="fetch it again")
    return _Table({name: [row[i] for row in rows] for i, name in enumerate(header)}, len(rows))


def _number(cell: str) -> float | None:
    """NaN for an empty cell, None for one that is no number (also an id too long to be one without rounding)."""
    cell = cell.strip().lower()
    if cell in ("", "nan", "null", "none", "na"):
        return float("nan")
    if cell in ("true", "false"):
        return float(cell == "true")
    try:
        return None if cell.isdigit() and int(cell) > 2**53 else float(cell)
    except ValueError:
        return None


def joined(
    folder: Path, ids: Sequence[str], columns: dict[str, np.ndarray], *, in_order: bool = False
) -> dict[str, Float[np.ndarray, " object"]]:
    """`columns`, and the numeric columns of the folder's tables, NaN for objects that a table does not know.

    A table is joined by that column of all-different values that names the most objects. With `in_order`, a table that
    names none but has as many rows as there are objects is taken row by row. Columns met before are not replaced.
    """
    columns = dict(columns)
    for path in files_in(folder, (".csv",)):
        table = _table(path)
        match = _match(table, ids)
        if not match.row_of and in_order and table.rows == len(ids):
            match = _Match(row_of={i: i for i in range(len(ids))})
        here, at = list(match.row_of), list(match.row_of.values())
        for name, cells in table.columns.items():
            numbers = [_number(cell) for cell in cells]
            if not here or name == match.key or name in columns or None in numbers:
                continue
            columns[name] = np.full(len(ids), np.nan)
            columns[name][here] = np.array(numbers, dtype=np.float64)[at]
    return {name: values for name, values in columns.items() if not np.isnan(values).all()}


@dataclass(frozen=True)
class _Match:
    """Which row of a table belongs to which object."""

    key: str = ""
    """the column that names the objects; empty if rows are matched by order, or none is"""
    row_of: dict[int, int] = field(default_factory=dict)
    """object → row, by number"""


def _match(table: _Table, ids: Sequence[str]) -> _Match:
    best = _Match()
    for key, cells in table.columns.items():
        row = {cell: i for i, cell in enumerate(cells)}
        if len(row) == table.rows:
            row_of = {i: row[name] for i, name in enumerate(ids) if name in row}
            best = _Match(key, row_of) if len(row_of) > len(best.row_of) else best
    return best
