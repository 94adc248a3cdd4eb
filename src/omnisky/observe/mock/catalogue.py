"""What the surveys' catalogues say of an object: fluxes, shapes, extinction, neighbours, and which pixel is whose.

Columns are called what the surveys (and AION-1's modalities) call them. Fluxes and magnitudes carry the noise of their
survey's depth over the object's area, and are not corrected for the Milky Way; shapes and redshifts are the true ones.

WISE is not made of the templates, which end at 1.15 µm: the stars' light goes on from there as that of near-infrared
templates, dimmed by less dust the redder it is, and warm dust adds at 12 and 23 µm what the star formation rate asks
for (Cluver et al. 2017, ApJ 850, 68).
Like all fluxes of the Tractor they are AB nanomaggies, though WISE's own catalogues are in Vega magnitudes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer

from omnisky.observe.mock import cosmos, xp
from omnisky.observe.mock.cameras import CAMERAS, Camera
from omnisky.observe.mock.chances import Use, generator
from omnisky.observe.mock.images import in_view, psf_steps, sky_sigma
from omnisky.observe.mock.light import Light, fluxes
from omnisky.observe.mock.photometry import magnitude
from omnisky.observe.mock.population import BULGE_DUST, YOUNG_DUST
from omnisky.observe.mock.surroundings import Sources
from omnisky.observe.mock.templates import CM_PER_MPC, SOLAR_ERG_S, attenuation
from omnisky.observe.mock.truth import Truth
from omnisky.observe.types import Neighbours, Scalars, SegmentationMap

MOST_NEIGHBOURS = 20
TYPES = {"PSF": 1.0, "REX": 2.0, "EXP": 3.0, "DEV": 4.0, "SER": 5.0}
"""the numbers of the Tractor's kinds of source in the column TYPE, as in the Multimodal Universe"""

# AB, 5 σ: from flux_ivar_w* of a galaxy in DR9, in the tractor file that fastspecfit ships (brick 1054p567).
_WISE_DEPTH = np.array([21.5, 20.7, 17.0, 14.6])
_WISE_EXTINCTION = np.array([0.184, 0.113, 0.0241, 0.0091])  # A/E(B−V), from mw_transmission_w* there


def ellipticity(
    axis_ratio: Float[np.ndarray, "*source"], position_angle_deg: Float[np.ndarray, "*source"]
) -> Float[np.ndarray, 2 * source]:
    """The Tractor's e1, e2: (1 − q) / (1 + q) times cos and sin of twice the position angle. 0 for stars."""
    size = np.nan_to_num((1 - axis_ratio) / (1 + axis_ratio))
    twice = 2 * np.radians(np.nan_to_num(position_angle_deg))
    return np.stack([size * np.cos(twice), size * np.sin(twice)])


def total_ellipticity(seen: Truth) -> Float[np.ndarray, "2 object"]:
    """e1, e2 of bulge and disc together, by their light in r."""
    bulge = np.nan_to_num(seen.bulge_fraction)
    inner = ellipticity(seen.bulge_axis_ratio, seen.position_angle_deg)
    return bulge * inner + (1 - bulge) * ellipticity(seen.axis_ratio, seen.position_angle_deg)


def area_px(seen: Truth, camera: Camera, seed: int) -> Float[np.ndarray, "object band"]:
    """4π (r² q + σ²): over how many pixels an object's flux is measured, best weights taken."""
    fwhm = np.array([psf_steps(int(i), camera, seed) for i in seen.index]).reshape(len(seen), -1) * 0.02
    galaxy = (seen.half_light_arcsec / 1.1774) ** 2 * np.nan_to_num(seen.axis_ratio, nan=1.0)
    return 4 * np.pi * (galaxy[:, None] + (fwhm / 2.3548) ** 2) / camera.pixel_scale_arcsec**2


def measured(
    seen: Truth, true: Float[np.ndarray, "object band"], camera: Camera, seed: int
) -> Float[np.ndarray, "object band"]:
    """Fluxes with the noise of sky and photons over the object's area, nanomaggies."""
    sigma = np.sqrt(
        sky_sigma(camera) ** 2 * area_px(seen, camera, seed) + np.maximum(true, 0) / np.array(camera.photons)
    )
    lots = [generator(seed, int(i), Use.CATALOGUE, camera.number).standard_normal(true.shape[1]) for i in seen.index]
    return true + sigma * np.stack(lots)


def scalars(seen: Truth, light: Sequence[Light], seed: int) -> Scalars:
    """Every column that is one number: Legacy Survey, HSC, Gaia, and the redshift."""
    columns = _legacy(seen, light, seed) | _hsc(seen, light, seed) | _gaia(seen, light, seed)
    columns |= {"Z": (seen.redshift, "")}
    return Scalars(
        values=np.stack([value for value, _ in columns.values()], axis=1).astype(np.float64),
        names=tuple(columns),
        units=tuple(unit for _, unit in columns.values()),
    )


