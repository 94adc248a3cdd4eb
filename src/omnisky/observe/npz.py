"""Sets in one .npz: JPEG bytes end to end (jpeg, offset), calibrated stamps (flux_nanomaggies, bands), or spectra on
one grid (flux, wave, ivar), perhaps with a picture of each object (image_rgb).

Nothing is unpickled.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32

from omnisky.errors import CorruptFile, ObservationError
from omnisky.observe.beside import files_in, joined, survey_of, with_columns
from omnisky.observe.pictures import decode, display
from omnisky.observe.types import Image, Observation, Part, Spectrum


def choose_npz(folder: Path) -> Path:
    """The only .npz of the folder, or the only one that carries class names."""
    every = files_in(folder, (".npz",))
    labelled = every if len(every) == 1 else [one for one in every if load_npz(one, only="class_names")]
    if len(labelled) != 1:
        raise ObservationError(
            f"{folder} holds several sets",
            saw=tuple(one.name for one in every),
            want="one of them",
            hint=f"read({str(every[0])!r})",
        )
    return labelled[0]


def load_npz(path: Path, only: str = "") -> dict[str, np.ndarray]:
    """The arrays of an .npz file, or the one called `only` if it is there. Never unpickles."""
    broken = (OSError, EOFError, KeyError, SyntaxError, RuntimeError)
    try:
        with path.open("rb") as file:
            held = np.load(file, allow_pickle=False)
            if isinstance(held, np.ndarray):
                raise CorruptFile(str(path), saw="one array, an .npy file", want="an .npz file", hint="numpy.savez")
            return {key: held[key] for key in held.files if not only or key == only}
    except CorruptFile:
        raise
    except ValueError as error:  # numpy's word for "this wants to be unpickled" and for a bad array header
        raise CorruptFile(f"{path} was not opened", saw=error, want="an .npz of plain arrays") from error
    except (*broken, struct.error, zlib.error, zipfile.BadZipFile) as error:
        raise CorruptFile(str(path), saw=error, want="a complete .npz file", hint="fetch it again") from error


def read_npz(path: Path) -> Observation:
    arrays = load_npz(path)
    if {"jpeg", "offset"} <= set(arrays):
        return _read_jpeg_npz(path, arrays)
    if {"flux_nanomaggies", "bands"} <= set(arrays):
        return _read_stamp_npz(path, arrays)
    if {"flux", "wave"} <= set(arrays):
        return _read_spectra_npz(path, arrays)
    want = "jpeg and offset, flux_nanomaggies and bands, or flux and wave"
    raise ObservationError(f"no reader for the arrays in {path}", saw=tuple(arrays), want=want)


def _read_jpeg_npz(path: Path, arrays: dict[str, np.ndarray]) -> Observation:
    """JPEG files end to end in `jpeg` (uint8); image i is jpeg[offset[i]:offset[i + 1]]."""
    jpeg, offset = arrays["jpeg"].ravel(), arrays["offset"].ravel()
    ids = _ids(path, arrays, len(offset) - 1)
    edges = (offset[0], offset[-1]) if len(offset) > 1 else ()
    if jpeg.dtype != np.uint8 or edges != (0, len(jpeg)) or (np.diff(offset) < 0).any():
        saw = f"{jpeg.nbytes} bytes, {len(offset)} offsets, {offset[:1]} … {offset[-1:]}"
        raise CorruptFile(str(path), saw=saw, want="offsets that rise from 0 to the number of bytes")
    labels = [f"{path}, image {i} (object {name})" for i, name in enumerate(ids)]
    held = np.ascontiguousarray(jpeg).data
    flux = decode(lambda i: BytesIO(held[offset[i] : offset[i + 1]]), labels)
    columns = {}
    if "cls" in arrays:
        index = arrays["cls"].astype(np.float64)
        columns["class"] = np.where(index >= 0, index, np.nan)
    return with_columns(ids, {"image": display(flux, survey_of(path))}, joined(path.parent, ids, columns))


def _read_stamp_npz(path: Path, arrays: dict[str, np.ndarray]) -> Observation:
    """Calibrated stamps: `flux_nanomaggies` (object, band, height, width), `bands`, `pixscale` (arcsec per pixel).

    Pixels that were not observed, up to a whole band of an object, are NaN in flux and False in `good`. A table in the
    folder with as many rows as there are stamps is taken to be in their order. Magnitudes (AB, mag_u …) are added for
    its columns flux_u …; NaN where the flux is not positive. Where it has a column rms_u … of each band, the noise of
    the sky a pixel, in nanomaggies, ivar is made of it.
    """
    flux = arrays["flux_nanomaggies"].astype(np.float32)
    bands = tuple(str(band) for band in arrays["bands"])
    scale = float(arrays["pixscale"]) if "pixscale" in arrays else float("nan")
    ids, good = _ids(path, arrays, len(flux)), np.isfinite(flux)
    columns = joined(path.parent, ids, {}, in_order=True)
    noise = [columns[f"rms_{band}"] for band in bands if f"rms_{band}" in columns]
    ivar = _certain(np.stack(noise, axis=1), good) if len(noise) == len(bands) else None
    image = Image(flux=flux, bands=bands, survey=survey_of(path), pixel_scale_arcsec=scale, ivar=ivar, good=good)
    for band in bands:
        measured = columns.get(f"flux_{band}")
        if measured is not None:
            positive = np.where(measured > 0, measured, np.nan)
            columns[f"mag_{band}"] = 22.5 - 2.5 * np.log10(positive)
    return with_columns(ids, {"image": image}, columns)


def _certain(
    noise: Float[np.ndarray, "object band"], good: Bool[np.ndarray, "object band height width"]
) -> Float32[np.ndarray, "object band height width"]:
    """1/noise² of each pixel; 0 where there is none, or its noise is not known."""
    with np.errstate(divide="ignore"):
        ivar = np.where(np.isfinite(noise) & (noise > 0), noise**-2.0, 0)
    return np.where(good, ivar[..., None, None], 0).astype(np.float32)


def _read_spectra_npz(path: Path, arrays: dict[str, np.ndarray]) -> Observation:
    """Spectra: `flux` (object, wave), `wave` (vacuum Å, one grid for all) and `ivar`, 0 where there is nothing.

    `image_rgb` (object, height, width, 3) are 8-bit pictures of the same objects. A table in the folder with as many
    rows as there are spectra is taken to be in their order.
    """
    flux, wave = arrays["flux"], arrays["wave"]
    ivar = arrays.get("ivar", np.ones_like(flux))
    if flux.ndim != 2 or wave.shape != flux.shape[1:] or ivar.shape != flux.shape:
        saw = f"flux {flux.shape}, wave {wave.shape}, ivar {ivar.shape}"
        raise CorruptFile(str(path), saw=saw, want="(object, wave), (wave,), (object, wave)")
    good = np.isfinite(flux) & (ivar > 0)
    spectrum = Spectrum(
        flux=np.where(good, flux, np.nan).astype(np.float32),
        wavelength_aa=np.tile(wave.astype(np.float64), (len(flux), 1)),
        ivar=np.where(good, ivar, 0).astype(np.float32) if "ivar" in arrays else None,
        good=good,
    )
    parts: dict[str, Part] = {"spectrum": spectrum}
    if "image_rgb" in arrays:
        pictures = arrays["image_rgb"]
        if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8 or len(pictures) != len(flux):
            saw = f"{pictures.shape}, {pictures.dtype}"
            raise CorruptFile(f"{path}: image_rgb", saw=saw, want=f"({len(flux)}, height, width, 3), uint8")
        parts = {"image": display(np.ascontiguousarray(np.moveaxis(pictures, 3, 1)), survey_of(path)), **parts}
    ids = _ids(path, arrays, len(flux))
    return with_columns(ids, parts, joined(path.parent, ids, {}, in_order=True))


def _ids(path: Path, arrays: dict[str, np.ndarray], n: int) -> list[str]:
    """The sets' own names; without them, the file's name and the row."""
    given = next((arrays[key] for key in ("object_id", "galaxy_id", "name") if key in arrays), None)
    if given is None:
        return [f"{path.stem}-{i:05d}" for i in range(n)]
    if len(given) != n:
        raise CorruptFile(str(path), saw=f"{len(given)} names", want=f"{n}, one per object")
    return [str(name) for name in given.tolist()]
