"""One vector per object, signed by what made it, on disk as catalogue columns; and the states of all tokens."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

from omnisky.codec.tokens import encode_all
from omnisky.embed import fits
from omnisky.errors import BadValue, CorruptFile, ProvenanceError, StorageError
from omnisky.model import store
from omnisky.model.distill import Distill
from omnisky.observe.hats import Hats
from omnisky.observe.loader import Source, of_parts, turned
from omnisky.observe.types import Image, Observation
from omnisky.storage import atomic, recover
from omnisky.train.devices import Place, here

VIEWS = ((0, 1.0), (5, 0.88), (2, 1.12), (7, 0.95), (1, 1.05), (4, 0.92), (3, 1.08), (6, 1.0))
"""how an object is looked at again: (which symmetry of the square, zoom), in the order in which views are added"""

PARQUET = (".parquet", ".pq")
"""how the names of such files end"""

Watch = Callable[[int, int], None]
"""(objects done, objects in all)"""


@dataclass(frozen=True, eq=False)
class Embedding:
    """One vector per object, in the order of the observations."""

    vectors: Float[np.ndarray, "object width"]
    object_id: np.ndarray
    """strings"""
    ra: Float[np.ndarray, " object"]
    """deg, ICRS; NaN where not known"""
    dec: Float[np.ndarray, " object"]
    """deg, ICRS; NaN where not known"""
    signature: str
    """of the model, its codecs, the layer and the pooling: only equal ones may be compared"""

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, index: Any) -> Embedding:
        """The chosen objects, in the order asked for."""
        return Embedding(self.vectors[index], self.object_id[index], self.ra[index], self.dec[index], self.signature)

    def table(self) -> pa.Table:
        """object_id, ra, dec and `embedding`, a fixed-size list of float32; the signature is in the metadata."""
        flat = pa.array(np.ascontiguousarray(self.vectors, dtype=np.float32).ravel())
        columns = {
            "object_id": pa.array(self.object_id.tolist(), pa.string()),
            "ra": pa.array(self.ra),
            "dec": pa.array(self.dec),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, self.vectors.shape[1]),
        }
        return pa.table(columns).replace_schema_metadata({"omnisky_signature": self.signature})

    @classmethod
    def of(cls, table: pa.Table) -> Embedding:
        """What `table` made."""
        column = table["embedding"].combine_chunks()
        vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)
        ids = np.asarray(table["object_id"].to_pylist(), dtype=np.str_)
        signed = (table.schema.metadata or {}).get(b"omnisky_signature", b"").decode()
        return cls(vectors, ids, table["ra"].to_numpy(), table["dec"].to_numpy(), signed)

    def save(self, path: str | Path) -> Path:
        """A Parquet file, or by the name a FITS table; whole or not at all. Raises StorageError, BadValue."""
        if fits.is_fits(path):
            fits.write(self.table(), path)
            return Path(path)
        with atomic(path) as draft:
            pq.write_table(self.table(), draft)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Embedding:
        """What `save` wrote, or `embed_hats`: a catalogue's objects come partition by partition, all into memory.

        Raises CorruptFile, naming it; also for a catalogue that was begun and not finished.
        """
        if fits.is_fits(path):
            return cls.of(fits.read(path))
        if Path(path).is_dir() and not (Path(path) / "hats.properties").exists():
            raise CorruptFile(str(path), saw="no hats.properties", want="a finished catalogue", hint="embed it again")
        files = [file.open() for file in Hats(path).files] if Path(path).is_dir() else [path]
        try:
            return cls.of(pa.concat_tables([pq.ParquetFile(file).read() for file in files]))
        except (pa.ArrowException, OSError, KeyError, AttributeError) as error:
            raise CorruptFile(f"{path}: {error}", want="a Parquet file of omnisky embed") from error


class Embedder:
    """A model made ready once: hashed, its layer chosen, a copy of it in its precision. Calling it changes nothing.

    `part` leaves all other parts of the objects out. Raises BadValue.
    """

    def __init__(
        self, model: nn.Module, *, part: str | None = None, blocks: int | None = None, precision: str = "fp32"
    ) -> None:
        model = reader(model)
        self.signature = signature(model, blocks, precision)
        self.part, self.place = part, here(precision)
        self._layer = model.centre if blocks is None else blocks
        self._codecs, self._device = model.codecs, next(model.parameters()).device
        self._lean = self.place.lean(model.eval())

    def __call__(self, seen: Observation) -> Embedding:
        """Of one or more objects, all at once. Raises what the model's codecs raise of bad observations."""
        tokens = encode_all(self._codecs, only(seen, self.part)).to(self._device)
        with torch.inference_mode(), self.place.autocast():
            vectors = self._lean.vectors(tokens, blocks=self._layer).float()
        return Embedding(vectors.cpu().numpy(), seen.object_id, seen.ra, seen.dec, self.signature)


