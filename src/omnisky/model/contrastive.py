"""AstroCLIP: images and spectra of the same galaxy as neighbours in one space (Parker et al. 2024, MNRAS 531, 4990).

Two towers, each a backbone and a head; the heads learn by symmetric InfoNCE (Radford et al. 2021, arXiv:2103.00020,
figure 3) while the backbones stand still. `train.frozen` keeps the states of standing backbones on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omnisky.codec.tokens import Codec, Tokens, demand_present
from omnisky.errors import BadValue, MissingModality, ShapeMismatch
from omnisky.model.activation import bent
from omnisky.model.resnet import MomentumEncoderConfig, ResNet
from omnisky.model.specformer import Specformer, SpecformerConfig
from omnisky.model.vision import Vision, VisionConfig

SHORTEST = 1e-3
"""compat: a vector shorter than this is not scaled up to length 1"""
HIGHEST = 100.0
"""the scale does not learn beyond this (Radford et al. 2021, §2.5)"""


class Read(NamedTuple):
    """What a backbone made of an object."""

    states: Float[Tensor, "object state width"]
    present: Bool[Tensor, "object state"] | None


Gather = Callable[[Tensor], tuple[Tensor, int]]
"""this rank's rows → (those of all ranks, where its own begin)"""


def alone(rows: Tensor) -> tuple[Tensor, int]:
    """Gather of a single rank."""
    return rows, 0


# --- the head ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """One learned query that reads all states, and an MLP. The defaults are as published."""

    inside: int
    """numbers a state that is read"""
    width: int = 1024
    """numbers that come out"""
    heads: int = 4
    dropout: float = 0.1
    hidden_dropout: float = 0.0
    """within the MLP: version 1 has 0.1"""
    residual: bool = True
    """out = x + MLP(x); False is compat: AstroCLIP's image head returns MLP(x) alone"""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise BadValue("width must divide into heads", saw=f"{self.width} / {self.heads}", want="a whole number")


