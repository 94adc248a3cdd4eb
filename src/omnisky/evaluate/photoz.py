"""Redshifts of real galaxies from their magnitudes: an any-to-any model beside neighbours, a forest and boosted trees.

All learn from the same galaxies and are asked about the same ones, split by cells of sky (by objects, where positions
are not known). Tokens know of no order among their ids, and some thousand galaxies are few to learn one from: so the
model begins with tables in which neighbouring ids are alike, and sees each galaxy many times, its magnitudes moved by
their errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from omnisky.adapt.score import Score, bootstrap, nmad
from omnisky.codec import token_shards
from omnisky.codec.book import CodecBook, tokenize
from omnisky.codec.saved import save_codecs, signature
from omnisky.codec.scalar import ScalarCodec, ScalarPlan, fitted, sample
from omnisky.codec.tokens import Tokens
from omnisky.errors import MissingModality
from omnisky.evaluate.pairs import Watch
from omnisky.evaluate.posteriors import Told, gain, judge, point_scores
from omnisky.generate import Posterior, posterior
from omnisky.model import store
from omnisky.model.masked import AnyToAny
from omnisky.observe.sky import splits
from omnisky.observe.tables import find_position, from_table, load_table
from omnisky.observe.types import Observation, Scalars
from omnisky.recipes.photoz import COLOURS, INPUTS, LEVELS, MAGNITUDES, REDSHIFT, REDSHIFT_LEVELS, aion_photoz
from omnisky.train.config import Run, edit
from omnisky.train.loop import train

SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
BEYOND = 0.05
"""of |Δz| / (1 + z), from which on a redshift of the main galaxy sample counts as an outlier (Pasquet et al. 2019)"""
COPIES = 20
FOREST = 300
"""trees"""
MOVED_MAG = 0.01
"""how far copies' magnitudes are moved where errors are not known: about those of SDSS at r = 17"""


def catalogue(path: str | Path) -> Observation:
    """A catalogue with or without positions, objects called by their rows. Raises as `observe.tables.read_table`."""
    table = load_table(Path(path).expanduser())
    place = {} if find_position(tuple(table.columns)) else {"ra": None, "dec": None}
    return from_table(table, str(path), object_id=None, **place)


@dataclass(frozen=True, eq=False)
class Galaxies:
    """Magnitudes, colours and redshifts, and which side of the split each galaxy is on."""

    seen: Observation
    """scalars: MAGNITUDES, COLOURS and Z"""
    error_mag: Float[np.ndarray, "object 5"]
    side: np.ndarray

    @classmethod
    def of(cls, seen: Observation, low: float = 0.002, high: float = 1.0) -> Galaxies:
        """From a table with u, g, r, i, z and `redshift`, `zs` or `z_spec`; `class` = GALAXY where it says classes.

        Redshifts outside low … high and magnitudes outside 5 … 30 are left out. Raises MissingModality.
        """
        table: Scalars = seen["scalars"]
        column = next((name for name in ("redshift", "zs", "z_spec") if name in table.names), None)
        if column is None or not set(MAGNITUDES) <= set(table.names):
            raise MissingModality("photometric redshifts", saw=table.names, want=(*MAGNITUDES, "redshift"))
        mags, z = np.stack([table[name] for name in MAGNITUDES], 1), table[column]
        errors = [table[f"e{name}"] if f"e{name}" in table.names else 0 * z + MOVED_MAG for name in MAGNITUDES]
        kept = (z > low) & (z < high) & ((mags > 5) & (mags < 30)).all(1)
        columns = [getattr(part, "columns", {}) for part in seen.parts.values()]
        kind = next((one["class"] for one in columns if "class" in one), None)
        kept &= np.ones_like(kept) if kind is None else np.char.upper(np.asarray(kind).astype(str)) == "GALAXY"
        values = np.column_stack([mags, mags[:, :-1] - mags[:, 1:], z])[kept]
        told = Scalars(values=values, names=(*MAGNITUDES, *COLOURS, "Z"), units=("mag",) * 9 + ("",))
        whole = seen.take(kept)
        some = Observation(whole.object_id, whole.ra, whole.dec, {"scalars": told})
        return cls(some, np.stack(errors, 1)[kept], splits(some, SHARES, guard_arcsec=0))

    def on(self, side: str) -> Observation:
        return self.seen.take(self.side == side)

    def copies(self, count: int, seed: int = 0) -> Observation:
        """The training galaxies so many times, all but the first with magnitudes moved by their errors."""
        seen, error = self.on("train"), self.error_mag[self.side == "train"]
        draw, table = np.random.default_rng(seed), seen["scalars"]
        values, ids = [table.values], [seen.object_id]
        for i in range(1, count):
            mags = table.values[:, :5] + np.clip(error, 0.005, 0.2) * draw.standard_normal(error.shape)
            values.append(np.column_stack([mags, mags[:, :-1] - mags[:, 1:], table.values[:, -1]]))
            ids.append(np.char.add(seen.object_id, f"/{i}"))
        return Observation.of(np.concatenate(ids), scalars=replace(table, values=np.concatenate(values)))


