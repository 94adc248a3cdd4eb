"""`omnisky evaluate all`: every claim of the papers beside our number."""

from __future__ import annotations

from pathlib import Path


def everything(
    *,
    data: Path | None = None,
    runs: Path = Path("runs"),
    out: Path = Path("docs"),
    measured: Path | None = None,
    only: tuple[str, ...] = (),
    json: bool = False,
) -> None:
    """Measure every claim of the papers that can be measured in minutes, and write the table: claims.md.

    What takes longer is read from what `omnisky evaluate scaling`, `astroclip`, `aion` and `photoz` left in --runs;
    where that is gone, from --measured, and the table says so.
    Results are kept in RUNS/claims: called again, only what changed is measured.

    Parameters
    ----------
    data
        A folder of real data sets by name, such as galaxyzoo2_kaggle_rgb; without it only mock data is measured on.
    runs
        Where other commands left their runs, and where results are kept.
    out
        The folder of claims.md, claims.json and the figures.
    measured
        A folder of what dev/measured.py copied from the documentation: OUT/measured, if there is one.
    only
        Names of tasks to run; the others' claims are shown as not measured.
    json
        Print the claims as JSON instead of a table.
    """
    from json import dumps

    from omnisky.demo.claims import said, write_claims
    from omnisky.errors import BadValue, ObservationError
    from omnisky.evaluate.claims.found import Inputs
    from omnisky.evaluate.claims.table import TASKS, measure
    from omnisky.train.devices import keep_memory
    from omnisky.watch import counting_bar, show_table

    keep_memory()
    names = tuple(task.name for task in TASKS)
    if not set(only) <= set(names):
        raise BadValue("--only", saw=only, want=names)
    if data is not None and not data.is_dir():
        raise ObservationError("nothing there", saw=data, want="a folder of data sets")
    if measured is not None and not measured.is_dir():
        raise ObservationError("nothing there", saw=measured, want="a folder of scaling.json, astroclip.json …")
    table = measure(Inputs(data, runs, runs / "claims", counting_bar, measured or out / "measured"), only=only)
    told = f"omnisky evaluate all{'' if data is None else ' --data DATA'}{''.join(f' --only {name}' for name in only)}"
    page = write_claims(table, out, told)
    if json:
        print(dumps([row.state() for row in table.rows], ensure_ascii=False))
        return
    rows = [(row.claim.source, row.claim.words, said(row), row.wanted, row.verdict) for row in table.rows]
    show_table(("source", "claim", "here", "wanted", ""), rows)
    print(page)
