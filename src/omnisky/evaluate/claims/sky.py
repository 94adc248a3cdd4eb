"""Mock objects of known truth through omnisky-clip: stars from galaxies, warm stars from cool, what patches see."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from omnisky.adapt import score
from omnisky.codec.image import centred
from omnisky.codec.stretch import LegacyColours
from omnisky.codec.tokens import encode_all
from omnisky.embed import embed, only
from omnisky.evaluate.claims.found import Grid, Inputs, Result, Task
from omnisky.evaluate.claims.spectra import CLIP
from omnisky.model import store
from omnisky.observe.mock import MockSky, Population
from omnisky.observe.types import Image, Observation, concatenate

SKY = MockSky(objects=800, population=Population(seed=23, faintest_r_mag=19.5, stars=0.4), gaia_xp=True)
"""another seed than any model was trained on"""
SIDE_PX, PATCH_PX = 96, 12
"""what the image tower of omnisky-clip reads"""
AION, XP = "omnisky-aion", ("bp", "rp")
CLIP_STARS, AION_STARS = "omnisky-clip, DESI spectra", "omnisky-aion, Gaia XP coefficients"


def mock_sky(given: Inputs) -> Result:
    """All three on one sky of 800 objects; the last quarter is tested on."""
    pieces = []
    with given.count("mock sky") as watch:
        for start in range(0, len(SKY), 50):
            pieces.append(SKY.take(slice(start, start + 50)))
            if callable(watch):
                watch(start + len(pieces[-1]), len(SKY))
    seen = concatenate(pieces)
    test = np.arange(len(seen)) >= 3 * len(seen) // 4
    stars, warm, patches = _stars_or_galaxies(seen, test), _warm_stars(seen, test), _patches(seen)
    scores = {**stars.scores, **warm.scores, **patches.scores}
    return Result(scores, (*stars.grids, *warm.grids, *patches.grids), patches.drawn)


def _stars_or_galaxies(seen: Observation, test: Bool[np.ndarray, " object"]) -> Result:
    star = seen["truth"]["is_star"] > 0
    shape = _concentration(seen["image"])
    vectors = embed(store.load(CLIP), seen, part="image", precision="bf16").vectors
    near = make_pipeline(StandardScaler(), KNeighborsClassifier(15)).fit(vectors[~test], star[~test])
    trees = HistGradientBoostingClassifier(random_state=0).fit(shape[~test], star[~test])
    found = {
        "omnisky-clip, 15 neighbours": near.predict(vectors[test]),
        "boosted trees on light in circles": trees.predict(shape[test]),
    }
    rows = tuple(
        (name, str(score.accuracy(star[test], each)), str(score.balanced_accuracy(star[test], each)))
        for name, each in found.items()
    )
    grid = Grid(f"Star or galaxy: {int(test.sum())} mock cut-outs", ("by", "accuracy", "balanced"), rows)
    told = score.balanced_accuracy(star[test], found["omnisky-clip, 15 neighbours"])
    return Result({"aion/star": told}, (grid,))


def _concentration(image: Image) -> Float[np.ndarray, "object number"]:
    """Shares of the light within circles of 2 … 20 px about the middle, in r."""
    flux = image.flux[:, image.bands.index("r")]
    y, x = np.indices(flux.shape[1:]) - (flux.shape[-1] - 1) / 2
    within = [flux[:, np.hypot(x, y) < radius].sum(1) for radius in (2, 3, 4, 6, 9, 13, 20)]
    light = np.stack(within, axis=1)
    return light / np.maximum(light[:, -1:], 1e-6)


def _warm_stars(seen: Observation, test: Bool[np.ndarray, " object"]) -> Result:
    star = seen["truth"]["is_star"] > 0
    stars, away = seen.take(star), test[star]
    vectors = embed(store.load(CLIP), stars, part="spectrum", precision="bf16").vectors
    grid, found = _temperatures("", stars, away, {CLIP_STARS: vectors})
    bright = stars["bp"].there()  # Gaia tells no coefficients of the faint
    stars, away = stars.take(bright), away[bright]
    xp = np.concatenate([stars[name].values for name in XP], axis=1)
    of_xp = Observation(stars.object_id, stars.ra, stars.dec, {name: stars[name] for name in XP})
    x = {AION_STARS: embed(store.load(AION), of_xp).vectors, CLIP_STARS: vectors[bright]}
    x["the coefficients themselves"] = xp / np.abs(xp[:, :1]).clip(1e-12)  # shapes, not brightness
    grid_of_bright, found_of_bright = _temperatures(" with Gaia's XP coefficients", stars, away, x)
    scores = {"aion/teff": found[CLIP_STARS], "aion/xp": found_of_bright[AION_STARS]}
    return Result(scores, (grid, grid_of_bright))


def _temperatures(
    kind: str, stars: Observation, away: Bool[np.ndarray, " object"], vectors: dict[str, np.ndarray]
) -> tuple[Grid, dict[str, score.Score]]:
    """R² by ridge and by trees on each, of the stars that are `away`; ridge's counts."""
    truth, rows, found = np.log10(stars["truth"]["teff_k"]), [], {}
    for name, x in vectors.items():
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.geomspace(0.1, 1e4, 11)))
        trees = HistGradientBoostingRegressor(max_iter=100, min_samples_leaf=5, random_state=0)
        said = [way.fit(x[~away], truth[~away]).predict(x[away]) for way in (ridge, trees)]
        found[name] = score.r2(truth[away], said[0])
        rows.append((name, str(found[name]), str(score.r2(truth[away], said[1]))))
    title = f"log temperature of {int(away.sum())} mock stars{kind}, {int((~away).sum())} learnt: R²"
    return Grid(title, ("from", "ridge", "trees"), tuple(rows)), found


