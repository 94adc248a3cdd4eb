"""Every figure is there, has the size it should, shows something, and works with one object.

A sheet is 180 pixels an inch. "Shows something" is the standard deviation of its pixels: an empty sheet has 0.
"""

import subprocess
import sys

import numpy as np
import pytest

from omnisky import plot
from omnisky.errors import BadPixels, BadValue, MissingExtra, ShapeMismatch, StorageError
from omnisky.plot import style

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")

NAMES = ("completely round smooth", "spiral", "edge-on", "cigar-shaped $5", "in-between smooth")


def galaxies(count: int, size: int = 32) -> np.ndarray:
    """Elliptical blobs of many shapes, 8-bit colour."""
    draw = np.random.default_rng(0)
    y, x = np.indices((size, size)) / size - 0.5
    wide = draw.uniform(0.05, 0.2, (count, 1, 1, 1))
    tint = draw.uniform(0.4, 1.0, (count, 3, 1, 1))
    return (255 * tint * np.exp(-np.hypot(x, y / draw.uniform(0.3, 1, (count, 1, 1, 1))) / wide)).astype(np.uint8)


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def draw_wall(path, n):
    rank = np.arange(4) % n
    neighbours, scores = np.tile(rank, (min(n, 3), 1)), np.full((min(n, 3), 4), 0.987)
    titles = [f"a galaxy with a long name, number {i}" for i in range(min(n, 3))]
    return plot.lookalike_wall(galaxies(n), np.arange(min(n, 3)), neighbours, path, titles=titles, scores=scores)


def draw_known(path, n):
    wave = np.linspace(3600, 9824, 200)
    spectrum = np.tile(1 + np.exp(-(((wave - 7000) / 50) ** 2)), (n, 1))
    told = [["a galaxy"] * n, ["z = 0.1\nold"] * n]
    return plot.wall(galaxies(n), np.tile(wave, (n, 1)), spectrum, spectrum, np.full(n, 0.1), *told, path)


def draw_map(path, n):
    xy = np.random.default_rng(1).normal(size=(n, 2))
    return plot.map_with_thumbnails(xy, galaxies(n), path, colour=np.arange(n) % 5 - 1, names=NAMES, note="PCA. " * 20)


def draw_density(path, n):
    return plot.map_with_thumbnails(np.random.default_rng(1).normal(size=(n, 2)), galaxies(n, 8), path)


def draw_completions(path, n):
    truth = galaxies(n)
    shown = np.zeros((n, 32, 32), bool)
    shown[:, 8:24, 8:24] = True
    return plot.completions(truth, shown, truth / 255.0 * 1.02, path, sampled=np.stack([truth, truth], axis=1))


def draw_predictions(path, n):
    chance = np.random.default_rng(2).dirichlet(np.ones(5), n)
    return plot.predictions(galaxies(n), NAMES, chance, path, truth=np.zeros(n, int))


def draw_confusion(path, n):
    count = min(n, 5)
    return plot.confusion(np.arange(count**2).reshape(count, count), NAMES[:count], path)


def draw_yardsticks(path, n):
    rows = [plot.Yardstick(f"method number {i}", 0.5 + i / 100, 0.01, 0.4, 0.02, ours=i == 0) for i in range(n)]
    return plot.yardsticks([*rows[1:], plot.Yardstick("few labels not tried", 0.3)] if n > 1 else rows, path)


def draw_curve(path, n):
    steps = np.arange(1, n + 1)
    return plot.curve(steps, 1 / steps**0.5 + 0.1, path, held_out=np.array([[n, 0.3]]), log_steps=n % 2 == 0)


def draw_scaling(path, n):
    sizes, law = 10.0 ** np.linspace(5, 7, min(n, 5)), plot.PowerLaw(0.1, 3.0, 0.3)
    compute = [size * np.geomspace(1e6, 1e8, 20) for size in sizes]
    loss = [final + 100 / spent**0.3 for final, spent in zip(law(sizes), compute, strict=True)]
    probe = np.stack([np.linspace(0.7, 0.8, len(sizes)), np.full(len(sizes), 0.01)], axis=1)
    return plot.scaling_law(sizes[::-1], compute[::-1], loss[::-1], law if n > 1 else None, path, probe=probe)


