"""Light curves with known truth: supernovae, Cepheids and quasars, as Rubin's LSST would see them. Small, but physics.

- supernova: ⁵⁶Ni and ⁵⁶Co heat a diffusing shell (Arnett 1982, ApJ 253, 785), which leaks γ rays after a while
  (Clocchiatti & Wheeler 1997, ApJ 491, 375); its photosphere expands at one speed until it has cooled to a floor
  (Nicholl et al. 2017, ApJ 850, 55) and shines as a black body: no lines, so too bright in the ultraviolet.
- Cepheid: a black body with the radius of its period (Gieren, Fouqué & Gómez 1998, ApJ 496, 17) that pulsates, its
  temperature as a saw-tooth.
- quasar: a power law (Vanden Berk et al. 2001, AJ 122, 549) times a damped random walk (Kelly, Bechtold &
  Siemiginowska 2009, ApJ 698, 895) whose strength falls towards the red (MacLeod et al. 2010, ApJ 721, 1014).

Depths and errors: Ivezić et al. 2019, ApJ 873, 111, table 2 and eq. 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float, Integer

from omnisky.errors import BadValue
from omnisky.observe.mock import cosmos
from omnisky.observe.shards import Shards, write_shards
from omnisky.observe.types import LightCurve, Observation, Scalars

BANDS = ("u", "g", "r", "i", "z", "y")
WAVE_AA = np.array([3671.0, 4827.0, 6223.0, 7546.0, 8691.0, 9712.0])
"""effective wavelengths"""
DEPTH_MAG = np.array([23.9, 25.0, 24.7, 24.0, 23.3, 22.1])
"""5 σ, one visit"""
KINDS = ("supernova", "cepheid", "quasar")
TRUTH = ("kind", "redshift", "period_d", "explosion_mjd", "nickel_msun", "damping_d")
"""columns; `kind` is a place in KINDS, NaN where a number is not of this kind"""
_SPEED, _PLANCK, _BOLTZMANN, _STEFAN = 2.998e10, 6.626e-27, 1.381e-16, 5.670e-5
_SUN_G, _SUN_CM, _MPC_CM, _NMGY = 1.989e33, 6.957e10, 3.0857e24, 3.631e-29
_DAY_S = 86400.0
_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class MockCurves:
    """So many variable sources: a source of observations, object i the same in whatever order and company."""

    objects: int
    seed: int = 0
    days: int = 240
    """of one season"""
    epochs: int = 120
    """at most; nights are drawn, two bands each"""
    start_mjd: float = 61_000.0

    def __post_init__(self) -> None:
        if self.objects < 1 or self.epochs < 2 or self.epochs > 2 * self.days:
            saw = f"{self.objects} objects, {self.epochs} epochs in {self.days} days"
            raise BadValue("MockCurves", saw=saw, want="1 object or more, 2 epochs or more, at most 2 a day")

    def __len__(self) -> int:
        return self.objects

    def take(self, index: Any) -> Observation:
        """The chosen objects: `light_curve` with noise, `truth`."""
        return self._made(index, noise=True)

    def noiseless(self, index: Any) -> Observation:
        """The same before there was noise; errors are told all the same."""
        return self._made(index, noise=False)

    def _made(self, index: Any, noise: bool) -> Observation:
        rows = np.atleast_1d(np.arange(self.objects)[index])
        made = [self._one(int(i), noise) for i in rows]
        flux, ivar, time, band = (np.stack([one[k] for one in made]) for k in range(4))
        curve = LightCurve(
            flux=flux.astype(np.float32), ivar=ivar.astype(np.float32), time_mjd=time, band=band, bands=BANDS
        )
        truth = Scalars(values=np.stack([one[4] for one in made]), names=TRUTH)
        ra, dec = np.stack([one[5] for one in made]).T
        ids = [f"mock-curve-{self.seed}-{i:08d}" for i in rows]
        return Observation.of(ids, ra, dec, light_curve=curve, truth=truth)

    def _one(self, i: int, noise: bool) -> tuple[np.ndarray, ...]:
        draw = np.random.default_rng([self.seed, i])
        place = np.array([draw.uniform(0, 360), np.degrees(np.arcsin(draw.uniform(-1, 1)))])
        nights = np.sort(draw.choice(self.days, (self.epochs + 1) // 2, replace=False))
        time = np.sort((nights[:, None] + draw.uniform(0.1, 0.4, (len(nights), 2))).ravel())[: self.epochs]
        band = draw.integers(len(BANDS), size=len(time))
        truth = dict.fromkeys(TRUTH, np.nan)
        kind = int(draw.integers(len(KINDS)))
        make = (_supernova, _cepheid, _quasar)[kind]
        flux = make(draw, time, band, truth, self)
        sigma = error_nmgy(flux, band)
        seen = flux + sigma * draw.normal(size=len(time)) if noise else flux
        truth["kind"] = kind
        return seen, sigma**-2.0, time + self.start_mjd, band, np.array([truth[name] for name in TRUTH]), place


def error_nmgy(flux: Float[np.ndarray, " epoch"], band: Integer[np.ndarray, " epoch"]) -> Float[np.ndarray, " epoch"]:
    """σ of a visit: Ivezić et al. 2019, eq. 5, and 0.005 mag that no exposure removes."""
    least = 10 ** ((22.5 - DEPTH_MAG[band]) / 2.5)
    gamma = np.where(band == 0, 0.038, 0.039)
    bright = np.maximum(flux, 0)
    return np.sqrt((0.04 - gamma) * least * bright + gamma * least**2 + (0.005 * bright) ** 2)


def write_curves(
    folder: str | Path, objects: int, *, seed: int = 0, watch: Callable[[int, int], None] | None = None
) -> Shards:
    """So many of them in shards. Killed, the same call goes on; done, it opens them. Raises BadValue, StorageError."""
    source = MockCurves(objects=objects, seed=seed)
    told = (f"mock light curves, seed {seed}, {objects} objects",)
    return write_shards(_Pieces(source, watch), folder, sources=told)


@dataclass(frozen=True)
class _Pieces(Sequence[Observation]):
    source: MockCurves
    watch: Callable[[int, int], None] | None

    def __len__(self) -> int:
        return -(-len(self.source) // _AT_ONCE)

    @overload
    def __getitem__(self, index: int) -> Observation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Observation]: ...
    def __getitem__(self, index: int | slice) -> Observation | Sequence[Observation]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        end = min((index + 1) * _AT_ONCE, len(self.source))
        piece = self.source.take(slice(index * _AT_ONCE, end))
        if self.watch is not None:
            self.watch(end, len(self.source))
        return piece


# --- sources -------------------------------------------------------------------------------------------------------


def black_body_nmgy(radius_cm: Any, kelvin: Any, distance_mpc: Any, redshift: Any, wave_aa: Any) -> np.ndarray:
    """(1 + z) π B_ν(ν (1 + z), T) (R/D_L)², AB nanomaggies, at the wavelength of the observer."""
    nu = _SPEED / (np.asarray(wave_aa) * 1e-8) * (1 + redshift)
    x = np.minimum(_PLANCK * nu / (_BOLTZMANN * np.maximum(kelvin, 1.0)), 500)
    surface = np.pi * 2 * _PLANCK * nu**3 / _SPEED**2 / np.expm1(x)
    return np.asarray((1 + redshift) * surface * (radius_cm / (distance_mpc * _MPC_CM)) ** 2 / _NMGY)


def arnett_erg_s(days: Float[np.ndarray, " time"], nickel_msun: float, diffusion_d: float, leak_d: float) -> np.ndarray:
    """What a supernova radiates so many days after it exploded, in its own frame; 0 before."""
    grid = np.linspace(0, max(float(days.max()), 1.0), 2000)
    heat = 3.9e10 * np.exp(-grid / 8.8) + 6.78e9 * (np.exp(-grid / 111.3) - np.exp(-grid / 8.8))
    x = (grid / diffusion_d) ** 2
    with np.errstate(divide="ignore"):  # in logarithms: exp(x) of late times overflows
        terms = x + np.log(grid[1] / diffusion_d * grid / diffusion_d * heat)
    inner = np.exp(np.logaddexp.accumulate(terms) - x)
    held = 1 - np.exp(-((leak_d / np.maximum(grid, 1e-3)) ** 2))
    return np.where(days > 0, np.interp(days, grid, 2 * nickel_msun * _SUN_G * inner * held), 0)


def _supernova(
    draw: np.random.Generator, time: np.ndarray, band: np.ndarray, truth: dict[str, float], season: MockCurves
) -> np.ndarray:
    z, begun = float(draw.uniform(0.02, 0.3)), float(draw.uniform(-20, 0.7 * season.days))
    nickel = float(draw.uniform(0.3, 0.9))
    truth |= {"redshift": z, "explosion_mjd": begun + season.start_mjd, "nickel_msun": nickel}
    age = (time - begun) / (1 + z)
    power = arnett_erg_s(age, nickel, draw.uniform(10, 16), draw.uniform(32, 45))
    expanded = draw.uniform(0.9e9, 1.2e9) * np.maximum(age, 1e-3) * _DAY_S
    floor = draw.uniform(5000, 7000)
    radius = np.minimum(expanded, np.sqrt(power / (4 * np.pi * _STEFAN * floor**4)))
    kelvin = np.where(radius > 0, (power / (4 * np.pi * _STEFAN * np.maximum(radius, 1.0) ** 2)) ** 0.25, 0)
    distance = 10 ** ((float(cosmos.distance_modulus(np.array(z))) - 25) / 5)
    return np.where(power > 0, black_body_nmgy(radius, kelvin, distance, z, WAVE_AA[band]), 0)


def _cepheid(
    draw: np.random.Generator, time: np.ndarray, band: np.ndarray, truth: dict[str, float], season: MockCurves
) -> np.ndarray:
    period = truth["period_d"] = float(10 ** draw.uniform(1.0, 1.9))
    phase = 2 * np.pi * (time / period + draw.uniform())
    swing = sum(np.sin(k * phase) / k for k in (1, 2, 3)) / 1.5
    radius = 10 ** (0.680 * np.log10(period) + 1.146) * _SUN_CM * (1 + draw.uniform(0.05, 0.12) * np.cos(phase))
    kelvin = draw.uniform(5300, 5800) * (1 + draw.uniform(0.05, 0.12) * swing)
    return black_body_nmgy(radius, kelvin, 10 ** draw.uniform(-0.5, 0.7), 0.0, WAVE_AA[band])


def _quasar(
    draw: np.random.Generator, time: np.ndarray, band: np.ndarray, truth: dict[str, float], season: MockCurves
) -> np.ndarray:
    z = truth["redshift"] = float(draw.uniform(0.3, 2.5))
    damping = truth["damping_d"] = float(10 ** draw.normal(2.3, 0.3) * (1 + z))
    walk = np.empty(len(time))
    walk[0] = draw.normal()
    for k, keep in enumerate(np.exp(-np.diff(time) / damping), start=1):
        walk[k] = keep * walk[k - 1] + np.sqrt(1 - keep**2) * draw.normal()
    spread = float(10 ** draw.normal(-0.8, 0.15)) * (WAVE_AA[band] / (1 + z) / 4000) ** -0.479
    steady = 10 ** ((22.5 - draw.uniform(17.5, 21.5)) / 2.5) * (WAVE_AA[band] / WAVE_AA[3]) ** 0.44
    return steady * 10 ** (-0.4 * spread * walk)
