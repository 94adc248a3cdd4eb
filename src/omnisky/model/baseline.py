"""Supervised yardsticks: what labels alone teach a small network.

`SmallCNN` classifies and `UNet` draws maps; the other three predict numbers, as AstroCLIP's paper has them (Parker et
al. 2024, §5): ResNet18 on images, convolutions with attention on spectra, a perceptron on magnitudes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from omnisky.codec.tokens import Codec, Tokens, demand_present
from omnisky.errors import BadValue, ShapeMismatch
from omnisky.model.resnet import RESNET18, ResNet, ResNetConfig, pixels_of


@dataclass(frozen=True, kw_only=True)
class SmallCNNConfig:
    """A small convolutional classifier of colour images."""

    bands: int = 3
    classes: int = 5
    widths: tuple[int, ...] = (32, 64, 128, 256)
    """channels of each stage; each halves the image"""
    dropout: float = 0.3
    pixels: str = "pixels"
    """name of the span of the image's pixels, one token per pixel row-major"""
    labels: str = "labels"
    """name of the span of class ids, one token per object"""

    def build(self, seed: int | None = None) -> SmallCNN:
        with torch.random.fork_rng():
            torch.manual_seed(0 if seed is None else seed)
            return SmallCNN(self).to(memory_format=torch.channels_last)


class Stage(nn.Module):
    """Two 3×3 convolutions with batch norm and a residual, then half the size (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        self.second = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(inside, outside, 1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(outside), nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.max_pool2d(F.relu(self.second_norm(self.second(y)) + self.skip(x)), 2)


class SmallCNN(nn.Module):
    """Four residual stages, mean over the sky, dropout, one linear layer; cross-entropy on labels."""

    def __init__(self, config: SmallCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.codecs: tuple[Codec, ...] = ()
        widths = (config.bands, *config.widths)
        self.stages = nn.Sequential(*(Stage(a, b) for a, b in pairwise(widths)))
        self.answers = nn.Linear(widths[-1], config.classes)

    def forward(self, tokens: Tokens) -> Float[Tensor, "object classes"]:
        """Logits."""
        pixels = tokens[self.config.pixels].values
        side = round(pixels.shape[1] ** 0.5)
        x = pixels.mT.unflatten(-1, (side, side)).contiguous(memory_format=torch.channels_last)
        x = self.stages(x).mean((-2, -1))
        return self.answers(F.dropout(x, self.config.dropout, self.training))

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """Mean cross-entropy of the objects' labels."""
        return F.cross_entropy(self(tokens).float(), tokens[self.config.labels].values[:, 0])


# --- maps --------------------------------------------------------------------------------------------------------


class UNet(nn.Module):
    """Pictures → logits of each pixel: three halvings and back, each size joined with its like.

    After Ronneberger et al. 2015 (arXiv:1505.04597), with padding and batch norm; channels double with each halving.
    Sides must be multiples of 8 px.
    """

    def __init__(self, bands: int, classes: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(4)]
        self.down = nn.ModuleList(_twice(a, b) for a, b in pairwise((bands, *widths)))
        deep_first = [(b, a) for a, b in pairwise(widths)][::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in deep_first)
        self.join = nn.ModuleList(_twice(a, b) for a, b in deep_first)
        self.answers = nn.Conv2d(width, classes, 1)

    def forward(self, pictures: Float[Tensor, "object y x band"]) -> Float[Tensor, "object class y x"]:
        """Raises ShapeMismatch for sides that cannot be halved thrice."""
        if pictures.shape[1] % 8 or pictures.shape[2] % 8:
            raise ShapeMismatch("pictures", saw=tuple(pictures.shape), want="sides that are multiples of 8 px")
        x, passed = self.down[0](pictures.permute(0, 3, 1, 2)), []
        for down in self.down[1:]:
            passed.append(x)
            x = down(F.max_pool2d(x, 2))
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([passed.pop(), up(x)], 1))
        return self.answers(x)


