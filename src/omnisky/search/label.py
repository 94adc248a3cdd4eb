"""More like these, not like those: a few labels in a file, and who to look at next.

Each round: label, ask, look at what came back, add lines, ask again. A probe on embeddings learns from all labels so
far, as Astronomaly's active learning does (Lochner & Bassett 2021, arXiv:2010.11202) and Zoobot's retrieval after it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from omnisky.embed import Embedding
from omnisky.errors import BadValue, CorruptFile, MissingModality

WORDS = {word: True for word in ("1", "yes", "true", "like")} | {word: False for word in ("0", "no", "false", "unlike")}
COLUMNS = ("object_id", "label")


@dataclass(frozen=True, eq=False)
class Asked:
    """What the labels so far say of all objects."""

    chance: Float[np.ndarray, " object"]
    """that it is like those that are wanted, 0 … 1"""
    best: Integer[np.ndarray, " k"]
    """rows not labelled yet, the likeliest first"""
    unsure: Integer[np.ndarray, " k"]
    """rows not labelled yet of which a label would teach most: nearest to a chance of one half"""


def read_labels(path: str | Path) -> dict[str, bool]:
    """object_id → wanted or not, of a CSV file with the columns object_id and label; an empty label is none yet.

    A label is one of 1 yes true like, or 0 no false unlike; of several lines about an object the last counts. Raises
    CorruptFile without these columns, BadValue for another word.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = csv.DictReader(file)
        if not set(COLUMNS) <= set(lines.fieldnames or ()):
            raise CorruptFile(str(path), saw=lines.fieldnames, want=f"a header with {' and '.join(COLUMNS)}")
        said = {line["object_id"]: (line["label"] or "").strip().lower() for line in lines}
    wrong = {word for word in said.values() if word and word not in WORDS}
    if wrong:
        raise BadValue(f"{path}: labels", saw=tuple(sorted(wrong)[:3]), want=tuple(WORDS))
    return {name: WORDS[word] for name, word in said.items() if word}


def ask(embedding: Embedding, labels: dict[str, bool], k: int = 10, *, strength: float = 0.01) -> Asked:
    """Rank all objects by the labels of some: logistic regression, both sides equal in weight.

    On standardised embeddings; `strength` is the inverse of its penalty. Raises MissingModality for ids
    that are not there, BadValue unless there are wanted ones and unwanted ones, and k others.
    """
    row = {name: i for i, name in enumerate(embedding.object_id.tolist())}
    unknown = [name for name in labels if name not in row]
    if unknown:
        raise MissingModality("not among these embeddings", saw=tuple(unknown[:3]), want="ids that were embedded")
    known = np.array([row[name] for name in labels], dtype=np.int64)
    wanted = np.array(list(labels.values()), dtype=bool)
    if wanted.all() or not wanted.any():
        saw = f"{int(wanted.sum())} wanted, {int((~wanted).sum())} not"
        hint = "for examples of one side alone: omnisky search --like"
        raise BadValue("labels", saw=saw, want="one or more of each", hint=hint)
    free = np.setdiff1d(np.arange(len(embedding)), known)
    if not 1 <= k <= len(free):
        raise BadValue("k", saw=k, want=f"1 … {len(free)}, the objects without label")
    x = StandardScaler().fit_transform(embedding.vectors)
    probe = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000).fit(x[known], wanted)
    chance = probe.predict_proba(x)[:, 1].astype(np.float64)
    best = free[np.argsort(-chance[free], kind="stable")[:k]]
    unsure = free[np.argsort(np.abs(chance[free] - 0.5), kind="stable")[:k]]
    return Asked(chance, best, unsure)
