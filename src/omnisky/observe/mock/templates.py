"""The light that mock objects are made of: spectra of single-age stellar populations, of stars, and dust laws.

`basis.npz` beside this file holds both sets of spectra on one grid of vacuum wavelengths, equal steps in log λ, as
log10 flux in 16 bits. `dev/mock_basis.py` made it; the arrays `source` and `licence` inside say out of what.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float

LIGHT_KM_S = 299792.458
SOLAR_ERG_S = 3.828e33
"""nominal solar luminosity (IAU 2015 resolution B3), erg/s"""
CM_PER_MPC = 3.0856775814913673e24


@dataclass(frozen=True, eq=False)
class Basis:
    """Spectra in the rest frame, on one grid; population i × metals + j is of age i and metallicity j."""

    wavelength_aa: Float[np.ndarray, " wave"]
    """vacuum, equal steps in log λ"""
    age_gyr: Float[np.ndarray, " age"]
    log_metals: Float[np.ndarray, " metal"]
    """log10 Z/Z☉"""
    population: Float[np.ndarray, "template wave"]
    """L☉ Å⁻¹ for each M☉ ever formed"""
    star: Float[np.ndarray, "star wave"]
    """relative f_λ, 1 at 5500 Å; cold to hot"""
    teff_k: Float[np.ndarray, " star"]
    sigma_km_s: float
    """the templates' own line-spread, σ"""

    @property
    def step_km_s(self) -> float:
        """What one pixel is in velocity."""
        return LIGHT_KM_S * float(np.log(self.wavelength_aa[1] / self.wavelength_aa[0]))

    def coarser(self, factor: int) -> Basis:
        """Means over `factor` neighbouring pixels (what does not fill a bin at the red end is left out)."""
        fine = len(self.wavelength_aa) // factor * factor

        def mean(spectra: np.ndarray) -> np.ndarray:
            return spectra[..., :fine].reshape(*spectra.shape[:-1], -1, factor).mean(axis=-1)

        middle = np.exp(mean(np.log(self.wavelength_aa)))
        population, star = mean(self.population), mean(self.star)
        return Basis(middle, self.age_gyr, self.log_metals, population, star, self.teff_k, self.sigma_km_s)


@cache
def basis() -> Basis:
    """The templates that ship with the package."""
    with (files("omnisky.observe.mock") / "basis.npz").open("rb") as handle, np.load(handle) as packed:
        start, step, count = packed["log_wavelength"]
        return Basis(
            wavelength_aa=10 ** (start + step * np.arange(int(count))),
            age_gyr=packed["age_gyr"],
            log_metals=packed["log_metals"],
            population=_unpacked(packed["population"], packed["population_range"]),
            star=_unpacked(packed["star"], packed["star_range"]),
            teff_k=packed["teff_k"],
            sigma_km_s=float(packed["sigma_km_s"]),
        )


def _unpacked(words: np.ndarray, limits: np.ndarray) -> Float[np.ndarray, "template wave"]:
    """16-bit words → flux; `limits` are log10 of what 0 and 65535 stand for."""
    low, high = limits
    return (10 ** (low + (high - low) / 65535 * words.astype(np.float64))).astype(np.float32)


# --- dust: A(λ) / A(V) --------------------------------------------------------------------------------------------


def calzetti(wavelength_aa: Float[np.ndarray, " wave"]) -> Float[np.ndarray, " wave"]:
    """Starburst galaxies, R_V = 4.05 (Calzetti et al. 2000, ApJ 533, 682, eq. 4); held constant outside 0.12–2.2 µm."""
    micron = np.clip(wavelength_aa / 1e4, 0.12, 2.2)
    blue = 2.659 * (-2.156 + 1.509 / micron - 0.198 / micron**2 + 0.011 / micron**3) + 4.05
    red = 2.659 * (-1.857 + 1.040 / micron) + 4.05
    return np.where(micron < 0.63, blue, red) / 4.05


_SLOPE = -0.2
"""of galaxies' law against Calzetti's: with it the u − g of zCOSMOS's galaxies is right"""
_BUMP = 0.85 - 1.9 * _SLOPE  # the steeper, the stronger (Kriek & Conroy 2013)


def attenuation(wavelength_aa: Float[np.ndarray, " wave"]) -> Float[np.ndarray, " wave"]:
    """Galaxies as a whole: Calzetti's law, steeper, and with the feature at 2175 Å.

    Kriek & Conroy 2013 (ApJ 775, L16), in the form of Noll et al. 2009 (A&A 507, 1793). At z = 0.7 the feature lies in
    u: without it galaxies are too blue there.
    """
    micron, width, middle = wavelength_aa / 1e4, 0.035, 0.2175
    drude = _BUMP * (micron * width) ** 2 / ((micron**2 - middle**2) ** 2 + (micron * width) ** 2)
    return (calzetti(wavelength_aa) + drude / 4.05) * (wavelength_aa / 5500) ** _SLOPE


def cardelli(wavelength_aa: Float[np.ndarray, " wave"]) -> Float[np.ndarray, " wave"]:
    """The Milky Way, R_V = 3.1 (Cardelli, Clayton & Mathis 1989, ApJ 345, 245), from 0.125 to 3.3 µm."""
    x = np.clip(1e4 / wavelength_aa, 0.3, 8.0)
    y = x - 1.82
    infrared = 0.574 * x**1.61, -0.527 * x**1.61
    optical = (
        np.polyval([0.32999, -0.77530, 0.01979, 0.72085, -0.02427, -0.50447, 0.17699, 1.0], y),
        np.polyval([-2.09002, 5.30260, -0.62251, -5.38434, 1.07233, 2.28305, 1.41338, 0.0], y),
    )
    far = np.maximum(x - 5.9, 0)
    ultraviolet = (
        1.752 - 0.316 * x - 0.104 / ((x - 4.67) ** 2 + 0.341) - 0.04473 * far**2 - 0.009779 * far**3,
        -3.090 + 1.825 * x + 1.206 / ((x - 4.62) ** 2 + 0.263) + 0.2130 * far**2 + 0.1207 * far**3,
    )
    a, b = (np.select([x < 1.1, x < 3.3], [i, o], u) for i, o, u in zip(infrared, optical, ultraviolet, strict=True))
    return a + b / 3.1


# The catalogues' E(B−V) is that of Schlegel et al. 1998, which is too large (Schlafly & Finkbeiner 2011, ApJ 737, 103).
# With 0.845 of it Cardelli's law comes within 5 % of their A/E(B−V) in every band, those of lsst/obs_decam and
# obs_subaru (config/extinctionCoeffs.py): g 3.212, r 2.164, i 1.591, z 1.211 of DECam, for example.
_SCHLEGEL = 0.845


def through_milky_way(wavelength_aa: Float[np.ndarray, " wave"], ebv_mag: float) -> Float[np.ndarray, " wave"]:
    """The share of light that gets through the Milky Way; `ebv_mag` is that of Schlegel et al. 1998."""
    return 10 ** (-0.4 * 3.1 * _SCHLEGEL * ebv_mag * cardelli(wavelength_aa))
