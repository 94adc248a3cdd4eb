"""Our side of benchmarks/aion.py: `python -m benchmarks.ours_aion` waits for JSON lines (see harness.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from benchmarks import harness
from omnisky.codec.tokens import Span, Tokens
from omnisky.generate import Roar, fill
from omnisky.model.any_to_any import AION, Slots
from omnisky.model.deal import Asked, PerModality
from omnisky.model.masked import AnyToAny, published
from omnisky.model.port_aion import published_parts, save_published
from omnisky.model.store import load
from omnisky.train.devices import here, keep_memory


@cache
def model(precision: str) -> AnyToAny:
    """aion-base with random weights, always the same ones."""
    built = published("base").build(seed=0).eval()
    return here(precision).lean(built) if precision == "bf16" else built


def tokens(inputs: list[str], objects: int) -> Tokens:
    """Random ids, always the same ones."""
    spans = {}
    for name in inputs:
        draw = torch.Generator().manual_seed(len(name))
        ids = torch.randint(AION[name].size, (objects, AION[name].length), generator=draw)
        spans[name] = Span(ids, torch.arange(ids.shape[1]).expand(ids.shape))
    return Tokens(spans)


def share(folder: Path) -> Callable[[], None]:
    """Write config and weights under their names for the other side."""

    def write() -> None:
        if not (folder / "aion-base.pt").exists():
            said, weights = published_parts(model("fp32"))
            torch.save({"config": said, "weights": weights}, folder / "aion-base.pt")

    return write


def share_published(folder: Path) -> Callable[[], None]:
    """Write a folder as published, which both sides open."""

    def write() -> None:
        if not (folder / "aion-base").exists():
            save_published(model("fp32"), folder / "aion-base")

    return write


def opened(folder: Path) -> Callable[[], Tensor]:
    """A model out of that folder; the answer is some of its weights."""
    return lambda: cast(AnyToAny, load(folder / "aion-base")).project.weight[::96].detach().clone()


def encode(folder: Path, precision: str, inputs: list[str], objects: int) -> Callable[[], Tensor]:
    """States of all tokens; the answer is some of them."""
    built, given, place = model(precision), tokens(inputs, objects), here(precision)

    @torch.inference_mode()
    def call() -> Tensor:
        with place.autocast():
            return built.encode(given).states[:, ::96].float()

    return call


def redshift(folder: Path, precision: str, inputs: list[str], objects: int) -> Callable[[], Tensor]:
    """Logits of the redshift."""
    built, given, place = model(precision), tokens(inputs, objects), here(precision)

    @torch.inference_mode()
    def call() -> Tensor:
        with place.autocast():
            return built.predict(given, ("tok_z",))["tok_z"].float()

    return call


def roar(folder: Path, precision: str, inputs: list[str], objects: int) -> Callable[[], None]:
    """A spectrum in eight steps. No answer: tests hold that both sides draw the same ids."""
    built, given, place = model(precision), tokens(inputs, objects), here(precision)

    def call() -> None:
        with place.autocast():
            fill(built, given, ("tok_spectrum_desi",), Roar(steps=8), generator=torch.Generator().manual_seed(0))

    return call


def learn(
    folder: Path, precision: str, shown: dict[str, int], asked: dict[str, int], objects: int
) -> Callable[[], Tensor]:
    """A loss and its gradient, of which the answer is some; weights in fp32."""
    built, place = model("fp32"), here(precision)
    names = list(dict.fromkeys((*shown, *asked)))
    table = built.ends.lay_out(tokens(names, objects))
    first = dict(zip(names, accumulate((AION[name].length for name in names), initial=0), strict=False))

    def chosen(counts: dict[str, int], behind: dict[str, int]) -> Slots:
        index = [first[name] + behind.get(name, 0) + torch.arange(count) for name, count in counts.items()]
        return table.at(torch.cat(index).expand(objects, -1))

    context, wanted = chosen(shown, {}), Asked(chosen(asked, shown))

    def call() -> Tensor:
        with place.autocast():
            loss = PerModality().of(built.score(context, wanted), built.ends)
        loss.backward()
        grad = built.project.weight.grad[::96].clone()
        built.zero_grad(set_to_none=True)
        return grad

    return call


if __name__ == "__main__":
    keep_memory()
    harness.serve({task.__name__: task for task in (share, share_published, opened, encode, redshift, roar, learn)})
