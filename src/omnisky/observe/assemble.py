"""Columns → parts, as a survey's row says: units, padding, band order, one convention.

Positions and times are float64, what was padded is NaN and `good` False. With `observe.columns` this is the one place
where the traps of the Multimodal Universe's files are mended.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from omnisky.errors import BandMismatch, ShapeMismatch
from omnisky.observe.columns import Columns, Given, as_float, band_words, column, native, words
from omnisky.observe.survey import PartRow
from omnisky.observe.types import Cube, Image, LightCurve, Neighbours, Part, Scalars, SegmentationMap, Spectrum

HC_KEV_AA = 12.398419843320026  # Planck constant × speed of light, keV Å; exact in the SI of 2019


def part_of(row: PartRow, columns: Columns, survey: str, bands: tuple[str, ...] = ()) -> Part:
    """The part that the row describes. `bands`: of light curves whose files name their own.

    Raises BandMismatch, ShapeMismatch, MissingModality and BadPixels, which do not know the file: who calls names it.
    """
    given = Given(row, columns)
    made: Part
    if row.kind is Image:
        made = _image(given, survey)
    elif row.kind is Spectrum:
        made = _spectrum(given, survey)
    elif row.kind is LightCurve:
        made = _light_curve(given, survey, bands)
    elif row.kind is Cube:
        made = _cube(given, survey)
    elif row.kind is Neighbours:
        made = _neighbours(given, survey)
    elif row.kind is SegmentationMap:
        made = SegmentationMap(label=given.need("label"), pixel_scale_arcsec=row.pixel_scale_arcsec)
    else:
        made = _vector(given)
    return made


# --- images -------------------------------------------------------------------------------------------------------


def _image(given: Given, survey: str) -> Image:
    row = given.row
    flux = np.moveaxis(given.need("flux"), row.band_axis, 1)
    if flux.ndim != 4:
        raise ShapeMismatch(f"{row.name}: {column(row, 'flux', given.columns)}", saw=flux.shape, want="4 axes")
    flux = given.scaled(np.ascontiguousarray(flux), row.factor)
    good = given.good(flux.shape)
    if flux.dtype.kind == "f" and not np.isfinite(flux).all():
        good = np.isfinite(flux) if good is None else good & np.isfinite(flux)
    bands, order = _bands(given, flux.shape[1])
    scales = _in_order(_per_band(given, "pixel_scale_arcsec", flux.shape[:2]), order)
    scale = row.pixel_scale_arcsec
    if scales is not None and np.isfinite(scales).any() and np.nanmax(scales) - np.nanmin(scales) < 1e-6:
        # One scale for all. Files hold it as a float32; where the row has the same number, the row knows it better.
        known = float(np.nanmax(scales))
        scale, scales = (scale if abs(scale - known) < 1e-6 else known), None
    if order is not None and (order < 0).any():
        good = np.ones(flux.shape, dtype=bool) if good is None else good
    return Image(
        flux=_in_order(flux, order),
        bands=bands,
        unit=row.unit or "nanomaggy",
        survey=survey,
        pixel_scale_arcsec=scale if scales is None else float("nan"),
        pixel_scales_arcsec=scales,
        ivar=_in_order(given.ivar(flux.dtype), order, fill=0),
        good=_in_order(good, order),
        psf_fwhm_arcsec=_in_order(_per_band(given, "psf_fwhm_arcsec", flux.shape[:2]), order),
    )


def _bands(given: Given, planes: int) -> tuple[tuple[str, ...], Integer[np.ndarray, " band"] | None]:
    """Our bands, and for each the file's plane, -1 if it has none; no order where they agree as they stand."""
    row, named = given.row, given.get("band")
    if named is None:
        if planes != len(row.bands):
            raise BandMismatch(row.name, saw=f"{planes} planes", want=row.bands)
        return row.bands, None
    rows = {tuple(words(one)) for one in named}
    if len(rows) > 1:
        raise BandMismatch(f"{row.name}: bands differ from object to object", saw=sorted(rows), want="one order a file")
    if not rows or not row.bands:  # no objects; or planes of a survey's own making, under the names they have
        return (rows.pop() if rows else row.bands), None
    theirs, ours = [name.lower() for name in rows.pop()], [name.lower() for name in row.file_bands or row.bands]
    if not set(theirs) <= set(ours) or len(theirs) != planes:
        raise BandMismatch(f"{row.name}, {planes} planes", saw=theirs, want=tuple(ours))
    order = np.array([theirs.index(name) if name in theirs else -1 for name in ours])
    return row.bands, None if order.tolist() == list(range(planes)) else order


