"""Writing that is never seen half-done: into a hidden neighbour first, then renamed into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from omnisky.errors import StorageError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A new, empty name beside `path`: write a file or make a folder there, and it becomes `path` at the end.

    An error inside leaves `path` as it was. Raises StorageError where the disk is full or closed to us, and where a
    folder of other things is in the way.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{uuid4().hex[:8]}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        _settle(draft)
        _swap(draft, path)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"could not write {path}", saw=f"{type(error).__name__}: {error}", hint="another disk, or make room"
        ) from error
    finally:
        _remove(draft)


def demand_no_folder(path: str | Path) -> None:
    """Raises StorageError where a file is to be written and a folder is: all that is in it would go."""
    if Path(path).is_dir():
        raise StorageError("a folder is there", saw=path, want="the name of a file", hint=f"{Path(path) / 'NAME'}")


def _demand_alike(draft: Path, path: Path) -> None:
    """A folder takes the place of an older one of its kind, or of an empty one: never of somebody's other files."""
    new, old = ({one.name for one in folder.iterdir()} for folder in (draft, path))
    if old and not (new & old) - {"README.md"}:
        raise StorageError(
            f"{path} holds other things, which would be lost", saw=tuple(sorted(old)[:4]), want="a new or empty folder"
        )


def _settle(draft: Path) -> None:
    """On the disk itself, so that a power cut after the rename finds whole files."""
    for file in [draft] if draft.is_file() else [f for f in draft.rglob("*") if f.is_file()]:
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
        if file.suffix == ".safetensors":  # written for the owner alone; ours are as readable as any other file
            file.chmod(0o644)


def _swap(draft: Path, path: Path) -> None:
    if not path.is_dir():
        os.replace(draft, path)
        return
    if draft.is_file():
        demand_no_folder(path)
    _demand_alike(draft, path)
    old = path.with_name(f".{path.name}.{uuid4().hex[:8]}.old")  # a folder cannot be replaced in one move
    os.replace(path, old)
    try:
        os.replace(draft, path)
    except BaseException:
        os.replace(old, path)
        raise
    _remove(old)


def recover(path: str | Path) -> None:
    """Put things right beside `path` after a process was killed while writing it: the old folder back, drafts away.

    For who alone writes `path`; another's draft would be removed too.
    """
    path = Path(path)
    for old in sorted(path.parent.glob(f".{path.name}.*.old")):
        if path.exists():
            _remove(old)
        else:
            os.replace(old, path)
    for draft in path.parent.glob(f".{path.name}.*.draft"):
        _remove(draft)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # not there, or a disk that takes nothing: the error on its way says more
            path.unlink()
