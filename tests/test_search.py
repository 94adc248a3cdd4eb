"""The nearest are the nearest, whoever asks and however it is filtered, and only what can be compared is compared."""

import json
from dataclasses import replace

import numpy as np
import pytest

from omnisky.adapt.score import median_rank, recall_at
from omnisky.embed import Embedding
from omnisky.errors import BadValue, CorruptFile, MissingModality, ProvenanceError, ShapeMismatch
from omnisky.observe.place import Cone
from omnisky.observe.types import Observation, Scalars
from omnisky.search import Index, Where, flat_map, index, retrieval
from omnisky.search.retrieval import by_neighbours


def cloud(n: int = 40, width: int = 6, seed: int = 0, signature: str = "s") -> Embedding:
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(n, width)).astype(np.float32)
    unknown = np.full(n, np.nan)
    return Embedding(vectors, np.array([f"o{i}" for i in range(n)]), unknown, unknown, signature)


def pairs(n: int = 40, noise: float = 0.5) -> dict[str, Embedding]:
    """Spectra are images and noise, in another order, of all but the first three objects, and of two more."""
    images = cloud(n)
    draw = np.random.default_rng(5)
    order = draw.permutation(np.arange(3, n))
    near = images.vectors[order] + noise * draw.normal(size=(n - 3, 6)).astype(np.float32) + 3
    ids = np.append(images.object_id[order], ["x1", "x2"])
    vectors = np.concatenate([near, cloud(2, seed=9).vectors])
    place = draw.uniform(10, 12, (2, n))
    images = replace(images, ra=place[0], dec=place[1])
    far = np.array([200.0, 201.0])
    places = (np.append(place[0][order], far), np.append(place[1][order], far - 180))
    return {"image": images, "spectrum": Embedding(vectors.astype(np.float32), ids, *places, "s")}


def catalogue(n: int = 40) -> Observation:
    """Redshift i/100 and magnitude 15 + i/10 of object o{i}, in reverse; o0 has no redshift, o1 is not in it."""
    row = np.array([i for i in reversed(range(n)) if i != 1])
    redshift = np.where(row == 0, np.nan, row / 100)
    numbers = Scalars(values=np.stack([redshift, 15 + row / 10], 1), names=("redshift", "r_mag"), units=("", "mag"))
    return Observation.of([f"o{i}" for i in row], scalars=numbers)


def units(embedding: Embedding) -> np.ndarray:
    centred = embedding.vectors - embedding.vectors.mean(0)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def brute(query: np.ndarray, among: Embedding, keep, k: int) -> list[str]:
    """Ids by a full sort, those that `keep` allows."""
    order = np.argsort(-(units(among) @ query))
    return [name for name in among.object_id[order].tolist() if keep(name)][:k]


# --- one side ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [11, 2 * index.GROUP, 45 * index.GROUP, 100 * index.GROUP + 7])
def test_the_largest_of_a_row_are_found_by_groups(width):
    """Few enough to look at each, whole groups, and some left over, where the largest of all may be."""
    numbers = np.random.default_rng(width).normal(size=(9, width)).astype(np.float32)
    numbers[:4, -1] = 99
    found = np.sort(index._largest(numbers, 10), axis=1)
    np.testing.assert_array_equal(found, np.sort(np.argsort(-numbers, axis=1)[:, :10], axis=1))


def test_the_nearest_are_those_of_a_full_sort():
    found = Index(cloud()).like_ids(["o3", "o7"], k=5)
    x = units(cloud())
    for row, query in enumerate((3, 7)):
        want = [i for i in np.argsort(-(x @ x[query])) if i != query][:5]
        assert found.rows[row].tolist() == want
        assert found.object_id[row].tolist() == [f"o{i}" for i in want]
        np.testing.assert_allclose(found.similarity[row], (x @ x[query])[want], atol=1e-6)
    assert (np.diff(found.similarity, axis=1) <= 0).all()


def test_blocks_change_nothing(monkeypatch):
    want = Index(cloud()).like_ids(["o3", "o7"], k=12)
    filtered = Index(pairs(), catalogue=catalogue()).like_ids(["o9"], 9, by="image", where=RED)
    monkeypatch.setattr(index, "BLOCK", 7)
    found = Index(cloud()).like_ids(["o3", "o7"], k=12)
    assert found.rows.tolist() == want.rows.tolist()
    again = Index(pairs(), catalogue=catalogue()).like_ids(["o9"], 9, by="image", where=RED)
    assert again.rows.tolist() == filtered.rows.tolist()


