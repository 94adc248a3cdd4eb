"""Readers: what a file says comes out, in its units and order; what is broken is named, nothing is unpickled."""

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from omnisky.errors import BandMismatch, CorruptFile, MissingExtra, MissingModality, ObservationError, ShapeMismatch
from omnisky.observe.desi import DESI_WAVELENGTH_AA, read_desi_coadd
from omnisky.observe.read import class_names, read
from omnisky.observe.types import concatenate

fits = pytest.importorskip("astropy.io.fits")
Pillow = pytest.importorskip("PIL.Image")

RNG = np.random.default_rng(20)


def colour(i: int, side: int = 8) -> np.ndarray:
    """A flat picture: red 10 i (25 of them, then again), green 20, blue 30. JPEG keeps flat colours to within 2."""
    return np.full((side, side, 3), (10 * (i % 25), 20, 30), dtype=np.uint8)


def jpeg(pixels: np.ndarray) -> bytes:
    held = BytesIO()
    Pillow.fromarray(pixels).save(held, "JPEG", quality=95)
    return held.getvalue()


def jpeg_npz(path: Path, n: int = 3, cut: int = 0, **more: np.ndarray) -> Path:
    """n flat pictures in one .npz; the bytes of the last one shortened by `cut`."""
    files = [jpeg(colour(i)) for i in range(n)]
    files[-1] = files[-1][: len(files[-1]) - cut]
    offset = np.cumsum([0, *map(len, files)])
    np.savez(path, jpeg=np.frombuffer(b"".join(files), np.uint8), offset=offset, **more)
    return path


# --- JPEG sets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 300])  # 300: more than one chunk for the threads
def test_jpeg_npz_keeps_order_colours_and_ids(tmp_path, n):
    ids = np.arange(n) + 587739505552785605  # too long for a float
    path = jpeg_npz(tmp_path / "set.npz", n, name=ids)
    seen = read(path)
    image = seen["image"]
    assert image.flux.shape == (n, 3, 8, 8) and image.flux.dtype == np.uint8
    assert image.bands == ("red", "green", "blue") and image.unit == "display"
    want = np.stack([colour(i) for i in range(n)]).transpose(0, 3, 1, 2)
    assert abs(image.flux.astype(int) - want).max() <= 2
    assert seen.object_id.tolist() == [str(one) for one in ids]
    assert "scalars" not in seen


def test_classes_come_with_their_names(tmp_path):
    names = np.array(["round", "spiral"])
    path = jpeg_npz(tmp_path / "set.npz", cls=np.array([1, 0, -1], dtype=np.int8), class_names=names)
    assert class_names(path) == class_names(tmp_path) == ("round", "spiral")
    np.testing.assert_array_equal(read(path)["scalars"]["class"], [1, 0, np.nan])


def test_of_several_sets_a_folder_opens_the_one_with_classes(tmp_path):
    jpeg_npz(tmp_path / "a_votes.npz", 2)
    with_classes = {"cls": np.zeros(3, dtype=np.int8), "class_names": np.array(["round"])}
    jpeg_npz(tmp_path / "b_classes.npz", 3, **with_classes)
    assert len(read(tmp_path)) == 3
    jpeg_npz(tmp_path / "c_classes.npz", 3, **with_classes)
    with pytest.raises(ObservationError, match=r"a_votes\.npz b_classes\.npz c_classes\.npz"):
        read(tmp_path)


def test_survey_is_known_by_the_folder(tmp_path):
    folder = tmp_path / "galaxyzoo2_kaggle_rgb"
    folder.mkdir()
    assert read(jpeg_npz(folder / "set.npz"))["image"].survey == "galaxyzoo2"
    assert read(jpeg_npz(tmp_path / "set.npz"))["image"].survey == ""


# --- tables -------------------------------------------------------------------------------------------------------


def test_tables_are_joined_by_id(tmp_path):
    jpeg_npz(tmp_path / "set.npz", galaxy_id=np.array([7, 8, 9]))
    (tmp_path / "labels.csv").write_text(
        "GalaxyID,RAdeg,dec,ttype,edge_on,kind,objid\n9,10.5,-3,1.5,True,Sc,587739505552785605\n7,20.5,4,,False,E,\n"
    )
    (tmp_path / "headless.csv").write_text("100053,Class1\n7,Class2\n")
    seen = read(tmp_path)
    np.testing.assert_array_equal(seen.ra, [20.5, np.nan, 10.5])
    np.testing.assert_array_equal(seen.dec, [4, np.nan, -3])
    assert seen["scalars"].names == ("ttype", "edge_on")  # text is no number, and a long id must not become one
    np.testing.assert_array_equal(seen["scalars"]["ttype"], [np.nan, np.nan, 1.5])
    np.testing.assert_array_equal(seen["scalars"]["edge_on"], [0, np.nan, 1])


