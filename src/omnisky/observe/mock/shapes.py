"""What galaxies look like: how large, how flat, how much bulge, bars, arms and companions, by mass and kind."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import gammainc, gammaincinv

from omnisky.observe.mock import cosmos
from omnisky.observe.mock.chances import Chances

SERSIC_STEP = 0.25
"""Sérsic indices are multiples of this: a renderer's tables are made once for each"""


def shapes(
    chance: Chances, log_mass: np.ndarray, z: np.ndarray, quiescent: Bool[np.ndarray, " object"], log_ssfr: np.ndarray
) -> dict[str, np.ndarray]:
    """The columns of Truth that say what a galaxy looks like.

    Ellipticals and lenticulars among the quiescent, spirals and irregulars among those that form stars.
    """
    elliptical = chance.happens(np.clip(0.45 + 0.25 * (log_mass - 10.8), 0.2, 0.95)) & quiescent
    irregular = chance.happens(np.clip(0.45 - 0.4 * (log_mass - 9.2), 0.03, 0.8)) & ~quiescent
    spiral = ~quiescent & ~irregular
    bulge = _bulges(chance, log_mass, log_ssfr, quiescent, elliptical, irregular)
    inclination = np.degrees(np.arccos(chance.uniform()))
    thin = np.clip(np.where(irregular, chance.normal(0.4, 0.08), chance.normal(0.17, 0.04)), 0.1, 0.7)
    cosine = np.cos(np.radians(inclination))
    disc_ratio = np.sqrt(cosine**2 * (1 - thin**2) + thin**2)
    round_ratio = np.clip(chance.normal(0.78, 0.14), 0.35, 1.0)
    late, early = _late_kpc(chance, log_mass, z), _early_kpc(chance, log_mass, z)
    arcsec = 1 / cosmos.kpc_per_arcsec(z)
    disc_kpc = np.where(quiescent, np.sqrt(late * early), late)
    bulge_kpc = np.where(
        elliptical, early, np.minimum(0.18 * disc_kpc * 10 ** chance.normal(0, 0.12), 0.5 * early + 0.2)
    )
    merger = chance.happens(np.clip(0.035 * (1 + z) ** 2, 0, 0.3))
    arms = np.select([chance.uniform() < p for p in (0.62, 0.78, 0.9)], [2.0, 3.0, 4.0], 1.0)
    pitch = np.clip(chance.normal(19, 6) - 20 * (bulge - 0.15), 6, 40) * np.where(chance.happens(0.5), 1, -1)
    barred = ~elliptical & ~irregular & chance.happens(np.where(quiescent, 0.3, 0.4))
    bar = chance.uniform(0.06, 0.22)
    strength = np.where(irregular, chance.uniform(0.5, 1.0), np.where(spiral, chance.uniform(0.35, 1.0), 0.0))
    mass_ratio = 10 ** chance.uniform(-0.7, 0.0)
    return dict(
        axis_ratio=np.where(elliptical, round_ratio, disc_ratio),
        position_angle_deg=chance.uniform(0, 180),
        inclination_deg=np.where(elliptical, np.nan, inclination),
        bulge_mass_fraction=bulge,
        bulge_sersic=_sersic(chance, log_mass, elliptical, bulge),
        disc_sersic=np.ones(len(z)),
        bulge_arcsec=bulge_kpc * arcsec,
        disc_arcsec=np.where(elliptical, np.nan, disc_kpc * arcsec),
        bulge_axis_ratio=np.where(elliptical, round_ratio, np.maximum(disc_ratio, np.sqrt(0.5 + 0.5 * cosine**2))),
        bar_fraction=np.where(barred, bar, 0.0),
        bar_angle_deg=chance.uniform(0, 180),
        arms=np.where(spiral, arms, 0.0),
        arm_pitch_deg=np.where(spiral, pitch, np.nan),
        arm_strength=strength,
        is_irregular=irregular,
        is_merger=merger,
        companion_fraction=np.where(merger, mass_ratio / (1 + mass_ratio), 0.0),
        companion_arcsec=np.where(merger, (3 + 12 * chance.uniform()) * arcsec, np.nan),
        companion_angle_deg=np.where(merger, chance.uniform(0, 360), np.nan),
        is_edge_on=~elliptical & (inclination > 80),
    )


