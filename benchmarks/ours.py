"""Our side: the worker that runs Omnisky. `python -m benchmarks.ours` waits for JSON lines (see harness.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import harness
from omnisky.codec.tokens import Span, Tokens
from omnisky.generate import generate
from omnisky.model.autoregressive import Autoregressive
from omnisky.recipes.astropt import published
from omnisky.train.devices import here, keep_memory
from omnisky.train.optim import AdamW

TO_THEIRS = (
    *(("core.blocks", "transformer.h"), ("core.norm", "transformer.ln_f")),
    *(("attention_norm", "ln_1"), ("mlp_norm", "ln_2")),
    *(("attention.qkv", "attn.c_attn"), ("attention.out", "attn.c_proj")),
    *(("junction.encoders", "transformer.wte"), ("junction.decoders", "lm_head")),
    ("junction.positions.images", "transformer.wpe.images.wpe"),
    *((".up.", ".c_fc."), (".down.", ".c_proj.")),
)
"""parts of our names, and AstroPT 2.0.9's for them"""


@cache
def model(size: str) -> Autoregressive:
    """A model with random weights, always the same ones."""
    return published(size).build(seed=0).eval()


def tokens(objects: int, count: int) -> Tokens:
    """Standardised patches of noise, always the same ones."""
    values = torch.randn(objects, count, 16 * 16 * 3, generator=torch.Generator().manual_seed(1))
    return Tokens({"images": Span(values, torch.arange(count).expand(objects, count))})


def share(folder: Path, size: str, objects: int, count: int) -> Callable[[], None]:
    """Write weights under their names, and tokens, for the other side."""

    def write() -> None:
        weights = model(size).state_dict()
        for ours, theirs in TO_THEIRS:
            weights = {name.replace(ours, theirs): weight for name, weight in weights.items()}
        torch.save(weights, folder / f"{size}.pt")
        torch.save(tokens(objects, count)["images"].values, folder / "tokens.pt")

    return write


def embed(folder: Path, size: str, precision: str, objects: int, count: int) -> Callable[[], Tensor]:
    """As omnisky.embed does, from tokens on."""
    built, given, place = model(size), tokens(objects, count), here(precision)
    lean = place.lean(built)

    def call() -> Tensor:
        with torch.inference_mode(), place.autocast():
            return lean.vectors(given)

    return call


def train(folder: Path, size: str, precision: str, objects: int, count: int) -> Callable[[], Tensor]:
    """One step of our loop, from tokens on. Answers with the loss and the norm of the gradient."""
    built, given, place = published(size).build(seed=0).train(), tokens(objects, count), here(precision)
    recipe = AdamW(weight_decay=0.1, clip=1.0)
    optimiser = recipe.build(built)
    for group in optimiser.param_groups:
        group["lr"] = 1e-4

    def step() -> Tensor:
        with place.autocast():
            loss = built.loss(given)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(built.parameters(), recipe.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return torch.stack([loss.detach(), norm])

    return step


def continued(folder: Path, size: str, objects: int, count: int) -> Callable[[], Tensor]:
    """All patches after the first, remembering keys and values."""
    built, given = model(size), tokens(objects, count).map(lambda t: t[:, :1])
    return lambda: generate(built, given, "images", count - 1)["images"].values


def continued_without_cache(folder: Path, size: str, objects: int, count: int) -> Callable[[], Tensor]:
    """The same, computing all that came before afresh for each patch."""
    built = model(size)

    @torch.no_grad()
    def call() -> Tensor:
        values = tokens(objects, count)["images"].values[:, :1]
        for i in range(1, count):
            seen = Tokens({"images": Span(values, torch.arange(i).expand(objects, i))})
            said = built.junction.leave("images", built.states(seen)[:, -1:])
            values = torch.cat([values, said], dim=1)
        return values

    return call


if __name__ == "__main__":
    keep_memory()
    harness.serve(
        {
            "share": share,
            "embed": embed,
            "train": train,
            "continued": continued,
            "continued_without_cache": continued_without_cache,
        }
    )
