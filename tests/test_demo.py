"""The main job: a page with every section, on the real sample sky and on labelled galaxies."""

import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from small import galaxies

from omnisky.demo import data_demo, labelled_demo, sample_demo
from omnisky.demo.across import as_flux
from omnisky.demo.sample import shown_again
from omnisky.embed import Embedding
from omnisky.errors import ResumeMismatch
from omnisky.evaluate.scaling import SIZES, Point, fit, law, run_of
from omnisky.observe.sample import sample_sky
from omnisky.train.checkpoint import identity


@pytest.mark.timeout(300)
def test_the_sample_sky_becomes_a_page(tmp_path):
    sky = sample_sky()
    story = sample_demo(tmp_path, steps=2, sky=replace(sky, galaxies=sky.galaxies.take(slice(0, 160))))
    page = (tmp_path / "index.html").read_text()
    heading = "Redshifts by nearest neighbours"
    assert len(next(one.table.rows for one in story.sections if one.heading == heading)) == len(sky.spectra)
    for name in ("learning", "look-alikes", "morphology", "map", "completions", "spectra"):
        assert f"{name}.png" in page and (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert "Illingworth" in page and "DESI Collaboration" in page  # whoever's data it is, is named
    assert ("mock.png" in page) == (find_spec("galsim") is not None)  # without it the page says how to get it
    found = Embedding.load(tmp_path / "embeddings.parquet")
    assert str(len(found)) == story.facts["galaxies"]
    assert np.isfinite(found.vectors).all() and np.isfinite(found.ra).all()
    again = shown_again(tmp_path / "explorer")  # what models behind the explorer are asked about, another day
    assert set(again) == {sky.name for sky in story.skies} and shown_again(tmp_path) == {}
    for name, source in again.items():
        ids = (tmp_path / "explorer" / "data" / name / "ids.txt").read_text().split("\n")
        assert set(ids) <= set(source.object_id.tolist())


def test_the_mock_sky_of_the_demo_has_all_its_variety():
    pytest.importorskip("speclite")
    from omnisky.demo.mock import MOCK_SKY, variety

    titles, rows = variety(MOCK_SKY.population.truth(np.arange(len(MOCK_SKY))))
    assert len(titles) == len(set(titles)) == len(set(rows.tolist())) == 12


def test_without_galsim_the_demo_says_so_and_goes_on(tmp_path, monkeypatch):
    from omnisky.demo.mock import mock_sky
    from omnisky.demo.story import Story
    from omnisky.errors import MissingExtra
    from omnisky.observe.mock import MockSky

    def refuse(*_):
        raise MissingExtra("mock images are drawn with GalSim", hint="pip install 'omnisky[mock]'")

    monkeypatch.setattr(MockSky, "take", refuse)
    story = Story(tmp_path)
    mock_sky(story, MockSky(objects=30))
    assert "pip install 'omnisky[mock]'" in story.sections[0].text and story.sections[0].figure is None


@pytest.mark.slow  # it trains two CNNs, as the yardstick does
@pytest.mark.timeout(1200)
def test_labelled_galaxies_get_a_table_of_yardsticks(tmp_path):
    seen = galaxies(200, size=64)
    names, offset, files = ("round", "flat"), [0], b""
    from io import BytesIO

    from PIL import Image as Picture

    for flux in seen["image"].flux:
        file = BytesIO()
        Picture.fromarray(flux.transpose(1, 2, 0)).save(file, "JPEG", quality=90)
        files += file.getvalue()
        offset.append(len(files))
    np.savez(
        tmp_path / "toy_jpeg.npz",
        jpeg=np.frombuffer(files, np.uint8),
        offset=np.array(offset),
        galaxy_id=np.arange(200),
        cls=seen["scalars"]["class"].astype(np.int8),
        class_names=np.array(names),
    )
    story = labelled_demo(tmp_path / "out", tmp_path / "toy_jpeg.npz", cnn_steps=100, views=1, few=0.1)
    table = next(section.table for section in story.sections if section.heading == "How good is it?")
    said = {row[0]: float(row[1].split()[0]) for row in table.rows}
    assert len(said) == 8
    assert not list((tmp_path / "out").glob("states*"))  # large, and of no use afterwards
    assert (
        said["omnisky-nano, linear probe"] > said["always the commonest class"] + 0.2
    )  # round and flat differ plainly
    assert (tmp_path / "out" / "confusion.png").exists()


def test_a_power_law_is_found_where_there_is_one():
    """Known truth: L = 0.02 + 3·N^−0.4, without noise."""
    sizes = [10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7]
    points = [Point(str(n), n, [1.0], [0.02 + 3 * n**-0.4], 0.5, 0.01) for n in sizes]
    found = fit(points)
    assert found.floor == pytest.approx(0.02, abs=5e-4)
    assert found.slope == pytest.approx(0.4, abs=0.02)


def test_points_of_another_number_of_galaxies_are_refused(tmp_path):
    for name in SIZES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(identity(run_of(name, 60_000))))
        (tmp_path / name / "point.json").write_text(json.dumps(vars(Point(name, 1, [1.0], [0.1], 0.5, 0.1))))
    assert len(law(galaxies(4), tmp_path, 60_000)) == len(SIZES)
    with pytest.raises(ResumeMismatch, match="steps=234"):
        law(galaxies(4), tmp_path, 30_000)


def test_pairs_get_four_ways_and_redshifts(tmp_path):
    """Pictures as a survey's viewer shows them, and spectra, of which nothing is known but what they look like."""
    draw, n, wave = np.random.default_rng(0), 9, np.linspace(3700, 9500, 3000)
    arrays = {"flux": 5 + draw.normal(size=(n, 3000)), "ivar": np.ones((n, 3000)), "wave": wave}
    np.savez(tmp_path / "pairs.npz", image_rgb=draw.integers(0, 200, (n, 128, 128, 3)).astype(np.uint8), **arrays)
    rows = "".join(f"g{i},{10 + i},{i},{0.02 * (i + 1)}\n" for i in range(n))
    (tmp_path / "pairs.csv").write_text(f"name,ra,dec,z\n{rows}")
    story = data_demo(tmp_path / "out", tmp_path, cnn_steps=1)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "four-ways.png" in page and (tmp_path / "out" / "four-ways.png").stat().st_size > 10_000
    four, redshifts = story.sections
    assert [row[0] for row in four.table.rows] == ["image → spectrum", "spectrum → image"]
    assert len(redshifts.table.rows) == n and "Median |Δz| / (1 + z): image" in redshifts.text


def test_display_colours_are_the_fluxes_they_were_made_of():
    from omnisky.codec.stretch import LegacyColours
    from omnisky.observe.types import Image

    flux = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.05
    shown = (LegacyColours().forward(flux) * 255).round().to(torch.uint8).numpy()
    again = as_flux(Image(flux=shown, bands=("red", "green", "blue"), unit="display"))
    assert again.bands == ("z", "r", "g")
    assert np.abs(again.flux - flux.numpy()).max() < 2e-3  # one step of 255 in a colour
