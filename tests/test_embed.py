"""Embeddings keep ids and order, stop early, survive a kill, and say what made them."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from astropy.io import fits
from small import galaxies, model

from omnisky import embed as front_door
from omnisky.adapt.rows import Rows
from omnisky.cli import main
from omnisky.embed import Embedding, embed, embed_file, signature, token_states, zoomed
from omnisky.errors import BadValue, CorruptFile, MissingModality, ProvenanceError, StorageError
from omnisky.model import store
from omnisky.observe.read import read
from omnisky.observe.shards import Shards, write_shards
from omnisky.observe.types import Image, Observation


def test_the_front_door_is_this_function():
    assert front_door is embed


def test_an_object_embeds_the_same_alone_and_in_company():
    seen, net = galaxies(9), model()
    together, alone = embed(net, seen, batch=4), embed(net, seen.take([5]))
    np.testing.assert_allclose(together.vectors[5], alone.vectors[0], atol=1e-5)  # other batch shapes, other sums
    assert together.object_id.tolist() == seen.object_id.tolist()


def test_blocks_after_the_asked_one_do_not_run():
    seen, net = galaxies(2), model()
    want = embed(net, seen, blocks=1).vectors
    net.core.blocks[1].forward = lambda *_: pytest.fail("a block that was not asked for ran")
    np.testing.assert_array_equal(embed(net, seen, blocks=1).vectors, want)


def test_the_table_on_disk_is_what_was_embedded(tmp_path):
    found = embed(model(), galaxies(5))
    again = Embedding.load(found.save(tmp_path / "e.parquet"))
    np.testing.assert_array_equal(again.vectors, found.vectors)
    assert again.signature == found.signature and again.object_id.tolist() == found.object_id.tolist()
    column = pq.read_schema(tmp_path / "e.parquet").field("embedding").type
    assert (column.list_size, str(column.value_type)) == (16, "float")


def test_a_fits_table_is_what_was_embedded(tmp_path):
    found = embed(model(), galaxies(5))
    path = found.save(tmp_path / "e.fits")
    again = Embedding.load(path)
    np.testing.assert_array_equal(again.vectors, found.vectors)
    np.testing.assert_array_equal([again.ra, again.dec], [found.ra, found.dec])
    assert again.signature == found.signature and again.object_id.tolist() == found.object_id.tolist()
    with fits.open(path, checksum=True) as units:  # as others open it; a wrong checksum would be an error here
        table = units["EMBEDDINGS"]
        assert table.columns["embedding"].format == "16E" and table.columns["ra"].unit == "deg"
        np.testing.assert_array_equal(np.asarray(table.data["embedding"]), found.vectors)
    assert [one.name for one in tmp_path.iterdir()] == ["e.fits"]
    one = found.take([3])
    narrow = Embedding(one.vectors[:, :1], one.object_id, one.ra, one.dec, one.signature)
    np.testing.assert_array_equal(Embedding.load(narrow.save(tmp_path / "one.fits")).vectors, narrow.vectors)


def test_fits_refuses_what_it_cannot_hold(tmp_path):
    seen = galaxies(2)
    for name in ("é", "a "):  # no such letter; a blank at the end is padding
        odd = Embedding(np.zeros((2, 3), np.float32), np.array(["a", name]), seen.ra, seen.dec, "s")
        with pytest.raises(BadValue, match="plain ASCII"):
            odd.save(tmp_path / "e.fits")
    with pytest.raises(BadValue, match=r"ending in \.fits"):
        embed_file(model(), seen, tmp_path / "e.fits.gz")
    assert not list(tmp_path.iterdir())
    fits.BinTableHDU.from_columns([fits.Column("ra", "D", array=[1.0])]).writeto(tmp_path / "other.fits")
    with pytest.raises(CorruptFile, match=r"other\.fits"):
        Embedding.load(tmp_path / "other.fits")


def test_a_truncated_fits_table_is_named(tmp_path):
    path = embed(model(), galaxies(5)).save(tmp_path / "e.fits")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CorruptFile, match=r"e\.fits"):
        Embedding.load(path)


def test_the_verb_writes_fits_that_an_index_is_made_of(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen, net = galaxies(5), model()
    store.save(net, tmp_path / "model")
    write_shards(seen, tmp_path / "sky")
    for words in (["embed", "model", "sky", "e.fits"], ["index", "image=e.fits"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert not end.value.code
    assert "5 objects" in capsys.readouterr().out
    np.testing.assert_allclose(Embedding.load("e.fits").vectors, embed(net, read("sky")).vectors, atol=1e-5)
    assert len(Rows.of("e.fits")) == 5 and isinstance(Rows.of("e.fits").held, Embedding)
    with pytest.raises(SystemExit) as end:
        main(["embed", "model", "sky", "e.votable"])  # else Parquet under another name
    assert end.value.code == 2 and "out.fits" in capsys.readouterr().err and not Path("e.votable").exists()


def test_a_truncated_table_is_named(tmp_path):
    path = embed(model(), galaxies(5)).save(tmp_path / "e.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptFile, match=r"e\.parquet"):
        Embedding.load(path)


def test_a_killed_embedding_goes_on_after_the_last_part(tmp_path):
    seen, net = galaxies(10), model()
    want = Embedding.load(embed_file(net, seen, tmp_path / "whole.parquet", part_size=4))

    def stop(done: int, total: int) -> None:
        if done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_file(net, seen, tmp_path / "killed.parquet", part_size=4, watch=stop)
    counted: list[int] = []
    embed_file(net, seen, tmp_path / "killed.parquet", part_size=4, watch=lambda done, total: counted.append(done))
    assert min(counted) > 4  # the first part was not made again
    np.testing.assert_array_equal(Embedding.load(tmp_path / "killed.parquet").vectors, want.vectors)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed.parquet", "whole.parquet"]


def test_of_shards_only_the_part_that_is_asked_for_is_read(tmp_path, monkeypatch):
    seen, net = galaxies(5), model()
    shards = write_shards(seen, tmp_path / "sky")
    assert "scalars" in shards.layout.parts
    read_parts, take = [], Shards.take
    monkeypatch.setattr(Shards, "take", lambda self, at: read_parts.append(tuple(self.layout.parts)) or take(self, at))
    found = Embedding.load(embed_file(net, shards, tmp_path / "e.parquet", part="image", part_size=2))
    assert set(read_parts) == {("image",)} and len(read_parts) == 3
    np.testing.assert_allclose(found.vectors, embed(net, read(tmp_path / "sky")).vectors, atol=1e-5)
    with pytest.raises(MissingModality, match="spectrum"):
        embed_file(net, shards, tmp_path / "none.parquet", part="spectrum")
    assert not (tmp_path / "none.parquet.parts").exists()


def test_parts_of_another_model_are_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        embed_file(model(), galaxies(10), tmp_path / "e.parquet", part_size=4, watch=_interrupt)
    with pytest.raises(ProvenanceError, match="begun otherwise"):
        embed_file(model(seed=1), galaxies(10), tmp_path / "e.parquet", part_size=4)


def _interrupt(done: int, total: int) -> None:
    if done > 4:  # the first part is there
        raise KeyboardInterrupt


def test_the_signature_knows_weights_layer_and_precision():
    net = model()
    first = signature(net)
    assert len({first, signature(net, 1), signature(net, None, "bf16"), signature(model(seed=1))}) == 4
    assert first == signature(model()) == signature(net, net.centre)


def test_views_are_rows_of_the_same_object():
    seen, net = galaxies(3), model()
    one, four = token_states(net, seen, precision="fp32"), token_states(net, seen, views=4, precision="fp32")
    np.testing.assert_array_equal(four[::4], one)
    assert np.abs(four[1::4] - one).max() > 0.01  # a turned galaxy is another picture
    with pytest.raises(BadValue):
        token_states(net, seen, views=9)


def test_states_in_a_file_are_the_same_and_are_not_made_twice(tmp_path):
    seen, net, file = galaxies(5), model(), tmp_path / "deep" / "states.npy"
    made = token_states(net, seen, views=2, batch=2, file=file)
    np.testing.assert_array_equal(made, token_states(net, seen, views=2, batch=2))
    assert [path.name for path in file.parent.iterdir()] == ["states.npy"]
    np.testing.assert_array_equal(token_states(model(seed=1), seen, views=2, file=file), made)


def test_states_that_do_not_fit_on_the_disk_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    """Written past the end of a full disk, a memory-mapped file kills the process."""

    def stop(done: int, _: int) -> None:
        raise RuntimeError(done)

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(StorageError, match="no room for the states of 5 objects"):
        token_states(model(), galaxies(5), file=tmp_path / "states.npy")
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="2"):
        token_states(model(), galaxies(5), batch=2, file=tmp_path / "states.npy", watch=stop)
    assert not list(tmp_path.iterdir())


def test_a_zoomed_image_is_larger_about_its_middle():
    """A square of 4 px becomes one of 8: four times the light, the surface brightness as it was."""
    flux = np.zeros((1, 1, 32, 32), np.float32)
    flux[..., 14:18, 14:18] = 7.0
    seen = Observation.of(["a"], image=Image(flux=flux, bands=("g",)))
    assert zoomed(seen, 1.0) is seen
    large = zoomed(seen, 2.0)["image"].flux
    assert large.max() == 7.0
    assert abs(large.sum() / flux.sum() - 4) < 0.05
    np.testing.assert_allclose(large, large[..., ::-1, ::-1], atol=1e-4)


def test_absent_images_do_not_change_the_others():
    seen, net = galaxies(4), model()
    tokens = net.codecs[0].encode(seen)
    hidden = tokens["images"].there().clone()
    hidden[1] = False
    from omnisky.codec.tokens import Span, Tokens

    some = Tokens({"images": Span(tokens["images"].values, tokens["images"].positions, hidden)})
    with torch.no_grad():
        torch.testing.assert_close(net.states(some)[0], net.states(tokens)[0])