def draw_spectra(path, n):
    n = min(n, 3)
    wave = np.tile(np.linspace(3600, 9800, 800), (n, 1))
    flux = np.random.default_rng(3).normal(10, 1, wave.shape)
    flux[:, 100:120] = np.nan
    redshifts = np.array([0.05, np.nan, 2.5])[:n]
    return plot.spectra(wave, flux, [f"object {i}" for i in range(n)], path, redshifts=redshifts)


def draw_patches(path, n):
    states = np.random.default_rng(4).normal(size=(n, 16, 8))
    return plot.patch_colours(galaxies(n), states, path, titles=[f"galaxy {i}" for i in range(n)])


def draw_four_ways(path, n):
    draw, asked = np.random.default_rng(5), list(range(min(n, 3)))
    wave = np.linspace(3600, 9800, 400)
    flux = draw.normal(10, 1, (n, 400))
    flux[:, 50:60] = np.nan
    found = {way: draw.integers(n, size=(len(asked), min(n, 4))) for way in plot.WAYS}
    return plot.four_ways(galaxies(n), wave, flux, draw.uniform(0, 0.3, n), asked, found, path)


def draw_properties(path, n):
    value = np.linspace(-0.2, 1, n * 5).reshape(n, 5)
    methods, groups = [f"method number {i}" for i in range(n)], ["image" if i % 4 < 2 else "spectrum" for i in range(n)]
    names = ("redshift", "mass", "age", "metals", "sSFR")
    return plot.properties(methods, groups, names, value, value * 0 + 0.02, path, ours=methods[:1])


DRAWN = (
    *(draw_wall, draw_map, draw_density, draw_completions, draw_predictions),
    *(draw_confusion, draw_yardsticks, draw_curve, draw_scaling, draw_spectra, draw_known, draw_patches),
    *(draw_four_ways, draw_properties),
)


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_a_figure_is_written_and_shows_something(draw, count, tmp_path):
    path = draw(tmp_path / "made" / "figure.png", count)
    assert path == tmp_path / "made" / "figure.png"
    assert [file.name for file in path.parent.iterdir()] == ["figure.png"]
    seen = pixels(path)
    height, width = seen.shape[:2]
    assert 250 <= width <= 2000, "at most 11 inches: text of 9 points stays legible on a page"
    assert 250 <= height <= 3000
    assert seen.std() > 3


@pytest.mark.parametrize(
    ("draw", "count"), [(draw_density, 2500), (draw_curve, 500), (draw_curve, 501)], ids=lambda value: str(value)[:20]
)
def test_many_objects_are_drawn_otherwise(draw, count, tmp_path):
    """From 2,000 objects a density, from 60 steps a smoothed curve: their own paths."""
    assert pixels(draw(tmp_path / "figure.png", count)).std() > 3


def test_a_wall_is_wide_and_grows_downwards(tmp_path):
    one = pixels(draw_wall(tmp_path / "one.png", 1)).shape
    three = pixels(draw_wall(tmp_path / "three.png", 3)).shape
    assert one[1] == three[1] > one[0]
    assert three[0] > 2 * one[0]


def test_thumbnails_do_not_overlap_and_are_where_their_objects_are(tmp_path):
    """Four galaxies in the corners of a map, each of one colour: each corner has its colour, y upwards."""
    xy = np.array([[0.0, 0.0], [1, 0], [0, 1], [1, 1]])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], dtype=np.uint8)
    images = np.broadcast_to(colours[:, :, None, None], (4, 3, 16, 16)).copy()
    seen = pixels(plot.map_with_thumbnails(xy, images, tmp_path / "map.png"))
    low, high = int((0.3 + 0.9) * 180), int((0.3 + 6.6 - 0.9) * 180)  # inside the corner cells of the 6.6 inch box
    at = {(0, 0): (high, low), (1, 0): (high, high), (0, 1): (low, low), (1, 1): (low, high)}
    assert [tuple(seen[at[int(x), int(y)]]) for x, y in xy] == [tuple(colour) for colour in colours]
    for colour in colours:
        y, x = np.nonzero((seen[:, : int(6.9 * 180)] == colour).all(axis=-1))
        assert np.ptp(y) < 2.2 * 180 and np.ptp(x) < 2.2 * 180, "a third of the box, no more"


