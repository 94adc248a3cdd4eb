"""The light of one object as it arrives at the top of the atmosphere: continuum of its parts, and lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from omnisky.observe.mock import cosmos, lines
from omnisky.observe.mock.chances import Use, generator
from omnisky.observe.mock.photometry import FILTERS, nanomaggies
from omnisky.observe.mock.population import BULGE_DUST, YOUNG_DUST, Stars
from omnisky.observe.mock.templates import attenuation, basis, through_milky_way
from omnisky.observe.mock.truth import Truth

PARTS = ("bulge", "disc", "young")
"""of a galaxy; a star is all bulge"""

_COARSE = 8  # pixels of the templates to one of broad-band photometry: some 550 km/s


@dataclass(frozen=True, eq=False)
class Light:
    """One object's total light, all of it: no aperture, no atmosphere, no instrument, no noise."""

    wavelength_aa: Float[np.ndarray, " wave"]
    """observed frame, vacuum, equal steps in log λ"""
    parts: Float[np.ndarray, "3 wave"]
    """1e-17 erg s⁻¹ cm⁻² Å⁻¹ of bulge, disc and young stars, without lines"""
    line_aa: Float[np.ndarray, " line"]
    """where the lines are observed"""
    line_flux: Float[np.ndarray, " line"]
    """1e-17 erg s⁻¹ cm⁻²; they come from where the young stars are"""
    line_ew_aa: Float[np.ndarray, " line"]
    """equivalent width in the rest frame"""
    stellar_sigma_km_s: float
    gas_sigma_km_s: float

    @cached_property
    def coarse(self) -> tuple[Float[np.ndarray, " bin"], Float[np.ndarray, "3 bin"]]:
        """Means over a few pixels, lines included."""
        n = len(self.wavelength_aa) // _COARSE
        middle = np.exp(np.log(self.wavelength_aa[: n * _COARSE]).reshape(n, _COARSE).mean(axis=1))
        flux = self.parts[:, : n * _COARSE].reshape(3, n, _COARSE).mean(axis=2).astype(np.float64)
        step = np.log(middle[1] / middle[0])
        at = np.round(np.log(self.line_aa / middle[0]) / step).astype(int)
        on = (at >= 0) & (at < n)
        np.add.at(flux[2], at[on], self.line_flux[on] / (middle[at[on]] * step))
        return middle, flux

    def band(self, survey: str, band: str) -> Float[np.ndarray, " 3"]:
        """Nanomaggies (AB) of bulge, disc and young stars in a survey's band."""
        middle, flux = self.coarse
        return nanomaggies(flux, middle, FILTERS[survey][band])

    def bands(self, survey: str) -> Float[np.ndarray, "band 3"]:
        """The same in all bands of a survey."""
        return np.stack([self.band(survey, band) for band in FILTERS[survey]])


def lit(seen: Truth, seed: int) -> Iterator[Light]:
    """The light of each object, one after the other."""
    stars = Stars.of(seen, basis())
    for row in range(len(seen)):
        yield _star(seen, row) if seen.is_star[row] else _galaxy(seen, stars, row, seed)


def _galaxy(seen: Truth, stars: Stars, row: int, seed: int) -> Light:
    templates = basis()
    rest, z = templates.wavelength_aa, float(seen.redshift[row])
    lots = generator(seed, int(seen.index[row]), Use.TEXTURE)
    weights = np.stack([stars.bulge[row], stars.disc[row], stars.young[row]]).astype(np.float32)
    law = attenuation(rest)
    dust = float(seen.dust_av_mag[row]) * np.array([BULGE_DUST, 1, YOUNG_DUST])
    galaxy = np.stack([w @ templates.population for w in weights]) * 10 ** (-0.4 * dust[:, None] * law)
    continuum = galaxy.sum(axis=0)
    sfr = 10.0 ** (seen.log_ssfr[row] + seen.log_mass[row])
    old = 10 ** lots.normal(-0.4, 0.45)
    line = lines.luminosities(sfr, float(seen.dust_av_mag[row]), old, rest, continuum, lots)
    sigma = float(seen.velocity_dispersion_km_s[row])
    scale, here = float(cosmos.dilution(np.array(z))), rest * (1 + z)
    line_aa = lines.WAVELENGTH_AA * (1 + z)
    return Light(
        wavelength_aa=here,
        parts=galaxy * scale * through_milky_way(here, float(seen.ebv_mag[row])),
        line_aa=line_aa,
        # A line's flux is its luminosity over 4π D²: not thinned out over (1 + z) times as many Å.
        line_flux=line * scale * (1 + z) * through_milky_way(line_aa, float(seen.ebv_mag[row])),
        line_ew_aa=line / np.interp(lines.WAVELENGTH_AA, rest, continuum),
        stellar_sigma_km_s=sigma,
        gas_sigma_km_s=float(np.clip(0.75 * sigma * 10 ** lots.normal(0, 0.08), 25, 300)),
    )


def _star(seen: Truth, row: int) -> Light:
    templates = basis()
    here = templates.wavelength_aa
    shape = templates.star[int(seen.star_template[row])].astype(np.float64)
    scale = 10 ** (-0.4 * (seen.r_mag[row] - 22.5)) / nanomaggies(shape, here, "decam2014-r")
    parts = np.zeros((3, len(here)))
    parts[0] = shape * scale * through_milky_way(here, float(seen.ebv_mag[row]))
    nothing = np.zeros(len(lines.NAMES))
    return Light(here, parts, lines.WAVELENGTH_AA, nothing, nothing, 0.0, 0.0)


def broadened(flux: Float[np.ndarray, " wave"], sigma_km_s: float, step_km_s: float) -> Float[np.ndarray, " wave"]:
    """Convolved with a Gaussian in log λ; below a third of a pixel it is left as it is."""
    pixels = sigma_km_s / step_km_s
    if pixels < 1 / 3:
        return flux
    edge = int(4 * pixels) + 8  # the ends are continued, so that they do not meet through the FFT
    padded = np.pad(flux, edge, mode="edge")
    frequency = np.fft.rfftfreq(len(padded))
    smooth = np.fft.irfft(np.fft.rfft(padded) * np.exp(-2 * (np.pi * frequency * pixels) ** 2), len(padded))
    return smooth[edge : edge + len(flux)]


def fluxes(light: Sequence[Light], survey: str) -> Float[np.ndarray, "object band"]:
    """Total nanomaggies of many objects in the bands of a survey."""
    return np.stack([one.bands(survey).sum(axis=1) for one in light])
