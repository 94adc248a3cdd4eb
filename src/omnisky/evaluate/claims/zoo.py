"""Real galaxies of Galaxy Zoo 2 through omnisky-nano: few labels, votes, rarities, oddities, another survey.

The model never saw a label, nor the galaxies that are tested on. Of the 1,000 with all votes, whose ids are others, it
may have seen pictures.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from omnisky.adapt.probe import LinearProbe
from omnisky.adapt.protocol import aion_retrieval, labelled_share
from omnisky.adapt.score import Score, area, auc, bootstrap, r2, r2_gain
from omnisky.codec.tokens import encode_all
from omnisky.embed import Embedding, token_states
from omnisky.evaluate.claims.found import Grid, Inputs, Result, Task
from omnisky.evaluate.morphology import HELD_OUT, cnn_in, mean_and_spread, measured_shapes, pixel_components
from omnisky.evaluate.morphology import Task as Labelled
from omnisky.model import store
from omnisky.observe.npz import load_npz
from omnisky.observe.read import read
from omnisky.observe.sky import held_out
from omnisky.observe.types import Image, Observation
from omnisky.search import flat_map
from omnisky.search.label import ask
from omnisky.search.odd import oddness

NANO = "omnisky-nano"
CLASSES, FULL, OTHER = "galaxyzoo2_kaggle_rgb", "gz2_objid_votes1000_rgb", "legacysurvey_nair_manga_rgb"
CLASSED, VOTES = "gz2_64px_jpeg.npz", "gz2_votes5000_64px_jpeg.npz"
"""in the first of them"""
SHARES, STEPS = (0.01, 0.03, 0.1, 0.3, 1.0), 400
"""of LEARN labels; steps of at most 128 galaxies that the supervised network takes with them"""
LEARN, TEST = 3000, 1500
SMOOTH, FEATURED, EDGE_ON, ODD, MERGER = "Class1.1", "Class1.2", "Class2.1", "Class6.1", "Class8.6"
NAMES = {SMOOTH: "smooth", FEATURED: "features or disc", EDGE_ON: "edge-on", ODD: "odd", MERGER: "merger"}
ODD_YES = "t06_odd_a14_yes_debiased"
RARE = {
    "spirals": (
        "t01_smooth_or_features_a02_features_or_disk_debiased",
        "t02_edgeon_a05_no_debiased",
        "t04_spiral_a08_spiral_debiased",
    ),
    "mergers": (ODD_YES, "t08_odd_feature_a24_merger_debiased"),
    "rings": (ODD_YES, "t08_odd_feature_a19_ring_debiased"),
}
"""the votes that lead there, question by question: their product is the share of all who looked"""
SURE = 0.5
"""of that share, above which a galaxy is an example (the paper: 0.9 of those who came to the last question)"""
CHANCE = "by chance"


# --- few labels ---------------------------------------------------------------------------------------------------


def few_labels(given: Inputs) -> Result:
    """Accuracy of five classes with 1 … 100 % of 3,000 labels: a probe on frozen states, trees, a network."""
    seen = _some(read(given.folder(CLASSES)))
    task = Labelled.of(seen)
    model, learn = store.load(NANO), np.flatnonzero(~task.test)
    vectors = {
        f"{NANO}, linear probe": nano_vectors(model, seen, given),
        "boosted trees on measured shapes": measured_shapes(model.codecs, seen),
        "boosted trees on PCA of pixels": pixel_components(seen, ~task.test),
    }
    right: dict[str, list[np.ndarray]] = {}
    for share in SHARES:
        rows = labelled_share(learn, share)
        for name, x in vectors.items():
            probe = LinearProbe() if name.startswith(NANO) else _trees(len(rows))
            said = probe.fit(x[rows], task.label[rows]).predict(x[task.test])
            right.setdefault(name, []).append(said == task.label[task.test])
        with given.count(f"supervised CNN, {len(rows)} labels") as watch:
            seen_steps = (lambda now, bar=watch: bar(now.step, now.steps)) if callable(watch) else None
            told = replace(task, learn=rows)
            chance = cnn_in(given.work / f"cnn-{STEPS}-{told.key}", STEPS, watch=seen_steps)(told)
        right.setdefault("supervised CNN", []).append(chance.argmax(1) == task.label[task.test])
    sizes = np.array([len(labelled_share(learn, share)) for share in SHARES])
    return _of_curves(sizes, {name: np.stack(each, axis=1) for name, each in right.items()}, len(seen))


def _of_curves(sizes: np.ndarray, right: dict[str, np.ndarray], objects: int) -> Result:
    """From who was right about which object (row) with how many labels (column)."""
    ours, theirs = right[f"{NANO}, linear probe"], right["supervised CNN"]
    curves = {
        name: [bootstrap(np.mean, each[:, i].astype(float)) for i in range(len(sizes))] for name, each in right.items()
    }

    def gain(column: int) -> Score:
        return bootstrap(lambda a, b: float(a.mean() - b.mean()), *(x[:, column].astype(float) for x in (ours, theirs)))

    fewer = bootstrap(lambda a, b: labels_saved(sizes, a.mean(0), b.mean(0)), ours, theirs)
    scores = {"aion/labels": fewer, "euclid/few": gain(0), "aion/morphology": gain(len(sizes) - 1)}
    rows = tuple((name, *map(str, each)) for name, each in curves.items())
    grid = Grid(
        f"Five classes of {objects:,} galaxies of Galaxy Zoo 2, {len(ours):,} of them tested on: accuracy",
        ("method", *(f"{n:,} labels" for n in sizes)),
        rows,
    )
    drawn = {name: [[s.value for s in each], [s.error for s in each]] for name, each in curves.items()}
    return Result(scores, (grid,), {"labels": sizes.tolist(), "curves": drawn})


def labels_saved(sizes: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> float:
    """How many times as many labels they need to be as good: the median over the sizes where both can say.

    Along straight lines in the logarithm of the number of labels; where they never get there, with the most they have:
    a lower limit. NaN where we are never as good as they with the fewest.
    """
    climb = np.maximum.accumulate(theirs) + 1e-9 * np.arange(len(theirs))
    needed = np.exp(np.interp(ours, climb, np.log(sizes)))
    inside = ours >= climb[0]
    return float(np.median((needed / sizes)[inside])) if inside.any() else float("nan")


def _trees(labels: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=60, min_samples_leaf=min(20, max(labels // 20, 2)), random_state=0)


def _some(seen: Observation, seed: int = 0) -> Observation:
    """LEARN galaxies to learn from and TEST held-out ones, drawn once."""
    test = held_out(seen, HELD_OUT)
    order = np.random.default_rng(seed).permutation(len(seen))
    rows = np.concatenate([order[~test[order]][:LEARN], order[test[order]][:TEST]])
    return seen.take(np.sort(rows))


def nano_vectors(model: nn.Module, seen: Observation, given: Inputs) -> Float[np.ndarray, "object n"]:
    """Mean and spread of the states of each modality's tokens, as the README's probes read them."""
    lengths = model.junction.layout(encode_all(model.codecs, seen.take([0]))).lengths
    pieces = []
    with given.count("embed") as watch:
        for start in range(0, len(seen), 512):
            rows = seen.take(slice(start, start + 512))
            pieces.append(mean_and_spread(token_states(model, rows), 1, lengths))
            if callable(watch):
                watch(start + len(rows), len(seen))
    return np.concatenate(pieces)


# --- votes, oddities, another survey ------------------------------------------------------------------------------


def votes(given: Inputs) -> Result:
    """4,299 galaxies with vote fractions: told by a linear probe, laid on a map, sorted by oddness."""
    seen = read(given.folder(CLASSES) / VOTES)
    known, model, test = seen["scalars"], store.load(NANO), held_out(seen, HELD_OUT)
    x = nano_vectors(model, seen, given).astype(np.float64)
    pixels = pixel_components(seen, ~test).astype(np.float64)
    lines, gains = [], {}
    for column, name in NAMES.items():
        truth = known[column]
        trees = HistGradientBoostingRegressor(max_iter=60, random_state=0).fit(pixels[~test], truth[~test])
        said = (ridge(x, truth, test), ridge(pixels, truth, test), trees.predict(pixels[test]))
        lines.append((name, *(str(r2(truth[test], each)) for each in said)))
        gains[column] = r2_gain(truth[test], said[0], said[2])
    headers = ("votes for", "ridge on omnisky-nano", "ridge on PCA of pixels", "boosted trees on PCA of pixels")
    grid = Grid(f"Vote fractions of {int(test.sum()):,} held-out galaxies of Galaxy Zoo 2: R²", headers, tuple(lines))
    unseen = test | ~np.isin(seen.object_id, _ids(given))
    there = seen.take(unseen)
    rest = Embedding(x[unseen], there.object_id, there.ra, there.dec, "votes")
    odd, flat = _oddities(rest, pixels[unseen], known[ODD][unseen]), flat_map(rest)
    drawn = {"xy": flat.xy.round(3).tolist(), "method": flat.method}
    drawn |= {"properties": {NAMES[c]: known[c][unseen].round(3).tolist() for c in (FEATURED, EDGE_ON, ODD)}}
    return Result({"astropt/votes": gains[SMOOTH], **odd.scores}, (grid, *odd.grids), drawn)


def _ids(given: Inputs) -> np.ndarray:
    """Of the galaxies with classes, on most of which the model was trained."""
    return load_npz(given.folder(CLASSES) / CLASSED, only="galaxy_id")["galaxy_id"].astype(str)


def ridge(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    probe = make_pipeline(StandardScaler(), RidgeCV(np.geomspace(1, 1e4, 9)))
    return probe.fit(x[~test], y[~test]).predict(x[test])


def _oddities(seen: Embedding, pixels: np.ndarray, vote: np.ndarray) -> Result:
    """How well oddness without labels, and then with 10 … 40, finds what people called odd."""
    odd = vote > 0.5
    blind = {"omnisky-nano": oddness(seen), "PCA of pixels": oddness(replace(seen, vectors=pixels))}
    found = {name: (auc(odd, score), _among_first(odd, score)) for name, score in blind.items()}
    labelled = taught(seen, odd, blind["omnisky-nano"])
    rows: list[tuple[str, ...]]
    rows = [(f"isolation forest and LOF on {name}", str(a), str(b)) for name, (a, b) in found.items()]
    for n, (free, chance) in labelled.items():
        told = auc(odd[free], chance), _among_first(odd[free], chance)
        rows.append((f"omnisky-nano, {n} labels asked for in rounds (among the others)", *map(str, told)))
    free, chance = labelled[max(labelled)]
    sharper = bootstrap(
        lambda o, a, b: area(o, a) - area(o, b), odd[free], chance, blind["omnisky-nano"][free]
    )  # the same objects, those without a label
    grid = Grid(
        f"{int(odd.sum())} of {len(odd):,} galaxies were called odd (vote > 0.5), {odd.mean():.1%}",
        ("ranked by", "AUC", "share of odd ones among the first 5 %"),
        tuple(rows),
    )
    first = found["omnisky-nano"][1]
    gain = Score(first.value - float(odd.mean()), first.error)
    return Result({"euclid/odd": gain, "euclid/labels": sharper}, (grid,))


def _among_first(odd: np.ndarray, score: np.ndarray, share: float = 0.05) -> Score:
    first = np.argsort(-score)[: round(share * len(score))]
    return bootstrap(lambda o: float(o.mean()), odd[first].astype(float))


def taught(
    seen: Embedding, odd: np.ndarray, blind: np.ndarray, rounds: int = 4
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Number of labels → who has none yet, and their chance to be odd.

    Ten labels a round: first the five odd ones and the five others that come first by oddness, as somebody finds who
    looks down the list; then the five likeliest and the five least sure.
    """
    order = np.argsort(-blind)
    begin = (*order[odd[order]][:5], *order[~odd[order]][:5])
    labels = {seen.object_id[row]: bool(odd[row]) for row in begin}
    told = {}
    for turn in range(1, rounds + 1):
        answer = ask(seen, labels, 10)
        free = np.flatnonzero(~np.isin(seen.object_id, list(labels)))
        told[10 * turn] = free, answer.chance[free]
        rows = [*answer.best[:5], *[row for row in answer.unsure if row not in answer.best[:5]][:5]]
        labels |= {seen.object_id[row]: bool(odd[row]) for row in rows}
    return told


