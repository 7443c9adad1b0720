"""How far figures may be off: percentile bootstrap over dialogues, which are independent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.evaluate.metrics import Rates, rates

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


@dataclass(frozen=True)
class Comparison:
    """Paired bootstrap of model A against model B on the same dialogues; differences are A - B."""

    accuracy: float
    accuracy_interval: Interval
    weighted_f1: float
    weighted_f1_interval: Interval
    p_value: float | None  # two-sided, that weighted F1 doesn't differ; None where there is no interval
    draws: int


def resampled(sides: Sequence[NDArray[np.int64]], draws: int, random: np.random.Generator) -> list[Rates]:
    """Scores (draws,) of each side, all on the same drawn dialogues.

    Args:
        sides: (..., dialogues, C, K), the confusion matrix of each dialogue; the scores are (..., draws).
    """
    dialogues = sides[0].shape[-3]
    # How often each draw holds each dialogue; the sum over them is one product.
    times = random.multinomial(dialogues, np.full(dialogues, 1 / dialogues), size=draws).astype(np.float64)
    scores = []
    for side in sides:
        sums = times @ side.reshape(*side.shape[:-2], -1)
        scores.append(rates(sums.reshape(*sums.shape[:-1], *side.shape[-2:])))
    return scores


def middle(values: NDArray[np.floating]) -> tuple[float, float]:
    """Where the middle 95 % of draws begin and end."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def intervals(confusions: NDArray[np.int64], draws: int = 2000, seed: int = 0) -> Intervals:
    """Intervals of a model's scores; none of fewer than ``LEAST_DIALOGUES`` dialogues.

    Args:
        confusions: (dialogues, C, K), the confusion matrix of each dialogue, as :func:`rates` takes it.
    """
    count, classes = confusions.shape[:2]
    if count < LEAST_DIALOGUES:
        return Intervals(dict.fromkeys(SCORES), (None,) * classes, count, 0)
    (scores,) = resampled([confusions], draws, np.random.default_rng(seed))
    return Intervals(
        scores={name: middle(getattr(scores, name)) for name in SCORES},
        f1=tuple(middle(scores.f1[:, i]) for i in range(classes)),
        dialogues=count,
        draws=draws,
    )


def paired_bootstrap(
    ours: NDArray[np.int64], theirs: NDArray[np.int64], draws: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare two models on the same drawn dialogues.

    Args:
        ours, theirs: (dialogues, C, K) confusion matrix of each dialogue, same dialogues, same order.
    """
    if ours.shape != theirs.shape or not len(ours):
        raise ValueError(f"The models were scored on different dialogues: {ours.shape} and {theirs.shape}.")
    a, b = rates(ours.sum(axis=0)), rates(theirs.sum(axis=0))
    accuracy, f1 = float(a.accuracy - b.accuracy), float(a.weighted_f1 - b.weighted_f1)
    if len(ours) < LEAST_DIALOGUES:
        return Comparison(accuracy, None, f1, None, None, 0)
    one, other = resampled([ours, theirs], draws, np.random.default_rng(seed))
    differences = one.weighted_f1 - other.weighted_f1
    beyond = min((differences <= 0).mean(), (differences >= 0).mean())
    return Comparison(
        accuracy=accuracy,
        accuracy_interval=middle(one.accuracy - other.accuracy),
        weighted_f1=f1,
        weighted_f1_interval=middle(differences),
        p_value=float(min(1.0, 2 * max(beyond, 1 / draws))),
        draws=draws,
    )
