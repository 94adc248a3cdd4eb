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
    rows, y = Rows.of(data).labelled(read_labels(labels, target))
    away = rows.aside(test, 1, None) if test else np.zeros(len(rows), dtype=bool)
    learn, judge = np.flatnonzero(~away), np.flatnonzero(away)
    model = FineTunedModel(base, plan, part=part, cache=cache)
    with counting_bar("fit") as watch:
        model.fit(rows.take(learn), y[learn], watch=watch)
    model.save(out)
    told: dict[str, Any] = {"base": base, "adaptation": adaptation, "target": target, "objects": len(learn)}
    told |= {"put aside to stop": model.judged_, "out": str(out)}
    if len(judge):
        score = model.score(rows.take(judge), y[judge], leaky=True)  # apart by construction, but for finer cells
        name = "accuracy" if hasattr(model, "classes_") else "R²"
        told |= {"tested on": len(judge), name: round(score.value, 4), f"{name} error": round(score.error, 4)}
    if json:
        print(dumps(told, ensure_ascii=False))
    else:
        show_table(("", ""), [(name, str(value)) for name, value in told.items()])


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
