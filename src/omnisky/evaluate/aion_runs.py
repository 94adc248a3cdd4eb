"""From a made-up sky to a trained any-to-any model: each stage is skipped when its result is there.

    sky/ codec-image-mini/ codec-image-mini-whole/ codec-spectrum-mini/ codec-field-mini/ tokens/
    aion-mini-spectra/ aion-mini/

A tenth of the sky is held out of all of them. Nobody but held-out objects has both HSC and DESI: an unseen pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Integer
from torch import nn

from omnisky.codec.groups import Groups
from omnisky.codec.token_shards import read_shards
from omnisky.codec.tokens import parts_read
from omnisky.embed import only
from omnisky.evaluate.pairs import Counting, Watch
from omnisky.model import store
from omnisky.model.masked import AnyToAny
from omnisky.observe.loader import Source, blocks
from omnisky.observe.match import Places
from omnisky.observe.mock.surveys import write_all_surveys
from omnisky.observe.shards import Shards
from omnisky.observe.sky import held_out, splits
from omnisky.observe.types import Observation, Scalars, concatenate
from omnisky.recipes import recipe
from omnisky.train.config import Run, edit
from omnisky.train.loop import train
from omnisky.train.tokens import make_tokens

HELD_OUT = 0.1
"""share of the sky, as `train.config.Run.held_out`"""
CODECS = (("codec-image-mini", "codec-image-mini-whole"), ("codec-spectrum-mini",), ("codec-field-mini",))
"""runs of each codec, each going on from the one before"""
MODEL = "aion-mini"
BEGINNING = "aion-mini-spectra"
GROUPS = Groups(
    groups=(("legacysurvey", "hsc", "sdss", "gaia"), ("legacysurvey", "desi", "sdss", "gaia")), share=HELD_OUT
)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is asked."""

    asked: int = 2000
    """held-out objects whose redshifts are asked for, in two halves; the temperature of each is the other's"""
    drawn: int = 256
    """held-out objects whose spectra and images are generated"""
    probed: int = 2000
    """objects that probes learn from"""


@dataclass(frozen=True, eq=False)
class Ready:
    """A trained model, the sky, and which of its objects nobody has learnt from."""

    model: AnyToAny
    """its codecs with it"""
    source: Source
    tokens: Observation
    """ids of all objects, in the order of the source"""
    truth: Scalars
    validation: Integer[np.ndarray, " validated"]
    test: Integer[np.ndarray, " tested"]
    learnt: Integer[np.ndarray, " learnt"]

    @classmethod
    def of(cls, model: nn.Module, source: Source, tokens: Observation) -> Ready:
        """Half of the held-out sky is for validation. Raises MissingModality where the truth is not told."""
        places = Places.of(source).take(slice(None))
        away, rows = held_out(places, HELD_OUT), np.arange(len(places))
        side = splits(places, {"validation": 0.5, "test": 0.5}, salt="aion", guard_arcsec=0)
        return cls(
            model=cast(AnyToAny, model),
            source=source,
            tokens=tokens,
            truth=concatenate(list(blocks(only(source, "truth"))))["truth"],
            validation=rows[away & (side == "validation")],
            test=rows[away & (side == "test")],
            learnt=rows[~away],
        )

    def galaxies(self, rows: Integer[np.ndarray, " object"]) -> Integer[np.ndarray, " galaxy"]:
        """Those of these rows that are no stars."""
        return rows[self.truth["is_star"][rows] == 0]


def train_all(
    source: Source,
    folder: Path,
    watch: Watch,
    count: Counting,
    codecs: Sequence[Path] = (),
    changes: Sequence[str] = (),
) -> Ready:
    """Codecs, ids, model. `codecs` are trained ones to use instead; `changes` are key=value for the model's run."""
    networks = [store.load(one) for one in codecs] or [_codec(names, folder, source, watch) for names in CODECS]
    with count("tokens") as counted:
        make_tokens(
            source,
            folder / "tokens",
            networks,
            groups=GROUPS,
            held_out=HELD_OUT,
            watch=counted if callable(counted) else None,
        )
    first, last = (
        edit(replace(recipe(name), data=str(folder / "tokens"), held_out=HELD_OUT), changes)
        for name in (BEGINNING, MODEL)
    )
    done = (folder / MODEL / "model").is_dir()
    start = None if done else _trained(first, folder / BEGINNING, None, watch)
    return Ready.of(_trained(last, folder / MODEL, None, watch, start), source, read_shards(folder / "tokens"))


def make_sky(folder: Path, objects: int, workers: int, count: Counting) -> Shards:
    """All surveys' view of so many objects, on disk. Raises MissingExtra."""
    with count("mock sky") as counted:
        watched = counted if callable(counted) else None
        return write_all_surveys(folder / "sky", objects, workers=workers, watch=watched)


def _codec(names: Sequence[str], folder: Path, source: Source, watch: Watch) -> nn.Module:
    network = None
    for name in names:
        run, rows = recipe(name), source
        if isinstance(source, Shards):  # of what is on disk, only what this codec reads
            rows = source.of_parts(parts_read(run.codecs, source.layout.parts))
        network = _trained(run, folder / name, rows, watch, network)
    assert network is not None
    return network


def _trained(run: Run, folder: Path, source: Source | None, watch: Watch, start: nn.Module | None = None) -> nn.Module:
    done = folder / "model"
    return store.load(done) if done.is_dir() else train(run, folder, source, start, watch=watch(run.name))
