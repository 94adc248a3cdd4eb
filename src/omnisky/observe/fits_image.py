"""A user's FITS images → one Observation of one object, in nanomaggies.

    one unit, (height, width) or (band, height, width)      cut-out servers, mosaics
    one unit a band, each naming its band                   multi-extension files
    an inverse variance, variance or error after each       Legacy Survey `&invvar`, HSC and Rubin cut-outs

Masks in the file are left alone: HSC's and Rubin's set bits on every detected source, Legacy Survey's on every star
nearby, and no file says which of its bits make a pixel useless.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from omnisky.errors import BandMismatch, CorruptFile, MissingModality, ObservationError
from omnisky.observe.fits_file import Hdu, cards, load_hdus, stem
from omnisky.observe.types import Image, Observation

_AB_ZERO_POINT_JY = 3631.0
_KEYS = (
    "SURVEY",
    "BANDS",
    "BAND",
    "FILTER",
    "BUNIT",
    "FLUXMAG0",
    "IMAGETYP",
    "EXTTYPE",
    *(f"BAND{i}" for i in range(10)),
)
# What a plane beside the image says of it, by the usual names; each with the power of σ that it is.
_POWER = {"INVVAR": -2, "IVAR": -2, "VARIANCE": 2, "VAR": 2, "STAT": 2, "ERR": 1, "ERROR": 1, "SIGMA": 1, "UNCERT": 1}
_NO_IMAGE = ("MASK", "MASKBITS", "DQ", "FLAGS", "PSF", "WEIGHT", "WHT", "CHISQ", "NEXP", "MODEL", "RESID")


@dataclass(frozen=True)
class Place:
    """Where the middle of an image looks, and how coarse its pixels are; NaN where the file does not say."""

    ra: float
    """deg, ICRS"""
    dec: float
    """deg, ICRS"""
    pixel_scale_arcsec: float


@dataclass(frozen=True)
class _Planes:
    """One unit of pixels, and the one that says how sure they are."""

    flux: Hdu
    spread: Hdu | None = None


def read_image(
    path: Path, *, bands: tuple[str, ...] | None = None, zero_point_mag: float | None = None, survey: str = ""
) -> Observation:
    """One object: the image of a FITS file, see above; where units are of several sizes, the first of them.

    Bands come from `bands`, else from the headers (BANDS; BAND0, BAND1 …; FILTER or BAND of a single plane). The flux
    scale comes from `zero_point_mag` (the AB magnitude of one count), else from FLUXMAG0 (counts at magnitude 0), else
    from BUNIT where that is a flux density or maggies; Legacy Survey cut-outs carry no BUNIT and are nanomaggies.
    Pixels that are NaN stay NaN, `good` is False there and where the inverse variance is 0. The position (deg, ICRS) is
    that of the middle of the image, NaN without a celestial WCS.

    Raises CorruptFile, MissingModality (no image), BandMismatch, ObservationError (unknown flux scale).
    """
    hdus = load_hdus(path)
    units = _units(path, hdus)
    said = [cards(path, (hdus[0], one.flux), _KEYS) for one in units]
    planes = [np.asarray(one.flux.data, dtype=np.float32).reshape(-1, *one.flux.shape[-2:]) for one in units]
    told = [name for one, its in zip(said, planes, strict=True) for name in _bands(one, len(its))]
    bands, count = bands or tuple(told), sum(map(len, planes))
    if len(bands) != count:
        raise BandMismatch(
            str(path),
            saw=f"{count} planes, bands named: {' '.join(bands) or 'none'}",
            want="one name per plane",
            hint='omnisky.observe.fits_image.read_image(path, bands=("g", "r", "z"))',
        )
    if not survey and said[0].get("SURVEY") == "LegacySurvey":
        survey = "legacysurvey"
    scales = [_nanomaggies_per_count(path, one, zero_point_mag, survey) for one in said]
    flux = np.concatenate([its * np.float32(scale) for its, scale in zip(planes, scales, strict=True)])[None]
    ivar = _ivar(path, units, scales)
    place = place_of(path, units[0].flux)
    good = np.isfinite(flux) if ivar is None else np.isfinite(flux) & (ivar > 0)
    image = Image(
        flux=flux, bands=bands, survey=survey, pixel_scale_arcsec=place.pixel_scale_arcsec, ivar=ivar, good=good
    )
    return Observation.of([stem(path)], [place.ra], [place.dec], image=image)


def _units(path: Path, hdus: Sequence[Hdu]) -> list[_Planes]:
    """The images of the file: all that name their one band and are of one size, or else the first."""
    found: list[_Planes] = []
    for hdu in hdus:
        role = _role(path, hdu)
        if not hdu.is_image or role in _NO_IMAGE:
            continue
        if role not in _POWER:
            found.append(_Planes(hdu))
        elif found and found[-1].spread is None and hdu.shape == found[-1].flux.shape:
            found[-1] = _Planes(found[-1].flux, hdu)
    if not found:
        raise MissingModality(
            f"{path} holds no image", saw=tuple(hdu.name for hdu in hdus), want="2 or 3 axes of pixels"
        )
    named = [_bands(cards(path, (one.flux,), _KEYS), 1) for one in found]
    alike = {one.flux.shape for one in found} == {found[0].flux.shape[-2:]}
    return found if alike and all(named) and len(set(named)) == len(named) else found[:1]


def _role(path: Path, hdu: Hdu) -> str:
    """What a unit says it holds; a Legacy Survey cut-out by IMAGETYP, HSC's and Rubin's by EXTTYPE, others by name."""
    said = cards(path, (hdu,), ("EXTTYPE", "IMAGETYP"))
    return str(said.get("IMAGETYP") or said.get("EXTTYPE") or hdu.name).strip().upper()


def _ivar(path: Path, units: Sequence[_Planes], scales: Sequence[float]) -> Float[np.ndarray, "1 b h w"] | None:
    """1/nanomaggy², 0 where the file's is no positive number; None unless all planes have one."""
    made = []
    for one, scale in zip(units, scales, strict=True):
        if one.spread is None:
            return None
        spread = np.asarray(one.spread.data, dtype=np.float64).reshape(-1, *one.flux.shape[-2:])
        known = np.isfinite(spread) & (spread > 0)
        power = -2 / _POWER[_role(path, one.spread)]
        made.append(np.power(spread, power, out=np.zeros(spread.shape), where=known) / scale**2)
    return np.concatenate(made).astype(np.float32)[None]


