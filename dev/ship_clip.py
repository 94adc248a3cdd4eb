"""Put a finished AstroCLIP into the package: weights in bfloat16, and an index of mock galaxies with known redshifts.

    python dev/ship_clip.py runs/astroclip

The index holds training objects alone; how well it tells redshifts of the held-out ones is printed.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from omnisky.adapt.score import r2
from omnisky.embed import embed
from omnisky.evaluate.pairs import Pairs
from omnisky.model import store
from omnisky.observe.shards import Shards
from omnisky.observe.types import Observation, Scalars
from omnisky.search import Index
from omnisky.search.retrieval import by_neighbours
from omnisky.train.devices import keep_memory
from omnisky.watch import counting_bar

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "src" / "omnisky" / "weights" / "omnisky-clip"
KEPT = 3000
"""objects of the index: 1.5 MB a side"""

CARD = """# omnisky-clip

A small AstroCLIP (Parker et al. 2024, MNRAS 531, 4990): images in g, r, z and spectra of the same galaxy as neighbours
in one space of 128 numbers. Both towers and the heads were trained from scratch on 26,000 made-up galaxies
(`omnisky evaluate astroclip`; the sky is `omnisky.observe.mock`); it has never seen a real one. bfloat16. MIT licence.
`index/` holds 3,000 of the training galaxies with their redshifts, to ask for neighbours of other objects.
"""


def main(folder: Path) -> None:
    keep_memory()
    store.save(store.load(folder / "astroclip" / "model"), SHIPPED, card=CARD, dtype=torch.bfloat16)
    model = store.load(SHIPPED)
    pairs = Pairs.of(Shards(folder / "sky"))
    learnt, tested = np.flatnonzero(~pairs.test)[:KEPT], np.flatnonzero(pairs.test)[:KEPT]
    sides = {}
    for part in ("image", "spectrum"):
        with counting_bar(part) as watch:
            rows = pairs.source.take(learnt)
            sides[part] = embed(model, rows, part=part, batch=128, precision="bf16", watch=watch)
    z = Scalars(values=pairs.truth[learnt, :1], names=("redshift",))
    known = Observation.of(sides["image"].object_id, sides["image"].ra, sides["image"].dec, scalars=z)
    index = Index(sides, catalogue=known)
    index.save(SHIPPED / "index")
    asked = pairs.source.take(tested)
    for part in sides:
        told = by_neighbours(index, embed(model, asked, part=part, batch=128, precision="bf16"), "redshift", by=part)
        print(f"{part}: redshift R² {r2(pairs.truth[tested, 0], told)} from {KEPT} neighbours")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
