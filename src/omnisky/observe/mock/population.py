"""A sample of galaxies and stars, cut at a magnitude, drawn so that object i is a function of (seed, i) alone.

Numbers follow the mass functions and the volume of `cosmos`; star formation the main sequence (or its absence), sizes
the mass, shapes the kind. A galaxy fainter than the cut is thrown back and the object tried again, so the redshift and
colour distributions are those of a magnitude-limited survey.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer

from omnisky.errors import BadValue
from omnisky.observe.mock import cosmos, history
from omnisky.observe.mock.chances import Chances, Use
from omnisky.observe.mock.photometry import magnitude, nanomaggies
from omnisky.observe.mock.shapes import half_light, shapes
from omnisky.observe.mock.templates import Basis, attenuation, basis
from omnisky.observe.mock.truth import Truth, joined

_TRIES = 400  # one in three to ten galaxies is bright enough: an object that fails this often is a bug


@dataclass(frozen=True, kw_only=True)
class Population:
    """What the sample is. `Population(seed=1).truth(range(100))` are its first hundred objects."""

    seed: int = 0
    faintest_r_mag: float = 20.0
    """AB, total, before dust in the Milky Way; 19.5 is DESI's bright survey, 17.77 the main sample of SDSS"""
    stars: float = 0.1
    """share of the objects that are stars"""

    def __post_init__(self) -> None:
        if not 14.0 <= self.faintest_r_mag <= 25.0:
            raise BadValue("faintest_r_mag", saw=self.faintest_r_mag, want="14 … 25")
        if not 0.0 <= self.stars <= 1.0:
            raise BadValue("stars", saw=self.stars, want="a share, 0 … 1")
        if not 0 <= self.seed < 2**64:
            raise BadValue("seed", saw=self.seed, want="0 … 2⁶⁴ − 1")

    def truth(self, index: Integer[np.ndarray, " object"]) -> Truth:
        """What the objects of these numbers are, in the order asked for."""
        index = np.asarray(index, dtype=np.int64)
        if not len(index):
            return _stars(Chances(self.seed, np.zeros(1, dtype=np.int64), Use.TRUTH), np.zeros(1, np.int64), self).take(
                slice(0, 0)
            )
        lot = Chances(self.seed, index, Use.TRUTH, columns=2).uniform()
        star = lot < self.stars
        found = []
        if star.any():
            found.append(_stars(Chances(self.seed, index[star], Use.TRUTH, 1), index[star], self))
        pending = index[~star]
        for trial in range(1, _TRIES):
            if not len(pending):
                break
            galaxies = _galaxies(Chances(self.seed, pending, Use.TRUTH, trial), pending, self)
            bright = galaxies.r_mag <= self.faintest_r_mag
            found.append(galaxies.take(bright))
            pending = pending[~bright]
        everything = joined(found)
        order = np.argsort(everything.index, kind="stable")
        return everything.take(order[np.searchsorted(everything.index, index, sorter=order)])


# --- galaxies -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Stars:
    """What a galaxy's light is made of: weights of the templates, in M☉ formed, one row a galaxy."""

    bulge: Float[np.ndarray, "object template"]
    disc: Float[np.ndarray, "object template"]
    young: Float[np.ndarray, "object template"]
    """the disc's stars younger than `history.YOUNG_GYR`"""
    age_gyr: Float[np.ndarray, " object"]

    @staticmethod
    def of(seen: Truth, templates: Basis) -> Stars:
        """The stars of galaxies; the same for the same truth. Rows of stars are empty."""
        mass = np.where(seen.is_star, 0.0, 10 ** np.nan_to_num(seen.log_mass)) / history.LIVING
        in_bulge = np.nan_to_num(seen.bulge_mass_fraction)
        metals = np.nan_to_num(seen.log_metals)
        epoch = cosmos.age_gyr(seen.redshift)
        rate = 10 ** np.nan_to_num(seen.log_ssfr, nan=-12.0) * 1e9 * history.LIVING
        # What forms now forms in the disc, if there is one.
        share_now = np.where(in_bulge < 1, rate / np.maximum(1 - in_bulge, 0.05), rate)
        # The lighter of the quiescent galaxies formed later (Thomas et al. 2010, MNRAS 404, 1775), those that still
        # form a few stars too.
        late = 0.78 + 0.15 * (np.nan_to_num(seen.log_mass) - 10.7) - 0.2 * (np.nan_to_num(seen.log_ssfr) + 12.4)
        late = np.clip(late, 0.5, 0.92)
        since = np.where(rate < 10**-2.2 * history.LIVING, late, 0.9) * epoch - 0.2
        span = np.minimum(since, 1.9 / share_now)
        disc = history.formed(span, history.decline(share_now * span))
        bulge = history.formed(since, np.full_like(since, 8.0))
        bulge = np.where((in_bulge < 1)[:, None], bulge, disc)
        young = disc * history.is_young()
        parts = [
            history.weights(bulge, metals + np.where(in_bulge < 1, 0.1, 0.0), templates) * (mass * in_bulge)[:, None],
            history.weights(disc - young, metals, templates) * (mass * (1 - in_bulge))[:, None],
            history.weights(young, metals, templates) * (mass * (1 - in_bulge))[:, None],
        ]
        age = in_bulge * history.mean_age(bulge) + (1 - in_bulge) * history.mean_age(disc)
        return Stars(parts[0], parts[1], parts[2], age)


