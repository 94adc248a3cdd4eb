"""The mock sky against published numbers: AB in every band, dust, infrared, resolution; and AION's forty modalities."""

from dataclasses import replace

import numpy as np
import pytest

from omnisky.observe.mock import MockSky, Population, catalogue, photometry, spectra, xp
from omnisky.observe.mock.cameras import CAMERAS
from omnisky.observe.mock.light import Light, fluxes, lit
from omnisky.observe.mock.lines import NAMES
from omnisky.observe.mock.photometry import FILTERS, curve, magnitude, nanomaggies
from omnisky.observe.mock.templates import basis, through_milky_way
from omnisky.observe.mock.truth import Truth

pytest.importorskip("galsim")
pytest.importorskip("speclite")

SAMPLE = Population(seed=17)
AB = 2.99792458e18 * 3.631e-20 / 1e-17 / 1e9  # 1 nanomaggy in 1e-17 erg/s/cm²/Å, times λ² in Å²


@pytest.fixture(scope="module")
def seen() -> Truth:
    return SAMPLE.truth(np.arange(40))


@pytest.fixture(scope="module")
def light(seen) -> list[Light]:
    return list(lit(seen, SAMPLE.seed))


# --- AB -----------------------------------------------------------------------------------------------------------


def covered() -> list[tuple[str, str, str]]:
    """(spectrograph, survey, band) of all bands of which a spectrograph's range holds all but a thousandth."""
    found = []
    for name, tool in {"desi": spectra.desi(), "sdss": spectra.sdss()}.items():
        for survey, bands in FILTERS.items():
            for band, filter_name in bands.items():
                through = curve(filter_name)
                inside = (through.wavelength_aa > tool.edge_aa[0]) & (through.wavelength_aa < tool.edge_aa[-1])
                weight = through.response / through.wavelength_aa
                if np.trapezoid(weight * inside, through.wavelength_aa) > 0.999 * np.trapezoid(
                    weight, through.wavelength_aa
                ):
                    found.append((name, survey, band))
    return found


def test_most_bands_are_covered_by_a_spectrum():
    both = {(survey, band) for _, survey, band in covered()}
    assert {("legacysurvey", b) for b in "gri"} | {("hsc", b) for b in "griz"} | {("sdss", b) for b in "gri"} <= both


def test_spectra_and_photometry_agree_within_a_percent_in_every_band(light):
    """The spectrograph's pixels, summed through the filter, against the catalogue's total: all 40 objects."""
    tools = {"desi": spectra.desi(), "sdss": spectra.sdss()}
    clean = {name: np.stack([spectra.clean(one, tool) for one in light]) for name, tool in tools.items()}
    for name, survey, band in covered():
        tool, through = tools[name], curve(FILTERS[survey][band])
        wave, width = tool.wavelength_aa, np.diff(tool.edge_aa)
        weight = np.interp(wave, through.wavelength_aa, through.response, left=0, right=0) * wave * width
        ours = clean[name] @ weight / (AB / wave**2 @ weight)
        theirs = np.array([one.band(survey, band).sum() for one in light])
        assert np.abs(ours / theirs - 1).max() < 0.01, (name, survey, band)


@pytest.mark.parametrize("name", CAMERAS)
def test_catalogue_fluxes_scatter_about_the_true_ones_as_their_depth_says(name, seen, light):
    """Pulls of 40 objects in all bands: mean 0, scatter 1; 4 σ of 160 numbers is 0.32 and 0.22."""
    camera, true = CAMERAS[name], fluxes(light, name)
    sky = catalogue.sky_sigma(camera) * np.sqrt(catalogue.area_px(seen, camera, SAMPLE.seed))
    pull = (catalogue.measured(seen, true, camera, SAMPLE.seed) - true) / np.hypot(
        sky, np.sqrt(true / np.array(camera.photons))
    )
    assert abs(pull.mean()) < 0.32
    assert pull.std() == pytest.approx(1, abs=0.22)


