"""AION against the recorded pack: weights, states, logits, losses and generated tokens, all at width 16.

The whole pack is read where OMNISKY_PARITY names it; what is committed holds eight of the forty modalities,
some with fewer ids: those are tested always.
"""

import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from omnisky.codec.tokens import Span, Tokens
from omnisky.generate import MaskGit, Roar, fill
from omnisky.model import store
from omnisky.model.any_to_any import AION, Vocabulary
from omnisky.model.deal import Asked, PerLogit, PerModality, PerToken
from omnisky.model.masked import AnyToAny, AnyToAnyConfig, gated
from omnisky.model.port_aion import TABLE, save_published
from omnisky.model.rename import renamed

PHOTOMETRY = ("tok_flux_g", "tok_flux_r", "tok_flux_i", "tok_flux_z")
XP = ("tok_xp_bp", "tok_xp_rp")
SETS = {
    "phot": PHOTOMETRY,
    "xp": XP,
    "image": ("tok_image",),
    "hsc": ("tok_image_hsc",),
    "desi": ("tok_spectrum_desi",),
    "segmap": ("tok_segmap",),
    "image_phot": ("tok_image", *PHOTOMETRY),
    "phot_image": (*PHOTOMETRY, "tok_image"),
}


def close(ours, theirs, limit=1e-5) -> bool:
    return ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= limit * float(theirs.abs().max())


def span(ids: torch.Tensor, present: torch.Tensor | None = None) -> Span:
    return Span(ids.long(), torch.arange(ids.shape[1]).expand(ids.shape), present)


def tokens(pack, names) -> Tokens:
    return Tokens({name: span(pack["inputs"][name]) for name in names})


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def pack(parity_folder):
    return torch.load(parity_folder / "aion" / "aion_tiny.pt", weights_only=True)


@pytest.fixture(scope="module")
def whole_pack(pack):
    if "encoder_embeddings.catalog.token_emb.weight" not in pack["state_dict"]:
        pytest.skip("the whole pack is not committed; set OMNISKY_PARITY")
    return pack


@pytest.fixture(scope="module")
def folder(whole_pack, tmp_path_factory):
    """The published layout, as save_pretrained leaves it: shared embeddings under one name."""
    place = tmp_path_factory.mktemp("aion")
    weights = {name: t for name, t in whole_pack["state_dict"].items() if not is_alias(name)}
    save_file({name: t.contiguous().clone() for name, t in weights.items()}, place / "model.safetensors")
    (place / "config.json").write_text(json.dumps(whole_pack["config"]))
    return place


def is_alias(name: str) -> bool:
    return name.startswith("encoder_embeddings.") and name.endswith(".mod_emb")


@pytest.fixture(scope="module")
def model(folder) -> AnyToAny:
    return store.load(folder)


@pytest.fixture(scope="module")
def small(pack) -> AnyToAny:
    """The modalities that both packs hold, with as many ids as the pack has rows."""
    state, cfg = pack["state_dict"], pack["config"]
    vocabularies, rows = [], {}
    for name in (*PHOTOMETRY, *XP, "tok_z", "tok_spectrum_desi"):
        read = state.get(f"encoder_embeddings.{name}.token_emb.weight")
        told = state.get(f"decoder_embeddings.{name}.to_logits.weight")
        size = max(len(t) for t in (read, told) if t is not None)
        rows[name] = [torch.zeros(size, 16) if t is None else t for t in (read, told)]
        vocabularies.append(Vocabulary(name=name, size=size, grid=AION[name].grid))
    core = gated(cfg["encoder_depth"], cfg["dim"], cfg["num_heads"])
    config = AnyToAnyConfig(core=core, decoder_depth=cfg["decoder_depth"], vocabularies=tuple(vocabularies))
    built = config.build(0)
    names = built.ends.names
    either = [[f"{side}_embeddings.{n}.mod_emb" for side in ("encoder", "decoder")] for n in names]
    kinds = [next(state[key] for key in keys if key in state) for keys in either]
    ours = {renamed(name, TABLE): t for name, t in state.items() if "_embeddings." not in name}
    ours = {name: t for name, t in ours.items() if name in built.state_dict()}
    ours["ends.words.weight"] = torch.cat([rows[n][0] for n in names])
    ours["ends.answers.weight"] = torch.cat([rows[n][1] for n in names])
    ours["ends.kinds.weight"] = torch.cat(kinds).flatten(1)
    built.load_state_dict(ours)
    return built.eval()


