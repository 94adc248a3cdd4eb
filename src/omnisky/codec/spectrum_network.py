"""The network of AION-1's spectrum codec: ConvNeXt V2 along wavelength (Woo et al. 2023, arXiv:2301.00808).

Parameters are named and shaped as published. Inside, channels are the last axis: pointwise layers and the convolutions
whose stride is their size are products of matrices, and norms need no turning round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from omnisky.codec.published import known_fields, plain
from omnisky.codec.quantize import LFQ, demand_ids
from omnisky.codec.tokens import LATER, Codec, Tokens, demand_present
from omnisky.codec.weights import Blank
from omnisky.errors import BadValue, MissingModality

LEAST = 0.1
"""no spectrum is divided by less, in its unit of flux"""


@dataclass(frozen=True, kw_only=True)
class SpectrumCodecConfig:
    """The network; all fields but those after `resolution` are the published config.json's, under their names."""

    encoder_depths: tuple[int, ...] = (3, 3, 27, 3)
    encoder_dims: tuple[int, ...] = (64, 128, 256, 512)
    decoder_depths: tuple[int, ...] = (3, 9, 3, 3)
    decoder_dims: tuple[int, ...] = (256, 128, 64, 2)
    latent_channels: int = 512
    embedding_dim: int = 10
    """numbers that become an id"""
    dim: int = 10
    """the same, of the quantiser"""
    codebook_size: int = 1024
    clip_ivar: float | None = 100.0
    """1/flux²; more certainty than this is not told"""
    clip_flux: float | None = None
    """± in the unit of flux"""
    input_scaling: float = 0.2
    normalization_range: tuple[float, float] = (-1.0, 5.0)
    """of log10(1 + mean flux), in `codebook_size` steps"""
    num_pixels: int = 8704
    lambda_min: float = 3500.0
    """Å, vacuum"""
    resolution: float = 0.8
    """Å a pixel"""
    indecision: float = 0.0
    """weight, in training, of the entropy term of LFQ; 0 as published. Small networks need it to use their codes"""
    profiled: bool = field(default=False, metadata=LATER)
    """in training, ½ log(1 + χ²/n) of each spectrum instead of ½ χ²/n of all: as `ImageCodecConfig.profiled`"""
    crossed: float = field(default=0.0, metadata=LATER)
    """in training, share of χ² that is taken with what the other survey saw of the same object (Noise2Noise: Lehtinen
    et al. 2018, arXiv:1803.04189), but for a factor. Its noise is another, so ids hold what both saw; 0 as published"""

    def __post_init__(self) -> None:
        if not 2**self.embedding_dim == 2**self.dim == self.codebook_size:
            saw = f"{self.embedding_dim}, {self.dim}, {self.codebook_size}"
            raise BadValue("embedding_dim, dim, codebook_size", saw=saw, want="n, n, 2ⁿ")
        if self.num_pixels % self.stride or self.latent_channels != self.encoder_dims[-1] or self.decoder_dims[-1] != 2:
            want = f"num_pixels of whole {self.stride}s, latent_channels the encoder's last, 2 the decoder's"
            raise BadValue("SpectrumCodecConfig", saw=f"{self.num_pixels}, {self.latent_channels}", want=want)
        if not 0 <= self.crossed <= 1:
            raise BadValue("crossed", saw=self.crossed, want="a share, 0 … 1")

    @classmethod
    def from_published(cls, said: Mapping[str, Any]) -> SpectrumCodecConfig:
        """Out of a published config.json. Raises UnknownLayout."""
        return cls(**known_fields("spectrum codec", said, _published()))

    def published(self) -> dict[str, Any]:
        """As the published config.json has it."""
        return {name: plain(getattr(self, name)) for name in _published()}

    @property
    def stride(self) -> int:
        """Pixels a token."""
        return 4 * 2 ** (len(self.encoder_dims) - 1)

    @property
    def length(self) -> int:
        """Tokens after that of brightness."""
        return self.num_pixels // self.stride

    def build(self, seed: int | None = None) -> SpectrumNetwork:
        with torch.random.fork_rng():
            torch.manual_seed(0 if seed is None else seed)
            return SpectrumNetwork(self)


