"""A page that shows the mock sky beside real catalogues: what it looks like, how it is distributed, where it is wrong.

    python dev/mock_page.py ../shared/data runs/mock-page [--galaxies 1500] [--docs docs]

Writes index.html and its figures, with --docs mock-sky.md and mock-catalogues.png, too. Rows marked "tuned" are of
what was seen while the population was made to resemble it.
"""

import argparse
from itertools import groupby
from pathlib import Path

import codecs_page
import numpy as np
from mock_compare import HEADERS, Pair, mock, nearby, pairs, table
from PIL import Image

from omnisky.demo.mock import mock_sky
from omnisky.demo.story import Story
from omnisky.observe.mock import cosmos
from omnisky.page import Section, Table, write_page
from omnisky.plot.style import ACCENT, CLASSES, SOFT, sheet

REAL, MOCK = CLASSES[0], ACCENT


def histograms(shown: list[Pair], path: Path) -> Path:
    """Shares of all objects, real filled, mock as a line; what is off the axis counts too."""
    columns = min(5, len(shown))
    rows = -(-len(shown) // columns)
    with sheet(path, 2.6 * columns, 2.25 * rows + 0.45) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        for axes, pair in zip(grid.flat, shown, strict=False):
            bins = np.linspace(*pair.span, 31)
            for values, look in (
                (pair.real, dict(color=REAL, alpha=0.45)),
                (pair.mock, dict(color=MOCK, histtype="step", linewidth=1.4)),
            ):
                axes.hist(values, bins, weights=np.full(len(values), 1 / len(values)), **look)
            axes.set_title(pair.quantity + (" · tuned" if pair.tuned else ""), size=9, pad=4)
            axes.set(yticks=[], xlim=pair.span)
            axes.tick_params(labelsize=7)
            axes.text(0.98, 0.93, f"KS {pair.distance():.2f}", color=SOFT, size=7, ha="right", transform=axes.transAxes)
        figure.text(
            0.01, 1 - 0.16 / figure.get_figheight(), f"{shown[0].catalogue}: real", color=REAL, size=9, va="center"
        )
        figure.text(0.99, 1 - 0.16 / figure.get_figheight(), "mock", color=MOCK, size=9, va="center", ha="right")
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.32 / figure.get_figheight()))
    return path


def clouds(data: Path, number: int, path: Path) -> Path:
    """Two quantities at once: colour and brightness, size and mass, star formation and mass, line ratios."""
    bright, middle, near = mock(17.77, number), mock(20.0, number), nearby(4 * number)
    main = table(data / "catalogs/sdss_mgs_photoz_test.parquet")
    local = table(data / "catalogs/resolve_eco_emission.parquet")
    desi = table(data / "desi_sv3_bgs_ew/desi_sv3_bgs_ew.parquet")
    kpc = local["r50"] * cosmos.kpc_per_arcsec(local["cz"] / 299792.458)
    with np.errstate(all="ignore"), sheet(path, 12, 7.2) as figure:
        grid = figure.subplots(2, 3)
        real, ours = dict(s=2, color=REAL, alpha=0.35, linewidths=0), dict(s=3, color=MOCK, alpha=0.7, linewidths=0)
        _cloud(grid[0, 0], (main["r"], main["g"] - main["r"]), (bright["r"], bright["g"] - bright["r"]), real, ours)
        grid[0, 0].set(
            title="SDSS main galaxies: red and blue", xlabel="r", ylabel="g − r", xlim=(14, 17.8), ylim=(0, 1.5)
        )
        _cloud(
            grid[0, 1], (main["zs"], main["g"] - main["r"]), (bright["redshift"], bright["g"] - bright["r"]), real, ours
        )
        grid[0, 1].set(title="the red sequence moves with z", xlabel="z", ylabel="g − r", xlim=(0, 0.25), ylim=(0, 1.5))
        _cloud(grid[0, 2], (local["logmstar"], kpc), (near["log_mass"], near["half_light_kpc"]), real, ours)
        grid[0, 2].set(yscale="log", xlim=(8, 11.5), ylim=(0.5, 25))
        grid[0, 2].set(title="RESOLVE and ECO: size and mass", xlabel="log M / M☉", ylabel="half-light radius / kpc")
        sizes = grid[1, 0]
        late = middle["log_ssfr"] > -11
        for kind, tint in ((late, CLASSES[0]), (~late, CLASSES[1])):
            sizes.scatter(middle["log_mass"][kind], middle["half_light_kpc"][kind], s=3, color=tint, linewidths=0)
        mass = np.linspace(9.5, 11.5)
        # van der Wel et al. 2014, ApJ 788, 28, table 1, z = 0.25: log A 0.86 and 0.60, slopes 0.25 and 0.75.
        sizes.plot(mass, 10 ** (0.86 + 0.25 * (mass - 10.699)), color=CLASSES[0])
        sizes.plot(mass[mass > 10.3], 10 ** (0.60 + 0.75 * (mass[mass > 10.3] - 10.699)), color=CLASSES[1])
        sizes.set(yscale="log", xlim=(8, 12), ylim=(0.3, 40), title="mock, r < 20; lines: van der Wel et al. 2014")
        sizes.set(xlabel="log M / M☉", ylabel="half-light radius / kpc")
        rate = np.log10(local["sfr_nuv_wise"]) - local["logmstar"]
        _cloud(grid[1, 1], (local["logmstar"], rate), (near["log_mass"], near["log_ssfr"]), real, ours)
        grid[1, 1].set(title="RESOLVE and ECO: star formation", xlabel="log M / M☉", ylabel="log sSFR / yr⁻¹")
        grid[1, 1].set(xlim=(8, 11.5), ylim=(-11.5, -8.5))
        strong = desi["ew_halpha"] > 3, middle["ew_Halpha"] > 3
        _cloud(
            grid[1, 2],
            (
                np.log10(desi["ew_nii_6584"] / desi["ew_halpha"])[strong[0]],
                np.log10(desi["ew_oiii_5007"] / desi["ew_hbeta"])[strong[0]],
            ),
            (
                np.log10(middle["ew_NII_6584"] / middle["ew_Halpha"])[strong[1]],
                np.log10(middle["ew_OIII_5007"] / middle["ew_Hbeta"])[strong[1]],
            ),
            real,
            ours,
        )
        grid[1, 2].set(xlim=(-1.6, 0.5), ylim=(-1.1, 1.1), title="DESI, EW Hα > 3 Å · tuned", xlabel="log [N II] / Hα")
        grid[1, 2].set_ylabel("log [O III] / Hβ")
        for axes in grid.flat:
            axes.title.set_size(10)
            axes.yaxis.set_major_formatter("{x:g}")
        figure.tight_layout()
    return path


