"""Answers of a fine-tuned model as a table, and labels out of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from omnisky.adapt.finetuned import FineTunedModel
from omnisky.adapt.learn import Watch
from omnisky.adapt.rows import Rows
from omnisky.errors import BadValue
from omnisky.observe.tables import read_table
from omnisky.storage import atomic

SHARES = {"q16": 0.16, "q50": 0.5, "q84": 0.84}
"""columns of a posterior: the median, and the ends of the central 68 %"""


def read_labels(path: str | Path, target: str) -> dict[str, Any]:
    """{object id: label} of a table (.csv, .parquet, VOTable, FITS) with a column of ids.

    Raises MissingModality (no such column), BadValue (an id comes twice), CorruptFile.
    """
    seen = read_table(path, ra=None, dec=None, columns=[target])
    column = seen["scalars"][target] if "scalars" in seen else seen["labels"].columns[target]
    found = dict(zip(seen.object_id.tolist(), np.asarray(column).tolist(), strict=True))
    if len(found) < len(seen):
        raise BadValue(f"{path}: object ids", saw=f"{len(seen) - len(found)} that come twice", want="each once")
    return found


def answers(model: FineTunedModel, x: Any, *, watch: Watch | None = None) -> pa.Table:
    """object_id, ra, dec, `prediction`; of classes the chance of each, of posteriors q16, q50 and q84.

    Of numbers that were calibrated also `low` and `high`, where that asks for nothing but a column of the objects.
    Raises BadValue for answers that are no table: maps, or objects without ids.
    """
    rows = Rows.of(x)
    if rows.places is None:
        raise BadValue("a table of answers", saw="x without ids", want="observations or an embedding")
    columns: dict[str, Any] = {"object_id": pa.array(rows.places.object_id.tolist(), pa.string())}
    columns |= {"ra": rows.places.ra, "dec": rows.places.dec}
    said: Any = None
    if hasattr(model, "classes_"):
        chance = model.predict_proba(rows, watch=watch)
        columns["prediction"] = model.classes_[chance.argmax(1)]
        columns |= {f"chance_{name}": chance[:, i] for i, name in enumerate(model.classes_.tolist())}
    elif hasattr(model.estimator_, "predict_posterior"):
        said = model.predict_posterior(rows, watch=watch)
        columns["prediction"] = said.mean()
        columns |= {name: said.quantile(share) for name, share in SHARES.items()}
    else:
        columns["prediction"] = said = model.predict(rows, watch=watch)
        if said.ndim > 1:
            raise BadValue("a table of answers", saw=f"answers {said.shape}", want="one an object")
    if model.tells_intervals_:
        columns["low"], columns["high"] = model.predict_interval(rows, said=said).T
    return pa.table(columns).replace_schema_metadata({"omnisky_signature": model.signature_})


def write(table: pa.Table, path: str | Path) -> Path:
    """As .parquet or .csv, whole or not at all. Raises BadValue for another ending, StorageError."""
    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise BadValue("out", saw=path.name, want=".parquet or .csv")
    with atomic(path) as draft:
        (pq.write_table if path.suffix == ".parquet" else csv.write_csv)(table, draft)
    return path
