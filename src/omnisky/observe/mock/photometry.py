"""Synthetic photometry: AB fluxes of spectra through the surveys' own filter curves, as speclite ships them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

from omnisky.errors import MissingExtra

HINT = "pip install 'omnisky[mock]'"

# 3631 Jy in erg s⁻¹ cm⁻² Å⁻¹ is this / λ², λ in Å: c in Å/s times 3.631e-20 erg s⁻¹ cm⁻² Hz⁻¹.
_AB = 2.99792458e18 * 3.631e-20
_SPECTRUM_UNIT = 1e-17  # erg s⁻¹ cm⁻² Å⁻¹

FILTERS: Mapping[str, Mapping[str, str]] = {
    "legacysurvey": {band: f"decam2014-{band}" for band in "griz"},
    "hsc": {"g": "hsc2017-g", "r": "hsc2017-r2", "i": "hsc2017-i2", "z": "hsc2017-z", "y": "hsc2017-y"},
    "sdss": {band: f"sdss2010-{band}" for band in "ugriz"},
    "gaia": {band: f"gaiadr3-{band}" for band in ("G", "BP", "RP")},
}
"""survey → band → name of the curve in speclite. Those on the ground include one airmass; HSC's are r2 and i2."""


@dataclass(frozen=True, eq=False)
class Curve:
    """How much of the light gets through, relative, for a photon counter."""

    wavelength_aa: Float[np.ndarray, " wave"]
    response: Float[np.ndarray, " wave"]


def needs_speclite() -> None:
    """Raises MissingExtra without it."""
    try:
        import speclite  # noqa: F401
    except ImportError as error:
        raise MissingExtra("filter curves are speclite's", hint=HINT) from error


@cache
def curve(name: str) -> Curve:
    """A filter curve by speclite's name. Raises MissingExtra."""
    needs_speclite()
    from speclite import filters

    found = filters.load_filter(name)
    return Curve(np.asarray(found.wavelength, dtype=np.float64), np.asarray(found.response, dtype=np.float64))


def nanomaggies(
    flux: Float[np.ndarray, "*component wave"], wavelength_aa: Float[np.ndarray, " wave"], through: str | Curve
) -> Float[np.ndarray, "*component"]:
    """What a photon counter sees, AB: ∫ f λ R dλ over that of 3631 Jy, in nanomaggies.

    `through` one of speclite's curves, by name, or any.
    `flux` in 1e-17 erg s⁻¹ cm⁻² Å⁻¹ at `wavelength_aa`, in equal steps of log λ. Light off the grid counts as none.
    """
    band = curve(through) if isinstance(through, str) else through
    response = np.interp(wavelength_aa, band.wavelength_aa, band.response, left=0, right=0)
    step = np.log(wavelength_aa[1] / wavelength_aa[0])
    reference = np.trapezoid(band.response / band.wavelength_aa, band.wavelength_aa) * _AB
    seen = response > 0
    weight = (response * wavelength_aa**2)[seen] * (step * _SPECTRUM_UNIT * 1e9 / reference)
    return np.asarray(flux[..., seen] @ weight)


def magnitude(flux_nanomaggy: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """AB magnitude; NaN for no flux or less."""
    positive = np.where(np.asarray(flux_nanomaggy) > 0, flux_nanomaggy, np.nan)
    return np.asarray(22.5 - 2.5 * np.log10(positive))
