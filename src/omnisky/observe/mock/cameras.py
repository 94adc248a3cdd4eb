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
    """photo-electrons for 1 nanomaggy"""
    depth_scatter_dex: float = 0.05
    """of the noise, from object to object"""
    size_px: int = 160


def _photons(zero_points: tuple[float, ...], seconds: tuple[float, ...]) -> tuple[float, ...]:
    """From the AB magnitude that gives 1 e⁻/s, and the exposure."""
    return tuple(time * 10 ** (0.4 * (zero - 22.5)) for zero, time in zip(zero_points, seconds, strict=True))


# Not from a source, but plausible: how much seeing and noise scatter, and the wings of the PSF (β).
CAMERAS: Mapping[str, Camera] = {
    camera.name: camera
    for camera in (
        # DECam as in DR10 south. Seeing in g, r, z: Dey et al. 2019 (AJ 157, 168), table 3; i between r and z. Depth:
        # that of the finished three passes (datalab.noirlab.edu, DECaLS); i from DELVE DR2 (Drlica-Wagner et al. 2022,
        # ApJS 261, 38), whose exposures are those of DR10. Zero points: legacysurvey/obsbot (g 26.610, r 26.818,
        # z 26.484), i by the ratios of legacypipe's DecamImage.ZP0. Three passes of 87, 67, 100 s (legacysurvey.org);
        # i is given r's.
        Camera(
            name="legacysurvey",
            number=0,
            bands=("g", "r", "i", "z"),
            pixel_scale_arcsec=0.262,
            psf_fwhm_arcsec=(1.29, 1.18, 1.14, 1.11),
            psf_scatter_dex=0.05,
            psf_beta=3.5,
            depth_mag=(24.7, 23.9, 23.5, 23.0),
            photons=_photons((26.610, 26.818, 26.758, 26.484), (261, 201, 201, 300)),
        ),
        # Seeing and depth of the Wide layer: Aihara et al. 2022 (PASJ 74, 247), table 2. Zero points:
        # lsst/obs_subaru, config/fiducialZeroPoint.py, which counts ADU, of 3.0 e⁻ each (Miyazaki et al. 2018, PASJ 70,
        # S1). Exposures: 10 min in g and r, 20 min in i, z, y (Aihara et al. 2019, PASJ 71, 114).
        Camera(
            name="hsc",
            number=1,
            bands=("g", "r", "i", "z", "y"),
            pixel_scale_arcsec=0.168,
            psf_fwhm_arcsec=(0.79, 0.75, 0.61, 0.68, 0.68),
            psf_scatter_dex=0.05,
            psf_beta=3.0,
            depth_mag=(26.5, 26.5, 26.2, 25.2, 24.4),
            photons=_photons((28.24, 28.29, 28.13, 27.26, 26.82), (600, 600, 1200, 1200, 1200)),
        ),
        # Seeing: medians of the survey (sdss.org, scope of DR12). Depth: from the noise of pixels of DR17 frames
        # (../shared/data/sdss_frames_ugriz, rms_*); SDSS's own table SDSSConstants says 22.3, 23.3, 23.1, 22.3, 20.8.
        # Photons: gains of 1.6, 3.9, 4.7, 4.8, 4.7 e⁻/ADU over 0.0101, 0.0038, 0.0051, 0.0066, 0.0326 nanomaggies/ADU,
        # the means of frames (galkit, data/sdss/meta.py).
        Camera(
            name="sdss",
            number=2,
            bands=("u", "g", "r", "i", "z"),
            pixel_scale_arcsec=0.396,
            psf_fwhm_arcsec=(1.53, 1.44, 1.32, 1.26, 1.29),
            psf_scatter_dex=0.05,
            psf_beta=3.0,
            depth_mag=(22.1, 23.3, 22.8, 22.3, 20.8),
            photons=(160.0, 1030.0, 920.0, 730.0, 144.0),
        ),
    )
}
