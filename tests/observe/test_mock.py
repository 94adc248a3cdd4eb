"""The mock sky against its own truth: what is measured in its pictures and spectra is what went in."""

import sys
from dataclasses import fields

import numpy as np
import pytest

from omnisky.errors import BadValue, MissingExtra
from omnisky.observe.mock import MockSky, Population, catalogue, cosmos, history, images, photometry, spectra, xp
from omnisky.observe.mock.cameras import CAMERAS
from omnisky.observe.mock.light import Light, fluxes, lit
from omnisky.observe.mock.lines import NAMES, WAVELENGTH_AA
from omnisky.observe.mock.photometry import FILTERS, magnitude
from omnisky.observe.mock.shapes import half_light, inside
from omnisky.observe.mock.templates import attenuation, basis, calzetti, cardelli
from omnisky.observe.mock.truth import Truth

pytest.importorskip("galsim")
speclite_filters = pytest.importorskip("speclite.filters")

SAMPLE = Population(seed=3)


@pytest.fixture(scope="module")
def seen() -> Truth:
    return SAMPLE.truth(np.arange(300))


@pytest.fixture(scope="module")
def light(seen) -> list[Light]:
    return list(lit(seen.take(slice(0, 24)), SAMPLE.seed))


@pytest.fixture(scope="module")
def sky() -> MockSky:
    return MockSky(objects=64, population=SAMPLE, spectrographs=("desi", "sdss"), gaia_xp=True)


def same(a, b) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name), equal_nan=True) for f in fields(Truth))


# --- who is who ---------------------------------------------------------------------------------------------------


def test_an_object_is_the_same_in_any_company(seen):
    """Bit for bit: alone, in another order, twice."""
    for rows in ([7], [31, 2, 2, 250], np.arange(290, 300)):
        assert same(SAMPLE.truth(np.array(rows)), seen.take(np.array(rows)))


def test_another_seed_is_another_sky(seen):
    assert not np.array_equal(Population(seed=4).truth(np.arange(20)).redshift, seen.redshift[:20])


def test_what_is_observed_does_not_depend_on_the_slice(sky):
    """Pictures, spectra and lists of one object, alone and as row 2 of a batch."""
    batch, alone = sky.take(slice(3, 7)), sky.take([5])
    assert alone.object_id[0] == batch.object_id[2]
    assert (alone.ra[0], alone.dec[0]) == (batch.ra[2], batch.dec[2])
    for name, part in alone.parts.items():
        for key, value in part._rows().items():
            assert np.array_equal(value[0], batch[name]._rows()[key][2], equal_nan=value.dtype.kind == "f"), (name, key)


def test_more_surveys_change_nothing_of_the_others():
    """A survey has its own stream of chance."""
    few = MockSky(objects=4, population=SAMPLE, spectrographs=()).take([1])
    many = MockSky(objects=4, population=SAMPLE, cameras=("sdss", "legacysurvey", "hsc")).take([1])
    assert np.array_equal(few["image"].flux, many["image"].flux)
    assert np.array_equal(few["scalars"].values, many["scalars"].values, equal_nan=True)


@pytest.mark.parametrize("wrong", [{"stars": 1.5}, {"faintest_r_mag": 30.0}, {"seed": -1}])
def test_a_population_that_cannot_be_is_refused(wrong):
    with pytest.raises(BadValue):
        Population(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"cameras": ("hst",)}, {"spectrographs": ("muse",)}, {"objects": 0}, {"footprint": (5000,)}]
)
def test_a_sky_that_cannot_be_is_refused(wrong):
    with pytest.raises(BadValue):
        MockSky(**{"objects": 3} | wrong)


def test_without_the_extra_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "speclite", None)
    monkeypatch.setitem(sys.modules, "galsim", None)
    for needs in (photometry.needs_speclite, images._galsim.__wrapped__):
        with pytest.raises(MissingExtra, match="omnisky\\[mock\\]"):
            needs()


# --- the population -----------------------------------------------------------------------------------------------


def test_the_sample_is_cut_at_its_magnitude(seen):
    assert (seen.r_mag <= 20).all()
    galaxies = seen.take(~seen.is_star)
    assert 0.5 < (galaxies.r_mag > 19).mean() < 0.85  # counts grow as 10^0.4 m or a little less: 0.6 … 0.7


