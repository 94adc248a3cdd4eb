"""Do files lie where they say, and are they the bytes they were? Healpix cells in paths, and hashes in manifests.

    …/healpix=1234/001-of-001.hdf5              MMU v1: all positions in cell 1234 of nside 16, nested
    …/Norder=3/Dir=0/Npix=77.parquet            HATS: in cell 77 of order 3; `_healpix_29` agrees with ra and dec
    manifest.json, SHA256SUMS                   every {"file": …, "sha256": …} and line is compared

Only positions are read here, as they are in the file: a float32 column shows. Sources: MMU v1, arXiv:2412.02527;
HATS 1.0 (IVOA note 2025).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from omnisky.observe.finding import Finding
from omnisky.observe.mmu_files import CELL_DEPTH
from omnisky.observe.sky import cells
from omnisky.observe.types import Observation

_FINEST, _COMPARED = 29, 20
"""orders of `_healpix_29`, and the one up to which two libraries must agree: cells of 0.2 arcsec"""
_FLOAT32_ARCSEC = 0.06
_HDF5 = (".hdf5", ".h5")


@dataclass(frozen=True, kw_only=True)
class _Where:
    """Positions of one file, as they are written."""

    ra: Shaped[np.ndarray, " object"]
    dec: Shaped[np.ndarray, " object"]
    healpix_29: Int64[np.ndarray, " object"] | None = None
    cell: Shaped[np.ndarray, " object"] | None = None
    """the column "healpix" of MMU's files"""


def file_findings(path: Path) -> Iterator[Finding]:
    """What is wrong with the file, or with the files in the folder, before anything is made of them."""
    yield from _of_manifests(path)
    every = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    counted: dict[Path, int] = {}
    for file in every:
        cell = re.search(r"healpix=(\d+)", str(file.resolve())) if file.suffix in _HDF5 else None
        if cell:
            yield from _of_file(file, CELL_DEPTH, int(cell[1]))
        tile = re.search(r"Norder=(\d+)/(?:Dir=\d+/)?Npix=(\d+)", file.resolve().as_posix())
        if tile and file.suffix == ".parquet":
            root = _hats_root(file)
            told = _properties(root)
            if told.get("dataproduct_type") != "margin":  # margins hold neighbours of the cell, that is their point
                yield from _of_file(file, int(tile[1]), int(tile[2]), told)
            counted[root] = counted.get(root, 0) + _rows(file)
    yield from _of_counts({root: n for root, n in counted.items() if path.resolve() in (root, *root.parents)})


# --- cells --------------------------------------------------------------------------------------------------------


def _of_file(file: Path, depth: int, cell: int, told: dict[str, str] | None = None) -> Iterator[Finding]:
    try:
        at = _hdf5_positions(file) if told is None else _parquet_positions(file, told)
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # h5py and pyarrow, by what is broken
        saw = f"{type(error).__name__}: {error}"
        yield Finding(
            check="readable", where=str(file), saw=saw, want="a complete file with ra and dec", hint="fetch it again"
        )
        return
    if at.ra.dtype != np.float64 or at.dec.dtype != np.float64:
        saw = f"ra {at.ra.dtype}, dec {at.dec.dtype}: off by up to 0.055 arcsec"
        yield Finding(check="precision", where=str(file), saw=saw, want="float64", serious=False)
    astray = ~_inside(at, depth, cell)
    if astray.any():
        i = int(np.flatnonzero(astray)[0])
        saw = f"{astray.sum()} of {len(astray)} objects elsewhere, the first at ra {at.ra[i]}, dec {at.dec[i]}"
        yield Finding(check="cell", where=str(file), saw=saw, want=f"objects in cell {cell} of order {depth}, nested")
    if at.cell is not None and (at.cell != cell).any():
        saw = f"{np.unique(at.cell[at.cell != cell])[0]} in {(at.cell != cell).sum()} of {len(astray)} rows"
        yield Finding(check="cell", where=f"{file}, healpix", saw=saw, want=f"{cell}, as the folder says")
    if at.healpix_29 is not None:
        shift = 2 * (_FINEST - _COMPARED)
        apart = (at.healpix_29 >> shift) != _cell(at, _COMPARED)
        if apart.any():
            saw = f"{apart.sum()} of {len(apart)} rows of another place"
            yield Finding(check="cell", where=f"{file}, _healpix_29", saw=saw, want="the cell of ra and dec, order 29")


def _inside(at: _Where, depth: int, cell: int) -> Bool[np.ndarray, " object"]:
    """In the cell; where positions are single precision, or at most their rounding outside it."""
    found = _cell(at, depth) == cell
    if at.ra.dtype == np.float64 or found.all():
        return found
    step = _FLOAT32_ARCSEC / 3600
    widen = step / np.maximum(np.cos(np.radians(at.dec.astype(np.float64))), 1e-6)
    for east, north in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        dec = np.clip(at.dec.astype(np.float64) + north * step, -90, 90)
        found |= _cell(_Where(ra=at.ra.astype(np.float64) + east * widen, dec=dec), depth) == cell
    return found


