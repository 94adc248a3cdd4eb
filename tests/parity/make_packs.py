"""Trim the recorded packs to what is committed: python tests/parity/make_packs.py /work/shared/parity

Same layout, same numbers in float32, less of them; what one file holds may become two. Tests must pass with either
folder.
"""

import sys
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import torch
from torch import Tensor

PACKS = Path(__file__).parent / "packs"
SMALL = 1024
"""numbers; gradients of larger tensors are left out: small ones lie at every depth, an error anywhere reaches them"""
STEPPED = "ar_affine"
"""the one case that keeps its weights after a step of AdamW, which depend on all its gradients"""
STATES = 128
"""of the 778 states of a spectrum: each has looked at all tokens"""
CUT = slice(60, 84)
"""the middle of an image: a stretch is the same at every pixel"""
COEFFICIENTS = 3
"""of the 55 of a Gaia spectrum: each has a table of its own"""
LOGITS = 16
"""of the 1024 logits of each DESI token: each is a product with its own row of the output matrix"""


def astropt(pack: dict[str, Any]) -> dict[str, Any]:
    """All cases, with the gradients of small tensors; the weights after a step for one."""
    for name, case in pack["cases"].items():
        if "grads" in case:
            case["grads"] = {key: t for key, t in case["grads"].items() if t.numel() <= SMALL}
        if name != STEPPED:
            case.pop("after_adamw", None)
    return pack


def astroclip(pack: dict[str, Any]) -> dict[str, Any]:
    """SpecFormer on three spectra (states of one), ViT and image head on one image, loss, stretches, yardsticks."""
    specformer, vit, heads = pack["specformer"], pack["vit"], pack["heads"]
    masked = ("images", "cls", "patches", "tokens_without_cls_and_pos", "mask", "masked_cls", "masked_patches")
    own = {key: t for key, t in heads["image_state_dict"].items() if not key.startswith("backbone.")}
    baselines, rgb, stein = pack["baselines"], pack["to_rgb"], pack["stein"]
    return {
        "meta": pack["meta"],
        "specformer": {key: specformer[key] for key in ("cfg", "state_dict", "mask_seed", "loss", "token_counts")}
        | {"tokens": specformer["tokens"][:1].clone(), "embedding": specformer["embedding"][:1, :STATES].clone()}
        | {"spectra": specformer["spectra"], "grad": _small(specformer["grad"])},
        "vit": {key: vit[key] for key in ("cfg", "state_dict")}
        | {key: vit[key][:1].clone() for key in (*masked, "local", "local_cls", "local_patches")},
        "heads": {"image_state_dict": own, "image_embedding": heads["image_embedding"], "n_head": heads["n_head"]},
        "clip_loss": pack["clip_loss"],
        "lr_warmup_cosine": pack["lr_warmup_cosine"],
        "to_rgb": {"chw": rgb["chw"][:, CUT, CUT].clone(), "hwc_rgb": rgb["hwc_rgb"][CUT, CUT].clone()},
        "stein": {"hwc": stein["hwc"][CUT, CUT].clone(), "out": {"rgb": stein["out"]["rgb"][CUT, CUT].clone()}},
        "baselines": {key: baselines[key] for key in ("conv_att_state_dict", "mlp_state_dict", "phot", "mlp")}
        | {key: baselines[key][:1].clone() for key in ("spectra", "conv_att")}
        | {"resnet18_shapes": baselines["resnet18_shapes"]},
    }


def _small(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: t for key, t in tensors.items() if t.numel() <= SMALL}


def distill(pack: dict[str, Any]) -> dict[str, Any]:
    """Of AstroDINO's training all that is small; images of its augmentations stay in the full pack."""
    kept = ("meta", "dino", "dino_head", "masking", "dino_schedules", "layer_decay")
    return {key: pack[key] for key in kept}


def aion(pack: dict[str, Any]) -> dict[str, Any]:
    """Blocks, four fluxes and the Gaia spectra in, redshift and a part of the DESI logits out."""
    read = ("tok_flux_g", "tok_flux_r", "tok_flux_i", "tok_flux_z", "tok_xp_bp", "tok_xp_rp")
    asked = ("tok_z", "tok_spectrum_desi")
    state = {key: t for key, t in pack["state_dict"].items() if "_embeddings." not in key}
    inputs = {"mask_tok_flux_r": pack["inputs"]["mask_tok_flux_r"]}
    for name in read:
        stem = f"encoder_embeddings.{name}."
        state |= {key: t for key, t in pack["state_dict"].items() if key.startswith(stem)}
        used, inputs[name] = pack["inputs"][name].unique(return_inverse=True)  # rows of the table that are read
        state[f"{stem}token_emb.weight"] = state[f"{stem}token_emb.weight"][used]
    for name in asked:
        stem = f"decoder_embeddings.{name}."
        state |= {f"{stem}{leaf}": pack["state_dict"][f"{stem}{leaf}"] for leaf in ("mod_emb", "pos_emb")}
        rows = pack["state_dict"][f"{stem}to_logits.weight"]
        state[f"{stem}to_logits.weight"] = rows if name == "tok_z" else rows[:LOGITS].clone()
    outputs = {key: t for key, t in pack["outputs"].items() if key.endswith(("_phot", "_phot_masked_r", "_xp"))}
    outputs = {key: t for key, t in outputs.items() if not key.endswith(("image_phot", "catalog_phot"))}
    for key in ("desi_logits_from_xp_open_attention", "desi_logits_from_xp_aion_forward"):
        outputs[key] = pack["outputs"][key][..., :LOGITS].clone()
    return {"config": pack["config"], "state_dict": state, "inputs": inputs, "outputs": outputs}


