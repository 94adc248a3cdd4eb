"""Validation of files of the Multimodal Universe: what is wrong with one is named, and the others are looked at."""

import re

import h5py
import numpy as np
import pytest
import tiny_mmu as tiny

from omnisky.observe.mmu_write import write_mmu
from omnisky.observe.types import Observation, Scalars, Spectrum
from omnisky.observe.validate import validate

CELLS = (700, 701, 702)
EACH = 4


@pytest.fixture
def desi(tmp_path):
    """Three files that are as they should be."""
    for cell in CELLS:
        columns = tiny.desi(cell, EACH, first=100 * cell)
        tiny.put(tmp_path / "desi", cell, columns | {"EBV": np.linspace(0.01, 0.02, EACH) * cell})
    return tmp_path / "desi"


def broken(root):
    return root / "healpix=701" / "001-of-001.hdf5"


def change(root, **columns):
    with h5py.File(broken(root), "a") as file:
        for name, values in columns.items():
            if name in file:
                del file[name]
            if values is not None:
                file[name] = values


def test_files_that_are_right_pass(desi):
    watched = []
    report = validate(desi, batch=3, watch=lambda done, total: watched.append((done, total)))
    assert report.findings == () and report.objects == 12
    assert watched == [(3, 12), (4, 12), (7, 12), (8, 12), (11, 12), (12, 12)]


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_truncated_file_is_named_once_and_the_others_are_read(desi, share):
    whole = broken(desi).read_bytes()
    broken(desi).write_bytes(whole[: int(share * len(whole))])
    report = validate(desi)
    assert [finding.where for finding in report.findings if finding.check == "readable"] == [str(broken(desi))]
    assert not report.ok and report.objects == 2 * EACH


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"spectrum_flux": None}, "another schema.*want spectrum"),
        ({"spectrum_ivar": None}, "another schema: spectrum"),
        ({"object_id": None}, "another schema.*want a column object_id"),
        ({"SPECTYPE": None}, "another schema.*SPECTYPE"),
        ({"Z": np.zeros(2)}, "column Z. saw 2 rows"),
        ({"spectrum_lambda": np.ones((EACH, 7), np.float32)}, "wavelengths. saw"),
        ({"spectrum_mask": np.full((EACH, 12), 0.5)}, "fractions"),
        ({"object_id": np.array([5, 6, 5, 7])}, "ids that come twice. saw 5"),
        ({"ra": np.array([10, 365.0, 30, 40])}, "positions. saw ra = 365.0"),
        ({"dec": np.array([10, -91.0, 30, 40])}, "positions. saw dec = -91.0"),
    ],
)
def test_a_wrong_file_is_named_and_the_others_are_read(desi, columns, said):
    change(desi, **columns)
    report = validate(desi, batch=3)
    found = next(finding for finding in report.findings if finding.check == "readable")
    assert str(broken(desi)) in f"{found.where} {found.saw}" and report.objects == 2 * EACH and not report.ok
    assert re.search(said, found.saw)


def test_the_first_file_may_be_the_wrong_one(desi):
    """Then the others are not called wrong for having more."""
    with h5py.File(desi / "healpix=700" / "001-of-001.hdf5", "a") as file:
        del file["spectrum_flux"]
    report = validate(desi)
    assert [("healpix=700" in one.where, one.check) for one in report.findings if one.serious] == [(True, "readable")]
    assert report.objects == 2 * EACH


def test_ids_of_two_files(desi):
    with h5py.File(desi / "healpix=700" / "001-of-001.hdf5") as file:
        twins = file["object_id"][:2]
    change(desi, object_id=np.array([*twins, 1, 2]))
    report = validate(desi, batch=3)
    assert [(one.check, one.saw) for one in report.findings] == [
        ("ids unique", f"2 ids more than once: {twins[0]}, {twins[1]}")
    ]


def test_the_column_of_cells_agrees_with_the_folder(desi):
    change(desi, healpix=np.array([701, 701, 33, 33]))
    report = validate(desi)
    assert [(one.check, one.where, one.saw) for one in report.findings] == [
        ("cell", f"{broken(desi)}, healpix", "33 in 2 of 4 rows")
    ]


def test_mixed_endianness_is_no_fault(desi):
    with h5py.File(broken(desi)) as file:
        columns = {name: held[()] for name, held in file.items()}
    swapped = {name: one.astype(one.dtype.newbyteorder(">")) for name, one in columns.items() if one.dtype.kind in "fi"}
    change(desi, **swapped)
    assert validate(desi).findings == ()


def test_a_file_that_disappears_while_it_is_read_is_named(desi):
    def watch(done: int, total: int) -> None:
        broken(desi).unlink(missing_ok=True)

    report = validate(desi, watch=watch)
    assert len(report.findings) == 1 and report.objects == 2 * EACH and not report.ok
    assert f"{broken(desi)} is gone" in report.findings[0].saw


def test_a_set_whose_path_says_nothing(desi, tmp_path):
    desi.rename(tmp_path / "mine")
    assert "which survey?" in validate(tmp_path / "mine").findings[0].saw
    assert validate(tmp_path / "mine", survey="desi").findings == ()


def test_the_band_that_plasticc_never_filled_shows(tmp_path):
    columns = tiny.plasticc(58)
    columns["lightcurve"][:, :, 1] += np.arange(4)  # of stars that vary
    tiny.put(tmp_path / "plasticc", 58, columns, name="train_01.hdf5")
    found = {(one.check, one.where) for one in validate(tmp_path / "plasticc").findings}
    assert ("never measured", "lightcurve.flux Y") in found


def test_what_we_write_passes(tmp_path):
    draw = np.random.default_rng(3)
    n, wave = 40, np.tile(np.linspace(3600, 9800, 30), (40, 1))
    part = Spectrum(flux=draw.normal(size=(n, 30)), wavelength_aa=wave, ivar=draw.uniform(1, 2, (n, 30)))
    z = Scalars(values=draw.uniform(0, 1, (n, 1)), names=("Z",))
    seen = Observation.of(range(n), draw.uniform(0, 360, n), draw.uniform(-80, 80, n), spectrum=part, scalars=z)
    write_mmu(seen, tmp_path / "desi", survey="desi", objects_per_file=2)
    report = validate(tmp_path / "desi")
    assert report.findings == () and report.objects == n
