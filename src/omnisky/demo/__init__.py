"""A foundation model at work on real galaxies, on one page, in minutes."""

from __future__ import annotations

from pathlib import Path

from omnisky.demo.labelled import labelled_demo as labelled_demo
from omnisky.demo.matched import has_pairs, matched_demo
from omnisky.demo.sample import sample_demo as sample_demo
from omnisky.demo.scaling import draw_scaling as draw_scaling
from omnisky.demo.story import Story
from omnisky.observe.read import read


def data_demo(folder: str | Path, data: str | Path, cnn_steps: int) -> Story:
    """Galaxies with images and spectra across both, others by their classes. Raises MissingModality for neither."""
    seen = read(data)
    if has_pairs(seen):
        return matched_demo(folder, data, seen)
    return labelled_demo(folder, data, seen, cnn_steps=cnn_steps)