BULGE_DUST, YOUNG_DUST = 0.5, 1.5
"""A(V) before the bulge and before young stars, in units of that before the disc's older stars"""


def _galaxies(chance: Chances, index: Integer[np.ndarray, " object"], sample: Population) -> Truth:
    sky = cosmos.hunting(sample.faintest_r_mag)
    kind, z_bin, mass_bin = sky.cell(chance.uniform())
    quiescent = kind == 1
    z = sky.low_z[z_bin] + chance.uniform() * (sky.low_z[1] - sky.low_z[0])
    log_mass = sky.low_mass[mass_bin] + chance.uniform() * (sky.low_mass[1] - sky.low_mass[0])
    log_ssfr = _ssfr(chance, log_mass, z, quiescent)
    log_metals = _metals(chance, log_mass, quiescent)
    form = shapes(chance, log_mass, z, quiescent, log_ssfr)
    dust = _dust(chance, log_mass, z, quiescent, form["axis_ratio"])
    dispersion = _dispersion(chance, log_mass, form["bulge_mass_fraction"])
    empty = np.full(len(index), np.nan)
    seen = Truth(
        index=index,
        is_star=np.zeros(len(index), dtype=bool),
        redshift=z,
        r_mag=empty,
        ebv_mag=_milky_way(chance),
        log_mass=log_mass,
        log_ssfr=log_ssfr,
        age_gyr=empty,
        log_metals=log_metals,
        dust_av_mag=dust,
        velocity_dispersion_km_s=dispersion,
        half_light_arcsec=empty,
        half_light_kpc=empty,
        bulge_fraction=empty,
        star_template=empty,
        teff_k=empty,
        parallax_mas=np.zeros(len(index)),
        **form,
    )
    return _lit(seen)


def _lit(seen: Truth) -> Truth:
    """With what follows from the light: magnitude, age, light fraction of the bulge, half-light radius."""
    templates = cosmos.survey_basis()
    stars = Stars.of(seen, templates)
    law = 10 ** (-0.4 * attenuation(templates.wavelength_aa))
    scale = cosmos.dilution(seen.redshift)
    parts = np.empty((len(seen), 2))
    for i in range(len(seen)):  # row by row: a product of matrices would round otherwise in another company
        av = seen.dust_av_mag[i]
        bulge = stars.bulge[i] @ templates.population * law ** (BULGE_DUST * av)
        disc = stars.disc[i] @ templates.population * law**av
        disc += stars.young[i] @ templates.population * law ** (YOUNG_DUST * av)
        observed = templates.wavelength_aa * (1 + seen.redshift[i])
        parts[i] = nanomaggies(np.stack([bulge, disc]), observed, "decam2014-r") * scale[i]
    total = parts.sum(axis=1)
    fraction = parts[:, 0] / total
    radius = half_light(fraction, seen.bulge_arcsec, seen.bulge_sersic, seen.disc_arcsec, seen.disc_sersic)
    return _with(
        seen,
        r_mag=magnitude(total),
        age_gyr=stars.age_gyr,
        bulge_fraction=fraction,
        half_light_arcsec=radius,
        half_light_kpc=radius * cosmos.kpc_per_arcsec(seen.redshift),
    )


def _with(seen: Truth, **columns: np.ndarray) -> Truth:
    return Truth(**{**vars(seen), **columns})


