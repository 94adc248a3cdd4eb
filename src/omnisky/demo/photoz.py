"""What `omnisky evaluate photoz` found, as figures, tables and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from omnisky import plot
from omnisky.demo.any_to_any import POSTERIORS, Drawn, posterior_row
from omnisky.evaluate.photoz import Table

SHOWN = 6


def draw(found: Table, folder: Path) -> Drawn:
    """`folder`/pit.png and posteriors.png, and the tables."""
    some = np.linspace(0, len(found.truth) - 1, min(SHOWN, len(found.truth))).astype(int)
    few = found.posteriors.take(np.argsort(found.truth)[some])
    truth = np.sort(found.truth)[some]
    figures = {
        "posteriors": plot.posteriors(few.edges, {"magnitudes": few.pdf}, truth, folder / "posteriors.png"),
        "pit": plot.pit({"magnitudes": found.told.pit}, folder / "pit.png"),
    }
    lines = [
        (name, *(f"{one[key].value:.4f} ± {one[key].error:.4f}" for key in ("sigma_nmad", "outliers", "bias", "crps")))
        for name, one in {"aion-photoz": vars(found.told), **found.yardsticks}.items()
    ]
    headers = ("method", "σ_NMAD", "outliers", "bias", "CRPS (of a number: mean |Δz|)")
    words = (
        f"{found.learnt:,} galaxies learnt, {found.told.objects:,} tested; boosted trees less the model: "
        f"mean |Δz|/(1+z) {found.ahead.value:.5f} ± {found.ahead.error:.5f}, "
        f"σ_NMAD {found.ahead_nmad.value:.5f} ± {found.ahead_nmad.error:.5f}"
    )
    return Drawn(figures, ((headers, tuple(lines)), (POSTERIORS, (posterior_row(found.told),))), words)


def state(found: Table) -> dict[str, Any]:
    """All numbers, for JSON."""
    return {
        "learnt": found.learnt,
        "aion-photoz": found.told.state(),
        **{name: {key: [s.value, s.error] for key, s in one.items()} for name, one in found.yardsticks.items()},
        "ahead": [found.ahead.value, found.ahead.error],
        "ahead_nmad": [found.ahead_nmad.value, found.ahead_nmad.error],
    }
