"""The site: `make docs`. Pages are MyST; the reference is written from the docstrings each time the site is built."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import omnisky

HERE = Path(__file__).parent
HOUSE = Path(omnisky.__file__).parent
ROOMS = {
    "errors": "Errors",
    "observe": "Observations",
    "codec": "Codecs",
    "model": "Models",
    "train": "Training",
    "recipes": "Recipes",
    "embed": "Embeddings",
    "generate": "Generation",
    "adapt": "Adaptation",
    "search": "Search",
    "evaluate": "Evaluation",
    "plot": "Figures",
    "serve": "Serving",
    "storage": "Storage",
}
"""room → its heading, in the order in which data runs; a room that is not there has no page"""

project = "Omnisky"
author = "The Omnisky developers"
release = version = omnisky.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

default_role = "code"
autodoc_inherit_docstrings = False  # torch's words are torch's
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

html_theme = "pydata_sphinx_theme"
html_title = "Omnisky"
html_static_path = ["_static"]
html_css_files = ["omnisky.css"]
html_theme_options = {
    "github_url": "https://github.com/omnisky/omnisky",
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": []}
html_show_sourcelink = False
copyright = "The Omnisky developers, MIT licence"


# --- docstrings ---------------------------------------------------------------------------------------------------


def as_rest(text: str) -> str:
    """Our docstrings are plain text: `code` in backticks, indented blocks as they stand, nothing else is markup."""
    blocks: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        plain: list[str] = []
        shown: list[str] = []
        for line in paragraph.splitlines():
            (shown if line.startswith("    ") else plain).append(line)
        if plain:
            blocks.append("\n".join(map(_escaped, plain)))
        if shown:
            block = "\n".join(f"   {line}" for line in dedent("\n".join(shown)).splitlines())
            blocks.append(f".. code-block:: text\n\n{block}")
    return "\n\n".join(blocks)


def _escaped(line: str) -> str:
    pieces = line.split("`")
    if len(pieces) % 2 == 0:  # a lone backtick
        return re.sub(r"([\\*|_`])", r"\\\1", line)
    return "".join(
        f"``{piece}``\\ " if i % 2 and piece else re.sub(r"([\\*|_])", r"\\\1", piece) for i, piece in enumerate(pieces)
    )


def _plainly(app, what, name, found, options, lines: list[str]) -> None:
    lines[:] = [*as_rest("\n".join(lines)).splitlines(), ""]


# --- the reference ------------------------------------------------------------------------------------------------


def modules(room: str) -> list[str]:
    """The modules of a room that have something public, by path."""
    place = HOUSE / room
    found = sorted(place.rglob("*.py")) if place.is_dir() else [HOUSE / f"{room}.py"]
    named = [".".join(("omnisky", *path.relative_to(HOUSE).with_suffix("").parts)) for path in found if path.exists()]
    named = [name.removesuffix(".__init__") for name in named]
    return [name for name in named if "._" not in name and _public(name)]


def _public(name: str) -> list[str]:
    found = vars(import_module(name))
    return [key for key, one in found.items() if key[0] != "_" and getattr(one, "__module__", "") == name]


def write_reference() -> None:
    """api/index.rst, api/ROOM.rst and a page a module."""
    folder = HERE / "api"
    folder.mkdir(exist_ok=True)
    rooms = [room for room in ROOMS if (HOUSE / room).is_dir() or (HOUSE / f"{room}.py").exists()]
    wanted = {"index.rst": _index(rooms)}
    for room in rooms:
        names = modules(room)
        if names == [f"omnisky.{room}"]:  # a room of one file
            wanted[f"{room}.rst"] = _headed(ROOMS[room], _members(names[0]))
            continue
        doc = as_rest(dedent(import_module(f"omnisky.{room}").__doc__ or ""))
        rows = "\n".join(f"   {name}" for name in names)
        wanted[f"{room}.rst"] = _headed(ROOMS[room], f"{doc}\n\n.. toctree::\n   :maxdepth: 1\n\n{rows}\n")
        wanted |= {f"{name}.rst": _headed(name.removeprefix("omnisky."), _members(name)) for name in names}
    for path in folder.glob("*.rst"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # what is the same is not built again
            path.write_text(text, encoding="utf-8")


def _headed(title: str, text: str) -> str:
    return f"{title}\n{'=' * len(title)}\n\n{text}"


def _members(name: str) -> str:
    return f".. automodule:: {name}\n   :members: {', '.join(_public(name))}\n"


def _index(rooms: list[str]) -> str:
    door = "\n".join(f"* ``omnisky.{name}``: {_first(name)}" for name in omnisky.__all__ if name[0] != "_")
    rows = "\n".join(f"   {room}" for room in rooms)
    told = "Names that are used most are at the front door; all others are imported from their rooms."
    return _headed("Reference", f"{told}\n\n{door}\n\n.. toctree::\n   :maxdepth: 1\n\n{rows}\n")


def _first(name: str) -> str:
    """What the docstring says first, and where the name lives."""
    found = getattr(omnisky, name)
    said = " ".join((found.__doc__ or "").split("\n\n")[0].split())
    page = found.__module__ if found.__module__.count(".") > 1 else found.__module__.removeprefix("omnisky.")
    return f"{as_rest(said)} (:doc:`{page}`)"


def setup(app) -> None:
    app.connect("autodoc-process-docstring", _plainly)
    write_reference()
