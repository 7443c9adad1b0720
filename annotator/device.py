"""Which device the networks run on."""

from __future__ import annotations

import ctypes
from pathlib import Path

from annotator.records import UsageError

# What PyTorch reaches a GPU through: NVIDIA's driver, AMD's, and that of Windows below Linux.
_NVIDIA = "libcuda.so.1"
_OTHERS = ("/dev/kfd", "/dev/dxg")


def resolve_device(device: str) -> str:
    """``auto`` becomes the GPU where there is one.

    Raises: UsageError when a device is asked for that isn't there.
    """
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch  # takes seconds, and nobody else knows which GPUs it can use

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"There is no device {device}: this machine has {torch.cuda.device_count()}. Use --device cpu."
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("There is no device mps on this machine. Use --device cpu.")
    return device


def _may_have_gpu() -> bool:
    """Whether a driver is there: without any, PyTorch finds no GPU."""
    try:
        ctypes.CDLL(_NVIDIA)
    except OSError:
        return any(Path(name).exists() for name in _OTHERS)
    return True
