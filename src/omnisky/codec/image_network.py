"""The network of AION-1's image codec, and which bands of which surveys go into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from omnisky.codec.magvit import ALMOST_SHUT, MagVit, Padded, exactly, lay_out, pointwise
from omnisky.codec.published import known_fields, plain
from omnisky.codec.quantize import FSQ
from omnisky.codec.tokens import LATER, Codec, Span, Tokens
from omnisky.errors import BadValue


@dataclass(frozen=True, kw_only=True)
class BandRow:
    """A survey's input channels."""

    survey: str
    """as in `Image.survey`"""
    prefix: str
    """of its bands' names in AION-1: HSC for HSC-G"""
    bands: tuple[str, ...]
    """as in `Image.bands`, in the order of channels"""
    clip: tuple[float, ...]
    """± the largest flux of a pixel, one a band, in the survey's own unit"""
    zero_point_mag: float = 22.5
    """of that unit, AB"""
    pixel_scale_arcsec: float = float("nan")
    """of the images it was trained on; nothing is resampled"""
    token: str = "tok_image"
    """name of the tokens"""
    part: str = "image"
    """where an observation has these images, if nothing else is said"""

    @property
    def unit_nmgy(self) -> float:
        """Nanomaggies in the survey's own unit of flux."""
        return 10 ** ((22.5 - self.zero_point_mag) / 2.5)

    @property
    def clip_nmgy(self) -> Float[Tensor, " band"]:
        """± the largest flux of a pixel that is read."""
        return torch.tensor(self.clip) * self.unit_nmgy

    @property
    def channels(self) -> tuple[str, ...]:
        """AION-1's names of the bands."""
        return tuple(f"{self.prefix}-{band.upper()}" for band in self.bands)


HSC = BandRow(
    survey="hsc",
    prefix="HSC",
    bands=("g", "r", "i", "z", "y"),
    clip=(80.0, 110.0, 200.0, 330.0, 500.0),
    zero_point_mag=27.0,
    pixel_scale_arcsec=0.168,
    token="tok_image_hsc",
    part="image_hsc",
)
LEGACY = BandRow(
    survey="legacysurvey",
    prefix="DES",
    bands=("g", "r", "i", "z"),
    clip=(6.0, 15.0, 20.0, 25.0),
    pixel_scale_arcsec=0.262,
)


@dataclass(frozen=True, kw_only=True)
class ImageCodecConfig:
    """The network; fields up to `mult_factor` are those of the published config.json, under their names."""

    quantizer_levels: tuple[int, ...] = (7, 5, 5, 5, 5)
    hidden_dims: int = 512
    """channels at the narrowest"""
    n_compressions: int = 2
    """times that the image is halved"""
    num_consecutive: int = 4
    """residual units in a row"""
    embedding_dim: int = 5
    """numbers that become an id"""
    multisurvey_projection_dims: int = 54
    range_compression_factor: float = 0.01
    """nanomaggies: below, pixels are linear"""
    mult_factor: float = 10.0
    rows: tuple[BandRow, ...] = (HSC, LEGACY)
    """input channels, survey by survey; ours: the published network has these two"""
    counted: int = 9
    """channels that an image's own are counted against; stays as it is when rows are added, and so do old tokens"""
    side: int = 96
    """px of an image"""
    ends_alone: bool = field(default=False, metadata=LATER)
    """in training, only the weights between channels and network learn: for a row that was added"""
    drawing_alone: bool = field(default=False, metadata=LATER)
    """in training, only what draws pixels from ids learns: ids stay as they are"""

    gate: float = field(default=ALMOST_SHUT, metadata=LATER)
    """logit that residual units' gates begin with; the published one wants hundreds of thousands of steps"""
    profiled: bool = field(default=False, metadata=LATER)
    """in training, ½ log(1 + χ²/n) of each band of each image instead of ½ χ²/n of all: the likelihood of errors whose
    size is not known beforehand. Else the few brightest stars are all that a small batch teaches"""
    photometric: bool = field(default=False, metadata=LATER)
    """in training, the light of wider places counts beside pixels (`_astray`): 2 % of it lie far below their noise"""

    def __post_init__(self) -> None:
        if len(set(self.channels)) < len(self.channels):
            raise BadValue("rows", saw=self.channels, want="each channel once", hint="another prefix")
        if len(self.quantizer_levels) != self.embedding_dim:
            raise BadValue("quantizer_levels", saw=self.quantizer_levels, want=f"{self.embedding_dim}, embedding_dim")
        if self.side % 2**self.n_compressions or self.hidden_dims % 2**self.n_compressions:
            raise BadValue("n_compressions", saw=self.n_compressions, want="halvings of side and hidden_dims")

    @classmethod
    def from_published(cls, said: Mapping[str, Any]) -> ImageCodecConfig:
        """Out of a published config.json. Raises UnknownLayout."""
        return cls(**known_fields("image codec", said, PUBLISHED))

    def published(self) -> dict[str, Any]:
        """As the published config.json has it. Raises BadValue where it has no words for these bands."""
        if (self.rows, self.side) != ((HSC, LEGACY), 96):
            raise BadValue("the published layout", saw=self.channels, want="HSC and Legacy Survey, 96 px")
        return {name: plain(getattr(self, name)) for name in PUBLISHED}

    @property
    def channels(self) -> tuple[str, ...]:
        """AION-1's names of the input channels."""
        return tuple(name for row in self.rows for name in row.channels)

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.side // 2**self.n_compressions

    def row(self, survey: str) -> BandRow:
        """The channels of a survey. Raises BadValue."""
        found = [row for row in self.rows if row.survey == survey]
        if not found:
            want = tuple(row.survey for row in self.rows)
            raise BadValue("no bands of this survey", saw=survey, want=want, hint="codec.image.widened adds a row")
        return found[0]

    def build(self, seed: int | None = None) -> ImageNetwork:
        with torch.random.fork_rng():
            torch.manual_seed(0 if seed is None else seed)
            return ImageNetwork(self)


