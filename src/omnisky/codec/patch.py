"""Weightless tokens: square patches of images, sections of spectra, single numbers.

The order and the standardisation are those of AstroPT (Smith et al. 2024, arXiv:2405.14930, §2): patches run along a
spiral from the centre outwards, so that a causal model sees the galaxy before the sky around it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from omnisky.codec.stretch import Linear, Stretch
from omnisky.codec.tokens import LATER, Span, Tokens, absent_where
from omnisky.errors import BadPixels, BandMismatch, ShapeMismatch, TooSmall
from omnisky.observe.types import Image, Observation, Scalars, Spectrum


@cache
def spiral_index(n: int) -> Integer[Tensor, "n n"]:
    """Each cell's place in the spiral: 0 in the centre, n²−1 in the top left corner.

    The path starts in the top left corner and runs clockwise inwards; a cell met at step s gets index n² − 1 − s.
    """
    grid = np.arange(n * n).reshape(n, n)
    path: list[int] = []
    while grid.size:
        path.extend(grid[0])
        grid = np.rot90(grid[1:])  # what is left, turned so that its next side is on top
    index = np.empty(n * n, dtype=np.int64)
    index[path] = np.arange(n * n)[::-1]
    return torch.from_numpy(index.reshape(n, n))


@cache
def raster_index(n: int) -> Integer[Tensor, "n n"]:
    """Row by row from the top left."""
    return torch.arange(n * n).reshape(n, n)


def cut(pixels: Float[Tensor, "object band height width"], size: int) -> Float[Tensor, "object patch number"]:
    """Square patches of `size` px row by row, each (size, size, band) flattened; the image is whole patches."""
    b, c, height, width = pixels.shape
    pieces = pixels.reshape(b, c, height // size, size, width // size, size)
    return pieces.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, size * size * c)


def paste(patches: Float[Tensor, "object patch number"], size: int) -> Float[Tensor, "object band height width"]:
    """The images that `cut` cut, channels last in memory. Raises ShapeMismatch."""
    n = side_of(patches.shape[1], "patches")
    pixels = patches.unflatten(2, (size, size, -1)).unflatten(1, (n, n)).transpose(2, 3)
    return pixels.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def side_of(count: int, what: str) -> int:
    """Patches a side of a square of so many. Raises ShapeMismatch."""
    n = round(count**0.5)
    if n * n != count or n < 1:
        raise ShapeMismatch(saw=f"{count} {what}", want="a square number: a whole image")
    return n


def factors(number: int) -> tuple[int, ...]:
    """Its primes, smallest first: by how much each layer shrinks or grows a patch of so many px."""
    found, prime = [], 2
    while number > 1:
        while number % prime == 0:
            found.append(prime)
            number //= prime
        prime += 1
    return tuple(found)


def standardise(patches: Float[Tensor, "... width"], eps: float = 1e-8) -> Float[Tensor, "... width"]:
    """(x − mean) / (std + eps) of each patch by itself, with the unbiased std. Its brightness and contrast are lost."""
    return (patches - patches.mean(-1, keepdim=True)) / (patches.std(-1, keepdim=True) + eps)


def square_pixels(
    image: Image, bands: tuple[str, ...], patch_size: int, side: int | None = None
) -> Float[Tensor, "object band height width"]:
    """The pixels of those bands as float32, or their middle of `side` px; absent images are 0.

    Raises what `RasterPatches.encode` does.
    """
    if missing := [band for band in bands if band not in image.bands]:
        raise BandMismatch(saw=image.bands, want=bands, hint=f"a codec without {' '.join(missing)}, or other images")
    image = image if side is None else _middle(image, side)
    height, width = image.flux.shape[-2:]
    if min(height, width) < patch_size:
        raise TooSmall(saw=f"{height}×{width} px", want=f"at least {patch_size} px, one patch")
    if height != width or height % patch_size:
        whole = min(height, width) // patch_size * patch_size
        raise ShapeMismatch(
            saw=f"{height}×{width} px",
            want=f"a square of whole {patch_size}-px patches",
            hint=f"crop the centre to {whole}×{whole}",
        )
    chosen = [image.bands.index(band) for band in bands]
    flux = image.flux if chosen == list(range(len(image.bands))) else image.flux[:, chosen]
    there = image.there()
    pixels = torch.from_numpy(flux if there.all() else np.where(there[:, None, None, None], flux, 0)).float()
    if flux.dtype.kind == "f" and not torch.isfinite(pixels).all():
        bad = (~torch.isfinite(pixels)).any(dim=(-1, -2))
        names = [band for band, any_bad in zip(bands, bad.any(0).tolist(), strict=True) if any_bad]
        raise BadPixels(
            f"NaN or infinite pixels in {int(bad.any(1).sum())} of {len(bad)} images, bands {' '.join(names)}",
            hint="bands that every object has, `present=` False for objects to skip, or fill them (np.nan_to_num)",
        )
    return pixels


def _middle(image: Image, side: int) -> Image:
    height, width = image.flux.shape[-2:]
    if min(height, width) < side:
        raise TooSmall(saw=f"{height}×{width} px", want=f"at least {side} px a side", hint="larger cut-outs")
    top, left = round((height - side) / 2), round((width - side) / 2)
    return replace(image, flux=image.flux[..., top : top + side, left : left + side], ivar=None, good=None)


@dataclass(frozen=True, kw_only=True)
class RasterPatches:
    """Square patches row by row. A patch is (patch_size, patch_size, band) flattened in that order.

    With `standardised`, every patch loses its own mean and contrast (AstroPT's published preprocessing), and `decode`
    needs `like`, an observation to take them from. Without, decode inverts encode.
    """

    patch_size: int
    bands: tuple[str, ...]
    stretch: Stretch = field(default_factory=Linear)
    standardised: bool = False
    columns_first: bool = False
    """compat: AstroPT's Hugging Face pipeline reads images transposed, so published weights expect x before y"""
    side: int | None = field(default=None, metadata=LATER)
    """px of the middle that is kept; None keeps all"""
    half: bool = False
    """compat: round standardised patches through float16, as AstroPT's training data were"""
    name: str = "images"
    part: str = "image"
    promised_error: ClassVar[str] = "1e-6 of the stretched range, in float32; none in order or shape"

    def index(self, n: int) -> Integer[Tensor, "n n"]:
        """Where the patch of each cell of an n×n grid goes in the sequence."""
        return raster_index(n)

    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`, of (height/patch_size)² tokens of patch_size² · band numbers.

        Raises BandMismatch, TooSmall, ShapeMismatch (not square, or not whole patches) and BadPixels.
        """
        image: Image = seen[self.part]
        patches = self._cut(self.stretch.forward(square_pixels(image, self.bands, self.patch_size, self.side)))
        if self.standardised:
            patches = standardise(patches)
            patches = patches.half().float() if self.half else patches
        n = side_of(patches.shape[1], "patches")
        values = patches[:, self.index(n).flatten().argsort()]
        positions = torch.arange(n * n).expand(len(values), -1)
        span = absent_where(Span(values, positions), torch.from_numpy(np.ascontiguousarray(image.there())))
        return Tokens({self.name: span})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """Images again; `like` names the objects and, for standardised patches, gives each its mean and contrast."""
        values = tokens[self.name].values.float().cpu()
        n = side_of(values.shape[1], "tokens")
        patches = values[:, self.index(n).flatten()]
        if self.standardised:
            patches = self._colour_back(patches, like)
        pixels = paste(patches, self.patch_size)
        flux = self.stretch.inverse((pixels.mT if self.columns_first else pixels).contiguous()).numpy()
        seen = Observation.of(range(len(values))) if like is None else like
        unit = like[self.part].unit if like is not None and self.part in like else "nanomaggy"
        return seen | {self.part: Image(flux=flux, bands=self.bands, unit=unit)}

    def _cut(self, pixels: Float[Tensor, "object band height width"]) -> Float[Tensor, "object token number"]:
        return cut(pixels.mT if self.columns_first else pixels, self.patch_size)

    def _colour_back(self, patches: Float[Tensor, "object token width"], like: Observation | None) -> Tensor:
        if like is None or self.part not in like:
            raise ShapeMismatch(
                "standardised patches have lost their mean and contrast",
                saw="no image to take them from",
                want="like=observation",
                hint="decode(tokens, like=observation), or a codec with standardised=False",
            )
        seen = self._cut(self.stretch.forward(square_pixels(like[self.part], self.bands, self.patch_size, self.side)))
        return patches * (seen.std(-1, keepdim=True) + 1e-8) + seen.mean(-1, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class SpiralPatches(RasterPatches):
    """Square patches along a spiral from the centre outwards: token 0 is the centre patch."""

    def index(self, n: int) -> Integer[Tensor, "n n"]:
        return spiral_index(n)


@dataclass(frozen=True, kw_only=True)
class SpectralSections:
    """Consecutive sections of `size` pixels; each token's position is its pixels' wavelengths, (Å − 3000) / 7000.

    A spectrum that does not fill its last section is padded there with zeros (fluxes and positions).
    """

    size: int = 256
    standardised: bool = True
    """every section loses its own mean and contrast, as AstroPT means to (its shipped script leaves them in)"""
    rounded: bool = False
    """compat: AstroPT keeps fluxes and wavelengths in bfloat16"""
    name: str = "spectra"
    part: str = "spectrum"
    promised_error: ClassVar[str] = "1e-6 of the flux in float32 when not standardised"

    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`, of ⌈wave/size⌉ tokens. Raises TooSmall, and BadPixels for NaN where `good`."""
        spectrum: Spectrum = seen[self.part]
        if spectrum.flux.shape[1] < 1:
            raise TooSmall(saw="an empty spectrum", want="at least one pixel")
        good = spectrum.where_good() & spectrum.there()[:, None]
        flux = np.where(good, spectrum.flux, 0)
        if not np.isfinite(flux).all():
            raise BadPixels("NaN or infinite flux", hint="mark those pixels `good=` False")
        # Spectra that were padded have no wavelength there: 0, as in the padding of the last section.
        where = self._cut(spectrum.wavelength_aa, shift=3000, scale=7000).nan_to_num(0)
        values = self._cut(flux)
        values = standardise(values) if self.standardised else values
        present = self._cut(good).bool().any(-1)
        return Tokens({self.name: Span(values, where, None if bool(present.all()) else present)})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """Spectra again, with the padding of the last section; `like` names the objects and gives back the contrast."""
        span = tokens[self.name]
        values, where = span.values.float(), span.positions.float()
        if self.standardised:
            if like is None:
                raise ShapeMismatch("standardised sections have lost their mean", want="like=observation")
            raw = self._cut(np.where(like[self.part].where_good(), like[self.part].flux, 0))
            values = values * (raw.std(-1, keepdim=True) + 1e-8) + raw.mean(-1, keepdim=True)
        seen = Observation.of(range(len(values))) if like is None else like
        flux, wave = values.flatten(1).numpy(), (where.flatten(1) * 7000 + 3000).numpy()
        return seen | {self.part: Spectrum(flux=flux, wavelength_aa=wave)}

    def _cut(self, rows: np.ndarray, shift: float = 0, scale: float = 1) -> Float[Tensor, "object token width"]:
        numbers = torch.from_numpy(np.ascontiguousarray(rows))
        numbers = (numbers.bfloat16() if self.rounded else numbers.float()).sub(shift).div(scale).float()
        padded = torch.nn.functional.pad(numbers, (0, -numbers.shape[1] % self.size))
        return padded.reshape(len(padded), -1, self.size)


@dataclass(frozen=True, kw_only=True)
class ScalarTokens:
    """One token a number, (x − centre) / scale; NaN is absent."""

    columns: tuple[str, ...]
    centre: tuple[float, ...] = (0.0,)
    """one per column or one for all, in the column's unit"""
    scale: tuple[float, ...] = (1.0,)
    """one per column or one for all, in the column's unit"""
    name: str = "scalars"
    part: str = "scalars"
    promised_error: ClassVar[str] = "1e-6 relative, float32"

    def encode(self, seen: Observation) -> Tokens:
        """One span, `name`, of one token per column; position = the column's place in `columns`."""
        numbers = np.stack([seen[self.part][column] for column in self.columns], axis=1)
        scaled = (numbers - np.asarray(self.centre)) / np.asarray(self.scale)
        there = np.isfinite(scaled) & seen[self.part].there()[:, None]
        values = torch.from_numpy(np.where(there, scaled, 0)).float()[..., None]
        positions = torch.arange(len(self.columns)).expand(len(values), -1)
        return Tokens({self.name: Span(values, positions, None if there.all() else torch.from_numpy(there))})

    def decode(self, tokens: Tokens, like: Observation | None = None) -> Observation:
        """The numbers again; absent ones are NaN."""
        span = tokens[self.name]
        numbers = span.values[..., 0].double().numpy() * np.asarray(self.scale) + np.asarray(self.centre)
        numbers = np.where(span.there().numpy(), numbers, np.nan)
        seen = Observation.of(range(len(numbers))) if like is None else like
        return seen | {self.part: Scalars(values=numbers, names=self.columns)}
