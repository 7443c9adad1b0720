"""Weights in half precision, as the bundle ships them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from annotator.files import written_whole


def halved(source: Path, target: Path) -> None:
    """Copy weights in half precision, but for the statistics of batch normalisation."""
    with safe_open(source, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    small = {
        name: t.half() if t.dtype == torch.float32 and "running_" not in name else t
        for name, t in tensors.items()
    }
    with written_whole(target) as temporary:
        save_file(small, temporary, metadata=metadata)
