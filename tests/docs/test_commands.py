"""Every `omnisky …` line of the documentation is a command that exists, with options and settings that it has.

What it does is not done: some take hours, some eight GPUs. Verbs, options, their kinds, recipes and key=value are.
"""

import re
import shlex
from pathlib import Path

import pytest

from omnisky.cli import app
from omnisky.errors import OmniskyError
from omnisky.recipes import RECIPES, recipe
from omnisky.train.config import edit

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"] if "api" not in path.parts)
SHELL = re.compile(r"^```(?:sh|bash)\n(?:.*\n)*?```|(?:^ {4}.*\n)+", re.MULTILINE)
"""fenced blocks, and indented ones"""
CALL = re.compile(r"^[ $]*(?:\w+=\S+ )*(?:torchrun .*?-m )?omnisky (.+)", re.MULTILINE)


def commands(text: str) -> list[str]:
    """What comes after `omnisky`, comments left out; not lines that leave something out themselves."""
    text = text.replace("\\\n", " ")
    lines = [found[1].partition(" #")[0].strip() for block in SHELL.finditer(text) for found in CALL.finditer(block[0])]
    return [line for line in lines if "…" not in line and "<" not in line]


def demand_command(line: str) -> None:
    """Raises what the command line itself would."""
    _, bound, _ = app.parse_args(shlex.split(line), exit_on_error=False, print_error=False)
    name = bound.arguments.get("name")
    if name in RECIPES:
        edit(recipe(name), bound.arguments.get("edits", ()))
    assert name in RECIPES or line.split()[0] not in ("train", "plan"), f"no recipe {name}"


@pytest.mark.parametrize(
    "line", [pytest.param(line, id=f"{page.stem}: {line}") for page in PAGES for line in commands(page.read_text())]
)
def test_the_command_is_one(line):
    demand_command(line)


def test_commands_are_found_wherever_they_stand():
    fenced, indented = "```sh\nA=1 omnisky embed a b c  # why\n```", "    torchrun -m omnisky train x \\\n      steps=3"
    text = f"{fenced}\n\n{indented}\n\nomnisky no\n"
    assert [line.split() for line in commands(text)] == [["embed", "a", "b", "c"], ["train", "x", "steps=3"]]


@pytest.mark.parametrize("line", ["train astropt-nano stpes=3", "train no-such", "embed a b c --egine lsdb", "embd a"])
def test_a_wrong_command_is_found(line):
    with pytest.raises((Exception, SystemExit)) as said:
        demand_command(line)
    assert isinstance(said.value, OmniskyError | AssertionError) or type(said.value).__module__.startswith("cyclopts")
