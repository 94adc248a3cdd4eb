"""AstroCLIP's first module: convolutions on spectra, two linear layers, a scale behind a softplus."""

from dataclasses import replace

import numpy as np
import pairs
import pytest
import torch

from omnisky.codec.patch import RasterPatches, SpectralSections
from omnisky.codec.tokens import Span, Tokens, encode_all
from omnisky.embed import embed
from omnisky.errors import BadValue, MissingModality, ShapeMismatch
from omnisky.model import store
from omnisky.model.baseline import SpectrumRegressorConfig
from omnisky.model.contrastive import HIGHEST
from omnisky.model.first_clip import CONVOLUTIONS, FirstClip, FirstClipConfig
from omnisky.model.resnet import MomentumEncoderConfig, ResNetConfig
from omnisky.train.frozen import keep_states, stored_codecs

CONFIG = FirstClipConfig(
    image=MomentumEncoderConfig(network=ResNetConfig(blocks=(1, 1, 1, 1), bottleneck=True), projected=8),
    spectrum=SpectrumRegressorConfig(answers=8, channels=(4, 4, 8), kernels=(3, 4, 5), hidden=8),
    width=6,
)
CODECS = (
    RasterPatches(patch_size=1, bands=pairs.BANDS, name="pixels"),
    SpectralSections(size=120, standardised=False, name="flux"),
)


def model() -> FirstClip:
    built = CONFIG.build(0).eval()
    built.codecs = CODECS
    return built


def told(n: int = 4) -> Tokens:
    return encode_all(CODECS, pairs.sky(n, size=32))


def test_the_convolutions_are_as_written():
    """1-128-256-512 channels of kernels 5, 11, 21; half of 512 through 256-256-128; one PReLU slope a channel."""
    convolutions = 128 * 5 + 128 + 128 * 256 * 11 + 256 + 256 * 512 * 21 + 512
    perceptron = 2 * (256 * 256 + 256 + 256) + 256 * 128 + 128
    built = CONVOLUTIONS.build(0)
    assert sum(p.numel() for p in built.parameters()) == convolutions + 128 + 256 + 512 + perceptron
    flux = torch.randn(2, 1, 7781)
    tokens = Tokens({"flux": Span(flux, torch.zeros(2, 1, 1))})
    assert built.predict(tokens).shape == (2, 128)


def test_steins_network_is_a_resnet50_of_28_million_with_its_head():
    """23,508,032 without torchvision's last layer; 2048-2048-128 beyond."""
    with torch.device("meta"):
        built = MomentumEncoderConfig().build()
    assert sum(p.numel() for p in built.network.parameters()) == 23_508_032
    assert sum(p.numel() for p in built.parameters()) == 23_508_032 + 2048 * 2048 + 2048 + 2048 * 128 + 128


def test_the_scale_begins_at_the_softplus_of_log_1_over_0_07_and_stays_positive():
    built = model()
    assert float(built.scale.detach()) == pytest.approx(np.log1p(np.exp(np.log(1 / 0.07))), rel=1e-6)
    built.before_scale.data.fill_(-50.0)
    assert float(built.scale.detach()) > 0
    built.before_scale.data.fill_(1e6)
    assert float(built.scale.detach()) == HIGHEST
    with pytest.raises(BadValue, match="scale"):
        replace(CONFIG, scale=0.0).build()


def test_fifty_steps_lower_the_loss_and_leave_the_image_network_alone():
    built, tokens = model().train(), told(32)
    running = built.image.backbone.network.stem[1].running_mean.clone()
    optimiser = torch.optim.Adam([p for p in built.parameters() if p.requires_grad], lr=3e-3)
    first = float(built.loss(tokens).detach())
    for _ in range(50):
        optimiser.zero_grad()
        loss = built.loss(tokens)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.9 * first
    assert torch.equal(running, built.image.backbone.network.stem[1].running_mean)
    still = {name for name, p in built.named_parameters() if p.grad is None}
    assert still and all(name.startswith("image.backbone.network.") for name in still)


def test_saved_and_loaded_is_the_same_and_one_is_row_0_of_many(tmp_path):
    built, seen = model(), pairs.sky(5, size=32)
    again = store.load(store.save(built, tmp_path / "model"))
    assert again.config == CONFIG and again.codecs == CODECS
    for part in ("image", "spectrum"):
        whole = embed(built, seen, part=part)
        assert whole.vectors.shape == (5, 6)
        assert np.array_equal(embed(again, seen, part=part).vectors, whole.vectors)
        assert embed(built, seen.take([0]), part=part).vectors == pytest.approx(whole.vectors[:1], abs=1e-5)


def test_unpaired_and_unfitting_batches_are_refused():
    with pytest.raises(MissingModality, match="flux"):
        model().loss(Tokens({"pixels": told()["pixels"]}))
    with pytest.raises(ShapeMismatch, match="2 tokens a spectrum"):
        model().loss(encode_all((CODECS[0], replace(CODECS[1], size=60)), pairs.sky(4, size=32)))


def test_the_states_of_the_image_network_are_kept_and_say_the_same(tmp_path):
    built, seen = model(), pairs.sky(4, size=32)
    kept = keep_states(built, seen, tmp_path / "states", precision="fp32") | {"spectrum": seen["spectrum"]}
    read = encode_all((CODECS[1], *stored_codecs(built)), kept)
    assert "pixels" not in read.spans
    whole = built.loss(encode_all(CODECS, seen))
    assert float(built.loss(read).detach()) == pytest.approx(float(whole.detach()), rel=1e-5)
