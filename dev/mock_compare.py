"""The mock population beside real catalogues: samples cut alike, and how far apart they are, in numbers.

What the population was tuned on, or what was seen while it was, is marked `tuned`: SDSS main galaxies, zCOSMOS, VVDS,
DESI's line widths, z − W1 of CANDELS, RESOLVE's and ECO's sizes and rates. Everything else was not looked at, and must
stay so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from deep_filters import DEEP

from omnisky.observe.mock import Population, catalogue, cosmos
from omnisky.observe.mock.light import Light, lit
from omnisky.observe.mock.lines import NAMES
from omnisky.observe.mock.photometry import Curve, magnitude, nanomaggies
from omnisky.observe.mock.truth import Truth

SDSS = {band: f"sdss2010-{band}" for band in "ugriz"}
DEEP_BANDS = {f"deep {band}": curve for band, curve in DEEP.items()}
_TO_AB = {"u": -0.04, "g": 0.0, "r": 0.0, "i": 0.0, "z": 0.02}
"""mag: SDSS's zero points are not quite AB (www.sdss4.org/dr17/algorithms/fluxcal, "SDSS to AB")"""


@dataclass(frozen=True)
class Pair:
    """One quantity of a real and of a mock sample."""

    catalogue: str
    quantity: str
    real: np.ndarray
    mock: np.ndarray
    span: tuple[float, float]
    """of the axis"""
    tuned: bool = False

    def distance(self) -> float:
        """Kolmogorov and Smirnov's: the largest difference of the cumulative shares."""
        return _ks(np.sort(self.real), np.sort(self.mock))

    def row(self, lots: np.random.Generator, resamplings: int = 200) -> tuple[str, ...]:
        """Medians, half of the central 68 %, KS; errors by bootstrap of both."""
        draws = [
            (lots.choice(self.real, len(self.real)), lots.choice(self.mock, len(self.mock))) for _ in range(resamplings)
        ]
        shift = np.array([np.median(mock) - np.median(real) for real, mock in draws]).std()
        ks = np.array([_ks(np.sort(real), np.sort(mock)) for real, mock in draws]).std()
        real, mock = np.median(self.real), np.median(self.mock)
        return (
            self.catalogue,
            self.quantity,
            f"{len(self.real):,}",
            f"{len(self.mock):,}",
            f"{real:.3f}",
            f"{mock:.3f}",
            f"{mock - real:+.3f} ± {shift:.3f}",
            f"{_spread(self.real):.3f}",
            f"{_spread(self.mock):.3f}",
            f"{self.distance():.3f} ± {ks:.3f}",
        )


HEADERS = ("catalogue", "quantity", "real", "mock", "median", "of mock", "mock − real", "scatter", "of mock", "KS")


def _ks(real: np.ndarray, mock: np.ndarray) -> float:
    every = np.concatenate([real, mock])
    below = [np.searchsorted(one, every, side="right") / len(one) for one in (real, mock)]
    return float(np.abs(below[0] - below[1]).max())


def _spread(values: np.ndarray) -> float:
    return float(np.diff(np.percentile(values, [16, 84]))[0] / 2)


# --- samples ------------------------------------------------------------------------------------------------------


@cache
def mock(limit: float, number: int) -> dict[str, np.ndarray]:
    """Truth, magnitudes without the Milky Way's dust (SDSS, the deep fields', W1 and W2), line widths and fluxes."""
    seen, light = undimmed(Population(seed=21, faintest_r_mag=limit, stars=0.0), number)
    columns = magnitudes(light, SDSS | DEEP_BANDS)
    infrared = catalogue.wise(seen, light)
    columns |= {"W1": magnitude(infrared[:, 0]), "W2": magnitude(infrared[:, 1])}
    columns |= {f"ew_{name}": np.array([one.line_ew_aa[i] for one in light]) for i, name in enumerate(NAMES)}
    columns |= {f"flux_{name}": np.array([one.line_flux[i] for one in light]) for i, name in enumerate(NAMES)}
    return vars(seen) | columns


@cache
def stars(number: int) -> dict[str, np.ndarray]:
    """Magnitudes of stars without the Milky Way's dust."""
    return magnitudes(undimmed(Population(seed=23, faintest_r_mag=22.0, stars=1.0), number)[1], DEEP_BANDS)


