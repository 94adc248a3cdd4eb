"""Codecs of numbers, fitted to data of any size in one pass: those of AION-1's modalities that the data have.

Levels are quantiles, as in the release, and the redshift has its grid. Two are squeezed otherwise, since the release
loses something there: parallaxes keep their sign, and right ascensions are cut where nothing lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from omnisky.codec.bins import Sample
from omnisky.codec.catalog import fitted_catalog, sample_shapes
from omnisky.codec.modalities import DOMAINS, PLACE
from omnisky.codec.scalar import (
    PARALLAX_SOFTENING_MAS,
    ScalarCodec,
    ScalarPlan,
    ScaledAsinh,
    Turned,
    fitted,
    plan,
    redshift_grid,
    sample,
    widest_gap,
)
from omnisky.codec.tokens import Codec
from omnisky.errors import MissingModality
from omnisky.observe.types import Neighbours, Observation, Part, Scalars

LIGHT: tuple[type[Part], ...] = (Scalars, Neighbours)
"""kinds of part that codecs are fitted to"""
_REDSHIFT, _RA, _LIST = "tok_z", "tok_ra", "catalog"
_OWN_SQUEEZE = {"tok_parallax": ScaledAsinh(softening=PARALLAX_SOFTENING_MAS)}


def fit_numbers(batches: Iterable[Observation], *, size: int = 100_000, levels: int = 1024) -> dict[str, Codec]:
    """A codec of every number, list of numbers and catalogue of neighbours that any batch has, by name of its tokens.

    `size` objects are kept of each, drawn by their ids. Raises MissingModality where there is none, and BadValue for
    fewer than two objects of one.
    """
    plans = {key: plan(one, _OWN_SQUEEZE.get(key)) for key, one in DOMAINS.items() if one.codec.endswith("Scalar")}
    drawn: dict[str, Sample] = {}
    for batch in batches:
        for key, domain in DOMAINS.items():
            part = domain.found(batch) if key in plans or key == _LIST else None
            if part is None:
                continue
            called = batch if part == PLACE else batch | {domain.part: batch[part]}
            new = _sampled(key, plans, called, size)
            if new is not None:
                drawn[key] = drawn[key] | new if key in drawn else new
    drawn = {key: one for key, one in drawn.items() if len(one)}
    if not drawn:
        raise MissingModality("nothing to fit codecs of numbers to", want="columns as docs/modalities.md lists them")
    return {key: _fitted(key, plans, one, levels) for key, one in drawn.items()}


def _sampled(key: str, plans: Mapping[str, ScalarPlan], batch: Observation, size: int) -> Sample | None:
    return sample_shapes([batch], size) if key == _LIST else sample([plans[key]], [batch], size).get(key)


def _fitted(key: str, plans: Mapping[str, ScalarPlan], drawn: Sample, levels: int) -> Codec:
    if key == _LIST:
        return fitted_catalog(drawn, levels)
    one = plans[key]
    if key == _REDSHIFT:
        return ScalarCodec(plan=one, levels=redshift_grid(levels))
    if key == _RA:
        cut_deg = round(widest_gap(drawn.values[:, 0]), 3)
        one = replace(one, squeeze=Turned(cut_deg=cut_deg))
        drawn = replace(drawn, values=(drawn.values - cut_deg) % 360)
    return fitted([one], {key: drawn}, levels)[0]
