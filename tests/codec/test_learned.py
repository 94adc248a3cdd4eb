"""Learned codecs: what the protocol promises, bad input, small images, bands, other surveys, training."""

import json
from dataclasses import replace

import numpy as np
import pytest
import skies
import torch
from skies import FIELD, IMAGE, SPECTRUM, alive

from omnisky.codec.field import FieldCodec, FieldCodecConfig, FieldRows
from omnisky.codec.image import BandRow, ImageCodec, ImageCodecConfig, Planes, widened
from omnisky.codec.quantize import FSQ, LFQ, usage
from omnisky.codec.spectrum import GridRows, Read, SpectrumCodec, SpectrumCodecConfig, compressed
from omnisky.codec.tokens import Codec, Span, Tokens
from omnisky.errors import BadPixels, BadValue, BandMismatch, MissingModality, ShapeMismatch, UnknownLayout
from omnisky.model import store
from omnisky.observe.shards import write_shards
from omnisky.observe.types import Observation
from omnisky.recipes import recipe
from omnisky.train.config import Run
from omnisky.train.loop import train
from omnisky.train.optim import AdamW

IMAGES = ImageCodec(network=alive(IMAGE.build()))
SPECTRA = SpectrumCodec(network=alive(SPECTRUM.build()))
with torch.no_grad():  # asinh of what is drawn must stay within float32
    IMAGES.network.subsample_out.weight.mul_(0.05)
with torch.no_grad():  # signs about their mean: a random network's are else the same everywhere
    entered = compressed(SPECTRA.network.scales, Read.of(skies.spectra(), SPECTRUM))[1]
    SPECTRA.network.quant_conv.bias.sub_(SPECTRA.network.latent(entered).mean((0, 2)))
MAPS = FieldCodec(network=alive(FIELD.build()))
SKY = skies.sky(4, image=skies.images(), spectrum=skies.spectra(), **skies.maps())
CODECS = (IMAGES, SPECTRA, MAPS)
ROWS = (Planes(config=IMAGE), GridRows(config=SPECTRUM), FieldRows())
named = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


# --- the protocol ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [*CODECS, *ROWS], ids=lambda codec: codec.name)
def test_it_is_a_codec_and_leaves_what_it_reads_alone(codec):
    assert isinstance(codec, Codec)
    before = {name: getattr(SKY[codec.part], name) for name in ("flux", "label") if hasattr(SKY[codec.part], name)}
    before = {name: array.copy() for name, array in before.items()}
    codec.decode(codec.encode(SKY), like=SKY)
    for name, array in before.items():
        assert np.array_equal(getattr(SKY[codec.part], name), array)


@named
def test_one_object_is_row_0_of_many_and_an_absent_one_stays_absent(codec):
    whole = codec.encode(SKY)[codec.name]
    alone = codec.encode(SKY.take(slice(0, 1)))[codec.name]
    assert torch.equal(alone.values, whole.values[:1])
    there = np.array([True, False, True, True])
    gone = SKY | {codec.part: replace(SKY[codec.part], present=there)}
    tokens = codec.encode(gone)
    assert tokens[codec.name].there().any(1).tolist() == there.tolist()
    assert torch.equal(tokens[codec.name].values[there], whole.values[there])
    back = codec.decode(tokens, like=gone)[codec.part]
    assert back.there().tolist() == there.tolist() and np.isnan(back.flux[1]).all()
    assert np.isfinite(back.flux[there]).all()


@named
def test_nothing_is_nothing(codec):
    """No objects, and objects of which none is there."""
    for seen in (SKY.take(slice(0, 0)), SKY | {codec.part: replace(SKY[codec.part], present=np.zeros(4, dtype=bool))}):
        tokens = codec.encode(seen)
        assert not tokens[codec.name].there().any() and tokens.objects == len(seen)
        assert not codec.decode(tokens, like=seen)[codec.part].there().any()