def embed(
    model: nn.Module,
    seen: Observation | Source,
    *,
    part: str | None = None,
    blocks: int | None = None,
    batch: int = 64,
    precision: str = "fp32",
    watch: Watch | None = None,
) -> Embedding:
    """What the model makes of each object (AstroPT, SpecFormer: the mean over tokens; AstroDINO: the class token) after
    `blocks` blocks; None is the model's own layer for this (AstroPT: one more than half of them, as its authors do).
    Blocks after that one are not computed. Ids and order are kept.

    `part` leaves all others out: AstroCLIP wants "image" or "spectrum", and signs both alike, for they may be compared.
    `precision` is fp32 or bf16, which is faster where the processor multiplies it, and fp32 by another name elsewhere.
    Raises BadValue, and what the model's codecs raise of bad observations.
    """
    pieces = list(_pieces(model, only(seen, part), blocks, batch, precision, watch, 0))
    return _joined(pieces)


@dataclass(frozen=True)
class _OnePart:
    """A source of one part of another's objects."""

    source: Source
    part: str

    def __len__(self) -> int:
        return len(self.source)

    def take(self, index: Any) -> Observation:
        return only(self.source.take(index), self.part)


def only(seen: Observation | Source, part: str | None) -> Any:
    """The same objects with that part alone, and no other read where the source can leave them out; None leaves them
    as they are. Raises MissingModality.
    """
    if part is None:
        return seen
    if not isinstance(seen, Observation):
        return _OnePart(of_parts(seen, (part,)), part)
    return Observation(seen.object_id, seen.ra, seen.dec, {part: seen[part]})


def embed_file(  # noqa: PLR0913 - as many settings as `embed`, and a file
    model: nn.Module,
    seen: Observation | Source,
    path: str | Path,
    *,
    part: str | None = None,
    blocks: int | None = None,
    batch: int = 64,
    precision: str = "fp32",
    part_size: int = 4096,
    watch: Watch | None = None,
) -> Path:
    """`embed` into one Parquet or FITS file, by way of parts of `part_size` objects: a killed call goes on after them.

    Raises ProvenanceError where the parts on disk were made otherwise, StorageError, BadValue.
    """
    fits.demand_writable(path)
    path, parts = Path(path), Path(f"{path}.parts")
    stamp = {"signature": signature(model, blocks, precision), "objects": len(seen), "part_size": part_size}
    stamp |= {"part": part} if part else {}
    _demand_same(parts, stamp)
    starts, chosen = range(0, len(seen), part_size), only(seen, part)
    for i, start in enumerate(starts):
        file = parts / f"{i:05d}.parquet"
        if file.exists():
            continue
        rows = chosen.take(slice(start, start + part_size))
        piece = _joined(list(_pieces(model, rows, blocks, batch, precision, watch, start, len(seen))))
        _sign(parts, stamp)  # not before there is something: a call that fails at once leaves nothing behind
        piece.save(file)
    whole = pa.concat_tables([pq.read_table(parts / f"{i:05d}.parquet") for i in range(len(starts))])
    Embedding.of(whole).save(path)
    for file in parts.iterdir():
        file.unlink()
    parts.rmdir()
    return path


def token_states(
    model: nn.Module,
    seen: Observation,
    *,
    blocks: int | None = None,
    views: int = 1,
    batch: int = 128,
    precision: str = "bf16",
    file: Path | None = None,
    watch: Watch | None = None,
) -> Float[np.ndarray, "row token width"]:
    """The states of every token, as float16, for heads that read tokens: (object · views, token, width).

    With `views` > 1 each object comes that many times in a row, its images turned, mirrored and zoomed by up to 12 %
    as `VIEWS` says (1 … 8). With `file` the answer lies in that .npy file, memory-mapped: it is large (58 kB a row
    for omnisky-nano). A file that is there already is taken as the answer; a killed call leaves none.
    Raises BadValue, StorageError, and what the model's codecs raise of bad observations.
    """
    if not 1 <= views <= len(VIEWS):
        raise BadValue("views", saw=views, want=f"1 … {len(VIEWS)}")
    if not len(seen):
        raise BadValue(saw="no objects", want="at least one")
    place, layer = here(precision), model.centre if blocks is None else blocks
    if file is None:
        return _rows_of(_states_in(None, model, seen, layer, views, batch, place, watch))
    if not file.exists():
        recover(file)
        with atomic(file) as draft:
            _states_in(draft, model, seen, layer, views, batch, place, watch)
    return _rows_of(np.load(file, mmap_mode="c"))


