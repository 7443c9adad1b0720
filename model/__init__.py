"""The network for emotions in conversations (arXiv 2501.15063). Imports nothing of the tool or its training.

batch = collate(conversations, config.modalities)
output = Network(config)(batch)              # logits of every utterance
checkpoint = load_checkpoint(folder)         # a trained network, its labels, encoders and calibration
described = describe_checkpoint(folder)      # the same without the network, and without loading PyTorch
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from model.config import MODALITIES, SENTIMENTS, ModelConfig
from model.header import CheckpointError, Description, describe_checkpoint

if TYPE_CHECKING:
    from model.checkpoint import (
        Checkpoint,
        apply_calibration,
        load_checkpoint,
        plausible_sets,
        save_checkpoint,
        subset_key,
    )
    from model.graph import Graph, build_graph
    from model.loss import IGNORED, DynamicWeights, Loss, compute_loss, loss_weights
    from model.network import Batch, ConversationLike, Network, Output, collate

__all__ = [
    "IGNORED",
    "MODALITIES",
    "SENTIMENTS",
    "Batch",
    "Checkpoint",
    "CheckpointError",
    "ConversationLike",
    "Description",
    "DynamicWeights",
    "Graph",
    "Loss",
    "ModelConfig",
    "Network",
    "Output",
    "apply_calibration",
    "build_graph",
    "collate",
    "compute_loss",
    "describe_checkpoint",
    "load_checkpoint",
    "loss_weights",
    "plausible_sets",
    "save_checkpoint",
    "subset_key",
]

# PyTorch and torch_geometric take seconds: who only asks what a checkpoint is does without.
_LAZY = {
    **dict.fromkeys(("Checkpoint", "apply_calibration", "load_checkpoint"), "model.checkpoint"),
    **dict.fromkeys(("plausible_sets", "save_checkpoint", "subset_key"), "model.checkpoint"),
    **dict.fromkeys(("Graph", "build_graph"), "model.graph"),
    **dict.fromkeys(("IGNORED", "DynamicWeights", "Loss", "compute_loss", "loss_weights"), "model.loss"),
    **dict.fromkeys(("Batch", "ConversationLike", "Network", "Output", "collate"), "model.network"),
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'model' has no attribute {name!r}")
