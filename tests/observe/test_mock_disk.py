"""A mock sky on disk: the same bytes however it was made, and after it was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from omnisky.errors import MissingExtra
from omnisky.observe.mock import MockSky, Population, build
from omnisky.observe.mock.build import OBJECTS_PER_FILE, RECIPE

pytest.importorskip("galsim")
pytest.importorskip("speclite")

SPECTRA = MockSky(objects=24, population=Population(seed=5), cameras=(), objects_per_cell=3, footprint=(100, 200, 300))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def made(sky: MockSky, folder: Path, workers: int = 1) -> dict[str, bytes]:
    assert sum(len(piece.index) for piece in build(sky, folder, workers=workers)) == len(sky)
    return contents(folder)


def test_workers_change_not_a_byte(tmp_path):
    assert made(SPECTRA, tmp_path / "one") == made(SPECTRA, tmp_path / "two", workers=2)


def test_files_hold_no_more_than_they_should(tmp_path):
    """A cell of 300 objects becomes three files of 100, without an object twice or missing."""
    sky = MockSky(objects=300, cameras=(), spectrographs=(), objects_per_cell=300)
    pieces = list(build(sky, tmp_path / "sky", workers=1))
    assert [len(piece.index) for piece in pieces] == [100, 100, 100] and OBJECTS_PER_FILE >= 100
    assert np.array_equal(np.sort(np.concatenate([piece.index for piece in pieces])), np.arange(300))


def test_without_the_extra_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "speclite", None)
    with pytest.raises(MissingExtra, match="pip install 'omnisky\\[mock\\]'"):
        list(build(SPECTRA, tmp_path / "sky"))
    assert not (tmp_path / "sky").exists()


SCRIPT = """
import sys
from omnisky.observe.mock import MockSky, Population, build
sky = MockSky(objects=24, population=Population(seed=5), cameras=(), objects_per_cell=3, footprint=(100, 200, 300))
for _ in build(sky, sys.argv[1], workers=1): pass
"""


@pytest.mark.parametrize("files", [0, 1, 2])
def test_killed_anywhere_it_goes_on(files, tmp_path):
    """kill -9 when so many files are there: what is there is whole, and the rest follows."""
    whole, broken = made(SPECTRA, tmp_path / "whole"), tmp_path / "broken"
    running = subprocess.Popen([sys.executable, "-c", SCRIPT, str(broken)], env=os.environ)
    while running.poll() is None and len(list(broken.glob("healpix=*/[0-9]*"))) < files:
        time.sleep(0.01)
    while files == 0 and not (broken / RECIPE).exists():
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    left = {name: held for name, held in contents(broken).items() if not Path(name).name.startswith(".")}
    assert left.items() <= whole.items()
    assert made(SPECTRA, broken) == whole  # drafts are gone too


def test_what_the_tests_share_is_sound(mock_folder):
    from omnisky.observe.read import read

    seen = read(mock_folder)
    assert len(seen) == 48
    one = seen.take([0])
    assert one["image"].flux.shape == (1, 4, 160, 160) and one["spectrum"].flux.shape == (1, 7781)
    assert np.isfinite(one["truth"]["redshift"]).all()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_thousand_objects_pass_validation(large_mock_folder):
    from omnisky.observe.validate import validate

    report = validate(large_mock_folder)
    assert report.objects == 2000 and report.ok, report.findings
