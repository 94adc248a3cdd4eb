"""AstroDINO's pre-training: a student learns what a running mean of itself, the teacher, says of other views.

DINOv2 (Oquab et al. 2023, arXiv:2304.07193) on galaxies (Parker et al. 2024, MNRAS 531, 4990, §3.1). Three losses:

    DINO   the class token of a view tells what the teacher says of another view (Caron et al. 2021, arXiv:2104.14294)
    iBOT   patches hidden from the student tell what the teacher, who sees them, says there (Zhou et al. 2022,
           arXiv:2111.07832)
    KoLeo  class tokens keep away from their nearest neighbours (Sablayrolles et al. 2019, arXiv:1806.03198)

Tokens are raw pixels, one a token (`RasterPatches(patch_size=1)`); views of them are made in `model.augment`.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omnisky.codec.patch import RasterPatches, cut
from omnisky.codec.tokens import Codec, Tokens, demand_present
from omnisky.codec.weights import Blank
from omnisky.errors import BadValue, MissingModality, ShapeMismatch
from omnisky.model.augment import MultiCrop
from omnisky.model.balance import Centring, Sinkhorn
from omnisky.model.vision import Vision, VisionConfig

# --- the losses --------------------------------------------------------------------------------------------------


def surprise(
    said: Float[Tensor, "*row prototype"], target: Float[Tensor, "*row prototype"], temperature: float
) -> Float[Tensor, "*row"]:
    """Cross-entropy of softmax(said / temperature) with each target, or with a sum of targets."""
    scaled = said.float() / temperature
    return target.sum(-1) * scaled.logsumexp(-1) - (target * scaled).sum(-1)


def koleo(states: Float[Tensor, "object width"], eps: float = 1e-8) -> Float[Tensor, ""]:
    """−mean ln of the distance to the nearest other object, on the unit sphere; 0 for an object alone."""
    if len(states) < 2:
        return states.sum() * 0
    with torch.autocast(states.device.type, enabled=False):
        units = F.normalize(states.float(), eps=eps)
        with torch.no_grad():
            nearest = (units @ units.T).fill_diagonal_(-1).argmax(1)
        return -torch.log(F.pairwise_distance(units, units[nearest], eps=eps) + eps).mean()


# --- which patches are hidden ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Hiding:
    """Blocks of patches hidden from the student (BEiT: Bao et al. 2022, arXiv:2106.08254, §2.3)."""

    images: float = 0.5
    """share of the large views that lose patches"""
    least: float = 0.1
    """share of its patches that a view loses; the shares of a batch are spread evenly …"""
    most: float = 0.5
    """… up to here"""
    smallest: int = 4
    """patches of a block, before it overlaps others"""
    flattest: float = 0.3
    """height / width of a block: from this to its inverse"""

    def draw(self, views: int, grid: int, chance: random.Random) -> Bool[Tensor, "views patch"]:
        """True where a patch is hidden; the views in random order."""
        some = int(views * self.images)
        edges = [self.least + (self.most - self.least) * i / max(some, 1) for i in range(some + 1)]
        counts = [int(grid**2 * chance.uniform(*edges[i : i + 2])) for i in range(some)] + [0] * (views - some)
        hidden = [self.blocks(count, grid, chance).flatten() for count in counts]
        chance.shuffle(hidden)
        return torch.stack(hidden)

    def blocks(self, count: int, grid: int, chance: random.Random) -> Bool[Tensor, "grid grid"]:
        """At most `count` patches, in blocks put down until they are reached or ten in a row do not fit."""
        hidden = torch.zeros(grid, grid, dtype=torch.bool)
        left = count
        while left > 0:
            added = self._block(hidden, min(left, grid**2 // 2), chance)
            if not added:
                break
            left -= added
        return hidden

    def _block(self, hidden: Tensor, most: int, chance: random.Random) -> int:
        """Hide one block more, of at most `most` patches not hidden yet; how many it was, 0 if none fitted."""
        grid, flat = len(hidden), abs(math.log(self.flattest))
        for _ in range(10):
            area = chance.uniform(self.smallest, most)
            aspect = math.exp(chance.uniform(-flat, flat))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height >= grid or width >= grid:
                continue
            top, left = chance.randint(0, grid - height), chance.randint(0, grid - width)
            block = hidden[top : top + height, left : left + width]
            added = height * width - int(block.sum())
            if 0 < added <= most:
                block.fill_(True)
                return added
        return 0


# --- the model ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """How a `Vision` is pre-trained. The defaults are AstroDINO's."""

    vision: VisionConfig
    """the student; the teacher is the same without dropout and drop-path"""
    views: MultiCrop = field(default_factory=MultiCrop)
    hiding: Hiding = field(default_factory=Hiding)
    balance: Centring | Sinkhorn = field(default_factory=Centring)
    prototypes: int = 65_536
    hidden: int = 2048
    """numbers inside the head's MLP"""
    bottleneck: int = 256
    """numbers that are compared with prototypes"""
    momentum: float = 0.992
    """of the teacher's mean at the first step; by a cosine 1 at the last"""
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    """at the first step, and after `warming`"""
    warming: int = 37_500
    """steps"""
    koleo: float = 0.1
    """weight of KoLeo in the loss"""
    pixels: str = "pixels"
    """name of the span of raw pixels, one a token, row by row"""

    def __post_init__(self) -> None:
        sizes = self.views.first.size, self.views.second.size, self.views.small.size
        if any(size % self.vision.patch_size for size in sizes) or sizes[0] != sizes[1]:
            raise BadValue("views", saw=sizes, want=f"two equal ones and a third, of whole {self.vision.patch_size} px")

    def build(self, seed: int | None = None) -> Distill:
        return Distill(self, seed)