def _published() -> tuple[str, ...]:
    return tuple(f.name for f in fields(SpectrumCodecConfig) if f.name not in ("indecision", "profiled", "crossed"))


# --- layers: (object, wave, channel) ------------------------------------------------------------------------------


class Response(nn.Module):
    """Global response normalisation: channels compete along the whole spectrum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, 1, width))

    def gain(self, x: Float[Tensor, "object wave width"]) -> Float[Tensor, "object 1 width"]:
        """What channels are multiplied by, before `beta` is added; a sum of squares is four times as fast as a norm."""
        size = x.square().sum(1, keepdim=True, dtype=torch.float32).clamp(min=1e-24).sqrt()
        return (1 + self.gamma * size / (size.mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class Block(nn.Module):
    """x + pointwise(GRN(GELU(pointwise(norm(depthwise 7(x))))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.grn = Response(4 * width)

    def forward(self, x: Float[Tensor, "object wave width"]) -> Float[Tensor, "object wave width"]:
        learns, last = torch.is_grad_enabled(), self.pwconv2
        y = F.gelu(self.pwconv1(self.norm(self._along(x))))
        gain = self.grn.gain(y)
        y = y * gain if learns else y.mul_(gain)
        y = F.linear(y, last.weight, F.linear(self.grn.beta[0, 0], last.weight, last.bias))  # beta goes with the bias
        return x + y if learns else y.add_(x)

    def _along(self, x: Tensor) -> Tensor:
        """The depthwise convolution, as of an image one pixel high with channels last."""
        image = x.mT[:, :, None]
        y = F.conv2d(image, self.dwconv.weight[:, :, None], self.dwconv.bias, padding=(0, 3), groups=x.shape[-1])
        return y[:, :, 0].mT


class Shrink(nn.Conv1d):
    """A convolution whose stride is its size: each piece of so many pixels by itself."""

    def __init__(self, inside: int, outside: int, size: int) -> None:
        super().__init__(inside, outside, size, stride=size)

    def forward(self, x: Float[Tensor, "object wave inside"]) -> Float[Tensor, "object less outside"]:
        b, n, _ = x.shape
        size = self.kernel_size[0]
        return F.linear(x.reshape(b, n // size, -1), self.weight.permute(0, 2, 1).flatten(1), self.bias)


class Grow(nn.ConvTranspose1d):
    """Its opposite: each place becomes so many."""

    def __init__(self, inside: int, outside: int, size: int) -> None:
        super().__init__(inside, outside, size, stride=size)

    def forward(self, x: Float[Tensor, "object wave inside"]) -> Float[Tensor, "object more outside"]:
        b, n, _ = x.shape
        size = self.kernel_size[0]
        rows = F.linear(x, self.weight.permute(2, 1, 0).flatten(0, 1))
        rows = rows.reshape(b, n * size, -1)
        return rows if self.bias is None else rows + self.bias


class Encoder(nn.Module):
    """Pixels → states, a 32nd as many."""

    def __init__(self, config: SpectrumCodecConfig) -> None:
        super().__init__()
        dims = config.encoder_dims
        stem = nn.Sequential(Shrink(2, dims[0], 4), nn.LayerNorm(dims[0], eps=1e-6))
        between = (nn.Sequential(nn.LayerNorm(a, eps=1e-6), Shrink(a, b, 2)) for a, b in pairwise(dims))
        self.downsample_layers = nn.ModuleList([stem, *between])
        self.stages = nn.ModuleList(_blocks(*pair) for pair in zip(config.encoder_depths, dims, strict=True))
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)

    def forward(self, x: Float[Tensor, "object wave 2"]) -> Float[Tensor, "object token width"]:
        for shrink, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(shrink(x))
        return self.norm(x)


class Decoder(nn.Module):
    """States → flux and the logit of being bad, at each pixel."""

    def __init__(self, config: SpectrumCodecConfig) -> None:
        super().__init__()
        dims = (config.latent_channels, *config.decoder_dims)
        first = nn.Sequential(Grow(dims[0], dims[1], 2), nn.LayerNorm(dims[1], eps=1e-6))
        sizes = (*[2] * (len(dims) - 3), 4)
        others = (
            nn.Sequential(nn.LayerNorm(a, eps=1e-6), Grow(a, b, size))
            for a, b, size in zip(dims[1:], dims[2:], sizes, strict=False)
        )
        self.upsample_layers = nn.ModuleList([first, *others])
        self.stages = nn.ModuleList(_blocks(*pair) for pair in zip(config.decoder_depths, dims[1:], strict=True))

    def forward(self, x: Float[Tensor, "object token width"]) -> Float[Tensor, "object wave 2"]:
        for grow, stage in zip(self.upsample_layers, self.stages, strict=True):
            x = stage(grow(x))
        return x


def _blocks(depth: int, width: int) -> nn.Sequential:
    return nn.Sequential(*(Block(width) for _ in range(depth)))


class _Grid(nn.Module):
    """The network's wavelengths, as the published file holds them."""

    def __init__(self, config: SpectrumCodecConfig) -> None:
        super().__init__()
        self.register_buffer("lambda_min", torch.tensor(float(config.lambda_min)))
        self.register_buffer("resolution", torch.tensor(float(config.resolution)))
        self.register_buffer("length", torch.tensor(config.num_pixels))
        wave = config.lambda_min + config.resolution * torch.arange(config.num_pixels, dtype=torch.float32)
        self.register_buffer("_wavelength", wave[None])


class _Brightness(nn.Module):
    """Edges of the bins of log10(1 + mean flux)."""

    def __init__(self, config: SpectrumCodecConfig) -> None:
        super().__init__()
        self.register_buffer("buckets", torch.linspace(*config.normalization_range, config.codebook_size))


class _Bits(nn.Module):
    """The quantiser, one name deeper than needed: so it is in published files."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._quantizer = LFQ(bits)


@dataclass(frozen=True, eq=False)
class Scales:
    """How flux becomes numbers about 1, on which grid."""

    edges: Float[Tensor, " bin"]
    """of bins of log10(1 + mean flux)"""
    wavelength: Float[Tensor, "1 wave"]
    """Å, vacuum"""
    scaling: float

    @classmethod
    def of(cls, config: SpectrumCodecConfig) -> Scales:
        """As a network of this config has them."""
        return cls(
            _Brightness(config).get_buffer("buckets"), _Grid(config).get_buffer("_wavelength"), config.input_scaling
        )

    def ids(self, mean: Float[Tensor, " object"]) -> Integer[Tensor, " object"]:
        """The bin of log10(1 + mean): the first edge not below it; beyond the range the first or last."""
        level = torch.log10(mean.clamp(min=LEAST) + 1)
        return torch.bucketize(level, self.edges).clamp(max=len(self.edges) - 1)

    def brightness(self, ids: Integer[Tensor, " object"]) -> Float[Tensor, "object 1"]:
        """What flux is divided by, in its unit. Raises BadValue for ids outside the vocabulary."""
        demand_ids(ids, len(self.edges))
        return (10 ** self.edges[ids.long()] - 1).clamp(min=LEAST)[:, None]

    def entered(
        self, flux: Float[Tensor, "object wave"], istd: Float[Tensor, "object wave"], ids: Integer[Tensor, " object"]
    ) -> Float[Tensor, "object 2 wave"]:
        """Flux (over brightness, less 1) and 1/σ (divided by brightness: compat, it should be multiplied), scaled."""
        n = self.brightness(ids)
        return torch.stack([(flux / n - 1) * self.scaling, istd / n * self.scaling], 1)


# --- the whole ----------------------------------------------------------------------------------------------------


class SpectrumNetwork(nn.Module):
    """Spectra on the network's grid → ids → spectra."""

    def __init__(self, config: SpectrumCodecConfig) -> None:
        super().__init__()
        width = config.latent_channels
        self.config = config
        self.codecs: tuple[Codec, ...] = ()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.pre_quant_norm = nn.LayerNorm(width)
        self.quant_conv = nn.Conv1d(width, config.embedding_dim, 1)
        self.post_quant_conv = nn.Conv1d(config.embedding_dim, width, 1)
        self.normalization_quantizer = _Brightness(config)
        self._quantizer = _Bits(config.embedding_dim)
        self.latent_grid = _Grid(config)
        for module in self.modules():
            if isinstance(module, nn.Linear | Shrink | Grow) and not Blank.inside():
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def bits(self) -> LFQ:
        """The quantiser."""
        return self._quantizer._quantizer

    @property
    def scales(self) -> Scales:
        """Its grid and its bins of brightness."""
        edges = self.normalization_quantizer.get_buffer("buckets")
        return Scales(edges, self.latent_grid.get_buffer("_wavelength"), self.config.input_scaling)

    @property
    def codes(self) -> int:
        """Different ids there are."""
        return self.bits.codes

    def latent(self, x: Float[Tensor, "object 2 wave"]) -> Float[Tensor, "object number token"]:
        """What is to be quantised, of flux and 1/σ on the grid, both scaled and compressed."""
        states = self.encoder(x.mT.contiguous())
        with torch.autocast(x.device.type, enabled=False):
            rows = F.linear(self.pre_quant_norm(states.float()), self.quant_conv.weight[..., 0], self.quant_conv.bias)
        return rows.mT

    def ids(self, x: Float[Tensor, "object 2 wave"]) -> Integer[Tensor, "object token"]:
        """From blue to red."""
        return self.bits.ids(self.latent(x))

    def said(self, ids: Integer[Tensor, "object token"]) -> Float[Tensor, "object 2 wave"]:
        """Flux over brightness, less 1, and the logit of being bad. Raises BadValue for ids outside the vocabulary."""
        return self.drawn(self.bits.vectors(ids))

    def drawn(self, vectors: Float[Tensor, "object number token"]) -> Float[Tensor, "object 2 wave"]:
        """The same of quantised vectors."""
        states = F.linear(vectors.mT, self.post_quant_conv.weight[..., 0], self.post_quant_conv.bias)
        return self.decoder(states).float().mT

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """½ Σ ivar (f − f̂)² a pixel, cross-entropy of which pixels are bad, a quarter of LFQ's commitment.

        `tokens` are of `GridRows`, one or several: flux, ivar and badness on the grid, and what enters. Raises
        MissingModality.
        """
        rows = torch.cat([demand_present(tokens, name).values for name in tokens])
        x, (flux, ivar, bad, covered), brightness = rows[:, :2], rows[:, 2:6].unbind(1), rows[:, 6, :1]
        z = self.latent(x)
        u, logit = self.drawn(self.bits(z)).unbind(1)
        said = (u + 1) * brightness
        wrong = self._wrong(said, flux, ivar)
        if share := self.config.crossed:
            if len(tokens.spans) != 2:
                saw, want = tuple(tokens), "spectra of two surveys, which `crossed` compares"
                raise MissingModality(saw=saw, want=want, hint="model.crossed=0 learns from one")
            flux, ivar = flux.roll(tokens.objects, 0), ivar.roll(tokens.objects, 0)
            with torch.no_grad():  # fibres of other widths: one factor is free
                weight = ivar * said
                factor = (weight * flux).sum(1, keepdim=True) / (weight * said).sum(1, keepdim=True).clamp(min=1e-12)
            wrong = (1 - share) * wrong + share * self._wrong(said * factor, flux, ivar)
        flags = F.binary_cross_entropy_with_logits(logit, bad, covered, reduction="sum") / covered.sum().clamp(min=1)
        loss = wrong + flags + 0.25 * self.bits.commitment(z)
        return loss if not self.config.indecision else loss + self.config.indecision * self.bits.indecision(z)

    def _wrong(
        self, said: Float[Tensor, "object wave"], flux: Float[Tensor, "object wave"], ivar: Float[Tensor, "object wave"]
    ) -> Float[Tensor, ""]:
        """½ χ² a pixel, or by object as `profiled` has it."""
        chi2, count = (ivar * (flux - said).square()).sum(1), (ivar > 0).sum(1)
        if self.config.profiled:
            return 0.5 * torch.log1p(chi2 / count.clamp(min=1)).mean()
        return 0.5 * chi2.sum() / count.sum().clamp(min=1)
