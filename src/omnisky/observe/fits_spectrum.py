"""A user's FITS spectra → Observations, in Å (vacuum) and 1e-17 erg/s/cm²/Å where the file says its unit.

    table, a row a pixel            SDSS spec-*.fits, JWST x1d, ESO's and most pipelines' own
    table, a row a spectrum         LAMOST since DR8 (one row), stacks of many objects with ids and positions
    image of five rows              LAMOST up to DR7, SDSS-I/II spSpec-*.fit
    image of one row                IRAF's and others', wavelengths by the WCS

Columns are found by their usual names. Sources: SDSS data model, spec (BOSS_SPECTRO_REDUX) and spSpec (DR7 flat files);
LAMOST LRS data release notes; FITS standard 4.0, §8.4, for spectral WCS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from omnisky.errors import CorruptFile, MissingModality, ObservationError, ShapeMismatch
from omnisky.observe.assemble import vacuum_from_air
from omnisky.observe.columns import word
from omnisky.observe.fits_file import Hdu, cards, load_hdus, position, stem
from omnisky.observe.fits_units import FLUX_UNIT, aa_of, flux_factor
from omnisky.observe.types import Observation, Scalars, Spectrum

# Lower case, in the order of preference.
_WAVE = ("wavelength", "wave", "loglam", "lambda", "lam", "wl", "wavelen", "awav", "spectral_axis", "freq", "frequency")
_FLUX = ("flux", "flux_density", "flam", "f_lambda", "spec", "spectrum", "flux_reduced", "fluxes")
_IVAR = ("ivar", "invvar", "inverse_variance", "flux_ivar")
_ERR = (
    *("err", "error", "flux_error", "flux_err", "fluxerr", "sigma", "sig", "errs", "e_flux", "err_flux"),
    *("uncertainty", "stdev", "err_reduced"),
)
_VAR = ("var", "variance", "flux_var")
_BAD = ("and_mask", "andmask", "mask", "dq", "flags", "quality", "qual")
_LSF = ("wdisp",)
_ID = ("object_id", "targetid", "specobjid", "sourceid", "source_id", "obsid", "id", "name", "object")
_RA, _DEC = ("ra", "target_ra", "plug_ra", "raj2000"), ("dec", "target_dec", "plug_dec", "dej2000")
_KEYS = (
    *(
        "TELESCOP",
        "BUNIT",
        "COEFF0",
        "COEFF1",
        "DC-FLAG",
        "DC-Flag",
        "OBSID",
        "Z",
        "Z_ERR",
        "PLATEID",
        "MJD",
        "FIBERID",
    ),
    *("VACUUM", "AIRORVAC", "CTYPE1", "CUNIT1", "CRVAL1", "CRPIX1", "CDELT1", "CD1_1", "RUN2D"),
)
_UNKNOWN_Z = -9999.0


@dataclass(frozen=True, kw_only=True)
class _Pixels:
    """What a file says of its spectra, object by pixel, in its own units and order."""

    wave: Float[np.ndarray, "object wave"]
    wave_unit: str
    flux: Float[np.ndarray, "object wave"]
    flux_unit: str
    ivar: Float[np.ndarray, "object wave"] | None = None
    bad: Bool[np.ndarray, "object wave"] | None = None
    lsf_sigma_pix: Float[np.ndarray, "object wave"] | None = None


def is_spectrum(hdus: Sequence[Hdu]) -> bool:
    """True for files of spectra, told by their headers alone."""
    return bool(_tables(hdus)) or _five_rows(hdus) or _line(hdus) is not None


def read_spectrum(
    path: Path, *, wavelength_unit: str = "", flux_unit: str = "", in_air: bool | None = None, survey: str = ""
) -> Observation:
    """The spectra of a FITS file, and where known their redshifts. The arguments say what the file does not.

    Pixels are bad where a flag is set, where flux is not finite, or where there is no inverse variance. Wavelengths in
    air (AIRORVAC, VACUUM, CTYPE1 = AWAV, or `in_air`) become those in vacuum. A flux in no known unit keeps its values
    and says so in `unit`; LAMOST's is "uncalibrated".

    Raises CorruptFile, MissingModality (no spectrum), ObservationError (unit of the wavelengths not known).
    """
    hdus = load_hdus(path)
    said = cards(path, hdus[::-1], _KEYS)
    survey = survey or _survey(said)
    if tables := _tables(hdus):
        found = {name: _from_table(table, said, survey) for name, table in tables.items()}
    elif _five_rows(hdus):
        found = {"spectrum": _from_rows(np.asarray(hdus[0].data), said, survey)}
    elif (line := _line(hdus)) is not None:
        found = {"spectrum": _from_line(line, said)}
    else:
        want = "a table with columns of wavelength and flux, or pixels in a line"
        raise MissingModality(f"{path} holds no spectrum", saw=[hdu.name for hdu in hdus], want=want)
    air = _in_air(said) if in_air is None else in_air
    parts = {name: _spectrum(path, pixels, wavelength_unit, flux_unit, air, survey) for name, pixels in found.items()}
    return _objects(path, hdus, said, survey, parts)


def _survey(said: dict[str, Any]) -> str:
    telescope = str(said.get("TELESCOP", "")).upper()
    return "lamost" if "LAMOST" in telescope else "sdss" if telescope.startswith("SDSS") else ""


def _in_air(said: dict[str, Any]) -> bool:
    vacuum = said.get("VACUUM", True)
    told = str(said.get("AIRORVAC", said.get("CTYPE1", ""))).strip().upper()
    return vacuum in (False, 0, "F") or told in ("AIR", "AWAV") or told.startswith("AWAV-")


# --- where the spectra are ----------------------------------------------------------------------------------------


def _tables(hdus: Sequence[Hdu]) -> dict[str, Hdu]:
    """The tables of spectra by the part that they become: the first, or LAMOST's two arms of medium resolution."""
    found = [hdu for hdu in hdus if _first(hdu, _WAVE) and _first(hdu, _FLUX) and not _is_catalogue(hdu)]
    arms = {hdu.name: hdu for hdu in found if hdu.name in ("COADD_B", "COADD_R")}
    if len(arms) == 2:
        return {"spectrum_b": arms["COADD_B"], "spectrum_r": arms["COADD_R"]}
    return {"spectrum": found[0]} if found else {}


