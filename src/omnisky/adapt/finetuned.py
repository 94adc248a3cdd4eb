"""The one call: a model, an adaptation and a few labels → answers.

    FineTunedModel("omnisky-nano", AttentivePooling()).fit(galaxies, classes).predict(others)

A fitted one is a folder:

    config.json               the base and its signature, how it is read, the adaptation, what the estimator is
    adaptation.safetensors    what was learnt, and hashes of whom from
    adapter/                  low-rank updates, in the format of peft (LoRA)
    tuned.safetensors         all weights (FullFineTuning)
    base/                     the base itself, where it has no name to load it by
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from omnisky.adapt import adaptations, lora, stored
from omnisky.adapt.adaptations import Adaptation, Linear, OnVectors
from omnisky.adapt.conformal import ConformalQuantiles, Mondrian, SplitConformal, Temperature
from omnisky.adapt.frozen import Frozen
from omnisky.adapt.learn import Watch
from omnisky.adapt.neural import grid
from omnisky.adapt.rows import Rows, Seen
from omnisky.adapt.score import Score, accuracy, r2
from omnisky.embed.vectors import reader
from omnisky.errors import BadValue, ConfigError, CorruptFile, ProvenanceError
from omnisky.generate.posterior import Posterior
from omnisky.model import store
from omnisky.model.adapted import Adapted
from omnisky.storage import atomic

ADAPTATIONS: dict[str, type] = {
    name: kind
    for name, kind in vars(adaptations).items()
    if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__") and kind.__module__ == adaptations.__name__
}
"""those that a folder may name"""
QUARTERS = (0.25, 0.5, 0.75)
CALIBRATIONS = {kind.__name__: kind for kind in (SplitConformal, ConformalQuantiles, Mondrian, Temperature)}


class FineTunedModel(BaseEstimator):
    """A model adapted to one answer.

    `base` is what `omnisky.load` loads, or a model; `adaptation` one of `adapt.adaptations`, or any estimator of
    scikit-learn, which is given the model's vectors. `part` is the one part to read (an AstroCLIP wants to know),
    `blocks` how deep. With a folder `cache`, what the frozen model says is kept there, by its signature.

    Words, true and false, and whole numbers are classes; decimal numbers are numbers. A share `judge` of the objects,
    whole cells of sky where positions are known, is put aside while learning and decides when to stop.
    """

    def __init__(
        self,
        base: str | Path | nn.Module = "omnisky-nano",
        adaptation: Any = Linear(),  # noqa: B008 - frozen
        *,
        part: str | None = None,
        blocks: int | None = None,
        precision: str = "fp32",
        cache: str | Path | None = None,
        judge: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.base, self.adaptation, self.part, self.blocks = base, adaptation, part, blocks
        self.precision, self.cache, self.judge, self.seed = precision, cache, judge, seed

    # --- the verbs ---

    def fit(self, x: Any, y: Any, *, folder: str | Path | None = None, watch: Watch | None = None) -> FineTunedModel:
        """Learn y, one label an object or {object id: label}, of x, in any form that `Rows.of` knows.

        `folder` keeps the run of a fine-tuning, so that a killed one goes on. Raises ShapeMismatch, BadPixels for NaN
        labels, BadValue for one class, fewer samples than neighbours, or ids that do not match.
        """
        rows, labels = Rows.of(x).labelled(y)
        if not 0 <= self.judge < 1:
            raise BadValue("judge", saw=self.judge, want="0 … 1, a share")
        plan, numeric = self._plan(), labels.dtype.kind == "f"
        self.estimator_: Any = plan.regressor() if numeric else plan.classifier()
        kinds = labels if not numeric and labels.ndim == 1 else None
        if kinds is not None and len(np.unique(kinds)) < 2:
            raise BadValue("one class", saw=str(labels[:1]), want="labels of at least two classes")
        away = rows.aside(self.judge, self.seed, kinds) if self.judge else np.zeros(len(rows), dtype=bool)
        frozen = self._frozen()
        given = plan.read(frozen, rows, watch)
        more = {"judge": away, "watch": watch, "folder": None if folder is None else Path(folder)}
        takes = inspect.signature(self.estimator_.fit).parameters
        more = {name: value for name, value in more.items() if name in takes}
        self.estimator_.fit(**_called(given, takes), y=labels, **more)
        self.signature_, self.seen_, self.judged_ = frozen.signature, Seen.of(rows), int(away.sum())
        self.edges_ = grid(labels) if numeric and labels.ndim == 1 else None
        self.calibration_: Any = None
        if hasattr(self.estimator_, "classes_"):
            self.classes_ = self.estimator_.classes_
        return self

    def predict(self, x: Any, *, watch: Watch | None = None) -> np.ndarray:
        """Classes, numbers, or maps."""
        return self._ask("predict", x, watch)

    def predict_proba(self, x: Any, *, watch: Watch | None = None) -> np.ndarray:
        """The chance of each class, in the order of `classes_`. Raises BadValue where numbers were learnt."""
        chance = self._ask("predict_proba", x, watch)
        return self.calibration_.chance(chance) if isinstance(self.calibration_, Temperature) else chance

    def predict_posterior(self, x: Any, edges: np.ndarray | None = None, *, watch: Watch | None = None) -> Posterior:
        """How likely each bin is; 300 bins over the range of the labels, if no edges are given.

        Raises BadValue for an adaptation that tells single numbers: MixtureDensity and its like do more.
        """
        edges = self.edges_ if edges is None else edges
        return self._ask("predict_posterior", x, watch, edges=edges)

    def score(self, x: Any, y: Any, *, leaky: bool = False) -> Score:
        """Accuracy of classes, R² of numbers, with its error.

        Raises BadValue where one of these objects was learnt from, or lies in a cell of sky (0.9°) with one that was;
        `leaky` allows it. Rows of an array are the same object where all numbers are; of tokens nothing can be told.
        """
        rows, labels = self._apart(x, y, leaky)
        said = self.predict(rows)
        return r2(labels.astype(float), said) if self.edges_ is not None else accuracy(labels, said)

    def calibrate(
        self,
        x: Any,
        y: Any,
        *,
        coverage: float = 0.9,
        by: str | np.ndarray | None = None,
        edges: Sequence[float] | None = None,
        leaky: bool = False,
    ) -> FineTunedModel:
        """Learn from other objects how far answers may be trusted; they count as learnt from.

        Of classes, `predict_proba` becomes frequencies (temperature scaling); of numbers, `predict_interval` holds the
        share `coverage` (conformal: of posteriors their own intervals are moved). It does so in each bin of `by`, a
        column of the objects' scalars or a number for each labelled object, cut at `edges` or else into quarters.
        Raises as `score` and `fit`, MissingModality for a column that is not there, BadValue for an empty bin.
        """
        rows, labels = self._apart(x, y, leaky)
        if by is None and edges is not None:
            raise BadValue("edges", saw="no column that they cut", want="by=, a name or numbers")
        found: SplitConformal | ConformalQuantiles | Mondrian | Temperature
        if self.edges_ is None:
            if by is not None:
                raise BadValue("bins", saw="classes", want="numbers", hint="leave out by=")
            if strange := sorted(set(labels.tolist()) - set(self.classes_.tolist())):
                raise BadValue("labels", saw=strange, want=self.classes_.tolist())
            chance = self._ask("predict_proba", rows, None)
            found = Temperature.of(chance, np.searchsorted(self.classes_, labels))
        elif by is not None:
            column, name = rows.column(by), by if isinstance(by, str) else ""
            cuts = np.nanquantile(column, QUARTERS).tolist() if edges is None else edges
            found = Mondrian.of(self._told(rows, coverage, None), labels, column, cuts, coverage, name)
        elif hasattr(self.estimator_, "predict_posterior"):
            found = ConformalQuantiles.of(self._told(rows, coverage, None), labels, coverage)
        else:
            found = SplitConformal.of(self._told(rows, coverage, None), labels, coverage)
        self.calibration_, self.seen_ = found, self.seen_ | Seen.of(rows)
        return self

    @property
    def tells_intervals_(self) -> bool:
        """Whether `predict_interval` needs nothing but objects."""
        found = self.calibration_
        return bool(found.column) if isinstance(found, Mondrian) else not isinstance(found, Temperature | None)

    def predict_interval(
        self,
        x: Any,
        *,
        by: np.ndarray | None = None,
        said: Posterior | np.ndarray | None = None,
        watch: Watch | None = None,
    ) -> Float[np.ndarray, "object 2"]:
        """Where the number lies, (object, 2), as often as `calibrate` was told.

        `by` are the numbers that were given there; a column is found by its name. `said` is what `predict_posterior`
        said of x, or `predict` where there is none: the model is not asked again. Raises BadValue before `calibrate`,
        and where bins and `by` do not go together.
        """
        check_is_fitted(self)
        found, rows = self.calibration_, Rows.of(x)
        if found is None or isinstance(found, Temperature):
            saw = type(found).__name__
            raise BadValue("no intervals", saw=saw, want="numbers, calibrated", hint="calibrate(x, y) first")
        told = self._told(rows, found.coverage, watch, said)
        if not isinstance(found, Mondrian):
            if by is not None:
                raise BadValue("by", saw="numbers", want="None: it was calibrated without bins")
            return found.interval(told)
        if by is None and not found.column:
            raise BadValue("by", saw=None, want="a number for each object: it was calibrated in bins of such")
        return found.interval(told, rows.column(found.column if by is None else by))

    # --- on disk ---

    def save(self, folder: str | Path) -> Path:
        """Write the folder, whole or not at all; nothing in it is executed. Raises ConfigError, StorageError."""
        check_is_fitted(self)
        plan = self._plan()
        if ADAPTATIONS.get(type(plan).__name__) is not type(plan) or isinstance(plan, OnVectors):
            saw = type(self.estimator_).__name__
            raise ConfigError("cannot be saved without pickle", saw=saw, want=tuple(ADAPTATIONS))
        told, tensors = stored.packed(self.estimator_)
        tensors |= {"seen/ids": torch.from_numpy(self.seen_.ids), "seen/cells": torch.from_numpy(self.seen_.cells)}
        named = not isinstance(self.base, nn.Module)
        settings = {"part": self.part, "blocks": self.blocks, "precision": self.precision}
        told |= {"omnisky": 1, "base": str(self.base) if named else None, "signature": self.signature_}
        told |= settings | {"judge": self.judge, "seed": self.seed, "judged": self.judged_}
        told |= {"adaptation": {"kind": type(plan).__name__, **vars(plan)}}
        told |= {"edges": None if self.edges_ is None else self.edges_.tolist()}
        found = self.calibration_
        told |= {"calibration": None if found is None else {"kind": type(found).__name__, **vars(found)}}
        with atomic(folder) as draft:
            draft.mkdir()
            if not named:
                store.save(self._model(), draft / "base")
            self._save_network(draft, told, tensors)
            store.write_weights(tensors, draft / "adaptation.safetensors")
            (draft / "config.json").write_text(json.dumps(told, indent=1) + "\n")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> FineTunedModel:
        """What `save` wrote. Raises CorruptFile, ConfigError, ProvenanceError where the base is another one now."""
        folder = Path(folder)
        try:
            told = json.loads((folder / "config.json").read_text())
            plan = dict(told["adaptation"])
            settings = {name: told[name] for name in ("part", "blocks", "precision", "judge", "seed")}
            kind = ADAPTATIONS[plan.pop("kind")]
            adaptation = kind(**_tuples(plan))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptFile(f"{folder}/config.json: {error!r}", want="what FineTunedModel.save writes") from error
        base = told["base"] if told["base"] is not None else store.load(folder / "base")
        model = cls(base, adaptation, cache=cache, **settings)
        if model._frozen().signature != told["signature"]:
            saw, want = model._frozen().signature, told["signature"]
            raise ProvenanceError(f"{folder} was fitted on another base", saw=saw, want=want, hint="fit it anew")
        tensors = store.read_weights(folder / "adaptation.safetensors")
        model.seen_ = Seen(tensors.pop("seen/ids").numpy(), tensors.pop("seen/cells").numpy())
        own = {name: t for name, t in tensors.items() if not name.startswith("tuned/")}
        model.estimator_ = stored.unpacked(told, own)
        if "network" in told:
            model._load_network(folder, told, tensors)
        model.signature_, model.judged_ = told["signature"], told["judged"]
        model.edges_ = None if told["edges"] is None else np.asarray(told["edges"])
        found = told["calibration"]
        model.calibration_ = found and CALIBRATIONS[found.pop("kind")](**_tuples(found))
        if hasattr(model.estimator_, "classes_"):
            model.classes_ = model.estimator_.classes_
        return model

    def _save_network(self, draft: Path, told: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Of a fine-tuned model: its head among the tensors, and its updates or all its weights beside them."""
        network = getattr(self.estimator_, "model_", None)
        if not isinstance(network, Adapted):
            return
        told["network"] = store.pack(network.config)
        for name in ("norm", "answers"):
            weights = getattr(network, name).state_dict()
            tensors |= {f"tuned/{name}.{key}": t.detach().cpu().contiguous() for key, t in weights.items()}
        if network.config.lora_rank:
            lora.save(network.base, draft / "adapter", base=told["base"] or "base")
        else:
            weights = {name: t.detach().cpu().contiguous() for name, t in network.base.state_dict().items()}
            store.write_weights(weights, draft / "tuned.safetensors")

    def _load_network(self, folder: Path, told: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        config, base = store.unpack(told["network"]), self._model()
        network = config.build()
        head = {name.removeprefix("tuned/"): t for name, t in tensors.items() if name.startswith("tuned/")}
        if config.lora_rank:
            updated_base = copy.deepcopy(base)
            lora.load(updated_base, folder / "adapter")
            updated = updated_base.state_dict()
        else:
            updated = store.read_weights(folder / "tuned.safetensors")
        store.fill(network, head | {f"base.{name}": t for name, t in updated.items()}, folder)
        network.codecs = network.base.codecs = base.codecs
        self.estimator_.model_ = network.eval()

    # --- inside ---

    def _apart(self, x: Any, y: Any, leaky: bool) -> tuple[Rows, np.ndarray]:
        check_is_fitted(self)
        rows, labels = Rows.of(x).labelled(y)
        if labels.ndim > 1:
            raise BadValue("one label an object", saw=f"labels {labels.shape}", hint="adapt.score for maps and tables")
        if not leaky:
            self.seen_.demand_apart(rows)
        return rows, labels

    def _ask(self, verb: str, x: Any, watch: Watch | None, **more: Any) -> Any:
        check_is_fitted(self)
        if not hasattr(self.estimator_, verb):
            saw = type(self.estimator_).__name__
            raise BadValue(f"no {verb}", saw=saw, want="an adaptation that tells more", hint="adapt.adaptations")
        given = self._plan().read(self._frozen(), Rows.of(x), watch)
        call = getattr(self.estimator_, verb)
        return call(**_called(given, inspect.signature(call).parameters), **more)

    def _told(
        self, rows: Rows, coverage: float, watch: Watch | None, said: Posterior | np.ndarray | None = None
    ) -> np.ndarray:
        """Numbers; of posteriors, their own intervals."""
        if said is None:
            asks = self.predict_posterior if hasattr(self.estimator_, "predict_posterior") else self.predict
            said = asks(rows, watch=watch)
        return said.interval(coverage) if isinstance(said, Posterior) else said

    def _plan(self) -> Adaptation:
        return self.adaptation if isinstance(self.adaptation, Adaptation) else OnVectors(self.adaptation)

    def _model(self) -> Any:
        if isinstance(self.base, nn.Module):
            return reader(self.base)
        name, loaded = getattr(self, "_loaded", (None, None))
        if loaded is None or name != self.base:
            loaded = reader(store.load(self.base))
            self._loaded = (self.base, loaded)
        return loaded

    def _frozen(self) -> Frozen:
        cache = None if self.cache is None else Path(self.cache)
        return Frozen(self._model(), self.part, self.blocks, self.precision, cache)


def _called(given: dict[str, Any], takes: Any) -> dict[str, Any]:
    """`x` by the name that the estimator gives it: scikit-learn's own call it X."""
    return {"X" if name == "x" and "X" in takes else name: value for name, value in given.items()}


def _tuples(told: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
