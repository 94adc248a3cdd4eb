"""Functions that return a Run, one file a model. A variation is `dataclasses.replace` or `key=value`."""

from __future__ import annotations

from collections.abc import Callable

from omnisky.errors import UnknownModel
from omnisky.recipes import aion, astroclip, astrodino, astropt, baseline, codec, photoz
from omnisky.train.config import Run

RECIPES: dict[str, Callable[[], Run]] = {
    **astropt.RECIPES,
    **astrodino.RECIPES,
    **astroclip.RECIPES,
    **baseline.RECIPES,
    **codec.RECIPES,
    **aion.RECIPES,
    **photoz.RECIPES,
}


def recipe(name: str) -> Run:
    """The Run of that name. Raises UnknownModel, naming the nearest."""
    import difflib

    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1)
        raise UnknownModel(saw=name, want=tuple(RECIPES), hint=near[0] if near else "one of those")
    return RECIPES[name]()
