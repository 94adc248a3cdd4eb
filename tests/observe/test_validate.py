"""Validation: sound data passes without a word, and each fault planted in it is found, and nothing else."""

import hashlib
import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from omnisky.errors import CorruptFile, ObservationError
from omnisky.observe.finding import Report
from omnisky.observe.join import joined
from omnisky.observe.match import mutual
from omnisky.observe.sky import cells
from omnisky.observe.types import Image, LightCurve, Observation, Part, Scalars, SegmentationMap, Spectrum
from omnisky.observe.validate import validate

N = 30


def sound(n: int = N) -> Observation:
    """One of everything, as it should be, with absent rows and padding where they may be."""
    draw = np.random.default_rng(0)
    flux = draw.normal(1, 3, (n, 3, 8, 8)).astype(np.float32)
    ivar = np.full_like(flux, 0.1)
    ivar[:, :, 0] = 0
    flux[:, :, 0, 0] = np.nan
    image = Image(flux=flux, bands=("g", "r", "z"), survey="legacysurvey", pixel_scale_arcsec=0.262, ivar=ivar)
    image = replace(image, good=ivar > 0)
    wave = np.tile(3600 + 0.8 * np.arange(40), (n, 1))
    spectrum_good = np.arange(40) < draw.integers(30, 41, (n, 1))
    wave = np.where(spectrum_good, wave, np.nan)
    ivar = np.where(spectrum_good, 2.0, np.nan)
    spectrum = Spectrum(
        flux=draw.normal(0, 1, (n, 40)), wavelength_aa=wave, survey="desi", ivar=ivar, good=spectrum_good
    )
    spectrum = replace(spectrum, present=np.arange(n) % 5 > 0)
    epochs = np.arange(12) < draw.integers(8, 13, (n, 1))
    curve = LightCurve(
        flux=draw.normal(10, 3, (n, 12)),
        time_mjd=np.where(epochs, 59_000 + np.sort(draw.uniform(0, 100, (n, 12)), axis=1), 0.0),
        band=draw.integers(2, size=(n, 12)),
        bands=("g", "r"),
        good=epochs,
    )
    numbers = Scalars(
        values=np.stack([draw.uniform(0, 1, n), np.where(np.arange(n) % 3, draw.normal(20, 1, n), np.nan)], axis=1),
        names=("redshift", "mag_r"),
        units=("", "mag"),
    )
    label = draw.integers(3, size=(n, 8, 8))
    return Observation.of(
        [f"s{i}" for i in range(n)],
        draw.uniform(0, 360, n),
        draw.uniform(-90, 90, n),
        image=image,
        spectrum=spectrum,
        light_curve=curve,
        scalars=numbers,
        segmentation=SegmentationMap(label=label),
    )


def checks(report: Report) -> dict[str, bool]:
    """check → serious."""
    return {f"{finding.check} {finding.where}": finding.serious for finding in report.findings}


@pytest.mark.parametrize("batch", [1, 7, 128])
def test_sound_data_passes_in_batches_of_any_size(batch):
    report = validate(sound(), batch=batch)
    assert report.findings == () and report.ok and report.objects == N


def test_a_summary_says_what_is_there():
    named = {one.name: one for one in validate(sound()).summaries}
    assert {"image.flux g", "spectrum.flux", "light_curve.flux r", "scalars.mag_r", "segmentation.label"} <= set(named)
    image, spectrum, mag = named["image.flux g"], named["spectrum.flux"], named["scalars.mag_r"]
    assert image.usable == pytest.approx(7 / 8) and image.blank == 0 and image.objects == N
    assert spectrum.objects == 24
    assert mag.usable == pytest.approx(2 / 3) and mag.blank == pytest.approx(1 / 3)
    values = sound()["scalars"]["mag_r"]
    assert (mag.low, mag.high) == (np.nanmin(values), np.nanmax(values))


def test_what_a_join_makes_passes():
    left, right = sound(), sound().take(slice(0, 20))
    assert validate(joined(left, right, mutual(left, right, 1.0), keep_left=True)).ok