def test_stars_are_the_share_asked_for(seen):
    """300 of 0.1: standard deviation 0.017; 4 σ."""
    assert abs(seen.is_star.mean() - 0.1) < 0.07
    assert (seen.redshift[seen.is_star] == 0).all() and (seen.redshift[~seen.is_star] > 0).all()
    assert np.isfinite(seen.teff_k[seen.is_star]).all() and np.isnan(seen.teff_k[~seen.is_star]).all()


def test_galaxies_are_red_or_blue():
    """g − r at z ≈ 0.1 has two peaks with a valley between them at 0.55 … 0.8 (Strateva et al. 2001 at z ≈ 0)."""
    sample = Population(seed=5, faintest_r_mag=18.0, stars=0.0)
    seen = sample.truth(np.arange(400))
    near = seen.take((seen.redshift > 0.03) & (seen.redshift < 0.16))
    mag = magnitude(fluxes(list(lit(near, 5)), "sdss"))
    colour = mag[:, 1] - mag[:, 2]  # observed, through the Milky Way's dust
    red, blue = near.log_ssfr < -11.2, near.log_ssfr > -10.5
    assert 0.75 < np.median(colour[red]) < 1.1
    assert 0.3 < np.median(colour[blue]) < 0.7
    assert np.median(near.age_gyr[red]) > np.median(near.age_gyr[blue]) + 1.5


def test_heavy_galaxies_are_large_and_disc_galaxies_larger(seen):
    galaxies = seen.take(~seen.is_star)
    slope = np.polyfit(galaxies.log_mass, np.log10(galaxies.half_light_kpc), 1)[0]
    assert 0.1 < slope < 0.6  # van der Wel et al. 2014: 0.2 for late, 0.75 for heavy early types


def test_dust_dims_edge_on_discs_more():
    seen = Population(seed=6, stars=0.0).truth(np.arange(600))
    disc = seen.take((seen.log_ssfr > -10.8) & (seen.bulge_mass_fraction < 1))
    assert np.corrcoef(disc.dust_av_mag, disc.axis_ratio)[0, 1] < -0.1


# --- stars and dust -----------------------------------------------------------------------------------------------


def test_star_formation_histories_conserve_mass_and_give_the_rate():
    span, rate = np.array([3.0, 8.0, 12.0]), np.array([0.5, 0.1, 0.01])  # Gyr, 1/Gyr
    share = history.formed(span, history.decline(rate * span))
    assert np.allclose(share.sum(axis=1), 1)
    young = share[:, history.is_young()].sum(axis=1) / history.YOUNG_GYR
    assert np.allclose(young, rate, rtol=0.1)  # the rate changes a little within 0.1 Gyr, and the last bin is cut
    weight = history.weights(share, np.array([-1.0, 0.0, 9.0]), basis())
    assert np.allclose(weight.sum(axis=1), 1)


def test_dust_laws_are_one_in_v_and_fall_to_the_red():
    wave = np.array([1500.0, 3000.0, 5500.0, 8000.0, 20000.0])
    for law in (calzetti, cardelli):
        assert law(wave)[2] == pytest.approx(1, abs=0.02)
        assert (np.diff(law(wave)) < 0).all()


def test_galaxies_hide_more_of_the_ultraviolet_than_starbursts():
    """One in V; Calzetti's times λ^−0.2 in the red; 2175 Å lies above the line from one side of it to the other."""
    wave = np.array([1700.0, 2175.0, 2800.0, 5500.0, 9000.0])
    ours, grey = attenuation(wave), calzetti(wave)
    assert ours[3] == pytest.approx(1, abs=0.01)
    assert ours[4] == pytest.approx(grey[4] * (9000 / 5500) ** -0.2, rel=0.01)
    assert (ours[:3] > grey[:3]).all()
    assert ours[1] > 1.05 * np.interp(2175, wave[[0, 2]], ours[[0, 2]])


# --- AB -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("survey", FILTERS)
def test_fluxes_are_those_of_speclite_within_a_percent(survey, light):
    """The whole spectrum, lines drawn as narrow Gaussians, through speclite's own integrals."""
    from astropy import units as u

    unit = 1e-17 * u.erg / u.s / u.cm**2 / u.AA
    for one in light[:8]:
        total = one.parts.sum(axis=0).astype(float)
        sigma = 3 * np.gradient(one.wavelength_aa)
        for at, flux in zip(one.line_aa, one.line_flux, strict=True):
            width = np.interp(at, one.wavelength_aa, sigma)
            total += flux / np.sqrt(2 * np.pi) / width * np.exp(-0.5 * ((one.wavelength_aa - at) / width) ** 2)
        for band, name in FILTERS[survey].items():
            theirs = speclite_filters.load_filter(name).get_ab_magnitude(total * unit, one.wavelength_aa * u.AA)
            assert magnitude(one.band(survey, band).sum()) == pytest.approx(float(theirs), abs=0.005), (survey, band)


