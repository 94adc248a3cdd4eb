"""One page that shows the mock sky beside real catalogues: what it looks like, and how its galaxies are distributed.

    python dev/mock_page.py ../shared/data page.png [--galaxies 1500]

Above, twelve galaxies: picture (Legacy Survey z, r, g), DESI spectrum, truth. Below, distributions beside real ones:
SDSS main galaxies (r < 17.77), zCOSMOS (i < 22.5), DESI's emission lines.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet as pq

from omnisky.observe.mock import MockSky, Population
from omnisky.observe.mock.light import fluxes, lit
from omnisky.observe.mock.lines import NAMES
from omnisky.observe.mock.photometry import magnitude

MOCK, REAL = "#d1495b", "#30638e"


def colour(flux: np.ndarray, bands: tuple[int, int, int], faint: tuple[float, float, float]) -> np.ndarray:
    """Lupton et al. 2004's colours: hue kept, brightness through asinh."""
    planes = np.stack([flux[band] / scale for band, scale in zip(bands, faint, strict=True)], axis=-1)
    mean = np.maximum(planes.mean(axis=-1, keepdims=True), 1e-6)
    shown = planes * np.arcsinh(10 * mean) / (10 * mean) * 0.55
    return np.clip(shown / np.maximum(shown.max(axis=-1, keepdims=True), 1), 0, 1)


def twelve(seen, axes) -> None:
    """Pictures, spectra, truth."""
    truth = seen["truth"]
    for row, (picture, plot) in enumerate(axes):
        picture.imshow(colour(seen["image"].flux[row], (3, 1, 0), (0.12, 0.06, 0.035)), origin="lower")
        picture.axis("off")
        spectrum = seen["spectrum"]
        good = spectrum.good[row]
        flux = np.where(good, spectrum.flux[row], np.nan)
        smooth = np.convolve(np.nan_to_num(flux), np.ones(5) / 5, "same")
        plot.plot(spectrum.wavelength_aa[row], smooth, color="0.15", lw=0.4)
        low, high = np.nanpercentile(smooth, [0.5, 99.7])
        plot.set_ylim(min(low, 0), high * 1.15)
        plot.set_xlim(3600, 9824)
        plot.tick_params(labelsize=5)
        if truth["is_star"][row]:
            words = f"star, {truth['teff_k'][row]:.0f} K, r = {truth['r_mag'][row]:.1f}"
        else:
            kind = [name for name in ("merger", "edge_on", "irregular") if truth[f"is_{name}"][row]]
            kind += [f"{truth['arms'][row]:.0f} arms"] if truth["arms"][row] else []
            kind += ["bar"] if truth["bar_fraction"][row] else []
            words = (
                f"z = {truth['redshift'][row]:.3f}, r = {truth['r_mag'][row]:.1f}, log M = {truth['log_mass'][row]:.1f}, "
                f"log sSFR = {truth['log_ssfr'][row]:.1f}\n"
                f"age {truth['age_gyr'][row]:.1f} Gyr, B/T {truth['bulge_fraction'][row]:.2f}, "
                f"{truth['half_light_arcsec'][row]:.1f}″, q {truth['axis_ratio'][row]:.2f} {' '.join(kind)}"
            )
        plot.set_title(words, fontsize=5.5, loc="left", pad=2)


def chosen(sky: MockSky) -> np.ndarray:
    """Twelve that show the variety: large ones, of each kind."""
    seen = sky.population.truth(np.arange(len(sky)))
    large = ~seen.is_star & (seen.half_light_arcsec > 1.8)
    kinds = [
        large & (seen.arms == 2) & (seen.inclination_deg < 50) & (seen.half_light_arcsec > 3),
        large & (seen.arms == 2) & (seen.bar_fraction > 0) & (seen.inclination_deg < 60),
        large & (seen.arms > 2) & (seen.inclination_deg < 60),
        large & (seen.bulge_mass_fraction == 1),
        large & (seen.log_ssfr < -11.3) & (seen.bulge_mass_fraction < 1),
        large & seen.is_edge_on & (seen.log_ssfr > -11),
        large & seen.is_irregular,
        large & seen.is_merger,
        large & (seen.redshift > 0.25),
        ~seen.is_star & (seen.log_ssfr > -9.6),
        ~seen.is_star & (seen.redshift > 0.35),
        seen.is_star,
    ]
    rows: list[int] = []
    for kind in kinds:
        every = [i for i in np.flatnonzero(kind).tolist() if i not in rows]
        rows.append(every[0] if every else next(i for i in range(len(sky)) if i not in rows))
    return np.array(rows)


def distributions(axes, data: Path, number: int) -> None:
    """Mock and real, side by side."""
    mgs = pq.read_table(data / "catalogs/sdss_mgs_photoz_train.parquet").to_pydict()
    cosmos = pq.read_table(data / "catalogs/zcosmos_bright20k.parquet").to_pydict()
    print(list(mgs), list(cosmos))
    raise SystemExit


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("data", type=Path)
    words.add_argument("out", type=Path)
    words.add_argument("--galaxies", type=int, default=1500)
    asked = words.parse_args()
    figure = plt.figure(figsize=(13, 15), dpi=110)
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.35, 1])
    grid = upper.subplots(6, 4, gridspec_kw=dict(width_ratios=[1, 2.2, 1, 2.2], hspace=0.35, wspace=0.12))
    sky = MockSky(objects=3000, population=Population(seed=11, faintest_r_mag=18.5))
    twelve(sky.take(chosen(sky)), [(grid[i % 6, 2 * (i // 6)], grid[i % 6, 2 * (i // 6) + 1]) for i in range(12)])
    distributions(lower.subplots(2, 4), asked.data, asked.galaxies)
    figure.savefig(asked.out, bbox_inches="tight")


if __name__ == "__main__":
    main()