@dataclass(frozen=True, eq=False)
class Table:
    """All that was measured."""

    told: Told
    """of the model's posteriors"""
    yardsticks: dict[str, dict[str, Score]]
    """method → sigma_nmad, outliers, bias, and crps: of a number without a posterior, its mean absolute error"""
    ahead: Score
    """mean |Δ| / (1 + z) of boosted trees less the model's, galaxy by galaxy: above 0, the model is better"""
    ahead_nmad: Score
    """σ_NMAD of boosted trees less the model's, on the same resampled galaxies"""
    posteriors: Posterior
    truth: Float[np.ndarray, " object"]
    learnt: int


def measure(seen: Observation, folder: Path, watch: Watch, changes: Sequence[str] = (), copies: int = COPIES) -> Table:
    """Train the model and the yardsticks, compare. Called again, a trained model is taken as it is."""
    galaxies = Galaxies.of(seen)
    model = _model(galaxies, folder, edit(aion_photoz(), changes), copies, watch)
    test, validation = galaxies.on("test"), galaxies.on("validation")
    found = {name: posterior(model, _inputs(side, model), "z") for name, side in (("v", validation), ("t", test))}
    truth = test["scalars"]["Z"]
    told = judge("aion-photoz", (found["v"], validation["scalars"]["Z"]), (found["t"], truth), BEYOND)
    said = yardsticks(galaxies)
    ours, trees = found["t"].quantile(0.5), said["gradient boosting"]
    off, off_trees = (np.abs(one - truth) / (1 + truth) for one in (ours, trees))
    signed, signed_trees = ((one - truth) / (1 + truth) for one in (ours, trees))
    return Table(
        told=told,
        yardsticks={
            name: point_scores(truth, one, BEYOND) | {"crps": bootstrap(_mean, np.abs(one - truth))}
            for name, one in said.items()
        },
        ahead=gain(off_trees, off),
        ahead_nmad=gain(signed_trees, signed, nmad),
        posteriors=found["t"],
        truth=truth,
        learnt=int((galaxies.side == "train").sum()),
    )


def yardsticks(galaxies: Galaxies, seed: int = 0) -> dict[str, Float[np.ndarray, " object"]]:
    """What each says of the test galaxies; of each, the best of a few settings on the validation galaxies."""
    sides = {name: galaxies.on(name)["scalars"].values for name in SHARES}
    tried = {
        "k nearest neighbours": [
            make_pipeline(StandardScaler(), KNeighborsRegressor(k, weights="distance")) for k in (8, 16, 32, 64)
        ],
        "random forest": [
            RandomForestRegressor(FOREST, min_samples_leaf=leaf, random_state=seed) for leaf in (2, 5, 10)
        ],
        "gradient boosting": [
            HistGradientBoostingRegressor(
                loss=loss,
                learning_rate=rate,
                max_iter=400,
                max_leaf_nodes=leaves,
                l2_regularization=1.0,
                early_stopping=True,
                random_state=seed,
            )
            for loss in ("squared_error", "absolute_error")
            for rate, leaves in ((0.05, 15), (0.05, 31), (0.02, 15))
        ],
    }
    said = {}
    for name, models in tried.items():
        x, y = sides["train"][:, :-1], sides["train"][:, -1]
        errors = [
            np.abs(one.fit(x, y).predict(sides["validation"][:, :-1]) - sides["validation"][:, -1]).mean()
            for one in models
        ]
        said[name] = models[int(np.argmin(errors))].predict(sides["test"][:, :-1])
    return said


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values))


# --- the model -----------------------------------------------------------------------------------------------------


def _model(galaxies: Galaxies, folder: Path, run: Run, copies: int, watch: Watch) -> AnyToAny:
    tokens = folder / "tokens"
    if not (tokens / "codecs").is_dir():
        save_codecs(_codecs(galaxies), tokens)
    codecs = tuple(CodecBook(tokens).values())
    token_shards.tokenize(
        codecs, galaxies.copies(copies), tokens, shard=1 << 20, batch=1 << 16, signature=signature(codecs)
    )
    run = replace(run, data=str(tokens))
    done = folder / run.name / "model"
    if done.is_dir():
        return cast(AnyToAny, store.load(done))
    return cast(AnyToAny, train(run, folder / run.name, watch=watch(run.name)))


def _codecs(galaxies: Galaxies) -> dict[str, ScalarCodec]:
    """Quantiles of the training galaxies; the redshift's are evenly spaced as far as they reach."""
    seen, names = galaxies.on("train"), (*MAGNITUDES, *COLOURS)
    plans = [
        ScalarPlan(name=key, part="scalars", columns=(name,), unit="mag")
        for key, name in zip(INPUTS, names, strict=True)
    ]
    made = {codec.name: codec for codec in fitted(plans, sample(plans, [seen]), LEVELS)}
    z = seen["scalars"]["Z"]
    edges = torch.linspace(0, float(np.quantile(z, 0.998)) * 1.1, REDSHIFT_LEVELS)[None]
    plan = ScalarPlan(name=REDSHIFT, part="scalars", columns=("Z",))
    return made | {REDSHIFT: ScalarCodec(plan=plan, levels=edges)}


def _inputs(seen: Observation, model: AnyToAny) -> Tokens:
    return tokenize(seen, [codec for codec in model.codecs if codec.name != REDSHIFT])