def test_a_flat_spectrum_of_3631_jy_is_a_billion_nanomaggies():
    wave = basis().wavelength_aa
    flat = 2.99792458e18 * 3.631e-20 / wave**2 / 1e-17
    nothing = np.zeros(len(NAMES))
    one = Light(wave, np.stack([flat, 0 * flat, 0 * flat]), WAVELENGTH_AA, nothing, nothing, 0.0, 0.0)
    for survey in FILTERS:
        assert np.allclose(one.bands(survey).sum(axis=1) / 1e9, 1, atol=0.003)


def test_the_spectrum_has_the_flux_of_the_catalogue(seen, light):
    """DESI's pixels through the r filter, over what entered the fibre, are the total flux: AB within 1 %."""
    from omnisky.observe.mock.photometry import curve

    rows = seen.take(slice(0, 24))
    tool = spectra.desi()
    band = curve("decam2014-r")
    response = np.interp(tool.wavelength_aa, band.wavelength_aa, band.response, left=0, right=0)
    ab = 2.99792458e18 * 3.631e-20 / tool.wavelength_aa**2 / 1e-17 / 1e9
    for one in light:
        ours = (spectra.clean(one, tool) * response * tool.wavelength_aa).sum()
        assert ours / (ab * response * tool.wavelength_aa).sum() == pytest.approx(
            one.band("legacysurvey", "r").sum(), rel=0.01
        )
    share = spectra.in_fibre(rows, tool)
    assert ((share > 0) & (share <= 1)).all() and (share[rows.is_star] == 1).all()


def test_the_cut_is_on_the_magnitude_that_is_drawn(seen, light):
    """`r_mag` is made on coarse templates without lines; the real thing with dust of the Milky Way taken off."""
    rows = seen.take(slice(0, 24))
    screen = 2.3 * rows.ebv_mag  # A(r) / E(B−V) for DECam, within 5 %
    drawn = magnitude(np.array([one.band("legacysurvey", "r").sum() for one in light])) - screen
    assert np.abs(drawn - rows.r_mag).max() < 0.12  # strong lines add up to 0.1 mag
    assert np.median(np.abs(drawn - rows.r_mag)) < 0.02


# --- spectra ------------------------------------------------------------------------------------------------------


def test_lines_are_where_the_redshift_puts_them(seen):
    """The centroid of noiseless [O III] 5007, where it is strong, gives z to 10 km/s."""
    tool, found = spectra.desi(), 0
    rows = seen.take(~seen.is_star).take(slice(0, 200))
    for row, one in enumerate(lit(rows, SAMPLE.seed)):
        line = NAMES.index("OIII_5007")
        at = one.line_aa[line]
        if one.line_ew_aa[line] < 8 or not 3700 < at < 9700:
            continue
        near = np.abs(tool.wavelength_aa - at) < 12
        level = np.median(spectra.clean(one, tool)[np.abs(tool.wavelength_aa - at) < 60])
        excess = np.maximum(spectra.clean(one, tool)[near] - level, 0)
        centre = (excess * tool.wavelength_aa[near]).sum() / excess.sum()
        assert (centre / 5008.24 - 1 - rows.redshift[row]) * 3e5 == pytest.approx(0, abs=40)
        found += 1
    assert found > 3


def test_doublets_have_the_ratios_of_atomic_physics(light):
    at = {name: np.array([one.line_flux[i] for one in light]) for i, name in enumerate(NAMES)}
    there = at["Halpha"] > 0
    at = {name: flux[there] for name, flux in at.items()}
    assert np.allclose((at["OIII_5007"] / at["OIII_4959"]), 2.98, rtol=0.01)
    assert np.allclose((at["NII_6584"] / at["NII_6548"]), 3.05, rtol=0.01)
    sulphur = at["SII_6716"] / at["SII_6731"]
    assert ((sulphur > 0.85) & (sulphur < 1.5)).all()
    assert ((at["Halpha"] / at["Hbeta"]) > 2.8).all()  # case B, and dust only raises it


