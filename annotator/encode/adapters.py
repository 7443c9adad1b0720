"""What fine-tuning adds to a text encoder, in a file: low-rank changes, and a projection of its vectors.

LoRA: Hu et al., ICLR 2022. Files are safetensors, with the shape in their metadata; nothing in them names
code, a pattern or another file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from annotator import plain_json
from annotator.records import SetupError

MOST_RANK = 4096
MOST_WEIGHT = 1e6  # what is trained has some units
PROJECTION = "projection."  # before the names of its tensors in the file
_MODULE = re.compile(r"[A-Za-z_][\w.]{0,200}")


def width_of(module: nn.Module) -> int:
    """Length of the states of a transformers model."""
    config: Any = module.config
    return int(config.hidden_size)


class Projection(nn.Linear):
    """Pooled vectors (n, d) into the space of another encoder's (n, d), whose mean is ``center`` (d,)."""

    center: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width, width)
        self.register_buffer("center", torch.zeros(width))


def save_adapter(module: nn.Module, config: Any, file: Path, projection: Projection | None = None) -> None:
    """Write the LoRA weights of ``module``, with what ``load_adapter`` needs to put them back.

    Args:
        module: after ``peft.inject_adapter_in_model(config, module)``, not merged.
        config: the ``peft.LoraConfig`` it was given.
        projection: of the pooled vectors.
    """
    from peft import get_peft_model_state_dict

    shape = {
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": sorted(config.target_modules),
        "use_rslora": config.use_rslora,
    }
    weights = get_peft_model_state_dict(module)
    if projection is not None:
        weights |= {f"{PROJECTION}{name}": value for name, value in projection.state_dict().items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    save_file(tensors, file, metadata={"config": json.dumps(shape, sort_keys=True)})


@dataclass(frozen=True)
class AdapterShape:
    """What an adapter file may say of itself: nothing that names code, a pattern or a file.

    Raises: ValueError, TypeError.
    """

    r: int
    lora_alpha: float
    lora_dropout: float
    target_modules: tuple[str, ...]
    use_rslora: bool = False

    def __post_init__(self) -> None:
        if type(self.r) is not int or not 0 < self.r <= MOST_RANK:
            raise ValueError(f"its rank is not from 1 to {MOST_RANK}")
        if not (0 < self.lora_alpha <= 1e6 and 0 <= self.lora_dropout < 1):
            raise ValueError("its scale or dropout is no such number")
        # One text would be taken for a regular expression.
        names = self.target_modules
        if not names or len(names) > 1000 or not all(map(_MODULE.fullmatch, names)):
            raise ValueError("the layers that it changes are no plain names")
        if type(self.use_rslora) is not bool:
            raise ValueError("use_rslora is neither true nor false")


def read_adapter(file: Path) -> tuple[AdapterShape, dict[str, Tensor]]:
    """What an adapter file holds, checked in itself.

    Raises: SetupError when it is no adapter.
    """
    try:
        with safe_open(file, "pt") as stored:
            config = plain_json.loads((stored.metadata() or {})["config"])
            if not isinstance(config["target_modules"], list):
                raise ValueError("the layers that it changes are no list")
            shape = AdapterShape(**{**config, "target_modules": tuple(config["target_modules"])})
            sizes = {name: stored.get_slice(name).get_shape() for name in stored.keys()}
            _check_projection({k: sizes.pop(k) for k in list(sizes) if k.startswith(PROJECTION)})
            for name, size in sizes.items():
                # (r, in) and (out, r)
                if len(size) != 2 or size[0 if ".lora_A." in name else 1] != shape.r:
                    raise ValueError(f"{name} has not its rank")
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}
        for tensor in tensors.values():
            if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32):
                raise ValueError("its weights are of a kind that is not in use")
            if not tensor.isfinite().all() or (tensor.numel() and float(tensor.abs().max()) > MOST_WEIGHT):
                raise ValueError("its weights are not all finite, or beyond all measure")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SetupError(f"{file} is no adapter of this text encoder: {reason}") from error
    return shape, tensors


def _check_projection(sizes: Mapping[str, Sequence[int]]) -> None:
    """Raises: ValueError where there is one, and not all of it in fitting shapes."""
    if not sizes:
        return
    center = sizes.get(f"{PROJECTION}center", ())
    width = center[0] if len(center) == 1 else 0
    wanted = {"weight": [width, width], "bias": [width], "center": [width]}
    if {k: list(v) for k, v in sizes.items()} != {f"{PROJECTION}{k}": v for k, v in wanted.items()}:
        raise ValueError("its projection is not whole, or of other shapes")


def load_adapter(module: nn.Module, file: Path, *, merge: bool = True) -> Projection | None:
    """Put saved LoRA weights into ``module``, in place. Returns the file's projection of pooled vectors.

    Args:
        merge: add them to the weights that they change, which costs nothing at run time.

    Raises: SetupError when they were made for another model, or it is no adapter.
    """
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

    shape, tensors = read_adapter(file)
    projected = {
        name.removeprefix(PROJECTION): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(PROJECTION)
    }
    try:
        config = LoraConfig(**{**asdict(shape), "target_modules": list(shape.target_modules)})
        inject_adapter_in_model(config, module)
        wanted = {name: value.shape for name, value in get_peft_model_state_dict(module).items()}
        if wanted != {name: value.shape for name, value in tensors.items()}:
            raise ValueError("its weights have other names or shapes")
        set_peft_model_state_dict(module, tensors)
        projection = None
        if projected:
            projection = Projection(width_of(module))
            projection.load_state_dict(projected)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SetupError(f"{file} is no adapter of this text encoder: {reason}") from error
    if merge:
        for layer in module.modules():
            if isinstance(layer, LoraLayer):
                layer.merge()
    return projection
