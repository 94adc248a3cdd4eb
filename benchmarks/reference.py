"""Their side: the worker that runs astropt 2.0.9 through its public interface, in an environment of its own.

`.venv-astropt/bin/python -m benchmarks.reference` waits for JSON lines (see harness.py). Nothing of Omnisky is here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from astropt.model import GPT, GPTConfig, ModalityConfig, ModalityRegistry
from torch import Tensor, nn

from benchmarks import harness

SIZES = {"21m": (6, 8, 512), "89m": (12, 12, 768)}
"""name → layers, heads, width"""


def model(folder: Path, size: str) -> GPT:
    """Theirs, with the weights that our side wrote."""
    layers, heads, width = SIZES[size]
    images = ModalityConfig(name="images", input_size=16 * 16 * 3, pos_input_size=1, patch_size=16, embed_pos=True)
    config = GPTConfig(block_size=1024, n_layer=layers, n_head=heads, n_embd=width, modalities=[images])
    built = GPT(config, ModalityRegistry([images]), master_process=False)
    built.load_state_dict(torch.load(folder / f"{size}.pt", weights_only=True))
    return built.eval()


def inputs(folder: Path, count: int) -> dict[str, Tensor]:
    """The first `count` of the tokens that our side wrote."""
    values = torch.load(folder / "tokens.pt", weights_only=True)[:, :count]
    return {"images": values, "images_positions": torch.arange(values.shape[1]).expand(values.shape[:2])}


def autocast(precision: str) -> AbstractContextManager:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")


def embed(folder: Path, size: str, precision: str, count: int) -> Callable[[], Tensor]:
    built, given = model(folder, size), inputs(folder, count)

    def call() -> Tensor:
        with autocast(precision):
            return built.generate_embeddings(given)["images"].float()

    return call


def train(folder: Path, size: str, precision: str, count: int) -> Callable[[], Tensor]:
    """One step as their training script takes it. Answers with the loss and the norm of the gradient."""
    built, whole = model(folder, size).train(), inputs(folder, count)
    given, wanted = {name: t[:, :-1] for name, t in whole.items()}, {"images": whole["images"][:, 1:]}
    optimiser = built.configure_optimizers(0.1, 1e-4, (0.9, 0.95), "cpu")

    def step() -> Tensor:
        with autocast(precision):
            loss = built(given, targets=wanted)[1]
        loss.backward()
        norm = nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return torch.stack([loss.detach(), norm])

    return step


def continued(folder: Path, size: str, count: int) -> Callable[[], Tensor]:
    """All patches after the first, one forward pass each: their own `generate` gives none (astropt.md §7)."""
    built = model(folder, size)

    @torch.no_grad()
    def call() -> Tensor:
        values = inputs(folder, 1)["images"]
        for i in range(1, count):
            given = {"images": values, "images_positions": torch.arange(i).expand(values.shape[:2])}
            values = torch.cat([values, built(given)[0]["images"][:, -1:]], dim=1)
        return values

    return call


if __name__ == "__main__":
    harness.serve({"embed": embed, "train": train, "continued": continued})
