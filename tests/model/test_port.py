"""Published files: every layout is recognised, what is not known is named, and nothing that a file contains is run."""

import json
import os
import re
from pathlib import Path
from zipfile import ZipFile

import published
import pytest
import torch
from safetensors.torch import save_file

import omnisky
from omnisky.codec.patch import SpectralSections, SpiralPatches
from omnisky.errors import CorruptFile, UnknownLayout, UnsafePickle
from omnisky.model import port, store
from omnisky.model.autoregressive import AutoregressiveConfig, MaskedConfig
from omnisky.model.junction import Modality
from omnisky.model.port import load_published
from omnisky.model.rename import renamed
from omnisky.model.transformer import CoreConfig
from omnisky.model.unpickle import Inert, unpickle

RGB = ("red", "green", "blue")


@pytest.fixture(scope="module")
def pack(parity_folder):
    return torch.load(parity_folder / "astropt_parity.pt", weights_only=True)


@pytest.fixture
def ar_aim(pack) -> dict:
    return pack["cases"]["ar_aim"]


def write(file: Path, case: dict, **args) -> Path:
    return published.write(file, case["state_dict"], case["config"] | args, case.get("modalities"))


# --- what is read ------------------------------------------------------------------------------------------------


def test_every_recorded_case_loads_and_round_trips_exactly_through_our_own_folder(pack, tmp_path):
    """safetensors + config.json hold all of it."""
    cases = pack["cases"] | {"v1": pack["v1"]}
    for name, case in cases.items():
        model = load_published(write(tmp_path / f"{name}.pt", case))
        again = store.load(store.save(model, tmp_path / name))
        assert again.config == model.config and again.codecs == model.codecs, name
        assert store.signature(again) == store.signature(model), name
        assert not model.training and not again.training


def test_the_front_door_takes_a_file_a_folder_with_one_and_a_path_in_a_folder(ar_aim, tmp_path):
    (tmp_path / "astropt" / "095M").mkdir(parents=True)
    file = write(tmp_path / "astropt" / "095M" / "ckpt.pt", ar_aim)
    want = store.signature(load_published(file))
    for place in ((file,), (tmp_path, "astropt/095M"), (tmp_path / "astropt", "095M/ckpt.pt")):
        assert store.signature(omnisky.load(*place)) == want


def test_compiled_names_half_precision_and_a_bare_state_dict_are_the_same_model(ar_aim, tmp_path):
    want = load_published(write(tmp_path / "plain.pt", ar_aim))
    compiled = {f"_orig_mod.{name}".replace(".h.", ".h._orig_mod."): w for name, w in ar_aim["state_dict"].items()}
    again = load_published(write(tmp_path / "compiled.pt", ar_aim | {"state_dict": compiled}))
    assert store.signature(again) == store.signature(want)
    halves = {name: weight.bfloat16() for name, weight in ar_aim["state_dict"].items()}
    half = load_published(write(tmp_path / "half.pt", ar_aim | {"state_dict": halves}))
    assert next(half.parameters()).dtype == torch.float32
    assert torch.equal(half.core.norm.weight, want.core.norm.weight.bfloat16().float())


