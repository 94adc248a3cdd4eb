"""The page of speeds is its rows; and ratios stay where they were, as far as a busy machine can tell."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import crossmatch, pairs, scaling, search, views
from benchmarks.__main__ import GROUPS
from benchmarks.harness import RESULTS, Effort, Worker, run
from benchmarks.machine import cpu_seconds, family, memory, own_mb
from benchmarks.page import TITLES, page, quiet, read

DOCS = Path(__file__).parents[1] / "docs" / "speed.md"

ROW = {
    "name": "crossmatch/a-over-b",
    "ours": 591_416.2,
    "theirs": 278_279.1,
    "unit": "objects/s",
    "ratio": 2.24,
    "ratio_min": 2.07,
    "ratio_max": 2.39,
    "roofline_share": None,
    "roof_gflops": None,
    "repeats": 5,
    "others_cpus": 0.06,
    "own_mb": [663.4, 422.2],
    "versions": {"python": "3.11.7"},
    "command": "python -m benchmarks crossmatch/a-over-b",
    "date": "2026-11-22T10:05:41+00:00",
    "machine": "A box, 2 cores, Linux",
}
LATER = {"date": "2026-11-23T10:05:41+00:00"}


def test_the_page_is_its_rows():
    """`python -m benchmarks --page docs/speed.md` after each row."""
    assert DOCS.read_text(encoding="utf-8") == page(read(RESULTS))


def test_a_row_is_told_in_full():
    told = page([ROW])
    assert "| a-over-b | 591,416 objects/s | 278,279 | **2.24×** (2.07–2.39) | 5 | – | 663, 422 | 1.69 s |" in told
    assert "2026-11-22, A box, 2 cores, Linux; python 3.11.7; `python -m benchmarks crossmatch/a-over-b`" in told
    with_roof = page([ROW | {"roofline_share": 0.64, "roof_gflops": 286.4, "own_mb": None}])
    assert "| 64% of 286 GFLOP/s | – |" in with_roof
    by_memory = page([ROW | {"roofline_share": 0.31, "roof_gflops": None, "roof_gb_s": 19.63}])
    assert "| 31% of 19.6 GB/s | 663, 422 |" in by_memory
    waiting = page([ROW, ROW | {"name": "crossmatch/c-over-d", "also": {"p50_ms": 32.1}}])
    assert "| a million, ours | p50, ms |" in waiting and "1.69 s | 32.1 |" in waiting and "1.69 s | – |" in waiting


def test_the_newest_quiet_row_counts():
    told = page([ROW, ROW | {"ratio": 3.5} | LATER])
    assert "3.50×" in told and "2.24×" not in told


def test_each_machine_has_its_own_table():
    told = page([ROW, ROW | {"ratio": 3.5, "machine": "B box"} | LATER, ROW | {"name": "crossmatch/c-over-d"}])
    newer, older = told.split("B box")
    assert "3.50×" in newer and "2.24×" not in newer
    assert older.count("2.24×") == 2 and "A box" in older


def test_disturbed_rows_are_shown_apart():
    told = page([ROW, ROW | {"ratio": 1.1, "others_cpus": 0.9} | LATER])
    above, below = told.split("## Disturbed")
    assert "2.24×" in above and "1.10×" not in above
    assert "**1.10×**" in below and "0.90 |" in below and "2.24×" not in below
    alone = page([ROW | {"others_cpus": 0.9}])
    assert "## Cross-match" not in alone and "## Disturbed" in alone
    assert "## Disturbed" not in page([ROW | {"others_cpus": 0.9}, ROW | LATER])  # a quiet one came after


def test_rows_are_read_in_the_order_of_their_dates(tmp_path):
    (tmp_path / "rows").write_text(json.dumps(ROW | LATER) + "\n" + json.dumps(ROW) + "\n")
    assert [row["date"][:10] for row in read(tmp_path / "rows")] == ["2026-11-22", "2026-11-23"]
    assert quiet(ROW) and not quiet(ROW | {"others_cpus": 0.11})


def test_every_comparison_has_a_place_on_the_page():
    names = [one.name for group in GROUPS for one in group.comparisons(quick=True)]
    assert {name.partition("/")[0] for name in names} == set(TITLES) and len(set(names)) == len(names)


# --- the machine --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_what_a_worker_starts_is_counted_as_its_own():
    """A grandchild that takes 200 MB and works for a moment, while its parent waits."""
    busy = "x = bytearray(b'x' * 200_000_000); sum(range(5_000_000)); print(flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.readline()
        assert len(family(process.pid)) == 2 and own_mb(process.pid) > 200
        alone = cpu_seconds(family(process.pid)[1])
        assert 0 < alone <= cpu_seconds(process.pid)
        process.communicate(b"\n")
    assert own_mb(process.pid) == cpu_seconds(process.pid) == 0.0  # gone


def test_memory_has_a_rate():
    assert 1e8 < float(memory(Path(), repeats=1)()) < 1e13


# --- laws ---------------------------------------------------------------------------------------------------------


def test_a_law_is_found_with_its_error():
    """A slow round is slow for all amounts and moves nothing; noise of its own for each time does."""
    amounts, draw = np.array([4, 8, 16, 32, 64]), np.random.default_rng(1)
    rounds = np.exp(draw.normal(0, 0.5, (9, 1))) * 0.01 * amounts**1.2
    exact = scaling.fitted(amounts, rounds)
    assert (exact.exponent, exact.error, exact.off) == pytest.approx((1.2, 0, 0), abs=1e-12)
    noisy = [scaling.fitted(amounts, rounds[:1] * np.exp(draw.normal(0, 0.1, (9, 5)))) for _ in range(100)]
    spread = np.std([one.exponent for one in noisy])
    assert np.mean([one.error for one in noisy]) == pytest.approx(spread, rel=0.5)
    bent = scaling.fitted(amounts, [amounts + 8.0])  # a start that costs as much as eight objects
    assert bent.exponent < 0.9 and bent.off > 0.05 and bent.error < 1e-12


def test_the_page_tells_of_laws():
    about = {name: ROW[name] for name in ("repeats", "versions", "date", "machine", "others_cpus")}
    law = {"name": "scaling/astropt-tokens", "amounts": [64, 1024], "seconds": [0.0123, 0.456], **about}
    law |= {"exponent": 1.234, "error": 0.012, "off": 0.078, "command": "python -m benchmarks.scaling"}
    told = page([ROW, law, law | {"name": "scaling/other"}, law | {"exponent": 9.0, "others_cpus": 1.5} | LATER])
    assert "| astropt-tokens | 64 … 1,024 | 12.3 ms … 456 ms | **1.23** ± 0.01 | 8% | 0.06 |" in told
    assert "`python -m benchmarks.scaling`" in told and "2.24×" in told and "9.00" not in told
    alone = page([law | {"others_cpus": 1.5}])
    assert "| 1.50 |" in alone and "## Disturbed" not in alone


# --- the guard ----------------------------------------------------------------------------------------------------

LIMITS = {
    "crossmatch/nearest-50k-over-astropy": 1.0,
    "crossmatch/mutual-50k-over-astropy": 1.0,
    "crossmatch/all-50k-over-astropy": 0.8,
    **{f"pairs/{tower}-fp32-over-plain-fp32": 0.7 for tower in pairs.OBJECTS},
    **{f"pairs/{tower}-there-and-back-fp32-over-plain-fp32": 0.6 for tower in pairs.OBJECTS},
    "pairs/sections-64-over-slices": 1.2,
    "pairs/sections-64-over-slices-one-by-one": 10.0,
    "augment/views-16-over-numpy": 1.0,
    "search/exact-64-among-20k-over-scikit-learn": 0.5,
    "search/graph-64-among-5k-over-exact": 0.1,
    "search/exact-1-among-20k-over-scikit-learn": 0.5,
}
"""least ratio: about half of what a quiet machine measures, because others may be busy here. A time has no limit.
Towers have two blocks here; their core is that of every model"""

GUARDED = (crossmatch, pairs, search, views)


def test_every_limit_is_of_a_comparison():
    assert set(LIMITS) <= {one.name for group in GUARDED for one in group.comparisons(quick=True)}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("group", GUARDED, ids=lambda group: group.__name__)
def test_ratios_stay_above_their_limits(group, monkeypatch):
    """Small sizes, five pairs, nothing kept. What needs another environment is for `make bench`."""
    if hasattr(group, "_lsdb_python"):
        monkeypatch.setattr(group, "_lsdb_python", lambda: None)
    chosen = [one for one in group.comparisons(quick=True) if one.name in LIMITS]
    workers = group.workers()
    try:
        rows = list(run(chosen, workers, {}, Effort(repeats=5, seconds=0.3, keep=False)))
    finally:
        for worker in workers.values():
            worker.close()
    assert {row["name"]: row["ratio"] for row in rows if row["ratio"] < LIMITS[row["name"]]} == {}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_more_of_anything_takes_longer():
    """64 times as many objects, 16 times as many tokens or parameters."""
    worker = Worker(Path(sys.executable), "benchmarks.ours_scaling")
    try:
        rows = [scaling.measure(one, worker, Effort(repeats=3, seconds=0.0)) for one in scaling.sweeps(quick=True)]
    finally:
        worker.close()
    assert {row["name"]: row["exponent"] for row in rows if not 0.2 < row["exponent"] < 2.5} == {}
