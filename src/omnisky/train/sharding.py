"""A model in pieces over the ranks (FSDP2: Zhao et al. 2023, arXiv:2304.11277), and whole again.

Each block of the core is gathered before it works and let go behind it; what is around the blocks, once a step.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from omnisky.model.transformer import Block
from omnisky.train.config import ModelConfig
from omnisky.train.devices import Place

WORK = ("loss", "told", "among")
"""methods of a model that use what is around its blocks"""


def outline(config: ModelConfig) -> nn.Module:
    """The model without its numbers: names, shapes and dtypes, no memory."""
    with torch.device("meta"):
        return config.build()


def cut_up(model: nn.Module, place: Place) -> nn.Module:
    """The same model, each rank with its rows of every parameter.

    A single number (AstroCLIP's scale) has no rows: every rank holds it, and `Place.average` joins its gradients.
    """
    model = model.to(memory_format=torch.contiguous_format)  # convolutions have rows then
    single = {p for p in model.parameters() if p.ndim == 0}
    mesh = place.mesh()
    for module in [m for m in model.modules() if isinstance(m, Block)]:
        fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=single)
    for name in WORK:
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)
    return model


def build_in_pieces(config: ModelConfig, seed: int, place: Place) -> nn.Module:
    """`config.build(seed)`, in pieces. Rank 0 draws it once, in the memory of the machine; no device ever holds it."""
    model = cut_up(outline(config), place).to_empty(device=place.device)
    whole = _tensors(config.build(seed)) if place.rank == 0 else {}
    for name, mine in _tensors(model).items():
        told = whole.pop(name).detach() if place.rank == 0 else torch.empty(mine.shape, dtype=mine.dtype)
        told = told.to(place.device).contiguous()
        dist.broadcast(told, 0)
        with torch.no_grad():
            mine.copy_(like(told, mine))
    return model


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Also buffers that are not saved."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def like(told: Tensor, mine: Tensor) -> Tensor:
    """The same numbers, cut up as `mine` is; every rank has them whole."""
    if not isinstance(mine, DTensor) or isinstance(told, DTensor):
        return told
    return distribute_tensor(told.to(mine.device), mine.device_mesh, mine.placements, src_data_rank=None)


def put_together(model: nn.Module, config: ModelConfig, place: Place) -> nn.Module | None:
    """The whole model in the memory of rank 0's machine, one tensor at a time; None on other ranks."""
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        told = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor  # all ranks must ask
        if place.rank == 0:
            found[name] = told.detach().cpu()
    if place.rank:
        return None
    built = outline(config)
    built.load_state_dict(found, assign=True)
    built.codecs = model.codecs
    return built


def let_go(model: nn.Module) -> None:
    """What a forward pass without a backward one gathered."""
    if isinstance(model, FSDPModule):
        model.reshard()
