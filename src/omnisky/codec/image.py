"""AION-1's image codec: images of any survey and any of its bands ↔ ids of a 24×24 grid (Parker et al. 2025, §3.1).

    flux → middle 96×96 px → clipped → asinh → one network for all surveys → 576 ids of 4375

One set of input channels serves all surveys: a band that an image lacks is left out, and what the others say is scaled
up. Here flux is in nanomaggies on both sides, whatever the survey: the published codec divides HSC's flux, whose zero
point is 27.0, by 63.1, and so does whoever reads HSC into an `Observation`. So the way back holds for all bands, HSC's
too, where the published code fails.

Beyond what is published, and ours: images below 96 px are padded with 0, the sky; an object may lack a band (all its
pixels NaN); other surveys join as another row of bands (`widened`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from omnisky.codec.magvit import MagVit, pointwise
from omnisky.codec.quantize import FSQ
from omnisky.codec.tokens import Codec, Span, Tokens, absent_where
from omnisky.errors import BadPixels, BadValue, BandMismatch, ShapeMismatch, UnknownLayout
from omnisky.observe.types import Image, Observation


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

    def __post_init__(self) -> None:
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
            return ImageNetwork(self).to(memory_format=torch.channels_last)


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
        self.model = MagVit(projected, width, config.n_compressions, config.num_consecutive)
        self.pre_quant_proj = nn.Conv2d(width, config.embedding_dim, 1)
        self.post_quant_proj = nn.Conv2d(config.embedding_dim, width, 1)
        self._quantizer = FSQ(config.quantizer_levels)

    def latent(
        self, flux: Float[Tensor, "object channel y x"], seen: Bool[Tensor, "object channel"]
    ) -> Float[Tensor, "object number gy gx"]:
        """What is to be quantised. `flux` in nanomaggies, 0 in channels that were not `seen`."""
        x = self._entered(self._compressed(flux), seen)
        for layer in self.model.encoder_layers:
            x = layer(x)
        with torch.autocast(x.device.type, enabled=False):
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
        x = pointwise(vectors.contiguous(memory_format=torch.channels_last), self.post_quant_proj)
        for layer in self.model.decoder_layers:
            x = layer(x)
        return self._expanded(self._left(x, channels).float())

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """½ Σ ivar (x − x̂)² a pixel, in linear flux, over pixels that were seen; images of all surveys alike.

        `tokens` are of `Planes`, one or several.
        """
        total, count = torch.zeros(()), torch.zeros(())
        for name in tokens:
            if f"{name}_ivar" in tokens:
                each, pixels = self._score(tokens[name], tokens[f"{name}_ivar"].values)
                total, count = total + each, count + pixels
        if not float(count):
            raise BadValue("nothing to learn from", saw=tuple(tokens), want="the span of a `Planes`, with ivar")
        return 0.5 * total / count

    def _score(self, span: Span, ivar: Float[Tensor, "object channel pixel"]) -> tuple[Tensor, Tensor]:
        seen, side = span.there(), self.config.side
        rows = seen.any(1)
        flux, ivar = (t[rows].unflatten(2, (side, side)).float() for t in (span.values, ivar))
        said = self.drawn(self._quantizer(self.latent(flux, seen[rows])))
        return (ivar * (flux - said).square()).sum(), (ivar > 0).sum()

    # --- ends ----------------------------------------------------------------------------------------------------

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
        x, weight = (x, self.subsample_in.weight) if bool(used.all()) else (x[:, used], self.subsample_in.weight[:, used])
        maps = torch.cat([weight, self.subsample_in.bias[:, None]], 1)
        kernel = torch.einsum("opyx,pc->ocyx", conv.weight, maps)
        scale = (self.config.counted / seen.sum(1).clamp(min=1)).sqrt()[:, None, None, None]
        x = F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0) * scale
        return F.conv2d(x.contiguous(memory_format=torch.channels_last), kernel, conv.bias, padding=conv.padding)

    def _left(self, x: Tensor, channels: list[int] | None) -> Tensor:
        """Last convolution and projection as one."""
        conv, out = self.model.conv_out.conv, self.subsample_out
        weight, bias = (out.weight, out.bias) if channels is None else (out.weight[channels], out.bias[channels])
        kernel = torch.einsum("cp,piyx->ciyx", weight, conv.weight)
        return F.conv2d(x, kernel, weight @ conv.bias + bias, padding=conv.padding)


def widened(network: ImageNetwork, row: BandRow, seed: int = 0) -> ImageNetwork:
    """The same network with another survey's channels, which start at random: tokens of the old surveys stay the same.

    Train it on images of the new survey, or of all.
    """
    config = replace(network.config, rows=(*network.config.rows, row))
    grown, old = config.build(seed), network.state_dict()
    for name, weight in grown.state_dict().items():
        place = tuple(slice(0, n) for n in old[name].shape)
        weight[place].copy_(old[name])
    return grown


# --- observations ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageCodec:
    """Images of one survey ↔ 576 ids."""

    network: ImageNetwork
    survey: str = "legacysurvey"
    """a row of the network's bands"""
    part: str = ""
    """of the observation; the row's if empty"""
    dtype: torch.dtype = torch.float32
    """of matrix products; bfloat16 changes a few ids"""
    at_once: int = 8
    """images that go through the network together"""
    promised_error: ClassVar[str] = (
        "a trained network's, as `omnisky evaluate codec` measures; flux beyond ± clip comes back as clip at most"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "part", self.part or self.row.part)

    @property
    def row(self) -> BandRow:
        """The survey's bands."""
        return self.network.config.row(self.survey)

    @property
    def name(self) -> str:
        """tok_image, tok_image_hsc …"""
        return self.row.token

    @torch.no_grad()
    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`, of ids. Any of the survey's bands in any order; what an object lacks is left out.

        Raises BandMismatch, BadValue (not nanomaggies), BadPixels (NaN or infinity among pixels that count).
        """
        image: Image = seen[self.part]
        laid = laid_out(image, self.row, self.network.config)
        there = laid.seen.any(1)
        ids = torch.zeros(len(there), self.network.config.grid**2, dtype=torch.int32)
        for rows in there.nonzero()[:, 0].split(self.at_once):
            with _autocast(self.dtype):
                ids[rows] = self.network.ids(laid.flux[rows], laid.seen[rows])
        positions = torch.arange(ids.shape[1]).expand(len(ids), -1)
        return Tokens({self.name: absent_where(Span(ids, positions), there)})

    @torch.no_grad()
    def decode(
        self, tokens: Tokens, like: Observation | None = None, bands: tuple[str, ...] | None = None
    ) -> Observation:
        """Images in nanomaggies, in `bands`: the survey's own ("g") or any channel ("HSC-Y"); those of `like`, if
        nothing is said, and all of the survey's without.

        Raises BandMismatch, ShapeMismatch, BadValue (ids outside the vocabulary).
        """
        config, span = self.network.config, tokens[self.name]
        model = like[self.part] if like is not None and self.part in like else None
        bands = bands or (self.row.bands if model is None else model.bands)
        channels = _channels(bands, self.row, config)
        if span.values.shape[1:] != (config.grid**2,):
            raise ShapeMismatch(self.name, saw=tuple(span.values.shape[1:]), want=f"{config.grid**2} ids")
        ids, there = span.values.cpu(), span.there().any(1).cpu()
        size = (config.side, config.side) if model is None else _cropped(model.flux.shape[-2:], config.side)
        top, left = ((config.side - n) // 2 for n in size)
        flux = torch.full((len(ids), len(bands), *size), torch.nan)
        for rows in there.nonzero()[:, 0].split(self.at_once):
            with _autocast(self.dtype):
                drawn = self.network.pixels(ids[rows], channels)
            flux[rows] = drawn[..., top : top + size[0], left : left + size[1]]
        observed = Observation.of(range(len(ids))) if like is None else like
        image = Image(
            flux=flux.numpy(),
            bands=bands,
            survey=self.survey,
            pixel_scale_arcsec=self.row.pixel_scale_arcsec if model is None else model.pixel_scale_arcsec,
            present=None if bool(there.all()) else there.numpy(),
        )
        return observed | {self.part: image}


@dataclass(frozen=True, kw_only=True)
class Planes:
    """What the network is trained on: one token a channel, all pixels of it; and a second span, `…_ivar`.

    Pixels that are not good, or whose ivar is 0, count nothing. A span per survey, so that a batch may hold several.
    """

    config: ImageCodecConfig
    survey: str = "legacysurvey"
    part: str = "image"
    name: str = "planes"
    promised_error: ClassVar[str] = "none in the middle 96 px, but for what is clipped"

    def encode(self, seen: Observation) -> Tokens:
        """Spans `name` and `name`_ivar. Raises as `ImageCodec.encode`, and BadValue where ivar is not known."""
        image: Image = seen[self.part]
        if image.ivar is None:
            raise BadValue("images without ivar", want="ivar, which the loss weighs pixels by")
        laid = laid_out(image, self.config.row(self.survey), self.config)
        channels = torch.arange(laid.flux.shape[1]).expand(laid.seen.shape)
        flux, ivar = (Span(t.flatten(2), channels, laid.seen) for t in (laid.flux, laid.ivar))
        return Tokens({self.name: flux, f"{self.name}_ivar": ivar})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """The images again, in the survey's bands."""
        config, span = self.config, tokens[self.name]
        row = config.row(self.survey)
        flux = span.values[:, _channels(row.bands, row, config)].unflatten(2, (config.side, config.side))
        seen = Observation.of(range(len(flux))) if like is None else like
        return seen | {self.part: Image(flux=flux.float().numpy(), bands=row.bands, survey=self.survey)}


@dataclass(frozen=True, eq=False)
class Laid:
    """Images in the network's channels and size."""

    flux: Float[Tensor, "object channel y x"]
    """nanomaggies, clipped; 0 where there is none"""
    ivar: Float[Tensor, "object channel y x"]
    """0 where a pixel says nothing"""
    seen: Bool[Tensor, "object channel"]


def laid_out(image: Image, row: BandRow, config: ImageCodecConfig) -> Laid:
    """The middle of the images, clipped, in the channels of their survey; smaller ones with a border of 0."""
    if image.unit != "nanomaggy":
        raise BadValue(f"{row.survey} images", saw=f"flux in {image.unit!r}", want="nanomaggies, AB, linear")
    places = _channels(image.bands, row, config)
    there = image.there()
    flux = np.where(there[:, None, None, None], _middle(image.flux, config.side), 0).astype(np.float32)
    good = None if image.good is None else _middle(image.good, config.side)
    finite = np.isfinite(flux)
    had = (finite if good is None else finite & good).any((2, 3)) & there[:, None]
    broken = ~finite & had[:, :, None, None]
    broken = broken if good is None else broken & good
    if broken.any():
        names = [band for band, bad in zip(image.bands, broken.any((0, 2, 3)).tolist(), strict=True) if bad]
        raise BadPixels(
            f"NaN or infinite pixels in {int(broken.any((1, 2, 3)).sum())} of {len(broken)} images",
            saw=f"bands {' '.join(names)}",
            hint="mark them `good=` False (they are then read as 0), or the whole band NaN where there is none",
        )
    limits = torch.tensor([row.clip[row.bands.index(_own(band, row))] for band in image.bands]) * row.unit_nmgy
    limit = limits[:, None, None]
    own = torch.from_numpy(np.where(finite & had[:, :, None, None], flux, 0)).clamp(-limit, limit)
    told = np.zeros_like(flux) if image.ivar is None else np.nan_to_num(_middle(image.ivar, config.side), posinf=0)
    told = np.where(finite if good is None else finite & good, told, 0).astype(np.float32)
    shape = (len(flux), len(config.channels))
    laid = torch.zeros(2, *shape, *flux.shape[-2:])
    laid[0, :, places], laid[1, :, places] = own, torch.from_numpy(told)
    seen = torch.zeros(shape, dtype=torch.bool)
    seen[:, places] = torch.from_numpy(had)
    short = [config.side - n for n in flux.shape[-2:]]
    laid = F.pad(laid, [n for total in reversed(short) for n in (total // 2, total - total // 2)])
    return Laid(laid[0], laid[1] * seen[..., None, None], seen)


def _middle(plane: np.ndarray, side: int) -> np.ndarray:
    for axis in (-2, -1):
        start = max(plane.shape[axis] - side, 0) // 2
        plane = np.take(plane, range(start, start + min(plane.shape[axis], side)), axis)
    return plane


def _cropped(size: tuple[int, ...], side: int) -> tuple[int, int]:
    return min(size[0], side), min(size[1], side)


def _own(band: str, row: BandRow) -> str:
    return row.bands[row.channels.index(band)] if band in row.channels else band


def _channels(bands: tuple[str, ...], row: BandRow, config: ImageCodecConfig) -> list[int]:
    """Where each band is among the channels; bare names are the row's. Raises BandMismatch."""
    names = [f"{row.prefix}-{band.upper()}" if band in row.bands else band for band in bands]
    unknown = tuple(band for band, name in zip(bands, names, strict=True) if name not in config.channels)
    if unknown or len(set(names)) < len(names):
        want = (*row.bands, *config.channels)
        raise BandMismatch(f"{row.survey}: bands", saw=unknown or bands, want=want, hint="each at most once")
    return [config.channels.index(name) for name in names]


def _autocast(dtype: torch.dtype) -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32)


def known_fields(what: str, said: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a published config.json, lists as tuples. Raises UnknownLayout for one that we do not know."""
    strange = tuple(name for name in said if name not in names)
    if strange:
        raise UnknownLayout(f"config.json of the {what}", saw=strange, want=names)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}


def plain(value: Any) -> Any:
    """As JSON has it."""
    return list(value) if isinstance(value, tuple) else value