@pytest.mark.parametrize("name", ["desi", "sdss"])
def test_noise_of_spectra_is_what_ivar_says(sky, seen, name):
    """χ² per pixel of (flux − truth) over 8 spectra: 1 ± 0.02 (60,000 pixels: 4 σ)."""
    tool = {"desi": spectra.desi(), "sdss": spectra.sdss()}[name]
    rows = seen.take(slice(0, 8))
    bright = list(lit(rows, SAMPLE.seed))
    got = spectra.observe(rows, bright, tool, SAMPLE.seed)
    want = np.stack([spectra.clean(one, tool) for one in bright]) * spectra.in_fibre(rows, tool)[:, None]
    chi2 = ((got.flux - want) ** 2 * got.ivar)[got.good]
    assert chi2.mean() == pytest.approx(1, abs=0.02)
    assert (got.ivar[~got.good] == 0).all() and 0.9 < got.good.mean() < 1


def test_grids_are_those_of_the_surveys():
    assert len(spectra.desi().wavelength_aa) == 7781
    assert spectra.desi().wavelength_aa[[0, -1]] == pytest.approx([3600, 9824])
    assert np.allclose(np.diff(np.log10(spectra.sdss().wavelength_aa)), 1e-4, atol=1e-8)


def test_hermite_functions_are_orthonormal():
    product = xp.hermite() @ xp.hermite().T * 0.1
    assert np.allclose(product[:40, :40], np.eye(40), atol=1e-3)


def test_xp_coefficients_give_the_spectrum_back(light):
    star = light[0]
    spectrum = xp.dispersed(star, "BP")
    back = (xp.hermite() @ spectrum * 0.1) @ xp.hermite()
    assert np.abs(back - spectrum).max() < 0.03 * spectrum.max()
    assert spectrum.sum() * 0.1 == pytest.approx(xp.electrons(star, "BP"), rel=1e-6)


# --- pictures -----------------------------------------------------------------------------------------------------


def alone(monkeypatch):
    """No neighbours."""
    none = images.about
    monkeypatch.setattr(images, "about", lambda index, seed: none(index, seed).take(slice(0, 0)))


@pytest.mark.parametrize("name", CAMERAS)
def test_pictures_hold_the_flux_of_the_catalogue(name, seen, light, monkeypatch):
    """The sum over the whole transform is exact; in the cut-out only the far wings are missing."""
    alone(monkeypatch)
    fits = np.flatnonzero(~(seen.half_light_arcsec > 3))[:6].tolist()  # the wings of larger ones go beyond the cut-out
    for row in fits:
        picture = images.noiseless(seen, row, light[row], CAMERAS[name], SAMPLE.seed)
        total = light[row].bands(name).sum(axis=1)
        assert np.allclose(picture.sum(axis=(1, 2)), total, rtol=0.12)
        compact = seen.is_star[row] or (seen.half_light_arcsec[row] < 1.0 and seen.bulge_fraction[row] < 0.3)
        assert not compact or np.allclose(picture.sum(axis=(1, 2)), total, rtol=0.01)


def test_size_and_angle_come_back_from_moments(monkeypatch):
    """A lone exponential disc of 2″, q = 0.5, at 30°: moments of the noiseless picture, PSF taken off."""
    alone(monkeypatch)
    seen = Population(seed=8, stars=0.0).truth(np.arange(40))
    row = int(np.flatnonzero((seen.bulge_mass_fraction < 1) & ~seen.is_merger)[0])
    plain = {
        **dict(bulge_mass_fraction=0.0, bar_fraction=0.0, arm_strength=0.0, disc_arcsec=2.0, axis_ratio=0.5),
        **dict(position_angle_deg=30.0, companion_fraction=0.0),
    }
    columns = {name: np.where(np.arange(40) == row, value, getattr(seen, name)) for name, value in plain.items()}
    seen = Truth(**{**vars(seen), **columns})
    one = next(iter(lit(seen.take([row]), 8)))
    camera = CAMERAS["legacysurvey"]
    picture = images.noiseless(seen, row, one, camera, 8)[1].astype(float)
    y, x = (np.mgrid[:160, :160] - 79.5) * camera.pixel_scale_arcsec
    blur = images.grid(camera).picture(images.blur(camera, images.psf_steps(row, camera, 8)[1])).astype(float)
    v, u = (np.mgrid[:160, :160] - 80) * camera.pixel_scale_arcsec

    def moments(light, x, y):
        near = np.hypot(x, y) < 14
        weight = light * near / (light * near).sum()
        return np.array([(weight * x * x).sum(), (weight * y * y).sum(), (weight * x * y).sum()])

    xx, yy, xy = moments(picture, x, y) - moments(blur, u, v)
    angle = np.degrees(0.5 * np.arctan2(2 * xy, xx - yy)) - 90
    assert angle % 180 == pytest.approx(30, abs=1)
    major, minor = np.linalg.eigvalsh([[xx, xy], [xy, yy]])[::-1]
    assert np.sqrt(minor / major) == pytest.approx(0.5, abs=0.03)
    # An exponential disc seen face-on has ⟨x²⟩ = 3 h², h = r_half / 1.678.
    assert np.sqrt(major) == pytest.approx(np.sqrt(3) * 2.0 / 1.678, rel=0.03)