def _patches(seen: Observation, shown: int = 8) -> Result:
    """How well the first principal component of patch states tells objects from empty sky, unasked."""
    galaxies = seen.take(np.flatnonzero(seen["truth"]["is_star"] == 0)[:200])
    model = store.load(CLIP).eval()
    with torch.inference_mode():
        states = model.states(encode_all(model.codecs, only(galaxies, "image")))[:, 1:].float().numpy()
    truth, light = _object_patches(galaxies)
    first = _first_component(states)
    middle = np.zeros_like(truth).reshape(len(truth), SIDE_PX // PATCH_PX, -1)
    middle[:, 3:5, 3:5] = True  # the sign of a component is chance: objects are in the middle
    first *= np.sign(first[middle.reshape(truth.shape)].mean() - first.mean())
    told = {"first component of patch states": first, "light in the patch": light}
    found = {name: _over_objects(truth, each) for name, each in told.items()}
    rows = tuple((name, str(each)) for name, each in found.items())
    title = f"Objects or sky: {truth.size:,} patches of {len(truth)} mock galaxies' images"
    drawn = {"patch_states": states[:shown].round(4).tolist(), "patch_light": small(galaxies, shown).tolist()}
    return Result(
        {"astrodino/patches": found["first component of patch states"]}, (Grid(title, ("by", "AUC"), rows),), drawn
    )


def _over_objects(truth: Bool[np.ndarray, "object patch"], value: Float[np.ndarray, "object patch"]) -> score.Score:
    """AUC over all patches; the error is over objects."""
    return score.bootstrap(lambda t, v: score.area(t.ravel(), v.ravel()), truth, value, draws=100)


def _first_component(states: Float[np.ndarray, "object patch width"]) -> Float[np.ndarray, "object patch"]:
    rows = states.reshape(-1, states.shape[-1]) - states.mean((0, 1))
    _, axes = np.linalg.eigh(rows.T @ rows)
    return (rows @ axes[:, -1]).reshape(states.shape[:2])


def _object_patches(seen: Observation) -> tuple[Bool[np.ndarray, "object patch"], Float[np.ndarray, "object patch"]]:
    """Whether half of each patch is on a source, by the mock catalogue's map; and the light in it."""
    image, marked = seen["image"], seen["segmentation"].label > 0
    light = centred(image.flux[:, image.bands.index("r")], SIDE_PX)
    return _tiles(centred(marked, SIDE_PX)).mean(-1) > 0.5, _tiles(light).mean(-1).astype(np.float64)


def _tiles(pixels: np.ndarray) -> np.ndarray:
    side = SIDE_PX // PATCH_PX
    cut = pixels.reshape(len(pixels), side, PATCH_PX, side, PATCH_PX).swapaxes(2, 3)
    return cut.reshape(len(pixels), side * side, -1)


def small(seen: Observation, many: int) -> np.ndarray:
    """Colour pictures of the first few, 8 bit, of every second pixel."""
    image = seen.take(slice(many))["image"]
    planes = [image.bands.index(band) for band in "zrg"]
    flux = torch.from_numpy(np.ascontiguousarray(np.nan_to_num(image.flux[:, planes])))
    picture = LegacyColours().forward(flux).numpy()
    return np.round(255 * centred(picture, SIDE_PX)[..., ::2, ::2]).astype(np.uint8)


TASKS = (Task("mock-sky", mock_sky, models=(CLIP, AION)),)
