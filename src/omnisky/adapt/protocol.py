"""How the papers measured, as functions: the same neighbours, the same layers, the same cuts, the same sets apart.

    AstroCLIP   Parker et al. 2024, MNRAS 531, 4990: zero-shot and few-shot (§5.2), Galaxy Zoo cuts (§5, morphology)
    AION-1      Parker et al. 2025, arXiv:2510.17960: linear probe on four fifths (App. H.4), retrieval (Fig. 7)
    AstroPT     Smith et al. 2024, arXiv:2405.14930: linear probes of one half on the other (§4)
    Euclid      Siudek et al. 2025, arXiv:2503.15312: what a photometric redshift is worth, shares of the labels

What a paper leaves open is said where it was decided. Their sets are split at random; where an object of the sky may
be twice in a set, split by cells with `observe.sky.held_out` and hand over both sides instead.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from omnisky.adapt.score import Score, bias, bootstrap, ndcg_at, outlier_fraction, r2, sigma_nmad
from omnisky.errors import BadValue

NEIGHBOURS = 64
"""AstroCLIP §5.2"""

Vectors = Float[np.ndarray, "object width"]


# --- AstroCLIP ----------------------------------------------------------------------------------------------------


def astroclip_zero_shot(
    x: Vectors, y: Float[np.ndarray, "object n"], asked: Float[np.ndarray, "test width"]
) -> Float[np.ndarray, "test n"]:
    """64 nearest neighbours, nearer ones count more, in standardised embeddings (§5.2). Raises BadValue for fewer."""
    if len(x) < NEIGHBOURS:
        raise BadValue("too few to have neighbours", saw=f"{len(x)} objects", want=f"{NEIGHBOURS} or more")
    scaler = StandardScaler().fit(x)
    said = KNeighborsRegressor(NEIGHBOURS, weights="distance", n_jobs=-1).fit(scaler.transform(x), y)
    return said.predict(scaler.transform(asked))


def astroclip_few_shot(
    x: Vectors, y: Float[np.ndarray, "object n"], asked: Float[np.ndarray, "test width"]
) -> Float[np.ndarray, "test n"]:
    """Two hidden layers of 64, ten passes of Adam at 1e-3 in batches of 64 (§5.2); without the paper's dropout."""
    scaler, targets = StandardScaler().fit(x), StandardScaler().fit(y)
    net = MLPRegressor(
        hidden_layer_sizes=(64, 64), batch_size=64, max_iter=10, tol=0, n_iter_no_change=20, alpha=0, random_state=0
    )
    with warnings.catch_warnings():  # ten passes are what is asked for
        warnings.simplefilter("ignore", ConvergenceWarning)
        goal = targets.transform(y)
        net.fit(scaler.transform(x), goal if goal.shape[1] > 1 else goal[:, 0])
    return targets.inverse_transform(net.predict(scaler.transform(asked)).reshape(-1, y.shape[1]))


@dataclass(frozen=True, eq=False)
class Sides:
    """Who is learnt from, and who is tested on. Some are neither."""

    learn: Bool[np.ndarray, " object"]
    test: Bool[np.ndarray, " object"]


def astroclip_galaxy_zoo(votes_first: Float[np.ndarray, " object"], votes_asked: Float[np.ndarray, " object"]) -> Sides:
    """Galaxy Zoo DECaLS as AstroCLIP cuts it (§5, morphology): the first 80 % of the rows learn, the last 20 % test.

    Of galaxies with 3 votes or more on the first question; tested on where more than 34 voted on the one asked.
    """
    known = votes_first >= 3
    early = np.cumsum(known) <= 0.8 * known.sum()
    return Sides(known & early, known & ~early & (votes_asked > 34))


# --- AION-1 -------------------------------------------------------------------------------------------------------


def aion_split(objects: int, seed: int = 0) -> Sides:
    """A random four fifths learn; the paper does not say its seed."""
    away = np.random.default_rng(seed).permutation(objects) < objects // 5
    return Sides(~away, away)


def aion_linear_probe(x: Vectors, y: Float[np.ndarray, "object n"], sides: Sides) -> tuple[Score, ...]:
    """R² of each number by one linear layer on mean-pooled states (App. H.4), of the objects tested on.

    Solved instead of trained: ridge with a penalty of 1 on standardised states.
    """
    probe = make_pipeline(StandardScaler(), Ridge(1.0)).fit(x[sides.learn], y[sides.learn])
    said = np.asarray(probe.predict(x[sides.test])).reshape(-1, y.shape[1])
    return tuple(r2(y[sides.test, i], said[:, i]) for i in range(y.shape[1]))


