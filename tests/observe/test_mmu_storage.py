"""Sets stored byte by byte as MMU's builders store them (chunks, compression, names of folders and files) open."""

import h5py
import numpy as np
import pytest
import tiny_mmu as tiny

from omnisky.observe.columns import word
from omnisky.observe.mmu import MMUHdf5
from omnisky.observe.read import read
from omnisky.observe.survey import SURVEYS
from omnisky.observe.validate import validate

DRAW = np.random.default_rng(5)


def numbers(*shape: int) -> np.ndarray:
    return DRAW.normal(size=shape).astype(np.float32)


def hsc(cell: int, n: int = 5) -> dict:
    """Flags for each band, True = good; band names in S5; widths and scales a band."""
    return {
        "object_id": np.array([f"4{cell}{i}".encode() for i in range(n)]),
        **tiny.places(cell, n),
        "image_band": np.array([[f"hsc-{band}".encode() for band in "grizy"]] * n, dtype="S5"),
        "image_array": numbers(n, 5, 12, 12),
        "image_ivar": abs(numbers(n, 5, 12, 12)),
        "image_mask": numbers(n, 5, 12, 12) > -2,
        "image_psf_fwhm": np.full((n, 5), 0.7, np.float32),
        "image_scale": np.full((n, 5), 0.168, np.float32),
        "a_g": numbers(n),
    }


def jwst(cell: int, n: int = 4) -> dict:
    """The flux is called image_flux."""
    bands = SURVEYS["jwst"].bands
    good = np.ones((n, len(bands), 8, 8), dtype=bool)
    return {
        "object_id": np.arange(n) + 10 * cell,
        **tiny.places(cell, n),
        "image_band": np.array([[band.encode() for band in bands]] * n),
        "image_flux": numbers(n, len(bands), 8, 8),
        "image_ivar": abs(numbers(n, len(bands), 8, 8)),
        "image_mask": good & (numbers(n, len(bands), 8, 8) > -2),
        "image_psf_fwhm": np.full((n, len(bands)), 0.1, np.float32),
        "image_scale": np.full((n, len(bands)), 0.04, np.float32),
    }


def kepler(cell: int, n: int = 101, epochs: int = 1001) -> dict:
    """Filled up with NaN to the longest; larger than a chunk of 100 × 1000."""
    time = np.tile(131.5 + 0.02 * np.arange(epochs), (n, 1))
    time[:, epochs - 3 :] = np.nan
    flux = np.where(np.isnan(time), np.nan, 1e4 + numbers(n, epochs)).astype(np.float32)
    columns = {"time": time, "pdcsap_flux": flux, "sap_flux": flux + 1}
    columns |= {name: np.full_like(flux, 3) for name in ("pdcsap_flux_err", "sap_flux_err")}
    return {"object_id": np.arange(n) + 10**6, **tiny.places(cell, n), **columns}


def btsbot(cell: int, n: int = 3) -> dict:
    """Three views of an alert, the views last."""
    columns = {"image_triplet": numbers(n, 9, 9, 3), "image_scale": np.full(n, 1.01, np.float32)}
    return {"object_id": np.arange(n) + 100 * cell, **tiny.places(cell, n), **columns, "jd": 2459000.5 + np.arange(n)}


def provabgs(cell: int, n: int = 3) -> dict:
    """100 draws of 13 numbers for each galaxy."""
    chains = {"PROVABGS_MCMC": numbers(n, 100, 13), "PROVABGS_THETA_BF": numbers(n, 13)}
    return {
        "object_id": np.arange(n) + 100 * cell,
        **tiny.places(cell, n),
        **chains,
        "PROVABGS_LOGMSTAR_BF": numbers(n),
    }


GZIP, LZF = {"compression": "gzip", "chunks": True}, {"compression": "lzf", "chunks": True}
TILES = {"compression": "gzip", "compression_opts": 5, "chunks": (100, 1000)}
STORED = {
    "hsc": ("pdr3_dud_22.5", hsc, GZIP, "healpix={}", "001-of-001.hdf5"),
    "jwst": ("ceers", jwst, GZIP, "healpix={}", "001-of-001.hdf5"),
    "legacysurvey": ("dr10_south_21", lambda cell: tiny.legacysurvey(cell, 3), LZF, "healpix={}", "001-of-001.hdf5"),
    "desi": ("edr_sv3", lambda cell: tiny.desi(cell, 4, first=100 * cell), {}, "healpix={}", "001-of-001.hdf5"),
    "sdss": ("boss", lambda cell: tiny.sdss(cell, 3, 20, 24), {}, "healpix={}", "001-of-001.hdf5"),
    "kepler": ("data", kepler, TILES, "healpix={}", "001-of-001.hdf5"),
    "btsbot": ("data", btsbot, {}, "healpix={:04d}", "train_001-of-001.hdf5"),
    "plasticc": ("data", tiny.plasticc, {}, "healpix={:04d}", "train_01.hdf5"),
    "desi_provabgs": ("datafiles", provabgs, {}, "healpix={}", "001-of-001.h5"),
}
FLUX = {"hsc": "image_array", "jwst": "image_flux", "legacysurvey": "image_array", "kepler": "pdcsap_flux"}


@pytest.mark.parametrize("survey", STORED)
def test_a_set_opens_as_it_is_stored(tmp_path, survey):
    config, make, how, cell_folder, name = STORED[survey]
    made = make(58)
    path = tmp_path / survey / config / cell_folder.format(58) / name
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        for column, values in made.items():
            fits = np.ndim(values) == 2 or "compression_opts" not in how
            file.create_dataset(column, data=values, **(how if fits else {}))
    seen = read(tmp_path / survey)
    names = [word(one) for one in made["object_id"].tolist()]
    assert seen.object_id.tolist() == names
    np.testing.assert_array_equal(seen.ra, made["ra"])
    wanted = [part.name for part in SURVEYS[survey].mmu.parts if part.name in MMUHdf5(tmp_path / survey).available]
    assert wanted and set(wanted) <= set(seen.parts)
    if survey in FLUX:
        row = SURVEYS[survey].mmu.parts[0]
        flux, want = seen[row.name].flux, made[FLUX[survey]] * row.factor
        np.testing.assert_allclose(flux, want[:, : flux.shape[1]] if flux.ndim == 2 else want, rtol=1e-5)
    some = MMUHdf5(tmp_path / survey).take([1, 0])
    assert some.object_id.tolist() == [names[1], names[0]]
    assert not [one for one in validate(tmp_path / survey).findings if one.check in ("readable", "cell", "polarity")]
