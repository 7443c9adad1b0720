"""Calibrate the voice's scores: how sure they may be, and how much less so of turns unlike training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from annotator.encode.audio import MOST_DOUBT, VoiceScores, load_voice_scores
from train.evaluate.calibration import fit_temperature
from train.starter.faces import MELD_LABELS
from train.starter.voice.clips import Voices
from train.starter.voice.scores import (
    FOLDS,
    WEIGHTS,
    corpus_scores,
    fold_scores,
    kept_fit,
    save_scores,
    training_rows,
    turn_scores,
)

START = -2.0  # log temperature where the search for the best begins: scores of least squares are small


@dataclass(frozen=True)
class Calibration:
    """Of the plain and the relative scores: a temperature, and how its log grows with the log distance."""

    temperatures: tuple[float, float]
    doubt: tuple[float, float]

    def __call__(self, scores: VoiceScores) -> VoiceScores:
        """The same classifiers, calibrated."""
        plain, relative = self.temperatures
        return replace(
            scores, plain=scores.plain / plain, relative=scores.relative / relative, doubt=self.doubt
        )


def unseen_scores(
    voices: Voices, work: Path, file: Path, features: str, folds: int = FOLDS
) -> dict[str, VoiceScores]:
    """Write the classifiers that ship to ``file``; for each speaker, give those that have not heard them.

    Training speakers are scored by classifiers of the other folds; everybody else by the ones that
    ship. All share a calibration, fitted on what the training speakers get.

    Args:
        voices: functionals.
        work: keeps classifiers; what is there is not fitted again.
        features: the openSMILE set of ``voices``.
    """
    found = fold_scores(voices, work, features, folds)
    fitted = calibration(voices, found, fit_doubt(voices, work, features, tuple(WEIGHTS), folds))
    rows = np.flatnonzero(training_rows(voices))
    save_scores(fitted(kept_fit(voices, rows, features, work / "voice-all.safetensors")), file)
    ships = load_voice_scores(file)
    unheard = sorted(set(voices.speakers) - set(found))
    return {name: fitted(scores) for name, scores in found.items()} | dict.fromkeys(unheard, ships)


def calibration(
    voices: Voices, unheard: Mapping[str, VoiceScores], doubt: tuple[float, float]
) -> Calibration:
    """Temperatures that fit the clean clips of some speakers, beside a growth that is known.

    Args:
        unheard: by speaker, classifiers that have not heard them and are not calibrated.
        doubt: as ``fit_doubt`` gives it.
    """
    rows = np.flatnonzero(np.isin(voices.speakers, sorted(unheard)) & voices.clean)
    labels = np.array([MELD_LABELS.index(voices.labels[row]) for row in rows])
    doubting = {name: replace(scores, doubt=doubt) for name, scores in unheard.items()}
    found = turn_scores(voices, rows, [voices.recordings[row] for row in rows], doubting)
    k = len(MELD_LABELS)
    known = found[:, -1] > 0
    plain = fit_temperature(found[:, :k], labels)
    relative = fit_temperature(found[known, k : 2 * k], labels[known])
    # None: too few clips to tell, in a quick run.
    return Calibration((plain or 1.0, relative or 1.0), doubt)


def fit_doubt(
    voices: Voices, work: Path, features: str, sources: Sequence[str], folds: int = FOLDS
) -> tuple[float, float]:
    """How the log temperatures of the plain and the relative scores grow with the log distance of a turn.

    Learned from what classifiers of one corpus alone make of the other's voices, beside unheard ones of
    their own: one growth for all, and a temperature for each corpus to grow from.

    Args:
        voices: of which training speakers are used.
        work: keeps classifiers, as in ``fold_scores``.
        sources: the corpora whose classifiers are asked.
    """
    plain: list[Told] = []
    relative: list[Told] = []
    k = len(MELD_LABELS)
    labels = np.array([MELD_LABELS.index(label) for label in voices.labels])
    for number, source in enumerate(sources):
        own = training_rows(voices, source)
        alone = corpus_scores(voices, work, features, source)
        classes = np.unique(labels[own])
        others = training_rows(voices) & ~own & np.isin(labels, classes)
        for rows, scores in (
            (np.flatnonzero(own), fold_scores(voices, work, features, folds, source)),
            (np.flatnonzero(others), dict.fromkeys(voices.speakers, alone)),
        ):
            keys = [voices.recordings[row] for row in rows]
            found = turn_scores(voices, rows, keys, scores).astype(np.float64)
            distances = np.zeros(len(rows))
            speakers = np.array(voices.speakers)[rows]
            for name in set(speakers.tolist()):
                turns = scores[name].standardised(voices.values[rows[speakers == name]])
                distances[speakers == name] = scores[name].log_distances(turns)
            truth = np.searchsorted(classes, labels[rows])
            known = found[:, -1] > 0
            plain.append(Told(number, found[:, classes], truth, distances))
            relative.append(Told(number, found[known][:, k + classes], truth[known], distances[known]))
    return _growth(plain), _growth(relative)


@dataclass(frozen=True)
class Told:
    """What the classifiers of a corpus say of some clips, over the classes of that corpus."""

    source: int
    scores: NDArray[np.float64]  # (n, classes)
    truth: NDArray[np.int64]  # (n,)
    distances: NDArray[np.float64]  # (n,)


def _growth(parts: Sequence[Told]) -> float:
    """The growth, from 0 to ``MOST_DOUBT``, with the least negative log likelihood; parts weigh the same."""
    parts = [part for part in parts if len(part.truth)]
    sources = 1 + max((part.source for part in parts), default=-1)

    def loss(values: NDArray[np.float64]) -> float:
        total = 0.0
        for part in parts:
            warmth = np.exp(values[part.source] + values[-1] * part.distances)
            scores = part.scores / warmth[:, None]
            right = scores[np.arange(len(scores)), part.truth]
            total += float((logsumexp(scores, axis=1) - right).mean())
        return total

    start = np.array([*[START] * sources, 0.0])
    bounds = [*[(START - 5, START + 5)] * sources, (0.0, MOST_DOUBT)]
    return float(minimize(loss, start, method="L-BFGS-B", bounds=bounds).x[-1])