def test_files_from_the_days_of_numpy_1_load(ar_aim, tmp_path):
    """The published ones: their best_val_loss is a scalar of a module that numpy 2 renamed."""
    with ZipFile(write(tmp_path / "new.pt", ar_aim)) as new, ZipFile(tmp_path / "ckpt.pt", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name.endswith("data.pkl"):
                assert b"cnumpy._core.multiarray\nscalar\n" in content
                content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
            old.writestr(name.replace("new/", "ckpt/"), content)
    assert load_published(tmp_path / "ckpt.pt").config.core.depth == 3


def test_files_with_weights_alone_take_their_heads_from_the_published_sizes(tmp_path):
    """COLM's step files: of the three sizes that study used, 128 wide means 8 heads."""
    config = AutoregressiveConfig(
        core=CoreConfig(width=128, depth=1, heads=8),
        modalities=(Modality(name="images", width=12),),
        context=4,
        tokeniser="affine",
    )
    table = {ours: theirs for theirs, ours in port.TABLES["3.0 affine"].items() if "wpe" not in theirs}
    theirs = {renamed(name, table): weight for name, weight in config.build(seed=0).state_dict().items()}
    theirs["embedders.images.wpe.weight"] = theirs.pop("embedders.images.c_fc.weight")
    torch.save({"model": theirs}, tmp_path / "step_00000001.pt")
    assert load_published(tmp_path / "step_00000001.pt").config == config


def test_rename_tables_read_backwards_name_our_tensors_as_theirs(pack):
    for layout, case in {"v1": pack["v1"], "3.0 aim": pack["cases"]["ar_lora"]}.items():
        table = port.TABLES[layout]
        back = {ours: theirs for theirs, ours in table.items()}
        names = case["state_dict"].keys()
        assert [renamed(renamed(name, table), back) for name in names] == list(names)


@pytest.mark.parametrize("args", [{}, {"n_head": 4}])
def test_safetensors_with_a_config_beside_it(ar_aim, tmp_path, args):
    save_file(ar_aim["state_dict"], tmp_path / "weights.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(ar_aim["config"] | {"modalities": ar_aim["modalities"]} | args))
    want = load_published(write(tmp_path / "ckpt.pt", ar_aim))
    assert store.signature(load_published(tmp_path / "weights.safetensors")) == store.signature(want)


@pytest.mark.parametrize("kind", ["causal", "full", "prefix"])
def test_attention_by_its_published_name(ar_aim, tmp_path, kind):
    """AstroPT's "prefix" never reached its attention: such weights have seen everything, so they shall here."""
    model = load_published(write(tmp_path / "ckpt.pt", ar_aim, attn_type=kind))
    assert (model.config.prefix == 0) == (kind == "causal")
    assert (model.config.prefix >= 1 << 30) == (kind != "causal")


def test_the_masked_objective_is_told_by_its_token(pack, tmp_path):
    config = load_published(write(tmp_path / "ckpt.pt", pack["cases"]["mae_aim_normpix"])).config
    assert isinstance(config, MaskedConfig)
    assert config.standardised_targets and config.hidden_fraction == 0.5


def test_low_rank_updates_are_scaled_as_their_release_did(pack, tmp_path):
    """HEAD: lora_alpha/√rank = 2/√4; 2.0.x never passed alpha on: 1/rank = 1/4."""
    case = pack["cases"]["ar_lora"]
    assert load_published(write(tmp_path / "head.pt", case)).config.lora_scale == 1.0
    names = {"encoders.": "transformer.wte.", "embedders.": "transformer.wpe.", "decoders.": "lm_head."}
    old = {
        re.sub(r"^(encoders|embedders|decoders)\.", lambda found: names[found[0]], name): weight
        for name, weight in case["state_dict"].items()
    }
    config = load_published(write(tmp_path / "old.pt", case | {"state_dict": old})).config
    assert (config.lora_rank, config.lora_scale) == (4, 0.25)


def test_what_the_registry_says_is_kept(pack, tmp_path):
    case = pack["cases"]["multimodal_images_spectra"]
    modalities = {m.name: m for m in load_published(write(tmp_path / "ckpt.pt", case)).config.modalities}
    assert modalities["spectra"].weight == 0.5
    assert (modalities["spectra"].position_width, modalities["images"].position_width) == (8, 0)


def test_the_preprocessing_comes_with_the_weights(pack, tmp_path):
    def codecs(name: str):
        case = pack["v1"] if name == "v1" else pack["cases"][name]
        return load_published(write(tmp_path / f"{name}.pt", case)).codecs

    published = SpiralPatches(patch_size=4, bands=RGB, standardised=True, columns_first=True, half=True)
    assert codecs("ar_aim") == codecs("v1") == codecs("mae_aim") == (published,)
    raw = (SpiralPatches(patch_size=4, bands=RGB), SpectralSections(size=8, standardised=False, rounded=True))
    assert codecs("multimodal_images_spectra") == raw
    assert codecs("discrete_aion") == codecs("photometry_masked") == ()


# --- what is refused ---------------------------------------------------------------------------------------------

HOSTILE = {
    "a shell command": lambda trace: published.Runs(os.system, f"touch {trace}"),
    "a method of a type": lambda trace: published.Runs(Path.touch, trace),
    "code": lambda trace: published.Runs(eval, f"open({str(trace)!r}, 'w')"),
    "an import": lambda trace: published.Runs(__import__, "antigravity"),
    "a file read by torch": lambda trace: published.Runs(torch.hub.load_state_dict_from_url, f"file://{trace}"),
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("dress", ["torch.save", "torch.save, old", "pickle 2", "pickle 5"])
def test_a_hostile_pickle_is_refused_and_nothing_of_it_runs(payload, dress, ar_aim, tmp_path):
    trace, file = tmp_path / "trace", tmp_path / "ckpt.pt"
    content = {"model": ar_aim["state_dict"], "model_args": payload(trace)}
    if dress.startswith("torch"):
        torch.save(content, file, _use_new_zipfile_serialization="old" not in dress)
    else:
        file.write_bytes(published.pickled({"model_args": payload(trace)}, int(dress[-1])))
    with pytest.raises(UnsafePickle, match=r"ckpt\.pt wants to run code; none was run"):
        load_published(file)
    assert not trace.exists()


def test_the_refusal_names_what_was_wanted(tmp_path):
    (tmp_path / "ckpt.pt").write_bytes(published.pickled(published.Runs(os.system, "true"), 2))
    with pytest.raises(UnsafePickle, match=r"saw posix system|saw posix\.system"):
        load_published(tmp_path / "ckpt.pt")


def test_the_classes_astropt_pickles_become_inert(tmp_path):
    """A file may claim a class of AstroPT's and give it what it likes: nothing is called, nothing is imported."""
    file = published.write(
        tmp_path / "ckpt.pt", {}, {}, [{"name": "images", "__class__": "os.system", "patch_size": 4}]
    )
    said = unpickle(file, port._PICKLED)
    (modality,) = said["model_args"]["modalities"]
    assert type(modality) is Inert and vars(modality)["patch_size"] == 4


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_a_truncated_file_is_named(ar_aim, tmp_path, share, old):
    whole = tmp_path / "whole.pt"
    torch.save(
        {"model": ar_aim["state_dict"], "model_args": ar_aim["config"]}, whole, _use_new_zipfile_serialization=not old
    )
    data = whole.read_bytes()
    (tmp_path / "broken.pt").write_bytes(data[: int(share * len(data))])
    with pytest.raises(CorruptFile, match=r"broken\.pt"):
        load_published(tmp_path / "broken.pt")


@pytest.mark.parametrize("name", ["noise.pt", "noise.safetensors"])
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"SIMPLE  =                    T / not a checkpoint" * 9)
    with pytest.raises(CorruptFile, match=name):
        load_published(tmp_path / name)


def test_a_broken_config_beside_safetensors_is_named(ar_aim, tmp_path):
    save_file(ar_aim["state_dict"], tmp_path / "weights.safetensors")
    (tmp_path / "config.json").write_text('{"n_head": ')
    with pytest.raises(CorruptFile, match=r"config\.json"):
        load_published(tmp_path / "weights.safetensors")


def refused(tmp_path, weights, args=None) -> str:
    with pytest.raises(UnknownLayout) as error:
        load_published(published.write(tmp_path / "ckpt.pt", weights, args or {}))
    assert "ckpt.pt" in str(error.value)
    return str(error.value)


def test_unknown_layouts_are_refused_naming_some_of_their_keys(ar_aim, tmp_path):
    state, args = ar_aim["state_dict"], ar_aim["config"]
    assert "resnet.conv1.weight" in refused(tmp_path, {"resnet.conv1.weight": torch.ones(2)})
    assert "llm.layers.0.weight" in refused(tmp_path, state | {"llm.layers.0.weight": torch.ones(2)}, args)
    ours = load_published(write(tmp_path / "ours.pt", ar_aim)).state_dict()
    assert "this is one of ours" in refused(tmp_path, ours, args)


def test_incomplete_or_misshapen_weights_are_refused(ar_aim, tmp_path):
    state, args = ar_aim["state_dict"], ar_aim["config"]
    without = {name: w for name, w in state.items() if name != "transformer.h.1.attn.c_attn.weight"}
    assert "1 missing (core.blocks.1.attention.qkv.weight" in refused(tmp_path, without, args)
    assert "core.norm.weight" in refused(tmp_path, {n: w for n, w in state.items() if "ln_f" not in n}, args)
    wrong = state | {"transformer.h.0.mlp.c_fc.weight": torch.zeros(128, 31)}
    assert "1 other shapes (core.blocks.0.mlp.up.weight" in refused(tmp_path, wrong, args)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"n_head": 0}, "0 heads"),
        ({"n_head": 5}, "5 heads"),
        ({"n_head": "4"}, "n_head"),
        ({"attn_type": "flash"}, "flash"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(ar_aim, tmp_path, args, said):
    assert said in refused(tmp_path, ar_aim["state_dict"], ar_aim["config"] | args)


@pytest.mark.parametrize("content", [[1, 2], {"model": {"a": 1}}, {"model": [1]}, {}, {"model": {}, "model_args": []}])
def test_files_without_a_state_dict_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "ckpt.pt")
    with pytest.raises(UnknownLayout, match=r"ckpt\.pt: no state dict"):
        load_published(tmp_path / "ckpt.pt")
