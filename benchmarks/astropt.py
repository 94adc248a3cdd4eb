"""Against astropt 2.0.9 on one machine: embedding, a training step, generating. Targets are those of issue 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from benchmarks.harness import ROOT, Comparison, Job, Worker, environment, versions_here

ASTROPT = "2.0.9"
OBJECTS, COUNT, PATCH = 8, 256, 16 * 16 * 3
SIZES = {"21m": (6, 512), "89m": (12, 768)}
"""name → depth, width; with the position table and the "aim" ends, 89m counts 95 million parameters"""
AGREE = {"fp32": 1e-5, "bf16": 3e-2}


def reference() -> Path:
    """The Python that has astropt, without the 20 packages its model does not import. Set TORCH for another build."""
    torch = os.environ.get("TORCH") or f"torch=={version('torch').partition('+')[0]}"
    installs = (torch.split(), ["numpy"], ["--no-deps", f"astropt=={ASTROPT}", "loralib"])
    return environment(ROOT / ".venv-astropt", installs)


def workers() -> dict[str, Worker]:
    """Ours here, theirs in its own environment."""
    return {
        "ours": Worker(Path(sys.executable), "benchmarks.ours"),
        "reference": Worker(reference(), "benchmarks.reference"),
    }


def versions() -> dict[str, str]:
    """Of both sides."""
    return versions_here("omnisky", "torch") | {"astropt": ASTROPT}


def flops(size: str, count: int, blocks: int, *, heads: bool = False) -> float:
    """Of all products that one object's states after `blocks` blocks need; attention counts only what may be seen."""
    width = SIZES[size][1]
    ends = 2 * PATCH * 4 * width + 2 * 4 * width * width
    attention = 2 * count * (count + 1) / 2 * 2 * width
    return count * (ends * (1 + heads) + blocks * 24 * width**2) + blocks * attention


def training_flops(size: str, count: int) -> float:
    """A backward pass is two products for each one forward, but nobody asks for the gradient of the patches."""
    depth, width = SIZES[size]
    return 3 * flops(size, count, depth, heads=True) - 2 * count * PATCH * 4 * width


def comparisons(quick: bool = False) -> Iterator[Comparison]:
    """All of them; `quick` ones are smaller and prove only that everything runs."""
    count = 32 if quick else COUNT
    given = {"objects": 2 if quick else OBJECTS, "count": count}
    for size in SIZES:
        yield from _embeddings(size, given)
    for size in SIZES:
        yield from _steps(size, given)
    yield from _continuations("21m", given)


PAIRS = (("fp32", "fp32"), ("bf16", "bf16"), ("bf16", "fp32"))
"""ours, theirs"""


def _embeddings(size: str, given: dict[str, int]) -> Iterator[Comparison]:
    depth = SIZES[size][0]
    for (ours, theirs), target in zip(PAIRS, (1.8, 1.8, 6.0), strict=True):
        yield Comparison(
            name=f"astropt/embed-{size}-{ours}-over-{theirs}",
            ours=Job("ours", "embed", {"size": size, "precision": ours, **given}),
            theirs=Job("reference", "embed", {"size": size, "precision": theirs, "count": given["count"]}),
            unit="images",
            work=given["objects"],
            flops=given["objects"] * flops(size, given["count"], depth // 2 + 1),
            precision=ours,
            target=target,
            agree=AGREE[ours],
            first=Job("ours", "share", {"size": size, **given}),
        )


def _steps(size: str, given: dict[str, int]) -> Iterator[Comparison]:
    for (ours, theirs), target in zip(PAIRS, (1.3, 1.3, 4.0), strict=True):
        yield Comparison(
            name=f"astropt/train-{size}-{ours}-over-{theirs}",
            ours=Job("ours", "train", {"size": size, "precision": ours, **given}),
            theirs=Job("reference", "train", {"size": size, "precision": theirs, "count": given["count"]}),
            unit="images",
            work=given["objects"],
            flops=given["objects"] * training_flops(size, given["count"] - 1),
            precision=ours,
            target=target,
            agree=AGREE[ours],
            first=Job("ours", "share", {"size": size, **given}),
        )


def _continuations(size: str, given: dict[str, int]) -> Iterator[Comparison]:
    cached = Job("ours", "continued", {"size": size, **given})
    others = {
        "ours-without-cache": Job("ours", "continued_without_cache", {"size": size, **given}),
        "reference": Job("reference", "continued", {"size": size, "count": given["count"]}),
    }
    for name, theirs in others.items():
        yield Comparison(
            name=f"astropt/generate-{size}-over-{name}",
            ours=cached,
            theirs=theirs,
            unit="patches",
            work=given["objects"] * (given["count"] - 1),
            flops=given["objects"] * flops(size, given["count"] - 1, SIZES[size][0], heads=True),
            precision="fp32",
            target=10.0,
            agree=1e-5,
            first=Job("ours", "share", {"size": size, **given}),
            repeats=3,
        )
