"""How far two columns of labels agree, beyond chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def confusion(a: NDArray[np.int64], b: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Counts (classes, classes): rows are ``a``, columns ``b``, both (n,) of class numbers."""
    return np.bincount(a * classes + b, minlength=classes * classes).reshape(classes, classes)


def kappa(counts: NDArray[np.int64]) -> float | None:
    """Cohen's kappa of a confusion matrix (Cohen, 1960).

    None where it has no meaning: there is nothing, or both have one and the same label only.
    """
    total = counts.sum()
    if not total:
        return None
    by_chance = float(counts.sum(0) @ counts.sum(1)) / float(total) ** 2
    if by_chance == 1.0:
        return None
    return (float(np.trace(counts)) / float(total) - by_chance) / (1.0 - by_chance)