class Prototypes(nn.Module):
    """Cosines with learned directions, times their learned lengths (weight norm; lengths begin at 1)."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.length = nn.Parameter(torch.ones(count, 1))
        self.direction = nn.Parameter(torch.empty(count, width))

    def forward(self, x: Float[Tensor, "row width"]) -> Float[Tensor, "row prototype"]:
        return F.linear(F.normalize(x, dim=-1), self.length * F.normalize(self.direction, dim=-1))


class Head(nn.Module):
    """The head that DINO and iBOT share: three linears with GELU between, then prototypes."""

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, hidden)
        self.third = nn.Linear(hidden, bottleneck)
        self.last = Prototypes(bottleneck, prototypes)

    def forward(self, states: Float[Tensor, "row width"]) -> Float[Tensor, "row prototype"]:
        return self.last(self.third(F.gelu(self.second(F.gelu(self.first(states))))))

    def begin(self, draw: torch.Generator | None) -> None:
        """DINO's start: N(0, 0.02), biases 0; prototypes as torch begins linears."""
        if Blank.inside():
            return
        for linear in (self.first, self.second, self.third):
            nn.init.trunc_normal_(linear.weight, std=0.02, generator=draw)
            nn.init.zeros_(linear.bias)
        bound = self.last.direction.shape[1] ** -0.5
        nn.init.uniform_(self.last.direction, -bound, bound, generator=draw)


class Pupil(nn.Module):
    """A vision and a head: the student is one, the teacher another."""

    def __init__(self, config: DistillConfig, vision: VisionConfig, seed: int | None) -> None:
        super().__init__()
        self.vision = vision.build(seed)
        self.head = Head(vision.core.width, config.hidden, config.bottleneck, config.prototypes)
        self.head.begin(None if seed is None else torch.Generator().manual_seed(seed + 1))


