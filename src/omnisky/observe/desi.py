"""DESI's coadded spectra: the arms b, r, z of each target → one Spectrum on the grid that they share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnisky.errors import CorruptFile, MissingModality, ShapeMismatch
from omnisky.observe.fits_file import Hdu, load_hdus, to_float
from omnisky.observe.types import Observation, Scalars, Spectrum

DESI_WAVELENGTH_AA = 3600.0 + 0.8 * np.arange(7781)
"""Å, vacuum: the grid that DESI's three arms share, 3600 to 9824"""


def is_desi_coadd(hdus: Sequence[Hdu]) -> bool:
    """True for files with the flux of one of DESI's arms."""
    return any(hdu.name in ("B_FLUX", "R_FLUX", "Z_FLUX") for hdu in hdus)


def read_desi_coadd(path: Path) -> Observation:
    """The targets of a DESI coadd file: arms b, r, z added by inverse variance on the one grid they share (7781 px).

    The arms' grids are stretches of 3600, 3600.8, … 9824 Å (vacuum, observed frame), so nothing is resampled. Pixels
    with any bit of the arm's quality mask set, or without inverse variance, are left out; where no arm says anything,
    flux and ivar are 0 and `good` is False. Fibres that looked at the sky or at nothing (OBJTYPE other than TGT) are
    left out; a target whose fibre failed stays, with `present` False. object_id is the TARGETID.

    Scalars: redshift, its error and ZWARN bits from the `redrock-*.fits` beside a `coadd-*.fits` (NaN if there is
    none), and the Legacy Survey photometry of the FIBERMAP (nanomaggies; NaN where not measured).

    Raises CorruptFile, MissingModality (no target in the file), ShapeMismatch (another wavelength grid).
    Format: DESI data model, files `coadd-*.fits` and `redrock-*.fits`.
    """
    hdus = {hdu.name: hdu for hdu in load_hdus(path, skip="_RESOLUTION")}
    fibermap = _table(hdus, "FIBERMAP", path, want=("TARGETID", "TARGET_RA", "TARGET_DEC", "OBJTYPE"))
    target = np.char.strip(np.asarray(fibermap["OBJTYPE"]).astype(np.str_)) == "TGT"
    if not target.any():
        raise MissingModality(
            f"{path} has no targets", saw=f"{len(target)} fibres on sky or on nothing", want="a target"
        )
    coadd = _add_arms(hdus, path, len(target))
    seen = Observation.of(
        np.asarray(fibermap["TARGETID"]).astype(np.int64).tolist(),
        to_float(fibermap["TARGET_RA"]),
        to_float(fibermap["TARGET_DEC"]),
        spectrum=coadd,
        scalars=_catalogue(fibermap, path),
    )
    return seen.take(target)


def _add_arms(hdus: dict[str, Hdu], path: Path, n: int) -> Spectrum:
    total, weight = (np.zeros((n, len(DESI_WAVELENGTH_AA))) for _ in range(2))
    for arm in (arm for arm in "BRZ" if f"{arm}_FLUX" in hdus):
        wave = np.asarray(_named(hdus, f"{arm}_WAVELENGTH", path).data, dtype=np.float64)
        flux, ivar = (to_float(_named(hdus, f"{arm}_{what}", path).data) for what in ("FLUX", "IVAR"))
        start = round((wave[0] - DESI_WAVELENGTH_AA[0]) / 0.8)
        here = slice(start, start + len(wave))
        shared = DESI_WAVELENGTH_AA[max(start, 0) : start + len(wave)]
        if wave.shape != shared.shape or abs(wave - shared).max() > 0.01:
            raise ShapeMismatch(f"{path}: arm {arm}", saw=f"{wave[0]} … {wave[-1]} Å", want="3600 + 0.8 k, k < 7781")
        if flux.shape != (n, len(wave)) or ivar.shape != flux.shape:
            raise ShapeMismatch(f"{path}: arm {arm}", saw=f"flux {flux.shape}, ivar {ivar.shape}", want=(n, len(wave)))
        usable = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)
        if f"{arm}_MASK" in hdus:
            usable &= np.asarray(hdus[f"{arm}_MASK"].data) == 0
        total[:, here] += np.where(usable, flux * ivar, 0)
        weight[:, here] += np.where(usable, ivar, 0)
    good = weight > 0
    return Spectrum(
        flux=np.divide(total, weight, out=np.zeros_like(total), where=good).astype(np.float32),
        wavelength_aa=np.tile(DESI_WAVELENGTH_AA, (n, 1)),
        survey="desi",
        ivar=weight.astype(np.float32),
        good=good,
        present=weight.max(axis=1) > 0,
    )


def _catalogue(fibermap: Any, path: Path) -> Scalars:
    """Redshifts by Redrock, where its file lies beside, and what the FIBERMAP knows of each target."""
    n, columns = len(fibermap), {}
    redrock = path.with_name(path.name.replace("coadd-", "redrock-", 1))
    names = {"redshift": "Z", "redshift_err": "ZERR", "redshift_warning": "ZWARN"}
    columns.update({name: np.full(n, np.nan) for name in names})
    if redrock != path and redrock.exists():
        hdus = {hdu.name: hdu for hdu in load_hdus(redrock, only=("REDSHIFTS",))}
        fitted = _table(hdus, "REDSHIFTS", redrock, want=("TARGETID", *names.values()))
        row = {int(target): i for i, target in enumerate(fitted["TARGETID"])}
        known = np.array([int(target) in row for target in fibermap["TARGETID"]], dtype=bool)
        at = [row[int(target)] for target in np.asarray(fibermap["TARGETID"])[known]]
        for name, column in names.items():
            columns[name][known] = to_float(fitted[column])[at]
    for band in "GRZ":
        if f"FLUX_{band}" in fibermap.dtype.names and f"FLUX_IVAR_{band}" in fibermap.dtype.names:
            measured = to_float(fibermap[f"FLUX_IVAR_{band}"]) > 0
            columns[f"flux_{band.lower()}"] = np.where(measured, to_float(fibermap[f"FLUX_{band}"]), np.nan)
    units = tuple("nmgy" if name.startswith("flux") else "" for name in columns)
    return Scalars(values=np.stack(list(columns.values()), axis=1), names=tuple(columns), units=units)


def _named(hdus: dict[str, Hdu], name: str, path: Path) -> Hdu:
    if name not in hdus or hdus[name].data is None:
        raise CorruptFile(str(path), saw=tuple(hdus), want=name, hint="fetch the file again")
    return hdus[name]


def _table(hdus: dict[str, Hdu], name: str, path: Path, want: tuple[str, ...]) -> Any:
    rows = _named(hdus, name, path).data
    there = rows.dtype.names or ()
    if not set(want) <= set(there):
        raise CorruptFile(f"{path}, {name}", saw=tuple(there), want=want)
    return rows
