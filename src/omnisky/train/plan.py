"""What a run will cost before it is run: parameters, memory by part, work, time. Nothing is materialised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from omnisky.errors import BadValue
from omnisky.model.transformer import Block, Stack
from omnisky.train.config import Run
from omnisky.train.flows import Lengths, backward_flops, flows, forward_flops, kept
from omnisky.train.sharding import outline

SHARE = 0.4
"""of the peak that a transformer reaches in training (Chowdhery et al. 2022, arXiv:2204.02311, table 3: 0.2 – 0.46)"""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU, by its data sheet, without sparsity."""

    memory_gb: float
    """10⁹ bytes"""
    bf16_tflops: float
    fp32_tflops: float


CARDS = {
    "a100": Card(memory_gb=80, bf16_tflops=312, fp32_tflops=19.5),
    "h100": Card(memory_gb=80, bf16_tflops=989, fp32_tflops=67),
    "h200": Card(memory_gb=141, bf16_tflops=989, fp32_tflops=67),
    "mi300x": Card(memory_gb=192, bf16_tflops=1307, fp32_tflops=163),
    "l40s": Card(memory_gb=48, bf16_tflops=362, fp32_tflops=92),
    "rtx4090": Card(memory_gb=24, bf16_tflops=165, fp32_tflops=83),
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One child of the model. Bytes and work of activations are of one object."""

    name: str
    parameters: int
    learning: int
    """parameters that a gradient reaches"""
    moments: int
    """bytes: AdamW's two numbers a parameter, and a count of steps for each tensor, as if a gradient reached all"""
    forward: float = 0.0
    """FLOP"""
    backward: float = 0.0
    blocks: float = 0.0
    """FLOP of the forward pass of blocks that learn: what `remat` does again"""
    kept: float = 0.0
    """bytes of activations"""
    kept_remat: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run on `gpus` cards."""

    run: Run
    parts: tuple[Part, ...]
    gpus: int
    card: Card
    around: int
    """parameters outside the blocks: with `shard`, a rank holds all of them while it works"""
    largest_block: int

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    @property
    def learning(self) -> int:
        return sum(part.learning for part in self.parts)

    @property
    def state(self) -> int:
        """Bytes of weights, gradients, moments and the running mean, in fp32."""
        mean = 4 * self.parameters if self.run.mean_decay else 0
        return 4 * self.parameters + 4 * self.learning + sum(part.moments for part in self.parts) + mean

    @property
    def state_in_pieces(self) -> float:
        """Bytes of a rank with `shard`: its share, what is around the blocks, and two blocks, with their gradients."""
        return self.state / self.gpus + 8 * (self.around + 2 * self.largest_block)

    @property
    def objects(self) -> int:
        """That a rank works on at a time."""
        return self.run.batch // math.lcm(self.run.accumulate, self.gpus)

    def activations(self, remat: bool) -> float:
        """Bytes of a rank."""
        return self.objects * sum(part.kept_remat if remat else part.kept for part in self.parts)

    @cached_property
    def flops(self) -> float:
        """Of a step on all ranks, as the run is configured."""
        again = sum(part.blocks for part in self.parts) if self.run.remat else 0.0
        return self.run.batch * (sum(part.forward + part.backward for part in self.parts) + again)

    @property
    def seconds(self) -> float:
        """Of a step at SHARE of the card's peak; data and messages between ranks not counted."""
        peak = self.card.bf16_tflops if self.run.precision == "bf16" else self.card.fp32_tflops
        return self.flops / (self.gpus * peak * 1e12 * SHARE)


def plan(run: Run, *, gpus: int = 1, gpu: str = "h100", lengths: Lengths | None = None) -> Plan:
    """What `run` costs. `lengths` says how many tokens an object has; without it, sequences are as long as they may be.

    Raises BadValue for an unknown card and for a batch that does not divide into the cards.
    """
    if gpu not in CARDS:
        raise BadValue("gpu", saw=gpu, want=tuple(CARDS))
    if gpus < 1 or run.batch % math.lcm(run.accumulate, gpus):
        want = f"a number that divides batch={run.batch} together with accumulate={run.accumulate}"
        raise BadValue("gpus", saw=gpus, want=want, hint="batch=…")
    model = outline(run.model)
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    inside = [_count(block) for block in blocks]
    return Plan(
        run=run,
        parts=_parts(run, model, lengths or {}),
        gpus=gpus,
        card=CARDS[gpu],
        around=_count(model) - sum(inside),
        largest_block=max(inside, default=0),
    )


def _parts(run: Run, model: nn.Module, lengths: Lengths) -> tuple[Part, ...]:
    work: dict[str, list[float]] = {}
    size = 2 if run.precision == "bf16" else 4
    for flow in flows(run.model, lengths):
        module = model.get_submodule(flow.part)
        forward, backward = forward_flops(flow, module), backward_flops(flow, module)
        again = forward if isinstance(module, Stack) and flow.learns else 0.0
        told = [forward, backward, again, kept(flow, module, size, False), kept(flow, module, size, True)]
        before = work.setdefault(flow.part.split(".")[0], [0.0] * 5)
        work[flow.part.split(".")[0]] = [a + b for a, b in zip(before, told, strict=True)]
    names = ("forward", "backward", "blocks", "kept", "kept_remat")
    found = []
    children = [*model.named_children(), *((name, p) for name, p in model.named_parameters(recurse=False))]
    for name, child in children:
        own = [child] if isinstance(child, nn.Parameter) else list(child.parameters())
        learning = [p for p in own if p.requires_grad]
        found.append(
            Part(
                name=name,
                parameters=sum(p.numel() for p in own),
                learning=sum(p.numel() for p in learning),
                moments=sum(8 * p.numel() + 4 for p in learning),
                **dict(zip(names, work.get(name, [0.0] * 5), strict=True)),
            )
        )
    return tuple(part for part in found if part.parameters)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
