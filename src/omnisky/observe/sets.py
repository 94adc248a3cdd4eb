"""What is read by its form rather than by its file's ending: addresses, HATS catalogues, shards, plain tables."""

from __future__ import annotations

from pathlib import Path

from omnisky.observe import tables
from omnisky.observe.hats import Hats, is_hats
from omnisky.observe.place import is_remote
from omnisky.observe.shards import Shards, is_shards
from omnisky.observe.types import Observation


def read_set(path: str | Path, survey: str = "") -> Observation | None:
    """All objects of a catalogue or set of shards, at once; None where `path` is none of these.

    Raises what the readers raise: `hats.Hats`, `shards.Shards`, `tables.read_table`.
    """
    if is_remote(path):
        return Hats(path, survey=survey).read()
    path = Path(path).expanduser()
    if path.is_dir():
        if is_hats(path):
            return Hats(path, survey=survey).read()
        return Shards(path).take(slice(None)) if is_shards(path) else None
    name = path.name.lower()
    if path.is_file() and (
        name.endswith(tables.SUFFIXES) or (name.endswith(tables.FITS) and tables.is_catalogue(path))
    ):
        return tables.read_table(path)
    return None
