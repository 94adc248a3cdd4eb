"""The forty modalities that AION-1 reads and writes: what each is called, and where an Observation keeps it.

Names, tokens and vocabularies are those of the release (Parker et al. 2025, arXiv:2510.17960; polymathic-aion 0.0.2).
A modality is known by its key, the name of its tokens; `folder` is where a repository keeps its codec.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from omnisky.observe.types import Image, Neighbours, Observation, Part, Scalars, SegmentationMap, Spectrum

PLACE = "place"
"""stands for the observation's own ra and dec, which are no part of it"""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One modality: a row of the table."""

    title: str
    """its class in the release"""
    key: str
    """of its tokens"""
    folder: str
    """of its codec, within `codecs/`"""
    codec: str
    """kind of codec: Image, Spectrum, Catalog, ScalarField, Scalar, LogScalar, MultiScalar or GridScalar"""
    holds: type[Part] | tuple[type[Part], ...]
    """kind of part it is found in"""
    part: str
    """where the mock sky has it; `found` also knows what other readers and `observe.join` call it"""
    columns: tuple[str, ...] = ()
    """of the part; empty: all of it"""
    unit: str = ""
    """astropy's spelling; empty for pure numbers and where columns differ"""
    tokens: int = 1
    vocabulary: int = 1024
    surveys: tuple[str, ...]
    """rows of `observe.survey`"""

    def found(self, seen: Observation) -> str | None:
        """The part of this observation that holds it, by name; None where nothing does."""
        if self.part == PLACE:
            return PLACE if np.isfinite(getattr(seen, self.columns[0])).any() else None
        base = self.part.split("_")[0]
        own = (self.part, *(f"{base}_{survey}" for survey in self.surveys))
        return next((name for name in (*own, base) if name in seen and self._fits(seen[name], name in own)), None)

    def _fits(self, part: Part, own: bool) -> bool:
        """Whether it is held there. What says of no survey where it is from is trusted under its own name alone."""
        surveys = ("", *self.surveys) if own else self.surveys
        if not isinstance(part, self.holds) or getattr(part, "survey", "") not in surveys:
            return False
        if isinstance(part, Scalars | Neighbours):
            counts = (len(self.columns),) if self.columns else (len(part.names), self.tokens)
            return set(self.columns) <= set(part.names) and len(set(counts)) == 1
        return True


XP_COEFFICIENTS = 55
_LEGACY, _HSC, _GAIA = ("legacysurvey",), ("hsc",), ("gaia",)


def _scalars(
    codec: str, surveys: tuple[str, ...], unit: str, rows: Mapping[str, tuple[str, str]], part: str = "scalars"
) -> Iterator[Domain]:
    """Title → (key, column); the column is also the codec's folder."""
    for title, (key, column) in rows.items():
        yield Domain(
            title=title,
            key=key,
            folder=column,
            codec=codec,
            holds=Scalars,
            part=part,
            columns=(column,),
            unit=unit,
            surveys=surveys,
        )


def _pictures() -> Iterator[Domain]:
    image = Domain(
        title="LegacySurveyImage",
        key="tok_image",
        folder="image",
        codec="Image",
        holds=Image,
        part="image",
        unit="nmgy",
        tokens=576,
        vocabulary=4375,
        surveys=_LEGACY,
    )
    yield image
    yield replace(image, title="HSCImage", key="tok_image_hsc", part="image_hsc", surveys=_HSC)
    spectrum = Domain(
        title="DESISpectrum",
        key="tok_spectrum_desi",
        folder="spectrum",
        codec="Spectrum",
        holds=Spectrum,
        part="spectrum",
        unit="1e-17 erg / (s cm2 AA)",
        tokens=273,
        surveys=("desi",),
    )
    yield spectrum
    yield replace(spectrum, title="SDSSSpectrum", key="tok_spectrum_sdss", part="spectrum_sdss", surveys=("sdss",))
    yield Domain(
        title="LegacySurveyCatalog",
        key="catalog",
        folder="catalog",
        codec="Catalog",
        holds=Neighbours,
        part="neighbours",
        columns=("X", "Y", "SHAPE_E1", "SHAPE_E2", "SHAPE_R"),
        tokens=100,
        vocabulary=3468,
        surveys=_LEGACY,
    )
    yield Domain(
        title="LegacySurveySegmentationMap",
        key="tok_segmap",
        folder="segmentation_map",
        codec="ScalarField",
        holds=(SegmentationMap, Image),
        part="segmentation",
        tokens=144,
        vocabulary=1000,
        surveys=_LEGACY,
    )


