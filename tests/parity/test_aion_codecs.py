"""AION-1's learned codecs: tokens and reconstructions recorded from polymathic-aion 0.0.2, in float32.

Tokens are the same; reconstructions within 1e-4 of the largest number. Cases marked "full pack" want `OMNISKY_PARITY`.
"""

import numpy as np
import pytest
import torch

from omnisky.codec.field import FieldCodec, FieldCodecConfig
from omnisky.codec.image import HSC, ImageCodec, ImageCodecConfig
from omnisky.codec.quantize import FSQ, LFQ
from omnisky.codec.spectrum import Read, SpectrumCodec, SpectrumCodecConfig, compressed
from omnisky.model import store
from omnisky.observe.types import Image, Observation, Spectrum


def pack(parity_folder, name: str) -> dict:
    file = parity_folder / "aion" / f"{name}.pt"
    if not file.exists():
        pytest.skip(f"{name} is in the full packs alone")
    return torch.load(file, weights_only=True)


def near(ours, theirs, relative: float = 1e-4) -> bool:
    ours = torch.as_tensor(ours).detach()
    return ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= relative * float(theirs.abs().max())


# --- quantisers --------------------------------------------------------------------------------------------------


def test_fsq(parity_folder):
    case = pack(parity_folder, "fsq")
    fsq, out = FSQ((7, 5, 5, 5, 5)), case["outputs"]
    assert torch.equal(fsq.ids(case["inputs"]["z"]), out["codes"])
    assert near(fsq(case["inputs"]["z"]), out["zhat"], 1e-6)
    if "table" in out:
        assert near(fsq.vectors(case["inputs"]["codes"]), out["table"], 1e-6)
    assert torch.equal(FSQ((8, 5, 5, 5)).ids(case["inputs"]["z4"]), out["codes_8555"])


# --- images ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(parity_folder):
    return pack(parity_folder, "image_codec")


def image_codec(case: dict, survey: str = "legacysurvey") -> ImageCodec:
    network = ImageCodecConfig.from_published(case["config"]).build().eval()
    store.fill(network, case["state_dict"], "the pack")
    return ImageCodec(network=network, survey=survey, part="image")


def pictures(flux: torch.Tensor, bands: tuple[str, ...]) -> Observation:
    return Observation.of(range(len(flux)), image=Image(flux=flux.numpy().copy(), bands=bands))


LS = {"ls": "griz", "ls_96": "griz", "ls_gz": "gz", "odd_130x143": "griz"}


@pytest.mark.parametrize("name", LS)
def test_legacy_survey_images(images, name):
    codec, seen = image_codec(images), pictures(images["inputs"][name], tuple(LS[name]))
    tokens = codec.encode(seen)
    assert torch.equal(tokens["tok_image"].values, images["outputs"][f"tokens_{name}"])
    if f"recon_{name}" in images["outputs"]:
        assert near(codec.decode(tokens, like=seen)["image"].flux, images["outputs"][f"recon_{name}"])


def in_range(codec: ImageCodec, flux: np.ndarray) -> torch.Tensor:
    """The numbers that the network itself makes, before it turns them into fluxes."""
    soft = codec.network.config.range_compression_factor
    return torch.asinh(torch.from_numpy(flux).double() / soft)


def test_hsc_images(images):
    """The pack's flux is in HSC's unit, an observation's in nanomaggies; and so is what comes back, in all bands."""
    codec = image_codec(images, "hsc")
    seen = pictures(images["inputs"]["hsc"] * HSC.unit_nmgy, tuple("grizy"))
    tokens = codec.encode(seen)
    assert torch.equal(tokens["tok_image_hsc"].values, images["outputs"]["tokens_hsc"])
    every = codec.decode(tokens, bands=codec.network.config.channels)["image"].flux
    assert near(every, images["outputs"]["recon_hsc_9band_ls_zeropoint"])
    some = codec.decode(tokens, like=seen)["image"].flux
    # How a convolution adds up hangs on its number of channels and on threads: a few roundings of what sinh stretches.
    assert near(in_range(codec, some), in_range(codec, every[:, :5]), 4 * float(np.finfo(np.float32).eps))


# --- spectra -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spectra(parity_folder):
    return pack(parity_folder, "spectrum_codec")


@pytest.mark.parametrize("survey", ["desi", "sdss"])
def test_spectra(spectra, survey):
    network = SpectrumCodecConfig.from_published(spectra["config"]).build().eval()
    store.fill(network, spectra["state_dict"], "the pack")
    codec, out = SpectrumCodec(network=network, survey=survey), spectra["outputs"]
    flux, ivar, wave, bad = (spectra["inputs"][f"{survey}_{k}"].numpy() for k in ("flux", "ivar", "wavelength", "mask"))
    seen = Observation.of(
        range(len(flux)), spectrum=Spectrum(flux=flux, ivar=ivar, wavelength_aa=wave, good=~bad, survey=survey)
    )
    tokens = codec.encode(seen)
    if survey == "desi":
        x = compressed(network.scales, Read.of(seen["spectrum"], network.config))[1]
        assert near(x, out["desi_encoder_input"], 1e-5)
    assert torch.equal(tokens[codec.name].values, out[f"{survey}_tokens"])
    there = codec.decode(tokens)["spectrum"]
    assert near(there.flux, out[f"{survey}_recon_flux_latentgrid"])
    assert np.mean(there.good == ~out[f"{survey}_recon_mask_latentgrid"].numpy()) > 0.9999
    here = codec.decode(tokens, like=seen)["spectrum"]
    assert near(here.flux, out[f"{survey}_recon_flux_observed"])


def test_lfq(spectra):
    assert torch.equal(LFQ(10).vectors(torch.arange(1024)[None]), spectra["outputs"]["lfq_codebook"])


# --- maps --------------------------------------------------------------------------------------------------------


def test_maps(parity_folder):
    case = pack(parity_folder, "segmentation_codec")
    network = FieldCodecConfig.from_published(case["config"]).build().eval()
    store.fill(network, case["state_dict"], "the pack")
    codec = FieldCodec(network=network)
    seen = Observation.of(range(2), segmentation=Image(flux=case["inputs"]["field"][:, None].numpy(), bands=("field",)))
    tokens = codec.encode(seen)
    assert torch.equal(tokens["tok_segmap"].values, case["outputs"]["tokens"])
    assert near(codec.decode(tokens)["segmentation"].flux[:, 0], case["outputs"]["recon"])