def test_far_objects_do_not_shrink_the_map():
    """One object in 1,000 a thousand times as far out waits at the edge; the rest still fill most of the square."""
    from omnisky.plot.atlas import _framed

    xy = np.random.default_rng(0).uniform(-1, 1, (1000, 2))
    xy[0] = 1000, -1000
    place = _framed(xy)
    assert place.min() >= 0 and place.max() <= 1
    assert (place[0] == (1, 1)).all()
    assert np.ptp(place[1:], axis=0).min() > 0.9


def test_the_unseen_is_covered_and_the_truth_is_not(tmp_path):
    """A white galaxy of which the left half is shown: white, then dark grey, in the first column only."""
    truth = np.full((1, 3, 16, 16), 255, np.uint8)
    shown = np.zeros((1, 16, 16), bool)
    shown[:, :, :8] = True
    seen = pixels(plot.completions(truth, shown, truth, tmp_path / "c.png"))
    row = seen[int((0.56 + 0.9) * 180)].astype(int)
    edge, size = int(0.3 * 180), int(1.85 * 180)
    assert row[edge + 10 : edge + size // 2 - 10].min() == 255
    assert row[edge + size // 2 + 10 : edge + size - 10].max() < 120
    assert row[edge + size + 30 : edge + 2 * size].min() == 255


def test_the_same_figure_twice_is_the_same_file_and_the_users_settings_do_not_show(tmp_path):
    import matplotlib

    first = draw_curve(tmp_path / "a.png", 100).read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "white", "savefig.bbox": "tight"}):
        before = dict(matplotlib.rcParams)
        again = draw_curve(tmp_path / "b.png", 100).read_bytes()
        assert dict(matplotlib.rcParams) == before
    assert first == again


def test_arrays_are_left_as_they_are(tmp_path):
    images, xy = galaxies(5) / 255.0 * 1.5, np.random.default_rng(0).normal(size=(5, 2))
    before = images.copy(), xy.copy()
    plot.map_with_thumbnails(xy, images, tmp_path / "map.png")
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(xy, before[1])


def test_floats_and_bytes_look_the_same():
    bytes_ = galaxies(3)
    np.testing.assert_array_equal(style.display(bytes_ / 255.0), style.display(bytes_))
    assert style.display(bytes_).shape == (3, 32, 32, 3)
    assert style.display(np.array([-0.1, 0.2, 1.2]).reshape(1, 3, 1, 1)).ravel().tolist() == [0, 51, 255]


