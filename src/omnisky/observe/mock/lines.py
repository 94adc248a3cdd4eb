"""Emission lines. Hydrogen follows star formation and dust; the metals follow real galaxies.

`lines.npz` is a Gaussian mixture fitted (by `dev/mock_lines.py`) to the equivalent widths of 30,000 galaxies of DESI's
Early Data Release: log10 of the continuum's luminosity at Hα and log10 EW of Hα, [O II], [O III] 5007, [N II] 6584,
[S II] 6716 and 6731. A mock galaxy's continuum and Hα are known from its stars; the others are drawn from the mixture,
given these two. So line ratios, and what they have to do with mass and star formation, are those of real galaxies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float

from omnisky.observe.mock.templates import cardelli

NAMES = (
    *("OII_3726", "OII_3729", "NeIII_3869", "Hepsilon", "Hdelta", "Hgamma", "Hbeta", "OIII_4959", "OIII_5007"),
    *("HeI_5876", "OI_6300", "NII_6548", "Halpha", "NII_6584", "SII_6716", "SII_6731"),
)
WAVELENGTH_AA = np.array(
    [
        *(3727.09, 3729.88, 3869.86, 3971.20, 4102.89, 4341.68, 4862.68, 4960.30, 5008.24),
        *(5877.25, 6302.05, 6549.85, 6564.61, 6585.27, 6718.29, 6732.67),
    ]
)
"""in vacuum"""

# Hydrogen over Hα: case B, 10⁴ K, 100 cm⁻³ (Osterbrock & Ferland 2006, table 4.4).
_HYDROGEN = {"Hepsilon": 0.0555, "Hdelta": 0.0905, "Hgamma": 0.1639, "Hbeta": 0.3497, "Halpha": 1.0, "HeI_5876": 0.037}
_THIRD = 1 / 2.98  # [O III] 4959 / 5007 (Storey & Zeippen 2000, MNRAS 312, 813)
_NITROGEN = 1 / 3.05  # [N II] 6548 / 6584 (same source)
_HALPHA_PER_SFR = 10**41.27 / 3.828e33  # L☉ for 1 M☉/yr (Kennicutt & Evans 2012, ARA&A 50, 531)
# Not every ionising photon makes Hα: dust takes some first, and fibres see the middles of galaxies, where few stars
# form. With this share the widths of Hα are those that DESI measured.
_HALPHA_PER_SFR *= 0.46
# Calzetti et al. 2000: E(B−V) of stars is 0.44 of that of the gas; R_V 4.05 there, 3.1 for the gas.
GAS_DUST = 3.1 / 4.05 / 0.44
"""A(V) before the gas, in units of that before the stars"""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians in (log continuum, log EW Hα, log EW of five metal lines)."""

    weight: Float[np.ndarray, " part"]
    mean: Float[np.ndarray, "part 7"]
    covariance: Float[np.ndarray, "part 7 7"]

    def metals(self, continuum: float, log_halpha: float, lots: np.random.Generator) -> Float[np.ndarray, " 5"]:
        """log10 EW (Å) of the metal lines, given log10 of continuum (L☉/Å) and of EW(Hα), Å."""
        known = np.clip(np.array([continuum, log_halpha]), [5.2, -1.0], [7.5, 2.6])
        inner = self.covariance[:, :2, :2]
        away = known - self.mean[:, :2]
        pull = np.linalg.solve(inner, away[..., None])[..., 0]
        likely = np.log(self.weight) - 0.5 * np.einsum("ki,ki->k", away, pull) - 0.5 * np.linalg.slogdet(inner)[1]
        chance = np.cumsum(np.exp(likely - likely.max()))
        part = int(np.searchsorted(chance, lots.random() * chance[-1]))
        cross = self.covariance[part, 2:, :2]
        middle = self.mean[part, 2:] + cross @ pull[part]
        rest = self.covariance[part, 2:, 2:] - cross @ np.linalg.solve(inner[part], cross.T)
        return middle + np.linalg.cholesky(rest) @ lots.standard_normal(5)


@cache
def mixture() -> Mixture:
    """The fit that ships with the package."""
    with (files("omnisky.observe.mock") / "lines.npz").open("rb") as handle, np.load(handle) as packed:
        return Mixture(*(packed[name].astype(np.float64) for name in ("weight", "mean", "covariance")))


def luminosities(
    sfr: float,
    dust_av_mag: float,
    old_halpha_ew: float,
    wavelength_aa: Float[np.ndarray, " wave"],
    continuum: Float[np.ndarray, " wave"],
    lots: np.random.Generator,
) -> Float[np.ndarray, " line"]:
    """L☉ of each line as it leaves the galaxy, in the order of NAMES.

    `sfr` in M☉/yr; `continuum` is the galaxy's own, in L☉/Å, dust applied. Old stars excite some gas too: they add
    `old_halpha_ew` (Å) to Hα.
    """
    below = np.interp(WAVELENGTH_AA, wavelength_aa, continuum)
    at = dict(zip(NAMES, below, strict=True))
    dust = 10 ** (-0.4 * GAS_DUST * dust_av_mag * cardelli(WAVELENGTH_AA))
    screen = dict(zip(NAMES, dust, strict=True))
    halpha = sfr * _HALPHA_PER_SFR * screen["Halpha"] + old_halpha_ew * at["Halpha"]
    light = {name: halpha * ratio * screen[name] / screen["Halpha"] for name, ratio in _HYDROGEN.items()}
    ew = 10 ** mixture().metals(np.log10(at["Halpha"]), np.log10(halpha / at["Halpha"]), lots)
    oxygen2, oxygen3, nitrogen, sulphur, sulphur_red = ew * [
        *(at["OII_3729"], at["OIII_5007"], at["NII_6584"], at["SII_6716"], at["SII_6731"])
    ]
    # The ratio of a doublet says how dense the gas is: near its limit of low density in most galaxies.
    ratio = float(np.clip(lots.normal(1.32, 0.08), 0.8, 1.5))
    split = float(np.clip(sulphur / sulphur_red, 0.9, 1.46))
    light |= {"OII_3726": oxygen2 / (1 + ratio), "OII_3729": oxygen2 * ratio / (1 + ratio)}
    light |= {"OIII_5007": oxygen3, "OIII_4959": oxygen3 * _THIRD, "NeIII_3869": 0.09 * oxygen3}
    light |= {"NII_6584": nitrogen, "NII_6548": nitrogen * _NITROGEN}
    both = sulphur + sulphur_red
    light |= {"SII_6716": both * split / (1 + split), "SII_6731": both / (1 + split), "OI_6300": 0.12 * both}
    return np.array([light[name] for name in NAMES])
