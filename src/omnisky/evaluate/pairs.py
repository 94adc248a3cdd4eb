"""Everything that AstroCLIP's table needs, trained on one set of pairs: both towers, the aligned model, yardsticks.

One folder, one call; each step is a run of its own that goes on where it was stopped:

    sky/ specformer/ astrodino/ astroclip/ resnet18/ conv-attention/ photometry/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import nn

from omnisky.codec.patch import ScalarTokens
from omnisky.codec.tokens import encode_all
from omnisky.embed import Embedding, embed_file, only, signature
from omnisky.model.distill import Distill
from omnisky.observe.loader import Chosen, Source, blocks
from omnisky.observe.match import Places
from omnisky.observe.sky import held_out
from omnisky.observe.types import Scalars, concatenate
from omnisky.recipes import recipe
from omnisky.recipes.astroclip import HELD_OUT, targets
from omnisky.train.config import Run, edit
from omnisky.train.devices import here
from omnisky.train.frozen import align
from omnisky.train.loop import Progress, train

PROPERTIES = ("redshift", "log_mass", "age_gyr", "log_metals", "log_ssfr")
"""columns of the part "truth" """

Watch = Callable[[str], Callable[[Progress], None]]
"""the name of a run → what watches its steps"""
Counting = Callable[[str], AbstractContextManager[Any]]
"""the name of a job → a block in which (done, in all) is watched, as `watch.counting_bar`"""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Objects with image, spectrum and truth, split by cells of sky: no recipe trains on those that are tested on."""

    source: Source
    test: Bool[np.ndarray, " object"]
    """True for held-out objects"""
    known: Scalars
    """all that is true of each object"""

    @classmethod
    def of(cls, source: Source) -> Pairs:
        """From anything with rows. Raises MissingModality where the truth is not told."""
        test = held_out(Places.of(source).take(slice(None)), HELD_OUT)
        return cls(source, test, concatenate(list(blocks(only(source, "truth"))))["truth"])

    @property
    def truth(self) -> Float[np.ndarray, "object property"]:
        """PROPERTIES of each object."""
        return np.stack([self.known[name] for name in PROPERTIES], axis=1)

    def targets(self) -> ScalarTokens:
        """All properties, standardised on the training objects."""
        learnt = self.truth[~self.test]
        centre, scale = np.nanmean(learnt, 0).round(4), np.nanstd(learnt, 0).round(4)
        return replace(targets(PROPERTIES, tuple(centre.tolist()), tuple(scale.tolist())), part="truth")


@dataclass(frozen=True, eq=False)
class Trained:
    """Both towers alone, and aligned."""

    image: nn.Module
    spectrum: nn.Module
    aligned: nn.Module


def train_all(pairs: Pairs, folder: Path, watch: Watch, changes: Sequence[str] = ()) -> Trained:
    """Three runs of the mini recipes; `changes` are key=value for all of them. Goes on where it was stopped."""

    def run(name: str) -> Run:
        return edit(recipe(name), changes)

    spectrum = train(
        run("specformer-mini"), folder / "specformer", only(pairs.source, "spectrum"), watch=watch("specformer")
    )
    seeing = train(run("astrodino-mini"), folder / "astrodino", only(pairs.source, "image"), watch=watch("astrodino"))
    image = seeing.encoder() if isinstance(seeing, Distill) else seeing
    towers = {"image": image, "spectrum": spectrum}
    aligned = align(run("astroclip-mini"), folder / "astroclip", pairs.source, towers, watch=watch("astroclip"))
    return Trained(image, spectrum, aligned)


def yardstick(name: str, pairs: Pairs, folder: Path, watch: Watch, steps: int) -> Float[np.ndarray, "object property"]:
    """What a supervised network says of the test objects, all properties at once."""
    asked = pairs.targets()
    run = edit(recipe(name), [f"model.answers={len(PROPERTIES)}"])
    run = replace(
        run,
        codecs=(run.codecs[0], asked),
        steps=steps,
        judge_every=max(steps // 10, 1),
        save_every=max(steps // 4, 1),
    )
    model = train(run, folder / name, pairs.source, watch=watch(name))
    return _asked(model, Chosen(pairs.source, np.flatnonzero(pairs.test)), asked)


def _asked(model: nn.Module, seen: Source, asked: ScalarTokens, batch: int = 128) -> Float[np.ndarray, "object n"]:
    place, said = here("bf16"), []
    model.eval()
    for rows in blocks(seen, batch):
        with torch.inference_mode(), place.autocast():
            said.append(model.predict(encode_all(model.codecs[:1], rows)).float().numpy())
    return np.concatenate(said) * np.asarray(asked.scale) + np.asarray(asked.centre)


def vectors(file: Path, model: nn.Module, pairs: Pairs, part: str, count: Counting = nullcontext) -> Embedding:
    """The embeddings of all pairs by one part, kept in `file`; those of other weights are made again."""
    if file.exists():
        kept = Embedding.load(file)
        if kept.signature == signature(model, None, "bf16") and len(kept) == len(pairs.test):
            return kept
    with count(f"embed {file.stem}") as watch:
        seen = watch if callable(watch) else None
        embed_file(model, pairs.source, file, part=part, batch=128, precision="bf16", watch=seen)
    return Embedding.load(file)
