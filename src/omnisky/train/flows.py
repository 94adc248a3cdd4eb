"""What one object sends through each part of a model in a training step: counted from the config, nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from omnisky.model.autoregressive import PatchConfig
from omnisky.model.contrastive import ContrastiveConfig, TowerConfig
from omnisky.model.distill import DistillConfig
from omnisky.model.masked import AnyToAnyConfig
from omnisky.model.specformer import SpecformerConfig
from omnisky.model.transformer import CoreConfig, Stack
from omnisky.model.vision import Stem, VisionConfig

Lengths = Mapping[str, int]
"""tokens an object has, by the name of their span"""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Rows through a part: a Stack, or whatever linears are in it."""

    part: str
    """its dotted name in the model"""
    rows: float
    """of one object"""
    context: float = 0
    """of a Stack: rows that its cross-attention looks at"""
    times: int = 1
    """sequences of so many rows"""
    learns: bool = True
    """a gradient flows back through it"""
    first: bool = False
    """what comes in needs no gradient"""
    weights: float = 0
    """numbers that a row is multiplied with; 0 means those of the part's linears"""
    logits: float = 0
    """numbers a row that are kept in fp32 beside their logarithms"""


def forward_flops(flow: Flow, module: nn.Module) -> float:
    """Of one object: two for each product and sum. Attention as if all looked at all, which is what kernels count."""
    if not isinstance(module, Stack):
        return 2 * flow.times * flow.rows * (flow.weights or sum(_sizes(module)))
    return flow.times * (_linear(flow, module.config) + _attention(flow, module.config)) * module.config.depth


def backward_flops(flow: Flow, module: nn.Module) -> float:
    """Two products for each one forward, and the scores of an attention once more (Dao et al. 2022, §3.1)."""
    if not flow.learns:
        return 0.0
    if isinstance(module, Stack):
        core = module.config
        return flow.times * core.depth * (2 * _linear(flow, core) + 2.5 * _attention(flow, core))
    if not flow.first:
        return 2 * forward_flops(flow, module)
    unneeded = flow.weights or next(iter(_sizes(module)), 0)
    return 2 * forward_flops(flow, module) - 2 * flow.times * flow.rows * unneeded


def kept(flow: Flow, module: nn.Module, size: int, remat: bool) -> float:
    """Bytes of one object kept for the backward pass, matrix products being of `size` bytes a number.

    In fp32: the residual stream before each norm. In `size`: what goes into each linear and comes out where the
    backward pass asks for it. With `remat` a block keeps its input, and one at a time all the rest.
    """
    if not flow.learns:
        return 0.0
    if not isinstance(module, Stack):
        through = 0 if flow.weights else _kept_outside(module)
        return flow.times * flow.rows * (through * size + 8 * flow.logits)
    core, rows = module.config, flow.times * flow.rows
    block = rows * _kept_row(core, size) + flow.times * flow.context * _kept_context(core, size)
    end = rows * 4 * core.width
    return end + (core.depth * end + block if remat else core.depth * block)


def _kept_outside(module: nn.Module) -> float:
    """Numbers a row into and out of each linear; of a stem, and each convolution's before its GELU and after."""
    if isinstance(module, Stem):
        made = sum(2 * pixels * c.out_channels for c, pixels in module.scales())
        return module.side**2 * module.bands + made + module.out.out_features
    return sum(m.in_features + m.out_features for m in module.modules() if isinstance(m, nn.Linear))


def _kept_row(core: CoreConfig, size: int) -> float:
    width, hidden = core.width, core.hidden or 4 * core.width
    heads = 2 * width * size if core.norm_heads else 0
    scales = 0 if core.scale_init is None else width * size
    attention = 4 * width + (1 + 3 + 1) * width * size + heads + scales + 4 * core.heads
    mlp = 4 * width + width * size + hidden * size * (4 if core.activation == "silu_gated" else 2) + scales
    if not core.cross:
        return attention + mlp
    return attention + mlp + 4 * width + 3 * width * size + heads / 2 + scales + 4 * core.heads


def _kept_context(core: CoreConfig, size: int) -> float:
    return core.width * size * (1 + 2 + (1 if core.norm_heads else 0)) if core.cross else 0.0


def _linear(flow: Flow, core: CoreConfig) -> float:
    width, hidden = core.width, core.hidden or 4 * core.width
    mlp = width * hidden * (3 if core.activation == "silu_gated" else 2)
    cross = 2 * flow.rows + 2 * flow.context if core.cross and flow.context else 0
    return 2 * (flow.rows * (4 * width**2 + mlp) + cross * width**2)


def _attention(flow: Flow, core: CoreConfig) -> float:
    return 4 * core.width * flow.rows * (flow.rows + (flow.context if core.cross else 0))


