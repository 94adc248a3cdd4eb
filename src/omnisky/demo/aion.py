"""A redshift posterior that sharpens with each modality, and a galaxy translated from one survey to another."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import nn

from omnisky import plot
from omnisky.codec.image import centred
from omnisky.demo.story import Story
from omnisky.errors import MissingExtra
from omnisky.evaluate.aion import ASKED
from omnisky.generate import Roar, posterior
from omnisky.generate.answers import answers, shown
from omnisky.model import store
from omnisky.model.masked import AnyToAny
from omnisky.observe.mock.surveys import all_surveys, middle
from omnisky.observe.types import Observation
from omnisky.page import Section, Table

MODEL = "omnisky-aion"
WAY = Roar(steps=8, temperature=0.5)
HEADING = "Anything from anything"
GALAXIES = 6
LEGACY = ("flux_g", "flux_r", "flux_i", "flux_z", "image")


def any_to_any(story: Story) -> None:
    """Adds the sections; where the model is not shipped, or the extra `mock` is missing, one that says so."""
    if MODEL not in store.shipped_models():
        story.sections.append(Section(HEADING, f"Not shown here: {MODEL} does not come with this version."))
        return
    with story.timed("any to any"):
        try:
            seen = _galaxies()
        except MissingExtra as missing:
            story.sections.append(Section(HEADING, f"Not shown here: {missing}"))
            return
        show(story, store.load(MODEL), seen)


def _galaxies() -> Observation:
    """Of another seed than the model learnt from."""
    return middle(all_surveys(GALAXIES, seed=21, faintest_r_mag=18.5, stars=0.0).take(slice(None)))


def show(story: Story, model: nn.Module, seen: Observation) -> None:
    """Posteriors from more and more, and Legacy Survey images as HSC would see them."""
    net, z = cast(AnyToAny, model), seen["truth"]["redshift"]
    found = {name: posterior(net, shown(net, seen, keys, ("tok_z",)), "z") for name, keys in ASKED.items()}
    first = next(iter(found.values()))
    rows = [(name, f"{one.std().mean():.4f}", f"{np.abs(one.mean() - z).mean():.4f}") for name, one in found.items()]
    story.sections.append(
        Section(
            "A redshift sharpens",
            "One network reads any of forty modalities and says how likely each redshift is. Six made-up galaxies "
            "it has not met, asked with four magnitudes, with their image too, and with their spectrum; dashed: the "
            "truth.",
            plot.posteriors(
                first.edges, {name: one.pdf for name, one in found.items()}, z, story.folder / "redshift.png"
            ),
            "curves that narrow around the true redshift",
            Table(("from", "mean width", "mean |Δz|"), rows),
        )
    )
    some = seen.take(slice(0, 4))
    said = answers(net, some, ("image_hsc",), LEGACY, WAY, generator=torch.Generator().manual_seed(0))["image_hsc"]
    true, red = some["image_hsc"], some["image_hsc"].bands.index("r")
    before = centred(true.flux[:, red], said.flux.shape[-1])
    story.sections.append(
        Section(
            "Another telescope's view",
            "The same network is shown a Legacy Survey image and draws the galaxy as HSC would see it, in r. Left what "
            "HSC saw of it, in the middle what was drawn, right the difference.",
            plot.before_after(before, said.flux[:, red], story.folder / "translated.png"),
            "galaxies as HSC saw them and as they were drawn",
        )
    )
