"""The rows of results.jsonl as a page of tables: `python -m benchmarks --page docs/speed.md`.

Every number on the page is in a row, or is one divided by another. Of each comparison the newest quiet row of each
machine counts; a newer one that was disturbed, or one that never was quiet, is shown apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

QUIET = 0.1
"""processors that others may keep busy before a measurement is called disturbed"""
TITLES = {
    "astropt": ("AstroPT", "against `astropt`; images of 256 patches; embedding, a training step, generating"),
    "pairs": ("AstroCLIP, SpecFormer, AstroDINO", "against a plain statement of the same networks in PyTorch"),
    "augment": ("AstroDINO's augmentations", "against the same in NumPy"),
    "aion": (
        "AION-1",
        "against `polymathic-aion`; it has no training: *learn* is the loss of its modules, there and back, of 256 "
        "tokens shown and 128 asked for",
    ),
    "codecs": ("Codecs", "against `polymathic-aion`"),
    "crossmatch": ("Cross-match", "within 1″; answers are the same row by row"),
    "loading": ("Loading", "objects of 4 × 160 × 160 pixels and a spectrum of 7,781; files in the page cache"),
    "probes": ("Probes", "fitted and asked again; against scikit-learn at the same penalty"),
    "search": ("Search", "ten nearest of vectors of 256 numbers; exact against scikit-learn, a graph against exact"),
    "serving": ("Serving", "a server on loopback, one galaxy a request, against the bare model in batches"),
    "catalogue": ("Embedding a catalogue", "one process against the bare model, a Dask cluster against one process"),
}
"""group → its heading, and what it is measured against"""
HEAD = """# Speed