def _bands(header: dict[str, Any], n: int) -> tuple[str, ...]:
    """Names of n planes by the header; empty where it does not say."""
    told = str(header.get("BANDS", "")).strip()
    if told:
        return tuple(told.replace(",", " ").split()) if "," in told or " " in told else tuple(told)
    if "BAND0" in header:
        return tuple(str(header[key]) for key in (f"BAND{i}" for i in range(n)) if key in header)
    one = next((str(header[key]).strip() for key in ("BAND", "FILTER") if str(header.get(key, "")).strip()), "")
    return (one,) if n == 1 and one else ()


def _nanomaggies_per_count(path: Path, header: dict[str, Any], zero_point_mag: float | None, survey: str) -> float:
    from astropy import units

    if zero_point_mag is not None:
        return float(10 ** (0.4 * (22.5 - zero_point_mag)))
    at_zero = header.get("FLUXMAG0")
    if isinstance(at_zero, int | float) and at_zero > 0:
        return 1e9 / at_zero
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
            hint="omnisky.observe.fits_image.read_image(path, zero_point_mag=…), the AB magnitude of one count",
        ) from None


def place_of(path: Path, hdu: Hdu) -> Place:
    """By the celestial part of the WCS. Raises CorruptFile."""
    from astropy.io.fits import VerifyError
    from astropy.wcs import WCS, FITSFixedWarning
    from astropy.wcs.utils import proj_plane_pixel_scales

    height, width = hdu.shape[-2:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)  # old date cards, repaired by astropy
            wcs = WCS(hdu.header)
        if not wcs.has_celestial:
            return Place(np.nan, np.nan, np.nan)
        middle = wcs.celestial.pixel_to_world((width - 1) / 2, (height - 1) / 2).icrs
        return Place(middle.ra.deg, middle.dec.deg, 3600 * float(np.mean(proj_plane_pixel_scales(wcs.celestial))))
    except (VerifyError, ValueError, TypeError, AttributeError) as error:  # astropy.wcs.WcsError is a ValueError
        raise CorruptFile(f"{path}, sky coordinates", saw=error, want="a WCS by the FITS standard, or none") from error
