"""A model is a folder: exact, atomic, signed; what is not one is named."""

import json
import os
import re
import resource
from contextlib import contextmanager
from dataclasses import dataclass, replace
from errno import ENOSPC
from pathlib import Path

import pytest
import torch

import omnisky
from omnisky.codec.patch import ScalarTokens, SpectralSections, SpiralPatches
from omnisky.codec.stretch import Asinh
from omnisky.embed import signature
from omnisky.errors import ConfigError, CorruptFile, StorageError, UnknownLayout, UnknownModel
from omnisky.model import store
from omnisky.model.autoregressive import AutoregressiveConfig
from omnisky.model.junction import Modality
from omnisky.model.transformer import CoreConfig

CONFIG = AutoregressiveConfig(
    core=CoreConfig(width=8, depth=1, heads=2), modalities=(Modality(name="images", width=12),), context=16
)
CODECS = (
    SpiralPatches(patch_size=2, bands=("g", "r", "z"), stretch=Asinh(softening=(0.01, 0.02, 0.03))),
    SpectralSections(size=4, rounded=True),
    ScalarTokens(columns=("z", "mass"), centre=(0.5, 10.0), scale=(0.3, 1.0)),
)


@pytest.fixture
def model():
    made = CONFIG.build(seed=1)
    made.codecs = CODECS
    return made


def same(a, b) -> bool:
    return all(torch.equal(w, b.state_dict()[name]) for name, w in a.state_dict().items())


def test_weights_config_and_codecs_come_back_exactly(model, tmp_path):
    again = omnisky.load(store.save(model, tmp_path / "model"))
    assert same(model, again)
    assert (again.config, again.codecs) == (CONFIG, CODECS)
    assert not again.training
    assert sorted(os.listdir(tmp_path / "model")) == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize("name", store.shipped_models())
def test_loading_draws_nothing(name):
    """What stands in a file need not be drawn first: that takes longer than to read it, and torch's draws go on."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    store.load(name)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory as Linux tells it")
def test_weights_stay_in_their_file_until_they_are_used_or_changed(tmp_path):
    """64 MB take no memory to load, and learning from a loaded model changes no file."""
    wide = replace(CONFIG, core=CoreConfig(width=1024, depth=1, heads=2), context=1024)
    folder = store.save(wide.build(seed=1), tmp_path / "wide")
    held, before = (folder / "model.safetensors").read_bytes(), own_mb()
    again = store.load(folder)
    assert len(held) > 5e7 and own_mb() - before < 0.2 * len(held) / 1e6
    with torch.no_grad():
        for weight in again.parameters():
            weight.add_(1)
    assert (folder / "model.safetensors").read_bytes() == held
    assert not same(again, store.load(folder))


def test_the_same_model_is_the_same_file(model, tmp_path):
    """Whatever order safetensors would draw for its notes."""
    files = [store.save(model, tmp_path / str(i)) / "model.safetensors" for i in range(8)]
    assert len({file.read_bytes() for file in files}) == 1


def test_two_names_for_one_tensor_become_two(model):
    """Published files tie weights that are ours twice: learning must change one of them at a time."""
    tied = dict(model.state_dict())
    a, b = [name for name, w in tied.items() if w.shape == (8,)][:2]
    tied[b] = tied[a]
    made = CONFIG.build()
    was = tied[a].clone()
    store.fill(made, tied, "tied", adopt=True)
    made.get_parameter(a).data.add_(1)
    assert torch.equal(made.get_parameter(a), was + 1) and torch.equal(made.get_parameter(b), was)


def own_mb() -> float:
    told = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", told)[1]) * 1.024e-3


def test_half_precision_halves_the_file_and_loads_as_float32(model, tmp_path):
    sizes = [
        (store.save(model, tmp_path / str(dtype), dtype=dtype) / "model.safetensors").stat().st_size
        for dtype in (None, torch.bfloat16)
    ]
    assert sizes[1] < 0.6 * sizes[0]  # names and shapes take the rest
    again = store.load(tmp_path / str(torch.bfloat16))
    assert {p.dtype for p in again.parameters()} == {torch.float32}


def test_a_signature_hangs_on_weights_config_and_codecs_and_on_nothing_else(model, tmp_path):
    signed = store.signature(model)
    assert store.signature(store.load(store.save(model, tmp_path / "a", card="# Mine"))) == signed
    others = [CONFIG.build(seed=2), replace(CONFIG, prefix=3).build(seed=1), CONFIG.build(seed=1)]
    others[0].codecs, others[1].codecs = CODECS, CODECS
    others[2].codecs = CODECS[:1]
    assert len({signed, *map(store.signature, others)}) == 4


# --- a full disk -------------------------------------------------------------------------------------------------


@contextmanager
def at_most(size: int):
    """Files cannot grow beyond this: the nearest thing to a full disk that a test can make."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_while_saving_leaves_the_old_folder_whole(model, tmp_path):
    store.save(model, tmp_path / "model")
    with pytest.raises(StorageError, match=r"could not write .*model"), at_most(1000):
        store.save(CONFIG.build(seed=9), tmp_path / "model")
    assert same(store.load(tmp_path / "model"), model)
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("at", ["write_weights", "_card"])
def test_no_space_left_at_any_moment_leaves_nothing(model, tmp_path, monkeypatch, at):
    def full(*_, **__):
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(store, at, full)
    with pytest.raises(StorageError, match="No space left on device"):
        store.save(model, tmp_path / "model")
    assert os.listdir(tmp_path) == []


