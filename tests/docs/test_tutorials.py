"""Every Python block of the documentation runs, and what a page says it prints is what it prints."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEEDS = {
    "quickstart": ("skimage", "sep"),
    "tutorials/astropt": ("skimage", "sep"),
    "tutorials/astroclip": ("galsim", "speclite"),
    "tutorials/aion": ("galsim", "speclite"),
    "tutorials/tokens": ("skimage", "sep"),
    "tutorials/data": ("speclite",),
    "data": (),
    "adapting": ("skimage", "sep"),
    "batch": ("skimage", "sep", "lsdb"),
}
"""page → packages of the extras that it says it needs"""
ELSEWHERE = {"serving"}
"""run by tests/serve/test_client.py, which has a server"""
SLOW = ("tutorials/astropt", "tutorials/astroclip", "tutorials/aion", "batch")


def blocks(page: str) -> list[tuple[int, str, str]]:
    """(line of its first line, language, content) of each fenced block."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start(2)) + 1, found[1], found[2]) for found in BLOCK.finditer(text)]


def run(page: str) -> None:
    """Top to bottom in one namespace; a text block is what the Python block before it prints."""
    names: dict[str, object] = {"__name__": page}
    printed = ""
    for line, language, content in blocks(page):
        if language == "python":
            told = io.StringIO()
            with redirect_stdout(told):  # lines are numbered as on the page
                exec(compile("\n" * (line - 1) + content, f"docs/{page}.md", "exec"), names)
            printed = told.getvalue()
        elif language == "text":
            assert printed == content, f"docs/{page}.md, line {line}"


def test_every_page_with_code_is_run():
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    assert {page for page in pages if any(language == "python" for _, language, _ in blocks(page))} == {
        *NEEDS,
        *ELSEWHERE,
    }


def test_a_page_that_is_wrong_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.DOCS", tmp_path)
    (tmp_path / "wrong.md").write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n")
    with pytest.raises(AssertionError, match=r"wrong\.md, line 6"):
        run("wrong")
    (tmp_path / "broken.md").write_text("```python\nomnisky.embedd\n```\n")
    with pytest.raises(NameError):
        run("broken")


@pytest.mark.parametrize("page", [pytest.param(p, marks=pytest.mark.slow) if p in SLOW else p for p in NEEDS])
def test_the_page_runs(page, tmp_path, monkeypatch, recwarn):
    for package in NEEDS[page]:
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    run(page)
