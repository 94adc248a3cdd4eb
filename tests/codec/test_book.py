"""Published folders of codecs: strict in, identical out; and one call for all modalities."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from skies import FIELD, IMAGE, SPECTRUM, alive

import omnisky
from omnisky.codec import book
from omnisky.codec.book import CodecBook, detokenize, tokenize
from omnisky.codec.catalog import CatalogCodec, fitted_catalog, sample_shapes
from omnisky.codec.field import FieldCodec, FieldRows
from omnisky.codec.image import ImageCodec
from omnisky.codec.modalities import DOMAINS
from omnisky.codec.patch import ScalarTokens
from omnisky.codec.saved import load_codec, save_codec, save_codecs
from omnisky.codec.scalar import (
    ScalarCodec,
    ScalarPlan,
    ScaledAsinh,
    Turned,
    centred,
    fitted,
    plan,
    redshift_grid,
    sample,
)
from omnisky.codec.spectrum import SpectrumCodec
from omnisky.codec.tokens import beside, parts_read
from omnisky.errors import BadValue, CorruptFile, MissingModality, UnknownLayout, UnknownModel
from omnisky.observe.types import Observation, Scalars

NUMBERS = {key: domain for key, domain in DOMAINS.items() if domain.codec.endswith("Scalar")}
CONFIGS = {
    "EBV": {"codebook_size": 1024, "modality": "EBV", "reservoir_size": 50},
    "FLUX_G": {"codebook_size": 1024, "min_log_value": -3, "modality": "FLUX_G", "reservoir_size": 50},
    "Z": {"codebook_size": 1024, "modality": "Z"},
    "bp_coefficients": {
        "codebook_size": 1024,
        "compression_fns": ["arcsinh", "arcsinh"],
        "decompression_fns": ["sinh", "sinh"],
        "modality": "bp_coefficients",
        "num_quantizers": 55,
        "reservoir_size": 50,
    },
    "catalog": {"mask_value": 9999},
}
"""as published, but for the size of the reservoirs"""
KEYS = {"EBV": "tok_ebv", "FLUX_G": "tok_flux_g", "Z": "tok_z", "bp_coefficients": "tok_xp_bp", "catalog": "catalog"}


def one_table(g: torch.Generator, prefix: str) -> dict[str, torch.Tensor]:
    kept = torch.randn(50, generator=g)
    levels = torch.quantile(kept, torch.linspace(0, 1, 1024))
    return {f"{prefix}_reservoir": kept, f"{prefix}_index_to_val": levels}


def tensors(name: str, prefix: str) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    if name == "Z":
        return {f"{prefix}buckets": torch.linspace(0, 6, 1024)}
    if name == "bp_coefficients":
        return {k: t for i in range(55) for k, t in one_table(g, f"{prefix}quantizers.{i}.").items()}
    if name == "catalog":
        shapes = {k: t for s in ("E1", "E2", "R") for k, t in one_table(g, f"{prefix}quantizers.SHAPE_{s}.").items()}
        return shapes | {f"{prefix}quantizers.{axis}._codebook_size": torch.tensor(96) for axis in "XY"}
    return one_table(g, prefix)


def published(folder: Path, name: str, prefix: str = "_quantizer.") -> Path:
    """A folder as polymathic-aion writes it."""
    folder = folder / "codecs" / name
    folder.mkdir(parents=True)
    save_file(tensors(name, prefix), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIGS[name], indent=2, sort_keys=True))
    return folder


@pytest.fixture(scope="module")
def codecs(mock_all):
    plans = [plan(domain) for domain in NUMBERS.values()]
    made = {codec.name: codec for codec in fitted(plans, sample(plans, [mock_all]))}
    made["tok_z"] = replace(made["tok_z"], levels=redshift_grid(), kept=None)
    return made | {"catalog": fitted_catalog(sample_shapes([mock_all]))}


@pytest.fixture(scope="module")
def forty(codecs):
    """Learned codecs too: tiny networks at random, one of images and one of spectra for two surveys each."""
    image, spectrum = alive(IMAGE.build()), alive(SPECTRUM.build())
    learned = (
        *(ImageCodec(network=image, survey=survey) for survey in ("legacysurvey", "hsc")),
        SpectrumCodec(network=spectrum),
        SpectrumCodec(network=spectrum, survey="sdss", part="spectrum_sdss"),
        FieldCodec(network=alive(FIELD.build())),
    )
    return codecs | {codec.name: codec for codec in learned}


# --- the published layout ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["_quantizer.", "quantizer."])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_loaded_is_saved_back_byte_for_byte(tmp_path, name, prefix):
    if (name, prefix) == ("catalog", "quantizer."):
        pytest.skip("only codecs of numbers were saved under the older prefix")
    folder = published(tmp_path, name, prefix)
    again = save_codec(load_codec(folder, KEYS[name]), tmp_path / "again")
    for file in ("config.json", "model.safetensors"):
        assert (again / file).read_bytes() == (folder / file).read_bytes()


def test_the_keys_are_those_of_the_release():
    """As `aion_keys.json` lists them of polymathic-aion 0.0.2."""
    assert len(tensors("bp_coefficients", "_quantizer.")) == 110
    assert set(tensors("Z", "_quantizer.")) == {"_quantizer.buckets"}
    assert "_quantizer.quantizers.X._codebook_size" in tensors("catalog", "_quantizer.")


@pytest.mark.parametrize("key", [*NUMBERS, "catalog"])
def test_a_fitted_codec_comes_back_as_it_was(tmp_path, codecs, mock_all, key):
    folder = save_codec(codecs[key], tmp_path / DOMAINS[key].folder)
    assert "omnisky" not in json.loads((folder / "config.json").read_text())
    again = load_codec(folder, key)
    assert torch.equal(again.encode(mock_all)[key].values, codecs[key].encode(mock_all)[key].values)
    assert torch.equal(again.levels, codecs[key].levels)


@pytest.mark.parametrize("squeeze", [ScaledAsinh(softening=0.2), Turned(cut_deg=200.0)])
def test_what_is_not_as_published_says_so(tmp_path, mock_all, squeeze):
    one = plan(DOMAINS["tok_parallax"], squeeze)
    codec = centred(fitted([one], sample([one], [mock_all]))[0])
    again = load_codec(save_codec(codec, tmp_path / "parallax"), "tok_parallax")
    assert again.plan == codec.plan and torch.equal(again.says, codec.says)


def test_numbers_of_your_own_have_codecs_too(tmp_path):
    """Not of the table: the folder says what they are called and where they are."""
    seen = Observation.of(
        range(100), scalars=Scalars(values=np.random.default_rng(0).normal(size=(100, 1)), names=("w",))
    )
    one = ScalarPlan(name="my_w", part="scalars", columns=("w",), unit="km / s")
    save_codecs(fitted([one], sample([one], [seen])), tmp_path)
    opened = CodecBook(tmp_path)
    assert list(opened) == ["my_w"]
    tokens = tokenize(seen, opened)
    assert torch.equal(tokens["my_w"].values[:, 0].argsort(), torch.from_numpy(seen["scalars"]["w"].argsort()))
    assert detokenize(tokens, codecs=opened)["scalars"].units == ("km / s",)


def broken(folder: Path, **changes) -> Path:
    weights = load_file(folder / "model.safetensors") | {k: t for k, t in changes.items() if t is not None}
    weights = {k: t for k, t in weights.items() if changes.get(k, t) is not None}
    save_file(weights, folder / "model.safetensors")
    return folder


def test_every_tensor_is_accounted_for(tmp_path):
    for i, changes in enumerate(
        ({"_quantizer.more": torch.zeros(1)}, {"_quantizer._reservoir": None}, {"x": torch.ones(1)})
    ):
        with pytest.raises(UnknownLayout, match="tensors of"):
            load_codec(broken(published(tmp_path / str(i), "EBV"), **changes), "tok_ebv")
    with pytest.raises(UnknownLayout, match="tensors of"):
        load_codec(broken(published(tmp_path, "catalog"), more=torch.zeros(1)), "catalog")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("EBV", {"codebook_size": 512}),
        ("EBV", {"reservoir_size": 100_000}),
        ("EBV", {"min_log_value": -3}),
        ("FLUX_G", {"min_log_value": -5}),
        ("Z", {"colour": "red"}),
        ("bp_coefficients", {"compression_fns": ["log"]}),
        ("bp_coefficients", {"num_quantizers": 54}),
        ("catalog", {"mask_value": -1}),
    ],
)
def test_a_config_that_says_otherwise_is_refused(tmp_path, name, changes):
    folder = published(tmp_path, name)
    (folder / "config.json").write_text(json.dumps(CONFIGS[name] | changes))
    with pytest.raises(UnknownLayout, match=next(iter(changes))):
        load_codec(folder, KEYS[name])


def test_broken_files_are_named(tmp_path):
    folder = published(tmp_path, "EBV")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-10])
    with pytest.raises(CorruptFile, match="EBV/model"):
        load_codec(folder, "tok_ebv")
    (folder / "config.json").write_text("{")
    with pytest.raises(CorruptFile, match="EBV/config"):
        load_codec(folder, "tok_ebv")


def test_a_codec_without_its_numbers_is_not_published(tmp_path, codecs):
    with pytest.raises(BadValue, match="was not fitted"):
        save_codec(replace(codecs["tok_xp_bp"], kept=None), tmp_path / "xp")
    with pytest.raises(BadValue, match="was not fitted"):
        save_codec(CatalogCodec(levels=torch.linspace(0, 1, 9).repeat(3, 1)), tmp_path / "catalog")
    assert not list(tmp_path.iterdir())


# --- the book ------------------------------------------------------------------------------------------------------


def test_a_folder_is_a_book_of_what_is_in_it(tmp_path):
    for name in CONFIGS:
        published(tmp_path, name)
    for place in (tmp_path, tmp_path / "codecs", str(tmp_path)):
        opened = CodecBook(place)
        assert set(opened) == set(KEYS.values()) and len(opened) == 5
        assert isinstance(opened["tok_z"], ScalarCodec) and opened["tok_z"] is opened["tok_z"]
        with pytest.raises(MissingModality, match="saw tok_image"):
            opened["tok_image"]


def test_a_book_of_the_hub_fetches_what_is_read(tmp_path, monkeypatch):
    published(tmp_path, "EBV")
    asked = []

    def fetch(repository, revision=None, allow_patterns=()):
        asked.extend(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    opened = CodecBook("some/repository")
    assert len(opened) == 40 and asked == []
    assert opened["tok_ebv"].name == "tok_ebv"
    assert asked == ["codecs/EBV/*.json", "codecs/EBV/*.safetensors"]
    with pytest.raises(UnknownModel, match="no codecs/Z"):
        opened["tok_z"]


def test_a_hub_that_does_not_answer_is_said(monkeypatch):
    def fail(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(UnknownModel, match=r"codec 'EBV' of 'some/repository' is not on this machine"):
        CodecBook("some/repository")["tok_ebv"]


@pytest.mark.parametrize("place", ["nowhere", "./nowhere/at-all", "a/b/c"])
def test_a_place_that_is_none_is_refused(place):
    with pytest.raises(UnknownModel, match="a Hub repository"):
        CodecBook(place)


def test_an_empty_folder_is_no_book(tmp_path):
    with pytest.raises(UnknownModel, match="no codecs in"):
        CodecBook(tmp_path)


# --- all at once ---------------------------------------------------------------------------------------------------


def test_everything_measured_becomes_tokens_and_comes_back(tmp_path, codecs, mock_all):
    save_codecs(codecs, tmp_path)
    opened = CodecBook(tmp_path)
    tokens = omnisky.tokenize(mock_all, opened)
    assert set(tokens) == set(codecs) and tokens.objects == 16
    for key, codec in codecs.items():
        assert torch.equal(tokens[key].values, codec.encode(mock_all)[key].values)
    again = omnisky.detokenize(tokens, like=mock_all, codecs=opened)
    assert set(again.parts) == {"scalars", "bp", "rp", "neighbours"}
    assert np.array_equal(again.object_id, mock_all.object_id)
    columns = {name for domain in NUMBERS.values() if domain.part == "scalars" for name in domain.columns}
    assert set(again["scalars"].names) == columns
    for name, unit in zip(again["scalars"].names, again["scalars"].units, strict=True):
        assert unit == mock_all["scalars"].units[mock_all["scalars"].names.index(name)]
    # In bins of one object in 16 each: what decodes is never below, and rises with what was measured.
    for name in ("FLUX_R", "i_cmodel_mag", "EBV"):
        before, after = mock_all["scalars"][name], again["scalars"][name]
        assert (after >= before.astype(np.float32) * (1 - 1e-6)).all() and (np.diff(after[before.argsort()]) >= 0).all()
    assert np.abs(again.ra - mock_all.ra).max() < 5 and (again.ra != mock_all.ra).any()
    alone = detokenize(tokens, codecs=opened)
    assert alone.object_id.tolist() == [str(i) for i in range(16)]
    assert np.array_equal(alone["scalars"].values, again["scalars"].values, equal_nan=True)


def test_what_a_join_renamed_is_found_and_comes_back_under_its_name(codecs, mock_all):
    seen = Observation.of(
        mock_all.object_id, scalars_hsc=mock_all["scalars"], neighbours_legacysurvey=mock_all["neighbours"]
    )
    tokens = tokenize(seen, codecs)
    assert set(tokens) == {"catalog"} | {key for key in NUMBERS if DOMAINS[key].surveys == ("hsc",)}
    again = detokenize(tokens, like=seen, codecs=codecs)
    assert set(again.parts) == {"scalars_hsc", "neighbours_legacysurvey"}


def test_only_what_is_asked_for(codecs, mock_all):
    assert set(tokenize(mock_all, codecs.values(), only=("tok_z", "tok_ebv"))) == {"tok_z", "tok_ebv"}
    with pytest.raises(MissingModality, match="saw tok_nonsense"):
        tokenize(mock_all, codecs, only=["tok_nonsense"])
    bare = Observation.of(["a"], scalars=Scalars(values=np.ones((1, 1)), names=("EBV",)))
    assert list(tokenize(bare, codecs)) == ["tok_ebv"]
    with pytest.raises(MissingModality, match="want tok_z"):
        tokenize(bare, codecs, only=("tok_ebv", "tok_z"))
    with pytest.raises(MissingModality, match="not in the observation"):
        tokenize(Observation.of(["a"]), codecs)


def test_tokens_without_a_codec_are_refused(codecs, mock_all):
    tokens = tokenize(mock_all, codecs, only=["tok_z"])
    with pytest.raises(MissingModality, match="saw tok_z"):
        detokenize(tokens, codecs={"tok_ebv": codecs["tok_ebv"]})


def test_no_codec_is_loaded_for_what_is_not_there(tmp_path):
    published(tmp_path, "EBV")
    (published(tmp_path, "bp_coefficients") / "model.safetensors").write_bytes(b"broken")
    bare = Observation.of(["a"], scalars=Scalars(values=np.ones((1, 1)), names=("EBV",)))
    assert list(tokenize(bare, tmp_path)) == ["tok_ebv"]


def test_a_repository_is_opened_once(monkeypatch):
    assert book._opened("some/other") is book._opened("some/other")


# --- with the learned codecs ---------------------------------------------------------------------------------------


def test_all_forty_are_encoded_from_the_mock_sky(tmp_path, forty, mock_all):
    """Out of a folder as published, and saved again the same."""
    save_codecs(forty, tmp_path)
    opened = CodecBook(tmp_path)
    assert set(opened) == set(DOMAINS) == set(forty)
    assert opened["tok_image"].network is opened["tok_image_hsc"].network
    seen = mock_all.take(slice(0, 3))
    tokens = tokenize(seen, opened)
    assert set(tokens) == set(DOMAINS)
    for key, domain in DOMAINS.items():
        assert torch.equal(tokens[key].values, forty[key].encode(seen)[key].values), key
        ids = tokens[key].values
        assert ids.shape == (3, domain.tokens) and 0 <= int(ids.min()) <= int(ids.max()) < domain.vocabulary
    save_codecs({key: opened[key] for key in opened}, tmp_path / "again")
    for folder in sorted((tmp_path / "codecs").iterdir()):
        for file in ("config.json", "model.safetensors"):
            assert (tmp_path / "again" / "codecs" / folder.name / file).read_bytes() == (folder / file).read_bytes()
    again = detokenize(tokens, like=seen, codecs=opened)
    assert {domain.part for domain in DOMAINS.values()} - {"place"} == set(again.parts)
    assert again["image_hsc"].bands == seen["image_hsc"].bands
    assert np.array_equal(again["spectrum_sdss"].wavelength_aa, seen["spectrum_sdss"].wavelength_aa, equal_nan=True)


def test_a_survey_read_alone_is_found_under_its_plain_names(forty, mock_all):
    """As its own reader calls them: "image" of HSC, "spectrum" of SDSS."""
    alone = Observation.of("a", image=mock_all["image_hsc"].take([0]), spectrum=mock_all["spectrum_sdss"].take([0]))
    tokens = tokenize(alone, forty)
    assert set(tokens) == {"tok_image_hsc", "tok_spectrum_sdss"}
    whole = tokenize(mock_all.take([0]), forty, only=tuple(tokens))
    assert all(torch.equal(tokens[key].values, whole[key].values) for key in tokens)
    assert set(detokenize(tokens, like=alone, codecs=forty).parts) == {"image", "spectrum"}


def test_codecs_of_maps_read_neighbours_too_where_there_are_any():
    codecs = (FieldRows(), ScalarTokens(columns=("z",)))
    assert [beside(codec) for codec in codecs] == ["neighbours", ""]
    assert parts_read(codecs, ("segmentation", "neighbours")) == ["neighbours", "scalars", "segmentation"]
    assert parts_read(codecs, ("segmentation", "scalars")) == ["scalars", "segmentation"]


def test_a_map_finds_its_neighbours_under_another_name(forty, mock_all):
    parts = {f"{name}_legacysurvey": mock_all[name].take([0]) for name in ("segmentation", "neighbours")}
    tokens = tokenize(Observation.of("a", **parts), forty)
    assert set(tokens) == {"tok_segmap", "catalog"}
    whole = tokenize(mock_all.take([0]), forty, only=["tok_segmap"])
    assert torch.equal(tokens["tok_segmap"].values, whole["tok_segmap"].values)
