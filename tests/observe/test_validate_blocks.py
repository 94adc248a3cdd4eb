"""Validation block by block: no more is asked for, or decoded, than a block; and the report is that of the whole."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omnisky.observe.arrow import to_arrow
from omnisky.observe.hats_write import write_hats
from omnisky.observe.read import read
from omnisky.observe.shards import Shards, write_shards
from omnisky.observe.types import Image, Observation, Scalars, Spectrum
from omnisky.observe.validate import validate

N = 240


def sky(n: int = N, side: int = 8) -> Observation:
    """Images, spectra of different lengths, and numbers of which some are no measurement; two ids come twice."""
    draw = np.random.default_rng(0)
    length = 20 + np.arange(n) % 9
    good = np.arange(28) < length[:, None]
    wave = np.where(good, 4000.0 + np.arange(28), np.nan)
    flux = np.where(good, draw.normal(size=(n, 28)), np.nan)
    numbers = np.stack([draw.uniform(size=n), np.where(np.arange(n) % 50 == 7, -99, draw.uniform(size=n))], axis=1)
    ids = [f"o{i}" for i in range(n)]
    ids[n // 2 + 1], ids[n - 1] = ids[2], ids[0]
    return Observation.of(
        ids,
        draw.uniform(0, 360, n),
        np.degrees(np.arcsin(draw.uniform(-1, 1, n))),
        image=Image(flux=draw.normal(size=(n, 2, side, side)).astype(np.float32), bands=("g", "r")),
        spectrum=Spectrum(flux=flux, wavelength_aa=wave, ivar=np.where(good, 1.0, 0.0), good=good),
        scalars=Scalars(values=numbers, names=("z", "mag")),
    )


class Counting:
    """A source that remembers the most rows that it was asked for at once."""

    def __init__(self, seen: Observation) -> None:
        self.seen, self.most = seen, 0

    def __len__(self) -> int:
        return len(self.seen)

    def take(self, index) -> Observation:
        found = self.seen.take(index)
        self.most = max(self.most, len(found))
        return found


def told(report) -> tuple:
    return report.objects, report.findings, sorted(report.summaries, key=lambda one: one.name)


def test_no_more_is_asked_for_than_a_block():
    source = Counting(sky())
    report = validate(source, batch=16)
    assert source.most == 16 and told(report) == told(validate(sky(), batch=N))
    twins = [one.saw for one in report.findings if one.check == "ids unique"]
    assert twins == ["2 ids more than once: o0, o2"]  # far apart, and named in their order


def as_parquet(seen: Observation, folder) -> None:
    """Two files, whose row groups are no blocks."""
    folder.mkdir()
    table = pa.Table.from_batches([to_arrow(seen)])
    for name, rows in (("a", slice(0, 130)), ("b", slice(130, len(seen)))):
        part = table.slice(rows.start, rows.stop - rows.start)
        pq.write_table(part, folder / f"{name}.parquet", row_group_size=50)


WRITERS = {
    "parquet": as_parquet,
    "hats": lambda seen, folder: write_hats(seen, folder, name="sky", max_rows=90, row_group=40),
    "shards": lambda seen, folder: write_shards(seen, folder, shard_bytes=100_000),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_set_on_disk_is_told_as_if_it_were_read_whole(tmp_path, kind):
    WRITERS[kind](sky(), tmp_path / "set")
    whole = validate(read(tmp_path / "set"), batch=N)
    watched: list[tuple[int, int]] = []
    report = validate(tmp_path / "set", batch=7, watch=lambda done, total: watched.append((done, total)))
    assert told(report) == told(whole) and report.objects == N
    assert {one.check for one in report.findings} == {"ids unique", "sentinel"}
    assert watched[-1] == (N, N) and len(watched) > N / 7


def test_shards_are_taken_in_blocks(tmp_path, monkeypatch):
    write_shards(sky(), tmp_path / "shards")
    asked, take = [], Shards.take
    monkeypatch.setattr(Shards, "take", lambda self, index: asked.append(len(found := take(self, index))) or found)
    assert validate(tmp_path / "shards", batch=32).objects == N and max(asked) == 32


def test_a_row_group_is_never_decoded_as_a_whole(tmp_path):
    """16 MB of decoded numbers in one group: what is held at any moment is the compressed bytes and some blocks."""
    flux = np.repeat(np.random.default_rng(0).normal(size=(1000, 1)), 4096, axis=1).astype(np.float32)
    seen = Observation.of(range(1000), image=Image(flux=flux.reshape(1000, 1, 64, 64), bands=("r",)))
    pq.write_table(pa.Table.from_batches([to_arrow(seen)]), tmp_path / "a.parquet", compression="zstd")
    del seen
    before, held = pa.total_allocated_bytes(), []
    report = validate(
        tmp_path / "a.parquet", batch=20, watch=lambda done, total: held.append(pa.total_allocated_bytes() - before)
    )
    assert report.objects == 1000 and max(held) < flux.nbytes / 3


def test_a_file_that_is_damaged_is_named_and_the_others_are_looked_at(tmp_path):
    as_parquet(sky(), tmp_path / "set")
    whole = (tmp_path / "set" / "b.parquet").read_bytes()
    (tmp_path / "set" / "b.parquet").write_bytes(whole[: len(whole) // 2])
    report = validate(tmp_path / "set", batch=16)
    unread = [one for one in report.findings if one.check == "readable"]
    assert len(unread) == 1 and unread[0].where.endswith("b.parquet") and report.objects == 130


def test_images_of_two_sizes_are_no_set(tmp_path):
    """Each file by itself is sound; read as a whole, they would not fit."""
    for name, side in (("a", 8), ("b", 9)):
        seen = sky(20, side)
        seen = replace(seen, object_id=np.array([f"{name}{i}" for i in range(20)]))
        pq.write_table(pa.Table.from_batches([to_arrow(seen)]), tmp_path / f"{name}.parquet")
    sizes = [(one.where, one.saw, one.serious) for one in validate(tmp_path).findings if one.check == "sizes"]
    assert sizes == [("image", "2×8×8, 2×9×9", True)]
