"""Progress for people (a bar with the time left) and for machines (a JSON line a step)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from omnisky.errors import MissingExtra


def _bar(*columns: str) -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    left = (TextColumn("left"), TimeRemainingColumn())
    return Progress(*parts, *left, *map(TextColumn, columns), console=Console(stderr=True))


@contextmanager
def _shown(bar: Any) -> Iterator[None]:
    """On screen from its first count on, so that a refusal before it stands alone."""
    try:
        yield
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def training_bar(name: str) -> Iterator[Callable[[Any], None]]:
    """A watcher for `train`: steps, time left, loss, held-out loss, speed."""
    bar = _bar("loss {task.fields[loss]}", "{task.fields[held_out]}", "{task.fields[speed]}")
    task = bar.add_task(name, total=None, loss="–", held_out="", speed="")
    recent: list[float] = []

    def watch(now: Any) -> None:
        bar.start()
        recent.append(now.loss)
        del recent[:-50]
        shown = {"loss": f"{sum(recent) / len(recent):.4f}", "speed": f"{now.objects_per_second:.0f}/s"}
        if now.held_out is not None:
            shown["held_out"] = f"held out {now.held_out:.4f}"
        bar.update(task, completed=now.step, total=now.steps, **shown)

    with _shown(bar):
        yield watch


@contextmanager
def counting_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A watcher for anything that counts: (done, in all)."""
    bar = _bar()
    task = bar.add_task(what, total=None)

    def watch(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    with _shown(bar):
        yield watch


@contextmanager
def lines() -> Iterator[Callable[[Any], None]]:
    """A watcher that writes one JSON line a step on stdout."""

    def write(now: Any) -> None:
        sys.stdout.write(json.dumps(asdict(now)) + "\n")
        sys.stdout.flush()

    yield write


@contextmanager
def tracked(
    where: str | None, name: str, folder: Path, watch: Callable[[Any], None]
) -> Iterator[Callable[[Any], None]]:
    """`watch`, and each step's numbers also to tensorboard, wandb or trackio. Raises MissingExtra without the package.

    wandb and trackio share their words; tensorboard writes into `folder`/tensorboard.
    """
    if where is None:
        yield watch
        return
    try:
        module = import_module({"tensorboard": "torch.utils.tensorboard"}.get(where, where))
    except ImportError as error:
        raise MissingExtra(f"{where} is not installed", want=where, hint=f"pip install {where}") from error
    if where == "tensorboard":
        writer = module.SummaryWriter(str(folder / "tensorboard"))
        send, end = partial(_scalars, writer), writer.close
    else:
        module.init(project="omnisky", name=name)
        send, end = partial(_logged, module), module.finish

    def both(now: Any) -> None:
        watch(now)
        send({k: v for k, v in asdict(now).items() if k not in ("step", "steps") and v is not None}, now.step)

    try:
        yield both
    finally:
        end()


def _scalars(writer: Any, numbers: dict[str, float], step: int) -> None:
    for key, value in numbers.items():
        writer.add_scalar(key, value, step)


def _logged(module: Any, numbers: dict[str, float], step: int) -> None:
    module.log(numbers, step=step)


@contextmanager
def training_bars() -> Iterator[Callable[[str], Callable[[Any], None]]]:
    """Watchers for several runs, one bar each."""
    with ExitStack() as open_bars:
        yield lambda name: open_bars.enter_context(training_bar(name))


def show_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*headers, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def counted(edges: Sequence[float], counts: Sequence[int], width: int = 40) -> list[tuple[str, str, str]]:
    """A histogram as rows of a table: from–to, how many, and a bar."""
    most = max([*counts, 1])
    steps = zip(edges[:-1], edges[1:], counts, strict=True)
    return [(f"{low:.3g} – {high:.3g}", f"{n:,}", "█" * round(width * n / most)) for low, high, n in steps]


def show_story(story: Any) -> None:
    """What a demo found, as its tables and where its page is."""
    for section in story.sections:
        if section.table is not None:
            show_table(section.table.headers, section.table.rows)
    show_table(("step", "seconds"), [(name, f"{seconds:.1f}") for name, seconds in story.seconds.items()])
    sys.stdout.write(f"open {story.folder / 'index.html'}\n")


def show_report(report: Any) -> None:
    """What `validate` found: each band and column in numbers, then what is wrong, worst first, and one line to end."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if report.summaries:
        table = Table("", header_style="bold")
        for heading in ("objects", "usable", "blank", "least", "largest"):
            table.add_column(heading, justify="right")
        for one in report.summaries:
            shares = f"{one.usable:.1%}", f"{one.blank:.1%}"
            table.add_row(Text(one.name), str(one.objects), *shares, f"{one.low:.4g}", f"{one.high:.4g}")
        console.print(table)
    if report.findings:
        table = Table("", "where", "what", header_style="bold")
        for one in report.findings:
            sign = Text("wrong", style="bold red") if one.serious else Text("look", style="yellow")
            said = f"{one.check}: saw {one.saw}; want {one.want}" + (f". Try: {one.hint}" if one.hint else "")
            table.add_row(sign, Text(one.where, overflow="fold"), Text(said, overflow="fold"))
        console.print(table)
    wrong = sum(one.serious for one in report.findings)
    counts = f"{wrong} wrong, {len(report.findings) - wrong} to look at" if report.findings else "nothing found"
    style = "bold green" if report.ok else "bold red"
    console.print(Text(f"{report.what}: {report.objects} objects, {counts}", style=style), soft_wrap=True)