TOLD = 0.02
"""share of its light that a place's is known to at best"""
SQUARES_PX = (4, 16)
"""sides of squares whose light counts"""
APERTURE_PX = 8.0
"""radius of the circle about the middle whose light counts, and is compared"""
AT_ONCE = 2
"""images that a CPU encodes together until they are at their smallest: more take more memory"""

PUBLISHED = (
    *("quantizer_levels", "hidden_dims", "n_compressions", "num_consecutive", "embedding_dim"),
    *("multisurvey_projection_dims", "range_compression_factor", "mult_factor"),
)


class Channels(nn.Module):
    """A linear map between channels of surveys and of the network, of which an image has some."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outside, inside))
        self.bias = nn.Parameter(torch.zeros(outside))
        nn.init.uniform_(self.weight, -(inside**-0.5), inside**-0.5)


class ImageNetwork(nn.Module):
    """Pixels of all channels → ids → pixels. Parameters are named as published."""

    def __init__(self, config: ImageCodecConfig) -> None:
        super().__init__()
        n, projected, width = len(config.channels), config.multisurvey_projection_dims, config.hidden_dims
        self.config = config
        self.codecs: tuple[Codec, ...] = ()
        self.subsample_in, self.subsample_out = Channels(n, projected), Channels(projected, n)
        self.model = MagVit(projected, width, config.n_compressions, config.num_consecutive, config.gate)
        self.pre_quant_proj = nn.Conv2d(width, config.embedding_dim, 1)
        self.post_quant_proj = nn.Conv2d(config.embedding_dim, width, 1)
        self._quantizer = FSQ(config.quantizer_levels)
        nn.init.zeros_(self.subsample_out.weight)  # begins as an empty sky: sinh would make a bright one of chance
        lay_out(self)
        if config.ends_alone:
            self.requires_grad_(False)
            for own in (self.subsample_in.weight, self.subsample_out.weight, self.subsample_out.bias):
                own.requires_grad_(True)
        if config.drawing_alone:
            for reads in (self.subsample_in, self.pre_quant_proj, self.model.conv_in, self.model.encoder_layers):
                reads.requires_grad_(False)

    @property
    def codes(self) -> int:
        """Different ids there are."""
        return self._quantizer.codes

    def latent(
        self, flux: Float[Tensor, "object channel y x"], seen: Bool[Tensor, "object channel"]
    ) -> Float[Tensor, "object number gy gx"]:
        """What is to be quantised. `flux` in nanomaggies, 0 in channels that were not `seen`."""
        some = AT_ONCE if _asked_of_a_cpu(flux) else len(flux)
        wide = [self._halved(*rows) for rows in zip(flux.split(some), seen.split(some), strict=True)]
        x = torch.cat(wide) if len(wide) > 1 else wide[0]
        with _precise(x):
            for layer in self.model.encoder_layers[2 * self.config.n_compressions :]:
                x = layer(x)
        with exactly(x):
            return pointwise(x.float(), self.pre_quant_proj)

    def ids(
        self, flux: Float[Tensor, "object channel y x"], seen: Bool[Tensor, "object channel"]
    ) -> Integer[Tensor, "object token"]:
        """Row by row, from the top left."""
        return self._quantizer.ids(self.latent(flux, seen)).flatten(1)

    def pixels(
        self, ids: Integer[Tensor, "object token"], channels: list[int] | None = None
    ) -> Float[Tensor, "object channel y x"]:
        """Nanomaggies, in all channels or in these. Raises BadValue for ids outside the vocabulary."""
        grid = self.config.grid
        return self.drawn(self._quantizer.vectors(ids.unflatten(1, (grid, grid))), channels)

    def drawn(
        self, vectors: Float[Tensor, "object number gy gx"], channels: list[int] | None = None
    ) -> Float[Tensor, "object channel y x"]:
        """Pixels of quantised vectors."""
        x = pointwise(vectors.contiguous(memory_format=torch.channels_last), self.post_quant_proj).float()
        for layer in self.model.decoder_layers:
            x = layer(x)
        return self._expanded(self._left(x, channels))

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """½ Σ ivar (x − x̂)² a pixel, in linear flux, over pixels that were seen; images of all surveys alike.

        What is clipped is read clipped, and judged by what it was. `tokens` are of `Planes`, one or several.
        """
        spans = [(span, tokens[f"{name}_ivar"]) for name, span in tokens.items() if f"{name}_ivar" in tokens.spans]
        scored = [self._score(span, ivar.values) for span, ivar in spans]
        chi2, count, astray = (torch.cat([one[i] for one in scored] or [torch.zeros(0)]) for i in (0, 1, 2))
        if not bool(count.any()):
            raise BadValue("nothing to learn from", saw=tuple(tokens), want="the span of a `Planes`, with ivar")
        told = count > 0
        light = astray[told].mean()
        if self.config.profiled:
            return 0.5 * torch.log1p(chi2[told] / count[told]).mean() + light
        return 0.5 * chi2.sum() / count.sum() + light

    def _score(self, span: Span, ivar: Float[Tensor, "object channel pixel"]) -> tuple[Tensor, Tensor, Tensor]:
        """χ², over how many pixels, and how far the light is astray, of each band of each image."""
        seen, side = span.there(), isqrt(span.values.shape[-1])
        rows = seen.any(1)
        flux, ivar = (t[rows].unflatten(2, (side, side)).float() for t in (span.values, ivar))
        limits = torch.cat([row.clip_nmgy for row in self.config.rows]).to(flux)[:, None, None]
        # without gradients where none is wanted: so its ids are those that `ids` gives
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.drawing_alone):
            vectors = self._quantizer(self.latent(flux.clamp(-limits, limits), seen[rows]))
        off = self.drawn(vectors) - flux
        astray = self._astray(off, flux, ivar) if self.config.photometric else flux.new_zeros(flux.shape[:2])
        return (ivar * off.square()).sum((2, 3)).flatten(), (ivar > 0).sum((2, 3)).flatten(), astray.flatten()

    @staticmethod
    def _astray(off: Tensor, flux: Tensor, ivar: Tensor) -> Float[Tensor, "object channel"]:
        """Σ of how far the light is off, in units of its error, of places of three sizes: squares of 4 and of 16 px,
        each half over the next, that count half, and the circle about the middle. An error is the pixels'
        noise and TOLD of the light; √(1 + χ²) − 1 grows as |χ|, so that it is medians that come right.
        """
        seen = (ivar > 0).to(flux.dtype)
        noise = torch.where(ivar > 0, 1 / ivar.clamp(min=torch.finfo(ivar.dtype).tiny), 0)

        def far(off: Tensor, noise: Tensor, flux: Tensor) -> Tensor:
            error2 = noise + (TOLD * flux).square()
            chi2 = off.square() / error2.clamp(min=torch.finfo(error2.dtype).tiny)
            return ((1 + chi2).sqrt() - 1).mean((2, 3))

        planes = off * seen, noise, flux * seen
        squares = [far(*(F.avg_pool2d(t, k, k // 2) * k * k for t in planes)) for k in SQUARES_PX]
        y, x = (torch.arange(n, device=flux.device) - (n - 1) / 2 for n in flux.shape[-2:])
        inside = (torch.hypot(y[:, None], x) < APERTURE_PX).to(flux.dtype)
        return 0.5 * sum(squares) + far(*((t * inside).sum((2, 3), keepdim=True) for t in planes))

    # --- ends ----------------------------------------------------------------------------------------------------

    def _halved(self, flux: Tensor, seen: Bool[Tensor, "object channel"]) -> Tensor:
        """As far as the last halving: while images are wide, all that is held of them is."""
        x = self._entered(self._compressed(flux), seen)
        for layer in self.model.encoder_layers[: 2 * self.config.n_compressions]:
            with _precise(x) if isinstance(layer, Padded) else nullcontext():
                x = layer(x)
        return x

    def _compressed(self, flux: Tensor) -> Tensor:
        soft, gain = self.config.range_compression_factor, self.config.mult_factor
        return torch.asinh(flux / soft) * (soft * gain)

    def _expanded(self, x: Tensor) -> Tensor:
        soft, gain = self.config.range_compression_factor, self.config.mult_factor
        return torch.sinh(x / gain / soft) * soft

    def _entered(self, x: Tensor, seen: Bool[Tensor, "object channel"]) -> Tensor:
        """Projection and first convolution as one: both are linear. The bias is a channel of ones, so that it ends
        where the image does, as the projection's own does under the convolution's padding.
        """
        conv = self.model.conv_in.conv
        used = seen.any(0)
        x, weight = (
            (x, self.subsample_in.weight) if bool(used.all()) else (x[:, used], self.subsample_in.weight[:, used])
        )
        maps = torch.cat([weight, self.subsample_in.bias[:, None]], 1)
        with exactly(x):
            kernel = torch.einsum("opyx,pc->ocyx", conv.weight, maps)
        scale = (self.config.counted / seen.sum(1).clamp(min=1)).sqrt()[:, None, None, None]
        x = F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0) * scale
        with exactly(x):  # few products, and all else hangs on them
            return F.conv2d(x.contiguous(memory_format=torch.channels_last), kernel, conv.bias, padding=conv.padding)

    def _left(self, x: Tensor, channels: list[int] | None) -> Tensor:
        """Last convolution and projection as one; in float32, since sinh makes per cents of small steps."""
        conv, out = self.model.conv_out.conv, self.subsample_out
        weight, bias = (out.weight, out.bias) if channels is None else (out.weight[channels], out.bias[channels])
        with exactly(x):
            kernel = torch.einsum("cp,piyx->ciyx", weight, conv.weight)
            return F.conv2d(x.float(), kernel, weight @ conv.bias + bias, padding=conv.padding)


def _precise(x: Tensor) -> AbstractContextManager[object]:
    """Float32 for what most ids hang on, if they are asked for on a CPU: there it costs little, by `codec.bilinear`."""
    return exactly(x) if _asked_of_a_cpu(x) else nullcontext()


def _asked_of_a_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def widened(
    network: ImageNetwork,
    row: BandRow,
    *,
    like: Sequence[str] | None = None,
    ends_alone: bool = False,
    seed: int = 0,
) -> ImageNetwork:
    """The same network with another survey's channels: tokens of the old surveys stay the same.

    They begin as the channels that they are `like` ("DES-G" …, one for each band of the row), or at random. Train it on
    images of the new survey, or of all: train(run, folder, source, start=network), where run.model is network.config;
    by its loss every band of every image counts alike (`profiled`). With `ends_alone` only the new channels' weights
    learn, and old tokens stay through training too, if its weight_decay is 0.

    Raises BadValue where channels are called as others are, or are like none that is known.
    """
    known = network.config.channels
    if like is not None and (len(like) != len(row.bands) or not set(like) <= set(known)):
        raise BadValue("like", saw=tuple(like), want=f"for each of {row.bands} one of {known}")
    config = replace(network.config, rows=(*network.config.rows, row), ends_alone=ends_alone, profiled=True)
    grown, old = config.build(seed), network.state_dict()
    for name, weight in grown.state_dict().items():
        place = tuple(slice(0, n) for n in old[name].shape)
        weight[place].copy_(old[name])
    if like is not None:
        alike, new = [known.index(channel) for channel in like], grown.state_dict()
        new["subsample_in.weight"][:, len(known) :] = old["subsample_in.weight"][:, alike]
        for name in ("subsample_out.weight", "subsample_out.bias"):
            new[name][len(known) :] = old[name][alike]
    return grown
