"""Catalogues of embeddings: the same by every engine, resumed after a kill, right where a partition is empty."""

import os
import re
import signal
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small import galaxies, model

from omnisky.embed import Cluster, Embedder, Embedding, Ranks, as_table, embed, embed_hats
from omnisky.embed import partitions as room
from omnisky.errors import BadValue, CorruptFile, MissingExtra, ObservationError, ProvenanceError
from omnisky.model import store
from omnisky.observe.hats import Hats
from omnisky.observe.hats_write import write_hats
from omnisky.observe.types import Observation
from omnisky.search import Index

N = 45


def sky() -> Observation:
    """Galaxies around RA 0, in twenty partitions or so."""
    draw, seen = np.random.default_rng(3), galaxies(N)
    return replace(seen, ra=draw.uniform(-40, 40, N) % 360, dec=draw.uniform(-30, 30, N))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sky") / "toys"
    write_hats(sky(), folder, max_rows=4, row_group=3)
    return Hats(folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return store.save(model(), tmp_path_factory.mktemp("model") / "toy")


@pytest.fixture(scope="module")
def local(source, saved, tmp_path_factory):
    """What one process makes of it."""
    out = tmp_path_factory.mktemp("local") / "embedded"
    embed_hats(saved, source, out, batch=3)
    return out


def content(folder):
    """file → (ids, vectors), and the small files' text."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    tables = {path.relative_to(folder): pq.read_table(path, partitioning=None) for path in files if "Npix" in path.name}
    told = {path.name: path.read_text() for path in files if path.suffix in (".csv", ".properties")}
    told = {name: text.replace(f"={folder.name}\n", "=its name\n") for name, text in told.items()}
    return {path: (table.to_pydict(), table.schema) for path, table in tables.items()}, told


# --- the pure function --------------------------------------------------------------------------------------------


def test_the_table_is_what_embed_makes():
    seen, make = sky(), Embedder(model())
    table = as_table(make, [seen.take(slice(0, 8)), seen.take(slice(8, 9))], 16)
    want = embed(model(), seen.take(slice(0, 9)), batch=8)
    np.testing.assert_array_equal(Embedding.of(table).vectors, want.vectors)
    assert table.schema.equals(room.schema_of(16, want.signature), check_metadata=True)
    assert table["object_id"].to_pylist() == want.object_id.tolist()
    assert as_table(make, [seen.take(slice(8, 9))], 16).num_rows == 1


def test_nothing_becomes_an_empty_table_of_the_same_columns():
    make = Embedder(model())
    some, none = as_table(make, [sky()], 16), as_table(make, [], 16)
    assert none.num_rows == 0 and none.schema.equals(some.schema, check_metadata=True)
    assert Embedding.of(none).vectors.shape == (0, 16)


# --- the catalogue ------------------------------------------------------------------------------------------------


def test_the_catalogue_has_all_objects_and_the_partitions_of_its_input(source, local):
    made, found = Hats(local), Embedding.load(local)
    assert made.partitions == source.partitions and len(made.partitions) > 8
    want = embed(model(), source.read(), batch=N)
    assert found.object_id.tolist() == want.object_id.tolist() and found.signature == want.signature
    np.testing.assert_allclose(found.vectors, want.vectors, atol=1e-5)  # other batches, other sums
    assert made.properties["hats_nrows"] == str(N) and made.properties["omnisky_signature"] == want.signature
    assert not (local / ".scratch").exists()


def test_batches_do_not_depend_on_row_groups(source):
    sizes = [[len(seen) for seen in source.batches_in(one, 3)] for one in source.partitions]
    assert sum(map(sum, sizes)) == N
    assert all(len(size) == -(-sum(size) // 3) for size in sizes)
    one = source.partitions[0]
    ids = [name for seen in source.batches_in(one, 1) for name in seen.object_id.tolist()]
    assert ids == [name for seen in source.batches_in(one, 99) for name in seen.object_id.tolist()]


def call(*words) -> int:
    from omnisky.cli import main

    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_an_index_is_made_of_a_catalogue(local, tmp_path, capsys):
    assert call("index", f"image={local}", "--out", tmp_path / "index") == 0
    index = Index.open(tmp_path / "index")
    found = Embedding.load(local)
    assert index.like_ids([found.object_id[7]], 3).object_id.shape == (1, 3)
    assert len(index) == N and f"{N} objects" in capsys.readouterr().out


def test_the_verb_says_what_was_done_and_refuses_what_is_no_catalogue(source, saved, local, tmp_path, capsys):
    words = ("embed", saved, source.path, tmp_path / "out", "--engine", "local", "--batch", 3)
    assert call(*words) == 0
    said = capsys.readouterr().out
    assert f"{N} objects in {len(source.partitions)} partitions; workers: 1, " in said
    assert re.search(r"objects/s each; overhead: \d+% of their time; ", said)
    assert content(tmp_path / "out") == content(local)
    assert call(*words) == 0 and "all was there already" in capsys.readouterr().out
    assert call("embed", saved, local / "partition_info.csv", tmp_path / "no", "--engine", "local") == 2
    assert "want a HATS catalogue" in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_a_selection_leaves_empty_partitions_that_can_be_read(source, saved, tmp_path):
    round_ones = source.between("class", 0, 0)
    report = embed_hats(saved, round_ones, tmp_path / "out", batch=3)
    counts = [one.objects for one in report.done]
    assert 0 in counts and 0 < report.objects < N
    found = Embedding.load(tmp_path / "out")
    assert sorted(found.object_id.tolist()) == sorted(round_ones.read().object_id.tolist())
    schemas = {pq.read_schema(file.open()).to_string() for file in Hats(tmp_path / "out").files}
    assert len(schemas) == 1
    with pytest.raises(ObservationError, match="nothing to embed"):
        embed_hats(saved, source.between("class", 7, 8), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_killed_call_goes_on_and_makes_nothing_twice(source, saved, local, tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_hats(saved, source, tmp_path / "out", batch=3, watch=stop)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("Npix=*.parquet")}
    assert len(first) == 5
    with pytest.raises(CorruptFile, match=r"hats\.properties"):
        Embedding.load(tmp_path / "out")
    last = tmp_path / "out" / "dataset" / f"{source.partitions[-1].path}.parquet"
    last.parent.mkdir(parents=True, exist_ok=True)
    last.with_name(f".{last.name}.0badcafe.draft").write_bytes(b"half of it")
    report = embed_hats(saved, source, tmp_path / "out", batch=3)
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert sum(one.seconds == 0 for one in report.done) == 5 and report.objects == N
    assert content(tmp_path / "out") == content(local) and not list((tmp_path / "out").rglob(".*"))
    assert embed_hats(saved, source, tmp_path / "out").done == ()  # all is there


def test_another_model_is_refused_before_and_after_the_end(source, saved, local, tmp_path):
    other = store.save(model(seed=1), tmp_path / "other")
    with pytest.raises(ProvenanceError, match="made otherwise"):
        embed_hats(other, source, local)
    with pytest.raises(KeyboardInterrupt):
        embed_hats(saved, source, tmp_path / "out", watch=_interrupt)
    with pytest.raises(BadValue, match="begun otherwise"):
        embed_hats(other, source, tmp_path / "out")


def test_a_model_that_changes_meanwhile_is_refused(source, tmp_path):
    folder = store.save(model(), tmp_path / "toy")

    def change(done: int, total: int) -> None:
        store.save(model(seed=1), folder)
        room._made.cache_clear()  # as in a worker that starts now

    with pytest.raises(ProvenanceError, match="not the same everywhere"):
        embed_hats(folder, source, tmp_path / "out", watch=change)


def _interrupt(done: int, total: int) -> None:
    raise KeyboardInterrupt


def test_ranks_share_the_partitions(source, saved, local, tmp_path, monkeypatch):
    """One after the other here; at once in `test_ranks_at_once`."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    shares = []
    monkeypatch.setenv("RANK", "0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_close", lambda job: None)  # rank 0 would wait for rank 1
        shares.append(embed_hats(saved, source, tmp_path / "out", engine=Ranks(), batch=3))
    monkeypatch.setenv("RANK", "1")
    shares.append(embed_hats(saved, source, tmp_path / "out", engine=Ranks(), batch=3))
    assert not (tmp_path / "out" / "hats.properties").exists()  # that is for rank 0 to say
    monkeypatch.setenv("RANK", "0")
    embed_hats(saved, source, tmp_path / "out", engine=Ranks(), batch=3)
    first, second = ({one.partition for one in share.done} for share in shares)
    assert not first & second and first | second == set(source.partitions)
    assert content(tmp_path / "out") == content(local)


def test_without_dask_the_extra_is_named(source, saved, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtra, match=r"omnisky\[hats\]"):
        embed_hats(saved, source, tmp_path / "out", engine=Cluster())
    with pytest.raises(BadValue, match="workers"):
        Cluster(workers=0)


# --- many processes -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ranks_at_once(source, saved, local, tmp_path):
    words = [sys.executable, "-m", "omnisky", "embed", str(saved), str(source.path), str(tmp_path / "out")]
    words += ["--engine", "torchrun", "--batch", "3"]
    threads = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}  # as here: the order of a sum depends on it
    ranks = [os.environ | {"RANK": str(rank), "WORLD_SIZE": "2"} | threads for rank in range(2)]
    running = [subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True) for env in ranks]
    said = [one.communicate(timeout=120)[0] for one in running]
    assert [one.returncode for one in running] == [0, 0], said
    assert content(tmp_path / "out") == content(local)