def test_a_vector_of_the_index_finds_itself_first():
    found = Index(cloud()).like(cloud().take([11]), k=1)
    assert found.rows[0, 0] == 11
    assert found.similarity[0, 0] == pytest.approx(1, abs=1e-5)


def test_all_but_oneself_may_be_asked_for():
    assert sorted(Index(cloud(9)).like_ids(["o4"], k=8).object_id[0]) == [f"o{i}" for i in range(9) if i != 4]
    assert len(Index(cloud(1)).like(cloud(1), k=1).rows) == 1


def test_another_signature_is_refused():
    with pytest.raises(ProvenanceError, match="cannot be compared"):
        Index(cloud()).like(cloud(signature="t"))
    with pytest.raises(ProvenanceError, match="cannot be compared"):
        Index(cloud()).like_all(["o1"], unwanted=cloud(1, signature="t"))
    with pytest.raises(ProvenanceError, match="cannot be compared"):
        Index({"image": cloud(), "spectrum": cloud(signature="t")})


def test_unknown_ids_and_too_many_neighbours_are_refused():
    with pytest.raises(MissingModality, match="nobody"):
        Index(cloud()).like_ids(["nobody"])
    with pytest.raises(BadValue, match="1 … 3"):
        Index(cloud(4)).like_ids(["o1"], k=4)
    with pytest.raises(BadValue):
        Index(cloud()).like_ids(["o1"], k=0)
    with pytest.raises(ShapeMismatch, match="3 numbers"):
        Index(cloud()).like(cloud(width=3))
    with pytest.raises(ShapeMismatch, match="one space"):
        Index({"image": cloud(), "spectrum": cloud(width=3)})


# --- examples ----------------------------------------------------------------------------------------------------


def test_several_examples_are_their_mean_and_unwanted_ones_are_taken_away():
    x, some = units(cloud()), Index(cloud())
    names = {"o1", "o2", "o5", "o8"}
    direction = x[[1, 2]].mean(0) - x[[5, 8]].mean(0)
    found = some.like_all(["o1", "o2"], 6, unwanted=["o5", "o8"])
    assert found.object_id[0].tolist() == brute(direction, cloud(), lambda name: name not in names, 6)
    direction /= np.linalg.norm(direction)
    assert found.similarity[0, 0] == pytest.approx(float((x @ direction)[found.rows[0, 0]]), abs=1e-6)
    assert found.object_id[0].tolist() != some.like_all(["o1", "o2"], 6).object_id[0].tolist()


def test_examples_may_come_from_elsewhere():
    away = cloud().take([1, 2])
    found = Index(cloud()).like_all(away, 8)
    assert set(found.object_id[0]) >= {"o1", "o2"}  # they are not known to be objects of the index
    with pytest.raises(BadValue, match="at least one"):
        Index(cloud()).like_all([])


# --- filters -----------------------------------------------------------------------------------------------------

RED = Where(between={"redshift": (0.05, 0.2)})


def test_redshift_and_magnitude_filters_equal_brute_force():
    both, images = Index(pairs(), catalogue=catalogue()), pairs()["image"]
    found = both.like_ids(["o9"], 6, by="image", where=Where(between={"redshift": (0.05, 0.2), "r_mag": (15, 16.5)}))
    keep = {f"o{i}" for i in range(5, 16)} - {"o9"}
    assert found.object_id[0].tolist() == brute(units(images)[9], images, keep.__contains__, 6)


def test_who_has_no_number_is_in_no_range():
    found = Index(cloud(), catalogue=catalogue()).like_ids(["o0"], 38, where=Where(between={"redshift": (-9, 9)}))
    assert sorted(found.object_id[0].tolist()) == sorted(f"o{i}" for i in range(2, 40))


def test_a_cone_equals_brute_force():
    both = Index(pairs())
    images = pairs()["image"]
    cone = Cone(11.0, 11.0, 0.7)
    offset = np.hypot((images.ra - 11) * np.cos(np.radians(11)), images.dec - 11)  # flat to 1e-4 over a degree
    inside = set(images.object_id[offset < 0.7])
    assert 4 < len(inside) < 20 and not (abs(offset - 0.7) < 1e-3).any()
    found = both.like_ids(["o3"], len(inside - {"o3"}), by="image", where=Where(cone=cone))
    assert found.object_id[0].tolist() == brute(units(images)[3], images, (inside - {"o3"}).__contains__, 99)