# --- rarities by example ------------------------------------------------------------------------------------------


def rarities(given: Inputs) -> Result:
    """1,000 galaxies with all votes: look-alikes of spirals, mergers, rings, by one and by fifteen (nDCG@10)."""
    seen = at_64_px(read(given.folder(FULL)))
    known = seen["scalars"]
    x = {
        "omnisky-nano": nano_vectors(store.load(NANO), seen, given),
        "PCA of pixels": pixel_components(seen, np.ones(len(seen), bool)),
    }
    x = {name: StandardScaler().fit_transform(each) for name, each in x.items()}
    x[CHANCE] = np.random.default_rng(0).normal(size=x["omnisky-nano"].shape)
    rows, found, chance = [], {}, {}
    for kind, columns in RARE.items():
        vote = np.prod([np.nan_to_num(known[column]) for column in columns], axis=0)
        for many in (1, 15):
            each = {name: aion_retrieval(one, vote, many, sure=SURE) for name, one in x.items()}
            found[kind, many], chance[kind, many] = each["omnisky-nano"], each[CHANCE]
            rows.append((kind, str(many), *map(str, each.values()), f"{vote.mean():.3f}"))
    headers = ("asked for", "examples", *x, "mean vote")
    grid = Grid(f"Look-alikes among {len(seen):,} galaxies of Galaxy Zoo 2: nDCG@10", headers, tuple(rows))
    scores = {f"aion/find {kind}": found[kind, 1] for kind in RARE}
    scores["aion/find rings"] = _gained(chance["rings", 1], found["rings", 1])
    several = {f"aion/several {kind}": _gained(found[kind, 1], found[kind, 15]) for kind in RARE}
    return Result(scores | several, (grid,))