def undimmed(population: Population, number: int) -> tuple[Truth, list[Light]]:
    """The first so many of a population and their light, without the Milky Way's dust."""
    seen = population.truth(np.arange(number))
    seen = replace(seen, ebv_mag=np.zeros(len(seen)))
    return seen, list(lit(seen, population.seed))


def magnitudes(light: list[Light], curves: Mapping[str, str | Curve]) -> dict[str, np.ndarray]:
    """AB magnitudes, name → one a source."""
    flux: dict[str, list[float]] = {name: [] for name in curves}
    for one in light:
        wave, parts = one.coarse
        for name, curve in curves.items():
            flux[name].append(float(nanomaggies(parts.sum(axis=0), wave, curve)))
    return {name: magnitude(np.array(values)) for name, values in flux.items()}


@cache
def nearby(number: int) -> dict[str, np.ndarray]:
    """Star-forming galaxies of z < 0.06, to compare at fixed mass with RESOLVE and ECO."""
    population = Population(seed=22, faintest_r_mag=18.5, stars=0.0)
    seen = population.truth(np.arange(number))
    seen = seen.take((seen.redshift < 0.06) & (seen.log_ssfr > -11))
    light = list(lit(seen, population.seed))
    fluxes = {f"flux_{name}": np.array([one.line_flux[i] for one in light]) for i, name in enumerate(NAMES)}
    return vars(seen) | fluxes


def table(path: Path) -> dict[str, np.ndarray]:
    """A real catalogue."""
    rows = pq.read_table(path)
    return {column: rows[column].to_numpy() for column in rows.column_names}


def some(sample: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column[rows] for name, column in sample.items() if len(column) == len(rows)}


# --- pairs --------------------------------------------------------------------------------------------------------


def pairs(data: Path, number: int) -> Iterator[Pair]:
    """Every quantity that is compared."""
    catalogues = data / "catalogs"
    yield from main_galaxies(catalogues, number)
    yield from zcosmos(catalogues, number)
    yield from vvds(catalogues, number)
    yield from candels(catalogues, number)
    yield from line_widths(data, number)
    yield from resolve(catalogues, number)


def main_galaxies(folder: Path, number: int) -> Iterator[Pair]:
    ours = mock(17.77, number)
    spans = {"u-g": (0.3, 2.5), "g-r": (0, 1.5), "r-i": (0, 0.7), "i-z": (-0.1, 0.6)}
    for part in ("train", "test"):
        real = table(folder / f"sdss_mgs_photoz_{part}.parquet")
        real = some(real, real["r"] < 17.77)
        name = f"SDSS main galaxies, {part}"
        yield Pair(name, "z", real["zs"], ours["redshift"], (0, 0.3), True)
        for colour, span in spans.items():
            a, b = colour.split("-")
            theirs = real[a] + _TO_AB[a] - real[b] - _TO_AB[b]
            yield Pair(name, colour.replace("-", " − "), theirs, ours[a] - ours[b], span, True)


_DEEP_SPANS = {"u": (-0.3, 3), "g": (-0.3, 2), "r": (-0.3, 1.8), "i": (-0.3, 1)}
"""mag, of the colour of this band and the next"""
_SUBARU = {"u": "u*", "g": "g+", "r": "r+", "i": "i+", "z": "z+"}
_MEGACAM = {"u": "u*", "g": "g", "r": "r", "i": "i", "z": "z"}


def zcosmos(folder: Path, number: int) -> Iterator[Pair]:
    """Redshifts of the secure (Lilly et al. 2009, ApJS 184, 218); colours, MegaCam's u* and Subaru's g+ … z+."""
    ours = mock(23.3, number)
    real = table(folder / "zcosmos_bright20k.parquet")
    band = {name: _magnitude(real[f"{name}_photzi25"]) for name in _SUBARU}
    sure = (real["cc"] >= 3) & (real["cc"] < 5) & (real["mag_sel"] > 15)
    far = sure & (real["zpec"] > 0.01)
    ours = some(ours, ours["i"] < 22.5)
    name = "zCOSMOS, i < 22.5"
    yield Pair(name, "z", real["zpec"][far], ours["redshift"], (0, 1.5), True)
    yield from _deep_colours(name, some(band, far), ours, _SUBARU)
    yield from _locus("zCOSMOS, stars", some(band, sure & (real["zpec"] < 0.005)), number, _SUBARU)


