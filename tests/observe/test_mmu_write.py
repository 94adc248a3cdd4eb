"""Writing as the Multimodal Universe does: back comes what was written, bit for bit, and a killed run goes on."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from textwrap import dedent

import h5py
import numpy as np
import pytest
import tiny_mmu as tiny
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from omnisky.errors import BadValue, ObservationError, StorageError
from omnisky.observe.mmu import MMUHdf5
from omnisky.observe.mmu_write import write_mmu
from omnisky.observe.types import (
    Cube,
    Image,
    Labels,
    LightCurve,
    Neighbours,
    Observation,
    Scalars,
    SegmentationMap,
    Spectrum,
)

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=6)


def arrays(shape, floats=True):
    return hnp.arrays(np.float32, shape, elements=FLOATS) if floats else hnp.arrays(np.bool_, shape)


def maybe(strategy):
    return st.none() | strategy


@st.composite
def skies(draw):
    """Observations of every kind of part, with and without each of what is optional."""
    n = draw(st.integers(1, 4))
    names = draw(st.sampled_from([("g", "r", "i", "z"), ("g",), ("f444w", "f090w")]))
    cube, flat, lists = (n, len(names), 2, 3), (n, 3), (n, 2, 2)
    here = {"present": draw(maybe(arrays((n,), False)))}
    wave = draw(hnp.arrays(np.float64, flat, elements=st.floats(1000, 1e5)))
    ids = draw(st.lists(TEXT | st.integers(-(2**70), 2**70).map(str), min_size=n, max_size=n, unique=True))
    scale = draw(st.just(float("nan")) | st.floats(0.01, 1))
    parts = {
        "image": partial(
            Image,
            flux=draw(arrays(cube)),
            bands=names,
            survey=draw(st.sampled_from(["", "hsc", "legacysurvey"])),
            pixel_scale_arcsec=scale,
            ivar=draw(maybe(arrays(cube))),
            good=draw(maybe(arrays(cube, False))),
            psf_fwhm_arcsec=draw(maybe(arrays(cube[:2]))),
            pixel_scales_arcsec=draw(maybe(arrays(cube[:2]))),
            **here,
        ),
        "rgb": partial(
            Image, flux=draw(hnp.arrays(np.uint8, (n, 3, 2, 3))), bands=("red", "green", "blue"), unit="display"
        ),
        "spectrum": partial(
            Spectrum,
            flux=draw(arrays(flat)),
            wavelength_aa=wave,
            ivar=draw(maybe(arrays(flat))),
            good=draw(maybe(arrays(flat, False))),
            lsf_sigma_pix=draw(maybe(arrays(flat))),
            **here,
        ),
        "lightcurve": partial(
            LightCurve,
            flux=draw(arrays(flat)),
            time_mjd=draw(hnp.arrays(np.float64, flat)),
            band=draw(hnp.arrays(np.int64, flat, elements=st.integers(0, 5) | st.integers(-(2**60), 2**60))),
            bands=draw(st.sampled_from([("g",), ("tess",), tuple("ugrizY"), ("B", "r'"), ("a,b", "c")])),
            unit=draw(st.sampled_from(["nanomaggy", "electron / s"])),
            ivar=draw(maybe(arrays(flat))),
            good=draw(maybe(arrays(flat, False))),
        ),
        "segmentation": partial(SegmentationMap, label=draw(hnp.arrays(np.int32, (n, 2, 2)))),
        "cube": partial(
            Cube,
            flux=draw(arrays((n, 3, 1, 2))),
            wavelength_aa=wave,
            ivar=draw(maybe(arrays((n, 3, 1, 2)))),
            good=draw(maybe(arrays((n, 3, 1, 2), False))),
            pixel_scale_arcsec=scale,
            **here,
        ),
        "neighbours": partial(
            Neighbours, values=draw(arrays(lists)), names=("X", "Y"), good=draw(maybe(arrays((n, 2), False)))
        ),
        "scalars": partial(
            Scalars, values=draw(hnp.arrays(np.float64, (n, 2))), names=("Z", "EBV"), units=("", "mag"), **here
        ),
        "xp": partial(Scalars, values=draw(arrays((n, 5))), names=tuple("01234")),
        "labels": partial(
            Labels,
            columns={
                "kind": np.array(draw(st.lists(TEXT, min_size=n, max_size=n)), dtype=np.str_),
                "bits": draw(hnp.arrays(np.uint64, (n,))),
                "flag": draw(arrays((n,), False)),
            },
            **here,
        ),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(parts)), unique=True))
    ra = draw(hnp.arrays(np.float64, (n,), elements=st.floats(0, 360)))
    dec = draw(hnp.arrays(np.float64, (n,), elements=st.floats(-90, 90)))
    # Made in the test: making them draws lots (beartype's), which strategies must not.
    made = {name: parts[name] for name in chosen}
    return lambda named: Observation(
        np.array([named(one) for one in ids], dtype=np.str_), ra, dec, {name: make() for name, make in made.items()}
    )


def same(a, b) -> None:
    """Equal to the bit, NaN and the sign of 0 too; also the kinds of numbers, and what is missing."""
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray) and a.dtype.kind == b.dtype.kind and a.shape == b.shape
        if a.dtype.kind == "U":
            assert a.tolist() == b.tolist()
        else:
            assert a.dtype == b.dtype
            gone = np.isnan(a) if a.dtype.kind == "f" else np.zeros(a.shape, dtype=bool)
            np.testing.assert_array_equal(gone, np.isnan(b) if a.dtype.kind == "f" else gone)
            assert a[~gone].tobytes() == b[~gone].tobytes()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, float) and np.isnan(a):
        assert np.isnan(b)
    else:
        assert a == b and type(a) is type(b)


def same_sky(a: Observation, b: Observation) -> None:
    same(a.object_id, b.object_id)
    same(a.ra, b.ra)
    same(a.dec, b.dec)
    assert set(a.parts) == set(b.parts)
    for name, part in a.parts.items():
        assert type(part) is type(b[name])
        same(dict(vars(part)), dict(vars(b[name])))


def in_order(seen: Observation, like: Observation) -> Observation:
    at = {name: i for i, name in enumerate(seen.object_id.tolist())}
    return seen.take([at[name] for name in like.object_id.tolist()])


@settings(max_examples=40)
@given(make=skies(), survey=st.sampled_from(["", "legacysurvey", "hsc", "desi", "btsbot"]))
def test_back_comes_what_was_written(tmp_path_factory, make, survey):
    seen, folder = make(str), tmp_path_factory.mktemp("set")
    write_mmu(seen, folder, survey=survey, objects_per_file=2)
    same_sky(in_order(MMUHdf5(folder).read(), seen), seen)


@settings(max_examples=50, phases=[Phase.generate])
@given(
    make=skies(),
    survey=st.sampled_from(["manga", "yse", "cfa", "csp", "plasticc", "tess", "kepler", "vipers", "chandra", "galah"]),
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of infinite fluxes, which are drawn too
def test_back_comes_what_was_written_in_every_layout(tmp_path_factory, make, survey):
    """Ids are spelled so that they can be names of files and groups."""
    seen, folder = make(lambda one: "o" + one.encode().hex()), tmp_path_factory.mktemp("set")
    write_mmu(seen, folder, survey=survey, objects_per_file=2)
    same_sky(in_order(MMUHdf5(folder).read(), seen), seen)


def sky(n: int = 9, seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    flux = rng.normal(size=(n, 4, 5, 5)).astype(np.float32)
    image = Image(flux=flux, bands=tuple("griz"), survey="legacysurvey", pixel_scale_arcsec=0.262, ivar=abs(flux))
    good = np.broadcast_to(flux[:, :1] > -1, flux.shape).copy()
    ra, dec = rng.uniform(10, 14, n), rng.uniform(-2, 2, n)
    image = Image(**{**vars(image), "good": good})
    scalars = Scalars(values=rng.normal(size=(n, 1)).astype(np.float32), names=("EBV",), units=("mag",))
    return Observation.of([f"{i}-a" for i in range(n)], ra, dec, image=image, scalars=scalars)


def test_files_are_as_the_loaders_of_the_multimodal_universe_want_them(tmp_path):
    """The names, shapes, types and order that its legacysurvey loader takes for granted."""
    seen = sky()
    paths = write_mmu(seen, tmp_path / "dr10_south_21", survey="legacysurvey")
    cell = tiny.cell_of(seen.ra, seen.dec)
    assert [path.parent.name for path in paths] == [f"healpix={one}" for one in sorted(set(cell.tolist()))]
    assert {path.name for path in paths} == {"001-of-001.hdf5"}
    with h5py.File(paths[0]) as file:
        n = len(file["object_id"])
        assert file["object_id"][0] == seen.object_id[cell == file["healpix"][0]][0].encode()
        assert [band.decode() for band in file["image_band"][0]] == ["des-g", "des-r", "des-i", "des-z"]
        assert file["image_array"].shape == (n, 4, 5, 5) and file["image_array"].dtype == np.float32
        assert file["image_mask"].shape == (n, 5, 5) and file["image_mask"].dtype == bool  # one for all bands
        assert file["image_scale"].shape == (n, 4) and file["EBV"].dtype == np.float32
        assert file["ra"].dtype == file["dec"].dtype == np.float64
        assert all(held.chunks is None and held.compression is None for held in file.values())


def test_flags_and_zero_points_are_the_survey_s(tmp_path):
    n = 2
    wave = np.tile(3600 + 0.8 * np.arange(4), (n, 1))
    good = np.array([[True, False, True, True]] * n)
    spectrum = Spectrum(flux=np.ones((n, 4), np.float32), wavelength_aa=wave, good=good)
    flux = np.full((n, 5, 2, 2), 10, dtype=np.float32)
    image = Image(flux=flux, bands=tuple("grizy"), survey="hsc", good=np.ones(flux.shape, dtype=bool))
    seen = Observation.of([39627700000000001, 39627700000000002], [10, 10.1], [0, 0])
    with h5py.File(write_mmu(seen | {"spectrum": spectrum}, tmp_path / "desi", survey="desi")[0]) as file:
        np.testing.assert_array_equal(file["spectrum_mask"][()], ~good)  # True = bad
        assert file["object_id"].dtype == np.int64
    with h5py.File(write_mmu(seen | {"image": image}, tmp_path / "hsc", survey="hsc")[0]) as file:
        np.testing.assert_allclose(file["image_array"][()], 10**2.8)  # AB 20 at zero point 27
        assert file["image_mask"].shape == (n, 5, 2, 2) and file["image_band"][0, 0] == b"hsc-g"


def test_a_reader_can_be_written(tmp_path):
    """Real layout → ours, through a selection; several files to a cell."""
    for cell in (700, 701):
        tiny.put(tmp_path / "desi", cell, tiny.desi(cell, 5, first=100 * cell))
    source = MMUHdf5(tmp_path / "desi").between("Z", 70000.2, 80000)
    paths = write_mmu(source, tmp_path / "out", survey="desi", objects_per_file=3)
    assert [path.name for path in paths] == ["001-of-002.hdf5", "002-of-002.hdf5"] * 2
    same_sky(MMUHdf5(tmp_path / "out").read(), source.read())


def test_written_files_are_chosen_from_like_others(tmp_path):
    seen = sky(30)
    write_mmu(seen, tmp_path, objects_per_file=4)
    source = MMUHdf5(tmp_path, parts=("image",))
    assert set(source.take([0, 1]).parts) == {"image"}
    assert set(MMUHdf5(tmp_path, parts=(), columns=("EBV",)).read().parts) == {"scalars"}
    some = source.between("EBV", 0, 9).near(ra=12, dec=0, radius_deg=1.5)
    away = np.hypot(seen.ra - 12, seen.dec)
    assert set(some.read().object_id) == set(seen.object_id[(away < 1.5) & (seen["scalars"]["EBV"] >= 0)])


def test_an_empty_sky_is_no_files(tmp_path):
    assert write_mmu(sky(3).take([]), tmp_path) == []


# --- going on -----------------------------------------------------------------------------------------------------


def test_what_is_there_is_left_alone(tmp_path):
    paths = write_mmu(sky(), tmp_path)
    before = [path.stat().st_mtime_ns for path in paths]
    paths[0].unlink()
    assert write_mmu(sky(), tmp_path) == paths
    after = [path.stat().st_mtime_ns for path in paths]
    assert after[1:] == before[1:] and after[0] != before[0]


def test_other_files_are_not_overwritten(tmp_path):
    path = write_mmu(sky(), tmp_path)[0]
    with pytest.raises(StorageError, match=f"{path.name} is there already.*other content"):
        write_mmu(sky(seed=0) | {"scalars": Scalars(values=np.zeros((9, 1)), names=("EBV",))}, tmp_path)
    path.rename(path.with_name("001-of-009.hdf5"))
    with pytest.raises(StorageError, match=r"holds other files.*001-of-009"):
        write_mmu(sky(), tmp_path)
    tiny.write(path, {"object_id": np.arange(2)})
    path.with_name("001-of-009.hdf5").unlink()
    with pytest.raises(StorageError, match="other content"):
        write_mmu(sky(), tmp_path)


WRITER = """
    import sys, time
    sys.path[:0] = [{tests!r}]
    import h5py, numpy as np
    from test_mmu_write import sky
    from omnisky.observe.mmu_write import write_mmu
    {before}
    write_mmu(sky(200), {folder!r}, objects_per_file=4)
