"""What was seen: images, spectra, numbers, maps and light curves of the same objects, with units.

Every part holds *many* objects: its first axis counts them, also when there is one. An `Observation` joins parts by
row: row i of every part is the same object on the sky. A part that some objects lack marks them in `present`.
True is the useful side of every boolean: `present`, `good`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float, Integer, Num

from omnisky.errors import MissingModality, ShapeMismatch


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What all kinds of measurement share: rows, and which of them were really measured."""

    present: Bool[np.ndarray, " object"] | None = None
    """True where the object has this measurement; None means all have it"""

    def __len__(self) -> int:
        return len(getattr(self, self._first))

    @property
    def _first(self) -> str:
        return next(f.name for f in fields(self) if f.name not in ("present", "survey"))

    def there(self) -> Bool[np.ndarray, " object"]:
        """`present`, spelled out: one boolean per object."""
        return np.ones(len(self), dtype=bool) if self.present is None else self.present

    def _rows(self) -> dict[str, np.ndarray]:
        """The fields with one row per object."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def take(self, index: Any) -> Self:
        """The chosen rows, in the order asked for."""
        return replace(self, **{name: value[index] for name, value in self._rows().items()})

    def __post_init__(self) -> None:
        lengths = {name: len(value) if np.ndim(value) else None for name, value in self._rows().items()}
        if len(set(lengths.values())) > 1:
            raise ShapeMismatch(
                f"{type(self).__name__}: rows do not agree",
                saw=lengths,
                want="the same number of objects in each",
                hint="add an object axis to a single measurement, e.g. flux[None]",
            )

    def _demand_like(self, model: str, *names: str) -> None:
        """Refuse optional arrays that are shaped otherwise than the measurement itself."""
        want = np.shape(getattr(self, model))
        for name in names:
            value = getattr(self, name)
            if value is not None and np.shape(value) != want:
                raise ShapeMismatch(
                    f"{type(self).__name__}.{name}", saw=np.shape(value), want=f"{want}, the shape of {model}"
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class Image(Part):
    """Images on a regular pixel grid, one plane a band; rows of pixels run along axis -2."""

    flux: Num[np.ndarray, "object band height width"]
    """in `unit`"""
    bands: tuple[str, ...]
    """names of the planes, in order, e.g. ("g", "r", "z")"""
    unit: str = "nanomaggy"
    """AB nanomaggies (zero point 22.5 mag), or "display": 8-bit colour, stretched for the eye, not linear in flux"""
    survey: str = ""
    """a row of `observe.survey`, or empty"""
    pixel_scale_arcsec: float = float("nan")
    """arcsec per pixel; NaN where it differs from object to object or is not known"""
    ivar: Float[np.ndarray, "object band height width"] | None = None
    """1/unit²; 0 where a pixel says nothing"""
    good: Bool[np.ndarray, "object band height width"] | None = None
    """True where a pixel may be used"""

    def __post_init__(self) -> None:
        if np.ndim(self.flux) != 4:
            raise ShapeMismatch(
                "Image.flux", saw=np.shape(self.flux), want="(object, band, height, width)", hint="flux[None] for one"
            )
        super().__post_init__()
        if self.flux.shape[1] != len(self.bands):
            raise ShapeMismatch(
                "Image.bands",
                saw=f"{len(self.bands)} names {self.bands}",
                want=f"{self.flux.shape[1]}, one for each plane of flux {self.flux.shape}",
                hint="the order of axes is (object, band, height, width)",
            )
        self._demand_like("flux", "ivar", "good")


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum(Part):
    """Spectra in the observed frame, vacuum wavelengths; shorter ones are padded at the end, `good` is False there."""

    flux: Float[np.ndarray, "object wave"]
    """1e-17 erg s⁻¹ cm⁻² Å⁻¹"""
    wavelength_aa: Float[np.ndarray, "object wave"]
    """Å, increasing"""
    survey: str = ""
    """a row of `observe.survey`, or empty"""
    ivar: Float[np.ndarray, "object wave"] | None = None
    """1/flux²; 0 where a pixel says nothing"""
    good: Bool[np.ndarray, "object wave"] | None = None
    """True where a pixel may be used"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._demand_like("flux", "wavelength_aa", "ivar", "good")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scalars(Part):
    """Numbers measured once per object: redshifts, magnitudes, shapes, labels. NaN where not measured."""

    values: Float[np.ndarray, "object column"]
    """in `units`"""
    names: tuple[str, ...]
    """one per column"""
    units: tuple[str, ...] = ()
    """one per column, astropy unit strings; empty string for a pure number"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.values.shape[1] != len(self.names) or len(self.units) not in (0, len(self.names)):
            raise ShapeMismatch(
                "Scalars",
                saw=f"{self.values.shape[1]} columns, {len(self.names)} names, {len(self.units)} units",
                want="one name (and one unit, if any) per column",
            )

    def __getitem__(self, name: str) -> Float[np.ndarray, " object"]:
        if name not in self.names:
            raise MissingModality("no such column", saw=name, want=self.names)
        return self.values[:, self.names.index(name)]


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationMap(Part):
    """Which source each pixel belongs to: 0 for the sky, one integer per source."""

    label: Integer[np.ndarray, "object height width"]
    """0 is background"""
    pixel_scale_arcsec: float = float("nan")
    """arcsec per pixel"""


@dataclass(frozen=True, kw_only=True, eq=False)
class LightCurve(Part):
    """Brightness over time, irregularly sampled; shorter ones are padded at the end and `good` is False there."""

    flux: Float[np.ndarray, "object epoch"]
    """nanomaggy"""
    time_mjd: Float[np.ndarray, "object epoch"]
    """modified Julian date, days, float64"""
    band: Integer[np.ndarray, "object epoch"]
    """index into `bands`"""
    bands: tuple[str, ...]
    """names of the bands"""
    survey: str = ""
    """a row of `observe.survey`, or empty"""
    ivar: Float[np.ndarray, "object epoch"] | None = None
    """nanomaggy⁻²"""
    good: Bool[np.ndarray, "object epoch"] | None = None
    """True where an epoch may be used"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._demand_like("flux", "time_mjd", "band", "ivar", "good")


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
