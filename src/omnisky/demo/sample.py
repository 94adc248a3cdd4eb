"""The demo on the real galaxies that come with the `sample` extra: no download, no labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from torch import nn

from omnisky import plot, watch
from omnisky.adapt.pool import AttentiveProbe
from omnisky.demo.across import ASKED, MADE_UP, four_ways_on_the_mock_sky, redshifts_of_spectra
from omnisky.demo.aion import any_to_any
from omnisky.demo.mock import mock_sky
from omnisky.demo.story import MODEL, Story, about, completions, finish, look_alikes, shapes, the_map
from omnisky.embed import embed, signature, token_states
from omnisky.model import store
from omnisky.observe.loader import Source
from omnisky.observe.sample import SOURCES, SampleSky, sample_sky
from omnisky.observe.types import Labels, Observation
from omnisky.page import Section
from omnisky.recipes import recipe
from omnisky.search import Index
from omnisky.serve.explore import Sky
from omnisky.serve.site import write_site
from omnisky.train.loop import train

REAL = "Real galaxies of the Hubble eXtreme Deep Field; what each looks like is a probe's guess."


def sample_demo(folder: str | Path, steps: int = 30, sky: SampleSky | None = None) -> Story:
    """The real sample sky, or this part of it, through the shipped model: `folder`/index.html and its figures.

    Raises MissingExtra without the `sample` and `plot` extras, StorageError.
    """
    story = Story(Path(folder))
    with story.timed("open the sky"):
        sky = sky or sample_sky()
        model = store.load(MODEL)
    galaxies = sky.galaxies
    _learn_on(story, model, galaxies, steps)
    with story.timed("embed"), watch.counting_bar("embed") as bar:
        embedding = embed(model, galaxies, precision="bf16", watch=bar)
        embedding.save(story.folder / "embeddings.parquet")
    look_alikes(story, galaxies, embedding, _bright_queries(galaxies))
    with story.timed("morphology"):
        probe = shipped_probe(model)
        chance = probe.predict_proba(token_states(model, galaxies, views=probe.views))
    shapes(story, galaxies, chance, probe.names_)
    flat = the_map(story, galaxies, embedding, chance.argmax(1), probe.names_)
    shape = Labels(columns={"looks": np.asarray(probe.names_)[chance.argmax(1)]})
    seen, index = galaxies | {"shape": shape}, Index(embedding)
    title = "The Hubble eXtreme Deep Field"
    story.skies.append(Sky(name="hubble", title=title, index=index, seen=seen, about=REAL, flat=flat))
    completions(story, model, galaxies)
    _spectra(story, sky.spectra)
    mock_sky(story)
    four_ways_on_the_mock_sky(story)
    any_to_any(story)
    _explorer(story)
    story.facts = {"galaxies": f"{len(galaxies):,}", **about(model)}
    return finish(story, "Real galaxies through a small foundation model", "make demo", tuple(SOURCES.values()))


def _explorer(story: Story) -> None:
    with story.timed("explorer"), watch.counting_bar("explorer") as bar:
        write_site(story.folder / "explorer", story.skies, bar)
    story.sections.append(
        Section(
            "Walk through it",
            f"A page to walk through these embeddings lies beside this one: omnisky explore {story.folder} opens it. "
            "Click a galaxy and see what looks like it, in images and in spectra; lasso some, and take them away as "
            "a table.",
        )
    )


def shown_again(site: Path) -> dict[str, Source]:
    """What was measured of the objects of each sky that this demo wrote to a site: it comes with the package."""
    skies: dict[str, tuple[str, Callable[[], Source]]] = {
        "hubble": (REAL, lambda: sample_sky().galaxies),
        "mock": (MADE_UP, lambda: ASKED),
    }
    found = {}
    for name, (words, make) in skies.items():
        file = site / "data" / name / "sky.json"
        if file.is_file() and json.loads(file.read_text(encoding="utf-8"))["about"] == words:
            found[name] = make()
    return found


def shipped_probe(model: nn.Module) -> AttentiveProbe:
    """The morphology probe that comes with `omnisky-nano`. Raises ProvenanceError for other weights."""
    folder = Path(str(files("omnisky"))) / "weights" / MODEL / "probe"
    return AttentiveProbe.load(folder, signature=signature(model, None, "bf16"))


def _learn_on(story: Story, model: nn.Module, galaxies: Observation, steps: int) -> None:
    """A few steps of the pre-training recipe on these galaxies, on a copy: the shipped weights stay as they are."""
    base = recipe("astropt-nano")
    slow = replace(base.optim, peak=1e-4, warmup=5)
    run = replace(base, steps=steps, batch=64, optim=slow, judge_every=max(steps // 10, 1), mean_decay=0.0, seed=1)
    # They all lie in one cell of sky: without positions, single galaxies are held out instead of all or none.
    unplaced = Observation.of(galaxies.object_id, image=galaxies["image"])
    with story.timed("train on"), watch.training_bar("train on these galaxies") as bar:
        train(run, story.folder / "run", source=unplaced, start=model, watch=bar)
    metrics = [json.loads(line) for line in (story.folder / "run" / "metrics.jsonl").read_text().splitlines()]
    steps_done, losses = np.array([(line["step"], line["loss"]) for line in metrics]).T
    judged = np.array([(line["step"], line["held_out"]) for line in metrics if "held_out" in line])
    figure = plot.curve(steps_done, losses, story.folder / "learning.png", held_out=judged)
    story.sections.append(
        Section(
            "It goes on learning",
            f"{steps} more steps of the same pre-training, on galaxies from another telescope: guess each patch and "
            "each ring from those nearer the centre. A step's loss depends on how much of each galaxy it was shown, "
            "and jumps; the held-out loss is always asked the same. What follows uses the weights as shipped.",
            figure,
            "training loss against step",
        )
    )


def _spectra(story: Story, spectra: Observation) -> None:
    shown = spectra["spectrum"]
    redshift = spectra["scalars"]["redshift"]
    names = spectra.object_id.tolist()
    flux = np.where(shown.good, shown.flux, np.nan)
    figure = plot.spectra(shown.wavelength_aa, flux, names, story.folder / "spectra.png", redshifts=redshift)
    story.sections.append(
        Section(
            "Real spectra",
            "DESI coadds read from FITS, arms joined by inverse variance.",
            figure,
            "spectra with lines marked",
        )
    )
    redshifts_of_spectra(
        story, spectra, redshift, "Those fainter than its galaxies (r = 19.5), and stars, it cannot know."
    )


def _bright_queries(galaxies: Observation, count: int = 5) -> Integer[np.ndarray, " query"]:
    """A few bright galaxies, spread over the brightest third."""
    return np.linspace(0, len(galaxies) // 3, count).astype(int)