def _in_order(values: np.ndarray | None, order: Integer[np.ndarray, " band"] | None, fill: float = np.nan) -> Any:
    """Planes in our order; those a file lacks are `fill`, or 0 and False where there are no fractions."""
    if values is None or order is None:
        return values
    chosen = values[:, order]
    chosen[:, order < 0] = fill if values.dtype.kind == "f" else 0
    return chosen


def _per_band(given: Given, key: str, shape: tuple[int, ...]) -> Float[np.ndarray, "object band"] | None:
    """A number per object and band, also where the file has one per object."""
    values = given.get(key)
    if values is None:
        return None
    values = as_float(values[:, None] if values.ndim == 1 else values)
    if values.shape[0] != shape[0] or values.shape[1] not in (1, shape[1]):
        raise ShapeMismatch(f"{given.row.name}.{key}", saw=values.shape, want=shape)
    return np.broadcast_to(values, shape).copy()


# --- spectra ------------------------------------------------------------------------------------------------------


def _spectrum(given: Given, survey: str) -> Spectrum:
    row = given.row
    given = Given(row, {name: _dense(values) for name, values in given.columns.items()})
    flux = given.scaled(as_float(given.need("flux")), row.factor)
    shape = flux.shape
    fields = {"flux": flux, "wave": _wavelength(given, shape)}
    ivar = given.ivar(flux.dtype)
    if ivar is not None:
        fields["ivar"] = ivar
    lsf = given.get("lsf_sigma_pix")
    if lsf is not None:  # early files have one for the whole spectrum
        fields["lsf"] = np.broadcast_to(as_float(lsf[:, None] if lsf.ndim == 1 else lsf), shape).copy()
    valid = np.isfinite(fields["wave"]) & (fields["wave"] > 0) & ~np.isin(fields["wave"], row.padding)
    good = given.good(shape)
    good = valid & np.isfinite(fields["flux"]) if good is None else valid & np.isfinite(fields["flux"]) & good
    if ivar is not None:
        good &= ivar > 0
    for key, values in fields.items():
        fields[key] = np.where(valid, values, 0 if key == "ivar" else np.nan).astype(values.dtype)
    if row.columns.get("energy_kev"):  # energies rise where wavelengths fall; the padding stays at the end
        at = np.argsort(np.where(valid, fields["wave"], np.inf), axis=1, kind="stable")
        fields = {key: np.take_along_axis(values, at, axis=1) for key, values in fields.items()}
        good, valid = np.take_along_axis(good, at, axis=1), np.take_along_axis(valid, at, axis=1)
    used = int(np.flatnonzero(valid.any(axis=0)).max(initial=-1)) + 1  # what pads every object is no spectrum
    return Spectrum(
        flux=fields["flux"][:, :used],
        wavelength_aa=fields["wave"][:, :used],
        unit=row.unit or Spectrum.unit,
        survey=survey,
        lsf_sigma_pix=fields["lsf"][:, :used] if "lsf" in fields else None,
        ivar=fields["ivar"][:, :used] if "ivar" in fields else None,
        good=good[:, :used],
    )


def _dense(values: np.ndarray) -> np.ndarray:
    """Rows of different lengths as one array, NaN after their end."""
    if values.dtype != object:
        return native(values)
    length = max((len(one) for one in values), default=0)
    dense = np.full((len(values), length), np.nan)
    for row, one in zip(dense, values, strict=True):
        row[: len(one)] = one
    return dense