def test_noise_of_pictures_is_what_ivar_says(seen, light):
    """χ² per good pixel over four pictures of four bands: 410,000 pixels, 1 ± 0.01 (4 σ)."""
    rows = seen.take(slice(0, 4))
    camera = CAMERAS["legacysurvey"]
    got = images.observe(rows, light[:4], camera, SAMPLE.seed)
    want = np.stack([images.noiseless(rows, i, light[i], camera, SAMPLE.seed) for i in range(4)])
    chi2 = ((got.flux - want) ** 2 * got.ivar)[got.good]
    assert chi2.mean() == pytest.approx(1, abs=0.01)
    assert (got.ivar[~got.good] == 0).all() and got.good.mean() > 0.99


@pytest.mark.parametrize("name", CAMERAS)
def test_a_point_source_at_the_depth_is_five_sigma(name):
    """The best-weighted flux of a star of the stated magnitude, in median seeing and typical noise."""
    camera = CAMERAS[name]
    for band, depth in enumerate(camera.depth_mag):
        psf = images.grid(camera).picture(images.blur(camera, round(camera.psf_fwhm_arcsec[band] / 0.02))).astype(float)
        sigma = images.sky_sigma(camera)[band] / np.sqrt((psf**2).sum())
        assert 10 ** (-0.4 * (depth - 22.5)) / sigma == pytest.approx(5, rel=1e-3)
        assert psf.sum() == pytest.approx(1, abs=0.02)


def test_a_star_is_as_wide_as_the_seeing(seen, monkeypatch):
    """Light within 1.5 × FWHM is that of the Moffat profile; the pixel blurs it by less than 3 %."""
    alone(monkeypatch)
    row = int(np.flatnonzero(seen.is_star)[0])
    one = next(iter(lit(seen.take([row]), SAMPLE.seed)))
    for camera in CAMERAS.values():
        picture = images.noiseless(seen, row, one, camera, SAMPLE.seed)
        y, x = (np.mgrid[:160, :160] - 79.5) * camera.pixel_scale_arcsec
        for band, steps in enumerate(images.psf_steps(int(seen.index[row]), camera, SAMPLE.seed)):
            fwhm = steps * 0.02
            scale = fwhm / 2 / np.sqrt(2 ** (1 / camera.psf_beta) - 1)
            want = 1 - (1 + (1.5 * fwhm / scale) ** 2) ** (1 - camera.psf_beta)
            inner = picture[band][np.hypot(x, y) < 1.5 * fwhm].sum() / picture[band].sum()
            assert inner == pytest.approx(want, abs=0.03)


# --- catalogues ---------------------------------------------------------------------------------------------------


def test_half_light_radii_hold_half_the_light():
    one = np.array([1.0])
    radius = half_light(0.3 * one, 0.4 * one, 2.5 * one, 2.0 * one, one)
    share = 0.3 * inside(radius, 0.4 * one, 2.5 * one) + 0.7 * inside(radius, 2.0 * one, one)
    assert share[0] == pytest.approx(0.5, abs=1e-5)
    assert inside(2.0 * one, 2.0 * one, 4.0 * one)[0] == pytest.approx(0.5)