def _legacy() -> Iterator[Domain]:
    bands = {f"LegacySurveyFlux{band}": (f"tok_flux_{band.lower()}", f"FLUX_{band}") for band in "GRIZ"}
    infrared = {f"LegacySurveyFluxW{i}": (f"tok_flux_w{i}", f"FLUX_W{i}") for i in range(1, 5)}
    yield from _scalars("LogScalar", _LEGACY, "nmgy", bands | infrared)
    yield from _scalars("LogScalar", _LEGACY, "arcsec", {"LegacySurveyShapeR": ("tok_shape_r", "SHAPE_R")})
    axes = {f"LegacySurveyShapeE{i}": (f"tok_shape_e{i}", f"SHAPE_E{i}") for i in (1, 2)}
    yield from _scalars("Scalar", _LEGACY, "", axes)
    yield from _scalars("Scalar", _LEGACY, "mag", {"LegacySurveyEBV": ("tok_ebv", "EBV")})
    yield Domain(
        title="Z",
        key="tok_z",
        folder="Z",
        codec="GridScalar",
        holds=Scalars,
        part="scalars",
        columns=("Z",),
        vocabulary=1025,
        surveys=("desi", "sdss"),
    )


def _hsc() -> Iterator[Domain]:
    dust = {f"HSCA{band.upper()}": (f"tok_a_{band}", f"a_{band}") for band in "grizy"}
    yield from _scalars("Scalar", _HSC, "mag", dust)
    light = {f"HSCMag{band.upper()}": (f"tok_mag_{band}", f"{band}_cmodel_mag") for band in "grizy"}
    yield from _scalars("Scalar", _HSC, "mag", light)
    moments = {f"HSCShape{ij}": (f"tok_shape{ij}", f"i_sdssshape_shape{ij}") for ij in ("11", "22", "12")}
    yield from _scalars("Scalar", _HSC, "arcsec2", moments)


def _gaia() -> Iterator[Domain]:
    light = {"GaiaFluxG": ("tok_flux_g_gaia", "phot_g_mean_flux")}
    light |= {f"GaiaFlux{band.title()}": (f"tok_flux_{band}_gaia", f"phot_{band}_mean_flux") for band in ("bp", "rp")}
    yield from _scalars("LogScalar", _GAIA, "electron / s", light)
    yield from _scalars("LogScalar", _GAIA, "mas", {"GaiaParallax": ("tok_parallax", "parallax")})
    yield from _scalars("Scalar", _GAIA, "deg", {"Ra": ("tok_ra", "ra"), "Dec": ("tok_dec", "dec")}, PLACE)
    for band in ("bp", "rp"):
        yield Domain(
            title=f"GaiaXp{band.title()}",
            key=f"tok_xp_{band}",
            folder=f"{band}_coefficients",
            codec="MultiScalar",
            holds=Scalars,
            part=band,
            unit="electron / s",
            tokens=XP_COEFFICIENTS,
            surveys=_GAIA,
        )


DOMAINS: Mapping[str, Domain] = {
    domain.key: domain for rows in (_pictures(), _legacy(), _hsc(), _gaia()) for domain in rows
}
"""every modality, by key"""

_COLUMNS = ("class", "tokens called", "codec folder", "codec", "survey", "part", "columns", "unit", "tokens", "ids")


def markdown() -> str:
    """The table as a page of the documentation, docs/modalities.md."""
    lines = [_row(_COLUMNS), _row(("---",) * len(_COLUMNS))]
    lines += [_row(_cells(domain)) for domain in DOMAINS.values()]
    return _HEAD + "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(domain: Domain) -> tuple[str, ...]:
    part = "`.ra`, `.dec`" if domain.part == PLACE else f"`{domain.part}`"
    columns = ", ".join(f"`{name}`" for name in domain.columns) or "all"
    counts = str(domain.tokens), str(domain.vocabulary)
    names = f"`{domain.key}`", f"`{domain.folder}`", domain.codec, ", ".join(domain.surveys)
    return (domain.title, *names, part, columns, domain.unit or "–", *counts)


_HEAD = """# The forty modalities

What AION-1 reads and writes, in the names of its release. `omnisky.tokenize(observation)` finds each by the part and
columns given here; where several surveys were joined, it looks for `part_survey` too. Written by
`omnisky.codec.modalities.markdown`; a test keeps it equal to the code.

Classes are those of `polymathic-aion`. Its codec of images reads the middle 96 × 96 pixels, and any of the bands g, r,
i, z (Legacy Survey) or g, r, i, z, y (HSC); its codec of spectra reads any grid, from 3,500 to 10,462 Å. The first of
a spectrum's 273 tokens is its brightness. The catalogue has five numbers of up to 20 sources, nearest first; a model
sees the first 50 of its tokens, and 204 of its 3,468 ids are reserved (`omnisky.codec.catalog`). `tok_z` has 1,024 bins
on 0 … 6; its last id is never used.

"""
