"""Training shards: Arrow files of ~256 MB, shuffled through and through when written, mapped into memory when read.

    write_shards(read("cutouts"), "shards", seed=1)
    loader = Loader(Shards("shards"), batch=32, seed=1)

    shards/manifest.json        what it is: counts, hashes, licences, sources, seed; written last, so its being there
                                says that all the rest is
    shards/index.parquet        object_id, ra, dec, _healpix_29 → shard, row
    shards/shard-00000.arrow …  one record batch each, laid out as `observe.layout` tells

Which row comes where is a pure function of the seed and of the order of the input, so reading a shard from its first
row to its last is a random sample of the whole, and a run that was killed goes on to the very same files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Integer

from omnisky.errors import BadValue, CorruptFile, MissingModality, ObservationError
from omnisky.observe.arrow import to_arrow
from omnisky.observe.layout import CORE, Layout
from omnisky.observe.pieces import OPEN, Files, Pieces, begin, finish, open_arrow, save_arrow, save_json, spill
from omnisky.observe.scan import Rows, chosen_columns
from omnisky.observe.schema import KEY, layout_in, only, schema_of
from omnisky.storage import atomic, recover

SHARD_BYTES = 256 << 20
_MANIFEST, _INDEX = "manifest.json", "index.parquet"
_FORMAT = "omnisky shards 1"


class Shards(Files):
    """A folder that `write_shards` made, as a Source: `len` and `take`. A batch is copied once, from the page cache.

    `parts` are the names of parts or of single columns of Scalars to read; None means all. Raises ObservationError
    (nothing there, or not finished), CorruptFile, BadValue (no such part).
    """

    def __init__(self, folder: str | Path, *, parts: Sequence[str] | None = None) -> None:
        self.folder = Path(folder).expanduser()
        self.manifest = _manifest(self.folder)
        held = self.manifest["shards"]
        paths = [self.folder / one["file"] for one in held]
        schema = open_arrow(paths[0]).schema
        layout = layout_in(schema)
        if layout is None or schema_hash(schema) != self.manifest["schema_sha256"]:
            raise CorruptFile(str(paths[0]), saw=schema.names, want="the schema of the manifest")
        self._schema = schema
        super().__init__(paths, [one["rows"] for one in held], layout if parts is None else _some(layout, parts))

    def of_parts(self, names: Iterable[str]) -> Shards:
        """The same objects with these of its parts alone; nothing is opened again. Raises MissingModality."""
        wanted = tuple(names)
        if missing := [name for name in wanted if name not in self.layout.parts]:
            raise MissingModality(saw=tuple(self.layout.parts), want=missing)
        narrow = copy(self)
        narrow.layout = _some(self.layout, wanted)
        narrow._views = lru_cache(OPEN)(narrow._open)
        return narrow

    @property
    def index(self) -> pa.Table:
        """object_id, ra, dec, _healpix_29, shard, row: one line an object, in the order of the rows."""
        return pq.read_table(self.folder / _INDEX)

    def verify(self) -> None:
        """Read every byte and compare with the manifest. Raises CorruptFile, naming the file."""
        for one in [*self.manifest["shards"], self.manifest["index"]]:
            path = self.folder / one["file"]
            found = file_hash(path)
            if found != one["sha256"]:
                raise CorruptFile(str(path), saw=f"sha256 {found}", want=one["sha256"], hint="fetch or write it again")

    def _open(self, file: int) -> Any:
        path, want = self.paths[file], self.manifest["shards"][file]["bytes"]
        found = path.stat().st_size if path.exists() else "no file"
        if found != want:
            raise CorruptFile(str(path), saw=found, want=f"{want} bytes", hint="fetch or write it again")
        views = super()._open(file)
        if not views.batch.schema.equals(self._schema, check_metadata=True):
            raise CorruptFile(str(path), saw="another schema", want="that of the first shard")
        return views


def scan_shards(
    folder: str | Path, parts: tuple[str, ...] | None = None, columns: tuple[str, ...] | None = None
) -> Rows:
    """The shards as a Scan: positions and single columns decide, from memory that is mapped."""
    layout = Shards(folder).layout

    def opened(parts: tuple[str, ...] | None, columns: tuple[str, ...] | None) -> Shards:
        if parts is None and columns is None:
            return Shards(folder)
        return Shards(folder, parts=chosen_columns(layout, folder, parts, columns))

    return Rows(opened, parts, columns)


def is_shards(folder: Path) -> bool:
    """True for folders that `write_shards` made and finished."""
    return (folder / _MANIFEST).exists() and any(folder.glob("shard-*.arrow"))


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    if not path.exists():
        begun = (folder / ".scratch").exists()
        saw = "shards that are not finished" if begun else "no manifest.json" if folder.exists() else "nothing"
        hint = "run write_shards again with the same input; it goes on where it stopped" if begun else "check the path"
        raise ObservationError(str(folder), saw=saw, want="a folder made by write_shards", hint=hint)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != _FORMAT:
            raise CorruptFile(str(path), saw=told["format"], want=_FORMAT)
        return told
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, CorruptFile):
            raise
        raise CorruptFile(str(path), saw=repr(error), want="what write_shards wrote") from error


def _some(layout: Layout, parts: Sequence[str]) -> Layout:
    columns = [column for name in parts for column in (layout.parts[name].columns if name in layout.parts else (name,))]
    known = {column for part in layout.parts.values() for column in part.columns}
    if not set(columns) <= known:
        raise BadValue("parts", saw=tuple(parts), want=(*layout.parts, *sorted(known)))
    return only(layout, columns)


# --- writing ------------------------------------------------------------------------------------------------------


def write_shards(
    pieces: Pieces,
    folder: str | Path,
    *,
    seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
    licences: Sequence[str] = (),
    sources: Sequence[str] = (),
) -> Shards:
    """Write all objects as shuffled shards, and open them. Needs twice their size on disk while it works.

    Called again after it was killed, with the same input and settings, it goes on, and the files are the same to the
    byte as if nothing had happened; called again after it was done, it only opens. `licences` and `sources` go into the
    manifest as they are. Raises BadValue (a folder with other things in it, or begun otherwise), StorageError,
    ShapeMismatch (pieces that measure alike-named parts differently), ObservationError (no objects).
    """
    if shard_bytes < 1:
        raise BadValue("shard_bytes", saw=shard_bytes, want="1 or more, better 256 MB")
    folder = Path(folder).expanduser()
    settings: dict[str, Any] = {
        "seed": seed,
        "shard_bytes": shard_bytes,
        "licences": list(licences),
        "sources": list(sources),
    }
    scratch = begin_shards(folder, **settings)
    if scratch is None:
        return Shards(folder)
    spilled = spill(pieces, scratch)
    order = shuffled(len(spilled), seed)
    count = -(-_bytes(spilled) // shard_bytes)
    edges = np.linspace(0, len(order), min(count, len(order)) + 1).round().astype(np.int64)
    shards = []
    for i, rows in enumerate(np.split(order, edges[1:-1])):
        shards.append(_shard(spilled, rows, folder / f"shard-{i:05d}.arrow", scratch))
    _index(spilled, order, edges, folder / _INDEX)
    told = {
        "format": _FORMAT,
        "objects": len(spilled),
        "present": {name: sum(one["present"][name] for one in shards) for name in spilled.layout.parts},
        "repeated_ids": len(spilled) - len(spilled.core("object_id").unique()),
        **settings,
        "schema_sha256": schema_hash(schema_of(spilled.layout)),
        "index": {"file": _INDEX, "sha256": file_hash(folder / _INDEX)},
        "shards": shards,
    }
    save_json(told, folder / _MANIFEST)
    finish(scratch)
    return Shards(folder)


def begin_shards(
    folder: str | Path,
    *,
    seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
    licences: Sequence[str] = (),
    sources: Sequence[str] = (),
) -> Path | None:
    """The hidden folder that `write_shards` works in, for who must lay out the pieces first; None where all is done.

    It goes when the shards are written. Raises BadValue (a folder with other things in it, or begun otherwise).
    """
    folder = Path(folder).expanduser()
    settings = {"seed": seed, "shard_bytes": shard_bytes, "licences": list(licences), "sources": list(sources)}
    scratch = begin(folder, settings, _MANIFEST)
    if scratch is None:
        held = {key: Shards(folder).manifest[key] for key in settings}
        if held != settings:
            raise BadValue(f"{folder} is finished", saw=settings, want=held, hint="another folder")
    return scratch


def shuffled(n: int, seed: int) -> Integer[np.ndarray, " object"]:
    """The numbers 0 … n − 1 in an order that `seed` alone decides, the same with every version of numpy.

    Sorted by SplitMix64 of (seed, number): Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195.
    """
    start = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "little")
    with np.errstate(over="ignore"):
        lot = (np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) + np.uint64(start)
        lot = (lot ^ (lot >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        lot = (lot ^ (lot >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(lot ^ (lot >> np.uint64(31)), kind="stable")


def schema_hash(schema: pa.Schema) -> str:
    """Of the names and types of all columns and of the layout."""
    told = [[field.name, str(field.type)] for field in schema]
    return hashlib.sha256(json.dumps(told).encode() + (schema.metadata or {}).get(KEY, b"")).hexdigest()


def file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CorruptFile(str(path), saw=error, want="a file that can be read") from error


def _bytes(spilled: Files) -> int:
    return sum(path.stat().st_size for path in spilled.paths)


def _shard(spilled: Files, rows: Integer[np.ndarray, " row"], path: Path, scratch: Path) -> dict[str, Any]:
    """Write one shard, unless it is there; what the manifest says of it."""
    told = scratch / f"{path.stem}.json"
    recover(path)
    if not (told.exists() and path.exists()):
        seen = spilled.take(rows)
        save_arrow(to_arrow(seen, spilled.layout), path)
        about = {"file": path.name, "rows": len(rows), "bytes": path.stat().st_size, "sha256": file_hash(path)}
        save_json(about | {"present": {name: int(part.there().sum()) for name, part in seen.parts.items()}}, told)
    return json.loads(told.read_text(encoding="utf-8"))


def _index(spilled: Files, order: Integer[np.ndarray, " row"], edges: Integer[np.ndarray, " edge"], path: Path) -> None:
    recover(path)
    sizes = np.diff(edges)
    columns = {name: spilled.core(name).take(pa.array(order)) for name in CORE}
    shard = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    row = np.arange(len(order)) - edges[shard]
    table = pa.table(columns | {"shard": shard, "row": row.astype(np.int32)})
    with atomic(path) as draft:
        pq.write_table(table, draft, compression="zstd")
