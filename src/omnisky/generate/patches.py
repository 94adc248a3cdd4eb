"""Any → any: continue a sequence with tokens that were not seen.

What a regressing AstroPT says of the next patch is a mean; `temperature` adds white noise of that many units of the
scaled token, as its authors do. Ids are drawn from softmax(logits / temperature), or are the likeliest at 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from omnisky.codec.tokens import Span, Tokens
from omnisky.errors import BadValue, ContextOverflow, MissingModality
from omnisky.model.autoregressive import Autoregressive
from omnisky.model.transformer import Cache


@torch.no_grad()
def generate(
    model: Autoregressive,
    tokens: Tokens,
    name: str,
    count: int,
    *,
    positions: Float[Tensor, "object token where"] | Integer[Tensor, "object token"] | None = None,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    watch: Callable[[int], None] | None = None,
) -> Tokens:
    """`tokens` with `count` more of modality `name`, each drawn from what the model says of it.

    The new tokens follow those of `name` already there, or the last of the modalities before it in the sequence
    (the order of names). `positions` are those of the new tokens; integer ones go on by themselves, wavelengths must be
    given. Each new token costs one token's work: earlier keys and values are remembered.

    Raises BadValue (count < 1, a later modality already there, temperature < 0), MissingModality (nothing to start
    from, a modality the model does not know, absent tokens), ContextOverflow.
    """
    _check(model, tokens, name, count, temperature)
    modality = model.junction.modalities[name]
    where = _positions(model, tokens, name, count) if positions is None else positions
    if where.shape[:2] != (tokens.objects, count):
        raise BadValue("positions", saw=tuple(where.shape), want=f"({tokens.objects}, {count}, …), one per new token")
    cache = Cache(model.config.core.depth, sum(map(len, tokens.spans.values())) + count)
    state = model.states(tokens, cache=cache)[:, -1:]
    drawn: list[Tensor] = []
    for i in range(count):
        said = model.junction.leave(name, state)
        drawn.append(_draw(said, temperature, generator, ids=bool(modality.vocabulary)))
        if watch is not None:
            watch(i + 1)
        if i + 1 < count:
            entered = model.junction.encode(name, Span(drawn[-1], where[:, i : i + 1]))
            state = model.core(entered, cache=cache)
    return tokens | {name: _joined(tokens.spans.get(name), torch.cat(drawn, dim=1), where)}


def _check(model: Autoregressive, tokens: Tokens, name: str, count: int, temperature: float) -> None:
    if count < 1 or temperature < 0:
        raise BadValue(saw=f"count={count}, temperature={temperature}", want="count ≥ 1 and temperature ≥ 0")
    if name not in model.junction.modalities:
        raise MissingModality("the model does not know it", saw=name, want=tuple(model.junction.modalities))
    if not tokens.objects or not sum(map(len, tokens.spans.values())):
        raise MissingModality(
            "nothing to start from", saw="no tokens", want="at least one token, e.g. the centre patch"
        )
    later = [other for other in tokens.spans if other > name]
    if later:
        raise BadValue(f"{name!r} comes before what is there", saw=tuple(later), want=f"modalities up to {name!r} only")
    if any(not bool(span.there().all()) for span in tokens.spans.values()):
        raise MissingModality("cannot continue past absent tokens", hint="split the objects by what they have")


def _positions(model: Autoregressive, tokens: Tokens, name: str, count: int) -> Tensor:
    if model.junction.modalities[name].position_width:
        raise BadValue(f"{name!r} has measured positions", saw="none", want="positions=(object, token, where)")
    start = len(tokens[name]) if name in tokens.spans else 0
    if start + count > model.config.context:
        raise ContextOverflow(saw=f"{start + count} tokens", want=f"at most {model.config.context}")
    device = next(model.parameters()).device
    return torch.arange(start, start + count, device=device).expand(tokens.objects, -1)


def _draw(said: Tensor, temperature: float, generator: torch.Generator | None, *, ids: bool) -> Tensor:
    if not ids:
        if not temperature:
            return said
        return said + temperature * torch.randn(said.shape, generator=generator, dtype=said.dtype).to(said.device)
    if not temperature:
        return said.argmax(-1)
    chance = (said.float() / temperature).softmax(-1).flatten(0, 1)
    return torch.multinomial(chance, 1, generator=generator).view(said.shape[:2])


def _joined(before: Span | None, values: Tensor, where: Tensor) -> Span:
    if before is None:
        return Span(values, where)
    return Span(torch.cat([before.values, values], 1), torch.cat([before.positions, where], 1))
