"""What `omnisky evaluate aion` found, as figures, tables, JSON and a page of the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnisky import plot
from omnisky.adapt.score import Score
from omnisky.evaluate.aion import Table
from omnisky.evaluate.aion_probes import PROPERTIES
from omnisky.evaluate.posteriors import Told

Lines = tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]
"""headers and rows"""


@dataclass(frozen=True)
class Drawn:
    """Figures, their numbers, and what they say in words."""

    figures: dict[str, Path]
    tables: tuple[Lines, ...]
    words: str


POSTERIORS = (
    "inputs",
    "objects",
    "σ_NMAD",
    "outliers",
    "bias",
    "CRPS",
    "half width",
    "T",
    "PIT distance",
    "68 %",
    "95 %",
)


def posterior_row(one: Told) -> tuple[str, ...]:
    """Of a table of posteriors; coverage with the temperature, and without in brackets."""
    covered = [f"{one.covered[f'{s}%']} ({one.covered[f'{s}% before'].value:.3f})" for s in (68, 95)]
    sharp = f"{one.sigma_nmad.value:.4f} ± {one.sigma_nmad.error:.4f}", str(one.outliers)
    rest = (f"{score.value:.4f} ± {score.error:.4f}" for score in (one.bias, one.crps, one.width))
    return (one.inputs, f"{one.objects:,}", *sharp, *rest, f"{one.temperature:.2f}", str(one.pit_distance), *covered)


def draw(found: Table, folder: Path) -> Drawn:
    """The figures into `folder`, and the tables."""
    first = next(iter(found.posteriors.values()))
    density = {name: one.pdf for name, one in found.posteriors.items()}
    figures = {
        "posteriors": plot.posteriors(first.edges, density, found.redshift_of_shown, folder / "posteriors.png"),
        "pit": plot.pit({one.inputs: one.pit for one in found.redshifts}, folder / "pit.png"),
    }
    for i, one in enumerate(found.spectra):
        path = folder / f"spectra-{i}.png"
        figures[f"spectra, {one.way}"] = plot.before_after(*one.shown, path, one.wavelength_aa)
    for i, other in enumerate(found.images):
        figures[f"images, {other.way}"] = plot.before_after(*other.shown, folder / f"images-{i}.png")
    held = sum(claim.holds for claim in found.claims)
    words = f"{found.learnt:,} objects learnt; {held} of {len(found.claims)} claims hold"
    return Drawn(figures, _tables(found), words)


def _tables(found: Table) -> tuple[Lines, ...]:
    spectra = tuple(
        (
            *(one.way, f"{one.objects:,}", str(one.r2), str(one.gain), str(one.chi2), str(one.chi2_codec)),
            *(_or_dash(score) for score in (one.lines, one.lines_other, one.lines_codec)),
            str(one.bright),
        )
        for one in found.spectra
    )
    images = tuple(
        (one.way, band, f"{one.objects:,}", str(score), str(one.flux_codec[band]))
        for one in found.images
        for band, score in one.flux.items()
    )
    probed = tuple(
        (
            one.inputs,
            name,
            f"{one.learnt:,}",
            f"{one.tested:,}",
            str(one.mean[name]),
            str(one.attentive[name]),
            str(one.gain[name]),
        )
        for one in found.probed
        for name in PROPERTIES
    )
    claims = tuple((c.words, str(c.found), c.wanted, "holds" if c.holds else "does not hold") for c in found.claims)
    drawn = ("generated spectra", "objects", "R²", "R² over another's", "χ² a pixel", "the codec's")
    at_lines = ("Hα in place", "another's", "the codec's", "bright")
    return (
        (POSTERIORS, tuple(posterior_row(one) for one in found.redshifts)),
        ((*drawn, *at_lines), spectra),
        (("translated images", "band", "objects", "flux / true − 1, median", "the codec's"), images),
        (("probe of", "property", "learnt from", "asked of", "R² of the mean", "with attention", "difference"), probed),
        (("claim", "found", "wanted", ""), claims),
    )


def _or_dash(score: Score | None) -> str:
    return "–" if score is None else str(score)


def state(found: Table) -> dict[str, Any]:
    """All numbers, for JSON."""

    def two(score: Score | None) -> list[float] | None:
        return None if score is None else [score.value, score.error]

    spectra = ("r2", "gain", "chi2", "chi2_codec", "lines", "lines_other", "lines_codec")
    return {
        "learnt": found.learnt,
        "redshifts": [one.state() for one in found.redshifts],
        "spectra": {
            one.way: {name: two(getattr(one, name)) for name in spectra}
            | {"objects": one.objects, "bright": one.bright}
            for one in found.spectra
        },
        "images": {
            one.way: {"median": two(one.median), "flux": {band: two(score) for band, score in one.flux.items()}}
            for one in found.images
        },
        "probes": {
            one.inputs: {name: [two(one.mean[name]), two(one.attentive[name])] for name in PROPERTIES}
            for one in found.probed
        },
        "claims": [
            {"claim": c.words, "found": two(c.found), "wanted": c.wanted, "holds": c.holds} for c in found.claims
        ],
    }


def page(drawn: Drawn, title: str, head: str) -> str:
    """A page of the documentation: the tables as Markdown, the figures beside it."""
    tables = "\n\n".join(_markdown(headers, rows) for headers, rows in drawn.tables)
    pictures = "\n\n".join(f"![{name}]({file.name})" for name, file in drawn.figures.items())
    return f"# {title}\n\n{head}\n\n{drawn.words[0].upper()}{drawn.words[1:]}.\n\n{tables}\n\n{pictures}\n"


def _markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


AION_HEAD = """\
`omnisky evaluate aion` makes a sky in all forty modalities, trains codecs and a small any-to-any model on it, and
asks the model about objects that nobody has learnt from. Each score ± its bootstrap error over objects; these
are two halves, each scored with the temperature fitted on the other; coverage without it in brackets. Probes are
asked of both. R² of spectra is that of shapes, and 0 is the mean spectrum; χ² is against what was observed, noise and
all. What is generated is the mean of eight draws in one step at temperature 0.7, spectra at their median brightness.
No object that was learnt from has both HSC and DESI."""
