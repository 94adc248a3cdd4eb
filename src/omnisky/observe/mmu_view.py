"""Parts as MMU's own loaders want them, where a survey's files are no plain columns: `observe.assemble` backwards.

Light curves band by band, magnitudes, standard deviations, energies, wavelengths in air, cubes spaxel by spaxel. Not
all of that can be undone to the last bit; `observe.mmu_header` sees to it that nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

from omnisky.observe.assemble import HC_KEV_AA, vacuum_from_air
from omnisky.observe.columns import word
from omnisky.observe.survey import MmuRow, PartRow
from omnisky.observe.types import Cube, Image, LightCurve, Part, Spectrum


def has_view(row: PartRow) -> bool:
    """Whether files of this row hold the part otherwise than column by column."""
    names = [name for names in row.columns.values() for name in names]
    return row.kind is LightCurve or row.air or bool({"err", "energy_kev"} & set(row.columns)) or "." in "".join(names)


def view(part: Part, row: PartRow) -> dict[str, np.ndarray]:
    """The columns of the row that can be made of the part, axis 0 counts objects; none if it is of other bands."""
    made: dict[str, Any] = {}
    if isinstance(part, LightCurve):
        made = _light_curve(part, row)
    elif isinstance(part, Spectrum):
        made = _spectrum(part, row)
    elif isinstance(part, Cube):
        made = _cube(part, row)
    elif isinstance(part, Image):
        made = _image(part, row)
    return {row.columns[key][0]: values for key, values in made.items() if key in row.columns and values is not None}


def _sigma(ivar: np.ndarray | None, like: np.ndarray, factor: float) -> np.ndarray:
    """In the file's unit; 0 where there is none."""
    known = np.zeros(like.shape, dtype=bool) if ivar is None else ivar > 0
    root = np.sqrt(np.where(known, ivar, 1.0).astype(np.float64)) if ivar is not None else np.ones(like.shape)
    return np.where(known, 1 / (root * factor), 0.0)


def _unscaled(values: np.ndarray, factor: float) -> np.ndarray:
    return values if factor == 1 else values.astype(np.float64) / factor


# --- light curves -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Places:
    """Where each good epoch goes in (object, band, epoch)."""

    at: tuple[Integer[np.ndarray, " good"], ...]
    chosen: Bool[np.ndarray, "object epoch"]
    shape: tuple[int, int, int]

    def __call__(self, values: np.ndarray, fill: float) -> Shaped[np.ndarray, "object band epoch"]:
        out = np.full(self.shape, fill, dtype=values.dtype)
        out[self.at] = values[self.chosen]
        return out


def _places(part: LightCurve) -> _Places:
    """Epochs of a band one after another in the order they have."""
    n_bands = len(part.bands)
    chosen = part.where_good() & np.isfinite(part.time_mjd) & np.isfinite(part.flux)
    chosen &= (part.band >= 0) & (part.band < n_bands)
    rank = np.zeros(part.band.shape, dtype=np.int64)
    for k in range(n_bands):
        mine = chosen & (part.band == k)
        rank = np.where(mine, np.cumsum(mine, axis=1) - 1, rank)
    objects = np.nonzero(chosen)[0]
    longest = int(rank[chosen].max(initial=0)) + 1  # also where there is no epoch at all: loaders want an axis
    return _Places((objects, part.band[chosen], rank[chosen]), chosen, (len(part), n_bands, longest))


def _light_curve(part: LightCurve, row: PartRow) -> dict[str, Any]:
    plain = all("," not in band and band and word(band) == band for band in part.bands)
    if (row.bands and row.bands != part.bands) or not plain or not part.bands:
        return {}
    place = _places(part)
    time = place(part.time_mjd - row.time_offset_mjd, row.padding[0] if row.padding else np.nan)
    flux = place(_unscaled(part.flux, row.factor), 0)
    err = place(_sigma(part.ivar, part.flux, row.factor), 0)
    if "stack" in row.columns:
        return {"stack": np.stack([time, flux, err], axis=2)}
    made = {"time": time, "flux": flux, "err": err}
    if "mag" in row.columns:
        made |= _magnitudes(flux, err, place)
    if "band" not in row.columns:  # of one band: no axis for it
        return {key: values[:, 0] for key, values in made.items()}
    return made | {"band": np.array([",".join(part.bands).encode()] * len(part))}


def _magnitudes(flux: np.ndarray, err: np.ndarray, place: _Places) -> dict[str, np.ndarray]:
    """NaN where there is no light to take the logarithm of; 0 in the padding."""
    here = place(np.ones(place.chosen.shape, dtype=bool), 0)
    bright = np.where(flux > 0, flux, np.nan).astype(np.float64)
    mag, mag_err = 22.5 - 2.5 * np.log10(bright), 2.5 / np.log(10) * err / bright
    return {"mag": np.where(here, mag, 0), "mag_err": np.where(here, mag_err, 0)}


# --- spectra ------------------------------------------------------------------------------------------------------


