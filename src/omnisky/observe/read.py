"""What a path holds → Observation. One small reader a kind of file; `read` picks by what it finds.

    folder with healpix=… below     a set of the Multimodal Universe, HDF5 (see `observe.mmu`)
    folder with .npz files          the one that carries class names, or the only one
    folder of JPEG or PNG images    all of them; sub-folders, if any, are classes
    folder of FITS images           all of them, of the same bands and size
    .npz                            JPEG bytes end to end (jpeg, offset), or calibrated stamps (flux_nanomaggies, bands)
    .jpg .jpeg .png                 one display image
    .fits .fit (.gz, .fz)           an image, or a DESI coadd (see `observe.fits`)
    .parquet .csv .vot …            a catalogue, as FITS tables with positions are (see `observe.tables`)
    folder or address of HATS       a catalogue of Parquet files by sky cell; hf://… too (see `observe.hats`)
    folder with manifest.json       training shards (see `observe.shards`)

Tables (.csv with a header) in the same folder are joined by object id: numbers become columns of the part "scalars",
positions become ra and dec. Nothing is unpickled.
"""

from __future__ import annotations

import csv
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from omnisky.errors import BandMismatch, CorruptFile, MissingExtra, ObservationError, ShapeMismatch
from omnisky.observe import fits
from omnisky.observe.fits_file import SUFFIXES
from omnisky.observe.mmu import MMUHdf5
from omnisky.observe.mmu_files import is_cells
from omnisky.observe.types import Image, Observation, Scalars, concatenate

PICTURES = (".jpg", ".jpeg", ".png")
_COLOURS = ("red", "green", "blue")

# The survey of a set that does not say it itself: by the beginning of the name of its file or folder.
_SURVEY_OF = {
    "galaxyzoo2": "galaxyzoo2",
    "gz2": "galaxyzoo2",
    "legacysurvey": "legacysurvey-colour",
    "sdss_frames": "sdss",
}

# How tables call right ascension and declination; deg, ICRS.
_POSITION = (("ra", "radeg", "ra_deg"), ("dec", "dedeg", "decdeg", "dec_deg"))


def read(path: str | Path, *, survey: str = "") -> Observation:
    """The objects in a file or folder; the table at the top of this module lists what is understood.

    `survey`: for sets of the Multimodal Universe, a row of `observe.survey`, where the path does not name it. All
    objects are read at once; for large sets `observe.mmu.MMUHdf5` reads parts, regions and batches.

    Display images come as uint8 (object, 3, height, width), bands red green blue, unit "display"; calibrated ones as
    float32 nanomaggies. The class is the column "class" of the scalars: an index into `class_names(path)`, or NaN.

    Raises CorruptFile (truncated, or not what its name says; the file is named), ObservationError (nothing there, or
    nothing we can read), ShapeMismatch (images of different sizes), BandMismatch (grey images), MissingExtra.
    """
    from omnisky.observe.sets import read_set  # pyarrow, for those who need it

    if (found := read_set(path, survey)) is not None:
        return found
    path = _existing(path)
    if is_cells(path):
        return MMUHdf5(path, survey=survey).read()
    if survey:
        hint = "leave survey= out"
        raise ObservationError(f"survey={survey!r} is for folders healpix=…", saw=path, want="such a folder", hint=hint)
    return _read_folder(path) if path.is_dir() else _read_file(path)


def class_names(path: str | Path) -> tuple[str, ...]:
    """What the numbers in the column "class" of `read(path)` stand for; empty if the set has no classes.

    Raises what `read` raises.
    """
    path = _existing(path)
    if path.is_dir():
        if not _files(path, (".npz",)):
            return tuple(sorted({one.parent.name for one in _files(path, PICTURES, depth=1) if one.parent != path}))
        path = _choose_npz(path)
    if not path.name.lower().endswith(".npz"):
        return ()
    return tuple(str(name) for name in _load(path, only="class_names").get("class_names", ()))