# --- always ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["phot", "xp"])
def test_encode_and_redshift(small, pack, name):
    given = tokens(pack, SETS[name])
    assert close(small.encode(given).states, pack["outputs"][f"encode_{name}"])
    assert close(small.predict(given, ("tok_z",))["tok_z"], pack["outputs"][f"z_logits_{name}"])


def hidden_flux(pack) -> Tokens:
    given = tokens(pack, PHOTOMETRY)
    present = ~pack["inputs"]["mask_tok_flux_r"]
    return given | {"tok_flux_r": replace(given["tok_flux_r"], present=present)}


def test_a_hidden_token_is_not_there(small, pack):
    """The reference keeps its slot, with what nobody looks at in it."""
    given, want = hidden_flux(pack), pack["outputs"]["encode_phot_masked_r"]
    context = small.encode(given)
    there = context.slots.there()
    assert close(context.states[there], want[:, : there.shape[1]][there])
    assert close(small.predict(given, ("tok_z",))["tok_z"], pack["outputs"]["z_logits_phot_masked_r"])


def test_a_spectrum_from_coefficients(small, pack):
    """Open attention, as the sampler has it, and none, as AION.forward has it; rows of the table that are there."""
    given, asked = tokens(pack, XP), ("tok_spectrum_desi",)
    for told, want in ((small.predict, "open_attention"), (small.predict_as_released, "aion_forward")):
        logits = told(given, asked)["tok_spectrum_desi"]
        assert close(logits, pack["outputs"][f"desi_logits_from_xp_{want}"])


# --- with the whole pack -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_every_set_of_inputs(model, whole_pack, name):
    given = tokens(whole_pack, SETS[name])
    assert close(model.encode(given).states, whole_pack["outputs"][f"encode_{name}"])
    assert close(model.predict(given, ("tok_z",))["tok_z"], whole_pack["outputs"][f"z_logits_{name}"])


def test_the_first_256_tokens(model, whole_pack):
    said = model.encode(tokens(whole_pack, ("tok_image",)), budget=256).states
    assert close(said, whole_pack["outputs"]["encode_image_default256"])


def test_a_catalogue_as_input(model, whole_pack):
    """Seven tokens of fifty are there; the eighth slot of the reference has something of its own in it."""
    inputs = whole_pack["inputs"]
    given = Tokens({"catalog": span(inputs["catalog"], ~inputs["mask_catalog"])})
    want, context = whole_pack["outputs"]["encode_catalog_phot"], None
    for names in (("tok_flux_g",), PHOTOMETRY):
        context = model.encode(given | tokens(whole_pack, names).spans)
        if context.states.shape[1] == want.shape[1]:
            break
    assert context is not None and close(context.states, want)


def test_several_targets_as_released(model, whole_pack):
    names = ("tok_z", "tok_shape_e1", "tok_xp_bp")
    for inputs in SETS.values():
        if set(inputs) & set(names):
            continue
        said = model.predict_as_released(tokens(whole_pack, inputs), names)
        if all(close(said[name], whole_pack["outputs"][f"multi_{name}_logits"]) for name in names):
            return
    pytest.fail("no set of inputs gives the recorded logits")


def test_several_targets_are_each_as_if_alone(model, whole_pack):
    given, names = tokens(whole_pack, PHOTOMETRY), ("tok_z", "tok_shape_e1", "tok_xp_bp")
    said = model.predict(given, names)
    for name in names:
        assert close(said[name], model.predict(given, (name,))[name])


