"""AION-1's codec of maps: a field in 0 … 1, 96×96 px ↔ 144 ids of 1000 (Parker et al. 2025, §3.1).

The Legacy Survey's map of sources is such a field: 0 for the sky, a fifth of the Tractor's kind (PSF 1 … SER 5) where a
source of that kind is. A `SegmentationMap` is painted so by the list of neighbours beside it (label k + 1 is row k),
and by 1 for every source where there is no list. An `Image` of one band is taken as the field itself.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from omnisky.codec.image import centred
from omnisky.codec.processor import at_precision
from omnisky.codec.published import known_fields, plain, some_at_once
from omnisky.codec.quantize import FSQ
from omnisky.codec.tokens import Codec, Span, Tokens, absent_where, demand_present
from omnisky.errors import BadPixels, BadValue, BandMismatch, ShapeMismatch
from omnisky.observe.types import Image, Observation, SegmentationMap

KINDS = 5
"""of source, by the Tractor"""
EMPTY_SKY = -4.5
"""logit that every pixel begins with, a field of 0.011: nearly all of a map is sky, and learning that first, from a
half, shuts the decoder for good"""


@dataclass(frozen=True, kw_only=True)
class FieldCodecConfig:
    """The network; all fields but `side` are the published config.json's, under their names."""

    encoder_output_dim: int = 512
    embedding_dim: int = 4
    """numbers that become an id"""
    res_hidden_dims: int = 512
    num_res_layers: int = 2
    num_downsamples: int = 3
    """times that the map is halved"""
    levels: tuple[int, ...] = (8, 5, 5, 5)
    variational: bool = False
    decoder_input_dim: int | None = None
    output_activation_extension: float | None = None
    quantisation_loss_weight: float = 1.0
    """FSQ has no loss of its own: this weighs nothing"""
    ema_model_weights: bool = True
    """keep a running mean of the weights beside them"""
    ema_decay: float = 0.9999
    ema_update_freq: int = 1
    """steps"""
    lr: float = 7.5e-5
    """this and the next three say how the published weights were trained; our recipes say it themselves"""
    lr_warmup: int = 1000
    begin_cosine_annealing: int = 38_000
    lr_cosine_period: int = 76_000
    side: int = 96
    """px of a map; ours"""

    def __post_init__(self) -> None:
        if self.variational or self.decoder_input_dim is not None or self.output_activation_extension is not None:
            raise BadValue(
                "FieldCodecConfig", saw="variational, or another decoder", want="as published: none of these"
            )
        if len(self.levels) != self.embedding_dim or self.side % 2**self.num_downsamples:
            raise BadValue(
                "FieldCodecConfig", saw=f"levels {self.levels}", want=f"{self.embedding_dim}; whole halvings"
            )

    @classmethod
    def from_published(cls, said: Mapping[str, Any]) -> FieldCodecConfig:
        """Out of a published config.json. Raises UnknownLayout."""
        return cls(**known_fields("segmentation codec", said, _published()))

    def published(self) -> dict[str, Any]:
        """As the published config.json has it. Raises BadValue for maps of another size."""
        if self.side != 96:
            raise BadValue("the published layout", saw=f"{self.side} px", want="96 px")
        return {name: plain(getattr(self, name)) for name in _published()}

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.side // 2**self.num_downsamples

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels after each halving."""
        return tuple(self.encoder_output_dim // 2**i for i in range(self.num_downsamples - 1, -1, -1))

    def build(self, seed: int | None = None) -> FieldNetwork:
        with torch.random.fork_rng():
            torch.manual_seed(0 if seed is None else seed)
            return FieldNetwork(self)


def _published() -> tuple[str, ...]:
    return tuple(f.name for f in fields(FieldCodecConfig) if f.name != "side")


class ResidualLayer(nn.Module):
    """x + 1×1(ReLU(batch norm(3×3(ReLU(x)))))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        first, second = nn.Conv2d(width, hidden, 3, padding=1), nn.Conv2d(hidden, width, 1)
        self.net = nn.Sequential(nn.ReLU(), first, nn.BatchNorm2d(hidden), nn.ReLU(), second)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