@named
def test_ids_are_in_the_vocabulary_and_others_are_refused(codec):
    span = codec.encode(SKY)[codec.name]
    codes = {"tok_image": 4375, "tok_spectrum_desi": 1024, "tok_segmap": 1000}[codec.name]
    assert 0 <= int(span.values.min()) <= int(span.values.max()) < codes
    assert len(span.values.unique()) > 5, "a dead network: these tests would see nothing"
    for wrong in (codes, -1):
        bad = span.values.clone()
        bad[0, 5] = wrong
        with pytest.raises(BadValue, match="vocabulary"):
            codec.decode(Tokens({codec.name: Span(bad, span.positions)}))
    with pytest.raises(ShapeMismatch):
        codec.decode(Tokens({codec.name: span.span(0, 7)}))


@pytest.fixture
def half(monkeypatch):
    """bfloat16 also where a processor only imitates it."""
    monkeypatch.setattr("omnisky.codec.processor.multiplies_bf16", lambda: True)


@pytest.mark.parametrize("codec", [IMAGES, MAPS], ids=lambda codec: codec.name)
def test_half_precision_keeps_nearly_all_ids(codec, half):
    dtypes = (torch.float32, torch.bfloat16)
    whole, rough = (replace(codec, dtype=dtype).encode(SKY)[codec.name].values for dtype in dtypes)
    assert 0.8 < (whole == rough).float().mean() <= 1


def test_halvings_and_all_after_the_last_of_them_stay_precise(half):
    """In bfloat16, when ids are asked for; not while the network learns."""
    halved: list[bool] = []
    layers = IMAGES.network.model.encoder_layers
    hooks = [
        one.register_forward_pre_hook(lambda *_: halved.append(torch.is_autocast_enabled("cpu"))) for one in layers
    ]
    try:
        replace(IMAGES, dtype=torch.bfloat16).encode(SKY.take([0]))
        asked = halved.copy()
        halved.clear()
        with torch.autocast("cpu", torch.bfloat16):
            IMAGES.network.latent(torch.zeros(1, 9, 96, 96), torch.ones(1, 9, dtype=torch.bool))
    finally:
        for hook in hooks:
            hook.remove()
    assert asked == [True, False, True, *[False] * (len(layers) - 3)] and halved == [True] * len(layers)


def test_half_precision_of_spectra():
    """A small random network's numbers hardly differ from place to place, so it is these that are compared, not ids."""
    network = alive(SPECTRUM.build())
    with torch.no_grad():
        whole = network.latent(entered)
        with torch.autocast("cpu", torch.bfloat16):
            half = network.latent(entered)
    assert 0 < float((whole - half).abs().max()) < 0.05 * float(whole.abs().max())


@pytest.mark.parametrize(
    ("kind", "config"),
    [(ImageCodecConfig, IMAGE), (SpectrumCodecConfig, replace(SPECTRUM, indecision=0.0)), (FieldCodecConfig, FIELD)],
)
def test_configs_go_to_the_published_file_and_back(kind, config):
    said = json.loads(json.dumps(config.published()))
    assert kind.from_published(said) == config
    with pytest.raises(UnknownLayout, match="rotary"):
        kind.from_published(said | {"rotary": True})