Columns = dict[str, tuple[np.ndarray, str]]


def _legacy(seen: Truth, light: Sequence[Light], seed: int) -> Columns:
    flux = measured(seen, fluxes(light, "legacysurvey"), CAMERAS["legacysurvey"], seed)
    columns: Columns = {f"FLUX_{band.upper()}": (flux[:, i], "nmgy") for i, band in enumerate("griz")}
    infrared = wise(seen, light) + _wise_noise(seen, seed)
    columns |= {f"FLUX_W{i + 1}": (infrared[:, i], "nmgy") for i in range(4)}
    e1, e2 = total_ellipticity(seen)
    columns |= {"EBV": (seen.ebv_mag, "mag"), "SHAPE_R": (seen.half_light_arcsec, "arcsec")}
    return columns | {"SHAPE_E1": (e1, ""), "SHAPE_E2": (e2, "")}


def _wise_noise(seen: Truth, seed: int) -> Float[np.ndarray, "object 4"]:
    sigma = 10 ** (-0.4 * (_WISE_DEPTH - 22.5)) / 5
    return np.stack([sigma * generator(seed, int(i), Use.CATALOGUE, 3).standard_normal(4) for i in seen.index])


def wise(seen: Truth, light: Sequence[Light]) -> Float[np.ndarray, "object 4"]:
    """W1 … W4 in nanomaggies (AB): from the light at 1.1 µm at rest, redwards; see the top of this file."""
    far = 1 + seen.redshift
    rest, warm = _WISE_UM / far[:, None], np.clip((np.nan_to_num(seen.log_ssfr) + 11.5) / 2, 0, 1)
    old, young = (10 ** np.interp(np.log(rest), np.log(_SHAPE_UM), np.log10(shape)) for shape in (_OLD, _YOUNG))
    start = np.array([_last_light(one, z) for one, z in zip(light, seen.redshift.tolist(), strict=True)])
    clearer = attenuation(np.array([_JOIN_UM * 1e4])) - attenuation(rest * 1e4)  # of A(V)
    screens = np.nan_to_num(seen.dust_av_mag)[:, None] * np.array([BULGE_DUST, 1.0, YOUNG_DUST])
    stars = np.einsum("op,opw->ow", start, 10 ** (0.4 * screens[:, :, None] * clearer[:, None]))
    sfr = 10 ** np.nan_to_num(seen.log_mass + seen.log_ssfr)
    power = np.stack([0 * sfr, 0 * sfr, *(_dust_power(sfr, slope, shift) for slope, shift in _CLUVER)], axis=1)
    away = 10 ** (-0.4 * np.where(seen.is_star, 0.0, cosmos.distance_modulus(seen.redshift)))
    warm_dust = power * _AT_TEN_PC * away[:, None] / (2.99792458e14 / _WISE_UM) / _NANOMAGGY
    galaxy = stars * (old + warm[:, None] * (young - old)) + warm_dust
    kelvin = np.nan_to_num(seen.teff_k, nan=5000.0)[:, None]
    star = start.sum(axis=1)[:, None] * _planck(_WISE_UM, kelvin) / _planck(np.array([_JOIN_UM]), kelvin)
    return np.where(seen.is_star[:, None], star, galaxy) * 10 ** (-0.4 * _WISE_EXTINCTION * seen.ebv_mag[:, None])


_WISE_UM = np.array([3.3526, 4.6028, 11.5608, 22.0883])
# f_ν of a galaxy's stars over that at 1.1 µm. To 2.2 µm: CWW_E_ext and CWW_Scd_ext of GalSim (Coleman, Wu & Weedman
# 1980), which are models without dust beyond 1 µm; at 1 µm itself, where they are joined to what was observed, they
# jump. To W1: a black body of 4,000 K; beyond: no colour in Vega magnitudes (AB − Vega: Jarrett et al. 2011, ApJ 735,
# 112).
_JOIN_UM = 1.1
_SHAPE_UM = np.array([_JOIN_UM, 1.25, 1.6, 2.2, *_WISE_UM])
_COLD = 0.607 * 10 ** (-0.4 * (np.array([2.699, 3.339, 5.174, 6.620]) - 2.699))
_OLD = np.array([1.0, 1.063, 1.282, 1.062, *(1.062 * _COLD)])
_YOUNG = np.array([1.0, 1.039, 1.183, 0.946, *(0.946 * _COLD)])
_AT_TEN_PC = SOLAR_ERG_S / (4 * np.pi * (CM_PER_MPC * 1e-5) ** 2)  # erg s⁻¹ cm⁻² of 1 L☉ at 10 pc
_NANOMAGGY = 3.631e-29  # erg s⁻¹ cm⁻² Hz⁻¹
_CLUVER = ((0.889, 7.76), (0.915, 8.01))  # log SFR = slope × log ν L_ν − shift, L☉, at 12 and 23 µm


