"""The verbs as a user types them: what they print, where they leave things, how they refuse."""

import json

import numpy as np
import pairs
import pytest
from PIL import Image as Picture
from small import galaxies, model

from omnisky import cli, recipes
from omnisky.embed import Embedding
from omnisky.model import store
from omnisky.observe.read import read
from omnisky.train.config import Run


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    return int(end.value.code or 0)


@pytest.fixture
def folder(tmp_path):
    """Twelve galaxies as PNG files, 64 px."""
    (tmp_path / "galaxies").mkdir()
    for i, flux in enumerate(galaxies(12, size=64)["image"].flux):
        Picture.fromarray(flux.transpose(1, 2, 0)).save(tmp_path / "galaxies" / f"g{i:02d}.png")
    return tmp_path / "galaxies"


def test_train_leaves_a_model_that_loads_and_goes_on_from_there(folder, tmp_path, capsys):
    core = ("model.core.depth=2", "model.core.width=32", "model.core.heads=2")
    small = (*core, "batch=4", "workers=0", "precision=fp32")
    words = ("train", "astropt-nano", f"data={folder}", "steps=3", *small, "--out", tmp_path / "run", "--json")
    assert call(*words) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert store.load(tmp_path / "run" / "model").config.core.depth == 2
    assert call(*words) == 0
    assert capsys.readouterr().out == ""  # nothing was left to do
    learnt = store.load(tmp_path / "run" / "model").state_dict()
    again = ("train", "astropt-nano", f"data={folder}", "steps=1", "optim.peak=1e-12", *small, "--json")
    assert call(*again, "--from", tmp_path / "run" / "model", "--out", tmp_path / "more") == 0
    for name, weight in store.load(tmp_path / "more" / "model").state_dict().items():
        np.testing.assert_allclose(weight, learnt[name], atol=1e-6)


def test_embed_writes_a_catalogue_of_the_files(folder, tmp_path):
    store.save(model(patch=8), tmp_path / "m")
    assert call("embed", tmp_path / "m", folder, tmp_path / "out.parquet") == 0
    found = Embedding.load(tmp_path / "out.parquet")
    assert found.object_id.tolist() == [f"g{i:02d}" for i in range(12)]
    assert np.isfinite(found.vectors).all()


