"""`omnisky <verb>`: parse, call, print.

A verb is one short function: its signature is the command line, its docstring the help. It imports what it needs
inside, so that `--help` answers at once and without torch; it turns text into types, calls one public function and
prints what came back. Nothing is computed here.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

from cyclopts import App

from omnisky import __version__
from omnisky.errors import OmniskyError

app = App(name="omnisky", help="Foundation models of the sky.", version=__version__)


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
    print(f"omnisky {__version__}")
    print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in ("torch", "numpy", "astropy"):
        try:
            print(name, installed(name))
        except PackageNotFoundError:
            print(name, "is missing")
