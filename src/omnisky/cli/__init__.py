"""`omnisky <verb>`: parse, call, print.

A verb is one short function: its signature is the command line, its docstring the help. It imports what it needs
inside, so that `--help` answers at once and without torch; it turns text into types, calls one public function and
prints what came back. Nothing is computed here.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from omnisky import __version__
from omnisky.cli.adapt import fit, predict
from omnisky.cli.batch import embed
from omnisky.cli.data import app as data
from omnisky.cli.explore import explore, serve_demo
from omnisky.cli.find import index, label, odd, search
from omnisky.cli.measure import app as measure
from omnisky.cli.pairs import align
from omnisky.cli.plan import plan
from omnisky.cli.serve import serve
from omnisky.cli.tokens import generate, posterior, tokenize
from omnisky.errors import OmniskyError

# Plain text: a Markdown parser would take a quarter of the time of --help.
app = App(name="omnisky", help="Foundation models of the sky.", version=__version__, help_format="plaintext")


def main(words: Sequence[str] | None = None) -> None:
    """What the `omnisky` script runs. A refusal is one red line and exit code 2; a traceback is a bug of ours."""
    try:
        app(words)
    except OmniskyError as error:
        complain(error)
        raise SystemExit(2) from None


def complain(error: OmniskyError) -> None:
    """One line on stderr, red where the terminal has colours; never wrapped, so that it can be searched and piped."""
    from rich.console import Console
    from rich.text import Text

    line = " ".join(f"{type(error).__name__}: {error}".split())
    Console(stderr=True, soft_wrap=True).print(Text(line, style="bold red"))


# --- the verbs, in the order of the help -------------------------------------------------------------------------


@app.command
def version() -> None:
    """Say what is installed: paste this into a bug report."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    print(f"omnisky {__version__}")
    print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in ("torch", "numpy", "astropy"):
        try:
            print(name, installed(name))
        except PackageNotFoundError:
            print(name, "is missing")


@app.command
def train(
    name: str,
    *edits: str,
    start: Annotated[str | None, Parameter(name="--from")] = None,
    out: Path | None = None,
    json: bool = False,
    track: Literal["tensorboard", "wandb", "trackio"] | None = None,
) -> None:
    """Train a recipe, or go on where it was stopped: omnisky train astropt-nano data=PATH steps=500.

    On several GPUs or machines: torchrun --nproc-per-node 8 -m omnisky train … (docs/scaling-out.md).

    Parameters
    ----------
    name
        The recipe (see `omnisky recipes`).
    edits
        Changes as key=value; dots reach inside: optim.peak=3e-4 model.core.depth=4.
    start
        A model of the same shape whose weights to begin with, instead of random ones: a shipped one, a folder of a run,
        a checkpoint or a repository on the Hub. A run that goes on has its own.
    out
        The folder of the run; runs/NAME if not given. Called again with the same folder, it goes on.
    json
        Print one JSON line a step instead of a progress bar.
    track
        Where else to send loss, rate and speed; metrics.jsonl in the folder of the run is always written.
    """
    from omnisky.model import store
    from omnisky.recipes import recipe
    from omnisky.train.config import edit
    from omnisky.train.devices import here, keep_memory
    from omnisky.train.loop import train as learn
    from omnisky.watch import lines, tracked, training_bar

    keep_memory()
    run, first = edit(recipe(name), edits), here().rank == 0
    folder = out or Path("runs") / name
    with (
        lines() if json else training_bar(run.name) as watch,
        tracked(track if first else None, run.name, folder, watch) as told,
    ):
        learn(run, folder, start=None if start is None else store.load(start), watch=told)
    if not json and first:
        print(f"{folder / 'model'}: use it with omnisky.load({str(folder / 'model')!r})")


@app.command
def recipes() -> None:
    """List what `omnisky train` can train."""
    from omnisky.recipes import RECIPES

    for name, make in RECIPES.items():
        told = getattr(make, "func", make).__doc__  # of a size among many: the family's words
        print(f"{name:16} {(told or '').strip().splitlines()[0]}")


app.command(plan)
app.command(embed)
app.command(align)
app.command(tokenize)
app.command(generate)
app.command(posterior)
app.command(index)
app.command(search)
app.command(odd)
app.command(label)
app.command(explore)
app.command(fit)
app.command(predict)