def _sizes(module: nn.Module) -> list[float]:
    if isinstance(module, Stem):
        return [*(pixels * c.weight.numel() for c, pixels in module.scales()), module.out.weight.numel()]
    return [m.in_features * m.out_features for m in module.modules() if isinstance(m, nn.Linear)]


# --- by kind of model --------------------------------------------------------------------------------------------


def flows(config: Any, lengths: Lengths) -> list[Flow]:
    """All of them; none for a model that is not made of the core. Where `lengths` is silent, sequences are full."""
    for kind, told in KINDS.items():
        if isinstance(config, kind):
            return told(config, lengths)
    return []


def _patches(config: PatchConfig, lengths: Lengths) -> list[Flow]:
    known = {m.name: lengths.get(m.name, 0 if lengths else config.context) for m in config.modalities}
    found = [Flow(part="core", rows=sum(known.values()))]
    for name, rows in known.items():
        found += [
            Flow(part=f"junction.encoders.{name}", rows=rows, first=True),
            Flow(part=f"junction.positions.{name}", rows=rows, first=True),
            Flow(part=f"junction.decoders.{name}", rows=rows),
        ]
    return found


def _any_to_any(config: AnyToAnyConfig, lengths: Lengths) -> list[Flow]:
    """All budgets are spent; tokens are asked for as often as an object has them."""
    whole = sum(v.length for v in config.vocabularies)
    answers = sum(v.length * v.size for v in config.vocabularies) / whole
    width, asked = config.core.width, config.asked
    return [
        Flow(part="encoder", rows=config.shown),
        Flow(part="project", rows=config.shown),
        Flow(part="decoder", rows=asked, context=config.shown),
        Flow(part="ends", rows=asked, weights=width * answers, logits=answers),
    ]


def _specformer(config: SpecformerConfig, lengths: Lengths, under: str = "", learns: bool = True) -> list[Flow]:
    rows = lengths.get(config.name, config.context)
    found = [Flow(part=f"{under}sections", rows=rows, first=True, learns=learns)]
    found += [Flow(part=f"{under}core", rows=rows, learns=learns)]
    return found if under else [*found, Flow(part="head", rows=rows)]


def _vision(config: VisionConfig, patches: int, times: int, under: str, learns: bool) -> list[Flow]:
    return [
        Flow(part=f"{under}patches", rows=patches, times=times, first=True, learns=learns),
        Flow(part=f"{under}core", rows=patches + 1, times=times, learns=learns),
    ]


def _distill(config: DistillConfig, lengths: Lengths) -> list[Flow]:
    """Two large views and the small ones; half of the large ones lose patches."""
    large, small = ((view.size // config.vision.patch_size) ** 2 for view in (config.views.first, config.views.small))
    hiding, some = config.hiding, config.views.small_views
    hidden = 2 * hiding.images * (hiding.least + hiding.most) / 2 * large
    found = []
    for who, rows, learns in (("student", 2 + some + hidden, True), ("teacher", 2 + hidden, False)):
        found += _vision(config.vision, large, 2, f"{who}.vision.", learns)
        found += [Flow(part=f"{who}.head", rows=rows, learns=learns)]
        last = config.bottleneck * config.prototypes
        found += [Flow(part=f"{who}.head.last", rows=rows, weights=last, logits=config.prototypes, learns=learns)]
    return found + _vision(config.vision, small, some, "student.vision.", True)


def _contrastive(config: ContrastiveConfig, lengths: Lengths) -> list[Flow]:
    found: list[Flow] = []
    for name, tower in (("image", config.image), ("spectrum", config.spectrum)):
        if not isinstance(tower, TowerConfig):
            return []
        backbone, under, learns = tower.backbone, f"{name}.backbone.", not tower.frozen
        if isinstance(backbone, VisionConfig):
            states = lengths.get(backbone.name, backbone.grid**2)
            found += _vision(backbone, states, 1, under, learns)
        else:
            states = lengths.get(backbone.name, backbone.context)
            found += _specformer(backbone, lengths, under, learns)
        read = 2 * tower.pool.heads * tower.pool.inside
        found += [Flow(part=f"{name}.pool", rows=states, weights=read, first=not learns)]
        found += [Flow(part=f"{name}.pool.{part}", rows=1) for part in ("to_value", "out", "up", "down")]
    return found


KINDS: dict[type, Callable[[Any, Lengths], list[Flow]]] = {
    PatchConfig: _patches,
    AnyToAnyConfig: _any_to_any,
    SpecformerConfig: _specformer,
    DistillConfig: _distill,
    ContrastiveConfig: _contrastive,
}
