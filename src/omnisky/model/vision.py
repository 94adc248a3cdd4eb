"""AstroDINO's image encoder: a vision transformer with a class token (Dosovitskiy et al. 2021, arXiv:2010.11929).

The network is DINOv2's (Oquab et al. 2023, arXiv:2304.07193), as AstroCLIP trains it on galaxies (Parker et al. 2024,
MNRAS 531, 4990, §3.1): 144-px RGB-stretched images in patches of 12 px. States are the class token, then the patches
row by row. How it learns without labels is in `model.distill`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omnisky.codec.patch import factors, paste, side_of
from omnisky.codec.tokens import Codec, Tokens, demand_present
from omnisky.codec.weights import Blank
from omnisky.errors import BadValue, ShapeMismatch
from omnisky.model.transformer import CoreConfig, Stack

NUDGE = 0.1
"""compat: DINOv2 adds this to a grid's side before it scales its positions, against rounding down"""


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A ViT: its core, and the grid of patches its positions are learned for."""

    core: CoreConfig
    patch_size: int = 12
    """px"""
    bands: int = 3
    grid: int = 12
    """patches a side; other grids get interpolated positions"""
    stem: tuple[int, ...] = ()
    """channels of convolutions that make the patches' states (`Stem`) instead of one linear layer"""
    name: str = "images"
    """of the span of patches, each (patch_size, patch_size, band) flattened"""

    def build(self, seed: int | None = None) -> Vision:
        return Vision(self, seed)


def vit(
    width: int,
    depth: int,
    heads: int,
    *,
    patch_size: int = 12,
    grid: int = 12,
    stem: tuple[int, ...] = (),
    **core: Any,
) -> VisionConfig:
    """A ViT with DINOv2's core: biases, erf-GELU, LayerScale from 1e-5, norms with eps 1e-6; no registers."""
    shared: dict[str, Any] = {"bias": True, "activation": "gelu", "scale_init": 1e-5, "eps": 1e-6} | core
    return VisionConfig(
        core=CoreConfig(width=width, depth=depth, heads=heads, **shared), patch_size=patch_size, grid=grid, stem=stem
    )


SIZES: dict[str, tuple[int, int, int]] = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
"""name → width, depth, heads of `vit`; AstroDINO is "large", 302,954,496 parameters (DeiT's and ViT's sizes)"""


class Stem(nn.Module):
    """Convolutions that shrink an image to one state a patch, then one linear layer.

    A ViT learns faster so (Xiao et al. 2021, arXiv:2106.14881). The strides are the factors of the patch's side, 2
    before 3, one a convolution; any more convolutions have stride 1. They are 3 × 3, or as wide as their stride if
    that is more, so that no pixel is skipped but, by odd strides, those of the image's lower and right edge (4 px of
    patches of 12). A state sees a little of its neighbours. Raises BadValue.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.side, self.bands = config.patch_size, config.bands
        strides = factors(config.patch_size)
        if len(config.stem) < len(strides):
            saw = f"{len(config.stem)} convolutions for patches of {config.patch_size} px"
            raise BadValue("stem", saw=saw, want=f"{len(strides)} or more: one for each of {strides}")
        strides += (1,) * (len(config.stem) - len(strides))
        widths = (config.bands, *config.stem)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, size, stride=stride, padding=size // 2)
            for (a, b), stride, size in zip(pairwise(widths), strides, (max(3, s) for s in strides), strict=True)
        )
        self.out = nn.Linear(config.stem[-1], config.core.width)

    def forward(self, patches: Float[Tensor, "object patch number"]) -> Float[Tensor, "object patch width"]:
        """Patches of a whole square image, row by row."""
        x = paste(patches, self.side)
        for convolution in self.convolutions:
            x = F.gelu(convolution(x))
        return self.out(x.flatten(2).mT)

    def scales(self) -> Iterator[tuple[nn.Conv2d, int]]:
        """Each convolution, and how many pixels of what it makes a patch has."""
        pixels = self.side**2
        for convolution in self.convolutions:
            pixels //= convolution.stride[0] ** 2
            yield convolution, pixels

    def begin(self, draw: torch.Generator | None) -> None:
        """He's start (He et al. 2015, arXiv:1502.01852): no convolution makes its numbers larger or smaller."""
        for layer in (*self.convolutions, self.out):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=draw)
            nn.init.zeros_(layer.bias)


