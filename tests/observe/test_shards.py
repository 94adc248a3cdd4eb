"""Shards hold what was written, in an order that the seed decides; a run killed anywhere goes on to the same bytes."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnisky.errors import BadValue, CorruptFile, MissingModality, ObservationError, ShapeMismatch, StorageError
from omnisky.observe import pieces as on_disk
from omnisky.observe.loader import Bookmark, Chosen, Loader, of_parts
from omnisky.observe.shards import Shards, shuffled, write_shards
from omnisky.observe.types import Image, Labels, LightCurve, Observation, Scalars, Spectrum

N = 23


def sky(n: int = N, start: int = 0) -> Observation:
    """Every row of every part carries its own number."""
    row = np.arange(start, start + n, dtype=np.float32)
    good = np.arange(6) < (row % 5 + 1)[:, None]
    return Observation.of(
        row.astype(int),
        ra=row.astype(float) * 7 % 360,
        dec=row.astype(float) % 90,
        image=Image(
            flux=np.tile(row[:, None, None, None], (1, 2, 16, 16)),
            bands=("g", "r"),
            survey="sdss",
            present=row % 3 != 2,
        ),
        spectrum=Spectrum(flux=np.tile(row[:, None], (1, 5)), wavelength_aa=np.tile(np.arange(5.0), (n, 1))),
        lightcurve=LightCurve(
            flux=np.where(good, row[:, None], np.nan),
            time_mjd=np.where(good, np.arange(6.0), np.nan),
            band=np.zeros((n, 6), dtype=np.int64),
            bands=("r",),
            good=good,
        ),
        scalars=Scalars(values=np.stack([row, -row], axis=1), names=("z", "w"), units=("", "mag")),
        labels=Labels(columns={"kind": np.array([f"k{i}" for i in row.astype(int)]), "bits": row.astype(np.int64)}),
    )


def in_pieces(seen: Observation, size: int = 5) -> list[Observation]:
    return [seen.take(slice(i, i + size)) for i in range(0, len(seen), size)]


def check(seen: Observation) -> None:
    """All parts of a row belong to its object."""
    row = seen.object_id.astype(float)
    here = seen["image"].there()
    assert here.tolist() == (row % 3 != 2).tolist()
    assert (seen["image"].flux[here] == row[here][:, None, None, None]).all()
    assert np.isnan(seen["image"].flux[~here]).all()
    assert (seen["spectrum"].flux == row[:, None]).all()
    assert (seen["spectrum"].wavelength_aa == np.arange(5)).all()
    assert seen["lightcurve"].good.sum(axis=1).tolist() == (row % 5 + 1).tolist()
    assert (np.nan_to_num(seen["lightcurve"].flux) == row[:, None] * seen["lightcurve"].good).all()
    assert (seen["scalars"]["w"] == -row).all() and seen["scalars"].units == ("", "mag")
    assert seen["labels"]["kind"].tolist() == [f"k{int(i)}" for i in row]
    assert (seen["labels"]["bits"] == row).all()
    assert (seen.ra == row * 7 % 360).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "made"
    write_shards(in_pieces(sky()), path, seed=4, shard_bytes=20_000, licences=["CC BY 4.0"], sources=["mock"])
    return path


# --- what was written ---------------------------------------------------------------------------------------------


def test_every_object_once_in_an_order_of_the_seed(folder):
    shards = Shards(folder)
    seen = shards.take(slice(None))
    check(seen)
    assert seen.object_id.astype(int).tolist() == shuffled(N, 4).tolist()
    assert len(shards.paths) > 2 and len(shards) == N


def test_the_index_says_where_each_object_is(folder):
    shards = Shards(folder)
    lines = shards.index.to_pylist()
    assert list(lines[0]) == ["object_id", "ra", "dec", "_healpix_29", "shard", "row"]
    whole = shards.take(slice(None))
    assert [line["object_id"] for line in lines] == whole.object_id.tolist()
    assert all(shards.starts[line["shard"]] + line["row"] == i for i, line in enumerate(lines))


def test_the_manifest_counts_and_names(folder):
    told = json.loads((folder / "manifest.json").read_text())
    assert told["objects"] == N and told["present"]["image"] == sum(i % 3 != 2 for i in range(N))
    assert told["licences"] == ["CC BY 4.0"] and told["sources"] == ["mock"] and told["seed"] == 4
    assert told["repeated_ids"] == 0 and sum(one["rows"] for one in told["shards"]) == N
    Shards(folder).verify()


def test_nothing_else_is_left_in_the_folder(folder):
    kinds = sorted({path.suffix for path in folder.iterdir()})
    assert kinds == [".arrow", ".json", ".parquet"]


@settings(max_examples=30)
@given(st.lists(st.integers(-N, N - 1), max_size=12))
def test_take_is_like_that_of_an_observation(folder, index):
    shards = Shards(folder)
    some = shards.take(np.array(index, dtype=int))
    check(some)
    assert some.object_id.tolist() == shards.take(slice(None)).take(np.array(index, dtype=int)).object_id.tolist()


def test_booleans_choose_and_rows_beyond_are_refused(folder):
    shards = Shards(folder)
    assert len(shards.take(np.arange(N) % 2 == 0)) == 12
    with pytest.raises(IndexError):
        shards.take(np.array([N]))


def test_some_parts_and_columns(folder):
    some = Shards(folder, parts=("image", "w")).take([0, 1])
    assert list(some.parts) == ["image", "scalars"] and some["scalars"].names == ("w",)
    with pytest.raises(BadValue, match="spectra"):
        Shards(folder, parts=("spectra",))


def test_parts_may_be_left_out_of_shards_that_are_open(folder):
    shards = Shards(folder)
    shards.take([0])  # what was opened for all parts is not what fewer are read with
    narrow = shards.of_parts(("image",))
    assert list(narrow.take([0, 1]).parts) == ["image"] and len(shards.take([0]).parts) == 5
    np.testing.assert_array_equal(narrow.take([3])["image"].flux, shards.take([3])["image"].flux)
    assert Shards(folder, parts=("image", "w")).of_parts(("scalars",)).take([0])["scalars"].names == ("w",)
    chosen = of_parts(Chosen(shards, np.array([4, 2])), ("scalars",)).take([1])
    assert list(chosen.parts) == ["scalars"] and chosen.object_id == shards.take([2]).object_id
    with pytest.raises(MissingModality, match="spectra"):
        shards.of_parts(("spectra",))
    whole = sky()
    assert of_parts(whole, ("image",)) is whole  # in memory anyway


def test_a_batch_is_the_callers_own(folder):
    """Shards are mapped into memory: a change must stay in the batch."""
    shards = Shards(folder)
    shards.take([0])["image"].flux[:] = -1
    check(shards.take([0]))


def test_pieces_of_different_lengths_and_parts_become_one_set(tmp_path):
    first, second = sky(4), sky(4, start=4)
    long = replace(second["lightcurve"], **{k: v[:, :3] for k, v in second["lightcurve"]._rows().items()})
    pieces = [first, second | {"lightcurve": long}, Observation.of(["alone"])]
    seen = write_shards(pieces, tmp_path / "s").take(slice(None))
    alone = seen.take(seen.object_id == "alone")
    assert not any(part.there().any() for part in alone.parts.values())
    assert seen["lightcurve"].flux.shape == (9, 6)
    assert seen["labels"]["kind"][seen.object_id == "7"] == "k7"


def test_pieces_that_do_not_fit_are_refused(tmp_path):
    other = sky(2) | {"image": replace(sky(2)["image"], bands=("g", "z"))}
    with pytest.raises(ShapeMismatch, match=r"image\.bands"):
        write_shards([sky(2), other], tmp_path / "s")


def test_the_order_is_the_same_with_every_numpy():
    assert shuffled(8, 0).tolist() == ORDER_OF_SEED_0
    assert sorted(shuffled(1000, 7)) == list(range(1000))
    corr = np.corrcoef(np.arange(10_000), shuffled(10_000, 1))[0, 1]
    assert abs(corr) < 0.05  # 5 sigma of 1/sqrt(10,000)


ORDER_OF_SEED_0 = [4, 3, 7, 0, 1, 2, 6, 5]
"""reckoned with plain integers"""

# --- killed -------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Like SIGKILL, nothing catches it; what SIGKILL leaves lying about is made by hand below."""


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("at", range(0, 24, 3))
def test_a_run_killed_anywhere_goes_on_to_the_same_bytes(folder, tmp_path, monkeypatch, at):
    count = 0
    real = on_disk.atomic

    def dying(path):
        nonlocal count
        count += 1
        if count == at + 1:
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / f".{path.name}.0badcafe.draft").write_bytes(b"half")  # as a real kill leaves it
            raise Killed
        return real(path)

    target = tmp_path / "again"
    with monkeypatch.context() as patched:
        patched.setattr("omnisky.observe.pieces.atomic", dying)
        patched.setattr("omnisky.observe.shards.atomic", dying)
        try:
            write_shards(in_pieces(sky()), target, seed=4, shard_bytes=20_000, licences=["CC BY 4.0"], sources=["mock"])
            assert count <= at
        except Killed:
            assert not (target / "manifest.json").exists()
            with pytest.raises(ObservationError):
                Shards(target)
    again = write_shards(in_pieces(sky()), target, seed=4, shard_bytes=20_000, licences=["CC BY 4.0"], sources=["mock"])
    check(again.take(slice(None)))
    assert files(target) == files(folder)
    assert not (target / ".scratch").exists()