def _ssfr(
    chance: Chances, log_mass: np.ndarray, z: np.ndarray, quiescent: Bool[np.ndarray, " object"]
) -> Float[np.ndarray, " object"]:
    """The main sequence with its spread and a tail into the green valley; the quiescent, with a tail towards it.

    The sequence is that of Popesso et al. 2023 (MNRAS 519, 1526): as many stars a mass in all light galaxies, fewer in
    heavy ones. A straight line in log M makes dwarfs too young: g − r of zCOSMOS's was 0.28 mag off at z = 0.2.
    """
    epoch = cosmos.age_gyr(z)
    turn = 10.85 - 0.0729 * epoch
    on_sequence = 2.693 - 0.186 * epoch - np.log10(1 + 10 ** (0.99 * (turn - log_mass))) - log_mass
    fading = chance.happens(np.clip(0.12 + 0.08 * (log_mass - 10), 0.04, 0.25))
    forming = on_sequence + chance.normal(0, 0.33) - np.where(fading, chance.uniform(0.3, 1.6), 0.0)
    dead = chance.normal(-12.4, 0.35) + 0.5 * np.log10(1 + z)
    dead = np.where(chance.happens(0.2), dead + chance.uniform(0.3, 1.2), dead)
    return np.where(quiescent, dead, np.clip(forming, -12.5, -8.5))


def _metals(chance: Chances, log_mass: np.ndarray, quiescent: np.ndarray) -> Float[np.ndarray, " object"]:
    """The median of Gallazzi et al. 2005 (MNRAS 362, 41) in a formula, with about half their scatter."""
    middle = -0.25 + 0.36 * np.tanh((log_mass - 10.1) / 0.6) + np.where(quiescent, -0.03, 0.0)
    return np.clip(middle + chance.normal(0, 0.12), -1.3, 0.33)


def _dust(
    chance: Chances, log_mass: np.ndarray, z: np.ndarray, quiescent: np.ndarray, axis_ratio: np.ndarray
) -> Float[np.ndarray, " object"]:
    """A(V) grows with mass and towards edge-on, as the discs of Yip et al. 2010 (ApJ 709, 780) do, and a bit with z.

    How much is what the colours of SDSS and zCOSMOS ask for: with more in heavy galaxies, edge-on ones are too red.
    """
    face_on = 10 ** (np.log10(0.48) + 0.18 * (log_mass - 10) + chance.normal(0, 0.15))
    disc = np.minimum(face_on, 1.1) * (1 + 0.9 * np.log10(1 / axis_ratio)) * (1 + z) ** 0.25
    return np.where(quiescent, 10 ** chance.normal(-1.3, 0.3), np.minimum(disc, 2.0))


def _dispersion(chance: Chances, log_mass: np.ndarray, bulge: np.ndarray) -> Float[np.ndarray, " object"]:
    """Stars, km/s: about 200 at 10¹¹ M☉, less where there is little bulge."""
    middle = 2.26 + 0.29 * (log_mass - 11) + 0.12 * (bulge - 0.5)
    return np.clip(10 ** (middle + chance.normal(0, 0.07)), 25, 420)


def _milky_way(chance: Chances) -> Float[np.ndarray, " object"]:
    """E(B−V) at high galactic latitude, as in the footprints of these surveys: 0.01 … 0.2, median 0.04."""
    return np.clip(10 ** chance.normal(-1.4, 0.25), 0.005, 0.4)


# --- stars --------------------------------------------------------------------------------------------------------


def _stars(chance: Chances, index: Integer[np.ndarray, " object"], sample: Population) -> Truth:
    """Mostly dwarfs of types F to M; ten times as many six magnitudes fainter, as at high galactic latitude."""
    templates = basis()
    slope, brightest = 1 / 6, 14.0
    top = 10 ** (slope * (sample.faintest_r_mag - brightest))
    r_mag = brightest + np.log10(1 + chance.uniform() * (top - 1)) / slope
    # Between 17 and 20 mag the disc's F and G turn-off stars give way to its K and M dwarfs.
    log_teff = np.where(chance.happens(0.55), chance.normal(3.58, 0.04), chance.normal(3.75, 0.05))
    which = np.abs(np.log10(templates.teff_k)[None, :] - log_teff[:, None]).argmin(axis=1)
    teff = templates.teff_k[which]
    absolute = np.interp(
        np.log10(teff), [3.46, 3.54, 3.60, 3.70, 3.76, 3.82, 3.95, 4.2], [13, 10, 8, 6, 4.6, 3.6, 1.5, 0]
    )
    distance_modulus = r_mag - absolute - chance.normal(0, 0.3)
    nothing, none = np.full(len(index), np.nan), np.zeros(len(index), dtype=bool)
    columns = {name: nothing for name in Truth.__dataclass_fields__}
    return Truth(
        **columns
        | dict(index=index, is_star=~none, is_irregular=none, is_merger=none, is_edge_on=none)
        | dict(redshift=np.zeros(len(index)), r_mag=r_mag, ebv_mag=_milky_way(chance))
        | dict(star_template=which.astype(float), teff_k=teff, parallax_mas=100 * 10 ** (-0.2 * distance_modulus))
        | dict(half_light_arcsec=np.zeros(len(index)), companion_fraction=np.zeros(len(index)))
    )