def _is_catalogue(table: Hdu) -> bool:
    """A table of objects in which flux is one number: wavelength and flux of an emission line, say."""
    cell = str(table.header.get(f"TFORM{table.columns[_first(table, _FLUX)]}", "")).strip()
    many = any(letter in cell for letter in "PQ") or (cell[:-1].isdigit() and int(cell[:-1]) > 1)
    return not many and bool(_first(table, _RA) and _first(table, _DEC))


def _first(table: Hdu, names: Sequence[str]) -> str:
    """Which of the names a table has; empty if none."""
    return next((name for name in names if name in table.columns), "")


def _five_rows(hdus: Sequence[Hdu]) -> bool:
    """Up to LAMOST DR7, and SDSS-I/II: rows of flux, … with the logarithmic grid in COEFF0 and COEFF1."""
    return len(hdus[0].shape) == 2 and 3 <= hdus[0].shape[0] <= 6 and {"COEFF0", "COEFF1"} <= set(hdus[0].header)


def _line(hdus: Sequence[Hdu]) -> Hdu | None:
    lines = [hdu for hdu in hdus if len(hdu.shape) == 1 and hdu.shape[0] > 1 and "CRVAL1" in hdu.header]
    return lines[0] if lines and not any(hdu.is_image for hdu in hdus) else None


# --- files → pixels -----------------------------------------------------------------------------------------------


