"""The workers of the loading comparison. `python -m benchmarks.stored` waits for JSON lines (see harness.py).

Each task prepares an endless row of batches and returns the call that takes the next one and answers for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.loading import BATCH

Answer = Callable[[], np.ndarray]
SEED, PIXELS = 1, 7781
FIELDS = ("image", "flux", "ivar", "good")


def rows(n: int, order: str) -> Iterator[np.ndarray]:
    """Rows of batch after batch: the order that our Loader has with SEED, or the one of the disk."""
    for epoch in count():
        every = np.random.default_rng((SEED, epoch)).permutation(n) if order == "shuffled" else np.arange(n)
        yield from (every[i * BATCH : (i + 1) * BATCH] for i in range(n // BATCH))


def answer(ids: Any, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Of each object its id and the sum over every 37th number of each field."""
    sums = [arrays[name].reshape(len(ids), -1)[:, ::37].astype(np.float64).sum(axis=1) for name in FIELDS]
    return np.stack([np.asarray(ids, dtype=np.float64), *sums])


# --- ours ---------------------------------------------------------------------------------------------------------


def write(folder: Path, n: int) -> Answer:
    """Objects of noise as shards, and, in the order of these, as Parquet for `datasets` and as HDF5."""
    from omnisky.observe.shards import Shards, write_shards

    class Noise:
        def __len__(self) -> int:
            return n

        def take(self, index: slice) -> Any:
            return noise(range(*index.indices(n)))

    def call() -> np.ndarray:
        if not (folder / "hdf5").exists():
            write_shards(Noise(), folder / "shards", seed=SEED)
            shards = Shards(folder / "shards")
            _write_parquet(folder / "parquet", shards)
            _write_hdf5(folder / "hdf5", shards)
        return np.zeros(1)

    return call


def noise(index: range) -> Any:
    from omnisky.observe.types import Image, Observation, Spectrum

    draw, n = np.random.default_rng((SEED, index.start)), len(index)
    flux, ivar = draw.normal(size=(2, n, PIXELS)).astype(np.float32)
    return Observation.of(
        index,
        np.asarray(index) % 360,
        np.zeros(n),
        image=Image(flux=draw.normal(size=(n, 4, 160, 160)).astype(np.float32), bands=tuple("griz")),
        spectrum=Spectrum(
            flux=flux,
            ivar=abs(ivar),
            good=draw.random((n, PIXELS)) > 0.02,
            wavelength_aa=np.tile(3600 + 0.8 * np.arange(PIXELS), (n, 1)),
        ),
    )


def _fields(seen: Any) -> dict[str, np.ndarray]:
    spectrum = seen["spectrum"]
    return {"image": seen["image"].flux, "flux": spectrum.flux, "ivar": spectrum.ivar, "good": spectrum.good}


