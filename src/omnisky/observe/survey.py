"""One row a survey: what its pixels mean. Data, not code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Survey:
    """How to read one survey's measurements, and whom to thank."""

    name: str
    bands: tuple[str, ...] = ()
    """names of the planes in order; display images are always red, green, blue"""
    filters: tuple[str, ...] = ()
    """what the planes were taken through, where the name does not say"""
    unit: str = "nanomaggy"
    """of the image planes: "nanomaggy" or "display" (8-bit colour)"""
    zero_point_mag: float = 22.5
    """AB magnitude of one unit of flux"""
    pixel_scale_arcsec: float = float("nan")
    """arcsec per pixel; NaN where it differs from object to object"""
    citation: str = ""
    licence: str = ""


_ROWS = (
    Survey(
        name="sdss",
        bands=("u", "g", "r", "i", "z"),
        pixel_scale_arcsec=0.396,
        citation="York et al. 2000, AJ 120, 1579; Abdurro'uf et al. 2022, ApJS 259, 35 (DR17)",
        licence="public; acknowledgement asked",
    ),
    Survey(
        name="galaxyzoo2",
        bands=("red", "green", "blue"),
        filters=("i", "r", "g"),
        unit="display",
        citation="Willett et al. 2013, MNRAS 435, 2835; Lintott et al. 2008, MNRAS 389, 1179; images SDSS DR7",
        licence="SDSS images: public, acknowledgement asked",
    ),
    Survey(
        name="legacysurvey",
        bands=("g", "r", "i", "z"),
        pixel_scale_arcsec=0.262,
        citation="Dey et al. 2019, AJ 157, 168",
        licence="public; acknowledgement asked (legacysurvey.org/acknowledgment)",
    ),
    Survey(
        name="legacysurvey-colour",
        bands=("red", "green", "blue"),
        filters=("z", "r", "g"),
        unit="display",
        pixel_scale_arcsec=0.262,
        citation="Dey et al. 2019, AJ 157, 168",
        licence="public; acknowledgement asked (legacysurvey.org/acknowledgment)",
    ),
    Survey(
        name="hubble-deep-field",
        bands=("red", "green", "blue"),
        unit="display",
        pixel_scale_arcsec=0.142953,
        citation="Illingworth et al. 2013, ApJS 209, 6; image NASA, ESA, G. Illingworth, D. Magee, P. Oesch, "
        "R. Bouwens and the HUDF09 team (release 2012-37, the eXtreme Deep Field), as shipped by scikit-image",
        licence="public domain (NASA), see scikit-image's data licence",
    ),
    Survey(
        name="desi",
        citation="DESI Collaboration 2024, AJ 168, 58 (Early Data Release)",
        licence="CC BY 4.0",
    ),
)

SURVEYS = {row.name: row for row in _ROWS}