class Stack(nn.Module):
    """Layers in a row, under the name `net`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class FieldBody(nn.Module):
    """Encoder, quantiser, decoder; named as published."""

    def __init__(self, config: FieldCodecConfig) -> None:
        super().__init__()
        width, widths = config.encoder_output_dim, config.widths

        def residuals() -> nn.Module:
            return Stack(*(ResidualLayer(width, config.res_hidden_dims) for _ in range(config.num_res_layers)))

        down: list[nn.Module] = []
        for a, b in pairwise((1, *widths)):
            down += [nn.Conv2d(a, b, 4, stride=2, padding=1), nn.ReLU()]
        up: list[nn.Module] = [nn.ConvTranspose2d(width, width, 3, padding=1), residuals()]
        outwards = (width, *widths[:-1], 1)  # compat: the middle widths grow outwards, as those of the encoder inwards
        for a, b in pairwise(outwards):
            up += [nn.ReLU(), nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)]
        self.encoder = Stack(*down, nn.Conv2d(width, width, 3, padding=1), residuals())
        self.decoder = Stack(*up)
        self.encode_proj = nn.Conv2d(width, config.embedding_dim, 1)
        self.decode_proj = nn.Conv2d(config.embedding_dim, width, 1)
        self._quantizer = FSQ(config.levels)
        nn.init.constant_(cast(Tensor, self.decoder.net[-1].bias), EMPTY_SKY)

    @property
    def codes(self) -> int:
        """Different ids there are."""
        return self._quantizer.codes

    def latent(self, field: Float[Tensor, "object y x"]) -> Float[Tensor, "object number gy gx"]:
        """What is to be quantised."""
        x = self.encoder(field[:, None].contiguous(memory_format=torch.channels_last))
        with torch.autocast(x.device.type, enabled=False):
            return self.encode_proj(x.float())

    def ids(self, field: Float[Tensor, "object y x"]) -> Integer[Tensor, "object token"]:
        """Row by row."""
        return self._quantizer.ids(self.latent(field)).flatten(1)

    def vectors(self, ids: Integer[Tensor, "object gy gx"]) -> Float[Tensor, "object number gy gx"]:
        """What ids stand for. Raises BadValue for ids outside the vocabulary."""
        return self._quantizer.vectors(ids)

    def drawn(self, vectors: Float[Tensor, "object number gy gx"]) -> Float[Tensor, "object y x"]:
        """The field of quantised vectors, 0 … 1."""
        return self.decoder(self.decode_proj(vectors)).float().sigmoid()[:, 0]

    def reconstructed(self, field: Float[Tensor, "object y x"]) -> Float[Tensor, "object y x"]:
        """There and back, with a gradient."""
        return self.drawn(self._quantizer(self.latent(field)))


class Average(nn.Module):
    """A running mean of a network, under the name `module`."""

    def __init__(self, body: FieldBody) -> None:
        super().__init__()
        self.module = copy.deepcopy(body).requires_grad_(False)


class FieldNetwork(FieldBody):
    """A map → ids → a map. The mean of its weights is kept as `ema`, and saved; what is used are the weights."""

    def __init__(self, config: FieldCodecConfig) -> None:
        super().__init__(config)
        self.config = config
        self.codecs: tuple[Codec, ...] = ()
        if config.ema_model_weights:
            body = FieldBody(config)
            body.load_state_dict(self.state_dict())
            self.ema = Average(body)
        self.to(memory_format=torch.channels_last)

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """Mean square error of `FieldRows`. Raises MissingModality."""
        field = demand_present(tokens, "field").values[:, 0].unflatten(1, (self.config.side, self.config.side))
        return F.mse_loss(self.reconstructed(field), field)

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """The mean follows the weights; the first steps weigh more, so that the random start is soon forgotten."""
        if not self.config.ema_model_weights or step % self.config.ema_update_freq:
            return
        decay, own = min(self.config.ema_decay, (1 + step) / (10 + step)), self.state_dict()
        for name, mean in self.ema.module.state_dict().items():
            if name.endswith(("weight", "bias")):
                mean.lerp_(own[name], 1 - decay)
            else:
                mean.copy_(own[name])

    def averaged(self) -> FieldNetwork:
        """A copy whose weights are their running mean."""
        grown = copy.deepcopy(self)
        mean = self.ema.module.state_dict()
        grown.load_state_dict(mean | {f"ema.module.{name}": weight for name, weight in mean.items()})
        return grown


# --- observations -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class FieldCodec:
    """Maps ↔ 144 ids."""

    network: FieldNetwork
    name: str = "tok_segmap"
    part: str = "segmentation"
    neighbours: str = "neighbours"
    """the part that says of which kind each source is"""
    dtype: torch.dtype = torch.float32
    at_once: int = 32
    """maps that go through the network together"""
    promised_error: ClassVar[str] = (
        "a trained network's, as `omnisky evaluate codec` measures; which source a pixel belongs to is lost"
    )

    @torch.no_grad()
    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`, of the middle 96 px; smaller maps get a border of 0. Raises as `field_of`."""
        field, there = field_of(seen, self.part, self.neighbours, self.network.config.side)
        self.network.eval()  # batch norm must not look at the neighbours
        ids = torch.zeros(len(field), self.network.config.grid**2, dtype=torch.int32)
        for rows in some_at_once(there, self.at_once):
            with at_precision(self.dtype):
                ids[rows] = self.network.ids(field[rows])
        positions = torch.arange(ids.shape[1]).expand(len(ids), -1)
        return Tokens({self.name: absent_where(Span(ids, positions), there)})

    @torch.no_grad()
    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """Fields, as an `Image` of one band, "field", 0 … 1; of the size of `like`'s where that is smaller than 96 px.

        Raises ShapeMismatch, and BadValue for ids outside the vocabulary.
        """
        config, span = self.network.config, tokens[self.name]
        if span.values.shape[1:] != (config.grid**2,):
            raise ShapeMismatch(self.name, saw=tuple(span.values.shape[1:]), want=f"{config.grid**2} ids")
        self.network.eval()
        ids, there = span.values.cpu().unflatten(1, (config.grid, config.grid)), span.there().any(1).cpu()
        flux = torch.full((len(ids), 1, config.side, config.side), torch.nan)
        for rows in some_at_once(there, self.at_once):
            with at_precision(self.dtype):
                flux[rows, 0] = self.network.drawn(self.network.vectors(ids[rows]))
        plane = flux.numpy()
        if like is not None and self.part in like:
            part = like[self.part]
            plane = _within(plane, (part.label if isinstance(part, SegmentationMap) else part.flux).shape[-2:])
        observed = Observation.of(range(len(ids))) if like is None else like
        present = None if bool(there.all()) else there.numpy()
        return observed | {self.part: Image(flux=plane, bands=("field",), unit="", present=present)}


