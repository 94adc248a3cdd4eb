"""The convolutional auto-encoder of AION-1's image codec: residual units with a gate, halved and doubled in size.

After MagViT (Yu et al. 2023, arXiv:2212.05199), with the gate of GCNet (Cao et al. 2019, arXiv:1904.11492). Modules are
named as in the published weights. Everything runs with channels last, where 1×1 convolutions are products of matrices;
without gradients, what is not asked for again is overwritten.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from omnisky.codec.bilinear import convolved
from omnisky.codec.weights import Blank

ALMOST_SHUT = -10.0
"""where a gate's logit begins: every unit starts as nearly the identity. Adam needs thousands of steps to open it"""


class Padded(nn.Module):
    """A convolution that keeps the size of the image, or halves it. It answers in the precision that it is asked in."""

    def __init__(self, inside: int, outside: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, size, stride=stride, padding=size // 2)

    def forward(self, x: Float[Tensor, "object inside y x"]) -> Float[Tensor, "object outside y2 x2"]:
        return convolved(x, self.conv).to(x.dtype)


class Gate(nn.Module):
    """How much each channel counts in this image, said by the image's brightest parts."""

    def __init__(self, width: int, start: float = ALMOST_SHUT) -> None:
        super().__init__()
        hidden = max(16, width // 2)
        self.to_k = nn.Conv2d(width, 1, 1)
        self.net = nn.Sequential(nn.Conv2d(width, hidden, 1), nn.LeakyReLU(0.1), nn.Conv2d(hidden, width, 1))
        nn.init.zeros_(self._last.weight)
        nn.init.constant_(_bias(self._last), start)

    @property
    def _first(self) -> nn.Conv2d:
        return _conv(self.net[0])

    @property
    def _last(self) -> nn.Conv2d:
        return _conv(self.net[2])

    def forward(self, x: Float[Tensor, "object width y x"]) -> Float[Tensor, "object width 1 1"]:
        """Attention over places with one query, two layers, a sigmoid. The key's bias cancels."""
        rows = x.permute(0, 2, 3, 1).flatten(1, 2)
        look = F.linear(rows, self.to_k.weight.flatten(1), self.to_k.bias).float().softmax(1)
        seen = (look.mT.to(rows.dtype) @ rows)[:, 0]
        hidden = F.leaky_relu(F.linear(seen, self._first.weight.flatten(1), self._first.bias), 0.1)
        return F.linear(hidden, self._last.weight.flatten(1), self._last.bias).sigmoid()[..., None, None]


class ResidualUnit(nn.Module):
    """x + gate · ELU(1×1(ELU(3×3(x)))). What is added to stays as precise as it came: rounding must not add up."""

    def __init__(self, width: int, gate: float = ALMOST_SHUT) -> None:
        super().__init__()
        end = Gate(width, gate)
        self.net = nn.Sequential(Padded(width, width, 3), nn.ELU(), nn.Conv2d(width, width, 1), nn.ELU(), end)

    def forward(self, x: Float[Tensor, "object width y x"]) -> Float[Tensor, "object width y x"]:
        free = not torch.is_grad_enabled()
        y = F.elu(convolved(x, _conv(self.net[0].conv)), inplace=free)
        y = F.elu(pointwise(y, _conv(self.net[2])), inplace=free)
        y = y.to(x.dtype)
        with exactly(x):  # few products, and they scale all others
            gate = self.net[4](y)
        return x.addcmul_(y, gate) if free else torch.addcmul(x, y, gate)


def exactly(x: Tensor) -> AbstractContextManager[object]:
    """Products of float32, whatever autocast says around them; it knows no device that holds nothing ("meta")."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


class Doubled(nn.Module):
    """Twice the size: four channels become a square of 2×2."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        conv = nn.Conv2d(inside, 4 * outside, 1)
        self.net = nn.Sequential(conv, nn.SiLU(), nn.PixelShuffle(2))
        if Blank.inside():
            return
        with torch.no_grad():  # the four begin alike: no chequered pattern
            conv.weight.copy_(nn.init.kaiming_uniform_(conv.weight[::4].clone()).repeat_interleave(4, 0))
            nn.init.zeros_(_bias(conv))

    def forward(self, x: Float[Tensor, "object inside y x"]) -> Float[Tensor, "object outside y2 x2"]:
        b, _, height, width = x.shape
        y = F.silu(pointwise(x, _conv(self.net[0])), inplace=not torch.is_grad_enabled())
        rows = y.permute(0, 2, 3, 1).reshape(b, height, width, -1, 2, 2)
        return rows.permute(0, 1, 4, 2, 5, 3).reshape(b, 2 * height, 2 * width, -1).permute(0, 3, 1, 2).to(x.dtype)


class ChannelNorm(nn.Sequential):
    """LayerNorm over the channels of each place."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Identity(), nn.LayerNorm(width))  # published weights count the norm as the second

    def forward(self, x: Float[Tensor, "object width y x"]) -> Float[Tensor, "object width y x"]:
        return self[1](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MagVit(nn.Module):
    """`projected` channels ↔ `width` channels of an image halved so many times."""

    def __init__(self, projected: int, width: int, halvings: int, units: int, gate: float = ALMOST_SHUT) -> None:
        super().__init__()
        widths = [width // 2**i for i in range(halvings, -1, -1)]

        def residuals(w: int) -> nn.Module:
            return nn.Sequential(*(ResidualUnit(w, gate) for _ in range(units)))

        down: list[nn.Module] = [ResidualUnit(widths[0], gate)]
        for a, b in pairwise(widths):
            down += [Padded(a, b, 3, stride=2), residuals(b)]
        down += [Padded(width, width, 7), residuals(width), ChannelNorm(width)]
        up: list[nn.Module] = [residuals(width), Padded(width, width, 3)]
        for a, b in pairwise(widths[::-1]):
            up += [residuals(a), Doubled(a, b)]
        up.append(ResidualUnit(widths[0], gate))
        self.conv_in = Padded(projected, widths[0], 7)
        self.encoder_layers = nn.ModuleList(down)
        self.decoder_layers = nn.ModuleList(up)
        self.conv_out = Padded(widths[0], projected, 3)


@torch.no_grad()
def lay_out(network: nn.Module) -> None:
    """Kernels with channels last, in the memory they have: `Module.to` leaves holes of half their size.

    Those of a file stay as they lie there until `bilinear.convolved` first needs them.
    """
    if Blank.inside():
        return
    for kernel in network.parameters():
        if kernel.ndim == 4 and not kernel.is_contiguous(memory_format=torch.channels_last):
            _, inside, height, width = kernel.shape
            before = kernel.data.clone()
            kernel.data = kernel.data.as_strided(kernel.shape, (height * width * inside, 1, width * inside, inside))
            kernel.data.copy_(before)


def pointwise(x: Float[Tensor, "object inside y x"], conv: nn.Conv2d) -> Float[Tensor, "object outside y x"]:
    """A 1×1 convolution as a product of matrices."""
    return F.linear(x.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias).permute(0, 3, 1, 2)


def _conv(module: object) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
