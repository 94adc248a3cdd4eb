"""Ids of a set with the codecs that made them, and a model that takes them along."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skies import IMAGE, SPECTRUM, alive, images, spectra

import omnisky
from omnisky.codec.book import tokenize
from omnisky.codec.groups import Groups
from omnisky.codec.modalities import DOMAINS
from omnisky.codec.token_shards import IdTokens, read_shards
from omnisky.errors import BadValue, MissingModality, ProvenanceError
from omnisky.model import store
from omnisky.model.any_to_any import AION
from omnisky.model.masked import AnyToAnyConfig, gated
from omnisky.observe.sky import held_out
from omnisky.observe.types import Observation, Scalars
from omnisky.train.config import Run
from omnisky.train.loop import train
from omnisky.train.tokens import around_all, codecs_beside, make_tokens

KEYS = ("tok_image", "tok_spectrum_desi", "tok_flux_g", "tok_mag_g", "tok_z", "tok_parallax", "tok_ra")
N = 12


@pytest.fixture(scope="module")
def seen() -> Observation:
    draw = np.random.default_rng(0)
    names = tuple(DOMAINS[key].columns[0] for key in KEYS[2:6])
    values = np.column_stack([draw.lognormal(size=(N, 2)), draw.uniform(0, 1, N), draw.normal(size=N)])
    return Observation.of(
        [f"o{i}" for i in range(N)],
        draw.uniform(300, 360, N) + np.arange(N) % 2 * 60,
        draw.uniform(-40, 40, N),
        image=replace(images(N, size=24), ivar=None),
        spectrum=spectra(N),
        scalars=Scalars(values=values, names=names),
    )


@pytest.fixture(scope="module")
def networks() -> list[torch.nn.Module]:
    return [alive(IMAGE.build()), alive(SPECTRUM.build())]


@pytest.fixture(scope="module")
def made(seen, networks, tmp_path_factory):
    return make_tokens(seen, tmp_path_factory.mktemp("tokens"), networks, shard=8, batch=4)


@pytest.fixture(scope="module")
def said(seen, made):
    return tokenize(seen, codecs_beside(made, KEYS))


def test_the_ids_are_what_the_codecs_beside_them_say(said, made):
    ids = read_shards(made)
    assert set(said) == set(KEYS)
    for key in KEYS:
        span = IdTokens(name=key).encode(ids)[key]
        assert torch.equal(span.values[span.there()], said[key].values[said[key].there()].long())


def test_signs_of_parallaxes_and_the_circle_of_ra_are_kept(seen, made):
    by_name = {codec.name: codec for codec in codecs_beside(made, KEYS)}
    back = by_name["tok_parallax"].decode(tokenize(seen, by_name, only=("tok_parallax",)), like=seen)
    assert (np.sign(back["scalars"]["parallax"]) == np.sign(seen["scalars"]["parallax"])).mean() > 0.95
    ra = np.sort(seen.ra)
    span = by_name["tok_ra"].encode(replace(seen, ra=ra, dec=seen.dec))["tok_ra"].values[:, 0]
    assert int((span.diff() < 0).sum()) <= 1  # torn at one place at most


def test_the_same_call_goes_on_and_another_is_refused(seen, networks, tmp_path):
    def stop(done, whole):
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_tokens(seen, tmp_path, networks, shard=8, batch=4, watch=stop)
    first = (tmp_path / "000000.parquet").stat().st_mtime_ns
    make_tokens(seen, tmp_path, networks, shard=8, batch=4)
    assert (tmp_path / "000000.parquet").stat().st_mtime_ns == first and len(read_shards(tmp_path)) == N
    with pytest.raises(ProvenanceError):
        make_tokens(seen, tmp_path, networks, shard=8, groups=Groups(groups=(("desi",),)))


def test_groups_of_surveys(seen, said):
    groups = Groups(groups=(("legacysurvey", "hsc"), ("legacysurvey", "desi")), share=0.3)
    kept = groups(seen, said)
    away = torch.from_numpy(held_out(seen, 0.3))
    hsc, desi, legacy = (kept[key].there().any(1) for key in ("tok_mag_g", "tok_spectrum_desi", "tok_flux_g"))
    assert bool((hsc ^ desi)[~away].all()) and bool((hsc & desi)[away].all()) and bool(legacy.all())
    assert 0 < int(hsc[~away].sum()) < int((~away).sum())
    alone = groups(seen.take(slice(3, 4)), said.take(slice(3, 4)))
    assert torch.equal(alone["tok_mag_g"].there(), kept["tok_mag_g"].there()[3:4])
    with pytest.raises(BadValue, match="groups of surveys"):
        Groups(groups=(("legacy",),))


@pytest.fixture(scope="module")
def trained(made, tmp_path_factory):
    config = AnyToAnyConfig(
        core=gated(1, 16, 2), decoder_depth=1, vocabularies=tuple(AION[key] for key in KEYS), shown=40, asked=20
    )
    run = Run(
        name="tiny",
        model=config,
        codecs=tuple(IdTokens(name=key) for key in KEYS),
        data=str(made),
        steps=1,
        batch=4,
        precision="fp32",
    )
    folder = tmp_path_factory.mktemp("run")
    return train(run, folder), folder / "model"


def test_a_model_takes_its_codecs_along(seen, trained):
    model, folder = trained
    loaded = omnisky.load(folder)
    assert (folder / "codecs" / "image" / "model.safetensors").exists()
    assert store.signature(loaded) == store.signature(model)
    some = seen.take(slice(0, 3))
    one, other = (omnisky.posterior(net, some, "z") for net in (model, loaded))
    np.testing.assert_array_equal(one.chance, other.chance)
    tokens = omnisky.tokenize(seen, loaded.codecs, only=("tok_flux_g",))
    back = omnisky.detokenize(tokens, like=seen, codecs=loaded.codecs)
    assert back["scalars"].names == ("FLUX_G",)
    loaded.codecs = tuple(codec for codec in loaded.codecs if codec.name != "tok_flux_g")
    assert store.signature(loaded) != store.signature(model)


def test_a_byte_a_number(seen, trained, tmp_path):
    """Each number is off by at most half a step of 127 to its row's largest; buffers and vectors not at all."""
    model, folder = trained
    small = store.load(store.save(model, tmp_path / "small", dtype=torch.int8))
    parameters = dict(model.named_parameters())
    for name, weight in small.state_dict().items():
        true = model.state_dict()[name]
        if name in parameters and true.ndim > 1:
            rows = true.flatten(1)
            assert ((weight.flatten(1) - rows).abs() <= rows.abs().amax(1, keepdim=True) / 253).all(), name
        else:
            assert torch.equal(weight, true), name
    files = [
        sum(file.stat().st_size for file in place.rglob("*.safetensors")) for place in (folder, tmp_path / "small")
    ]
    assert files[1] < 0.5 * files[0]
    networks = [next(one.network for one in net.codecs if one.name == "tok_spectrum_desi") for net in (model, small)]
    grids = [net.state_dict()["latent_grid._wavelength"] for net in networks]
    assert torch.equal(*grids)
    assert omnisky.posterior(small, seen.take(slice(0, 1)), "z").chance.shape == (1, 1024)


