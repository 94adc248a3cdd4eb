"""Figures of answers and maps: they show something, say what they were given, and work with one object."""

import numpy as np
import pytest

from omnisky import plot
from omnisky.errors import BadPixels, BadValue, ShapeMismatch
from omnisky.plot.maps import _tinted

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")


def redshifts(n: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    z = draw.gamma(3, 0.06, n)
    return z, z + 0.02 * draw.normal(size=n)


def curves(sizes: int) -> list[plot.Curve]:
    value = np.linspace(0.4, 0.9, sizes)
    return [
        plot.Curve("omnisky-nano, linear probe", value, np.full(sizes, 0.01), ours=True),
        plot.Curve("a yardstick that ends at the same place and has a long name", value, np.full(sizes, 0.02)),
    ]


def blobs(n: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.indices((16, 16)) - 7.5
    inside = np.tile(np.hypot(x, y) < 4, (n, 1, 1))
    return np.repeat(inside[:, None], 3, axis=1) * 0.8, inside


DRAWN = {
    "photo_z": lambda path, n: plot.photo_z(*redshifts(n), path, told="R² 0.9"),
    "learning_curves": lambda path, n: plot.learning_curves(np.geomspace(10, 1e4, n), curves(n), path),
    "pit": lambda path, n: plot.pit_histogram(np.random.default_rng(0).random(n), path, told="posteriors"),
    "property_map": lambda path, n: plot.property_map(
        np.random.default_rng(0).normal(size=(n, 2)), [("a", np.arange(n) * 1.0), ("b", np.ones(n))], path, note="PCA"
    ),
    "overlays": lambda path, n: plot.overlays(
        blobs(n)[0], [("truth", blobs(n)[1]), ("coarse", blobs(n)[1][:, ::2, ::2])], path, titles=["one"] * n
    ),
}


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_shows_something(name, n, tmp_path):
    with Image.open(DRAWN[name](tmp_path / "figure.png", n)) as picture:
        assert np.asarray(picture.convert("L")).std() > 2


def test_many_objects_become_cells(tmp_path):
    with Image.open(plot.photo_z(*redshifts(2500), tmp_path / "z.png")) as picture:
        assert np.asarray(picture.convert("L")).std() > 2


def test_a_name_that_ends_in_svg_is_drawn_as_such(tmp_path):
    text = plot.pit_histogram(np.array([0.2, 0.7]), tmp_path / "pit.svg").read_text()
    assert "<svg" in text and text.rstrip().endswith("</svg>")


def test_what_is_marked_is_tinted_and_edged_and_the_rest_left_alone():
    picture = np.full((2, 2, 3), 100, np.uint8)
    marked = np.array([[True, False], [False, False]])
    shown = _tinted(picture, marked, "#ff0000")
    assert (shown[3:, :] == 100).all() and (shown[:, 3:] == 100).all()
    assert shown[0, 0].tolist() == [255, 0, 0]  # the edge
    assert shown[1, 1].tolist() == [143, 72, 72]  # 28 % of the colour inside
    assert (_tinted(picture, ~marked | marked, "#ff0000")[1:-1, 1:-1, 0] == 143).all()


@pytest.mark.parametrize(
    ("draw", "wrong"),
    [
        (lambda path: plot.photo_z(np.array([0.1, np.nan]), np.array([0.1, 0.2]), path), BadPixels),
        (lambda path: plot.photo_z(np.array([0.1]), np.array([0.1, 0.2]), path), ShapeMismatch),
        (lambda path: plot.pit_histogram(np.array([0.1, 1.2]), path), BadValue),
        (lambda path: plot.learning_curves(np.array([1.0, 2.0]), curves(3), path), ShapeMismatch),
        (lambda path: plot.learning_curves(np.array([1.0, 2.0]), [], path), BadValue),
        (lambda path: plot.property_map(np.zeros((2, 2)), [("a", np.array([np.nan] * 2))], path), BadValue),
        (lambda path: plot.property_map(np.zeros((2, 2)), [("a", np.zeros(3))], path), ShapeMismatch),
        (lambda path: plot.overlays(blobs(2)[0], [("truth", blobs(3)[1])], path), ShapeMismatch),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(draw, wrong, tmp_path, unchecked):
    with pytest.raises(wrong):
        draw(tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())
