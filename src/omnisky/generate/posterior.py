"""What a model says of a measured number: a chance for each bin, in one pass and without draws.

A token stands for one bin, so that the softmax of its logits is the posterior (Parker et al. 2025, §6.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from omnisky.codec.book import tokenize
from omnisky.codec.tokens import Tokens
from omnisky.errors import BadValue, MissingModality, ShapeMismatch
from omnisky.model.masked import AnyToAny
from omnisky.observe.loader import Source
from omnisky.observe.types import Observation


@runtime_checkable
class Binned(Protocol):
    """A codec of one number, which knows where its bins end."""

    @property
    def name(self) -> str:
        """of its tokens"""

    @property
    def edges(self) -> Float[Tensor, "column level"]:
        """upper edges of the bins, in the unit of the number"""


@dataclass(frozen=True, eq=False)
class Posterior:
    """How likely each bin is, for many objects."""

    chance: Float[np.ndarray, "object bin"]
    """sums to 1"""
    edges: Float[np.ndarray, " edge"]
    """of the bins, one more than bins, rising; a bin without width holds numbers equal to its edge"""
    name: str = ""
    unit: str = ""
    """of the edges"""

    def __post_init__(self) -> None:
        if len(self.edges) != self.chance.shape[1] + 1 or (np.diff(self.edges) < 0).any():
            raise ShapeMismatch("edges", saw=self.edges.shape, want=f"{self.chance.shape[1] + 1}, rising")

    def __len__(self) -> int:
        return len(self.chance)

    @property
    def centres(self) -> Float[np.ndarray, " bin"]:
        """The middles of the bins."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    @property
    def pdf(self) -> Float[np.ndarray, "object bin"]:
        """Chance per unit, on the centres. What lies in bins without width is counted to the next bin that has one."""
        width = np.diff(self.edges)
        wide = np.flatnonzero(width > 0)
        if not len(wide):
            raise BadValue("bins", saw="none that has a width", want="at least one")
        next_wide = wide[np.minimum(np.searchsorted(wide, np.arange(len(width))), len(wide) - 1)]
        whole = np.zeros_like(self.chance)
        np.add.at(whole.T, next_wide, self.chance.T)
        return np.divide(whole, width, out=np.zeros_like(whole), where=width > 0)

    def mean(self) -> Float[np.ndarray, " object"]:
        """The expectation."""
        return self.chance @ self.centres

    def std(self) -> Float[np.ndarray, " object"]:
        """The standard deviation, bins being flat inside."""
        within = np.diff(self.edges) ** 2 / 12
        return np.sqrt(self.chance @ (self.centres**2 + within) - self.mean() ** 2)

    def mode(self) -> Float[np.ndarray, " object"]:
        """The centre of the bin of highest density."""
        return self.centres[self.pdf.argmax(1)]

    def quantile(self, share: float | Sequence[float]) -> Float[np.ndarray, "object ..."]:
        """Where the cumulative chance reaches a share, linear within bins."""
        shares = np.atleast_1d(np.asarray(share, dtype=float))
        if ((shares < 0) | (shares > 1)).any():
            raise BadValue("share", saw=share, want="0 … 1")
        found = np.stack([np.interp(shares, row, self.edges) for row in self._cumulative()])
        return found[:, 0] if np.ndim(share) == 0 else found

    def interval(self, share: float = 0.68) -> Float[np.ndarray, "object 2"]:
        """The central interval that holds this share."""
        return self.quantile([0.5 - share / 2, 0.5 + share / 2])

    def below(self, values: Float[np.ndarray, " object"]) -> Float[np.ndarray, " object"]:
        """The chance of less than this value, object by object: uniform for true values if it is calibrated."""
        rising = zip(values, self._cumulative(), strict=True)
        return np.array([np.interp(value, self.edges, row) for value, row in rising])

    def sample(self, count: int, draw: np.random.Generator) -> Float[np.ndarray, "object draw"]:
        """Numbers drawn from it."""
        if count < 1:
            raise BadValue("count", saw=count, want="1 or more")
        lots = draw.random((len(self), count))
        rising = zip(lots, self._cumulative(), strict=True)
        return np.stack([np.interp(row, cumulative, self.edges) for row, cumulative in rising])

    def take(self, index: Any) -> Posterior:
        """The chosen objects."""
        return Posterior(self.chance[index], self.edges, self.name, self.unit)

    def _cumulative(self) -> Float[np.ndarray, "object edge"]:
        rising = np.concatenate([np.zeros((len(self), 1)), self.chance.cumsum(1)], 1)
        return rising / rising[:, -1:]


