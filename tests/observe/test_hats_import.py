"""hats-import, with several processes, makes what our own writer makes: objects, columns, cells, margins."""

import sys
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_hats import N, check, sky

from omnisky.errors import BadValue, MissingExtra, ObservationError
from omnisky.observe import hats_import
from omnisky.observe.hats import Hats
from omnisky.observe.hats_import import import_hats
from omnisky.observe.hats_write import write_hats
from omnisky.observe.types import Observation


def pieces():
    return (sky().take(slice(i, i + 70)) for i in range(0, N, 70))


@pytest.fixture(scope="module")
def both(tmp_path_factory, lsdb):
    """Nested columns, tensors, scalars, words, absent parts; pairs across RA 0 and near the pole."""
    pytest.importorskip("hats_import")
    distributed = pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("both")
    own = write_hats(pieces(), folder / "own" / "toys", max_rows=40, row_group=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with distributed.Client(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None):
            other = import_hats(pieces(), folder / "other" / "toys", max_rows=40, row_group=8)
    return own, other


@pytest.mark.filterwarnings("ignore")
def test_both_writers_write_the_same(both):
    own, other = both
    assert other.partitions == own.partitions
    for one in own.partitions:
        a, b = (
            pq.read_table(f"{hats.root.path}/dataset/{one.path}.parquet", partitioning=None).sort_by("object_id")
            for hats in both
        )
        assert a.schema.equals(b.schema, check_metadata=True)
        assert a.equals(b)
        cell = pq.read_table(
            f"{other.root.path}/dataset/{one.path}.parquet", columns=["_healpix_29"], partitioning=None
        )
        assert (np.diff(cell.column(0).to_numpy()) >= 0).all()
        assert pq.read_metadata(f"{other.root.path}/dataset/{one.path}.parquet").row_group(0).num_rows <= 8
    check(other.read(), sky().object_id)


@pytest.mark.filterwarnings("ignore")
def test_nothing_but_the_collection_is_left(both):
    _, other = both
    assert sorted(path.name for path in other.path.iterdir()) == ["collection.properties", "toys", "toys_10arcs"]


@pytest.mark.filterwarnings("ignore")
def test_its_margin_holds_all_within_ten_arcsec(both):
    _, other = both
    seen = sky()
    x = np.stack(
        [f(np.radians(seen.ra)) * np.cos(np.radians(seen.dec)) for f in (np.cos, np.sin)]
        + [np.sin(np.radians(seen.dec))],
        axis=1,
    )
    apart = np.degrees(2 * np.arcsin(np.linalg.norm(x[:, None] - x[None], axis=2).clip(0, 2) / 2)) * 3600
    held = [set(next(iter(other.batches_in(one, N))).object_id) for one in other.partitions]
    of = np.array([next(i for i, names in enumerate(held) if name in names) for name in seen.object_id])
    close = np.argwhere((apart <= 10) & (of[:, None] != of[None]))
    assert len(close) >= 4, "the sky of the test has no pairs across borders"
    for i, j in close.tolist():
        path = other.path / "toys_10arcs" / "dataset" / f"{other.partitions[of[i]].path}.parquet"
        assert seen.object_id[j] in pq.ParquetFile(path).read(columns=["object_id"]).column(0).to_pylist()


@pytest.mark.filterwarnings("ignore")
def test_lsdb_opens_it_and_matches_with_its_margin(both, lsdb):
    own, other = (lsdb.open_catalog(str(one.path)) for one in both)
    assert sorted(other.compute()["object_id"]) == sorted(sky().object_id)
    light = [lsdb.open_catalog(str(one.path), columns=["object_id", "ra", "dec"]) for one in both]
    matched = [
        light[0].crossmatch(one, radius_arcsec=5, n_neighbors=50, suffixes=("_a", "_b")).compute() for one in light
    ]
    a, b = (sorted(zip(one["object_id_a"], one["object_id_b"], strict=True)) for one in matched)
    assert a == b and len(a) > N
    assert len(own.compute()) == N


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch, lsdb):
    """Stopped with everything spilled, and once more by processes of its own."""
    pytest.importorskip("hats_import")

    class Stopped(Exception):
        pass

    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(hats_import, "_client", stop)
        import_hats(pieces(), tmp_path / "toys", max_rows=40)
    with pytest.raises(ObservationError):
        Hats(tmp_path / "toys").read()
    with pytest.raises(BadValue, match="begun otherwise"):
        import_hats(pieces(), tmp_path / "toys", max_rows=50)
    check(import_hats(pieces(), tmp_path / "toys", max_rows=40).read(), sky().object_id)
    check(import_hats(pieces(), tmp_path / "toys", max_rows=40).read(), sky().object_id)


def test_without_hats_import_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "hats_import", None)
    with pytest.raises(MissingExtra, match=r"omnisky\[hats\]"):
        import_hats(sky(), tmp_path / "toys")
    assert not (tmp_path / "toys").exists()


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(BadValue, match="workers"):
        import_hats(sky(), tmp_path / "toys", workers=0)
    with pytest.raises(BadValue, match="margin"):
        import_hats(sky(), tmp_path / "toys", margin_arcsec=0.0)
    pytest.importorskip("hats_import")
    with pytest.raises(ObservationError, match="lost"):
        import_hats([Observation.of(["lost"])], tmp_path / "toys")