class Vision(nn.Module):
    """Patches of pixels → states: the class token's, then each patch's."""

    def __init__(self, config: VisionConfig, seed: int | None = None) -> None:
        super().__init__()
        width = config.core.width
        self.config = config
        self.codecs: tuple[Codec, ...] = ()
        self.patches = Stem(config) if config.stem else nn.Linear(config.patch_size**2 * config.bands, width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.hidden_token = nn.Parameter(torch.zeros(1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + config.grid**2, width))
        self.core = Stack(config.core)
        self._begin(None if seed is None else torch.Generator().manual_seed(seed))

    @property
    def centre(self) -> None:
        """Embeddings are read after the last norm."""
        return None

    def forward(
        self,
        patches: Float[Tensor, "object patch number"],
        held_out: Bool[Tensor, "object patch"] | None = None,
        blocks: int | None = None,
        attend: Bool[Tensor, "#object state state"] | None = None,
    ) -> Float[Tensor, "object state width"]:
        """States after the last norm (or raw after `blocks` blocks): [:, 0] the class token's, [:, 1:] the patches'.

        `held_out` patches are replaced by the hidden token and keep their positions (iBOT, Zhou et al. 2022).
        """
        if held_out is not None and self.config.stem:  # what is hidden must not be seen by its neighbours either
            patches = patches.masked_fill(held_out[..., None], 0)
        x = self.patches(patches)
        if held_out is not None:
            x = torch.where(held_out[..., None], self.hidden_token.to(x.dtype), x)
        where = self.places(patches.shape[1])
        x = torch.cat([(self.class_token + where[:, :1]).expand(len(x), -1, -1), x + where[:, 1:]], dim=1)
        return self.core(x, attend, blocks=blocks)

    def bare(
        self, patches: Float[Tensor, "object patch number"], attend: Bool[Tensor, "#object patch patch"] | None = None
    ) -> Float[Tensor, "object patch width"]:
        """Compat: states of the patches alone, without class token or positions, as AstroCLIP's image head runs it."""
        return self.core(self.patches(patches), attend)

    def states(
        self, tokens: Tokens, blocks: int | None = None, bare: bool = False
    ) -> Float[Tensor, "object state width"]:
        """`forward` (or `bare`) on the span this model reads. Absent patches are seen by nobody."""
        span = demand_present(tokens, self.config.name)
        if span.values.shape[-1] != self.config.patch_size**2 * self.config.bands:
            raise ShapeMismatch(
                f"patches of {self.config.name!r}",
                saw=f"{span.values.shape[-1]} numbers",
                want=f"{self.config.patch_size} × {self.config.patch_size} px × {self.config.bands} bands",
                hint="the codec this model was trained with",
            )
        values, attend = span.values, None
        if span.present is not None:
            if self.config.stem:  # convolutions attend to nothing
                values = values.masked_fill(~span.present[..., None], 0)
            there = span.present if bare else F.pad(span.present, (1, 0), value=True)
            attend = there[:, None, :] | torch.eye(there.shape[1], dtype=torch.bool, device=there.device)
        return self.bare(values, attend) if bare else self(values, blocks=blocks, attend=attend)

    def vectors(self, tokens: Tokens, blocks: int | None = None) -> Float[Tensor, "object width"]:
        """One vector an object: the class token's state, AstroDINO's embedding."""
        return self.states(tokens, blocks)[:, 0]

    def places(self, patches: int) -> Float[Tensor, "1 state width"]:
        """Positions of the class token and of a square of so many patches; bicubic where it is not the trained grid."""
        n, grid = side_of(patches, "patches"), self.config.grid
        if n == grid:
            return self.positions
        table = self.positions[:, 1:].float().unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
        scale = (n + NUDGE) / grid
        scaled = F.interpolate(table, scale_factor=(scale, scale), mode="bicubic")
        return torch.cat([self.positions[:, :1], scaled.flatten(2).mT.to(self.positions.dtype)], dim=1)

    def _begin(self, draw: torch.Generator | None) -> None:
        """DINOv2's start: linears and positions N(0, 0.02), the class token almost 0, patches uniform."""
        if Blank.inside():
            return
        for module in self.core.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=draw)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.positions, std=0.02, generator=draw)
        nn.init.normal_(self.class_token, std=1e-6, generator=draw)
        if isinstance(self.patches, Stem):
            self.patches.begin(draw)
        else:
            bound = self.patches.in_features**-0.5
            nn.init.uniform_(self.patches.weight, -bound, bound, generator=draw)
            nn.init.uniform_(self.patches.bias, -bound, bound, generator=draw)
