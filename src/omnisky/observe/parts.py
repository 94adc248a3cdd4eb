"""The kinds of measurement: images, spectra, cubes, light curves, maps, lists of neighbours, numbers and labels.

Import them from `omnisky.observe.types`. Every part holds *many* objects: its first axis counts them, also when there
is one. True is the useful side of every boolean: `present`, `good`. Where objects differ in length (pixels of a
spectrum, epochs, neighbours) the shorter ones are padded at the end, with NaN and `good` False.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Bool, Float, Integer, Num

from omnisky.errors import BadValue, MissingModality, ShapeMismatch


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What all kinds of measurement share: rows, and which of them were really measured."""

    present: Bool[np.ndarray, " object"] | None = None
    """True where the object has this measurement; None means all have it"""

    ragged: ClassVar[int] = 0
    """the axis along which objects may differ in length; 0 where they may not"""

    def __len__(self) -> int:
        return len(getattr(self, self._first))

    @property
    def _first(self) -> str:
        return next(f.name for f in fields(self) if f.name not in ("present", "survey"))

    @property
    def length(self) -> int:
        """How long the ragged axis is, padding included; 0 where there is none."""
        return getattr(self, self._first).shape[self.ragged] if self.ragged else 0

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
        for name in ("present", "good"):
            value = getattr(self, name, None)
            if value is not None and np.asarray(value).dtype != np.bool_:
                raise BadValue(
                    f"{type(self).__name__}.{name}",
                    saw=np.asarray(value).dtype,
                    want="booleans, True for what may be used",
                    hint="flags that are 0 for good: flags == 0",
                )

    def padded(self, length: int) -> Self:
        """The same measurements with a ragged axis of `length`: NaN at the end, `good` False, integers and ivar 0.

        Raises BadValue where there is no ragged axis or it is longer already.
        """
        more = length - self.length
        if not self.ragged or more < 0:
            raise BadValue(f"{type(self).__name__}.padded", saw=length, want=f"{self.length} or more, on a ragged axis")
        if not more:
            return self
        values = self._rows() | {"good": self.where_good()}
        shape = values[self._first].shape[: self.ragged + 1]
        grown = {
            name: _grown(value, self.ragged, more, 0 if name == "ivar" else np.nan)
            for name, value in values.items()
            if value.shape[: self.ragged + 1] == shape
        }
        return replace(self, **grown)

    def where_good(self) -> np.ndarray:
        """`good`, spelled out: one boolean per pixel, epoch or neighbour."""
        good = getattr(self, "good", None)
        values = getattr(self, self._first)
        return np.ones(values.shape[: max(values.ndim - self._columns, 1)], dtype=bool) if good is None else good

    _columns: ClassVar[int] = 0
    """how many of the last axes of the measurement `good` does without"""

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
    """AB nanomaggies (zero point 22.5 mag); or "display": 8-bit colour, stretched for the eye, not linear in flux; or
    as the survey's row says, where pixels are not calibrated"""
    survey: str = ""
    """a row of `observe.survey`, or empty"""
    pixel_scale_arcsec: float = float("nan")
    """arcsec per pixel; NaN where it differs from object to object or is not known"""
    ivar: Float[np.ndarray, "object band height width"] | None = None
    """1/unit²; 0 where a pixel says nothing"""
    good: Bool[np.ndarray, "object band height width"] | None = None
    """True where a pixel may be used"""
    psf_fwhm_arcsec: Float[np.ndarray, "object band"] | None = None
    """full width at half maximum of the point-spread function, arcsec; NaN where not known"""
    pixel_scales_arcsec: Float[np.ndarray, "object band"] | None = None
    """arcsec per pixel, where `pixel_scale_arcsec` cannot say it in one number"""

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
        for name in ("psf_fwhm_arcsec", "pixel_scales_arcsec"):
            value = getattr(self, name)
            if value is not None and np.shape(value) != self.flux.shape[:2]:
                raise ShapeMismatch(f"Image.{name}", saw=np.shape(value), want=f"{self.flux.shape[:2]}, (object, band)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum(Part):
    """Spectra in the observed frame, vacuum wavelengths; shorter ones are padded at the end, `good` is False there."""

    ragged: ClassVar[int] = 1

    flux: Float[np.ndarray, "object wave"]
    """in `unit`"""
    wavelength_aa: Float[np.ndarray, "object wave"]
    """Å, increasing; NaN in the padding"""
    unit: str = "1e-17 erg / (s cm2 AA)"
    """astropy's spelling; another where the survey's row says so, e.g. counts"""
    survey: str = ""
    """a row of `observe.survey`, or empty"""
    lsf_sigma_pix: Float[np.ndarray, "object wave"] | None = None
    """σ of the Gaussian line-spread function, in pixels of this spectrum's own grid (not Å, not km/s)"""
    ivar: Float[np.ndarray, "object wave"] | None = None
    """1/flux²; 0 where a pixel says nothing"""
    good: Bool[np.ndarray, "object wave"] | None = None
    """True where a pixel may be used"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._demand_like("flux", "wavelength_aa", "ivar", "good", "lsf_sigma_pix")


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

    ragged: ClassVar[int] = 1

    flux: Float[np.ndarray, "object epoch"]
    """in `unit`"""
    time_mjd: Float[np.ndarray, "object epoch"]
    """modified Julian date, days, float64; NaN in the padding"""
    band: Integer[np.ndarray, "object epoch"]
    """index into `bands`"""
    bands: tuple[str, ...]
    """names of the bands"""
    unit: str = "nanomaggy"
    """AB nanomaggies; "vega nanomaggy": the same, zero point 22.5 mag in the Vega system; "native nanomaggy": in the
    system that each band has in its survey, which its row says; "electron / s": as counted"""
    survey: str = ""
    """a row of `observe.survey`, or empty"""
    ivar: Float[np.ndarray, "object epoch"] | None = None
    """1/unit²; 0 where an epoch says nothing"""
    good: Bool[np.ndarray, "object epoch"] | None = None
    """True where an epoch may be used"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._demand_like("flux", "time_mjd", "band", "ivar", "good")


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels(Part):
    """Words, whole numbers and yes-or-no, one per object: ids, classes, bit flags. Kept exactly, never through a float.

    Numbers that are measured, and may be missing, are `Scalars`.
    """

    columns: Mapping[str, np.ndarray]
    """name → (object,) array of str, bool, or an integer type of up to 64 bits"""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __post_init__(self) -> None:
        wrong = {name: value.dtype for name, value in self.columns.items() if value.dtype.kind not in "Ubiu"}
        if wrong:
            raise BadValue("Labels", saw=wrong, want="text, booleans or integers", hint="Scalars for floats")
        super().__post_init__()

    def _rows(self) -> dict[str, np.ndarray]:
        here = {} if self.present is None else {"present": self.present}
        return {**self.columns, **here}

    def take(self, index: Any) -> Self:
        """The chosen rows, in the order asked for."""
        here = None if self.present is None else self.present[index]
        return replace(self, columns={name: value[index] for name, value in self.columns.items()}, present=here)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise MissingModality("no such column", saw=name, want=tuple(self.columns))
        return self.columns[name]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cube(Part):
    """Hyperspectral images: a spectrum in each pixel, all on one wavelength grid per object; vacuum, observed frame."""

    flux: Float[np.ndarray, "object wave height width"]
    """in `unit`, per pixel"""
    wavelength_aa: Float[np.ndarray, "object wave"]
    """Å, increasing"""
    unit: str = "1e-17 erg / (s cm2 AA)"
    """astropy's spelling"""
    survey: str = ""
    """a row of `observe.survey`, or empty"""
    pixel_scale_arcsec: float = float("nan")
    """arcsec per pixel; NaN where it differs from object to object or is not known"""
    ivar: Float[np.ndarray, "object wave height width"] | None = None
    """1/unit²; 0 where a pixel says nothing"""
    good: Bool[np.ndarray, "object wave height width"] | None = None
    """True where a pixel may be used"""

    def __post_init__(self) -> None:
        if np.ndim(self.flux) != 4:
            raise ShapeMismatch("Cube.flux", saw=np.shape(self.flux), want="(object, wave, height, width)")
        super().__post_init__()
        if np.shape(self.wavelength_aa) != self.flux.shape[:2]:
            raise ShapeMismatch(
                "Cube.wavelength_aa", saw=np.shape(self.wavelength_aa), want=f"{self.flux.shape[:2]}, (object, wave)"
            )
        self._demand_like("flux", "ivar", "good")


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours(Part):
    """A catalogue of the sources around (and at) each object; shorter lists are padded at the end."""

    ragged: ClassVar[int] = 1
    _columns: ClassVar[int] = 1

    values: Float[np.ndarray, "object source column"]
    """in `units`; NaN where not measured, and in the padding"""
    names: tuple[str, ...]
    """one per column"""
    units: tuple[str, ...] = ()
    """one per column, astropy unit strings; empty string for a pure number"""
    survey: str = ""
    """a row of `observe.survey`, or empty"""
    good: Bool[np.ndarray, "object source"] | None = None
    """True where there is a source; None means everywhere"""

    def __post_init__(self) -> None:
        if np.ndim(self.values) != 3:
            raise ShapeMismatch("Neighbours.values", saw=np.shape(self.values), want="(object, source, column)")
        super().__post_init__()
        if self.values.shape[2] != len(self.names) or len(self.units) not in (0, len(self.names)):
            raise ShapeMismatch(
                "Neighbours",
                saw=f"{self.values.shape[2]} columns, {len(self.names)} names, {len(self.units)} units",
                want="one name (and one unit, if any) per column",
            )
        if self.good is not None and self.good.shape != self.values.shape[:2]:
            raise ShapeMismatch("Neighbours.good", saw=self.good.shape, want=f"{self.values.shape[:2]}")

    def __getitem__(self, name: str) -> Float[np.ndarray, "object source"]:
        if name not in self.names:
            raise MissingModality("no such column", saw=name, want=self.names)
        return self.values[:, :, self.names.index(name)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Counterpart(Part):
    """Who the object is in one survey (see `observe.join`). `present` is False where that survey has no match."""

    object_id: np.ndarray
    """the survey's own id; empty where there is none"""
    ra: Float[np.ndarray, " object"]
    """deg, ICRS, by this survey; NaN where there is none"""
    dec: Float[np.ndarray, " object"]
    """deg, ICRS, by this survey; NaN where there is none"""
    separation_arcsec: Float[np.ndarray, " object"]
    """arcsec from the object's place in the first survey; NaN where that or this has none"""


def _grown(values: np.ndarray, axis: int, more: int, fill: float) -> np.ndarray:
    """`more` further entries on this axis: False, 0, or `fill` where there are fractions."""
    number = fill if values.dtype.kind == "f" else 0
    return np.pad(values, [(0, more if i == axis else 0) for i in range(values.ndim)], constant_values=number)