def _gained(less: Score, more: Score) -> Score:
    return Score(more.value - less.value, float(np.hypot(less.error, more.error)))


def at_64_px(seen: Observation) -> Observation:
    """Display images at the size the model knows."""
    image: Image = seen["image"]
    pixels = torch.from_numpy(image.flux).float()
    small = F.interpolate(pixels, (64, 64), mode="bilinear", antialias=True, align_corners=False)
    return seen | {"image": replace(image, flux=small.round().clamp(0, 255).byte().numpy())}


# --- another survey -----------------------------------------------------------------------------------------------


def other_survey(given: Inputs) -> Result:
    """Features or none by votes on SDSS, asked of held-out ones, and of others whether they are Sa or later."""
    here, there = read(given.folder(CLASSES) / VOTES), read(given.folder(OTHER))
    image: Image = there["image"]
    quarter = image.flux.shape[-1] // 4
    middle = image.flux[..., quarter:-quarter, quarter:-quarter]  # a cut-out is wide; the galaxy is what counts
    there = at_64_px(there | {"image": replace(image, flux=np.ascontiguousarray(middle))})
    model, test = store.load(NANO), held_out(here, HELD_OUT)
    truth = {"SDSS": here["scalars"][FEATURED][test] > 0.5}
    stage = there["scalars"]["TType"]
    known = np.isfinite(stage)
    truth["Legacy Survey"] = stage[known] > 0  # Hubble stage: ellipticals and lenticulars are 0 and below
    pixels_here = pixel_components(here, ~test)
    said: dict[str, dict[str, np.ndarray]] = {}
    for name, (x, away) in {
        "omnisky-nano": (nano_vectors(model, here, given), nano_vectors(model, there, given)[known]),
        "PCA of pixels": (pixels_here, _same_components(here, there, ~test)[known]),
    }.items():
        probe = LinearProbe().fit(x[~test], here["scalars"][FEATURED][~test] > 0.5)
        said[name] = {"SDSS": probe.predict_proba(x[test])[:, 1], "Legacy Survey": probe.predict_proba(away)[:, 1]}
    scores = {name: {place: auc(truth[place], each[place]) for place in truth} for name, each in said.items()}
    rows = tuple((name, *(str(each[place]) for place in truth)) for name, each in scores.items())
    many = ", ".join(f"{len(each):,} of {place}" for place, each in truth.items())
    title = f"Features or none, learnt on SDSS votes, asked of {many} (there: Sa or later by experts): AUC"
    grid = Grid(title, ("linear probe on", *truth), rows)
    return Result({"aion/survey": _gained(scores[NANO]["SDSS"], scores[NANO]["Legacy Survey"])}, (grid,))


def _same_components(here: Observation, there: Observation, fit: np.ndarray) -> np.ndarray:
    """The other set's pixels on the axes of this one."""
    flux = np.concatenate([here["image"].flux, there["image"].flux])
    both = Observation.of(range(len(flux)), image=replace(here["image"], flux=flux))
    return pixel_components(both, np.append(fit, np.zeros(len(there), bool)))[len(here) :]


TASKS = (
    Task("few-labels", few_labels, (CLASSES,), (NANO,)),
    Task("votes", votes, (CLASSES,), (NANO,)),
    Task("rarities", rarities, (FULL,), (NANO,)),
    Task("other-survey", other_survey, (CLASSES, OTHER), (NANO,)),
)
