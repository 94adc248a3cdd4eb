"""What other commands found, hours of work each: read from what they left, never made again here.

Where a run is gone, its page in the documentation is not: `dev/measured.py` copies the tables there into one JSON file
each, with the page, the command, the commit and its date, and rows read from these say so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from omnisky.adapt.score import Score
from omnisky.errors import CorruptFile
from omnisky.evaluate.claims.found import Grid, Inputs, Result, Stated, Task

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
    points = [_state(file) for file in sorted((given.runs / "scaling").glob("*/point.json"))]
    return (
        _of_points(points) if len(points) > 2 else _copied(given, "scaling", lambda state: _of_points(state["points"]))
    )


def _of_points(points: Sequence[Mapping[str, Any]]) -> Result:
    points = sorted(points, key=lambda one: one["parameters"])
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
    return _of_pairs(_state(file)) if file.exists() else _copied(given, "astroclip", _of_pairs)


def _of_pairs(state: Mapping[str, Any]) -> Result:
    found = {one["claim"]: Score(*one["found"]) for one in state["claims"]}
    scores = {key: found[words] for key, words in FROM_ASTROCLIP.items() if words in found}
    rows = tuple((name, *(str(Score(*pair)) for pair in each.values())) for name, each in state["r2"].items())
    first: Mapping[str, Any] = next(iter(state["r2"].values()))
    title = f"Mock sky, {state['learnt']:,} pairs learnt, {state['tested']:,} tested: R²"
    return Result(scores, (Grid(title, ("from", *first), rows),))


def aion(given: Inputs) -> Result:
    """Of `omnisky evaluate aion`: the claims that it judged itself, and how much narrower posteriors become."""
    file = given.runs / "aion" / "aion.json"
    return _of_any_to_any(_state(file)) if file.exists() else _copied(given, "aion", _of_any_to_any)


def _of_any_to_any(state: Mapping[str, Any]) -> Result:
    stated = (Stated(one["claim"], Score(*one["found"]), one["wanted"], one["holds"]) for one in state["claims"])
    widths = [Score(*one["width"]) for one in state["redshifts"]]
    scores = {}
    if len(widths) > 1:
        first, last = widths[0], widths[-1]
        ratio = last.value / first.value
        error = ratio * np.hypot(first.error / first.value, last.error / last.value)
        scores["aion/posterior"] = Score(1 - ratio, float(error))
    return Result(scores, stated=tuple(stated))


def photoz(given: Inputs) -> Result:
    """Of `omnisky evaluate photoz CATALOGUE --json > runs/photoz.json`: posteriors beside trees, on real magnitudes."""
    file = given.runs / "photoz.json"
    return _of_posteriors(_state(file)) if file.exists() else _copied(given, "photoz", _of_posteriors)


def _of_posteriors(state: Mapping[str, Any]) -> Result:
    told = state["aion-photoz"]
    methods = {name: one for name, one in state.items() if isinstance(one, dict)}
    rows = tuple(
        (name, *(f"{one[key][0]:.4f} ± {one[key][1]:.4f}" for key in ("sigma_nmad", "outliers", "bias", "crps")))
        for name, one in methods.items()
    )
    held = ", ".join(f"{share} intervals hold {Score(*told['covered'][share])}" for share in ("68%", "95%"))
    title = (
        f"Redshifts of {told['objects']:,} galaxies of SDSS DR14 in other cells of sky than the {state['learnt']:,} "
        f"learnt, from magnitudes; the model's {held}"
    )
    headers = ("by", "σ_NMAD", "outliers > 0.05", "bias", "CRPS (of a number: mean error)")
    return Result({"aion/photo-z": Score(*state["ahead_nmad"])}, (Grid(title, headers, rows),))


def _copied(given: Inputs, name: str, read: Callable[[Mapping[str, Any]], Result]) -> Result:
    """The same from a page's copy, and where that is from; nothing where there is none."""
    file = None if given.measured is None else given.measured / f"{name}.json"
    if file is None or not file.exists():
        return Result()
    told = _state(file)
    note = f"not measured again: {told['page']} as of {told['date']}, {told['commit']}"
    return replace(read(told["state"]), note=note)


def _state(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise CorruptFile(f"{file}: {error}", want="JSON of omnisky evaluate", hint="make it again") from error


TASKS = (
    Task("scaling", scaling, reads=("scaling/*/point.json",)),
    Task("astroclip", astroclip, reads=("astroclip.json",)),
    Task("aion", aion, reads=("aion/aion.json",)),
    Task("photoz", photoz, reads=("photoz.json",)),
)
