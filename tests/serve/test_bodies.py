"""Bodies of strangers: read as they are meant or refused by name, and never unpacked beyond limits."""

import gzip
import io
import pickle
import tracemalloc
import zipfile
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("pydantic")

import houses
import small
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture
from pydantic import ValidationError

from omnisky.errors import CorruptFile, ObservationError, OmniskyError, TooMuch
from omnisky.observe.arrow import to_arrow
from omnisky.serve import asks, guard, wire
from omnisky.serve.house import Limits

LIMITS = Limits(unpacked_bytes=8 << 20, rows=50, pixels=1 << 20)


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def stamps() -> bytes:
    return npz(flux_nanomaggies=np.ones((2, 3, 16, 16), np.float32), bands=np.array(["g", "r", "z"]))


def image(compressed: bool = False, shape: tuple[int, ...] = (3, 16, 16)) -> bytes:
    file, header = io.BytesIO(), fits.Header({"BANDS": "grz", "BUNIT": "nanomaggy", "RA": 1.0, "DEC": 2.0})
    flux = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    hdu = fits.CompImageHDU(np.zeros(shape, np.int16), header) if compressed else fits.PrimaryHDU(flux, header)
    fits.HDUList([hdu] if not compressed else [fits.PrimaryHDU(), hdu]).writeto(file)
    return file.getvalue()


def png(side: int = 16) -> bytes:
    file = io.BytesIO()
    Picture.new("RGB", (side, side)).save(file, "PNG")
    return file.getvalue()


GOOD = {
    "fits": image(),
    "fits.gz": gzip.compress(image()),
    "npz": stamps(),
    "png": png(),
    "arrow": wire.arrow_of(houses.SKY.take(slice(0, 3))),
}


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_whole_is_read(kind):
    assert len(wire.observation(GOOD[kind], LIMITS)) in (1, 2, 3)


def test_arrow_comes_back_bit_for_bit():
    seen = houses.SKY.take(slice(0, 3))
    found = wire.observation(wire.arrow_of(seen), LIMITS)
    np.testing.assert_array_equal(found["image"].flux, seen["image"].flux)
    np.testing.assert_array_equal(found["spectrum"].wavelength_aa, seen["spectrum"].wavelength_aa)


# --- bombs -------------------------------------------------------------------------------------------------------


def header_of(shape: tuple[int, ...], dtype: str = "<f8") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, body in members.items():
            made.writestr(f"{name}.npy", body)
    return file.getvalue()


def ipc(batch: pa.RecordBatch, **options) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


def lying_arrow(old: bytes, new: bytes) -> bytes:
    """A layout that says other sizes than the columns have; of equal length, so that the rest stays in place."""
    body = GOOD["arrow"]
    assert body.count(old) and len(old) == len(new)
    return body.replace(old, new)


BOMBS = {
    "gzip": lambda: gzip.compress(bytes(16 << 20)),
    "npz, by its size": lambda: npz(flux_nanomaggies=np.zeros((1, 1, 2000, 2000), np.float32), bands=["g"]),
    "npz, by a header": lambda: archive(flux_nanomaggies=header_of((1 << 40,)), bands=b""),
    "png": lambda: png(2500),
    "fits, compressed": lambda: image(compressed=True, shape=(1, 2000, 2000)),
    "arrow, by its layout": lambda: lying_arrow(b'"shape": [3, 16, 16]', b'"shape": [999999999]'),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_do_not_go_off(kind):
    body = BOMBS[kind]()
    assert len(body) < 1 << 20
    tracemalloc.start()
    with pytest.raises(TooMuch):
        wire.observation(body, LIMITS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * LIMITS.unpacked_bytes


def test_rows_that_share_a_heap_are_counted():
    """Each row of a table may point to the same, large array."""
    column = fits.Column("flux", "PD()", array=np.array([np.zeros(1000)] * 20, dtype=object))
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([column])]).writeto(file)
    with pytest.raises(TooMuch, match="FITS"):
        wire.observation(file.getvalue(), Limits(unpacked_bytes=1 << 20))


def test_tiles_that_unpack_to_more_than_they_say_are_found():
    """A tile of a compressed image is gzip of 16 MB, in an image of 32 × 32."""
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.eye(32, dtype=np.int16), compression_type="GZIP_1")]).writeto(
        file
    )
    with fits.open(io.BytesIO(file.getvalue()), disable_image_compression=True) as hdus:
        told, bomb = hdus[1].header, np.frombuffer(gzip.compress(bytes(16 << 20)), np.uint8)
        column = fits.Column("COMPRESSED_DATA", "PB()", array=np.array([bomb] * 32, dtype=object))
        table = fits.BinTableHDU.from_columns([column])
        for key in ("ZIMAGE", "ZCMPTYPE", "ZBITPIX", "ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2"):
            table.header[key] = told[key]
        changed = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(changed)
    with pytest.raises(TooMuch):
        wire.observation(changed.getvalue(), LIMITS)


