"""What a network says of conversations, whole or with modalities hidden."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.records import Conversation, Features
from model import Network, collate
from train.corpus import LabelledConversation

BATCH = 32  # dialogues


@dataclass(frozen=True)
class Logits:
    """Rows are the utterances of the conversations, one after the other."""

    fine: NDArray[np.float32]  # (V, C)
    coarse: NDArray[np.float32]  # (V, 3)
    present: NDArray[np.bool_]  # (V, M) in the order of the network's modalities


def predict_logits(
    network: Network, conversations: Sequence[Conversation], subset: Collection[str] | None = None
) -> Logits:
    """Logits of all utterances, on the network's device, in eval mode; the network's mode is kept.

    Args:
        subset: the modalities that may be used; all when None.
    """
    training, device = network.training, next(network.parameters()).device
    network.eval()
    restricted = [restrict(c, subset) if subset is not None else c for c in conversations]
    # Dialogues of like length share a batch, which saves padding; the order is restored below.
    order = sorted(range(len(restricted)), key=lambda i: len(restricted[i]))
    parts: dict[int, Logits] = {}
    with torch.inference_mode():
        for first in range(0, len(order), BATCH):
            batch = order[first : first + BATCH]
            output = network(collate([restricted[i] for i in batch], network.config.modalities).to(device))
            ends = np.cumsum([len(restricted[i]) for i in batch])[:-1]
            arrays = [t.cpu().numpy() for t in (output.fine.float(), output.coarse.float(), output.present)]
            for i, *rows in zip(batch, *(np.split(a, ends) for a in arrays), strict=True):
                parts[i] = Logits(*rows)
    network.train(training)
    joined = [parts[i] for i in range(len(restricted))]
    return Logits(
        fine=np.concatenate([p.fine for p in joined]),
        coarse=np.concatenate([p.coarse for p in joined]),
        present=np.concatenate([p.present for p in joined]),
    )


def restrict(conversation: Conversation, subset: Collection[str]) -> Conversation:
    """The conversation with only the modalities of ``subset`` present."""
    return replace(
        conversation,
        features={
            modality: f if modality in subset else Features(f.values, np.zeros_like(f.present))
            for modality, f in conversation.features.items()
        },
    )


def hide(conversation: Conversation, rate: float, random: np.random.Generator) -> Conversation:
    """The conversation with a share ``rate`` of the observed modalities hidden, as GCNet does it.

    One of each utterance's, drawn at random, stays; the others are hidden so often that the share is ``rate``
    in all: of three modalities two thirds at most (Lian et al., TPAMI 2023; ``random_mask`` in their code).
    """
    names = list(conversation.features)
    present = np.stack([conversation.features[name].present for name in names], axis=1)  # (n, M)
    count = present.sum(axis=1, keepdims=True)
    kept = present & (random.random(present.shape) >= rate * count / np.maximum(count - 1, 1))
    rows = np.arange(len(kept))
    stays = np.where(present, random.random(present.shape), -1.0).argmax(axis=1)
    kept[rows, stays] = present[rows, stays]
    return replace(
        conversation,
        features={
            name: Features(conversation.features[name].values, kept[:, column])
            for column, name in enumerate(names)
        },
    )


def targets(conversations: Sequence[LabelledConversation]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Fine and coarse targets (V,) of the conversations, one after the other."""
    return (
        np.concatenate([c.fine for c in conversations]),
        np.concatenate([c.coarse for c in conversations]),
    )