def vvds(folder: Path, number: int) -> Iterator[Pair]:
    """Redshifts with flags 2, 3, 4 and 9 (75 % sure or more; Le Fèvre et al. 2005, A&A 439, 845)."""
    for part, limit, deepest in (("wide", 22.5, 23.3), ("deep", 24.0, 25.0)):
        ours = mock(deepest, number)
        ours = some(ours, (ours["deep i"] < limit) & (ours["deep i"] > 17.5))
        real = table(folder / f"vvds_{part}.parquet")
        sure = np.isin(real["zflags"] % 10, (2, 3, 4, 9)) & (real["zflags"] < 10)
        sure &= (real["magi"] > 17.5) & (real["magi"] < limit)
        far = sure & (real["z"] > 0.01)
        name = f"VVDS {part}, 17.5 < I < {limit}"
        yield Pair(name, "z", real["z"][far], ours["redshift"], (0, 2.0), True)
        if part == "wide":
            continue  # no u, g, r, i, z there
        band = {one: _magnitude(real[f"mag_auto_{one}"]) for one in _MEGACAM}
        yield from _deep_colours(name, some(band, far), ours, _MEGACAM)
        yield from _locus("VVDS deep, stars", some(band, sure & (real["z"] < 0.005)), number, _MEGACAM)


def _magnitude(column: np.ndarray) -> np.ndarray:
    """NaN where a catalogue says −99 or 99."""
    return np.where((column > 10) & (column < 35), column, np.nan)


def _deep_colours(
    name: str, real: dict[str, np.ndarray], ours: dict[str, np.ndarray], bands: Mapping[str, str]
) -> Iterator[Pair]:
    for (a, span), b in zip(_DEEP_SPANS.items(), "griz", strict=True):
        theirs, mine = real[a] - real[b], ours[f"deep {bands[a]}"] - ours[f"deep {bands[b]}"]
        yield Pair(name, f"{a} − {b}", theirs[np.isfinite(theirs)], mine[np.isfinite(mine)], span, True)


def _locus(name: str, real: dict[str, np.ndarray], number: int, bands: Mapping[str, str]) -> Iterator[Pair]:
    """Colours of F to K stars, less what their g − i lets expect of the templates: zero points, the galaxies' too."""
    mine = {a: stars(number)[f"deep {b}"] for a, b in bands.items()}
    for a, b in ("gr", "ri", "iz"):
        line, found = None, []
        for band in (mine, real):
            across, colour = band["g"] - band["i"], band[a] - band[b]
            there = (across > 0.3) & (across < 1.2) & np.isfinite(colour)
            across, colour = across[there], colour[there]
            line = np.polyfit(across, colour, 2) if line is None else line
            found.append(colour - np.polyval(line, across))
        yield Pair(name, f"{a} − {b} at its g − i", found[1], found[0], (-0.3, 0.3))


def candels(folder: Path, number: int) -> Iterator[Pair]:
    """Infrared colours of GOODS-S, z < 1: IRAC at 3.6 and 4.5 µm for W1 and W2, F850LP for SDSS z."""
    ours = mock(23.3, number)
    ours = some(ours, (ours["z"] < 22.0) & (ours["redshift"] < 1.0))
    real = table(folder / "candels_goodss_specz.parquet")
    flux = {name: np.where(real[name] > 0, real[name], np.nan) for name in ("ACS_F850LP", "IRAC_CH1", "IRAC_CH2")}
    mag = {name: 23.9 - 2.5 * np.log10(values) for name, values in flux.items()}  # µJy
    rows = (mag["ACS_F850LP"] < 22.0) & (mag["ACS_F850LP"] > 16) & (real["Z"] > 0.02) & (real["Z"] < 1.0)
    rows &= np.isfinite(mag["IRAC_CH1"]) & np.isfinite(mag["IRAC_CH2"])
    name = "CANDELS GOODS-S, z mag < 22, z < 1"
    first, mine = (mag["ACS_F850LP"] - mag["IRAC_CH1"])[rows], ours["z"] - ours["W1"]
    yield Pair(name, "z − W1", first, mine, (-1.5, 2.5), True)
    # Three in ten of the real ones are in two walls, at z = 0.67 and 0.73, and the colour rises by 1.7 mag from 0 to 1.
    for low, high in ((0.02, 0.6), (0.6, 1.0)):
        there, here = ((one > low) & (one < high) for one in (real["Z"][rows], ours["redshift"]))
        yield Pair(name, f"z − W1, z = {low} … {high}", first[there], mine[here], (-1.5, 2.5), True)
    yield Pair(name, "W1 − W2", (mag["IRAC_CH1"] - mag["IRAC_CH2"])[rows], ours["W1"] - ours["W2"], (-1, 0.6))


