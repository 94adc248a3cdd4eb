"""States of frozen towers on disk: exact to bfloat16, resumable, signed; and heads that learn from them."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pairs
import pytest
import ranks
import torch

from omnisky.codec.tokens import Tokens, encode_all
from omnisky.embed import embed
from omnisky.errors import BadValue, CorruptFile, MissingModality, ProvenanceError, StorageError
from omnisky.model import store
from omnisky.model.contrastive import Contrastive
from omnisky.train import frozen
from omnisky.train.config import Run
from omnisky.train.devices import here, joined
from omnisky.train.frozen import align, keep_states, stored_codecs
from omnisky.train.loop import train
from omnisky.train.optim import AdamW

RUN = Run(
    name="toy-clip",
    model=pairs.CLIP,
    codecs=(pairs.PATCHES, pairs.SECTIONS),
    steps=30,
    batch=8,
    optim=AdamW(peak=3e-3, warmup=2),
    precision="fp32",
)


def kept(model, seen, folder, **more):
    return keep_states(model, seen, folder, batch=3, precision="fp32", **more)


def same(a, b) -> bool:
    return all(
        np.array_equal(a[part].table[a[part].rows], b[part].table[b[part].rows])
        and np.array_equal(a[part].seen[a[part].rows], b[part].seen[b[part].rows])
        for part in a.parts
    )


def test_states_come_back_to_bfloat16(tmp_path):
    model, seen = pairs.clip(), pairs.sky(7)
    states = kept(model, seen, tmp_path / "states")
    assert states.object_id.tolist() == seen.object_id.tolist()
    assert np.array_equal(states.ra, seen.ra) and np.array_equal(states.dec, seen.dec)
    again = encode_all(stored_codecs(model), states.take([5, 0, 2]))
    tokens = encode_all(model.codecs, seen.take([5, 0, 2]))
    for tower in (model.image, model.spectrum):
        want = tower.read(tokens).states
        assert torch.equal(tower.read(again).states, want.to(torch.bfloat16))
        assert torch.allclose(tower.project(again), tower.project(tokens), atol=0.05)
    with torch.no_grad():
        assert float(model.loss(again)) == pytest.approx(float(model.loss(tokens)), rel=0.02)


def test_absent_sections_stay_absent(tmp_path):
    model, seen = pairs.clip(), pairs.sky(4)
    ivar = np.ones((4, 120), dtype=np.float32)
    ivar[1, 60:] = 0
    seen = seen | {"spectrum": replace(seen["spectrum"], ivar=ivar)}
    states = kept(model, seen, tmp_path / "states")
    present = encode_all(stored_codecs(model), states)["spectra_states"].present
    assert torch.equal(present, model.codecs[1].encode(seen)["spectra"].present)
    assert encode_all(stored_codecs(model), states.take([0, 2]))["spectra_states"].present is None


def test_taking_rows_reads_nothing(tmp_path):
    states = kept(pairs.clip(), pairs.sky(6), tmp_path / "states")
    assert isinstance(states["image_states"].table, np.memmap)
    assert states.take(np.arange(6) > 2)["image_states"].table is states["image_states"].table


class Stopped(Exception):
    """Killed."""


@pytest.mark.parametrize("after", [3, 6])
def test_a_killed_call_goes_on(tmp_path, after):
    model, seen = pairs.clip(), pairs.sky(8)

    def kill(done, total):
        if done == after:
            raise Stopped

    with pytest.raises(Stopped):
        kept(model, seen, tmp_path / "states", watch=kill)
    with open(tmp_path / "states" / "image.states", "ab") as file:
        file.write(b"begun")  # and not finished
    with open(tmp_path / "states" / "objects.jsonl", "a") as file:
        file.write('["ghost", 0, 0]\n')
    done = []
    states = kept(model, seen, tmp_path / "states", watch=lambda now, total: done.append(now))
    assert done[0] == after + min(3, 8 - after)
    assert same(states, kept(model, seen, tmp_path / "whole"))
    assert states.object_id.tolist() == seen.object_id.tolist()


def test_other_towers_other_objects_and_other_codecs_are_refused(tmp_path):
    model, seen = pairs.clip(), pairs.sky(8)
    kept(model, seen, tmp_path / "states")
    other = pairs.clip()
    other.codecs = (pairs.PATCHES, replace(pairs.SECTIONS, least_std=0.3))
    wrong = [(pairs.clip(seed=1), seen), (model, pairs.sky(9)), (other, seen), (model, seen.take(np.arange(8)[::-1]))]
    for wrong_model, wrong_seen in wrong:
        with pytest.raises(ProvenanceError, match="holds other"):
            kept(wrong_model, wrong_seen, tmp_path / "states")
    retrained = pairs.clip()
    retrained.image.pool.query.data += 1  # the heads may change
    assert same(kept(retrained, seen, tmp_path / "states"), kept(model, seen, tmp_path / "states"))


@pytest.mark.parametrize("name", ["image.states", "spectrum.seen", "objects.jsonl"])
def test_a_file_that_lost_something_is_named(tmp_path, name):
    kept(pairs.clip(), pairs.sky(8), tmp_path / "states")
    file = tmp_path / "states" / name
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(CorruptFile, match=name):
        kept(pairs.clip(), pairs.sky(8), tmp_path / "states")


def test_a_broken_note_of_how_far_it_came_is_named(tmp_path):
    kept(pairs.clip(), pairs.sky(8), tmp_path / "states")
    (tmp_path / "states" / "done.json").write_text("{")
    with pytest.raises(CorruptFile, match=r"done\.json"):
        kept(pairs.clip(), pairs.sky(8), tmp_path / "states")


def test_a_full_disk_is_said_and_what_is_there_is_kept(tmp_path, monkeypatch):
    model, seen = pairs.clip(), pairs.sky(8)

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(frozen.os, "fsync", full)
        with pytest.raises((StorageError, OSError), match="No space left"):
            kept(model, seen, tmp_path / "states")
    assert same(kept(model, seen, tmp_path / "states"), kept(model, seen, tmp_path / "whole"))


def test_unpaired_objects_are_refused(tmp_path):
    seen = pairs.sky(4)
    with pytest.raises(MissingModality, match="pairs"):
        kept(pairs.clip(), replace(seen, parts={"image": seen["image"]}), tmp_path / "a")
    holed = seen | {"image": replace(seen["image"], present=np.array([True, True, False, True]))}
    with pytest.raises(MissingModality, match="1 of 3 objects have no 'images'"):
        kept(pairs.clip(), holed, tmp_path / "b")


def test_towers_that_both_learn_are_refused(tmp_path):
    model = pairs.clip(**{part: replace(getattr(pairs.CLIP, part), frozen=False) for part in frozen.PARTS})
    with pytest.raises(BadValue, match="stands still"):
        kept(model, pairs.sky(4), tmp_path / "states")


# --- aligning ----------------------------------------------------------------------------------------------------


def towers():
    return {"image": pairs.VISION.build(5), "spectrum": pairs.SPECFORMER.build(6)}


def test_alignment_finds_the_pairs(tmp_path):
    """Among 24 held-out galaxies, the own spectrum is nearer than chance would have it."""
    run = replace(RUN, steps=150, batch=32)
    model = align(run, tmp_path / "run", pairs.sky(128), towers())
    assert model.codecs == run.codecs
    again = store.load(tmp_path / "run" / "model")
    assert again.codecs == run.codecs
    new = pairs.sky(24, seed=77)
    image, spectrum = (embed(again, new, part=part).vectors for part in ("image", "spectrum"))
    image, spectrum = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (image, spectrum))
    likeness = image @ spectrum.T
    rank = (likeness > np.diag(likeness)[:, None]).sum(1)
    assert np.median(rank) <= 4  # chance: 11.5
    for part, tower in towers().items():
        inside = getattr(again, part).backbone.state_dict()
        assert all(torch.equal(weight, inside[key]) for key, weight in tower.state_dict().items())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_a_step_on_kept_states_is_the_step_on_observations(tmp_path):
    model, seen = pairs.clip(), pairs.sky(16)
    states = encode_all(stored_codecs(model), kept(model, seen, tmp_path / "states"))
    gradients = []
    for tokens in (encode_all(model.codecs, seen), states):
        model.zero_grad()
        model.loss(tokens).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, atol=0.05 * float(gradients[0].abs().max()))


def test_alignment_wants_both_towers_and_a_run_of_pairs(tmp_path):
    with pytest.raises(BadValue, match="saw image; want image spectrum"):
        align(RUN, tmp_path / "run", pairs.sky(16), {"image": towers()["image"]})
    with pytest.raises(BadValue, match="a run of ContrastiveConfig"):
        align(replace(RUN, model=pairs.VISION), tmp_path / "run", pairs.sky(16), towers())


def test_heads_are_not_trained_on_random_towers(tmp_path):
    with pytest.raises(BadValue, match="random start"):
        train(RUN, tmp_path / "run", pairs.sky(16))
    learning = replace(
        pairs.CLIP, image=replace(pairs.CLIP.image, frozen=False), spectrum=replace(pairs.CLIP.spectrum, frozen=False)
    )
    train(replace(RUN, model=learning, steps=2), tmp_path / "run", pairs.sky(16))


def test_stored_tokens_go_back_to_a_table(tmp_path):
    model, seen = pairs.clip(), pairs.sky(4)
    codec = stored_codecs(model)[0]
    states = kept(model, seen, tmp_path / "states")
    tokens = codec.encode(states)
    back = codec.decode(tokens, like=states)
    assert torch.equal(codec.encode(back)["images_states"].values, tokens["images_states"].values)
    assert isinstance(tokens, Tokens)


# --- several ranks -----------------------------------------------------------------------------------------------


def learning() -> Contrastive:
    """Both towers and both heads learn, and nothing is drawn."""
    pool = replace(pairs.POOL, dropout=0.0)
    return pairs.clip(
        image=replace(pairs.CLIP.image, frozen=False, pool=pool),
        spectrum=replace(pairs.CLIP.spectrum, frozen=False, pool=pool),
    ).train()


def _three_pairs(folder: Path) -> None:
    """Of six: this rank's."""
    model, place = learning(), here()
    model.gather = place.gather
    with joined(place):
        loss = model.loss(encode_all(model.codecs, pairs.sky(6)).take(slice(place.rank * 3, place.rank * 3 + 3)))
        loss.backward()
        place.average(model)
    torch.save((loss.detach(), {name: p.grad for name, p in model.named_parameters()}), folder / f"{place.rank}.pt")


