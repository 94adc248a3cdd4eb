"""A user's FITS cubes → one Cube of one object: MaNGA, MUSE, and whatever has a spectral third axis."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omnisky.errors import CorruptFile, ObservationError, ShapeMismatch
from omnisky.observe.assemble import vacuum_from_air
from omnisky.observe.fits_file import Hdu, cards, load_hdus, stem
from omnisky.observe.fits_image import place_of
from omnisky.observe.fits_units import FLUX_UNIT, aa_of, flux_factor
from omnisky.observe.types import Cube, Observation

_SPECTRAL = ("WAVE", "AWAV", "LAMBDA", "FREQ", "ENER", "WAVN")
_SPREAD = {"IVAR": -2, "STAT": 2, "VARIANCE": 2, "VAR": 2, "ERR": 1, "ERROR": 1, "SIGMA": 1}
_DONOTUSE = 1 << 10
"""of MANGA_DRP3PIXMASK; other bits of it (a star nearby, low coverage) do not make a pixel useless"""


def cube_in(hdus: Sequence[Hdu]) -> Hdu | None:
    """The unit whose third axis is one of wavelength; None if there is none."""
    cubes = [hdu for hdu in hdus if hdu.is_image and len(hdu.shape) == 3]
    return next((hdu for hdu in cubes if str(hdu.header.get("CTYPE3", "")).upper().startswith(_SPECTRAL)), None)


def read_cube(path: Path) -> Observation:
    """One object: the first unit with a spectral third axis; σ, variance or inverse variance beside it by name.

    Wavelengths come from the unit WAVE (MaNGA) or the WCS, Å in vacuum. Flux is per spaxel, in 1e-17 erg/s/cm²/Å where
    the unit says how; else as it is, under its own unit. Bad: what is not finite, has no inverse variance, or MaNGA's
    DONOTUSE. Sources: MaNGA data model (Law et al. 2016, AJ 152, 83); MUSE pipeline (Weilbacher et al. 2020, A&A 641,
    A28). Raises CorruptFile, ObservationError (no cube), ShapeMismatch.
    """
    hdus = load_hdus(path)
    found = cube_in(hdus)
    if found is None:
        raise ObservationError(f"{path} holds no cube", saw=[hdu.name for hdu in hdus], want="CTYPE3 = WAVE or AWAV")
    wave = _wavelengths(path, hdus, found)
    rising = np.argsort(wave, kind="stable")
    wave = wave[rising]
    unit = str(cards(path, (hdus[0], found), ("BUNIT",)).get("BUNIT", ""))
    factor = flux_factor(unit, wave)
    flux = np.asarray(found.data, dtype=np.float64)[rising]
    ivar = _ivar(path, hdus, found, rising)
    if factor is not None:
        flux = flux * factor[:, None, None]
        ivar = None if ivar is None else ivar / factor[:, None, None] ** 2
    good = np.isfinite(flux) if ivar is None else np.isfinite(flux) & (ivar > 0)
    flags = next((hdu for hdu in hdus if hdu.name == "MASK" and hdu.shape == found.shape), None)
    if (
        flags is not None
        and str(found.header.get("MASKNAME", hdus[0].header.get("MASKNAME", ""))) == "MANGA_DRP3PIXMASK"
    ):
        good &= (np.asarray(flags.data)[rising].astype(np.int64) & _DONOTUSE) == 0
    place = place_of(path, found)
    cube = Cube(
        flux=flux.astype(np.float32)[None],
        wavelength_aa=wave[None],
        unit=FLUX_UNIT if factor is not None else unit,
        survey="manga" if "MANGAID" in hdus[0].header else "",
        pixel_scale_arcsec=place.pixel_scale_arcsec,
        ivar=None if ivar is None else ivar.astype(np.float32)[None],
        good=good[None],
    )
    named = cards(path, (hdus[0],), ("PLATEIFU",))
    return Observation.of([named.get("PLATEIFU", stem(path))], [place.ra], [place.dec], cube=cube)


def _ivar(path: Path, hdus: Sequence[Hdu], cube: Hdu, rising: np.ndarray) -> Float[np.ndarray, "w y x"] | None:
    """1/unit², 0 where the file's is no positive number."""
    beside = next((hdu for hdu in hdus if hdu.name in _SPREAD and hdu.is_image), None)
    if beside is None:
        return None
    if beside.shape != cube.shape:
        raise ShapeMismatch(f"{path}, {beside.name}", saw=beside.shape, want=cube.shape)
    spread = np.asarray(beside.data, dtype=np.float64)[rising]
    known = np.isfinite(spread) & (spread > 0)
    return np.power(spread, -2 / _SPREAD[beside.name], out=np.zeros(spread.shape), where=known)


def _wavelengths(path: Path, hdus: Sequence[Hdu], cube: Hdu) -> Float[np.ndarray, " wave"]:
    """Å, vacuum."""
    listed = next((hdu for hdu in hdus if hdu.name == "WAVE" and hdu.data is not None), None)
    if listed is not None:
        wave = np.asarray(listed.data, dtype=np.float64)
        if wave.shape != cube.shape[:1]:
            raise ShapeMismatch(f"{path}, WAVE", saw=wave.shape, want=cube.shape[:1])
        return wave
    from astropy.io.fits import VerifyError
    from astropy.wcs import WCS, FITSFixedWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            axis = WCS(cube.header).spectral
        values = np.asarray(axis.wcs_pix2world(np.arange(cube.shape[0]), 0)[0], dtype=np.float64)
        wave = aa_of(values, str(axis.wcs.cunit[0]))
    except (VerifyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise CorruptFile(f"{path}, third axis", saw=error, want="wavelengths by the FITS standard") from error
    return vacuum_from_air(wave) if str(cube.header["CTYPE3"]).upper().startswith("AWAV") else wave
