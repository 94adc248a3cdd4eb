"""Whatever was seen, written as shards or as HATS in pieces of any size, is read back bit for bit."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_arrow import build, same, skies

from omnisky.observe.hats_write import write_hats
from omnisky.observe.read import read
from omnisky.observe.shards import write_shards
from omnisky.observe.types import Observation, Spectrum

WRITE = {
    "shards": lambda pieces, folder: write_shards(pieces, folder, seed=2, shard_bytes=300),
    "hats": lambda pieces, folder: write_hats(pieces, folder, max_rows=2, row_group=1),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("form", WRITE)
@settings(max_examples=12)
@given(skies(least=1), st.integers(1, 3))
def test_what_is_written_is_read(form, recipe, size):
    seen = build(recipe)
    ra, dec = np.nan_to_num(seen.ra, nan=12.5), np.nan_to_num(seen.dec, nan=-3.0)  # HATS wants positions
    seen = Observation(np.arange(len(seen)).astype(np.str_), ra, dec, seen.parts)
    with TemporaryDirectory() as folder:
        WRITE[form]([seen.take(slice(i, i + size)) for i in range(0, len(seen), size)], Path(folder) / "set")
        found = read(Path(folder) / "set")
    assert sorted(found.object_id.astype(int)) == list(range(len(seen)))
    same(seen, found.take(np.argsort(found.object_id.astype(int))))


@pytest.mark.parametrize("form", WRITE)
def test_each_piece_keeps_its_own_padding(form, tmp_path):
    def piece(name: str, padding: float) -> Observation:
        wave, good = np.full((1, 4), padding), np.zeros((1, 4), bool)
        return Observation.of([name], [1.0], [2.0], spectrum=Spectrum(flux=0 * wave, wavelength_aa=wave, good=good))

    WRITE[form]([piece("0", 0.0), piece("1", -1.0)], tmp_path / "set")
    found = read(tmp_path / "set")
    assert {name: w[0] for name, w in zip(found.object_id, found["spectrum"].wavelength_aa, strict=True)} == {
        "0": 0,
        "1": -1,
    }
