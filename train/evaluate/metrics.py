"""Metrics of classified utterances, from confusion matrices. All are fractions from 0 to 1.

Accuracy is what papers on emotion in conversation call weighted accuracy: the share of utterances
that are right. Weighted F1 weighs each class' F1 by its support.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

ECE_BINS = 15  # of equal width over the confidence


@dataclass(frozen=True)
class Rates:
    """Scores of many confusion matrices at once, each (...,) and ``f1`` (..., C)."""

    accuracy: NDArray[np.float64]
    weighted_f1: NDArray[np.float64]
    macro_f1: NDArray[np.float64]  # mean over the classes that occur in the truth or the predictions
    f1: NDArray[np.float64]


@dataclass(frozen=True)
class ClassScore:
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    accuracy: float
    weighted_f1: float
    macro_f1: float
    unweighted_average_recall: float  # mean over the classes that occur in the truth
    n: int
    per_class: tuple[ClassScore, ...]  # in label order


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in ``ECE_BINS`` bins of equal width, (low, high], the first with 0."""

    count: NDArray[np.int64]  # (bins,)
    confidence: NDArray[np.float64]  # (bins,) mean; 0 where count is 0
    accuracy: NDArray[np.float64]  # (bins,) share right; 0 where count is 0

    @property
    def ece(self) -> float:
        """Expected calibration error (Guo et al., ICML 2017): the mean gap, bins weighted by their count."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float((self.count * gaps).sum() / self.count.sum())


def confusion_matrix(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Counts (classes, classes), rows the truth, columns the prediction; truths below 0 are skipped."""
    labelled = truth >= 0
    cells = np.bincount(truth[labelled] * classes + predicted[labelled], minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def weighted_mean(values: ArrayLike, supports: ArrayLike) -> NDArray[np.float64]:
    """Mean (...,) of per-class values (..., C) weighted by the classes' supports; 0 where there are none."""
    weights = np.asarray(supports, np.float64)
    total = (np.asarray(values) * weights).sum(axis=-1)
    return np.asarray(total / np.maximum(weights.sum(axis=-1), 1), np.float64)


def rates(confusions: NDArray[np.number]) -> Rates:
    """Scores of confusion matrices (..., C, K). A ratio without cases (0/0) counts as 0.

    The columns from C on are of predictions that are no class: they are wrong, and no class of their own.
    """
    classes = confusions.shape[-2]
    right = np.diagonal(confusions, axis1=-2, axis2=-1).astype(np.float64)
    support, predicted = confusions.sum(axis=-1), confusions.sum(axis=-2)[..., :classes]
    f1 = 2 * right / np.maximum(support + predicted, 1)
    return Rates(
        accuracy=np.asarray(right.sum(axis=-1) / np.maximum(support.sum(axis=-1), 1), np.float64),
        weighted_f1=weighted_mean(f1, support),
        macro_f1=weighted_mean(f1, support + predicted > 0),
        f1=f1,
    )


def score(confusion: NDArray[np.int64]) -> Scores:
    """All scores of one confusion matrix, as :func:`rates` takes it.

    Raises:
        ValueError: the matrix is empty of cases.
    """
    n = int(confusion.sum())
    if n == 0:
        raise ValueError("There is no labelled utterance to score.")
    of = rates(confusion)
    support = confusion.sum(axis=1)
    right, predicted = confusion.diagonal(), confusion.sum(axis=0)[: len(support)]
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(support, 1)
    return Scores(
        accuracy=float(of.accuracy),
        weighted_f1=float(of.weighted_f1),
        macro_f1=float(of.macro_f1),
        unweighted_average_recall=float(recall[support > 0].mean()),
        n=n,
        per_class=tuple(
            ClassScore(float(p), float(r), float(f), int(s))
            for p, r, f, s in zip(precision, recall, of.f1, support, strict=True)
        ),
    )


def reliability(probabilities: NDArray[np.floating], truth: NDArray[np.int64]) -> Reliability:
    """How far confidence can be believed.

    Args:
        probabilities: (n, C), rows sum to 1; the confidence is a row's largest.
        truth: (n,) class, below 0 where unknown (skipped).
    """
    labelled = truth >= 0
    confidence = probabilities[labelled].max(axis=1).astype(np.float64)
    right = probabilities[labelled].argmax(axis=1) == truth[labelled]
    place = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    count = np.bincount(place, minlength=ECE_BINS)
    mean = np.bincount(place, weights=confidence, minlength=ECE_BINS) / np.maximum(count, 1)
    accuracy = np.bincount(place, weights=right, minlength=ECE_BINS) / np.maximum(count, 1)
    return Reliability(count.astype(np.int64), mean, accuracy)
