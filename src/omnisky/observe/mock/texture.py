"""What no smooth profile has: spiral arms, clumps of young stars, tidal tails. Drawn on pixels, in the disc's plane."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from omnisky.observe.mock.truth import Truth

_REACH = 6.0  # scale lengths
_PATCH = 28  # the patchwork of clumps has this many knots on a side of 2 × _REACH scale lengths


def texture(
    seen: Truth, row: int, fft_px: int, pixel_scale_arcsec: float, lots: np.random.Generator
) -> Float[np.ndarray, "fft_px fft_px"] | None:
    """A pattern of unit sum in FFT order about (−½, −½) pixel, or None: nothing there, or too small or flat to see."""
    length = float(seen.disc_arcsec[row]) / 1.678
    flat = float(seen.axis_ratio[row])
    if not seen.arm_strength[row] > 0 or length < pixel_scale_arcsec or seen.inclination_deg[row] > 75:
        return None
    half = int(min(np.ceil(_REACH * length / pixel_scale_arcsec), fft_px // 2 - 1))
    axis = np.arange(-half, half)
    arcsec = (axis + 0.5) * pixel_scale_arcsec
    angle = np.radians(90 + seen.position_angle_deg[row])
    along = (arcsec[None, :] * np.cos(angle) + arcsec[:, None] * np.sin(angle)) / length
    across = (-arcsec[None, :] * np.sin(angle) + arcsec[:, None] * np.cos(angle)) / length / flat
    radius, azimuth = np.hypot(along, across), np.arctan2(across, along)
    pattern = np.exp(-radius) * (1 - np.exp(-((radius / 0.7) ** 2)))
    start = lots.uniform(0, 2 * np.pi)
    if seen.arms[row] > 0:
        wound = np.log(radius + 1e-3) / np.tan(np.radians(seen.arm_pitch_deg[row]))
        crest = np.cos(seen.arms[row] * (azimuth - wound) + start)
        pattern *= np.exp(2.2 * (crest - 1))
    pattern *= np.exp((1.2 if seen.is_irregular[row] else 0.8) * _clumps(along, across, lots))
    pattern[radius > _REACH] = 0
    if seen.is_merger[row]:
        pattern = pattern / pattern.sum() + 0.35 * _tail(radius, azimuth, start)
    whole = np.zeros((fft_px, fft_px), dtype=np.float32)
    whole[np.ix_(axis, axis)] = pattern / pattern.sum()
    return whole


def _clumps(along: np.ndarray, across: np.ndarray, lots: np.random.Generator) -> np.ndarray:
    """A field of chance with unit scatter at its knots, smooth between them: the same at every pixel scale."""
    from scipy.ndimage import map_coordinates

    knots = lots.standard_normal((_PATCH, _PATCH))
    to_knots = (_PATCH - 1) / 2 / _REACH
    at = np.stack([(across + _REACH) * to_knots, (along + _REACH) * to_knots])
    return map_coordinates(knots, at, order=1, mode="nearest")


def _tail(radius: np.ndarray, azimuth: np.ndarray, start: float) -> np.ndarray:
    """One wide arm that is hardly wound, of unit sum."""
    crest = np.cos(azimuth - 1.2 * np.log(radius + 0.1) + start)
    tail = np.exp(-radius / 2.2) * np.exp(6 * (crest - 1)) * (radius > 1.2) * (radius < _REACH)
    return tail / tail.sum()