def _existing(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.exists():
        raise ObservationError("nothing there", saw=path, want="a file or folder", hint="check the path for typos")
    return path


def _read_file(path: Path) -> Observation:
    name = path.name.lower()
    if name.endswith(".npz"):
        return _read_npz(path)
    if name.endswith(PICTURES):
        return _read_pictures([path], path.parent, joined=False)
    if name.endswith(SUFFIXES):
        return fits.read_fits(path)
    known = (".npz", *PICTURES, *SUFFIXES)
    raise ObservationError(f"no reader for {path}", saw=path.suffix or "no extension", want=known)


def _read_folder(folder: Path) -> Observation:
    if _files(folder, (".npz",)):
        return _read_npz(_choose_npz(folder))
    if pictures := _files(folder, PICTURES, depth=1):
        return _read_pictures(pictures, folder, joined=True)
    # A redrock file is read along with the coadd it belongs to.
    if stamps := [one for one in _files(folder, SUFFIXES) if not one.name.startswith("redrock-")]:
        return concatenate([fits.read_fits(one) for one in stamps])
    held = sorted({one.suffix or one.name for one in folder.iterdir()})
    raise ObservationError(f"nothing to read in {folder}", saw=tuple(held), want=(".npz", *PICTURES, *SUFFIXES))


def _files(folder: Path, suffixes: tuple[str, ...], depth: int = 0) -> list[Path]:
    """The visible files with one of the suffixes, in the folder and `depth` (0 or 1) levels below, sorted."""
    found = [*folder.glob("*"), *(folder.glob("*/*") if depth else ())]
    seen = (one for one in found if not any(part.startswith(".") for part in one.relative_to(folder).parts))
    return sorted(one for one in seen if one.name.lower().endswith(suffixes) and one.is_file())


def _choose_npz(folder: Path) -> Path:
    """The only .npz of the folder, or the only one that carries class names."""
    every = _files(folder, (".npz",))
    labelled = every if len(every) == 1 else [one for one in every if _load(one, only="class_names")]
    if len(labelled) != 1:
        raise ObservationError(
            f"{folder} holds several sets",
            saw=tuple(one.name for one in every),
            want="one of them",
            hint=f"read({str(every[0])!r})",
        )
    return labelled[0]


# --- npz ----------------------------------------------------------------------------------------------------------


def _load(path: Path, only: str = "") -> dict[str, np.ndarray]:
    """The arrays of an .npz file, or the one called `only` if it is there. Never unpickles."""
    broken = (OSError, EOFError, KeyError, SyntaxError, RuntimeError)
    try:
        with path.open("rb") as file:
            held = np.load(file, allow_pickle=False)
            if isinstance(held, np.ndarray):
                raise CorruptFile(str(path), saw="one array, an .npy file", want="an .npz file", hint="numpy.savez")
            return {key: held[key] for key in held.files if not only or key == only}
    except CorruptFile:
        raise
    except ValueError as error:  # numpy's word for "this wants to be unpickled" and for a bad array header
        raise CorruptFile(f"{path} was not opened", saw=error, want="an .npz of plain arrays") from error
    except (*broken, struct.error, zlib.error, zipfile.BadZipFile) as error:
        raise CorruptFile(str(path), saw=error, want="a complete .npz file", hint="fetch it again") from error


def _read_npz(path: Path) -> Observation:
    arrays = _load(path)
    if {"jpeg", "offset"} <= set(arrays):
        return _read_jpeg_npz(path, arrays)
    if {"flux_nanomaggies", "bands"} <= set(arrays):
        return _read_stamp_npz(path, arrays)
    raise ObservationError(
        f"no reader for the arrays in {path}", saw=tuple(arrays), want="jpeg and offset, or flux_nanomaggies and bands"
    )


def _read_jpeg_npz(path: Path, arrays: dict[str, np.ndarray]) -> Observation:
    """JPEG files end to end in `jpeg` (uint8); image i is jpeg[offset[i]:offset[i + 1]]."""
    jpeg, offset = arrays["jpeg"].ravel(), arrays["offset"].ravel()
    ids = _ids(path, arrays, len(offset) - 1)
    edges = (offset[0], offset[-1]) if len(offset) > 1 else ()
    if jpeg.dtype != np.uint8 or edges != (0, len(jpeg)) or (np.diff(offset) < 0).any():
        saw = f"{jpeg.nbytes} bytes, {len(offset)} offsets, {offset[:1]} … {offset[-1:]}"
        raise CorruptFile(str(path), saw=saw, want="offsets that rise from 0 to the number of bytes")
    labels = [f"{path}, image {i} (object {name})" for i, name in enumerate(ids)]
    held = np.ascontiguousarray(jpeg).data
    flux = _decode(lambda i: BytesIO(held[offset[i] : offset[i + 1]]), labels)
    columns = {}
    if "cls" in arrays:
        index = arrays["cls"].astype(np.float64)
        columns["class"] = np.where(index >= 0, index, np.nan)
    return _observation(ids, _display(flux, _survey_of(path)), _joined(path.parent, ids, columns))


def _read_stamp_npz(path: Path, arrays: dict[str, np.ndarray]) -> Observation:
    """Calibrated stamps: `flux_nanomaggies` (object, band, height, width), `bands`, `pixscale` (arcsec per pixel).

    Pixels that were not observed, up to a whole band of an object, are NaN in flux and False in `good`. A table in the
    folder with as many rows as there are stamps is taken to be in their order. Magnitudes (AB, mag_u …) are added for
    its columns flux_u …; NaN where the flux is not positive.
    """
    flux = arrays["flux_nanomaggies"].astype(np.float32)
    bands = tuple(str(band) for band in arrays["bands"])
    scale = float(arrays["pixscale"]) if "pixscale" in arrays else float("nan")
    image = Image(flux=flux, bands=bands, survey=_survey_of(path), pixel_scale_arcsec=scale, good=np.isfinite(flux))
    ids = _ids(path, arrays, len(flux))
    columns = _joined(path.parent, ids, {}, in_order=True)
    for band in bands:
        measured = columns.get(f"flux_{band}")
        if measured is not None:
            positive = np.where(measured > 0, measured, np.nan)
            columns[f"mag_{band}"] = 22.5 - 2.5 * np.log10(positive)
    return _observation(ids, image, columns)


def _ids(path: Path, arrays: dict[str, np.ndarray], n: int) -> list[str]:
    """The sets' own names; without them, the file's name and the row."""
    given = next((arrays[key] for key in ("object_id", "galaxy_id", "name") if key in arrays), None)
    if given is None:
        return [f"{path.stem}-{i:05d}" for i in range(n)]
    if len(given) != n:
        raise CorruptFile(str(path), saw=f"{len(given)} names", want=f"{n}, one per object")
    return [str(name) for name in given.tolist()]


def _survey_of(path: Path) -> str:
    names = (path.stem.lower(), path.resolve().parent.name.lower())
    return next((row for start, row in _SURVEY_OF.items() if any(name.startswith(start) for name in names)), "")


# --- pictures -----------------------------------------------------------------------------------------------------


def _read_pictures(pictures: list[Path], folder: Path, *, joined: bool) -> Observation:
    """JPEG and PNG files of one size. Ids are the names without suffix; with sub-folders, sub-folder/name."""
    flux = _decode(lambda i: pictures[i], [str(one) for one in pictures])
    ids = [str(one.relative_to(folder).with_suffix("").as_posix()) for one in pictures]
    image = _display(flux, _survey_of(pictures[0]))
    if not joined:
        return _observation(ids, image, {})
    classes = sorted({one.parent.name for one in pictures if one.parent != folder})
    columns = {}
    if classes:
        index = [classes.index(one.parent.name) if one.parent != folder else np.nan for one in pictures]
        columns["class"] = np.array(index, dtype=np.float64)
    return _observation(ids, image, _joined(folder, [one.stem for one in pictures], columns))


def _display(flux: UInt8[np.ndarray, "object 3 height width"], survey: str) -> Image:
    return Image(flux=flux, bands=_COLOURS, unit="display", survey=survey)


def _decode(source: Callable[[int], Any], labels: Sequence[str]) -> UInt8[np.ndarray, "object 3 height width"]:
    """Open source(0), source(1) … as colour images of one size; `labels` name them in errors."""
    first = _decode_one(source(0), labels[0])
    flux = np.empty((len(labels), *first.shape), dtype=np.uint8)

    def fill(start: int) -> None:
        for i in range(start, min(start + 256, len(labels))):
            one = _decode_one(source(i), labels[i])
            if one.shape != first.shape:
                raise ShapeMismatch(
                    labels[i],
                    saw=f"{one.shape[1]} × {one.shape[2]} pixels",
                    want=f"{first.shape[1]} × {first.shape[2]}, as {labels[0]}",
                    hint="crop or resize all images to one size",
                )
            flux[i] = one

    # Pillow lets go of the interpreter while it decodes, so threads are enough, and share the array.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, range(0, len(labels), 256)))
    return flux


def _decode_one(source: Any, label: str) -> UInt8[np.ndarray, "3 height width"]:
    try:
        from PIL import Image as Pillow
    except ImportError as error:
        raise MissingExtra("JPEG and PNG need Pillow", hint="pip install 'omnisky[sample]'") from error
    try:
        with Pillow.open(source) as picture:
            if picture.mode not in ("RGB", "RGBA", "P"):
                raise BandMismatch(
                    label, saw=f"mode {picture.mode}", want=_COLOURS, hint="convert('RGB') if grey is what you mean"
                )
            pixels = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except BandMismatch:
        raise
    # Pillow's errors on broken bytes differ by format: OSError (JPEG), SyntaxError (PNG chunks), struct.error …
    except (OSError, SyntaxError, ValueError, struct.error, Pillow.DecompressionBombError) as error:
        raise CorruptFile(label, saw=error, want="a complete JPEG or PNG image", hint="fetch it again") from error
    return np.moveaxis(pixels, -1, 0)


# --- tables -------------------------------------------------------------------------------------------------------


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


def _joined(
    folder: Path, ids: Sequence[str], columns: dict[str, np.ndarray], *, in_order: bool = False
) -> dict[str, Float[np.ndarray, " object"]]:
    """`columns`, and the numeric columns of the folder's tables, NaN for objects that a table does not know.

    A table is joined by that column of all-different values that names the most objects. With `in_order`, a table that
    names none but has as many rows as there are objects is taken row by row. Columns met before are not replaced.
    """
    columns = dict(columns)
    for path in _files(folder, (".csv",)):
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


def _observation(ids: Sequence[str], image: Image, columns: dict[str, np.ndarray]) -> Observation:
    """Positions out of the columns; the rest, if any, are the scalars."""
    ra, dec = (next((name for name in columns if name.lower() in known), "") for known in _POSITION)
    rest = {name: values for name, values in columns.items() if name not in (ra, dec)}
    seen = Observation.of(ids, columns.get(ra), columns.get(dec), image=image)
    if not rest:
        return seen
    units = tuple(_unit(name) if image.unit == "nanomaggy" else "" for name in rest)
    return seen | {"scalars": Scalars(values=np.stack(list(rest.values()), axis=1), names=tuple(rest), units=units)}


def _unit(column: str) -> str:
    """Units of the columns of calibrated stamps, by how they are called."""
    if column.startswith(("flux_", "fluxerr_", "ap3_", "rms_")):
        return "nmgy"
    return "mag" if "mag" in column.split("_") else "arcsec" if column.endswith("_arcsec") else ""
