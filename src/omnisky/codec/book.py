"""All codecs of AION-1 at once: a book of them from a folder or the Hub, and `tokenize` and `detokenize`.

A repository keeps one folder a codec, codecs/<folder>/{config.json, model.safetensors}; `modalities.DOMAINS` says
which folder serves which tokens, `saved` reads and writes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from omnisky.codec.modalities import DOMAINS, PLACE
from omnisky.codec.saved import LEARNED, around, config_of, load_codec, load_network
from omnisky.codec.scalar import ScalarCodec
from omnisky.codec.tokens import Codec, Tokens, beside
from omnisky.errors import MissingModality, UnknownModel
from omnisky.observe.types import Observation, Scalars

PUBLISHED = "polymathic-ai/aion-base"
"""the repository that has them all; the larger models use the same"""


class CodecBook:
    """The codecs of a folder or Hub repository by the name of their tokens, each loaded when it is first used.

    A folder may be that of a model, with `codecs/` in it, or `codecs/` itself.
    """

    def __init__(self, place: str | Path = PUBLISHED, *, revision: str | None = None) -> None:
        self.place, self.revision = place, revision
        local = Path(place)
        self._local = (local / "codecs" if (local / "codecs").is_dir() else local) if local.is_dir() else None
        if self._local is None and (str(place).count("/") != 1 or str(place).startswith((".", "/", "~"))):
            raise UnknownModel(saw=str(place), want=(PUBLISHED, "a folder", "a Hub repository"))
        self._folders = {key: domain.folder for key, domain in DOMAINS.items()}
        if self._local is not None:
            self._folders = dict(_keys(self._local))
            if not self._folders:
                raise UnknownModel(f"no codecs in {place}", want="codecs/<name>/config.json and model.safetensors")
        self._loaded: dict[str, Codec] = {}
        self._networks: dict[str, nn.Module] = {}

    def __getitem__(self, key: str) -> Codec:
        if key not in self._folders:
            raise MissingModality(f"no codec in {self.place}", saw=key, want=tuple(self._folders))
        if key not in self._loaded:
            self._loaded[key] = self._load(key)
        return self._loaded[key]

    def __contains__(self, key: object) -> bool:
        return key in self._folders

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)

    def values(self) -> Iterator[Codec]:
        """All of them, loaded."""
        return (self[key] for key in self)

    def _load(self, key: str) -> Codec:
        name = self._folders[key]
        domain = DOMAINS.get(key)
        if domain is None or domain.codec not in LEARNED:
            return load_codec(self._folder(name), key)
        if name not in self._networks:  # one network serves several surveys
            self._networks[name] = load_network(self._folder(name), domain)
        return around(self._networks[name], domain)

    def _folder(self, name: str) -> Path:
        return _fetched(str(self.place), name, self.revision) if self._local is None else self._local / name


def _keys(codecs: Path) -> Iterator[tuple[str, str]]:
    """Names of tokens and the folder that serves them, of all folders with a codec in it."""
    here = sorted(file.parent for file in codecs.glob("*/config.json"))
    for folder in here:
        ours = config_of(folder).get("omnisky")
        known = [key for key, domain in DOMAINS.items() if domain.folder == folder.name]
        if ours is not None and ours.get("name") not in known:
            known = [ours["name"]]
        yield from ((key, folder.name) for key in known)


def _fetched(repository: str, name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = [f"codecs/{name}/*.json", f"codecs/{name}/*.safetensors"]
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=wanted)) / "codecs" / name
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UnknownModel(
            f"codec {name!r} of {repository!r} is not on this machine, and the Hub did not give it: "
            f"{type(error).__name__}",
            hint="check the name, the network, or HF_TOKEN for a private repository",
        ) from error
    if not folder.is_dir():
        raise UnknownModel(saw=f"no codecs/{name} in {repository}", want="a repository with the codecs of AION-1")
    return folder


# --- the front door ------------------------------------------------------------------------------------------------

Book = CodecBook | Mapping[str, Codec]
Codecs = str | Path | Book | Iterable[Codec]


@torch.no_grad()
def tokenize(seen: Observation, codecs: Codecs = PUBLISHED, only: Iterable[str] | None = None) -> Tokens:
    """The tokens of all that was measured and has a codec; or of these modalities `only`, by the names of their tokens.

    `codecs` is a folder, a Hub repository, a CodecBook, or codecs. docs/modalities.md lists what is found where.
    Raises MissingModality where nothing, or not all that is asked for, is there; and what the codecs raise.
    """
    book = _opened(codecs)
    keys = tuple(book) if only is None else tuple(only)
    if unknown := tuple(key for key in keys if key not in book):
        raise MissingModality("no codec of that name", saw=unknown, want=tuple(book))
    where = {key: _found(key, book, seen) for key in keys}
    missing = tuple(key for key, part in where.items() if part is None)
    if missing and (only is not None or len(missing) == len(keys)):
        raise MissingModality("not in the observation", saw=tuple(seen.parts), want=missing)
    tokens = Tokens({})
    for key, part in where.items():
        if part is not None:
            tokens = tokens | book[key].encode(_as_called(seen, part, book[key]))
    return tokens


@torch.no_grad()
def detokenize(tokens: Tokens, like: Observation | None = None, codecs: Codecs = PUBLISHED) -> Observation:
    """What tokens say, as an observation of nothing else: parts are called as in `like`, which also gives ids, bands,
    sizes and wavelengths. Raises MissingModality for tokens without a codec, and what the codecs raise.
    """
    book = _opened(codecs)
    if unknown := tuple(key for key in tokens if key not in book):
        raise MissingModality("no codec of that name", saw=unknown, want=tuple(book))
    ids = range(tokens.objects) if like is None else like.object_id
    place = (None, None) if like is None else (like.ra, like.dec)
    whole = Observation.of(ids, *place)
    for key in tokens:
        codec, part = book[key], None if like is None else _found(key, book, like)
        said = codec.decode(tokens, like if part is None or like is None else _as_called(like, part, codec))
        whole = _added(whole, said, codec, part or codec.part)
    return whole


def _opened(codecs: Codecs) -> Book:
    if isinstance(codecs, str | Path):
        return _hub_book(codecs) if isinstance(codecs, str) and not Path(codecs).exists() else CodecBook(codecs)
    return codecs if isinstance(codecs, CodecBook | Mapping) else {codec.name: codec for codec in codecs}


@cache
def _hub_book(repository: str) -> CodecBook:
    """Opened once: what was loaded stays."""
    return CodecBook(repository)


def _found(key: str, book: Book, seen: Observation) -> str | None:
    """Where the observation has it; asks the table first, so that no codec is loaded in vain."""
    if key in DOMAINS:
        return DOMAINS[key].found(seen)
    codec = book[key]
    if codec.part not in seen:
        return codec.part if codec.part == PLACE else None
    columns = codec.plan.columns if isinstance(codec, ScalarCodec) else ()
    return codec.part if set(columns) <= set(getattr(seen[codec.part], "names", columns)) else None


def _as_called(seen: Observation, part: str, codec: Codec) -> Observation:
    """The same, with the part under the name that the codec knows it by; and the neighbours, if it reads them too."""
    known = {} if part in (PLACE, codec.part) else {codec.part: seen[part]}
    more = beside(codec)
    if more and more not in seen and (listed := DOMAINS["catalog"].found(seen)):
        known |= {more: seen[listed]}
    return seen | known


def _added(whole: Observation, said: Observation, codec: Codec, part: str) -> Observation:
    """One modality more, as `part`; numbers of one part become columns of it."""
    if codec.part == PLACE and isinstance(codec, ScalarCodec):
        return replace(whole, **{name: getattr(said, name) for name in codec.plan.columns})
    new = said[codec.part]
    if part not in whole or not isinstance(new, Scalars):
        return whole | {part: new}
    old: Scalars = whole[part]
    values = np.concatenate([old.values, new.values], axis=1)
    joined = Scalars(values=values, names=(*old.names, *new.names), units=(*old.units, *new.units))
    return whole | {part: joined}
