"""The work of benchmarks/scaling.py: `python -m benchmarks.ours_scaling` waits for JSON lines (see harness.py)."""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import harness
from omnisky.codec.tokens import Span, Tokens
from omnisky.model.any_to_any import Vocabulary
from omnisky.model.autoregressive import AutoregressiveConfig
from omnisky.model.junction import Modality
from omnisky.model.masked import AnyToAnyConfig, gated
from omnisky.model.specformer import SpecformerConfig
from omnisky.model.transformer import CoreConfig
from omnisky.model.vision import vit
from omnisky.train.devices import keep_memory

SIDE, BANDS, HEAD, WORDS = 16, 3, 64, 1000
"""of a patch: px, bands; width of a head, ids"""


def _positions(objects: int, tokens: int) -> Tensor:
    return torch.arange(tokens).expand(objects, tokens)


def _noise(objects: int, tokens: int, width: int) -> Span:
    values = torch.randn(objects, tokens, width, generator=torch.Generator().manual_seed(1))
    return Span(values, _positions(objects, tokens))


def astropt(folder: Path, objects: int, tokens: int, width: int, depth: int) -> Callable[[], Tensor]:
    """As omnisky.embed does, from patches on."""
    core = CoreConfig(width=width, depth=depth, heads=width // HEAD)
    patches = (Modality(name="images", width=SIDE**2 * BANDS),)
    model = AutoregressiveConfig(core=core, modalities=patches, context=tokens).build(seed=0).eval()
    return _embedding(model, Tokens({"images": _noise(objects, tokens, SIDE**2 * BANDS)}))


def specformer(folder: Path, objects: int, tokens: int, width: int, depth: int) -> Callable[[], Tensor]:
    """As omnisky.embed does, from sections on."""
    core = CoreConfig(width=width, depth=depth, heads=width // HEAD, bias=True, activation="gelu")
    config = SpecformerConfig(core=core, context=tokens)
    return _embedding(config.build(seed=0).eval(), Tokens({config.name: _noise(objects, tokens, config.token_width)}))


def astrodino(folder: Path, objects: int, tokens: int, width: int, depth: int) -> Callable[[], Tensor]:
    """As omnisky.embed does, from patches on; the class token is one more."""
    config = vit(width, depth, width // HEAD, patch_size=SIDE, grid=isqrt(tokens))
    return _embedding(config.build(seed=0).eval(), Tokens({config.name: _noise(objects, tokens, SIDE**2 * BANDS)}))


def any_to_any(folder: Path, objects: int, tokens: int, width: int, depth: int) -> Callable[[], Tensor]:
    """As omnisky.embed does, from ids on."""
    words = (Vocabulary(name="ids", size=WORDS, grid=(tokens, 1)),)
    config = AnyToAnyConfig(core=gated(depth, width, width // HEAD), decoder_depth=1, vocabularies=words)
    ids = torch.randint(WORDS, (objects, tokens), generator=torch.Generator().manual_seed(1))
    return _embedding(config.build(seed=0).eval(), Tokens({"ids": Span(ids, _positions(objects, tokens))}))


def _embedding(model: torch.nn.Module, given: Tokens) -> Callable[[], Tensor]:
    return torch.inference_mode()(lambda: model.vectors(given))


if __name__ == "__main__":
    keep_memory()
    harness.serve({task.__name__: task for task in (astropt, specformer, astrodino, any_to_any)})
