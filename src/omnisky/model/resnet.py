"""Residual networks (He et al. 2016, arXiv:1512.03385), as torchvision builds them and published weights lie in them.

`ResNet` is the bare network: images to a grid of features. `MomentumEncoder` is the ResNet50 that Stein et al. 2021
(arXiv:2110.13151) trained by momentum contrast, which AstroCLIP's first version aligned with spectra.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from omnisky.codec.tokens import Codec, Tokens, demand_present
from omnisky.errors import ShapeMismatch


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """How many blocks each of the four stages has, and of which kind."""

    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)
    bottleneck: bool = False
    """1×1, 3×3, 1×1 convolutions that end four times as wide, as from ResNet50 on"""
    bands: int = 3

    @property
    def width(self) -> int:
        """Numbers at the end."""
        return 2048 if self.bottleneck else 512


RESNET18 = ResNetConfig()
RESNET50 = ResNetConfig(blocks=(3, 4, 6, 3), bottleneck=True)


class ConvNorm(nn.Sequential):
    """A convolution without bias, and batch norm."""

    def __init__(self, inside: int, outside: int, size: int, stride: int = 1) -> None:
        conv = nn.Conv2d(inside, outside, size, stride=stride, padding=size // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outside))


class Residual(nn.Module):
    """x + convolutions(x); a strided 1×1 convolution instead of x where the shape changes."""

    def __init__(self, inside: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outside = 4 * width if bottleneck else width
        if bottleneck:
            parts = [ConvNorm(inside, width, 1), ConvNorm(width, width, 3, stride), ConvNorm(width, outside, 1)]
        else:
            parts = [ConvNorm(inside, width, 3, stride), ConvNorm(width, width, 3)]
        self.parts = nn.ModuleList(parts)
        self.skip = ConvNorm(inside, outside, 1, stride) if stride > 1 or inside != outside else None

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for part in self.parts[:-1]:
            y = F.relu(part(y), inplace=True)
        return F.relu(self.parts[-1](y) + (x if self.skip is None else self.skip(x)))


class ResNet(nn.Module):
    """Images → features, a 32nd of their size."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.stem = ConvNorm(config.bands, 64, 7, 2)
        grow, inside, stages = 4 if config.bottleneck else 1, 64, []
        for i, count in enumerate(config.blocks):
            width = 64 * 2**i
            first = Residual(inside, width, 2 if i else 1, config.bottleneck)
            inside = grow * width
            stages.append(
                nn.Sequential(first, *(Residual(inside, width, 1, config.bottleneck) for _ in range(count - 1)))
            )
        self.stages = nn.Sequential(*stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels: Float[Tensor, "object band height width"]) -> Float[Tensor, "object feature"]:
        """The mean over the sky of the last features."""
        x = pixels.contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(F.relu(self.stem(x), inplace=True), 3, stride=2, padding=1)
        return self.stages(x).mean((-2, -1))


def pixels_of(tokens: Tokens, name: str, bands: int) -> Float[Tensor, "object band height width"]:
    """Images out of a span of one token a pixel, row by row. Raises ShapeMismatch, MissingModality."""
    values = demand_present(tokens, name).values
    side = round(values.shape[1] ** 0.5)
    if values.shape[2] != bands or side * side != values.shape[1]:
        saw = f"{values.shape[1]} tokens of {values.shape[2]} numbers"
        raise ShapeMismatch(f"pixels of {name!r}", saw=saw, want=f"a square of tokens of {bands} bands, one a pixel")
    return values.mT.unflatten(-1, (side, side))


@dataclass(frozen=True, kw_only=True)
class MomentumEncoderConfig:
    """Stein's ResNet50 and its head of two layers."""

    network: ResNetConfig = RESNET50
    projected: int = 128
    """numbers after the head"""
    name: str = "pixels"
    """of the span it reads, one token a pixel"""

    def build(self, seed: int | None = None) -> MomentumEncoder:
        with torch.random.fork_rng():
            torch.manual_seed(0 if seed is None else seed)
            return MomentumEncoder(self).to(memory_format=torch.channels_last)


class MomentumEncoder(nn.Module):
    """Images → 2048 features, which are the embedding; a head makes 128 of them, in which it was trained."""

    def __init__(self, config: MomentumEncoderConfig) -> None:
        super().__init__()
        width = config.network.width
        self.config = config
        self.codecs: tuple[Codec, ...] = ()
        self.network = ResNet(config.network)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, config.projected)

    @property
    def centre(self) -> None:
        """There is one layer to read: the last."""
        return None

    def vectors(self, tokens: Tokens, blocks: int | None = None) -> Float[Tensor, "object width"]:
        """The features before the head, which Stein et al. use downstream."""
        return self.network(pixels_of(tokens, self.config.name, self.config.network.bands))

    def project(self, tokens: Tokens) -> Float[Tensor, "object projected"]:
        """What the head makes of them: the vectors that were contrasted."""
        return self.down(F.relu(self.up(self.vectors(tokens))))
