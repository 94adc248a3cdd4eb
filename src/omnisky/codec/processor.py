"""What this machine's processor does itself, where speed hangs on it."""

from __future__ import annotations

from functools import cache

import torch


@cache
def multiplies_bf16(device: str = "cpu") -> bool:
    """Whether a kind of device ("cpu", "cuda") multiplies bfloat16 itself, and does not only imitate it.

    Of PCs those with AVX512-BF16 or AMX do. The others take 6 times as long as for float32 on the way there, and 80
    times there and back (dev/LOG.md, sixteenth session).
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if _told("avx512_bf16") is None:  # no PC
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return bool(_told("avx512_bf16") or has_tiles())


@cache
def has_tiles() -> bool:
    """AMX: bfloat16 in tiles."""
    return bool(_told("amx_bf16"))


@cache
def fuses_well() -> bool:
    """Whether oneDNN's products are as fast as others, so that what it adds to them is a gain.

    Not those for vectors of 256 bits: a linear with its GELU takes 1.3 – 1.5 times as long as one after the other.
    """
    return torch.backends.mkldnn.is_available() and _told("avx512_f") is not False


def _told(name: str) -> bool | None:
    """None where the processor does not speak of it, or torch not of the processor."""
    return torch.cpu.get_capabilities().get(name) if hasattr(torch.cpu, "get_capabilities") else None


def at_precision(dtype: torch.dtype) -> torch.autocast:
    """Products in bfloat16 inside this block, if that is asked for and the processor multiplies it."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16 and multiplies_bf16())
