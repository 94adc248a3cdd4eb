"""FITS files as lists of units in memory: read whole, named when broken. Astropy is imported when a file is opened."""

from __future__ import annotations

import gzip
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, IOBase
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from omnisky.errors import CorruptFile, ObservationError

SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.fz")
_RA, _DEC = ("RA", "PLUG_RA", "RA_TARG", "OBJRA", "RA_OBJ"), ("DEC", "PLUG_DEC", "DEC_TARG", "OBJDEC", "DEC_OBJ")


@dataclass(frozen=True)
class Hdu:
    """What we need of one unit of a FITS file, out of reach of the open file."""

    name: str
    header: Any
    data: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the pixels, by the header, slowest axis first; () for tables and for no data."""
        if self.is_table:
            return ()
        z = "Z" if "ZIMAGE" in self.header else ""  # compressed images are tables that say what they hold
        return tuple(self.header[f"{z}NAXIS{i}"] for i in range(self.header.get(f"{z}NAXIS", 0), 0, -1))

    @property
    def is_image(self) -> bool:
        return len(self.shape) in (2, 3) and min(self.shape) > 0

    @property
    def is_table(self) -> bool:
        return str(self.header.get("XTENSION", "")).strip() in ("BINTABLE", "TABLE") and "ZIMAGE" not in self.header

    @property
    def columns(self) -> Mapping[str, int]:
        """Names of a table's columns in lower case → their number, from 1."""
        count = self.header.get("TFIELDS", 0) if self.is_table else 0
        names = ((str(self.header.get(f"TTYPE{i}", "")).strip().lower(), i) for i in range(1, count + 1))
        return {name: i for name, i in reversed(list(names)) if name}

    def column(self, name: str) -> np.ndarray:
        """A column by its name in lower case, in this machine's byte order."""
        values = np.asarray(self.data.field(self.columns[name] - 1))
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def load_hdus(path: Path, *, only: Sequence[str] | None = None, skip: str = " ") -> list[Hdu]:
    """All units of the file; the data of those in `only` (None: all) whose name does not end in `skip`.

    Raises CorruptFile, ObservationError (no such file).
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    if not path.is_file():
        raise ObservationError("no such file", saw=path, want="a FITS file")
    unreadable = (fits.VerifyError, zlib.error, AstropyUserWarning)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="File may have been truncated", category=AstropyUserWarning)
            # Opened here, so that it is closed also when astropy gives up half-way; unzipped whole, so that the
            # checksum speaks first: astropy can take minutes and gigabytes over a header that a damaged stream made up.
            with _opened(path) as file, fits.open(file, memmap=False) as hdus:
                wanted = [only is None or hdu.name in only for hdu in hdus]
                return [
                    Hdu(hdu.name, hdu.header, hdu.data if want and not hdu.name.endswith(skip) else None)
                    for hdu, want in zip(hdus, wanted, strict=True)
                ]
    # What astropy raises on bytes that are not what the header promised depends on where they break off.
    except (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, *unreadable) as error:
        raise CorruptFile(str(path), saw=error, want="a complete FITS file", hint="fetch it again") from error


def _opened(path: Path) -> IOBase:
    if not path.name.lower().endswith(".gz"):
        return path.open("rb")
    with gzip.open(path) as file:
        return BytesIO(file.read())


def stem(path: Path) -> str:
    """The name of the file without .fits, .fits.gz …"""
    return path.name[: path.name.lower().rindex(".fit")]


def cards(path: Path, hdus: Sequence[Hdu], keys: Sequence[str]) -> dict[str, Any]:
    """Keywords, a later unit's before an earlier one's. Only these are parsed: users' headers hold all sorts.

    Cut-out servers put the keywords on the primary header also where the pixels are in an extension.
    """
    from astropy.io.fits import VerifyError

    try:
        return {key: hdu.header[key] for hdu in hdus for key in keys if key in hdu.header}
    except VerifyError as error:
        raise CorruptFile(f"{path}, header", saw=error, want="cards by the FITS standard") from error


def position(path: Path, hdus: Sequence[Hdu]) -> Float[np.ndarray, " two"]:
    """(ra, dec), deg, by the headers' words: numbers are degrees, text may be hh:mm:ss ±dd:mm:ss. NaN if not said."""
    from astropy import units as u
    from astropy.coordinates import Angle

    found = []
    for names, unit in ((_RA, u.hourangle), (_DEC, u.deg)):
        said = cards(path, hdus, names)
        value = next((said[name] for name in names if name in said), np.nan)
        try:
            plain = not isinstance(value, str) or value.strip().lstrip("+-").replace(".", "", 1).isdigit()
            found.append(float(value) if plain else Angle(value, unit=unit).deg)
        except (ValueError, TypeError) as error:
            raise CorruptFile(f"{path}, header", saw=error, want="RA and DEC as degrees or hh:mm:ss") from error
    return np.array(found, dtype=np.float64)


def to_float(values: Any) -> Float[np.ndarray, ...]:
    """FITS is big-endian and of any number type: this machine's float64."""
    return np.asarray(values, dtype=np.float64)
