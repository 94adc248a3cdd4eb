"""Put a finished AstroCLIP into the package: a byte a number, and an index of mock galaxies with known redshifts.

    python dev/ship_clip.py runs/astroclip

The index holds training objects alone; how well it tells redshifts of the held-out ones, and how often image and
spectrum of one object find each other, is printed of the weights as trained and as shipped.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from omnisky.adapt.score import r2
from omnisky.embed import Embedding, embed
from omnisky.evaluate.pairs import Pairs
from omnisky.model import store
from omnisky.observe.shards import Shards
from omnisky.observe.types import Observation, Scalars
from omnisky.search import Index
from omnisky.search.retrieval import by_neighbours, retrieval
from omnisky.train.devices import keep_memory
from omnisky.watch import counting_bar

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "src" / "omnisky" / "weights" / "omnisky-clip"
KEPT = 3000
"""objects of the index: 1.5 MB a side"""

CARD = """# omnisky-clip

A small AstroCLIP (Parker et al. 2024, MNRAS 531, 4990): images in g, r, z and spectra of the same galaxy as neighbours
in one space of 128 numbers. Both towers and the heads were trained from scratch on 26,000 made-up galaxies
(`omnisky evaluate astroclip`; the sky is `omnisky.observe.mock`); it has never seen a real one. A byte a number, a
scale a row. MIT licence.
`index/` holds 3,000 of the training galaxies with their redshifts, to ask for neighbours of other objects.
"""


def main(folder: Path) -> None:
    keep_memory()
    trained = store.load(folder / "astroclip" / "model")
    store.save(trained, SHIPPED, card=CARD, dtype=torch.int8)
    size = sum(file.stat().st_size for file in SHIPPED.glob("*.safetensors"))
    print(f"{SHIPPED}: {size / 1e6:.1f} MB")
    pairs = Pairs.of(Shards(folder / "sky"))
    learnt, tested = np.flatnonzero(~pairs.test)[:KEPT], np.flatnonzero(pairs.test)[:KEPT]
    near, far = (pairs.source.take(rows) for rows in (learnt, tested))
    z = Scalars(values=pairs.truth[learnt, :1], names=("redshift",))
    catalogue = Observation.of(near.object_id, near.ra, near.dec, scalars=z)
    for name, model in (("as trained", trained), ("as shipped", store.load(SHIPPED))):
        index = Index(sides(model, near), catalogue=catalogue)
        asked = sides(model, far)
        for part, other in (("image", "spectrum"), ("spectrum", "image")):
            told = by_neighbours(index, asked[part], "redshift", by=part)
            found = retrieval(Index(asked), part, other)
            print(f"{name}, {part}: redshift R² {r2(pairs.truth[tested, 0], told)} from {KEPT} neighbours,")
            print(f"    own {other} among the first ten of {found.among}: {found.recall[10]}")
        if name == "as shipped":
            index.save(SHIPPED / "index")


def sides(model: nn.Module, seen: Observation) -> dict[str, Embedding]:
    """Of images and of spectra."""
    found = {}
    for part in ("image", "spectrum"):
        with counting_bar(part) as watch:
            found[part] = embed(model, seen, part=part, batch=128, precision="bf16", watch=watch)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
