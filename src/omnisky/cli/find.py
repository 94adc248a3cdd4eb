"""`omnisky index`, `search`, `odd` and `label`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omnisky.errors import BadValue


def index(*sides: str, out: Path = Path("index"), about: Path | None = None, exact: bool = False) -> None:
    """Make an index to search in: omnisky index image=images.parquet spectrum=spectra.parquet --about catalogue/.

    Parameters
    ----------
    sides
        NAME=FILE each, Parquet, FITS or HATS catalogues of `omnisky embed`; several must be of one aligned model.
    out
        The folder of the index.
    about
        Numbers of the same objects to filter by, such as redshifts: a folder or file that `omnisky.read` opens.
    exact
        Compare with all, also of two million objects and more, which otherwise get a graph (extra "ann").
    """
    from omnisky.embed import Embedding
    from omnisky.observe.read import read
    from omnisky.search import GRAPH_FROM, Index

    named = dict(word.partition("=")[::2] for word in sides)
    if not named or not all(named.values()):
        raise BadValue("sides", saw=sides, want="NAME=FILE …", hint="image=images.parquet")
    catalogue = None if about is None else read(about)
    found = {name: Embedding.load(file) for name, file in named.items()}
    made = Index(found, catalogue=catalogue, graph_from=None if exact else GRAPH_FROM)
    made.save(out)
    print(f"{out}: {len(made)} objects; ask it with omnisky search --index {out}")


def search(
    *,
    index: Path = Path("index"),
    ra: float | None = None,
    dec: float | None = None,
    like: tuple[str, ...] = (),
    unlike: tuple[str, ...] = (),
    by: str = "",
    across: str = "",
    k: int = 10,
    radius: float = 5.0,
    cone: tuple[float, float, float] | None = None,
    where: tuple[str, ...] = (),
    json: bool = False,
) -> None:
    """Find look-alikes, in one modality or across: omnisky search --ra 150.1 --dec 2.2 --across spectrum.

    Parameters
    ----------
    index
        A folder of `omnisky index`.
    ra, dec
        Of the object asked about, deg.
    like
        Ids of objects asked about; of several, the mean counts.
    unlike
        Ids of what is not meant.
    by
        The modality of what is asked about; the first one of the index if not given.
    across
        The modality of the answers, if another.
    k
        How many.
    radius
        How far from RA, DEC the object may be, arcsec.
    cone
        Only answers in this circle: RA DEC RADIUS, deg.
    where
        Only answers with this number between these: redshift=0.1:0.3, r_mag=:19.
    json
        Print one JSON line an answer instead of a table.
    """
    from json import dumps

    from omnisky.observe.place import Cone
    from omnisky.search import Index, Where
    from omnisky.watch import show_table

    made = Index.open(index)
    if (ra is None) != (dec is None) or (ra is None and not like):
        raise BadValue("what to look for", saw=f"ra {ra}, dec {dec}, like {like}", want="--ra and --dec, or --like ID")
    wanted = [*like, *([] if ra is None or dec is None else [made.at(ra, dec, radius)])]
    kept = Where(cone=None if cone is None else Cone(*cone), between=dict(map(_between, where)))
    asked: dict[str, Any] = {"by": by or next(iter(made.sides)), "across": across or None, "where": kept}
    one = len(wanted) == 1 and not unlike
    found = made.like_ids(wanted, k, **asked) if one else made.like_all(wanted, k, unwanted=unlike, **asked)
    answers = made.objects.take(found.rows[0])
    columns = {"object_id": answers.object_id, "similarity": found.similarity[0], "ra": answers.ra, "dec": answers.dec}
    if "scalars" in answers:
        columns |= {name: answers["scalars"][name] for name in answers["scalars"].names}
    rows = [[value.item() for value in row] for row in zip(*columns.values(), strict=True)]
    if json:
        for row in rows:
            print(dumps({name: None if x != x else x for name, x in zip(columns, row, strict=True)}))
    else:
        show_table(tuple(columns), [[x if isinstance(x, str) else f"{x:.6g}" for x in row] for row in rows])


def odd(embeddings: Path, *, k: int = 20, json: bool = False) -> None:
    """Rank objects by how far they lie from all others: omnisky odd images.parquet.

    Parameters
    ----------
    embeddings
        A Parquet catalogue of `omnisky embed`.
    k
        How many to show, the oddest first.
    json
        Print one JSON line an object instead of a table.
    """
    from omnisky.embed import Embedding
    from omnisky.search.odd import oddness

    seen = Embedding.load(embeddings)
    score = oddness(seen)
    _show(seen, (-score).argsort(kind="stable")[:k], {"oddness": score}, json)


def label(embeddings: Path, labels: Path, *, k: int = 20, out: Path | None = None, json: bool = False) -> None:
    """Find more like these and not like those, and what to look at next: omnisky label images.parquet labels.csv.

    Parameters
    ----------
    embeddings
        A Parquet catalogue of `omnisky embed`.
    labels
        A CSV file with the columns object_id and label: 1 yes true like, or 0 no false unlike; empty for not known.
    k
        How many of the likeliest to show.
    out
        A CSV file for the k likeliest and the k of which a label would teach most, to be filled in and joined.
    json
        Print one JSON line an object instead of a table.
    """
    import csv

    from omnisky.embed import Embedding
    from omnisky.search.label import ask, read_labels
    from omnisky.storage import atomic

    seen = Embedding.load(embeddings)
    found = ask(seen, read_labels(labels), k)
    _show(seen, found.best, {"chance": found.chance}, json)
    if out is not None:
        rows = dict.fromkeys([*found.best.tolist(), *found.unsure.tolist()])
        with atomic(out) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            lines = [(seen.object_id[row], "", f"{found.chance[row]:.3f}") for row in rows]
            csv.writer(file, lineterminator="\n").writerows([("object_id", "label", "chance"), *lines])


def _show(seen: Any, rows: Any, more: dict[str, Any], as_json: bool) -> None:
    """Some of the embedded objects, with what was found of each."""
    from json import dumps

    from omnisky.watch import show_table

    columns = {"object_id": seen.object_id, "ra": seen.ra, "dec": seen.dec, **more}
    table = [[column[row].item() for column in columns.values()] for row in rows]
    if as_json:
        for line in table:
            print(dumps({name: None if x != x else x for name, x in zip(columns, line, strict=True)}))
    else:
        show_table(tuple(columns), [[x if isinstance(x, str) else f"{x:.6g}" for x in line] for line in table])


def _between(text: str) -> tuple[str, tuple[float, float]]:
    """redshift=0.1:0.3, either end open."""
    name, _, ends = text.partition("=")
    low, colon, high = ends.partition(":")
    try:
        if colon:
            return name, (float(low or "-inf"), float(high or "inf"))
    except ValueError:
        pass
    raise BadValue("--where", saw=text, want="COLUMN=LOW:HIGH", hint="redshift=0.1:0.3, r_mag=:19")
