"""Where things are: cells of sky, and splits that do not leak."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from jaxtyping import Bool, Integer

from omnisky.errors import BadValue
from omnisky.observe.types import Observation

SPLIT_DEPTH = 6
"""HEALPix order of the cells that are held out together: 0.9° across, wider than any cut-out"""


def cells(seen: Observation, depth: int = SPLIT_DEPTH) -> Integer[np.ndarray, " object"]:
    """The HEALPix cell (nested, order `depth`) of each object; −1 where the position is not known."""
    from astropy import units as u
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import lonlat_to_healpix

    known = np.isfinite(seen.ra) & np.isfinite(seen.dec)
    found = np.full(len(seen), -1, dtype=np.int64)
    if known.any():
        lon, lat = Longitude(seen.ra[known] * u.deg), Latitude(seen.dec[known] * u.deg)
        found[known] = lonlat_to_healpix(lon, lat, depth).astype(np.int64)
    return found


def held_out(seen: Observation, fraction: float, salt: str = "v1") -> Bool[np.ndarray, " object"]:
    """True for the objects kept away from training: whole cells of sky, or single objects where the sky is not known.

    Depends on each object's own cell (or id) and on `salt` alone, so new data moves nobody from one side to the other.
    """
    if not 0 <= fraction <= 1:
        raise BadValue("fraction", saw=fraction, want="0 … 1")
    keys = [
        f"{salt}/{'cell' if cell >= 0 else 'id'}/{cell if cell >= 0 else name}"
        for cell, name in zip(cells(seen).tolist(), seen.object_id.tolist(), strict=True)
    ]
    lots = [int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64 for key in keys]
    return np.asarray(lots) < fraction
