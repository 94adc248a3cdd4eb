"""Against polymathic-aion 0.0.2 on one machine: aion-base, the same random weights. Targets are those of issue 6."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Comparison, Job, Worker, environment, versions_here

AION = "0.0.2"
WIDTH, DEPTH = 768, 12
PHOTOMETRY = ("tok_flux_g", "tok_flux_r", "tok_flux_i", "tok_flux_z")
XP = ("tok_xp_bp", "tok_xp_rp")
SHOWN = {"tok_image": 160, "tok_spectrum_desi": 92, **dict.fromkeys(PHOTOMETRY, 1)}
ASKED = {"tok_image": 80, "tok_spectrum_desi": 47, "tok_z": 1}
"""of each modality's tokens the first ones and the next ones: 256 and 128, as the recipes of AION-1 have it"""
IDS = {"tok_image": 4375, "tok_spectrum_desi": 1024, "tok_z": 1025}
LENGTHS = {"tok_image": 576, "tok_spectrum_desi": 273, **dict.fromkeys(XP, 55), **dict.fromkeys(PHOTOMETRY, 1)}
AGREE = {"fp32": 1e-4, "bf16": 5e-2}
"""after 24 blocks"""
PAIRS = (("fp32", "fp32"), ("bf16", "bf16"), ("bf16", "fp32"))
"""ours, theirs"""


def reference() -> Path:
    """The Python that has polymathic-aion: AION_PYTHON, or one made here."""
    if named := os.environ.get("AION_PYTHON"):
        return Path(named)
    torch = os.environ.get("TORCH") or f"torch=={version('torch').partition('+')[0]}"
    return environment(ROOT / ".venv-aion", (torch.split(), [f"polymathic-aion=={AION}", "tqdm", "safetensors"]))


def workers() -> dict[str, Worker]:
    """Ours here, theirs in its own environment, and who draws weights for both."""
    return {
        "weights": Worker(Path(sys.executable), "benchmarks.ours_aion"),
        "ours": Worker(Path(sys.executable), "benchmarks.ours_aion"),
        "reference": Worker(reference(), "benchmarks.reference_aion"),
    }


def versions() -> dict[str, str]:
    """Of both sides."""
    return versions_here("omnisky", "torch") | {"polymathic-aion": AION}


def encoder_flops(tokens: int) -> float:
    """Of all products that one object's context needs."""
    return tokens * (DEPTH * 24 + 2) * WIDTH**2 + DEPTH * 4 * tokens**2 * WIDTH


def decoder_flops(tokens: int, asked: int, ids: float = 1024) -> float:
    """Of what is asked for, with open attention among it; keys and values of the context are made once."""
    own = asked * 28 * WIDTH**2 + 4 * asked**2 * WIDTH
    return DEPTH * (own + tokens * 4 * WIDTH**2 + 4 * tokens * asked * WIDTH) + 2 * asked * WIDTH * ids


def comparisons(quick: bool = False) -> Iterator[Comparison]:
    """All of them; `quick` ones are smaller and prove only that everything runs."""
    few, many = (1, 2) if quick else (4, 32)
    everything = ("tok_image", "tok_spectrum_desi", *PHOTOMETRY)
    yield from _three("encode-image", "encode", ("tok_image",), few, (1.3, 1.3, 4.5))
    yield from _three("redshift-photometry", "redshift", PHOTOMETRY, many, (1.5, 1.5, 6.0))
    yield from _three("redshift-everything", "redshift", everything, few, (None, None, 4.5))
    yield from _three("roar-xp-to-desi", "roar", XP, few, (1.3, 1.3, 4.5))
    yield from _learning(1 if quick else 2)
    yield Comparison(  # no ratio is asked for
        name="aion/open-base",
        ours=Job("ours", "opened", {}),
        theirs=Job("reference", "opened", {}),
        unit="models",
        work=1,
        target=None,
        agree=0.0,
        first=Job("weights", "share_published", {}),
    )


def _learning(objects: int) -> Iterator[Comparison]:
    """A loss and its gradient; there and back are three times the products. No ratio is asked for."""
    shown, asked = sum(SHOWN.values()), sum(ASKED.values())
    ids = sum(count * IDS[name] for name, count in ASKED.items()) / asked
    for ours, theirs in PAIRS:
        given: dict[str, Any] = {"shown": SHOWN, "asked": ASKED, "objects": objects}
        yield Comparison(
            name=f"aion/learn-{ours}-over-{theirs}",
            ours=Job("ours", "learn", {"precision": ours, **given}),
            theirs=Job("reference", "learn", {"precision": theirs, **given}),
            unit="objects",
            work=objects,
            flops=3 * objects * (encoder_flops(shown) + decoder_flops(shown, asked, ids)),
            precision=ours,
            target=None,
            agree=2 * AGREE[ours],
            first=Job("weights", "share", {}),
        )


def _three(
    name: str, task: str, inputs: tuple[str, ...], objects: int, targets: tuple[float | None, ...]
) -> Iterator[Comparison]:
    tokens = sum(LENGTHS[key] for key in inputs)
    flops = encoder_flops(tokens)
    if task == "redshift":
        flops += decoder_flops(tokens, 1)
    if task == "roar":
        flops = sum(encoder_flops(tokens + 34 * i) + decoder_flops(tokens + 34 * i, 34) for i in range(8))
    given: dict[str, Any] = {"inputs": list(inputs), "objects": objects}
    for (ours, theirs), target in zip(PAIRS, targets, strict=True):
        yield Comparison(
            name=f"aion/{name}-{ours}-over-{theirs}",
            ours=Job("ours", task, {"precision": ours, **given}),
            theirs=Job("reference", task, {"precision": theirs, **given}),
            unit="objects",
            work=objects,
            flops=objects * flops,
            precision=ours,
            target=target,
            agree=AGREE[ours],
            first=Job("weights", "share", {}),
        )
