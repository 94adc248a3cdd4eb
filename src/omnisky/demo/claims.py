"""The table of claims as a page: claims.md, claims.json beside it, and its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from omnisky import plot
from omnisky.evaluate.claims.found import Grid
from omnisky.evaluate.claims.table import FAILS, HOLDS, UNKNOWN, Row, Table
from omnisky.storage import atomic

MARKS = {HOLDS: "holds", FAILS: "**does not hold**", UNKNOWN: "not measured"}


def write_claims(table: Table, folder: Path, command: str) -> Path:
    """`folder`/claims.md with all that is in the table; `command` is what made it."""
    figures = draw(table, folder)
    with atomic(folder / "claims.json") as draft:
        draft.write_text(json.dumps([row.state() for row in table.rows], ensure_ascii=False, indent=1) + "\n")
    with atomic(folder / "claims.md") as draft:
        draft.write_text("\n".join(_page(table, figures, command)) + "\n", encoding="utf-8")
    return folder / "claims.md"


def _page(table: Table, figures: Mapping[str, tuple[Path, str]], command: str) -> list[str]:
    counts = ", ".join(f"{table.count(verdict)} {words}" for verdict, words in
                       ((HOLDS, "hold"), (FAILS, "do not"), (UNKNOWN, "are not measured")))  # fmt: skip
    lines = ["# What the papers claim, and what we measure", "", "```sh", command, "```", ""]
    lines += [
        f"{len(table.rows)} claims: {counts}. "
        "A number is ours ± one bootstrap error over the objects tested on; σ is that",
        "error. The paper's number stands at its own scale, with models and data a thousand times as large, "
        "and is no target.",
        "Models are those that ship with the package (5 million parameters) unless a row says otherwise; "
        "`DATA` is a folder of",
        "real data sets. The same numbers are in `claims.json`.",
        "",
    ]
    headers = ("source", "claim", "what is measured", "here", "wanted", "", "the paper", "on", "made by")
    lines += _markdown(headers, [_row(row) for row in table.rows])
    for name, result in table.results.items():
        lines += [f"## {name.replace('-', ' ')}", ""] if result.grids else []
        lines += [f"{result.note[0].upper()}{result.note[1:]}.", ""] if result.grids and result.note else []
        for grid in result.grids:
            lines += [grid.title + ".", "", *_markdown(grid.headers, grid.rows)]
        for key, (file, shown) in figures.items():
            lines += [f"![{shown}]({file.name})", ""] if key.startswith(f"{name}/") else []
    return lines


def _row(row: Row) -> tuple[str, ...]:
    claim = row.claim
    return (
        *(claim.source, claim.words, claim.number, "–" if row.found is None else said(row), row.wanted),
        *(MARKS[row.verdict], claim.paper, claim.data, _made_by(row)),
    )


def _made_by(row: Row) -> str:
    command = f"`{row.command}`" if row.command else "–"
    return f"{command} ({row.note})" if row.note else command


def said(row: Row) -> str:
    """Our number with its error, to two digits of the error."""
    found = row.found
    if found is None:
        return "–"
    digits = 3 if not found.error > 0 else int(np.clip(2 - np.floor(np.log10(found.error)) - 1, 0, 4))
    return f"{found.value:.{digits}f} ± {found.error:.{digits}f}" if found.error else f"{found.value:.{digits}f}"


def _markdown(headers: tuple[str, ...], rows: Any) -> list[str]:
    def line(cells: Any) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return [line(headers), "|" + "---|" * len(headers), *map(line, rows), ""]


def grids(table: Table) -> list[Grid]:
    """All tables behind the claims."""
    return [grid for result in table.results.values() for grid in result.grids]


# --- figures ------------------------------------------------------------------------------------------------------


def draw(table: Table, folder: Path) -> dict[str, tuple[Path, str]]:
    """task/figure → its file and what it shows, for those that ran."""
    drawn: dict[str, tuple[Path, str]] = {}
    for name, one in {name: result.drawn for name, result in table.results.items()}.items():
        for kind, (needs, make, words) in _FIGURES.items():
            if needs in one:
                drawn[f"{name}/{kind}"] = (make(one, folder / f"claims-{kind}.png"), words)
    return drawn


def _curves(found: Mapping[str, Any], path: Path) -> Path:
    lines = [
        plot.Curve(name, np.array(value), np.array(error), ours=name.startswith("omnisky"))
        for name, (value, error) in found["curves"].items()
    ]
    return plot.learning_curves(np.array(found["labels"]), lines, path)


def _photo_z(found: Mapping[str, Any], path: Path) -> Path:
    return plot.photo_z(np.array(found["truth"]), np.array(found["said"]), path, told=found["words"])


def _pit(found: Mapping[str, Any], path: Path) -> Path:
    return plot.pit_histogram(np.array(found["pit"]), path, told="posteriors of redshifts by neighbours")


def _confusion(found: Mapping[str, Any], path: Path) -> Path:
    return plot.confusion(np.array(found["confusion"]), found["names"], path)


def _map(found: Mapping[str, Any], path: Path) -> Path:
    votes = [(f"votes for {name}", np.array(value)) for name, value in found["properties"].items()]
    note = f"{found['method']} of omnisky-nano's states; far things mean little"
    return plot.property_map(np.array(found["xy"]), votes, path, note=note, cells=30)


def _patches(found: Mapping[str, Any], path: Path) -> Path:
    return plot.patch_colours(np.array(found["patch_light"], np.uint8), np.array(found["patch_states"]), path)


def _segments(found: Mapping[str, Any], path: Path) -> Path:
    maps = [(name, np.array(one, dtype=bool)) for name, one in found["maps"].items()]
    return plot.overlays(np.array(found["maps_light"], np.uint8), maps, path)


_FIGURES = {
    "learning-curves": ("curves", _curves, "accuracy against the number of labels, by method"),
    "map": ("xy", _map, "a map of galaxies coloured by votes"),
    "photo-z": ("truth", _photo_z, "predicted against true redshifts, and residuals"),
    "pit": ("pit", _pit, "how many truths lie where in their posteriors"),
    "confusion": ("confusion", _confusion, "confusion of stars, galaxies and quasars"),
    "patches": ("patch_states", _patches, "galaxies, and their patches coloured by principal components"),
    "segments": ("maps", _segments, "spiral galaxies, and their arms and bars as they are and as they were found"),
}
"""name → (what it is drawn from, how, what it shows)"""
