"""AstroCLIP: numbers recorded from its code (9d85069) and DINOv2's (2302b6bf), in float32.

Relative tolerance 1e-5 of the largest number, as for AstroPT. Cases marked "full pack" want `OMNISKY_PARITY`: the packs
that are committed are trimmed.
"""

import numpy as np
import pytest
import torch

from omnisky.codec.patch import RasterPatches, cut
from omnisky.codec.sections import DESI, OverlappingSections
from omnisky.codec.stretch import LegacyColours, SteinColours
from omnisky.codec.tokens import Span, Tokens
from omnisky.model.baseline import PhotometryRegressorConfig, SpectrumRegressorConfig
from omnisky.model.contrastive import ContrastiveConfig, Pool, PoolConfig, TowerConfig
from omnisky.model.port import load_published
from omnisky.observe.types import Image, Observation, Spectrum
from omnisky.train.optim import AdamW

SECTIONS = OverlappingSections(heedless=True, drops_last=True)


def close(ours, theirs) -> bool:
    ours = torch.as_tensor(ours).detach()
    return ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


@pytest.fixture(scope="module")
def pack(parity_folder):
    return torch.load(parity_folder / "astroclip_parity.pt", weights_only=True)


def part(pack: dict, *names: str):
    """Something of the pack, or a skip where it was trimmed away."""
    for name in names:
        if name not in pack:
            pytest.skip(f"{'/'.join(names)} is in the full pack alone")
        pack = pack[name]
    return pack


def saved(content: dict, file):
    torch.save(content, file)
    return file


def desi(spectra: torch.Tensor) -> Observation:
    flux = spectra.reshape(len(spectra), -1).numpy()
    wave = np.tile(DESI.wavelength_aa(), (len(flux), 1))
    return Observation.of(range(len(flux)), spectrum=Spectrum(flux=flux, wavelength_aa=wave))


def grz(images: torch.Tensor) -> Tokens:
    """Stretched images as the reference was given them."""
    values = cut(images, 12)
    return Tokens({"images": Span(values, torch.arange(values.shape[1]).expand(len(values), -1))})


# --- SpecFormer --------------------------------------------------------------------------------------------------


@pytest.fixture
def specformer(pack, tmp_path):
    """The recorded model, out of a file such as is published."""
    case = pack["specformer"]
    facts = case["cfg"] | {"mask_num_chunks": 6, "mask_chunk_width": 50}
    return load_published(
        saved({"state_dict": case["state_dict"], "hyper_parameters": facts}, tmp_path / "specformer.ckpt")
    )


@pytest.mark.parametrize("codec", [SECTIONS, OverlappingSections()], ids=["published", "heeding"])
def test_tokens_of_spectra(pack, codec):
    """One of three has a spread below 0.2."""
    case = pack["specformer"]
    values = codec.encode(desi(part(case, "spectra")))["spectra"].values
    assert close(values[: len(case["tokens"])], case["tokens"])


def test_states(specformer, pack):
    case = pack["specformer"]
    tokens = SECTIONS.encode(desi(part(case, "spectra"))).take(slice(0, len(case["embedding"])))
    with torch.no_grad():
        assert close(specformer.states(tokens)[:, : case["embedding"].shape[1]], case["embedding"])


def test_reconstructions(specformer, pack):
    want = part(pack["specformer"], "reconstructions")
    with torch.no_grad():
        assert close(specformer.predict(SECTIONS.encode(desi(pack["specformer"]["spectra"]))), want)


def test_masking_loss_and_gradients(specformer, pack):
    case = pack["specformer"]
    tokens = SECTIONS.encode(desi(part(case, "spectra")))
    held_out = specformer.deal(tokens, torch.Generator().manual_seed(case["mask_seed"]))
    if "masked_tokens" in case:
        shown = tokens["spectra"].values.masked_fill(held_out[..., None], 0)
        assert close(shown, case["masked_tokens"])
    loss = specformer.score(tokens, held_out)
    loss.backward()
    assert close(loss, case["loss"])
    ours = {
        "data_embed": "sections",
        "final_layernorm": "core.norm",
        "blocks.0.layernorm1": "core.blocks.0.attention_norm",
    }
    ours |= {
        "blocks.1.mlp.encoder": "core.blocks.1.mlp.up",
        "blocks.0.attention.attention": "core.blocks.0.attention.qkv",
    }
    checked = 0
    for theirs, name in ours.items():
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}" in case["grad"]:
                assert close(specformer.get_parameter(f"{name}.{kind}").grad, case["grad"][f"{theirs}.{kind}"])
                checked += 1
    assert checked >= 4


def test_how_many_tokens_a_spectrum_has(pack):
    counts = part(pack, "specformer", "token_counts")
    for pixels, tokens in counts.items():
        grid = type(DESI)(pixels=int(pixels))
        assert OverlappingSections(grid=grid, drops_last=True).sections + 1 == tokens


# --- AstroDINO ---------------------------------------------------------------------------------------------------


@pytest.fixture
def vision(pack, tmp_path):
    weights = {f"backbone.{name}": weight for name, weight in pack["vit"]["state_dict"].items()}
    return load_published(saved({"teacher": weights}, tmp_path / "astrodino.ckpt"), heads=4).eval()


