"""Make the spectra that the mock sky is built from: src/omnisky/observe/mock/basis.npz.

    pip download --no-deps sdss-mangadap==4.5.0 && unzip the wheel
    python dev/mock_basis.py FOLDER/mangadap/data/spectral_templates

Source: SDSS's MaNGA Data Analysis Pipeline, on PyPI as sdss-mangadap, BSD 3-Clause, Copyright (c) 2018, SDSS. Of its
libraries we take

- bc03_mpajhu: 40 single-age populations of Bruzual & Charlot 2003 (MNRAS 344, 1000), ten ages by four metallicities,
  3326 … 9294 Å in air, L☉/Å for 1 M☉ formed: the middle of our populations. Their light (0.158 L☉ in V at 10 Gyr and
  solar metals) is that of Salpeter's initial mass function; we give 1.6 times as much, which makes it Chabrier's;
- mastar_ssp_v1.0 (Maraston et al. 2020, MNRAS 496, 2962): their red end, to 10,300 Å, scaled to meet the others;
- mastarhc_v2_noism (Rubin et al. 2024; stars of MaStar, Yan et al. 2019, ApJ 883, 175): the stars.

Nothing there is blue enough, so below 3326 Å (stars: 3640 Å) the spectrum goes on as a black body of the turn-off's
temperature times (λ/λ₀)^p: p grows from 0 above 9000 K to 9 below 6000 K. Lines take (λ/λ₀)^6 from the Sun between 3300
and 2500 Å; with 9 the u − g of red galaxies is that of SDSS. Above 10,300 Å the slope of the last 400 Å goes on.
"""

import sys
from pathlib import Path

import numpy as np
from astropy.io import fits

OUT = Path(__file__).resolve().parents[1] / "src/omnisky/observe/mock/basis.npz"
START, STEP, STOP = np.log10(1200.0), 1e-4, np.log10(11500.0)
LOG_WAVE = START + STEP * np.arange(int((STOP - START) / STEP))
WAVE = 10**LOG_WAVE
AGES = ("00.005", "00.025", "00.101", "00.286", "00.640", "00.904", "01.434", "02.500", "05.000", "10.000")
TURN_OFF_K = (33000, 22000, 14500, 10800, 8900, 8100, 7300, 6500, 5900, 5600)
METALS = {"0.004": -0.699, "0.008": -0.398, "0.020": 0.0, "0.050": 0.398}
STARS = 20