class Pool(nn.Module):
    """Cross-attention of one query to all states, then an MLP.

    With one query the keys need not be made: q·(W x) = (qᵀW)·x, and their bias shifts all scores alike. Values are
    made of the mean state each head has read, not of every state.
    """

    def __init__(self, config: PoolConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.query = nn.Parameter(torch.zeros(1, 1, width))
        self.to_query, self.to_key = nn.Linear(width, width), nn.Linear(config.inside, width)
        self.to_value, self.out = nn.Linear(config.inside, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attention(
        self, states: Float[Tensor, "object state inside"], present: Bool[Tensor, "object state"] | None = None
    ) -> Float[Tensor, "object heads state"]:
        """How much each head looks at each state; adds up to 1 over those that are there."""
        heads = self.config.heads
        query = self.to_query(self.query).view(heads, 1, -1)
        asked = (query @ self.to_key.weight.to(query.dtype).view(heads, -1, self.config.inside)).squeeze(1)
        scores = F.linear(states, asked.to(states.dtype) * (self.config.width // heads) ** -0.5).float().mT
        if present is not None:
            scores = scores.masked_fill(~present[:, None], -torch.inf)
        return scores.softmax(-1)

    def forward(
        self, states: Float[Tensor, "object state inside"], present: Bool[Tensor, "object state"] | None = None
    ) -> Float[Tensor, "object width"]:
        if states.shape[-1] != self.config.inside:
            raise ShapeMismatch("states", saw=f"{states.shape[-1]} numbers", want=self.config.inside)
        config = self.config
        states = states if torch.is_autocast_enabled(states.device.type) else states.float()
        seen = self.attention(states, present).to(states.dtype) @ states
        value = self.to_value.weight.to(seen.dtype).view(config.heads, -1, config.inside)
        read = torch.einsum("ohi,hdi->ohd", seen, value).flatten(1) + self.to_value.bias
        x = self.norm(F.dropout(self.out(read), config.dropout, self.training).float())
        inside = F.dropout(bent(self.up, "gelu", x), config.hidden_dropout, self.training)
        y = F.dropout(self.down(inside), config.dropout, self.training)
        return x + y if config.residual else y


# --- towers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """A transformer and the head on it."""

    backbone: VisionConfig | SpecformerConfig
    pool: PoolConfig
    bare: bool = False
    """compat: AstroCLIP's image head reads patches that never saw class token or positions"""
    frozen: bool = True
    """the backbone stands still"""

    @property
    def name(self) -> str:
        """Of the span it reads."""
        return self.backbone.name

    def build(self, seed: int | None = None) -> Tower:
        return Tower(self, seed)


class Tower(nn.Module):
    """Tokens of one kind → one vector."""

    backbone: Vision | Specformer

    def __init__(self, config: TowerConfig, seed: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = config.backbone.build(seed)
        self.pool = Pool(config.pool)
        _begin(self.pool, None if seed is None else torch.Generator().manual_seed(seed + 1))
        if config.bare and not isinstance(self.backbone, Vision):
            raise BadValue("bare", saw=type(self.backbone).__name__, want="an image tower")
        _freeze(self.standing)

    @property
    def standing(self) -> Vision | Specformer | None:
        """What does not learn."""
        return self.backbone if self.config.frozen else None

    def train(self, mode: bool = True) -> Tower:
        """A backbone that stands still does not drop anything either."""
        super().train(mode)
        if self.standing is not None:
            self.standing.eval()
        return self

    def read(self, tokens: Tokens) -> Read:
        """The states that the head reads: the backbone's, or those kept of it, if the tokens bring them."""
        if (kept := stored(self.config.name)) in tokens.spans:
            span = demand_present(tokens, kept)
            return Read(span.values, span.present)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.standing is None):
            return self._look(tokens)

    def _look(self, tokens: Tokens) -> Read:
        present = demand_present(tokens, self.config.name).present
        if isinstance(self.backbone, Vision):
            states = self.backbone.states(tokens, bare=self.config.bare)
            ahead = states.shape[1] - len(tokens[self.config.name])
            return Read(states, None if present is None else F.pad(present, (ahead, 0), value=True))
        return Read(self.backbone.states(tokens), present)

    def project(self, tokens: Tokens) -> Float[Tensor, "object width"]:
        """The vector of each object, of any length."""
        return self.pool(*self.read(tokens))

    def attention(self, tokens: Tokens) -> Float[Tensor, "object heads state"]:
        """Where the head looks: over patches (the class token first, if there is one) or sections (moments first)."""
        read = self.read(tokens)
        return self.pool.attention(read.states.float(), read.present)


class EncoderTower(nn.Module):
    """Version 1's image tower: Stein's ResNet50, of which only the two last layers learn."""

    def __init__(self, config: MomentumEncoderConfig, seed: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = config.build(seed)
        _freeze(self.standing)

    @property
    def standing(self) -> ResNet:
        """What does not learn."""
        return self.backbone.network

    def train(self, mode: bool = True) -> EncoderTower:
        """The frozen network uses its own running means."""
        super().train(mode)
        self.standing.eval()
        return self

    def read(self, tokens: Tokens) -> Read:
        """One state: the features before the two last layers."""
        if (kept := stored(self.config.name)) in tokens.spans:
            span = demand_present(tokens, kept)
            return Read(span.values, span.present)
        with torch.no_grad():
            return Read(self.backbone.vectors(tokens)[:, None], None)

    def project(self, tokens: Tokens) -> Float[Tensor, "object width"]:
        """The vector of each object, of any length."""
        states = self.read(tokens).states[:, 0]
        states = states if torch.is_autocast_enabled(states.device.type) else states.float()
        return self.backbone.down(F.relu(self.backbone.up(states)))


def stored(name: str) -> str:
    """The span of states that were kept of the span `name`."""
    return f"{name}_states"


def _freeze(module: nn.Module | None) -> None:
    if module is not None:
        module.requires_grad_(False).eval()


def _begin(pool: Pool, draw: torch.Generator | None) -> None:
    """The query N(0, 1), its linears by Glorot's rule without bias, the MLP by torch's."""
    nn.init.normal_(pool.query, generator=draw)
    for linear in (pool.to_query, pool.to_key, pool.to_value):
        nn.init.xavier_uniform_(linear.weight, generator=draw)
        nn.init.zeros_(linear.bias)
    for linear in (pool.out, pool.up, pool.down):
        bound = linear.in_features**-0.5
        nn.init.uniform_(linear.weight, -bound, bound, generator=draw)
        nn.init.uniform_(linear.bias, -bound, bound, generator=draw)
    nn.init.zeros_(pool.out.bias)


# --- both --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """An AstroCLIP."""

    image: TowerConfig | MomentumEncoderConfig
    spectrum: TowerConfig
    scale: float = 15.5
    """what cosines are multiplied by before the softmax; where it begins, if it learns"""
    learns_scale: bool = True
    """False is compat: AstroCLIP's never moves"""

    def build(self, seed: int | None = None) -> Contrastive:
        return Contrastive(self, seed)


@runtime_checkable
class Reader(Protocol):
    """Tokens of one kind → one vector: `Tower`, `EncoderTower`, those of `first_clip`."""

    config: Any
    """its `name` is that of the span it reads"""

    @property
    def standing(self) -> nn.Module | None:
        """What does not learn."""

    def read(self, tokens: Tokens) -> Read:
        """The states that the head reads."""

    def project(self, tokens: Tokens) -> Float[Tensor, "object width"]:
        """The vector of each object, of any length."""


class Pairs(nn.Module):
    """Two towers, image and spectrum, and the loss that brings them together."""

    image: Reader
    spectrum: Reader

    def __init__(self) -> None:
        super().__init__()
        self.codecs: tuple[Codec, ...] = ()
        self.gather: Gather = alone

    @property
    def centre(self) -> None:
        """Embeddings are what the heads say."""
        return None

    @property
    def standing(self) -> bool:
        """Whether a part of it does not learn, and must have learnt before."""
        return self.image.standing is not None or self.spectrum.standing is not None

    @property
    def scale(self) -> Float[Tensor, ""]:
        """What cosines are multiplied by: 1 / temperature."""
        raise NotImplementedError

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """Of pairs: row i of the images and row i of the spectra are the same object. Raises MissingModality."""
        return self.among(self.told(tokens, generator))

    def told(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, "object 2 width"]:
        """What `among` compares: each object's two vectors. Raises MissingModality, ShapeMismatch."""
        pair = self.image.project(tokens), self.spectrum.project(tokens)
        demand_pairs(*pair)
        return torch.stack([vectors.float() for vectors in pair], 1)

    def among(self, told: Float[Tensor, "object 2 width"]) -> Float[Tensor, ""]:
        """The loss of what was told of these objects, and of those of all other ranks."""
        return self.contrast(*told.unbind(1))

    def contrast(
        self, image: Float[Tensor, "object width"], spectrum: Float[Tensor, "object width"]
    ) -> Float[Tensor, ""]:
        """(cross-entropy of images among spectra + of spectra among images) / 2, among the pairs of all ranks."""
        demand_pairs(image, spectrum)
        image, spectrum = unit(image), unit(spectrum)
        gather = self.gather if self.training else alone  # judged objects are the same on every rank
        images, first = gather(image)
        spectra, _ = gather(spectrum)
        own = torch.arange(len(image), device=image.device) + first
        among_spectra = F.cross_entropy(self.scale * image @ spectra.mT, own)
        among_images = F.cross_entropy(self.scale * spectrum @ images.mT, own)
        return (among_spectra + among_images) / 2

    def tower(self, tokens: Tokens) -> Reader:
        """The one tower that these tokens are for. Raises MissingModality, BadValue where they are for both."""
        towers = {tower.config.name: tower for tower in (self.image, self.spectrum)}
        found = [name for name in towers if name in tokens.spans or stored(name) in tokens.spans]
        if not found:
            raise MissingModality("nothing here that this model reads", saw=tuple(tokens.spans), want=tuple(towers))
        if len(found) == 2:
            hint = 'embed(model, seen, part="image"), or part="spectrum"'
            raise BadValue("two vectors for each object", saw=found, want="tokens of one kind", hint=hint)
        return towers[found[0]]

    def vectors(self, tokens: Tokens, blocks: int | None = None) -> Float[Tensor, "object width"]:
        """One vector an object, from its image or from its spectrum, comparable by cosine with all others."""
        if blocks is not None:
            raise BadValue("blocks", saw=blocks, want="None: an aligned model has one layer to read")
        return self.tower(tokens).project(tokens)

    def states(self, tokens: Tokens, blocks: int | None = None) -> Float[Tensor, "object state width"]:
        """The states that the head reads, of images or of spectra."""
        if blocks is not None:
            raise BadValue("blocks", saw=blocks, want="None")
        return self.tower(tokens).read(tokens).states


class Contrastive(Pairs):
    """AstroCLIP."""

    image: Tower | EncoderTower
    spectrum: Tower

    def __init__(self, config: ContrastiveConfig, seed: int | None = None) -> None:
        super().__init__()
        self.config = config
        if isinstance(config.image, MomentumEncoderConfig):
            self.image = EncoderTower(config.image, seed)
        else:
            self.image = config.image.build(seed)
        self.spectrum = config.spectrum.build(None if seed is None else seed + 2)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale))) if config.learns_scale else None

    @property
    def scale(self) -> Float[Tensor, ""]:
        """What cosines are multiplied by: 1 / temperature."""
        if self.log_scale is None:
            return torch.tensor(self.config.scale)
        return self.log_scale.clamp(max=math.log(HIGHEST)).exp()


def demand_pairs(image: Tensor, spectrum: Tensor) -> None:
    """Raises ShapeMismatch."""
    if image.shape != spectrum.shape:
        raise ShapeMismatch("not pairs", saw=f"{tuple(image.shape)} images, {tuple(spectrum.shape)} spectra")


def unit(vectors: Float[Tensor, "object width"]) -> Float[Tensor, "object width"]:
    """Of length 1, in float32."""
    return F.normalize(vectors.float(), dim=-1, eps=SHORTEST)
