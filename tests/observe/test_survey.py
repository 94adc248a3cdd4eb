"""Rows of surveys are data: complete, checked when read, and a mistake in one is named."""

from importlib.resources import files
from pathlib import Path

import pytest
from astropy import units as u

from omnisky.errors import BadValue, UnknownKey
from omnisky.observe.survey import SURVEYS, Layout, markdown, survey_row
from omnisky.observe.types import Image, LightCurve

LOADERS = (
    *("legacysurvey", "ssl_legacysurvey", "hsc", "btsbot", "jwst", "gz10", "gaia", "sdss", "desi", "apogee", "galah"),
    *("lamost", "vipers", "chandra", "manga", "plasticc", "tess", "kepler", "cfa", "csp", "yse", "ps1_sne_ia"),
    *("des_y3_sne_ia", "snls", "foundation", "swift_sne_ia", "desi_provabgs", "allwise", "twomass", "galex", "sages"),
)

THANKS = {"citation": "Me 2026", "licence": "CC0"}


def mmu(**more) -> dict:
    return {**THANKS, "mmu": {"layout": "table", "configs": ["a"], **more}}


def test_all_sets_of_the_multimodal_universe_have_a_row():
    assert {name for name, row in SURVEYS.items() if row.mmu} == set(LOADERS) and len(LOADERS) == 31


def test_the_documentation_is_the_rows():
    page = Path(__file__).parents[2] / "docs" / "surveys.md"
    assert page.read_text(encoding="utf-8") == markdown()


@pytest.mark.parametrize("name", LOADERS)
def test_each_row_says_whom_to_thank_and_where_to_look(name):
    row = SURVEYS[name]
    assert row.name == name and row.citation and row.licence and row.mmu.configs
    for part in row.mmu.parts:
        assert part.columns or part.prefix, part.name
        if part.kind is Image and part.file_bands:
            assert len(part.file_bands) == len(part.bands)


def test_what_rows_say():
    assert SURVEYS["hsc"].mmu.parts[0].factor == pytest.approx(1 / 63.0957, rel=1e-5)  # AB zero point 27
    assert SURVEYS["jwst"].mmu.parts[0].factor == pytest.approx(10 / 3631, rel=1e-3)  # 10 nJy in units of 3.631 µJy
    assert SURVEYS["manga"].mmu.layout is Layout.GROUP and SURVEYS["cfa"].mmu.layout is Layout.PER_OBJECT
    assert SURVEYS["des_y3_sne_ia"].licence == "CC BY-NC-ND 4.0" and SURVEYS["snls"].licence == "GPL-3.0"
    curve = next(part for part in SURVEYS["tess"].mmu.parts if part.name == "lightcurve")
    assert curve.kind is LightCurve and curve.time_offset_mjd == 56999.5 and curve.padding == (0.0,)


def test_units_of_columns():
    """In the tractor's catalogues WISE is in AB nanomaggies like the other bands (legacysurvey.org/dr10/catalogs)."""
    legacy, hsc = SURVEYS["legacysurvey"].mmu, SURVEYS["hsc"].mmu
    assert legacy.unit_of("FLUX_W1") == legacy.unit_of("FLUX_R") == "nmgy" and "AB nanomaggies" in legacy.note
    assert SURVEYS["sdss"].unit_of("SPECTROFLUX_U") == "nmgy" and "u (AB) is u (SDSS) - 0.04" in SURVEYS["sdss"].note
    said = {name: hsc.unit_of(name) for name in ("a_g", "i_cmodel_mag", "i_cmodel_magerr", "i_sdssshape_shape11")}
    assert said == {"a_g": "mag", "i_cmodel_mag": "mag", "i_cmodel_magerr": "mag", "i_sdssshape_shape11": "arcsec2"}
    assert hsc.unit_of("i_extendedness_value") == ""


@pytest.mark.parametrize("name", LOADERS)
def test_units_are_such_that_astropy_knows(name):
    row = SURVEYS[name].mmu
    given = [*row.units.values(), *(unit for part in row.parts for unit in part.units if unit != "-")]
    assert all(u.Unit(unit) is not None for unit in given)


def test_the_rows_are_shipped_beside_the_code():
    assert (files("omnisky.observe") / "surveys.toml").is_file()


@pytest.mark.parametrize(
    ("row", "error", "said"),
    [
        ({"licence": "CC0"}, BadValue, "survey x: no citation"),
        ({**THANKS, "pixel_scale": 1.0}, UnknownKey, "pixel_scale"),
        ({**THANKS, "pixel_scale_arcsec": "wide"}, BadValue, "x.pixel_scale_arcsec.*'wide'.*want float"),
        (mmu(layout="heap"), BadValue, "x, mmu: layout.*saw heap.*per_object"),
        (mmu(configs="a", object_ids=["b"]), UnknownKey, "object_ids"),
        (mmu(padding=[1]), UnknownKey, "padding"),
        (mmu(units={"Z": 3}), BadValue, r"units\.Z"),
        (mmu(parts={"image": {"kind": "picture"}}), BadValue, r"parts\.image: kind.*saw picture.*image"),
        (mmu(parts={"image": {"kind": "image", "flx": "f"}}), UnknownKey, r"parts\.image.*saw flx"),
        (mmu(parts={"image": {"kind": "image", "flux": []}}), BadValue, r"parts\.image\.flux"),
        (mmu(parts={"image": {"kind": "image", "flux": "f", "one_mask": "yes"}}), BadValue, "one_mask"),
    ],
)
def test_a_mistake_in_a_row_is_named(row, error, said):
    with pytest.raises(error, match=said):
        survey_row("x", row)


def test_whole_numbers_are_numbers():
    row = survey_row("x", mmu(missing={"Z": -9}, parts={"s": {"kind": "spectrum", "flux": "f", "padding": [-1]}}))
    assert row.mmu.missing == {"Z": (-9.0,)} and row.mmu.parts[0].padding == (-1.0,)