def test_two_processes_learn_what_one_would_of_the_whole_batch(tmp_path):
    """The mean loss, and on both ranks the gradient of every parameter: towers, heads and scale."""
    assert ranks.together(2, _three_pairs, tmp_path) == [0, 0]
    (first, gradients), (second, others) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    model = learning()
    loss = model.loss(encode_all(model.codecs, pairs.sky(6)))
    loss.backward()
    assert float(first + second) / 2 == pytest.approx(float(loss.detach()), rel=1e-5)
    want = {name: p.grad for name, p in model.named_parameters()}
    largest = max(float(grad.abs().max()) for grad in want.values() if grad is not None)
    assert float(want["log_scale"].abs()) > 0 and largest > 0
    for name, grad in want.items():
        assert (grad is None) == (gradients[name] is None) == (others[name] is None)
        if grad is not None:
            assert torch.equal(gradients[name], others[name])
            torch.testing.assert_close(gradients[name], grad, rtol=1e-4, atol=1e-6 * largest)


def test_a_tower_that_learns_keeps_no_states_and_moves(tmp_path):
    learns = replace(pairs.CLIP, image=replace(pairs.CLIP.image, frozen=False))
    run = replace(RUN, model=learns, steps=12, held_out=0.2)
    towers, seen = {"image": pairs.VISION.build(5), "spectrum": pairs.SPECFORMER.build(6)}, pairs.sky(40)
    done = align(run, tmp_path / "a", seen, towers)
    assert not (tmp_path / "a" / "states" / "image.states").exists()
    for part, moves in (("image", True), ("spectrum", False)):
        before, after = towers[part].state_dict(), getattr(done, part).backbone.state_dict()
        assert any(not torch.equal(before[name], after[name]) for name in before) == moves
    again = store.load(tmp_path / "a" / "model")
    assert store.signature(again) == store.signature(done) and again.codecs == pairs.clip().codecs
    first, last = (
        json.loads(line) for line in np.array((tmp_path / "a" / "metrics.jsonl").read_text().splitlines())[[0, -1]]
    )
    assert last["loss"] < first["loss"]
