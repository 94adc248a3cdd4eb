"""Convolutions with fewer products: tiles and kernels are turned, multiplied number by number, and turned back.

3×3: Winograd's F(4×4, 3×3) (Lavin & Gray 2016, arXiv:1509.09308), 36 products for 16 pixels of the answer instead of
144. Larger ones: Fourier's (Mathieu, Henaff & LeCun 2014, arXiv:1312.5851), three products a complex number; for 7×7,
332 products for 64 pixels instead of 3,136. In float32 the answers differ from a plain convolution's by some 1e-6.
There are no gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

WIDE = 256
"""channels, below which turning costs more time, and memory, than it saves"""
AT_ONCE = 42
"""products a pixel that are worked out together: a turned kernel of 512 × 512 channels takes 1 MB for each"""


@dataclass(frozen=True, eq=False)
class Way:
    """How to convolve: answer @ ((pixels @ tile) · (kernel @ weights)), each flattened."""

    tile: int
    """pixels of the answer along a side"""
    pixels: Float[Tensor, "product seen"]
    kernel: Float[Tensor, "product weight"]
    answer: Float[Tensor, "pixel product"]


def convolved(x: Float[Tensor, "object inside y x"], conv: nn.Conv2d) -> Float[Tensor, "object outside y2 x2"]:
    """A convolution: with fewer products where that is sooner done, else as it comes."""
    if not conv.weight.is_contiguous(memory_format=torch.channels_last):  # fresh from a file
        conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    if torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type) or not _worth(x, conv):
        return conv(x)
    (b, inside, height, width), size = x.shape, conv.kernel_size[0]
    way, pad = _way(size), size // 2
    rows = F.pad(x.permute(0, 2, 3, 1), (0, 0, pad, pad, pad, pad))
    side = way.tile + size - 1
    tiles = rows.unfold(1, side, way.tile).unfold(2, side, way.tile).permute(4, 5, 0, 1, 2, 3).reshape(side**2, -1)
    weights = conv.weight.permute(0, 2, 3, 1).reshape(-1, size**2, inside)  # no copy where channels are last
    whole: Tensor | None = None
    parts = (way.pixels.split(AT_ONCE), way.kernel.split(AT_ONCE), way.answer.split(AT_ONCE, dim=1))
    for pixels, kernel, turn in zip(*parts, strict=True):
        seen = (pixels @ tiles).unflatten(1, (-1, inside))
        products = torch.bmm(seen, (kernel @ weights).permute(1, 2, 0)).flatten(1)
        whole = turn @ products if whole is None else whole.addmm_(turn, products)
    assert whole is not None
    grid = whole.view(way.tile, way.tile, b, height // way.tile, width // way.tile, -1)
    answer = grid.permute(2, 3, 0, 4, 1, 5).reshape(b, height, width, -1)
    return (answer if conv.bias is None else answer.add_(conv.bias)).permute(0, 3, 1, 2)


def _worth(x: Tensor, conv: nn.Conv2d) -> bool:
    size = conv.kernel_size[0]
    same = conv.stride == (1, 1) and conv.padding == (size // 2,) * 2 and conv.kernel_size == (size,) * 2
    wide = min(conv.in_channels, conv.out_channels) >= WIDE and conv.groups == 1
    if not (same and wide and size in (3, 5, 7) and x.dtype == torch.float32 and x.device.type == "cpu"):
        return False
    return x.shape[2] % _way(size).tile == 0 == x.shape[3] % _way(size).tile


@cache
def _way(size: int) -> Way:
    return _winograd() if size == 3 else _fourier(size)


def _winograd() -> Way:
    """F(4×4, 3×3)."""
    pixels = (
        *((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0)),
        *((0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1)),
    )
    kernel_24ths = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))
    answer = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
    return Way(4, _both_ways(pixels), _both_ways(kernel_24ths, 24), _both_ways(answer))


def _both_ways(lines: tuple[tuple[int, ...], ...], divisor: int = 1) -> Tensor:
    along = torch.tensor(lines, dtype=torch.float64) / divisor
    return torch.kron(along, along).float()


def _fourier(size: int, tile: int = 8) -> Way:
    """(a + ib)(c + id) by three products (a + b)c, a(d − c) and b(c + d); of real frequencies only a·c is needed."""
    side = tile + size - 1
    each = torch.arange(side, dtype=torch.float64)
    down, right = torch.meshgrid(each, each[: side // 2 + 1], indexing="ij")
    turns = (down[..., None, None] * each[:, None] + right[..., None, None] * each) * (2 * torch.pi / side)
    turns = turns.flatten(0, 1)  # frequency, y, x
    # A half plane stands for the whole one, but for the columns that are their own mirror image.
    twice = torch.where((right == 0) | (2 * right == side), 1.0, 2.0).flatten()[:, None] / side**2
    real, imaginary = turns.cos(), turns.sin()
    a, b = real.flatten(1), -imaginary.flatten(1)
    c, d = (part[:, :size, :size].flatten(1) for part in (real, imaginary))  # conjugate: networks correlate
    re, im = (twice * part[:, :tile, :tile].flatten(1) for part in (real, -imaginary))
    pixels, kernel, answer = torch.cat([a + b, a, b]), torch.cat([c, d - c, c + d]), torch.cat([re + im, im, -re])
    alone = turns.sin().abs().amax((1, 2)) < 1e-9  # b = d = im = 0
    kept = torch.cat([torch.ones_like(alone), ~alone, ~alone])
    return Way(tile, pixels[kept].float(), kernel[kept].float(), answer[kept].T.float().contiguous())