def test_a_process_that_is_really_killed_leaves_only_whole_files(folder, tmp_path):
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_shards import in_pieces, sky
from omnisky.observe.shards import write_shards

def slowly():
    for piece in in_pieces(sky()):
        yield piece
        time.sleep(0.05)

write_shards(slowly(), {str(tmp_path / "s")!r}, seed=4, shard_bytes=20_000, licences=["CC BY 4.0"], sources=["mock"])
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    while not (tmp_path / "s" / ".scratch" / "piece-000002.arrow").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    write_shards(in_pieces(sky()), tmp_path / "s", seed=4, shard_bytes=20_000, licences=["CC BY 4.0"], sources=["mock"])
    assert files(tmp_path / "s") == files(folder)


def test_pieces_that_are_on_disk_are_not_asked_for_again(tmp_path, monkeypatch):
    asked = []

    class Source:
        def __len__(self):
            return N

        def take(self, index):
            asked.append(index.start)
            if asked.count(index.start) == 1 and index.start == 10:
                raise Killed
            return sky().take(index)

    monkeypatch.setattr("omnisky.observe.pieces._AT_ONCE", 5)
    with pytest.raises(Killed):
        write_shards(Source(), tmp_path / "s")
    check(write_shards(Source(), tmp_path / "s").take(slice(None)))
    assert asked == [0, 5, 10, 10, 15, 20]