def test_images(vision, pack):
    case = pack["vit"]
    with torch.no_grad():
        states = vision.states(grz(case["images"]))
        assert close(states[:, 0], case["cls"]) and close(states[:, 1:], case["patches"])
        assert close(vision.vectors(grz(case["images"])), case["cls"])
        assert close(vision.bare(cut(case["images"], 12)), case["tokens_without_cls_and_pos"])


def test_images_with_hidden_patches(vision, pack):
    case = pack["vit"]
    with torch.no_grad():
        states = vision(cut(case["images"], 12), part(case, "mask"))
    assert close(states[:, 0], case["masked_cls"]) and close(states[:, 1:], case["masked_patches"])


def test_small_crops_with_interpolated_positions(vision, pack):
    case = pack["vit"]
    with torch.no_grad():
        states = vision(cut(part(case, "local"), 12))
    assert close(states[:, 0], case["local_cls"]) and close(states[:, 1:], case["local_patches"])


# --- AstroCLIP ---------------------------------------------------------------------------------------------------


def head(pack: dict, name: str, inside: int, residual: bool) -> Pool:
    """A recorded head by itself."""
    state = part(pack, "heads", f"{name}_state_dict")
    from omnisky.model.port_astroclip import _POOL, _taken_apart
    from omnisky.model.rename import renamed

    own = {key: weight for key, weight in state.items() if not key.startswith("backbone.")}
    pool = Pool(PoolConfig(inside=inside, width=32, heads=4, residual=residual))
    weights = {str(renamed(key, _POOL)).removeprefix("pool."): weight for key, weight in _taken_apart(own)}
    pool.load_state_dict(weights)
    return pool.eval()


def test_the_image_head(vision, pack):
    """On bare patches, without residual."""
    pool = head(pack, "image", 64, residual=False)
    images = pack["vit"]["images"]
    with torch.no_grad():
        said = pool(vision.bare(cut(images, 12)))
    assert close(said, pack["heads"]["image_embedding"][: len(images)])


def test_the_spectrum_head(pack, tmp_path):
    state = part(pack, "heads", "spectrum_state_dict")
    inner = {key.removeprefix("backbone."): w for key, w in state.items() if key.startswith("backbone.")}
    backbone = load_published(saved({"state_dict": inner}, tmp_path / "specformer.ckpt"), heads=4)
    with torch.no_grad():
        states = backbone.states(SECTIONS.encode(desi(pack["heads"]["spectra"])))
        said = head(pack, "spectrum", 48, residual=True)(states)
    assert close(said, pack["heads"]["spectrum_embedding"])


def test_a_whole_published_file(parity_folder, pack):
    """With its pickled modules; row 0 alone is row 0 of all."""
    file = parity_folder / "astroclip_tiny.ckpt"
    if not file.exists():
        pytest.skip("astroclip_tiny.ckpt is in the full pack alone")
    model = load_published(file)
    heads = pack["heads"]
    spectra = SECTIONS.encode(desi(heads["spectra"]))
    with torch.no_grad():
        assert close(model.vectors(spectra), heads["spectrum_embedding"])
        assert close(model.vectors(grz(heads["images"])), heads["image_embedding"])
        assert close(model.vectors(spectra.take(slice(0, 1))), heads["spectrum_embedding"][:1])
        assert model.config.scale == 15.5 and not model.config.learns_scale


@pytest.mark.parametrize(("name", "heads"), [("specformer_tiny.ckpt", None), ("astrodino_tiny.ckpt", 4)])
def test_the_towers_own_files(parity_folder, pack, name, heads):
    file = parity_folder / name
    if not file.exists():
        pytest.skip(f"{name} is in the full pack alone")
    model = load_published(file, heads=heads)
    with torch.no_grad():
        if heads:
            assert close(model.vectors(grz(pack["vit"]["images"])), pack["vit"]["cls"])
        else:
            assert close(
                model.states(SECTIONS.encode(desi(pack["specformer"]["spectra"]))), pack["specformer"]["embedding"]
            )


def test_the_loss_of_pairs(pack):
    case = part(pack, "clip_loss")
    tower = TowerConfig(backbone=_tiny(), pool=PoolConfig(inside=8, width=8))
    model = ContrastiveConfig(image=tower, spectrum=tower, scale=case["scale"], learns_scale=False).build(0)
    image, spectrum = (case[name].clone().requires_grad_() for name in ("image", "spectrum"))
    loss = model.contrast(image, spectrum)
    loss.backward()
    assert close(loss, case["loss"])
    assert close(image.grad, case["grad_image"]) and close(spectrum.grad, case["grad_spectrum"])
    assert close(model.contrast(torch.zeros(3, 32), case["spectrum"][:3]), case["zero_vector"])


def _tiny():
    from omnisky.model.vision import vit

    return vit(8, 1, 1, patch_size=2, grid=2)


