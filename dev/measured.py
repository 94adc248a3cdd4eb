"""docs/measured/*.json out of the tables of docs/scaling.md, docs/astroclip.md and docs/aion.md.

    python dev/measured.py [RUNS]

With RUNS also RUNS/photoz.json is copied, which has no page. Those pages show runs of hours. `omnisky evaluate all`
reads such runs where they are, and these files where they are gone. No number is typed: each is a cell of a page's
table, to the digits that the page has. The commit and the date are those of the newest line that was read.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


@dataclass
class Page:
    """A page of the documentation, and which of its lines were read."""

    name: str
    lines: list[str] = field(default_factory=list)
    read: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lines = (DOCS / self.name).read_text(encoding="utf-8").splitlines()

    def table(self, *heads: str) -> list[dict[str, str]]:
        """The rows of the table that begins with these columns, by column."""
        start = next(i for i, line in enumerate(self.lines) if line.startswith(f"| {' | '.join(heads)} |"))
        columns, rows = _cells(self.lines[start]), []
        for i in range(start + 2, len(self.lines)):
            if not self.lines[i].startswith("|"):
                break
            rows.append(dict(zip(columns, _cells(self.lines[i]), strict=True)))
            self.read.append(i)
        return rows

    def number(self, words: str) -> int:
        """The whole number that stands before these words."""
        i = next(i for i, line in enumerate(self.lines) if words in line)
        self.read.append(i)
        found = re.search(rf"([\d,]+) {re.escape(words)}", self.lines[i])
        assert found, words
        return int(found[1].replace(",", ""))

    def told(self, command: str, state: dict[str, Any]) -> dict[str, Any]:
        """`state`, and where it is from."""
        commit, date = max((_blame(self.name, i) for i in self.read), key=lambda pair: pair[1])
        return {
            "page": f"docs/{self.name}",
            "command": command,
            "commit": commit[:7],
            "date": date[:10],
            "state": state,
        }


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _blame(name: str, line: int) -> tuple[str, str]:
    """Commit, and when it was made, of a line."""
    words = ["git", "blame", "-L", f"{line + 1},{line + 1}", "--porcelain", f"docs/{name}"]
    commit = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()[0]
    words = ["git", "show", "-s", "--format=%cI", commit]
    return commit, subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def pair(cell: str) -> list[float]:
    """`0.5 ± 0.1` as [0.5, 0.1]."""
    return [float(part.replace(",", "")) for part in cell.split("±")]


def scaling() -> dict[str, Any]:
    page = Page("scaling.md")
    points = []
    for row in page.table("size", "parameters"):
        accuracy, error = pair(row["linear probe, accuracy"])
        points.append(
            {"name": row["size"], "parameters": int(row["parameters"].replace(",", ""))}
            | {"held_out": [float(row["held-out loss"])], "accuracy": accuracy, "error": error}
        )
    return page.told("omnisky evaluate scaling DATA", {"points": points})


def astroclip() -> dict[str, Any]:
    page = Page("astroclip.md")
    rows = page.table("from", "redshift")
    state = {
        "learnt": page.number("pairs were learnt from"),
        "tested": page.number("tested on"),
        "r2": {row.pop("from"): {name: pair(cell) for name, cell in row.items()} for row in rows},
        "claims": [{"claim": row["claim"], "found": pair(row["here"])} for row in page.table("claim", "here")],
    }
    return page.told("omnisky evaluate astroclip --json", state)


def aion() -> dict[str, Any]:
    page = Page("aion.md")
    state = {
        "redshifts": [
            {"inputs": row["inputs"], "width": pair(row["half width"])} for row in page.table("inputs", "objects")
        ],
        "claims": [
            {"claim": row["claim"], "found": pair(row["found"]), "wanted": row["wanted"], "holds": row[""] == "holds"}
            for row in page.table("claim", "found")
        ],
    }
    return page.told("omnisky evaluate aion", state)


def photoz(runs: Path) -> dict[str, Any]:
    """As `omnisky evaluate photoz --json` printed it, today."""
    words = ["git", "show", "-s", "--format=%h %cs", "HEAD"]
    commit, date = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    told = {"page": "docs/measured/photoz.json", "command": "omnisky evaluate photoz sdss_dr14_10k.parquet --json"}
    return told | {"commit": commit, "date": date, "state": json.loads((runs / "photoz.json").read_text())}


def main(runs: Path | None) -> None:
    (DOCS / "measured").mkdir(exist_ok=True)
    made = {"scaling": scaling(), "astroclip": astroclip(), "aion": aion()}
    made |= {} if runs is None else {"photoz": photoz(runs)}
    for name, told in made.items():
        text = json.dumps(told, ensure_ascii=False, indent=1) + "\n"
        (DOCS / "measured" / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
