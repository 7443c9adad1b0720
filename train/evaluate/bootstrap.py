"""How far figures of one model may be off: percentile bootstrap over dialogues, which are independent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SCORES = ("accuracy", "weighted_f1", "macro_f1")
LEAST_DIALOGUES = 10  # fewer are drawn again in too few ways to say how far a figure may be off
TOO_FEW = "too few dialogues for an interval"

Interval = tuple[float, float] | None  # low and high of 95 %; None where there are too few dialogues


@dataclass(frozen=True)
class Intervals:
    """95 % intervals."""

    scores: Mapping[str, Interval]  # by name of SCORES
    f1: tuple[Interval, ...]  # of each class
    dialogues: int
    draws: int


def intervals(confusions: NDArray[np.int64], draws: int = 2000, seed: int = 0) -> Intervals:
    """Intervals of a model's scores; none of fewer than ``LEAST_DIALOGUES`` dialogues.

    Args:
        confusions: (dialogues, C, C), the confusion matrix of each dialogue; the last columns may be
            of predictions that are no class (C, C + 1).
    """
    count, classes = confusions.shape[:2]
    if count < LEAST_DIALOGUES:
        return Intervals(dict.fromkeys(SCORES), (None,) * classes, count, 0)
    flat = confusions.reshape(count, -1).astype(np.float64)
    random = np.random.default_rng(seed)
    weights = random.multinomial(count, np.full(count, 1 / count), size=draws)
    drawn = (weights @ flat).reshape(draws, *confusions.shape[1:])
    right = np.diagonal(drawn, axis1=1, axis2=2)  # (draws, C)
    support, predicted = drawn.sum(axis=2), drawn.sum(axis=1)[:, :classes]
    f1 = 2 * right / np.maximum(support + predicted, 1)
    n = np.maximum(support.sum(axis=1), 1)
    there = (support + predicted) > 0
    found = {
        "accuracy": right.sum(axis=1) / n,
        "weighted_f1": (f1 * support).sum(axis=1) / n,
        "macro_f1": (f1 * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1),
    }
    return Intervals(
        scores={name: _middle(values) for name, values in found.items()},
        f1=tuple(_middle(f1[:, i]) for i in range(classes)),
        dialogues=count,
        draws=draws,
    )


def _middle(values: NDArray[np.floating]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
