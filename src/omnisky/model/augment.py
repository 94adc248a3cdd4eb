"""One galaxy as other nights would show it: cut out elsewhere, turned, zoomed, reddened, blurred, noisier.

For learning without labels (AstroDINO: Parker et al. 2024, MNRAS 531, 4990, §3.1; Stein et al. 2021, arXiv:2110.13151).
All is done on tensors of raw flux, for the whole batch at once; a stretch comes last. `Weather` knows how much, `View`
how often, `MultiCrop` makes the two large and several small views that `model.distill` learns from.

Chances come from a CPU generator that is handed in, so a view is a function of (images, seed).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Integer
from torch import Tensor

from omnisky.codec.stretch import LegacyColours, Stretch
from omnisky.errors import BadValue, ShapeMismatch, TooSmall

TRUNCATE = 4.0
"""σ at which a blur's kernel ends, as in scipy.ndimage"""
STRIPE = 48
"""px, about: rows of a plane that are blurred at once; narrower products are slower"""
AT_ONCE = 1 << 20
"""numbers that are stretched at once, so that they stay in the cache"""


# --- what can be done to images ----------------------------------------------------------------------------------


def blurred(
    planes: Float[Tensor, "*plane height width"], sigma_px: Float[Tensor, "*plane"]
) -> Float[Tensor, "*plane height width"]:
    """Each plane through its own Gaussian of σ pixels; beyond the border its mirror image. Flux is kept exactly.

    A blur of rows or columns is a product with a matrix: batched products for all planes, whatever their σ. As only a
    band of the matrix is not 0, large planes are done in stripes, each from what lies near it.
    """
    height, width = planes.shape[-2:]
    flat, sigma = planes.reshape(-1, height, width), sigma_px.reshape(-1)
    rows = _stripes(sigma, height)
    half, out = torch.empty_like(flat), torch.empty_like(flat)
    for stripe in rows:
        torch.bmm(stripe.matrix, flat[:, stripe.near], out=half[:, stripe.here])
    for stripe in rows if width == height else _stripes(sigma, width):
        torch.bmm(half[:, :, stripe.near], stripe.matrix.mT, out=out[:, :, stripe.here])
    return out.view(planes.shape)


@dataclass(frozen=True, eq=False)
class _Stripe:
    """Some rows of B[i, j] = g(i − j) and what the two mirrors add, g(i + j + 1) + g(2n − 1 − i − j)."""

    here: slice
    """which rows i"""
    near: slice
    """which j: for others, B is 0"""
    matrix: Float[Tensor, "plane here near"]


