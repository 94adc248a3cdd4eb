"""`omnisky evaluate …`: whole comparisons, with error bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from omnisky.cli.claims import everything

app = App(name="evaluate", help="Measure how good models are.")
app.command(everything, name="all")


@app.command
def scaling(data: Path, *, out: Path = Path("runs/scaling"), galaxies: int = 60_000) -> None:
    """Train five sizes on the same galaxies and plot the scaling law. Called again, it goes on.

    Parameters
    ----------
    data
        Labelled galaxies, as for `omnisky demo --data`.
    out
        The folder of the runs and of scaling.png.
    galaxies
        How many each size sees.
    """
    from omnisky.demo import draw_scaling
    from omnisky.evaluate.scaling import law
    from omnisky.observe.read import read
    from omnisky.train.devices import keep_memory
    from omnisky.watch import show_table, training_bars

    keep_memory()
    with training_bars() as watch:
        points = law(read(data), out, galaxies, watch)
    drawn = draw_scaling(points, out / "scaling.png")
    show_table(drawn.headers, drawn.rows)
    print(f"{drawn.figure}: {drawn.words}")


@app.command
def astroclip(*, out: Path = Path("runs/astroclip"), objects: int = 26_000, json: bool = False) -> None:
    """Train a small AstroCLIP on a mock sky, and print the paper's table with error bars. Called again, it goes on.

    Some two hours on two cores, and 9 GB of disk. What is trained: omnisky recipes shows specformer-mini,
    astrodino-mini, astroclip-mini and the yardsticks resnet18, conv-attention and photometry.

    Parameters
    ----------
    out
        The folder of the sky, the runs, the embeddings and the figure.
    objects
        How many galaxies; four fifths are trained on.
    json
        Print one JSON object instead of tables.
    """
    from json import dumps

    from omnisky.demo.pairs import draw_table, state
    from omnisky.evaluate.astroclip import measure
    from omnisky.evaluate.pairs import Pairs, train_all
    from omnisky.observe.mock.pairs import write_pairs
    from omnisky.train.devices import keep_memory
    from omnisky.watch import counting_bar, show_table, training_bars

    keep_memory()
    with counting_bar("mock sky") as count:
        sky = write_pairs(out / "sky", objects, watch=count)
    pairs = Pairs.of(sky)
    with training_bars() as watch:
        trained = train_all(pairs, out, watch)
        table = measure(pairs, trained, out, watch, counting_bar)
    drawn: Any = draw_table(table, out)
    if json:
        print(dumps(state(table), ensure_ascii=False))
        return
    for headers, rows in drawn.tables:
        show_table(headers, rows)
    print(f"{drawn.figure}: {drawn.words}")


@app.command
def aion(
    *,
    out: Path = Path("runs/aion"),
    objects: int = 12_000,
    data: str = "",
    codecs: tuple[Path, ...] = (),
    edits: tuple[str, ...] = (),
    asked: int = 2000,
    drawn: int = 256,
    probed: int = 2000,
    workers: int = 2,
    json: bool = False,
) -> None:
    """Train a small any-to-any model on a mock sky, and ask it about objects it has not seen. Called again, it goes on.

    What is trained: omnisky recipes shows codec-image-mini (and -whole), codec-spectrum-mini, codec-field-mini
    and aion-mini.

    Parameters
    ----------
    out
        The folder of the sky, the codecs, the ids, the model, the figures and the page aion.md.
    objects
        How many; nine tenths are trained on. Each takes 1 MB of disk, twice that while the sky is written.
    data
        A sky that is there already, in all modalities and with its truth, to use instead.
    codecs
        Codecs that were trained before, to use instead: runs/codec-image-mini-whole/model …
    edits
        Changes of aion-mini as key=value.
    asked
        Held-out objects whose redshifts are asked for, half of them to fit temperatures.
    drawn
        Held-out objects whose spectra and images are generated.
    probed
        Objects that probes learn from.
    workers
        Processes that make the sky.
    json
        Print one JSON object instead of tables.
    """
    from json import dumps

    from omnisky.demo.any_to_any import AION_HEAD, draw, page, state
    from omnisky.evaluate.aion import measure
    from omnisky.evaluate.aion_runs import Sizes, make_sky, train_all
    from omnisky.observe.read import source_of
    from omnisky.storage import atomic
    from omnisky.train.devices import keep_memory
    from omnisky.watch import counting_bar, show_table, training_bars

    keep_memory()
    sizes = Sizes(asked=asked, drawn=drawn, probed=probed)
    sky = source_of(data) if data else make_sky(out, objects, workers, counting_bar)
    with training_bars() as watch:
        ready = train_all(sky, out, watch, counting_bar, codecs, edits)
    table = measure(ready, sizes, counting_bar)
    found = draw(table, out)
    for name, text in (
        ("aion.md", page(found, "AION on a sky whose truth is known", AION_HEAD)),
        ("aion.json", dumps(state(table), ensure_ascii=False, indent=1)),
    ):
        with atomic(out / name) as draft:
            draft.write_text(text, encoding="utf-8")
    if json:
        print(dumps(state(table), ensure_ascii=False))
        return
    for headers, rows in found.tables:
        show_table(headers, rows)
    print(f"{out / 'aion.md'}: {found.words}")


@app.command
def photoz(data: str, *, out: Path = Path("runs/photoz"), edits: tuple[str, ...] = (), json: bool = False) -> None:
    """Train a small model on real magnitudes, beside neighbours, a forest and boosted trees. Called again, it goes on.

    Parameters
    ----------
    data
        A catalogue with columns u, g, r, i, z and redshift (or zs); stars and quasars are left out where it says
        their class. With ra and dec, galaxies are split by cells of sky.
    out
        The folder of the ids, the model and the figures.
    edits
        Changes of aion-photoz as key=value.
    json
        Print one JSON object instead of tables.
    """
    from json import dumps

    from omnisky.demo.photoz import draw, state
    from omnisky.evaluate.photoz import catalogue, measure
    from omnisky.watch import show_table, training_bars

    with training_bars() as watch:
        table = measure(catalogue(data), out, watch, edits)
    found = draw(table, out)
    if json:
        print(dumps(state(table), ensure_ascii=False))
        return
    for headers, rows in found.tables:
        show_table(headers, rows)
    print(f"{', '.join(map(str, found.figures.values()))}: {found.words}")


@app.command
def codec(
    data: str,
    *folders: Path,
    out: Path = Path("runs/codec"),
    objects: int = 1000,
    everything: bool = False,
    json: bool = False,
) -> None:
    """Measure what learned codecs lose: omnisky evaluate codec DATA runs/codec-image-mini-whole/model …

    Parameters
    ----------
    data
        What to send there and back: a folder or file that `omnisky.read` opens; only its held-out objects are used.
    folders
        Models that `omnisky train codec-…` made.
    out
        The folder of codec.json and of the figures: TOKENS.png before and after, TOKENS-photometry.png.
    objects
        At most.
    everything
        Use all objects: for data that nothing was trained on.
    json
        Print one JSON object instead of tables.
    """
    from json import dumps

    from omnisky.evaluate.codec import HEADERS, HELD_OUT, PHOTOMETRY, photometry_rows
    from omnisky.evaluate.codec import evaluate as measure
    from omnisky.observe.pieces import save_json
    from omnisky.observe.read import source_of
    from omnisky.plot import before_after, flux_bias
    from omnisky.train.devices import keep_memory
    from omnisky.watch import counting_bar, show_table

    keep_memory()
    seen, reports = source_of(data), []
    for folder in folders:
        with counting_bar(str(folder)) as watch:
            reports.append(measure(folder, seen, objects, share=1.0 if everything else HELD_OUT, watch=watch))
    drawn = [before_after(one.before, one.after, out / f"{one.name}.png", one.wavelength_aa) for one in reports]
    drawn += [flux_bias(one.curves(), out / f"{one.name}-photometry.png") for one in reports if one.photometry]
    told = {str(folder): report.state() for folder, report in zip(folders, reports, strict=True)}
    save_json({"data": data, "models": told}, out / "codec.json")
    if json:
        print(dumps({"data": data, "models": told}, ensure_ascii=False))
        return
    show_table(HEADERS, [report.row() for report in reports])
    for report in reports:
        if report.photometry:
            show_table(PHOTOMETRY, photometry_rows(report))
    for path in drawn:
        print(path)
