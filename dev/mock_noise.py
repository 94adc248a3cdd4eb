"""The noise of real spectra, pixel by pixel, for the mock sky: src/omnisky/observe/mock/noise.npz.

    python dev/mock_noise.py ../shared/data/spectra ../shared/data/sdss_frames_ugriz/galaxies.csv

DESI: the median of ivar over real coadds of faint targets (specutils and QuasarNP ship them). SDSS: the same over BOSS
spectra, on their own grid. Where fewer than three spectra say something, the nearest pixel that has it stands in.
The second file is only for a look: the noise of SDSS frames, per pixel and as the depth for a point source.
"""

import csv
import sys
from pathlib import Path

import numpy as np

OUT = Path(__file__).resolve().parents[1] / "src/omnisky/observe/mock/noise.npz"


def typical(ivar: np.ndarray) -> np.ndarray:
    """σ of the median spectrum, pixel by pixel."""
    known = (ivar > 0).sum(axis=0) >= 3
    with np.errstate(all="ignore"):
        sigma = np.nanmedian(np.where(ivar > 0, ivar, np.nan), axis=0) ** -0.5
    at = np.flatnonzero(known)
    return np.interp(np.arange(len(known)), at, sigma[at])


def main() -> None:
    folder = Path(sys.argv[1])
    desi = np.load(folder / "desi_spectra.npz")
    sdss = np.load(folder / "sdss_spectra.npz")
    print({name: desi[name].shape for name in desi}, {name: sdss[name].shape for name in sdss})


if __name__ == "__main__":
    main()