def test_losses_with_budgets(model, whole_pack):
    batch, outputs = whole_pack["inputs"]["fourm_batch"], whole_pack["outputs"]
    ends, pieces, asked = model.ends, {}, {}
    for name, one in batch.items():
        pieces[name] = span(one["tensor"], ~one["input_mask"])
        asked[name] = span(one["tensor"], ~one["target_mask"])
    shown = ends.lay_out(Tokens(pieces)).compact(256)
    found = model.score(shown, Asked(ends.lay_out(Tokens(asked)).compact(128)))
    for one in found:
        assert close(one.total / max(one.count, 1), outputs[f"fourm_mod_loss_{one.name}"].reshape(())), one.name
    assert close(PerModality().of(found, ends), outputs["fourm_mod_loss"].reshape(()))
    assert close(PerLogit().of(found, ends), outputs["fourm_token_loss"].reshape(()))
    per_token = float(PerToken().of(found, ends))
    assert per_token == pytest.approx(sum(float(o.total) for o in found) / (2 * 61), rel=1e-6)


# --- the layout --------------------------------------------------------------------------------------------------


def test_saved_as_published(model, folder, whole_pack, parity_folder, tmp_path):
    """The same names, shapes and bits, the same aliases, the same config."""
    from safetensors import safe_open

    place = save_published(model, tmp_path / "again")
    before, after = (store.read_weights(where / "model.safetensors") for where in (folder, place))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    record = torch.load(parity_folder / "aion" / "save_pretrained.pt", weights_only=True)["outputs"]
    assert (place / "config.json").read_text().startswith(record["config_json"])  # it breaks off
    with safe_open(place / "model.safetensors", "pt") as file:
        notes = dict(file.metadata())
    assert notes.pop("format", "pt") == "pt"
    recorded = dict(re.findall(r"'([\w.]+)': '([\w.]+)'[,}]", record["metadata"]))
    assert recorded.items() <= notes.items() and len(notes) == record["n_missing"]
    assert len(after) == record["n_saved"]


def test_either_name_of_a_shared_embedding(whole_pack, folder, model, tmp_path):
    for kept in ("encoder", "decoder", "both"):
        gone = {"encoder": "decoder", "decoder": "encoder"}.get(kept, "none")
        weights = {
            name: t.contiguous().clone()
            for name, t in whole_pack["state_dict"].items()
            if not (name.startswith(gone) and name.endswith(".mod_emb"))
        }
        place = tmp_path / kept
        place.mkdir()
        save_file(weights, place / "model.safetensors")
        (place / "config.json").write_text(json.dumps(whole_pack["config"]))
        assert store.signature(store.load(place)) == store.signature(model)


def test_our_own_folder_is_exact(model, whole_pack, tmp_path):
    again = store.load(store.save(model, tmp_path / "ours"))
    given = tokens(whole_pack, SETS["image_phot"])
    assert torch.equal(again.encode(given).states, model.encode(given).states)


# --- generation --------------------------------------------------------------------------------------------------

SEED = 7


def again(model, given, name, how):
    """Each step of theirs begins with a seed of its own."""
    generator = torch.Generator().manual_seed(SEED)
    said = fill(model, given, (name,), how, generator=generator, watch=lambda step: generator.manual_seed(SEED + step))
    return said[name].values


@pytest.fixture(scope="module")
def drawn(whole_pack, parity_folder):
    return torch.load(parity_folder / "aion" / "generation.pt", weights_only=True)["outputs"]


CASES = {
    "roar_tok_spectrum_desi_steps8_T0.0_k0.0_p0.0_cfg1.0": Roar(steps=8, temperature=0.0),
    "roar_tok_spectrum_desi_steps8_T1.0_k0.0_p0.9_cfg1.0": Roar(steps=8, top_p=0.9),
    "maskgit_tok_image_steps6_T1.0_k50_p0.0_cfg1.0": MaskGit(steps=6, top_k=50),
    "roar_tok_z_steps1_T1.0_k0.0_p0.0_cfg1.0": Roar(steps=1),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_ids(model, whole_pack, drawn, case):
    name = case.split("_steps")[0].split("_", 1)[1]
    assert CASES[case].counts(model.ends.vocabularies[name].length) == list(drawn[f"{case}_schedule"])
    assert torch.equal(again(model, tokens(whole_pack, XP), name, CASES[case]), drawn[case])


def test_the_same_ids_with_guidance(model, whole_pack, drawn):
    case = "roar_tok_xp_rp_steps4_T1.0_k0.0_p0.0_cfg3.0"
    said = again(model, tokens(whole_pack, XP[:1]), "tok_xp_rp", Roar(steps=4, guidance=3.0))
    assert torch.equal(said, drawn[case])