"""


def run(folder: Path, before: str) -> subprocess.Popen:
    code = dedent(WRITER).format(tests=str(Path(__file__).parent), folder=str(folder), before=before)
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, env=os.environ, text=True)


@pytest.mark.parametrize("moment", [1, 30, 100])
def test_a_killed_run_leaves_whole_files_and_goes_on(tmp_path, moment):
    """Killed inside the writing of a column: the file of that moment is not there, those before it are whole."""
    count = f"""
create, seen = h5py.File.create_dataset, []
def slow(self, *a, **k):
    made = create(self, *a, **k)
    seen.append(1)
    if len(seen) == {moment}:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    return made
h5py.File.create_dataset = slow
"""
    ended = run(tmp_path, f"exec({count!r})")
    ended.communicate()
    assert ended.returncode == -signal.SIGKILL
    there = sorted(tmp_path.rglob("*.hdf5"))
    assert all(len(MMUHdf5(one.parent).read()) for one in there)
    paths = write_mmu(sky(200), tmp_path, objects_per_file=4)
    assert set(there) <= set(paths)
    assert not [one for one in tmp_path.rglob("*") if "draft" in one.name]
    same_sky(in_order(MMUHdf5(tmp_path).read(), sky(200)), sky(200))


def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(tmp_path):
    """The limit on the size of a file stands for the end of the disk: the same error from the same call."""
    before = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))"
    ended = run(tmp_path, before)
    said = ended.communicate()[1]
    assert ended.returncode == 1 and "StorageError: could not write" in said and "001-of-" in said
    assert not [one for one in tmp_path.rglob("*") if one.is_file() and one.stat().st_size > 9000]
    assert not [one for one in tmp_path.rglob("*.hdf5") if not h5py.is_hdf5(one)]


# --- refusals -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_written(tmp_path):
    seen = sky(3)
    with pytest.raises(ObservationError, match=r"without a position.*saw 3"):
        write_mmu(Observation.of("abc"), tmp_path)
    with pytest.raises(ObservationError, match=r"ids that come twice.*saw 0-a"):
        write_mmu(seen.take([0, 0]), tmp_path)
    with pytest.raises(BadValue, match="saw nowhere"):
        write_mmu(seen, tmp_path, survey="nowhere")
    with pytest.raises(BadValue, match="objects_per_file"):
        write_mmu(seen, tmp_path, objects_per_file=0)
    with pytest.raises(BadValue, match=r"scalars: two columns of one name.*saw ra"):
        write_mmu(seen | {"scalars": Scalars(values=np.zeros((3, 1)), names=("ra",))}, tmp_path)
    labels = Labels(columns={"EBV": np.zeros(3, dtype=np.int64)})
    with pytest.raises(BadValue, match=r"labels: two columns of one name.*saw EBV"):
        write_mmu(seen | {"labels": labels}, tmp_path)
    assert not list(tmp_path.iterdir())
