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
from omnisky.evaluate import morphology, scaling
from omnisky.generate import generate
from omnisky.model import store
from omnisky.observe.read import class_names, read
from omnisky.observe.sample import sample_sky
from omnisky.observe.types import Observation
from omnisky.page import Section, Table, write_page
from omnisky.recipes import recipe
from omnisky.search import Index, flat_map
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


def sample_demo(folder: str | Path, steps: int = 30) -> Story:
    """The real sample sky through the shipped model: `folder`/index.html and its figures.

    Raises MissingExtra without the `sample` and `plot` extras, StorageError.
    """
    story = Story(Path(folder))
    with story.timed("open the sky"):
        sky = sample_sky()
        model = store.load(MODEL)
    galaxies = sky.galaxies
    _learn_on(story, model, galaxies, steps)
    with story.timed("embed"), watch.counting_bar("embed") as bar:
        embedding = embed(model, galaxies, precision="bf16", watch=bar)
        embedding.save(story.folder / "embeddings.parquet")
    _look_alikes(story, galaxies, embedding, _round_queries(galaxies))
    with story.timed("morphology"):
        probe = shipped_probe(model)
        chance = probe.predict_proba(token_states(model, galaxies, views=probe.views))
    _morphology(story, galaxies, chance, probe.names_)
    _map(story, galaxies, embedding, chance.argmax(1), probe.names_)
    _completions(story, model, galaxies)
    _spectra(story, sky.spectra)
    story.facts = {"galaxies": f"{len(galaxies):,}", **_about(model)}
    return _finish(story, "Real galaxies through a small foundation model", "make demo")


def labelled_demo(
    folder: str | Path, data: str | Path, *, cnn_steps: int = 3000, views: int = 2, few: float = 0.01
) -> Story:
    """Labelled galaxies through the shipped model, beside yardsticks with the same labels, all of them and `few`.

    The objects tested on are held out by `observe.sky.held_out`: the shipped model has not seen them. Killed,
    the CNNs go on where they were. Raises MissingModality without a column "class".
    """
    story = Story(Path(folder))
    with story.timed("open the data"):
        seen, names, model = read(data), class_names(data), store.load(MODEL)
    tasks = {"all": morphology.Task.of(seen), "few": morphology.Task.of(seen, few)}
    with story.timed("embed"), watch.counting_bar("embed") as bar:
        states = token_states(model, seen, views=views, watch=bar)
    answers = {kind: _answers(story, task, states, views, cnn_steps, kind) for kind, task in tasks.items()}
    test = seen.take(tasks["all"].test)
    best = _best_probe(answers["all"])
    _table(story, answers, len(test), names, best, tasks["all"])
    vectors = morphology.mean_and_spread(states, views)[tasks["all"].test]
    embedding = Embedding(vectors, test.object_id, test.ra, test.dec, f"{signature(model, None, 'bf16')}/mean+spread")
    embedding.save(story.folder / "embeddings.parquet")
    few_rows = np.arange(min(len(test), 3000))
    _look_alikes(story, test, embedding, _one_of_each(tasks["all"].label[tasks["all"].test]))
    _map(story, test.take(few_rows), embedding.take(few_rows), tasks["all"].label[tasks["all"].test][few_rows], names)
    _morphology(story, test, best.chance, names, tasks["all"].label[tasks["all"].test])
    _completions(story, model, test)
    story.facts = {"galaxies": f"{len(seen):,}", "tested on": f"{len(test):,}", **_about(model)}
    return _finish(
        story, f"{len(seen):,} labelled galaxies through a small foundation model", f"omnisky demo --data {data}"
    )


