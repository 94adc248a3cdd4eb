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

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from omnisky.codec.image_network import APERTURE_PX as APERTURE_PX
from omnisky.codec.image_network import HSC as HSC
from omnisky.codec.image_network import LEGACY as LEGACY
from omnisky.codec.image_network import BandRow as BandRow
from omnisky.codec.image_network import ImageCodecConfig as ImageCodecConfig
from omnisky.codec.image_network import ImageNetwork as ImageNetwork
from omnisky.codec.image_network import widened as widened
from omnisky.codec.processor import at_precision
from omnisky.codec.published import some_at_once
from omnisky.codec.tokens import LATER, Span, Tokens, absent_where
from omnisky.errors import BadPixels, BadValue, BandMismatch, ShapeMismatch
from omnisky.observe.types import Image, Observation


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageCodec:
    """Images of one survey ↔ 576 ids."""

    network: ImageNetwork
    survey: str = "legacysurvey"
    """a row of the network's bands"""
    part: str = ""
    """of the observation; the row's if empty"""
    dtype: torch.dtype = torch.float32
    """of matrix products while images are wide, where the processor multiplies it; with random weights of the published
    size, bfloat16 changes 3 ids in 1,000"""
    at_once: int = 8
    """images that go through the network together"""
    promised_error: ClassVar[str] = (
        "a trained network's, as `omnisky evaluate codec` measures; flux beyond ± clip is read as clip"
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
        """One span, `name`, of ids. Any of the survey's bands in any order; what an object lacks is left out, and one
        without a good pixel is absent.

        Raises BandMismatch, BadValue (not nanomaggies), BadPixels (NaN or infinity among pixels that count).
        """
        image: Image = seen[self.part]
        laid = laid_out(image, self.row, self.network.config)
        there = laid.seen.any(1)
        ids = torch.zeros(len(there), self.network.config.grid**2, dtype=torch.int32)
        for rows in some_at_once(there, self.at_once):
            with at_precision(self.dtype):
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
        for rows in some_at_once(there, self.at_once):
            with at_precision(self.dtype):
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
    floor: float = 0.0
    """no pixel is known better than this share of its flux; 0 as published. Else the brightest star, thousands of σ
    deep, is all that a small batch teaches"""
    cut: int | None = None
    """px of the middle that is learnt from, a multiple of the network's halvings; None: all that it reads. Most of an
    image is sky"""
    unclipped: bool = field(default=False, metadata=LATER)
    """pixels as they are: what the codec reads clipped, it may still tell from what is around it"""
    promised_error: ClassVar[str] = "none in the middle that is cut out, but for what is clipped"

    @property
    def _size(self) -> ImageCodecConfig:
        return self.config if self.cut is None else replace(self.config, side=self.cut)

    def encode(self, seen: Observation) -> Tokens:
        """Spans `name` and `name`_ivar. Raises as `ImageCodec.encode`, and BadValue where ivar is not known."""
        image: Image = seen[self.part]
        if image.ivar is None:
            raise BadValue("images without ivar", want="ivar, which the loss weighs pixels by")
        laid = laid_out(image, self.config.row(self.survey), self._size, clipped=not self.unclipped)
        channels = torch.arange(laid.flux.shape[1]).expand(laid.seen.shape)
        known = laid.ivar / (1 + laid.ivar * (self.floor * laid.flux).square())
        flux, ivar = (Span(t.flatten(2), channels, laid.seen) for t in (laid.flux, known))
        return Tokens({self.name: flux, f"{self.name}_ivar": ivar})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """The images again, in the survey's bands."""
        config, span = self._size, tokens[self.name]
        row = config.row(self.survey)
        flux = span.values[:, _channels(row.bands, row, config)].unflatten(2, (config.side, config.side))
        seen = Observation.of(range(len(flux))) if like is None else like
        return seen | {self.part: Image(flux=flux.float().numpy(), bands=row.bands, survey=self.survey)}


@dataclass(frozen=True, eq=False)
class Laid:
    """Images in the network's channels and size."""

    flux: Float[Tensor, "object channel y x"]
    """nanomaggies; 0 where there is none"""
    ivar: Float[Tensor, "object channel y x"]
    """0 where a pixel says nothing"""
    seen: Bool[Tensor, "object channel"]


def laid_out(image: Image, row: BandRow, config: ImageCodecConfig, clipped: bool = True) -> Laid:
    """The middle of the images, clipped or not, in the channels of their survey; smaller ones with a border of 0."""
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
        names = [band for i, band in enumerate(image.bands) if broken[:, i].any()]
        raise BadPixels(
            f"NaN or infinite pixels in {int(broken.any((1, 2, 3)).sum())} of {len(broken)} images",
            saw=f"bands {' '.join(names)}",
            hint="mark them `good=` False (they are then read as 0), or the whole band NaN where there is none",
        )
    limit = row.clip_nmgy[[row.bands.index(_own(band, row)) for band in image.bands]][:, None, None]
    own = torch.from_numpy(np.where(finite & had[:, :, None, None], flux, 0))
    own = own.clamp(-limit, limit) if clipped else own
    told = np.zeros_like(flux) if image.ivar is None else np.nan_to_num(_middle(image.ivar, config.side), posinf=0)
    told = np.where(finite if good is None else finite & good, told, 0).astype(np.float32)
    shape = (len(flux), len(config.channels))
    laid = torch.zeros(2, *shape, *flux.shape[-2:])
    laid[0, :, places], laid[1, :, places] = own, torch.from_numpy(told)
    seen = torch.zeros(shape, dtype=torch.bool)
    seen[:, places] = torch.from_numpy(had)
    laid = torch.from_numpy(centred(laid.numpy(), config.side))
    return Laid(laid[0], laid[1] * seen[..., None, None], seen)


def centred(plane: np.ndarray, side: int) -> np.ndarray:
    """The middle of maps or images, with a border of 0 where they are smaller."""
    plane = _middle(plane, side)
    short = [side - n for n in plane.shape[-2:]]
    return np.pad(plane, [(0, 0)] * (plane.ndim - 2) + [(n // 2, n - n // 2) for n in short])


def _middle(plane: np.ndarray, side: int) -> np.ndarray:
    top, left = (max(n - side, 0) // 2 for n in plane.shape[-2:])
    return plane[..., top : top + side, left : left + side]


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
