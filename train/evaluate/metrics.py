"""Metrics of classified utterances, from confusion matrices. All are fractions from 0 to 1.

Accuracy is what papers on emotion in conversation call weighted accuracy: the share of utterances
that are right. Weighted F1 weighs each class' F1 by its support.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.evaluate.bootstrap import LEAST_DIALOGUES, Interval

ECE_BINS = 15  # of equal width over the confidence


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
    macro_f1: float  # mean over the classes that occur in the truth or the predictions
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


def confusion_matrix(truth: NDArray[np.int64], found: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Counts (classes, classes), rows the truth, columns the prediction; truths below 0 are skipped."""
    known = truth >= 0
    cells = np.bincount(truth[known] * classes + found[known], minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def weighted_mean(values: Sequence[float], supports: Sequence[int]) -> float:
    """Mean of per-class values weighted by the classes' supports."""
    return float(np.average(np.asarray(values, np.float64), weights=np.asarray(supports, np.float64)))


def score(confusion: NDArray[np.int64]) -> Scores:
    """All scores of a confusion matrix (C, C). A ratio without cases (0/0) counts as 0.

    Raises:
        ValueError: the matrix is empty of cases.
    """
    n = int(confusion.sum())
    if n == 0:
        raise ValueError("There is no labelled utterance to score.")
    right = confusion.diagonal().astype(np.float64)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    precision = right / np.maximum(predicted, 1)
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(support + predicted, 1)
    return Scores(
        accuracy=float(right.sum() / n),
        weighted_f1=weighted_mean(f1.tolist(), support.tolist()),
        macro_f1=float(f1[(support + predicted) > 0].mean()),
        unweighted_average_recall=float(recall[support > 0].mean()),
        n=n,
        per_class=tuple(
            ClassScore(float(p), float(r), float(f), int(s))
            for p, r, f, s in zip(precision, recall, f1, support, strict=True)
        ),
    )


def reliability(probabilities: NDArray[np.floating], truth: NDArray[np.int64]) -> Reliability:
    """How far confidence can be believed.

    Args:
        probabilities: (n, C), rows sum to 1; the confidence is a row's largest.
        truth: (n,) class, below 0 where unknown (skipped).
    """
    known = truth >= 0
    confidence = probabilities[known].max(axis=1).astype(np.float64)
    right = probabilities[known].argmax(axis=1) == truth[known]
    place = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    count = np.bincount(place, minlength=ECE_BINS)
    mean = np.bincount(place, weights=confidence, minlength=ECE_BINS) / np.maximum(count, 1)
    accuracy = np.bincount(place, weights=right, minlength=ECE_BINS) / np.maximum(count, 1)
    return Reliability(count.astype(np.int64), mean, accuracy)


@dataclass(frozen=True)
class Comparison:
    """Paired bootstrap of model A against model B on the same dialogues; differences are A - B."""

    accuracy: float
    accuracy_interval: Interval
    weighted_f1: float
    weighted_f1_interval: Interval
    p_value: float | None  # two-sided, that weighted F1 doesn't differ; None where there is no interval
    draws: int


def paired_bootstrap(
    ours: NDArray[np.int64], theirs: NDArray[np.int64], draws: int = 10_000, seed: int = 0
) -> Comparison:
    """Resample dialogues, the unit that is independent, and compare both models on each sample.

    Args:
        ours, theirs: (dialogues, C, C) confusion matrix of each dialogue, same dialogues, same order.
    """
    if ours.shape != theirs.shape or not len(ours):
        raise ValueError(f"The models were scored on different dialogues: {ours.shape} and {theirs.shape}.")
    whole = _difference(ours, theirs, np.ones(len(ours), np.int64))
    if len(ours) < LEAST_DIALOGUES:
        return Comparison(float(whole[0]), None, float(whole[1]), None, None, 0)
    random = np.random.default_rng(seed)
    differences = np.empty((draws, 2))
    for draw in range(draws):
        # How often each dialogue is drawn; the sum over them is one product.
        weights = np.bincount(random.integers(len(ours), size=len(ours)), minlength=len(ours))
        differences[draw] = _difference(ours, theirs, weights)
    low, high = np.quantile(differences, [0.025, 0.975], axis=0)
    beyond = min((differences[:, 1] <= 0).mean(), (differences[:, 1] >= 0).mean())
    return Comparison(
        accuracy=float(whole[0]),
        accuracy_interval=(float(low[0]), float(high[0])),
        weighted_f1=float(whole[1]),
        weighted_f1_interval=(float(low[1]), float(high[1])),
        p_value=float(min(1.0, 2 * max(beyond, 1 / draws))),
        draws=draws,
    )


def _difference(
    ours: NDArray[np.int64], theirs: NDArray[np.int64], weights: NDArray[np.int64]
) -> tuple[float, float]:
    results = []
    for matrices in (ours, theirs):
        confusion = np.tensordot(weights, matrices, axes=1)
        support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        right, n = confusion.diagonal(), max(confusion.sum(), 1)
        f1 = 2 * right / np.maximum(support + predicted, 1)
        results.append((right.sum() / n, (f1 * support).sum() / n))
    return float(results[0][0] - results[1][0]), float(results[0][1] - results[1][1])