def posterior(
    model: AnyToAny,
    seen: Observation | Source | Tokens,
    name: str,
    *,
    temperature: float = 1.0,
    bins: Binned | None = None,
    batch: int = 256,
) -> Posterior:
    """What the model says of a number, "z" or "tok_z", from all else that was observed.

    `temperature` divides the logits: fitted on validation objects, it makes a posterior calibrated. `bins` is the codec
    of the number, where the model does not have it. Raises MissingModality, BadValue.
    """
    return posteriors(model, seen, (name,), temperature=temperature, bins=[bins] if bins else (), batch=batch)[0]


def posteriors(
    model: AnyToAny,
    seen: Observation | Source | Tokens,
    names: Sequence[str],
    *,
    temperature: float = 1.0,
    bins: Sequence[Binned] = (),
    batch: int = 256,
) -> tuple[Posterior, ...]:
    """As `posterior`, of several numbers: the objects are read once for all."""
    if temperature <= 0 or batch < 1:
        raise BadValue(saw=f"temperature={temperature}, batch={batch}", want="above 0, and 1 or more")
    keys = [_key(model, name) for name in names]
    edges = [_edges(key, (*bins, *model.codecs)) for key in keys]
    found: list[list[np.ndarray]] = [[] for _ in keys]
    for tokens in _pieces(model, seen, keys, batch):
        with torch.inference_mode():
            said = model.predict(tokens, keys)
        for piece, key, (ends, _) in zip(found, keys, edges, strict=True):
            logits = said[key][:, 0, : len(ends) - 1].double() / temperature
            piece.append(logits.softmax(-1).cpu().numpy())
    rows = zip(found, keys, edges, strict=True)
    return tuple(Posterior(np.concatenate(piece), ends, key, unit) for piece, key, (ends, unit) in rows)


def _pieces(model: AnyToAny, seen: Observation | Source | Tokens, keys: Sequence[str], batch: int) -> Iterator[Tokens]:
    objects = seen.objects if isinstance(seen, Tokens) else len(seen)
    if not objects:
        raise BadValue(saw="no objects", want="at least one")
    device = model.hidden_token.device
    for start in range(0, objects, batch):
        rows = seen.take(slice(start, start + batch))
        if isinstance(rows, Tokens):
            yield rows
        else:
            yield tokenize(rows, [codec for codec in model.codecs if codec.name not in keys]).to(device)


def _key(model: AnyToAny, name: str) -> str:
    vocabularies = model.ends.vocabularies
    key = next((key for key in (name, f"tok_{name}".lower()) if key in vocabularies), None)
    single = tuple(v.name for v in vocabularies.values() if v.length == 1)
    if key is None:
        raise MissingModality("the model does not know it", saw=name, want=single)
    if key not in single:
        raise BadValue(f"{name!r} is no single number", want=single, hint="omnisky.generate.fill for several tokens")
    return key


def _edges(key: str, codecs: Sequence[object]) -> tuple[Float[np.ndarray, " edge"], str]:
    codec = next((one for one in codecs if isinstance(one, Binned) and one.name == key), None)
    if codec is None:
        raise MissingModality(f"no codec that knows the bins of {key!r}", hint="bins=codec")
    upper = codec.edges[0].double().cpu().numpy()
    unit = getattr(getattr(codec, "plan", codec), "unit", "")
    return np.concatenate([upper[:1], upper]), unit
