"""How to train the text adapter."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic.dataclasses
from pydantic import Field

from train.settings import CHECKED, Count, Passes, Rate, Settings, Share, Weight


@pydantic.dataclasses.dataclass(frozen=True, config=CHECKED)
class AdapterSettings(Settings):
    """How to train the adapter; the defaults are what served best on MELD's validation split."""

    encoder: Literal["minilm", "e5"] = "minilm"
    rank: Count = 48
    sentence_epochs: Passes = 1
    sentence_batch: Count = 64
    sentence_lr: Rate = 1.2e-4  # of the encoder's own weights
    taught_epochs: Passes = 4  # passes over what a teacher labelled, where there is one
    taught_batch: Count = 64
    taught_lr: Rate = 8e-5
    taught_average: Share = 0.998  # decay of the running average of the weights in these passes
    taught: Annotated[float, Field(ge=0, le=1)] = 0.85  # share of the teacher's word beside the true labels
    network_epochs: Passes = 12  # of the network alone, before both learn
    dialogue_epochs: Passes = 3
    dialogue_batch: Count = 8
    lr: Rate = 4e-4  # of the adapter
    network_lr: Rate = 5e-4
    weight_decay: Weight = 0.01
    dropout: Share = 0.05  # in the adapter
    average: Share = 0.99  # decay of the running average of the weights, which is what is kept
    word_errors: Share = 0.0  # share of the training dialogues whose words are garbled as by a recogniser
    seed: int = 0
    device: str = "cpu"
    limit: Count | None = None  # sentences of each set and dialogues, for a quick run
