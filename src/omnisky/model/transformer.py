"""The core: one attention, one block, one stack, for every model of the package.

AstroPT, SpecFormer, AstroDINO and AION's encoder and decoder are all this file with other numbers in `CoreConfig`.
Each switch there is earned by a published checkpoint. Conventions:

    attend[b, q, k] True: query q may look at key k (a float `attend` is added to the scores instead)
    causal=True: query q may look at keys 0 … q; faster than the same rule spelled out in `attend`
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from omnisky.codec.processor import has_tiles
from omnisky.errors import BadValue
from omnisky.model.activation import ACTIVATIONS, bent, product


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """The numbers of a stack of pre-norm transformer blocks (Vaswani et al. 2017; pre-norm: Xiong et al. 2020)."""

    width: int
    depth: int
    heads: int
    hidden: int | None = None
    """numbers inside the MLP; None means 4 · width"""
    bias: bool = False
    """in linears and norms: DINOv2 and SpecFormer yes, AstroPT and AION no"""
    activation: str = "gelu_tanh"
    """AstroPT gelu_tanh, DINOv2 and SpecFormer gelu, AION silu_gated (Shazeer 2020, arXiv:2002.05202)"""
    cross: bool = False
    """look at a context after looking at oneself: AION's decoder"""
    norm_heads: bool = False
    """LayerNorm on the queries and keys of each head: AION (Henry et al. 2020, arXiv:2010.04245)"""
    scale_init: float | None = None
    """LayerScale on both branches, from this value: DINOv2 (Touvron et al. 2021, arXiv:2103.17239)"""
    eps: float = 1e-5
    """of every LayerNorm: AstroPT and SpecFormer 1e-5, DINOv2 and AION 1e-6"""
    dropout: float = 0.0
    drop_path: float = 0.0
    """chance that an object skips a branch while training (Huang et al. 2016, arXiv:1603.09382)"""
    remat: bool = False
    """recompute activations in the backward pass instead of keeping them (Chen et al. 2016, arXiv:1604.06174)"""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise BadValue("width must divide into heads", saw=f"{self.width} / {self.heads}", want="a whole number")
        if self.activation not in ACTIVATIONS:
            raise BadValue(saw=self.activation, want=tuple(ACTIVATIONS))


def causal(tokens: int) -> Bool[Tensor, "1 token token"]:
    """Each token may look at itself and what came before."""
    return torch.ones(1, tokens, tokens, dtype=torch.bool).tril()


def prefixed(tokens: int, prefix: int) -> Bool[Tensor, "1 token token"]:
    """The first `prefix` tokens may be seen by all, the rest is causal (Raffel et al. 2020, §3.2.1)."""
    attend = causal(tokens)
    attend[:, :, :prefix] = True
    return attend


Memory = tuple[Tensor, Tensor]
"""keys and values of a context, (object, head, token, head_width) each"""

FOLDED = 32
"""tokens of a context from which on a single query folds its values"""
SCORES = 2**24
"""scores that are kept at once where nothing is learnt: 32 MB in bfloat16"""


class KeyValues:
    """What one attention layer remembers of earlier tokens, in a buffer of fixed capacity."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.length = capacity, 0
        self.store: Tensor | None = None

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Remember new keys and values (object, head, token, head_width); return all so far."""
        if self.store is None:
            b, h, _, d = key.shape
            self.store = key.new_empty(2, b, h, self.capacity, d)
        start, self.length = self.length, self.length + key.shape[2]
        self.store[0, :, :, start : self.length] = key
        self.store[1, :, :, start : self.length] = value
        return self.store[0, :, :, : self.length], self.store[1, :, :, : self.length]


class Cache:
    """The keys and values of a whole stack, so that a new token costs one token's work."""

    def __init__(self, depth: int, capacity: int) -> None:
        self.layers = [KeyValues(capacity) for _ in range(depth)]

    @property
    def length(self) -> int:
        return self.layers[0].length