def test_compressed_arrow_is_refused_before_it_is_unpacked():
    body = ipc(to_arrow(small.galaxies(4)), compression="zstd")
    with pytest.raises(CorruptFile, match="compressed columns"):
        wire.observation(body, LIMITS)
    assert len(wire.observation(ipc(to_arrow(small.galaxies(4))), LIMITS)) == 4


def test_a_long_name_is_refused():
    """One of 1 MB among 50 would be 200 MB of text."""
    seen = small.galaxies(2)
    batch = to_arrow(seen)
    ids = pa.array(["x" * 1_000_000, "b"])
    body = ipc(batch.set_column(0, batch.schema.field(0), ids))
    with pytest.raises(CorruptFile, match="256"):
        wire.observation(body, LIMITS)


def test_nothing_is_unpickled():
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    plain = np.empty(1, object)
    plain[0] = Evil()
    for body in (pickle.dumps(Evil()), npz(flux_nanomaggies=plain, bands=["g"])):
        with pytest.raises(ObservationError):
            wire.observation(body, LIMITS)


def test_too_many_rows_and_pixels():
    with pytest.raises(TooMuch, match="51 objects"):
        wire.observation(wire.arrow_of(small.galaxies(51)), LIMITS)
    with pytest.raises(TooMuch, match="pixels"):
        wire.observation(image(shape=(3, 700, 700)), Limits(pixels=1 << 20))


def test_refusals_do_not_tell_of_our_disk():
    with pytest.raises(ObservationError) as caught:
        wire.observation(GOOD["fits"][: len(GOOD["fits"]) // 2], LIMITS)
    assert "upload.fits" in str(caught.value) and "omnisky-" not in str(caught.value)


# --- fuzz --------------------------------------------------------------------------------------------------------


def broken(body: bytes, draw: np.random.Generator) -> bytes:
    """Cut off, or a few bytes changed."""
    if draw.random() < 0.3:
        return body[: draw.integers(len(body))]
    changed = bytearray(body)
    front = len(body) if draw.random() < 0.5 else min(len(body), 6000)  # where the headers are
    for i in draw.integers(front, size=draw.integers(1, 12)):
        changed[i] = draw.integers(256)
    return bytes(changed)


def try_to_read(body: bytes) -> None:
    """Read, or refused by name. Anything else fails."""
    with suppress(OmniskyError):
        wire.observation(body, LIMITS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("tries", [20, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_broken_bodies_are_refused_by_name(kind, tries, unchecked):
    for seed in range(tries):
        try_to_read(broken(GOOD[kind], np.random.default_rng(seed)))


@pytest.mark.filterwarnings("ignore")
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"SIMPLE  =", b"PK\x03\x04", b"\xff\xff\xff\xff", b"\x89PNG", b"\x1f\x8b"]),
)
@settings(max_examples=60)
def test_bytes_that_are_nothing_are_refused_by_name(rest, start):
    with pytest.raises(OmniskyError):
        wire.observation(start + rest, LIMITS)


def test_json_that_would_be_large_in_memory_is_refused_before_it_is_read():
    """A byte or two a number, thirty and more in memory."""
    limits = Limits(unpacked_bytes=1 << 20)
    guard.demand_json(b"[" + b"1.25," * 5_000 + b"0]", limits)
    for bomb in (b"[" + b"0," * 20_000 + b"0]", b"[[" + b"[]," * 20_000 + b"[]]]", b"{" + b'"":0' * 2000):
        with pytest.raises(TooMuch, match="JSON"):
            guard.demand_json(bomb, limits)


def test_fits_of_very_many_extensions_is_refused():
    file = io.BytesIO()
    fits.PrimaryHDU().writeto(file)
    body = file.getvalue() + fits.ImageHDU().header.tostring().encode() * 1100
    with pytest.raises(TooMuch, match="extensions"):
        wire.observation(body, LIMITS)


def test_a_list_of_what_is_no_number_is_one_error():
    """Not one for each of a million, each larger than the word it is about."""
    text = '{"flux": [[[' + '"x",' * 999 + '"x"]]], "bands": ["g"]}'
    with pytest.raises(ValidationError) as raised:
        asks.ImageSeen.model_validate_json(text)
    assert raised.value.error_count() == 1
