"""What is known of every mock object: one row each, the same whatever else is made in the same run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float, Integer

from omnisky.observe.types import Scalars

_UNITS = {"km_s": "km / s", "gyr": "Gyr", "k": "K"}
_UNITS |= {unit: unit for unit in ("mag", "arcsec", "kpc", "deg", "mas")}
_LOGARITHMS = {"log_mass": "dex(solMass)", "log_ssfr": "dex(yr-1)"}


@dataclass(frozen=True, eq=False)
class Truth:
    """Everything that was decided about objects before anything was observed. NaN where it has no meaning (stars).

    Lengths of galaxies are along the major axis. Masses are those of Chabrier's initial mass function, remnants
    included, gas given back left out. Light fractions and half-light radii are those in r, as observed.
    """

    index: Integer[np.ndarray, " object"]
    """the object's number: with the seed it decides everything else"""
    is_star: Bool[np.ndarray, " object"]
    redshift: Float[np.ndarray, " object"]
    """0 for stars"""
    r_mag: Float[np.ndarray, " object"]
    """AB, Legacy Survey r, total, without dust in the Milky Way: what the sample is cut on"""
    ebv_mag: Float[np.ndarray, " object"]
    """E(B−V) of the Milky Way in front of it"""
    log_mass: Float[np.ndarray, " object"]
    log_ssfr: Float[np.ndarray, " object"]
    """star formation rate over stellar mass, of the whole galaxy"""
    age_gyr: Float[np.ndarray, " object"]
    """mean age of the stars, weighted by mass formed"""
    log_metals: Float[np.ndarray, " object"]
    """log10 Z/Z☉ of the disc's stars, or of all where there is no disc"""
    dust_av_mag: Float[np.ndarray, " object"]
    """A(V) before the disc's older stars; bulge and young stars are behind less and more, see `population`"""
    velocity_dispersion_km_s: Float[np.ndarray, " object"]
    half_light_arcsec: Float[np.ndarray, " object"]
    half_light_kpc: Float[np.ndarray, " object"]
    axis_ratio: Float[np.ndarray, " object"]
    """of the disc, or of the spheroid where there is no disc"""
    position_angle_deg: Float[np.ndarray, " object"]
    """of the major axis, north through east, 0 … 180"""
    inclination_deg: Float[np.ndarray, " object"]
    """of the disc; 0 is face-on"""
    bulge_mass_fraction: Float[np.ndarray, " object"]
    """1 for a galaxy without disc"""
    bulge_fraction: Float[np.ndarray, " object"]
    """of the light in r"""
    bulge_sersic: Float[np.ndarray, " object"]
    disc_sersic: Float[np.ndarray, " object"]
    bulge_arcsec: Float[np.ndarray, " object"]
    """half-light radius of the bulge alone"""
    disc_arcsec: Float[np.ndarray, " object"]
    """half-light radius of the disc alone"""
    bulge_axis_ratio: Float[np.ndarray, " object"]
    bar_fraction: Float[np.ndarray, " object"]
    """of the disc's older light; 0 without bar"""
    bar_angle_deg: Float[np.ndarray, " object"]
    """in the plane of the disc, from its line of nodes"""
    arms: Float[np.ndarray, " object"]
    """how many spiral arms; 0 for none"""
    arm_pitch_deg: Float[np.ndarray, " object"]
    """positive where they open clockwise as seen, negative the other way round"""
    arm_strength: Float[np.ndarray, " object"]
    """0 … 1: what share of the young light is in arms (or, without arms, in clumps)"""
    is_irregular: Bool[np.ndarray, " object"]
    is_merger: Bool[np.ndarray, " object"]
    companion_fraction: Float[np.ndarray, " object"]
    """of the light in every band: the second nucleus of a merger; 0 without"""
    companion_arcsec: Float[np.ndarray, " object"]
    """how far away it is"""
    companion_angle_deg: Float[np.ndarray, " object"]
    """and in what direction, north through east"""
    is_edge_on: Bool[np.ndarray, " object"]
    """inclination above 80°"""
    star_template: Float[np.ndarray, " object"]
    """which of the stellar templates; NaN for galaxies"""
    teff_k: Float[np.ndarray, " object"]
    parallax_mas: Float[np.ndarray, " object"]
    """0 for galaxies"""

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: Any) -> Self:
        """The chosen rows."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def scalars(self) -> Scalars:
        """All columns but `index`; booleans are 0 and 1."""
        columns = fields(self)[1:]
        return Scalars(
            values=np.stack([getattr(self, f.name).astype(np.float64) for f in columns], axis=1),
            names=tuple(f.name for f in columns),
            units=tuple(_unit(f.name) for f in columns),
        )


def _unit(name: str) -> str:
    """What a column's name says of its unit, in astropy's spelling."""
    ending = next((ending for ending in _UNITS if name.endswith(f"_{ending}")), "")
    return _LOGARITHMS.get(name, _UNITS.get(ending, ""))


def joined(parts: list[Truth]) -> Truth:
    """One after the other."""
    return Truth(**{f.name: np.concatenate([getattr(one, f.name) for one in parts]) for f in fields(Truth)})