def test_a_cut_table_is_named(tmp_path):
    jpeg_npz(tmp_path / "set.npz", galaxy_id=np.array([7, 8, 9]))
    (tmp_path / "labels.csv").write_text("GalaxyID,ttype\n7,1\n8\n")
    with pytest.raises(CorruptFile, match=r"labels\.csv.*line 3"):
        read(tmp_path)


# --- calibrated stamps --------------------------------------------------------------------------------------------


def test_stamps_know_bands_missing_pixels_and_magnitudes(tmp_path):
    flux = RNG.normal(size=(2, 5, 6, 6)).astype(np.float16)
    flux[1, 3] = np.nan
    np.savez(tmp_path / "stamps.npz", flux_nanomaggies=flux, bands=np.array(list("ugriz")), pixscale=0.396)
    (tmp_path / "galaxies.csv").write_text("ra,dec,flux_r,flux_i,r50_arcsec\n1.5,2.5,100,1,2\n3.5,4.5,-1,,3\n")
    seen = read(tmp_path)
    image = seen["image"]
    assert image.flux.dtype == np.float32 and image.unit == "nanomaggy" and image.bands == tuple("ugriz")
    assert image.pixel_scale_arcsec == 0.396
    np.testing.assert_array_equal(image.flux, flux.astype(np.float32))
    np.testing.assert_array_equal(image.good, np.isfinite(flux))
    assert not image.good[1, 3].any() and image.there().all()  # a lost band is not a lost object
    np.testing.assert_allclose(seen["scalars"]["mag_r"], [17.5, np.nan])  # 22.5 − 2.5 log10(100)
    units = dict(zip(seen["scalars"].names, seen["scalars"].units, strict=True))
    assert units == {"flux_r": "nmgy", "flux_i": "nmgy", "r50_arcsec": "arcsec", "mag_r": "mag", "mag_i": "mag"}
    assert seen.ra.tolist() == [1.5, 3.5]
    assert image.ivar is None


def test_stamps_know_their_noise_where_the_table_has_it(tmp_path):
    flux = np.ones((2, 2, 6, 6), dtype=np.float16)
    flux[0, 1, 2, 3] = np.nan
    np.savez(tmp_path / "stamps.npz", flux_nanomaggies=flux, bands=np.array(["g", "r"]))
    (tmp_path / "galaxies.csv").write_text("ra,dec,rms_g,rms_r\n1.5,2.5,0.5,0.1\n3.5,4.5,,0\n")
    ivar = read(tmp_path)["image"].ivar
    np.testing.assert_allclose(ivar[:, :, 0, 0], [[4, 100], [0, 0]])
    assert ivar[0, 1, 2, 3] == 0


# --- pictures -----------------------------------------------------------------------------------------------------


