"""Maps of the sky out of patch states: an up-sampler as SAM's mask decoder has it (Kirillov et al. 2023, app. A)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from omnisky.adapt.learn import Effort, Watch, aside, learn, own_draws, said
from omnisky.codec.patch import factors
from omnisky.errors import BadValue, ShapeMismatch

THRESHOLDS = np.linspace(0.1, 0.9, 17)
"""chances above which a pixel may be called part of a thing; the best one for those who judge is kept"""


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class UpSampler(nn.Sequential):
    """Patch states on their grid → logits of each pixel: transposed convolutions, each with LayerNorm and GELU; 1×1.

    A patch of 8 px is three doublings, one of 12 two and a tripling. Channels halve, down to 8.
    """

    def __init__(self, width: int, patch_px: int, classes: int, hidden: int) -> None:
        channels = [hidden]
        layers: list[nn.Module] = [nn.Conv2d(width, hidden, 1)]
        for factor in factors(patch_px):
            channels.append(max(channels[-1] // 2, 8))
            layers += [nn.ConvTranspose2d(channels[-2], channels[-1], factor, stride=factor)]
            layers += [ChannelNorm(channels[-1]), nn.GELU()]
        super().__init__(*layers, nn.Conv2d(channels[-1], classes, 1))

    def forward(self, patches: Float[Tensor, "object row column width"]) -> Float[Tensor, "object class height width2"]:
        return super().forward(patches.permute(0, 3, 1, 2))


class Pixels:
    """Binary cross-entropy plus Dice (Milletari et al. 2016, arXiv:1606.04797), of each class by itself."""

    width = 1

    def loss(self, said: Tensor, target: Tensor) -> Float[Tensor, ""]:
        said, target = said.float(), target.float()
        chance = said.sigmoid()
        both = (chance * target).sum((-2, -1))
        dice = 1 - (2 * both + 1) / (chance.sum((-2, -1)) + target.sum((-2, -1)) + 1)
        return F.binary_cross_entropy_with_logits(said, target) + dice.mean()


class Segmenter(BaseEstimator):
    """Maps of one or more kinds of thing, from cached patch states (object, row, column, width)."""

    def __init__(
        self,
        hidden: int = 64,
        steps: int = 800,
        batch: int = 16,
        rate: float = 2e-3,
        weight_decay: float = 0.05,
        seed: int = 0,
    ) -> None:
        self.hidden, self.steps, self.batch = hidden, steps, batch
        self.rate, self.weight_decay, self.seed = rate, weight_decay, seed

    def fit(
        self,
        x: Float[np.ndarray, "object row column width"],
        y: np.ndarray,
        judge: Bool[np.ndarray, " object"] | None = None,
        watch: Watch | None = None,
    ) -> Segmenter:
        """y (object, class, height, width): what each pixel is part of, 0 or 1, or vote fractions between.

        `judge` is True for those who decide when to stop, and above which chance a pixel counts. Raises ShapeMismatch
        where a patch is not a whole number of pixels, BadValue for values outside 0 … 1 or nothing to find.
        """
        y = np.asarray(y)
        patch_px = _patch_px(x, y)
        if not (np.isfinite(y).all() and y.min() >= 0 and y.max() <= 1):
            raise BadValue("maps", saw=f"{np.nanmin(y)} … {np.nanmax(y)}", want="0 … 1")
        if len(np.unique(y > 0.5)) < 2:
            raise BadValue("maps of one class", saw=f"all {'inside' if y.max() > 0.5 else 'outside'}", want="both")
        away = aside(np.arange(len(x)), 0.1, self.seed) if judge is None else judge
        states, target = torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(y, dtype=np.float32))
        effort = Effort(steps=self.steps, batch=self.batch, rate=self.rate, weight_decay=self.weight_decay, patience=8)
        use, judges = np.flatnonzero(~away), np.flatnonzero(away)
        with own_draws(self.seed) as draw:
            self.width_, self.patch_px_, self.count_ = x.shape[-1], patch_px, y.shape[1]
            self.model_: Any = self._network()
            pick = lambda rows, _: (states[rows].float(),)  # noqa: E731
            learn(self.model_, Pixels(), pick, target, use, judges, effort, draw, watch)
        self.thresholds_ = np.full(y.shape[1], 0.5)
        if len(judges):
            self.thresholds_ = best_thresholds(self.predict_proba(x[judges]), y[judges] > 0.5)
        return self

    def predict_proba(self, x: Float[np.ndarray, "object row column width"]) -> Float[np.ndarray, "object class y x"]:
        """The chance that each pixel is part of each kind of thing."""
        check_is_fitted(self)
        if x.ndim != 4 or x.shape[-1] != self.width_:
            raise ShapeMismatch("patch states", saw=x.shape, want=f"(object, row, column, {self.width_})")
        states = torch.from_numpy(x)
        logits = said(self.model_, lambda rows, _: (states[rows].float(),), np.arange(len(x)), 64)
        return logits.float().sigmoid().numpy()

    def predict(self, x: Float[np.ndarray, "object row column width"]) -> Bool[np.ndarray, "object class y x"]:
        """Which pixels are part of which kind of thing."""
        return self.predict_proba(x) > self.thresholds_[:, None, None]

    def _network(self) -> nn.Module:
        return UpSampler(self.width_, self.patch_px_, self.count_, self.hidden)


def intersection_over_union(
    said: Bool[np.ndarray, "object class y x"], truth: Bool[np.ndarray, "object class y x"]
) -> Float[np.ndarray, " class"]:
    """|both| / |either| over all pixels of all objects; NaN where a kind of thing is neither told nor there."""
    both, either = (said & truth).sum((0, 2, 3)), (said | truth).sum((0, 2, 3))
    return np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)


def best_thresholds(
    chance: Float[np.ndarray, "object class y x"], truth: Bool[np.ndarray, "object class y x"]
) -> Float[np.ndarray, " class"]:
    """Of each class, the threshold of highest intersection over union; 0.5 where there is nothing to find."""
    tried = np.stack([intersection_over_union(chance > one, truth) for one in THRESHOLDS])
    known = truth.any((0, 2, 3))
    return np.where(known, THRESHOLDS[np.nan_to_num(tried).argmax(0)], 0.5)


def _patch_px(x: np.ndarray, y: np.ndarray) -> int:
    if x.ndim != 4 or y.ndim != 4 or len(x) != len(y):
        want = "(object, row, column, width), (object, class, height, width)"
        raise ShapeMismatch(saw=f"states {x.shape}, maps {y.shape}", want=want)
    size = y.shape[2] // x.shape[1]
    if (x.shape[1] * size, x.shape[2] * size) != y.shape[2:] or not size:
        raise ShapeMismatch(
            "maps", saw=f"{y.shape[2:]} px, {x.shape[1:3]} patches", want="whole pixels a patch, both ways"
        )
    return size
