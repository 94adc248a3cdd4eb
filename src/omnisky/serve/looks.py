"""What objects look like, made small for a page: sheets of thumbnails, cut-outs band by band, spectra in bins."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from jaxtyping import Float, Num, UInt8

from omnisky.errors import MissingExtra
from omnisky.observe.types import Image, Spectrum

THUMB_PX, SHEET = 64, 8
"""the side of a thumbnail, and thumbnails along a side of a sheet"""
CHUNK = 16
"""objects whose cut-outs (or spectra) share a file: no server need know of byte ranges"""
CUTOUT_PX = 128
BINS = 2048
"""of a spectrum, at most"""
_ABSENT = -32768
_SAMPLE = 256


@dataclass(frozen=True, kw_only=True)
class Plane:
    """How a band's flux became a byte: flux = `noise` · sinh(low + (high − low) · byte / 255)."""

    band: str
    low: float
    high: float
    noise: float
    """of a pixel, in the image's unit"""
    white: float
    """the flux of a pixel that is drawn white, about: the brightest of the median object, and far above the noise"""


class Pictures:
    """How images of one survey are drawn and kept, settled on a sample of them: the page draws by the same rule."""

    def __init__(self, sample: Image) -> None:
        self.display = sample.unit == "display"
        self.bands, self.scale_arcsec = sample.bands, sample.pixel_scale_arcsec
        self.side = min(CUTOUT_PX, *sample.flux.shape[2:])
        flux = np.nan_to_num(_middle(sample.flux, self.side).astype(np.float32))
        self.planes = [_plane(band, flux[:, i]) for i, band in enumerate(sample.bands)]
        order = range(len(self.bands)) if self.display else range(len(self.bands) - 1, -1, -1)  # bands go blue to red
        self.rgb = [order[0], order[(len(order) - 1) // 2], order[-1]]

    def state(self) -> dict[str, Any]:
        """What the page must know."""
        scale = None if np.isnan(self.scale_arcsec) else self.scale_arcsec
        names = {"side": self.side, "thumb": THUMB_PX, "sheet": SHEET, "chunk": CHUNK, "rgb": self.rgb}
        return names | {"display": self.display, "scale": scale, "planes": [asdict(plane) for plane in self.planes]}

    def thumbs(self, flux: Num[np.ndarray, "object band height width"]) -> UInt8[np.ndarray, "object px px 3"]:
        """Small colour pictures, for sheets."""
        middle = np.nan_to_num(_middle(flux, self.side).astype(np.float32))
        colours = middle[:, self.rgb] / 255 if self.display else self._drawn(middle)
        pixels = np.round(255 * np.clip(colours, 0, 1)).astype(np.uint8).transpose(0, 2, 3, 1)
        pillow = _pillow()
        small = [pillow.fromarray(one).resize((THUMB_PX, THUMB_PX), pillow.Resampling.LANCZOS) for one in pixels]
        return np.stack([np.asarray(one) for one in small])

    def _drawn(self, flux: Float[np.ndarray, "object band px px"]) -> Float[np.ndarray, "object 3 px px"]:
        """Hues kept, brightness through asinh (Lupton et al. 2004, PASP 116, 133); picture.js does the same."""
        white = np.array([plane.white for plane in self.planes], dtype=np.float32)[:, None, None]
        shown = (flux / white)[:, self.rgb]
        bright = np.maximum(shown.mean(axis=1, keepdims=True), 1e-4)
        shown = shown / bright * (np.arcsinh(12 * bright) / np.arcsinh(12.0))
        return shown / np.maximum(shown.max(axis=1, keepdims=True), 1) + 0.02

    def cutouts(self, flux: Num[np.ndarray, "object band height width"]) -> Iterator[bytes]:
        """Each object's planes below one another in a grey JPEG."""
        middle = np.nan_to_num(_middle(flux, self.side).astype(np.float32))
        for i, plane in enumerate(self.planes):
            if not self.display:
                bent = (np.arcsinh(middle[:, i] / plane.noise) - plane.low) / (plane.high - plane.low)
                middle[:, i] = 255 * np.clip(bent, 0, 1)
        stacks = np.round(middle).astype(np.uint8).reshape(len(middle), -1, self.side)
        for stack in stacks:
            yield jpeg(stack, 88)


def _plane(band: str, flux: Float[np.ndarray, "object px px"]) -> Plane:
    noise = max(float(np.median(np.abs(flux - np.median(flux)))) * 1.4826, 1e-6 * float(np.abs(flux).max()), 1e-30)
    white = max(float(np.median(np.percentile(flux, 99.7, axis=(1, 2)))), 30 * noise)
    high = float(np.arcsinh(max(float(np.percentile(flux, 99.99)), white) / noise))
    return Plane(band=band, low=-float(np.arcsinh(8.0)), high=high, noise=noise, white=white)


def _middle(flux: Num[np.ndarray, "object band height width"], side: int) -> Num[np.ndarray, "object band px px"]:
    top, left = ((length - side) // 2 for length in flux.shape[2:])
    return flux[:, :, top : top + side, left : left + side]


class Spectra:
    """The one wavelength grid on which spectra are shown: their own, or in bins of several pixels."""

    def __init__(self, sample: Spectrum) -> None:
        wave = sample.wavelength_aa[np.isfinite(sample.wavelength_aa)]
        self.unit = sample.unit
        self.start, end = float(wave.min()), float(wave.max())
        pixel_aa = float(np.nanmedian(np.diff(sample.wavelength_aa, axis=1)))
        whole = max(1.0, np.ceil((end - self.start) / pixel_aa / BINS))
        self.step = whole * pixel_aa
        self.count = int((end - self.start) / self.step) + 1

    def state(self) -> dict[str, Any]:
        """What the page must know."""
        return {"start": self.start, "step": self.step, "count": self.count, "unit": self.unit, "chunk": CHUNK}

    def packed(self, seen: Spectrum) -> Iterator[bytes]:
        """Each spectrum: float32 scale, then int16s, −32768 where there is nothing. Means by ivar in bins."""
        good = seen.where_good() & np.isfinite(seen.flux) & np.isfinite(seen.wavelength_aa)
        weight = np.where(good, 1.0 if seen.ivar is None else seen.ivar, 0)
        bins = np.where(good, np.nan_to_num((seen.wavelength_aa - self.start) / self.step), -1).astype(np.int64)
        weight[(bins < 0) | (bins >= self.count)] = 0
        for where, light, flux in zip(np.clip(bins, 0, self.count - 1), weight, np.nan_to_num(seen.flux), strict=True):
            total = np.bincount(where, light, self.count)
            mean = np.bincount(where, light * flux, self.count) / np.maximum(total, 1e-30)
            known = total > 0
            scale = max(float(np.abs(mean[known]).max(initial=0)) / 32000, 1e-30)
            yield struct.pack("<f", scale) + np.where(known, np.round(mean / scale), _ABSENT).astype("<i2").tobytes()


class Spool:
    """Bytes of objects, put down in the order in which they are read, taken up in the order of the page."""

    def __init__(self, objects: int) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - until `close`
        self._at = np.full((objects, 2), -1, dtype=np.int64)

    def close(self) -> None:
        self._file.close()

    def put(self, row: int, data: bytes) -> None:
        self._at[row] = self._file.tell(), len(data)
        self._file.write(data)

    def has(self, row: int) -> bool:
        return bool(self._at[row, 0] >= 0)

    def get(self, row: int) -> bytes:
        """Empty where there is nothing."""
        start, length = self._at[row].tolist()
        if start < 0:
            return b""
        self._file.seek(start)
        return self._file.read(length)

    def chunks(self, folder: Path, size: int = CHUNK) -> None:
        """`folder`/0.bin, 1.bin, …: size + 1 uint32 offsets from the end of themselves, then the bytes."""
        folder.mkdir(parents=True)
        for start in range(0, len(self._at), size):
            blobs = [self.get(row) for row in range(start, min(start + size, len(self._at)))]
            blobs += [b""] * (size - len(blobs))
            offsets = np.cumsum([0, *map(len, blobs)]).astype("<u4")
            (folder / f"{start // size}.bin").write_bytes(offsets.tobytes() + b"".join(blobs))

    def sheets(self, folder: Path) -> None:
        """`folder`/0.jpg, …: thumbnails row by row, empty where there is none."""
        folder.mkdir(parents=True)
        each = SHEET * SHEET
        for start in range(0, len(self._at), each):
            sheet = np.zeros((SHEET, SHEET, THUMB_PX, THUMB_PX, 3), dtype=np.uint8)
            for place, row in enumerate(range(start, min(start + each, len(self._at)))):
                if self.has(row):
                    one = np.frombuffer(self.get(row), np.uint8).reshape(THUMB_PX, THUMB_PX, 3)
                    sheet[place // SHEET, place % SHEET] = one
            whole = sheet.transpose(0, 2, 1, 3, 4).reshape(SHEET * THUMB_PX, SHEET * THUMB_PX, 3)
            (folder / f"{start // each}.jpg").write_bytes(jpeg(whole, 85))


def jpeg(pixels: UInt8[np.ndarray, "height width *colour"], quality: int) -> bytes:
    """A baseline JPEG; grey where there is no axis of colours."""
    file = BytesIO()
    _pillow().fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def _pillow() -> Any:
    try:
        from PIL import Image as Pillow
    except ImportError as error:
        raise MissingExtra("pictures of the explorer need Pillow", hint="pip install 'omnisky[plot]'") from error
    return Pillow


def spread(count: int, most: int = _SAMPLE) -> Sequence[int]:
    """At most so many rows, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist()
