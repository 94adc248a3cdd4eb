"""Bytes and JSON ↔ Observation. What a body is, its first bytes say:

    FITS (also .gz, .fz), npz, JPEG and PNG     as `omnisky.read` reads them
    an Arrow stream                             as `omnisky.observe.arrow` writes it; what the client sends
    JSON                                        `asks.Seen`: bands and wavelengths spelled out
    data:…;base64,…                             any of these, within JSON

Addresses are not fetched.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import numpy as np

from omnisky.errors import BadPixels, CorruptFile, ObservationError, OmniskyError, ShapeMismatch, TooMuch
from omnisky.observe.arrow import to_arrow
from omnisky.observe.layout import arrays_of
from omnisky.observe.read import read
from omnisky.observe.types import Image, Observation, Part, Scalars, Spectrum
from omnisky.serve import guard
from omnisky.serve.asks import ImageSeen, Input, Seen, SpectrumSeen
from omnisky.serve.client import ARROW, as_stream
from omnisky.serve.house import Limits

_KINDS: tuple[tuple[bytes, str, Callable[[bytes, Limits], None]], ...] = (
    (b"SIMPLE  =", ".fits", guard.demand_fits),
    (b"PK\x03\x04", ".npz", guard.demand_npz),
    (b"\xff\xd8\xff", ".jpg", guard.demand_picture),
    (b"\x89PNG", ".png", guard.demand_picture),
)
_READING = Lock()
"""astropy's warnings are made errors while a file is read, for the whole process: one thread at a time"""
_WANT = ("FITS", "npz", "JPEG", "PNG", "an Arrow stream", "JSON")


def observation(body: bytes, limits: Limits) -> Observation:
    """The objects in a body. Raises TooMuch, ObservationError, CorruptFile, and what `omnisky.read` does."""
    try:
        if body[:2] == b"\x1f\x8b":
            body = guard.gunzipped(body, limits)
        if body[:4] == b"\xff\xff\xff\xff":
            return guard.demand_within(guard.observation_of_arrow(body, limits), limits)
        found = next((row for row in _KINDS if body.startswith(row[0])), None)
        if found is None:
            raise ObservationError("the body", saw=f"{len(body)} bytes, {body[:8]!r} …", want=_WANT)
        _, suffix, demand = found
        with _READING:
            demand(body, limits)
            return guard.demand_within(_read(body, suffix), limits)
    except OmniskyError:
        raise
    except Exception as error:  # bytes of strangers: what readers raise depends on where they are broken
        saw = f"{type(error).__name__}: {error}"[:200]
        raise CorruptFile("the body could not be read", saw=saw, want=_WANT) from error


def _read(body: bytes, suffix: str) -> Observation:
    """By way of a file of its own: the readers want names and neighbours. Errors speak of `upload`, not of our disk."""
    with TemporaryDirectory(prefix="omnisky-") as folder:
        path = Path(folder) / f"upload{suffix}"
        path.write_bytes(body)
        try:
            return read(path)
        except OmniskyError as error:
            error.args = tuple(str(one).replace(f"{folder}/", "") for one in error.args)
            error.saw = None if error.saw is None else str(error.saw).replace(f"{folder}/", "")
            error.hint = error.hint.replace(f"{folder}/", "")
            raise


def observations(inputs: Input | Sequence[Input], limits: Limits) -> list[Observation]:
    """One Observation an input. Raises as `observation` does."""
    every = [inputs] if isinstance(inputs, str | Seen) else inputs
    if not every:
        raise ObservationError("input", saw="no objects", want="at least one")
    found = [_decoded(one, limits) if isinstance(one, str) else _of_json(one, i) for i, one in enumerate(every)]
    seen = [guard.demand_within(one, limits) for one in found]
    if sum(map(len, seen)) > limits.rows:
        saw = f"{sum(map(len, seen))} objects"
        raise TooMuch(saw=saw, want=f"at most {limits.rows} a request", hint="ask in pieces")
    return seen


def _decoded(text: str, limits: Limits) -> Observation:
    head, comma, tail = text.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        saw = f"{text[:40]!r} …"
        hint = "addresses are not fetched"
        raise ObservationError("text", saw=saw, want="data:application/fits;base64,…", hint=hint)
    try:
        body = b64decode(tail, validate=True)
    except ValueError as error:
        raise CorruptFile("a data URI", saw=error, want="base64") from error
    return observation(body, limits)


