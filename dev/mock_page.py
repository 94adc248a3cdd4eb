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
from omnisky.observe.mock.templates import cardelli

MOCK, REAL = "#d1495b", "#30638e"


def colour(flux: np.ndarray, bands: tuple[int, int, int], faint: tuple[float, float, float]) -> np.ndarray:
    """Lupton et al. 2004's colours: hue kept, brightness through asinh."""
    planes = np.stack([flux[band] / scale for band, scale in zip(bands, faint, strict=True)], axis=-1)
    mean = np.maximum(planes.mean(axis=-1, keepdims=True), 1e-6)
    shown = planes / mean * np.arcsinh(10 * mean) / 3
    return np.clip(shown / np.maximum(shown.max(axis=-1, keepdims=True), 1), 0, 1)


def twelve(seen, axes) -> None:
    """Pictures, spectra, truth."""
    truth = seen["truth"]
    for row, (picture, plot) in enumerate(axes):
        picture.imshow(colour(seen["image"].flux[row], (3, 1, 0), (0.55, 0.28, 0.17)), origin="lower")
        picture.axis("off")
        spectrum = seen["spectrum"]
        good = spectrum.good[row]
        pixel = np.arange(len(good))
        flux = np.interp(pixel, pixel[good], spectrum.flux[row][good])
        smooth = np.convolve(flux, np.ones(5) / 5, "same")
        plot.plot(spectrum.wavelength_aa[row], smooth, color="0.15", lw=0.4)
        low, high = np.percentile(smooth, [0.5, 99.7])
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
                f"z = {truth['redshift'][row]:.3f}, r = {truth['r_mag'][row]:.1f}, "
                f"log M = {truth['log_mass'][row]:.1f}, log sSFR = {truth['log_ssfr'][row]:.1f}\n"
                f"age {truth['age_gyr'][row]:.1f} Gyr, B/T {truth['bulge_fraction'][row]:.2f}, "
                f"{truth['half_light_arcsec'][row]:.1f}″, q {truth['axis_ratio'][row]:.2f} {' '.join(kind)}"
            )
        plot.set_title(words, fontsize=5.5, loc="left", pad=2)


