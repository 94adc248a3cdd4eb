"""The demo: a foundation model at work on real galaxies, on one page, in minutes.

`sample_demo` needs nothing but the package and its `sample` extra; `labelled_demo` takes galaxies with classes and adds
accuracies beside yardsticks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from omnisky import plot, watch
from omnisky.adapt.pool import AttentiveProbe
from omnisky.adapt.score import confusion
from omnisky.codec.tokens import encode_all
from omnisky.embed import Embedding, embed, signature, token_states
from omnisky.evaluate import morphology
from omnisky.generate import generate
from omnisky.model import store
from omnisky.observe.read import class_names, read
from omnisky.observe.sample import sample_sky
from omnisky.observe.types import Observation
from omnisky.page import Section, Table, write_page
from omnisky.recipes import recipe
from omnisky.search import Index
from omnisky.train.loop import Progress, train

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

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start


def shipped_probe(model: nn.Module) -> AttentiveProbe:
    """The morphology probe that comes with `omnisky-nano`. Raises ProvenanceError for other weights."""
    folder = Path(str(files("omnisky"))) / "weights" / MODEL / "probe"
    return AttentiveProbe.load(folder, signature=signature(model, None, "bf16"))
