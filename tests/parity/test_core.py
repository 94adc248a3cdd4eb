"""The one core is the blocks of the other three systems: each is built here from its recorded weights around our Stack.

Their embeddings and heads are a few lines of this file; what is under test lies between. Tolerance as for AstroPT:
1e-5 of the largest number (the same float32 sums in another order differ by some 1e-6 after eight blocks).
"""

import pytest
import torch
import torch.nn.functional as F

from omnisky.model.transformer import CoreConfig, Stack

BLOCKED = torch.finfo(torch.float32).min
"""what AION adds to forbidden scores: a row of them is a uniform average, as −∞ would not be"""


def close(ours, theirs) -> bool:
    return ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


def filled(config: CoreConfig, weights: dict) -> Stack:
    """A Stack with these weights, all of them and no others."""
    stack = Stack(config)
    stack.load_state_dict(weights)
    return stack.eval()


def renamed(state: dict, names: dict[str, str]) -> dict:
    """The tensors whose names begin with one of these, under ours."""
    found = {}
    for theirs, ours in names.items():
        for leaf in ("weight", "bias", "gamma"):
            if f"{theirs}.{leaf}" in state:
                found[f"{ours}.{leaf}" if leaf != "gamma" else ours] = state[f"{theirs}.{leaf}"]
    return found


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


# --- SpecFormer --------------------------------------------------------------------------------------------------


def test_specformer(parity_folder):
    pack = torch.load(parity_folder / "astroclip_parity.pt", weights_only=True)["specformer"]
    state, cfg = pack["state_dict"], pack["cfg"]
    names = {"final_layernorm": "norm"}
    for i in range(cfg["num_layers"]):
        parts = {
            **{"layernorm1": "attention_norm", "attention.attention": "attention.qkv"},
            **{"attention.projection": "attention.out", "layernorm2": "mlp_norm"},
            **{"mlp.encoder": "mlp.up", "mlp.decoder": "mlp.down"},
        }
        names |= {f"blocks.{i}.{theirs}": f"blocks.{i}.{ours}" for theirs, ours in parts.items()}
    config = CoreConfig(
        width=cfg["embed_dim"], depth=cfg["num_layers"], heads=cfg["num_heads"], bias=True, activation="gelu"
    )
    x = F.linear(pack["tokens"], state["data_embed.weight"], state["data_embed.bias"])
    x = x + state["position_embed.weight"][: x.shape[1]]
    said = filled(config, renamed(state, names))(x)
    assert close(said[:, : pack["embedding"].shape[1]], pack["embedding"])


# --- AstroDINO's ViT ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vit(parity_folder):
    return torch.load(parity_folder / "astroclip_parity.pt", weights_only=True)["vit"]


@pytest.fixture(scope="module")
def vit_core(vit) -> Stack:
    cfg, names = vit["cfg"], {"norm": "norm"}
    for i in range(cfg["depth"]):
        parts = {
            **{"norm1": "attention_norm", "attn.qkv": "attention.qkv", "attn.proj": "attention.out"},
            **{"ls1": "attention_branch.scale", "norm2": "mlp_norm", "mlp.fc1": "mlp.up", "mlp.fc2": "mlp.down"},
            "ls2": "mlp_branch.scale",
        }
        chunk = i // (cfg["depth"] // cfg["block_chunks"])
        names |= {f"blocks.{chunk}.{i}.{theirs}": f"blocks.{i}.{ours}" for theirs, ours in parts.items()}
    config = CoreConfig(
        width=cfg["embed_dim"],
        depth=cfg["depth"],
        heads=cfg["num_heads"],
        bias=True,
        activation="gelu",
        scale_init=cfg["init_values"],
        eps=1e-6,
    )
    return filled(config, renamed(vit["state_dict"], names))


def patches(vit) -> torch.Tensor:
    state = vit["state_dict"]
    x = F.conv2d(vit["images"], state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=12)
    return x.flatten(2).mT


def test_vit_with_class_token_and_positions(vit, vit_core):
    state, x = vit["state_dict"], patches(vit)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], 1) + state["pos_embed"]
    said = vit_core(x)
    assert close(said[:, 0], vit["cls"])
    assert close(said[:, 1:], vit["patches"])


def test_vit_as_astroclip_runs_it_on_bare_patches(vit, vit_core):
    assert close(vit_core(patches(vit)), vit["tokens_without_cls_and_pos"])


# --- AION --------------------------------------------------------------------------------------------------------

FLUXES = ("tok_flux_g", "tok_flux_r", "tok_flux_i", "tok_flux_z")
GAIA = ("tok_xp_bp", "tok_xp_rp")


