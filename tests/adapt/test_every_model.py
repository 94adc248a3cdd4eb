"""FineTunedModel takes every model of the package that makes vectors, and says so of the others."""

import numpy as np
import pairs
import pytest
import small

from omnisky.adapt.adaptations import AttentivePooling, FullFineTuning, Linear, LoRA
from omnisky.adapt.finetuned import FineTunedModel
from omnisky.codec.patch import RasterPatches, SpectralSections
from omnisky.embed import embed
from omnisky.errors import BadValue
from omnisky.model.augment import MultiCrop, View
from omnisky.model.autoregressive import AutoregressiveConfig, MaskedConfig, PrefixConfig
from omnisky.model.baseline import SmallCNNConfig, SpectrumRegressorConfig
from omnisky.model.distill import DistillConfig, Hiding
from omnisky.model.first_clip import FirstClipConfig
from omnisky.model.resnet import MomentumEncoderConfig, ResNetConfig
from omnisky.observe.mock import MockSky, Population

TUNED = {"steps": 3, "batch": 8}
PIXELS = RasterPatches(patch_size=1, bands=pairs.BANDS, name="pixels")
STEIN = MomentumEncoderConfig(network=ResNetConfig(blocks=(1, 1, 1, 1), bottleneck=True), projected=8)
FIRST = FirstClipConfig(
    image=STEIN,
    spectrum=SpectrumRegressorConfig(answers=8, channels=(4, 4, 8), kernels=(3, 4, 5), hidden=8),
    width=6,
)
VIEWS = MultiCrop(
    first=View(size=16, shift=0),
    second=View(size=16, shift=0),
    small=View(size=8, shift=0),
    small_views=2,
    stretch=pairs.PATCHES.stretch,
)
DINO = DistillConfig(
    vision=pairs.VISION, views=VIEWS, hiding=Hiding(smallest=1), prototypes=24, hidden=20, bottleneck=8, warming=5
)


def built(config, *codecs):
    model = config.build(0).eval()
    model.codecs = codecs
    return model


def first_clip():
    return built(FIRST, PIXELS, SpectralSections(size=120, standardised=False, name="flux"))


MODELS = {
    "AstroPT": (lambda: small.model(AutoregressiveConfig), None),
    "AstroPT, prefix": (lambda: small.model(PrefixConfig), None),
    "AstroPT, masked": (lambda: small.model(MaskedConfig), None),
    "AstroDINO": (lambda: built(pairs.VISION, pairs.PATCHES), "image"),
    "AstroDINO as it was trained": (lambda: built(DINO, pairs.PATCHES), "image"),
    "SpecFormer": (lambda: built(pairs.SPECFORMER, pairs.SECTIONS), "spectrum"),
    "AstroCLIP": (pairs.clip, "image"),
    "AstroCLIP's first, image": (first_clip, "image"),
    "AstroCLIP's first, spectrum": (first_clip, "spectrum"),
    "Stein et al.": (lambda: built(STEIN, PIXELS), "image"),
}
"""AION-1 is in test_finetuned"""
PLANS = (Linear(), AttentivePooling(heads=2, hidden=16, steps=5), FullFineTuning(**TUNED), LoRA(**TUNED))
CONVOLUTIONS = ("Stein et al.", "AstroCLIP's first, image", "AstroCLIP's first, spectrum")
CANNOT = {(name, "LoRA"): "no attention" for name in CONVOLUTIONS}
CANNOT["Stein et al.", "AttentivePooling"] = "no tokens to read"


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: type(plan).__name__)
@pytest.mark.parametrize("name", MODELS)
def test_it_is_adapted_and_comes_back_from_disk(name, plan, tmp_path):
    make, part = MODELS[name]
    seen = small.galaxies(16) if part is None else pairs.sky(16, size=32)
    number = seen["image"].flux[:, 0].mean((1, 2)).astype(float)
    fitted = FineTunedModel(make(), plan, part=part)
    if said := CANNOT.get((name, type(plan).__name__)):
        with pytest.raises(BadValue, match=said):
            fitted.fit(seen, number)
        return
    again = FineTunedModel.load(fitted.fit(seen, number).save(tmp_path / "m"))
    np.testing.assert_allclose(again.predict(seen), fitted.predict(seen), rtol=1e-4)


def test_what_makes_no_vectors_says_so():
    yardstick = built(SmallCNNConfig(classes=2), pairs.PATCHES)
    with pytest.raises(BadValue, match="no embeddings"):
        FineTunedModel(yardstick).fit(pairs.sky(8), np.arange(8) % 2)
    with pytest.raises(BadValue, match="no embeddings"):
        embed(yardstick, pairs.sky(8))


def test_a_model_whose_codecs_hold_tensors_learns_and_is_saved(tmp_path):
    """omnisky-aion's codecs are networks: a run tells them by name and hash, and is the same when it is read again."""
    pytest.importorskip("galsim")
    seen = MockSky(objects=6, population=Population(seed=4, faintest_r_mag=19.0, stars=0.0)).take(slice(0, 6))
    fitted = FineTunedModel("omnisky-aion", LoRA(steps=2, batch=3)).fit(seen, seen["truth"]["redshift"])
    again = FineTunedModel.load(fitted.save(tmp_path / "kept"))
    np.testing.assert_array_equal(again.predict(seen), fitted.predict(seen))
