"""Where work happens: the only file that names a device. Ranks come from torchrun's environment."""

from __future__ import annotations

import copy
import ctypes
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from omnisky.codec.processor import multiplies_bf16
from omnisky.errors import BadValue, MissingExtra

log = logging.getLogger("omnisky")

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Place:
    """A device, this process's rank, and the precision of matrix products."""

    device: torch.device
    rank: int = 0
    ranks: int = 1
    precision: str = "fp32"

    @contextmanager
    def drawing(self, seed: int) -> Iterator[None]:
        """Draws that take no generator (dropout, drop-path) come from this seed inside, and are as before outside."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def lean(self, model: nn.Module) -> nn.Module:
        """A copy for inference whose linears hold their weights in `precision`, so that none is converted per batch.

        In fp32 the model itself. Norms and tables stay as they are, and so does the residual stream.
        """
        if self.precision == "fp32":
            return model
        linears = (module for module in model.modules() if isinstance(module, nn.Linear))
        weights = {id(w): w for linear in linears for w in linear.parameters()}
        kind = PRECISIONS[self.precision]
        # Told beforehand what stands for the weights, deepcopy makes no copy of them in float32.
        return copy.deepcopy(
            model, {key: nn.Parameter(w.detach().to(kind), w.requires_grad) for key, w in weights.items()}
        )

    def gather(self, rows: Tensor) -> tuple[Tensor, int]:
        """The rows of all ranks, as many of each, and where this rank's own begin; gradients find their way back.

        Alone, or where torch.distributed was not set up, just these.
        """
        if not _together():
            return rows, 0
        return _Gathered.apply(rows), dist.get_rank() * len(rows)

    def average(self, model: nn.Module) -> None:
        """Gradients become the mean over all ranks. Alone, or where torch.distributed was not set up, nothing.

        Those of a model in pieces (FSDP2) are the mean already. They travel in parcels of `PARCEL` bytes.
        """
        if _together():
            for parcel in _parcels(self._found(model)):
                flat = torch.cat([grad.flatten() for grad in parcel])
                dist.all_reduce(flat)
                flat.div_(dist.get_world_size())
                pieces = flat.split([grad.numel() for grad in parcel])
                for grad, mean in zip(parcel, pieces, strict=True):
                    grad.copy_(mean.view_as(grad))

    def _found(self, model: nn.Module) -> list[Tensor]:
        """Gradients that any rank has; here 0 where only another one has it."""
        plain = [p for p in model.parameters() if p.requires_grad and not isinstance(p, DTensor)]
        has = torch.tensor([p.grad is not None for p in plain], dtype=torch.uint8, device=self.device)
        if len(has):
            dist.all_reduce(has, dist.ReduceOp.MAX)
        for p, somewhere in zip(plain, has.tolist(), strict=True):
            if somewhere and p.grad is None:
                p.grad = torch.zeros_like(p)
        return [p.grad for p in plain if p.grad is not None]

    def mean(self, number: float) -> float:
        """The mean over all ranks, the same on each."""
        if not _together():
            return number
        total = torch.tensor([number], dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return float(total) / dist.get_world_size()

    def any(self, here: bool) -> bool:
        """Whether it is so on any rank."""
        return self.mean(float(here)) > 0

    def all(self, what: Any) -> list[Any]:
        """What every rank says, by rank. Plain objects: numbers, names."""
        if not _together():
            return [what]
        said: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(said, what)
        return said

    def mesh(self) -> DeviceMesh:
        """All ranks in a row. Wants torch.distributed set up: within `joined`."""
        return init_device_mesh(self.device.type, (self.ranks,))

    def autocast(self) -> AbstractContextManager:
        """Matrix products in `precision`, weights and sums in float32."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=PRECISIONS[self.precision])


def demand_compiler(device: torch.device) -> None:
    """Have torch.compile translate next to nothing. Raises MissingExtra where it has no compiler to do so."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(1, device=device))
    except RuntimeError as error:  # of many kinds, all of them torch's own affair
        said = str(error).strip().partition("\n")[0]
        hint = "install g++ (CXX names another one; GPUs want Triton and gcc), or compile=false"
        raise MissingExtra("compile=true", saw=said, want="a compiler for torch.compile", hint=hint) from error


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


PARCEL = 1 << 26
"""bytes of gradients that travel at once: large enough to hide the start of a message, small beside a model"""


def _parcels(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """In their order, each of one dtype and of about PARCEL bytes."""
    parcel: list[Tensor] = []
    for grad in gradients:
        if parcel and (sum(g.nbytes for g in parcel) + grad.nbytes > PARCEL or grad.dtype != parcel[0].dtype):
            yield parcel
            parcel = []
        parcel.append(grad)
    if parcel:
        yield parcel


PATIENCE = timedelta(hours=2)
"""how long ranks wait for one that makes or writes something for all; torchrun ends those whose partner died at once"""


@contextmanager
def joined(place: Place) -> Iterator[None]:
    """The ranks that torchrun started talk to each other inside. Alone, or where they talk already, nothing."""
    if place.ranks == 1 or _together():
        yield
        return
    backend = "nccl" if place.device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def out_of_memory(error: BaseException) -> bool:
    """Whether this is a device, or the machine, saying that a tensor does not fit."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


class _Gathered(torch.autograd.Function):
    """Forward: everybody's rows. Backward: what everybody's loss says of this rank's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        pieces = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(pieces, rows.contiguous())
        ctx.rows = len(rows)
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        first = dist.get_rank() * ctx.rows
        return total[first : first + ctx.rows]


def here(precision: str = "fp32") -> Place:
    """The best device of this process: a GPU of its own if there is one, else the CPU. Raises BadValue.

    `precision` is the least that is asked for: the products of a device that multiplies no bf16 are in fp32, exacter
    and there much faster. `Place.precision` says which, and so does a line of the log "omnisky", once.
    """
    if precision not in PRECISIONS:
        raise BadValue("precision", saw=precision, want=tuple(PRECISIONS))
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if precision == "bf16" and not multiplies_bf16(device.type):
        precision = "fp32"
        if rank == 0:
            _say_so(device.type)
    return Place(device, rank, ranks, precision)


@cache
def _say_so(device: str) -> None:
    log.warning("this %s multiplies no bfloat16: products are in fp32, which is exacter, and faster here", device)


def keep_memory() -> None:
    """Ask glibc to keep freed memory instead of handing it back: large tensors are then 2–7 times faster to make.

    By default every tensor above 32 MB is mapped anew and zeroed page by page. Does nothing elsewhere than on Linux.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            m_mmap_threshold, m_trim_threshold = -3, -1
            libc.mallopt(m_mmap_threshold, 1 << 30)
            libc.mallopt(m_trim_threshold, (1 << 31) - 1)
