"""The evaluation of learned codecs: its numbers are what they say, on codecs whose errors are known."""

from dataclasses import replace

import numpy as np
import pytest
import skies
import torch
from skies import FIELD, IMAGE, SPECTRUM, alive

from omnisky import cli
from omnisky.codec.field import FieldRows
from omnisky.codec.image import ImageCodec, Planes
from omnisky.codec.spectrum import GridRows
from omnisky.errors import BadValue
from omnisky.evaluate import codec as evaluation
from omnisky.model import store
from omnisky.observe.types import Observation

SEEN = skies.sky(48, image=skies.images(48), spectrum=skies.spectra(48), **skies.maps(48))


def saved(folder, config, codec):
    network = alive(config.build())
    if config is IMAGE:
        network.subsample_out.weight.data.mul_(0.1)  # sinh makes infinities of chance
    network.codecs = (codec,)
    return store.save(network, folder)


def test_a_report_of_each_modality(tmp_path):
    folders = [
        saved(tmp_path / "image", IMAGE, Planes(config=IMAGE)),
        saved(tmp_path / "spectrum", SPECTRUM, GridRows(config=SPECTRUM)),
        saved(tmp_path / "field", FIELD, FieldRows(side=96)),
    ]
    image, spectrum, field = (evaluation.evaluate(folder, SEEN) for folder in folders)
    assert (image.name, spectrum.name, field.name) == ("tok_image", "tok_spectrum_desi", "tok_segmap")
    assert image.bits == pytest.approx(576 * np.log2(4375)) and spectrum.bits == pytest.approx(273 * 10)
    assert image.sigma.value > 1 and spectrum.sigma.value > 1 and field.sigma is None
    assert 0.3 < spectrum.bad_auc.value < 0.7 and image.bad_auc is None, "an untrained network knows no bad pixel"
    assert spectrum.wavelength_aa.shape == spectrum.before.shape and image.wavelength_aa is field.wavelength_aa is None
    assert np.isin(spectrum.wavelength_aa, SEEN["spectrum"].wavelength_aa).all()
    assert all(len(report.row()) == len(evaluation.HEADERS) for report in (image, spectrum, field))


def test_scores_of_a_codec_that_loses_a_known_part(monkeypatch):
    """Flux comes back 1 % too bright: the photometry says so, and χ² is what that makes of it."""
    codec = ImageCodec(network=alive(IMAGE.build()))
    image = SEEN["image"]

    def brighter(self, tokens, like=None, bands=None):
        return like | {"image": replace(like["image"], flux=like["image"].flux * np.float32(1.01))}

    monkeypatch.setattr(ImageCodec, "decode", brighter)
    report = evaluation._report(codec, evaluation._tally(codec, SEEN))
    want = float(np.sqrt((((0.01 * image.flux) ** 2) * image.ivar).mean()))
    assert report.sigma.value == pytest.approx(want, rel=1e-3)
    assert report.r2.value == pytest.approx(1 - 1e-4 * (image.flux**2).mean() / image.flux.var(), abs=1e-6)
    assert len(report.photometry) >= 4
    for one in report.photometry:
        assert one.bias.value == pytest.approx(0.01, abs=1e-3)


def test_of_a_reader_only_what_is_measured_is_read(tmp_path):
    """A set may be larger than memory: 12,000 mock objects are 13 GB."""

    class Reader:
        taken = 0

        def __len__(self):
            return len(SEEN)

        def catalogue(self):
            return Observation(SEEN.object_id, SEEN.ra, SEEN.dec)

        def take(self, index):
            found = SEEN.take(index)
            Reader.taken += len(found)
            return found

    folder = saved(tmp_path / "field", FIELD, FieldRows(side=96))
    found, all_of_them = (evaluation.evaluate(folder, seen, share=0.5) for seen in (Reader(), SEEN))
    assert found.state() == all_of_them.state()
    assert Reader.taken == found.objects < len(SEEN)


def test_too_few_objects_are_refused(tmp_path):
    folder = saved(tmp_path / "field", FIELD, FieldRows())
    with pytest.raises(BadValue, match=r"nothing to measure on.*--everything"):
        evaluation.evaluate(folder, SEEN.take(slice(0, 1)))
    with pytest.raises(BadValue, match="learned codec"):
        evaluation.codec_of(torch.nn.Linear(1, 1))


def test_the_command(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("omnisky.observe.read.source_of", lambda path: SEEN)
    monkeypatch.setenv("COLUMNS", "200")  # a narrow table breaks words
    folders = [saved(tmp_path / "f", FIELD, FieldRows()), saved(tmp_path / "i", IMAGE, Planes(config=IMAGE))]
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", "codec", "DATA", *map(str, folders), "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert not ended.value.code and "tok_segmap" in said and "perplexity" in said
    for name in ("tok_segmap", "tok_image"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
