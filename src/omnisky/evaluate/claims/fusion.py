"""What is seen together tells more: magnitudes of mock galaxies, with image and spectrum beside them as vectors."""

from __future__ import annotations

import itertools

import numpy as np

from omnisky.adapt.protocol import astroclip_few_shot
from omnisky.adapt.score import r2, r2_gain
from omnisky.embed import Embedding, embed
from omnisky.evaluate.claims.found import Grid, Inputs, Result, Task
from omnisky.evaluate.claims.spectra import CLIP
from omnisky.evaluate.pairs import PROPERTIES
from omnisky.model import store
from omnisky.observe.mock import MockSky, Population
from omnisky.observe.mock.pairs import trimmed
from omnisky.observe.types import Observation, concatenate

SKY = MockSky(objects=4000, population=Population(seed=31, faintest_r_mag=19.5, stars=0.0), spectrographs=("desi",))
"""another seed than any model was trained on, and as deep"""
TESTED = 0.25
PARTS = ("image", "spectrum")


def fusion(given: Inputs, sky: MockSky = SKY) -> Result:
    """Properties by a small perceptron on vectors side by side, of galaxies that nothing was learnt from."""
    known, vectors = _seen(given, sky)
    test = np.arange(len(sky)) >= round((1 - TESTED) * len(sky))
    truth = np.stack([known["truth"][name] for name in PROPERTIES], axis=1)
    flux = np.stack([known["scalars"][f"FLUX_{band}"] for band in "GRZ"], axis=1)
    mags = 22.5 - 2.5 * np.log10(np.maximum(flux, 1e-3))
    x, name = np.column_stack([mags, mags[:, :-1] - mags[:, 1:]]), "photometry"
    names, said = [name], [astroclip_few_shot(x[~test], truth[~test], x[test])]
    for part in PARTS:
        x, name = np.column_stack([x, vectors[part]]), f"{name} + {part}"
        names.append(name)
        said.append(astroclip_few_shot(x[~test], truth[~test], x[test]))
    rows = tuple(
        (name, *(str(r2(truth[test, i], each[:, i])) for i in range(len(PROPERTIES))))
        for name, each in zip(names, said, strict=True)
    )
    gains = [r2_gain(truth[test, 0], more[:, 0], less[:, 0]) for less, more in itertools.pairwise(said)]
    title = f"What is seen together: R² of {int(test.sum()):,} mock galaxies by a perceptron on vectors side by side"
    grid = Grid(f"{title}, {int((~test).sum()):,} learnt", ("from", *PROPERTIES), rows)
    return Result({f"aion/fusion {part}": gain for part, gain in zip(PARTS, gains, strict=True)}, (grid,))


def _seen(given: Inputs, sky: MockSky, batch: int = 50) -> tuple[Observation, dict[str, np.ndarray]]:
    """Numbers and truth of all galaxies, and the vectors of each part: images are not kept."""
    model, known = store.load(CLIP), []
    found: dict[str, list[Embedding]] = {part: [] for part in PARTS}
    with given.count("galaxies of the mock sky") as watch:
        for start in range(0, len(sky), batch):
            seen = trimmed(sky.take(slice(start, start + batch)))
            known.append(Observation(seen.object_id, seen.ra, seen.dec, {n: seen[n] for n in ("scalars", "truth")}))
            for part in PARTS:
                found[part].append(embed(model, seen, part=part, precision="bf16"))
            if callable(watch):
                watch(start + len(seen), len(sky))
    return concatenate(known), {part: np.concatenate([one.vectors for one in each]) for part, each in found.items()}


TASKS = (Task("fusion", fusion, models=(CLIP,)),)
