"""Low-resolution spectra in the manner of Gaia's BP and RP: 55 coefficients each, with errors.

What Gaia publishes are coefficients of Hermite functions, fitted to prism spectra on an axis of pseudo-wavelength u
from 0 to 60 (De Angeli et al. 2023, A&A 674, A2). Here the same is done with a dispersion and a line spread of our
own, so the coefficients look like Gaia's and carry the same kind of information, but are not on Gaia's basis:

1. photons per second and Å: f_λ λ / (hc) × area × response of gaiadr3-BP or -RP (speclite), normalised so that their
   sum is the flux in e⁻/s that belongs to the AB magnitude and zero point of that band;
2. on the axis u = 8 + 44 × (1/λ − 1/λ_red) / (1/λ_blue − 1/λ_red), which runs from red to blue, λ = 6900 … 3300 Å
   (BP) or 10800 … 6300 Å (RP) at u = 8 … 52, and is as uneven in λ as a prism;
3. smeared by a Gaussian of σ = 1.3 in u;
4. projected on the first 55 Hermite functions φ_n((u − 30) / 2.6), orthonormal in u;
5. with photon noise of 40 transits of 4 s: an error per coefficient √(Σ N φ_n²) / time, N counted per step of u.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

from omnisky.observe.mock.chances import Use, generator
from omnisky.observe.mock.light import Light
from omnisky.observe.mock.photometry import curve, magnitude
from omnisky.observe.mock.truth import Truth
from omnisky.observe.types import Scalars

COEFFICIENTS = 55
ZERO_POINT_AB = {"G": 25.8010, "BP": 25.3540, "RP": 25.1040}
"""AB magnitude of 1 e⁻/s in Gaia DR3 (Riello et al. 2021, A&A 649, A3)"""
AB_MINUS_VEGA = 25.8010 - 25.6874
"""of G (same source)"""
FAINTEST_G_MAG = 17.65
"""Vega; Gaia publishes mean spectra down to about this"""

_RANGE_AA = {"BP": (3300.0, 6900.0), "RP": (6300.0, 10800.0)}
_STEP = 0.1
_U = np.arange(0, 60 + _STEP / 2, _STEP)
_SPREAD = 1.3
_WIDTH = 2.6  # so that the highest function ends where the axis does
_SECONDS = 40 * 4.0
_NUMBER = 8  # of the stream of chance


@cache
def hermite() -> Float[np.ndarray, "55 u"]:
    """Hermite functions on the axis, orthonormal: Σ φ_m φ_n du = δ_mn as far as the axis reaches."""
    x = (_U - 30) / _WIDTH
    rows = [np.pi**-0.25 * np.exp(-(x**2) / 2)]
    rows.append(np.sqrt(2) * x * rows[0])
    for n in range(2, COEFFICIENTS):
        rows.append(np.sqrt(2 / n) * x * rows[-1] - np.sqrt((n - 1) / n) * rows[-2])
    return np.stack(rows) / np.sqrt(_WIDTH)


@dataclass(frozen=True, eq=False)
class Xp:
    """BP or RP spectra of many objects."""

    coefficient: Scalars
    """e⁻/s; absent where the object is too faint for Gaia"""
    error: Scalars


def electrons(light: Light, band: str) -> float:
    """e⁻/s in G, BP or RP."""
    return float(10 ** (-0.4 * (magnitude(light.band("gaia", band).sum()) - ZERO_POINT_AB[band])))


def dispersed(light: Light, band: str) -> Float[np.ndarray, " u"]:
    """e⁻/s per unit of u, smeared."""
    blue, red = _RANGE_AA[band]
    wave, flux = light.coarse
    through = curve(f"gaiadr3-{band}")
    rate = flux.sum(axis=0) * wave * np.interp(wave, through.wavelength_aa, through.response, left=0, right=0)
    at = 1 / (1 / red + (_U - 8) / 44 * (1 / blue - 1 / red))
    per_u = np.interp(at, wave, rate) * at**2  # dλ/du ∝ λ²
    kernel = np.exp(-0.5 * (np.arange(-6, 6 + _STEP / 2, _STEP) / _SPREAD) ** 2)
    smeared = np.convolve(per_u, kernel / kernel.sum(), mode="same")
    return smeared / (smeared.sum() * _STEP) * electrons(light, band)


def observe(seen: Truth, light: Sequence[Light], band: str, seed: int) -> Xp:
    """The coefficients with noise, and their errors. Only objects brighter than FAINTEST_G_MAG have them."""
    value, error = (np.full((len(seen), COEFFICIENTS), np.nan, dtype=np.float32) for _ in range(2))
    there = np.zeros(len(seen), dtype=bool)
    for row, one in enumerate(light):
        if not magnitude(one.band("gaia", "G").sum()) - AB_MINUS_VEGA < FAINTEST_G_MAG:
            continue
        lots = generator(seed, int(seen.index[row]), Use.SPECTRUM + _NUMBER + (band == "RP"))
        spectrum = dispersed(one, band)
        sigma = np.sqrt((hermite() ** 2 * np.maximum(spectrum, 0)).sum(axis=1) * _STEP / _SECONDS + 1e-4)
        value[row] = hermite() @ spectrum * _STEP + sigma * lots.standard_normal(COEFFICIENTS)
        error[row] = sigma
        there[row] = True
    names = tuple(f"{band.lower()}_{n}" for n in range(COEFFICIENTS))
    units = ("electron / s",) * COEFFICIENTS
    return Xp(
        coefficient=Scalars(values=value, names=names, units=units, present=there),
        error=Scalars(values=error, names=names, units=units, present=there),
    )
