"""Catalogues of every form: ids digit by digit, positions by their usual names, nothing lost without a word."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import omnisky
from omnisky.errors import CorruptFile, MissingModality, ObservationError
from omnisky.observe.tables import read_table

IDS = [39633345008634465, 39633345008634466]


def columns() -> dict:
    return {
        "TARGETID": np.array(IDS),
        "RA": np.array([10.5, 359.9]),
        "Dec": np.array([-1.25, 89.0]),
        "Z": np.array([0.1, np.nan], dtype=np.float32),
        "type": np.array(["PSF", "REX"]),
        "flags": np.array([2**60, 1]),
    }


def save_parquet(path):
    pq.write_table(pa.table(columns()), path)


def save_csv(path):
    path.write_text(
        f"TARGETID,RA,Dec,Z,type,flags\n{IDS[0]},10.5,-1.25,0.1,PSF,{2**60}\n{IDS[1]},359.9,89.0,,REX,1\n",
        encoding="utf-8",
    )


def save_csv_gz(path):
    plain = path.with_suffix("")
    save_csv(plain)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()


def save_fits(path):
    from astropy.table import Table

    Table(columns()).write(path)


def save_votable(path):
    from astropy.table import Table

    Table(columns()).write(path, format="votable")


WRITERS = {
    "t.parquet": save_parquet,
    "t.csv": save_csv,
    "t.csv.gz": save_csv_gz,
    "t.fits": save_fits,
    "t.vot": save_votable,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_form_says_the_same(tmp_path, name):
    WRITERS[name](tmp_path / name)
    seen = omnisky.read(tmp_path / name)
    assert seen.object_id.tolist() == [str(one) for one in IDS]
    assert seen.ra.tolist() == [10.5, 359.9] and seen.dec.tolist() == [-1.25, 89.0]
    assert seen.ra.dtype == np.float64
    assert seen["scalars"].names == ("Z",)
    assert seen["scalars"]["Z"][0] == pytest.approx(0.1) and np.isnan(seen["scalars"]["Z"][1])
    assert seen["labels"]["type"].tolist() == ["PSF", "REX"]
    assert seen["labels"]["flags"].tolist() == [2**60, 1]


@pytest.mark.parametrize(
    ("ra", "dec"),
    [
        ("ra", "dec"),
        ("RAJ2000", "DEJ2000"),
        ("_RAJ2000", "_DEJ2000"),
        ("RA_ICRS", "DE_ICRS"),
        ("TARGET_RA", "TARGET_DEC"),
        ("ALPHA_J2000", "DELTA_J2000"),
        ("radeg", "decdeg"),
        ("Right Ascension", "Declination"),
        ("RA [deg]", "DEC (deg)"),
    ],
)
def test_positions_are_known_by_their_usual_names(tmp_path, ra, dec):
    pq.write_table(pa.table({ra: [1.0], dec: [2.0], "mag": [20.0]}), tmp_path / "t.parquet")
    seen = read_table(tmp_path / "t.parquet")
    assert (seen.ra[0], seen.dec[0]) == (1.0, 2.0) and seen["scalars"].names == ("mag",)
    assert seen.object_id.tolist() == ["t-00000"]


def test_without_a_position_we_say_what_there_is(tmp_path):
    (tmp_path / "t.csv").write_text("name,l,b\nM31,121.2,-21.6\n")
    with pytest.raises(ObservationError, match="saw name l b") as said:
        omnisky.read(tmp_path / "t.csv")
    assert 'ra="…"' in str(said.value)
    assert read_table(tmp_path / "t.csv", ra="l", dec="b").object_id.tolist() == ["M31"]


def test_a_table_without_positions_can_be_said_to_be_one(tmp_path):
    (tmp_path / "t.csv").write_text("name,z\nM31,-0.001\n")
    seen = read_table(tmp_path / "t.csv", ra=None)
    assert np.isnan(seen.ra).all() and seen["scalars"]["z"].tolist() == [-0.001]


def test_ids_too_long_for_an_integer_stay_whole(tmp_path):
    long = "123456789012345678901234567890"
    (tmp_path / "t.csv").write_text(f"id,ra,dec\n{long},1,2\n")
    assert read_table(tmp_path / "t.csv").object_id.tolist() == [long]


def test_ids_that_were_rounded_are_refused(tmp_path):
    pq.write_table(pa.table({"id": [1.5e17], "ra": [1.0], "dec": [2.0]}), tmp_path / "t.parquet")
    with pytest.raises(CorruptFile, match="rounded"):
        read_table(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", object_id=None).object_id.tolist() == ["t-00000"]


def test_sexagesimal_text_and_units_are_understood(tmp_path):
    from astropy import units as u
    from astropy.table import Table

    pq.write_table(pa.table({"ra": ["1.25"], "dec": ["-.5"]}), tmp_path / "t.parquet")
    seen = read_table(tmp_path / "t.parquet")
    assert (seen.ra[0], seen.dec[0]) == (1.25, -0.5)
    (tmp_path / "t.csv").write_text("name,RAJ2000,DEJ2000\nM31,00 42 44.3,+41 16 09\n")
    seen = read_table(tmp_path / "t.csv")
    assert (seen.ra[0], seen.dec[0]) == pytest.approx((10.684583, 41.269167), abs=1e-6)
    Table({"ra": [0.5] * u.rad, "dec": [60.0] * u.arcmin, "mag": [20.0] * u.mag}).write(tmp_path / "t.fits")
    seen = read_table(tmp_path / "t.fits")
    assert (seen.ra[0], seen.dec[0]) == pytest.approx((28.64789, 1.0), abs=1e-5)
    assert seen["scalars"].units == ("mag",)


def test_gaps_are_nan_and_never_a_number(tmp_path):
    table = pa.table({"ra": [1.0, 2.0], "dec": [1.0, 2.0], "n": pa.array([7, None]), "big": pa.array([2**60, None])})
    pq.write_table(table, tmp_path / "t.parquet")
    seen = read_table(tmp_path / "t.parquet")
    assert seen["scalars"]["n"][0] == 7 and np.isnan(seen["scalars"]["n"][1])
    assert seen["labels"]["big"].tolist() == [str(2**60), ""]


def test_columns_are_chosen_and_strangers_named(tmp_path):
    save_parquet(tmp_path / "t.parquet")
    assert list(read_table(tmp_path / "t.parquet", columns=["Z"]).parts) == ["scalars"]
    with pytest.raises(MissingModality, match="want mass"):
        read_table(tmp_path / "t.parquet", columns=["mass"])
    pq.write_table(pa.table({"ra": [1.0], "dec": [2.0], "stamp": [[1.0, 2.0]]}), tmp_path / "u.parquet")
    assert not read_table(tmp_path / "u.parquet").parts
    with pytest.raises(MissingModality, match="no number and no word"):
        read_table(tmp_path / "u.parquet", columns=["stamp"])


@pytest.mark.parametrize(("ra", "dec"), [(361.0, 0.0), (0.0, 91.0)])
def test_positions_off_the_sky_are_named(tmp_path, ra, dec):
    pq.write_table(pa.table({"id": ["here", "lost"], "ra": [0.0, ra], "dec": [0.0, dec]}), tmp_path / "t.parquet")
    with pytest.raises(ObservationError, match="lost"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", WRITERS)
def test_broken_files_are_named(tmp_path, name):
    WRITERS[name](tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2] + (b'"' if name == "t.csv" else b""))
    with pytest.raises(CorruptFile, match=name):
        read_table(tmp_path / name)


def test_a_fits_image_with_a_table_is_no_catalogue(tmp_path):
    from astropy.io import fits

    from omnisky.observe.read import read

    table = fits.BinTableHDU.from_columns([fits.Column("ra", "D", array=[1.0]), fits.Column("dec", "D", array=[2.0])])
    header = fits.Header({"FILTER": "r", "BUNIT": "nmgy"})
    fits.HDUList([fits.PrimaryHDU(np.zeros((4, 4)), header), table]).writeto(tmp_path / "image.fits")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "table.fits")
    assert set(read(tmp_path / "image.fits").parts) == {"image"}
    assert read(tmp_path / "table.fits").ra.tolist() == [1.0]