@app.command
def demo(*, data: Path | None = None, out: Path = Path("demo"), steps: int | None = None, serve: bool = True) -> None:
    """See a foundation model at work: look-alikes, a map, completions and morphologies of real galaxies, on one page.

    In a terminal it ends by serving the explorer of the real sample, until Ctrl-C; with the extra "serve" the shipped
    models stand behind it: uploads land on the map, and what models tell is shown beside what was measured.

    Parameters
    ----------
    data
        Galaxies to run on instead: with classes (a Galaxy Zoo 2 folder) for accuracies beside yardsticks, or with
        images and spectra for look-alikes across both.
    out
        The folder of the page.
    steps
        Training steps: of the model on the sample sky (30), or of the supervised CNN yardstick with --data (3000).
    serve
        Serve the explorer at the end: on this machine alone, at any free port, where a terminal is there to end it.
    """
    from omnisky.demo import data_demo, sample_demo
    from omnisky.train.devices import keep_memory
    from omnisky.watch import show_story

    keep_memory()
    if data is None:
        story = sample_demo(out, 30 if steps is None else steps)
    else:
        story = data_demo(out, data, 3000 if steps is None else steps)
    show_story(story)
    if not story.skies:
        return
    if serve and data is None and sys.stdin.isatty():
        print("walk through it: ", end="")
        serve_demo(out / "explorer", {sky.name: sky.seen for sky in story.skies if sky.seen is not None})
    else:
        print(f"walk through it: omnisky explore {out}")


@app.command
def mock(
    *,
    objects: int,
    out: Path,
    cameras: tuple[str, ...] = ("legacysurvey",),
    spectrographs: tuple[str, ...] = ("desi",),
    gaia: bool = False,
    light_curves: bool = False,
    faintest: float = 20.0,
    stars: float = 0.1,
    seed: int = 0,
    workers: int = 2,
) -> None:
    """Make a sky with known truth: images, spectra, catalogues. Called again with the same folder, it goes on.

    Parameters
    ----------
    objects
        How many.
    out
        The folder of the files, as the Multimodal Universe has them; `omnisky.read` opens it.
    cameras
        legacysurvey, hsc, sdss: any of them.
    spectrographs
        desi, sdss: any of them.
    gaia
        Low-resolution spectra too, of what is bright enough.
    light_curves
        Supernovae, Cepheids and quasars as Rubin's LSST sees them, instead of all that: shards in one folder.
    faintest
        r magnitude (AB) of the faintest.
    stars
        The share of stars.
    seed
        Another seed is another sky.
    workers
        Processes.
    """
    from omnisky.observe.mock import MockSky, Population, build
    from omnisky.watch import counting_bar

    if light_curves:
        from omnisky.observe.mock.curves import write_curves

        with counting_bar("light curves") as watch:
            write_curves(out, objects, seed=seed, watch=watch)
        print(f"{out}: {objects:,} light curves; read them with omnisky.read({str(out)!r})")
        return
    population = Population(seed=seed, faintest_r_mag=faintest, stars=stars)
    sky = MockSky(objects=objects, population=population, cameras=cameras, spectrographs=spectrographs, gaia_xp=gaia)
    done = files = 0
    with counting_bar("mock sky") as watch:
        for piece in build(sky, out, workers=workers):
            done, files = done + len(piece.index), files + 1
            watch(done, objects)
    print(f"{out}: {done:,} objects in {files} files; read them with omnisky.read({str(out)!r})")


app.command(measure)
app.command(serve)


# --- data ---------------------------------------------------------------------------------------------------------


@app.command
def validate(path: str, *, survey: str = "", json: bool = False) -> None:
    """Check data before it is used: ids, positions, units, flags, padding, cells, hashes. Exit code 1 if any is wrong.

    Parameters
    ----------
    path
        What to check: a folder or file that `omnisky.read` opens.
    survey
        Whose files these are, where the path of a set of the Multimodal Universe does not say it.
    json
        Print the report as JSON instead of tables.
    """
    from json import dumps

    from omnisky.observe.validate import validate as check
    from omnisky.watch import counting_bar, show_report

    with counting_bar("validate") as watch:
        report = check(path, survey=survey, watch=watch)
    if json:
        print(dumps(report.state(), ensure_ascii=False))
    else:
        show_report(report)
    raise SystemExit(0 if report.ok else 1)


app.command(data)
