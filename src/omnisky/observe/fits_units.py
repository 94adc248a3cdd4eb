"""Units as FITS files spell them → ours: Å, and 1e-17 erg/s/cm²/Å."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
from jaxtyping import Float

FLUX_UNIT = "1e-17 erg / (s cm2 AA)"
"""of `types.Spectrum` and `types.Cube`"""


# What stands in files → what astropy reads. In this order.
_SPELLINGS = (
    (r"/\s*sp(axel|axels|ixel|ax)\b", ""),
    (r"\bang(stroms?)?\b", "Angstrom"),
    (r"(?<=[/ ])A$", "Angstrom"),  # no flux density is per ampere
    (r"\berg/cm/s/", "erg/cm**2/s/"),  # SDSS-I
    (r"\b10(\*\*|\^)\(?-(\d+)\)?\s*\*?\s*", r"1e-\2 "),
)


def parsed(text: str) -> Any:
    """An astropy unit; None where the text is none, or says nothing."""
    from astropy import units as u

    plain = text.strip()
    for found, said in _SPELLINGS:
        plain = re.sub(found, said, plain, flags=0 if found.endswith("A$") else re.IGNORECASE)
    first, *below = plain.split("/")
    if len(below) > 1 and "(" not in plain:  # one slash is what the standard allows
        plain = f"{first}/({' '.join(below)})"
    for spelling in (plain, plain.lower()) if plain else ():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", u.UnitsWarning)
                return u.Unit(spelling)
        except (ValueError, TypeError):
            continue
    return None


def aa_of(values: Float[np.ndarray, ...], unit: str) -> Float[np.ndarray, ...]:
    """Wavelengths, frequencies or energies → Å; log(Å) too. Raises ValueError where the unit is none of these."""
    from astropy import units as u

    told = unit.strip().lower().replace("[", "(").replace("]", ")")
    if told.startswith("log"):
        return 10 ** np.asarray(values, dtype=np.float64)
    known = parsed(unit)
    if known is None:
        raise ValueError(f"unit {unit!r}")
    try:
        return u.Quantity(values, known).to_value(u.AA, equivalencies=u.spectral())
    except u.UnitConversionError as error:
        raise ValueError(str(error)) from error


def flux_factor(unit: str, wavelength_aa: Float[np.ndarray, ...]) -> Float[np.ndarray, ...] | None:
    """The file's flux × this is in 1e-17 erg/s/cm²/Å; None where its unit is no flux density."""
    from astropy import units as u

    known = parsed(unit)
    if known is None:
        return None
    ours = u.Unit(FLUX_UNIT)
    try:
        where = u.spectral_density(np.asarray(wavelength_aa, dtype=np.float64) * u.AA)
        return np.broadcast_to((1 * known).to_value(ours, equivalencies=where), np.shape(wavelength_aa))
    except (u.UnitConversionError, TypeError):
        return None
