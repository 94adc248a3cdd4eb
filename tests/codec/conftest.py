"""A mock sky seen by all surveys."""

import numpy as np
import pytest

from omnisky.observe.types import Observation


@pytest.fixture(scope="session")
def mock_all() -> Observation:
    """16 objects in all forty modalities; half of them are bright enough for Gaia's spectra."""
    pytest.importorskip("galsim")
    pytest.importorskip("speclite")
    from omnisky.observe.mock import MockSky

    sky = MockSky(objects=400, cameras=("legacysurvey", "hsc"), spectrographs=("desi", "sdss"), gaia_xp=True)
    bright = np.argsort(sky.population.truth(np.arange(400)).r_mag)[:8]
    return sky.take([*bright.tolist(), *range(100, 108)])