def _spectrum(part: Spectrum, row: PartRow) -> dict[str, Any]:
    flux, err = _unscaled(part.flux, row.factor), _sigma(part.ivar, part.flux, row.factor)
    if "energy_kev" in row.columns:
        return _by_energy(part, flux, err)
    wave = air_from_vacuum(part.wavelength_aa.astype(np.float64)) if row.air else part.wavelength_aa
    wave = np.where(np.isnan(wave), row.padding[0], wave) if row.padding else wave
    ivar = None if part.ivar is None else _unscaled(part.ivar, row.factor**-2)
    bad = None if part.good is None else ~part.good
    return {"flux": flux, "err": err, "ivar": ivar, "wavelength_aa": wave, "bad": bad}


def _by_energy(part: Spectrum, flux: np.ndarray, err: np.ndarray) -> dict[str, Any]:
    """Rising energies, rows of different lengths."""
    each: dict[str, list[np.ndarray]] = {"energy_kev": [], "flux": [], "err": []}
    for i, wave in enumerate(part.wavelength_aa):
        at = np.flatnonzero(wave > 0)
        at = at[np.argsort(-wave[at], kind="stable")]
        for key, values in (("energy_kev", HC_KEV_AA / wave[at]), ("flux", flux[i, at]), ("err", err[i, at])):
            each[key].append(np.asarray(values, dtype=np.float64))
    ragged = {}
    for key, rows in each.items():
        ragged[key] = np.empty(len(rows), dtype=object)
        for i, one in enumerate(rows):
            ragged[key][i] = one
    return ragged


def air_from_vacuum(wavelength_aa: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """Å in vacuum → Å in standard air: `vacuum_from_air` backwards, to 1e-9 Å."""
    air = wavelength_aa
    for _ in range(4):  # each step gains four digits
        air = air + (wavelength_aa - vacuum_from_air(air))
    return air


# --- cubes and images of groups -----------------------------------------------------------------------------------


def _cube(part: Cube, row: PartRow) -> dict[str, Any]:
    """One row per spaxel, row by row of pixels."""
    n, length, height, width = part.flux.shape
    y, x = (np.tile(one.ravel(), (n, 1)) for one in np.indices((height, width), dtype=np.int16))

    def spaxels(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else np.moveaxis(values, 1, -1).reshape(n, height * width, length)

    return {
        "flux": spaxels(_unscaled(part.flux, row.factor)),
        "ivar": spaxels(None if part.ivar is None else _unscaled(part.ivar, row.factor**-2)),
        "bad": spaxels(np.where(_good(part), 0, row.bad_bits).astype(np.int64)),
        "wavelength_aa": np.repeat(part.wavelength_aa[:, None], height * width, axis=1),
        "x": x,
        "y": y,
        "pixel_scale_arcsec": np.full(n, part.pixel_scale_arcsec),
    }


def _image(part: Image, row: PartRow) -> dict[str, Any]:
    names = dict(zip(row.bands, row.file_bands, strict=True)) if row.file_bands else {}
    bands = np.array([names.get(band, band).encode() for band in part.bands])
    return {
        "flux": _unscaled(part.flux, row.factor),
        "ivar": None if part.ivar is None else _unscaled(part.ivar, row.factor**-2),
        "bad": np.where(_good(part), 0, row.bad_bits).astype(np.int64),
        "band": np.tile(bands, (len(part), 1)),
        "psf_fwhm_arcsec": part.psf_fwhm_arcsec,
    }


def _good(part: Image | Cube) -> np.ndarray:
    return np.isfinite(part.flux) if part.good is None else part.good


def grouped(columns: Mapping[str, np.ndarray], i: int, row: MmuRow) -> dict[str, Any]:
    """What goes into the group of object `i`: its numbers and arrays, and the compound tables of the row."""
    made: dict[str, Any] = {name: values[i] for name, values in columns.items() if "." not in name}
    made |= {name: np.array(text.encode()) for name, text in row.constants.items()}
    for table, order in row.tables.items():
        given = {name: columns[f"{table}.{name}"][i] for name in order if f"{table}.{name}" in columns}
        if given:
            made[table] = _compound(order, given)
    return made


def _compound(order: tuple[str, ...], given: Mapping[str, np.ndarray]) -> np.ndarray:
    """One table, its fields in this order. What we do not know is NaN, or empty text."""
    like = given["flux"]
    filled = {name: given[name] if name in given else _unknown(name, like) for name in order}
    kinds = [(name, values.dtype, values.shape[1:]) for name, values in filled.items()]
    table = np.zeros(len(like), dtype=kinds)
    for name, values in filled.items():
        table[name] = values
    return table


def _unknown(name: str, like: np.ndarray) -> np.ndarray:
    if name.endswith("units") or name in ("group", "label", "filter"):
        return np.zeros(len(like), dtype="S1")
    if name == "spaxel_idx":
        return np.arange(len(like), dtype=np.int32)
    of_pixels = name in ("lsf", "psf", "ivar", "mask")
    return np.full(like.shape if of_pixels else len(like), np.nan, dtype=np.float32)
