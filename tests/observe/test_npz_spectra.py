"""Spectra, and pairs of picture and spectrum, in one .npz."""

import numpy as np
import pytest

from omnisky.errors import CorruptFile
from omnisky.observe.read import read


def arrays(n: int = 3, wave: int = 20) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    ivar = draw.uniform(1, 2, (n, wave)).astype(np.float32)
    ivar[0, 4] = 0
    return {
        "flux": draw.normal(size=(n, wave)).astype(np.float32),
        "ivar": ivar,
        "wave": np.linspace(4000, 5000, wave).astype(np.float32),
        "image_rgb": draw.integers(0, 255, (n, 8, 8, 3)).astype(np.uint8),
    }


def test_pairs_and_the_table_beside_them(tmp_path):
    held = arrays()
    np.savez(tmp_path / "pairs.npz", **held)
    (tmp_path / "pairs.csv").write_text("name,ra,dec,z\na,10,1,0.1\nb,20,2,0.2\nc,30,3,\n")
    seen = read(tmp_path)
    spectrum, image = seen["spectrum"], seen["image"]
    assert np.isnan(spectrum.flux[0, 4]) and not spectrum.good[0, 4] and spectrum.good.sum() == 59
    assert np.array_equal(spectrum.flux[1], held["flux"][1]) and spectrum.ivar[0, 4] == 0
    assert np.array_equal(spectrum.wavelength_aa[2], held["wave"].astype(np.float64))
    assert np.array_equal(image.flux[1, 2], held["image_rgb"][1, :, :, 2]) and image.unit == "display"
    assert seen.ra.tolist() == [10, 20, 30]
    assert seen["scalars"]["z"][:2].tolist() == [0.1, 0.2] and np.isnan(seen["scalars"]["z"][2])


def test_spectra_alone(tmp_path):
    held = arrays()
    np.savez(tmp_path / "s.npz", flux=held["flux"], wave=held["wave"])
    seen = read(tmp_path / "s.npz")
    assert list(seen.parts) == ["spectrum"] and seen["spectrum"].ivar is None and seen["spectrum"].good.all()


@pytest.mark.parametrize("name", ["wave", "ivar", "image_rgb"])
def test_arrays_that_do_not_go_together_are_named(tmp_path, name):
    held = arrays()
    np.savez(tmp_path / "s.npz", **{**held, name: held[name][:2]})
    with pytest.raises(CorruptFile, match=r"s\.npz"):
        read(tmp_path / "s.npz")
