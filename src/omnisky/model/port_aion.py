"""AION-1's published layout ↔ ours: config.json and model.safetensors as on the Hub (polymathic-ai/aion-base, …).

Theirs holds a table a modality, ours all of them in one; positions and the norms' biases are tensors there and follow
from formulas here (they are compared, and written again). An embedding that encoder and decoder share is stored under
one of two names; either is read, the decoder's is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omnisky.errors import CorruptFile, UnknownLayout
from omnisky.model import store
from omnisky.model.any_to_any import AION, Vocabulary, across, along
from omnisky.model.masked import AnyToAny, AnyToAnyConfig, gated
from omnisky.model.rename import renamed, some
from omnisky.storage import atomic

_FIXED = {
    "act_layer": "SiLU",
    "gated_mlp": True,
    "mlp_bias": False,
    "mlp_ratio": 4,
    "norm_bias": False,
    "proj_bias": False,
    "qk_norm": True,
    "qkv_bias": False,
}
"""of config.json: the same in every release"""

_MLP = {"mlp.fc1": "mlp.up", "mlp.fc3": "mlp.gate", "mlp.fc2": "mlp.down"}
_MLP |= {"norm1": "attention_norm", "norm2": "mlp_norm"}
_ENDS = {"qkv": "qkv", "proj": "out", "q_norm": "norm_query", "k_norm": "norm_key"}
_CROSS = {"q": "query", "kv": "key_value", "proj": "out", "q_norm": "norm_query", "k_norm": "norm_key"}

TABLE: dict[str, str] = {
    **{f"encoder.{{i}}.{a}.{{w}}": f"encoder.blocks.{{i}}.{b}.{{w}}" for a, b in _MLP.items()},
    **{f"encoder.{{i}}.attn.{a}.{{w}}": f"encoder.blocks.{{i}}.attention.{b}.{{w}}" for a, b in _ENDS.items()},
    **{f"decoder.{{i}}.{a}.{{w}}": f"decoder.blocks.{{i}}.{b}.{{w}}" for a, b in _MLP.items()},
    **{f"decoder.{{i}}.self_attn.{a}.{{w}}": f"decoder.blocks.{{i}}.attention.{b}.{{w}}" for a, b in _ENDS.items()},
    **{f"decoder.{{i}}.cross_attn.{a}.{{w}}": f"decoder.blocks.{{i}}.cross.{b}.{{w}}" for a, b in _CROSS.items()},
    "decoder.{i}.query_norm.{w}": "decoder.blocks.{i}.cross_norm.{w}",
    "decoder.{i}.context_norm.{w}": "decoder.blocks.{i}.context_norm.{w}",
    "encoder_norm.{w}": "encoder.norm.{w}",
    "decoder_norm.{w}": "decoder.norm.{w}",
    "decoder_proj_context.{w}": "project.{w}",
    "mask_token": "hidden_token",
}
"""their name → ours, of all that is not a modality's own. i: block, w: weight or bias"""

_TABLES = {
    "words": "encoder_embeddings.{}.token_emb.weight",
    "asked": "decoder_embeddings.{}.token_emb.weight",
    "answers": "decoder_embeddings.{}.to_logits.weight",
}
"""our table → where theirs holds a modality's rows of it"""

SEQUENCE_PLACES = 512
"""positions a sequence has in the files, of which a model uses the first 50"""


def load_folder(folder: Path, config: Mapping[str, Any]) -> AnyToAny:
    """The model in a folder of the published layout, in eval mode. Raises UnknownLayout, CorruptFile."""
    file = folder / "model.safetensors"
    theirs, settings = store.read_weights(file), _settings(folder, config)
    ours = _ours(theirs, settings, file)
    with store.Blank():
        model = settings.build()
    store.fill(model, ours, file, adopt=True)
    return model.eval()


def save_published(model: AnyToAny, folder: str | Path) -> Path:
    """Write the published layout, whole or not at all. Raises UnknownLayout, where it cannot, StorageError."""
    said, weights = published_parts(model)
    aliases = {f"encoder_embeddings.{n}.mod_emb": f"decoder_embeddings.{n}.mod_emb" for n in model.ends.names}
    with atomic(folder) as draft:
        draft.mkdir()
        store.write_weights(weights, draft / "model.safetensors", aliases)
        (draft / "config.json").write_text(json.dumps(said, indent=2, sort_keys=True))
        (draft / "README.md").write_text("# AION\n\nWritten by Omnisky in the layout of polymathic-aion.\n")
    return Path(folder)


