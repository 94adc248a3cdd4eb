"""An index and what its objects look like, as a folder that a page can fetch: numbers in columns, vectors in bytes.

sky.json        what is here: columns, sides, how pictures and spectra are kept
ids.txt         an id a line, in the order of everything else: near on the map, near in the files
columns.bin     places on the map and on the sky, and every number, column after column, little-endian
N.vectors       a side: float32 scale of each object (0: it has none), then its int8s
thumbs/ cutouts/ spectra/       see `looks`
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from omnisky.embed import Embedding
from omnisky.errors import BadValue
from omnisky.observe.loader import Source
from omnisky.observe.types import Image, Labels, Observation, Scalars, Spectrum
from omnisky.search import Index, flat_map
from omnisky.search.flat import FlatMap
from omnisky.serve.looks import Pictures, Spectra, Spool, spread
from omnisky.storage import atomic

FORMAT = 1
_BATCH = 256
_CLASSES = 24
"""more words than this are no classes: nobody tells so many colours apart"""

Watch = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sky:
    """What one map shows."""

    name: str
    """of its folder, and in links"""
    title: str
    index: Index
    seen: Source | None = None
    """images, spectra and numbers of the objects, found by id: any order, some may lack, others are left out"""
    about: str = ""
    """a sentence: what these objects are, and whether they exist"""
    flat: FlatMap | None = None
    """a map of them that was made before, in the order of the index"""

    def __post_init__(self) -> None:
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise BadValue("the name of a sky", saw=self.name, want="letters, digits, - and _")


@dataclass
class _Looks:
    """What was found in `seen`, object by object, in the order of the page."""

    objects: int
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    words: dict[str, np.ndarray] = field(default_factory=dict)
    pictures: Pictures | None = None
    spectra: Spectra | None = None

    def __post_init__(self) -> None:
        self.thumbs, self.cutouts, self.lines = (Spool(self.objects) for _ in range(3))

    def close(self) -> None:
        for spool in (self.thumbs, self.cutouts, self.lines):
            spool.close()


def write_sky(folder: str | Path, sky: Sky, watch: Watch | None = None) -> Path:
    """Lay the objects out on a plane (UMAP with the extra `map`, else PCA) and write all the page needs, or nothing.

    Raises MissingExtra without Pillow where there are images, BadValue, StorageError.
    """
    ids = sky.index.objects.object_id
    if any(set(name) & set("\n\r") for name in ids.tolist()):
        raise BadValue("object ids", saw="a line break in one", want="one line each")
    flat = sky.flat or _flat(sky.index)
    plane = _squared(flat.xy)
    order = morton(plane)
    with closing(_Looks(len(order))) as looks, atomic(folder) as draft:
        _look(looks, sky, order, watch)
        draft.mkdir()
        table = _Columns()
        _positions(table, sky.index.objects.take(order), plane[order])
        has = [looks.thumbs.has(row) + 2 * looks.lines.has(row) for row in range(len(ids))]
        table.add("has", np.asarray(has), "u1", hidden=True)
        _numbers(table, looks)
        (draft / "columns.bin").write_bytes(table.data)
        (draft / "ids.txt").write_text("\n".join(ids[order].tolist()), encoding="utf-8")
        about: dict[str, Any] = {"format": FORMAT, "title": sky.title, "about": sky.about, "count": len(ids)}
        about |= {"signature": sky.index.signature, "map": flat.method, "columns": table.rows}
        about["sides"] = [
            _side(draft / f"{i}.vectors", sky.index, name, order) for i, name in enumerate(sky.index.sides)
        ]
        if looks.pictures is not None:
            about["picture"] = looks.pictures.state()
            looks.thumbs.sheets(draft / "thumbs")
            looks.cutouts.chunks(draft / "cutouts")
        if looks.spectra is not None:
            about["spectrum"] = looks.spectra.state()
            looks.lines.chunks(draft / "spectra")
        (draft / "sky.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    return Path(folder)


def morton(plane: Float[np.ndarray, "object 2"]) -> Integer[np.ndarray, " object"]:
    """Rows along a Z-shaped curve through the square −1 … 1: look-alikes then share their files."""
    cell = ((plane + 1) / 2 * 65535).clip(0, 65535).astype(np.uint64)
    key = np.zeros(len(plane), dtype=np.uint64)
    for bit in range(16):
        for axis in range(2):
            key |= ((cell[:, axis] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(2 * bit + axis)
    return np.argsort(key, kind="stable")


def _flat(index: Index) -> FlatMap:
    """Of one vector an object: of the first side that has it."""
    if len(index) < 3:
        return FlatMap(np.eye(len(index), 2, dtype=np.float32), "side by side")
    first = next(iter(index.sides.values()))
    vectors = np.zeros((len(index), first.units.shape[1]), dtype=np.float32)
    for side in reversed(list(index.sides.values())):
        vectors[side.rows] = side.units
    objects = index.objects
    return flat_map(Embedding(vectors, objects.object_id, objects.ra, objects.dec, index.signature))


def _squared(xy: Float[np.ndarray, "object 2"]) -> Float[np.ndarray, "object 2"]:
    """Into −1 … 1, one scale for both axes; what lies far outside the rest waits at the edge."""
    low, high = np.percentile(xy, (0.1, 99.9), axis=0)
    half = max(float((high - low).max()) / 2 * 1.06, 1e-12)
    return np.clip((xy - (low + high) / 2) / half, -1, 1).astype(np.float32)


# --- columns ------------------------------------------------------------------------------------------------------


class _Columns:
    """Columns one after another, each at a multiple of 8 bytes."""

    def __init__(self) -> None:
        self.data, self.rows = bytearray(), []  # type: tuple[bytearray, list[dict[str, Any]]]

    def add(self, name: str, values: np.ndarray, kind: str, **more: Any) -> None:
        self.data += b"\0" * (-len(self.data) % 8)
        self.rows.append({"name": name, "type": kind, "offset": len(self.data), **more})
        self.data += values.astype(f"<{kind}").tobytes()


def _positions(table: _Columns, objects: Observation, plane: Float[np.ndarray, "object 2"]) -> None:
    table.add("map x", plane[:, 0], "f4", hidden=True)
    table.add("map y", plane[:, 1], "f4", hidden=True)
    table.add("ra", objects.ra, "f8", unit="deg")
    table.add("dec", objects.dec, "f8", unit="deg")


def _numbers(table: _Columns, looks: _Looks) -> None:
    for name, values in looks.numbers.items():
        known = values[np.isfinite(values)]
        kinds = np.unique(known)
        if len(kinds) < 2 or name in ("ra", "dec", "has"):
            continue  # says nothing about who is who
        if len(kinds) <= 12 and (kinds == np.round(kinds)).all() and len(known) > 40:
            words = ("no", "yes") if set(kinds) == {0, 1} else [f"{kind:g}" for kind in kinds]
            classes = np.where(np.isfinite(values), np.searchsorted(kinds, values), 255)
            table.add(name, classes, "u1", names=list(words))
        else:
            low, high = np.percentile(known, (1, 99)).tolist()
            table.add(name, values, "f4", unit=looks.units.get(name, ""), low=low, high=high)
    for name, said in looks.words.items():
        names = sorted(set(said.tolist()) - {""})
        if 2 <= len(names) <= _CLASSES:
            places = [names.index(word) if word else 255 for word in said.tolist()]
            table.add(name, np.asarray(places), "u1", names=names)


def _side(file: Path, index: Index, name: str, order: Integer[np.ndarray, " object"]) -> dict[str, Any]:
    """Unit vectors as bytes: a cosine of two of them is within 0.01 of the true one, mostly within 0.002."""
    side = index.side(name)
    scale = np.zeros(len(index), dtype="<f4")
    whole = np.zeros((len(index), side.units.shape[1]), dtype=np.int8)
    largest = np.maximum(np.abs(side.units).max(axis=1), 1e-12)
    scale[side.rows] = largest / 127
    whole[side.rows] = np.round(side.units / largest[:, None] * 127)
    file.write_bytes(scale[order].tobytes() + whole[order].tobytes())
    return {"name": name, "file": file.name, "width": whole.shape[1], "count": len(side), "mean": side.mean.tolist()}


# --- looks --------------------------------------------------------------------------------------------------------


def _look(looks: _Looks, sky: Sky, order: Integer[np.ndarray, " object"], watch: Watch | None) -> None:
    objects = sky.index.objects.take(order)
    place = {name: row for row, name in enumerate(objects.object_id.tolist())}
    if "scalars" in objects:
        _keep_numbers(looks, objects["scalars"], np.arange(len(order)))
    if sky.seen is None:
        return
    sample = sky.seen.take(np.asarray(spread(len(sky.seen))))
    if (image := _part(sample, Image)) is not None and not (len(image.bands) == 2 or np.prod(image.flux.shape) == 0):
        looks.pictures = Pictures(image)
    if (spectrum := _part(sample, Spectrum)) is not None:
        looks.spectra = Spectra(spectrum)
    for block, done in blocks(sky.seen):
        rows = np.asarray([place.get(name, -1) for name in block.object_id.tolist()])
        ours = rows >= 0
        if ours.any():
            _keep(looks, block.take(ours), rows[ours])
        if watch is not None:
            watch(done, len(sky.seen))


def blocks(seen: Source) -> Iterator[tuple[Observation, int]]:
    """Some rows, and how many that makes; also of an Observation that is larger than memory."""
    for start in range(0, len(seen), _BATCH):
        end = min(start + _BATCH, len(seen))
        yield seen.take(slice(start, end)), end


def _part(seen: Observation, kind: type) -> Any:
    return next((part.take(part.there()) for part in seen.parts.values() if isinstance(part, kind)), None)


def _keep(looks: _Looks, block: Observation, rows: Integer[np.ndarray, " object"]) -> None:
    for part in block.parts.values():
        here = part.there()
        if isinstance(part, Scalars):
            _keep_numbers(looks, part, rows)
        elif isinstance(part, Labels):
            _keep_words(looks, part.columns, rows)
        elif isinstance(part, Image) and looks.pictures is not None and part.bands == looks.pictures.bands:
            flux = part.flux[here]
            thumbs, cutouts = looks.pictures.thumbs(flux), looks.pictures.cutouts(flux)
            for row, thumb, cutout in zip(rows[here].tolist(), thumbs, cutouts, strict=True):
                looks.thumbs.put(row, thumb.tobytes())
                looks.cutouts.put(row, cutout)
        elif isinstance(part, Spectrum) and looks.spectra is not None:
            for row, packed in zip(rows[here].tolist(), looks.spectra.packed(part.take(here)), strict=True):
                looks.lines.put(row, packed)


def _keep_numbers(looks: _Looks, part: Scalars, rows: Integer[np.ndarray, " object"]) -> None:
    for column, name in enumerate(part.names):
        kept = looks.numbers.setdefault(name, np.full(looks.objects, np.nan))
        kept[rows] = part.values[:, column]
        looks.units.setdefault(name, part.units[column] if part.units else "")


def _keep_words(looks: _Looks, columns: Mapping[str, np.ndarray], rows: Integer[np.ndarray, " object"]) -> None:
    for name, said in columns.items():
        kept = looks.words.setdefault(name, np.full(looks.objects, "", dtype=object))
        kept[rows] = [str(word) for word in said.tolist()]
