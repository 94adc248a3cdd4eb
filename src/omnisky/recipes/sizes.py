"""What every recipe needs: memory and work by model and size, as `omnisky plan` of one works it out."""

from __future__ import annotations

from omnisky.recipes import RECIPES
from omnisky.train.plan import plan

HEADINGS = ("recipe", "10⁶ parameters", "learn", "GB of state", "MB an object", "with remat", "GFLOP an object")
"""state: weights, gradients, moments, running mean; activations and work of a training step, forward and back"""


def rows() -> list[tuple[str, ...]]:
    """A row of HEADINGS for every recipe; a dash for what is not counted: work of models that are no transformers."""
    return [_row(name) for name in RECIPES]


def _row(name: str) -> tuple[str, ...]:
    found = plan(RECIPES[name]())
    work = sum(part.forward + part.backward for part in found.parts)
    kept, lean = (sum(getattr(part, what) for part in found.parts) / 1e6 for what in ("kept", "kept_remat"))
    counts = (found.parameters / 1e6, found.learning / 1e6, found.state / 1e9)
    return name, *map(_few, counts), *(_few(one) if work else "–" for one in (kept, lean, work / 1e9))


def _few(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def markdown() -> str:
    """The table as a page of the documentation, docs/sizes.md."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *((f"`{name}`", *told) for name, *told in rows())]
    return _HEAD + "".join(f"| {' | '.join(line)} |\n" for line in lines)


_HEAD = """# Memory and work, by model and size

What a training step of every recipe takes, counted without making the model. *Learn*: parameters that a gradient
reaches. *State*: weights, gradients, AdamW's moments and the running mean where there is one, in fp32. *MB an object*:
activations in the recipe's precision, as they are and with `remat=true`. *GFLOP an object*: forward and back. Sequences
are as long as they may be. `omnisky plan NAME` tells more of one, by part, and for your cards. Tests hold what is
counted against small models of each kind: bytes exactly, work within 5 %, activations within a third. Written by
`omnisky.recipes.sizes.markdown`; a test keeps it equal to the code.

"""
