"""Omnisky: foundation models of the sky.

    import omnisky

    model = omnisky.load("omnisky-nano")
    found = omnisky.embed(model, omnisky.read("galaxies/"))

Names below are looked up when first used, so that importing the package costs nothing and never brings in torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the table below, once more, for editors and type checkers; a house test keeps the two equal
    from omnisky.codec.book import detokenize as detokenize
    from omnisky.codec.book import tokenize as tokenize
    from omnisky.codec.tokens import Tokens as Tokens
    from omnisky.embed import Embedding as Embedding
    from omnisky.embed import embed as embed
    from omnisky.errors import OmniskyError as OmniskyError
    from omnisky.generate import generate as generate
    from omnisky.generate import posterior as posterior
    from omnisky.model.store import load as load
    from omnisky.observe.match import crossmatch as crossmatch
    from omnisky.observe.read import read as read
    from omnisky.observe.types import Observation as Observation
    from omnisky.search import Index as Index
    from omnisky.serve.client import Client as Client
    from omnisky.train.loop import train as train

__version__ = "0.1.0"

_HOME = {
    "read": "observe.read",
    "crossmatch": "observe.match",
    "Observation": "observe.types",
    "Tokens": "codec.tokens",
    "tokenize": "codec.book",
    "detokenize": "codec.book",
    "Embedding": "embed",
    "embed": "embed",
    "load": "model.store",
    "train": "train.loop",
    "generate": "generate",
    "posterior": "generate",
    "Index": "search",
    "Client": "serve.client",
    "OmniskyError": "errors",
}

__all__ = [*_HOME]


class _Door(ModuleType):
    """The package itself, minding one thing: `embed`, `train` and `generate` name a verb *and* the room it lives in.

    Importing a room hangs its module on the package, which would turn `omnisky.embed(…)` into a call of a module
    for whoever imported `omnisky.embed` first. Here the verb always wins; the room is behind `from omnisky.embed
    import …` (`import omnisky.embed as room` gives the verb).
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Door


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # found once, then an ordinary attribute
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