class Aion:
    """The recorded encoder and decoder, §3.3 to §3.4 of the reference, around two Stacks."""

    def __init__(self, pack: dict) -> None:
        self.state, self.inputs, cfg = pack["state_dict"], pack["inputs"], pack["config"]
        numbers = {"width": cfg["dim"], "heads": cfg["num_heads"], "hidden": int(2 / 3 * 4 * cfg["dim"])}
        shared = numbers | {"activation": "silu_gated", "norm_heads": True, "eps": 1e-6}
        mlp = {"norm2": "mlp_norm", "mlp.fc1": "mlp.up", "mlp.fc3": "mlp.gate", "mlp.fc2": "mlp.down"}

        def attention(theirs: str) -> dict[str, str]:
            ends = {"qkv": "qkv", "proj": "out", "q_norm": "norm_query", "k_norm": "norm_key"}
            return {f"{theirs}.{end}": f"attention.{ours}" for end, ours in ends.items()} | {"norm1": "attention_norm"}

        cross = {"q": "query", "kv": "key_value", "proj": "out", "q_norm": "norm_query", "k_norm": "norm_key"}
        cross = {f"cross_attn.{end}": f"cross.{ours}" for end, ours in cross.items()}
        cross |= {"query_norm": "cross_norm", "context_norm": "context_norm"}
        self.encoder = self._stack("encoder", attention("attn") | mlp, depth=cfg["encoder_depth"], **shared)
        self.decoder = self._stack(
            "decoder", attention("self_attn") | cross | mlp, depth=cfg["decoder_depth"], cross=True, **shared
        )

    def _stack(self, name: str, parts: dict[str, str], **numbers) -> Stack:
        names = {f"{name}_norm": "norm"}
        for i in range(numbers["depth"]):
            names |= {f"{name}.{i}.{theirs}": f"blocks.{i}.{ours}" for theirs, ours in parts.items()}
        found = renamed(self.state, names)
        biases = [key for key in found if key.endswith(".bias")]
        assert not any(found.pop(key).any() for key in biases)  # LayerNorm buffers that are always zero
        return filled(CoreConfig(**numbers), found)

    def places(self, side: str, names: tuple[str, ...]) -> torch.Tensor:
        where = [
            self.state[f"{side}_embeddings.{n}.pos_emb"] + self.state[f"{side}_embeddings.{n}.mod_emb"] for n in names
        ]
        return torch.cat(where, 1)

    def context(self, names: tuple[str, ...], attend: torch.Tensor | None = None) -> torch.Tensor:
        ids = {name: self.inputs[name].long() for name in names}
        tables = {name: self.state[f"encoder_embeddings.{name}.token_emb.weight"] for name in names}
        where = self.places("encoder", names)
        x = torch.cat([tables[name][ids[name]] for name in names], 1) + where
        project = self.state["decoder_proj_context.weight"], self.state["decoder_proj_context.bias"]
        return F.linear(self.encoder(x, attend), *project) + where

    def logits(self, name: str, context: torch.Tensor, **attention) -> torch.Tensor:
        y = (self.state["mask_token"] + self.places("decoder", (name,))).expand(len(context), -1, -1)
        y = self.decoder(y, context=context, **attention)
        return F.linear(y, self.state[f"decoder_embeddings.{name}.to_logits.weight"])


@pytest.fixture(scope="module")
def aion_pack(parity_folder):
    return torch.load(parity_folder / "aion" / "aion_tiny.pt", weights_only=True)


@pytest.fixture(scope="module")
def aion(aion_pack) -> Aion:
    return Aion(aion_pack)


@pytest.mark.parametrize(("inputs", "names"), [("phot", FLUXES), ("xp", GAIA)])
def test_aion_encodes_and_tells_the_redshift(aion, aion_pack, inputs, names):
    context = aion.context(names)
    assert close(context, aion_pack["outputs"][f"encode_{inputs}"])
    assert close(aion.logits("tok_z", context), aion_pack["outputs"][f"z_logits_{inputs}"])


def test_aion_with_a_flux_hidden_from_half_of_the_objects(aion, aion_pack):
    """The reference sorts hidden tokens to the end of the row; nobody looks at them, so the order does not matter."""
    present = torch.ones(2, len(FLUXES), dtype=torch.bool)
    present[:, 1] = ~aion_pack["inputs"]["mask_tok_flux_r"][:, 0]
    assert not present.all()
    context = aion.context(FLUXES, attend=present[:, None, :].expand(-1, len(FLUXES), -1))
    said = aion.logits("tok_z", context, attend_context=present[:, None, :])
    assert close(said, aion_pack["outputs"]["z_logits_phot_masked_r"])


def test_aion_decodes_a_spectrum_with_open_attention(aion, aion_pack):
    want = aion_pack["outputs"]["desi_logits_from_xp_open_attention"]
    assert close(aion.logits("tok_spectrum_desi", aion.context(GAIA)), want)


def test_aion_decodes_a_spectrum_as_released(aion, aion_pack):
    """AION.forward forbids every pair: all rows are uniform averages. A float `attend` says so without NaN."""
    want = aion_pack["outputs"]["desi_logits_from_xp_aion_forward"]
    forbidden = torch.full((1, want.shape[1], want.shape[1]), BLOCKED)
    assert close(aion.logits("tok_spectrum_desi", aion.context(GAIA), attend=forbidden), want)