def test_what_is_refused(seen, tmp_path):
    with pytest.raises(BadValue, match="not a learned codec"):
        around_all([torch.nn.Linear(1, 1)])
    with pytest.raises(MissingModality, match="nothing to fit"):
        make_tokens(Observation.of(range(3), image=images(3)), tmp_path)


def test_levels_may_be_drawn_without_the_held_out_sky(tmp_path):
    """Its numbers, far from all others, move the levels only where they are part of the fit."""
    draw = np.random.default_rng(3)
    seen = Observation.of(range(300), draw.uniform(0, 360, 300), draw.uniform(-80, 80, 300))
    away = held_out(seen, 0.3)
    values = np.where(away, 1e6, draw.lognormal(size=300))[:, None]
    seen = seen | {"scalars": Scalars(values=values, names=(DOMAINS["tok_flux_g"].columns[0],))}
    top, ids = {}, {}
    for share in (0.0, 0.3):
        folder = make_tokens(seen, tmp_path / str(share), held_out=share)
        (codec,) = codecs_beside(folder, ("tok_flux_g",))
        top[share], ids[share] = float(codec.kept.max()), read_shards(folder)["tok_flux_g"].table
    assert top[0.0] > 1.3 * top[0.3] and not np.array_equal(ids[0.0], ids[0.3])
    again = read_shards(make_tokens(seen, tmp_path / "0.0", held_out=0.3))  # begun without: nothing in it changes
    assert np.array_equal(again["tok_flux_g"].table, ids[0.0])


def test_the_second_process_waits_for_the_codecs(seen, networks, tmp_path):
    with pytest.raises(BadValue, match="start this part later"):
        make_tokens(seen, tmp_path, networks, shard=8, part=(1, 2))
    for part in ((0, 2), (1, 2)):
        make_tokens(seen, tmp_path, networks, shard=8, batch=4, part=part)
    assert read_shards(tmp_path).object_id.tolist() == seen.object_id.tolist()
