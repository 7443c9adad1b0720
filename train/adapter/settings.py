"""How to train the text adapter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AdapterSettings:
    """How to train the adapter; the defaults are what served best on MELD's validation split."""

    encoder: str = "minilm"  # or "e5"
    rank: int = 48
    sentence_epochs: int = 1
    sentence_batch: int = 64
    sentence_lr: float = 1.2e-4  # of the encoder's own weights
    taught_epochs: int = 4  # passes over what a teacher labelled, where there is one
    taught_batch: int = 64
    taught_lr: float = 8e-5
    taught_average: float = 0.998  # decay of the running average of the weights in these passes
    taught: float = 0.85  # share of the teacher's word beside the true labels
    network_epochs: int = 12  # of the network alone, before both learn
    dialogue_epochs: int = 3
    dialogue_batch: int = 8
    lr: float = 4e-4  # of the adapter
    network_lr: float = 5e-4
    weight_decay: float = 0.01
    dropout: float = 0.05  # in the adapter
    average: float = 0.99  # decay of the running average of the weights, which is what is kept
    word_errors: float = 0.0  # share of the training dialogues whose words are garbled as by a recogniser
    seed: int = 0
    device: str = "cpu"
    limit: int | None = None  # sentences of each set and dialogues, for a quick run
