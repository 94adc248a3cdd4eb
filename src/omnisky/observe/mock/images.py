"""Pictures: every source drawn once in Fourier space, then coloured, blurred and sampled band by band.

Sérsic profiles and point sources are GalSim's (Rowe et al. 2015, A&C 10, 121), evaluated at the wave vectors of a grid
half again as wide as the cut-out; spiral arms, clumps and tidal tails are drawn on pixels and transformed. A band is
the sum of all sources, each with its flux there, times the transforms of that band's PSF and of the pixel. So one
object takes one transform for each band, and its shape is the same in all of them.

Rows of pixels run from south to north, columns from east to west; the object is in the middle, at (79.5, 79.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Complex, Float, Num

from omnisky.errors import MissingExtra
from omnisky.observe.mock.cameras import Camera
from omnisky.observe.mock.chances import Use, generator
from omnisky.observe.mock.light import Light
from omnisky.observe.mock.photometry import HINT
from omnisky.observe.mock.surroundings import Sources, about
from omnisky.observe.mock.texture import texture
from omnisky.observe.mock.truth import Truth
from omnisky.observe.types import Image


@dataclass(frozen=True, eq=False)
class Grid:
    """Pixels of a cut-out and the wave vectors that go with them. In FFT order: position 0 is entry (0, 0)."""

    size_px: int
    pixel_scale_arcsec: float
    fft_px: int

    @property
    def step(self) -> float:
        """between wave vectors, rad/arcsec"""
        return 2 * np.pi / (self.fft_px * self.pixel_scale_arcsec)

    def transform(self, profile: Any) -> Complex[np.ndarray, "ky kx"]:
        """Of a GalSim profile, on the half plane that `irfft2` wants."""
        galsim = _galsim()
        half = self.fft_px // 2
        plane = galsim.ImageCF(galsim.BoundsI(0, half, -half, half - 1), scale=self.step)
        profile.drawKImage(image=plane, recenter=False)
        return np.fft.ifftshift(plane.array, axes=0)

    def picture(self, transformed: Num[np.ndarray, "ky kx"]) -> Float[np.ndarray, "height width"]:
        """The cut-out."""
        from scipy.fft import irfft2

        whole = irfft2(transformed, s=(self.fft_px, self.fft_px))
        at = np.arange(-(self.size_px // 2), self.size_px - self.size_px // 2)
        return whole[np.ix_(at, at)]


def needs_galsim() -> None:
    """Raises MissingExtra without it."""
    _galsim()


@cache
def _galsim() -> Any:
    try:
        import galsim
    except ImportError as error:
        raise MissingExtra("mock images are drawn with GalSim", hint=HINT) from error
    return galsim


@cache
def grid(camera: Camera) -> Grid:
    """The grid of a camera's cut-outs."""
    return Grid(camera.size_px, camera.pixel_scale_arcsec, 3 * camera.size_px // 2)


_FWHM_STEP = 0.02  # arcsec: PSFs are rounded to this, and kept


@cache
def blur(camera: Camera, fwhm_steps: int) -> Float[np.ndarray, "ky kx"]:
    """Transform of a camera's PSF and pixel."""
    galsim = _galsim()
    psf = galsim.Moffat(beta=camera.psf_beta, fwhm=1.0).dilate(fwhm_steps * _FWHM_STEP)
    pixel = galsim.Pixel(camera.pixel_scale_arcsec)
    here = grid(camera)
    return (here.transform(psf) * here.transform(pixel)).real.astype(np.float32)


@cache
def sky_sigma(camera: Camera) -> Float[np.ndarray, " band"]:
    """Noise of a pixel without source, nanomaggies: a point source of the stated depth is 5 σ by its PSF's weight."""
    five_sigma = 10 ** (-0.4 * (np.array(camera.depth_mag) - 22.5))
    psf = [grid(camera).picture(blur(camera, round(fwhm / _FWHM_STEP))) for fwhm in camera.psf_fwhm_arcsec]
    return five_sigma / 5 * np.array([np.sqrt((one.astype(np.float64) ** 2).sum()) for one in psf])


PARTS = ("bulge", "disc", "bar", "arms", "clumps", "companion")
"""what a galaxy is drawn of; clumps are those of young stars where there are no arms"""

# --- sources ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Drawn:
    """One source, or one part of it, drawn with unit flux."""

    transform: Complex[np.ndarray, "ky kx"]
    flux: Float[np.ndarray, " band"]
    """nanomaggies"""
    part: str = "source"
    """of a galaxy one of `PARTS`; stars and neighbours are whole"""


def _turned(profile: Any, axis_ratio: float, position_angle_deg: float) -> Any:
    """Flattened along its minor axis, the major one at this angle; `profile` has the major half-light radius."""
    galsim = _galsim()
    flat = profile.transform(1, 0, 0, axis_ratio) / axis_ratio
    return flat.rotate((90 + position_angle_deg) * galsim.degrees)


def _sersic(sersic: float, radius: float) -> Any:
    return _galsim().Sersic(n=sersic, half_light_radius=1.0).dilate(max(radius, 0.01))


def galaxy(seen: Truth, row: int, light: Float[np.ndarray, "band 3"], camera: Camera, seed: int) -> Iterator[Drawn]:
    """A galaxy's bulge, disc, bar, arms, and companion; `light` is that of bulge, disc and young stars, nanomaggies."""
    here, galsim = grid(camera), _galsim()
    pa, q = float(seen.position_angle_deg[row]), float(seen.axis_ratio[row])
    middle = -0.5 * camera.pixel_scale_arcsec
    companion = float(seen.companion_fraction[row])
    bulge, disc, young = (light * (1 - companion)).T

    def draw(profile: Any, flux: np.ndarray, part: str) -> Drawn:
        return Drawn(here.transform(profile.shift(middle, middle)), flux, part)

    if seen.bulge_mass_fraction[row] > 0:
        shape = _sersic(float(seen.bulge_sersic[row]), float(seen.bulge_arcsec[row]))
        spheroid = seen.bulge_mass_fraction[row] == 1
        flux = bulge + disc + young if spheroid else bulge
        yield draw(_turned(shape, float(seen.bulge_axis_ratio[row]), pa), flux, "bulge")
    if seen.bulge_mass_fraction[row] < 1:
        radius = float(seen.disc_arcsec[row])
        smooth = _turned(galsim.Exponential(half_light_radius=radius), q, pa)
        bar = float(seen.bar_fraction[row])
        if bar > 0:
            angle = float(seen.bar_angle_deg[row])
            inner = _sersic(0.75, 0.55 * radius).transform(1, 0, 0, 0.35).rotate(angle * galsim.degrees)
            yield draw(_turned(inner / 0.35, q, pa), bar * disc, "bar")
        lots = generator(seed, int(seen.index[row]), Use.TEXTURE, 1)
        pattern = texture(seen, row, here.fft_px, camera.pixel_scale_arcsec, lots)
        share = 0.0 if pattern is None else float(seen.arm_strength[row])
        if pattern is not None:
            from scipy.fft import rfft2

            flux = share * young + 0.3 * share * (1 - bar) * disc
            yield Drawn(rfft2(pattern), flux, "arms" if seen.arms[row] > 0 else "clumps")
        yield draw(smooth, (1 - share) * young + (1 - 0.3 * share) * (1 - bar) * disc, "disc")
    if companion > 0:
        away, angle = float(seen.companion_arcsec[row]), np.radians(seen.companion_angle_deg[row])
        other = _turned(
            _sersic(2.0, 0.6 * float(seen.half_light_arcsec[row])), 0.7, float(seen.companion_angle_deg[row])
        )
        there = other.shift(-away * np.sin(angle), away * np.cos(angle))
        yield draw(there, companion * light.sum(axis=1), "companion")


def point(camera: Camera, flux: Float[np.ndarray, " band"], east: float = 0.0, north: float = 0.0) -> Drawn:
    """A star, this many arcsec from the middle."""
    here, middle = grid(camera), -0.5 * camera.pixel_scale_arcsec
    return Drawn(here.transform(_galsim().DeltaFunction().shift(middle - east, middle + north)), flux)


def neighbour(camera: Camera, sources: Sources, row: int, flux: Float[np.ndarray, " band"]) -> Drawn:
    """One of the sources about an object."""
    east, north = float(sources.east_arcsec[row]), float(sources.north_arcsec[row])
    if sources.is_star[row]:
        return point(camera, flux, east, north)
    shape = _sersic(float(sources.sersic[row]), float(sources.half_light_arcsec[row]))
    turned = _turned(shape, float(sources.axis_ratio[row]), float(sources.position_angle_deg[row]))
    middle = -0.5 * camera.pixel_scale_arcsec
    return Drawn(grid(camera).transform(turned.shift(middle - east, middle + north)), flux)


def in_view(index: int, camera: Camera, seed: int, most: int = 19) -> Sources:
    """The sources drawn about an object: those a little fainter than the depth and brighter, the nearest `most`."""
    sources = about(index, seed)
    reach = (camera.size_px / 2 - 1) * camera.pixel_scale_arcsec
    near = np.maximum(np.abs(sources.east_arcsec), np.abs(sources.north_arcsec)) < reach
    depth = camera.depth_mag[camera.bands.index("r")] + 0.3
    return sources.take(np.flatnonzero(near & (sources.r_mag < depth))[:most])


# --- pictures -----------------------------------------------------------------------------------------------------


def psf_steps(index: int, camera: Camera, seed: int) -> list[int]:
    """Seeing of one object in each band, in steps of 0.02″: nights are good or bad in all bands, but for a bit."""
    lots = generator(seed, index, Use.IMAGE + camera.number, 1)
    night = lots.normal(0, camera.psf_scatter_dex)
    dex = night + lots.normal(0, 0.3 * camera.psf_scatter_dex, len(camera.bands))
    return [round(f * 10**d / _FWHM_STEP) for f, d in zip(camera.psf_fwhm_arcsec, np.clip(dex, -0.2, 0.2), strict=True)]


def noiseless(seen: Truth, row: int, light: Light, camera: Camera, seed: int) -> Float[np.ndarray, "band height width"]:
    """Expected nanomaggies in each pixel, neighbours included."""
    index = int(seen.index[row])
    fluxes = light.bands(camera.name)
    drawn = [point(camera, fluxes.sum(axis=1))] if seen.is_star[row] else list(galaxy(seen, row, fluxes, camera, seed))
    sources = in_view(index, camera, seed)
    drawn += [neighbour(camera, sources, i, flux) for i, flux in enumerate(sources.flux(camera.name))]
    here = grid(camera)
    bands = []
    for band, steps in enumerate(psf_steps(index, camera, seed)):
        total = np.zeros((here.fft_px, here.fft_px // 2 + 1), dtype=np.complex64)
        for one in drawn:
            total += one.transform * np.float32(one.flux[band])
        bands.append(here.picture(total * blur(camera, steps)))
    return np.stack(bands)


def components(
    seen: Truth, row: int, light: Light, camera: Camera, seed: int, band: str = "r"
) -> dict[str, Float[np.ndarray, "height width"]]:
    """Expected nanomaggies in each pixel of one band, by the parts of a galaxy; a star has none."""
    if seen.is_star[row]:
        return {}
    here, number = grid(camera), camera.bands.index(band)
    seeing = blur(camera, psf_steps(int(seen.index[row]), camera, seed)[number])
    drawn = galaxy(seen, row, light.bands(camera.name), camera, seed)
    return {one.part: here.picture(one.transform * np.float32(one.flux[number]) * seeing) for one in drawn}


def observe(seen: Truth, light: Sequence[Light], camera: Camera, seed: int) -> Image:
    """Cut-outs with noise of sky and of photons; `ivar` is exactly that of the noise added, and 0 where not `good`."""
    shape = len(seen), len(camera.bands), camera.size_px, camera.size_px
    flux, ivar = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
    good = np.empty(shape, dtype=bool)
    sky = sky_sigma(camera)[:, None, None] ** 2
    photons = np.array(camera.photons)[:, None, None]
    for row, one in enumerate(light):
        lots = generator(seed, int(seen.index[row]), Use.IMAGE + camera.number)
        expected = noiseless(seen, row, one, camera, seed)
        exposure = 10 ** (2 * lots.normal(0, camera.depth_scatter_dex, (len(camera.bands), 1, 1)))
        variance = (sky * exposure + np.maximum(expected, 0) / photons).astype(np.float32)
        flux[row] = expected + np.sqrt(variance) * lots.standard_normal(shape[1:], dtype=np.float32)
        ivar[row] = 1 / variance
        good[row] = _unhurt(shape[1:], lots)
    ivar[~good], flux[~good] = 0, 0
    fwhm = np.array([psf_steps(int(i), camera, seed) for i in seen.index]).reshape(len(seen), -1) * _FWHM_STEP
    return Image(
        flux=flux,
        bands=camera.bands,
        survey=camera.name,
        pixel_scale_arcsec=camera.pixel_scale_arcsec,
        ivar=ivar,
        good=good,
        psf_fwhm_arcsec=fwhm.astype(np.float32),
    )


def _unhurt(shape: tuple[int, ...], lots: np.random.Generator) -> Bool[np.ndarray, "band height width"]:
    """False on a bad column of the detector (one in fifty images) and where cosmic rays left short tracks."""
    good = np.ones(shape, dtype=bool)
    bands, height, width = shape
    for band in range(bands):
        if lots.random() < 0.02:
            good[band, :, lots.integers(width)] = False
        for _ in range(lots.poisson(0.3)):
            y, x, angle = lots.integers(height), lots.integers(width), lots.uniform(0, 2 * np.pi)
            along = np.arange(lots.integers(2, 12))
            rows = np.clip(np.round(y + along * np.sin(angle)), 0, height - 1).astype(int)
            good[band, rows, np.clip(np.round(x + along * np.cos(angle)), 0, width - 1).astype(int)] = False
    return good
