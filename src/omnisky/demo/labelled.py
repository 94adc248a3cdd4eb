"""The demo on galaxies with classes: accuracies beside yardsticks that saw the same labels and pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from omnisky import plot, watch
from omnisky.adapt.score import confusion
from omnisky.codec.tokens import encode_all
from omnisky.demo.story import MODEL, Story, about, completions, finish, look_alikes, shapes, the_map
from omnisky.embed import Embedding, signature, token_states
from omnisky.evaluate import morphology
from omnisky.model import store
from omnisky.observe.read import class_names, read
from omnisky.observe.sample import Source
from omnisky.observe.survey import SURVEYS
from omnisky.observe.types import Observation
from omnisky.page import Section, Table

LINEAR, ATTENTIVE = f"{MODEL}, linear probe", f"{MODEL}, attentive probe"
PIXELS = "PCA of pixels"
SHAPES = "boosted trees on measured shapes"
UNTRAINED = "attentive probe on random weights"
MEMBERS = 3
"""attentive probes that begin differently, whose chances are averaged: frozen states are made once for all of them"""


def labelled_demo(
    folder: str | Path,
    data: str | Path,
    seen: Observation | None = None,
    *,
    cnn_steps: int = 3000,
    views: int = 4,
    few: float = 0.01,
) -> Story:
    """Labelled galaxies through the shipped model, beside yardsticks with the same labels, all of them and `few`.

    `seen` is what `read(data)` gave, if that was done already.

    The objects tested on are held out by `observe.sky.held_out`: the shipped model has not seen them. Killed,
    the CNNs go on where they were. Raises MissingModality without a column "class".
    """
    story = Story(Path(folder))
    with story.timed("open the data"):
        seen = read(data) if seen is None else seen
        names, model = class_names(data), store.load(MODEL)
    tasks = {"all": morphology.Task.of(seen), "few": morphology.Task.of(seen, few)}
    frozen, states = _features(story, model, tasks["all"], views)
    answers = {kind: _answers(story, task, frozen, states, views, cnn_steps, kind) for kind, task in tasks.items()}
    for file in story.folder.glob("states*.npy"):
        file.unlink()
    test = seen.take(tasks["all"].test)
    best = _attentive(answers["all"])
    _table(story, answers, len(test), names, best, tasks["all"])
    vectors = frozen[LINEAR][tasks["all"].test]
    embedding = Embedding(vectors, test.object_id, test.ra, test.dec, f"{signature(model, None, 'bf16')}/mean+spread")
    embedding.save(story.folder / "embeddings.parquet")
    few_rows = np.arange(min(len(test), 3000))
    look_alikes(story, test, embedding, _one_of_each(tasks["all"].label[tasks["all"].test]))
    the_map(
        story, test.take(few_rows), embedding.take(few_rows), tasks["all"].label[tasks["all"].test][few_rows], names
    )
    shapes(story, test, best.chance, names, tasks["all"].label[tasks["all"].test])
    completions(story, model, test)
    story.facts = {"galaxies": f"{len(seen):,}", "tested on": f"{len(test):,}", **about(model)}
    row = SURVEYS.get(seen["image"].survey)
    sources = () if row is None else (Source(what=row.name, packages=(), licence=row.licence, citation=row.citation),)
    title = f"{len(seen):,} labelled galaxies through a small foundation model"
    return finish(story, title, f"omnisky demo --data {data}", sources)


def _features(
    story: Story, model: nn.Module, task: morphology.Task, views: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """By method: vectors (object, number), and states of tokens (object · views, token, width) in files."""
    seen, untrained = task.seen, model.config.build(seed=0)
    untrained.codecs = model.codecs
    states = {}
    for name, net in ((ATTENTIVE, model), (UNTRAINED, untrained)):
        file = story.folder / f"states-{signature(net, None, 'bf16')}-{views}-{task.key}.npy"
        with story.timed("embed"), watch.counting_bar("embed" if net is model else "embed, random weights") as bar:
            states[name] = token_states(net, seen, views=views, file=file, watch=bar)
    lengths = model.junction.layout(encode_all(model.codecs, seen.take([0]))).lengths
    vectors = {LINEAR: morphology.mean_and_spread(states[ATTENTIVE], views, lengths)}
    vectors |= {PIXELS: morphology.pixel_components(seen, ~task.test)}
    return vectors | {SHAPES: morphology.measured_shapes(model.codecs, seen)}, states


def _answers(
    story: Story,
    task: morphology.Task,
    frozen: dict[str, np.ndarray],
    states: dict[str, np.ndarray],
    views: int,
    cnn_steps: int,
    kind: str,
) -> list[morphology.Answer]:
    """Every method on one task, the simplest first."""
    steps = cnn_steps if kind == "all" else max(cnn_steps // 5, 100)
    methods: list[tuple[str, morphology.Say]] = [
        ("always the commonest class", morphology.majority),
        (f"linear probe on {PIXELS}", morphology.linear_on(frozen[PIXELS])),
        (f"boosted trees on {PIXELS}", morphology.trees_on(frozen[PIXELS])),
        (SHAPES, morphology.trees_on(frozen[SHAPES])),
        (UNTRAINED, morphology.attentive_on(states[UNTRAINED], views, MEMBERS)),
        (LINEAR, morphology.linear_on(frozen[LINEAR])),
        (ATTENTIVE, morphology.attentive_on(states[ATTENTIVE], views, MEMBERS)),
    ]
    with story.timed("probes"), watch.counting_bar(f"probes, {kind} labels") as bar:
        answers = []
        for name, say in methods:
            answers.append(morphology.judge(name, task, say))
            bar(len(answers), len(methods))
    with story.timed("supervised CNN"), watch.training_bar(f"supervised CNN, {kind} labels") as bar:
        say = morphology.cnn_in(story.folder / f"cnn-{kind}-{task.key}", steps, views, bar)
        answers.append(morphology.judge("supervised CNN", task, say))
    return answers


def _attentive(answers: list[morphology.Answer]) -> morphology.Answer:
    return next(a for a in answers if a.name == ATTENTIVE)


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
            "labels; the omnisky-nano rows never touch its weights. The model reads patches and measured shapes: what "
            "trees make of those shapes alone, and the same probe of a model that never learned, stand beside it. An "
            f"attentive probe is the mean of {MEMBERS} that began differently; of the CNN there is one. "
            "Balanced accuracy counts every class alike.",
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


def _one_of_each(label: np.ndarray) -> np.ndarray:
    return np.array([np.nonzero(label == k)[0][0] for k in np.unique(label)])
