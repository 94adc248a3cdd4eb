"""What every test shares: shapes are checked, sums are the same everywhere, and no window opens."""

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import settings

# Threads that wait shall sleep: on a busy machine those that spin take the core from the one they wait for, and
# tests of tiny models run fifty times slower. OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

# Before anything imports omnisky: from here on each jaxtyping annotation is a check. Users never pay for it.
jaxtyping.install_import_hook("omnisky", "shapecheck.checked")

torch.set_num_threads(2)  # the order of a sum depends on the threads: two, as on the smallest machine we test on
os.environ.setdefault("MPLBACKEND", "Agg")

# A property found false is a bug to fix, not a die to roll again; slow machines are not bugs.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


LONGEST = ("test_demo.py", "test_morphology.py", "test_house.py", "test_learned.py")
"""begun first, so that of two workers neither is left with a long one at the end"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; else in the order they were found."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes unchecked, as for a user: bad data must then meet an error of ours, not jaxtyping's."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def lsdb():
    """LSDB, or the test is skipped. Compiling takes longer than our few rows: numba is told not to, but only while LSDB
    is imported, for others want compiled code, and code of both kinds together breaks.
    """
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        if "numba" not in sys.modules:
            patch.setenv("NUMBA_DISABLE_JIT", "1")
        warnings.simplefilter("ignore")
        return pytest.importorskip("lsdb")


@pytest.fixture(scope="session")
def parity_folder() -> Path:
    """Recorded outputs of the reference implementations: `OMNISKY_PARITY`, or the trimmed packs beside the tests."""
    named = os.environ.get("OMNISKY_PARITY")
    folder = Path(named) if named else Path(__file__).parent / "parity" / "packs"
    if not folder.is_dir():
        pytest.fail(f"no parity packs at {folder}; OMNISKY_PARITY is {named!r}")
    return folder


def _mock_folder(config: pytest.Config, objects: int) -> Path:
    """A mock sky on disk, kept from run to run as long as the code that makes it is the same."""
    from hashlib import blake2b
    from importlib.resources import files

    pytest.importorskip("galsim")
    pytest.importorskip("speclite")
    from omnisky.observe.mock import MockSky, build

    code = sorted((Path(str(files("omnisky"))) / "observe").rglob("*.[pn][yp]*"))
    digest = blake2b(b"".join(one.read_bytes() for one in code if one.is_file() and one.suffix != ".pyc"))
    folder = config.cache.mkdir("mock") / f"{objects}-{digest.hexdigest()[:12]}"
    for _ in build(MockSky(objects=objects), folder, workers=2 if objects > 100 else 1):
        pass
    return folder


@pytest.fixture(scope="session")
def mock_folder(pytestconfig: pytest.Config) -> Path:
    """48 objects: images, spectra, catalogues, truth."""
    return _mock_folder(pytestconfig, 48)


@pytest.fixture(scope="session")
def large_mock_folder(pytestconfig: pytest.Config) -> Path:
    """2,000 of them, in about a minute the first time: for tests marked slow."""
    return _mock_folder(pytestconfig, 2000)
