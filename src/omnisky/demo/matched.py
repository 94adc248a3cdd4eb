"""The demo on real galaxies of which there are an image and a spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omnisky.adapt.score import bootstrap
from omnisky.demo.across import MODEL, as_flux, both, four_ways, known_galaxies
from omnisky.demo.mock import colours
from omnisky.demo.story import Story, finish
from omnisky.embed import Embedding
from omnisky.errors import MissingModality
from omnisky.model import store
from omnisky.observe.survey import SURVEYS
from omnisky.observe.types import Observation
from omnisky.page import Section, Table
from omnisky.search.retrieval import by_neighbours

REDSHIFTS = ("redshift", "z", "Z")
"""what columns of redshifts are called"""


def has_pairs(seen: Observation) -> bool:
    """True where there is an image and a spectrum of each object."""
    return "image" in seen and "spectrum" in seen


def redshift_of(seen: Observation) -> Float[np.ndarray, " object"]:
    """The column of redshifts. Raises MissingModality."""
    names = seen["scalars"].names if "scalars" in seen else ()
    found = next((name for name in REDSHIFTS if name in names), None)
    if found is None:
        raise MissingModality("no redshifts here", saw=names, want=f'a "scalars" part with one of {REDSHIFTS}')
    return seen["scalars"][found]


def matched_demo(folder: str | Path, data: str | Path, seen: Observation) -> Story:
    """Real pairs through the shipped AstroCLIP: look-alikes four ways, and redshifts told by made-up neighbours.

    `seen` is what `read(data)` gave. Raises MissingModality without images, spectra or redshifts.
    """
    story = Story(Path(folder))
    image, z = seen["image"], redshift_of(seen)
    if image.unit == "display":
        pictures, seen = image.flux.astype(np.float32) / 255, seen | {"image": as_flux(image)}
    else:
        pictures = colours(seen)
    with story.timed("embed"):
        sides = both(store.load(MODEL), seen)
    told = "They are real; the model has only ever seen made-up ones."
    with story.timed("four ways"):
        four_ways(story, sides, seen, z, pictures, "Real galaxies, asked for by image and by spectrum", told, queries=3)
    with story.timed("redshifts"):
        _redshifts(story, sides, seen, z)
    row = SURVEYS.get(image.survey)
    story.facts = {"pairs": f"{len(seen):,}", "model": MODEL} | ({} if row is None else {"images": row.name})
    title, sentence = (
        f"{len(seen)} real pairs through a small AstroCLIP",
        "Image and spectrum of a galaxy, in one space.",
    )
    return finish(story, title, f"omnisky demo --data {data}", (), sentence)


def _redshifts(
    story: Story, sides: Mapping[str, Embedding], seen: Observation, z: Float[np.ndarray, " object"]
) -> None:
    index = known_galaxies()
    said = {part: by_neighbours(index, one, "redshift", by=part) for part, one in sides.items()}
    rows = [
        (name, f"{true:.4f}", *(f"{said[part][i]:.3f}" for part in said))
        for i, (name, true) in enumerate(zip(seen.object_id.tolist(), z, strict=True))
    ]
    off = {part: bootstrap(lambda t, s: float(np.median(abs(s - t) / (1 + t))), z, told) for part, told in said.items()}
    guess = bootstrap(lambda t: float(np.median(abs(np.median(index.objects["scalars"]["redshift"]) - t) / (1 + t))), z)
    words = ", ".join(f"{part} {score}" for part, score in off.items())
    story.sections.append(
        Section(
            "Redshifts of real galaxies by made-up neighbours",
            "The median redshift of the 16 made-up galaxies most alike, which is all that this model was ever told. "
            f"Median |Δz| / (1 + z): {words}; always saying the made-up galaxies' median: {guess}.",
            table=Table(("object", "redshift", *(f"by {part}" for part in said)), rows),
        )
    )
