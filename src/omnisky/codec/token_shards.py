"""Ids made once and kept: Parquet shards of token ids, and those ids as tokens again.

    object_id  string      ra, dec  double, deg ICRS
    tok_image  fixed_size_list<int16>[576]     one column a modality; null where an object does not have it
    …                                          −1 where a single token is absent

Two bytes a token: an object with an image, a spectrum and photometry takes 2 kB. Any Parquet reader can open them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int16, Integer

from omnisky.codec.book import tokenize as encoded
from omnisky.codec.tokens import Codec, Span, Tokens
from omnisky.errors import BadValue, CorruptFile, ProvenanceError
from omnisky.observe.loader import Source
from omnisky.observe.parts import Part
from omnisky.observe.types import Observation
from omnisky.storage import atomic, recover

_CORE = ("object_id", "ra", "dec")
_OBJECTS = b"omnisky_objects"
"""metadata of each shard: how many objects all of them are to hold"""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredIds(Part):
    """Some rows of a table of ids. Taking rows copies none of it."""

    rows: Integer[np.ndarray, " object"]
    """of the table"""
    table: Int16[np.ndarray, "row token"]
    """−1 where there is no token"""

    def _rows(self) -> dict[str, np.ndarray]:
        return {"rows": self.rows}


@dataclass(frozen=True, kw_only=True)
class IdTokens:
    """Stored ids as tokens."""

    name: str
    """of the tokens, and of the part that holds them"""
    promised_error: ClassVar[str] = "none"

    @property
    def part(self) -> str:
        return self.name

    def encode(self, seen: Observation) -> Tokens:
        """One span; an object that does not have it has no token in it."""
        stored = seen[self.part]
        ids = torch.from_numpy(stored.table[stored.rows].astype(np.int64))
        present, positions = ids >= 0, torch.arange(ids.shape[1]).expand(ids.shape)
        return Tokens({self.name: Span(ids.clamp(min=0), positions, None if bool(present.all()) else present)})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """A table of these ids, in memory. Raises BadValue for ids that two bytes do not hold."""
        table = _two_bytes(self.name, tokens[self.name])
        seen = Observation.of(range(len(table))) if like is None else like
        return seen | {self.part: StoredIds(rows=np.arange(len(table)), table=table)}


def tokenize(  # noqa: PLR0913 - what, by what, where to, how much at once, whose part, who looks on
    codecs: Sequence[Codec],
    seen: Observation | Source,
    folder: str | Path,
    *,
    shard: int = 4096,
    batch: int = 64,
    signature: str = "",
    keep: Callable[[Observation, Tokens], Tokens] | None = None,
    part: tuple[int, int] = (0, 1),
    watch: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the ids of all objects as shards into a folder. Killed at any moment, the same call goes on after the last.

    `signature` is of the codecs: shards made by others are refused, and so is a folder of other objects. `keep` takes
    tokens away that an object is not to have. `part` (i, n) writes every n-th shard from the i-th, so that n processes
    write them all. Raises BadValue, ProvenanceError, StorageError.
    """
    folder, (own, parts) = Path(folder), part
    if shard < 1 or batch < 1 or not len(seen):
        raise BadValue(saw=f"{len(seen)} objects, shard={shard}, batch={batch}", want="1 or more of each")
    if not 0 <= own < parts:
        raise BadValue("part", saw=f"{own} of {parts}", want="0 of 1, or 0 … n − 1 of n")
    for start in range(own * shard, len(seen), parts * shard):
        stop, file = min(start + shard, len(seen)), folder / f"{start // shard:06d}.parquet"
        recover(file)
        if file.exists():
            _demand_made_so(file, signature, stop - start, str(seen.take(slice(start, start + 1)).object_id[0]))
        else:
            tables = []
            for first in range(start, stop, batch):
                rows = seen.take(slice(first, min(first + batch, stop)))
                tokens = encoded(rows, codecs)
                tables.append(as_table(rows, tokens if keep is None else keep(rows, tokens), signature))
                if watch is not None and first + len(rows) < stop:
                    watch(first + len(rows), len(seen))
            whole = pa.concat_tables(tables, promote_options="default")
            told = {**(whole.schema.metadata or {}), _OBJECTS: str(len(seen))}
            with atomic(file) as draft:
                pq.write_table(whole.replace_schema_metadata(told), draft, compression="zstd")
        if watch is not None:
            watch(stop, len(seen))
    return folder


def are_token_shards(folder: Path) -> bool:
    """True for folders that `tokenize` wrote into."""
    first = next(iter(sorted(folder.glob("[!.]*.parquet"))), None)
    try:
        return first is not None and b"omnisky_codecs" in (pq.read_schema(first).metadata or {})
    except (OSError, pa.ArrowInvalid):
        return False