def _learn_on(story: Story, model: nn.Module, galaxies: Observation, steps: int) -> None:
    """A few steps of the pre-training recipe on these galaxies, on a copy: the shipped weights stay as they are."""
    base = recipe("astropt-nano")
    slow = replace(base.optim, peak=1e-4, warmup=5)
    run = replace(base, steps=steps, batch=64, optim=slow, held_out=0.0, save_every=steps, mean_decay=0.0, seed=1)
    seen: list[Progress] = []
    with story.timed("train on"), watch.training_bar("train on these galaxies") as bar:
        train(
            run, story.folder / "run", source=galaxies, start=model, watch=lambda now: (bar(now), seen.append(now))[0]
        )
    if not seen:  # the run was finished by an earlier call
        return
    figure = plot.curve(
        np.array([now.step for now in seen]), np.array([now.loss for now in seen]), story.folder / "learning.png"
    )
    story.sections.append(
        Section(
            "It goes on learning",
            f"{steps} more steps of the same pre-training, on galaxies it never saw: guess each patch from those "
            "nearer the centre. What follows uses the weights as shipped.",
            figure,
            "training loss against step",
        )
    )


def _look_alikes(story: Story, seen: Observation, embedding: Embedding, queries: np.ndarray) -> None:
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
            "was used: the model has only ever predicted patches.",
            figure,
            "rows of galaxies, each with its eight nearest",
        )
    )


def _map(story: Story, seen: Observation, embedding: Embedding, kind: np.ndarray, names: tuple[str, ...]) -> None:
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


def _completions(story: Story, model: nn.Module, seen: Observation, count: int = 6) -> None:
    """Show the central patches, let the model draw the rest, beside the truth."""
    chosen = seen.take(np.linspace(0, min(len(seen) - 1, 40 * count), count).astype(int))
    tokens = encode_all(model.codecs, chosen)
    name, codec = model.codecs[0].name, model.codecs[0]
    total = len(tokens[name])
    prompt = tokens | {name: tokens[name].span(0, SHOWN)}
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


def _as_picture(codec: object, values: torch.Tensor) -> Float[np.ndarray, "object band height width"]:
    from omnisky.codec.stretch import Linear
    from omnisky.codec.tokens import Span, Tokens

    plain = replace(codec, stretch=Linear())
    span = Span(values, torch.arange(values.shape[1]).expand(len(values), -1))
    return plain.decode(Tokens({codec.name: span}))["image"].flux