def _write_parquet(folder: Path, shards: Any) -> None:
    """In row groups of 32; `datasets` makes its own Arrow files of it when it is loaded."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    kinds = {"image": pa.list_(pa.list_(pa.list_(pa.float32()))), "flux": pa.list_(pa.float32())}
    schema = pa.schema([("id", pa.int64()), *kinds.items(), ("ivar", kinds["flux"]), ("good", pa.list_(pa.bool_()))])
    with pq.ParquetWriter(folder / "train.parquet", schema) as writer:
        for start in range(0, len(shards), BATCH):
            seen = shards.take(slice(start, start + BATCH))
            columns = {name: list(values) for name, values in _fields(seen).items() if name != "image"}
            flux = seen["image"].flux
            inner = pa.FixedSizeListArray.from_arrays(pa.array(flux.ravel()), 160)
            planes = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(inner, 160), 4)
            ids = seen.object_id.astype(np.int64)
            writer.write_table(pa.table({"id": ids, "image": planes.cast(kinds["image"]), **columns}).cast(schema))


def _write_hdf5(folder: Path, shards: Any) -> None:
    import h5py

    draft = folder.with_name("hdf5.draft")
    draft.mkdir()
    for style, options in {"contiguous": {}, "gzip": {"compression": "gzip", "chunks": True}}.items():
        with h5py.File(draft / f"{style}.hdf5", "w") as file:
            for start in range(0, len(shards), 256):
                seen = shards.take(slice(start, start + 256))
                for name, values in {"id": seen.object_id.astype(np.int64), **_fields(seen)}.items():
                    if name not in file:
                        file.create_dataset(name, (len(shards), *values.shape[1:]), values.dtype, **options)
                    file[name][start : start + len(values)] = values
    draft.rename(folder)


def shards(folder: Path, n: int, order: str) -> Answer:
    """Ours: the Loader that training uses, or slices one after the other."""
    from omnisky.observe.loader import Loader
    from omnisky.observe.shards import Shards

    source = Shards(folder / "shards")
    batches = iter(Loader(source, BATCH, seed=SEED))
    if order == "sequential":
        batches = (source.take(slice(int(index[0]), int(index[-1]) + 1)) for index in rows(n, order))

    def call() -> np.ndarray:
        seen = next(batches)
        return answer(seen.object_id.astype(np.int64), _fields(seen))

    return call


# --- theirs -------------------------------------------------------------------------------------------------------


def _dataset(folder: Path, streaming: bool = False) -> Any:
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "image": datasets.Array3D((4, 160, 160), "float32"),
            **{name: datasets.List(datasets.Value("float32"), length=PIXELS) for name in ("flux", "ivar")},
            "good": datasets.List(datasets.Value("bool"), length=PIXELS),
        }
    )
    return datasets.load_dataset(
        "parquet",
        data_files=str(folder / "parquet" / "train.parquet"),
        split="train",
        features=features,
        cache_dir=str(folder / "cache"),
        streaming=streaming,
    )


def datasets_batches(folder: Path, n: int, order: str) -> Answer:
    """Rows by their numbers, 32 at once, as numpy arrays."""
    given, batches = _dataset(folder).with_format("numpy"), rows(n, order)

    def call() -> np.ndarray:
        index = next(batches)
        found = given[index.tolist() if order == "shuffled" else slice(int(index[0]), int(index[-1]) + 1)]
        return answer(found["id"], found)

    return call


def datasets_loader(folder: Path, n: int, order: str) -> Answer:
    """A torch DataLoader over rows in torch's format, with its own way of putting rows together."""
    from torch.utils.data import DataLoader

    given = _dataset(folder).with_format("torch")
    batches = iter(DataLoader(given, batch_sampler=[index.tolist() for index in islice(rows(n, order), 20_000)]))

    def call() -> np.ndarray:
        found = {name: values.numpy() for name, values in next(batches).items()}
        return answer(found["id"], found)

    return call


def datasets_stream(folder: Path, n: int, order: str) -> Answer:
    """Parquet read as a stream, with a shuffle buffer of 128."""
    every = _dataset(folder, streaming=True).with_format("numpy")
    known = answer(*_first(every))

    def endless() -> Iterator[dict[str, Any]]:
        for epoch in count():
            yield from every.shuffle(seed=epoch, buffer_size=128).iter(batch_size=BATCH, drop_last_batch=True)

    batches = endless()

    def call() -> np.ndarray:
        found = next(batches)
        said = answer(found["id"], found)
        at = np.flatnonzero(said[0] == known[0, 0])
        assert (said[:, at] == known[:, :1]).all(), "the stream changed an object"
        return said

    return call


def _first(every: Any) -> tuple[Any, dict[str, np.ndarray]]:
    found = next(iter(every.iter(batch_size=BATCH)))
    return found["id"], found


def _hdf5(style: str) -> Callable[..., Answer]:
    def task(folder: Path, n: int, order: str) -> Answer:
        import h5py

        file, batches = h5py.File(folder / "hdf5" / f"{style}.hdf5", "r"), rows(n, order)

        def call() -> np.ndarray:
            index = next(batches)
            rising = np.argsort(index)
            back = np.argsort(rising)
            found = {name: file[name][index[rising]][back] for name in ("id", *FIELDS)}
            return answer(found["id"], found)

        def straight() -> np.ndarray:
            index = next(batches)
            found = {name: file[name][int(index[0]) : int(index[-1]) + 1] for name in ("id", *FIELDS)}
            return answer(found["id"], found)

        return call if order == "shuffled" else straight

    return task


if __name__ == "__main__":
    harness.serve(
        {
            "write": write,
            "shards": shards,
            "datasets_batches": datasets_batches,
            "datasets_loader": datasets_loader,
            "datasets_stream": datasets_stream,
            "hdf5_contiguous": _hdf5("contiguous"),
            "hdf5_gzip": _hdf5("gzip"),
        }
    )