def _stripes(sigma_px: Float[Tensor, " plane"], n: int) -> list[_Stripe]:
    far = torch.arange(2 * n, device=sigma_px.device)
    reach = (TRUNCATE * sigma_px + 0.5).floor()[:, None]
    most = int(reach.max()) if len(reach) else 0
    if most > n:
        raise BadValue("a blur wider than the image", saw=f"{float(sigma_px.max()):.1f} px σ", want=f"≤ {n // 4} px")
    g = torch.exp(-0.5 * (far / sigma_px.clamp(min=1e-6)[:, None]) ** 2) * (far <= reach)
    g = g / (2 * g.sum(-1, keepdim=True) - g[:, :1])
    mirrored = g[:, 1:] + g[:, 1:].flip(-1)  # [i + j]
    count = max(1, n // STRIPE)
    edges = [n * k // count for k in range(count + 1)]
    stripes = []
    for start, stop in pairwise(edges):
        first, last = max(0, start - most), min(n, stop + most)
        between = g[:, torch.arange(start - last + 1, stop - first, device=g.device).abs()]  # [i + j′], j′ from the end
        matrix = between.unfold(1, last - first, 1).flip(-1)
        matrix += mirrored[:, start + first : stop + last - 1].unfold(1, last - first, 1)
        stripes.append(_Stripe(slice(start, stop), slice(first, last), matrix))
    return stripes


def noisy(
    planes: Float[Tensor, "*plane height width"], sigma: Float[Tensor, "*plane"], draw: torch.Generator | None = None
) -> Float[Tensor, "*plane height width"]:
    """Each plane with Gaussian noise of σ a pixel, in its own unit, no pixel knowing of the next."""
    return torch.addcmul(planes, _normals(planes.shape, draw).to(planes), sigma[..., None, None])


def _normals(shape: torch.Size, draw: torch.Generator | None) -> Float32[Tensor, "*plane height width"]:
    """Numbers of N(0, 1): the quantiles at 2²⁴ equally likely chances, up to 5.4 σ.

    The chances are bits of a generator seeded by `draw` (SFC64; Doty-Humphrey's PractRand): torch's own takes three
    times as long for them, and no second thread.
    """
    count = shape.numel()
    seed = int(torch.randint(2**62, (), generator=draw))
    bits = torch.from_numpy(np.random.SFC64(seed).random_raw((count + 1) // 2).view(np.int32))[:count]
    chances = bits.bitwise_right_shift_(8).float().add_(0.5).mul_(2.0**-23)  # −1 … 1, neither of them
    return chances.erfinv_().mul_(2**0.5).view(shape)


def reddened(
    images: Float[Tensor, "object band height width"],
    ebv_mag: Float[Tensor, " object"],
    extinction: tuple[float, ...],
) -> Float[Tensor, "object band height width"]:
    """Behind so much more dust, E(B−V) in mag; negative takes dust away. Flux · 10^(−0.4 · extinction · E(B−V))."""
    if len(extinction) != images.shape[1]:
        raise ShapeMismatch(
            "extinction", saw=f"{len(extinction)} bands", want=f"{images.shape[1]}, those of the images"
        )
    dimming = torch.tensor(extinction, dtype=images.dtype, device=images.device)
    return images * (10 ** (-0.4 * dimming * ebv_mag[:, None]))[..., None, None]


def _change(rows: Tensor, chosen: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    """Only what is chosen is touched."""
    at = chosen.nonzero()[:, 0]
    rows.index_copy_(0, at, change(rows.index_select(0, at)))


def both_ways(images: Float[Tensor, "object band height width"]) -> Float[Tensor, "either band height width"]:
    """All images, then all of them mirrored left to right: views are cut from either, cheaper than mirrored later."""
    return torch.cat([images, images.flip(-1)])


def cut_out(
    images: Float[Tensor, "object band height width"],
    rows: Integer[Tensor, " view"],
    top: Integer[Tensor, " view"],
    left: Integer[Tensor, " view"],
    size: int,
    upside_down: Bool[Tensor, " view"] | None = None,
    out: Float[Tensor, "view band size size"] | None = None,
) -> Float[Tensor, "view band size size"]:
    """Squares of images[rows] whose first pixel is (top, left); with rows in reverse where `upside_down`."""
    bands, height, width = images.shape[1:]
    plane = rows[:, None] * bands + torch.arange(bands, device=rows.device)
    start = (plane * height + top[:, None]) * width + left[:, None]
    down = torch.arange(size, device=rows.device)
    if upside_down is not None:
        down = torch.where(upside_down[:, None, None], down.flip(0), down)
    start = start[..., None] + width * down
    # Each row of a square is one run of memory: twice as fast on CPUs as indexing pixels.
    runs = images.contiguous().view(-1).unfold(0, size, 1)
    seen = images.new_empty(len(rows), bands, size, size) if out is None else out
    torch.index_select(runs, 0, start.flatten(), out=seen.view(-1, size))
    return seen


def turned_out(
    images: Float[Tensor, "object band height width"],
    rows: Integer[Tensor, " view"],
    top: Integer[Tensor, " view"],
    left: Integer[Tensor, " view"],
    size: int,
    angle_deg: Float[Tensor, " view"],
    zoom: Float[Tensor, " view"],
) -> Float[Tensor, "view band size size"]:
    """`cut_out`, turned anticlockwise and larger by `zoom` about the square's middle; surface brightness is kept.

    Bilinear, mirrored beyond the image's border; whole quarter turns at zoom 1 are exact.
    """
    quarter = (angle_deg / 90).round()
    rest = torch.deg2rad(angle_deg - 90 * quarter)
    exact = (rest == 0) & (zoom == 1)
    out = images.new_empty(len(rows), images.shape[1], size, size)
    out[exact] = cut_out(images, rows[exact], top[exact], left[exact], size)
    if not bool(exact.all()):
        some = ~exact
        grid = _grid(images, top[some], left[some], size, rest[some], zoom[some])
        out[some] = F.grid_sample(images[rows[some]], grid, padding_mode="reflection", align_corners=False)
    for k in (1, 2, 3):
        chosen = quarter % 4 == k
        out[chosen] = out[chosen].rot90(k, (-2, -1))
    return out


def _grid(images: Tensor, top: Tensor, left: Tensor, size: int, angle: Tensor, zoom: Tensor) -> Tensor:
    """Where each pixel of the squares lies in its image, in grid_sample's units: −1 … 1 from edge to edge, x first."""
    height, width = images.shape[-2:]
    along = (torch.arange(size, device=images.device) - (size - 1) / 2)[None] / zoom[:, None]
    sin, cos = torch.sin(angle)[:, None, None], torch.cos(angle)[:, None, None]
    y = cos * along[:, :, None] + sin * along[:, None, :] + (top + size / 2)[:, None, None]
    x = -sin * along[:, :, None] + cos * along[:, None, :] + (left + size / 2)[:, None, None]
    return torch.stack([2 * x / width - 1, 2 * y / height - 1], dim=-1).to(images.dtype)


# --- how much, how often -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Lognormal:
    """loc + scale · exp(shape · N(0, 1)), one of each per band; in the unit of `loc` and `scale`."""

    shape: tuple[float, ...]
    loc: tuple[float, ...]
    scale: tuple[float, ...]

    def draw(self, n: int, draw: torch.Generator | None = None) -> Float[Tensor, "n band"]:
        shape, loc, scale = (torch.tensor(numbers) for numbers in (self.shape, self.loc, self.scale))
        return loc + scale * torch.exp(shape * torch.randn(n, len(shape), generator=draw))


@dataclass(frozen=True, kw_only=True)
class Weather:
    """Seeing, depth and dust as a survey meets them. The defaults are the Legacy Surveys', of bands z, r, g.

    What an image has already is not asked for but drawn too, and a view is made worse by the difference, if it is one:
    extra σ² = max(0, σ² of the view − σ² of the image), each band by itself (Stein et al. 2021).
    """

    seeing: Lognormal = Lognormal(
        shape=(0.3471172, 0.3008485, 0.2109966),
        loc=(1.1928363, 1.2394326, 1.0807153),
        scale=(0.8233702, 0.9164757, 1.3153171),
    )
    """σ of the point-spread function, px of 0.262 arcsec"""
    depth: Lognormal = Lognormal(
        shape=(0.1334844, 0.2431146, 0.2264926),
        loc=(-0.0143416, -0.0023663, -0.0006735),
        scale=(0.0260779, 0.0067417, 0.0037602),
    )
    """σ of a pixel's noise, nanomaggies"""
    dust: Lognormal = Lognormal(shape=(0.67306,), loc=(0.001146,), scale=(0.03338,))
    """E(B−V), mag"""
    extinction: tuple[float, ...] = (1.211, 2.165, 3.214)
    """magnitudes a band loses for each magnitude of E(B−V)"""

    def blur_px(self, n: int, draw: torch.Generator | None = None) -> Float[Tensor, "n band"]:
        """σ of what blurs a view further, px; 0 in the half of cases where it would have to be sharpened."""
        return _excess(self.seeing.draw(n, draw), self.seeing.draw(n, draw))

    def noise(self, n: int, draw: torch.Generator | None = None) -> Float[Tensor, "n band"]:
        """σ of the noise to add, nanomaggies; 0 in the half of cases where there would be less."""
        return _excess(self.depth.draw(n, draw), self.depth.draw(n, draw))

    def ebv_mag(self, n: int, draw: torch.Generator | None = None) -> Float[Tensor, " n"]:
        """What another direction has more, or less, of dust than the image's own."""
        return (self.dust.draw(n, draw) - self.dust.draw(n, draw))[:, 0]


def _excess(have: Tensor, want: Tensor) -> Tensor:
    return (want.square() - have.square()).clamp(min=0).sqrt()


@dataclass(frozen=True, kw_only=True)
class View:
    """One way to look at an object; chances are 0 … 1, each drawn object by object. Done in the order given."""

    size: int
    """px, of the square cut out"""
    shift: int
    """px, largest distance of its middle from the image's, along each axis; nearer where the image ends"""
    turn: float = 0.0
    """chance of a turn by any angle"""
    zoom: float = 0.0
    """every view is larger or smaller by up to this share"""
    mirror: float = 0.5
    """chance to be mirrored, along each axis"""
    redden: float = 0.0
    """chance to lie behind other dust"""
    blur: float = 0.0
    """chance to be seen through other seeing"""
    noise: float = 0.0
    """chance to be seen at other depth"""

    def __post_init__(self) -> None:
        chances = {name: getattr(self, name) for name in ("turn", "mirror", "redden", "blur", "noise")}
        if not all(0 <= chance <= 1 for chance in chances.values()) or not 0 <= self.zoom < 1:
            raise BadValue("View", saw=chances | {"zoom": self.zoom}, want="chances of 0 … 1, zoom below 1")
        if self.size < 1 or self.shift < 0:
            raise BadValue("View", saw=f"size {self.size}, shift {self.shift}", want="pixels, not negative")

    def take(
        self,
        images: Float[Tensor, "object band height width"],
        weather: Weather,
        draw: torch.Generator | None = None,
        times: int = 1,
    ) -> Float[Tensor, "view band size size"]:
        """`times` views of each image, in its unit: all objects once, then all again. Raises TooSmall."""
        seen = images.new_empty(times * len(images), images.shape[1], self.size, self.size)
        self.fill(seen, both_ways(images), weather, draw)
        return seen

    def fill(
        self,
        seen: Float[Tensor, "view band size size"],
        both: Float[Tensor, "either band height width"],
        weather: Weather,
        draw: torch.Generator | None = None,
    ) -> None:
        """`take`, into what is there already, of images `both_ways`."""
        if min(both.shape[-2:]) < self.size:
            raise TooSmall(saw=f"images of {both.shape[-2]}×{both.shape[-1]} px", want=f"{self.size} px or more")
        n, planes = len(seen), seen.flatten(0, 1)
        self._cut(seen, both, draw)
        if self.redden:
            ebv = weather.ebv_mag(n, draw) * self._chosen(self.redden, n, draw)
            seen.copy_(reddened(seen, ebv.to(seen), weather.extinction))
        if self.blur:
            sigma = (weather.blur_px(n, draw) * self._chosen(self.blur, n, draw)[:, None]).to(seen).flatten()
            _change(planes, sigma > 0, lambda some: blurred(some, sigma[sigma > 0]))
        if self.noise:
            extra = (weather.noise(n, draw) * self._chosen(self.noise, n, draw)[:, None]).to(seen).flatten()
            _change(planes, extra > 0, lambda some: noisy(some, extra[extra > 0], draw))

    def _cut(self, seen: Tensor, both: Tensor, draw: torch.Generator | None) -> None:
        n, objects = len(seen), len(both) // 2
        top, left = (self._edge(side, n, draw).to(both.device) for side in both.shape[-2:])
        rows = torch.arange(objects).repeat(n // max(1, objects)).to(both.device)
        upside_down, mirrored = (self._chosen(self.mirror, n, draw).to(both.device) for _ in range(2))
        if not self.turn and not self.zoom:
            cut_out(both, rows + objects * mirrored, top, left, self.size, upside_down, seen)
            return
        angle = 360 * torch.rand(n, generator=draw) * self._chosen(self.turn, n, draw)
        zoom = 1 + self.zoom * (2 * torch.rand(n, generator=draw) - 1)
        # Upside down is left to right, then turned by half.
        rows, angle = rows + objects * (mirrored ^ upside_down), angle.to(both) + 180 * upside_down
        seen.copy_(turned_out(both, rows, top, left, self.size, angle, zoom.to(both)))

    def _edge(self, side: int, n: int, draw: torch.Generator | None) -> Integer[Tensor, " n"]:
        """The first row or column of each square."""
        room = side - self.size
        low, high = max(0, room // 2 - self.shift), min(room, math.ceil(room / 2) + self.shift)
        return torch.randint(low, high + 1, (n,), generator=draw)

    @staticmethod
    def _chosen(chance: float, n: int, draw: torch.Generator | None) -> Bool[Tensor, " n"]:
        return torch.rand(n, generator=draw) < chance


@dataclass(frozen=True, eq=False)
class Crops:
    """Views of the same objects, stretched. Rows: all objects' first view, then all objects' second, …"""

    large: Float[Tensor, "large band side side"]
    """two of each object"""
    small: Float[Tensor, "small band edge edge"]
    """`MultiCrop.small_views` of each object"""


@dataclass(frozen=True, kw_only=True)
class MultiCrop:
    """Two large views and several small ones (Caron et al. 2020, arXiv:2006.09882). The defaults are AstroDINO's.

    Its paper blurs the first large view always, the second one time in ten, the small ones one time in two. What its
    code does is `AS_RUN`.
    """

    first: View = View(size=144, shift=4, blur=1.0, noise=1.0)
    second: View = View(size=144, shift=4, blur=0.1, noise=0.1)
    small: View = View(size=60, shift=46, blur=0.5, noise=0.5)
    """anywhere in the image, so it may miss the galaxy; a smaller `shift` keeps it in sight"""
    small_views: int = 8
    weather: Weather = field(default_factory=Weather)
    stretch: Stretch = field(default_factory=LegacyColours)

    def __post_init__(self) -> None:
        if self.first.size != self.second.size:
            raise BadValue(
                "MultiCrop", saw=f"{self.first.size} and {self.second.size} px", want="large views of one size"
            )

    def crops(self, images: Float[Tensor, "object band height width"], draw: torch.Generator | None = None) -> Crops:
        """Views of raw flux. Raises TooSmall."""
        n, bands, both = len(images), images.shape[1], both_ways(images)
        large = images.new_empty(2 * n, bands, self.first.size, self.first.size)
        small = images.new_empty(self.small_views * n, bands, self.small.size, self.small.size)
        for view, seen in ((self.first, large[:n]), (self.second, large[n:]), (self.small, small)):
            view.fill(seen, both, self.weather, draw)
        return Crops(self._stretched(large), self._stretched(small))

    def _stretched(self, seen: Tensor) -> Tensor:
        for some in seen.split(max(1, AT_ONCE // max(1, seen[:1].numel()))):
            some.copy_(self.stretch.forward(some))
        return seen


PAPER = MultiCrop()
"""AstroDINO's views as its paper means them"""
AS_RUN = MultiCrop(
    first=View(size=144, shift=4, blur=0.0, noise=0.0),
    second=View(size=144, shift=4, blur=0.9, noise=0.9),
)
"""compat: as its code runs them, which passes 1 − p where p is meant"""
STEIN = View(size=96, shift=7, turn=1.0, zoom=0.1, redden=1.0, blur=1.0, noise=1.0)
"""Stein et al. 2021: dust, flips, any angle, 0.9 … 1.1, seeing, ±7 px, depth"""