def _from_table(table: Hdu, said: dict[str, Any], survey: str) -> _Pixels:
    def get(names: Sequence[str]) -> np.ndarray | None:
        name = _first(table, names)
        return _rows(table.column(name)) if name else None

    def unit(names: Sequence[str]) -> str:
        return str(table.header.get(f"TUNIT{table.columns[_first(table, names)]}", "")).strip()

    wave, flux = get(_WAVE), get(_FLUX)
    assert wave is not None and flux is not None
    if len(wave) == 1 and len(flux) > 1:
        wave = np.broadcast_to(wave, flux.shape)
    told = unit(_WAVE) or ("Angstrom" if survey == "lamost" else "")
    bad = get(_BAD)
    return _Pixels(
        wave=wave,
        wave_unit="log" if _first(table, _WAVE) == "loglam" else told,
        flux=flux,
        flux_unit=unit(_FLUX) or str(said.get("BUNIT", "")),
        ivar=_ivar(get(_IVAR), get(_ERR), get(_VAR)),
        bad=None if bad is None else np.nan_to_num(bad, nan=1) != 0,
        lsf_sigma_pix=get(_LSF),
    )


def _rows(values: np.ndarray) -> Float[np.ndarray, "object wave"]:
    """A column as (object, pixel): cells are objects; single numbers are the pixels of one. Short cells end in NaN."""
    if values.dtype != object:
        return np.atleast_2d(values).astype(np.float64).reshape(len(values) if values.ndim > 1 else 1, -1)
    out = np.full((len(values), max(map(len, values), default=0)), np.nan)
    for row, cell in zip(out, values, strict=True):
        row[: len(cell)] = cell
    return out


def _from_rows(rows: np.ndarray, said: dict[str, Any], survey: str) -> _Pixels:
    """LAMOST: flux, ivar, wavelength, and-mask, or-mask. spSpec: flux, flux less continuum, error, flags, sky."""
    rows = rows.astype(np.float64)
    grid = float(said["COEFF0"]) + float(said["COEFF1"]) * np.arange(rows.shape[1])
    ivar = _ivar(rows[1:2], None, None) if survey == "lamost" else _ivar(None, rows[2:3], None)
    bad = rows[3:4] if len(rows) > 3 else None
    return _Pixels(
        wave=grid[None],
        wave_unit="log",
        flux=rows[:1],
        flux_unit=str(said.get("BUNIT", "")),
        ivar=ivar,
        bad=None if bad is None else bad != 0,
    )


def _from_line(line: Hdu, said: dict[str, Any]) -> _Pixels:
    """CRVAL1 + (pixel − CRPIX1) × CD1_1 or CDELT1; log10 of it where DC-FLAG is 1, natural where CTYPE1 is *-LOG."""
    step = float(said.get("CD1_1", said.get("CDELT1", 1.0)))
    start, at = float(said["CRVAL1"]), np.arange(line.shape[0]) + 1 - float(said.get("CRPIX1", 1.0))
    kind = str(said.get("CTYPE1", "")).upper()
    unit = str(said.get("CUNIT1", "")).strip()
    wave = start * np.exp(at * step / start) if kind.endswith("-LOG") else start + at * step
    if said.get("DC-FLAG") == 1 or kind in ("LOGLAM", "LOG(LAM)"):
        unit = "log"
    flux = np.asarray(line.data, dtype=np.float64)[None]
    return _Pixels(wave=wave[None], wave_unit=unit, flux=flux, flux_unit=str(said.get("BUNIT", "")))


def _ivar(ivar: np.ndarray | None, err: np.ndarray | None, var: np.ndarray | None) -> np.ndarray | None:
    """1/unit², 0 where the file's is no positive number."""
    given, power = (ivar, 1) if ivar is not None else (err, -2) if err is not None else (var, -1)
    if given is None:
        return None
    known = np.isfinite(given) & (given > 0)
    return np.power(given, power, out=np.zeros(given.shape), where=known)


# --- pixels → parts -----------------------------------------------------------------------------------------------


