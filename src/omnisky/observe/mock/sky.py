"""A made-up sky: objects with known truth, on a footprint, seen by as many surveys as asked for.

    sky = MockSky(objects=1000, cameras=("legacysurvey",), spectrographs=("desi",))
    seen = sky.take(range(32))          # an Observation: image, spectrum, scalars, truth, neighbours, segmentation …
    for batch in sky.batches(): …       # one cell of sky after the other

Object i is a function of (seed, i): any part of the sky can be made anywhere, in any order, in parallel, again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from omnisky.errors import BadValue
from omnisky.observe.mmu_files import CELL_DEPTH
from omnisky.observe.mock import catalogue, images, lines, spectra, xp
from omnisky.observe.mock.cameras import CAMERAS
from omnisky.observe.mock.chances import Use, generator
from omnisky.observe.mock.light import Light, lit
from omnisky.observe.mock.population import Population
from omnisky.observe.mock.truth import Truth
from omnisky.observe.types import Observation, Part, Scalars

SPECTROGRAPHS = {"desi": spectra.desi, "sdss": spectra.sdss}
_PART = {"legacysurvey": "image", "hsc": "image_hsc", "sdss": "image_sdss"}
_SPECTRUM_PART = {"desi": "spectrum", "sdss": "spectrum_sdss"}


@cache
def equator() -> tuple[int, ...]:
    """Cells of a strip that Legacy Survey, HSC, SDSS and DESI all have seen: 330° < α < 400°, |δ| < 7°; 900 deg²."""
    from astropy import units as u
    from cdshealpix.nested import healpix_to_lonlat

    every = np.arange(12 * 4**CELL_DEPTH)
    lon, lat = healpix_to_lonlat(every, CELL_DEPTH)
    inside = (abs(lat.to_value(u.deg)) < 7) & (np.mod(lon.to_value(u.deg) - 330, 360) < 70)
    return tuple(every[inside].tolist())


@dataclass(frozen=True, kw_only=True)
class MockSky:
    """So many objects of a population, seen by these cameras and spectrographs. Rows are made when they are taken."""

    objects: int
    population: Population = field(default_factory=Population)
    cameras: tuple[str, ...] = ("legacysurvey",)
    """of cameras.CAMERAS"""
    spectrographs: tuple[str, ...] = ("desi",)
    """of SPECTROGRAPHS"""
    gaia_xp: bool = False
    """low-resolution spectra of what is bright enough"""
    footprint: tuple[int, ...] = ()
    """nested HEALPix cells of order 4; `equator()` if empty"""
    objects_per_cell: int = 256
    """neighbouring numbers that share a cell of the footprint"""

    def __post_init__(self) -> None:
        for name, saw, want in (
            ("cameras", self.cameras, CAMERAS),
            ("spectrographs", self.spectrographs, SPECTROGRAPHS),
        ):
            unknown = tuple(one for one in saw if one not in want)
            if unknown:
                raise BadValue(name, saw=unknown, want=tuple(want))
        if self.objects < 1 or self.objects_per_cell < 1:
            raise BadValue("objects", saw=min(self.objects, self.objects_per_cell), want="1 or more")
        wrong = [cell for cell in self.footprint if not 0 <= cell < 12 * 4**CELL_DEPTH]
        if wrong:
            raise BadValue("footprint", saw=wrong[:5], want=f"nested cells of order {CELL_DEPTH}, 0 … 3071")

    def __len__(self) -> int:
        return self.objects

    @property
    def seed(self) -> int:
        return self.population.seed

    def take(self, index: Any) -> Observation:
        """The objects of these numbers (a slice, integers, booleans), in the order asked for."""
        chosen = np.arange(self.objects)[index if isinstance(index, slice) else np.asarray(index)]
        chosen = np.atleast_1d(chosen)
        seen = self.population.truth(chosen)
        light = list(lit(seen, self.seed))
        where = self.places(chosen)
        return Observation.of(self._names(chosen), where[0], where[1], **self._parts(seen, light))

    @property
    def object_id(self) -> np.ndarray:
        """Of all objects, as `take` gives them, without making any."""
        return np.array(self._names(np.arange(self.objects)))

    def _names(self, index: Integer[np.ndarray, " object"]) -> list[str]:
        return [f"mock-{self.seed}-{i:08d}" for i in index.tolist()]

    def expected(self, index: Any, spectrograph: str) -> Float[np.ndarray, "object wave"]:
        """Spectra as they would be without noise, of what enters the fibre; 1e-17 erg s⁻¹ cm⁻² Å⁻¹."""
        seen = self.population.truth(np.asarray(index))
        tool = SPECTROGRAPHS[spectrograph]()
        whole = np.stack([spectra.clean(one, tool) for one in lit(seen, self.seed)])
        return whole * spectra.in_fibre(seen, tool)[:, None]

    def components(self, index: Any, camera: str = "legacysurvey") -> dict[str, Float[np.ndarray, "object y x"]]:
        """Light of each of `images.PARTS` in r as it would be without noise and neighbours; nanomaggies a pixel."""
        seen, size = self.population.truth(np.asarray(index)), CAMERAS[camera].size_px
        found = {name: np.zeros((len(seen), size, size), dtype=np.float32) for name in images.PARTS}
        for row, one in enumerate(lit(seen, self.seed)):
            for name, light in images.components(seen, row, one, CAMERAS[camera], self.seed).items():
                found[name][row] = light
        return found

    def _parts(self, seen: Truth, light: list[Light]) -> dict[str, Part]:
        parts: dict[str, Part] = {}
        for name in self.cameras:
            picture = images.observe(seen, light, CAMERAS[name], self.seed)
            listed = catalogue.neighbours(seen, light, CAMERAS[name], self.seed)
            suffix = _PART[name].removeprefix("image")
            assert picture.psf_fwhm_arcsec is not None
            blur = picture.psf_fwhm_arcsec[:, picture.bands.index("r")]
            parts |= {
                _PART[name]: picture,
                f"neighbours{suffix}": listed,
                f"segmentation{suffix}": catalogue.segmentation(listed, CAMERAS[name], blur),
            }
        for name in self.spectrographs:
            parts[_SPECTRUM_PART[name]] = spectra.observe(seen, light, SPECTROGRAPHS[name](), self.seed)
        if self.gaia_xp:
            bp, rp = (xp.observe(seen, light, band, self.seed) for band in ("BP", "RP"))
            parts |= {"bp": bp.coefficient, "rp": rp.coefficient, "bp_error": bp.error, "rp_error": rp.error}
        parts["scalars"] = catalogue.scalars(seen, light, self.seed)
        parts["lines"] = _line_list(light)
        parts["truth"] = self._truth(seen)
        return parts

    def _truth(self, seen: Truth) -> Scalars:
        """All of Truth, and what share of the light entered the fibres."""
        known = seen.scalars()
        share = {f"in_fibre_{name}": spectra.in_fibre(seen, SPECTROGRAPHS[name]()) for name in self.spectrographs}
        if not share:
            return known
        values = np.column_stack([known.values, *share.values()])
        return Scalars(values=values, names=(*known.names, *share), units=(*known.units, *[""] * len(share)))

    # --- on the sky ---------------------------------------------------------------------------------------------

    def cell_of(self, index: Integer[np.ndarray, " object"]) -> Integer[np.ndarray, " object"]:
        """The HEALPix cell of each number: blocks of `objects_per_cell` go round the footprint."""
        cells = np.array(self.footprint or equator(), dtype=np.int64)
        return cells[np.asarray(index) // self.objects_per_cell % len(cells)]

    def places(self, index: Integer[np.ndarray, " object"]) -> Float[np.ndarray, "2 object"]:
        """ra and dec, deg: anywhere in the object's cell, equally likely for equal areas."""
        from astropy import units as u
        from cdshealpix.nested import healpix_to_lonlat

        below = 2 * (29 - CELL_DEPTH)
        fine = [int(generator(self.seed, int(i), Use.PLACE).integers(2**below)) for i in index]
        lon, lat = healpix_to_lonlat((self.cell_of(index) << below) + np.array(fine, dtype=np.int64), 29)
        return np.stack([lon.to_value(u.deg), lat.to_value(u.deg)])

    def cells(self) -> dict[int, Integer[np.ndarray, " object"]]:
        """Which objects are in each cell that has any."""
        where = self.cell_of(np.arange(self.objects))
        return {int(cell): np.flatnonzero(where == cell) for cell in np.unique(where)}

    def batches(self, most: int = 256) -> Iterator[Observation]:
        """The whole sky, cell by cell, at most so many objects at a time; a batch never straddles cells."""
        for rows in self.cells().values():
            for start in range(0, len(rows), most):
                yield self.take(rows[start : start + most])


def _line_list(light: list[Light]) -> Scalars:
    """Fluxes and rest-frame equivalent widths of the lines; of all the object's light, after the Milky Way's dust."""
    values = np.stack([np.concatenate([one.line_flux, one.line_ew_aa]) for one in light])
    return Scalars(
        values=values,
        names=tuple(f"flux_{name}" for name in lines.NAMES) + tuple(f"ew_{name}" for name in lines.NAMES),
        units=("1e-17 erg / (s cm2)",) * len(lines.NAMES) + ("Angstrom",) * len(lines.NAMES),
    )
