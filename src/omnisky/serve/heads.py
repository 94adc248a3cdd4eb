"""Heads: what turns observations into an answer, such as a morphology or a redshift."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped
from torch import nn

from omnisky.adapt.pool import AttentiveProbe
from omnisky.embed import signature, token_states
from omnisky.observe.types import Observation


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a head says of each object."""

    values: Shaped[np.ndarray, " object ..."]
    """numbers, or names of classes"""
    chance: Float[np.ndarray, "object class"] | None = None
    """of each class, where there are classes"""
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: Any) -> Answers:
        """The chosen objects."""
        chance = None if self.chance is None else self.chance[index]
        return Answers(values=self.values[index], chance=chance, classes=self.classes)


@runtime_checkable
class Head(Protocol):
    """What can be asked at /v1/predict."""

    def predict(self, seen: Observation) -> Answers:
        """One answer an object."""


@dataclass(frozen=True, eq=False)
class TokenHead:
    """A probe on the tokens of a model, as `omnisky-nano` has one of morphologies."""

    model: nn.Module
    probe: AttentiveProbe

    @classmethod
    def open(cls, model: nn.Module, folder: Path) -> TokenHead:
        """Raises ProvenanceError for the probe of another model."""
        return cls(model, AttentiveProbe.load(folder, signature=signature(model, None, "bf16")))

    def predict(self, seen: Observation) -> Answers:
        chance = self.probe.predict_proba(token_states(self.model, seen, views=self.probe.views))
        names = self.probe.names_ or tuple(str(one) for one in self.probe.classes_.tolist())
        return Answers(values=np.asarray(names)[chance.argmax(1)], chance=chance, classes=names)


@dataclass(frozen=True)
class TunedHead:
    """A folder of `omnisky.adapt.finetuned.FineTunedModel`, read when it is first asked."""

    folder: Path

    @cached_property
    def tuned(self) -> Any:
        from omnisky.adapt.finetuned import FineTunedModel

        return FineTunedModel.load(self.folder)

    def predict(self, seen: Observation) -> Answers:
        if not hasattr(self.tuned, "classes_"):
            return Answers(values=np.asarray(self.tuned.predict(seen)))
        chance = self.tuned.predict_proba(seen)
        classes = self.tuned.classes_
        return Answers(values=classes[chance.argmax(1)], chance=chance, classes=tuple(map(str, classes.tolist())))
