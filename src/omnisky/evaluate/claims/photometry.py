"""Real magnitudes and small real sets of images: yardsticks without any model of ours, and what a frozen one tells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.neighbors import KNeighborsRegressor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from omnisky.adapt import protocol, score
from omnisky.evaluate.claims.found import Grid, Inputs, Result, Task
from omnisky.evaluate.claims.zoo import NANO, at_64_px, nano_vectors, ridge
from omnisky.evaluate.morphology import pixel_components
from omnisky.model import store
from omnisky.observe.read import read
from omnisky.observe.sky import held_out
from omnisky.observe.types import Observation, concatenate

CATALOGUES, METALS = "catalogs", "sdss_metallicity_rgb"
NEIGHBOURS = 100
"""whose redshifts are the draws of a posterior"""


def photo_z(given: Inputs) -> Result:
    """Galaxies of the SDSS main sample, 5,000 of them learnt: by neighbours, by trees, and as posteriors."""
    (x, z), (asked, truth) = (_main_sample(given, side) for side in ("train", "test"))
    trees = HistGradientBoostingRegressor(random_state=0).fit(x, z)
    near = KNeighborsRegressor(20, weights="distance").fit(x, z)
    said = {"20 nearest neighbours": near.predict(asked), "boosted trees": trees.predict(asked)}
    worth = {name: protocol.photo_z(truth, each) for name, each in said.items()}
    draws = z[NearestNeighbors(n_neighbors=NEIGHBOURS).fit(x).kneighbors(asked, return_distance=False)]
    low, high = np.percentile(draws, (5, 95), axis=1)
    told = (
        ("coverage of 90 % intervals", score.coverage(truth, low, high)),
        ("CRPS", score.crps(truth, draws)),
        ("largest distance of PIT from uniform", score.pit_distance(truth, draws)),
    )
    rows = tuple((name, *map(fine, (w.r2, w.sigma_nmad, w.bias, w.outliers))) for name, w in worth.items())
    title = f"Redshifts of {len(truth):,} galaxies of the SDSS main sample from u g r i z"
    grids = (
        Grid(title, ("by", "R²", "σ_NMAD", "bias", "outliers > 0.15"), rows),
        Grid(
            f"Posteriors: the redshifts of {NEIGHBOURS} neighbours", ("", "score"), tuple((a, fine(b)) for a, b in told)
        ),
    )
    best = worth["boosted trees"]
    words = f"R² {best.r2}\nσ_NMAD {fine(best.sigma_nmad)}\noutliers {fine(best.outliers)}"
    drawn = {"truth": truth.tolist(), "said": said["boosted trees"].tolist(), "words": words}
    scores = {"aion/photometry": best.r2}
    return Result(scores, grids, drawn | {"pit": score.pit(truth, draws).tolist()})


def fine(one: score.Score) -> str:
    """To four digits: redshifts of bright galaxies are that good."""
    return f"{one.value:.4f} ± {one.error:.4f}"


def _main_sample(given: Inputs, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude and colours, standardised by the same numbers on both sides; redshifts."""
    columns = ("r", "u-g", "g-r", "r-i", "i-z")
    tables = {
        name: pq.read_table(given.folder(CATALOGUES) / f"sdss_mgs_photoz_{name}.parquet") for name in ("train", "test")
    }
    x = {name: np.stack([table[c].to_numpy() for c in columns], axis=1) for name, table in tables.items()}
    return StandardScaler().fit(x["train"]).transform(x[side]), tables[side]["zs"].to_numpy()


def classes(given: Inputs) -> Result:
    """10,000 objects with SDSS spectra: star, galaxy or quasar from five magnitudes, split by cells of sky."""
    table = pq.read_table(given.folder(CATALOGUES) / "sdss_dr14_10k.parquet")
    mags = np.stack([table[band].to_numpy() for band in "ugriz"], axis=1)
    x = np.column_stack([mags[:, 2], mags[:, :-1] - mags[:, 1:]])
    kind = np.asarray(table["class"].to_pylist())
    test = held_out(Observation.of(range(len(kind)), table["ra"].to_numpy(), table["dec"].to_numpy()), 0.3)
    trees = HistGradientBoostingClassifier(random_state=0).fit(x[~test], kind[~test])
    said, names = trees.predict(x[test]), sorted(set(kind))
    cells = score.confusion(np.searchsorted(names, kind[test]), np.searchsorted(names, said), len(names))
    scores = (
        score.accuracy(kind[test], said),
        score.balanced_accuracy(kind[test], said),
        score.macro_f1(kind[test], said),
    )
    title = f"Star, galaxy or quasar: {int(test.sum()):,} SDSS objects of other cells of sky, from magnitudes"
    grid = Grid(title, ("by", "accuracy", "balanced", "macro F1"), (("boosted trees", *map(str, scores)),))
    return Result({}, (grid,), {"confusion": cells.tolist(), "names": [name.lower() for name in names]})


def metals(given: Inputs) -> Result:
    """Oxygen in the gas of 500 real galaxies, from their pictures."""
    sides = [at_64_px(_shown(read(given.folder(METALS) / f"{side}_128px_jpeg.npz"))) for side in ("train", "test")]
    seen = concatenate(sides)
    test = np.arange(len(seen)) >= len(sides[0])
    truth = seen["scalars"]["oh_p50"]
    x = nano_vectors(store.load(NANO), seen, given).astype(np.float64)
    pixels = pixel_components(seen, ~test).astype(np.float64)
    colours = np.concatenate([seen["image"].flux[:, :, 24:40, 24:40].mean((2, 3)), seen["image"].flux.mean((2, 3))], 1)
    trees = {
        name: HistGradientBoostingRegressor(max_iter=60, random_state=0)
        .fit(one[~test], truth[~test])
        .predict(one[test])
        for name, one in {"colours": colours, "PCA of pixels": pixels}.items()
    }
    said = {"ridge on omnisky-nano": ridge(x, truth, test), "ridge on PCA of pixels": ridge(pixels, truth, test)}
    said |= {f"boosted trees on {name}": each for name, each in trees.items()}
    rows = tuple(
        (name, str(score.r2(truth[test], each)), str(score.rmse(truth[test], each))) for name, each in said.items()
    )
    grid = Grid("12 + log O/H of 100 galaxies from their SDSS pictures, 400 learnt", ("by", "R²", "RMSE / dex"), rows)
    gain = score.r2_gain(truth[test], said["ridge on omnisky-nano"], trees["colours"])
    return Result({"astropt/metals": gain}, (grid,))


def _shown(seen: Observation) -> Observation:
    """Without columns that only one of the sides has."""
    kept = seen["scalars"]
    place = kept.names.index("oh_p50")
    return seen | {"scalars": replace(kept, values=kept.values[:, [place]], names=("oh_p50",), units=("",))}


TASKS = (
    Task("photo-z", photo_z, (CATALOGUES,)),
    Task("classes", classes, (CATALOGUES,)),
    Task("metals", metals, (METALS,), (NANO,)),
)