def _wavelength(given: Given, shape: tuple[int, ...]) -> np.ndarray:
    """Å, in vacuum."""
    energy = given.get("energy_kev")
    if energy is not None:
        energy = energy.astype(np.float64)
        return np.divide(HC_KEV_AA, energy, out=np.full(energy.shape, np.nan), where=energy > 0)
    wave = as_float(given.need("wavelength_aa"))
    if wave.shape != shape:
        raise ShapeMismatch(f"{given.row.name}: wavelengths", saw=wave.shape, want=shape)
    return vacuum_from_air(wave.astype(np.float64)) if given.row.air else wave


def vacuum_from_air(wavelength_aa: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """Å in standard air → Å in vacuum, the inverse of Morton (2000, ApJS 130, 403, eq. 8) by N. Piskunov, as VALD
    (Ryabchikova et al. 2015, Phys. Scr. 90, 054005) uses it: together they close to 1e-6 Å. Below 2000 Å: unchanged.
    """
    optical = wavelength_aa > 2000
    s2 = (1e4 / np.where(optical, wavelength_aa, 5000.0)) ** 2
    n = 1 + 8.336624212083e-5 + 2.408926869968e-2 / (130.1065924522 - s2) + 1.599740894897e-4 / (38.92568793293 - s2)
    return np.where(optical, wavelength_aa * n, wavelength_aa)


# --- light curves -------------------------------------------------------------------------------------------------


def _light_curve(given: Given, survey: str, bands: tuple[str, ...]) -> LightCurve:
    """Bands one after another, padded each → one list of epochs in order of time, padded at the end."""
    row, stack = given.row, given.get("stack")
    flux, ivar = _brightness(given)
    time = given.need("time") if stack is None else stack[:, :, 0]
    shape = flux.shape if flux.ndim == 3 else (len(flux), 1, flux.shape[1])
    time, flux = np.broadcast_to(time.reshape(len(time), -1, shape[2]), shape), flux.reshape(shape)
    band, bands = _band_of(given, shape, bands or row.bands)
    valid = np.isfinite(time) & ~np.isin(time, row.padding) & np.isfinite(flux)
    order = np.argsort(np.where(valid, time, np.inf).reshape(len(time), -1), axis=1, kind="stable")
    used = int(valid.sum(axis=(1, 2)).max(initial=0))

    def tidy(values: np.ndarray, fill: float) -> np.ndarray:
        kept = np.where(valid, values.reshape(shape), fill).reshape(len(values), -1)
        return np.take_along_axis(kept, order, axis=1)[:, :used]

    good = given.good(flux.shape)
    return LightCurve(
        flux=tidy(flux, np.nan).astype(flux.dtype),
        time_mjd=tidy(time.astype(np.float64) + row.time_offset_mjd, np.nan),
        band=tidy(band, 0).astype(np.int64),
        bands=bands,
        unit=row.unit or "nanomaggy",
        survey=survey,
        ivar=None if ivar is None else tidy(ivar, 0).astype(flux.dtype),
        good=tidy(valid if good is None else valid & good, 0).astype(bool),
    )


def _brightness(given: Given) -> tuple[np.ndarray, np.ndarray | None]:
    """Flux and 1/σ², both in our unit, out of fluxes or magnitudes."""
    row, stack = given.row, given.get("stack")
    if stack is not None:
        row = replace(row, columns={"flux": ("flux",), "err": ("err",)})
        given = Given(row, {"flux": stack[:, :, 1], "err": stack[:, :, 2]})
    mag = given.get("mag")
    if mag is None:
        flux = as_float(given.need("flux"))
        return given.scaled(flux, row.factor), given.ivar(flux.dtype)
    mag = mag.astype(np.float64)
    flux, err = 10 ** (0.4 * (22.5 - mag)), given.need("mag_err").astype(np.float64)
    # A builder of the CfA sets wrote the magnitude itself into the column of errors: that is no error.
    known = np.isfinite(err) & np.isfinite(flux) & (err > 0) & (err != mag)
    sigma = np.where(known, err, 1) * flux * np.log(10) / 2.5
    return flux.astype(np.float32), np.where(known, sigma**-2, 0).astype(np.float32)


def _band_of(
    given: Given, shape: tuple[int, ...], bands: tuple[str, ...]
) -> tuple[Integer[np.ndarray, "object band epoch"], tuple[str, ...]]:
    """Index into `bands` of every epoch."""
    named = given.get("band")
    if named is None:
        if shape[1] != len(bands):
            raise BandMismatch(given.row.name, saw=f"{shape[1]} bands", want=bands)
        rows = np.broadcast_to(np.arange(len(bands)), shape[:2])
    else:
        theirs = [band_words(one) for one in named]
        unknown = {name for one in theirs for name in one} - set(bands)
        if unknown or any(len(one) != shape[1] for one in theirs):
            raise BandMismatch(given.row.name, saw=theirs[0], want=f"{shape[1]} of {' '.join(bands)}")
        rows = np.array([[bands.index(name) for name in one] for one in theirs], dtype=np.int64).reshape(shape[:2])
    return np.broadcast_to(rows[:, :, None], shape), bands


# --- the rest -----------------------------------------------------------------------------------------------------


def _neighbours(given: Given, survey: str) -> Neighbours:
    """Lists that were filled up with zeros: a source is where any of its columns is not zero."""
    row = given.row
    here = [name for name in row.names if f"{row.prefix}{name}" in given.columns]
    each = [native(given.columns[f"{row.prefix}{name}"]) for name in here]
    values = np.stack([as_float(one) for one in each], axis=-1)
    good = (values != 0).any(axis=-1) & np.isfinite(values).any(axis=-1)
    units = dict(zip(row.names, row.units, strict=True)) if row.units else {}
    return Neighbours(
        values=np.where(good[..., None], values, np.nan).astype(values.dtype),
        names=tuple(here),
        units=tuple(units.get(name, "").strip("-") for name in here),
        survey=survey,
        good=good,
    )


def _vector(given: Given) -> Scalars:
    """A column of many numbers per object, one column of scalars for each."""
    values = as_float(given.need("values"))
    flat = values.reshape(len(values), -1)
    names = given.row.names or tuple("_".join(map(str, at)) for at in np.ndindex(values.shape[1:]))
    return Scalars(values=flat, names=names, units=given.row.units)


def _cube(given: Given, survey: str) -> Cube:
    """One row per spaxel, anywhere in the table, each with its pixel → (object, wave, height, width)."""
    row = given.row
    x, y, flux = (given.need(key).astype(np.int64) if key != "flux" else given.need(key) for key in ("x", "y", "flux"))
    height, width = int(y.max(initial=-1)) + 1, int(x.max(initial=-1)) + 1
    if min(x.min(initial=0), y.min(initial=0)) < 0:
        raise ShapeMismatch(f"{row.name}: pixels of spaxels", saw="negative ones", want="0, 1, …")

    def placed(values: np.ndarray | None) -> Any:
        if values is None:
            return None
        cube = np.zeros((len(values), values.shape[2], height, width), dtype=values.dtype)
        for one, of, at_x, at_y in zip(cube, values, x, y, strict=True):
            one[:, at_y, at_x] = of.T
        return cube

    scale = given.get("pixel_scale_arcsec")
    same = scale is not None and np.ptp(scale) == 0
    good = given.good(flux.shape)
    good = np.isfinite(flux) if good is None else good & np.isfinite(flux)
    return Cube(
        flux=placed(given.scaled(as_float(flux), row.factor)),
        wavelength_aa=as_float(given.need("wavelength_aa"))[:, 0],  # builders repeat it for every spaxel
        unit=row.unit or Cube.unit,
        survey=survey,
        pixel_scale_arcsec=float(scale[0]) if scale is not None and same else row.pixel_scale_arcsec,
        ivar=placed(given.ivar(as_float(flux).dtype)),
        good=placed(good),
    )