def test_widths_of_lines_are_those_of_the_rest_frame(seen, light):
    """Observed flux over observed continuum is (1 + z) times the width: lines are not dimmed twice."""
    line = NAMES.index("Halpha")
    for row in np.flatnonzero(~seen.is_star):
        one = light[row]
        if one.line_aa[line] > one.wavelength_aa[-1]:
            continue
        below = np.interp(one.line_aa[line], one.wavelength_aa, one.parts.sum(axis=0))
        wanted = one.line_ew_aa[line] * (1 + seen.redshift[row])
        assert one.line_flux[line] / below == pytest.approx(wanted, rel=0.02)


# --- dust ---------------------------------------------------------------------------------------------------------

PUBLISHED = {  # A/E(B−V), Schlafly & Finkbeiner 2011, as in lsst/obs_decam and obs_subaru
    "legacysurvey": {"g": 3.212, "r": 2.164, "i": 1.591, "z": 1.211},
    "hsc": {"g": 3.240, "r": 2.276, "i": 1.633, "z": 1.263, "y": 1.075},
}


@pytest.mark.parametrize("survey", PUBLISHED)
def test_the_milky_way_dims_as_published(survey):
    """A star of 6,800 K behind E(B−V) = 0.1: within 5 % of A in every band."""
    wave, star = basis().wavelength_aa, basis().star[12].astype(float)
    for band, ratio in PUBLISHED[survey].items():
        name = FILTERS[survey][band]
        left = nanomaggies(star * through_milky_way(wave, 0.1), wave, name) / nanomaggies(star, wave, name)
        assert -2.5 * np.log10(left) / 0.1 == pytest.approx(ratio, rel=0.05), band


# --- infrared -----------------------------------------------------------------------------------------------------


def test_infrared_fluxes_are_ab(seen, light):
    """A hot star has no colour in Vega magnitudes, so W1 − W2 is 2.699 − 3.339 in AB (Jarrett et al. 2011)."""
    hot = replace(seen, is_star=seen.is_star | True, teff_k=np.full(len(seen), 12000.0), ebv_mag=np.zeros(len(seen)))
    mag = magnitude(catalogue.wise(hot, light))
    assert mag[:, 0] - mag[:, 1] == pytest.approx(-0.64, abs=0.1)
    assert mag[:, 1] - mag[:, 2] == pytest.approx(3.339 - 5.174, abs=0.1)


def test_dust_takes_less_of_w1_than_of_the_light_it_goes_on_from(seen, light):
    """Of the same light at 1.1 µm more arrives in W1 the more dust there was before it: at most A(V) / 2."""
    clear = replace(seen, dust_av_mag=np.zeros(len(seen)))
    gained = magnitude(catalogue.wise(clear, light)[:, 0]) - magnitude(catalogue.wise(seen, light)[:, 0])
    dust = np.where(seen.is_star, 0.0, np.nan_to_num(seen.dust_av_mag))
    assert ((gained >= 0) & (gained <= 0.5 * dust + 1e-9)).all() and (gained[dust > 0.5] > 0.05).all()


# --- instruments --------------------------------------------------------------------------------------------------


def test_resolution_is_that_of_the_instruments():
    """DESI's R as designed or better: 2000 – 3200, 3200 – 4100, 4100 – 5000; BOSS: Smee et al. 2013."""
    desi = spectra.desi()
    resolution = desi.wavelength_aa / (2.3548 * desi.lsf_sigma_pix * 0.8)
    for at, low, high in ((3650, 2000, 2600), (5700, 3200, 3700), (7500, 4100, 5100), (9700, 4900, 5600)):
        assert low < np.interp(at, desi.wavelength_aa, resolution) < high
    sdss = spectra.sdss()
    resolution = 1 / (2.3548 * sdss.lsf_sigma_pix * 1e-4 * np.log(10))
    assert np.interp([3700, 9000], sdss.wavelength_aa, resolution) == pytest.approx([1560, 2650], rel=0.02)


