"""From a question to an answer: what stands between the routes and the public functions they call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain, pairwise
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from omnisky.codec.tokens import Codec, Tokens
from omnisky.embed import Embedder, Embedding, only
from omnisky.errors import BadValue, MissingModality, ServiceError
from omnisky.generate import Posterior, Roar, answers, generate, posterior
from omnisky.generate.answers import keys_of, shown
from omnisky.model.autoregressive import Autoregressive
from omnisky.model.contrastive import Pairs
from omnisky.model.masked import AnyToAny
from omnisky.observe.place import Cone
from omnisky.observe.types import Observation, concatenate
from omnisky.search import Index, Matches, Where
from omnisky.serve.asks import GenerateAsk, PosteriorAsk, SearchAsk
from omnisky.serve.batch import Desk, Rows, Work
from omnisky.serve.heads import Answers
from omnisky.serve.house import House
from omnisky.serve.wire import shape_of

T = TypeVar("T")


class Serving:
    """A house and the desk before its models."""

    def __init__(self, house: House, desk: Desk) -> None:
        self.house, self.desk = house, desk
        self._ready = lru_cache(maxsize=8)(self._make_ready)

    def _make_ready(self, model: str, blocks: int | None, precision: str) -> Embedder:
        return Embedder(self.house.model(model), blocks=blocks, precision=precision)

    async def _each(self, key: tuple[Hashable, ...], seen: Sequence[Observation], work: Work) -> list[Any]:
        """One answer an Observation, in their order; those of one shape wait together."""
        groups: dict[Hashable, list[int]] = {}
        for i, one in enumerate(seen):
            groups.setdefault(shape_of(one), []).append(i)

        async def ask(shape: Hashable, members: list[int]) -> list[Any]:
            some = [seen[i] for i in members]
            answer = await self.desk.ask((*key, shape), some[0] if len(some) == 1 else concatenate(some), work)
            edges = np.cumsum([0, *map(len, some)])
            return [answer.take(slice(low, high)) for low, high in pairwise(edges)]

        answers = await asyncio.gather(*(ask(shape, members) for shape, members in groups.items()))
        order = [i for members in groups.values() for i in members]
        return [one for _, one in sorted(zip(order, chain(*answers), strict=True), key=itemgetter(0))]

    async def embed(
        self, model: str, seen: Sequence[Observation], part: str | None, blocks: int | None, precision: str
    ) -> Embedding:
        """As `omnisky.embed`. Raises what it raises, UnknownModel, and as `Desk.ask` does."""
        self.house.model(model)

        def work(some: Observation) -> Rows:
            ready = self._ready(model, blocks, precision)
            return _joined([ready(piece) for piece in self._pieces(some)])

        chosen = [only(one, part) for one in seen]
        return _joined(await self._each(("embed", model, part, blocks, precision), chosen, work))

    def _pieces(self, seen: Observation) -> Iterator[Observation]:
        """As many at a time as the models take, while somebody waits for it."""
        size = self.house.limits.batch
        for start in range(0, len(seen), size):
            self.desk.go_on()
            yield seen.take(slice(start, start + size))

    # --- search ---

    async def search(self, ask: SearchAsk, seen: Sequence[Observation]) -> tuple[Index, Matches]:
        """The index asked, and one row of matches. `ask.by` must be set: see `side`."""
        index = self.house.index(ask.index)
        if not seen:
            return index, await self._in_time(_search, index, ask, None)
        maker = self.house.maker(index)
        part = ask.by if isinstance(self.house.model(maker.model), Pairs) else None
        found = await self.embed(maker.model, seen, part, None, maker.precision)
        return index, await self._in_time(_search, index, ask, found)

    async def _in_time(self, work: Callable[..., T], *words: Any) -> T:
        """In a thread. Raises ServiceError."""
        seconds = self.house.limits.seconds
        try:
            return await asyncio.wait_for(asyncio.to_thread(work, *words), seconds)
        except TimeoutError:
            raise ServiceError(f"no answer within {seconds:g} s", hint="later") from None

    # --- generate ---

    async def generate(self, ask: GenerateAsk, seen: Sequence[Observation]) -> Observation:
        """What the model tells of `ask.target`. Raises BadValue, MissingModality, and what the generators raise."""
        model, together = self.house.model(ask.model), concatenate(list(seen))
        if isinstance(model, Autoregressive):
            if ask.keep is None or _given(ask) != ("keep",):
                raise BadValue(f"{ask.model} continues a sequence", saw=_given(ask), want="keep")
            return await self._alone(together, lambda some: _continued(model, some, ask, self.desk.go_on))
        if isinstance(model, AnyToAny):
            if ask.keep is not None:
                raise BadValue(f"{ask.model} fills in modalities", saw=_given(ask), want="inputs, steps, draws or none")
            batch = max(1, self.house.limits.batch // (ask.draws or 1))
            return await self._alone(together, lambda some: _filled(model, some, ask, batch, self.desk.go_on))
        raise BadValue(f"{ask.model} does not generate", saw=type(model).__name__, want="an AstroPT or an AION")

    async def _alone(self, seen: Observation, work: Work) -> Any:
        """What is drawn by lot is drawn with nobody along."""
        return await self.desk.ask(("generate", object()), seen, work)

    async def posterior(self, ask: PosteriorAsk, seen: Sequence[Observation]) -> list[Posterior]:
        """One for each Observation. Raises BadValue for models that give none, and what `omnisky.posterior` raises."""
        model = self.house.model(ask.model)
        if not isinstance(model, AnyToAny):
            able = tuple(name for name, one in self.house.models.items() if isinstance(one, AnyToAny))
            saw, hint = type(model).__name__, "" if able else "omnisky serve FOLDER, of an AION"
            raise BadValue(f"{ask.model} has no posteriors", saw=saw, want=able or "an AION", hint=hint)
        key = ("posterior", ask.model, ask.name, ask.temperature, *ask.inputs)

        def one(some: Observation) -> Posterior:
            asked = shown(model, some, ask.inputs, keys_of(model, (ask.name,))) if ask.inputs else some
            return posterior(model, asked, ask.name, temperature=ask.temperature)

        def work(some: Observation) -> Rows:
            said = [one(piece) for piece in self._pieces(some)]
            return replace(said[0], chance=np.concatenate([each.chance for each in said]))

        return await self._each(key, seen, work)

    async def predict(self, head: str, seen: Sequence[Observation]) -> list[Answers]:
        """One for each Observation. Raises MissingModality, and what the head raises."""
        if head not in self.house.heads:
            heads = tuple(self.house.heads)
            raise MissingModality("no such head", saw=head, want=heads, hint="omnisky serve --head DIR")
        return await self._each(("predict", head), seen, self.house.heads[head].predict)


def _joined(pieces: Sequence[Embedding]) -> Embedding:
    return Embedding.of(pa.concat_tables([one.table() for one in pieces]))


def side(index: Index, ask: SearchAsk, seen: Sequence[Observation]) -> str:
    """The modality asked by: as told, else the one that was sent, else the first."""
    if ask.by is not None:
        return ask.by
    sent = [name for name in index.sides if seen and name in seen[0].parts]
    if len(sent) > 1:
        raise BadValue("by which part?", saw=tuple(sent), want="by, one of them")
    return (sent or list(index.sides))[0]


def _search(index: Index, ask: SearchAsk, found: Embedding | None) -> Matches:
    if (ask.ra is None) != (ask.dec is None):
        raise BadValue(saw=f"ra {ask.ra}, dec {ask.dec}", want="both or neither")
    at = [] if ask.ra is None or ask.dec is None else [index.at(ask.ra, ask.dec, ask.radius_arcsec)]
    wanted = [*ask.like, *at]
    if bool(wanted) == (found is not None):
        saw = f"{len(wanted)} ids or places, {0 if found is None else len(found)} uploads"
        raise BadValue("what to look for", saw=saw, want="input, or like, or ra and dec")
    ends = {name: _open(low, high) for name, (low, high) in ask.where.items()}
    cone = None if ask.cone is None else Cone(*ask.cone)
    asked: dict[str, Any] = {"by": ask.by, "across": ask.across, "where": Where(cone=cone, between=ends)}
    if found is not None and len(found) == 1 and not ask.unlike:
        return index.like(found, ask.k, **asked)
    if found is None and len(wanted) == 1 and not ask.unlike:
        return index.like_ids(wanted, ask.k, **asked)
    return index.like_all(wanted if found is None else found, ask.k, unwanted=ask.unlike, **asked)


def _open(low: float | None, high: float | None) -> tuple[float, float]:
    return (-np.inf if low is None else low, np.inf if high is None else high)


def _given(ask: GenerateAsk) -> tuple[str, ...]:
    return tuple(name for name in ("keep", "steps", "draws", "inputs") if getattr(ask, name) not in (None, []))


def _codec(model: nn.Module, name: str) -> Codec:
    codec = next((codec for codec in model.codecs if codec.name == name), None)
    if codec is None:
        raise MissingModality("the model does not tell it", saw=name, want=tuple(codec.name for codec in model.codecs))
    return codec


def _continued(model: Autoregressive, seen: Observation, ask: GenerateAsk, go_on: Callable[..., None]) -> Observation:
    codec, device = _codec(model, ask.target), next(model.parameters()).device
    tokens = codec.encode(seen).to(device)
    total, keep = len(tokens[codec.name]), ask.keep or 0
    if not keep < total:
        raise BadValue("keep", saw=keep, want=f"1 … {total - 1}, of {total} tokens")
    start = Tokens({codec.name: tokens[codec.name].span(0, keep)})
    draw = torch.Generator().manual_seed(ask.seed)
    how: dict[str, Any] = {"temperature": ask.temperature or 0.0, "generator": draw, "watch": go_on}
    told = generate(model, start, codec.name, total - keep, **how)
    return codec.decode(told.to("cpu"), like=seen)


def _filled(
    model: AnyToAny, seen: Observation, ask: GenerateAsk, batch: int, go_on: Callable[..., None]
) -> Observation:
    warmth = Roar.temperature if ask.temperature is None else ask.temperature
    way = Roar(steps=ask.steps or Roar.steps, temperature=warmth)
    draw = torch.Generator().manual_seed(ask.seed)
    how: dict[str, Any] = {"draws": ask.draws or 1, "generator": draw, "batch": batch, "heard": go_on}
    return answers(model, seen, (ask.target,), ask.inputs, way, **how)
