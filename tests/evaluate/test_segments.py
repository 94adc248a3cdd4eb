"""Maps of arms and bars are where the mock sky draws them, and both ways of finding them learn from the same."""

from dataclasses import replace

import numpy as np
import pytest

from omnisky.errors import BadValue
from omnisky.evaluate.claims import segments
from omnisky.evaluate.claims.found import Inputs
from omnisky.observe.mock import MockSky, Population
from omnisky.observe.mock.cameras import CAMERAS
from omnisky.observe.mock.images import PARTS, noiseless
from omnisky.observe.mock.light import lit

pytest.importorskip("galsim")
pytest.importorskip("speclite")

SKY = MockSky(objects=400, population=replace(segments.SKY.population, seed=5), spectrographs=())


@pytest.fixture(scope="module")
def spirals():
    return segments.large_spirals(SKY, 8)


def test_parts_add_up_to_the_galaxy(spirals, monkeypatch):
    from omnisky.observe.mock import images

    around = images.about
    monkeypatch.setattr(images, "about", lambda index, seed: around(index, seed).take(slice(0, 0)))
    light, seen = SKY.components(spirals[:2]), SKY.population.truth(spirals[:2])
    assert set(light) == set(PARTS)
    camera = CAMERAS["legacysurvey"]
    for row, one in enumerate(lit(seen, SKY.seed)):
        whole = noiseless(seen, row, one, camera, SKY.seed)[camera.bands.index("r")]
        np.testing.assert_allclose(sum(each[row] for each in light.values()), whole, atol=1e-4 * whole.max())


def test_only_barred_spirals_have_bars_and_they_are_in_the_middle(spirals):
    truth, found = SKY.population.truth(spirals), segments.maps(SKY, spirals)
    assert found.shape == (8, 2, 48, 48)
    barred = truth.bar_fraction > 0
    assert barred.any() and not found[~barred, 1].any()
    arms, bars = (found[:, i].any(0) for i in (0, 1))
    y, x = np.indices((48, 48)) - 23.5
    assert np.hypot(x, y)[bars].max() < np.hypot(x, y)[arms].max()
    assert 0.005 < found[:, 0].mean() < 0.4


def test_stars_have_no_parts():
    stars = MockSky(objects=2, population=Population(stars=1.0), spectrographs=())
    assert not any(one.any() for one in stars.components([0, 1]).values())


def test_the_task_measures_both_and_a_mean_map(spirals, tmp_path, monkeypatch):
    barred = spirals[segments.maps(SKY, spirals)[:, 1].any((1, 2))]
    monkeypatch.setattr(segments, "large_spirals", lambda sky, many: np.resize(barred, many))
    sizes = segments.Sizes(labels=(4, 5), tested=3, steps=3, steps_of_u_net=3)
    found = segments.segmentation(Inputs(None, tmp_path, tmp_path), sizes, SKY)
    assert set(found.scores) == {"aion/arms", "aion/bars"}
    (grid,) = found.grids
    assert len(grid.rows) == 6 and len(grid.headers) == 4 and "3 mock spirals" in grid.title
    assert np.shape(found.drawn["maps_light"])[1:] == (3, 48, 48)
    assert all(np.shape(one) == (3, 48, 48) for one in found.drawn["maps"].values())


def test_a_mean_map_is_the_same_for_all():
    learnt = np.zeros((10, 2, 4, 4), dtype=bool)
    learnt[:, 0, 1:3, 1:3], learnt[:2, 1, 0, 0] = True, True
    found = segments._mean_map(learnt, 3)
    assert found.shape == (3, 2, 4, 4) and (found == found[0]).all()
    np.testing.assert_array_equal(found[0, 0], learnt[0, 0])


def test_a_sky_with_too_few_spirals_is_refused():
    with pytest.raises(BadValue, match="a larger sky"):
        segments.large_spirals(replace(SKY, objects=20), 21)
