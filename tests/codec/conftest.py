"""A mock sky seen by all surveys, with a codec of numbers for each modality, fitted to it."""

import pytest

from omnisky.observe.types import Observation


@pytest.fixture(scope="session")
def mock_all() -> Observation:
    """24 objects in all forty modalities; some are too faint for Gaia."""
    pytest.importorskip("galsim")
    pytest.importorskip("speclite")
    from omnisky.observe.mock import MockSky

    sky = MockSky(objects=24, cameras=("legacysurvey", "hsc"), spectrographs=("desi", "sdss"), gaia_xp=True)
    return sky.take(slice(None))