def chosen(sky: MockSky) -> np.ndarray:
    """Twelve that show the variety: large ones, of each kind."""
    seen = sky.population.truth(np.arange(len(sky)))
    large = ~seen.is_star & (seen.half_light_arcsec > 1.8)
    kinds = [
        large & (seen.arms == 2) & (seen.inclination_deg < 45) & (seen.half_light_arcsec > 5),
        large
        & (seen.arms == 2)
        & (seen.bar_fraction > 0)
        & (seen.inclination_deg < 45)
        & (seen.half_light_arcsec > 3.5),
        large & (seen.arms > 2) & (seen.inclination_deg < 60) & (seen.half_light_arcsec > 4),
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


def sample(limit: float, number: int) -> dict[str, np.ndarray]:
    """Truth, colours without the Milky Way's dust, and line widths of a mock sample."""
    population = Population(seed=21, faintest_r_mag=limit, stars=0.0)
    seen = population.truth(np.arange(number))
    light = list(lit(seen, population.seed))
    screen = 3.1 * cardelli(np.array([3551, 4686, 6166, 7480, 8932.0])) * seen.ebv_mag[:, None]
    mag = magnitude(fluxes(light, "sdss")) - screen
    widths = np.stack([one.line_ew_aa for one in light])
    return vars(seen) | dict(zip("ugriz", mag.T, strict=True)) | dict(zip(NAMES, widths.T, strict=True))


def table(path: Path) -> dict[str, np.ndarray]:
    """A real catalogue."""
    rows = pq.read_table(path)
    return {column: rows[column].to_numpy() for column in rows.column_names}


def both(axis, mock, real, bins, title) -> None:
    """Shares of all objects; those off the axis count too."""
    axis.hist(real, bins, weights=np.full(len(real), 1 / len(real)), color=REAL, alpha=0.35, label="real")
    axis.hist(mock, bins, weights=np.full(len(mock), 1 / len(mock)), color=MOCK, histtype="step", lw=1.5, label="mock")
    axis.set_title(title, fontsize=8)
    axis.legend(fontsize=6)


def samples(axes, data: Path, bright, faint) -> None:
    """Redshifts and colours beside SDSS and zCOSMOS."""
    mgs, deep = (table(data / f"catalogs/{name}.parquet") for name in ("sdss_mgs_photoz_train", "zcosmos_bright20k"))
    secure = (deep["cc"] >= 3) & (deep["cc"] < 5) & (deep["zpec"] > 0.01)
    redshift = faint["redshift"][faint["i"] < 22.5]
    both(axes[0], bright["redshift"], mgs["zs"], np.linspace(0, 0.35, 36), "z of SDSS main galaxies (r < 17.77)")
    both(axes[1], redshift, deep["zpec"][secure], np.linspace(0, 1.5, 31), "z of zCOSMOS (i < 22.5)")
    both(axes[2], bright["g"] - bright["r"], mgs["g-r"], np.linspace(0, 1.6, 41), "g − r of SDSS main galaxies")
    both(axes[3], bright["u"] - bright["g"], mgs["u-g"], np.linspace(0.2, 2.6, 41), "u − g of SDSS main galaxies")
    axes[4].scatter(mgs["r"], mgs["g-r"], s=1, color=REAL, alpha=0.4)
    axes[4].scatter(bright["r"], bright["g"] - bright["r"], s=1, color=MOCK, alpha=0.6)
    axes[4].set(xlim=(14, 17.8), ylim=(0, 1.6))
    axes[4].set_title("g − r against r", fontsize=8)


def bodies(sizes, rates, middle) -> None:
    """Size and star formation against mass."""
    late = middle["log_ssfr"] > -11
    for kind, tint in ((late, "#3d7ea6"), (~late, "#a63d3d")):
        sizes.scatter(middle["log_mass"][kind], middle["half_light_kpc"][kind], s=1.5, color=tint)
    mass = np.linspace(9, 11.6)
    sizes.plot(mass, 10 ** (0.86 + 0.25 * (mass - np.log10(5e10))), color="#3d7ea6", lw=1)
    heavy = mass[mass > 10.3]
    sizes.plot(heavy, 10 ** (0.60 + 0.75 * (heavy - np.log10(5e10))), color="#a63d3d", lw=1)
    sizes.set(yscale="log", xlim=(7.5, 12), ylim=(0.3, 40))
    sizes.set_title("half-light kpc against log mass (lines: van der Wel+14)", fontsize=7)
    rates.scatter(middle["log_mass"], middle["log_ssfr"], s=1.5, color=MOCK)
    rates.set(xlim=(8, 12), ylim=(-13.5, -8.3))
    rates.set_title("mock: log sSFR against log mass, r < 20", fontsize=7)


def emission(axes, data: Path, middle) -> None:
    """Widths and ratios of lines beside DESI."""
    desi = table(data / "desi_sv3_bgs_ew/desi_sv3_bgs_ew.parquet")
    alike = (middle["r"] < 19.5) & (middle["redshift"] > 0.06) & (middle["redshift"] < 0.3)
    mock = {name: middle[name][alike] for name in NAMES}
    mock["OII"] = mock["OII_3726"] + mock["OII_3729"]
    pairs = (("halpha", "Halpha"), ("oiii_5007", "OIII_5007"), ("hbeta", "Hbeta"), ("oii_doublet", "OII"))
    for axis, (line, name) in zip(axes, pairs, strict=False):
        real = np.nan_to_num(desi[f"ew_{line}"], nan=1e-3)
        title = f"log EW {line} / Å (DESI, z = 0.06 … 0.3)"
        both(axis, np.log10(mock[name]), np.log10(np.maximum(real, 1e-3)), np.linspace(-1, 2.5, 36), title)
    with np.errstate(all="ignore"):
        x = np.log10(desi["ew_nii_6584"] / desi["ew_halpha"]), np.log10(mock["NII_6584"] / mock["Halpha"])
        y = np.log10(desi["ew_oiii_5007"] / desi["ew_hbeta"]), np.log10(mock["OIII_5007"] / mock["Hbeta"])
    strong = desi["ew_halpha"] > 3, mock["Halpha"] > 3
    axes[4].scatter(x[0][strong[0]][:6000], y[0][strong[0]][:6000], s=0.5, color=REAL, alpha=0.4)
    axes[4].scatter(x[1][strong[1]], y[1][strong[1]], s=2, color=MOCK)
    axes[4].set(xlim=(-1.8, 0.6), ylim=(-1.2, 1.2))
    axes[4].set_title("EW Hα > 3 Å: [O III]/Hβ against [N II]/Hα", fontsize=7)


def distributions(axes, data: Path, number: int) -> None:
    """Mock and real, side by side."""
    flat = axes.ravel()
    samples(flat[:5], data, sample(17.77, number), sample(23.3, number))
    middle = sample(20.0, number)
    bodies(flat[5], flat[11], middle)
    emission(flat[6:11], data, middle)
    for axis in flat:
        axis.tick_params(labelsize=6)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("data", type=Path)
    words.add_argument("out", type=Path)
    words.add_argument("--galaxies", type=int, default=1500)
    asked = words.parse_args()
    figure = plt.figure(figsize=(14, 19), dpi=110)
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.6, 1])
    grid = upper.subplots(
        6,
        4,
        gridspec_kw=dict(
            width_ratios=[1, 1.6, 1, 1.6], hspace=0.25, wspace=0.1, top=0.97, bottom=0.02, left=0.02, right=0.98
        ),
    )
    sky = MockSky(objects=3000, population=Population(seed=11, faintest_r_mag=17.8))
    twelve(sky.take(chosen(sky)), [(grid[i % 6, 2 * (i // 6)], grid[i % 6, 2 * (i // 6) + 1]) for i in range(12)])
    distributions(
        lower.subplots(3, 4, gridspec_kw=dict(hspace=0.3, top=0.95, bottom=0.03, left=0.04, right=0.98)),
        asked.data,
        asked.galaxies,
    )
    figure.savefig(asked.out, bbox_inches="tight")


if __name__ == "__main__":
    main()
