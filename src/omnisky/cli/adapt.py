"""`omnisky fit` and `omnisky predict`: a few labels, a model, answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

Names = Literal[
    "knn",
    "linear",
    "mlp",
    "mixture",
    "quantiles",
    "mean",
    "attentive",
    "attentive-mixture",
    "attentive-quantiles",
    "lora",
    "lora-mixture",
    "full",
]


def fit(
    labels: Path,
    *edits: str,
    data: str,
    target: str,
    out: Path,
    base: str = "omnisky-nano",
    adaptation: Names = "linear",
    part: str | None = None,
    test: float = 0.0,
    calibrate: float = 0.0,
    coverage: float = 0.9,
    by: str | None = None,
    cache: Path | None = None,
    json: bool = False,
) -> None:
    """Adapt a model to labels: omnisky fit labels.csv --data galaxies/ --target class --adaptation knn --out mine.

    Words and whole numbers are classes, decimal numbers are numbers.

    Parameters
    ----------
    labels
        A table with a column of object ids and one of labels: .csv, .parquet, VOTable, FITS.
    edits
        Settings of the adaptation as key=value: k=5, steps=500, rank=4.
    data
        What was seen of these objects: a folder, file or address that `omnisky.read` opens, or an embedding.
    target
        The column of labels.
    out
        The folder of the fitted model, for `omnisky predict`.
    base
        A shipped model, a folder, or a Hugging Face repository.
    adaptation
        knn, linear, mlp on embeddings; mixture, quantiles: with posteriors; mean, attentive: on all tokens; lora, full:
        the model itself learns.
    part
        The one part to read, where there are several: image, spectrum.
    test
        A share of the objects, whole cells of sky, that is kept from learning and scored at the end.
    calibrate
        Another such share, from which is learnt how far answers may be trusted: `omnisky predict` then tells chances
        that are frequencies, or of numbers `low` and `high`.
    coverage
        How often the true number shall lie between them.
    by
        A column of the objects, in each quarter of which it shall.
    cache
        A folder to keep embeddings in, by their signature.
    json
        Print one JSON object instead of a table.
    """
    from json import dumps

    import numpy as np

    from omnisky.adapt import adaptations as kinds
    from omnisky.adapt.answers import read_labels
    from omnisky.adapt.finetuned import FineTunedModel
    from omnisky.adapt.rows import Rows
    from omnisky.errors import BadValue
    from omnisky.train.config import edit
    from omnisky.train.devices import keep_memory
    from omnisky.watch import counting_bar, show_table

    keep_memory()
    known: dict[str, Any] = {
        "knn": kinds.KNN,
        "linear": kinds.Linear,
        "mlp": kinds.MLP,
        "mixture": kinds.MixtureDensity,
        "quantiles": kinds.QuantileRegression,
        "mean": kinds.MeanPooling,
        "attentive": kinds.AttentivePooling,
        "attentive-mixture": kinds.AttentiveMixture,
        "attentive-quantiles": kinds.AttentiveQuantileRegression,
        "lora": kinds.LoRA,
        "lora-mixture": kinds.LoRAMixture,
        "full": kinds.FullFineTuning,
    }
    plan = edit(known[adaptation](), edits)
    if by is not None and not calibrate:
        raise BadValue("--by", saw="no --calibrate", want="a share of the objects to calibrate on")
    rows, y = Rows.of(data).labelled(read_labels(labels, target))

    def apart(among: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        away = rows.take(among).aside(share, 1, None) if share else np.zeros(len(among), dtype=bool)
        return among[~away], among[away]

    learn, judge = apart(np.arange(len(rows)), test)
    learn, held = apart(learn, calibrate)
    model = FineTunedModel(base, plan, part=part, cache=cache)
    with counting_bar("fit") as watch:
        model.fit(rows.take(learn), y[learn], watch=watch)
    if len(held):
        model.calibrate(rows.take(held), y[held], coverage=coverage, by=by, leaky=True)
    model.save(out)
    told: dict[str, Any] = {"base": base, "adaptation": adaptation, "target": target, "objects": len(learn)}
    told |= {"put aside to stop": model.judged_, "calibrated on": len(held), "out": str(out)}
    if len(judge):
        told |= {"tested on": len(judge)} | _scores(model, rows.take(judge), y[judge])
    if json:
        print(dumps(told, ensure_ascii=False))
    else:
        show_table(("", ""), [(name, str(value)) for name, value in told.items()])


def _scores(model: Any, rows: Any, y: Any) -> dict[str, float]:
    """Of objects apart by construction, but for finer cells."""
    import numpy as np

    from omnisky.adapt.score import coverage

    found = {"accuracy" if hasattr(model, "classes_") else "R²": model.score(rows, y, leaky=True)}
    if model.tells_intervals_:  # infinite where there were too few objects to tell
        found["covered"] = coverage(y, *np.nan_to_num(model.predict_interval(rows)).T)
    told = {name: round(score.value, 4) for name, score in found.items()}
    return told | {f"{name} error": round(score.error, 4) for name, score in found.items()}


def predict(
    model: Path,
    data: str,
    *,
    out: Path,
    cache: Path | None = None,
    json: bool = False,
) -> None:
    """Answer for other objects: omnisky predict mine/ others/ --out answers.parquet.

    Parameters
    ----------
    model
        A folder of `omnisky fit`.
    data
        A folder, file or address that `omnisky.read` opens, or an embedding of the same base.
    out
        The table, .parquet or .csv: ids, positions, answers, and the chance of each class or the posterior's quantiles.
    cache
        A folder to keep embeddings in, by their signature.
    json
        Print one JSON line an object, instead of what was written.
    """
    from json import dumps

    from omnisky.adapt.answers import answers, write
    from omnisky.adapt.finetuned import FineTunedModel
    from omnisky.train.devices import keep_memory
    from omnisky.watch import counting_bar

    keep_memory()
    fitted = FineTunedModel.load(model, cache=cache)
    with counting_bar("predict") as watch:
        table = answers(fitted, data, watch=watch)
    write(table, out)
    if json:
        for row in table.to_pylist():
            print(dumps({name: None if value != value else value for name, value in row.items()}, ensure_ascii=False))
    else:
        print(f"{out}: {len(table):,} objects; columns {', '.join(table.column_names)}")
