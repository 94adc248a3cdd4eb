"""The mock sky as a section of the demo: twelve objects of all kinds, with what is true of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Integer

from omnisky import plot
from omnisky.demo.story import Story
from omnisky.errors import MissingExtra
from omnisky.observe.mock import MockSky, Population
from omnisky.observe.mock.truth import Truth
from omnisky.observe.types import Observation, Scalars
from omnisky.page import Section

MOCK_SKY = MockSky(objects=600, population=Population(seed=7, faintest_r_mag=17.5, stars=0.03))
_HEADING = "A sky that was made up"


def mock_sky(story: Story, sky: MockSky = MOCK_SKY) -> None:
    """Adds the section. Without the extra `mock` it says how to get it."""
    with story.timed("mock sky"):
        try:
            titles, rows = variety(sky.population.truth(np.arange(len(sky))))
            seen = sky.take(rows)
        except MissingExtra as missing:
            story.sections.append(Section(_HEADING, f"Not shown here: {missing}"))
            return
        spectrum, truth = seen["spectrum"], seen["truth"]
        figure = plot.wall(
            colours(seen),
            spectrum.wavelength_aa,
            np.where(spectrum.good, spectrum.flux, np.nan),
            sky.expected(rows, "desi"),
            truth["redshift"],
            titles,
            [facts(truth, row) for row in range(len(rows))],
            story.folder / "mock.png",
        )
    story.sections.append(
        Section(
            _HEADING,
            "None of these exists. They are drawn from what is known of real galaxies, then observed as the Legacy "
            "Survey would (g, r and z, 42″ wide) and as DESI would, with their filters, blur and noise. So everything "
            "about them is known: beside each are the numbers it was made from.\n\n"
            "Models can be trained and tested on them where no real labels exist. "
            "Make more: omnisky mock --objects 2000 --out mock",
            figure,
            "twelve made-up objects, each with its picture, its spectrum and the truth",
        )
    )


def variety(seen: Truth) -> tuple[list[str], Integer[np.ndarray, " object"]]:
    """Twelve names of kinds and, of each kind, the row of the object that looks largest."""
    galaxy, face_on = ~seen.is_star, seen.inclination_deg < 50
    plain = galaxy & ~seen.is_merger & ~seen.is_irregular & ~seen.is_edge_on
    spiral = plain & face_on & (seen.arms > 0)
    barred = seen.bar_fraction > 0
    kinds = {
        "two-armed spiral": spiral & (seen.arms == 2) & ~barred,
        "barred spiral": spiral & (seen.arms == 2) & barred,
        "many-armed spiral": spiral & (seen.arms > 2),
        "disc with a large bulge": plain & (seen.bulge_fraction > 0.25) & (seen.log_ssfr > -11),
        "elliptical": plain & (seen.bulge_mass_fraction == 1),
        "lenticular": plain & (seen.log_ssfr < -11.3) & (seen.bulge_mass_fraction < 1),
        "disc seen edge-on": galaxy & seen.is_edge_on & (seen.log_ssfr > -11),
        "irregular dwarf": galaxy & seen.is_irregular & ~seen.is_merger & (seen.log_mass < 9.7),
        "merger": galaxy & seen.is_merger & (seen.arms > 0),
        "young: many new stars": galaxy & (seen.log_ssfr > -9.6) & ~seen.is_irregular & ~seen.is_merger,
        "far away": galaxy & (seen.redshift > 0.15),
        "star": seen.is_star,
    }
    rows: list[int] = []
    titles: list[str] = []
    for name, is_one in kinds.items():
        left = np.setdiff1d(np.flatnonzero(is_one), rows)
        if len(left):
            size = np.where(seen.is_star[left], -seen.r_mag[left], seen.half_light_arcsec[left])
            # Larger than the picture is too large.
            rows.append(int(left[np.argmax(np.where(size < 7, size, -size))]))
            titles.append(name)
    return titles, np.array(rows)


def facts(truth: Scalars, row: int) -> str:
    """What is true of one object, in two lines."""
    one = {name: float(truth[name][row]) for name in truth.names}
    if one["is_star"]:
        return f"{one['teff_k']:,.0f} K · r = {one['r_mag']:.1f} mag\n{1000 / one['parallax_mas']:,.0f} pc away"
    rate = 10 ** (one["log_mass"] + one["log_ssfr"])
    mass = 10 ** one["log_mass"] / 1e9
    return (
        f"z = {one['redshift']:.3f} · {mass:,.{1 if mass < 10 else 0}f} billion M☉ · "
        f"{rate:.2g} M☉ of new stars a year\n"
        f"stars {one['age_gyr']:.1f} Gyr old · half its light within {one['half_light_arcsec']:.1f}″ · "
        f"{one['bulge_fraction']:.0%} of it bulge"
    )


def colours(seen: Observation) -> Float[np.ndarray, "object 3 height width"]:
    """z, r, g as red, green, blue: hues kept, brightness through asinh (Lupton et al. 2004, PASP 116, 133)."""
    image = seen["image"]
    # What one unit is in each band, nanomaggies a pixel: a galaxy of g − r = 0.65 and r − z = 0.5 comes out white.
    planes = np.stack(
        [image.flux[:, image.bands.index(band)] / unit for band, unit in (("z", 0.15), ("r", 0.095), ("g", 0.052))], 1
    )
    bright = np.maximum(planes.mean(axis=1, keepdims=True), 1e-3)
    shown = planes / bright * (np.arcsinh(3 * bright) / 3.2)
    shown = shown / np.maximum(shown.max(axis=1, keepdims=True), 1)
    return np.clip(shown + 0.02, 0, 1)
