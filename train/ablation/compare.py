"""Is one experiment better than another, beyond the luck of seeds and of test dialogues?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.evaluate.bootstrap import middle, resampled
from train.evaluate.metrics import rates

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
    samples = []
    for side in resampled([ours, theirs], DRAWS, random):
        picks = random.integers(len(side.weighted_f1), size=side.weighted_f1.shape)
        samples.append(np.take_along_axis(side.weighted_f1, picks, axis=0).mean(axis=0))
    low, high = middle(samples[0] - samples[1])
    means = [rates(side.sum(axis=1)).weighted_f1.mean() for side in (ours, theirs)]
    return Difference(float(means[0] - means[1]), low, high)
