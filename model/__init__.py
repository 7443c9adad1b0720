"""The network for emotions in conversations (arXiv 2501.15063). Imports nothing of the tool or its training.

batch = collate(conversations, config.modalities)
output = Network(config)(batch)              # logits of every utterance
checkpoint = load_checkpoint(folder)         # a trained network, its labels, encoders and calibration
"""

from model.checkpoint import (
    Checkpoint,
    apply_calibration,
    load_checkpoint,
    plausible_sets,
    save_checkpoint,
    subset_key,
)
from model.config import MODALITIES, SENTIMENTS, ModelConfig
from model.graph import Graph, build_graph
from model.header import CheckpointError
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
    "load_checkpoint",
    "loss_weights",
    "plausible_sets",
    "save_checkpoint",
    "subset_key",
]
