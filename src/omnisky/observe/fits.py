"""A user's own FITS images and DESI's coadded spectra, as Observations. Astropy is imported when a file is opened."""

from __future__ import annotations

import gzip
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO, IOBase
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from omnisky.errors import BandMismatch, CorruptFile, MissingModality, ObservationError, ShapeMismatch
from omnisky.observe.types import Image, Observation, Scalars, Spectrum

DESI_WAVELENGTH_AA = 3600.0 + 0.8 * np.arange(7781)
"""Å, vacuum: the grid that DESI's three arms share, 3600 to 9824"""

SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.fz")
_AB_ZERO_POINT_JY = 3631.0


def read_fits(path: Path) -> Observation:
    """A DESI coadd if the file has DESI's arms, otherwise an image. Raises what the two readers raise."""
    names = {hdu.name for hdu in _load(path, only=())}
    return read_desi_coadd(path) if names & {"B_FLUX", "R_FLUX", "Z_FLUX"} else read_image(path)


# --- images -------------------------------------------------------------------------------------------------------


def read_image(
    path: Path, *, bands: tuple[str, ...] | None = None, zero_point_mag: float | None = None, survey: str = ""
) -> Observation:
    """One object: the first image of a FITS file, (height, width) or (band, height, width), in nanomaggies.

    Bands come from `bands`, else from the header (BANDS; BAND0, BAND1 …; FILTER for a single plane). The flux scale
    comes from `zero_point_mag` (the AB magnitude of one count), else from BUNIT where that is a flux density or
    maggies; Legacy Survey cut-outs carry no BUNIT and are nanomaggies. Pixels that are NaN stay NaN, `good` is False
    there. The position (deg, ICRS) is that of the middle of the image, NaN without a celestial WCS.

    Raises CorruptFile, MissingModality (no image), BandMismatch, ObservationError (unknown flux scale).
    """
    hdus = _load(path)
    found = next((hdu for hdu in hdus if hdu.is_image), None)
    if found is None:
        raise MissingModality(
            f"{path} holds no image", saw=tuple(hdu.name for hdu in hdus), want="2 or 3 axes of pixels"
        )
    # Cut-out servers put the keywords on the primary header also where the pixels are in an extension.
    header = _cards(path, hdus[0]) | _cards(path, found)
    planes = np.asarray(found.data, dtype=np.float32).reshape(-1, *found.data.shape[-2:])
    bands = bands or _bands(header, len(planes))
    if len(bands) != len(planes):
        raise BandMismatch(
            str(path),
            saw=f"{len(planes)} planes, bands named: {' '.join(bands) or 'none'}",
            want="one name per plane",
            hint='omnisky.observe.fits.read_image(path, bands=("g", "r", "z"))',
        )
    if not survey and header.get("SURVEY") == "LegacySurvey":
        survey = "legacysurvey"
    flux = (planes * np.float32(_nanomaggies_per_count(path, header, zero_point_mag, survey)))[None]
    place = _place(path, found)
    image = Image(
        flux=flux,
        bands=tuple(bands),
        survey=survey,
        pixel_scale_arcsec=place.pixel_scale_arcsec,
        good=np.isfinite(flux),
    )
    return Observation.of([path.name.split(".fit")[0]], [place.ra], [place.dec], image=image)


def _bands(header: dict[str, Any], n: int) -> tuple[str, ...]:
    """Names of n planes by the header; empty where it does not say."""
    told = str(header.get("BANDS", ""))
    if told:
        return tuple(told.replace(",", " ").split()) if "," in told or " " in told.strip() else tuple(told.strip())
    if "BAND0" in header:
        return tuple(str(header[key]) for key in (f"BAND{i}" for i in range(n)) if key in header)
    return (str(header["FILTER"]).strip(),) if n == 1 and header.get("FILTER") else ()


def _nanomaggies_per_count(path: Path, header: dict[str, Any], zero_point_mag: float | None, survey: str) -> float:
    from astropy import units

    if zero_point_mag is not None:
        return float(10 ** (0.4 * (22.5 - zero_point_mag)))
    told = str(header.get("BUNIT", "")).strip()
    if not told and survey == "legacysurvey":
        return 1.0
    try:
        unit = units.Unit(told.lower().replace("nanomaggies", "nanomaggy") if "maggi" in told.lower() else told)
        return float(unit.to(units.nmgy, equivalencies=units.zero_point_flux(_AB_ZERO_POINT_JY * units.Jy)))
    except (ValueError, TypeError):  # astropy's UnitConversionError is a TypeError
        raise ObservationError(
            f"{path}: flux scale not known",
            saw=f"BUNIT = {told!r}",
            want="nanomaggies or a flux density",
            hint="omnisky.observe.fits.read_image(path, zero_point_mag=…), the AB magnitude of one count",
        ) from None


