"""A graph finds nearly all of the nearest, says their similarities exactly, and is used where it was asked for."""

import json
import sys
import time

import numpy as np
import pytest

from omnisky.cli import main
from omnisky.embed import Embedding
from omnisky.errors import BadValue, CorruptFile, MissingExtra
from omnisky.observe.place import Cone
from omnisky.search import Index, Where


def cloud(n: int, width: int = 32, seed: int = 0) -> Embedding:
    """Eight numbers and some noise in `width` dimensions: as galaxies lie, not as bad as noise alone."""
    draw = np.random.default_rng(seed)
    turned = draw.normal(size=(8, width)).astype(np.float32)
    vectors = draw.normal(size=(n, 8)).astype(np.float32) @ turned
    vectors += 0.3 * draw.standard_normal(size=(n, width), dtype=np.float32)
    place = draw.uniform(10, 12, (2, n))
    return Embedding(vectors, np.array([f"o{i}" for i in range(n)]), *place, "s")


def shared(found, true) -> float:
    """Recall."""
    both = zip(found.rows.tolist(), true.rows.tolist(), strict=True)
    return float(np.mean([len(set(mine) & set(all_)) / len(all_) for mine, all_ in both]))


@pytest.fixture(scope="module")
def clouds():
    pytest.importorskip("usearch")
    seen = cloud(4000)
    return seen, Index(seen, graph_from=4000), Index(seen, graph_from=None)


def test_recall_and_exact_similarities(clouds):
    seen, by_graph, by_all = clouds
    assert by_graph.side().graph is not None and by_all.side().graph is None
    asked = seen.object_id[:300].tolist()
    found, true = (index.like_ids(asked, 10) for index in (by_graph, by_all))
    assert shared(found, true) > 0.99  # 0.999 is usual; without the graph's proposals, 0.003
    units = by_all.side().units
    truth = np.einsum("qcw,qw->qc", units[found.rows], units[:300])
    np.testing.assert_allclose(found.similarity, truth, atol=1e-6)  # half precision alone would be off by 1e-3
    assert (np.diff(found.similarity, axis=1) <= 0).all()
    assert not (found.rows == np.arange(300)[:, None]).any()  # themselves are left out


def test_one_query_is_as_good_as_many(clouds):
    seen, by_graph, _ = clouds
    alone = by_graph.like(seen.take([7]), 5)
    assert alone.object_id[0, 0] == "o7" and alone.similarity[0, 0] == pytest.approx(1)
    assert alone.rows.tolist() == by_graph.like(seen.take(np.arange(7, 9)), 5).rows[:1].tolist()


def test_filters_and_very_many_answers_are_compared_with_all(clouds):
    _, by_graph, by_all = clouds
    where = Where(cone=Cone(11.0, 11.0, 0.4))
    for more in ({"k": 9, "where": where}, {"k": 3999}):
        found, true = (index.like_ids(["o5"], **more) for index in (by_graph, by_all))
        assert found.rows.tolist() == true.rows.tolist()
    with pytest.raises(BadValue, match=r"1 … 3999"):
        by_graph.like_ids(["o5"], 4000)


def test_below_the_threshold_all_are_compared():
    assert Index(cloud(50), graph_from=51).side().graph is None
    assert Index(cloud(50)).side().graph is None


def test_the_graph_is_kept_with_the_index(clouds, tmp_path):
    _, by_graph, _ = clouds
    opened = Index.open(by_graph.save(tmp_path / "index"))
    asked = [f"o{i}" for i in range(20)]
    assert opened.side().graph is not None
    assert opened.like_ids(asked, 10).rows.tolist() == by_graph.like_ids(asked, 10).rows.tolist()
    again = Index.open(opened.save(tmp_path / "again"))
    assert again.like_ids(asked, 10).rows.tolist() == by_graph.like_ids(asked, 10).rows.tolist()


def test_a_broken_graph_is_named(clouds, tmp_path):
    file = clouds[1].save(tmp_path / "index") / "embedding.usearch"
    whole = file.read_bytes()
    for broken in (whole[:-1000], b"x" * len(whole)):
        file.write_bytes(broken)
        with pytest.raises(CorruptFile, match=r"embedding\.usearch"):
            Index.open(tmp_path / "index")
    about = json.loads((tmp_path / "index" / "index.json").read_text())
    Index(cloud(60), graph_from=60).save(tmp_path / "other")
    other = (tmp_path / "other" / "embedding.usearch").read_bytes()
    file.write_bytes(other)
    about["graphs"]["embedding"] = len(other)
    (tmp_path / "index" / "index.json").write_text(json.dumps(about))
    with pytest.raises(CorruptFile, match="other vectors"):
        Index.open(tmp_path / "index")


def test_without_usearch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    monkeypatch.setitem(sys.modules, "usearch", None)
    with pytest.raises(MissingExtra, match=r"omnisky\[ann\].*--exact"):
        Index(cloud(30), graph_from=30)


def test_the_verb_goes_by_the_threshold(monkeypatch, tmp_path):
    pytest.importorskip("usearch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("omnisky.search.GRAPH_FROM", 30)
    cloud(40).save("e.parquet")
    for out, words in (("by-graph", []), ("by-all", ["--exact"])):
        with pytest.raises(SystemExit) as end:
            main(["index", "image=e.parquet", "--out", out, *words])
        assert not end.value.code
    assert Index.open("by-graph").side().graph is not None and Index.open("by-all").side().graph is None


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_200_000_vectors(record_property, capsys):
    pytest.importorskip("usearch")
    seen, told = cloud(200_000, 64), {}
    started = time.perf_counter()
    by_graph, by_all = Index(seen, graph_from=200_000), Index(seen, graph_from=None)
    told["build, s"] = round(time.perf_counter() - started, 1)
    asked, found = seen.object_id[:200].tolist(), {}
    for name, index in (("graph", by_graph), ("all", by_all)):
        started = time.perf_counter()
        found[name] = [index.like_ids([one], 10) for one in asked]
        told[f"one query by {name}, ms"] = round(1000 * (time.perf_counter() - started) / len(asked), 2)
    recall = np.mean([shared(*both) for both in zip(found["graph"], found["all"], strict=True)])
    told["recall@10"] = round(float(recall), 4)
    with capsys.disabled():
        sys.stdout.write(json.dumps(told) + "\n")  # what was measured, for the docs
    record_property("measured", json.dumps(told))
    assert recall > 0.98
    assert told["one query by graph, ms"] < told["one query by all, ms"]