def _cell(at: _Where, depth: int) -> Int64[np.ndarray, " object"]:
    """−1 for positions off the sky."""
    ra, dec = at.ra.astype(np.float64), at.dec.astype(np.float64)
    dec = np.where(abs(dec) <= 90, dec, np.nan)
    nameless = np.zeros(len(ra), dtype="U1")
    return cells(Observation(nameless, np.where(np.isfinite(ra), ra % 360, np.nan), dec), depth)


def _hdf5_positions(file: Path) -> _Where:
    """Of a table, of one object, or of one group an object."""
    import h5py

    with h5py.File(file, "r") as held:
        groups = [one for one in held.values() if isinstance(one, h5py.Group)]
        tables = [held] if any(name in held for name in ("ra", "RA")) else groups
        if not tables:
            raise KeyError(f"no ra and dec among {', '.join(held)}")
        ra, dec = (np.concatenate([_named(one, name) for one in tables]) for name in ("ra", "dec"))
        told = [np.atleast_1d(one["healpix"][()]) for one in tables if "healpix" in one]
    return _Where(ra=ra, dec=dec, cell=np.concatenate(told) if told else None)


def _named(table: Any, name: str) -> np.ndarray:
    return np.atleast_1d(table[name if name in table else name.upper()][()])


def _parquet_positions(file: Path, told: dict[str, str]) -> _Where:
    import pyarrow.parquet as pq

    place = [told.get("hats_col_ra", "ra"), told.get("hats_col_dec", "dec")]
    names = pq.read_schema(file).names
    table = pq.read_table(
        file, columns=[*place, *(["_healpix_29"] if "_healpix_29" in names else [])], partitioning=None
    )
    ra, dec = (table[name].to_numpy() for name in place)
    fine = table["_healpix_29"].to_numpy().astype(np.int64) if "_healpix_29" in table.column_names else None
    return _Where(ra=ra, dec=dec, healpix_29=fine)


def _rows(file: Path) -> int:
    """0 for a file that cannot be read, which is a finding already."""
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(file).num_rows)
    except (OSError, ValueError):
        return 0


def _hats_root(file: Path) -> Path:
    """The folder of the catalogue: above `dataset`, where there is one."""
    order = next(one for one in file.resolve().parents if one.name.startswith("Norder="))
    return order.parent.parent if order.parent.name == "dataset" else order.parent


def _properties(root: Path) -> dict[str, str]:
    from omnisky.observe.hats import properties_in

    found = (root / name for name in ("hats.properties", "properties"))
    return next((properties_in(one.read_text(encoding="utf-8")) for one in found if one.is_file()), {})


def _of_counts(counted: dict[Path, int]) -> Iterator[Finding]:
    for root, found in counted.items():
        want = _properties(root).get("hats_nrows", "")
        if want.isdigit() and int(want) != found:
            yield Finding(check="count", where=str(root), saw=f"{found} rows", want=f"{want}, by hats.properties")


# --- hashes -------------------------------------------------------------------------------------------------------


def _of_manifests(path: Path) -> Iterator[Finding]:
    if not path.is_dir():
        return
    for manifest in sorted(path.rglob("manifest.json")):
        try:
            yield from _compared(manifest, list(_entries(json.loads(manifest.read_text(encoding="utf-8")))))
        except ValueError as error:
            yield Finding(check="manifest", where=str(manifest), saw=str(error), want="JSON")
    for sums in sorted(path.rglob("SHA256SUMS")):
        lines = [line.split(maxsplit=1) for line in sums.read_text(encoding="utf-8").splitlines() if line.strip()]
        yield from _compared(sums, [(line[1].lstrip("*"), line[0]) for line in lines if len(line) == 2])


def _entries(told: Any) -> Iterator[tuple[str, str]]:
    """(file, sha256) of every object in the JSON that has both."""
    if isinstance(told, dict):
        if isinstance(told.get("file"), str) and isinstance(told.get("sha256"), str):
            yield told["file"], told["sha256"]
        told = list(told.values())
    for one in told if isinstance(told, list) else ():
        yield from _entries(one)


def _compared(manifest: Path, entries: list[tuple[str, str]]) -> Iterator[Finding]:
    for name, want in entries:
        file = manifest.parent / name
        if not file.is_file():
            yield Finding(
                check="manifest", where=str(file), saw="no file", want=f"sha256 {want[:16]}…", hint="fetch it"
            )
            continue
        with file.open("rb") as held:
            found = hashlib.file_digest(held, "sha256").hexdigest()
        if found != want.lower():
            saw, hint = f"sha256 {found[:16]}…", "damaged or changed since: fetch or write it again"
            yield Finding(check="manifest", where=str(file), saw=saw, want=f"{want[:16]}…", hint=hint)