@pytest.fixture(scope="module")
def cluster():
    """Two processes of one thread, and one thread here, so that sums are the same; LSDB is not compiled: slow."""
    distributed = pytest.importorskip("distributed")
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        warnings.simplefilter("ignore")
        pytest.importorskip("lsdb")
        torch.set_num_threads(1)
        two = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with two, distributed.Client(two) as client:
            yield client
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_says_the_same_and_lsdb_opens_it(cluster, source, saved, tmp_path):
    lsdb = pytest.importorskip("lsdb")
    embed_hats(saved, source, tmp_path / "local", batch=3)
    report = embed_hats(saved, source, tmp_path / "out", engine=Cluster(), batch=3)
    assert content(tmp_path / "out") == content(tmp_path / "local")
    assert len(report.rates()) == 2 and report.objects == N
    loads = cluster.run(lambda: room._made.cache_info().misses)
    assert set(loads.values()) == {1}, "one model per worker, kept between partitions"

    catalogue = lsdb.open_catalog(tmp_path / "out")
    frame = catalogue.compute()
    assert sorted(frame["object_id"]) == sorted(sky().object_id.tolist())
    assert len(frame["embedding"].iloc[0]) == 16
    assert 0 < len(catalogue.cone_search(0, 0, 20 * 3600).compute()) < N

    empty = embed_hats(saved, source.between("class", 0, 0), tmp_path / "some", engine=Cluster(), batch=3)
    assert 0 in [one.objects for one in empty.done]
    assert len(lsdb.open_catalog(tmp_path / "some").compute()) == empty.objects


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_embeddings_are_matched_with_a_survey(cluster, source, local, tmp_path):
    """Embeddings on the left: the right side needs a margin, and the survey has one."""
    from omnisky.observe.match_hats import crossmatch_hats

    assert crossmatch_hats(local, source.path, 1.0, tmp_path / "pairs") == N


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_worker_killed_in_the_middle_is_replaced(cluster, source, saved, tmp_path):
    killed = []

    def kill(done: int, total: int) -> None:
        if done == 3 and not killed:
            killed.extend(cluster.run(os.getpid).values())
            os.kill(killed[0], signal.SIGKILL)

    report = embed_hats(saved, source, tmp_path / "out", engine=Cluster(), batch=3, watch=kill)
    embed_hats(saved, source, tmp_path / "local", batch=3)
    assert killed and report.objects == N
    assert content(tmp_path / "out") == content(tmp_path / "local")
    assert not [path for path in (tmp_path / "out").rglob(".*")]