# --- quantisers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [(7, 5, 5, 5, 5), (8, 5, 5, 5), (8, 6, 5), (2, 3), (4, 4)])
def test_every_fsq_code_is_reached_and_stands_for_itself(levels):
    fsq = FSQ(levels)
    ids = torch.arange(fsq.codes)[None]
    vectors = fsq.vectors(ids)
    assert vectors.abs().max() <= 1
    half = (torch.tensor(levels) // 2).reshape(1, -1, 1)
    offset = torch.where(torch.tensor(levels) % 2 == 0, 0.5, 0.0).reshape(1, -1, 1)
    reach = (torch.tensor(levels) - 1).reshape(1, -1, 1) * 1.001 / 2
    z = torch.atanh((vectors * half + offset) / reach) - torch.atanh(offset / reach)
    assert torch.equal(fsq.ids(z), ids.int()) and torch.allclose(fsq(z), vectors, atol=1e-6)


@pytest.mark.parametrize("quantiser", [FSQ((5, 5)), LFQ(2)], ids=["fsq", "lfq"])
def test_gradients_pass_straight_through(quantiser):
    z = torch.tensor([[[0.3], [-0.2]]], requires_grad=True)
    quantiser(z).sum().backward()
    assert bool((z.grad > 0).all())
    assert quantiser(z.detach().bfloat16()).dtype == torch.float32


def test_ids_do_not_change_under_autocast():
    """4375 ids do not fit into bfloat16."""
    fsq, z = FSQ((7, 5, 5, 5, 5)), torch.randn(2, 5, 500, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fsq.ids(z), FSQ((7, 5, 5, 5, 5)).ids(z))
    assert fsq.ids(z).max() > 256


def test_usage_counts_codes():
    even = usage(torch.arange(8), 8)
    assert (even.used, even.bits) == (1.0, pytest.approx(3.0))
    assert usage(torch.tensor([3, 3, 3]), 8).perplexity == pytest.approx(1.0)
    with pytest.raises(BadValue):
        usage(torch.tensor([], dtype=torch.int64), 8)


def test_lfq_knows_indecision_from_decision():
    """Sure of one code each, all codes served: the least there is, −log(codes)."""
    lfq = LFQ(3)
    z = lfq.vectors(torch.arange(8)[None])
    assert float(lfq.indecision(4 * z)) == pytest.approx(-np.log(8), abs=1e-3)
    assert float(lfq.indecision(4 * z[..., :1])) == pytest.approx(0, abs=1e-3)
    assert float(lfq.commitment(z)) == 0


# --- images ------------------------------------------------------------------------------------------------------


def test_bands_come_in_any_order_and_any_number():
    image = SKY["image"]
    turned = replace(image, flux=image.flux[:, ::-1].copy(), bands=image.bands[::-1], ivar=None)
    ids = IMAGES.encode(SKY)["tok_image"].values
    assert torch.equal(IMAGES.encode(SKY | {"image": turned})["tok_image"].values, ids)
    two = replace(image, flux=image.flux[:, :2], bands=("g", "DES-R"), ivar=None)
    fewer = IMAGES.encode(SKY | {"image": two})["tok_image"].values
    assert not torch.equal(fewer, ids)
    lost = image.flux.copy()
    lost[0, 2:] = np.nan  # this object alone lacks i and z
    mixed = IMAGES.encode(SKY | {"image": replace(image, flux=lost)})["tok_image"].values
    assert torch.equal(mixed[1:], ids[1:]) and (mixed[0] == fewer[0]).float().mean() > 0.99


def test_any_channel_can_be_asked_for():
    tokens = IMAGES.encode(SKY)
    every = IMAGES.decode(tokens, bands=IMAGE.channels)["image"]
    own, hsc = IMAGES.decode(tokens)["image"], IMAGES.decode(tokens, bands=("HSC-Y", "g"))["image"]
    assert own.bands == ("g", "r", "i", "z") and np.allclose(own.flux, every.flux[:, 5:], rtol=1e-4, atol=1e-6)
    assert np.allclose(hsc.flux, every.flux[:, [4, 5]], rtol=1e-4, atol=1e-6)
    with pytest.raises(BandMismatch, match="u"):
        IMAGES.decode(tokens, bands=("u",))


def test_small_images_are_padded_with_sky_and_come_back_in_their_size():
    small = skies.images(size=63)
    padded = np.pad(small.flux, ((0, 0), (0, 0), (16, 17), (16, 17)))
    seen = SKY | {"image": small}
    tokens = IMAGES.encode(seen)
    same = IMAGES.encode(SKY | {"image": replace(small, flux=padded, ivar=None)})
    assert torch.equal(tokens["tok_image"].values, same["tok_image"].values)
    back, whole = IMAGES.decode(tokens, like=seen)["image"].flux, IMAGES.decode(tokens)["image"].flux
    assert np.array_equal(back, whole[..., 16:79, 16:79])


def test_what_an_image_may_not_be(unchecked):
    image = SKY["image"]
    flux = image.flux.copy()
    flux[2, 1, 50, 50] = np.inf
    with pytest.raises(BadPixels, match=r"1 of 4 images.*bands r"):
        IMAGES.encode(SKY | {"image": replace(image, flux=flux)})
    good = np.isfinite(flux)
    IMAGES.encode(SKY | {"image": replace(image, flux=flux, good=good)})
    with pytest.raises(BandMismatch, match="H"):
        IMAGES.encode(SKY | {"image": replace(image, bands=("g", "r", "i", "H"))})
    with pytest.raises(BandMismatch):
        IMAGES.encode(SKY | {"image": replace(image, bands=("g", "r", "r", "z"))})
    with pytest.raises(BadValue, match="display"):
        IMAGES.encode(SKY | {"image": replace(image, unit="display")})
    with pytest.raises(BadValue, match="ivar"):
        Planes(config=IMAGE).encode(SKY | {"image": replace(image, ivar=None)})
    with pytest.raises(BadValue, match="bands of this survey"):
        ImageCodec(network=IMAGES.network, survey="euclid")


def test_too_bright_pixels_saturate():
    image = SKY["image"]
    bright, at_clip = image.flux.copy(), image.flux.copy()
    bright[:, 0, 48, 48], at_clip[:, 0, 48, 48] = 1e6, 6.0
    ids = [IMAGES.encode(SKY | {"image": replace(image, flux=flux)})["tok_image"].values for flux in (bright, at_clip)]
    assert torch.equal(*ids)


def test_another_survey_is_a_row_more_and_old_tokens_stay():
    row = BandRow(survey="sdss", prefix="SDSS", bands=tuple("ugriz"), clip=(10.0,) * 5, token="tok_image_sdss")
    grown = widened(IMAGES.network, row).eval()
    assert torch.equal(
        replace(IMAGES, network=grown).encode(SKY)["tok_image"].values, IMAGES.encode(SKY)["tok_image"].values
    )
    sdss = ImageCodec(network=grown, survey="sdss")
    seen = SKY | {"image": skies.images(bands="ugriz")}
    tokens = sdss.encode(seen)
    assert sdss.name == "tok_image_sdss" and sdss.decode(tokens, like=seen)["image"].bands == tuple("ugriz")
    with pytest.raises(BadValue, match="published"):
        grown.config.published()


def test_channels_of_another_survey_begin_as_those_they_are_like():
    """The same pixels under another name: the same ids, and the same image again."""
    row = BandRow(survey="des", prefix="ODD", bands=("g", "z"), clip=(6.0, 25.0), token="tok_odd", part="odd")
    grown = widened(IMAGES.network, row, like=("DES-G", "DES-Z")).eval()
    codec, image = ImageCodec(network=grown, survey="des", part="odd"), SKY["image"]
    image = replace(image, flux=image.flux[:, [0, 3]], ivar=None, bands=("g", "z"))
    seen = SKY | {"image": image, "odd": replace(image, survey="des")}
    ids, before = codec.encode(seen), IMAGES.encode(seen)
    assert torch.equal(ids["tok_odd"].values, before["tok_image"].values)
    np.testing.assert_array_equal(
        codec.decode(ids, like=seen)["odd"].flux, IMAGES.decode(before, like=seen)["image"].flux
    )
    for like in (("DES-Z",), ("DES-Z", "DES-Y")):
        with pytest.raises(BadValue, match="like"):
            widened(IMAGES.network, row, like=like)


def test_a_survey_that_was_added_learns_its_ends_alone(tmp_path):
    """JWST, say: the loss falls, and tokens of the old surveys are the same to the bit."""
    bands = ("f115w", "f277w")
    row = BandRow(survey="jwst", prefix="NIRCAM", bands=bands, clip=(50.0, 50.0), token="tok_image_jwst", part="jwst")
    grown = widened(IMAGES.network, row, ends_alone=True)
    run = small_run("image", 40)
    planes = Planes(config=grown.config, survey="jwst", part="jwst", name="planes_jwst")
    run = replace(run, model=grown.config, codecs=(planes,), optim=replace(run.optim, peak=0.02))
    pictures = skies.images(8)
    seen = skies.sky(8, jwst=replace(pictures, flux=pictures.flux[:, :2], ivar=pictures.ivar[:, :2], bands=bands))
    model = train(run, tmp_path, seen, start=grown)
    before, after = (plain_loss(network, planes.encode(seen)) for network in (grown, model))
    assert after < 0.98 * before  # of the same images: batches differ by more than is learnt
    again = store.load(tmp_path / "model")
    for network in (model, again):
        old = replace(IMAGES, network=network).encode(SKY)["tok_image"].values
        assert torch.equal(old, IMAGES.encode(SKY)["tok_image"].values)
    codec = ImageCodec(network=again, survey="jwst")
    assert codec.decode(codec.encode(seen), like=seen)["jwst"].bands == bands
    with pytest.raises(BadValue, match="another prefix"):
        widened(IMAGES.network, replace(row, prefix="DES", bands=("g",), clip=(1.0,)))


# --- spectra -----------------------------------------------------------------------------------------------------


def test_padding_of_spectra_changes_nothing():
    seen = SKY | {"spectrum": SKY["spectrum"].padded(8000)}
    tokens = SPECTRA.encode(seen)
    assert torch.equal(tokens[SPECTRA.name].values, SPECTRA.encode(SKY)[SPECTRA.name].values)
    back = SPECTRA.decode(tokens, like=seen)["spectrum"]
    assert np.isnan(back.flux[:, 7781:]).all() and not back.good[:, 7781:].any()
    assert np.allclose(back.flux[:, :7781], SPECTRA.decode(tokens, like=SKY)["spectrum"].flux)


def test_different_grids_in_one_batch():
    """Interpolated row by row, they are what they are alone."""
    spectrum = SKY["spectrum"]
    wave = spectrum.wavelength_aa.copy()
    wave[1] += 100.3
    wave[2] = np.geomspace(3700, 9300, wave.shape[1])
    seen = SKY | {"spectrum": replace(spectrum, wavelength_aa=wave)}
    ids = SPECTRA.encode(seen)[SPECTRA.name].values
    for i in range(4):
        assert torch.equal(SPECTRA.encode(seen.take(slice(i, i + 1)))[SPECTRA.name].values[0], ids[i])
    assert torch.equal(ids[0], SPECTRA.encode(SKY)[SPECTRA.name].values[0])


def test_beyond_the_grid_nothing_is_good():
    wave = np.tile(np.linspace(3000, 11000, 500), (4, 1))
    like = skies.sky(4, spectrum=replace(skies.spectra(pixels=500), wavelength_aa=wave))
    back = SPECTRA.decode(SPECTRA.encode(SKY), like=like)["spectrum"]
    assert not back.good[(wave < 3500) | (wave > 10462.4)].any() and np.isfinite(back.flux).all()


def test_what_a_spectrum_may_not_be():
    spectrum = SKY["spectrum"]

    def encode(**change):
        return SPECTRA.encode(SKY | {"spectrum": replace(spectrum, **change)})

    with pytest.raises(BadPixels, match="do not increase"):
        encode(wavelength_aa=spectrum.wavelength_aa[:, ::-1].copy())
    padded = spectrum.wavelength_aa.copy()
    padded[:, -3:] = -1
    with pytest.raises(BadPixels, match="do not increase"):
        encode(wavelength_aa=padded)
    for elsewhere in (spectrum.wavelength_aa / 10, spectrum.wavelength_aa + 20_000):  # nm, and the infrared
        with pytest.raises(BadPixels, match=r"4 of 4 spectra.*3500 and 10462\.4"):
            encode(wavelength_aa=elsewhere)
    with pytest.raises(BadPixels, match="nothing good in 1 of 4"):
        encode(good=spectrum.good & (np.arange(4) != 2)[:, None])
    flux = spectrum.flux.copy()
    flux[0, 40] = np.inf
    with pytest.raises(BadPixels, match="infinite flux"):
        encode(flux=flux, good=None)
    encode(flux=flux, good=np.isfinite(flux))
    with pytest.raises(BadValue, match="ivar"):
        encode(ivar=None)
    with pytest.raises(BadValue, match="tokens of this survey"):
        SpectrumCodec(network=SPECTRA.network, survey="lamost")


def test_nan_is_read_as_zero_as_published():
    spectrum = SKY["spectrum"]
    flux, zero = spectrum.flux.copy(), spectrum.flux.copy()
    flux[:, 100:110], zero[:, 100:110] = np.nan, 0
    ids = [SPECTRA.encode(SKY | {"spectrum": replace(spectrum, flux=f)})[SPECTRA.name].values for f in (flux, zero)]
    assert torch.equal(*ids)


# --- maps --------------------------------------------------------------------------------------------------------


def test_maps_are_painted_by_kind():
    values = FieldRows().encode(SKY)["field"].values[:, 0].reshape(4, 96, 96).numpy()
    label, kind = SKY["segmentation"].label, SKY["neighbours"]["TYPE"]
    assert (values[label == 0] == 0).all()
    for i in range(4):
        for k in (1, 2):
            assert np.allclose(values[i][label[i] == k], kind[i, k - 1] / 5)
    plain = Observation.of(range(4), segmentation=SKY["segmentation"])
    assert (FieldRows().encode(plain)["field"].values[:, 0].reshape(4, 96, 96).numpy() == (label > 0)).all()


def test_what_a_map_may_not_be():
    label = SKY["segmentation"].label.copy()
    label[0, 0, 0] = 3
    with pytest.raises(BadValue, match="neighbours"):
        MAPS.encode(SKY | {"segmentation": replace(SKY["segmentation"], label=label)})
    field = replace(skies.images(bands="x"), ivar=None)
    with pytest.raises(BadValue, match=r"0 … 1"):
        MAPS.encode(skies.sky(segmentation=field))
    flux = np.full_like(field.flux, np.nan)
    with pytest.raises(BadPixels):
        MAPS.encode(skies.sky(segmentation=replace(field, flux=flux)))
    with pytest.raises(BandMismatch):
        MAPS.encode(skies.sky(segmentation=SKY["image"]))


# --- training ----------------------------------------------------------------------------------------------------


def plain_loss(network: torch.nn.Module, tokens: Tokens) -> float:
    """χ² of all pixels alike, whatever the network learns by."""
    plain = replace(network.config, profiled=False).build()
    plain.load_state_dict(network.state_dict())
    return float(plain.loss(tokens).detach())


def small_run(kind: str, steps: int) -> Run:
    model, codec = {"image": (IMAGE, ROWS[0]), "spectrum": (SPECTRUM, ROWS[1]), "field": (FIELD, ROWS[2])}[kind]
    optim = AdamW(peak=5e-3, warmup=5, floor=0.1, weight_decay=0.0)
    run = replace(recipe(f"codec-{kind}-mini"), model=model, codecs=(codec,), optim=optim, workers=0)
    return replace(run, steps=steps, batch=4, held_out=0.0, judge_every=steps, save_every=5)


@pytest.mark.parametrize("kind", ["image", "spectrum", "field"])
def test_fifty_steps_lower_the_loss(kind, tmp_path):
    seen = skies.sky(8, image=skies.images(8), spectrum=skies.spectra(8), **skies.maps(8))
    losses: list[float] = []
    model = train(small_run(kind, 50), tmp_path / kind, seen, watch=lambda now: losses.append(now.loss))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    again = store.load(tmp_path / kind / "model")
    assert store.signature(again) == store.signature(model)


@pytest.mark.parametrize("kind", ["image", "spectrum", "field"])
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(kind, tmp_path):
    seen = skies.sky(8, image=skies.images(8), spectrum=skies.spectra(8), **skies.maps(8))
    run = small_run(kind, 10)
    whole = train(run, tmp_path / "whole", seen)

    def stop(now) -> None:
        if now.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path / "cut", seen, watch=stop)
    assert store.signature(train(run, tmp_path / "cut", seen)) == store.signature(whole)


