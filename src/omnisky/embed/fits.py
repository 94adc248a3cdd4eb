"""Embeddings as a FITS binary table: what TOPCAT, Aladin and STIL open. Astropy is imported when a file is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from omnisky.errors import BadValue, CorruptFile
from omnisky.observe.fits_file import SUFFIXES, Hdu, load_hdus
from omnisky.storage import atomic, demand_no_folder

_SIGNATURE = "OMNISIGN"
_NAMES = ("object_id", "ra", "dec", "embedding")


def is_fits(path: str | Path) -> bool:
    """By its name."""
    return str(path).lower().endswith(SUFFIXES)


def demand_writable(path: str | Path) -> None:
    """Before the work: raises StorageError for a folder, BadValue for names that promise FITS compressed."""
    demand_no_folder(path)
    if is_fits(path) and Path(path).suffix.lower() not in (".fits", ".fit"):
        raise BadValue("a FITS table to write", saw=path, want="a name ending in .fits", hint="gzip it afterwards")


def write(table: pa.Table, path: str | Path) -> None:
    """A table of `Embedding.table`: object_id, ra, dec (deg), embedding (a vector of float32); signature in the header.

    Whole or not at all. Raises BadValue for ids that FITS has no letters for, StorageError.
    """
    from astropy.io import fits

    demand_writable(path)
    vectors, width = table["embedding"].combine_chunks(), table["embedding"].type.list_size
    ids = _ascii(table["object_id"].to_pylist())
    columns = [
        fits.Column("object_id", f"{max(1, ids.itemsize)}A", array=ids),
        fits.Column("ra", "D", unit="deg", array=table["ra"].to_numpy()),
        fits.Column("dec", "D", unit="deg", array=table["dec"].to_numpy()),
        fits.Column("embedding", f"{width}E", array=vectors.flatten().to_numpy().reshape(-1, width)),
    ]
    unit = fits.BinTableHDU.from_columns(columns, name="EMBEDDINGS")
    unit.header["RADESYS"] = "ICRS"
    signature = (table.schema.metadata or {}).get(b"omnisky_signature", b"").decode()
    unit.header[_SIGNATURE] = (signature, "only equal ones may be compared")
    with atomic(path) as draft:
        unit.writeto(draft, checksum=True)


def read(path: str | Path) -> pa.Table:
    """What `write` wrote. Raises CorruptFile, naming the file."""
    found = next((unit for unit in load_hdus(Path(path)) if set(_NAMES) <= set(unit.columns)), None)
    if found is None:
        raise CorruptFile(str(path), saw="no such table", want=f"a table of {', '.join(_NAMES)}")
    ids, ra, dec, vectors = (found.column(name) for name in _NAMES)
    vectors = np.ascontiguousarray(vectors if vectors.ndim == 2 else vectors[:, None], dtype=np.float32)
    columns = {
        "object_id": pa.array(ids.astype(np.str_).tolist(), pa.string()),
        "ra": pa.array(ra),
        "dec": pa.array(dec),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
    }
    signature = str(found.header.get(_SIGNATURE, ""))
    return pa.table(columns).replace_schema_metadata({"omnisky_signature": signature})


def holds_embeddings(path: str | Path) -> bool:
    """Whether a FITS file has a table as `write` makes them. Raises CorruptFile."""
    units: list[Hdu] = load_hdus(Path(path), only=())
    return any(set(_NAMES) <= set(unit.columns) for unit in units)


def _ascii(ids: list[str]) -> np.ndarray:
    """FITS pads text with blanks, so none may end in one."""
    wrong = [name for name in ids if not name.isascii() or not name.isprintable() or name.endswith(" ")]
    if wrong:
        raise BadValue("object ids", saw=tuple(wrong[:3]), want="plain ASCII", hint="write Parquet")
    return np.asarray(ids, dtype=np.bytes_)