def _last_light(light: Light, redshift: float) -> Float[np.ndarray, " 3"]:
    """Nanomaggies at 1.1 µm at rest, as they arrive, of bulge, disc and young stars."""
    wave, flux = light.coarse
    near = np.abs(np.log(wave / 1e4 / (1 + redshift) / _JOIN_UM)) < 0.02
    per_hertz = flux[:, near] * 1e-17 * wave[near] ** 2 / 2.99792458e18
    return per_hertz.mean(axis=1) / _NANOMAGGY


def _dust_power(sfr: np.ndarray, slope: float, shift: float) -> Float[np.ndarray, " object"]:
    return 10 ** ((np.log10(np.maximum(sfr, 1e-6)) + shift) / slope)


def _planck(micron: np.ndarray, kelvin: np.ndarray) -> np.ndarray:
    """B_ν, relative."""
    return micron**-3.0 / np.expm1(14387.8 / (micron * kelvin))


# A/E(B−V) of lsst/obs_subaru, config/extinctionCoeffs.py.
_HSC_EXTINCTION = {"g": 3.240, "r": 2.276, "i": 1.633, "z": 1.263, "y": 1.075}


def _hsc(seen: Truth, light: Sequence[Light], seed: int) -> Columns:
    camera = CAMERAS["hsc"]
    mag = magnitude(measured(seen, fluxes(light, "hsc"), camera, seed))
    columns: Columns = {f"{band}_cmodel_mag": (mag[:, i], "mag") for i, band in enumerate(camera.bands)}
    columns |= {f"a_{band}": (ratio * seen.ebv_mag, "mag") for band, ratio in _HSC_EXTINCTION.items()}
    # Moments of a Gaussian of the same half-light radius, blurred by a Gaussian PSF, axes west and north.
    fwhm = np.array([psf_steps(int(i), camera, seed)[camera.bands.index("i")] for i in seen.index]) * 0.02
    e1, e2 = total_ellipticity(seen)
    size = np.hypot(e1, e2)
    major = (seen.half_light_arcsec / 1.1774) ** 2
    minor = major * ((1 - size) / (1 + size)) ** 2
    turn = np.radians(90) + np.arctan2(e2, e1) / 2
    cos, sin, psf = np.cos(turn), np.sin(turn), (fwhm / 2.3548) ** 2
    columns["i_sdssshape_shape11"] = (major * cos**2 + minor * sin**2 + psf, "arcsec2")
    columns["i_sdssshape_shape22"] = (major * sin**2 + minor * cos**2 + psf, "arcsec2")
    columns["i_sdssshape_shape12"] = ((major - minor) * sin * cos, "arcsec2")
    return columns


# Errors by G magnitude: documentation of Gaia EDR3, release 1.1, executive summary (gea.esac.esa.int/archive).
def _gaia(seen: Truth, light: Sequence[Light], seed: int) -> Columns:
    """Fluxes of all it can see (G < 21); galaxies have parallaxes of noise."""
    flux = np.array([[xp.electrons(one, band) for band in ("G", "BP", "RP")] for one in light])
    g_mag = xp.ZERO_POINT_AB["G"] - 2.5 * np.log10(flux[:, 0]) - xp.AB_MINUS_VEGA
    error_mas = 10 ** np.interp(g_mag, [15, 17, 20, 21], np.log10([0.025, 0.07, 0.5, 1.3]))
    lots = np.stack([generator(seed, int(i), Use.CATALOGUE, 4).standard_normal(4) for i in seen.index])
    seen_by_gaia = g_mag < 21
    millimag = [[0.3, 1, 6], [0.9, 12, 108], [0.6, 6, 52]]
    relative = np.stack([10 ** np.interp(g_mag, [13, 17, 20], np.log10(at)) for at in millimag], axis=1) / 1085.7
    flux = np.where(seen_by_gaia[:, None], flux * (1 + relative * lots[:, :3]), np.nan)
    names = "phot_g_mean_flux", "phot_bp_mean_flux", "phot_rp_mean_flux"
    columns: Columns = {name: (flux[:, i], "electron / s") for i, name in enumerate(names)}
    parallax = seen.parallax_mas + error_mas * lots[:, 3]
    return columns | {"parallax": (np.where(seen_by_gaia, parallax, np.nan), "mas")}