class Attention(nn.Module):
    """Multi-head self-attention; rows of `qkv` are all queries, then keys, then values, each head by head."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.bias)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)
        self.norm_query, self.norm_key = _head_norm(config), _head_norm(config)

    def forward(
        self,
        x: Tensor,
        attend: Tensor | None = None,
        causal: bool = False,
        cache: KeyValues | None = None,
        alone: bool = False,
    ) -> Tensor:
        if alone and type(self.qkv) is nn.Linear:  # what a token says to itself is its value
            width, bias = x.shape[-1], self.qkv.bias
            return self.out(F.linear(x, self.qkv.weight[2 * width :], None if bias is None else bias[2 * width :]))
        if alone:
            attend = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)[None]
        q, k, v = product(self.qkv, x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.norm_query(q), self.norm_key(k)
        if cache is not None:
            k, v = cache.extend(k, v)
        mixed = _mix(q, k, v, attend, causal and q.shape[2] > 1, self.dropout if self.training else 0.0)
        return product(self.out, mixed)


class CrossAttention(nn.Module):
    """Multi-head attention to a context; rows of `key_value` are all keys, then all values."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.query = nn.Linear(config.width, config.width, bias=config.bias)
        self.key_value = nn.Linear(config.width, 2 * config.width, bias=config.bias)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)
        self.norm_query, self.norm_key = _head_norm(config), _head_norm(config)

    def forward(self, x: Tensor, context: Tensor | Memory, attend: Tensor | None = None) -> Tensor:
        q = self.norm_query(product(self.query, x).unflatten(-1, (self.heads, -1)).transpose(1, 2))
        if isinstance(context, Tensor) and self._folds(x, context):
            return product(self.out, self._one_pass(q, context, attend))
        k, v = self.remember(context) if isinstance(context, Tensor) else context
        return product(self.out, _mix(q, k, v, attend, False, self.dropout if self.training else 0.0))

    def remember(self, context: Tensor) -> Memory:
        """Keys and values of a context, to be looked at more than once."""
        k, v = product(self.key_value, context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.norm_key(k), v

    def _folds(self, x: Tensor, context: Tensor) -> bool:
        """A single query needs no values of the context: what it mixes is worked out after the mixing."""
        plain = type(self.key_value) is nn.Linear and self.key_value.bias is None
        return plain and x.shape[1] == 1 and context.shape[1] >= FOLDED and not torch.is_grad_enabled()

    def _one_pass(self, q: Tensor, context: Tensor, attend: Tensor | None) -> Tensor:
        """Σ a_n (W c_n) = W (Σ a_n c_n): half of the products with the context are saved."""
        keys, values = self.key_value.weight.chunk(2)
        k = self.norm_key(F.linear(context, keys).unflatten(-1, (self.heads, -1)).transpose(1, 2))
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if attend is not None:
            unseen = torch.finfo(scores.dtype).min
            attend = attend.unsqueeze(-3)
            scores = scores + (attend if attend.is_floating_point() else torch.where(attend, 0.0, unseen))
        mixed = (scores.softmax(-1).squeeze(2) @ context.to(scores.dtype)).transpose(0, 1)  # head, object, width
        each = mixed @ values.unflatten(0, (self.heads, -1)).transpose(1, 2)
        return each.transpose(0, 1).flatten(1)[:, None]


class MLP(nn.Module):
    """Two linears with an activation between; gated: activation(up) · gate."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        hidden = config.hidden or 4 * config.width
        self.activation = config.activation
        self.up = nn.Linear(config.width, hidden, bias=config.bias)
        self.gate = nn.Linear(config.width, hidden, bias=config.bias) if config.activation == "silu_gated" else None
        self.down = nn.Linear(hidden, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        inside = bent(self.up, self.activation, x)
        if self.gate is None:
            return product(self.down, inside)
        gate = product(self.gate, x)
        return product(self.down, inside * gate if torch.is_grad_enabled() else inside.mul_(gate))


class Branch(nn.Module):
    """What happens to a branch before it joins the residual stream: dropout, LayerScale, drop-path."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        self.dropout, self.drop_path = config.dropout, config.drop_path
        self.scale = None if config.scale_init is None else nn.Parameter(torch.full((config.width,), config.scale_init))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        if self.training and self.dropout:
            branch = F.dropout(branch, self.dropout)
        if self.scale is not None:
            branch = branch * self.scale
        if self.training and self.drop_path:
            kept = torch.rand(len(x), 1, 1, device=x.device) >= self.drop_path
            branch = branch * kept / (1 - self.drop_path)
        return x + branch


class Block(nn.Module):
    """x += attention(norm(x)); [x += cross(norm(x), norm(context));] x += mlp(norm(x))."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        self.attention_norm = norm(config)
        self.attention = Attention(config)
        self.attention_branch = Branch(config)
        if config.cross:
            self.cross_norm, self.context_norm = norm(config), norm(config)
            self.cross = CrossAttention(config)
            self.cross_branch = Branch(config)
        self.mlp_norm = norm(config)
        self.mlp = MLP(config)
        self.mlp_branch = Branch(config)

    def forward(
        self,
        x: Tensor,
        attend: Tensor | None = None,
        causal: bool = False,
        cache: KeyValues | None = None,
        context: Tensor | Memory | None = None,
        attend_context: Tensor | None = None,
        alone: bool = False,
    ) -> Tensor:
        x = self.attention_branch(x, self.attention(self.attention_norm(x), attend, causal, cache, alone))
        if context is not None:
            context = self.context_norm(context) if isinstance(context, Tensor) else context
            x = self.cross_branch(x, self.cross(self.cross_norm(x), context, attend_context))
        return self.mlp_branch(x, self.mlp(self.mlp_norm(x)))


class Stack(nn.Module):
    """Blocks one after the other, and a last norm."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        self.config = config
        self.remat = config.remat
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = norm(config)

    def forward(
        self,
        x: Float[Tensor, "object token width"],
        attend: Bool[Tensor, "#object #query key"] | Float[Tensor, "#object #query key"] | None = None,
        causal: bool = False,
        cache: Cache | None = None,
        context: Float[Tensor, "object other width"] | list[Memory] | None = None,
        attend_context: Bool[Tensor, "#object #query other"] | Float[Tensor, "#object #query other"] | None = None,
        blocks: int | None = None,
        alone: bool = False,
    ) -> Float[Tensor, "object token width"]:
        """States after the last norm, or, with `blocks=k`, after k blocks and before any norm: the rest is not run.

        `causal` and a filled `cache` together want one new token at a time, or `attend` spelled out. `alone`: each
        token looks at itself only. `context` may be what `remember` made of one.
        """
        if blocks is not None and not 0 <= blocks <= len(self.blocks):
            raise BadValue("blocks", saw=blocks, want=f"0 … {len(self.blocks)}, this model's depth")
        if causal and cache is not None and cache.length and x.shape[1] > 1:
            raise BadValue("several new tokens after a filled cache", want="one at a time, or attend= spelled out")
        for i, block in enumerate(self.blocks[:blocks]):
            kept = None if cache is None else cache.layers[i]
            around = context[i] if isinstance(context, list) else context
            if self.remat and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, attend, causal, kept, around, attend_context, alone, use_reentrant=False)
            else:
                x = block(x, attend, causal, kept, around, attend_context, alone)
        return self.norm(x) if blocks is None else x

    def remember(self, context: Float[Tensor, "object other width"]) -> list[Memory]:
        """Each block's keys and values of a context."""
        return [block.cross.remember(block.context_norm(context)) for block in self.blocks]


