"""Proper motion: where an object was, or will be, in another year."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float

from omnisky.errors import BadValue, MissingModality, ObservationError
from omnisky.observe.loader import Source, blocks
from omnisky.observe.types import Labels, Observation, Scalars

_RADIANS_PER_MAS = np.pi / 180 / 3600e3
_EAST, _NORTH, _EPOCH = ("pm_ra_cosdec", "pmra"), ("pm_dec", "pmdec"), ("epoch_yr", "ref_epoch")
COLUMNS = (*_EAST, *_NORTH, *_EPOCH)
"""what columns of proper motion, and of the epoch that belongs to them, may be called, in small letters"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Motion:
    """Proper motions, and the epoch of the positions they belong to. NaN: not known, the object stays where it was."""

    pm_ra_cosdec: Float[np.ndarray, " object"]
    """mas/yr towards the east on the sky, that is with the factor cos(dec), as Gaia's pmra"""
    pm_dec: Float[np.ndarray, " object"]
    """mas/yr towards the north"""
    epoch_yr: Float[np.ndarray, " object"]
    """Julian year of the position, e.g. 2016.0 (Gaia DR3)"""

    @classmethod
    def of(cls, source: Source, *, epoch_yr: float | None = None) -> Self:
        """From columns called as in Gaia (pmra, pmdec, ref_epoch) or as the fields here, of any Scalars or Labels.

        `epoch_yr` is for catalogues that have no column of it. Raises MissingModality where a column is missing or
        never measured, ObservationError for another unit.
        """
        held = [_motion(seen, epoch_yr) for seen in blocks(source)]
        east, north, epoch = (np.concatenate(column) for column in zip(*held, strict=True))
        if len(east) and not np.isfinite(east + north + epoch).any():
            raise MissingModality("no object has a proper motion", saw="NaN in every row", want="mas/yr and an epoch")
        return cls(pm_ra_cosdec=east, pm_dec=north, epoch_yr=epoch)

    @classmethod
    def told_by(cls, source: Source) -> Motion | None:
        """The same; None where the source has no column of proper motion at all."""
        return cls.of(source) if _found(next(blocks(source)), (*_EAST, *_NORTH)) else None

    @classmethod
    def piece(cls, seen: Observation) -> Motion | None:
        """The same of a piece of a catalogue, of which no object may have a motion that is known."""
        if not _found(seen, (*_EAST, *_NORTH)):
            return None
        east, north, epoch = _motion(seen, None)
        return cls(pm_ra_cosdec=east, pm_dec=north, epoch_yr=epoch)


def moved(seen: Observation, motion: Motion, to_yr: float) -> Observation:
    """The same objects, without their parts, where they were or will be at Julian year `to_yr`.

    Straight lines in space at constant speed; exact on the sphere, also at the poles (Hipparcos catalogue, ESA SP-1200,
    vol. 1, §1.5.5, eq. 1.5.22 without radial velocity). Objects without proper motion or epoch stay.
    """
    if not np.isfinite(to_yr) or not 1000 < to_yr < 4000:
        raise BadValue("epoch", saw=to_yr, want="a Julian year such as 2016.0", hint="MJD 57388.5 is 2016.0")
    if len(motion.epoch_yr) != len(seen):
        raise ObservationError(
            "motions of other objects", saw=len(motion.epoch_yr), want=f"{len(seen)}, one per object"
        )
    years = to_yr - motion.epoch_yr
    known = np.isfinite(years) & np.isfinite(motion.pm_ra_cosdec) & np.isfinite(motion.pm_dec)
    known &= np.isfinite(seen.ra) & np.isfinite(seen.dec)
    ra, dec = np.radians(seen.ra[known]), np.radians(seen.dec[known])
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=1)
    step = (motion.pm_ra_cosdec[known, None] * east + motion.pm_dec[known, None] * north) * _RADIANS_PER_MAS
    x, y, z = (unit_vectors(seen.ra[known], seen.dec[known]) + step * years[known, None]).T
    new_ra, new_dec = (np.array(one, dtype=np.float64) for one in (seen.ra, seen.dec))
    new_ra[known] = np.degrees(np.arctan2(y, x)) % 360
    new_ra[new_ra == 360] = 0  # what a hair below 0 becomes
    new_dec[known] = np.degrees(np.arctan2(z, np.hypot(x, y)))
    return Observation(seen.object_id, new_ra, new_dec)  # the columns tell of the old epoch: who kept them moved twice


def unit_vectors(ra: Float[np.ndarray, " n"], dec: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    """Towards right ascension and declination in degrees."""
    ra, dec = (np.asarray(one, dtype=np.float64) for one in (ra, dec))  # float32 is good to 0.1 arcsec, and stays so
    ra, dec = np.radians(ra % 360), np.radians(dec)  # 360 and 0 to the same bits
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def _motion(seen: Observation, epoch_yr: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _column(seen, _EAST, "mas/yr"), _column(seen, _NORTH, "mas/yr"), _epoch(seen, epoch_yr)


def _epoch(seen: Observation, told: float | None) -> Float[np.ndarray, " object"]:
    if told is not None:
        return np.full(len(seen), float(told))
    try:
        return _column(seen, _EPOCH, "yr")
    except MissingModality as error:
        hint = "Motion.of(…, epoch_yr=2016.0), where the catalogue's paper says it (2016.0: Gaia DR3)"
        raise MissingModality("no epoch of the positions", saw=error.saw, want=error.want, hint=hint) from error


def _found(seen: Observation, names: tuple[str, ...]) -> tuple[np.ndarray, str] | None:
    """The first column of one of these names, and its unit. A year such as 2016 is a whole number, and so a Label."""
    for part in seen.parts.values():
        if not isinstance(part, Scalars | Labels):
            continue
        for i, name in enumerate(_names(part)):
            if name.lower() in names:
                unit = part.units[i] if isinstance(part, Scalars) and part.units else ""
                return np.where(part.there(), part[name].astype(np.float64), np.nan), unit
    return None


def _names(part: Scalars | Labels) -> tuple[str, ...]:
    """Of the columns of numbers."""
    if isinstance(part, Scalars):
        return part.names
    return tuple(name for name, values in part.columns.items() if values.dtype.kind in "iu")


def _column(seen: Observation, names: tuple[str, ...], unit: str) -> Float[np.ndarray, " object"]:
    """A column by one of its names, in `unit`."""
    from astropy import units

    found = _found(seen, names)
    if found is None:
        held = [name for part in seen.parts.values() if isinstance(part, Scalars | Labels) for name in _names(part)]
        raise MissingModality("no such column", saw=tuple(held), want=" or ".join(names))
    values, told = found
    try:
        return values * (units.Unit(told).to(unit) if told else 1.0)
    except (ValueError, TypeError) as error:  # astropy's UnitConversionError is a TypeError
        raise ObservationError(f"column {names[-1]}", saw=f"unit {told!r}", want=unit) from error