def test_a_filter_that_leaves_too_few_says_so():
    narrow = Where(between={"redshift": (0.1, 0.12)})
    with pytest.raises(BadValue, match=r"saw 10; want 1 … 3\. Try: a wider filter"):
        Index(cloud(), catalogue=catalogue()).like_ids(["o9"], 10, where=narrow)
    with pytest.raises(BadValue, match="want 1 … 0"):
        Index(cloud(), catalogue=catalogue()).like_ids(["o9"], 1, where=Where(between={"redshift": (5, 6)}))


def test_unknown_columns_are_refused():
    with pytest.raises(MissingModality, match="z_phot"):
        Index(cloud(), catalogue=catalogue()).like_ids(["o1"], 1, where=Where(between={"z_phot": (0, 1)}))
    with pytest.raises(MissingModality):
        Index(cloud()).like_ids(["o1"], 1, where=RED)
    with pytest.raises(MissingModality, match="nothing to filter by"):
        Index(cloud(), catalogue=Observation.of(["o1"]))


# --- across ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("by", "across"), [(a, b) for a in ("image", "spectrum") for b in ("image", "spectrum")])
def test_four_ways_equal_brute_force(by, across):
    sides = pairs()
    found = Index(sides).like_ids(["o9", "o30"], 7, by=by, across=across)
    for row, name in enumerate(("o9", "o30")):
        query = units(sides[by])[sides[by].object_id.tolist().index(name)]
        want = brute(query, sides[across], lambda other, name=name: by != across or other != name, 7)
        assert found.object_id[row].tolist() == want


def test_a_new_image_finds_spectra():
    sides = pairs()
    new = sides["image"].take([4])
    found = Index(sides).like(new, 3, by="image", across="spectrum")
    assert found.object_id[0].tolist() == brute(units(sides["image"])[4], sides["spectrum"], lambda _: True, 3)


def test_an_index_left_uncentred_is_plain_cosine():
    sides = pairs()
    found = Index(sides, centred=False).like(sides["image"].take([4]), 3, by="image", across="spectrum")
    x = sides["spectrum"].vectors
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    order = np.argsort(-(x @ sides["image"].vectors[4]))[:3]
    assert found.object_id[0].tolist() == sides["spectrum"].object_id[order].tolist()


def test_sides_must_be_named_and_be_there():
    both = Index(pairs())
    with pytest.raises(BadValue, match="which side"):
        both.like_ids(["o9"])
    with pytest.raises(MissingModality, match="image spectrum"):
        both.like_ids(["o9"], by="xray")
    with pytest.raises(MissingModality, match="without 'spectrum'"):
        both.like_ids(["o1"], by="spectrum")
    twice = Embedding(*(np.repeat(part, 2, 0) for part in vars(cloud(2)).values() if not isinstance(part, str)), "s")
    with pytest.raises(BadValue, match="each object once"):
        Index({"image": twice, "spectrum": cloud()})


def test_a_place_names_its_object():
    both, images = Index(pairs()), pairs()["image"]
    assert both.at(float(images.ra[7]), float(images.dec[7]) + 2 / 3600) == "o7"
    with pytest.raises(MissingModality, match="arcsec away"):
        both.at(100.0, -60.0)
    with pytest.raises(MissingModality, match="no positions"):
        Index(cloud()).at(1.0, 1.0)


def test_ranks_are_those_of_a_full_sort():
    sides = pairs()
    ranks = Index(sides).ranks("image", "spectrum")
    assert len(ranks) == 37  # who has both
    images, spectra = (units(side) for side in sides.values())
    names = sides["spectrum"].object_id.tolist()
    for i, rank in zip(range(3, 40), ranks, strict=True):
        order = np.argsort(-(spectra @ images[i])).tolist()
        assert order.index(names.index(f"o{i}")) + 1 == rank