def spectrum(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(Å in vacuum, flux)."""
    with fits.open(path) as found:
        header, flux = found[0].header, found[0].data.astype(float)
    axis = header["CRVAL1"] + header["CDELT1"] * np.arange(len(flux))
    return (10**axis if header.get("CTYPE1") == "WAVE-LOG" else vacuum(axis)), flux


def vacuum(air_aa: np.ndarray) -> np.ndarray:
    """Morton 2000 (ApJS 130, 403), as adopted by the IAU."""
    s = (1e4 / air_aa) ** 2
    return air_aa * (
        1.00008336624212083 + 0.02408926869968 / (130.1065924522 - s) + 0.0001599740894897 / (38.92568793293 - s)
    )


def planck(kelvin: float) -> np.ndarray:
    return WAVE**-5.0 / np.expm1(1.4388e8 / WAVE / kelvin)


def bluer(flux: np.ndarray, kelvin: float, edge: float) -> np.ndarray:
    """With a black body, blanketed by lines, below `edge`."""
    model = planck(kelvin) * (WAVE / edge) ** (9 * np.clip((9000 - kelvin) / 3000, 0, 1))
    near = (edge <= WAVE) & (edge + 40 > WAVE)
    return np.where(edge > WAVE, model * np.median(flux[near] / model[near]), flux)


def redder(flux: np.ndarray, edge: float) -> np.ndarray:
    """With the slope of the last 400 Å above `edge`."""
    near = (edge - 400 < WAVE) & (edge > WAVE)
    slope, level = np.polyfit(np.log(WAVE[near] / edge), np.log(flux[near]), 1)
    return np.where(edge < WAVE, np.exp(level) * (WAVE / edge) ** np.clip(slope, -4, 1), flux)


def red_end(folder: Path, age: float, metals: float) -> np.ndarray:
    """Of the nearest MaStar population, smoothed over 20 pixels."""
    files = {}
    for path in sorted((folder / "mastar_ssp_v1.0").glob("*.fits.gz")):
        name = path.name.removesuffix(".fits.gz")
        files[path] = abs(np.log10(float(name[12:18]) / age)) + abs(float(name[-5:]) - metals)
    wave, flux = spectrum(min(files, key=lambda path: files[path]))
    return np.interp(WAVE, wave, np.convolve(flux, np.ones(20) / 20, "same"))


def population(folder: Path, age: str, turn_off: float, z: str, metals: float) -> np.ndarray:
    wave, flux = spectrum(folder / f"bc03_mpajhu/BC03_z{z}_a{age}.fits")
    whole = 1.6 * np.interp(WAVE, wave, flux)
    red = red_end(folder, float(age), metals)
    near = (WAVE > 9000) & (WAVE < 9250)
    whole = np.where(WAVE < 9250, whole, red * np.median(whole[near]) / np.median(red[near]))
    return redder(bluer(whole, turn_off, 3330.0), 10280.0)


def stars(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(spectra, Teff), cold to hot, evenly in g − r; Teff from g − r (Fukugita et al. 2011, PASJ 63, 867)."""
    rows, colours = [], []
    for path in sorted((folder / "mastarhc_v2_noism").glob("*.fits.gz")):
        wave, flux = spectrum(path)
        whole = np.interp(WAVE, wave, flux)
        within = (WAVE > 3640) & (WAVE < 10280)
        rough = np.median(np.abs(np.diff(whole[within & (WAVE > 5000)]))) / np.median(whole[within])
        if (whole[within] <= 0).any() or rough > 0.02:
            continue
        from omnisky.observe.mock.photometry import magnitude, nanomaggies

        g, r = (magnitude(nanomaggies(np.where(within, whole, 0), WAVE, f"sdss2010-{band}")) for band in "gr")
        rows.append(whole / np.interp(5500, WAVE, whole))
        colours.append(g - r)
    colour = np.array(colours)
    print("stars", len(rows), np.round(np.sort(colour), 2))
    wanted = np.linspace(colour.max(), colour.min(), STARS)
    pick = sorted({int(np.abs(colour - one).argmin()) for one in wanted}, key=lambda i: -colour[i])
    teff = 1.09e4 / (colour[pick] + 1.47)
    return np.stack([redder(bluer(rows[i], t, 3645.0), 10270.0) for i, t in zip(pick, teff, strict=True)]), teff


def packed(flux: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    log = np.log10(np.maximum(flux, 1e-9 * np.median(flux, axis=1, keepdims=True)))
    limits = np.array([log.min(), log.max()])
    return np.round((log - limits[0]) / (limits[1] - limits[0]) * 65535).astype(np.uint16), limits


def main() -> None:
    folder = Path(sys.argv[1])
    every = [
        population(folder, age, turn_off, z, metals)
        for age, turn_off in zip(AGES, TURN_OFF_K, strict=True)
        for z, metals in METALS.items()
    ]
    star, teff = stars(folder)
    words, limits = packed(np.stack(every))
    star_words, star_limits = packed(star)
    np.savez_compressed(
        OUT,
        log_wavelength=np.array([START, STEP, len(WAVE)]),
        age_gyr=np.array([float(age) for age in AGES]),
        log_metals=np.array(list(METALS.values())),
        population=words,
        population_range=limits,
        star=star_words,
        star_range=star_limits,
        teff_k=teff,
        sigma_km_s=np.array(60.0),  # 2.3 Å full width at half maximum, at 5000 Å
        source=np.str_(" ".join((__doc__ or "").split())),
        licence=np.str_("BSD 3-Clause, Copyright (c) 2018, SDSS (sdss-mangadap 4.5.0)"),
    )
    print(OUT.stat().st_size / 1e6, "MB;", words.shape, star_words.shape, np.round(teff))


if __name__ == "__main__":
    main()
