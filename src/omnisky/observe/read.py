"""What a path or address holds → Observation. One row a format; the first whose `holds` says yes reads it.

    folder with healpix=… below     a set of the Multimodal Universe, HDF5        `observe.mmu`
    folder or address of HATS       Parquet files by sky cell; hf://… too         `observe.hats`
    folder with manifest.json       training shards                               `observe.shards`
    .parquet, folder, address       other Parquet files; hf://… too               `observe.parquet`
    .csv .tsv .vot …                a catalogue                                   `observe.tables`
    .fits .fit (.gz, .fz), folder   cut-outs, spectra, cubes, DESI coadds …       `observe.fits`
    .npz, folder with .npz          the one that carries class names, or the only one    `observe.npz`
    .jpg .jpeg .png, folder         display images; sub-folders, if any, are classes     `observe.pictures`

`read` hands out all objects, `source_of` those that are taken; `scan` reads parts, columns, regions and batches, and
only those (see `observe.scan`).
Hugging Face `datasets` that are open already are read by `observe.hf`. Tables (.csv with a header) beside images are
joined by object id. Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from omnisky.errors import ObservationError
from omnisky.observe.beside import files_in
from omnisky.observe.fits_file import SUFFIXES as FITS
from omnisky.observe.loader import Source
from omnisky.observe.mmu import MMUHdf5
from omnisky.observe.mmu_files import is_cells
from omnisky.observe.npz import choose_npz, load_npz, read_npz
from omnisky.observe.pictures import PICTURES, read_pictures
from omnisky.observe.scan import Rows, Scan, as_source, only
from omnisky.observe.types import Observation, concatenate

CATALOGUES = (".csv", ".csv.gz", ".tsv", ".vot", ".votable", ".xml", ".vot.gz")


def read(path: str | Path, *, survey: str = "") -> Observation:
    """The objects in a file, folder or address; the table at the top of this module lists what is understood.

    `survey`: a row of `observe.survey`, for sets of the Multimodal Universe and Parquet files of measurements whose
    path does not name it. All objects are read at once; see `scan` for large sets.

    Display images come as uint8 (object, 3, height, width), bands red green blue, unit "display"; calibrated ones as
    float32 nanomaggies; spectra in Å (vacuum). The class of an image is the column "class" of the scalars: an index
    into `class_names(path)`, or NaN.

    Raises CorruptFile (truncated, or not what its name says; the file is named), ObservationError (nothing there, or
    nothing we can read), ShapeMismatch (images of different sizes), BandMismatch (grey images), MissingExtra.
    """
    return scan(path, survey=survey).read()


def scan(
    path: str | Path, *, survey: str = "", parts: tuple[str, ...] | None = None, columns: tuple[str, ...] | None = None
) -> Scan:
    """The same objects, to be chosen from and read in batches. `parts` and `columns` (of the parts "scalars" and
    "labels") are all that will be read; None means all. Raises ObservationError; what is broken shows when it is read.
    """
    asked = _Asked(survey, parts, columns)
    if "://" in str(path):
        return _address(path, asked)
    path = Path(path).expanduser()
    if not path.exists():
        raise ObservationError("nothing there", saw=path, want="a file or folder", hint="check the path for typos")
    found = next((one for one in FORMATS if one.holds(path)), None)
    if found is None:
        held = sorted({one.suffix or one.name for one in (path.iterdir() if path.is_dir() else [path])})
        want = (*CATALOGUES, ".parquet", ".npz", *PICTURES, *FITS)
        what = "nothing to read in" if path.is_dir() else "no reader for"
        raise ObservationError(f"{what} {path}", saw=tuple(held), want=want)
    if survey and not found.surveys:
        saw = f"{path}, {found.name}"
        raise ObservationError(f"survey={survey!r} is for folders healpix=… and Parquet", saw=saw, hint="leave it out")
    return found.scan(path, asked)


def source_of(path: str | Path) -> Source:
    """The same objects, for those who take some of them. Those in shards and in folders healpix=… are read when taken,
    and may be more than memory holds; all others are read now. Raises what `read` raises.
    """
    return as_source(scan(path))


def class_names(path: str | Path) -> tuple[str, ...]:
    """What the numbers in the column "class" of `read(path)` stand for; empty if the set has no classes.

    Raises what `read` raises.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ObservationError("nothing there", saw=path, want="a file or folder", hint="check the path for typos")
    if path.is_dir():
        if not files_in(path, (".npz",)):
            return tuple(sorted({one.parent.name for one in files_in(path, PICTURES, depth=1) if one.parent != path}))
        path = choose_npz(path)
    if not path.name.lower().endswith(".npz"):
        return ()
    return tuple(str(name) for name in load_npz(path, only="class_names").get("class_names", ()))


