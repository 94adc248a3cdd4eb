"""Ids on disk: what was written is read back, absent stays absent, a killed call goes on, bad files are named."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from omnisky.codec.token_shards import IdTokens, as_table, read_shards, tokenize
from omnisky.codec.tokens import Span, Tokens, encode_all
from omnisky.errors import BadValue, CorruptFile, ProvenanceError
from omnisky.observe.types import Observation

CODECS = (IdTokens(name="image"), IdTokens(name="z"))


def sky(n: int = 10, z: bool = True) -> tuple[Observation, Tokens]:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(4375, (n, 9), generator=draw)
    present = torch.ones(n, 9, dtype=torch.bool)
    present[1], present[2, 5] = False, False
    spans = {"image": Span(image, torch.arange(9).expand(n, -1), present)}
    if z:
        spans["z"] = Span(torch.randint(1025, (n, 1), generator=draw), torch.zeros(n, 1, dtype=torch.long))
    tokens = Tokens(spans)
    seen = Observation.of([f"o{i}" for i in range(n)], np.linspace(0, 9, n), np.zeros(n))
    for codec in CODECS:
        if codec.name in spans:
            seen = codec.decode(tokens, seen)
    return seen, tokens


def same(one: Span, two: Span) -> bool:
    there = one.there()
    return torch.equal(there, two.there()) and torch.equal(one.values[there], two.values[there])


def test_round_trip_through_shards(tmp_path):
    seen, tokens = sky()
    again = read_shards(tokenize(CODECS, seen, tmp_path, shard=4, batch=3))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["000000.parquet", "000001.parquet", "000002.parquet"]
    assert again.object_id.tolist() == seen.object_id.tolist()
    assert np.array_equal(again.ra, seen.ra)
    said = encode_all(CODECS, again)
    assert all(same(said[name], tokens[name]) for name in tokens)
    assert pq.read_table(tmp_path / "000000.parquet")["image"].null_count == 1


def test_one_object_is_row_0_of_many(tmp_path):
    seen, tokens = sky()
    again = read_shards(tokenize(CODECS, seen, tmp_path))
    alone = encode_all(CODECS, again.take(slice(3, 4)))
    assert torch.equal(alone["image"].values[0], tokens["image"].values[3])


def test_a_killed_call_goes_on(tmp_path):
    seen, _ = sky()
    calls = []

    def stop(done, whole):
        calls.append((done, whole))
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenize(CODECS, seen, tmp_path, shard=4, watch=stop)
    before = (tmp_path / "000000.parquet").stat().st_mtime_ns
    tokenize(CODECS, seen, tmp_path, shard=4)
    assert (tmp_path / "000000.parquet").stat().st_mtime_ns == before
    assert len(read_shards(tmp_path)) == 10


def test_shards_that_are_yet_to_come_are_missed(tmp_path):
    """Those of another process, in between and at the end; and of older folders, which do not say how many."""
    seen, _ = sky()
    tokenize(CODECS, seen, tmp_path, shard=2, part=(0, 2))
    with pytest.raises(
        CorruptFile, match=r"not finished.*saw 6 objects in 3 shards, no 000001 000003; want 10 objects"
    ):
        read_shards(tmp_path)
    tokenize(CODECS, seen, tmp_path, shard=2, part=(1, 2))
    assert len(read_shards(tmp_path)) == 10
    (tmp_path / "000004.parquet").unlink()
    with pytest.raises(CorruptFile, match=r"saw 8 objects in 4 shards; want 10.*--part"):
        read_shards(tmp_path)
    for file in tmp_path.iterdir():
        old = pq.read_table(file)
        told = {key: value for key, value in old.schema.metadata.items() if key != b"omnisky_objects"}
        pq.write_table(old.replace_schema_metadata(told), file)
    assert len(read_shards(tmp_path)) == 8
    (tmp_path / "000002.parquet").unlink()
    with pytest.raises(CorruptFile, match="no 000002; want shards without a gap"):
        read_shards(tmp_path)


def test_two_processes_share_the_shards(tmp_path):
    seen, _ = sky()
    for part in ((1, 2), (0, 2)):
        tokenize(CODECS, seen, tmp_path, shard=4, part=part)
        assert len(list(tmp_path.iterdir())) == (1 if part[0] else 3)
    assert read_shards(tmp_path).object_id.tolist() == seen.object_id.tolist()
    with pytest.raises(BadValue, match="2 of 2"):
        tokenize(CODECS, seen, tmp_path, part=(2, 2))


def test_surveys_that_have_other_modalities(tmp_path):
    for place, z in (("a", True), ("b", False)):
        tokenize(CODECS[: 1 + z], sky(z=z)[0], tmp_path / place)
    (tmp_path / "b" / "000000.parquet").rename(tmp_path / "a" / "000001.parquet")
    again = read_shards(tmp_path / "a")
    present = encode_all(CODECS, again)["z"].there()
    assert present[:10].all() and not present[10:].any()


def test_chosen_columns(tmp_path):
    tokenize(CODECS, sky()[0], tmp_path)
    assert tuple(read_shards(tmp_path, names=("z",)).parts) == ("z",)


def test_what_is_refused(tmp_path):
    seen, _ = sky()
    with pytest.raises(BadValue, match="no shards"):
        read_shards(tmp_path)
    with pytest.raises(BadValue):
        tokenize(CODECS, seen, tmp_path, shard=0)
    large = Tokens({"z": Span(torch.full((10, 1), 40_000), torch.zeros(10, 1, dtype=torch.long))})
    with pytest.raises(BadValue, match="32767"):
        as_table(seen, large)
    tokenize(CODECS, seen, tmp_path, signature="one")
    with pytest.raises(ProvenanceError):
        tokenize(CODECS, seen, tmp_path, signature="other")
    (tmp_path / "000001.parquet").write_bytes((tmp_path / "000000.parquet").read_bytes()[:100])
    with pytest.raises(CorruptFile, match="000001"):
        read_shards(tmp_path)