def test_align_makes_a_model_of_two_towers_and_embed_asks_which(tmp_path, monkeypatch, capsys):
    run = Run(
        name="toy-clip", model=pairs.CLIP, codecs=(pairs.PATCHES, pairs.SECTIONS), steps=3, batch=4, precision="fp32"
    )
    monkeypatch.setitem(recipes.RECIPES, "toy-clip", lambda: run)
    monkeypatch.setattr("omnisky.observe.read.read", lambda path: pairs.sky(12))
    for name, config in {"image": pairs.VISION, "spectrum": pairs.SPECFORMER}.items():
        store.save(config.build(1), tmp_path / name)
    towers = ("--image", tmp_path / "image", "--spectrum", tmp_path / "spectrum")
    assert call("align", "toy-clip", *towers) == 2  # no data
    assert call("align", "toy-clip", "data=x", *towers, "--out", tmp_path / "run", "--json") == 0
    assert [json.loads(line)["step"] for line in capsys.readouterr().out.splitlines()] == [1, 2, 3]
    words = ("embed", tmp_path / "run" / "model", "x", tmp_path / "out.parquet")
    assert call(*words) == 2
    assert 'part="image"' in capsys.readouterr().err
    assert call(*words, "--part", "spectrum") == 0
    assert Embedding.load(tmp_path / "out.parquet").vectors.shape == (12, 8)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "astropt-nana"), "Try: astropt-nano"),
        (("train", "astropt-nano", "stepz=3"), "Try: steps"),
        (("train", "astropt-nano", "optim.peek=1"), "Try: optim.peak"),
        (("train", "astropt-nano", "steps=many"), "type int"),
        (("train", "astropt-nano"), "omnisky train astropt-nano data="),
        (("embed", "no-such-model", "x", "y"), "omnisky-nano"),
        (("embed", "omnisky-nano", "/no/such/folder", "y"), "/no/such/folder"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_try(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())  # nothing is left behind


def test_recipes_are_listed(capsys):
    assert call("recipes") == 0
    assert {"astropt-nano", "astropt-2100m", "galaxy-cnn"} <= set(capsys.readouterr().out.split())


# --- search -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sky_index(tmp_path, capsys):
    """Thirty objects a degree apart whose spectra are their images, nearly; a redshift for each."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(30, 8)).astype(np.float32)
    ids, ra, dec = np.array([f"g{i:02d}" for i in range(30)]), np.arange(30.0), np.full(30, 5.0)
    for name, near in (("image", vectors), ("spectrum", vectors + 0.1 * draw.normal(size=(30, 8)).astype(np.float32))):
        Embedding(near, ids, ra, dec, "s").save(tmp_path / f"{name}.parquet")
    (tmp_path / "known").mkdir()
    np.savez(tmp_path / "known" / "set.npz", flux_nanomaggies=draw.normal(1, 1, (30, 3, 4, 4)), pixscale=0.4,
             bands=np.array(["u", "g", "r"]), object_id=ids)  # fmt: skip
    rows = [f"g{i:02d},{i / 100}" for i in range(30)]
    (tmp_path / "known" / "numbers.csv").write_text("\n".join(["object_id,redshift", *rows]))
    sides = (f"{name}={tmp_path / name}.parquet" for name in ("image", "spectrum"))
    assert call("index", *sides, "--out", tmp_path / "index", "--about", tmp_path / "known") == 0
    assert "30 objects" in capsys.readouterr().out
    return tmp_path / "index"


def answers(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_place_finds_spectra_of_look_alikes(sky_index, capsys):
    words = ("search", "--index", sky_index, "--ra", 7, "--dec", 5.0001, "--across", "spectrum", "--k", 3)
    assert call(*words, "--json") == 0
    first = answers(capsys)
    assert len(first) == 3 and first[0]["object_id"] == "g07" and first[0]["redshift"] == pytest.approx(0.07)
    assert call(*words) == 0
    assert "g07" in capsys.readouterr().out
    assert call(*words, "--where", "redshift=0.1:", "--cone", 15, 5, 6, "--json") == 0
    inside = answers(capsys)
    assert len(inside) == 3 and all(0.1 <= one["redshift"] <= 0.21 for one in inside)


def test_examples_and_what_is_not_meant(sky_index, capsys):
    words = ("search", "--index", sky_index, "--like", "g03", "--like", "g04", "--unlike", "g05", "--json")
    assert call(*words) == 0
    found = answers(capsys)
    assert len(found) == 10 and not {"g03", "g04", "g05"} & {one["object_id"] for one in found}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--ra and --dec, or --like ID"),
        (("--ra", "7"), "--ra and --dec"),
        (("--ra", "7", "--dec", "50"), "arcsec away"),
        (("--like", "g03", "--across", "xray"), "image spectrum"),
        (("--like", "g03", "--where", "redshift=0.1"), "COLUMN=LOW:HIGH"),
        (("--like", "g03", "--where", "mass=1:2"), "mass"),
        (("--like", "g03", "--k", "30"), "1 … 29"),
    ],
)
def test_a_search_that_cannot_be_is_refused(sky_index, words, said, capsys):
    assert call("search", "--index", sky_index, *words) == 2
    assert said in capsys.readouterr().err


def test_an_index_wants_named_files(tmp_path, capsys):
    assert call("index", "images.parquet", "--out", tmp_path / "index") == 2
    assert "NAME=FILE" in capsys.readouterr().err


# --- data ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def surveys(tmp_path):
    """Two sets of five stamps with positions, the second shifted by 0.2 arcsec and the other way round."""
    draw = np.random.default_rng(0)
    for name, shift, order in (("a", 0.0, slice(None)), ("b", 0.2, slice(None, None, -1))):
        folder = tmp_path / name
        folder.mkdir()
        ids = np.array([f"{name}{i}" for i in range(5)])[order]
        flux = draw.normal(1, 1, (5, 3, 4, 4))
        np.savez(
            folder / "set.npz", flux_nanomaggies=flux, bands=np.array(["u", "g", "r"]), object_id=ids, pixscale=0.4
        )
        rows = [f"{name}{i},{10 * i},{shift / 3600}" for i in range(5)]
        (folder / "places.csv").write_text("\n".join(["object_id,ra,dec", *rows]))
    return tmp_path


def test_crossmatch_writes_pairs_and_says_how_many(surveys, capsys):
    words = ("data", "crossmatch", surveys / "a", surveys / "b", "--radius", 1, "--out", surveys / "pairs.csv")
    assert call(*words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pairs"] == told["left_matched"] == 5 and told["median_arcsec"] == pytest.approx(0.2)
    lines = (surveys / "pairs.csv").read_text().splitlines()
    assert lines[0].startswith("left_id,left_row") and lines[1].startswith("a0,0,0.0,0.0,b0,4,")
    assert (told["left_objects"], told["right_without_position"], sum(told["histogram"]["pairs"])) == (5, 0, 5)
    assert call(*words, "--pairs", "mutual") == 0
    said = capsys.readouterr().out
    assert "median arcsec" in said and "0.2 – 0.3" in said and "█" in said


def test_crossmatch_makes_one_data_set_of_two(surveys, capsys):
    words = ("data", "crossmatch", surveys / "a", surveys / "b", "--radius", 1, "--into", surveys / "both")
    assert call(*words) == 0
    both = read(surveys / "both")
    assert sorted(both.object_id) == [f"a{i}" for i in range(5)]
    assert {"image_left", "image_right", "match_left", "match_right"} == set(both.parts)
    assert [name[1:] for name in both.object_id] == [name[1:] for name in both["match_right"].object_id]
    capsys.readouterr()
    assert call(*words) == 0  # done already


def test_crossmatch_reads_columns_that_are_called_otherwise_or_says_what_there_is(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("name,RAJ2000,DEJ2000\nx,10,20\ny,30,40\n")
    (tmp_path / "b.csv").write_text("name,lon,lat\nx,10,20\n")
    assert call("data", "crossmatch", tmp_path / "a.csv", tmp_path / "a.csv", "--radius", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 2
    assert call("data", "crossmatch", tmp_path / "a.csv", tmp_path / "b.csv", "--radius", 1) == 2
    said = capsys.readouterr().err
    assert "b.csv: which columns are the position?. saw name lon lat" in said.replace("position? saw", "position?. saw")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--radius", 0), "want 0 < radius"),
        (("--radius", "wide"), "wide"),
        ((), "--radius"),
        (("--radius", 1, "--pairs", "closest"), "nearest"),
        (("--radius", 1, "--into", "a"), "new or empty folder"),
        (("--radius", 0.1, "--into", "both"), "a larger radius"),
        (("--radius", 1, "--epoch", 2016), "pmra, pmdec, ref_epoch"),
        (("--radius", 1, "--lsdb"), "--out FOLDER"),
        (("--radius", 1, "--out", "pairs.fits"), "ends in .parquet or .csv"),
    ],
)
def test_a_crossmatch_that_cannot_be_is_refused(surveys, more, said, capsys, monkeypatch):
    monkeypatch.chdir(surveys)
    assert call("data", "crossmatch", surveys / "a", surveys / "b", *more) != 0
    told = capsys.readouterr()
    assert said in told.err + told.out  # what cyclopts refuses, it says on stdout
    assert sorted(path.name for path in surveys.iterdir()) == ["a", "b"]


def test_the_help_of_crossmatch_explains_each_word(capsys):
    assert call("data", "crossmatch", "--help") == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in ("One survey: a folder", "The other one", "arcsec. [required]", "Julian year", "mutual: one to one"):
        assert words in said


def test_a_crossmatch_with_nothing_names_it(surveys, capsys):
    assert call("data", "crossmatch", surveys / "a", surveys / "none", "--radius", 1) == 2
    assert "nothing there" in (said := capsys.readouterr().err) and str(surveys / "none") in said


def test_validate_says_yes_or_what_is_wrong(surveys, capsys):
    assert call("validate", surveys / "a") == 0
    said = capsys.readouterr().out
    assert "5 objects, nothing found" in said and "image.flux g" in said
    flux = np.ones((2, 1, 4, 4))
    np.savez(surveys / "a" / "set.npz", flux_nanomaggies=flux, bands=np.array(["u"]), object_id=np.array(["b'0'", "1"]))
    assert call("validate", surveys / "a", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"] and {one["check"] for one in told["findings"] if one["serious"]} == {"ids", "constant"}
    assert call("validate", surveys / "a") == 1
    assert "wrong" in capsys.readouterr().out
    assert call("validate", surveys / "nothing") == 2