def test_every_modality_of_aion_is_there(sky):
    """`aion.md` §1: 33 numbers in the catalogue, 2 × 55 coefficients, images, spectra, a list and a map."""
    seen = MockSky(
        objects=3, population=SAMPLE, cameras=("legacysurvey", "hsc"), spectrographs=("desi", "sdss"), gaia_xp=True
    ).take([0, 1])
    wanted = [
        *(f"FLUX_{band}" for band in ("G", "R", "I", "Z", "W1", "W2", "W3", "W4")),
        *("EBV", "SHAPE_R", "SHAPE_E1", "SHAPE_E2", "Z", "parallax"),
        *(f"a_{band}" for band in "grizy"),
        *(f"{band}_cmodel_mag" for band in "grizy"),
        *(f"i_sdssshape_shape{which}" for which in ("11", "22", "12")),
        *("phot_g_mean_flux", "phot_bp_mean_flux", "phot_rp_mean_flux"),
    ]
    assert set(wanted) <= set(seen["scalars"].names)
    assert {"image", "image_hsc", "spectrum", "spectrum_sdss", "bp", "rp", "neighbours", "segmentation"} <= set(
        seen.parts
    )
    assert seen["image"].bands == ("g", "r", "i", "z") and seen["image_hsc"].bands == ("g", "r", "i", "z", "y")
    assert seen["bp"].values.shape == (2, 55)


def test_neighbours_are_where_the_list_says(sky):
    """The brightest pixel near a listed bright star or galaxy is within 2 px of it."""
    seen = sky.take(slice(0, 32))
    found = 0
    for row in range(32):
        listed = seen["neighbours"]
        there = np.flatnonzero(listed.where_good()[row])
        assert listed["X"][row, 0] == listed["Y"][row, 0] == 79.5
        for source in there[1:]:
            x, y, flux = (listed[name][row, source] for name in ("X", "Y", "FLUX_R"))
            if flux < 40 or not (8 < x < 151 and 8 < y < 151) or np.hypot(x - 79.5, y - 79.5) < 30:
                continue
            corner = round(y) - 6, round(x) - 6
            around = seen["image"].flux[row, 1, corner[0] : corner[0] + 13, corner[1] : corner[1] + 13]
            peak = np.unravel_index(around.argmax(), around.shape)
            assert np.hypot(peak[0] + corner[0] - y, peak[1] + corner[1] - x) < 2.5
            assert seen["segmentation"].label[row, round(y), round(x)] > 0
            found += 1
    assert found > 0


def test_ellipticities_are_the_tractors():
    """q = 0.5 at 0° (north): e1 = 1/3; at 45° (north-east): e2 = 1/3."""
    e = catalogue.ellipticity(np.array([0.5, 0.5]), np.array([0.0, 45.0]))
    assert np.allclose(e, [[1 / 3, 0], [0, 1 / 3]])


def test_batches_are_cells_of_the_footprint():
    from omnisky.observe.sky import cells

    sky = MockSky(
        objects=10, population=SAMPLE, cameras=(), spectrographs=(), objects_per_cell=4, footprint=(100, 2000)
    )
    batches = list(sky.batches())
    assert [len(one) for one in batches] == [6, 4]
    assert [np.unique(cells(one, 4)).tolist() for one in batches] == [[100], [2000]]


def test_distances_are_astropys():
    """f_λ of 1 L☉/Å at z = 0.5, by hand."""
    from astropy.cosmology import Planck18

    area = 4 * np.pi * Planck18.luminosity_distance(0.5).cgs.value ** 2
    assert cosmos.dilution(np.array(0.5)) == pytest.approx(3.828e33 / area / 1.5 * 1e17, rel=1e-3)


# --- on disk ------------------------------------------------------------------------------------------------------


def test_a_sky_on_disk_is_the_sky_and_goes_on_where_it_stopped(tmp_path):
    from omnisky.errors import StorageError
    from omnisky.observe.mmu import MMUHdf5
    from omnisky.observe.mock import build

    small = {"population": SAMPLE, "objects_per_cell": 2, "footprint": (100, 2000)}
    sky = MockSky(objects=5, gaia_xp=True, **small)
    paths = [piece.path for piece in build(sky, tmp_path / "mock", workers=1)]
    assert len(paths) == 2
    before = [path.stat().st_mtime_ns for path in paths]
    paths[1].unlink()
    again = [piece.path for piece in build(sky, tmp_path / "mock", workers=1)]
    assert again == paths and paths[0].stat().st_mtime_ns == before[0] and paths[1].exists()
    back = MMUHdf5(tmp_path / "mock")
    got = back.take(np.arange(len(back)))
    want = sky.take([int(name.rsplit("-", 1)[1]) for name in got.object_id])
    assert np.array_equal(got["image"].flux, want["image"].flux)
    assert np.array_equal(got["spectrum"].flux, want["spectrum"].flux)
    assert np.array_equal(got["scalars"]["Z"], want["scalars"]["Z"])
    with pytest.raises(StorageError):
        list(build(MockSky(objects=7, **small), tmp_path / "mock", workers=1))
