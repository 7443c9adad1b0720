"""Is one experiment better than another, beyond the luck of seeds and of test dialogues?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 5_000


@dataclass(frozen=True)
class Difference:
    """Of mean weighted F1 over seeds, ours - theirs, with its 95 % interval; fractions."""

    mean: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def compare(ours: NDArray[np.int64], theirs: NDArray[np.int64], seed: int = 0) -> Difference:
    """Bootstrap over dialogues, in pairs, and over each side's seeds.

    Both sides are scored on the same drawn dialogues. Seeds are drawn for each side apart, since one seed
    starts two different networks from unrelated weights. With few seeds the interval is rather too narrow.

    Args:
        ours, theirs: (seeds, dialogues, C, C) confusion matrix of each dialogue, same dialogues and order.
        seed: of the draws.

    >>> good, bad = np.array([[[[3, 0], [0, 3]]]]), np.array([[[[0, 3], [3, 0]]]])
    >>> compare(good, bad)
    Difference(mean=1.0, low=1.0, high=1.0)
    """
    if ours.shape[1:] != theirs.shape[1:] or 0 in ours.shape or 0 in theirs.shape:
        raise ValueError(f"The sides were scored on different dialogues: {ours.shape} and {theirs.shape}.")
    random = np.random.default_rng(seed)
    dialogues = ours.shape[1]
    # How often each draw holds each dialogue, (draws, dialogues).
    times = random.multinomial(dialogues, np.full(dialogues, 1 / dialogues), size=DRAWS)
    drawn = [_drawn(side, times, random) for side in (ours, theirs)]
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    means = [weighted_f1(side.sum(axis=1)).mean() for side in (ours, theirs)]
    return Difference(float(means[0] - means[1]), float(low), float(high))


def weighted_f1(confusion: NDArray[np.number]) -> NDArray[np.float64]:
    """Weighted F1 (...,) of confusion matrices (..., C, C); 0 where one is empty."""
    support, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    f1 = 2 * right / np.maximum(support + predicted, 1)
    found: NDArray[np.float64] = (f1 * support).sum(axis=-1) / np.maximum(support.sum(axis=-1), 1)
    return found


def _drawn(
    side: NDArray[np.int64], times: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.float64]:
    """Mean weighted F1 of each draw, (draws,)."""
    seeds, dialogues, classes, _ = side.shape
    flat = side.reshape(seeds, dialogues, -1).astype(np.float64)
    scores = np.stack(
        [weighted_f1((times @ one).reshape(-1, classes, classes)) for one in flat], axis=1
    )  # (draws, seeds)
    picks = random.integers(seeds, size=scores.shape)
    return np.asarray(np.take_along_axis(scores, picks, axis=1).mean(axis=1), np.float64)
