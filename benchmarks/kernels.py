"""python -m benchmarks.kernels: what single kernels cost on this CPU, torch's own way beside the one we take.

These are the measurements behind the choices in `model/activation.py`, `model/transformer._mix`, `codec/bilinear.py`
and `devices.keep_memory`; medians of 15 repeats in one process, one way after the other.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from omnisky.codec.bilinear import convolved
from omnisky.codec.processor import multiplies_bf16
from omnisky.model.activation import bent, product
from omnisky.model.transformer import _mix, _plain_attention
from omnisky.train.devices import keep_memory

Call = Callable[[], object]


def main() -> None:
    if sys.argv[1:] == ["relu"]:  # a process of its own, whose memory torch's allocator gives back
        print(_milliseconds(_relu()))
        return
    theirs = float(
        subprocess.run([sys.executable, "-m", "benchmarks.kernels", "relu"], capture_output=True, check=True).stdout
    )
    keep_memory()
    table = Table("kernel", "torch's way, ms", "ours, ms", "ratio")
    _row(table, "ReLU of 8M float32 (memory kept)", theirs, _milliseconds(_relu()))
    for kind in (torch.float32, torch.bfloat16) if multiplies_bf16() else (torch.float32,):
        name = str(kind).removeprefix("torch.")
        _row(table, f"linear + tanh-GELU, 2048×512→2048, {name}", *_linear(kind))
        _row(table, f"product of 8×255 → 8×256 rows, 512→2048, {name}", *_rows(kind))
        _row(table, f"attention 8×8×256×64, there and back, {name}", *_attention(kind))
        _row(table, f"attention 4×12×576×64, all to all, {name}", *_looking(kind))
    _row(table, "linear, 2048×768→3072, float32", *_product())
    _row(table, "convolution 3×3, 8×512×24×24, float32", *_convolution(3))
    _row(table, "convolution 7×7, 8×512×24×24, float32", *_convolution(7))
    Console(width=100).print(table)


def _relu() -> Call:
    x = torch.randn(8 << 20)
    return lambda: F.relu(x)


def _linear(kind: torch.dtype) -> tuple[float, float]:
    linear, x = nn.Linear(512, 2048, bias=False).to(kind), torch.randn(2048, 512).to(kind)
    with torch.inference_mode():
        return _pair(lambda: F.gelu(linear(x), approximate="tanh"), lambda: bent(linear, "gelu_tanh", x))


def _rows(kind: torch.dtype) -> tuple[float, float]:
    """The product of 255 tokens each, and of 256, which is more work."""
    linear, x = nn.Linear(512, 2048, bias=False).to(kind), torch.randn(8, 256, 512).to(kind)
    with torch.inference_mode():
        return _pair(lambda: linear(x[:, :-1]), lambda: linear(x))


def _attention(kind: torch.dtype) -> tuple[float, float]:
    up, *qkv = (torch.randn(8, 8, 256, 64).to(kind).requires_grad_() for _ in range(4))
    return _pair(
        lambda: torch.autograd.grad(F.scaled_dot_product_attention(*qkv, is_causal=True), qkv, up.detach()),
        lambda: torch.autograd.grad(_plain_attention(*qkv, None, True), qkv, up.detach()),
    )


def _looking(kind: torch.dtype) -> tuple[float, float]:
    qkv = [torch.randn(4, 12, 576, 64).to(kind) for _ in range(3)]
    return _pair(lambda: F.scaled_dot_product_attention(*qkv), lambda: _mix(*qkv, None, False, 0.0))


@torch.inference_mode()
def _product() -> tuple[float, float]:
    linear, x = nn.Linear(768, 3072, bias=False), torch.randn(2048, 768)
    return _pair(lambda: linear(x), lambda: product(linear, x))


@torch.inference_mode()
def _convolution(size: int) -> tuple[float, float]:
    conv = nn.Conv2d(512, 512, size, padding=size // 2).to(memory_format=torch.channels_last)
    x = torch.randn(8, 512, 24, 24).contiguous(memory_format=torch.channels_last)
    return _pair(lambda: conv(x), lambda: convolved(x, conv))


def _pair(theirs: Call, ours: Call) -> tuple[float, float]:
    return _milliseconds(theirs), _milliseconds(ours)


def _milliseconds(call: Call, repeats: int = 15) -> float:
    call(), call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


def _row(table: Table, name: str, theirs: float, ours: float) -> None:
    table.add_row(name, f"{theirs:.1f}", f"{ours:.1f}", f"{theirs / ours:.1f}")


if __name__ == "__main__":
    main()
