"""Somebody else's pickle, read without running it."""

from __future__ import annotations

import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from omnisky.errors import CorruptFile, UnsafePickle

_HARMLESS = re.compile(
    r"torch\.(_utils\._rebuild\w+|\w*Storage|storage\.\w+|Size|device|nn\.parameter\.Parameter|(u?int|b?float|bool)\w*)"
    r"|collections\.OrderedDict|_codecs\.encode"
)
"""what a checkpoint of tensors names; only to tell a broken file from a hostile one after both were refused"""


class Inert:
    """Takes the place of a pickled class: keeps what the pickle says of an instance, and does nothing."""

    def __init__(self, *said: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def unpickle(file: Path, inert: tuple[str, ...] = (), dicts: tuple[str, ...] = ()) -> Any:
    """What torch.save wrote, by torch's restricted unpickler: tensors and plain containers, nothing is called.

    Instances of the classes in `inert` ("package.module.Class", or "package." for all in it) become `Inert`, those of
    `dicts`, which derive from dict, an OrderedDict. Zip files are mapped, not read.
    Raises UnsafePickle for a file that names anything else, and CorruptFile for one that breaks off or is no pickle.
    """
    packages = tuple(name for name in inert if name.endswith("."))
    if packages:
        inert = (*inert, *sorted({name for name in _named(file) if name.startswith(packages)}))
    stand_ins = [(Inert, name) for name in inert if name not in dicts] + [(OrderedDict, name) for name in dicts]
    try:
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of the pickle's protocol: the refusal below says enough
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # whatever a broken or hostile file may provoke
        named = [name for name in _named(file) if name not in (*inert, *dicts) and not _HARMLESS.fullmatch(name)]
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if named or "unsupported global" in str(error).lower():
            raise UnsafePickle(
                f"{file} wants to run code; none was run",
                saw=tuple(named[:4]) or reason,
                want="tensors and plain numbers",
                hint="ask its author for safetensors",
            ) from None
        saw = f"{type(error).__name__}: {reason}"
        raise CorruptFile(str(file), saw=saw, want="a whole checkpoint", hint="fetch it again") from error


def _named(file: Path) -> Iterator[str]:
    """The classes and functions a pickle names, read off its opcodes."""
    strings: list[str] = []
    try:
        stream = _pickle_in(file)
        while True:  # old files are several pickles one after the other
            for opcode, said, _ in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    yield str(said).replace(" ", ".")
                elif opcode.name == "STACK_GLOBAL":
                    yield ".".join(strings[-2:])
                elif isinstance(said, str):
                    strings.append(said)
    except Exception:  # where it stops making sense, or ends
        return


def _pickle_in(file: Path) -> BytesIO:
    if not zipfile.is_zipfile(file):
        return BytesIO(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        return BytesIO(archive.read(name))