@dataclass(frozen=True, kw_only=True)
class FieldRows:
    """What the network is trained on: the field as one token."""

    side: int = 96
    part: str = "segmentation"
    neighbours: str = "neighbours"
    name: str = "field"
    promised_error: ClassVar[str] = "none in the middle 96 px"

    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`, of one token of all pixels. Raises as `field_of`."""
        field, there = field_of(seen, self.part, self.neighbours, self.side)
        positions = torch.zeros(len(field), 1, dtype=torch.int64)
        return Tokens({self.name: absent_where(Span(field.flatten(1)[:, None], positions), there)})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """The field again, as an `Image` of one band."""
        flux = tokens[self.name].values.unflatten(2, (self.side, self.side)).float().numpy()
        seen = Observation.of(range(len(flux))) if like is None else like
        return seen | {self.part: Image(flux=flux, bands=("field",), unit="")}


def field_of(
    seen: Observation, part: str, neighbours: str, side: int
) -> tuple[Float[Tensor, "object y x"], torch.Tensor]:
    """The middle of each map as numbers in 0 … 1, 0 beyond its border; and which objects have one.

    Raises BandMismatch (several bands), BadPixels (NaN), BadValue (beyond 0 … 1, or a label without a row).
    """
    given = seen[part]
    if isinstance(given, SegmentationMap):
        field = _painted(given, seen.parts.get(neighbours))
    elif len(given.bands) != 1:
        raise BandMismatch(part, saw=given.bands, want="one band: the field")
    else:
        field = np.asarray(given.flux[:, 0], dtype=np.float32)
    there = given.there()
    field = np.where(there[:, None, None], field, 0)
    if not np.isfinite(field).all():
        raise BadPixels(
            f"NaN or infinity in {part}", want="0 … 1", hint="0 where there is nothing, or `present=` False"
        )
    if field.size and (field.min() < 0 or field.max() > 1):
        raise BadValue(part, saw=f"{field.min():g} … {field.max():g}", want="0 … 1")
    return torch.from_numpy(centred(field, side)), torch.from_numpy(np.ascontiguousarray(there))


def _painted(given: SegmentationMap, listed: Any) -> Float[np.ndarray, "object height width"]:
    """A fifth of the number of its kind wherever a source is; 1 where no list says which kind."""
    if listed is None:
        return (given.label > 0).astype(np.float32)
    kind = np.nan_to_num(listed["TYPE"].astype(np.float32)) / KINDS
    values = np.pad(kind, ((0, 0), (1, 0)))
    label = np.where(given.there()[:, None, None], given.label, 0)
    if label.size and (label.min() < 0 or label.max() >= values.shape[1]):
        raise BadValue(
            "labels", saw=f"up to {label.max()}", want=f"rows of the {values.shape[1] - 1} neighbours, from 1"
        )
    flat = label.reshape(len(label), label.shape[1] * label.shape[2])
    return np.take_along_axis(values, flat.astype(np.int64), 1).reshape(label.shape)


def _within(plane: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The part of a padded map that was there."""
    top, left = ((have - min(have, want)) // 2 for have, want in zip(plane.shape[-2:], size, strict=True))
    return plane[..., top : top + size[0], left : left + size[1]]