def _place(path: Path, hdu: _Hdu) -> _Place:
    """Where the middle of the image looks, and how coarse its pixels are."""
    from astropy.io.fits import VerifyError
    from astropy.wcs import WCS, FITSFixedWarning
    from astropy.wcs.utils import proj_plane_pixel_scales

    height, width = hdu.data.shape[-2:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)  # old date cards, repaired by astropy
            wcs = WCS(hdu.header)
        if not wcs.has_celestial:
            return _Place(np.nan, np.nan, np.nan)
        middle = wcs.celestial.pixel_to_world((width - 1) / 2, (height - 1) / 2).icrs
        return _Place(middle.ra.deg, middle.dec.deg, 3600 * float(np.mean(proj_plane_pixel_scales(wcs.celestial))))
    except (VerifyError, ValueError, TypeError, AttributeError) as error:  # astropy.wcs.WcsError is a ValueError
        raise CorruptFile(f"{path}, sky coordinates", saw=error, want="a WCS by the FITS standard, or none") from error


# --- DESI ---------------------------------------------------------------------------------------------------------


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
    hdus = {hdu.name: hdu for hdu in _load(path, skip="_RESOLUTION")}
    fibermap = _table(hdus, "FIBERMAP", path, want=("TARGETID", "TARGET_RA", "TARGET_DEC", "OBJTYPE"))
    target = np.char.strip(np.asarray(fibermap["OBJTYPE"]).astype(np.str_)) == "TGT"
    if not target.any():
        raise MissingModality(
            f"{path} has no targets", saw=f"{len(target)} fibres on sky or on nothing", want="a target"
        )
    coadd = _add_arms(hdus, path, len(target))
    seen = Observation.of(
        np.asarray(fibermap["TARGETID"]).astype(np.int64).tolist(),
        _native(fibermap["TARGET_RA"]),
        _native(fibermap["TARGET_DEC"]),
        spectrum=coadd,
        scalars=_catalogue(fibermap, path),
    )
    return seen.take(target)


def _add_arms(hdus: dict[str, _Hdu], path: Path, n: int) -> Spectrum:
    total, weight = (np.zeros((n, len(DESI_WAVELENGTH_AA))) for _ in range(2))
    for arm in (arm for arm in "BRZ" if f"{arm}_FLUX" in hdus):
        wave = np.asarray(_named(hdus, f"{arm}_WAVELENGTH", path).data, dtype=np.float64)
        flux, ivar = (_native(_named(hdus, f"{arm}_{what}", path).data) for what in ("FLUX", "IVAR"))
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
        hdus = {hdu.name: hdu for hdu in _load(redrock, only=("REDSHIFTS",))}
        fitted = _table(hdus, "REDSHIFTS", redrock, want=("TARGETID", *names.values()))
        row = {int(target): i for i, target in enumerate(fitted["TARGETID"])}
        known = np.array([int(target) in row for target in fibermap["TARGETID"]], dtype=bool)
        at = [row[int(target)] for target in np.asarray(fibermap["TARGETID"])[known]]
        for name, column in names.items():
            columns[name][known] = _native(fitted[column])[at]
    for band in "GRZ":
        if f"FLUX_{band}" in fibermap.dtype.names and f"FLUX_IVAR_{band}" in fibermap.dtype.names:
            measured = _native(fibermap[f"FLUX_IVAR_{band}"]) > 0
            columns[f"flux_{band.lower()}"] = np.where(measured, _native(fibermap[f"FLUX_{band}"]), np.nan)
    units = tuple("nmgy" if name.startswith("flux") else "" for name in columns)
    return Scalars(values=np.stack(list(columns.values()), axis=1), names=tuple(columns), units=units)


# --- files --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    ra: float
    """deg, ICRS"""
    dec: float
    """deg, ICRS"""
    pixel_scale_arcsec: float


@dataclass(frozen=True)
class _Hdu:
    """What we need of one unit of a FITS file, out of reach of the open file."""

    name: str
    header: Any
    data: Any

    @property
    def is_image(self) -> bool:
        shape = np.shape(self.data)
        return self.data is not None and self.data.dtype.names is None and len(shape) in (2, 3) and min(shape) > 0


def _load(path: Path, *, only: Sequence[str] | None = None, skip: str = " ") -> list[_Hdu]:
    """All units of the file; the data of those in `only` (None: all) whose name does not end in `skip`."""
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
                    _Hdu(hdu.name, hdu.header, hdu.data if want and not hdu.name.endswith(skip) else None)
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


def _named(hdus: dict[str, _Hdu], name: str, path: Path) -> _Hdu:
    if name not in hdus or hdus[name].data is None:
        raise CorruptFile(str(path), saw=tuple(hdus), want=name, hint="fetch the file again")
    return hdus[name]


def _table(hdus: dict[str, _Hdu], name: str, path: Path, want: tuple[str, ...]) -> Any:
    rows = _named(hdus, name, path).data
    there = rows.dtype.names or ()
    if not set(want) <= set(there):
        raise CorruptFile(f"{path}, {name}", saw=tuple(there), want=want)
    return rows


def _cards(path: Path, hdu: _Hdu) -> dict[str, Any]:
    """The keywords that say what the pixels are. Only these are parsed: users' headers hold all sorts."""
    from astropy.io.fits import VerifyError

    keys = ("SURVEY", "BANDS", "FILTER", "BUNIT", *(f"BAND{i}" for i in range(10)))
    try:
        return {key: hdu.header[key] for key in keys if key in hdu.header}
    except VerifyError as error:
        raise CorruptFile(f"{path}, header", saw=error, want="cards by the FITS standard") from error


def _native(values: Any) -> Float[np.ndarray, ...]:
    """FITS is big-endian and of any number type: this machine's float64."""
    return np.asarray(values, dtype=np.float64)
