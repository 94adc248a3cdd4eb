"""A foundation model at work on real galaxies, on one page, in minutes."""

from omnisky.demo.labelled import labelled_demo as labelled_demo
from omnisky.demo.sample import sample_demo as sample_demo
from omnisky.demo.scaling import draw_scaling as draw_scaling
