"""What a model draws, as observations; and numbers as tables: on disk, from the command line too."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import omnisky
from omnisky.cli import main
from omnisky.codec.modalities import DOMAINS
from omnisky.codec.scalar import ScalarCodec, fitted, plan, redshift_grid, sample
from omnisky.errors import BadValue, MissingModality
from omnisky.generate import Roar, answers, posterior
from omnisky.generate.answers import keys_of, table
from omnisky.model import store
from omnisky.model.any_to_any import AION
from omnisky.model.masked import AnyToAny, AnyToAnyConfig, gated
from omnisky.observe.types import Observation, Scalars

KEYS = ("tok_flux_g", "tok_flux_r", "tok_xp_bp")


@pytest.fixture(scope="module")
def seen() -> Observation:
    draw = np.random.default_rng(0)
    columns = Scalars(values=draw.lognormal(size=(9, 2)), names=("FLUX_G", "FLUX_R"))
    xp = Scalars(values=draw.normal(size=(9, 55)), names=tuple(f"bp_{i}" for i in range(55)))
    return Observation.of([f"o{i}" for i in range(9)], np.arange(9.0), np.zeros(9), scalars=columns, bp=xp)


@pytest.fixture(scope="module")
def model(seen) -> AnyToAny:
    plans = [plan(DOMAINS[key]) for key in KEYS]
    config = AnyToAnyConfig(
        core=gated(1, 16, 2), decoder_depth=1, vocabularies=tuple(AION[key] for key in (*KEYS, "tok_z"))
    )
    built = config.build(0).eval()
    z = ScalarCodec(plan=plan(DOMAINS["tok_z"]), levels=redshift_grid())
    built.codecs = (*fitted(plans, sample(plans, [seen])), z)
    return built


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return store.save(model, tmp_path_factory.mktemp("model") / "tiny")


def test_draws_are_numbered_and_decoded(model, seen):
    once = answers(model, seen, ("xp_bp",), ("flux_g",), Roar(steps=2), draws=2, batch=4, generator=torch.Generator())
    assert once.object_id[:3].tolist() == ["o0/0", "o0/1", "o1/0"] and len(once) == 18
    assert tuple(once.parts) == ("bp",) and once["bp"].values.shape == (18, 55)
    assert not np.array_equal(once["bp"].values[0], once["bp"].values[1])
    alone = answers(model, seen.take(slice(0, 1)), ("xp_bp", "z"), draws=1)
    assert alone.object_id.tolist() == ["o0"] and alone["scalars"].names == ("Z",)


def test_inputs_are_all_or_those_that_are_named(model, seen):
    less = seen.take(slice(0, 3))
    everything = posterior(model, less, "z")
    assert keys_of(model, ("z", "tok_flux_g")) == ("tok_z", "tok_flux_g")
    with pytest.raises(MissingModality, match="saw image"):
        answers(model, less, ("z",), ("image",))
    with pytest.raises(BadValue, match="0 objects"):
        answers(model, less.take([]), ("z",))
    row = table(less, [everything])
    assert row.column_names[:5] == ["object_id", "ra", "dec", "z_mean", "z_mode"]
    np.testing.assert_allclose(row["z_q50"].to_numpy(), everything.quantile(0.5))


def test_the_command_line_writes_what_can_be_read(folder, seen, tmp_path):
    from omnisky.observe.shards import write_shards

    write_shards(seen, tmp_path / "data")
    words = ["generate", str(folder), str(tmp_path / "data"), "--from", "flux_g", "--to", "xp_bp", "--draws", "2"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--steps", "2", "--out", str(tmp_path / "drawn")])
    assert end.value.code in (0, None)
    assert len(omnisky.read(tmp_path / "drawn")) == 18
    with pytest.raises(SystemExit) as end:
        main(["posterior", str(folder), str(tmp_path / "data"), "z", "flux_r", "--out", str(tmp_path / "z.parquet")])
    assert end.value.code in (0, None)
    told = pq.read_table(tmp_path / "z.parquet")
    assert len(told) == 9 and {"z_mean", "flux_r_q16"} <= set(told.column_names)