def _morphology(
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


def _answers(
    story: Story, task: morphology.Task, states: np.ndarray, views: int, cnn_steps: int, kind: str
) -> list[morphology.Answer]:
    """Every method on one task, the simplest first."""
    pixels = morphology.pixel_components(task.seen, ~task.test)
    frozen = morphology.mean_and_spread(states, views)
    steps = cnn_steps if kind == "all" else max(cnn_steps // 5, 100)
    methods: list[tuple[str, morphology.Say]] = [
        ("always the commonest class", morphology.majority),
        ("linear probe on PCA of pixels", morphology.linear_on(pixels)),
        ("boosted trees on PCA of pixels", morphology.trees_on(pixels)),
        ("omnisky-nano, linear probe", morphology.linear_on(frozen)),
        ("omnisky-nano, attentive probe", morphology.attentive_on(states, views)),
    ]
    with story.timed("probes"):
        answers = [morphology.judge(name, task, say) for name, say in methods]
    with story.timed("supervised CNN"), watch.training_bar(f"supervised CNN, {kind} labels") as bar:
        say = morphology.cnn_in(story.folder / f"cnn-{kind}", steps, views, bar)
        answers.append(morphology.judge("supervised CNN", task, say))
    return answers


def _best_probe(answers: list[morphology.Answer]) -> morphology.Answer:
    return max((a for a in answers if a.name.startswith(MODEL)), key=lambda a: a.accuracy.value)


def _table(
    story: Story,
    answers: dict[str, list[morphology.Answer]],
    tested: int,
    names: tuple[str, ...],
    best: morphology.Answer,
    task: morphology.Task,
) -> None:
    rows = tuple(
        (a.name, str(a.accuracy), str(a.balanced), str(f.accuracy), str(f.balanced))
        for a, f in zip(answers["all"], answers["few"], strict=True)
    )
    many, few = answers["all"][0].labels, answers["few"][0].labels
    heads = ("method", f"accuracy, {many:,} labels", "balanced", f"accuracy, {few:,} labels", "balanced")
    figure = plot.yardsticks(
        [_yardstick(a, f) for a, f in zip(answers["all"], answers["few"], strict=True)],
        story.folder / "yardsticks.png",
        many=f"{many:,} labels",
        few=f"{few:,} labels",
    )
    story.sections.append(
        Section(
            "How good is it?",
            f"Accuracy on {tested:,} held-out galaxies, ± one bootstrap standard error. All methods saw the same "
            "labels; the omnisky-nano rows never touch its weights. Balanced accuracy counts every class alike.",
            figure,
            "accuracy of each method with error bars",
            Table(heads, rows),
        )
    )
    matrix = confusion(task.label[task.test], best.said, task.classes)
    story.sections.append(
        Section(
            "What it mixes up",
            f"{best.name}: rows are Galaxy Zoo 2's classes, columns what was said.",
            plot.confusion(matrix, names, story.folder / "confusion.png"),
            "confusion matrix",
        )
    )


def _yardstick(all_labels: morphology.Answer, few: morphology.Answer) -> plot.Yardstick:
    return plot.Yardstick(
        all_labels.name,
        all_labels.accuracy.value,
        all_labels.accuracy.error,
        few.accuracy.value,
        few.accuracy.error,
        ours=all_labels.name.startswith(MODEL),
    )


def _spectra(story: Story, spectra: Observation) -> None:
    shown = spectra["spectrum"]
    figure = plot.spectra(
        shown.wavelength_aa, shown.flux, spectra.object_id.tolist(), story.folder / "spectra.png",
        redshifts=spectra["scalars"]["redshift"],
    )  # fmt: skip
    story.sections.append(
        Section(
            "Real spectra, ready for the next models",
            "DESI coadds read from FITS, arms joined by inverse variance. The nano model reads images only.",
            figure,
            "spectra with lines marked",
        )
    )


def _about(model: nn.Module) -> dict[str, str]:
    count = sum(p.numel() for p in model.parameters())
    return {"model": f"{MODEL}, {count / 1e6:.1f}M parameters", "signature": store.signature(model)}


def _finish(story: Story, title: str, command: str) -> Story:
    story.facts["seconds"] = f"{sum(story.seconds.values()):.0f}"
    write_page(story.folder, title, story.sections, story.facts, command)
    return story


def _round_queries(galaxies: Observation, count: int = 5) -> np.ndarray:
    """A few bright galaxies, spread over the brightest third."""
    return np.linspace(0, len(galaxies) // 3, count).astype(int)


def _one_of_each(label: np.ndarray) -> np.ndarray:
    return np.array([np.nonzero(label == k)[0][0] for k in np.unique(label)])


@dataclass(frozen=True)
class Drawn:
    """A figure, its numbers, and what it says in words."""

    figure: Path
    table: tuple[tuple[str, ...], list[tuple[str, ...]]]
    words: str


def draw_scaling(points: list[scaling.Point], path: Path) -> Drawn:
    """The scaling figure with its fit."""
    found = scaling.fit(points)
    figure = plot.scaling_law(
        np.array([p.parameters for p in points]),
        [np.array(p.flop) for p in points],
        [np.array(p.held_out) for p in points],
        plot.PowerLaw(found.floor, found.scale, found.slope),
        path,
        probe=np.array([[p.accuracy, p.error] for p in points]),
    )
    rows = [
        (p.name, f"{p.parameters:,}", f"{p.flop[-1]:.2e}", f"{p.held_out[-1]:.5f}", f"{p.accuracy:.3f} ± {p.error:.3f}")
        for p in points
    ]
    words = f"held-out loss = {found.floor:.4f} + {found.scale:.3g} · parameters^−{found.slope:.2f}"
    return Drawn(figure, (("size", "parameters", "FLOP", "held-out loss", "linear probe accuracy"), rows), words)