Written by `python -m benchmarks --page docs/speed.md` from `benchmarks/results.jsonl`, a row a comparison; a test keeps
the two equal. Both sides work by turns on one machine and must give the same answer, or there is no row. A ratio is the
median over pairs of runs, between the smallest and the largest of them. *Of the roof*: what share ours reaches of the
best rate measured in the same run, of matrix products of its precision (GFLOP/s) or of memory (GB/s); a dash where
neither is its limit. *Own memory*: the most that each side had above the page cache, ours and theirs. *A million*: how
long ours takes for so many, on this machine. What was measured on more machines than one has a table for each, the
newest first.
"""
LAW = """The time of an embedding, fp32, is fitted by amount^exponent: one of objects, tokens and parameters (of the
blocks) changes, the others stand. The error is a bootstrap over rounds; *off the law* is the largest departure of a
time from it; *others* are processors that other programs kept busy."""
QUIET_SAID = f"Other programs kept less than {QUIET:g} of a processor busy."
COLUMNS = ("comparison", "ours", "theirs", "ratio", "runs", "of the roof", "own memory, MB", "a million, ours")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, oldest first."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return sorted(rows, key=lambda row: row["date"])


def quiet(row: Mapping[str, Any]) -> bool:
    return row["others_cpus"] <= QUIET


def page(rows: Iterable[Mapping[str, Any]]) -> str:
    """The page. Groups come in the order of `TITLES`, then others; comparisons in the order of their first row."""
    best: dict[tuple[str, str], Mapping[str, Any]] = {}
    newest: dict[tuple[str, str], Mapping[str, Any]] = {}
    laws: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if "exponent" in row:
            laws[row["name"]] = row if quiet(row) else laws.get(row["name"], row)
            continue
        key = (row["machine"], row["name"])
        newest[key] = row
        if quiet(row):
            best[key] = row
    disturbed = [row for row in newest.values() if not quiet(row)]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for key, row in newest.items():
        groups.setdefault(row["name"].partition("/")[0], []).append(best.get(key, row))
    text = [HEAD]
    for group in sorted(groups, key=lambda one: ([*TITLES, one].index(one), one)):
        text.append(_section(group, [row for row in groups[group] if quiet(row)]))
    text = [one for one in [*text, _scaling(list(laws.values()))] if one]
    if disturbed:
        text.append(
            f"## Disturbed\n\nOther programs kept more than {QUIET:g} of a processor busy: times are too long, and "
            "ratios less sure. These rows are newer than those above, or there is no quiet one.\n\n"
            + _table(disturbed, ("others",))
            + "\n"
            + _where(disturbed)
        )
    return "\n".join(text)


def _section(group: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    title, about = TITLES.get(group, (group, ""))
    about = f"{about[:1].upper()}{about[1:]}. " if about else ""
    newest_first = sorted(rows, key=lambda row: row["date"], reverse=True)
    machines: dict[str, list[Mapping[str, Any]]] = {row["machine"]: [] for row in newest_first}
    for row in rows:
        machines[row["machine"]].append(row)
    tables = "\n".join(f"{_table(those)}\n{_where(those)}" for those in machines.values())
    return f"## {title}\n\n{about}{QUIET_SAID}\n\n{tables}"


def _scaling(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    lines = [
        "| model, by | from … to | time | exponent | off the law | others |\n| --- | --- | --- | --- | --- | --- |\n"
    ]
    for row in rows:
        ends = [row["amounts"][0], row["amounts"][-1]]
        times = " … ".join(f"{_short(1e3 * row['seconds'][i])} ms" for i in (0, -1))
        lines.append(
            f"| {row['name'].partition('/')[2]} | {ends[0]:,} … {ends[1]:,} | {times} "
            f"| **{row['exponent']:.2f}** ± {row['error']:.2f} | {row['off']:.0%} | {row['others_cpus']:.2f} |\n"
        )
    return f"## Scaling\n\n{LAW}\n\n{''.join(lines)}\n{_where(rows)}"


def _table(rows: Sequence[Mapping[str, Any]], more: tuple[str, ...] = ()) -> str:
    """`more` are columns of every row; those of `also` (medians of what calls told besides) of rows that have them."""
    also = tuple(dict.fromkeys(name for row in rows for name in row.get("also") or ()))
    columns = [*COLUMNS, *(name.replace("_", ", ") for name in also), *more]
    lines = [columns, ["---"] * len(columns)]
    for row in rows:
        told = [_short(row["also"][name]) if name in (row.get("also") or {}) else "–" for name in also]
        lines.append([*_cells(row), *told, *(f"{row[f'{one}_cpus']:.2f}" for one in more)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    spread = f"{_short(row['ratio_min'])}–{_short(row['ratio_max'])}"
    memory = ", ".join(f"{one:.0f}" for one in row["own_mb"]) if row.get("own_mb") else "–"
    name = row["name"].partition("/")[2]
    ours = f"{_short(row['ours'])} {row['unit']}"
    return [
        *(name, ours, _short(row["theirs"]), f"**{_short(row['ratio'])}×** ({spread})", str(row["repeats"])),
        *(roof(row), memory, _time(1e6 / row["ours"])),
    ]


def roof(row: Mapping[str, Any]) -> str:
    """What share of which roof."""
    for unit in ("gflops", "gb_s"):
        if row.get(f"roof_{unit}"):
            told = {"gflops": "GFLOP/s", "gb_s": "GB/s"}[unit]
            return f"{row['roofline_share']:.0%} of {_short(row[f'roof_{unit}'])} {told}"
    return "–"


def _where(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line for each set of circumstances that rows share."""
    told: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        versions = ", ".join(f"{name} {one}" for name, one in row["versions"].items())
        told.setdefault((row["date"][:10], row["machine"], versions), []).append(row)
    lines = []
    for (date, machine, versions), those in told.items():
        which = "all" if len(told) == 1 else ", ".join(row["name"].partition("/")[2] for row in those)
        lines.append(f"- {which}: {date}, {machine}; {versions}; `{_command(those)}`")
    return "\n".join(lines) + "\n"


def _command(rows: Sequence[Mapping[str, Any]]) -> str:
    """The one that all share, with the names of all, or of their group."""
    if len({row["command"] for row in rows}) == 1:
        return rows[0]["command"]
    start = rows[0]["command"].removesuffix(rows[0]["name"])
    groups = dict.fromkeys(f"{row['name'].partition('/')[0]}/" for row in rows)
    return start + " ".join(groups)


def _short(value: float) -> str:
    """Three figures or so."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _time(seconds: float) -> str:
    for limit, unit, size in ((60, "s", 1), (3600, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds / 86400)} d"
