"""Places on the sky as stretches of HEALPix cells, and places on the network as file systems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow.fs as pafs
from jaxtyping import Bool, Float, Integer

from omnisky.errors import BadValue, CorruptFile, MissingExtra

DEPTH = 29
"""HEALPix order of the cells that number the whole sky in an int64: 0.4 milliarcseconds"""


@runtime_checkable
class Region(Protocol):
    """A piece of sky."""

    def stretches(self) -> Integer[np.ndarray, "stretch 2"]:
        """First and one past the last cell of order 29, nested, of stretches that hold all of it."""
        ...

    def holds(
        self, ra: Float[np.ndarray, " object"], dec: Float[np.ndarray, " object"], cell: Integer[np.ndarray, " object"]
    ) -> Bool[np.ndarray, " object"]:
        """Which positions (deg, and their cell of order 29) are in it."""
        ...


def apart_deg(
    ra: Float[np.ndarray, " object"], dec: Float[np.ndarray, " object"], ra0: float, dec0: float
) -> Float[np.ndarray, " object"]:
    """Distance from a place, all in deg, by the haversine formula, exact also for small angles; NaN stays NaN."""
    lon, lat, lon0, lat0 = (np.radians(x) for x in (ra, dec, ra0, dec0))
    h = np.sin((lat - lat0) / 2) ** 2 + np.cos(lat) * np.cos(lat0) * np.sin((lon - lon0) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.clip(h, 0, 1))))


@dataclass(frozen=True)
class Cone:
    """A circle on the sky."""

    ra: float
    """deg, ICRS"""
    dec: float
    """deg, ICRS"""
    radius_deg: float

    def __post_init__(self) -> None:
        if not (0 <= self.ra <= 360 and -90 <= self.dec <= 90 and 0 <= self.radius_deg <= 180):
            saw = f"ra {self.ra}, dec {self.dec}, radius {self.radius_deg}"
            raise BadValue("cone", saw=saw, want="degrees: 0…360, ±90, 0…180")

    def stretches(self) -> Integer[np.ndarray, "stretch 2"]:
        from astropy import units as u
        from astropy.coordinates import Latitude, Longitude
        from cdshealpix.nested import cone_search

        # Cells a tenth of the cone across: finer ones would only make the list longer.
        depth = int(np.clip(np.log2(58.6 / max(self.radius_deg / 10, 1e-6)), 0, 24))
        lon, lat = Longitude(self.ra * u.deg), Latitude(self.dec * u.deg)
        cell, order, _ = cone_search(lon, lat, max(self.radius_deg, 1e-7) * u.deg, depth=depth)
        return _merged(cell.astype(np.int64), order.astype(np.int64))

    def holds(
        self, ra: Float[np.ndarray, " object"], dec: Float[np.ndarray, " object"], cell: Integer[np.ndarray, " object"]
    ) -> Bool[np.ndarray, " object"]:
        return apart_deg(ra, dec, self.ra, self.dec) <= self.radius_deg


@dataclass(frozen=True)
class Cells:
    """HEALPix cells, nested, of one order."""

    numbers: tuple[int, ...]
    depth: int

    def __post_init__(self) -> None:
        if not 0 <= self.depth <= DEPTH or not all(0 <= number < 12 * 4**self.depth for number in self.numbers):
            want = f"0 … {12 * 4**self.depth - 1}, of order {self.depth} in 0 … 29"
            raise BadValue("cells", saw=self.numbers[:5], want=want)

    def stretches(self) -> Integer[np.ndarray, "stretch 2"]:
        numbers = np.array(sorted(self.numbers), dtype=np.int64)
        return _merged(numbers, np.full(len(numbers), self.depth))

    def holds(
        self, ra: Float[np.ndarray, " object"], dec: Float[np.ndarray, " object"], cell: Integer[np.ndarray, " object"]
    ) -> Bool[np.ndarray, " object"]:
        return np.isin(cell >> 2 * (DEPTH - self.depth), np.array(self.numbers, dtype=np.int64))


def _merged(cell: Integer[np.ndarray, " cell"], order: Integer[np.ndarray, " cell"]) -> np.ndarray:
    """Cells of any order as stretches of order 29 in rising order; neighbours in number become one."""
    shift = 2 * (DEPTH - order)
    start, end = cell << shift, (cell + 1) << shift
    at = np.argsort(start)
    start, end = start[at], end[at]
    first = np.ones(len(start), dtype=bool)
    first[1:] = start[1:] > end[:-1]
    last = np.append(first[1:], True) if len(first) else first
    return np.stack([start[first], end[last]], axis=1)


def touch(
    stretches: Integer[np.ndarray, "stretch 2"], low: Integer[np.ndarray, " x"], high: Integer[np.ndarray, " x"]
) -> Bool[np.ndarray, " x"]:
    """Which intervals low … high (both included) have a cell in common with the stretches."""
    if not len(stretches):
        return np.zeros(len(low), dtype=bool)
    after = np.searchsorted(stretches[:, 1], low, side="right")  # the first stretch that ends beyond low
    inside = after < len(stretches)
    return inside & (stretches[np.minimum(after, len(stretches) - 1), 0] <= high)


# --- files, here and elsewhere ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    """A folder on this machine or another."""

    system: pafs.FileSystem
    path: str
    name: str
    """as it was asked for, for errors"""

    def __truediv__(self, more: str) -> Folder:
        return Folder(self.system, f"{self.path.rstrip('/')}/{more}", f"{self.name.rstrip('/')}/{more}")

    def exists(self) -> bool:
        return self._guarded(lambda: self.system.get_file_info(self.path).type != pafs.FileType.NotFound)

    def text(self) -> str:
        """The content of a file. Raises CorruptFile."""

        def read() -> str:
            with self.system.open_input_stream(self.path) as stream:
                return stream.read().decode("utf-8")

        return self._guarded(read)

    def open(self) -> Any:
        return self._guarded(lambda: self.system.open_input_file(self.path))

    def files(self) -> list[str]:
        """All files below, as paths that begin here. Raises CorruptFile."""
        select = pafs.FileSelector(self.path, recursive=True, allow_not_found=True)
        found = self._guarded(lambda: self.system.get_file_info(select))
        skip = len(self.path.strip("/")) + 1  # some systems begin paths with a slash, however they are asked
        return sorted(one.path.lstrip("/")[skip:] for one in found if one.type == pafs.FileType.File)

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except ImportError as error:
            raise MissingExtra(f"reading {self.name}", saw=error, hint="pip install 'omnisky[hf]'") from error
        # What file systems of all kinds raise: pyarrow's are OSErrors, those of HTTP clients are not.
        except Exception as error:
            hint = "check the address and the network" if "://" in self.name else ""
            saw = f"{type(error).__name__}: {error}"
            raise CorruptFile(self.name, saw=saw, want="a file that is there", hint=hint) from error


def is_remote(uri: str | Path) -> bool:
    """True for hf://…, https://… and other addresses."""
    return "://" in str(uri)