# --- the formats --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    """What the caller wants of the set."""

    survey: str
    parts: tuple[str, ...] | None
    columns: tuple[str, ...] | None


@dataclass(frozen=True)
class Format:
    """One row: what it is called, which paths are it, and how they are read."""

    name: str
    holds: Callable[[Path], bool]
    scan: Callable[[Path, _Asked], Scan]
    surveys: bool = False
    """True where a survey's row may be told"""


def _whole(load: Callable[[Path], Observation]) -> Callable[[Path, _Asked], Scan]:
    """Read into memory, once, when first needed; then chosen from."""

    def scanned(path: Path, asked: _Asked) -> Scan:
        held = cache(lambda: load(path))
        return Rows(lambda parts, columns: only(held(), parts, columns), asked.parts, asked.columns)

    return scanned


def _named(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.is_file() and path.name.lower().endswith(suffixes)


def _mmu(path: Path, asked: _Asked) -> Scan:
    return MMUHdf5(path, survey=asked.survey, parts=asked.parts, columns=asked.columns)


def _hats(path: str | Path, asked: _Asked) -> Scan:
    from omnisky.observe.hats import Hats

    return Hats(path, asked.survey, asked.parts, asked.columns)


def _parquet(path: str | Path, asked: _Asked) -> Scan:
    from omnisky.observe.parquet import Parquet

    return Parquet(path, asked.survey, asked.parts, asked.columns)


def _address(path: str | Path, asked: _Asked) -> Scan:
    from omnisky.observe.hats import is_hats

    return _hats(path, asked) if is_hats(path) else _parquet(path, asked)


def _is_hats(path: Path) -> bool:
    from omnisky.observe.hats import is_hats

    return path.is_dir() and is_hats(path)


def _is_parquet(path: Path) -> bool:
    from omnisky.observe.parquet import is_parquet

    return is_parquet(path)


def _shards(path: Path, asked: _Asked) -> Scan:
    from omnisky.observe.shards import scan_shards

    return scan_shards(path, asked.parts, asked.columns)


def _are_shards(path: Path) -> bool:
    from omnisky.observe.shards import is_shards

    return is_shards(path)


def _catalogue(path: Path) -> Observation:
    from omnisky.observe.tables import read_table

    return read_table(path)


def _fits(path: Path) -> Observation:
    from omnisky.observe.fits import read_fits

    if path.is_file():
        return read_fits(path)
    # A redrock file is read along with the coadd it belongs to.
    return concatenate([read_fits(one) for one in files_in(path, FITS) if not one.name.startswith("redrock-")])


def _npz(path: Path) -> Observation:
    return read_npz(choose_npz(path) if path.is_dir() else path)


def _pictures(path: Path) -> Observation:
    if path.is_file():
        return read_pictures([path], path.parent, joined=False)
    return read_pictures(files_in(path, PICTURES, depth=1), path, joined=True)


def _files(*suffixes: str, depth: int = 0) -> Callable[[Path], bool]:
    """True for files that end so, and for folders with such."""
    return lambda path: bool(files_in(path, suffixes, depth)) if path.is_dir() else _named(*suffixes)(path)


FORMATS = (
    Format("Multimodal Universe", is_cells, _mmu, surveys=True),
    Format("HATS", _is_hats, _hats, surveys=True),
    Format("shards", _are_shards, _shards),
    Format("npz", _files(".npz"), _whole(_npz)),
    Format("pictures", _files(*PICTURES, depth=1), _whole(_pictures)),
    Format("FITS", _files(*FITS), _whole(_fits)),
    Format("catalogue", _named(*CATALOGUES), _whole(_catalogue)),
    Format("Parquet", _is_parquet, _parquet, surveys=True),
)
"""in this order: the first that holds is taken"""
