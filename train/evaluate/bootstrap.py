"""How far figures of one model may be off: percentile bootstrap over dialogues, which are independent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SCORES = ("accuracy", "weighted_f1", "macro_f1")


@dataclass(frozen=True)
class Intervals:
    """95 % intervals, low and high."""

    scores: Mapping[str, tuple[float, float]]  # by name of SCORES
    f1: tuple[tuple[float, float], ...]  # of each class
    dialogues: int
    draws: int


def intervals(confusions: NDArray[np.int64], draws: int = 2000, seed: int = 0) -> Intervals:
    """Intervals of a model's scores.

    Args:
        confusions: (dialogues, C, C), the confusion matrix of each dialogue; the last columns may be
            of predictions that are no class (C, C + 1).
    """
    count, classes = confusions.shape[:2]
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