def norm(config: CoreConfig) -> nn.LayerNorm:
    """The LayerNorm of this core."""
    return nn.LayerNorm(config.width, eps=config.eps, bias=config.bias)


def _head_norm(config: CoreConfig) -> nn.Module:
    if not config.norm_heads:
        return nn.Identity()
    return nn.LayerNorm(config.width // config.heads, eps=config.eps, bias=config.bias)


def _mix(q: Tensor, k: Tensor, v: Tensor, attend: Tensor | None, causal: bool, dropout: float) -> Tensor:
    """softmax(q·kᵀ/√d)·v for every head, heads side by side again."""
    attend = None if attend is None else attend.unsqueeze(-3)
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and not dropout and _plain_is_faster(q, causal):
        y = _plain_attention(q, k, v, attend, causal)
    else:
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=attend, is_causal=causal, dropout_p=dropout)
    return y.transpose(1, 2).flatten(2)


def _plain_is_faster(q: Tensor, causal: bool) -> bool:
    """Torch's fused bf16 kernel is 3–8 times slower than plain products on the way back, and 1.4–1.7 times slower on
    the way there where a CPU has no tiles (AMX) for it, unless it can leave half out (dev/LOG.md).
    """
    return q.requires_grad or not (causal or has_tiles())


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, attend: Tensor | None, causal: bool) -> Tensor:
    if causal:
        attend = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
    bias = q.new_zeros(()) if attend is None else attend
    if not bias.is_floating_point():
        # −finfo.max, not −∞: a row that may look at nothing stays finite.
        bias = torch.where(bias, 0.0, torch.finfo(q.dtype).min)
    bias = bias.to(q.dtype).expand(*q.shape[:3], k.shape[2])
    step = len(q) if q.requires_grad else max(1, SCORES // bias[0].numel())
    pieces = (_mixed(*piece) for piece in zip(*(t.split(step) for t in (q, k, v, bias)), strict=True))
    return torch.cat(list(pieces)) if step < len(q) else next(pieces)


def _mixed(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    queries, keys = q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)
    with torch.autocast(q.device.type, enabled=False):  # its softmax is one of float32 numbers, there and back
        scores = torch.baddbmm(bias.flatten(0, 1), queries, keys, alpha=q.shape[-1] ** -0.5)
        return (scores.softmax(-1) @ v.flatten(0, 1)).view_as(q)


def initialise(core: nn.Module, depth: int, generator: torch.Generator | None = None) -> None:
    """GPT-2's rule (Radford et al. 2019, §2.3): N(0, 0.02), what joins the residual stream N(0, 0.02/√(2·depth)).

    Linear layers named `out` or `down` join the stream. Biases 0, norms 1.
    """
    for name, module in core.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            joins = name.rpartition(".")[2] in ("out", "down")
            nn.init.normal_(module.weight, std=0.02 / (2 * depth) ** 0.5 if joins else 0.02, generator=generator)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
