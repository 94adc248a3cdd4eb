"""Spectrographs: what DESI and SDSS make of an object's light, with their grids, fibres, line spread and noise.

The noise of the sky is that of real coadds, pixel by pixel (`noise.npz`, made by `dev/mock_noise.py`): its lines and
its steps between cameras are where they are in the real data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from omnisky.observe.mock.chances import Use, generator
from omnisky.observe.mock.light import Light, broadened
from omnisky.observe.mock.shapes import inside
from omnisky.observe.mock.templates import LIGHT_KM_S, basis
from omnisky.observe.mock.truth import Truth
from omnisky.observe.types import Spectrum


@dataclass(frozen=True, eq=False)
class Spectrograph:
    """How one survey takes spectra."""

    name: str
    number: int
    """its own stream of chance"""
    edge_aa: Float[np.ndarray, " edge"]
    """of the pixels, one more than there are pixels; Å, vacuum"""
    lsf_sigma_pix: Float[np.ndarray, " wave"]
    sky_sigma: Float[np.ndarray, " wave"]
    """noise of a typical exposure where there is no source, 1e-17 erg s⁻¹ cm⁻² Å⁻¹"""
    photons: float
    """photo-electrons in a pixel for a flux of 1e-17 erg s⁻¹ cm⁻² Å⁻¹"""
    fibre_arcsec: float
    """diameter"""
    seeing_arcsec: float
    """full width at half maximum"""
    exposure_dex: float
    """scatter of the noise from object to object"""

    @property
    def wavelength_aa(self) -> Float[np.ndarray, " wave"]:
        """Middles of the pixels."""
        return (self.edge_aa[1:] + self.edge_aa[:-1]) / 2


@cache
def desi() -> Spectrograph:
    """7,781 pixels of 0.8 Å from 3600 Å, bright-time coadds (DESI Collaboration 2022, AJ 164, 207)."""
    wave = 3600 + 0.8 * np.arange(7781)
    # Spread measured in the resolution matrices of the two coadds that fastspecfit ships: R = 2,300 … 3,600 in B,
    # 3,900 … 5,000 in R, 4,600 … 5,300 in Z. The cameras meet near 5780 and 7570 Å.
    sigma_aa = np.interp(wave, [3600, 5780, 5780.1, 7570, 7570.1, 9824], [0.685, 0.69, 0.63, 0.65, 0.70, 0.78])
    return Spectrograph(
        name="desi",
        number=0,
        edge_aa=3600 + 0.8 * (np.arange(7782) - 0.5),
        lsf_sigma_pix=sigma_aa / 0.8,
        sky_sigma=_sky_noise("desi"),
        photons=12.0,  # 1e-17 × 0.8 Å × 8.7 m² × 240 s × 25 % at 6000 Å
        fibre_arcsec=1.5,
        seeing_arcsec=1.1,
        exposure_dex=0.08,
    )


@cache
def sdss() -> Spectrograph:
    """The BOSS spectrograph of SDSS: steps of 1e-4 in log10 λ (Smee et al. 2013, AJ 146, 32)."""
    log_wave = 3.5563 + 1e-4 * np.arange(4560)  # 3600 … 10285 Å
    # In the blue channel 1560 at 3700 Å to 2270 at 6000 Å, in the red 1850 at 6000 Å to 2650 at 9000 Å (same source).
    blue = np.interp(10**log_wave, [3700, 6000], [1560, 2270])
    red = np.interp(10**log_wave, [6000, 9000], [1850, 2650])
    resolution = np.where(10**log_wave < 6100, blue, red)
    sigma_km_s = LIGHT_KM_S / resolution / 2.3548
    return Spectrograph(
        name="sdss",
        number=1,
        edge_aa=10 ** (3.5563 + 1e-4 * (np.arange(4561) - 0.5)),
        lsf_sigma_pix=sigma_km_s / (LIGHT_KM_S * 1e-4 * np.log(10)),
        sky_sigma=_sky_noise("sdss"),
        photons=60.0,  # 1e-17 × 1.4 Å × 3.6 m² × 2700 s × 15 % at 6000 Å
        fibre_arcsec=2.0,
        seeing_arcsec=1.5,
        exposure_dex=0.08,
    )


@cache
def _sky_noise(name: str) -> Float[np.ndarray, " wave"]:
    with (files("omnisky.observe.mock") / "noise.npz").open("rb") as handle, np.load(handle) as packed:
        return packed[name].astype(np.float64)


def in_fibre(seen: Truth, tool: Spectrograph) -> Float[np.ndarray, " object"]:
    """Share of each object's light that enters the fibre; the same at all wavelengths.

    That of its Sérsic parts about the middle, seen round, each radius broadened by the seeing. Pipelines calibrate on
    stars, so what a point source loses is put back: the share of a star is 1.
    """
    blur, aperture = tool.seeing_arcsec / 2, tool.fibre_arcsec / 2
    point = 1 - 0.5 ** ((aperture / blur) ** 2)  # of a Gaussian of that width

    def part(radius: np.ndarray, ratio: np.ndarray, sersic: np.ndarray) -> np.ndarray:
        half = np.hypot(np.nan_to_num(radius, nan=1.0) * np.sqrt(np.nan_to_num(ratio, nan=1.0)), blur)
        return inside(np.full(len(half), aperture), half, np.nan_to_num(sersic, nan=1.0))

    bulge = part(seen.bulge_arcsec, seen.bulge_axis_ratio, np.minimum(seen.bulge_sersic, 2.0))
    disc = part(seen.disc_arcsec, seen.axis_ratio, seen.disc_sersic)
    fraction = np.nan_to_num(seen.bulge_fraction)
    galaxy = (fraction * bulge + (1 - fraction) * disc) * (1 - np.nan_to_num(seen.companion_fraction))
    return np.where(seen.is_star, 1.0, np.minimum(galaxy / point, 1.0))


def clean(light: Light, tool: Spectrograph) -> Float[np.ndarray, " wave"]:
    """All of the object's light on the pixels, without noise.

    The templates bring a line spread of their own: they are broadened by what stars and instrument have more. Where
    that is nothing (few km/s of dispersion), they stay a little broader than they should be.
    """
    wave, pixel_km_s = tool.wavelength_aa, LIGHT_KM_S * np.diff(tool.edge_aa) / tool.wavelength_aa
    spread = float(np.median(tool.lsf_sigma_pix * pixel_km_s))
    more = light.stellar_sigma_km_s**2 + spread**2 - basis().sigma_km_s ** 2
    flux = broadened(light.parts.sum(axis=0), np.sqrt(max(more, 0.0)), basis().step_km_s)
    continuum = np.interp(wave, light.wavelength_aa, flux)
    return continuum + _lines(light, tool, np.diff(tool.edge_aa))


def _lines(light: Light, tool: Spectrograph, width_aa: Float[np.ndarray, " wave"]) -> Float[np.ndarray, " wave"]:
    """Gaussians, integrated over the pixels."""
    flux = np.zeros(len(width_aa))
    for at, strength in zip(light.line_aa, light.line_flux, strict=True):
        if strength <= 0 or not tool.edge_aa[0] < at < tool.edge_aa[-1]:
            continue
        pixel = int(np.searchsorted(tool.edge_aa, at)) - 1
        sigma = np.hypot(tool.lsf_sigma_pix[pixel] * width_aa[pixel], light.gas_sigma_km_s / LIGHT_KM_S * at)
        first, last = np.searchsorted(tool.edge_aa, [at - 6 * sigma, at + 6 * sigma])
        first, last = max(first - 1, 0), min(last + 1, len(tool.edge_aa))
        flux[first : last - 1] += (
            strength * np.diff(ndtr((tool.edge_aa[first:last] - at) / sigma)) / width_aa[first : last - 1]
        )
    return flux


def observe(seen: Truth, light: Sequence[Light], tool: Spectrograph, seed: int) -> Spectrum:
    """Spectra with noise, of what entered the fibre; `ivar` is exactly that of the noise added."""
    wave = tool.wavelength_aa
    flux, ivar = (np.empty((len(seen), len(wave)), dtype=np.float32) for _ in range(2))
    good = np.empty((len(seen), len(wave)), dtype=bool)
    share = in_fibre(seen, tool)
    # Fewer photons reach the detector towards the ends of the range.
    photons = tool.photons * np.interp(wave, [3600, 4500, 6000, 8500, 10300], [0.25, 0.8, 1.0, 0.9, 0.35])
    for row, one in enumerate(light):
        lots = generator(seed, int(seen.index[row]), Use.SPECTRUM + tool.number)
        true = clean(one, tool) * share[row]
        sky = tool.sky_sigma * 10 ** lots.normal(0, tool.exposure_dex)
        variance = sky**2 + np.maximum(true, 0) / photons
        flux[row] = true + np.sqrt(variance) * lots.standard_normal(len(wave))
        ivar[row] = 1 / variance
        good[row] = _unhurt(len(wave), lots)
    ivar[~good] = 0
    return Spectrum(
        flux=flux,
        wavelength_aa=np.broadcast_to(wave.astype(np.float64), flux.shape).copy(),
        survey=tool.name,
        lsf_sigma_pix=np.broadcast_to(tool.lsf_sigma_pix.astype(np.float32), flux.shape).copy(),
        ivar=ivar,
        good=good,
    )


def _unhurt(pixels: int, lots: np.random.Generator) -> np.ndarray:
    """False where cosmic rays hit (some ten short runs of pixels a spectrum)."""
    good = np.ones(pixels, dtype=bool)
    for start, length in zip(lots.integers(0, pixels, lots.poisson(8)), lots.integers(1, 5, 64), strict=False):
        good[start : start + length] = False
    return good
