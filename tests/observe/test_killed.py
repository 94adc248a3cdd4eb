"""Writers that are killed, by SIGKILL and at any moment, or find the disk full: what is there is whole, what is not is
said, and the next run goes on to the very same bytes.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omnisky.errors import ObservationError, StorageError
from omnisky.observe.hats import Hats
from omnisky.observe.hats_write import write_hats
from omnisky.observe.read import read
from omnisky.observe.shards import Shards, write_shards
from omnisky.observe.types import Image, Observation

N, PIECE = 240, 10

WRITE = {
    "shards": lambda pieces, folder: write_shards(pieces, folder, seed=4, shard_bytes=40_000, licences=["CC BY 4.0"]),
    "hats": lambda pieces, folder: write_hats(pieces, folder, name="toys", max_rows=16, row_group=8),
}
DONE = {"shards": "manifest.json", "hats": "collection.properties"}


def sky() -> Observation:
    draw = np.random.default_rng(8)
    flux = draw.normal(size=(N, 2, 16, 16)).astype(np.float32)
    return Observation.of(
        range(N), 40 + draw.uniform(0, 30, N), draw.uniform(-9, 9, N), image=Image(flux=flux, bands=("g", "r"))
    )


def in_pieces() -> list[Observation]:
    return [sky().take(slice(i, i + PIECE)) for i in range(0, N, PIECE)]


def content(folder: Path) -> dict[str, bytes]:
    """All that is visible; footers of Parquet hold no times, so files are equal to the byte."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def visible(folder: Path) -> list[Path]:
    """Files that a reader would look at: nothing in or beside hidden ones."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def demand_whole(path: Path) -> None:
    if path.suffix == ".arrow":
        pa.ipc.open_file(path).get_batch(0).validate(full=True)
    elif path.suffix == ".parquet":
        pq.ParquetFile(path).read()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("form", ["shards", "hats"])
def test_a_process_killed_at_many_moments_leaves_only_whole_files(tmp_path, form):
    """Killed seven times, each a tenth of the work further; then it gets through, to what a run in peace makes."""
    started = time.perf_counter()
    WRITE[form](in_pieces(), tmp_path / "calm")
    tenth = (time.perf_counter() - started) / 10
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_killed import WRITE, in_pieces
pieces = in_pieces()
print("ready", flush=True)
WRITE[{form!r}](pieces, Path({str(tmp_path / "set")!r}))
"""
    kills, folder = 0, tmp_path / "set"
    for _ in range(7):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(tenth)
            process.kill()
        kills += process.returncode == -signal.SIGKILL
        for path in visible(folder) if folder.exists() else ():
            demand_whole(path)
        if not (folder / DONE[form]).exists():
            with pytest.raises(ObservationError):
                read(folder)
    assert kills >= 2
    WRITE[form](in_pieces(), folder)
    assert content(folder) == content(tmp_path / "calm")
    assert sorted(read(folder).object_id.astype(int)) == list(range(N))


@pytest.mark.parametrize("form", ["shards", "hats"])
@pytest.mark.parametrize("room", [0, 5, 24, 30])
def test_a_full_disk_is_named_and_the_next_run_goes_on(tmp_path, monkeypatch, form, room):
    """Room for so many files and no more."""
    WRITE[form](in_pieces(), tmp_path / "calm")
    left = room
    real = pa.OSFile, pq.ParquetWriter

    def full(kind):
        def opened(*args, **more):
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(28, "No space left on device")
            return kind(*args, **more)

        return opened

    with monkeypatch.context() as patched:
        patched.setattr(pa, "OSFile", full(real[0]))
        patched.setattr(pq, "ParquetWriter", full(real[1]))
        with pytest.raises(StorageError, match="No space left"):
            WRITE[form](in_pieces(), tmp_path / "set")
    for path in visible(tmp_path / "set"):
        demand_whole(path)
    assert not list((tmp_path / "set").rglob("*.draft"))
    WRITE[form](in_pieces(), tmp_path / "set")
    assert content(tmp_path / "set") == content(tmp_path / "calm")


def test_an_unfinished_catalogue_is_not_taken_for_a_small_one(tmp_path):
    """All partitions but no collection.properties: the catalogue inside has no hats.properties either."""

    def stopped():
        yield from in_pieces()[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_hats(stopped(), tmp_path / "set")
    for opened in (Hats, Shards):
        with pytest.raises(ObservationError):
            opened(tmp_path / "set").read()
