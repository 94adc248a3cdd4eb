"""Proper motion: where an object was, or will be, in another year."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float

from omnisky.errors import BadValue, MissingModality, ObservationError
from omnisky.observe.types import Observation, Scalars

_RADIANS_PER_MAS = np.pi / 180 / 3600e3


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
    def of(cls, seen: Observation) -> Self:
        """From the columns of any Scalars called as in Gaia (pmra, pmdec, ref_epoch) or as the fields here.

        Raises MissingModality where a column is missing or never measured, ObservationError for another unit.
        """
        east = _column(seen, ("pm_ra_cosdec", "pmra"), "mas/yr")
        north = _column(seen, ("pm_dec", "pmdec"), "mas/yr")
        epoch = _column(seen, ("epoch_yr", "ref_epoch"), "yr")
        if not (np.isfinite(east) & np.isfinite(north) & np.isfinite(epoch)).any() and len(seen):
            raise MissingModality("no object has a proper motion", saw="NaN in every row", want="mas/yr and an epoch")
        return cls(pm_ra_cosdec=east, pm_dec=north, epoch_yr=epoch)


def moved(seen: Observation, motion: Motion, to_yr: float) -> Observation:
    """The same objects where they were, or will be, at Julian year `to_yr`: straight lines in space, at constant speed.

    Exact on the sphere, also at the poles (Hipparcos catalogue, ESA SP-1200, vol. 1, §1.5.5, eq. 1.5.22 without
    radial velocity). Objects without proper motion or epoch stay.
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
    new_ra, new_dec = seen.ra.copy(), seen.dec.copy()
    new_ra[known] = np.degrees(np.arctan2(y, x)) % 360
    new_dec[known] = np.degrees(np.arctan2(z, np.hypot(x, y)))
    return Observation(seen.object_id, new_ra, new_dec, seen.parts)


def unit_vectors(ra: Float[np.ndarray, " n"], dec: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    """Towards right ascension and declination in degrees."""
    ra, dec = np.radians(ra % 360), np.radians(dec)  # 360 and 0 to the same bits
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def _column(seen: Observation, names: tuple[str, ...], unit: str) -> Float[np.ndarray, " object"]:
    """A column of any Scalars by one of its names, in `unit`."""
    from astropy import units

    tables = [part for part in seen.parts.values() if isinstance(part, Scalars)]
    for table in tables:
        for i, name in enumerate(table.names):
            if name.lower() not in names:
                continue
            told = table.units[i] if table.units else ""
            try:
                factor = units.Unit(told).to(unit) if told else 1.0
            except (ValueError, TypeError) as error:  # astropy's UnitConversionError is a TypeError
                raise ObservationError(f"column {name}", saw=f"unit {told!r}", want=unit) from error
            return np.where(table.there(), table.values[:, i].astype(np.float64) * factor, np.nan)
    held = tuple(name for table in tables for name in table.names)
    raise MissingModality("no such column", saw=held, want=" or ".join(names))