def folder_at(uri: str | Path) -> Folder:
    """A local path, `hf://datasets/OWNER/NAME[@REVISION]/…`, `https://…`, or what else pyarrow or fsspec can open.

    Raises MissingExtra where a package for that is not installed.
    """
    text = str(uri)
    if not is_remote(text):
        path = Path(text).expanduser().absolute().as_posix()
        return Folder(pafs.LocalFileSystem(), path, text)
    scheme, _, rest = text.partition("://")
    if scheme == "file":
        return Folder(pafs.LocalFileSystem(), rest, text)
    if scheme in ("s3", "gs", "gcs"):
        system, path = pafs.FileSystem.from_uri(text)
        return Folder(system, path, text)
    return Folder(pafs.PyFileSystem(pafs.FSSpecHandler(_fsspec(scheme, text))), _inside(scheme, text), text)


def _inside(scheme: str, text: str) -> str:
    """HTTP's file system wants the whole address, the others what comes after the scheme."""
    return text.rstrip("/") if scheme in ("http", "https") else text.partition("://")[2].rstrip("/")


def _fsspec(scheme: str, text: str) -> Any:
    try:
        if scheme == "hf":
            from huggingface_hub import HfFileSystem

            return HfFileSystem()
        import fsspec

        return fsspec.filesystem(scheme)
    except ImportError as error:
        raise MissingExtra(f"reading {text}", saw=error, hint="pip install 'omnisky[hf]'") from error
    except ValueError as error:
        raise BadValue("address", saw=text, want="a path, hf://datasets/…, https://…, s3://…") from error
