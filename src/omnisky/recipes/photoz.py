"""Redshifts from catalogue numbers alone: an any-to-any model of a few scalars, for some thousand galaxies."""

from __future__ import annotations

from collections.abc import Callable

from omnisky.codec.token_shards import IdTokens
from omnisky.model.any_to_any import Vocabulary
from omnisky.model.deal import AionRule
from omnisky.model.masked import AnyToAnyConfig, gated
from omnisky.train.config import Run
from omnisky.train.optim import AdamW

MAGNITUDES = ("u", "g", "r", "i", "z")
COLOURS = ("u-g", "g-r", "r-i", "i-z")
INPUTS = tuple(f"photo_{name}" for name in (*MAGNITUDES, *COLOURS))
"""names of the tokens that are read"""
REDSHIFT = "tok_z"
LEVELS, REDSHIFT_LEVELS = 128, 128


def aion_photoz() -> Run:
    """Magnitudes, colours and redshift, one token each; 3 minutes on a core. `omnisky evaluate photoz` trains it."""
    sizes = dict.fromkeys(INPUTS, LEVELS) | {REDSHIFT: REDSHIFT_LEVELS}
    return Run(
        name="aion-photoz",
        model=AnyToAnyConfig(
            core=gated(3, 64, 4),
            decoder_depth=2,
            vocabularies=tuple(Vocabulary(name=name, size=size, digits=(size,)) for name, size in sizes.items()),
            shown=len(INPUTS),
            asked=len(INPUTS),
            rule=AionRule(kept_out=0.3),
            spread=0.7,
            ordered=True,
        ),
        codecs=tuple(IdTokens(name=name) for name in sizes),
        held_out=0.0,
        steps=2000,
        batch=256,
        optim=AdamW(peak=1e-3, warmup=100, floor=0.02, weight_decay=0.1, betas=(0.9, 0.98)),
        mean_decay=0.995,
        precision="fp32",
        judge_every=500,
        save_every=500,
    )


RECIPES: dict[str, Callable[[], Run]] = {"aion-photoz": aion_photoz}