def test_one_object_passes():
    assert validate(sound(1)).ok


# --- planted faults -----------------------------------------------------------------------------------------------


def planted(name: str, **fields: object) -> Observation:
    seen = sound()
    return seen | {name: replace(seen[name], **fields)}


def changed(name: str, field: str, where: object, value: object) -> Observation:
    values = getattr(sound()[name], field).copy()
    values[where] = value
    return planted(name, **{field: values})


IMAGE, SPECTRUM, CURVE = (sound()[name] for name in ("image", "spectrum", "light_curve"))
SCALED = replace(SPECTRUM, wavelength_aa=SPECTRUM.wavelength_aa / 10)

FAULTS = {
    "NaN called good": (changed("image", "flux", (3, 1, 4, 4), np.nan), "finite image.flux r", True),
    "infinite number": (changed("scalars", "values", (3, 0), np.inf), "finite scalars.redshift", True),
    "negative ivar": (changed("image", "ivar", (3, 1, 4, 4), -1), "inverse variance image.ivar", True),
    "infinite ivar": (changed("spectrum", "ivar", (3, 4), np.inf), "inverse variance spectrum.ivar", True),
    "flags the wrong way": (
        planted("image", good=~IMAGE.good, flux=np.nan_to_num(IMAGE.flux)),
        "polarity image.good",
        1,
    ),
    "all flagged bad": (planted("image", good=np.zeros_like(IMAGE.good)), "polarity image.good", True),
    "band of zeros": (changed("image", "flux", (slice(None), 2), 0), "constant image.flux z", True),
    "band never filled": (planted("light_curve", bands=("g", "r", "Y")), "never measured light_curve.flux Y", False),
    "band of zeros in one": (changed("image", "flux", (4, 2), 0), "blank rows image.flux z", False),
    "constant column": (changed("scalars", "values", (slice(None), 0), 3), "constant scalars.redshift", False),
    "sentinels": (changed("scalars", "values", (slice(3, 6), 1), -99), "sentinel scalars.mag_r", False),
    "falling wavelengths": (changed("spectrum", "wavelength_aa", (3, 9), 3600), "rising spectrum.wavelength_aa", True),
    "wavelengths twice": (changed("spectrum", "wavelength_aa", (3, 9), 3606.4), "rising spectrum.wavelength_aa", True),
    "padded wavelengths": (changed("spectrum", "wavelength_aa", (4, 0), -1), "padding spectrum.wavelength_aa", True),
    "nanometres": (sound() | {"spectrum": SCALED}, "unit spectrum.wavelength_aa", False),
    "padded epochs": (changed("light_curve", "time_mjd", (3, 0), 0), "padding light_curve.time_mjd", True),
    "epochs mixed up": (changed("light_curve", "time_mjd", (3, 0), 59_900), "sorted light_curve.time_mjd", True),
    "TESS days": (
        planted("light_curve", time_mjd=CURVE.time_mjd - 57_000 * CURVE.good),
        "unit light_curve.time_mjd",
        False,
    ),
    "no such band": (changed("light_curve", "band", (3, 0), 2), "bands light_curve.band", True),
    "name twice": (planted("scalars", names=("z", "z")), "names scalars.names", True),
    "no unit": (planted("scalars", units=("", "magnitudos")), "unit scalars.mag_r", False),
    "unknown survey": (planted("spectrum", survey="sdds"), "survey spectrum", False),
    "other bands": (planted("image", bands=("g", "r", "y")), "bands image.bands", False),
    "other pixel scale": (planted("image", pixel_scale_arcsec=0.396), "pixel scale image", False),
}


@pytest.mark.parametrize("batch", [5, 128])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_measurement_is_found(fault, batch):
    """And nothing in other parts."""
    seen, want, serious = FAULTS[fault]
    report = validate(seen, batch=batch)
    found = checks(report)
    assert found.get(want) == bool(serious), found
    assert report.ok == (not any(found.values()))
    finding = next(one for one in report.findings if f"{one.check} {one.where}" == want)
    assert {one.where.split(".")[0] for one in report.findings} == {finding.where.split(".")[0]}
    assert finding.saw and finding.want