def test_a_folder_of_pictures_with_classes(tmp_path):
    for i, name in enumerate(("spiral/b.png", "round/a.png", "round/c.jpg")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Pillow.fromarray(colour(i)).save(tmp_path / name)
    (tmp_path / "round" / ".hidden.png").write_bytes(b"not for us")
    seen = read(tmp_path)
    assert seen.object_id.tolist() == ["round/a", "round/c", "spiral/b"]
    assert class_names(tmp_path) == ("round", "spiral")
    assert seen["scalars"]["class"].tolist() == [0, 0, 1]
    assert abs(seen["image"].flux[:, 0, 0, 0].astype(int) - [10, 20, 0]).max() <= 2


def test_one_picture_is_a_batch_of_one(tmp_path):
    Pillow.fromarray(np.dstack([colour(4), np.full((8, 8), 9, np.uint8)])).save(tmp_path / "m51.png")  # with alpha
    seen = read(str(tmp_path / "m51.png"))
    assert seen.object_id.tolist() == ["m51"]
    np.testing.assert_array_equal(seen["image"].flux[0].transpose(1, 2, 0), colour(4))
    assert class_names(tmp_path / "m51.png") == ()


def test_pictures_of_two_sizes_are_refused(tmp_path):
    for i, side in enumerate((8, 9)):
        Pillow.fromarray(colour(i, side)).save(tmp_path / f"{i}.png")
    with pytest.raises(ShapeMismatch, match=r"1\.png.*saw 9 × 9 pixels; want 8 × 8"):
        read(tmp_path)


def test_grey_is_not_colour(tmp_path):
    Pillow.fromarray(colour(1)[..., 0]).save(tmp_path / "grey.png")
    with pytest.raises(BandMismatch, match=r"grey\.png.*want red green blue"):
        read(tmp_path / "grey.png")


# --- a user's FITS, see also test_fits_image.py and test_fits_spectrum.py ---------------------------------------


def fits_image(path: Path, planes: np.ndarray, **cards: object) -> Path:
    """A TAN image whose middle pixel is at 150°, +2°, 0.25 arcsec per pixel."""
    header = fits.Header(cards)
    for axis, (kind, value) in enumerate((("RA---TAN", 150.0), ("DEC--TAN", 2.0)), start=1):
        step = (-1) ** axis * 0.25 / 3600
        middle = (planes.shape[-axis] + 1) / 2
        header.update({f"CTYPE{axis}": kind, f"CRVAL{axis}": value, f"CRPIX{axis}": middle, f"CDELT{axis}": step})
    fits.PrimaryHDU(planes, header).writeto(path)
    return path


# --- DESI ---------------------------------------------------------------------------------------------------------

ARMS = {"B": (0, 2751), "R": (2700, 2326), "Z": (4900, 2881)}
"""first pixel on the common grid, and number of pixels, of DESI's arms"""


def coadd(path: Path, objtype: tuple[str, ...] = ("TGT", "SKY", "TGT", "TGT"), shift: float = 0.0) -> Path:
    """Flux 1 in b, 2 in r, 3 in z, ivar 1, 3, 1; the third object has no data; the fourth a flagged pixel in r."""
    n = len(objtype)
    ids = np.arange(n) + 39633345008634465
    columns = [
        fits.Column("TARGETID", "K", array=ids),
        fits.Column("TARGET_RA", "D", array=np.arange(n) + 150.0),
        fits.Column("TARGET_DEC", "D", array=np.arange(n) + 2.0),
        fits.Column("OBJTYPE", "3A", array=np.array(objtype)),
        fits.Column("FLUX_R", "E", array=np.arange(n)),
        fits.Column("FLUX_IVAR_R", "E", array=np.minimum(np.arange(n), 1)),
    ]
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="FIBERMAP")]
    for value, (arm, (start, length)) in enumerate(ARMS.items(), start=1):
        ivar = np.full((n, length), 3.0 if arm == "R" else 1.0, dtype=np.float32)
        bits = np.zeros((n, length), dtype=np.int32)
        if n > 3:
            ivar[2] = 0
            bits[3, 1000] = int(arm == "R")
        hdus += [
            fits.ImageHDU(DESI_WAVELENGTH_AA[start : start + length] + shift, name=f"{arm}_WAVELENGTH"),
            fits.ImageHDU(np.full((n, length), value, dtype=np.float32), name=f"{arm}_FLUX"),
            fits.ImageHDU(ivar, name=f"{arm}_IVAR"),
            fits.ImageHDU(bits, name=f"{arm}_MASK"),
        ]
    fits.HDUList(hdus).writeto(path)
    return path


def redrock(path: Path) -> None:
    columns = [
        fits.Column("TARGETID", "K", array=np.array([39633345008634468, 39633345008634465])),
        fits.Column("Z", "D", array=np.array([0.5, 0.25])),
        fits.Column("ZERR", "D", array=np.array([0.05, 0.025])),
        fits.Column("ZWARN", "K", array=np.array([4, 0])),
    ]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="REDSHIFTS")]).writeto(path)


def test_desi_arms_are_added_by_inverse_variance(tmp_path):
    redrock(tmp_path / "redrock-x.fits")
    coadd(tmp_path / "coadd-x.fits")
    seen = read(tmp_path)  # the folder: the redrock file goes with its coadd
    spectrum = seen["spectrum"]
    assert seen.object_id.tolist() == ["39633345008634465", "39633345008634467", "39633345008634468"]  # no sky
    assert seen.ra.tolist() == [150, 152, 153] and seen.dec.tolist() == [2, 4, 5]
    assert spectrum.flux.shape == (3, 7781) and spectrum.there().tolist() == [True, False, True]
    np.testing.assert_allclose(spectrum.wavelength_aa[0, [0, -1]], [3600, 9824])
    # b alone, b and r (1·1 + 3·2)/4, r alone, r and z (3·2 + 1·3)/4, z alone
    np.testing.assert_allclose(spectrum.flux[0, [0, 2720, 4000, 4950, 7780]], [1, 1.75, 2, 2.25, 3])
    np.testing.assert_allclose(spectrum.ivar[0, [0, 2720, 4000, 4950, 7780]], [1, 4, 3, 4, 1])
    assert not spectrum.good[1].any() and not spectrum.flux[1].any() and not spectrum.ivar[1].any()
    assert np.flatnonzero(~spectrum.good[2]).tolist() == [2700 + 1000]
    np.testing.assert_array_equal(seen["scalars"]["redshift"], [0.25, np.nan, 0.5])
    np.testing.assert_array_equal(seen["scalars"]["redshift_warning"], [0, np.nan, 4])
    np.testing.assert_array_equal(seen["scalars"]["flux_r"], [np.nan, 2, 3])


