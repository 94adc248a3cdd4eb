"""Cameras: how the imaging surveys take pictures. Data; the drawing is in `images`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What one survey's images are like. Tuples have one entry a band, in the order of `bands`."""

    name: str
    """a row of `observe.survey`"""
    number: int
    """its own stream of chance"""
    bands: tuple[str, ...]
    pixel_scale_arcsec: float
    psf_fwhm_arcsec: tuple[float, ...]
    """medians"""
    psf_scatter_dex: float
    psf_beta: float
    """of the Moffat profile"""
    depth_mag: tuple[float, ...]
    """AB, 5 σ for a point source in median seeing"""
    photons: tuple[float, ...]
    """photo-electrons for 1 nanomaggy: zero point (AB mag of 1 e⁻/s) and exposure time"""
    depth_scatter_dex: float = 0.05
    """of the noise, from object to object"""
    size_px: int = 160


def _photons(zero_points: tuple[float, ...], seconds: float) -> tuple[float, ...]:
    return tuple(seconds * 10 ** (0.4 * (zero_point - 22.5)) for zero_point in zero_points)


CAMERAS: Mapping[str, Camera] = {
    camera.name: camera
    for camera in (
        # Seeing: Dey et al. 2019 (AJ 157, 168), table 3; depth: round numbers for the three or more visits of DR10.
        Camera(
            name="legacysurvey",
            number=0,
            bands=("g", "r", "i", "z"),
            pixel_scale_arcsec=0.262,
            psf_fwhm_arcsec=(1.29, 1.18, 1.16, 1.11),
            psf_scatter_dex=0.05,
            psf_beta=3.5,
            depth_mag=(24.7, 24.1, 23.7, 23.1),
            photons=_photons((26.5, 26.6, 26.5, 26.2), 300),
        ),
        # Seeing and depth of the Wide layer: Aihara et al. 2022 (PASJ 74, 247), table 2.
        Camera(
            name="hsc",
            number=1,
            bands=("g", "r", "i", "z", "y"),
            pixel_scale_arcsec=0.168,
            psf_fwhm_arcsec=(0.79, 0.75, 0.61, 0.68, 0.68),
            psf_scatter_dex=0.05,
            psf_beta=3.0,
            depth_mag=(26.5, 26.5, 26.2, 25.2, 24.4),
            photons=_photons((29.0, 29.0, 28.6, 27.7, 27.4), 900),
        ),
        # Seeing: York et al. 2000 and DR7's medians; depth from the noise of pixels in DR17 frames (dev/mock_noise.py).
        Camera(
            name="sdss",
            number=2,
            bands=("u", "g", "r", "i", "z"),
            pixel_scale_arcsec=0.396,
            psf_fwhm_arcsec=(1.53, 1.44, 1.32, 1.26, 1.29),
            psf_scatter_dex=0.05,
            psf_beta=3.0,
            depth_mag=(22.1, 23.3, 22.8, 22.3, 20.8),
            photons=_photons((23.7, 25.4, 25.2, 24.8, 22.9), 53.9),
        ),
    )
}
