"""Products of matrices in half precision, where a processor multiplies it."""

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
    told = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if "avx512_bf16" in told:
        return bool(told["avx512_bf16"] or told["amx_bf16"])
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def at_precision(dtype: torch.dtype) -> torch.autocast:
    """Products in bfloat16 inside this block, if that is asked for and the processor multiplies it."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16 and multiplies_bf16())
