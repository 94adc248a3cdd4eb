"""`omnisky data crossmatch` and `omnisky data hats`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from cyclopts import App

from omnisky.errors import BadValue

app = App(name="data", help="Bring observations together.")


@app.command
def crossmatch(
    left: str,
    right: str,
    *,
    radius: float,
    out: Path | None = None,
    into: Path | None = None,
    pairs: Literal["nearest", "mutual", "all"] = "nearest",
    epoch: float | None = None,
    lsdb: bool = False,
    object_id: str = "object_id",
    json: bool = False,
) -> None:
    """Find which objects of one survey are which of another: omnisky data crossmatch desi/ legacy/ --radius 1.

    Parameters
    ----------
    left
        One survey: a folder, file or address that `omnisky.read` opens.
    right
        The other one.
    radius
        arcsec.
    out
        The table of pairs, .parquet or .csv; with --lsdb the folder of a HATS catalogue.
    into
        A folder for the matched objects with all that both surveys measured of them; `omnisky.read` opens it. Called
        again after it was killed, it goes on.
    pairs
        nearest: of each left object its nearest right one. mutual: one to one, each the other's nearest. all: all.
    epoch
        Julian year to which objects are moved first, by the columns pmra, pmdec and ref_epoch of one side or both.
    lsdb
        By LSDB, partition by partition, for catalogues that do not fit into memory (extra "hats"); the same pairs, and
        with --into the same data set. Best of HATS catalogues; others are first sorted into such, ids and positions
        alone.
    object_id
        With --lsdb, the column of ids in HATS catalogues; two with a comma, where it is called otherwise on the right.
    json
        Print one JSON object instead of a table.
    """
    from json import dumps

    from omnisky.observe.match import all_pairs, mutual, nearest
    from omnisky.observe.match_hats import crossmatch_hats
    from omnisky.observe.matched import match_files
    from omnisky.observe.matched_hats import match_hats_files
    from omnisky.watch import counted, show_table

    choose = {"nearest": nearest, "mutual": mutual, "all": all_pairs}[pairs]
    names = object_id.partition(",")
    how: dict[str, Any] = {"pairs": choose, "epoch_yr": epoch}
    ids = object_id if not names[1] else (names[0], names[2])
    told: dict[str, Any]
    if not lsdb:
        told = match_files(left, right, radius, **how, table=out, folder=into).state()
    elif out is not None and into is None:
        told = {"pairs": crossmatch_hats(left, right, radius, out, **how, object_id=ids)}
    elif into is not None and out is None:
        told = {"pairs": match_hats_files(left, right, radius, into, **how, object_id=ids)}
    else:
        raise BadValue("--lsdb", saw=f"out {out}, into {into}", want="one of --out FOLDER and --into FOLDER")
    places = {"out": None if out is None else str(out), "into": None if into is None else str(into)}
    told = {"left": left, "right": right, "radius_arcsec": radius, **told, **places}
    if json:
        print(dumps(told, ensure_ascii=False))
        return
    apart: Any = told.pop("histogram", None)
    show_table(("", ""), [(name.replace("_", " "), _said(value)) for name, value in told.items() if value is not None])
    if apart is not None:
        show_table(("arcsec", "pairs", ""), counted(apart["edges_arcsec"], apart["pairs"]))


@app.command
def hats(
    source: str,
    out: Path,
    *,
    survey: str = "",
    name: str = "",
    max_rows: int | None = None,
    margin: float = 10.0,
    engine: Literal["omnisky", "hats-import"] = "omnisky",
    workers: int = 2,
) -> None:
    """Write a HATS catalogue, margin and all: omnisky data hats mock/ catalogue/. Called again, it goes on.

    Parameters
    ----------
    source
        What to write: a folder, file or address that `omnisky.read` opens.
    out
        The folder of the collection; LSDB opens it, and so does `omnisky.read`.
    survey
        Whose files these are, where the path of a set of the Multimodal Universe does not say it.
    name
        Of the catalogue; the folder's if not given.
    max_rows
        The most objects of a partition; as many as make 512 MB if not given.
    margin
        arcsec, around each partition, for matches across its border.
    engine
        omnisky: in this process. hats-import: with several, on Dask (extra "hats").
    workers
        How many processes, with hats-import.
    """
    from omnisky.observe.hats_import import import_hats
    from omnisky.observe.hats_write import write_hats
    from omnisky.observe.read import scan

    pieces = scan(source, survey=survey).batches(256)
    asked: dict[str, Any] = {"name": name, "max_rows": max_rows, "margin_arcsec": margin}
    if engine == "hats-import":
        made = import_hats(pieces, out, **asked, workers=workers)
    else:
        made = write_hats(pieces, out, **asked)
    rows, cells = int(made.properties.get("hats_nrows", 0)), len(made.partitions)
    print(
        f"{out}: {rows:,} objects in {cells} partitions; open it with omnisky.read or lsdb.open_catalog({str(out)!r})"
    )


def _said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