@pytest.mark.parametrize(
    ("images", "error", "said"),
    [
        (np.zeros((3, 8, 8), np.uint8), ShapeMismatch, "image\\[None\\]"),
        (np.zeros((2, 4, 8, 8), np.uint8), ShapeMismatch, "3, height, width"),
        (np.zeros((2, 3, 8, 8), np.int32), BadPixels, "uint8"),
        (np.full((2, 3, 8, 8), np.nan), BadPixels, "finite"),
        (np.full((2, 3, 8, 8), 90.0), BadPixels, "images / 255"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_images_that_are_not_for_the_eye_are_refused(images, error, said, tmp_path):
    with pytest.raises(error, match=said):
        plot.predictions(images, ["a"], np.ones((len(images), 1)), tmp_path / "p.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda p: plot.lookalike_wall(galaxies(3), np.array([0]), np.array([[7]]), p), BadValue),
        (lambda p: plot.lookalike_wall(galaxies(3), np.array([0, 1]), np.array([[2]]), p), ShapeMismatch),
        (lambda p: plot.map_with_thumbnails(np.zeros((0, 2)), galaxies(0), p), BadValue),
        (lambda p: plot.map_with_thumbnails(np.full((1, 2), np.nan), galaxies(1), p), BadPixels),
        (lambda p: plot.map_with_thumbnails(np.zeros((9, 2)), galaxies(9), p, colour=np.arange(9)), BadValue),
        (lambda p: plot.predictions(galaxies(1), ["a", "b"], np.ones((1, 3)), p), ShapeMismatch),
        (lambda p: plot.confusion(np.zeros((2, 2), int), ["a"], p), ShapeMismatch),
        (lambda p: plot.yardsticks([], p), BadValue),
        (lambda p: plot.curve(np.arange(3), np.full(3, np.nan), p), BadPixels),
        (lambda p: plot.scaling_law(np.array([1e5]), [np.ones(3)], [np.ones(2)], None, p), ShapeMismatch),
        (lambda p: plot.spectra(np.ones((1, 9)), np.full((1, 9), np.nan), ["a"], p), BadPixels),
        (lambda p: plot.before_after(*np.ones((2, 1, 9)), p, np.ones((2, 9))), ShapeMismatch),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(call, error, tmp_path):
    with pytest.raises(error):
        call(tmp_path / "figure.png")
    assert list(tmp_path.iterdir()) == []


def test_a_closed_disk_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match=r"figure\.png"):
        draw_curve(tmp_path / "file" / "figure.png", 3)


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"omnisky\[plot\]"):
        draw_curve(tmp_path / "figure.png", 3)


def test_drawing_never_opens_pyplot():
    code = """
import sys, omnisky.plot, numpy as np, tempfile
assert "matplotlib" not in sys.modules
omnisky.plot.curve(np.arange(3), np.ones(3), tempfile.mkdtemp() + "/c.png")
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1, "1"),
        (0.2, "0.2"),
        (2000, "2000"),
        (3e4, "30k"),
        (1e5, "100k"),
        (3e6, "3M"),
        (1e15, "10¹⁵"),
        (3e12, "3·10¹²"),
    ],
)
def test_numbers_on_logarithmic_axes_are_plain(value, said):
    from omnisky.plot.charts import _plain

    assert _plain(value) == said


# --- patches as colours ------------------------------------------------------------------------------------------


def test_equal_states_have_equal_colours_and_other_ones_others():
    """Three kinds of patch, of which one is in both images."""
    kinds = np.eye(3, 5)
    which = np.array([[0, 0, 1, 1], [2, 2, 2, 1]])
    colours = plot.principal_colours(kinds[which]).reshape(8, 3)
    of_kind = [colours[which.ravel() == kind] for kind in range(3)]
    assert all(np.ptp(some, axis=0).max() < 1e-9 for some in of_kind)
    assert min(np.abs(of_kind[a][0] - of_kind[b][0]).max() for a, b in ((0, 1), (0, 2), (1, 2))) > 0.5
    assert (colours[:, 2] == 0.5).all()  # three points span a plane: there is no third direction


def test_the_first_colour_is_the_direction_of_largest_spread():
    draw = np.random.default_rng(0)
    states = draw.normal(size=(6, 25, 8)) * np.array([1, 1, 9, 1, 1, 4, 1, 1.0])
    colours = plot.principal_colours(states).reshape(-1, 3)
    assert np.corrcoef(colours[:, 0], states[..., 2].ravel())[0, 1] > 0.98
    assert np.corrcoef(colours[:, 1], states[..., 5].ravel())[0, 1] > 0.95
    assert 0.01 < (colours[:, 0] == 1).mean() < 0.03


def test_patches_that_are_no_image_are_refused(tmp_path):
    with pytest.raises(ShapeMismatch, match="15 patches"):
        plot.patch_colours(galaxies(2), np.zeros((2, 15, 4)), tmp_path / "x.png")
    with pytest.raises(BadPixels):
        plot.patch_colours(galaxies(2), np.full((2, 16, 4), np.nan), tmp_path / "x.png")


def test_states_of_other_images_are_refused(unchecked, tmp_path):
    with pytest.raises(ShapeMismatch, match="one entry an object"):
        plot.patch_colours(galaxies(2), np.zeros((3, 16, 4)), tmp_path / "x.png")
