"""Scalar and catalogue codecs of AION-1: ids recorded from polymathic-aion 0.0.2, identical."""

from pathlib import Path

import numpy as np
import pytest
import torch

from omnisky.codec.bins import Sample
from omnisky.codec.catalog import EMPTY, CatalogCodec
from omnisky.codec.modalities import DOMAINS
from omnisky.codec.scalar import Log, Plain, ScalarCodec, ScalarPlan, TwiceAsinh, redshift_grid
from omnisky.observe.types import Neighbours, Observation, Scalars

KINDS = {
    "scalar": ("linear", Plain()),
    "scalar_mag": ("linear", Plain()),
    "log": ("positive", Log()),
    "xp": ("xp", TwiceAsinh()),
    "grid_z": ("z", Plain()),
}


@pytest.fixture(scope="module")
def pack(parity_folder: Path):
    return torch.load(parity_folder / "aion" / "scalar_codecs.pt", weights_only=True)


@pytest.fixture(scope="module")
def catalog(parity_folder: Path):
    return torch.load(parity_folder / "aion" / "catalog_codec.pt", weights_only=True)


def tables(state, ending: str) -> torch.Tensor:
    return torch.stack([tensor for key, tensor in state.items() if key.endswith(ending)])


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_the_recorded_ones_and_numbers_come_back_as_recorded(pack, kind):
    name, squeeze = KINDS[kind]
    levels = tables(pack["state_dict"][kind], ("_index_to_val", "buckets"))
    values = pack["inputs"][name].numpy()
    columns = tuple(f"c{i}" for i in range(len(levels)))
    codec = ScalarCodec(plan=ScalarPlan(name="n", part="scalars", columns=columns, squeeze=squeeze), levels=levels)
    seen = Observation.of(range(len(values)), scalars=Scalars(values=values, names=columns))
    tokens = codec.encode(seen)
    assert torch.equal(tokens["n"].values, pack["outputs"][f"{kind}_tokens"].long())
    said = torch.from_numpy(codec.decode(tokens)["scalars"].values)
    recorded = pack["outputs"][f"{kind}_decoded"]
    exact = kind not in ("log", "xp")  # exp and sinh differ in their last bits from machine to machine
    assert torch.equal(said, recorded) if exact else torch.allclose(said, recorded, rtol=1e-6)


def test_the_grid_of_redshifts_is_the_recorded_one(pack):
    assert torch.equal(redshift_grid()[0], pack["state_dict"]["grid_z"]["_quantizer.buckets"])


def test_levels_are_the_quantiles_of_what_was_kept(pack):
    state = pack["state_dict"]["log"]
    kept = state["_quantizer._reservoir"].numpy()[:, None]
    levels = Sample(size=len(kept), priority=np.arange(len(kept), dtype=np.uint64), values=kept).levels()
    # Interpolated in another order than scipy's: 2e-5 where numbers cancel.
    assert torch.allclose(levels[0], state["_quantizer._index_to_val"], rtol=1e-6, atol=5e-6)


def test_the_catalogues_ids_are_the_recorded_ones(catalog):
    """By way of an observation: pixels of a cut-out of 160, of which the middle 96 begin at 32."""
    codec = CatalogCodec(levels=tables(catalog["state_dict"], "_index_to_val"))
    assert list(codec.offsets[:-1]) == catalog["config"]["offsets"]
    names = DOMAINS["catalog"].columns
    values = np.stack([catalog["inputs"][name].numpy().astype(np.float64) for name in names], axis=-1)
    good = catalog["inputs"]["X"].numpy() != EMPTY
    values[..., :2] += 32
    # The release takes sources in the order they come in: so that ours is the same, sources go one by one.
    for row in range(len(values)):
        for source in range(values.shape[1]):
            one = values[row : row + 1, source : source + 1]
            seen = Observation.of(
                ["a"], neighbours=Neighbours(values=one, names=names, good=good[row, source][None, None])
            )
            span = codec.encode(seen)["catalog"]
            recorded = catalog["outputs"]["tokens"][row, 5 * source : 5 * source + 5]
            assert torch.equal(span.values.where(span.there(), EMPTY)[0, :5], recorded)
            if good[row, source]:
                found = codec.decode(codec.encode(seen))["neighbours"].values[0, 0]
                told = [catalog["outputs"][f"decoded_{name}"][row, source].item() for name in names]
                assert found.tolist() == [told[0] + 32, told[1] + 32, *told[2:]]
