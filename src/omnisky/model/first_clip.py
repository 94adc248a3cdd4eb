"""AstroCLIP as it was first written down: convolutions read the spectrum, and one linear layer ends each tower.

The module of the workshop version's code (Lanusse et al. 2023, arXiv:2310.03024v1). The model of its paper has
SpecFormer in place of the convolutions: that one is `recipes.astroclip.astroclip_v1`. No weights were published.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from omnisky.codec.tokens import Tokens
from omnisky.errors import BadValue
from omnisky.model.baseline import SpectrumRegressorConfig
from omnisky.model.contrastive import HIGHEST, EncoderTower, Pairs, Read
from omnisky.model.resnet import MomentumEncoderConfig

CONVOLUTIONS = SpectrumRegressorConfig(answers=128, channels=(128, 256, 512), kernels=(5, 11, 21), hidden=256)
"""spender's encoder (Melchior et al. 2023, arXiv:2211.07890) of 128 numbers"""


@dataclass(frozen=True, kw_only=True)
class FirstClipConfig:
    """The two networks, and the space they share."""

    image: MomentumEncoderConfig = field(default_factory=MomentumEncoderConfig)
    spectrum: SpectrumRegressorConfig = CONVOLUTIONS
    width: int = 512
    """numbers in the shared space"""
    scale: float = math.log1p(1 / 0.07)
    """what cosines are multiplied by at first: 2.73. The code passes log(1/0.07) through a softplus"""

    def build(self, seed: int | None = None) -> FirstClip:
        return FirstClip(self, seed)


class ProjectedImage(EncoderTower):
    """Stein's ResNet50 and its head, of which the head learns, and a linear layer."""

    def __init__(self, config: MomentumEncoderConfig, width: int, seed: int | None) -> None:
        super().__init__(config, seed)
        self.projection = nn.Linear(config.projected, width)

    def project(self, tokens: Tokens) -> Float[Tensor, "object width"]:
        """The vector of each object, of any length."""
        return self.projection(super().project(tokens))


class ProjectedSpectrum(nn.Module):
    """Convolutions and attention, and a linear layer; all of it learns."""

    def __init__(self, config: SpectrumRegressorConfig, width: int, seed: int | None) -> None:
        super().__init__()
        self.config = config
        self.backbone = config.build(seed)
        self.projection = nn.Linear(config.answers, width)

    @property
    def standing(self) -> None:
        """All of it learns."""
        return None

    def read(self, tokens: Tokens) -> Read:
        """One state: what the convolutions say."""
        return Read(self.backbone.predict(tokens)[:, None], None)

    def project(self, tokens: Tokens) -> Float[Tensor, "object width"]:
        """The vector of each object, of any length."""
        return self.projection(self.read(tokens).states[:, 0])


class FirstClip(Pairs):
    """Images and spectra as neighbours; the loss is AstroCLIP's."""

    def __init__(self, config: FirstClipConfig, seed: int | None = None) -> None:
        super().__init__()
        if not 0 < config.scale <= HIGHEST:
            raise BadValue("scale", saw=config.scale, want=f"above 0, up to {HIGHEST:g}")
        self.config = config
        with torch.random.fork_rng():
            torch.manual_seed(0 if seed is None else seed)
            self.image = ProjectedImage(config.image, config.width, seed)
            self.spectrum = ProjectedSpectrum(config.spectrum, config.width, None if seed is None else seed + 2)
        self.before_scale = nn.Parameter(torch.tensor(math.log(math.expm1(config.scale))))

    @property
    def scale(self) -> Float[Tensor, ""]:
        """What cosines are multiplied by: positive by a softplus."""
        return F.softplus(self.before_scale).clamp(max=HIGHEST)