def scalars(pack: dict[str, Any]) -> dict[str, Any]:
    """All kinds of codec; of the 55 coefficients the first three, and the numbers behind one table of levels."""
    state = {kind: dict(tensors) for kind, tensors in pack["state_dict"].items()}
    for kind, tensors in state.items():
        for key in list(tensors):
            far = kind == "xp" and int(key.split(".")[2]) >= COEFFICIENTS
            if far or (key.endswith("_reservoir") and kind != "log"):
                del tensors[key]
    inputs, outputs = dict(pack["inputs"]), dict(pack["outputs"])
    inputs["xp"] = inputs["xp"][:, :COEFFICIENTS].clone()
    for key in ("xp_tokens", "xp_decoded"):
        outputs[key] = outputs[key][:, :COEFFICIENTS].clone()
    return {"config": pack["config"], "state_dict": state, "inputs": inputs, "outputs": outputs}


def fsq(pack: dict[str, Any]) -> dict[str, Any]:
    """Without the table of all codes, each of which tests/codec/test_learned.py finds by itself."""
    inputs, outputs = ({key: t for key, t in pack[side].items() if t.shape[-1] == 64} for side in ("inputs", "outputs"))
    return {"config": pack["config"], "inputs": inputs, "outputs": outputs}


def laid_out(value: Any) -> Any:
    """The same structure; equal float32 tensors are one, and all lie in one storage: each would cost some 400 bytes."""
    found: dict[Any, Tensor] = {}
    _collect(value, found)
    flat = torch.cat([t.flatten() for t in found.values()])
    pieces = flat.split([t.numel() for t in found.values()])
    views = {key: piece.view(t.shape) for (key, t), piece in zip(found.items(), pieces, strict=True)}
    return _replace(value, views)


def squeeze(pack: dict[str, Any], file: Path) -> None:
    """torch.save, with the archive compressed: a tenth less, and torch.load reads it all the same."""
    plain = BytesIO()
    torch.save(pack, plain)
    with ZipFile(plain) as before, ZipFile(file, "w", ZIP_DEFLATED, compresslevel=9) as after:
        for name in before.namelist():
            after.writestr(ZipInfo(name), before.read(name), ZIP_DEFLATED, 9)  # ZipInfo: no date, the same bytes again


def _key(tensor: Tensor) -> Any:
    return tuple(tensor.shape), tensor.flatten().view(torch.uint8).numpy().tobytes()


def _collect(value: Any, found: dict[Any, Tensor]) -> None:
    if isinstance(value, Tensor) and value.dtype == torch.float32:
        found.setdefault(_key(value), value)
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            _collect(item, found)


def _replace(value: Any, views: dict[Any, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return views[_key(value)] if value.dtype == torch.float32 else value.clone()
    if isinstance(value, dict):
        return {key: _replace(item, views) for key, item in value.items()}
    return type(value)(_replace(item, views) for item in value) if isinstance(value, list | tuple) else value


TRIMS = {
    "astropt_parity.pt": ("astropt_parity.pt", astropt),
    "astroclip_parity.pt": ("astroclip_parity.pt", astroclip),
    "astroclip_distill.pt": ("astroclip_parity.pt", distill),
    "aion/aion_tiny.pt": ("aion/aion_tiny.pt", aion),
    "aion/scalar_codecs.pt": ("aion/scalar_codecs.pt", scalars),
    "aion/catalog_codec.pt": ("aion/catalog_codec.pt", dict),
    "aion/fsq.pt": ("aion/fsq.pt", fsq),
}
"""trimmed file → the file it is made of, and how"""

if __name__ == "__main__":
    for name, (whole, trim) in TRIMS.items():
        pack = trim(torch.load(Path(sys.argv[1]) / whole, weights_only=True))
        (PACKS / name).parent.mkdir(parents=True, exist_ok=True)
        squeeze(laid_out(pack), PACKS / name)