def test_gaia_is_as_precise_as_it_says(seen, light, monkeypatch):
    """Parallaxes about the truth: 0.07 mas at G = 17, 0.5 at 20 (EDR3); here the quietest and the loudest of 40."""
    g_mag = 25.6874 - 2.5 * np.log10([xp.electrons(one, "G") for one in light])
    lots = np.stack([catalogue._gaia(seen, light, seed)["parallax"][0] for seed in range(60)])
    bright, faint = g_mag < 16, (g_mag > 19.5) & (g_mag < 20.5)
    scatter = lots.std(axis=0)
    assert (scatter[bright] < 0.07).all() and bright.any()
    assert ((scatter[faint] > 0.25) & (scatter[faint] < 1.0)).all() and faint.any()


# --- the forty modalities of AION-1 -------------------------------------------------------------------------------

SCALARS = {
    **{f"FLUX_{band}": "nmgy" for band in ("G", "R", "I", "Z", "W1", "W2", "W3", "W4")},
    **{"SHAPE_R": "arcsec", "SHAPE_E1": "", "SHAPE_E2": "", "EBV": "mag", "Z": "", "parallax": "mas"},
    **{f"a_{band}": "mag" for band in "grizy"},
    **{f"{band}_cmodel_mag": "mag" for band in "grizy"},
    **{f"i_sdssshape_shape{axes}": "arcsec2" for axes in ("11", "22", "12")},
    **{f"phot_{band}_mean_flux": "electron / s" for band in ("g", "bp", "rp")},
}
OTHERS = {  # part → what holds its numbers, and the shape of one object's
    "image": ("flux", (4, 160, 160)),
    "image_hsc": ("flux", (5, 160, 160)),
    "spectrum": ("flux", (7781,)),
    "spectrum_sdss": ("flux", (4560,)),
    "neighbours": ("values", (20, 10)),
    "segmentation": ("label", (160, 160)),
    "bp": ("values", (55,)),
    "rp": ("values", (55,)),
}


@pytest.fixture(scope="module")
def all_of_it():
    sky = MockSky(
        objects=3, population=SAMPLE, cameras=("legacysurvey", "hsc"), spectrographs=("desi", "sdss"), gaia_xp=True
    )
    return sky.take(slice(None))


def test_there_are_forty():
    assert len(SCALARS) + len(OTHERS) + len(("ra", "dec")) == 40


@pytest.mark.parametrize("name", SCALARS)
def test_aions_numbers_have_their_names_and_units(name, all_of_it):
    scalars = all_of_it["scalars"]
    assert scalars.units[scalars.names.index(name)] == SCALARS[name]
    assert scalars[name].shape == (3,)


@pytest.mark.parametrize("name", OTHERS)
def test_aions_arrays_have_their_shapes(name, all_of_it):
    field, shape = OTHERS[name]
    assert getattr(all_of_it[name], field).shape == (3, *shape)


def test_aions_positions_are_degrees(all_of_it):
    assert all_of_it.ra.dtype == all_of_it.dec.dtype == np.float64
    assert ((all_of_it.ra >= 0) & (all_of_it.ra < 360) & (np.abs(all_of_it.dec) < 90)).all()


def test_aions_spectra_and_lists_have_all_their_fields(all_of_it):
    assert {"X", "Y", "SHAPE_E1", "SHAPE_E2", "SHAPE_R"} <= set(all_of_it["neighbours"].names)
    for name in ("spectrum", "spectrum_sdss"):
        part = all_of_it[name]
        assert part.flux.shape == part.ivar.shape == part.wavelength_aa.shape == part.good.shape
        assert (np.diff(part.wavelength_aa) > 0).all()
    assert photometry.FILTERS["hsc"]["r"] == "hsc2017-r2"  # the filters of most of PDR3
