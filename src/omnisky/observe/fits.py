"""A user's FITS file → Observation: what is in it is told by its headers.

DESI coadd                  units B_FLUX, R_FLUX, Z_FLUX            `observe.desi`
cube                        a spectral third axis                   `observe.fits_cube`
image                       pixels in two or three axes             `observe.fits_image`
spectrum                    see there                               `observe.fits_spectrum`
catalogue                   a table with positions                  `observe.tables`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from omnisky.errors import ObservationError
from omnisky.observe.desi import is_desi_coadd, read_desi_coadd
from omnisky.observe.fits_cube import cube_in, read_cube
from omnisky.observe.fits_file import Hdu, load_hdus
from omnisky.observe.fits_image import read_image
from omnisky.observe.fits_spectrum import is_spectrum, read_spectrum
from omnisky.observe.types import Observation


def _has_image(hdus: Sequence[Hdu]) -> bool:
    return any(hdu.is_image for hdu in hdus)


def _is_catalogue(hdus: Sequence[Hdu]) -> bool:
    from omnisky.observe.tables import find_position

    table = next((hdu for hdu in hdus if hdu.is_table), None)
    return table is not None and find_position(tuple(table.columns))


def _read_catalogue(path: Path) -> Observation:
    from omnisky.observe.tables import read_table

    return read_table(path)


# In this order: SDSS-I and LAMOST keep spectra as images of five rows, and images come with tables of sources.
_KINDS: tuple[tuple[Callable[[Sequence[Hdu]], bool], Callable[[Path], Observation]], ...] = (
    (is_desi_coadd, read_desi_coadd),
    (lambda hdus: cube_in(hdus) is not None, read_cube),
    (is_spectrum, read_spectrum),
    (_has_image, read_image),
    (_is_catalogue, _read_catalogue),
)


def read_fits(path: Path) -> Observation:
    """What the file holds, by the table above. Raises what its readers raise, ObservationError for none of these."""
    hdus = load_hdus(path, only=())
    reader = next((read for holds, read in _KINDS if holds(hdus)), None)
    if reader is None:
        saw = [f"{hdu.name}: {', '.join(hdu.columns) or hdu.shape}"[:200] for hdu in hdus]
        raise ObservationError(f"no reader for {path}", saw=saw, want="an image, a spectrum, a cube or a catalogue")
    return reader(path)