# --- what is not a model -----------------------------------------------------------------------------------------


def test_a_name_nobody_knows_is_refused_with_what_there_is(tmp_path):
    with pytest.raises(UnknownModel, match="saw omnisky-nono; want"):
        store.load("omnisky-nono")
    with pytest.raises(UnknownModel, match="no single model"):
        store.load(tmp_path)
    (tmp_path / "a.pt").touch()
    (tmp_path / "b.pt").touch()
    with pytest.raises(UnknownModel, match=r"saw a\.pt b\.pt"):
        store.load(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_weights_are_named(model, tmp_path, share):
    file = store.save(model, tmp_path / "model") / "model.safetensors"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(CorruptFile, match=r"model\.safetensors"):
        store.load(tmp_path / "model")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": {}}'])
def test_a_broken_config_is_named(model, tmp_path, text):
    (store.save(model, tmp_path / "model") / "config.json").write_text(text)
    with pytest.raises(CorruptFile, match=r"config\.json"):
        store.load(tmp_path / "model")


def edited(model, tmp_path, change) -> None:
    file = store.save(model, tmp_path / "model") / "config.json"
    config = json.loads(file.read_text())
    change(config["model"])
    file.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(kind="os.system"), "os.system"),
        (lambda c: c.update(colour="red"), "colour"),
        (lambda c: c.pop("core"), "core"),
    ],
)
def test_a_config_of_unknown_kinds_or_fields_is_refused(model, tmp_path, change, said):
    edited(model, tmp_path, change)
    with pytest.raises(ConfigError, match=said):
        store.load(tmp_path / "model")


def test_weights_of_another_size_are_refused_saying_which(model, tmp_path):
    edited(model, tmp_path, lambda c: c["core"].update(depth=2))
    with pytest.raises(UnknownLayout, match=r"6 missing \(core\.blocks\.1\.attention\.out\.weight"):
        store.load(tmp_path / "model")


def test_only_known_kinds_are_packed_and_unpacked():
    """Else a model would train for a week, be saved, and never load."""

    @dataclass(frozen=True)
    class Foreign:
        a: int = 1

    with pytest.raises(ConfigError, match="Foreign"):
        store.pack(Foreign())
    with pytest.raises(ConfigError, match="Foreign"):
        store.unpack({"kind": "Foreign", "a": 1})


def test_a_field_that_came_later_changes_no_signature_until_it_is_used():
    """Else every embedding and probe made before would be refused; the shipped model's is the witness."""
    shipped = store.load("omnisky-nano")
    told = json.loads((Path(store.__file__).parents[1] / "weights/omnisky-nano/probe/probe.json").read_text())
    assert signature(shipped, None, "bf16") == told["signature"]
    cropped = replace(shipped.codecs[0], side=56)
    assert store.unpack(store.pack(cropped)) == cropped
    shipped.codecs = (cropped, *shipped.codecs[1:])
    assert signature(shipped, None, "bf16") != told["signature"]
