"""The codec of light curves: what the protocol promises, irregular and missing epochs, bad input, training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from omnisky.codec.light_curve import FIRST, CurveRows, LightCurveCodec, LightCurveCodecConfig, Read
from omnisky.codec.tokens import Codec, Span, Tokens
from omnisky.errors import BadPixels, BadValue, BandMismatch, ShapeMismatch
from omnisky.evaluate import codec as evaluation
from omnisky.model import store
from omnisky.observe.mock.curves import MockCurves
from omnisky.observe.types import Observation
from omnisky.recipes import recipe
from omnisky.train.loop import train
from omnisky.train.optim import AdamW

CONFIG = LightCurveCodecConfig(steps=32, width=16, depth=1)
CODEC = LightCurveCodec(network=CONFIG.build().eval())
with torch.no_grad():
    for layer in (CODEC.network.enter, CODEC.network.narrow, CODEC.network.leave):
        layer.weight.mul_(4)  # a network as it is built says the same of all
SKY = MockCurves(objects=6, seed=3, epochs=60).take(slice(None))
HEAD = FIRST + len(CONFIG.bands)


def changed(**fields) -> Observation:
    return SKY | {"light_curve": replace(SKY["light_curve"], **fields)}


def ids(seen: Observation) -> torch.Tensor:
    return CODEC.encode(seen)[CODEC.name].values


def test_it_is_a_codec_and_leaves_what_it_reads_alone():
    assert isinstance(CODEC, Codec) and isinstance(CurveRows(config=CONFIG), Codec)
    before = SKY["light_curve"].flux.copy()
    CODEC.decode(CODEC.encode(SKY), like=SKY)
    assert np.array_equal(SKY["light_curve"].flux, before)
    assert len(ids(SKY).unique()) > 20, "a dead network: these tests would see nothing"


def test_one_object_is_row_0_of_many_and_an_absent_one_stays_absent():
    whole = ids(SKY)
    assert torch.equal(ids(SKY.take(slice(0, 1))), whole[:1])
    there = np.array([True, False, True, True, True, True])
    gone = changed(present=there)
    tokens = CODEC.encode(gone)
    assert tokens[CODEC.name].there().any(1).tolist() == there.tolist()
    assert torch.equal(tokens[CODEC.name].values[there], whole[there])
    back = CODEC.decode(tokens, like=gone)["light_curve"]
    assert back.there().tolist() == there.tolist() and np.isnan(back.flux[1]).all() and not back.good[1].any()
    assert np.isfinite(back.flux[there]).all() and back.good[there].all()


def test_nothing_is_nothing():
    for seen in (SKY.take(slice(0, 0)), changed(present=np.zeros(6, dtype=bool))):
        tokens = CODEC.encode(seen)
        assert not tokens[CODEC.name].there().any() and tokens.objects == len(seen)
        assert not CODEC.decode(tokens, like=seen)["light_curve"].there().any()


def test_order_and_padding_say_nothing():
    curve = SKY["light_curve"]
    turned = {name: getattr(curve, name)[:, ::-1].copy() for name in ("flux", "ivar", "time_mjd", "band")}
    assert (ids(changed(**turned)) == ids(SKY)).float().mean() > 0.98  # sums are rounded in another order
    padded = SKY | {"light_curve": curve.padded(90)}
    assert torch.equal(ids(padded), ids(SKY))
    back = CODEC.decode(CODEC.encode(padded), like=padded)["light_curve"]
    assert np.isnan(back.flux[:, 60:]).all() and not back.good[:, 60:].any()


def test_a_band_that_was_not_seen_is_absent():
    curve = SKY["light_curve"]
    seen = changed(good=curve.band != curve.bands.index("i"))
    span = CODEC.encode(seen)[CODEC.name]
    level = FIRST + CONFIG.bands.index("i")
    assert not span.there()[:, level].any() and span.there().sum(1).tolist() == [HEAD + CONFIG.steps - 1] * 6
    back = CODEC.decode(Tokens({CODEC.name: span}), like=seen)["light_curve"]
    assert np.array_equal(back.good, curve.band != curve.bands.index("i"))
    alone = CODEC.decode(Tokens({CODEC.name: span}))["light_curve"]
    assert np.array_equal(np.isfinite(alone.time_mjd), alone.good) and alone.good.sum() == 6 * 5 * CONFIG.steps


def test_bands_may_be_called_by_other_numbers():
    curve = SKY["light_curve"]
    other = ("H", *curve.bands[::-1])  # no epoch is in H
    moved = changed(bands=other, band=len(curve.bands) - curve.band)
    assert torch.equal(ids(moved), ids(SKY))


def test_the_head_holds_length_level_and_amplitude():
    curve = SKY["light_curve"]
    head = Read.of(curve, CONFIG, CODEC.network.codes).head
    long = np.ptp(curve.time_mjd, axis=1)
    assert (head.days[:, 0].numpy() >= long - 1e-9).all() and np.allclose(head.days[:, 0], long, rtol=0.005)
    for i, row in enumerate(head.level.numpy()):
        here = curve.band[i] == 2
        mean = np.average(curve.flux[i, here], weights=curve.ivar[i, here])
        assert row[2] == pytest.approx(mean, rel=0.007, abs=1e-4)


def test_rows_hold_the_curve():
    rows = CurveRows(config=CONFIG)
    back = rows.decode(rows.encode(SKY))["light_curve"]
    curve = SKY["light_curve"]
    assert np.allclose(back.flux, curve.flux, rtol=1e-4, atol=1e-4) and np.allclose(back.ivar, curve.ivar, rtol=1e-3)
    assert np.allclose(back.time_mjd, curve.time_mjd - curve.time_mjd.min(1, keepdims=True), atol=1e-3)


def test_what_a_light_curve_may_not_be():
    curve = SKY["light_curve"]
    flux = curve.flux.copy()
    flux[2, 5] = np.nan
    with pytest.raises(BadPixels, match="flux in 1 of 6"):
        CODEC.encode(changed(flux=flux))
    CODEC.encode(changed(flux=flux, good=np.isfinite(flux)))
    with pytest.raises(BadPixels, match="ivar in 6"):
        CODEC.encode(changed(ivar=np.full_like(curve.ivar, np.inf)))
    with pytest.raises(BadPixels, match="nothing good in 1 of 6"):
        CODEC.encode(changed(ivar=curve.ivar * (np.arange(6) != 4)[:, None]))
    with pytest.raises(BadValue, match="ivar"):
        CODEC.encode(changed(ivar=None))
    with pytest.raises(BadValue, match="electron"):
        CODEC.encode(changed(unit="electron / s"))
    with pytest.raises(BandMismatch, match="H"):
        CODEC.encode(changed(bands=("u", "g", "H", "i", "z", "y")))
    with pytest.raises(BadValue, match="places in"):
        CODEC.encode(changed(band=curve.band + 1))
    with pytest.raises(BadValue, match="each band once"):
        LightCurveCodecConfig(bands=("g", "g"))


def test_ids_outside_the_vocabulary_are_refused():
    span = CODEC.encode(SKY)[CODEC.name]
    for place in (0, 3, 20):
        for wrong in (4096, -1):
            bad = span.values.clone()
            bad[0, place] = wrong
            with pytest.raises(BadValue, match="vocabulary"):
                CODEC.decode(Tokens({CODEC.name: Span(bad, span.positions)}))
    with pytest.raises(ShapeMismatch):
        CODEC.decode(Tokens({CODEC.name: span.span(0, 9)}))


def test_one_epoch_is_a_curve():
    curve = SKY["light_curve"]
    first = changed(good=np.arange(60) == np.zeros((6, 1)))
    back = CODEC.decode(CODEC.encode(first), like=first)["light_curve"]
    assert back.good[:, 0].all() and np.isfinite(back.flux[:, 0]).all()
    assert np.allclose(back.time_mjd, curve.time_mjd)


def test_training_lowers_the_loss_and_what_is_lost_is_measured(tmp_path):
    sky = MockCurves(objects=32, seed=3, epochs=60).take(slice(None))
    optim = AdamW(peak=5e-3, warmup=5, floor=0.1, weight_decay=0.0)
    run = replace(recipe("codec-light-curve-mini"), model=CONFIG, codecs=(CurveRows(config=CONFIG),), optim=optim)
    run = replace(run, steps=40, batch=16, held_out=0.0, judge_every=40, save_every=40)
    losses: list[float] = []
    model = train(run, tmp_path, sky, watch=lambda now: losses.append(now.loss))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert store.signature(store.load(tmp_path / "model")) == store.signature(model)
    report = evaluation.evaluate(tmp_path / "model", sky, share=1.0)
    assert report.name == "tok_light_curve" and report.objects == 32 and report.sigma.value > 0
    assert report.bits == pytest.approx(12 * (HEAD + CONFIG.steps)) and report.r2.value > 0


def test_the_shipped_codec_knows_curves_it_has_not_seen():
    """Of another seed than it learnt from."""
    assert "omnisky-light-curve" not in store.shipped_models()  # it embeds nothing
    seen = MockCurves(objects=64, seed=99).take(slice(None))
    report = evaluation.evaluate("omnisky-light-curve", seen, share=1.0)
    assert report.objects == 64 and report.r2.value > 0.9
