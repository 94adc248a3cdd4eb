"""AstroPT: numbers recorded from its code (git HEAD, 2.0.9 and v1.0 layouts), reached here through published files.

Relative tolerance 1e-5 of the largest number: the same sums in another order of float32 differ by some 1e-7, a wrong
constant by far more.
"""

import numpy as np
import published
import pytest
import torch

from omnisky.codec.patch import RasterPatches, SpectralSections, SpiralPatches, spiral_index
from omnisky.codec.tokens import Span, Tokens
from omnisky.model import port
from omnisky.model.autoregressive import MaskedPatch
from omnisky.model.port import load_published
from omnisky.model.rename import renamed
from omnisky.observe.types import Image, Observation, Spectrum
from omnisky.train.optim import AdamW

AUTOREGRESSIVE = (
    *("ar_aim", "ar_affine", "ar_aim_bias", "ar_full_attention", "ar_lora"),
    *("multimodal_images_spectra", "discrete_aion"),
)
MASKED = ("mae_aim", "mae_aim_normpix")


def close(ours, theirs) -> bool:
    """Within 1e-5 of the largest number, and of the same shape."""
    ours = torch.as_tensor(ours).detach()
    return ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


@pytest.fixture(scope="module")
def pack(parity_folder):
    return torch.load(parity_folder / "astropt_parity.pt", weights_only=True)


@pytest.fixture
def ported(pack, tmp_path):
    """The model of a recorded case, out of a file such as AstroPT publishes."""

    def load(name: str):
        case = pack["cases"][name]
        file = published.write(tmp_path / "ckpt.pt", case["state_dict"], case["config"], case.get("modalities"))
        return load_published(file)

    return load


def inputs(case) -> Tokens:
    """What the reference was given."""
    given = case["inputs"]
    return Tokens(
        {name: Span(given[name], given[f"{name}_positions"]) for name in given if f"{name}_positions" in given}
    )


def truth(case) -> Tokens:
    """The whole sequence: AstroPT shifts targets by hand when there is one modality, our loss does it by itself."""
    tokens = inputs(case)
    if len(tokens) > 1:
        return tokens
    ((name, span),) = tokens.items()
    values = torch.cat([span.values, case["targets"][name][:, -1:]], 1)
    more = span.positions[:, -1:] + (not span.positions.is_floating_point())
    there = case.get("attention_mask")
    present = None if there is None else torch.cat([torch.ones(len(there), 1).bool(), there.bool()], 1)
    return Tokens({name: Span(values, torch.cat([span.positions, more], 1), present)})


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_states_after_every_block_and_after_the_last_norm(ported, pack, name):
    case, model = pack["cases"][name], ported(name)
    states = [model.states(inputs(case), blocks=i) for i in range(len(case["hidden"]))]
    assert all(close(ours, theirs) for ours, theirs in zip(states, case["hidden"], strict=True))
    assert close(model.states(inputs(case)), case["ln_f"])


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_predictions_and_loss(ported, pack, name):
    case, model = pack["cases"][name], ported(name)
    said, want = model.predict(truth(case)), case["predictions_with_targets"]
    assert said.keys() == want.keys()
    assert all(close(said[key], want[key]) for key in want)
    assert close(model.loss(truth(case)), torch.tensor(case["loss"]))


@pytest.mark.parametrize("name", (*AUTOREGRESSIVE, *MASKED))
def test_gradients(ported, pack, name):
    case, model = pack["cases"][name], ported(name)
    _backward(model, case)
    ours = _as_published(model, {key: p.grad for key, p in model.named_parameters()}, case["grads"])
    assert all(close(ours[key], theirs) for key, theirs in case["grads"].items())


def test_a_step_of_adamw(ported, pack):
    """A first step moves each weight by lr = 1e-3, but where its gradient is near eps, rounding shows: 5 % at most."""
    stepped = {name: case for name, case in pack["cases"].items() if "after_adamw" in case}
    assert stepped
    for name, case in stepped.items():
        model, rule = ported(name), case["adamw"]
        weights = _as_published(model, dict(model.named_parameters()), case["state_dict"])
        if name == "ar_lora":  # loralib freezes the weight that a low-rank update is added to
            [w.requires_grad_(False) for key, w in weights.items() if key.endswith("c_attn.weight")]
        optimiser = AdamW(betas=tuple(rule["betas"]), eps=rule["eps"], weight_decay=rule["weight_decay"]).build(model)
        optimiser.param_groups[0]["lr"] = optimiser.param_groups[1]["lr"] = rule["lr"]
        _backward(model, case)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), rule["clip"])
        assert float(norm) == pytest.approx(case["grad_norm"], rel=1e-5)
        optimiser.step()
        moved = [(weights[key].detach() - after).abs().max() for key, after in case["after_adamw"].items()]
        assert max(moved) < 0.05 * rule["lr"]


def _backward(model, case) -> None:
    if isinstance(model, MaskedPatch):
        loss = model.score(inputs(case), case["predictions_with_targets"]["images_mask"].bool())
    else:
        loss = model.loss(truth(case))
    loss.backward()


