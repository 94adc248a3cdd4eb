"""The rules of the house, held by the machine: DESIGN's rooms and borders, the front door, and a README that is true.

Each rule is a function from a parsed file to complaints; `test_the_rules_bite` plants a violation of each.
"""

import ast
import inspect
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

import omnisky
from omnisky import errors

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "src" / "omnisky"

# Data runs down this list. A room knows itself and the rooms before it.
ROOMS = (
    *("errors", "storage", "observe", "codec", "model", "train", "recipes", "embed", "generate"),
    *("adapt", "search", "evaluate", "plot", "page", "watch", "serve", "demo", "cli"),
)

# Frozen: a new name is a decision, not a side effect. At most 15.
FRONT_DOOR = (
    *("read", "crossmatch", "Observation", "Tokens", "tokenize", "detokenize", "Embedding"),
    *("embed", "load", "train", "generate", "posterior", "Index", "Client", "OmniskyError"),
)

FILES = sorted(HOUSE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


# --- the rules: (path, parsed file) → complaints -----------------------------------------------------------------


def imports(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, also those inside functions; relative ones made absolute."""
    package = ("omnisky", *path.relative_to(HOUSE).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            if module == "omnisky":
                yield from ((node.lineno, f"omnisky.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def uphill(path: Path, tree: ast.Module) -> Iterator[str]:
    """Rule 13: a file imports from its own room and from rooms above it."""
    here = room_of(path)
    if here in ("__init__", "__main__"):
        return
    if here not in ROOMS:
        yield f"room {here} is not in the list: give it its place in ROOMS"
        return
    for line, module in imports(path, tree):
        if module == "omnisky" or module.startswith("omnisky."):
            there = module.removeprefix("omnisky").lstrip(".").split(".")[0]
            if there != "__version__" and there not in ROOMS:
                yield f"line {line}: {there or module} is no room; inside the house, import from where the name lives"
            elif there in ROOMS and ROOMS.index(there) > ROOMS.index(here):
                yield f"line {line}: data runs downhill; {here} may not know {there}"


def torch_in_observe(path: Path, tree: ast.Module) -> Iterator[str]:
    if room_of(path) == "observe":
        for line, module in imports(path, tree):
            if module.split(".")[0] == "torch":
                yield f"line {line}: observe is numpy; torch starts at codec"


def long_function(path: Path, tree: ast.Module) -> Iterator[str]:
    """ruff asks for 40 and can be overruled beside the line; this cannot."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            statements = sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1
            if statements > 60:
                yield f"line {function.lineno}: {function.name} has {statements} statements; at most 60, better 10"


def nameless_mask(path: Path, tree: ast.Module) -> Iterator[str]:
    """Rule 3: a mask is named for what True means."""
    for node in ast.walk(tree):
        name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else None
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.attr
        if name == "mask":
            yield f"line {node.lineno}: mask of what? Name it for what True means: present, attend, held_out"


def loud(path: Path, tree: ast.Module) -> Iterator[str]:
    """Rule 15: quiet inside; only the command line prints."""
    if room_of(path) != "cli":
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield f"line {node.lineno}: print; return it, and let cli.py print"


def wall_clock(path: Path, tree: ast.Module) -> Iterator[str]:
    """The time of day is set by people and may jump: by `python dev/faults.py`, nothing depends on it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "time.time_ns"):
            yield f"line {node.lineno}: seconds are counted by perf_counter or monotonic; a moment is a datetime"
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield f"line {node.lineno}: import time, that it is seen which clock is read"


def called_utils(path: Path, tree: ast.Module) -> Iterator[str]:
    for part in path.relative_to(HOUSE).parts:
        if part.removesuffix(".py").strip("_") in ("util", "utils", "helpers", "misc", "common"):
            yield f"{part}: a helper lives beside its caller, or in the room whose noun it handles"


RULES = (uphill, torch_in_observe, long_function, nameless_mask, loud, wall_clock, called_utils)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(HOUSE).as_posix())
def test_the_rules_are_kept(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [complaint for rule in RULES for complaint in rule(path, tree)] == []


def test_no_file_is_longer_than_400_lines():
    """It wants to be two files, or a room."""
    lines = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n") for path in FILES}
    assert {path: count for path, count in lines.items() if count > 400} == {}


@pytest.mark.parametrize(
    ("rule", "place", "planted"),
    [
        (uphill, "observe/types.py", "from omnisky.codec.tokens import Tokens"),
        (uphill, "codec/patch.py", "def late():\n    import omnisky.model.store as store"),
        (uphill, "train/loop.py", "from omnisky import recipes"),
        (uphill, "train/loop.py", "from ..recipes import astropt"),
        (uphill, "recipes/astropt.py", "from omnisky import embed as do"),
        (uphill, "embed.py", "from omnisky import load"),
        (uphill, "model/store.py", "import omnisky"),
        (uphill, "attic/store.py", "import numpy"),
        (torch_in_observe, "observe/sky.py", "def late():\n    from torch.nn import Module"),
        (long_function, "plot.py", "def long():\n" + "    x = 1\n" * 61),
        (nameless_mask, "model/masked.py", "mask = x > 0"),
        (nameless_mask, "model/masked.py", "def f(x, *, mask): pass"),
        (nameless_mask, "model/masked.py", "class A:\n    mask: int"),
        (nameless_mask, "model/masked.py", "self.mask = x"),
        (loud, "train/loop.py", "print('step')"),
        (wall_clock, "train/loop.py", "start = time.time()"),
        (wall_clock, "serve/gate.py", "from time import time as now"),
        (called_utils, "train/utils.py", ""),
        (called_utils, "utils/shapes.py", ""),
    ],
)
def test_the_rules_bite(rule, place, planted):
    assert list(rule(HOUSE / place, ast.parse(planted)))


@pytest.mark.parametrize(
    ("place", "fine"),
    [
        ("codec/patch.py", "from omnisky.codec.tokens import Tokens\nfrom omnisky.observe import types"),
        ("model/store.py", "from omnisky import __version__, errors"),
        ("model/store.py", "from . import transformer\nfrom ..codec.tokens import Tokens\nimport torch"),
        ("cli.py", "def demo():\n    from omnisky.demo import run\n    print(run(mask=1))"),
    ],
)
def test_the_rules_let_live(place, fine):
    assert not [complaint for rule in RULES for complaint in rule(HOUSE / place, ast.parse(fine))]


# --- the front door ----------------------------------------------------------------------------------------------


def test_the_front_door_is_frozen():
    assert tuple(omnisky.__all__) == FRONT_DOOR
    assert len(FRONT_DOOR) <= 15


@pytest.mark.parametrize("name", FRONT_DOOR)
def test_what_is_on_the_door_is_in_the_house(name):
    assert getattr(omnisky, name) is not None
    assert name in dir(omnisky)


def test_a_name_that_is_not_on_the_door_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Observatoin"):
        _ = omnisky.Observatoin


def test_editors_see_the_same_door():
    tree = ast.parse((HOUSE / "__init__.py").read_text(encoding="utf-8"))
    doors = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "omnisky." in str(node.module)]
    shown = {alias.name: node.module for node in doors for alias in node.names if alias.asname == alias.name}
    assert shown == {name: f"omnisky.{home}" for name, home in omnisky._HOME.items()}


def test_a_verb_stays_a_function_when_its_room_is_imported_first():
    """In a fresh interpreter: the order of imports is the point."""
    python(f"""
        import importlib, inspect, omnisky
        for verb in {[name for name in FRONT_DOOR if name in ROOMS]}:
            assert inspect.ismodule(importlib.import_module("omnisky." + verb))
            assert inspect.isroutine(getattr(omnisky, verb)), verb
        from omnisky.embed import Embedding, embed
        assert embed is omnisky.embed
    """)


def test_importing_is_quiet_and_light():
    said = python("import sys, omnisky, omnisky.cli; assert not {'torch', 'astropy', 'sklearn'} & set(sys.modules)")
    assert said == ""


# --- the command line --------------------------------------------------------------------------------------------


def test_help_answers_within_half_a_second():
    def seconds() -> float:
        start = time.perf_counter()
        run([sys.executable, "-m", "omnisky", "--help"])
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.5


def test_help_imports_nothing_heavy():
    done = run([sys.executable, "-X", "importtime", "-m", "omnisky", "--help"])
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "cyclopts" in imported
    assert not imported & {"torch", "astropy", "scipy", "sklearn", "pyarrow", "h5py", "matplotlib", "huggingface_hub"}


def test_an_error_of_ours_is_one_red_line_and_exit_code_2(monkeypatch, capfd):
    from omnisky import cli

    def refuse(words):
        raise errors.UnknownKey("no such field\nin Run", saw="stpes", want="steps", hint="steps=100 " * 30)

    monkeypatch.setattr(cli, "app", refuse)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    out, said = capfd.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert said.count("\n") == 1 and said.startswith(
        "\x1b[1;31mUnknownKey: no such field in Run. saw stpes; want steps"
    )


def test_python_dash_m_is_the_command():
    assert run([sys.executable, "-m", "omnisky", "--version"]).stdout.strip() == omnisky.__version__


# --- the README is true ------------------------------------------------------------------------------------------


def readme() -> str:
    path = ROOT / "README.md"
    assert path.exists(), "there is no README.md"
    return path.read_text(encoding="utf-8")


def fences(text: str) -> Iterator[tuple[int, str, str]]:
    """(line number of its first line, language, content) of each fenced block."""
    for found in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, found.start(2)) + 1, found[1], found[2]


SERVED = "omnisky serve omnisky-nano"


@contextmanager
def served() -> Iterator[str]:
    """The server that the README tells its reader to start, at a port that is free; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [sys.executable, "-m", *SERVED.split(), "--port", port]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as running:
        try:
            assert running.stdout is not None
            yield running.stdout.readline().split()[0]
        finally:
            running.terminate()


@pytest.mark.timeout(300)  # it loads weights, embeds a sample here and by a server, and draws
def test_the_readme_runs(tmp_path):
    """All ```python blocks, top to bottom in one namespace, as a reader would; line numbers are the README's."""
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    pytest.importorskip("uvicorn")
    assert SERVED in readme()
    blocks = [(line, code) for line, language, code in fences(readme()) if language == "python"]
    assert blocks, "README.md has no ```python block"
    script = ""
    for line, code in blocks:
        script += "\n" * (line - 1 - script.count("\n")) + code
    path = tmp_path / "README.py"
    with served() as address:
        path.write_text(script.replace("http://127.0.0.1:8000", address), encoding="utf-8")
        run([sys.executable, str(path)], cwd=tmp_path)


def drawn(block: str) -> Iterator[tuple[int, str]]:
    """(depth, first word) of each line of a tree drawn with box characters; a line without them is a root."""
    for line in dedent(block).splitlines():
        if branch := re.match(r"([│ ]*)[├└]── (\S+)", line):
            yield len(branch[1]) // 4 + 1, branch[2]
        elif root := re.match(r"\S+", line):
            yield 0, root[0]


def paths(block: str) -> Iterator[Path]:
    """The paths a drawn tree names. Several roots may share a line: `recipes/  …      benchmarks/  …`."""
    above: list[Path] = []
    for depth, name in drawn(block):
        above = [*above[:depth], Path(name)]
        yield Path(*above)
    for line in dedent(block).splitlines():
        if line[:1].strip(" │├└"):
            more = re.split(r"\s{2,}", line)[1:]
            yield from (Path(word) for word in more if re.fullmatch(r"[\w./-]*\w(/|\.(md|cff|toml|txt|py))", word))


def readme_tree() -> list[Path]:
    trees = [block for _, _, block in fences(readme()) if "── " in block and "errors.py" in block]
    assert len(trees) == 1, f"README.md has {len(trees)} drawn trees that name errors.py; it wants one"
    return list(paths(trees[0]))


def test_the_readme_tree_names_only_what_exists():
    assert [path.as_posix() for path in readme_tree() if not (ROOT / path).exists()] == []


def test_the_readme_tree_names_every_room():
    here = {path for path in HOUSE.iterdir() if path.suffix == ".py" or path.is_dir()}
    here = {path.relative_to(ROOT) for path in here if path.name not in ("__main__.py", "__pycache__")}
    assert sorted(path.as_posix() for path in here - set(readme_tree())) == []


def test_a_drawn_tree_is_read_as_it_is_meant():
    block = """
    src/omnisky/            the house
    ├── errors.py           all of them
    ├── serve/              look
    │   ├── app.py          routes
    │   └── web/            page
    └── cli.py              say
    recipes/   functions that return a Run. And so on.     benchmarks/  ratios     VISION.md  refusals
    """
    names = "", "/errors.py", "/serve", "/serve/app.py", "/serve/web", "/cli.py"
    want = {f"src/omnisky{name}" for name in names} | {"recipes", "benchmarks", "VISION.md"}
    assert {path.as_posix() for path in paths(block)} == want


# --- and the rest ------------------------------------------------------------------------------------------------


def test_the_error_tree_is_drawn_as_it_is():
    """Every class once, in its place under its parent."""
    text = inspect.cleandoc(errors.__doc__)
    tree = [line for line in text.splitlines() if line.startswith("    ")]
    above: list[str] = []
    picture = {}
    for depth, name in drawn("\n".join(tree)):
        above = [*above[:depth], name]
        picture[name] = above[-2] if depth else "Exception"
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and kind.__module__ == errors.__name__]
    assert picture == {kind.__name__: kind.__bases__[0].__name__ for kind in kinds}


def test_dev_is_one_list_in_two_places():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["dependency-groups"]["dev"] == project["project"]["optional-dependencies"]["dev"]


def test_everything_asked_for_is_pinned():
    """A dependency without a pin is one that changes under the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    wanted = {re.match(r"[\w-]+", line)[0].lower() for line in asked} - {"omnisky"}
    pins = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert wanted - set(pins) == set()


def test_the_workflow_asks_for_targets_and_a_torch_that_there_are():
    flow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    asked = re.search(r"target: \[([\w, -]+)\]", flow)[1].split(", ")
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"test", "check", "docs"} <= set(asked) <= set(targets)
    pin = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)[0]
    assert f"TORCH: {pin}+cpu " in flow and set(re.findall(r"torch==[\w.]+", flow)) == {pin}


def test_the_version_is_said_once():
    assert f"\nversion: {omnisky.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {omnisky.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not shutil.which("git") or not (ROOT / ".git").exists(), reason="not a git checkout")
def test_the_repository_stays_small():
    """Every clone pays for what was ever committed: no file above 15 MB, 60 MB in all."""
    names = run(["git", "ls-files", "-z"], cwd=ROOT).stdout.split("\0")
    megabytes = {name: (ROOT / name).stat().st_size / 1e6 for name in names if name and (ROOT / name).is_file()}
    assert {name: size for name, size in megabytes.items() if size > 15} == {}
    assert sum(megabytes.values()) < 60


# --- running things ----------------------------------------------------------------------------------------------


def run(command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command that must succeed; if it does not, what it said is the message."""
    quiet = {"MPLBACKEND": "Agg", "PYTHONWARNINGS": "default"}
    done = subprocess.run(command, cwd=cwd, env=os.environ | quiet, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done


def python(code: str) -> str:
    """What this code prints in a fresh interpreter, on either stream."""
    done = run([sys.executable, "-c", dedent(code)])
    return done.stdout + done.stderr
