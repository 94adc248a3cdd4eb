"""Morphology from frozen embeddings, beside yardsticks that saw the same labels and the same pixels."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from sklearn.base import ClassifierMixin
from torch import nn

from omnisky.adapt.pool import AttentiveProbe
from omnisky.adapt.probe import LinearProbe
from omnisky.adapt.score import Score, accuracy, balanced_accuracy
from omnisky.codec.shape import Moments, Rings
from omnisky.codec.tokens import Codec, encode_all
from omnisky.embed import VIEWS
from omnisky.errors import BadValue, MissingModality
from omnisky.observe.loader import turned
from omnisky.observe.sky import held_out
from omnisky.observe.types import Observation
from omnisky.recipes.baseline import galaxy_cnn
from omnisky.train.devices import here
from omnisky.train.loop import Progress, train

HELD_OUT = 0.2
"""share of the objects that are tested on, by `observe.sky.held_out`: no recipe of ours trains on them"""


@dataclass(frozen=True, eq=False)
class Answer:
    """What one method said of the test objects."""

    name: str
    labels: int
    """how many training labels it saw"""
    said: Integer[np.ndarray, " object"]
    chance: Float[np.ndarray, "object classes"]
    accuracy: Score
    balanced: Score
    seconds: float
    """to fit and to answer; embedding not counted"""


@dataclass(frozen=True, eq=False)
class Task:
    """Labelled images, split once for all methods."""

    seen: Observation
    label: Integer[np.ndarray, " object"]
    test: Bool[np.ndarray, " object"]
    """True for held-out objects"""
    learn: Integer[np.ndarray, " labelled"]
    """rows whose labels may be used"""

    @classmethod
    def of(cls, seen: Observation, share: float = 1.0, seed: int = 0) -> Task:
        """A task from the column "class"; `share` of the training labels, drawn class by class. Raises BadValue."""
        if "scalars" not in seen or "class" not in seen["scalars"].names:
            raise MissingModality(
                "no labels here", saw=tuple(seen.parts), want='a "scalars" part with a column "class"'
            )
        label = seen["scalars"]["class"].astype(int)
        test = held_out(seen, HELD_OUT)
        if not 0 < share <= 1 or not test.any() or test.all():
            raise BadValue(
                saw=f"share {share}, {int(test.sum())} of {len(seen)} held out", want="0 < share ≤ 1, both sides"
            )
        draw, rows = np.random.default_rng(seed), []
        for kind in np.unique(label):
            here = draw.permutation(np.nonzero((label == kind) & ~test)[0])
            rows.append(here[: max(round(share * len(here)), 2)])
        return cls(seen, label, test, np.sort(np.concatenate(rows)))

    @property
    def classes(self) -> int:
        return int(self.label.max()) + 1

    @property
    def key(self) -> str:
        """Of whom it learns, and what it is told of them: a run goes on only on these."""
        told = zip(self.seen.object_id[self.learn].tolist(), self.label[self.learn].tolist(), strict=True)
        return blake2b(repr(list(told)).encode(), digest_size=6).hexdigest()


Say = Callable[[Task], Float[np.ndarray, "object classes"]]
"""a method: fits on `task.learn`, returns the chance of each class for the test objects"""


def judge(name: str, task: Task, say: Say) -> Answer:
    """Run a method on a task and score it."""
    start = time.perf_counter()
    chance = say(task)
    said, truth = chance.argmax(1), task.label[task.test]
    seconds = time.perf_counter() - start
    return Answer(name, len(task.learn), said, chance, accuracy(truth, said), balanced_accuracy(truth, said), seconds)


def majority(task: Task) -> Float[np.ndarray, "object classes"]:
    """Always the commonest class."""
    counts = np.bincount(task.label[task.learn], minlength=task.classes)
    return np.tile(counts / counts.sum(), (int(task.test.sum()), 1))


def pixel_components(seen: Observation, fit: Bool[np.ndarray, " object"]) -> Float[np.ndarray, "object component"]:
    """40 principal components of the images at 16×16 px, fitted where `fit`."""
    from sklearn.decomposition import PCA

    flux = seen["image"].flux
    n, c, size, _ = flux.shape
    if size % 16:
        raise BadValue("image size", saw=size, want="a multiple of 16 px")
    small = flux.reshape(n, c, 16, size // 16, 16, size // 16).mean((3, 5)).reshape(n, -1)
    pca = PCA(40, random_state=0).fit(small[fit])
    return pca.transform(small).astype(np.float32)


def measured_shapes(codecs: tuple[Codec, ...], seen: Observation) -> Float[np.ndarray, "object number"]:
    """All numbers of the codecs that measure shapes (`codec.shape`), side by side."""
    measures = [codec for codec in codecs if isinstance(codec, Rings | Moments)]
    if not measures:
        raise BadValue("no codec here measures shapes", saw=tuple(codec.name for codec in codecs))
    pieces = []
    for start in range(0, len(seen), 256):
        tokens = encode_all(tuple(measures), seen.take(slice(start, start + 256)))
        pieces.append(np.concatenate([span.values.flatten(1).numpy() for span in tokens.spans.values()], axis=1))
    return np.concatenate(pieces)


def linear_on(x: Float[np.ndarray, "object width"]) -> Say:
    """Logistic regression on features."""
    return lambda task: _full(LinearProbe().fit(x[task.learn], task.label[task.learn]), x[task.test], task)


def trees_on(x: Float[np.ndarray, "object width"]) -> Say:
    """Gradient-boosted trees on features (scikit-learn's histogram kind, its defaults)."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    def say(task: Task) -> Float[np.ndarray, "object classes"]:
        trees = HistGradientBoostingClassifier(random_state=0)
        return _full(trees.fit(x[task.learn], task.label[task.learn]), x[task.test], task)

    return say


def attentive_on(states: Float[np.ndarray, "row token width"], views: int, members: int = 1, **settings: Any) -> Say:
    """The attentive probe on token states, `views` rows an object; the mean of so many that began differently."""

    def say(task: Task) -> Float[np.ndarray, "object classes"]:
        asked, chances = of_objects(states, task.test, views), []
        for seed in range(members):
            probe = AttentiveProbe(views=views, seed=seed, **settings).fit(states, task.label, task.learn)
            chances.append(_full(probe, asked, task))
        return np.mean(chances, axis=0)

    return say


def of_objects(
    states: Float[np.ndarray, "row token width"], chosen: Bool[np.ndarray, " object"], views: int
) -> Float[np.ndarray, "less token width"]:
    """The rows of the chosen objects, all views of each."""
    return states[np.repeat(chosen, views)]


def cnn_in(folder: Path, steps: int, views: int = 1, watch: Callable[[Progress], None] | None = None) -> Say:
    """The supervised CNN of `recipes.baseline`, trained by our loop; its answers are means over `views` turns."""

    def say(task: Task) -> Float[np.ndarray, "object classes"]:
        run = galaxy_cnn(task.classes)
        batch = min(run.batch, len(task.learn))
        run = replace(run, steps=steps, batch=batch, held_out=0.0, judge_every=steps, save_every=min(500, steps))
        model = train(run, folder, source=task.seen.take(task.learn), watch=watch)
        return _asked(model, task.seen.take(task.test), views)

    return say


def _asked(model: nn.Module, seen: Observation, views: int, batch: int = 256) -> Float[np.ndarray, "object classes"]:
    said = []
    model.eval()
    with torch.inference_mode(), here("bf16").autocast():
        for start in range(0, len(seen), batch):
            rows = seen.take(slice(start, start + batch))
            pixels = [encode_all(model.codecs[:1], turned(rows, k)) for k, _ in VIEWS[:views]]
            said.append(torch.stack([model(t).float().softmax(-1) for t in pixels]).mean(0).numpy())
    return np.concatenate(said)


def _full(probe: ClassifierMixin, x: np.ndarray, task: Task) -> Float[np.ndarray, "object classes"]:
    """Chances of all classes of the task, also those the probe never saw."""
    chance = np.zeros((int(task.test.sum()), task.classes), dtype=np.float64)
    chance[:, probe.classes_] = probe.predict_proba(x)
    return chance


def mean_and_spread(
    states: Float[np.ndarray, "row token width"], views: int, lengths: tuple[int, ...] = ()
) -> Float[np.ndarray, "object width2"]:
    """Per object: mean and standard deviation over the tokens of each modality, averaged over views.

    `lengths` are the modalities' numbers of tokens, in order; () takes all tokens as one.
    """
    cuts, pieces = np.cumsum(lengths)[:-1], []
    for start in range(0, len(states), 256 * views):
        x = states[start : start + 256 * views].astype(np.float32)
        both = [number for part in np.split(x, cuts, axis=1) for number in (part.mean(1), part.std(1))]
        pieces.append(np.concatenate(both, axis=1).reshape(-1, views, x.shape[2] * len(both)).mean(1))
    return np.concatenate(pieces)
