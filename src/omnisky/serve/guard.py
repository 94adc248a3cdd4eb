"""How large will it be? Asked of headers, before anything is unpacked: a small body can stand for a great deal.

Nothing here trusts a number without holding it against a limit, and nothing is unpickled or fetched.
"""

from __future__ import annotations

import struct
import warnings
import zipfile
import zlib
from io import BytesIO
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa

from omnisky.errors import CorruptFile, MissingExtra, ObservationError, TooMuch
from omnisky.observe.arrow import from_arrow
from omnisky.observe.layout import CORE
from omnisky.observe.schema import layout_in
from omnisky.observe.types import Observation
from omnisky.serve.house import Limits

_LONGEST_ID = 256
_VALUE_BYTES, _KEY_BYTES = 128, 1024
"""in memory while JSON is read: of a number or a list, and of a name that may not be known, and then is an error"""
_HDUS = 1024
"""extensions of a FITS file: each takes a millisecond to look at"""
_KINDS = "fiubU"
_ARROW_TABLES = {"dictionary": 1, "record batch": 0}
"""the field of a message's header that is the record batch: of a dictionary the second, or the header itself"""


def demand_bytes(what: str, size: int, limits: Limits) -> None:
    """Raises TooMuch."""
    if size > limits.unpacked_bytes:
        want = f"at most {limits.unpacked_bytes:,} unpacked"
        raise TooMuch(what, saw=f"{size:,} bytes", want=want, hint="fewer objects, smaller cut-outs")


def demand_within(seen: Observation, limits: Limits) -> Observation:
    """These objects, if they are not too many, nor too large. Raises TooMuch, ObservationError for none."""
    if not len(seen):
        raise ObservationError(saw="no objects", want="at least one")
    if len(seen) > limits.rows:
        raise TooMuch(saw=f"{len(seen)} objects", want=f"at most {limits.rows} a request", hint="ask in pieces")
    for name, part in seen.parts.items():
        pixels = prod(np.shape(getattr(part, part._first))[1:])
        if pixels > limits.pixels:
            raise TooMuch(f"{name}: pixels of an object", saw=f"{pixels:,}", want=f"at most {limits.pixels:,}")
    return seen


def demand_json(body: bytes, limits: Limits) -> None:
    """By its commas, brackets and colons: each stands for an object of Python's. Raises TooMuch."""
    size = _VALUE_BYTES * (body.count(b",") + body.count(b"[")) + _KEY_BYTES * body.count(b":")
    demand_bytes("JSON", size, limits)


def gunzipped(body: bytes, limits: Limits) -> bytes:
    """Raises TooMuch as soon as it grows beyond the limit, CorruptFile."""
    stream = zlib.decompressobj(wbits=31)
    try:
        plain = stream.decompress(body, limits.unpacked_bytes + 1)
    except zlib.error as error:
        raise CorruptFile("gzip", saw=error, want="a complete .gz file") from error
    demand_bytes("gzip", len(plain), limits)
    if not stream.eof or stream.unused_data:
        raise CorruptFile("gzip", saw="a broken end", want="one complete .gz file")
    return plain


def demand_fits(body: bytes, limits: Limits) -> None:
    """By the headers: pixels of compressed images, and the heaps of tables, which rows may share. Raises TooMuch."""
    from astropy.io import fits

    size = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(BytesIO(body), memmap=False, disable_image_compression=True) as hdus:
            for i, hdu in enumerate(hdus):
                if i >= _HDUS:
                    raise TooMuch("FITS", saw=f"more than {_HDUS} extensions", want="fewer", hint="ask in pieces")
                size += _unpacked(hdu.header)
                demand_bytes("FITS", size, limits)
                if "ZIMAGE" in hdu.header:
                    _demand_tiles(hdu, limits)


def _demand_tiles(hdu: Any, limits: Limits) -> None:
    """Tiles that were gzipped say only by themselves how large they are. Raises TooMuch."""
    zipped = {"GZIP_COMPRESSED_DATA"}
    if str(hdu.header.get("ZCMPTYPE", "")).startswith("GZIP"):
        zipped.add("COMPRESSED_DATA")
    size = 0
    for name in zipped.intersection(hdu.columns.names):
        for tile in hdu.data[name]:
            left = limits.unpacked_bytes - size
            size += (
                len(zlib.decompressobj(wbits=47).decompress(np.asarray(tile).tobytes(), left + 1)) if len(tile) else 0
            )
            demand_bytes("FITS", size, limits)