def _spectrum(path: Path, pixels: _Pixels, wave_unit: str, flux_unit: str, air: bool, survey: str) -> Spectrum:
    others = {"ivar": pixels.ivar, "bad": pixels.bad, "lsf_sigma_pix": pixels.lsf_sigma_pix, "wave": pixels.wave}
    wrong = {key: one.shape for key, one in others.items() if one is not None and one.shape != pixels.flux.shape}
    if wrong:
        raise ShapeMismatch(str(path), saw=wrong, want=f"{pixels.flux.shape}, the shape of flux")
    try:
        wave = aa_of(pixels.wave, wave_unit or pixels.wave_unit)
    except ValueError as error:
        raise ObservationError(
            f"{path}: unit of the wavelengths not known",
            saw=error,
            want="Angstrom, nm, um, Hz …",
            hint='omnisky.observe.fits_spectrum.read_spectrum(path, wavelength_unit="Angstrom")',
        ) from error
    wave = vacuum_from_air(wave) if air else wave
    order = np.argsort(wave, axis=1, kind="stable")  # NaN, of short cells, to the end

    def sorted_(values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, order, axis=1)

    wave, flux, unit = sorted_(wave), sorted_(pixels.flux), flux_unit or pixels.flux_unit
    ivar = None if pixels.ivar is None else sorted_(pixels.ivar)
    factor = None if survey == "lamost" else flux_factor(unit, wave)
    if factor is not None:
        flux, ivar = flux * factor, None if ivar is None else ivar / factor**2
    good = np.isfinite(flux) & np.isfinite(wave)
    good = good if ivar is None else good & (ivar > 0)
    return Spectrum(
        flux=flux.astype(np.float32),
        wavelength_aa=wave,
        unit=FLUX_UNIT if factor is not None else "uncalibrated" if survey == "lamost" else unit,
        survey=survey,
        ivar=None if ivar is None else np.where(np.isfinite(wave), ivar, 0).astype(np.float32),
        good=good if pixels.bad is None else good & ~sorted_(pixels.bad),
        lsf_sigma_pix=None if pixels.lsf_sigma_pix is None else sorted_(pixels.lsf_sigma_pix).astype(np.float32),
    )


def _objects(
    path: Path, hdus: Sequence[Hdu], said: dict[str, Any], survey: str, parts: dict[str, Spectrum]
) -> Observation:
    """Names, positions and redshifts: of many from their table, of one from the headers or SDSS's table beside it."""
    n = len(next(iter(parts.values())))
    table = next(iter(_tables(hdus).values()), None)
    if n > 1 and table is not None:
        ids = _first(table, _ID)
        names = (
            [word(one) for one in table.column(ids).tolist()] if ids else [f"{stem(path)}-{i:05d}" for i in range(n)]
        )
        place = [table.column(one).astype(np.float64) if (one := _first(table, key)) else None for key in (_RA, _DEC)]
        return Observation.of(names, *place) | parts
    known = _sdss_row(hdus) if survey == "sdss" else {}
    ra, dec = position(path, hdus)
    name = known.get("specobjid") or said.get("OBSID") if survey else None
    if not name and survey == "sdss" and {"PLATEID", "MJD", "FIBERID"} <= set(said):
        name = f"{said['PLATEID']:04d}-{said['MJD']}-{said['FIBERID']:04d}"
    seen = Observation.of(
        [str(name or stem(path)).strip()], [known.get("plug_ra", ra)], [known.get("plug_dec", dec)], **parts
    )
    given = {"redshift": known.get("z", said.get("Z")), "redshift_err": known.get("z_err", said.get("Z_ERR"))}
    given["redshift_warning"] = known.get("zwarning")
    try:
        values = {key: float(value) for key, value in given.items() if value is not None}
    except (TypeError, ValueError) as error:
        raise CorruptFile(f"{path}, redshift", saw=error, want="numbers") from error
    values = {key: np.nan if value == _UNKNOWN_Z else value for key, value in values.items()}
    if not values or not survey:
        return seen
    return seen | {
        "scalars": Scalars(values=np.array([list(values.values())]), names=tuple(values), units=("",) * len(values))
    }


def _sdss_row(hdus: Sequence[Hdu]) -> dict[str, Any]:
    """What the table of one row (SPECOBJ, SPALL) of a spec file says."""
    row = next((hdu for hdu in hdus if hdu.name in ("SPECOBJ", "SPALL") or "zwarning" in hdu.columns), None)
    if row is None or len(row.data) != 1:
        return {}
    told = {
        name: row.column(name)[0] for name in ("plug_ra", "plug_dec", "z", "z_err", "zwarning") if name in row.columns
    }
    if "specobjid" in row.columns:
        told["specobjid"] = word(row.column("specobjid")[0]).strip()
    return told
