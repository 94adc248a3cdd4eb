"""Supervised yardsticks: what labels alone teach a small network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from omnisky.codec.tokens import Codec, Tokens


@dataclass(frozen=True, kw_only=True)
class SmallCNNConfig:
    """A small convolutional classifier of colour images."""

    bands: int = 3
    classes: int = 5
    widths: tuple[int, ...] = (32, 64, 128, 256)
    """channels of each stage; each halves the image"""
    dropout: float = 0.3
    pixels: str = "pixels"
    """name of the span of the image's pixels, one token per pixel row-major"""
    labels: str = "labels"
    """name of the span of class ids, one token per object"""

    def build(self, seed: int | None = None) -> SmallCNN:
        with torch.random.fork_rng():
            torch.manual_seed(0 if seed is None else seed)
            return SmallCNN(self).to(memory_format=torch.channels_last)


class Stage(nn.Module):
    """Two 3×3 convolutions with batch norm and a residual, then half the size (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        self.second = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(inside, outside, 1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(outside), nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.max_pool2d(F.relu(self.second_norm(self.second(y)) + self.skip(x)), 2)


class SmallCNN(nn.Module):
    """Four residual stages, mean over the sky, dropout, one linear layer; cross-entropy on labels."""

    def __init__(self, config: SmallCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.codecs: tuple[Codec, ...] = ()
        widths = (config.bands, *config.widths)
        self.stages = nn.Sequential(*(Stage(a, b) for a, b in pairwise(widths)))
        self.answers = nn.Linear(widths[-1], config.classes)

    def forward(self, tokens: Tokens) -> Float[Tensor, "object classes"]:
        """Logits."""
        pixels = tokens[self.config.pixels].values
        side = round(pixels.shape[1] ** 0.5)
        x = pixels.mT.unflatten(-1, (side, side)).contiguous(memory_format=torch.channels_last)
        x = self.stages(x).mean((-2, -1))
        return self.answers(F.dropout(x, self.config.dropout, self.training))

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """Mean cross-entropy of the objects' labels."""
        return F.cross_entropy(self(tokens).float(), tokens[self.config.labels].values[:, 0])
