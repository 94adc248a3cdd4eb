"""Whole or not at all: whatever goes wrong while writing, what was there stays, and nothing half-done is left."""

import os
from errno import ENOSPC

import pytest

from omnisky.errors import StorageError
from omnisky.storage import atomic, recover


def write(path, text: str, kind: str) -> None:
    """As a file, or as a folder with one file in it."""
    with atomic(path) as draft:
        if kind == "folder":
            draft.mkdir()
        (draft / "file" if kind == "folder" else draft).write_text(text)


def read(path) -> str:
    return (path / "file" if path.is_dir() else path).read_text()


every_kind = pytest.mark.parametrize("kind", ["file", "folder"])


@every_kind
def test_what_was_written_is_there_and_nothing_else(tmp_path, kind):
    path = tmp_path / "new" / "thing"
    write(path, "one", kind)
    write(path, "two", kind)
    assert read(path) == "two"
    assert os.listdir(path.parent) == ["thing"]


@every_kind
def test_until_the_end_the_old_one_is_seen(tmp_path, kind):
    path = tmp_path / "thing"
    write(path, "old", kind)
    with atomic(path) as draft:
        if kind == "folder":
            draft.mkdir()
        (draft / "file" if kind == "folder" else draft).write_text("new")
        assert read(path) == "old"
        assert draft.parent == tmp_path  # on the same disk, or the last move would copy


@every_kind
@pytest.mark.parametrize("error", [OSError(ENOSPC, "No space left on device"), ValueError("ours"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_one_and_no_draft(tmp_path, kind, error):
    path = tmp_path / "thing"
    write(path, "old", kind)
    want = StorageError if isinstance(error, OSError) else type(error)
    with pytest.raises(want) as caught, atomic(path) as draft:
        draft.write_text("half")
        raise error
    assert read(path) == "old"
    assert os.listdir(tmp_path) == ["thing"]
    if want is StorageError:
        assert "thing" in str(caught.value) and "No space left" in str(caught.value)


@pytest.mark.parametrize("fails", [1, 2], ids=["old away", "new in place"])
def test_a_swap_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch, fails):
    path, moves, move = tmp_path / "thing", [], os.replace
    write(path, "old", "folder")

    def broken(a, b):
        moves.append((a, b))
        if len(moves) == fails:
            raise OSError("the cable")
        move(a, b)

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(StorageError, match="the cable"):
        write(path, "new", "folder")
    assert read(path) == "old"
    assert os.listdir(tmp_path) == ["thing"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_folder_of_other_things_is_never_written_over(tmp_path, kind):
    """`omnisky embed model galaxies/ galaxies/` once put a Parquet file where the galaxies had been."""
    path = tmp_path / "galaxies"
    path.mkdir()
    for name in ("g0.png", "README.md"):
        (path / name).write_text("mine")
    with pytest.raises(StorageError, match="galaxies"), atomic(path) as draft:
        if kind == "folder":
            draft.mkdir()
        (draft / "README.md" if kind == "folder" else draft).write_text("new")
    assert sorted(os.listdir(path)) == ["README.md", "g0.png"]
    assert os.listdir(tmp_path) == ["galaxies"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "thing").mkdir()
    write(tmp_path / "thing", "new", "folder")
    assert read(tmp_path / "thing") == "new"


def test_a_closed_folder_is_a_storage_error(tmp_path):
    (tmp_path / "closed").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"could not write .*closed/thing"):
        write(tmp_path / "closed" / "thing", "new", "file")


def test_after_a_kill_between_the_two_moves_the_old_folder_is_put_back(tmp_path):
    old = tmp_path / ".last.0123abcd.old"
    old.mkdir()
    (old / "file").write_text("old")
    (tmp_path / ".last.4567abcd.draft").mkdir()
    recover(tmp_path / "last")
    assert read(tmp_path / "last") == "old"
    assert os.listdir(tmp_path) == ["last"]


def test_after_a_kill_before_the_old_folder_is_removed_the_new_one_stays(tmp_path):
    write(tmp_path / "last", "new", "folder")
    (tmp_path / ".last.0123abcd.old").mkdir()
    (tmp_path / ".other.0123abcd.old").mkdir()
    recover(tmp_path / "last")
    assert read(tmp_path / "last") == "new"
    assert sorted(os.listdir(tmp_path)) == [".other.0123abcd.old", "last"]