def _cloud(axes, there, here, real, ours) -> None:
    few = np.random.default_rng(0).permutation(len(there[0]))[:3000]
    axes.scatter(there[0][few], there[1][few], **real)
    axes.scatter(*here, **ours)


HEAD = """# How real the mock sky is

Written by `python dev/mock_page.py DATA OUT --galaxies {number} --docs docs`: samples of the mock sky and of real
catalogues, cut alike, of {number:,} mock galaxies for each cut. Medians, half of the central 68 % (*scatter*), and
Kolmogorov and Smirnov's distance, the largest difference of cumulative shares; errors by bootstrap of both samples.
The catalogues' own stars say how far zero points and filter curves can be trusted. In the figure real galaxies are
blue, mock ones yellow; in its fourth panel, of mock ones alone, those that form stars are blue.

![the mock sky beside real catalogues](mock-catalogues.png)
"""


def write_docs(groups: dict[str, list[tuple[str, ...]]], number: int, picture: Path, docs: Path) -> None:
    """The page of the documentation, mock-sky.md, and its figure."""
    lines = [HEAD.format(number=number)]
    for title, rows in groups.items():
        lines += [f"## {title}", "", codecs_page.table(HEADERS, rows), ""]
    (docs / "mock-sky.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    with Image.open(picture) as shown:
        shown.convert("RGB").quantize(codecs_page.COLOURS).save(docs / "mock-catalogues.png", optimize=True)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("data", type=Path)
    words.add_argument("out", type=Path)
    words.add_argument("--galaxies", type=int, default=1500)
    words.add_argument("--docs", type=Path, help="the folder of mock-sky.md")
    asked = words.parse_args()
    story = Story(asked.out)
    mock_sky(story)
    lots, every = np.random.default_rng(0), list(pairs(asked.data, asked.galaxies))
    for name, group in groupby(every, lambda pair: pair.catalogue):
        shown = list(group)
        file = "".join(c if c.isalnum() else "-" for c in name)
        picture = histograms(shown, asked.out / f"{file}.png")
        story.sections.append(Section(name, figure=picture, alt=f"histograms of {name}, real and mock"))
    picture = clouds(asked.data, asked.galaxies, asked.out / "clouds.png")
    story.sections.append(Section("Two at a time", figure=picture, alt="scatter plots, real in blue, mock in yellow"))
    groups = {
        title: [pair.row(lots) for pair in every if pair.tuned == tuned]
        for title, tuned in (
            ("Tuned on, or seen while it was tuned", True),
            ("Not looked at while it was tuned", False),
        )
    }
    for title, rows in groups.items():
        for row in rows:
            print(" | ".join(row))
        told = "Scatter is half of the central 68 %; KS is the largest difference of cumulative shares; ± by bootstrap."
        story.sections.append(Section(f"In numbers: {title[0].lower()}{title[1:]}", told, table=Table(HEADERS, rows)))
    if asked.docs is not None:
        write_docs(groups, asked.galaxies, picture, asked.docs)
    facts = {"galaxies in each mock sample": asked.galaxies}
    write_page(
        asked.out,
        "The mock sky beside the real one",
        story.sections,
        facts,
        f"python dev/mock_page.py {asked.data} {asked.out}",
    )


if __name__ == "__main__":
    main()