def test_going_on_with_other_objects_or_settings_is_refused(tmp_path):
    def some(seen, then):
        yield seen
        raise then

    with pytest.raises(Killed):
        write_shards(some(sky(4), Killed()), tmp_path / "s", seed=1)
    with pytest.raises(BadValue, match="begun otherwise"):
        write_shards([sky(4)], tmp_path / "s", seed=2)
    with pytest.raises(BadValue, match="other objects"):
        write_shards(iter([sky(4, start=9)]), tmp_path / "s", seed=1)


def test_a_finished_folder_is_only_opened(folder):
    before = files(folder)
    write_shards([], folder, seed=4, shard_bytes=20_000, licences=["CC BY 4.0"], sources=["mock"])
    assert files(folder) == before
    with pytest.raises(BadValue, match="another folder"):
        write_shards(in_pieces(sky()), folder, seed=5)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(BadValue, match="other things"):
        write_shards([sky(2)], tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_nothing_to_write_is_said(tmp_path):
    with pytest.raises(ObservationError, match="nothing to write"):
        write_shards([], tmp_path / "s")


def test_a_disk_that_is_full_is_named(tmp_path, monkeypatch):
    def full(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("omnisky.observe.pieces.pa.ipc.new_file", full)
    with pytest.raises(StorageError, match="No space left"):
        write_shards([sky(2)], tmp_path / "s")


# --- broken -------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_a_truncated_or_missing_shard_is_named(broken):
    last = sorted(broken.glob("shard-*"))[-1]
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(CorruptFile, match=last.name):
        Shards(broken).take(slice(None))
    last.unlink()
    with pytest.raises(CorruptFile, match=last.name):
        Shards(broken).take(slice(None))


def test_a_flipped_byte_is_found_by_verify(broken):
    last = sorted(broken.glob("shard-*"))[-1]
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    with pytest.raises(CorruptFile, match=last.name):
        Shards(broken).verify()


def test_a_file_deleted_while_it_is_read_does_no_harm(broken):
    shards = Shards(broken)
    shards.take(slice(None))
    for path in broken.glob("shard-*"):
        path.unlink()
    check(shards.take(slice(None)))  # what is mapped stays


def test_a_manifest_that_is_none_is_named(broken):
    (broken / "manifest.json").write_text("{")
    with pytest.raises(CorruptFile, match="manifest"):
        Shards(broken)
    with pytest.raises(ObservationError, match="check the path"):
        Shards(broken / "nowhere")


# --- through the loader -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_reads_shards(folder, workers):
    loader = Loader(Shards(folder), 4, seed=3, workers=workers)
    batches = list(islice(loader, 10))
    for batch in batches:
        check(batch)
    assert len({name for batch in batches[:5] for name in batch.object_id}) == 20
    rest = list(islice(Loader(Shards(folder), 4, seed=3, bookmark=Bookmark(0, 5)), 5))
    assert [b.object_id.tolist() for b in rest] == [b.object_id.tolist() for b in batches[5:]]
