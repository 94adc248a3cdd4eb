"""From observations to observations: what a model draws of modalities it is not shown; and tables of numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import torch

from omnisky.codec.book import detokenize, tokenize
from omnisky.codec.tokens import Tokens
from omnisky.errors import BadValue, MissingModality
from omnisky.generate.filling import Roar, Way, fill
from omnisky.generate.posterior import Posterior
from omnisky.model.masked import AnyToAny
from omnisky.observe.loader import Source
from omnisky.observe.types import Observation, concatenate

WAY = Roar()
QUANTILES = (0.025, 0.16, 0.5, 0.84, 0.975)


def keys_of(model: AnyToAny, names: Sequence[str]) -> tuple[str, ...]:
    """The model's names of modalities: "image_hsc" is "tok_image_hsc". Raises MissingModality."""
    known = model.ends.vocabularies
    keys = [next((key for key in (name, f"tok_{name}".lower()) if key in known), "") for name in names]
    if strange := tuple(name for name, key in zip(names, keys, strict=True) if not key):
        raise MissingModality("the model does not know it", saw=strange, want=tuple(known))
    return tuple(keys)


def shown(model: AnyToAny, seen: Observation, inputs: Sequence[str], targets: Sequence[str]) -> Tokens:
    """The tokens of these inputs; of all that was observed, if none are named, but for the targets."""
    codecs = {codec.name: codec for codec in model.codecs if codec.name not in targets}
    return tokenize(seen, codecs, only=keys_of(model, inputs) if inputs else None).to(model.hidden_token.device)


def answers(  # noqa: PLR0913 - what is asked, of whom, and how it is drawn
    model: AnyToAny,
    seen: Source,
    targets: Sequence[str],
    inputs: Sequence[str] = (),
    how: Way = WAY,
    *,
    draws: int = 1,
    generator: torch.Generator | None = None,
    batch: int = 32,
    watch: Callable[[int, int], None] | None = None,
    heard: Callable[[int], None] | None = None,
) -> Observation:
    """What the model draws of the targets, as an observation of nothing else.

    With several draws, objects are called id/0, id/1, …. Bands, sizes and wavelengths are those of the data where they
    have the modality, else the codec's own. `watch` hears of objects, `heard` of each step, as `fill` counts them.
    Raises MissingModality, BadValue.
    """
    if not len(seen) or batch < 1:
        raise BadValue(saw=f"{len(seen)} objects, batch={batch}", want="1 or more of each")
    keys, pieces = keys_of(model, targets), []
    for start in range(0, len(seen), batch):
        rows = seen.take(slice(start, min(start + batch, len(seen))))
        told = fill(model, shown(model, rows, inputs, keys), keys, how, draws=draws, generator=generator, watch=heard)
        like = rows.take(np.repeat(np.arange(len(rows)), draws))
        said = detokenize(Tokens({key: told[key] for key in keys}), like, codecs=model.codecs)
        pieces.append(_numbered(said, draws))
        if watch is not None:
            watch(start + len(rows), len(seen))
    return concatenate(pieces)


def _numbered(said: Observation, draws: int) -> Observation:
    if draws == 1:
        return said
    number = np.char.mod("/%d", np.arange(len(said)) % draws)
    return Observation(np.char.add(said.object_id, number), said.ra, said.dec, said.parts)


def table(seen: Observation, found: Sequence[Posterior]) -> pa.Table:
    """A row an object: its id and place, and of each number the mean, the mode, the deviation and quantiles."""
    columns = {"object_id": pa.array(seen.object_id.tolist()), "ra": pa.array(seen.ra), "dec": pa.array(seen.dec)}
    for one in found:
        told = {"mean": one.mean(), "mode": one.mode(), "std": one.std()}
        told |= dict(zip((f"q{100 * q:g}" for q in QUANTILES), one.quantile(QUANTILES).T, strict=True))
        columns |= {f"{one.name.removeprefix('tok_')}_{name}": pa.array(value) for name, value in told.items()}
    return pa.table(columns)
