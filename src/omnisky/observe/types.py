"""What was seen: images, spectra, numbers, maps and light curves of the same objects, with units.

An `Observation` joins parts by row: row i of every part is the same object on the sky. A part that some objects lack
marks them in `present`. The kinds of part live in `observe.parts`, and are imported from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from omnisky.errors import MissingModality, ShapeMismatch
from omnisky.observe.parts import Counterpart as Counterpart
from omnisky.observe.parts import Cube as Cube
from omnisky.observe.parts import Image as Image
from omnisky.observe.parts import Labels as Labels
from omnisky.observe.parts import LightCurve as LightCurve
from omnisky.observe.parts import Neighbours as Neighbours
from omnisky.observe.parts import Part as Part
from omnisky.observe.parts import Scalars as Scalars
from omnisky.observe.parts import SegmentationMap as SegmentationMap
from omnisky.observe.parts import Spectrum as Spectrum


@dataclass(frozen=True, eq=False)
class Observation:
    """Objects on the sky and all that was measured of them. ICRS, degrees, float64."""

    object_id: np.ndarray
    """one string per object; never a float, never rounded"""
    ra: Float[np.ndarray, " object"]
    """deg, ICRS; NaN where not known"""
    dec: Float[np.ndarray, " object"]
    """deg, ICRS; NaN where not known"""
    parts: Mapping[str, Part] = field(default_factory=dict)
    """what was measured, by name: "image", "spectrum", "scalars", …"""

    @classmethod
    def of(
        cls,
        object_id: Iterable[object],
        ra: Iterable[float] | None = None,
        dec: Iterable[float] | None = None,
        **parts: Part,
    ) -> Observation:
        """Observation.of(["a", "b"], image=Image(…)): ids are made strings, unknown positions NaN."""
        ids = np.asarray([str(name) for name in object_id], dtype=np.str_)
        unknown = np.full(len(ids), np.nan)
        ra = unknown if ra is None else np.asarray(ra, dtype=np.float64)
        dec = unknown if dec is None else np.asarray(dec, dtype=np.float64)
        return cls(ids, ra, dec, parts)

    def __post_init__(self) -> None:
        n = len(self.object_id)
        lengths = {"ra": len(self.ra), "dec": len(self.dec)} | {name: len(part) for name, part in self.parts.items()}
        wrong = {name: length for name, length in lengths.items() if length != n}
        if wrong:
            raise ShapeMismatch("Observation: rows do not agree", saw=wrong, want=f"{n}, the number of object_id")

    def __len__(self) -> int:
        return len(self.object_id)

    def __contains__(self, name: str) -> bool:
        return name in self.parts

    def __getitem__(self, name: str) -> Any:
        """A part by name. Raises MissingModality."""
        if name not in self.parts:
            raise MissingModality(saw=tuple(self.parts), want=name, hint="name another part, or read the data with it")
        return self.parts[name]

    def take(self, index: Any) -> Observation:
        """The chosen objects (a slice, integers or booleans), in the order asked for."""
        parts = {name: part.take(index) for name, part in self.parts.items()}
        return Observation(self.object_id[index], self.ra[index], self.dec[index], parts)

    def __or__(self, more: Mapping[str, Part]) -> Observation:
        """The same objects with more parts."""
        return Observation(self.object_id, self.ra, self.dec, {**self.parts, **more})


def concatenate(seen: Sequence[Observation]) -> Observation:
    """One Observation of several that hold the same parts, measured alike; spectra, light curves and lists of
    neighbours are padded to the longest. Raises ShapeMismatch where they do not fit.
    """
    if not seen or len({tuple(one.parts) for one in seen}) != 1:
        raise ShapeMismatch("parts differ", saw=[tuple(one.parts) for one in seen], want="the same parts in each")
    parts = {name: _stack(name, [one[name] for one in seen]) for name in seen[0].parts}
    ids, ra, dec = (np.concatenate([getattr(one, what) for one in seen]) for what in ("object_id", "ra", "dec"))
    return Observation(ids, ra, dec, parts)


def _stack(name: str, parts: list[Part]) -> Part:
    if len({type(part) for part in parts}) != 1:
        raise ShapeMismatch(f"{name} differs", saw=[type(part).__name__ for part in parts], want="one kind of part")
    if parts[0].ragged:
        length = max(part.length for part in parts)
        parts = [part.padded(length) for part in parts]
        if any(getattr(part, "good", None) is not None for part in parts):
            # Some say where they are good, perhaps because they were padded just now; the others are so throughout.
            parts = [replace(part, **{"good": part.where_good()}) for part in parts]
    if {isinstance(part, Image) and part.pixel_scales_arcsec is not None for part in parts} == {True, False}:
        parts = [_each_scale(part) if isinstance(part, Image) else part for part in parts]
    values = {key: _stack_field(name, key, parts) for key in (f.name for f in fields(parts[0]))}
    return type(parts[0])(**values)


def _each_scale(image: Image) -> Image:
    """The pixel scale said for each object and band, as some must."""
    scales = image.pixel_scales_arcsec
    if scales is None:
        scales = np.full(image.flux.shape[:2], image.pixel_scale_arcsec, dtype=np.float32)
    return replace(image, pixel_scales_arcsec=scales, pixel_scale_arcsec=float("nan"))


def _stack_field(name: str, key: str, parts: list[Part]) -> Any:
    each = [getattr(part, key) for part in parts]
    if key == "present":
        return None if all(one is None for one in each) else np.concatenate([part.there() for part in parts])
    if key == "columns":
        return _stack_columns(name, each)
    if key == "pixel_scale_arcsec":
        # WCS of neighbouring cut-outs differ by rounding; more than that is "differs from object to object".
        return each[0] if np.ptp(each) <= 1e-3 * abs(each[0]) else float("nan")
    if all(isinstance(one, np.ndarray) for one in each):
        if len({one.shape[1:] for one in each}) != 1:
            raise ShapeMismatch(f"{name}.{key}", saw=[one.shape[1:] for one in each], want="one shape per object")
        return np.concatenate(each)
    if any(isinstance(one, np.ndarray) for one in each) or len(set(each)) != 1:
        raise ShapeMismatch(f"{name}.{key} differs", saw=each, want="the same in each")
    return each[0]


def _stack_columns(name: str, each: list[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len({tuple(one) for one in each}) != 1:
        raise ShapeMismatch(f"{name}: columns differ", saw=[tuple(one) for one in each], want="the same in each")
    return {key: np.concatenate([one[key] for one in each]) for key in each[0]}
