"""A made-up sky with known truth, in every modality: galaxies and stars, their spectra, pictures and catalogues.

Needs the extra `mock` (GalSim, speclite). Start at `MockSky`; `build` puts one on disk.
"""

from omnisky.observe.mock.build import build as build
from omnisky.observe.mock.population import Population as Population
from omnisky.observe.mock.sky import MockSky as MockSky
