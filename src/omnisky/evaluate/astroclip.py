"""AstroCLIP's table on a sky whose truth is known (Parker et al. 2024, MNRAS 531, 4990, §5, tables 1 and 2).

Redshift, stellar mass, age, metallicity and specific star formation rate from image and from spectrum: without training
(64 nearest neighbours) and with little (a small perceptron), from aligned and from unaligned embeddings, beside three
supervised networks; then morphology, and how well image and spectrum of one object find each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from omnisky.adapt.probe import LinearProbe
from omnisky.adapt.protocol import astroclip_few_shot, astroclip_zero_shot
from omnisky.adapt.score import Score, accuracy, balanced_accuracy, r2, r2_gain
from omnisky.embed import Embedding
from omnisky.evaluate.pairs import PROPERTIES, Counting, Pairs, Trained, Watch, vectors, yardstick
from omnisky.search import Index
from omnisky.search.retrieval import Retrieval, retrieval

KINDS = ("elliptical", "disc", "disc edge-on", "irregular", "merger")
SUPERVISED = {"image": ("resnet18", 800), "spectrum": ("conv-attention", 2000), "photometry": ("photometry", 4000)}
"""source → recipe of its yardstick, steps of 128 objects"""


@dataclass(frozen=True, eq=False)
class Line:
    """One line of the table: what was read, by what, and how well it told each property."""

    source: str
    method: str
    said: Float[np.ndarray, "object property"]
    """of the test objects"""
    scores: tuple[Score, ...]
    """R² of each property"""


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, what we found, and whether it holds here."""

    words: str
    found: Score
    holds: bool
    wanted: str


@dataclass(frozen=True, eq=False)
class Table:
    """All that was measured."""

    lines: tuple[Line, ...]
    morphology: Mapping[str, tuple[Score, Score]]
    """of each embedding: accuracy, and the mean over kinds"""
    across: Mapping[str, Retrieval]
    claims: tuple[Claim, ...]
    learnt: int
    tested: int


def measure(pairs: Pairs, trained: Trained, folder: Path, watch: Watch, count: Counting = nullcontext) -> Table:
    """Embed, ask, train the yardsticks, compare. What is in `folder` already is not done again."""
    test, truth = pairs.test, pairs.truth[pairs.test]
    models = {
        ("image", "aligned"): trained.aligned,
        ("image", "AstroDINO alone"): trained.image,
        ("spectrum", "aligned"): trained.aligned,
        ("spectrum", "SpecFormer alone"): trained.spectrum,
    }
    looks = {
        (part, name): vectors(folder / f"{part}-{name.split()[-1]}.parquet", model, pairs, part, count)
        for (part, name), model in models.items()
    }
    lines = []
    for (source, name), embedding in looks.items():
        x = _direction(embedding) if name == "aligned" else embedding.vectors
        for how, answer in (("zero-shot", astroclip_zero_shot), ("few-shot", astroclip_few_shot)):
            lines.append(_line(source, f"{name}, {how}", answer(x[~test], pairs.truth[~test], x[test]), truth))
    for source, (name, steps) in SUPERVISED.items():
        lines.append(_line(source, f"{name}, supervised", yardstick(name, pairs, folder, watch, steps), truth))
    kind = kinds(pairs)
    morphology = {f"{source}, {name}": _morphology(e, kind, test) for (source, name), e in looks.items()}
    index = Index({source: looks[source, "aligned"].take(test) for source in ("image", "spectrum")})
    across = {
        "image → spectrum": retrieval(index, "image", "spectrum"),
        "spectrum → image": retrieval(index, "spectrum", "image"),
    }
    claims = judge({(line.source, line.method): line for line in lines}, across, truth)
    return Table(tuple(lines), morphology, across, claims, int((~test).sum()), int(test.sum()))


def judge(
    lines: Mapping[tuple[str, str], Line], across: Mapping[str, Retrieval], truth: Float[np.ndarray, "object property"]
) -> tuple[Claim, ...]:
    """The paper's claims, each as a difference with its error."""

    def gain(ours: tuple[str, str], theirs: tuple[str, str]) -> Score:
        return r2_gain(truth[:, 0], lines[ours].said[:, 0], lines[theirs].said[:, 0])

    raised = gain(("image", "aligned, zero-shot"), ("image", "AstroDINO alone, zero-shot"))
    supervised = gain(("image", "aligned, zero-shot"), ("image", "resnet18, supervised"))
    kept = gain(("spectrum", "aligned, zero-shot"), ("spectrum", "SpecFormer alone, zero-shot"))
    claims = [
        Claim("Alignment raises the image's zero-shot redshift R²", raised, raised.value > 3 * raised.error, "> 3 σ"),
        Claim("Zero-shot from the image is as good as ResNet18", supervised, supervised.value >= -0.03, "≥ −0.03"),
        Claim("Alignment costs the spectrum no redshift", kept, kept.value >= -2 * kept.error, "≥ −2 σ"),
    ]
    for name, found in across.items():
        chance = 10 / found.among
        times = Score(found.recall[10].value / chance, found.recall[10].error / chance)
        claims.append(Claim(f"{name}: recall@10 over chance", times, times.value >= 20, "≥ 20"))
    return tuple(claims)


def kinds(pairs: Pairs) -> np.ndarray:
    """Which of KINDS each object is, by its truth."""
    known = pairs.known
    kind = np.where(known["bulge_mass_fraction"] == 1, 0, np.where(known["is_edge_on"] > 0, 2, 1))
    kind = np.where(known["is_irregular"] > 0, 3, kind)
    return np.where(known["is_merger"] > 0, 4, kind)


def _direction(embedding: Embedding) -> Float[np.ndarray, "object width"]:
    """Aligned models compare by cosine: what counts is where a vector points."""
    return embedding.vectors / np.linalg.norm(embedding.vectors, axis=1, keepdims=True)


def _line(source: str, method: str, said: Float[np.ndarray, "object property"], truth: np.ndarray) -> Line:
    return Line(source, method, said, tuple(r2(truth[:, i], said[:, i]) for i in range(len(PROPERTIES))))


def _morphology(embedding: Embedding, kind: np.ndarray, test: Bool[np.ndarray, " object"]) -> tuple[Score, Score]:
    said = LinearProbe().fit(embedding.vectors[~test], kind[~test]).predict(embedding.vectors[test])
    return accuracy(kind[test], said), balanced_accuracy(kind[test], said)
