"""How many galaxies of what mass there are at what distance: mass functions × volume, and where to look for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Integer

from omnisky.observe.mock import history
from omnisky.observe.mock.photometry import magnitude, nanomaggies
from omnisky.observe.mock.templates import CM_PER_MPC, SOLAR_ERG_S, Basis, basis

_Z = np.concatenate([[0.0], np.geomspace(1e-3, 6.0, 600)])


@dataclass(frozen=True, eq=False)
class _Cosmology:
    """Tables over `_Z`, Planck 2018 (astropy's Planck18)."""

    distance_mpc: np.ndarray
    """luminosity distance"""
    volume: np.ndarray
    """comoving, Mpc³ per unit redshift and whole sky"""
    age_gyr: np.ndarray
    kpc_per_arcsec: np.ndarray


@cache
def _cosmology() -> _Cosmology:
    from astropy.cosmology import Planck18

    return _Cosmology(
        distance_mpc=np.array([0.0, *Planck18.luminosity_distance(_Z[1:]).value]),
        volume=4 * np.pi * Planck18.differential_comoving_volume(_Z).value,
        age_gyr=Planck18.age(_Z).value,
        kpc_per_arcsec=np.array([0.0, *(Planck18.kpc_proper_per_arcmin(_Z[1:]).value / 60)]),
    )


def age_gyr(redshift: Float[np.ndarray, "*object"]) -> Float[np.ndarray, "*object"]:
    """Of the Universe then."""
    return np.asarray(np.interp(redshift, _Z, _cosmology().age_gyr))


def kpc_per_arcsec(redshift: Float[np.ndarray, "*object"]) -> Float[np.ndarray, "*object"]:
    """Proper length that spans an arcsec."""
    return np.asarray(np.interp(redshift, _Z, _cosmology().kpc_per_arcsec))


def distance_modulus(redshift: Float[np.ndarray, "*object"]) -> Float[np.ndarray, "*object"]:
    """mag; infinitely near at z = 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(5 * np.log10(np.interp(redshift, _Z, _cosmology().distance_mpc)) + 25)


def dilution(redshift: Float[np.ndarray, "*object"]) -> Float[np.ndarray, "*object"]:
    """L☉ Å⁻¹ in the rest frame → 1e-17 erg s⁻¹ cm⁻² Å⁻¹ at λ (1 + z): f_λ = L_λ / (4π D_L² (1 + z))."""
    distance_cm = np.interp(redshift, _Z, _cosmology().distance_mpc) * CM_PER_MPC
    return np.asarray(SOLAR_ERG_S / (4 * np.pi * distance_cm**2 * (1 + redshift)) * 1e17)


def _schechter(log_mass: np.ndarray, knee: float, density: np.ndarray | float, slope: float) -> np.ndarray:
    """Mpc⁻³ dex⁻¹."""
    x = 10 ** (log_mass - knee)
    return np.log(10) * density * x ** (1 + slope) * np.exp(-x)


def abundance(log_mass: np.ndarray, redshift: np.ndarray) -> Float[np.ndarray, 2 * cell]:
    """Mpc⁻³ dex⁻¹ of star-forming (0) and of quiescent galaxies (1).

    Round numbers near those of Baldry et al. 2012 (MNRAS 421, 621), Ilbert et al. 2013 (A&A 556, A55) and Moustakas
    et al. 2013 (ApJ 767, 50): since z = 1 the star-forming ones became 2.6 times, the quiescent ones 3.2 times as many,
    which is how fast the redshifts of zCOSMOS ask for.
    """
    then = (1 + redshift) ** -1.4
    forming = _schechter(log_mass, 10.6, 1.2e-3 * then, 0.0) + _schechter(log_mass, 10.6, 1.0e-3 * then, -1.4)
    quiescent = _schechter(log_mass, 10.7, 2.4e-3 * (1 + redshift) ** -1.7, -0.45)
    return np.stack(np.broadcast_arrays(forming, quiescent))


@dataclass(frozen=True, eq=False)
class Hunting:
    """Cells of (kind, redshift, mass) in which galaxies may be bright enough, with how many there are in each."""

    chance: Float[np.ndarray, " cell"]
    """cumulative"""
    low_z: Float[np.ndarray, " redshift"]
    """edges of the bins"""
    low_mass: Float[np.ndarray, " mass"]
    """edges of the bins, log10 M☉"""

    def cell(self, lot: Float[np.ndarray, " object"]) -> Integer[np.ndarray, "3 object"]:
        """Kind, bin of redshift, bin of mass for a number between 0 and 1."""
        shape = 2, len(self.low_z) - 1, len(self.low_mass) - 1
        at = np.searchsorted(self.chance, lot * self.chance[-1], side="right")
        return np.stack(np.unravel_index(np.minimum(at, len(self.chance) - 1), shape))


@cache
def hunting(faintest_r_mag: float) -> Hunting:
    """All cells in which the brightest conceivable galaxy of its kind and mass is brighter than this."""
    low_z, low_mass = np.linspace(0.004, 3.0, 1001), np.linspace(7.0, 12.2, 105)
    z, mass = (low_z[1:] + low_z[:-1]) / 2, (low_mass[1:] + low_mass[:-1]) / 2
    brightest = np.stack([_brightest_mag(z, *stars) for stars in ((3.0, 0.5, -0.7), (6.0, 8.0, -0.2))])
    seen = brightest[:, :, None] - 2.5 * mass < faintest_r_mag
    crowd = abundance(mass[None, :], z[:, None]) * np.interp(z, _Z, _cosmology().volume)[:, None]
    return Hunting(np.cumsum(np.where(seen, crowd, 0.0)), low_z, low_mass)


def _brightest_mag(z: np.ndarray, span_gyr: float, x: float, log_metals: float) -> Float[np.ndarray, " redshift"]:
    """r for one M☉ of young, metal-poor, dustless stars for their kind, at each z."""
    templates = survey_basis()
    share = history.formed(np.array([span_gyr]), np.array([x]))
    light = (history.weights(share, np.array([log_metals]), templates) @ templates.population)[0] / history.LIVING
    flux = [nanomaggies(light, templates.wavelength_aa * (1 + one), "decam2014-r") for one in z]
    return magnitude(np.array(flux) * dilution(z))


@cache
def survey_basis() -> Basis:
    """The templates in pixels of some 1,700 km/s: enough for broad bands."""
    return basis().coarser(24)
