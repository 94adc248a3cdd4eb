"""What every demo tells: look-alikes, a map, completions, shapes; each one section of the page."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from omnisky import plot
from omnisky.codec.patch import RasterPatches
from omnisky.codec.stretch import Linear
from omnisky.codec.tokens import Span, Tokens
from omnisky.embed import Embedding
from omnisky.generate import generate
from omnisky.model import store
from omnisky.observe.sample import Source
from omnisky.observe.types import Observation
from omnisky.page import Section, Table, write_page
from omnisky.search import Index, flat_map
from omnisky.search.flat import FlatMap
from omnisky.serve.explore import Sky

MODEL = "omnisky-nano"
SHOWN = 16
"""patches a completion starts from: the central quarter of 64"""


@dataclass
class Story:
    """What the demo has to tell so far."""

    folder: Path
    facts: dict[str, str] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    skies: list[Sky] = field(default_factory=list)
    """to walk through in the explorer"""

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start


def look_alikes(story: Story, seen: Observation, embedding: Embedding, queries: np.ndarray) -> None:
    found = Index(embedding).like_ids(embedding.object_id[queries].tolist(), k=8)
    figure = plot.lookalike_wall(
        seen["image"].flux,
        queries,
        found.rows,
        story.folder / "look-alikes.png",
        titles=embedding.object_id[queries].tolist(),
        scores=found.similarity,
    )
    story.sections.append(
        Section(
            "Look-alikes",
            "The framed galaxy is the question; beside it the eight whose embeddings are nearest by cosine. No label "
            "was used: the model has only ever predicted patches and measured shapes.",
            figure,
            "rows of galaxies, each with its eight nearest",
        )
    )


def the_map(story: Story, seen: Observation, embedding: Embedding, kind: np.ndarray, names: tuple[str, ...]) -> FlatMap:
    """Adds the section, and returns the map."""
    with story.timed("map"):
        flat = flat_map(embedding)
    figure = plot.map_with_thumbnails(
        flat.xy,
        seen["image"].flux,
        story.folder / "map.png",
        colour=kind.astype(np.int64),
        names=names,
        note=f"{flat.method} of {len(embedding):,} embeddings; distances between islands are not physical",
    )
    story.sections.append(
        Section("The map", "Every galaxy by its embedding, near ones near.", figure, "a map made of galaxies")
    )
    return flat


def shapes(
    story: Story, seen: Observation, chance: np.ndarray, names: tuple[str, ...], truth: np.ndarray | None = None
) -> None:
    some = np.linspace(0, len(seen) - 1, min(32, len(seen))).astype(int)
    figure = plot.predictions(
        seen["image"].flux[some],
        names,
        chance[some],
        story.folder / "morphology.png",
        truth=None if truth is None else truth[some],
    )
    said = np.bincount(chance.argmax(1), minlength=len(names))
    sure = [f"{chance[chance.argmax(1) == k].max(1).mean():.2f}" if said[k] else "–" for k in range(len(names))]
    told = (
        "The labels are Galaxy Zoo 2's, from SDSS images; these galaxies were seen by another telescope, at other "
        "redshifts, and nobody has labelled them: read the confidence as a guess."
        if truth is None
        else "Held-out galaxies; those the probe got wrong are marked."
    )
    story.sections.append(
        Section(
            "What shape is it?",
            f"An attentive probe reads the frozen tokens and names one of five Galaxy Zoo 2 classes. {told}",
            figure,
            "galaxies with their predicted class and confidence",
            Table(("class", "galaxies", "mean confidence"), tuple(zip(names, map(str, said), sure, strict=True))),
        )
    )


def completions(story: Story, model: nn.Module, seen: Observation, count: int = 6) -> None:
    """Show the central patches, let the model draw the rest, beside the truth."""
    chosen = seen.take(np.linspace(0, min(len(seen) - 1, 40 * count), count).astype(int))
    codec = next(codec for codec in model.codecs if isinstance(codec, RasterPatches))
    tokens, name = codec.encode(chosen), codec.name  # its shape is not told: that would be the whole galaxy's
    total = len(tokens[name])
    prompt = Tokens({name: tokens[name].span(0, SHOWN)})
    drawn = generate(model, prompt, name, total - SHOWN)
    draw = torch.Generator().manual_seed(0)
    noisy = generate(model, prompt, name, total - SHOWN, temperature=0.05, generator=draw)
    as_pixels = [codec.decode(t, like=chosen)["image"].flux for t in (drawn, noisy)]
    shown_patch = torch.zeros(1, total, codec.patch_size**2 * len(codec.bands))
    shown_patch[:, :SHOWN] = 1
    where = _as_picture(codec, shown_patch)[:, 0] > 0.5
    figure = plot.completions(
        chosen["image"].flux,
        np.repeat(where, count, axis=0),
        np.clip(as_pixels[0] / 255, 0, 1),
        story.folder / "completions.png",
        sampled=np.clip(as_pixels[1] / 255, 0, 1)[:, None],
    )
    story.sections.append(
        Section(
            "Finished from its centre",
            f"The model sees the central {SHOWN} of {total} patches and draws the rest outwards along the spiral. A "
            "regression draws the mean of what could be there, so its skies are smooth; the last column adds noise.",
            figure,
            "galaxies: what was shown, what was drawn, the truth",
        )
    )


def _as_picture(codec: RasterPatches, values: torch.Tensor) -> Float[np.ndarray, "object band height width"]:
    plain = replace(codec, stretch=Linear())
    span = Span(values, torch.arange(values.shape[1]).expand(len(values), -1))
    return plain.decode(Tokens({codec.name: span}))["image"].flux


def about(model: nn.Module) -> dict[str, str]:
    count = sum(p.numel() for p in model.parameters())
    return {"model": f"{MODEL}, {count / 1e6:.1f}M parameters", "signature": store.signature(model)}


NANO = (
    "A transformer learned to guess galaxies patch by patch, and their shapes ring by ring, outwards from the centre. "
    "This is what it knows."
)


def finish(story: Story, title: str, command: str, sources: Sequence[Source], sentence: str = NANO) -> Story:
    """Write the page."""
    story.facts["seconds"] = f"{sum(story.seconds.values()):.0f}"
    write_page(story.folder, title, story.sections, story.facts, sentence=sentence, sources=sources, command=command)
    return story