def line_widths(data: Path, number: int) -> Iterator[Pair]:
    ours = mock(20.0, number)
    ours = some(ours, (ours["r"] < 19.5) & (ours["redshift"] > 0.06) & (ours["redshift"] < 0.3))
    ours["ew_OII"] = ours["ew_OII_3726"] + ours["ew_OII_3729"]
    real = table(data / "desi_sv3_bgs_ew/desi_sv3_bgs_ew.parquet")
    for column, name in (("halpha", "Halpha"), ("hbeta", "Hbeta"), ("oiii_5007", "OIII_5007"), ("oii_doublet", "OII")):
        # Below 1 Å detections are incomplete: all such count as 1 Å.
        widths = [
            np.log10(np.maximum(np.nan_to_num(one, nan=1.0), 1.0)) for one in (real[f"ew_{column}"], ours[f"ew_{name}"])
        ]
        yield Pair("DESI bright galaxies, 0.06 < z < 0.3", f"log EW {name} / Å", *widths, (0, 2.4), True)


def resolve(folder: Path, number: int) -> Iterator[Pair]:
    """Star-forming galaxies of RESOLVE and ECO in two ranges of mass: sizes, rates, ratios of neighbouring lines.

    Their fluxes are corrected for dust (Hα / Hβ is 2.86 throughout).
    """
    real = table(folder / "resolve_eco_emission.parquet")
    distance = real["cz"] / 299792.458
    kpc = real["r50"] * cosmos.kpc_per_arcsec(distance)
    ours = nearby(4 * number)
    with np.errstate(all="ignore"):
        rates = np.log10(real["sfr_nuv_wise"]) - real["logmstar"]
        theirs = {
            "log r50 / kpc": np.log10(kpc),
            "log sSFR / yr⁻¹": rates,
            "axis ratio": real["b_a"],
            "log [N II] / Hα": np.log10(real["nii_6584_flux"] / real["h_alpha_flux"]),
            "log [O III] / Hβ": np.log10(real["oiii_5007_flux"] / real["h_beta_flux"]),
        }
        mine = {
            "log r50 / kpc": np.log10(ours["half_light_kpc"]),
            "log sSFR / yr⁻¹": ours["log_ssfr"],
            "axis ratio": ours["axis_ratio"],
            "log [N II] / Hα": np.log10(ours["flux_NII_6584"] / ours["flux_Halpha"]),
            "log [O III] / Hβ": np.log10(ours["flux_OIII_5007"] / ours["flux_Hbeta"]),
        }
    spans = {
        "log r50 / kpc": (-0.3, 1.3),
        "log sSFR / yr⁻¹": (-11.5, -8.5),
        "axis ratio": (0, 1),
        "log [N II] / Hα": (-1.6, 0.3),
        "log [O III] / Hβ": (-1, 1),
    }
    for low, high in ((9.0, 9.7), (9.7, 10.7)):
        for quantity, span in spans.items():
            there = np.isfinite(theirs[quantity]) & (real["logmstar"] > low) & (real["logmstar"] < high) & (rates > -11)
            here = (ours["log_mass"] > low) & (ours["log_mass"] < high) & np.isfinite(mine[quantity])
            name = f"RESOLVE and ECO, log M = {low} … {high}"
            seen = quantity.startswith(("log r50", "log sSFR"))
            yield Pair(name, quantity, theirs[quantity][there], mine[quantity][here], span, seen)