def test_version_1s_head(pack, tmp_path):
    case = part(pack, "v1_seq_decoder")
    state = case["state_dict"]
    inner = {key.removeprefix("model.m."): w for key, w in state.items() if key.startswith("model.m.")}
    backbone = load_published(saved({"state_dict": inner}, tmp_path / "specformer.ckpt"), heads=4)
    from omnisky.model.port_astroclip import _taken_apart

    names = {"multihead_attn.out_proj": "out", "linear1": "up", "linear2": "down", "norm": "norm"}
    names |= {
        f"multihead_attn.{one}_proj": f"to_{word}" for one, word in zip("qkv", ("query", "key", "value"), strict=True)
    }
    weights = {"query": state["query"]}
    for key, weight in _taken_apart({k: w for k, w in state.items() if not k.startswith("model.") and k != "query"}):
        stem = next(name for name in names if key.startswith(name))
        weights[f"{names[stem]}.{'bias' if key.endswith('bias') else 'weight'}"] = weight
    pool = Pool(PoolConfig(inside=48, width=32, heads=4, hidden_dropout=0.1))
    pool.load_state_dict(weights)
    with torch.no_grad():
        said = pool.eval()(backbone.states(SECTIONS.encode(desi(case["spectra"]))))
    assert close(said, case["out"])


# --- images, schedule, yardsticks --------------------------------------------------------------------------------


def flux(hwc: torch.Tensor) -> torch.Tensor:
    """(height, width, g r z) → (1, z r g, height, width)."""
    return hwc.permute(2, 0, 1)[[2, 1, 0]][None]


def test_both_stretches(pack):
    case = part(pack, "to_rgb")
    assert close(LegacyColours().forward(case["chw"][[2, 1, 0]][None])[0], case["hwc_rgb"].permute(2, 0, 1))
    case = part(pack, "stein")
    said = SteinColours().forward(flux(case["hwc"]))[0]
    assert close(said, case["out"]["rgb"].permute(2, 0, 1))


def test_the_collator(pack):
    """From stored flux to the network's input: stretch and the middle 144 px."""
    case = part(pack, "collator")
    images = Image(flux=case["raw_nhwc"].permute(0, 3, 2, 1).numpy(), bands=("g", "r", "z"))
    codec = RasterPatches(patch_size=1, bands=("z", "r", "g"), stretch=LegacyColours(), side=144)
    values = codec.encode(Observation.of(range(len(images)), image=images))["images"].values
    assert close(values.mT.unflatten(-1, (144, 144)), case["out_nchw"])


def test_the_schedule(pack):
    """Warm-up from 0, cosine to the floor, and flat after."""
    case = part(pack, "lr_warmup_cosine")
    rule = AdamW(peak=case["base"], warmup=case["T_warmup"], decay_until=case["T_max"], floor=case["eta_min"])
    steps = range(case["T_max"])
    want = case["lrs"][: len(steps)]
    assert [rule.rate(step, 10**6) for step in steps[: len(want)]] == pytest.approx(want, rel=1e-5, abs=1e-12)


def test_convolutions_with_attention(pack):
    case = part(pack, "baselines", "conv_att_state_dict"), pack["baselines"]
    model = SpectrumRegressorConfig(answers=4).build(0).eval()
    layers = {"0": "hidden.0.0", "1": "hidden.0.1", "3": "hidden.1.0", "4": "hidden.1.1", "6": "answers"}
    weights = {}
    for key, weight in case[0].items():
        room, rest = key.split(".", 1)
        i, kind = rest.split(".")
        weights[f"{layers[i]}.{kind}" if room == "mlp" else f"stages.{int(room[-1]) - 1}.{i}.{kind}"] = weight
    model.load_state_dict(weights)
    x = case[1]["spectra"][:, None]
    with torch.no_grad():
        assert close(model.predict(Tokens({"flux": Span(x, x)})), case[1]["conv_att"])


def test_photometry(pack):
    case = part(pack, "baselines")
    model = PhotometryRegressorConfig(answers=4).build(0).eval()
    layers = {"0": "hidden.0.0", "3": "hidden.1.0", "6": "answers"}
    model.load_state_dict({f"{layers[k[0]]}{k[1:]}": w for k, w in case["mlp_state_dict"].items()})
    x = case["phot"][..., None]
    with torch.no_grad():
        assert close(model.predict(Tokens({"photometry": Span(x, x)})), case["mlp"])


def test_resnet18_is_torchvisions(pack):
    """Tensor by tensor: each of their names has one of ours, of the same shape, and none is left over."""
    from omnisky.model.baseline import ImageRegressorConfig
    from omnisky.model.port_astroclip import TABLES
    from omnisky.model.rename import renamed

    shapes = part(pack, "baselines", "resnet18_shapes")
    table = {key.removeprefix("encoder_q."): name for key, name in TABLES["resnet50"].items() if ".fc." not in key}
    table |= {"fc.{w}": "answers.{w}"}
    with torch.device("meta"):
        ours = ImageRegressorConfig(answers=4).build().state_dict()
    named = {renamed(key.removeprefix("resnet."), table): tuple(shape) for key, shape in shapes.items()}
    assert named == {name: tuple(weight.shape) for name, weight in ours.items()}
