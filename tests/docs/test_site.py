"""What the site is made of: docstrings as text, a page a module, and a build without a warning."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def conf():
    spec = importlib.util.spec_from_file_location("docs_conf", ROOT / "docs" / "conf.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize(
    ("plain", "rest"),
    [
        ("One `name` only.", "One ``name``\\  only."),
        ("|δ| < 7 and a*b, file_", r"\|δ\| < 7 and a\*b, file\_"),
        ("See:\n\n    x = 1\n      y\n\nThen.", "See:\n\n.. code-block:: text\n\n   x = 1\n     y\n\nThen."),
        ("a lone ` backtick", r"a lone \` backtick"),
    ],
)
def test_docstrings_are_text(conf, plain, rest):
    assert conf.as_rest(plain) == rest


def test_modules_and_public_names_are_found(conf):
    assert "omnisky.embed.partitions" in conf.modules("embed") and conf.modules("errors") == ["omnisky.errors"]
    assert "embed_hats" in conf._public("omnisky.embed.partitions")
    assert "Path" not in conf._public("omnisky.embed.partitions")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_site_is_built_without_a_warning(tmp_path):
    for package in ("sphinx", "myst_parser", "pydata_sphinx_theme"):
        pytest.importorskip(package)
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(ROOT / "docs"), str(tmp_path / "site")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "embed_hats" in (tmp_path / "site" / "api" / "omnisky.embed.partitions.html").read_text()
