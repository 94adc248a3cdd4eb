"""Real spectra through omnisky-clip, which has only ever seen made-up ones."""

from __future__ import annotations

import csv
from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from omnisky.adapt import score
from omnisky.embed import embed
from omnisky.evaluate.claims.found import Grid, Inputs, Result, Task
from omnisky.model import store
from omnisky.observe.read import read
from omnisky.observe.types import Observation, Spectrum
from omnisky.search import Index
from omnisky.search.retrieval import by_neighbours

CLIP, SPECTRA, NORMALISED = "omnisky-clip", "spectra", "desi_edr100_normalised.npz"
ASSUMED = 2.0
"""10⁻¹⁷ erg/s/cm²/Å, mean and spread of spectra that lost theirs"""
FARTHEST = 0.6
"""redshift, beyond which the made-up galaxies are too few to have neighbours"""


def real_spectra(given: Inputs) -> Result:
    """SDSS: redshift by made-up neighbours, class by leave-one-out; LAMOST: the temperature class of stars."""
    sdss = read(given.folder(SPECTRA) / "sdss_spectra.npz")
    kind = _words(given.folder(SPECTRA) / "sdss_spectra.csv", "cls")
    galaxies = sdss.take(kind == "GALAXY")
    found = (
        _redshifts("SDSS galaxies", galaxies, galaxies["scalars"]["z"], "astroclip/real z"),
        _redshifts("DESI objects", *_normalised(given.folder(SPECTRA) / NORMALISED), "astroclip/real desi z"),
        _classes(sdss, kind),
        _stars(given),
    )
    scores = {key: value for one in found for key, value in one.scores.items()}
    return Result(scores, tuple(grid for one in found for grid in one.grids))


def _redshifts(name: str, seen: Observation, z: np.ndarray, key: str) -> Result:
    seen, z = seen.take(z < FARTHEST), z[z < FARTHEST]
    index = Index.open(Path(str(files("omnisky"))) / "weights" / CLIP / "index")
    asked = embed(store.load(CLIP), seen, part="spectrum", precision="bf16")
    said = by_neighbours(index, asked, "redshift", by="spectrum")
    guess = np.full(len(z), np.median(index.objects["scalars"]["redshift"]))
    rows = tuple(
        (by, *map(str, (score.r2(z, each), score.sigma_nmad(z, each), score.outlier_fraction(z, each, 0.05))))
        for by, each in {"16 nearest made-up galaxies": said, "always their median": guess}.items()
    )
    title = f"Redshifts of {len(z)} real {name} with z < {FARTHEST} from their spectra, by neighbours on the mock sky"
    return Result({key: score.r2(z, said)}, (Grid(title, ("by", "R²", "σ_NMAD", "off by > 0.05"), rows),))


def _normalised(path: Path) -> tuple[Observation, np.ndarray]:
    """DESI spectra that were stored as arcsinh((flux − centre) / scale), and their redshifts.

    Their brightness is lost: each is brought to the same mean and spread.
    """
    with np.load(path, allow_pickle=False) as held:
        valid, wave, z = held["valid"].astype(bool), held["wave"].astype(np.float64), held["z"].astype(np.float64)
        flux = np.where(valid, np.sinh(held["asinh_flux"].astype(np.float64)), np.nan)
    centre, spread = np.nanmean(flux, 1, keepdims=True), np.nanstd(flux, 1, keepdims=True)
    shapes = (ASSUMED + ASSUMED * (flux - centre) / spread).astype(np.float32)
    ivar = valid.astype(np.float32)
    spectrum = Spectrum(flux=shapes, wavelength_aa=np.tile(wave, (len(z), 1)), ivar=ivar, good=valid)
    return Observation.of([f"edr-{i}" for i in range(len(z))], spectrum=spectrum), z


def _classes(seen: Observation, kind: np.ndarray) -> Result:
    """Galaxy or quasar: the stars are three."""
    seen, kind = seen.take(kind != "STAR"), kind[kind != "STAR"]
    x = embed(store.load(CLIP), seen, part="spectrum", precision="bf16").vectors
    rows, found = [], {}
    for name, each in {"omnisky-clip": x, "smoothed spectra": _smooth(seen)}.items():
        near = make_pipeline(StandardScaler(), KNeighborsClassifier(3))
        said = cross_val_predict(near, each, kind, cv=LeaveOneOut())
        found[name] = score.balanced_accuracy(kind, said)
        rows.append((name, str(score.accuracy(kind, said)), str(found[name])))
    title = f"Galaxy or quasar: {len(kind)} real SDSS spectra, by three neighbours among the others"
    return Result(
        {"aion/class": found["omnisky-clip"]}, (Grid(title, ("neighbours in", "accuracy", "balanced"), tuple(rows)),)
    )


def _stars(given: Inputs) -> Result:
    seen = read(given.folder(SPECTRA) / "lamost_spectra.npz")
    kind = _words(given.folder(SPECTRA) / "lamost_spectra.csv", "subclass")
    warm = np.array(["AFGKM".index(word[0]) * 10.0 + float(word[1]) for word in kind])
    x = embed(store.load(CLIP), seen, part="spectrum", precision="bf16").vectors
    rows, found = [], {}
    for name, each in {"omnisky-clip": x, "smoothed spectra": _smooth(seen)}.items():
        methods = (make_pipeline(StandardScaler(), RidgeCV(np.geomspace(0.1, 1e3, 9))), KNeighborsRegressor(5))
        said = [cross_val_predict(method, each, warm, cv=10) for method in methods]
        found[name] = score.r2(warm, said[0])
        rows.append((name, str(found[name]), str(score.r2(warm, said[1])), str(score.rmse(warm, said[0]))))
    title = f"Temperature class (A0 … M9, in tenths) of {len(warm)} real LAMOST stars from their spectra, ten folds"
    headers = ("from", "R², ridge", "R², 5 neighbours", "RMSE, ridge")
    return Result({"aion/stars": found["omnisky-clip"]}, (Grid(title, headers, tuple(rows)),))


def _smooth(seen: Observation, cells: int = 64) -> Float[np.ndarray, "object cell"]:
    """Mean flux in stretches of the spectrum over its mean: what anybody would do first."""
    spectrum = seen["spectrum"]
    flux = np.where(spectrum.where_good(), spectrum.flux, np.nan)
    parts = np.array_split(flux, cells, axis=1)
    mean = np.stack([np.nanmean(np.where(np.isfinite(p).any(1, keepdims=True), p, 0), axis=1) for p in parts], axis=1)
    return mean / np.abs(mean).mean(1, keepdims=True)


def _words(path: Path, column: str) -> np.ndarray:
    with path.open(newline="", encoding="utf-8") as file:
        return np.array([line[column] for line in csv.DictReader(file)])


TASKS = (Task("real-spectra", real_spectra, (SPECTRA,), (CLIP,)),)
