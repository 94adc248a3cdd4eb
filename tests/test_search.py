"""The nearest are the nearest, and only what can be compared is compared."""

import numpy as np
import pytest

from omnisky.embed import Embedding
from omnisky.errors import BadValue, MissingModality, ProvenanceError
from omnisky.search import Index, flat_map


def cloud(n: int = 40, width: int = 6, seed: int = 0, signature: str = "s") -> Embedding:
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(n, width)).astype(np.float32)
    unknown = np.full(n, np.nan)
    return Embedding(vectors, np.array([f"o{i}" for i in range(n)]), unknown, unknown, signature)


def test_the_nearest_are_those_of_a_full_sort():
    found = Index(cloud()).like_ids(["o3", "o7"], k=5)
    x = cloud().vectors - cloud().vectors.mean(0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    for row, query in enumerate((3, 7)):
        want = [i for i in np.argsort(-(x @ x[query])) if i != query][:5]
        assert found.rows[row].tolist() == want
        assert found.object_id[row].tolist() == [f"o{i}" for i in want]
    assert (np.diff(found.similarity, axis=1) <= 0).all()


def test_a_vector_of_the_index_finds_itself_first():
    found = Index(cloud()).like(cloud().take([11]), k=1)
    assert found.rows[0, 0] == 11
    assert found.similarity[0, 0] == pytest.approx(1, abs=1e-5)


def test_another_signature_is_refused():
    with pytest.raises(ProvenanceError, match="cannot be compared"):
        Index(cloud()).like(cloud(signature="t"))


def test_unknown_ids_and_too_many_neighbours_are_refused():
    with pytest.raises(MissingModality):
        Index(cloud()).like_ids(["nobody"])
    with pytest.raises(BadValue):
        Index(cloud(4)).like_ids(["o1"], k=4)


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
