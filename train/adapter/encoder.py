"""The text encoder with gradients: first its own weights, then a low-rank adapter in their place.

LoRA: Hu et al., ICLR 2022. Single sentences are many, and the weights themselves learn from them better
than a low-rank change does. What they learned becomes an adapter by a truncated singular value
decomposition, the closest change of that rank, and training goes on in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from annotator.encode.adapters import PROJECTION, save_adapter
from annotator.encode.text import TextEncoder
from annotator.encode.weights import embedded
from annotator.files import written_whole
from train.adapter.settings import AdapterSettings

# What an adapter changes: every linear layer of BERT but the pooler, which is not used.
LAYERS = ["query", "key", "value", "intermediate.dense", "output.dense"]

WARMUP = 0.05  # share of the steps with a rising rate; then it falls in a line


class TrainedEncoder:
    """An encoder with weights that learn: those of its linear layers, later an adapter's.

    Args:
        folder: of a Hugging Face encoder; the settings' embedded one when None. Only that can become an
            adapter.
    """

    def __init__(self, settings: AdapterSettings, folder: Path | None = None) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        name: str = settings.encoder if folder is None else "hf"
        self.text = TextEncoder(name, folder or embedded(name), settings.device)
        self.module = self.text.module
        # On a processor the gradient of torch's fused attention doubles the time of a step with short texts.
        model: Any = self.module
        model.set_attn_implementation("eager")
        self.lora: Any = None
        self.matrices = {
            name: layer
            for name, layer in self.module.named_modules()
            if isinstance(layer, nn.Linear) and not name.startswith("pooler")
        }
        self.base = {name: layer.weight.detach().clone() for name, layer in self.matrices.items()}
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad = name.removesuffix(".weight") in self.matrices

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The weights that learn, by name."""
        learned = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        if self.text.projection is not None:
            learned |= {f"{PROJECTION}{name}": p for name, p in self.text.projection.named_parameters()}
        return learned

    def load(self, weights: dict[str, Tensor]) -> None:
        """Set the weights that learn."""
        with torch.no_grad():
            for name, weight in self.trained.items():
                weight.copy_(weights[name])

    @torch.no_grad()
    def to_adapter(self) -> None:
        """Replace what the weights have learned by the nearest change of the settings' rank.

        W = W_base + B A with B A the truncated singular value decomposition of what was learned; from here
        on A and B learn.
        """
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer

        rank = self.settings.rank
        learned = {name: layer.weight - self.base[name] for name, layer in self.matrices.items()}
        for name, layer in self.matrices.items():
            layer.weight.copy_(self.base[name])
        self.lora = LoraConfig(
            r=rank,
            lora_alpha=rank,  # a scale of 1
            lora_dropout=self.settings.dropout,
            target_modules=LAYERS,
            use_rslora=False,
        )
        inject_adapter_in_model(self.lora, self.module)
        for name, layer in self.module.named_modules():
            if isinstance(layer, LoraLayer):
                left, strengths, right = torch.linalg.svd(learned[name], full_matrices=False)
                root = strengths[:rank].sqrt()
                layer.lora_A["default"].weight.copy_(root[:, None] * right[:rank])
                layer.lora_B["default"].weight.copy_(left[:, :rank] * root)
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad = "lora_" in name

    def save(self, file: Path) -> None:
        """Write the adapter."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as temporary:
            save_adapter(self.module, self.lora, temporary, self.text.projection)


def center_of(encoder: TextEncoder) -> NDArray[np.float32]:
    """(d,) the middle of an encoder's vectors; zeros for one without a projection."""
    if encoder.projection is None:
        return np.zeros(encoder.width, np.float32)
    center: NDArray[np.float32] = encoder.projection.center.cpu().numpy()
    return center
