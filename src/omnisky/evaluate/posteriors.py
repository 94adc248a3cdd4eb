"""How good posteriors of a number are: sharp, honest, and what a temperature fitted on validation objects changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Float

from omnisky.adapt.score import Score, bias, bootstrap, coverage, from_uniform, outlier_fraction, sigma_nmad
from omnisky.errors import ShapeMismatch
from omnisky.generate import Posterior

TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4.0), 81))
"""that are tried"""


def tempered(found: Posterior, temperature: float) -> Posterior:
    """The same with logits divided by a temperature: below 1 is sharper, above 1 wider."""
    with np.errstate(divide="ignore"):
        logits = np.log(found.chance) / temperature
    chance = np.exp(logits - logits.max(1, keepdims=True))
    return Posterior(chance / chance.sum(1, keepdims=True), found.edges, found.name, found.unit)


def fitted_temperature(found: Posterior, truth: Float[np.ndarray, " object"]) -> float:
    """The temperature with which central intervals of any share hold that share best, of those that are tried.

    Not that of least surprise (Guo et al. 2017, arXiv:1706.04599): few truths far out decide that one, and the middle
    of the posterior becomes too wide for it. The distance is Cramér's and von Mises'. A truth in a bin without width
    (stars have redshift 0) lies anywhere in its chance (Czado et al. 2009, doi:10.1111/j.1541-0420.2009.01191.x).
    """
    if len(found) != len(truth):
        raise ShapeMismatch(saw=f"{len(found)} posteriors, {len(truth)} truths", want="as many")
    wanted = (np.arange(len(truth)) + 0.5) / len(truth)
    left, right = (np.nextafter(truth, way) for way in (-np.inf, np.inf))
    lot = np.random.default_rng(0).random(len(truth))

    def off(temperature: float) -> float:
        one = tempered(found, temperature)
        low, high = one.below(left), one.below(right)
        smallest = np.abs(2 * (low + lot * (high - low)) - 1)  # central interval that holds the truth
        return float(np.square(np.sort(smallest) - wanted).mean())

    return float(TEMPERATURES[int(np.argmin([off(t) for t in TEMPERATURES]))])


def crps(found: Posterior, truth: Float[np.ndarray, " object"]) -> Float[np.ndarray, " object"]:
    """∫ (F(x) − [x ≥ truth])² dx of each object, exact for bins that are flat inside; in the unit of the number."""
    rising = np.concatenate([np.zeros((len(found), 1)), found.chance.cumsum(1)], 1)
    scores = []
    for value, row in zip(truth.tolist(), rising / rising[:, -1:], strict=True):
        inside = float(np.clip(value, found.edges[0], found.edges[-1]))
        at = int(np.searchsorted(found.edges, inside))
        x = np.insert(found.edges, at, inside)
        below = np.insert(row, at, np.interp(inside, found.edges, row))
        off = np.where(np.arange(len(x)) <= at, below, below - 1)
        left, right = off[:-1].copy(), off[1:]
        left[at:] = np.where(np.arange(at, len(left)) == at, below[at] - 1, left[at:])
        scores.append(float((np.diff(x) * (left**2 + left * right + right**2)).sum() / 3) + abs(value - inside))
    return np.array(scores)


@dataclass(frozen=True, eq=False)
class Told:
    """What posteriors from one set of inputs are worth, on test objects; each score with its bootstrap error."""

    inputs: str
    objects: int
    sigma_nmad: Score
    """of the medians: 1.4826 times the median absolute deviation of Δ / (1 + z)"""
    outliers: Score
    """share of |Δ| / (1 + z) above the threshold"""
    bias: Score
    """mean of Δ / (1 + z)"""
    crps: Score
    width: Score
    """median half-width of the 68 % interval"""
    temperature: float
    """fitted on other objects than are scored; all scores are with it, but for those before"""
    pit_distance: Score
    """largest distance of the distribution of PIT values from the uniform one; 0.87 / √objects by chance"""
    covered: dict[str, Score]
    """share of truths within the central 68 % and 95 %, with the temperature and before"""
    crps_each: Float[np.ndarray, " object"]
    pit: Float[np.ndarray, " object"]

    def state(self) -> dict[str, object]:
        """All numbers, for JSON; a score as [value, error]."""
        whole = {name: value for name, value in asdict(self).items() if name not in ("crps_each", "pit", "covered")}
        plain = {name: list(value.values()) if isinstance(value, dict) else value for name, value in whole.items()}
        return plain | {"covered": {name: [one.value, one.error] for name, one in self.covered.items()}}


Pair = tuple[Posterior, Float[np.ndarray, " _object"]]
"""posteriors and the truth"""


def judge(inputs: str, validation: Pair, test: Pair, beyond: float = 0.15) -> Told:
    """Fit the temperature on validation objects, score the test objects. `beyond` is where outliers begin."""
    temperature = fitted_temperature(*validation)
    return _told(inputs, test, tempered(test[0], temperature), temperature, beyond)


def judge_halves(inputs: str, one: Pair, other: Pair, beyond: float = 0.15) -> Told:
    """Score all objects, each half with the temperature that was fitted on the other; told is their geometric mean.

    A temperature is known no better than the objects it was fitted on: with one half too hard by chance the other's
    intervals are too wide. Both ways, such chances cancel.
    """
    heat = fitted_temperature(*one), fitted_temperature(*other)
    before = _joined(one[0], other[0])
    after = _joined(tempered(one[0], heat[1]), tempered(other[0], heat[0]))
    both = before, np.concatenate([one[1], other[1]])
    return _told(inputs, both, after, float(np.sqrt(heat[0] * heat[1])), beyond)


def _joined(one: Posterior, other: Posterior) -> Posterior:
    return replace(one, chance=np.concatenate([one.chance, other.chance]))


def _told(inputs: str, test: Pair, after: Posterior, temperature: float, beyond: float) -> Told:
    before, truth = test
    pit, each = after.below(truth), crps(after, truth)
    covered = {}
    for share in (0.68, 0.95):
        for when, one in (("", after), (" before", before)):
            covered[f"{share:.0%}{when}"] = coverage(truth, *one.interval(share).T)
    low, high = after.interval(0.68).T
    return Told(
        inputs=inputs,
        objects=len(truth),
        **point_scores(truth, after.quantile(0.5), beyond),
        crps=bootstrap(_mean, each),
        width=bootstrap(_median, (high - low) / 2),
        temperature=temperature,
        pit_distance=from_uniform(pit),
        covered=covered,
        crps_each=each,
        pit=pit,
    )


def point_scores(
    truth: Float[np.ndarray, " object"], said: Float[np.ndarray, " object"], beyond: float
) -> dict[str, Score]:
    """sigma_nmad, outliers and bias of Δ / (1 + z)."""
    return {
        "sigma_nmad": sigma_nmad(truth, said),
        "outliers": outlier_fraction(truth, said, beyond),
        "bias": bias(truth, said),
    }


def gain(theirs: np.ndarray, ours: np.ndarray, measure: Callable[[np.ndarray], float] | None = None) -> Score:
    """How much less ours is than theirs, object by object, so that what both find hard cancels out of the error."""
    how = measure or _mean
    return bootstrap(lambda a, b: how(a) - how(b), theirs, ours)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values))


def _median(values: np.ndarray) -> float:
    return float(np.median(values))
