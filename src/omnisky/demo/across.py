"""Look-alikes four ways, and redshifts told by neighbours: what an aligned model is for, as sections of a page."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import nn

from omnisky import plot
from omnisky.codec.stretch import LegacyColours
from omnisky.demo.mock import colours
from omnisky.demo.story import Story
from omnisky.embed import Embedding, embed
from omnisky.errors import MissingExtra
from omnisky.model import store
from omnisky.observe.mock import MockSky, Population
from omnisky.observe.types import Image, Observation
from omnisky.page import Section, Table
from omnisky.plot.across import WAYS
from omnisky.search import Index
from omnisky.search.retrieval import by_neighbours, retrieval
from omnisky.serve.explore import Sky

MODEL = "omnisky-clip"
ASKED = MockSky(objects=300, population=Population(seed=11, faintest_r_mag=19.0, stars=0.0))
"""another seed than the model was trained on"""
MADE_UP = "None of these galaxies exists, and the model has not met them before: they are of another made-up sky."


def known_galaxies() -> Index:
    """The mock galaxies with redshifts that come with `omnisky-clip`; it refuses what other weights made."""
    return Index.open(Path(str(files("omnisky"))) / "weights" / MODEL / "index")


def both(model: nn.Module, seen: Observation) -> dict[str, Embedding]:
    """Images and spectra as vectors of one space."""
    return {part: embed(model, seen, part=part, precision="bf16") for part in ("image", "spectrum")}


def four_ways_on_the_mock_sky(story: Story, sky: MockSky = ASKED) -> None:
    """Adds the section. Without the extra `mock` it says how to get it."""
    heading = "An image finds its spectrum"
    with story.timed("four ways"):
        try:
            seen = sky.take(slice(None))
        except MissingExtra as missing:
            story.sections.append(Section(heading, f"Not shown here: {missing}"))
            return
        sides = both(store.load(MODEL), seen)
        title = "Made-up galaxies: images and spectra in one space"
        story.skies.append(Sky(name="mock", title=title, index=Index(sides), seen=seen, about=MADE_UP))
        four_ways(story, sides, seen, seen["truth"]["redshift"], colours(seen), heading, MADE_UP)


def four_ways(
    story: Story,
    sides: Mapping[str, Embedding],
    seen: Observation,
    redshift: Float[np.ndarray, " object"],
    pictures: Float[np.ndarray, "object 3 height width"],
    heading: str,
    told: str,
    queries: int = 4,
) -> None:
    """Adds a wall of look-alikes in and across modalities (`sides` as `both` makes them), and how often an object finds
    itself.
    """
    index = Index(sides)
    rows = np.argsort(redshift)[(np.linspace(0.15, 0.95, queries) * (len(seen) - 1)).astype(int)]
    ids = seen.object_id[rows].tolist()
    found = {way: index.like_ids(ids, 4, by=by, across=across).rows for way, (by, across) in WAYS.items()}
    spectrum = seen["spectrum"]
    figure = plot.four_ways(
        pictures,
        spectrum.wavelength_aa[0],
        np.where(spectrum.where_good(), spectrum.flux, np.nan),
        redshift,
        rows.tolist(),
        found,
        story.folder / "four-ways.png",
    )
    crossed = {way: retrieval(index, by, across) for way, (by, across) in WAYS.items() if by != across}
    lines = [
        (way, f"{one.among:,}", str(one.recall[1]), str(one.recall[10]), f"{10 / one.among:.3f}", str(one.median_rank))
        for way, one in crossed.items()
    ]
    story.sections.append(
        Section(
            heading,
            "One model reads images and spectra into one space, so either can be asked for either. In the accent "
            f"colour: the object found itself in its other modality. {told}",
            figure,
            "galaxies and spectra, each with the images and spectra most alike",
            Table(("way", "among", "recall@1", "recall@10", "recall@10 by chance", "median rank"), lines),
        )
    )


def redshifts_of_spectra(story: Story, seen: Observation, redshift: Float[np.ndarray, " object"], told: str) -> None:
    """Adds a table of redshifts of real spectra, told by the nearest mock galaxies' spectra."""
    with story.timed("redshifts"):
        index = known_galaxies()
        asked = embed(store.load(MODEL), seen, part="spectrum", precision="bf16")
        said = by_neighbours(index, asked, "redshift", by="spectrum")
        alike = index.like(asked, 1, by="spectrum").similarity[:, 0]
    rows = [
        (name, f"{z:.4f}" if np.isfinite(z) else "not known", f"{guess:.3f}", f"{near:.2f}")
        for name, z, guess, near in zip(seen.object_id.tolist(), redshift, said, alike, strict=True)
    ]
    story.sections.append(
        Section(
            "Redshifts by nearest neighbours",
            "The median redshift of the 16 made-up galaxies whose spectra are most like each real one; the model "
            f"has never seen a real spectrum. {told}",
            table=Table(("object", "redshift", "by neighbours", "likeness of the nearest"), rows),
        )
    )


def as_flux(pictures: Image) -> Image:
    """Display colours of the Legacy Surveys as the fluxes they were made of, where nothing was clipped."""
    import torch

    stretch = LegacyColours()
    flux = stretch.inverse(torch.from_numpy(pictures.flux.astype(np.float32) / 255)).numpy()
    return Image(
        flux=flux, bands=("z", "r", "g"), survey="legacysurvey", pixel_scale_arcsec=pictures.pixel_scale_arcsec
    )
