"""What other commands found, hours of work each: read from the JSON they left, never made again here."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from omnisky.adapt.protocol import astroclip_few_shot
from omnisky.adapt.score import Score, r2, r2_gain
from omnisky.embed import Embedding
from omnisky.errors import CorruptFile, ProvenanceError
from omnisky.evaluate.claims.found import Grid, Inputs, Result, Stated, Task
from omnisky.evaluate.pairs import PROPERTIES
from omnisky.observe.shards import Shards
from omnisky.observe.sky import held_out
from omnisky.recipes.astroclip import HELD_OUT

FROM_ASTROCLIP = {
    "astroclip/raised": "Alignment raises the image's zero-shot redshift R²",
    "astroclip/as resnet": "Zero-shot from the image is as good as ResNet18",
    "astroclip/kept": "Alignment costs the spectrum no redshift",
    "astroclip/image to spectrum": "image → spectrum: recall@10 over chance",
    "astroclip/spectrum to image": "spectrum → image: recall@10 over chance",
}
"""claim's key → how `omnisky evaluate astroclip --json` calls it"""


def scaling(given: Inputs) -> Result:
    """Of `omnisky evaluate scaling`: does the loss fall with size, and the probe follow the loss?"""
    files = sorted((given.runs / "scaling").glob("*/point.json"))
    points = sorted((_state(file) for file in files), key=lambda one: one["parameters"])
    if len(points) < 3:
        return Result()
    loss = np.array([one["held_out"][-1] for one in points])
    value, error = (np.array([one[key] for one in points]) for key in ("accuracy", "error"))
    draw = np.random.default_rng(0)
    again = [_correlation(-np.log(loss), value + error * draw.normal(size=len(value))) for _ in range(500)]
    falls = float(np.mean(np.diff(loss) < 0))
    rows = tuple(
        (f"{one['parameters']:,}", f"{one['held_out'][-1]:.5f}", str(Score(one["accuracy"], one["error"])))
        for one in points
    )
    grid = Grid("AstroPTs of growing size", ("parameters", "held-out loss", "linear probe, accuracy"), rows)
    told = Score(_correlation(-np.log(loss), value), float(np.std(again)))
    return Result({"astropt/loss": Score(falls, 0.0), "astropt/probe": told}, (grid,))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def astroclip(given: Inputs) -> Result:
    """Of `omnisky evaluate astroclip --json > runs/astroclip.json`."""
    file = given.runs / "astroclip.json"
    if not file.exists():
        return Result()
    state = _state(file)
    found = {one["claim"]: Score(*one["found"]) for one in state["claims"]}
    scores = {key: found[words] for key, words in FROM_ASTROCLIP.items() if words in found}
    rows = tuple((name, *(str(Score(*pair)) for pair in each.values())) for name, each in state["r2"].items())
    first: Mapping[str, Any] = next(iter(state["r2"].values()))
    title = f"Mock sky, {state['learnt']:,} pairs learnt, {state['tested']:,} tested: R²"
    return Result(scores, (Grid(title, ("from", *first), rows),))


def aion(given: Inputs) -> Result:
    """Of `omnisky evaluate aion`: the claims that it judged itself, and how much narrower posteriors become."""
    file = given.runs / "aion" / "aion.json"
    if not file.exists():
        return Result()
    state = _state(file)
    stated = (Stated(one["claim"], Score(*one["found"]), one["wanted"], one["holds"]) for one in state["claims"])
    widths = [Score(*one["width"]) for one in state["redshifts"]]
    scores = {}
    if len(widths) > 1:
        first, last = widths[0], widths[-1]
        ratio = last.value / first.value
        error = ratio * np.hypot(first.error / first.value, last.error / last.value)
        scores["aion/posterior"] = Score(1 - ratio, float(error))
    return Result(scores, stated=tuple(stated))


def fusion(given: Inputs) -> Result:
    """Properties of the same mock galaxies from magnitudes, and with image and spectrum beside them, as vectors."""
    folder = given.runs / "astroclip"
    files = [folder / f"{part}-aligned.parquet" for part in ("image", "spectrum")]
    if not (all(file.exists() for file in files) and (folder / "sky" / "manifest.json").exists()):
        return Result()
    seen = Shards(folder / "sky", parts=["scalars", "truth"]).take(slice(None))
    test = held_out(seen, HELD_OUT)
    truth = np.stack([seen["truth"][name] for name in PROPERTIES], axis=1)
    flux = np.stack([seen["scalars"][f"FLUX_{band}"] for band in "GRZ"], axis=1)
    mags = 22.5 - 2.5 * np.log10(np.maximum(flux, 1e-3))
    x = np.column_stack([mags, mags[:, :-1] - mags[:, 1:]])
    said, rows = [], []
    for name, more in (
        ("photometry", None),
        ("photometry + image", files[0]),
        ("photometry + image + spectrum", files[1]),
    ):
        if more is not None:
            embedding = Embedding.load(more)
            if not np.array_equal(embedding.object_id, seen.object_id):
                raise ProvenanceError(f"{more} is of other objects than {folder / 'sky'}", hint="make both again")
            x = np.column_stack([x, embedding.vectors])
        said.append(astroclip_few_shot(x[~test], truth[~test], x[test]))
        rows.append((name, *(str(r2(truth[test, i], said[-1][:, i])) for i in range(len(PROPERTIES)))))
    gains = [r2_gain(truth[test, 0], b[:, 0], a[:, 0]) for a, b in itertools.pairwise(said)]
    title = f"What is seen together: R² of {int(test.sum()):,} mock galaxies by a perceptron on vectors side by side"
    grid = Grid(title, ("from", *PROPERTIES), tuple(rows))
    return Result({"aion/fusion image": gains[0], "aion/fusion spectrum": gains[1]}, (grid,))


def _state(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise CorruptFile(f"{file}: {error}", want="JSON of omnisky evaluate", hint="make it again") from error


TASKS = (
    Task("scaling", scaling, reads=("scaling/*/point.json",)),
    Task("astroclip", astroclip, reads=("astroclip.json",)),
    Task("aion", aion, reads=("aion/aion.json",)),
    Task("fusion", fusion, reads=("astroclip/*.parquet", "astroclip/sky/manifest.json")),
)