def _as_published(model, ours, names) -> dict:
    """Our tensors under the names of the file they came from."""
    layout = "3.0 affine" if model.config.tokeniser == "affine" else "3.0 aim"
    return {key: ours[renamed(key, port.TABLES[layout])] for key in names}


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_embeddings(ported, pack, name):
    """From the centre block, each modality's tokens by themselves: mean, weights falling tenfold, last, all."""
    case, model = pack["cases"][name], ported(name)
    assert model.centre == case["centre_block_index"] + 1
    tokens = inputs(case)
    states = model.states(tokens, blocks=model.centre)
    for key, where in model.junction.layout(tokens).slices():
        mine, want = states[:, where], {reduction: of[key] for reduction, of in case["embeddings"].items()}
        falling = torch.logspace(0, -1, mine.shape[1])
        assert close(mine.mean(1), want["mean"])
        assert close((mine * falling[:, None]).sum(1) / falling.sum(), want["exp_decay"])
        assert close(mine[:, -1], want["last"])
        assert close(mine, want["none"])
        assert close(model.states(tokens)[:, where], case["embeddings_final"][key])


@pytest.mark.parametrize("name", MASKED)
def test_the_masked_objective_fills_in_and_scores_alike(ported, pack, name):
    case, model = pack["cases"][name], ported(name)
    held_out = case["predictions_with_targets"]["images_mask"].bool()
    assert close(model.fill(inputs(case), held_out)["images"], case["predictions_with_targets"]["images"])
    assert close(model.score(inputs(case), held_out), torch.tensor(case["loss"]))


def test_the_task_head(ported, pack):
    case, model = pack["cases"]["task_head"], ported("task_head")
    assert close(model.answer(inputs(case)), case["predictions"])
    assert close(
        torch.nn.functional.huber_loss(model.answer(inputs(case)), case["targets"]), torch.tensor(case["loss"])
    )


def test_padded_light_curves(ported, pack):
    """The reference masks its loss alone; we also hide the padding from attention, so only real epochs compare."""
    case, model = pack["cases"]["photometry_masked"], ported("photometry_masked")
    there = case["attention_mask"].bool()
    assert close(model.predict(truth(case))["photometry"][there], case["predictions"]["photometry"][there])
    assert close(model.loss(truth(case)), torch.tensor(case["loss"]))


def test_names_of_2_0_9_give_the_same_model(ported, pack, tmp_path):
    case = pack["cases"]["ar_aim"]
    weights = {pack["v209_key_map"][head]: weight for head, weight in case["state_dict"].items()}
    assert "transformer.wte.images.c_fc.weight" in weights
    old = load_published(published.write(tmp_path / "old.pt", weights, case["config"], case["modalities"]))
    assert torch.equal(old.states(inputs(case)), ported("ar_aim").states(inputs(case)))


# --- v1 ----------------------------------------------------------------------------------------------------------


def test_v1(pack, tmp_path):
    """Its embeddings are the last block's output before the norm; without targets only the last token is predicted."""
    case = pack["v1"]
    model = load_published(published.write(tmp_path / "v1.pt", case["state_dict"], case["config"]))
    x = case["x"]
    tokens = Tokens({"images": Span(x, torch.arange(x.shape[1]).expand(len(x), -1))})
    assert close(model.predict(tokens)["images"], case["predictions"])
    assert close(model.loss(tokens), torch.tensor(case["loss"]))
    assert close(model.junction.leave("images", model.states(tokens)[:, -1:]), case["next_token"])
    last = model.states(tokens, blocks=model.config.core.depth)
    assert close(last, case["embeddings_none"])
    assert close(last.mean(1), case["embeddings_mean"])


# --- data and schedule -------------------------------------------------------------------------------------------


@pytest.fixture
def galaxy(pack) -> Observation:
    """The recorded 8-bit image, (height, width, band) turned to our (object, band, height, width)."""
    flux = np.asarray(pack["data"]["image_hwc"]).transpose(2, 0, 1)[None]
    return Observation.of(["golden"], image=Image(flux=flux, bands=("red", "green", "blue"), unit="display"))


@pytest.mark.parametrize(
    ("golden", "kind", "standardised"),
    [
        ("hf_tokens_raw_raster", RasterPatches, False),
        ("hf_tokens_norm_raster", RasterPatches, True),
        ("hf_tokens_norm_spiral", SpiralPatches, True),
    ],
)
def test_patches_are_those_of_the_training_pipeline(pack, galaxy, golden, kind, standardised):
    """Transposed, standardised by the unbiased std of 8-bit values, rounded to float16: exact, rounding and all."""
    codec = kind(
        patch_size=pack["data"]["patch_size"],
        bands=("red", "green", "blue"),
        columns_first=True,
        standardised=standardised,
        half=standardised,
    )
    assert torch.equal(codec.encode(galaxy)["images"].values[0], pack["data"][golden].float())


def test_the_spiral(pack):
    golden = pack["data"]["spiral_index"]
    assert len(golden) >= 9
    assert all(np.array_equal(spiral_index(n), index) for n, index in golden.items())


def test_spectra_are_cut_rounded_and_padded_alike(pack):
    golden = pack["data"]["spectra"]
    rows = {key: golden[key].double().numpy()[None].astype(np.float32) for key in ("flux", "wavelength")}
    seen = Spectrum(flux=rows["flux"], wavelength_aa=rows["wavelength"])
    span = SpectralSections(size=8, standardised=False, rounded=True).encode(Observation.of(["a"], spectrum=seen))
    assert torch.equal(span["spectra"].values[0], golden["patches"].float())
    assert torch.equal(span["spectra"].positions[0], golden["positions"].float())


def test_the_learning_rate(pack):
    golden = pack["lr"]
    floor = golden["min_lr"] / golden["learning_rate"]
    rule = AdamW(
        peak=golden["learning_rate"],
        warmup=golden["warmup_iters"],
        decay_until=int(golden["lr_decay_iters"]),
        floor=floor,
    )
    assert {step: rule.rate(step, 30_000) for step in golden["samples"]} == pytest.approx(golden["samples"], rel=1e-12)