def _of_json(seen: Seen, i: int) -> Observation:
    parts: dict[str, Part] = {}
    if seen.image is not None:
        parts["image"] = _image(seen.image)
    if seen.spectrum is not None:
        parts["spectrum"] = _spectrum(seen.spectrum)
    if seen.scalars:
        values = np.array([list(seen.scalars.values())], dtype=np.float64)
        parts["scalars"] = Scalars(values=values, names=tuple(seen.scalars))
    if not parts:
        raise ObservationError("an input", saw="nothing", want=("image", "spectrum", "scalars"))
    place = {"ra": [_number(seen.ra)], "dec": [_number(seen.dec)]}
    return Observation.of([seen.object_id or f"input-{i}"], **place, **parts)  # type: ignore[arg-type]


def _image(told: ImageSeen) -> Image:
    flux = _array("image.flux", told.flux, 3)
    if told.unit == "display":
        if not ((flux >= 0) & (flux <= 255)).all():
            raise BadPixels("a display image", saw=f"{flux.min()} … {flux.max()}", want="0 … 255")
        flux = flux.astype(np.uint8)
    good = np.isfinite(flux)
    return Image(
        flux=flux,
        bands=tuple(told.bands),
        unit=told.unit,
        survey=told.survey,
        pixel_scale_arcsec=_number(told.pixel_scale_arcsec),
        good=None if good.all() else good,
    )


def _spectrum(told: SpectrumSeen) -> Spectrum:
    flux, wave = _array("spectrum.flux", told.flux, 1), _array("spectrum.wavelength_aa", told.wavelength_aa, 1)
    ivar = None if told.ivar is None else _array("spectrum.ivar", told.ivar, 1)
    if flux.shape != wave.shape or not (np.diff(wave[0]) > 0).all():
        want = "as many rising wavelengths as fluxes"
        raise ShapeMismatch("spectrum", saw=f"{flux.shape} and {wave.shape}", want=want)
    good = np.isfinite(flux) if ivar is None else np.isfinite(flux) & (ivar > 0)
    return Spectrum(
        flux=flux, wavelength_aa=wave.astype(np.float64), ivar=ivar, good=None if good.all() else good, unit=told.unit
    )


def _array(name: str, nested: Any, axes: int) -> np.ndarray:
    """float32 with an axis of one object before it; null is NaN."""
    try:
        values = np.array(nested, dtype=np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise ShapeMismatch(name, saw=error, want=f"numbers in {axes} axes of even length") from error
    if values.ndim != axes or not values.size:
        raise ShapeMismatch(name, saw=values.shape, want=f"{axes} axes, none of them empty")
    return values[None]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


# --- and back -----------------------------------------------------------------------------------------------------


def arrow_of(seen: Observation) -> bytes:
    """What `observation` reads again, bit for bit."""
    return as_stream(to_arrow(seen))


def plain(values: np.ndarray) -> Any:
    """Nested lists for JSON, in which NaN and infinity are null."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        spelled = values.astype(object)
        spelled[~np.isfinite(values)] = None
        return spelled.tolist()
    return values.tolist()


def json_of(seen: Observation) -> list[dict[str, Any]]:
    """Images, spectra and numbers of each object, as `asks.Seen` has them."""
    return [_json_row(seen.take([i])) for i in range(len(seen))]


def _json_row(one: Observation) -> dict[str, Any]:
    place = {"ra": plain(one.ra)[0], "dec": plain(one.dec)[0]}
    told: dict[str, Any] = {"object_id": str(one.object_id[0]), **place}
    for name, part in one.parts.items():
        if isinstance(part, Image):
            scale = plain(np.array(part.pixel_scale_arcsec))
            about = {"bands": list(part.bands), "unit": part.unit, "survey": part.survey, "pixel_scale_arcsec": scale}
            told[name] = {"flux": plain(part.flux[0]), **about}
        elif isinstance(part, Spectrum):
            told[name] = {"flux": plain(part.flux[0]), "wavelength_aa": plain(part.wavelength_aa[0]), "unit": part.unit}
        elif isinstance(part, Scalars):
            told[name] = dict(zip(part.names, plain(part.values[0]), strict=True))
        else:
            raise ObservationError(f"{name} has no JSON", saw=type(part).__name__, hint=f"Accept: {ARROW}")
    return told


def shape_of(seen: Observation) -> Hashable:
    """Equal for observations that can be joined as they are: the same parts, shapes, bands, units."""
    return tuple((name, *_shape_of(part)) for name, part in sorted(seen.parts.items()))


def _shape_of(part: Part) -> tuple[Hashable, ...]:
    arrays = arrays_of(part)
    shapes = tuple((key, one.shape[1:], one.dtype.kind, one.dtype.itemsize) for key, one in arrays.items())
    constants = {key: value for key, value in vars(part).items() if not isinstance(value, np.ndarray | dict)}
    return type(part).__name__, shapes, repr(constants), part.present is None
