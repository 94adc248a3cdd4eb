"""The noise of real spectra, pixel by pixel, for the mock sky: src/omnisky/observe/mock/noise.npz.

    python dev/mock_noise.py ../shared/data/spectra

The shape with wavelength is the median over faint targets (median flux below 4e-17), each divided by its own median.
DESI: from 24 coadds that QuasarNP (MIT) and fastspecfit (BSD) ship; the level is that of the single exposures that
specutils (BSD) ships. SDSS: shape and level of faint BOSS spectra, on the grid of `spectra.sdss`. Where fewer than
three say something, the nearest pixel that has it stands in.
"""

import csv
import sys
from pathlib import Path

import numpy as np

OUT = Path(__file__).resolve().parents[1] / "src/omnisky/observe/mock/noise.npz"
FAINT = 4.0


def faint(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Å, σ with NaN where nothing is known, which file each is from)."""
    found = np.load(folder / f"{name}_spectra.npz")
    rows = list(csv.DictReader((folder / f"{name}_spectra.csv").open()))
    source = np.array([row["src"] for row in rows])
    known = (found["ivar"] > 0).mean(axis=1) > 0.8
    chosen = known & (np.median(found["flux"], axis=1) < FAINT)
    ivar = found["ivar"][chosen].astype(float)
    return found["wave"], np.where(ivar > 0, ivar, np.nan) ** -0.5, source[chosen]


def typical(sigma: np.ndarray) -> np.ndarray:
    """Relative to the median over the spectrum."""
    shape = sigma / np.nanmedian(sigma, axis=1, keepdims=True)
    at = np.flatnonzero(np.isfinite(shape).sum(axis=0) >= 3)
    return np.interp(np.arange(shape.shape[1]), at, np.nanmedian(shape[:, at], axis=0))


def main() -> None:
    folder = Path(sys.argv[1])
    _, sigma, source = faint(folder, "desi")
    single = source == "specutils"
    desi = typical(sigma[~single]) * np.median(np.nanmedian(sigma[single], axis=1))
    wave, sigma, _ = faint(folder, "sdss")
    ours = 10 ** (3.5563 + 1e-4 * np.arange(4560))
    sdss = np.interp(ours, wave, typical(sigma) * np.median(np.nanmedian(sigma, axis=1)))
    np.savez_compressed(
        OUT,
        desi=desi.astype(np.float16),
        sdss=sdss.astype(np.float16),
        source=np.str_(" ".join((__doc__ or "").split())),
        licence=np.str_("numbers measured by us; DESI EDR CC BY 4.0, SDSS public"),
    )
    for name, one in (("desi", desi), ("sdss", sdss)):
        print(name, len(one), np.round(np.percentile(one, [0, 5, 50, 95, 100]), 2), OUT.stat().st_size)


if __name__ == "__main__":
    main()