def published_parts(model: AnyToAny) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config, weights under their names). Raises UnknownLayout for a model that the layout cannot hold."""
    settings = model.config
    if not settings.unread or set(model.ends.names) - set(AION):
        saw = "lean tables" if not settings.unread else some(sorted(set(model.ends.names) - set(AION)))
        raise UnknownLayout("AION's layout", saw=saw, want="unread=True and AION's modalities", hint="store.save")
    return _said(model), dict(_theirs(model))


def _settings(folder: Path, said: Mapping[str, Any]) -> AnyToAnyConfig:
    file = folder / "config.json"
    other = {name: said.get(name) for name, want in _FIXED.items() if said.get(name, want) != want}
    if other:
        raise UnknownLayout(f"{file}", saw=other, want={name: _FIXED[name] for name in other})
    names = said["domains_in"]
    if not isinstance(names, list) or said.get("domains_out") != names or set(names) - set(AION):
        strange = set(map(str, names)) - set(AION) if isinstance(names, list) else names
        saw = some(sorted(strange)) if strange else "other modalities out than in"
        raise UnknownLayout(f"{file}: modalities", saw=saw, want=tuple(sorted(AION)))
    try:
        width, heads = int(said["dim"]), int(said["num_heads"])
        encoder, decoder = int(said["encoder_depth"]), int(said["decoder_depth"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{file}: {error!r}", want="dim, num_heads, encoder_depth, decoder_depth") from error
    vocabularies = tuple(AION[name] for name in names)
    core = gated(encoder, width, heads)
    return AnyToAnyConfig(core=core, decoder_depth=decoder, vocabularies=vocabularies, unread=True)


def _ours(theirs: dict[str, Tensor], settings: AnyToAnyConfig, file: Path) -> dict[str, Tensor]:
    """Our names and tables. Raises UnknownLayout for what is missing, strange, or not as the formulas have it."""
    left, found = dict(theirs), {}
    names = sorted(v.name for v in settings.vocabularies)
    try:
        for table, where in _TABLES.items():
            found[f"ends.{table}.weight"] = torch.cat([left.pop(where.format(name)) for name in names])
        found["ends.kinds.weight"] = torch.cat([_shared(left, name) for name in names]).flatten(1)
        for v in settings.vocabularies:
            for side in ("encoder", "decoder"):
                name = f"{side}_embeddings.{v.name}.pos_emb"
                _demand(left.pop(name), _positions(v, settings.core.width), name, file)
    except KeyError as error:
        raise UnknownLayout(str(file), saw=f"no {error}", want="AION's tensors") from error
    except RuntimeError as error:
        raise UnknownLayout(f"{file}: tables of ids", saw=str(error), want=f"width {settings.core.width}") from error
    strange = []
    for name, tensor in left.items():
        ours = renamed(name, TABLE)
        if ours is None:
            strange.append(name)
        elif _is_zero_bias(name):
            _demand(tensor, torch.zeros_like(tensor), name, file)
        else:
            found[ours] = tensor
    if strange:
        raise UnknownLayout(str(file), saw=some(sorted(strange)), want="AION's names alone")
    return found


def _shared(left: dict[str, Tensor], name: str) -> Tensor:
    """An embedding of the encoder that is also the decoder's, under one name or both."""
    both = [left.pop(key) for side in ("encoder", "decoder") if (key := f"{side}_embeddings.{name}.mod_emb") in left]
    if not both:
        raise KeyError(f"decoder_embeddings.{name}.mod_emb")
    if len(both) == 2 and not torch.equal(*both):
        raise UnknownLayout(f"{name}.mod_emb", saw="two, for encoder and decoder", want="one that they share")
    return both[0]


def _is_zero_bias(name: str) -> bool:
    return bool(re.search(r"norm\d?\.bias$", name))


def _demand(tensor: Tensor, want: Tensor, name: str, file: Path) -> None:
    if tensor.shape != want.shape or float((tensor.float() - want).abs().max()) > 1e-3:
        raise UnknownLayout(f"{file}: {name}", saw="other numbers", want=f"the formula's, {tuple(want.shape)}")


def _positions(v: Vocabulary, width: int) -> Tensor:
    return (along(SEQUENCE_PLACES, width) if v.longest else across(v.grid, width))[None]


def _said(model: AnyToAny) -> dict[str, Any]:
    core, names = model.config.core, list(model.ends.names)
    shape = {"dim": core.width, "num_heads": core.heads, "encoder_depth": core.depth}
    return _FIXED | shape | {"decoder_depth": model.config.decoder_depth, "domains_in": names, "domains_out": names}


def _theirs(model: AnyToAny) -> Iterator[tuple[str, Tensor]]:
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    sizes = [v.size for v in model.ends.vocabularies.values()]
    for table, where in _TABLES.items():
        rows = state.pop(f"ends.{table}.weight").split(sizes)
        yield from ((where.format(name), piece.clone()) for name, piece in zip(model.ends.names, rows, strict=True))
    for name, kind in zip(model.ends.names, state.pop("ends.kinds.weight"), strict=True):
        yield f"decoder_embeddings.{name}.mod_emb", kind[None, None].clone()
    for name, v in model.ends.vocabularies.items():
        for side in ("encoder", "decoder"):
            yield f"{side}_embeddings.{name}.pos_emb", _positions(v, model.ends.width)
    back = {ours: theirs for theirs, ours in TABLE.items()}
    for name, tensor in state.items():
        theirs = renamed(name, back)
        if theirs is None:
            raise UnknownLayout("AION's layout", saw=name, want="tensors that it has")
        yield theirs, tensor.contiguous()
        if re.search(r"norm\d?\.weight$", theirs):
            yield theirs.replace(".weight", ".bias"), torch.zeros_like(tensor)