def test_recall_and_median_rank_have_bootstrap_errors():
    ranks = np.array([1] * 30 + [2, 5, 10, 11] * 20 + [500] * 10)
    assert recall_at(ranks, 10).value == pytest.approx(90 / 120)
    assert recall_at(ranks, 10).error == pytest.approx((0.75 * 0.25 / 120) ** 0.5, rel=0.15)  # 500 draws
    assert median_rank(ranks).value == 5
    sides = pairs(noise=0.02)
    both = retrieval(Index(sides), "image", "spectrum")
    assert both.recall[1].value > 0.9 and both.recall[10].value >= both.recall[1].value
    assert both.median_rank.value == 1 and both.among == 39


def test_by_chance_recall_is_chance():
    """10 of 400 by chance: 2.5 %, with a standard deviation of 0.8 %; the median rank is 200, give or take 14."""
    strangers = {"image": cloud(400), "spectrum": cloud(400, seed=1)}
    told = retrieval(Index(strangers), "spectrum", "image")
    assert told.recall[10].value == pytest.approx(0.025, abs=0.024)
    assert told.median_rank.value == pytest.approx(200, abs=45)


# --- on disk -----------------------------------------------------------------------------------------------------


def test_an_opened_index_answers_as_the_one_that_was_saved(tmp_path):
    made = Index(pairs(), catalogue=catalogue())
    again = Index.open(made.save(tmp_path / "index"))
    assert isinstance(again.side("image").units, np.memmap)
    for by, across in (("image", "spectrum"), ("spectrum", "spectrum")):
        asked = {"by": by, "across": across, "where": RED}
        one, two = (some.like_ids(["o9", "o12"], 5, **asked) for some in (made, again))
        assert one.object_id.tolist() == two.object_id.tolist()
        np.testing.assert_array_equal(one.similarity, two.similarity)
    assert again.signature == "s" and again.objects["scalars"].units == ("", "mag")
    assert again.at(float(made.objects.ra[7]), float(made.objects.dec[7])) == "o7"


def test_an_opened_index_refuses_strangers_too(tmp_path):
    again = Index.open(Index(cloud()).save(tmp_path / "index"))
    with pytest.raises(ProvenanceError):
        again.like(cloud(signature="t"))


@pytest.mark.parametrize("file", ["index.json", "objects.parquet", "embedding.units.npy", "embedding.rows.npy"])
def test_a_broken_index_names_its_file(tmp_path, file):
    Index(cloud()).save(tmp_path / "index")
    content = (tmp_path / "index" / file).read_bytes()
    (tmp_path / "index" / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptFile, match=file.replace(".", r"\.")):
        Index.open(tmp_path / "index")


def test_vectors_that_do_not_belong_are_noticed(tmp_path):
    Index(cloud()).save(tmp_path / "index")
    about = json.loads((tmp_path / "index/index.json").read_text())
    (tmp_path / "index/index.json").write_text(json.dumps(about | {"sides": {"embedding": 39}}))
    with pytest.raises(CorruptFile, match="not 39"):
        Index.open(tmp_path / "index")
    with pytest.raises(CorruptFile, match=r"index\.json"):
        Index.open(tmp_path / "nothing")


# --- the map -----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(240)  # numba compiles umap when it is first used
def test_a_map_keeps_two_islands_apart():
    one, two = cloud(60), cloud(60, seed=1)
    far = np.concatenate([one.vectors + 8, two.vectors - 8])
    both = Embedding(far, np.array([str(i) for i in range(120)]), np.full(120, np.nan), np.full(120, np.nan), "s")
    flat = flat_map(both)
    assert flat.method in ("UMAP", "PCA")
    centres = flat.xy[:60].mean(0), flat.xy[60:].mean(0)
    spread = max(flat.xy[:60].std(), flat.xy[60:].std())
    assert np.linalg.norm(centres[0] - centres[1]) > spread


def test_neighbours_tell_a_number():
    made = Index(pairs(), catalogue=catalogue())
    asked = made.sides["image"].units[:5] + made.sides["image"].mean
    query = Embedding(asked, np.arange(5).astype(str), np.full(5, np.nan), np.full(5, np.nan), made.signature)
    rows = made.like(query, 3, by="image", across="spectrum").rows
    said = by_neighbours(made, query, "redshift", by="image", across="spectrum", k=3)
    assert np.array_equal(said, np.nanmedian(made.objects["scalars"]["redshift"][rows], axis=1))
