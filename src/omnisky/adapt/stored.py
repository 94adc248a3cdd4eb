"""Fitted estimators as a JSON and tensors: their settings, what they learnt, and nothing that is executed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from omnisky.adapt.neural import MixtureDensityRegressor, MLPClassifier, MLPRegressor, QuantileRegressor
from omnisky.adapt.pool import AttentiveDensity, AttentiveProbe, AttentiveQuantiles, AttentiveRegressor
from omnisky.adapt.probe import KNNClassifier, KNNRegressor, LinearProbe, RidgeProbe
from omnisky.adapt.segment import Segmenter
from omnisky.adapt.tuned import TunedClassifier, TunedDensity, TunedRegressor
from omnisky.errors import ConfigError
from omnisky.model import store
from omnisky.model.adapted import Adapted

ESTIMATORS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(KNNClassifier, KNNRegressor, LinearProbe, RidgeProbe),
        *(MLPClassifier, MLPRegressor, MixtureDensityRegressor, QuantileRegressor),
        *(AttentiveProbe, AttentiveRegressor, AttentiveDensity, AttentiveQuantiles, Segmenter),
        *(TunedClassifier, TunedRegressor, TunedDensity),
    )
}
"""every estimator that a folder may hold"""


def packed(estimator: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(what fits in a JSON, tensors). Raises ConfigError for an estimator that is not ours."""
    kind = type(estimator).__name__
    if type(estimator) is not ESTIMATORS.get(kind):
        hint = "joblib, at your own risk"
        raise ConfigError("cannot be saved without pickle", saw=kind, want=tuple(ESTIMATORS), hint=hint)
    facts: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for name, value in vars(estimator).items():
        if not name.endswith("_") or name.startswith("_") or (name == "model_" and hasattr(estimator, "y_")):
            continue
        if isinstance(value, Adapted):
            continue  # written by `finetuned`, in files of their own
        if isinstance(value, nn.Module):
            tensors |= {f"{name}/{key}": t.detach().cpu().contiguous() for key, t in value.state_dict().items()}
        elif isinstance(value, StandardScaler):
            tensors |= {f"{name}/{key}": torch.from_numpy(getattr(value, key)) for key in ("mean_", "scale_")}
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            tensors[name] = torch.from_numpy(np.ascontiguousarray(value))
        elif isinstance(value, np.ndarray):
            facts[name] = {"words": value.tolist()}
        else:
            facts[name] = store.pack(value.item() if isinstance(value, np.generic) else value)
    settings: dict[str, Any] = BaseEstimator.get_params(estimator)
    return {"estimator": kind, "settings": settings, "facts": facts}, tensors


def unpacked(told: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """What `packed` packed; a fine-tuned model comes without its network. Raises ConfigError, UnknownLayout."""
    kind = ESTIMATORS.get(told["estimator"])
    if kind is None:
        raise ConfigError(saw=told["estimator"], want=tuple(ESTIMATORS), hint="a newer Omnisky?")
    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in told["settings"].items()}
    estimator = kind(**settings)
    for name, value in told["facts"].items():
        words = isinstance(value, dict) and "words" in value
        setattr(estimator, name, np.asarray(value["words"]) if words else store.unpack(value))
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, inside, key = name.partition("/")
        if inside:
            modules.setdefault(part, {})[key] = tensor
        else:
            setattr(estimator, name, tensor.numpy())
    if "scaler_" in modules:
        estimator.scaler_ = _scaler(**{key: t.numpy() for key, t in modules.pop("scaler_").items()})
    if "model_" in modules:
        estimator.model_ = estimator._network()
        store.fill(estimator.model_, modules["model_"], kind.__name__)
        estimator.model_.eval()
    if hasattr(estimator, "y_"):
        estimator.model_ = estimator._remembered()
    return estimator


def _scaler(mean_: np.ndarray, scale_: np.ndarray) -> StandardScaler:
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_, scaler.var_, scaler.n_features_in_ = mean_, scale_, scale_**2, len(mean_)
    return scaler