def _bulges(
    chance: Chances,
    log_mass: np.ndarray,
    log_ssfr: np.ndarray,
    quiescent: np.ndarray,
    elliptical: np.ndarray,
    irregular: np.ndarray,
) -> Float[np.ndarray, " object"]:
    """Share of the stars in the bulge: more in heavy galaxies and in those that form few stars."""
    middle = 0.07 + 0.1 * np.clip(log_mass - 9.5, 0, 2) + 0.06 * np.clip(-10.2 - log_ssfr, 0, 2)
    spiral = np.clip(middle * 10 ** chance.normal(0, 0.2), 0.01, 0.6)
    lenticular = chance.uniform(0.25, 0.7)
    return np.select([elliptical, quiescent, irregular], [1.0, lenticular, 0.0], spiral)


def _sersic(chance: Chances, log_mass: np.ndarray, elliptical: np.ndarray, bulge: np.ndarray) -> np.ndarray:
    """About 4 for ellipticals, more for heavier ones; pseudo-bulges between 1 and 2."""
    spheroid = 10 ** (np.log10(3.6) + 0.14 * (log_mass - 10.8) + chance.normal(0, 0.1))
    inner = np.where(bulge > 0.3, chance.normal(2.8, 0.5), chance.normal(1.6, 0.4))
    exact = np.clip(np.where(elliptical, spheroid, inner), 0.75, 6.0)
    return np.round(exact / SERSIC_STEP) * SERSIC_STEP


def _late_kpc(chance: Chances, log_mass: np.ndarray, z: np.ndarray) -> Float[np.ndarray, " object"]:
    """Half-light radii of star-forming galaxies (van der Wel et al. 2014, ApJ 788, 28)."""
    middle = 0.91 + 0.24 * (log_mass - np.log10(5e10)) - 0.75 * np.log10(1 + z)
    return 10 ** (middle + chance.normal(0, 0.17))


def _early_kpc(chance: Chances, log_mass: np.ndarray, z: np.ndarray) -> Float[np.ndarray, " object"]:
    """Of quiescent ones (same source); below 2 × 10¹⁰ M☉ they hardly get smaller."""
    heavy = 0.67 + 0.74 * (log_mass - np.log10(5e10))
    light = 0.67 + 0.74 * np.log10(2 / 5) + 0.12 * (log_mass - np.log10(2e10))
    middle = np.maximum(heavy, light) - 1.2 * np.log10(1 + z)
    return 10 ** (middle + chance.normal(0, 0.13))


# --- radii that hold half the light -------------------------------------------------------------------------------


def inside(
    radius: Float[np.ndarray, " object"], half: Float[np.ndarray, " object"], sersic: Float[np.ndarray, " object"]
) -> Float[np.ndarray, " object"]:
    """Share of a Sérsic profile's light within `radius`."""
    scale = gammaincinv(2 * sersic, 0.5)
    return gammainc(2 * sersic, scale * (radius / half) ** (1 / sersic))


def half_light(
    bulge_fraction: Float[np.ndarray, " object"],
    bulge_radius: Float[np.ndarray, " object"],
    bulge_sersic: Float[np.ndarray, " object"],
    disc_radius: Float[np.ndarray, " object"],
    disc_sersic: Float[np.ndarray, " object"],
) -> Float[np.ndarray, " object"]:
    """The radius that holds half of bulge and disc together, by bisection to 1e-6."""
    disc_radius = np.where(np.isnan(disc_radius), bulge_radius, disc_radius)
    low, high = np.minimum(bulge_radius, disc_radius), np.maximum(bulge_radius, disc_radius)
    for _ in range(24):
        middle = np.sqrt(low * high)
        share = bulge_fraction * inside(middle, bulge_radius, bulge_sersic) + (1 - bulge_fraction) * inside(
            middle, disc_radius, disc_sersic
        )
        low, high = np.where(share < 0.5, middle, low), np.where(share < 0.5, high, middle)
    return np.sqrt(low * high)