def test_bands_one_after_the_other_are_worth_a_look():
    curve = sound()["light_curve"]
    time = np.tile(59_000.0 + np.arange(6), (N, 2))
    seen = sound() | {"light_curve": replace(curve, time_mjd=time, band=np.arange(12) // 6 + 0 * curve.band, good=None)}
    assert checks(validate(seen)) == {"sorted light_curve.time_mjd": False}


def placed(**changes: dict[int, object]) -> Observation:
    seen = sound()
    ids, ra, dec = seen.object_id.astype("U32"), seen.ra.copy(), seen.dec.copy()
    for name, values in (("object_id", ids), ("ra", ra), ("dec", dec)):
        for i, value in changes.get(name, {}).items():
            values[i] = value
    return Observation(ids, ra, dec, seen.parts)


@pytest.mark.parametrize(
    ("changes", "want", "saw"),
    [
        ({"object_id": {3: "s7", 20: "s1"}}, "ids unique object_id", "2 ids more than once: s1, s7"),
        ({"object_id": {3: "b'0001m002-123'"}}, "ids object_id", "b'0001m002-123'"),
        ({"object_id": {3: "  "}}, "ids object_id", "empty"),
        ({"object_id": {3: "5.877395055527856e+17"}}, "ids object_id", "through a float"),
        ({"object_id": {3: "587739505552785605.0"}}, "ids object_id", "through a float"),
        ({"ra": {3: 360.0, 4: -1.0}}, "positions ra, dec", "2 objects: s3, s4"),
        ({"ra": {3: np.inf}}, "positions ra, dec", "1 object: s3"),
        ({"dec": {3: 90.5}}, "positions ra, dec", "1 object: s3"),
        ({"dec": {3: np.nan}}, "positions ra, dec", "one of two"),
        ({"ra": {3: 0.0, 5: 0.0}, "dec": {3: 0.0, 5: 0.0}}, "positions ra, dec", "(0, 0), 2 objects"),
    ],
)
@pytest.mark.parametrize("batch", [2, 128])
def test_a_fault_in_ids_and_positions_is_found(changes, want, saw, batch):
    report = validate(placed(**changes), batch=batch)
    assert checks(report)[want] and not report.ok
    assert any(saw in finding.saw for finding in report.findings)


def test_ids_that_only_look_like_numbers_pass():
    assert validate(placed(object_id={3: "587739505552785605", 4: "1e+05", 5: "J0953+6904", 6: "-12"})).ok is False
    assert validate(placed(object_id={3: "587739505552785605", 5: "J0953+6904", 6: "-12", 7: "2.0"})).ok


def test_unknown_positions_are_worth_a_look_unless_all_are():
    assert checks(validate(placed(ra={3: np.nan}, dec={3: np.nan}))) == {"positions ra, dec": False}
    seen = sound()
    assert validate(Observation.of(seen.object_id, **seen.parts)).findings == ()


def test_single_precision_shows(unchecked):
    seen = sound()
    ra, dec = seen.ra.astype(np.float32), seen.dec.astype(np.float32)
    assert checks(validate(Observation(seen.object_id, ra.astype(float), dec.astype(float), seen.parts))) == {
        "precision ra, dec": False
    }
    found = checks(validate(Observation(seen.object_id, ra, dec, seen.parts)))
    assert found["types ra"] and found["types dec"]
    assert checks(validate(Observation(seen.object_id.astype("S"), seen.ra, seen.dec, {})))["types object_id"]


# --- sources ------------------------------------------------------------------------------------------------------


class Broken:
    """A source of which some rows cannot be read."""

    def __len__(self) -> int:
        return N

    def take(self, index: object) -> Observation:
        if 10 in np.arange(N)[index]:
            raise CorruptFile("shard-3", saw="half of it", want="a complete file", hint="fetch it again")
        return sound().take(index)


def test_what_cannot_be_read_is_named_and_the_rest_is_looked_at():
    seen: list[tuple[int, int]] = []
    report = validate(Broken(), batch=10, watch=lambda done, total: seen.append((done, total)))
    assert checks(report) == {"readable rows 10 … 19": True}
    assert "shard-3" in report.findings[0].saw and report.findings[0].hint == "fetch it again"
    assert report.objects == 20 and seen == [(10, 30), (30, 30)]


def test_nothing_is_not_fine(tmp_path):
    assert checks(validate(sound().take([]))) == {"objects Observation": True}
    with pytest.raises(ObservationError, match="nothing there"):
        validate(tmp_path / "nothing")


def test_a_part_of_a_kind_nobody_knows_is_looked_at_too():
    @dataclass(frozen=True, kw_only=True, eq=False)
    class Polarisation(Part):
        degree: np.ndarray
        columns: object = None

    degree = np.random.default_rng(0).uniform(0, 1, (N, 2))
    seen = sound() | {"polarisation": Polarisation(degree=degree)}
    assert validate(seen).ok
    degree[3, 1] = np.inf
    assert checks(validate(seen)) == {"finite polarisation.degree": True}


def test_a_report_is_json():
    told = json.loads(json.dumps(validate(planted("light_curve", bands=("g", "r", "Y"))).state(), allow_nan=False))
    assert told["ok"] and told["objects"] == N
    assert told["findings"][0]["check"] == "never measured"
    assert next(one for one in told["summaries"] if one["name"].endswith("Y"))["low"] is None


# --- files --------------------------------------------------------------------------------------------------------


def stamps(folder, n: int = 4) -> None:
    """A set that `read` opens, with a table of positions."""
    draw = np.random.default_rng(0)
    np.savez(
        folder / "sdss_frames.npz",
        flux_nanomaggies=draw.normal(1, 1, (n, 3, 4, 4)),
        bands=np.array(["u", "g", "r"]),
        pixscale=0.396,
        object_id=np.array([f"a{i}" for i in range(n)]),
    )
    lines = [f"a{i},{draw.uniform(0, 360)},{draw.uniform(-90, 90)}" for i in range(n)]
    (folder / "places.csv").write_text("\n".join(["object_id,ra,dec", *lines]))


def test_a_folder_is_read_and_checked(tmp_path):
    stamps(tmp_path)
    report = validate(tmp_path)
    assert report.findings == () and report.objects == 4 and report.what == str(tmp_path)


def test_a_damaged_file_is_a_finding(tmp_path):
    stamps(tmp_path)
    whole = (tmp_path / "sdss_frames.npz").read_bytes()
    (tmp_path / "sdss_frames.npz").write_bytes(whole[: len(whole) // 2])
    report = validate(tmp_path)
    assert checks(report) == {f"readable {tmp_path}": True}
    assert "sdss_frames.npz" in report.findings[0].saw and not report.ok


@pytest.mark.parametrize("kind", ["manifest.json", "SHA256SUMS"])
def test_a_manifest_is_held_to(tmp_path, kind):
    stamps(tmp_path)
    names = ("sdss_frames.npz", "places.csv")
    sums = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in names}
    shards = [{"file": name, "sha256": sums[name], "rows": 4} for name in names]
    text = json.dumps({"format": 1, "shards": shards})
    (tmp_path / kind).write_text(
        text if kind == "manifest.json" else "".join(f"{sums[name]}  {name}\n" for name in names)
    )
    assert validate(tmp_path).findings == ()
    (tmp_path / "places.csv").write_text((tmp_path / "places.csv").read_text() + "\n")
    assert checks(validate(tmp_path)) == {f"manifest {tmp_path / 'places.csv'}": True}
    (tmp_path / "places.csv").unlink()
    report = validate(tmp_path)
    assert report.findings[0].saw == "no file"


def in_cell(n: int, depth: int, cell: int, seed: int = 0) -> Observation:
    draw = np.random.default_rng(seed)
    seen = Observation.of(
        range(40_000), draw.uniform(0, 360, 40_000), np.degrees(np.arcsin(draw.uniform(-1, 1, 40_000)))
    )
    return seen.take(np.flatnonzero(cells(seen, depth) == cell)[:n])


def file_checks(path) -> dict[str, bool]:
    from omnisky.observe.files import file_findings

    return {f"{finding.check} {finding.where}": finding.serious for finding in file_findings(path)}


@pytest.mark.parametrize("named", ["healpix=17", "healpix=0017"])
def test_cells_of_mmu_folders_agree_with_the_positions(tmp_path, named):
    h5py = pytest.importorskip("h5py")
    file = tmp_path / "sdss" / named / "001-of-001.hdf5"
    file.parent.mkdir(parents=True)

    def write(seen: Observation, dtype: type = np.float64, names: tuple[str, str] = ("ra", "dec")) -> None:
        with h5py.File(file, "w") as held:
            for name, values in zip(names, (seen.ra, seen.dec), strict=True):
                held[name] = values.astype(dtype)

    write(in_cell(8, 4, 17))
    assert file_checks(tmp_path) == file_checks(file) == {}
    write(in_cell(8, 4, 17), names=("RA", "DEC"))
    assert file_checks(tmp_path) == {}
    write(in_cell(8, 4, 17), np.float32)
    assert file_checks(tmp_path) == {f"precision {file}": False}
    write(in_cell(8, 4, 18))
    assert file_checks(file.parent) == {f"cell {file}": True}
    write(in_cell(8, 4, 17), names=("x", "y"))
    assert file_checks(tmp_path) == {f"readable {file}": True}
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert file_checks(tmp_path) == {f"readable {file}": True}


def test_one_group_or_file_an_object_is_understood(tmp_path):
    h5py = pytest.importorskip("h5py")
    seen = in_cell(3, 4, 17)
    folder = tmp_path / "healpix=17"
    folder.mkdir()
    with h5py.File(folder / "one.hdf5", "w") as held:
        held["ra"], held["dec"] = seen.ra[0], seen.dec[0]
    with h5py.File(folder / "groups.hdf5", "w") as held:
        for i in range(3):
            held[f"g{i}/ra"], held[f"g{i}/dec"] = seen.ra[i], -seen.dec[i]
    assert file_checks(tmp_path) == {f"cell {folder / 'groups.hdf5'}": True}


def test_tiles_and_counts_of_hats_agree(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    seen = in_cell(5, 3, 77)

    def write(root, ra: np.ndarray, fine: np.ndarray, rows: int, kind: str = "object"):
        file = root / "dataset" / "Norder=3" / "Dir=0" / "Npix=77.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"_healpix_29": fine, "RAJ2000": ra, "dec": seen.dec}), file)
        lines = (f"dataproduct_type={kind}", "hats_col_ra=RAJ2000", "hats_col_dec=dec", f"hats_nrows={rows}")
        (root / "hats.properties").write_text("#HATS\n" + "\n".join(lines))
        return file

    fine = cells(seen, 29)
    file = write(tmp_path, seen.ra, fine, 5)
    assert file_checks(tmp_path) == file_checks(file) == {}
    write(tmp_path, seen.ra, fine, 6)
    assert file_checks(tmp_path) == {f"count {tmp_path}": True}
    write(tmp_path, seen.ra, fine[::-1].copy(), 5)
    assert file_checks(tmp_path) == {f"cell {file}, _healpix_29": True}
    elsewhere = (seen.ra + 90) % 360
    write(tmp_path, elsewhere, cells(Observation.of(range(5), elsewhere, seen.dec), 29), 5)
    assert file_checks(tmp_path) == {f"cell {file}": True}
    write(tmp_path, elsewhere, fine, 5, kind="margin")
    assert file_checks(tmp_path) == {}
    file.write_bytes(file.read_bytes()[:100])
    assert file_checks(tmp_path)
