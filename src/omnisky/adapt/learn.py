"""Learning a small network on what is cached already: AdamW, one cycle, and the weights of the best look are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from omnisky.errors import NonFiniteLoss
from omnisky.model.heads import Head

Pick = Callable[[np.ndarray, np.random.Generator | None], tuple[Tensor, ...]]
"""(objects, draws or None where they are judged) → what the network is given"""
Watch = Callable[[int, int], None]
"""(steps done, steps in all)"""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long and how fast a network learns."""

    steps: int
    batch: int
    rate: float
    """peak of the one cycle (Smith & Topin 2018, arXiv:1708.07120)"""
    weight_decay: float
    looks: int = 25
    """how often those who judge are asked"""
    patience: int | None = None
    """looks without a better one before it ends; None learns all steps"""


@contextmanager
def own_draws(seed: int) -> Iterator[np.random.Generator]:
    """Dropout and the start are the network's own, not the caller's."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield np.random.default_rng(seed)


def learn(  # noqa: PLR0913 - who learns what from whom, who judges, how long, by which draws
    network: nn.Module,
    head: Head,
    pick: Pick,
    target: Tensor,
    use: np.ndarray,
    judge: np.ndarray,
    effort: Effort,
    draw: np.random.Generator,
    watch: Watch | None = None,
) -> None:
    """`network` learns `target` (object, …) of the objects `use`; those in `judge` decide when it was best.

    With nobody to judge, the last weights are kept. Raises NonFiniteLoss.
    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=effort.rate, weight_decay=effort.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, effort.rate, total_steps=max(effort.steps, 2))
    every = max(effort.steps // effort.looks, 1)
    best: tuple[float, dict[str, Any]] = (float("inf"), {})
    worse = 0
    for step, rows in zip(range(1, effort.steps + 1), batches(use, effort.batch, draw), strict=False):
        network.train()
        loss = head.loss(network(*pick(rows, draw)), target[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if len(judge) and (step % every == 0 or step == effort.steps):
            surprise = float(head.loss(said(network, pick, judge), target[judge]))
            if surprise < best[0]:
                best, worse = (surprise, {name: t.clone() for name, t in network.state_dict().items()}), 0
            else:
                worse += 1
            if effort.patience is not None and worse > effort.patience:
                break
        if watch is not None:
            watch(step, effort.steps)
    if not all(bool(p.isfinite().all()) for p in network.parameters()):
        raise NonFiniteLoss("the head", saw="weights that are not finite", hint="a lower rate, or look at the inputs")
    if best[1]:
        network.load_state_dict(best[1])
    network.eval()


def batches(rows: np.ndarray, batch: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """Shuffled, without end; the last batch of a pass may be smaller."""
    while True:
        yield from np.array_split(draw.permutation(rows), max(len(rows) // batch, 1))


@torch.no_grad()
def said(network: nn.Module, pick: Pick, rows: np.ndarray, batch: int = 1024) -> Tensor:
    """What the network says of these objects, in their order."""
    network.eval()
    pieces = [network(*pick(rows[i : i + batch], None)) for i in range(0, len(rows), batch)]
    return torch.cat(pieces)


def aside(
    groups: np.ndarray, share: float, seed: int, labels: np.ndarray | None = None, most: float = 2.0
) -> np.ndarray:
    """True for about `share` of the objects, whole groups of them; never the last object of a label.

    Groups that would take it beyond `most` times the share are passed over; so nobody may be left.
    """
    members = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(members)
    order = np.argsort(members, kind="stable")
    starts = np.concatenate([[0], sizes.cumsum()])
    kinds = np.zeros(len(groups), dtype=int) if labels is None else np.unique(labels, return_inverse=True)[1]
    left, away, taken = np.bincount(kinds), np.zeros(len(groups), dtype=bool), 0
    for group in np.random.default_rng(seed).permutation(len(sizes)):
        rows = order[starts[group] : starts[group + 1]]
        fewer = left - np.bincount(kinds[rows], minlength=len(left))
        if taken + len(rows) <= most * share * len(groups) and (fewer > 0).all():
            away[rows], left, taken = True, fewer, taken + len(rows)
        if taken >= share * len(groups):
            break
    return away