def _twice(inside: int, outside: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inside, outside):
        layers += [nn.Conv2d(channels, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers)


# --- numbers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RegressorConfig:
    """What is predicted: numbers, standardised by the codec of `targets`."""

    answers: int
    targets: str = "targets"
    """name of the span of numbers to predict, one token a number"""


class Regressor(nn.Module):
    """Tokens → numbers, by the mean square error of those that were measured."""

    def __init__(self, config: RegressorConfig) -> None:
        super().__init__()
        self.config = config
        self.codecs: tuple[Codec, ...] = ()

    def predict(self, tokens: Tokens) -> Float[Tensor, "object answer"]:
        """The numbers, in the units of the targets' codec."""
        raise NotImplementedError

    def loss(self, tokens: Tokens, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """Mean square error. Raises ShapeMismatch where there are other numbers than answers, BadValue for none."""
        target, said = tokens[self.config.targets], self.predict(tokens).float()
        if target.values.shape[1:] != (self.config.answers, 1):
            raise ShapeMismatch("targets", saw=tuple(target.values.shape[1:]), want=(self.config.answers, 1))
        there = target.there()
        if not bool(there.any()):
            raise BadValue("nothing to learn from", saw="no target in this batch", want="some that are not NaN")
        return ((said - target.values[..., 0]).square() * there).sum() / there.sum()


def _seeded(kind: type[Regressor], config: RegressorConfig, seed: int | None) -> Regressor:
    with torch.random.fork_rng():
        torch.manual_seed(0 if seed is None else seed)
        return kind(config)


@dataclass(frozen=True, kw_only=True)
class ImageRegressorConfig(RegressorConfig):
    """ResNet18 on images."""

    network: ResNetConfig = RESNET18
    name: str = "pixels"
    """of the span of pixels, one token a pixel"""

    def build(self, seed: int | None = None) -> ImageRegressor:
        built = _seeded(ImageRegressor, self, seed).to(memory_format=torch.channels_last)
        assert isinstance(built, ImageRegressor)
        return built


class ImageRegressor(Regressor):
    """A ResNet and one linear layer."""

    config: ImageRegressorConfig

    def __init__(self, config: ImageRegressorConfig) -> None:
        super().__init__(config)
        self.network = ResNet(config.network)
        self.answers = nn.Linear(config.network.width, config.answers)

    def predict(self, tokens: Tokens) -> Float[Tensor, "object answer"]:
        return self.answers(self.network(pixels_of(tokens, self.config.name, self.config.network.bands)))


@dataclass(frozen=True, kw_only=True)
class SpectrumRegressorConfig(RegressorConfig):
    """Convolutions and attention on spectra, after Melchior et al. 2023 (arXiv:2211.07890)."""

    channels: tuple[int, ...] = (8, 16, 16, 32)
    kernels: tuple[int, ...] = (5, 10, 20, 40)
    """pixels; between convolutions the spectrum is pooled by as many"""
    hidden: int = 32
    dropout: float = 0.0
    name: str = "flux"
    """of the span that holds a spectrum's pixels in one token"""

    def build(self, seed: int | None = None) -> SpectrumRegressor:
        built = _seeded(SpectrumRegressor, self, seed)
        assert isinstance(built, SpectrumRegressor)
        return built


class SpectrumRegressor(Regressor):
    """Convolutions; half of the channels say where to look, the other half what is there; a perceptron."""

    config: SpectrumRegressorConfig

    def __init__(self, config: SpectrumRegressorConfig) -> None:
        super().__init__(config)
        sizes = zip(pairwise((1, *config.channels)), config.kernels, strict=True)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv1d(a, b, k, padding=k // 2), nn.InstanceNorm1d(b), nn.PReLU(b), _drop(config))
            for (a, b), k in sizes
        )
        widths = (config.channels[-1] // 2, config.hidden, config.hidden)
        hidden = [nn.Sequential(nn.Linear(a, b), nn.PReLU(b), _drop(config)) for a, b in pairwise(widths)]
        self.hidden = nn.Sequential(*hidden)
        self.answers = nn.Linear(config.hidden, config.answers)

    def predict(self, tokens: Tokens) -> Float[Tensor, "object answer"]:
        x = demand_present(tokens, self.config.name).values
        if x.shape[1] != 1:
            raise ShapeMismatch(saw=f"{x.shape[1]} tokens a spectrum", want="one, of all its pixels")
        for i, (stage, kernel) in enumerate(zip(self.stages, self.config.kernels, strict=True)):
            x = stage(x)
            x = x if i == len(self.stages) - 1 else F.max_pool1d(x, kernel, padding=kernel // 2)
        there, where = x.chunk(2, dim=1)
        return self.answers(self.hidden((there * where.softmax(-1)).sum(-1)))


@dataclass(frozen=True, kw_only=True)
class PhotometryRegressorConfig(RegressorConfig):
    """A perceptron on magnitudes or colours."""

    columns: int = 3
    hidden: tuple[int, ...] = (64, 64)
    dropout: float = 0.0
    name: str = "photometry"
    """of the span of numbers, one token each"""

    def build(self, seed: int | None = None) -> PhotometryRegressor:
        built = _seeded(PhotometryRegressor, self, seed)
        assert isinstance(built, PhotometryRegressor)
        return built


class PhotometryRegressor(Regressor):
    """Linear layers with ReLU between; a magnitude that is absent is 0."""

    config: PhotometryRegressorConfig

    def __init__(self, config: PhotometryRegressorConfig) -> None:
        super().__init__(config)
        widths = (config.columns, *config.hidden)
        self.hidden = nn.Sequential(
            *(nn.Sequential(nn.Linear(a, b), nn.ReLU(), _drop(config)) for a, b in pairwise(widths))
        )
        self.answers = nn.Linear(widths[-1], config.answers)

    def predict(self, tokens: Tokens) -> Float[Tensor, "object answer"]:
        values = demand_present(tokens, self.config.name).values
        if values.shape[1:] != (self.config.columns, 1):
            raise ShapeMismatch("photometry", saw=tuple(values.shape[1:]), want=(self.config.columns, 1))
        return self.answers(self.hidden(values[..., 0]))


def _drop(config: SpectrumRegressorConfig | PhotometryRegressorConfig) -> nn.Module:
    return nn.Dropout(config.dropout) if config.dropout else nn.Identity()