def test_the_mean_of_a_fields_weights_follows_them(tmp_path):
    seen = skies.sky(8, **skies.maps(8))
    model = train(small_run("field", 10), tmp_path, seen)
    mean, own = model.ema.module.encode_proj.weight, model.encode_proj.weight
    begun = FIELD.build(0).encode_proj.weight
    assert not torch.equal(mean, own) and not torch.equal(mean, begun)
    assert torch.equal(model.averaged().encode_proj.weight, mean)


def test_maps_in_shards_are_painted_by_kind_too(tmp_path):
    """Of shards only the parts that codecs name are read: the list of neighbours is one of them, where there is one."""
    for seen in (skies.sky(8, **skies.maps(8)), skies.sky(8, segmentation=skies.maps(8)["segmentation"])):
        folder, losses = tmp_path / str(len(seen.parts)), []
        write_shards([seen], folder / "shards")
        run = replace(small_run("field", 1), batch=8, held_out=0.0, data=str(folder / "shards"))
        train(run, folder / "read", watch=lambda progress, told=losses: told.append(progress.loss))
        train(run, folder / "held", seen, watch=lambda progress, told=losses: told.append(progress.loss))
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_profiled_loss_counts_every_object_alike():
    """One object with thousands of σ is most of a plain loss, and one among many of a profiled one."""
    for row, network, more in ((ROWS[0], IMAGE, "planes_ivar"), (ROWS[1], SPECTRUM, "")):
        given = row.encode(SKY)
        deep = given[more or row.name].values.clone()
        where = (0,) if more else (0, 3)
        deep[where] *= 1e4
        changed = given | {more or row.name: replace(given[more or row.name], values=deep)}
        plain, profiled = (replace(network, profiled=p).build(0) for p in (False, True))
        assert plain.loss(changed) > 100 * plain.loss(given)
        each = 4.0  # objects; log(1e4)/2 is the most that one of them can gain
        grown = profiled.loss(changed) - profiled.loss(given)
        assert 0 < grown <= np.log(1e4) / 2 / each + 1e-4