def aion_retrieval(
    x: Vectors, vote: Float[np.ndarray, " object"], examples: int = 1, *, sure: float = 0.9, k: int = 10, seed: int = 0
) -> Score:
    """nDCG@k of look-alikes by cosine (Fig. 7): asked for with those whose vote is above `sure`, relevance is the vote.

    With several `examples` each question is the mean of so many drawn among them, itself the first; all of them are
    left out of the answer. At most 500 questions. Raises BadValue where there are not enough.
    """
    sure_rows = np.flatnonzero(vote > sure)
    if len(sure_rows) < examples + 1:
        raise BadValue("examples", saw=f"{len(sure_rows)} above {sure}", want=f"more than {examples}")
    units = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    draw = np.random.default_rng(seed)
    asked = draw.permutation(sure_rows)[:500]
    others = [draw.choice(sure_rows[sure_rows != row], examples - 1, replace=False) for row in asked]
    shown = np.column_stack([asked, np.reshape(others, (len(asked), examples - 1)).astype(asked.dtype)])
    likeness = units[shown].mean(1) @ units.T
    np.put_along_axis(likeness, shown, -np.inf, axis=1)
    return ndcg_at(np.broadcast_to(vote, likeness.shape).astype(np.float64), likeness.astype(np.float64), k)


# --- AstroPT ------------------------------------------------------------------------------------------------------


def astropt_linear_probe(x: Vectors, y: Float[np.ndarray, " object"]) -> Score:
    """Median absolute error in units of the interquartile range; smaller is better (§4 and its `linear_probe`).

    Left out: what is not finite, and what lies farther from the median than three times the median distance from it.
    Least squares on the first half of what is left, asked about the second.
    """
    known = astropt_kept(y)
    rows, width = np.flatnonzero(known), np.subtract(*np.percentile(y[known], (75, 25)))
    if len(rows) < 4 or not width:
        raise BadValue(
            "a probe of halves", saw=f"{len(rows)} objects, {width} between quartiles", want="numbers that vary"
        )
    half = len(rows) // 2
    probe = LinearRegression().fit(x[rows[:half]], y[rows[:half]] / width)
    off = np.abs(probe.predict(x[rows[half:]]) - y[rows[half:]] / width)
    return bootstrap(lambda e: float(np.median(e)), off)


def astropt_kept(y: Float[np.ndarray, " object"]) -> Bool[np.ndarray, " object"]:
    """Who is left by AstroPT's cut: finite, and within three median distances of the median."""
    finite = np.isfinite(y)
    off = np.abs(y - np.median(y[finite])) if finite.any() else y
    return finite & (off <= 3 * np.median(off[finite])) if finite.any() else finite


def astropt_ridge(x: Vectors, y: Float[np.ndarray, " object"], seed: int = 0) -> Score:
    """R² of ridge with a penalty of 100 on standardised states, each object told by the other four of five folds.

    As the group's later work on what AstroPT knows (COLM 2026).
    """
    folds = KFold(5, shuffle=True, random_state=seed)
    return r2(y, cross_val_predict(make_pipeline(StandardScaler(), Ridge(100.0)), x, y, cv=folds))


# --- Euclid -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PhotoZ:
    """What a photometric redshift is worth."""

    bias: Score
    sigma_nmad: Score
    outliers: Score
    """|Δz| / (1 + z) > 0.15"""
    r2: Score


def photo_z(truth: Float[np.ndarray, " object"], said: Float[np.ndarray, " object"]) -> PhotoZ:
    """Bias, scatter and outliers as the Euclid Q1 paper has them, and R² as AION-1 and AstroCLIP have it."""
    return PhotoZ(bias(truth, said), sigma_nmad(truth, said), outlier_fraction(truth, said), r2(truth, said))


def labelled_share(
    learn: Integer[np.ndarray, " labelled"], share: float, seed: int = 0
) -> Integer[np.ndarray, " less"]:
    """The first rows of one random order, so that a smaller share is part of a larger one: 1, 5, 10 … 100 %."""
    if not 0 < share <= 1:
        raise BadValue("share", saw=share, want="0 < share ≤ 1")
    return np.random.default_rng(seed).permutation(learn)[: max(round(share * len(learn)), 2)]
