"""Put a finished any-to-any model into the package: a byte a number, its codecs beside it, below 15 MB in all.

    python dev/ship_aion.py runs/aion [SKY]

What a byte a number costs is printed: scores of redshifts before and after, of test objects of the sky (runs/aion/sky
if not given).
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from omnisky.codec.catalog import CatalogCodec
from omnisky.codec.scalar import ScalarCodec
from omnisky.codec.token_shards import read_shards
from omnisky.evaluate.aion import ASKED
from omnisky.evaluate.aion_drawn import tokens_of
from omnisky.evaluate.aion_runs import MODEL, Ready
from omnisky.evaluate.posteriors import judge
from omnisky.generate import posterior
from omnisky.model import store
from omnisky.observe.read import source_of
from omnisky.train.devices import keep_memory

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "src" / "omnisky" / "weights" / "omnisky-aion"
MOST_BYTES = 15_000_000
ASKED_ABOUT = 500

CARD = """# omnisky-aion

A small any-to-any model in the manner of AION-1 (Parker et al. 2025, arXiv:2510.17960): forty modalities of Legacy
Survey, HSC, DESI, SDSS and Gaia, any of them from any others. Trained from scratch, codecs too, on made-up objects
(`omnisky evaluate aion`; the sky is `omnisky.observe.mock`); it has never seen a real one. A byte a number, a scale a
row. Codecs of numbers hold two of the numbers that they were fitted to, instead of all. MIT licence.
"""


def trimmed(codec: object) -> object:
    """Without most of the numbers it was fitted to: they decide nothing any more."""
    if not isinstance(codec, ScalarCodec | CatalogCodec) or codec.kept is None:
        return codec
    kept = codec.kept[:, :2].contiguous()
    return replace(codec, kept=kept, config=None) if isinstance(codec, ScalarCodec) else replace(codec, kept=kept)


def main(folder: Path, sky: str) -> None:
    keep_memory()
    model = store.load(folder / MODEL / "model")
    model.codecs = tuple(trimmed(codec) for codec in model.codecs)
    store.save(model, SHIPPED, card=CARD, dtype=torch.int8)
    size = sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file())
    print(f"{SHIPPED}: {size / 1e6:.1f} MB")
    if size > MOST_BYTES:
        raise SystemExit(f"more than {MOST_BYTES / 1e6:.0f} MB")
    ready = Ready.of(model, source_of(sky), read_shards(folder / "tokens"))
    for name, one in (("as trained", model), ("as shipped", store.load(SHIPPED))):
        for inputs, keys in ASKED.items():
            sides = []
            for side in (ready.validation, ready.test):
                rows = ready.galaxies(side)[:ASKED_ABOUT]
                found = posterior(one, tokens_of(ready, rows, keys), "z", batch=64)
                sides.append((found, ready.truth["redshift"][rows]))
            told = judge(inputs, *sides)
            print(f"{name}, {inputs}: CRPS {told.crps.value:.4f} ± {told.crps.error:.4f}, σ_NMAD {told.sigma_nmad}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else str(Path(sys.argv[1]) / "sky"))
