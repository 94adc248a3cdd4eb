"""python -m benchmarks [name …]: run all comparisons, or those whose name contains one of these words."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import aion, astropt, batch, codecs, crossmatch, loading, pairs, probes, search, serving, views
from benchmarks.harness import RESULTS, Comparison, Disagreement, Effort, run
from benchmarks.page import QUIET, page, read, roof
from omnisky.codec.processor import multiplies_bf16

GROUPS = (aion, astropt, batch, codecs, crossmatch, loading, pairs, probes, search, serving, views)
"""each offers comparisons(quick), workers() and versions()"""


def main() -> int:
    asked = _arguments()
    if asked.page:
        asked.page.write_text(page(read(RESULTS)), encoding="utf-8")
        return 0
    chosen = {group: [c for c in group.comparisons(asked.quick) if _wanted(c, asked.names)] for group in GROUPS}
    if asked.list or not any(chosen.values()):
        print("\n".join(c.name for group in GROUPS for c in group.comparisons(asked.quick)))
        return 0 if asked.list else 2
    rows = []
    try:
        for row in _rows(_possible(chosen), _effort(asked)):
            rows.append(row)
            print(json.dumps(row, ensure_ascii=False) if asked.json else _line(row), flush=True)
    except Disagreement as error:
        print(error, file=sys.stderr)
        return 1
    if rows and not asked.json:
        Console(width=None if sys.stdout.isatty() else 120).print(rows[0]["machine"], _table(rows))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names; none means all")
    parser.add_argument("--json", action="store_true", help="print rows as JSON lines instead of a table")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one pair, nothing kept: does it run?")
    parser.add_argument("--repeats", type=int, help="pairs per comparison")
    parser.add_argument("--page", type=Path, help="write the rows kept so far as a page, and run nothing")
    parser.add_argument("--list", action="store_true", help="the names, without running anything")
    return parser.parse_args()


def _effort(asked: argparse.Namespace) -> Effort:
    if asked.quick:
        return Effort(repeats=asked.repeats or 1, seconds=0.0, keep=False)
    return Effort(repeats=asked.repeats)


def _wanted(comparison: Comparison, names: list[str]) -> bool:
    return not names or any(name in comparison.name for name in names)


def _possible(chosen: dict[Any, list[Comparison]]) -> dict[Any, list[Comparison]]:
    """Those in bf16 only where it is multiplied: elsewhere ours would be fp32, and theirs an imitation."""
    if multiplies_bf16():
        return chosen
    kept = {group: [one for one in some if one.precision != "bf16"] for group, some in chosen.items()}
    if left_out := sum(map(len, chosen.values())) - sum(map(len, kept.values())):
        print(f"{left_out} comparisons in bf16 are left out: this processor multiplies none", file=sys.stderr)
    return kept


def _rows(chosen: dict[Any, list[Comparison]], effort: Effort) -> Iterator[dict[str, Any]]:
    """Group by group: only those that are asked for start their workers."""
    for group, comparisons in chosen.items():
        if not comparisons:
            continue
        workers = group.workers()
        try:
            yield from run(comparisons, workers, group.versions(), effort)
        finally:
            for worker in workers.values():
                worker.close()


def _line(row: dict[str, Any]) -> str:
    return f"{row['name']}: {row['ratio']:.2f}× [{row['ratio_min']:.2f}–{row['ratio_max']:.2f}]"


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("comparison")
    for heading in ("ours", "theirs", "ratio [min–max]", "target", "of the roof", "own MB", "others"):
        table.add_column(heading, justify="right")
    for row in rows:
        met = row["target"] is None or row["ratio"] >= row["target"]
        table.add_row(
            row["name"],
            f"{row['ours']:.3g} {row['unit']}",
            f"{row['theirs']:.3g}",
            f"[{'green' if met else 'red'}]{row['ratio']:.2f}[/] \\[{row['ratio_min']:.2f}–{row['ratio_max']:.2f}]",
            "" if row["target"] is None else f"≥ {row['target']:.1f}",
            roof(row),
            f"{row['own_mb'][0]:.0f}, {row['own_mb'][1]:.0f}",
            f"[{'' if row['others_cpus'] <= QUIET else 'yellow'}]{row['others_cpus']:.1f}[/]"
            if row["others_cpus"] > QUIET
            else "–",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
