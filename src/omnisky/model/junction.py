"""Many modalities' tokens ↔ one sequence, and the heads back out (AstroPT: Smith et al. 2024, arXiv:2405.14930)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omnisky.codec.tokens import Span, Tokens
from omnisky.errors import BadValue, ContextOverflow, MissingModality, ShapeMismatch
from omnisky.model.activation import bent


@dataclass(frozen=True, kw_only=True)
class Modality:
    """What one modality's tokens look like."""

    name: str
    width: int
    """numbers per token; for ids, the same as `vocabulary`"""
    vocabulary: int = 0
    """how many ids there are; 0 means tokens are vectors of numbers"""
    position_width: int = 0
    """numbers per position (wavelengths, phases); 0 means integer positions, looked up in a table"""
    weight: float = 1.0
    """of this modality in the loss"""


class Perceptron(nn.Module):
    """AstroPT's "aim" tokeniser and head: in → 4·width → out, tanh-GELU between (after El-Nouby et al. 2024)."""

    def __init__(self, inside: int, outside: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.up = nn.Linear(inside, hidden, bias=bias)
        self.down = nn.Linear(hidden, outside, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(bent(self.up, "gelu_tanh", x))


class ReluEncoder(nn.Module):
    """AstroPT v1's tokeniser: two linears, a ReLU after each, always with bias."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inside, outside), nn.Linear(outside, outside)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()).relu()


class ReluDecoder(nn.Module):
    """AstroPT v1's head: width → 2·width → width → out, ReLU between, always with bias."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inside, 2 * inside), nn.Linear(2 * inside, inside)
        self.third = nn.Linear(inside, outside)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x).relu()).relu())


TOKENISERS = ("aim", "affine", "v1")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where each modality's tokens lie in a sequence, and which of them are there."""

    names: tuple[str, ...]
    lengths: tuple[int, ...]
    present: Bool[Tensor, "object token"] | None
    """None means all"""

    def slices(self) -> list[tuple[str, slice]]:
        """(name, where) in the order of the sequence."""
        starts = [sum(self.lengths[:i]) for i in range(len(self.lengths))]
        return [(n, slice(a, a + length)) for n, a, length in zip(self.names, starts, self.lengths, strict=True)]

    def __len__(self) -> int:
        return sum(self.lengths)


class Junction(nn.Module):
    """Encoders in, decoders out, one of each per modality; modalities follow each other in the order of their names."""

    def __init__(self, modalities: tuple[Modality, ...], width: int, context: int, tokeniser: str, bias: bool) -> None:
        super().__init__()
        if tokeniser not in TOKENISERS:
            raise BadValue("tokeniser", saw=tokeniser, want=TOKENISERS)
        if not modalities:
            raise BadValue("a model needs at least one modality", saw="none")
        self.modalities = {m.name: m for m in sorted(modalities, key=lambda m: m.name)}
        self.context = context

        def linears(inside: int, outside: int) -> nn.Module:
            if tokeniser == "affine":
                return nn.Linear(inside, outside, bias=bias)
            return Perceptron(inside, outside, 4 * width, bias)

        def encoder(m: Modality) -> nn.Module:
            if m.vocabulary:
                return nn.Embedding(m.vocabulary, width)
            return ReluEncoder(m.width, width) if tokeniser == "v1" else linears(m.width, width)

        def position(m: Modality) -> nn.Module:
            return linears(m.position_width, width) if m.position_width else nn.Embedding(context, width)

        def decoder(m: Modality) -> nn.Module:
            return ReluDecoder(width, m.width) if tokeniser == "v1" else linears(width, m.width)

        self.encoders = nn.ModuleDict({name: encoder(m) for name, m in self.modalities.items()})
        self.positions = nn.ModuleDict({name: position(m) for name, m in self.modalities.items()})
        self.decoders = nn.ModuleDict({name: decoder(m) for name, m in self.modalities.items()})

    def layout(self, tokens: Tokens) -> Layout:
        """The sequence these tokens make. Raises MissingModality where there is nothing this model reads."""
        names = tuple(name for name in self.modalities if name in tokens.spans)
        if not names or set(tokens.spans) - set(names):
            raise MissingModality(
                saw=tuple(tokens.spans), want=tuple(self.modalities), hint="rename or drop the others"
            )
        spans = [tokens[name] for name in names]
        present = None
        if any(span.present is not None for span in spans):
            present = torch.cat([span.there() for span in spans], dim=1)
        return Layout(names=names, lengths=tuple(len(span) for span in spans), present=present)

    def enter(self, tokens: Tokens) -> Float[Tensor, "object token width"]:
        """One sequence of encoded tokens, in the order of `layout`."""
        return torch.cat([self.encode(name, tokens[name]) for name in self.layout(tokens).names], dim=1)

    def encode(self, name: str, span: Span) -> Float[Tensor, "object token width"]:
        """Encoder(value) + Position(position) of one modality."""
        modality = self.modalities[name]
        want = () if modality.vocabulary else (modality.width,)
        if tuple(span.values.shape[2:]) != want:
            raise ShapeMismatch(
                f"tokens of {name!r}",
                saw=f"width {tuple(span.values.shape[2:])}",
                want=want or "integer ids",
                hint="the codec this model was trained with (other patch size or bands?)",
            )
        if modality.position_width == 0 and span.positions.numel() and int(span.positions.max()) >= self.context:
            raise ContextOverflow(
                saw=f"position {int(span.positions.max())} of {name!r}",
                want=f"less than {self.context}",
                hint="smaller images or larger patches",
            )
        return self.encoders[name](span.values) + self.positions[name](span.positions)

    def leave(self, name: str, states: Float[Tensor, "object token width"]) -> Float[Tensor, "object token out"]:
        """What the states say of tokens of this modality: numbers, or logits of ids."""
        return self.decoders[name](states)


def surprise(
    said: Float[Tensor, "object token out"], span: Span, present: Bool[Tensor, "object token"] | None
) -> Float[Tensor, ""]:
    """Mean Huber (δ=1) over the numbers of present tokens, or mean cross-entropy over present ids; 0 if none is."""
    if span.values.is_floating_point():
        each = F.huber_loss(said.float(), span.values.float(), reduction="none").mean(-1)
    else:
        each = F.cross_entropy(said.float().flatten(0, 1), span.values.flatten(), reduction="none").view_as(span.values)
    if present is None:
        return each.mean() if each.numel() else each.sum()
    return (each * present).sum() / present.sum().clamp(min=1)