def as_table(seen: Observation, tokens: Tokens, signature: str = "") -> pa.Table:
    """One batch: ids and places of the objects, and a column of ids for each modality."""
    columns = {
        "object_id": pa.array(seen.object_id.tolist(), pa.string()),
        "ra": pa.array(seen.ra),
        "dec": pa.array(seen.dec),
    }
    for name, span in tokens.items():
        table = _two_bytes(name, span)
        kind = pa.list_(pa.int16(), table.shape[1])
        absent = pa.array((table < 0).all(1))
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), type=kind, mask=absent)
    return pa.table(columns).replace_schema_metadata({"omnisky_codecs": signature})


def read_shards(folder: str | Path, names: Sequence[str] | None = None) -> Observation:
    """All objects of a folder of shards, a part a modality, in memory: two bytes a token.

    A modality that some shards do not have is absent there. Raises BadValue, CorruptFile (also where shards are yet to
    come), ProvenanceError.
    """
    files = sorted(Path(folder).glob("[!.]*.parquet"))
    if not files:
        raise BadValue(f"no shards in {folder}", want="*.parquet", hint="omnisky.codec.token_shards.tokenize")
    tables = []
    for file in files:
        try:
            schema = pq.read_schema(file)
            wanted = [name for name in schema.names if names is None or name in (*_CORE, *names)]
            tables.append(pq.read_table(file, columns=wanted))
        except (OSError, pa.ArrowInvalid) as error:
            raise CorruptFile(f"{file}: {error}", want="a whole Parquet file", hint="tokenize it again") from error
        if missing := [name for name in _CORE if name not in schema.names]:
            raise CorruptFile(f"{file}", saw=f"no {' '.join(missing)}", want="shards of token ids")
    if len({_made_by(table.schema) for table in tables}) > 1:
        raise ProvenanceError(f"{folder}: shards of several codecs", want="one signature")
    _demand_finished(folder, files, tables)
    whole = pa.concat_tables(tables, promote_options="default")
    rows, parts = np.arange(len(whole)), {}
    for name in whole.column_names:
        if name not in _CORE:
            parts[name] = StoredIds(rows=rows, table=_ids(whole[name]))
    return Observation.of(whole["object_id"].to_pylist(), whole["ra"].to_numpy(), whole["dec"].to_numpy(), **parts)


def _ids(column: pa.ChunkedArray) -> Int16[np.ndarray, "row token"]:
    size = column.type.list_size
    table = np.full((len(column), size), -1, dtype=np.int16)
    start = 0
    for chunk in column.chunks:
        there = np.asarray(chunk.is_valid())
        table[start : start + len(chunk)][there] = chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, size)
        start += len(chunk)
    return table


def _two_bytes(name: str, span: Span) -> Int16[np.ndarray, "row token"]:
    if span.values.is_floating_point() or span.values.ndim != 2:
        raise BadValue(f"tokens of {name!r}", saw="numbers", want="ids")
    ids = torch.where(span.there(), span.values.long(), -1).cpu().numpy()
    if ids.size and (ids.max() > np.iinfo(np.int16).max or ids.min() < -1):
        raise BadValue(f"ids of {name!r}", saw=f"{ids.min()} … {ids.max()}", want="0 … 32767")
    return ids.astype(np.int16)


def _made_by(schema: pa.Schema) -> str:
    return (schema.metadata or {}).get(b"omnisky_codecs", b"").decode()


def _demand_finished(folder: str | Path, files: Sequence[Path], tables: Sequence[pa.Table]) -> None:
    """No number left out, and as many objects as there were to be. Older shards do not say how many."""
    numbers = {int(file.stem) for file in files if file.stem.isdecimal()}
    lacking = [f"{i:06d}" for i in range(max(numbers, default=-1) + 1) if i not in numbers]
    held = sum(len(table) for table in tables)
    want = max(int((table.schema.metadata or {}).get(_OBJECTS, 0)) for table in tables)
    if lacking or held < want:
        gaps = f", no {' '.join(lacking[:3])}{' …' * (len(lacking) > 3)}" if lacking else ""
        raise CorruptFile(
            f"{folder} is not finished",
            saw=f"{held} objects in {len(files)} shards{gaps}",
            want=f"{want} objects" if want else "shards without a gap",
            hint="omnisky tokenize once more, with each --part: it goes on",
        )


def _demand_made_so(file: Path, signature: str, objects: int, first: str) -> None:
    try:
        found = pq.ParquetFile(file)
        ids = found.read(columns=["object_id"])["object_id"]
    except (OSError, pa.ArrowInvalid) as error:
        raise CorruptFile(f"{file}: {error}", want="a whole Parquet file", hint="remove it") from error
    before = (_made_by(found.schema_arrow), len(ids), ids[0].as_py() if len(ids) else "")
    if before != (signature, objects, first):
        raise ProvenanceError(f"{file} holds other tokens", saw=before, want=(signature, objects, first))
