"""Convolutions with fewer products are convolutions."""

import pytest
import torch
from torch import nn

from omnisky.codec import bilinear


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_is_the_convolution(size, batch):
    torch.manual_seed(size)
    conv = nn.Conv2d(256, 258, size, padding=size // 2).requires_grad_(False)
    x = torch.randn(batch, 256, 8, 16).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert bilinear._worth(x, conv)
        got = bilinear.convolved(x, conv)
        want = conv.double()(x.double())
    assert got.shape == want.shape and float((got - want).abs().max()) < 1e-5 * float(want.abs().max())


@pytest.mark.parametrize(("size", "fewer"), [(3, 4.0), (5, 5.0), (7, 9.0)])
def test_there_are_fewer_products(size, fewer):
    way = bilinear._way(size)
    assert len(way.pixels) * fewer <= way.tile**2 * size**2


def test_what_it_is_not_made_for_goes_the_plain_way():
    x = torch.randn(1, 256, 8, 8)
    for conv, given in (
        (nn.Conv2d(256, 256, 3, stride=2, padding=1), x),
        (nn.Conv2d(256, 256, 3), x),
        (nn.Conv2d(256, 256, 1), x),
        (nn.Conv2d(256, 256, (3, 1), padding=1), x),
        (nn.Conv2d(256, 256, 3, padding=1), x[..., :7]),
        (nn.Conv2d(256, 128, 3, padding=1), x),
    ):
        assert not bilinear._worth(given, conv)
        with torch.no_grad():
            assert torch.equal(bilinear.convolved(given, conv), conv(given))
    elsewhere = nn.Conv2d(256, 256, 3, padding=1).to("meta")
    assert not bilinear._worth(x.to("meta"), elsewhere)  # a GPU, say, where the tables of turns are not
    learning = nn.Conv2d(256, 256, 3, padding=1)
    bilinear.convolved(x, learning).sum().backward()
    assert learning.weight.grad is not None