def _states_in(
    draft: Path | None,
    model: nn.Module,
    seen: Observation,
    layer: int,
    views: int,
    batch: int,
    place: Place,
    watch: Watch | None,
) -> np.ndarray:
    """(object, view, token, width), in memory or in an .npy file of that name."""
    device = next(model.parameters()).device
    lean, answer = place.lean(model.eval()), np.empty(0)
    for start in range(0, len(seen), batch):
        rows = seen.take(slice(start, start + batch))
        with torch.inference_mode(), place.autocast():
            for k, (turn, zoom) in enumerate(VIEWS[:views]):
                tokens = encode_all(model.codecs, zoomed(turned(rows, turn), zoom)).to(device)
                states = lean.states(tokens, blocks=layer).half().cpu().numpy()
                if not len(answer):
                    answer = _room((len(seen), views, *states.shape[1:]), draft)
                answer[start : start + len(rows), k] = states
        if watch is not None:
            watch(start + len(rows), len(seen))
    if isinstance(answer, np.memmap):
        answer.flush()
    return answer


def zoomed(seen: Observation, zoom: float) -> Observation:
    """All images larger by `zoom` about their middles, the same number of pixels, bilinear; past the border it repeats.

    Surface brightness is kept. Images that a zoom of 1 leaves as they are come back as they are.
    """
    if zoom == 1:
        return seen
    images = {name: part for name, part in seen.parts.items() if isinstance(part, Image)}
    return seen | {name: replace(image, flux=_resampled(image.flux, zoom)) for name, image in images.items()}


def _resampled(flux: np.ndarray, zoom: float) -> np.ndarray:
    pixels = torch.from_numpy(np.ascontiguousarray(flux)).float()
    turn = torch.tensor([[1 / zoom, 0, 0], [0, 1 / zoom, 0]]).expand(len(pixels), 2, 3)
    where = F.affine_grid(turn, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, where, padding_mode="border", align_corners=False).numpy()


def _room(shape: tuple[int, ...], draft: Path | None) -> np.ndarray:
    """Raises StorageError where the disk has none: written past its end, a memory-mapped file kills the process."""
    if draft is None:
        return np.empty(shape, dtype=np.float16)
    needed, free = 2 * math.prod(shape), shutil.disk_usage(draft.parent).free
    if needed > free:
        raise StorageError(
            f"no room for the states of {shape[0]:,} objects",
            saw=f"{free / 1e9:.1f} GB free in {draft.parent}",
            want=f"{needed / 1e9:.1f} GB",
            hint="another disk, fewer views or objects",
        )
    return np.lib.format.open_memmap(draft, mode="w+", dtype=np.float16, shape=shape)


def _rows_of(answer: np.ndarray) -> np.ndarray:
    return answer.reshape(-1, *answer.shape[2:])


def reader(model: nn.Module) -> nn.Module:
    """The network that makes a model's vectors: of a DINOv2 pre-training its teacher's vision, else the model itself.

    Raises BadValue for one that makes none: a supervised yardstick, a codec.
    """
    if isinstance(model, Distill):
        return model.encoder()
    if not hasattr(model, "vectors"):
        raise BadValue("no embeddings", saw=type(model).__name__, want="a model that makes a vector of each object")
    return model


def signature(model: nn.Module, blocks: int | None = None, precision: str = "fp32") -> str:
    """What an embedding is signed with. `precision` is what was asked for: where a processor multiplies no bfloat16,
    vectors are exacter, and within bfloat16's rounding of those made elsewhere.
    """
    layer = model.centre if blocks is None else blocks
    return blake2b(f"{store.signature(model)}/{layer}/mean/{precision}".encode(), digest_size=8).hexdigest()


def _pieces(
    model: nn.Module,
    seen: Observation | Source,
    blocks: int | None,
    batch: int,
    precision: str,
    watch: Watch | None,
    done: int,
    total: int | None = None,
) -> Iterator[Embedding]:
    if batch < 1 or not len(seen):
        raise BadValue(saw=f"{len(seen)} objects, batch {batch}", want="at least one of each")
    make = Embedder(model, blocks=blocks, precision=precision)
    for start in range(0, len(seen), batch):
        rows = seen.take(slice(start, start + batch))
        yield make(rows)
        if watch is not None:
            watch(done + start + len(rows), total or len(seen))


def _joined(pieces: list[Embedding]) -> Embedding:
    def join(name: str) -> np.ndarray:
        return np.concatenate([getattr(piece, name) for piece in pieces])

    return Embedding(join("vectors"), join("object_id"), join("ra"), join("dec"), pieces[0].signature)


def _demand_same(parts: Path, stamp: dict) -> None:
    file = parts / "made-by.json"
    if file.exists():
        before = json.loads(file.read_text())
        if before != stamp:
            raise ProvenanceError(f"{parts} was begun otherwise", saw=stamp, want=before, hint=f"remove {parts}")


def _sign(parts: Path, stamp: dict) -> None:
    if not (parts / "made-by.json").exists():
        with atomic(parts / "made-by.json") as draft:
            draft.write_text(json.dumps(stamp))
