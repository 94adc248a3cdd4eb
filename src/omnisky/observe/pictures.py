"""JPEG and PNG files as one set of display images, uint8 (object, 3, height, width), bands red green blue."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from omnisky.errors import BandMismatch, CorruptFile, MissingExtra, ShapeMismatch
from omnisky.observe.beside import joined as with_tables
from omnisky.observe.beside import survey_of, with_columns
from omnisky.observe.types import Image, Observation

PICTURES = (".jpg", ".jpeg", ".png")
_COLOURS = ("red", "green", "blue")


def read_pictures(pictures: list[Path], folder: Path, *, joined: bool) -> Observation:
    """JPEG and PNG files of one size. Ids are the names without suffix; with sub-folders, sub-folder/name."""
    flux = decode(lambda i: pictures[i], [str(one) for one in pictures])
    ids = [str(one.relative_to(folder).with_suffix("").as_posix()) for one in pictures]
    image = display(flux, survey_of(pictures[0]))
    if not joined:
        return with_columns(ids, {"image": image}, {})
    classes = sorted({one.parent.name for one in pictures if one.parent != folder})
    columns = {}
    if classes:
        index = [classes.index(one.parent.name) if one.parent != folder else np.nan for one in pictures]
        columns["class"] = np.array(index, dtype=np.float64)
    return with_columns(ids, {"image": image}, with_tables(folder, [one.stem for one in pictures], columns))


def display(flux: UInt8[np.ndarray, "object 3 height width"], survey: str) -> Image:
    return Image(flux=flux, bands=_COLOURS, unit="display", survey=survey)


def decode(source: Callable[[int], Any], labels: Sequence[str]) -> UInt8[np.ndarray, "object 3 height width"]:
    """Open source(0), source(1) … as colour images of one size; `labels` name them in errors."""
    first = _decode_one(source(0), labels[0])
    flux = np.empty((len(labels), *first.shape), dtype=np.uint8)

    def fill(start: int) -> None:
        for i in range(start, min(start + 256, len(labels))):
            one = _decode_one(source(i), labels[i])
            if one.shape != first.shape:
                raise ShapeMismatch(
                    labels[i],
                    saw=f"{one.shape[1]} × {one.shape[2]} pixels",
                    want=f"{first.shape[1]} × {first.shape[2]}, as {labels[0]}",
                    hint="crop or resize all images to one size",
                )
            flux[i] = one

    # Pillow lets go of the interpreter while it decodes, so threads are enough, and share the array.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, range(0, len(labels), 256)))
    return flux


def _decode_one(source: Any, label: str) -> UInt8[np.ndarray, "3 height width"]:
    try:
        from PIL import Image as Pillow
    except ImportError as error:
        raise MissingExtra("JPEG and PNG need Pillow", hint="pip install 'omnisky[sample]'") from error
    try:
        with Pillow.open(source) as picture:
            if picture.mode not in ("RGB", "RGBA", "P"):
                raise BandMismatch(
                    label, saw=f"mode {picture.mode}", want=_COLOURS, hint="convert('RGB') if grey is what you mean"
                )
            pixels = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except BandMismatch:
        raise
    # Pillow's errors on broken bytes differ by format: OSError (JPEG), SyntaxError (PNG chunks), struct.error …
    except (OSError, SyntaxError, ValueError, struct.error, Pillow.DecompressionBombError) as error:
        raise CorruptFile(label, saw=error, want="a complete JPEG or PNG image", hint="fetch it again") from error
    return np.moveaxis(pixels, -1, 0)