def test_desi_coadd_of_one_without_redshift(tmp_path):
    seen = read_desi_coadd(coadd(tmp_path / "coadd-one.fits", ("TGT",)))
    assert len(seen) == 1 and seen["spectrum"].good.all() and np.isnan(seen["scalars"]["redshift"]).all()


def test_desi_coadd_of_another_grid_or_without_targets_is_refused(tmp_path):
    with pytest.raises(ShapeMismatch, match="arm B"):
        read(coadd(tmp_path / "coadd-shifted.fits", shift=0.3))
    with pytest.raises(MissingModality, match="no targets"):
        read(coadd(tmp_path / "coadd-sky.fits", ("SKY", "")))


def test_different_parts_are_not_concatenated(tmp_path):
    image = read(fits_image(tmp_path / "g.fits", np.zeros((4, 4), np.float32), BUNIT="nanomaggy", FILTER="r"))
    with pytest.raises(ShapeMismatch, match="parts differ"):
        concatenate([image, read(coadd(tmp_path / "coadd-x.fits"))])


# --- bad input ----------------------------------------------------------------------------------------------------


def shortened(path: Path, share: float) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["npz", "png", "jpg", "fits", "coadd"])
def test_a_truncated_file_is_named(tmp_path, kind, share):
    path = tmp_path / f"cut.{kind}"
    if kind == "npz":
        jpeg_npz(path, 3)
    elif kind == "fits":
        fits_image(path, RNG.normal(size=(3, 40, 40)), BUNIT="nanomaggy", BANDS="grz")
    elif kind == "coadd":
        path = coadd(tmp_path / "cut.fits")
    else:
        Pillow.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    read(path)  # whole, it is fine
    with pytest.raises(CorruptFile, match=path.name):
        read(shortened(path, share))


def test_a_cut_image_inside_a_whole_npz_is_named(tmp_path):
    with pytest.raises(CorruptFile, match=r"set\.npz, image 2 \(object 9\)"):
        read(jpeg_npz(tmp_path / "set.npz", 3, cut=60, galaxy_id=np.array([7, 8, 9])))


def test_offsets_that_do_not_fit_the_bytes(tmp_path):
    data = np.frombuffer(jpeg(colour(1)), np.uint8)
    for wrong in ([0, len(data) + 5], [3, len(data)], [0, len(data), 5, len(data)], [0]):
        np.savez(tmp_path / "set.npz", jpeg=data, offset=np.array(wrong))
        with pytest.raises(CorruptFile, match=r"set\.npz.*offsets that rise"):
            read(tmp_path)


def test_fewer_names_than_images(tmp_path):
    with pytest.raises(CorruptFile, match="saw 2 names; want 3"):
        read(jpeg_npz(tmp_path / "set.npz", 3, galaxy_id=np.array([7, 8])))


class Hostile:
    """Unpickling this would write a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (self.path.write_text, ("done",))


def test_nothing_is_unpickled(tmp_path):
    trace = tmp_path / "trace"
    np.savez(tmp_path / "set.npz", jpeg=np.array([Hostile(trace)], dtype=object), offset=np.array([0, 1]))
    with pytest.raises(CorruptFile, match=r"set\.npz was not opened"):
        read(tmp_path / "set.npz")
    assert not trace.exists()


def test_every_kind_of_table_is_in_the_list():
    """Said twice, so that reading a picture does not import Arrow."""
    from omnisky.observe.read import CATALOGUES
    from omnisky.observe.tables import CSV, VOTABLE

    assert (*CSV, *VOTABLE) == CATALOGUES


def test_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(ObservationError, match="nothing there"):
        read(tmp_path / "missing")
    with pytest.raises(ObservationError, match="nothing to read"):
        read(tmp_path)
    (tmp_path / "notes.txt").write_text("galaxies")
    with pytest.raises(ObservationError, match=r"saw \.txt; want \.csv"):
        read(tmp_path / "notes.txt")
    np.savez(tmp_path / "other.npz", flux=np.zeros(3))
    with pytest.raises(ObservationError, match="saw flux; want jpeg"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["text.npz", "text.png", "text.jpg", "text.fits", "text.fits.gz"])
def test_a_file_that_is_not_what_its_name_says(tmp_path, name):
    (tmp_path / name).write_text("this is no picture " * 400)
    with pytest.raises(CorruptFile, match=name):
        read(tmp_path / name)


def test_an_npy_file_called_npz(tmp_path):
    with (tmp_path / "set.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(CorruptFile, match=r"set\.npz"):
        read(tmp_path / "set.npz")


def test_without_pillow_we_say_what_to_install(tmp_path, monkeypatch):
    path = jpeg_npz(tmp_path / "set.npz")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match=r"pip install 'omnisky\[sample\]'"):
        read(path)
