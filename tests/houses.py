"""A small house to serve: a toy AstroPT, an AstroCLIP with its index, an AION of two numbers, and a head."""

import numpy as np
import pairs
import small

from omnisky.adapt.pool import AttentiveProbe
from omnisky.codec.scalar import Plain, ScalarPlan, fitted, sample
from omnisky.embed import embed, token_states
from omnisky.model.any_to_any import Vocabulary
from omnisky.model.masked import AnyToAny, AnyToAnyConfig, gated
from omnisky.observe.types import Observation, Scalars
from omnisky.search import Index
from omnisky.serve.heads import TokenHead
from omnisky.serve.house import House, Limits

SKY = pairs.sky(40)


def numbers(n: int = 6, seed: int = 0) -> Observation:
    """Magnitudes and redshifts."""
    draw = np.random.default_rng(seed)
    values = np.stack([draw.uniform(15, 22, n), draw.uniform(0, 1, n)], 1)
    return Observation.of(range(n), scalars=Scalars(values=values, names=("mag", "z")))


def magnitudes(n: int = 6) -> Observation:
    seen = numbers(n)
    told = Scalars(values=seen["scalars"].values[:, :1], names=("mag",))
    return Observation.of([f"m{i}" for i in range(n)], scalars=told)


def aion() -> AnyToAny:
    vocabularies = (Vocabulary(name="tok_mag", size=10), Vocabulary(name="tok_z", size=11))
    built = AnyToAnyConfig(core=gated(1, 16, 2), decoder_depth=1, vocabularies=vocabularies).build(0).eval()
    plans = [ScalarPlan(name=f"tok_{name}", part="scalars", columns=(name,), squeeze=Plain()) for name in ("mag", "z")]
    drawn = sample(plans, [numbers(200)])
    built.codecs = tuple(fitted([one], drawn, v.size)[0] for one, v in zip(plans, vocabularies, strict=True))
    return built


def index(model: object) -> Index:
    """40 objects: images of all, spectra of all but the first three; a redshift i/100 of object i."""
    sides = {
        "image": embed(model, SKY, part="image"),
        "spectrum": embed(model, SKY.take(slice(3, None)), part="spectrum"),
    }
    redshift = Scalars(values=np.arange(40)[:, None] / 100, names=("redshift",), units=("",))
    return Index(sides, catalogue=Observation.of(SKY.object_id, scalars=redshift))


def head(model: object) -> TokenHead:
    seen = small.galaxies(24)
    probe = AttentiveProbe(heads=2, hidden=8, steps=2, batch=8)
    probe.fit(token_states(model, seen), seen["scalars"]["class"].astype(int))
    probe.names_ = ("round", "flat")
    return TokenHead(model, probe)


def house(api_key: str = "", **limits: float) -> House:
    toy, clip = small.model(), pairs.clip()
    return House(
        models={"toy": toy, "clip": clip, "numbers": aion()},
        indices={"pairs": index(clip)},
        heads={"shape": head(toy)},
        limits=Limits(**limits),
        api_key=api_key,
    )
