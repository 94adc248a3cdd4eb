"""The light of images: learnt by what draws pixels alone, while ids stay as they are."""

from dataclasses import replace

import numpy as np
import pytest
import skies
import torch
from skies import IMAGE, alive

from omnisky.codec.image import LEGACY, ImageCodec, Planes
from omnisky.codec.image_network import APERTURE_PX, ImageNetwork
from omnisky.recipes import recipe
from omnisky.train.loop import train

CLIP = torch.tensor(LEGACY.clip)[:, None, None]


def begun() -> ImageNetwork:
    network = alive(IMAGE.build(0))
    with torch.no_grad():  # asinh of what is drawn must stay within float32
        network.subsample_out.weight.mul_(0.05)
    return network


def seen(brighter: float = 1.0):
    picture = skies.images(8)
    return skies.sky(8, image=replace(picture, flux=picture.flux * np.float32(brighter)))


def test_the_decoder_learns_alone_and_ids_stay(tmp_path):
    first = begun()
    config = replace(IMAGE, drawing_alone=True, photometric=True)
    light = recipe("codec-image-mini-light")
    assert light.model.drawing_alone and light.model.photometric and all(one.unclipped for one in light.codecs)
    planes = Planes(config=config, unclipped=True)
    run = replace(light, model=config, codecs=(planes,), steps=8, batch=4, judge_every=100, workers=0)
    model = train(run, tmp_path, seen(), start=first)
    ids = [ImageCodec(network=one).encode(seen())["tok_image"].values for one in (first, model)]
    assert torch.equal(*ids)
    old, new = first.state_dict(), model.state_dict()
    changed = {name.split(".")[0] + "." + name.split(".")[1] for name in old if not torch.equal(old[name], new[name])}
    assert changed >= {"post_quant_proj.weight", "model.decoder_layers", "model.conv_out", "subsample_out.weight"}
    assert not changed & {"subsample_in.weight", "model.encoder_layers", "model.conv_in", "pre_quant_proj.weight"}
    with torch.no_grad():
        before, after = (float(photometric(one).loss(planes.encode(seen()))) for one in (first, model))
    assert after < before


def photometric(network: ImageNetwork) -> ImageNetwork:
    again = replace(IMAGE, photometric=True).build(0)
    again.load_state_dict(network.state_dict())
    return again


def test_what_is_clipped_is_read_clipped_and_judged_by_what_it_was():
    bright = seen(brighter=1e4)
    whole, cut = (Planes(config=IMAGE, unclipped=flag).encode(bright)["planes"].values for flag in (True, False))
    legacy = whole[:, -4:].unflatten(2, (96, 96))
    assert (legacy.abs() > CLIP).any(), "nothing is clipped: this test would see nothing"
    assert torch.equal(legacy.clamp(-CLIP, CLIP), cut[:, -4:].unflatten(2, (96, 96)))
    network, read = begun(), []
    network.latent, latent = lambda flux, there: read.append(flux) or latent(flux, there), network.latent
    with torch.no_grad():
        losses = [float(network.loss(Planes(config=IMAGE, unclipped=flag).encode(bright))) for flag in (True, False)]
    assert torch.equal(*read) and losses[0] != losses[1]


@pytest.mark.parametrize(("share", "circle"), [(0.0, 0.0), (0.02, 2**0.5 - 1), (-0.2, 101**0.5 - 1)])
def test_light_is_astray_by_its_share(share, circle):
    """A source in the middle, almost without noise, that comes back with a share of its light too much or too little.

    In every square that sees it, it is as far off as in the circle: a fiftieth is one error.
    """
    flux = torch.zeros(1, 1, 96, 96)
    flux[..., 46:50, 46:50] = 50.0
    far = ImageNetwork._astray(share * flux, flux, torch.full_like(flux, 1e6))
    sees = [sum(bool(flux[0, 0, i : i + k, j : j + k].any()) for i in at for j in at) / len(at) ** 2
            for k in (4, 16) for at in [range(0, 97 - k, k // 2)]]  # fmt: skip
    assert APERTURE_PX > 3 and float(far) == pytest.approx(circle * (1 + 0.5 * sum(sees)), rel=1e-3, abs=1e-6)


def test_noise_alone_is_no_light_astray():
    """Of pixels that are not seen nothing counts; where the light is within its noise, little does."""
    flux, off = torch.full((1, 1, 96, 96), 1e-3), torch.zeros(1, 1, 96, 96)
    off[..., :48, :] = 1e3
    ivar = torch.zeros_like(flux)
    ivar[..., 48:, :] = 1.0
    assert float(ImageNetwork._astray(off, flux, ivar)) == 0
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 3, 96, 96, generator=draw)
    far = ImageNetwork._astray(noise, torch.zeros_like(noise), torch.ones_like(noise))
    normal = (1 + torch.randn(100_000, generator=draw).square()).sqrt().mean() - 1
    assert float(far.mean()) == pytest.approx(2 * float(normal), rel=0.1)  # two halves and a whole