def test_the_middle_of_images_can_be_learnt_from(tmp_path):
    """The same network reads all of an image and learns from a part; it is the part that a smaller one reads."""
    cut = replace(ROWS[0], cut=IMAGE.side // 2)
    small = replace(ROWS[0], config=replace(IMAGE, side=IMAGE.side // 2))
    assert all(
        torch.equal(a.values, b.values) for a, b in zip(*(o.encode(SKY).values() for o in (cut, small)), strict=True)
    )
    model = train(replace(small_run("image", 2), codecs=(cut,)), tmp_path, SKY)
    assert model.config.side == IMAGE.side and not torch.equal(
        model.subsample_in.bias, IMAGE.build(0).subsample_in.bias
    )


def test_two_surveys_train_one_network(tmp_path):
    hsc = replace(skies.images(8, bands="grizy", seed=1), survey="hsc")
    seen = skies.sky(8, image=skies.images(8), image_hsc=hsc)
    planes = (ROWS[0], Planes(config=IMAGE, survey="hsc", part="image_hsc", name="planes_hsc"))
    model = train(replace(small_run("image", 3), codecs=planes), tmp_path, seen)
    assert not torch.equal(model.subsample_in.weight[:, :5], IMAGE.build(0).subsample_in.weight[:, :5])


def test_a_crossed_loss_is_about_what_the_other_survey_saw():
    """And not about how much light the other's fibre caught."""
    desi = GridRows(config=SPECTRUM).encode(SKY)["spectrum"]
    sdss = replace(desi, values=desi.values.clone())
    sdss.values[:, 2] += torch.randn(sdss.values[:, 2].shape, generator=torch.Generator().manual_seed(0))

    def loss(crossed: float, *, brighter: bool = False) -> float:
        own, other = desi.values.clone(), sdss.values.clone()
        for values in (own, other) if brighter else ():
            values[:, 2] *= 3
            values[:, 3] /= 9
        given = Tokens({"spectrum": replace(desi, values=own), "spectrum_sdss": replace(sdss, values=other)})
        with torch.no_grad():
            return float(replace(SPECTRUM, crossed=crossed).build(0).loss(given))

    assert loss(1.0, brighter=True) == pytest.approx(loss(1.0), rel=1e-4)
    assert loss(0.0, brighter=True) != pytest.approx(loss(0.0), rel=1e-2)
    half = (loss(0.0) + loss(1.0)) / 2
    assert loss(0.5) == pytest.approx(half, rel=1e-5)
    with pytest.raises(MissingModality, match="two surveys"):
        replace(SPECTRUM, crossed=0.5).build(0).loss(Tokens({"spectrum": desi}))
    with pytest.raises(BadValue, match="crossed"):
        replace(SPECTRUM, crossed=1.5)