class Distill(nn.Module):
    """Student and teacher. What was learned is the teacher's vision: `encoder()`."""

    def __init__(self, config: DistillConfig, seed: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.codecs: tuple[Codec, ...] = ()
        calm = replace(config.vision, core=replace(config.vision.core, dropout=0.0, drop_path=0.0))
        self.student = Pupil(config, config.vision, seed)
        self.teacher = Pupil(config, calm, seed).requires_grad_(False)
        self.teacher.load_state_dict(self.student.state_dict())
        self.class_balance = config.balance.build(config.prototypes)
        self.patch_balance = config.balance.build(config.prototypes)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """DINO + iBOT + 0.1 · KoLeo of one batch, whose views and hidden patches are drawn here."""
        images = self.images(tokens)
        with torch.autocast(images.device.type, enabled=False):  # flux in half precision would be noise
            crops = self.config.views.crops(images, generator)
        size = self.config.vision.patch_size
        large, small = cut(crops.large, size), cut(crops.small, size)
        hidden = self.hide(large, generator)
        target = self.teach(large, hidden)
        told = self.learn(large, small, hidden)
        return dino(told, target, self.config) + ibot(told, target, hidden, self.config) + self._apart(told)

    def hide(
        self, large: Float[Tensor, "view patch number"], generator: torch.Generator | None
    ) -> Bool[Tensor, "view patch"]:
        """Which patches of each large view the student does not see."""
        seed = int(torch.randint(2**62, (), generator=generator))
        grid = math.isqrt(large.shape[1])
        return self.config.hiding.draw(len(large), grid, random.Random(seed)).to(large.device)

    @torch.no_grad()
    def teach(self, large: Tensor, hidden: Tensor) -> Said:
        """What the teacher, who sees all of the large views, says of them and of the patches hidden in them."""
        states = self.teacher.vision(large)
        rows = torch.cat([states[:, 0], states[:, 1:][hidden]])
        classes, patches = self.teacher.head(rows).float().split([len(large), len(rows) - len(large)])
        temperature = self.temperature()
        return Said(large=self.class_balance(classes, temperature), patches=self.patch_balance(patches, temperature))

    def learn(self, large: Tensor, small: Tensor, hidden: Tensor) -> Told:
        """What the student says of large views with hidden patches, of these patches, and of small views."""
        seen, glimpsed = self.student.vision(large, hidden), self.student.vision(small)[:, 0]
        rows = [seen[:, 0], glimpsed, seen[:, 1:][hidden]]
        said = self.student.head(torch.cat(rows)).float().split([len(part) for part in rows])
        return Told(large=said[0], small=said[1], patches=said[2], states=seen[:, 0])

    def _apart(self, told: Told) -> Float[Tensor, ""]:
        return self.config.koleo * sum((koleo(view) for view in told.states.chunk(2)), told.states.new_zeros(()))

    def temperature(self) -> float:
        """The teacher's, at this step."""
        cold, warm = self.config.teacher_temperature
        return cold + (warm - cold) * min(1.0, int(self.step) / max(self.config.warming - 1, 1))

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """The loop calls this after step 1 … steps: teacher ← m · teacher + (1 − m) · student; the centres move."""
        share = 0.5 * (1 - self.config.momentum) * (1 + math.cos(math.pi * (step - 1) / steps))
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), share)
        self.class_balance.settle()
        self.patch_balance.settle()
        self.step.fill_(step)

    def forget(self) -> None:
        """A batch that was begun is not learnt from: what was heard of it must not move the centres."""
        self.class_balance.forget()
        self.patch_balance.forget()

    def images(self, tokens: Tokens) -> Float[Tensor, "object band side side"]:
        """The raw pixels again. Raises MissingModality, ShapeMismatch."""
        values = demand_present(tokens, self.config.pixels).values
        side = math.isqrt(values.shape[1])
        bands = self.config.vision.bands
        if side**2 != values.shape[1] or values.shape[2] != bands:
            saw = f"{values.shape[1]} tokens of {values.shape[2]} numbers"
            raise ShapeMismatch(
                "pixels", saw=saw, want=f"a square of pixels of {bands} bands", hint="RasterPatches(patch_size=1)"
            )
        return values.mT.unflatten(-1, (side, side)).contiguous()

    def encoder(self) -> Vision:
        """The teacher's vision, with the codec of its images: for omnisky.embed and omnisky.save."""
        found = [codec for codec in self.codecs if isinstance(codec, RasterPatches)]
        if not found:
            raise MissingModality("this model has no codec of images", want="codecs=(RasterPatches(…),)")
        vision = self.teacher.vision.eval()
        views, read = self.config.views, {"patch_size": vision.config.patch_size, "name": vision.config.name}
        vision.codecs = (replace(found[0], stretch=views.stretch, side=views.first.size, **read),)
        return vision

    # --- for optimisers that learn layer by layer ---

    @property
    def layers(self) -> int:
        """The last layer's number: 0 is what comes before the first block."""
        return self.config.vision.core.depth + 1

    def layer_of(self, name: str) -> int:
        """The layer of a parameter of this model, by its name."""
        parts = name.split(".")
        if "blocks" in parts:
            return int(parts[parts.index("blocks") + 1]) + 1
        return self.layers if "core" in parts or "head" in parts else 0

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """What is clipped apart from each other."""
        return self.student.vision, self.student.head


@dataclass(frozen=True, kw_only=True, eq=False)
class Said:
    """What the teacher says: probabilities."""

    large: Float[Tensor, "large prototype"]
    """all objects' first view, then all objects' second"""
    patches: Float[Tensor, "hidden prototype"]
    """of the patches hidden from the student"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Told(Said):
    """What the student says: logits of the same, and more."""

    small: Float[Tensor, "small prototype"]
    """all objects' first small view, then all objects' second, …"""
    states: Float[Tensor, "large width"]
    """of the class tokens of large views, before the head"""


def dino(told: Told, target: Said, config: DistillConfig) -> Float[Tensor, ""]:
    """The mean over all pairs of a view and another, large one: 2 large and 2 · small_views small pairs."""
    n = len(target.large) // 2
    first, second = target.large.view(2, n, -1)
    crossed = torch.cat([second, first])
    large = surprise(told.large, crossed, config.student_temperature).sum()
    both = (first + second).expand(config.views.small_views, -1, -1).reshape(told.small.shape)
    small = surprise(told.small, both, config.student_temperature).sum()
    return (large + small) / n / (2 + 2 * config.views.small_views)


def ibot(told: Told, target: Said, hidden: Bool[Tensor, "view patch"], config: DistillConfig) -> Float[Tensor, ""]:
    """Each view's mean over its hidden patches, summed, over all views, also those that hid none."""
    weight = (1 / hidden.sum(1).clamp(min=1)).unsqueeze(1).expand_as(hidden)[hidden]
    return (surprise(told.patches, target.patches, config.student_temperature) * weight).sum() / len(hidden)