def _unpacked(header: Any) -> int:
    def count(key: str) -> int:
        return max(int(header.get(key, 0)), 0)

    size = prod(count(f"NAXIS{i}") for i in range(1, count("NAXIS") + 1)) * 8 if count("NAXIS") else 0
    if "ZIMAGE" in header:
        size += prod(count(f"ZNAXIS{i}") for i in range(1, count("ZNAXIS") + 1)) * 8
    elif header.get("XTENSION", "").strip() == "BINTABLE":
        size = size // 8 + count("NAXIS2") * count("PCOUNT")
    return size


def demand_npz(body: bytes, limits: Limits) -> None:
    """By the directory of the archive and the headers of its arrays. Raises TooMuch, CorruptFile."""
    size = 0
    with zipfile.ZipFile(BytesIO(body)) as archive:
        for one in archive.infolist():
            demand_bytes("npz", size := size + one.file_size, limits)
            if one.filename.startswith("jpeg"):
                hint = "one picture as it is, or many as Arrow: omnisky.Client"
                raise ObservationError("pictures within npz", want="arrays of fluxes", hint=hint)
            with archive.open(one) as member:
                shape, dtype = _npy_header(member)
            demand_bytes(f"npz: {one.filename}", prod(shape) * max(dtype.itemsize, 1), limits)


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file, max_header_size=10_000)
    if dtype.hasobject:
        raise CorruptFile("npz", saw="an array that wants to be unpickled", want="plain arrays")
    return shape, dtype


def demand_picture(body: bytes, limits: Limits) -> None:
    """By the header of a JPEG or PNG. Raises TooMuch, MissingExtra."""
    try:
        from PIL import Image as Pillow
    except ImportError as error:
        hint = "pip install 'omnisky[sample]' where the server runs"
        raise MissingExtra("JPEG and PNG need Pillow", hint=hint) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own, higher limit
        with Pillow.open(BytesIO(body), formats=("JPEG", "PNG")) as picture:
            pixels = prod(picture.size) * 3
    if pixels > limits.pixels:
        raise TooMuch("pixels of a picture", saw=f"{pixels:,}", want=f"at most {limits.pixels:,}")


def observation_of_arrow(body: bytes, limits: Limits) -> Observation:
    """An Arrow stream as `observe.arrow` writes it, every offset checked. Raises TooMuch, CorruptFile."""
    _demand_plain(body)
    with pa.ipc.open_stream(body) as stream:
        layout = layout_in(stream.schema)
        table = stream.read_all()
    table.validate(full=True)
    if layout is None:
        raise ObservationError(
            "these columns are not known", saw=tuple(table.schema.names[:20]), want="omnisky.observe.arrow.to_arrow"
        )
    if not 1 <= table.num_rows <= limits.rows:
        raise TooMuch(saw=f"{table.num_rows} objects", want=f"1 … {limits.rows} a request", hint="ask in pieces")
    size = 0
    for name, part in layout.parts.items():
        for key, rows in part.rows.items():
            dtype = np.dtype(rows.dtype)
            if dtype.kind not in _KINDS or not all(isinstance(n, int) and n >= 0 for n in rows.shape):
                raise CorruptFile(f"{name}.{key}", saw=f"{rows.dtype} {rows.shape}", want="an array of numbers or text")
            demand_bytes("Arrow", size := size + table.num_rows * prod(rows.shape) * dtype.itemsize, limits)
    if missing := set(CORE) - set(table.schema.names):
        raise CorruptFile("Arrow", saw=tuple(table.schema.names[:20]), want=tuple(sorted(missing)))
    ids = table["object_id"].cast(pa.string())
    if ids.null_count or max(map(len, ids.to_pylist())) > _LONGEST_ID:
        raise CorruptFile("object_id", want=f"text of at most {_LONGEST_ID} characters for each object")
    return from_arrow(table)


def _demand_plain(body: bytes) -> None:
    """Raises CorruptFile for compressed columns: how large they are is told only where they are unpacked."""
    reader = pa.ipc.MessageReader.open_stream(body)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        if message.type not in _ARROW_TABLES:
            continue
        told = message.metadata.to_pybytes()
        table = _field(told, struct.unpack_from("<I", told)[0], 2)
        if _ARROW_TABLES[message.type]:
            table = _field(told, table, 1)
        if _field(told, table, 3):
            hint = "IpcWriteOptions(compression=None)"
            raise CorruptFile("Arrow", saw="compressed columns", want="plain ones", hint=hint)


def _field(told: bytes, table: int, field: int) -> int:
    """Where the table in a field of a FlatBuffers table begins; 0 where the field is not there."""
    vtable = table - struct.unpack_from("<i", told, table)[0]
    (size,) = struct.unpack_from("<H", told, vtable)
    at = 4 + 2 * field
    (offset,) = struct.unpack_from("<H", told, vtable + at) if at < size else (0,)
    return table + offset + struct.unpack_from("<I", told, table + offset)[0] if offset else 0
