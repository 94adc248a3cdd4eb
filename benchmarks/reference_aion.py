"""Their side of benchmarks/aion.py: polymathic-aion 0.0.2 through its public interface, in an environment of its own.

`AION_PYTHON -m benchmarks.reference_aion` waits for JSON lines (see harness.py). Nothing of Omnisky is here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from aion import AION
from aion.fourm.fm import FM
from aion.fourm.generate import (
    GenerationSampler,
    build_chained_generation_schedules,
    init_empty_target_modality,
    init_full_input_modality,
)
from aion.modalities import Z
from torch import Tensor

from benchmarks import harness

SIZES = {
    "tok_image": (4375, 576),
    "tok_spectrum_desi": (1024, 273),
    **{"tok_xp_bp": (1024, 55), "tok_xp_rp": (1024, 55), "tok_z": (1025, 1)},
}
"""ids, tokens; all others 1024 and 1"""
KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@cache
def model(folder: Path, precision: str) -> AION:
    """Theirs, with the weights that our side wrote; in bf16 the whole model is, as its users do it."""
    said = torch.load(folder / "aion-base.pt", weights_only=True, mmap=True)
    built = AION(said["config"])
    left = built.load_state_dict(said["weights"], strict=False)
    # An embedding that encoder and decoder share is stored under one name.
    assert not left.unexpected_keys and all(key.endswith("mod_emb") for key in left.missing_keys), left
    return built.to(KINDS[precision]).eval()


def tokens(inputs: list[str], objects: int) -> dict[str, Tensor]:
    """The same random ids as our side's."""
    given = {}
    for name in inputs:
        size, length = SIZES.get(name, (1024, 1))
        draw = torch.Generator().manual_seed(len(name))
        given[name] = torch.randint(size, (objects, length), generator=draw)
    return given


def opened(folder: Path) -> Callable[[], Tensor]:
    return lambda: AION.from_pretrained(folder / "aion-base").decoder_proj_context.weight[::96].detach().clone()


def encode(folder: Path, precision: str, inputs: list[str], objects: int) -> Callable[[], Tensor]:
    built, given = model(folder, precision), tokens(inputs, objects)
    count = sum(ids.shape[1] for ids in given.values())

    @torch.inference_mode()
    def call() -> Tensor:
        return built.encode(given, num_encoder_tokens=count)[:, ::96].float()

    return call


def redshift(folder: Path, precision: str, inputs: list[str], objects: int) -> Callable[[], Tensor]:
    built, given = model(folder, precision), tokens(inputs, objects)

    @torch.inference_mode()
    def call() -> Tensor:
        return built(given, target_modality=Z)["tok_z"].float()

    return call


def roar(folder: Path, precision: str, inputs: list[str], objects: int) -> Callable[[], None]:
    built, given = model(folder, precision), tokens(inputs, objects)
    info, name, count = built.modality_info, "tok_spectrum_desi", 273
    schedule = build_chained_generation_schedules(
        inputs, [name], [count], ["roar"], [8], ["linear"], [1.0], ["constant"], [1.0], ["constant"]
    )
    start = {key: {"tensor": ids} for key, ids in given.items()}
    for key in inputs:
        init_full_input_modality(start, info, key, "cpu")
    init_empty_target_modality(start, info, name, objects, count, "cpu")
    for one in start.values():
        one.setdefault("decoder_attention_mask", torch.zeros(one["tensor"].shape, dtype=torch.bool))
    sampler = GenerationSampler(built)

    @torch.inference_mode()
    def call() -> None:
        sampler.generate(copy.deepcopy(start), schedule, seed=0)

    return call


def learn(
    folder: Path, precision: str, shown: dict[str, int], asked: dict[str, int], objects: int
) -> Callable[[], Tensor]:
    """The loss of the modules that theirs is made of, and its gradient; nothing that is released calls it."""
    built, given = model(folder, "fp32"), tokens(list(dict.fromkeys((*shown, *asked))), objects)
    many, wanted = sum(shown.values()), sum(asked.values())

    def hidden(ids: Tensor, first: int, count: int) -> Tensor:
        """False where a token takes part."""
        place = torch.arange(ids.shape[1]).expand(ids.shape)
        return (place < first) | (place >= first + count)

    def call() -> Tensor:
        told = {
            name: {
                "tensor": ids,
                "input_mask": hidden(ids, 0, shown.get(name, 0)),
                "target_mask": hidden(ids, shown.get(name, 0), asked.get(name, 0)),
                "decoder_attention_mask": torch.full(ids.shape, wanted),  # all look at all of their modality
            }
            for name, ids in given.items()
        }
        with torch.autocast("cpu", KINDS["bf16"], enabled=precision == "bf16"):
            loss, _ = FM.forward(built, told, many, wanted)
        loss.backward()
        grad = built.decoder_proj_context.weight.grad[::96].clone()
        built.zero_grad(set_to_none=True)
        return grad

    return call


if __name__ == "__main__":
    harness.serve({task.__name__: task for task in (opened, encode, redshift, roar, learn)})
