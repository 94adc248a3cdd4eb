"""The other sources in a cut-out: how many of what brightness, colour and size, and where."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float, Integer

from omnisky.observe.mock.chances import Use, generator
from omnisky.observe.mock.light import Light, fluxes, lit
from omnisky.observe.mock.population import Population

FAINTEST_R_MAG = 25.0
_BOX_ARCSEC = 66.0  # a little more than the widest cut-out, 160 px of SDSS
_BRIGHTEST = 17.0
# Galaxies brighter than r per square degree: 10^(0.40 r − 5.2), 630 to r = 20 and 25,000 to r = 24; stars at high
# galactic latitude: 10^(0.14 r + 0.35), 1,400 to r = 20. Round numbers, within 0.1 dex of Metcalfe et al. 2001
# (MNRAS 323, 795) and of Robin et al. 2003 (A&A 409, 523).
_GALAXIES, _STARS = (0.40, -5.2), (0.14, 0.35)
_SQUARE_DEGREES = (_BOX_ARCSEC / 3600) ** 2
_COLOURS = 64  # of each kind: faint galaxies, bright ones, stars
_BRIGHT = 21.0


@dataclass(frozen=True, eq=False)
class Sources:
    """Sources about one object; positions from it in the plane of the sky."""

    east_arcsec: Float[np.ndarray, " source"]
    north_arcsec: Float[np.ndarray, " source"]
    r_mag: Float[np.ndarray, " source"]
    is_star: Bool[np.ndarray, " source"]
    colour: Integer[np.ndarray, " source"]
    """row of `palette`"""
    half_light_arcsec: Float[np.ndarray, " source"]
    """along the major axis; 0 for stars"""
    axis_ratio: Float[np.ndarray, " source"]
    position_angle_deg: Float[np.ndarray, " source"]
    sersic: Float[np.ndarray, " source"]

    def __len__(self) -> int:
        return len(self.r_mag)

    def take(self, rows: Any) -> Self:
        """The chosen sources."""
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))

    def flux(self, survey: str) -> Float[np.ndarray, "source band"]:
        """Nanomaggies in the bands of a survey."""
        return palette(survey)[self.colour] * 10 ** (-0.4 * (self.r_mag[:, None] - 22.5))


def about(index: int, seed: int) -> Sources:
    """The sources about one object, nearest first. None lies within 1.5″ of it."""
    lots = generator(seed, index, Use.NEIGHBOURS)
    number = [lots.poisson(10 ** (a * FAINTEST_R_MAG + b) * _SQUARE_DEGREES) for a, b in (_GALAXIES, _STARS)]
    star = np.repeat([False, True], number)
    n = len(star)
    slope = np.where(star, _STARS[0], _GALAXIES[0])
    # The counts turned round: how bright is the one at this share of all that are brighter?
    share = lots.uniform(size=n)
    mag = FAINTEST_R_MAG + np.log10(share + (1 - share) * 10 ** (slope * (_BRIGHTEST - FAINTEST_R_MAG))) / slope
    where = lots.uniform(-_BOX_ARCSEC / 2, _BOX_ARCSEC / 2, (2, n))
    late = lots.uniform(size=n) < 0.8
    size = 10 ** (-0.10 - 0.105 * (mag - 21) + lots.normal(0, 0.18, n)) * np.where(late, 1.0, 0.7)
    sources = Sources(
        east_arcsec=where[0],
        north_arcsec=where[1],
        r_mag=mag,
        is_star=star,
        colour=lots.integers(0, _COLOURS, n) + _COLOURS * np.select([star, mag < _BRIGHT], [2, 1], 0),
        half_light_arcsec=np.where(star, 0.0, np.clip(size, 0.1, 4.0)),
        axis_ratio=np.where(star, 1.0, np.clip(lots.normal(0.65, 0.2, n), 0.2, 1.0)),
        position_angle_deg=lots.uniform(0, 180, n),
        sersic=np.where(late, 1.0, 4.0),
    )
    distance = np.hypot(*where)
    order = np.argsort(distance, kind="stable")
    return sources.take(order[distance[order] > 1.5])


@cache
def palette(survey: str) -> Float[np.ndarray, "colour band"]:
    """Fluxes of 64 faint galaxies, 64 bright ones and 64 stars, in units of that in Legacy Survey r."""
    reference = np.array([one.band("legacysurvey", "r").sum() for one in _examples()])
    return fluxes(_examples(), survey) / reference[:, None]


@cache
def _examples() -> tuple[Light, ...]:
    kinds = (
        Population(seed=1, faintest_r_mag=23.5, stars=0.0),
        Population(seed=2, faintest_r_mag=20.0, stars=0.0),
        Population(seed=3, faintest_r_mag=23.5, stars=1.0),
    )
    return tuple(one for kind in kinds for one in lit(kind.truth(np.arange(_COLOURS)), kind.seed))
