"""Cross-match of two catalogues within 1 arcsec, beside astropy and LSDB; answers are the same row by row or it fails.

800 square degrees, as many objects on each side; six in ten of the right side are a left object shaken by 0.3 arcsec
(per axis), the rest lie anywhere. Both sides start from arrays of degrees (LSDB: from its own HATS files) and end with
pairs of rows. LSDB takes part if it is installed here, or in the Python that LSDB_PYTHON names.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from benchmarks.harness import Comparison, Job, Worker, versions_here

OBJECTS = 1_000_000
QUICK = 50_000
RADIUS_ARCSEC = 1.0


def comparisons(quick: bool = False) -> Iterator[Comparison]:
    """All that can be run here; `quick` ones are smaller and prove only that everything runs."""
    n = QUICK if quick else OBJECTS
    pairs = [("nearest", "astropy"), ("mutual", "astropy"), ("all", "astropy")]
    if _lsdb_python() is not None:
        pairs.append(("nearest", "lsdb"))
    for way, other in pairs:
        yield Comparison(
            name=f"crossmatch/{way}-{_short(n)}-over-{other}",
            ours=Job("ours", f"ours_{way}", {"n": n}),
            theirs=Job(other, f"{other}_{way}", {"n": n}),
            unit="objects",
            work=n,
            target=None,
            agree=0.0,
            repeats=5,
        )


def workers() -> dict[str, Worker]:
    """One process a side, each with the packages it needs and no others."""
    found = {name: Worker(Path(sys.executable), "benchmarks.sky") for name in ("ours", "astropy")}
    lsdb = _lsdb_python()
    return found if lsdb is None else found | {"lsdb": Worker(lsdb, "benchmarks.sky")}


def versions() -> dict[str, str]:
    """Of what takes part."""
    here = versions_here("omnisky", "astropy", "scipy", "cdshealpix")
    lsdb = _lsdb_python()
    if lsdb is None:
        return here
    code = "from importlib.metadata import version; print(version('lsdb'))"
    return here | {
        "lsdb": subprocess.run([lsdb, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    }


@cache
def _lsdb_python() -> Path | None:
    told = os.environ.get("LSDB_PYTHON")
    return Path(told) if told else Path(sys.executable) if find_spec("lsdb") else None


def _short(n: int) -> str:
    return f"{n // 1_000_000}m" if n >= 1_000_000 else f"{n // 1000}k"
