"""The whole comparison on a small mock sky with tiny networks: each number is there, a second call trains nothing."""

import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from skies import FIELD, IMAGE, SPECTRUM, alive

from omnisky.codec.token_shards import IdTokens
from omnisky.codec.tokens import encode_all
from omnisky.demo.any_to_any import draw, page, state
from omnisky.evaluate.aion import ASKED, UNSEEN, measure
from omnisky.evaluate.aion_runs import Sizes, train_all
from omnisky.model import store
from omnisky.observe.mock.surveys import SIDE_PX, all_surveys, middle

TINY = ("model.core.width=16", "model.core.heads=2", "model.core.depth=1", "model.core.hidden=16")
TINY += ("model.decoder_depth=1", "steps=3", "batch=8", "optim.warmup=1")


@pytest.fixture(scope="module")
def sky():
    pytest.importorskip("galsim")
    pytest.importorskip("speclite")
    return middle(replace(all_surveys(200), objects_per_cell=1).take(slice(None)))


@pytest.fixture(scope="module")
def codecs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codecs")
    nets = {"image": alive(IMAGE.build()), "spectrum": alive(SPECTRUM.build()), "field": alive(FIELD.build())}
    with torch.no_grad():  # asinh of what is drawn must stay within float32
        nets["image"].subsample_out.weight.mul_(0.05)
    for net in nets.values():
        net.codecs = ()
    return [store.save(net, folder / name) for name, net in nets.items()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_everything_is_measured_once(sky, codecs, tmp_path):
    assert sky["image"].flux.shape[-1] == sky["segmentation"].label.shape[-1] == SIDE_PX
    steps = []
    ready = train_all(sky, tmp_path, lambda name: steps.append, nullcontext, codecs, TINY)
    assert len(steps) == 2 * 3 and not set(ready.test) & set(ready.learnt)
    tokens = encode_all(tuple(IdTokens(name=n) for n in ("tok_image_hsc", "tok_spectrum_desi")), ready.tokens)
    hsc, desi = (span.there().all(1).numpy() for span in tokens.values())
    assert not (hsc & desi)[ready.learnt].any() and (hsc & desi)[ready.test].all()
    found = measure(ready, Sizes(asked=40, drawn=12, probed=20), nullcontext)
    assert [one.inputs for one in found.redshifts] == list(ASKED)
    assert UNSEEN in {one.way for one in found.spectra}
    assert all(np.isfinite(one.median.value) for one in found.images)
    drawn = draw(found, tmp_path)
    assert all(figure.stat().st_size > 1000 for figure in drawn.figures.values())
    assert "| CRPS |" in page(drawn, "Title", "Head")
    json.dumps(state(found))
    train_all(sky, tmp_path, lambda name: steps.append, nullcontext, codecs, TINY)
    assert len(steps) == 2 * 3