# --- what else is in the cut-out ----------------------------------------------------------------------------------

_NEIGHBOUR_COLUMNS = ("TYPE", "SHAPE_R", "SHAPE_E1", "SHAPE_E2", "X", "Y")


def neighbours(seen: Truth, light: Sequence[Light], camera: Camera, seed: int) -> Neighbours:
    """The object itself and the sources drawn about it, nearest first; X and Y are pixels of the cut-out, from 0."""
    names = tuple(f"FLUX_{band.upper()}" for band in camera.bands) + _NEIGHBOUR_COLUMNS
    units = ("nmgy",) * len(camera.bands) + ("", "arcsec", "", "", "pix", "pix")
    values = np.full((len(seen), MOST_NEIGHBOURS, len(names)), np.nan)
    middle = (camera.size_px - 1) / 2
    e1, e2 = total_ellipticity(seen)
    own = np.stack(
        [_types(seen), seen.half_light_arcsec, e1, e2, np.full(len(seen), middle), np.full(len(seen), middle)], 1
    )
    values[:, 0] = np.concatenate([fluxes(light, camera.name), own], axis=1)
    for row, index in enumerate(seen.index.tolist()):
        sources = in_view(index, camera, seed, MOST_NEIGHBOURS - 1)
        values[row, 1 : 1 + len(sources)] = _listed(sources, camera)
    return Neighbours(values=values, names=names, units=units, survey=camera.name, good=~np.isnan(values[:, :, 0]))


def _types(seen: Truth) -> Float[np.ndarray, " object"]:
    round_one = np.nan_to_num(seen.bulge_mass_fraction) == 1
    small_bulge = np.nan_to_num(seen.bulge_fraction) < 0.1
    galaxy = np.select([round_one & (seen.bulge_sersic > 3.5), small_bulge], [TYPES["DEV"], TYPES["EXP"]], TYPES["SER"])
    return np.where(seen.is_star, TYPES["PSF"], galaxy)


def _listed(sources: Sources, camera: Camera) -> Float[np.ndarray, "source column"]:
    e1, e2 = ellipticity(sources.axis_ratio, sources.position_angle_deg)
    kind = np.where(sources.is_star, TYPES["PSF"], np.where(sources.sersic > 2, TYPES["DEV"], TYPES["EXP"]))
    middle, scale = (camera.size_px - 1) / 2, camera.pixel_scale_arcsec
    x, y = middle - sources.east_arcsec / scale, middle + sources.north_arcsec / scale
    return np.column_stack([sources.flux(camera.name), kind, sources.half_light_arcsec, e1, e2, x, y])


def segmentation(listed: Neighbours, camera: Camera, psf_fwhm_arcsec: Float[np.ndarray, " object"]) -> SegmentationMap:
    """Half-light ellipses, blurred by the seeing; label k + 1 is row k of the list. The brighter one has the pixel."""
    label = np.zeros((len(listed), camera.size_px, camera.size_px), dtype=np.uint8)
    for row in range(len(listed)):
        there = np.flatnonzero(listed.where_good()[row])
        values = {name: listed[name][row] for name in ("SHAPE_R", "SHAPE_E1", "SHAPE_E2", "X", "Y")}
        for source in there[np.argsort(listed["FLUX_R"][row, there])].tolist():
            one = {name: float(value[source]) for name, value in values.items()}
            _paint(label[row], source + 1, one, float(psf_fwhm_arcsec[row]), camera.pixel_scale_arcsec)
    return SegmentationMap(label=label, pixel_scale_arcsec=camera.pixel_scale_arcsec)


def _paint(
    label: Integer[np.ndarray, "height width"], number: int, one: dict[str, float], fwhm: float, scale: float
) -> None:
    """An ellipse into the map, looking only at the pixels around it."""
    size, turn = (
        np.hypot(one["SHAPE_E1"], one["SHAPE_E2"]),
        np.radians(90) + np.arctan2(one["SHAPE_E2"], one["SHAPE_E1"]) / 2,
    )
    major = np.hypot(one["SHAPE_R"], fwhm / 2) / scale
    minor = np.hypot(one["SHAPE_R"] * (1 - size) / (1 + size), fwhm / 2) / scale
    top, left = (max(int(one[axis] - major), 0) for axis in ("Y", "X"))
    around = label[top : int(one["Y"] + major) + 2, left : int(one["X"] + major) + 2]
    across, along = np.ogrid[: around.shape[0], : around.shape[1]]
    down, right = across + (top - one["Y"]), along + (left - one["X"])
    u, v = right * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - right * np.sin(turn)
    around[(u / major) ** 2 + (v / minor) ** 2 < 1] = number
