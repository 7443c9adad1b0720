"""What every training here shares: seeds, rates, the average of weights, label counts, steps in parts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import SENTIMENTS, ModelConfig, loss_weights
from model.graph import previous_by_speaker
from train.corpus import LabelledConversation
from train.evaluate.logits import targets

STATE = "state.safetensors"  # of a training, in its work folder


def reseed(*numbers: int) -> None:
    """Let torch's random numbers follow from these, such as (seed, epoch, rank)."""
    torch.manual_seed(int(np.random.SeedSequence(list(numbers)).generate_state(1)[0]))


def own_randomness(device: str) -> Any:
    """A context that leaves the caller's random numbers as they were."""
    return torch.random.fork_rng(devices=[torch.device(device)] if device.startswith("cuda") else [])


def rate_factor(step: int, steps: int, warmup: float, fall: Literal["cosine", "linear"] = "cosine") -> float:
    """Factor of the learning rate: a linear rise over a share ``warmup`` of the steps, then a fall to 0."""
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    done = (step - rise) / max(1.0, steps - rise)
    return 0.5 * (1 + math.cos(math.pi * done)) if fall == "cosine" else max(0.0, 1 - done)


class Average:
    """A running average of weights, which generalises better than the last step's (Izmailov et al., 2018).

    ``values`` and ``steps`` are all its state: store them to resume.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.weights = dict(weights)  # those that are trained, themselves
        self.values = copied(weights)

    @torch.no_grad()
    def update(self) -> None:
        """Follow the weights, fast at first: a long memory would hold on to the start of a short training."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, mean in self.values.items():
            mean.lerp_(self.weights[name].detach(), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The average in the place of the weights."""
        last = copied(self.weights)
        put(self.weights, self.values)
        try:
            yield
        finally:
            put(self.weights, last)


def copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values of weights, apart from them."""
    return {name: weight.detach().clone() for name, weight in weights.items()}


@torch.no_grad()
def put(weights: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Give weights the values of the same names."""
    for name, weight in weights.items():
        weight.copy_(values[name])


def label_counts(
    dialogues: Sequence[LabelledConversation], classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many utterances have each emotion (C,), and each sentiment (3,)."""
    fine, coarse = targets(dialogues)
    return (
        np.bincount(fine[fine >= 0], minlength=classes),
        np.bincount(coarse[coarse >= 0], minlength=len(SENTIMENTS)),
    )


def shares(counts: NDArray[np.int64]) -> list[float]:
    """How often each label is, of 1 in all; all alike where none was counted."""
    known = counts if counts.sum() else np.ones_like(counts)
    return (known / known.sum()).tolist()  # type: ignore[no-any-return]


def prior_of(dialogues: Sequence[LabelledConversation], classes: int) -> dict[str, list[float]]:
    """The shares of the labels of both heads, as a checkpoint keeps them."""
    fine, coarse = label_counts(dialogues, classes)
    return {"fine": shares(fine), "coarse": shares(coarse)}


def step_weights(
    dialogues: Sequence[LabelledConversation],
    config: ModelConfig,
    counts: Sequence[Tensor],
    device: torch.device,
) -> dict[str, Tensor]:
    """:func:`model.loss_weights` of all the dialogues of a step, however they are cut into parts.

    Modalities count as the corpus has them: which of them modality dropout hides isn't known beforehand.

    Args:
        counts: of the fine and the coarse labels of the training split, on ``device``.
    """
    fine, coarse = (torch.from_numpy(t).to(device) for t in targets(dialogues))
    present = previous = None
    if config.unimodal_heads:
        columns = [
            [
                c.conversation.features[m].present if m in c.conversation.features else np.zeros(len(c), bool)
                for c in dialogues
            ]
            for m in config.modalities
        ]
        present = torch.from_numpy(np.stack([np.concatenate(c) for c in columns], 1)).to(device)
    if config.shift_weight:
        lengths = torch.tensor([len(c) for c in dialogues])
        speakers = torch.from_numpy(np.concatenate([c.conversation.speakers for c in dialogues]))
        previous = previous_by_speaker(lengths, speakers.to(device))
    return loss_weights(
        fine, coarse, config, present=present, previous=previous,
        fine_counts=counts[0], coarse_counts=counts[1],
    )  # fmt: skip
