"""Supervised yardsticks: numbers from images, spectra and magnitudes; what is absent does not count."""

from dataclasses import replace

import numpy as np
import pairs
import pytest
import torch
import torch.nn.functional as F

from omnisky.codec.patch import RasterPatches, ScalarTokens, SpectralSections
from omnisky.codec.scalar import MagnitudeTokens
from omnisky.codec.tokens import Tokens, encode_all
from omnisky.errors import BadValue, MissingModality, ShapeMismatch
from omnisky.model import store
from omnisky.model.baseline import ImageRegressorConfig, PhotometryRegressorConfig, SpectrumRegressorConfig, UNet
from omnisky.model.resnet import ResNetConfig
from omnisky.observe.types import Observation, Scalars

TARGETS = ScalarTokens(columns=("red", "bright"), name="targets")
MODELS = {
    "image": (
        ImageRegressorConfig(answers=2, network=ResNetConfig(blocks=(1, 1, 1, 1))),
        RasterPatches(patch_size=1, bands=pairs.BANDS, name="pixels"),
    ),
    "spectrum": (
        SpectrumRegressorConfig(answers=2, channels=(4, 4, 8), kernels=(3, 4, 5), hidden=8),
        SpectralSections(size=120, standardised=False, name="flux"),
    ),
    "photometry": (
        PhotometryRegressorConfig(answers=2, hidden=(16,)),
        MagnitudeTokens(columns=("FLUX_G", "FLUX_R", "FLUX_Z"), centre=(22.5,), name="photometry"),
    ),
}
every = pytest.mark.parametrize("name", MODELS)


def sky(n: int = 8, seed: int = 0) -> Observation:
    """Pairs, with fluxes and what is to be told from them."""
    seen = pairs.sky(n, seed, size=32)
    flux = seen["image"].flux.mean((-2, -1))
    red = (flux[:, 0] - flux[:, 2]) / flux.sum(1)
    values = np.column_stack([flux, red, np.log(flux.sum(1))]).astype(float)
    names = ("FLUX_G", "FLUX_R", "FLUX_Z", "red", "bright")
    return seen | {"scalars": Scalars(values=values, names=names)}


def built(name: str):
    config, codec = MODELS[name]
    model = config.build(0)
    model.codecs = (codec, TARGETS)
    return model


def told(name: str, n: int = 8) -> Tokens:
    return encode_all((MODELS[name][1], TARGETS), sky(n))


@every
def test_fifty_steps_lower_the_loss(name):
    model, tokens = built(name).train(), told(name, 32)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    first = float(model.loss(tokens).detach())
    for _ in range(50):
        optimiser.zero_grad()
        loss = model.loss(tokens)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.5 * first


@every
def test_a_batch_of_one_is_row_0_of_many(name):
    model, tokens = built(name).eval(), told(name)
    assert torch.allclose(model.predict(tokens.take(slice(0, 1))), model.predict(tokens)[:1], atol=1e-5)


@every
def test_saved_and_loaded_is_the_same(name, tmp_path):
    model = built(name).eval()
    again = store.load(store.save(model, tmp_path / "model"))
    assert again.codecs == model.codecs
    assert torch.equal(again.predict(told(name)), model.predict(told(name)))


@every
def test_what_was_not_measured_does_not_count(name):
    """NaN targets are left out; a batch of nothing else is refused."""
    model, seen = built(name).eval(), sky()
    seen["scalars"].values[2, 3] = np.nan
    codecs = (MODELS[name][1], TARGETS)
    tokens = encode_all(codecs, seen)
    away = (model.predict(tokens) - tokens["targets"].values[..., 0]).square()
    away[2, 0] = 0
    assert float(model.loss(tokens).detach()) == pytest.approx(float(away.sum().detach()) / 15, rel=1e-5)
    seen["scalars"].values[:, 3:] = np.nan
    with pytest.raises(BadValue, match="no target in this batch"):
        model.loss(encode_all(codecs, seen))


@every
def test_other_targets_than_answers_are_refused(name):
    model = built(name).eval()
    tokens = encode_all((MODELS[name][1], replace(TARGETS, columns=("red",))), sky())
    with pytest.raises(ShapeMismatch, match="targets"):
        model.loss(tokens)
    with pytest.raises(MissingModality):
        model.loss(Tokens({"targets": tokens["targets"]}))


def test_pictures_of_other_bands_are_refused():
    codec = RasterPatches(patch_size=1, bands=pairs.BANDS[:2], name="pixels")
    with pytest.raises(ShapeMismatch, match="3 bands"):
        built("image").predict(codec.encode(sky()))


def test_spectra_in_pieces_are_refused():
    codec = SpectralSections(size=60, standardised=False, name="flux")
    with pytest.raises(ShapeMismatch, match="2 tokens a spectrum"):
        built("spectrum").predict(codec.encode(sky()))


def test_magnitudes_are_ab_and_come_back():
    values = np.array([[1.0, 10.0, 100.0], [-1.0, np.nan, 0.0]])
    seen = Observation.of("ab", scalars=Scalars(values=values, names=("FLUX_G", "FLUX_R", "FLUX_Z")))
    span = MODELS["photometry"][1].encode(seen)["photometry"]
    assert span.values[0, :, 0].tolist() == pytest.approx([0, -2.5, -5])
    assert span.there().tolist() == [[True] * 3, [False] * 3]
    back = MODELS["photometry"][1].decode(Tokens({"photometry": span}))["scalars"].values
    assert back[0] == pytest.approx([1, 10, 100], rel=1e-5) and np.isnan(back[1]).all()


def test_a_u_net_draws_every_pixel_and_learns_a_map():
    pictures = torch.randn(6, 16, 24, 2, generator=torch.Generator().manual_seed(0))
    truth = (pictures[..., 0] > pictures[..., 1])[:, None].float()
    torch.manual_seed(0)
    network = UNet(2, 1, 4)
    assert network(pictures[:1]).shape == (1, 1, 16, 24)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        losses.append(F.binary_cross_entropy_with_logits(network(pictures), truth))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0] / 2
    with pytest.raises(ShapeMismatch, match="8 px"):
        network(pictures[:, :12])
