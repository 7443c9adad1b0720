"""Fit the classifiers of the voice: functionals to calibrated scores of MELD's seven emotions.

Least squares with a penalty, twice: on functionals against the statistics of the training, and
against the speaker's own manner. On speakers that training has not heard it does better here than
logistic regression or a network with a hidden layer (docs/results/voice.md), and its scores mean the
same in every fold, so that made dialogues can have those of folds that have not heard the speaker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch.nn import functional as F

from annotator.encode.audio import LIMIT, VoiceScores, against_own_manner, load_voice_scores
from annotator.table import written_whole
from train.evaluate.calibration import fit_temperature
from train.starter.faces import MELD_LABELS
from train.starter.voice.clips import Voices

FOLDS = 4  # of the training speakers
PENALTY = 5.0  # on squared weights; chosen by folds of the training speakers from 0.5 to 50
# EmoDB beside RAVDESS: it is cut at two seconds and lacks surprise.
WEIGHTS = {"ravdess": 1.0, "emodb": 0.3}


def unseen_scores(
    voices: Voices, work: Path, file: Path, features: str, folds: int = FOLDS
) -> dict[str, VoiceScores]:
    """Write the classifiers that ship to ``file``; for each speaker, give those that have not heard them.

    Training speakers are scored by classifiers of the other folds; everybody else by the ones that
    ship. All share a temperature, fitted on the training speakers' clean clips.

    Args:
        voices: functionals.
        work: keeps the folds' classifiers; what is there is not fitted again.
        features: the openSMILE set of ``voices``.
    """
    found = fold_scores(voices, work, features, folds)
    training = np.array([split == "train" for split in voices.splits])
    fitted = temperatures(voices, np.flatnonzero(training & voices.clean), found)
    if not file.exists():
        save_scores(tempered(fit(voices, np.flatnonzero(training), features), *fitted), file)
    ships = load_voice_scores(file)
    unheard = sorted(set(voices.speakers) - set(found))
    return {name: tempered(scores, *fitted) for name, scores in found.items()} | dict.fromkeys(unheard, ships)


def fold_scores(voices: Voices, work: Path, features: str, folds: int = FOLDS) -> dict[str, VoiceScores]:
    """For each training speaker the classifiers of the other folds, not yet calibrated."""
    speakers = np.array(voices.speakers)
    training = np.array([split == "train" for split in voices.splits])
    names = sorted(set(speakers[training]))
    fold_of = {name: number % folds for number, name in enumerate(names)}
    found: dict[str, VoiceScores] = {}
    for fold in range(folds):
        kept = work / f"voice-fold-{fold}.safetensors"
        out = np.array([fold_of.get(name) == fold for name in speakers])
        if not kept.exists():
            save_scores(fit(voices, np.flatnonzero(training & ~out), features), kept)
        found |= dict.fromkeys((n for n in names if fold_of[n] == fold), load_voice_scores(kept))
    return found


def fit(voices: Voices, rows: NDArray[np.int64], features: str) -> VoiceScores:
    """Classifiers fitted on some rows, not yet calibrated.

    Classes weigh the same, and corpora as ``WEIGHTS`` say.
    """
    values = voices.values[rows]
    labels = np.array([MELD_LABELS.index(voices.labels[row]) for row in rows])
    weights = np.array([WEIGHTS[voices.speakers[row].partition("-")[0]] for row in rows])
    mean, deviation = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    # A feature that never varied says nothing, and what differs from it in a run is no measure.
    varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    nothing = np.zeros((len(MELD_LABELS), values.shape[1] + 1), np.float32)
    start = VoiceScores(
        features, MELD_LABELS, mean.astype(np.float32), scale.astype(np.float32), nothing, nothing
    )
    plain = least_squares(start.standardised(values), labels, weights)
    keys = [voices.recordings[row] for row in rows]
    relative, known = against_own_manner(values, np.ones(len(rows), np.bool_), keys)
    relative = np.clip(relative[known], -LIMIT, LIMIT)
    return replace(start, plain=plain, relative=least_squares(relative, labels[known], weights[known]))


def least_squares(
    rows: NDArray[np.float32], labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Ridge regression of the classes' indicators ``(classes, d + 1)``, the last column the bias.

    Least ``mean of weighted squared error + PENALTY * sum of squared weights``, classes balanced; solved
    in its dual, since there are about as many features as clips. A class without a clip scores below
    all others.

    Args:
        rows: ``(n, d)``, standardised.
        labels: ``(n,)`` in MELD's order.
        weights: ``(n,)``.
    """
    k = len(MELD_LABELS)
    totals = np.bincount(labels, weights, k)
    share = torch.from_numpy(weights / totals[labels] / np.count_nonzero(totals))  # they sum to 1
    x = torch.from_numpy(rows).double()
    target = F.one_hot(torch.from_numpy(labels), k).double()
    mean = share @ x
    x -= mean
    target -= share @ target
    gram = x @ x.T + PENALTY * torch.diag(1 / share)
    found = torch.cholesky_solve(target, torch.linalg.cholesky(gram)).T @ x  # (k, d)
    bias = -found @ mean
    bias[totals == 0] = -1.0
    out: NDArray[np.float32] = torch.cat((found, bias[:, None]), 1).float().numpy()
    return out


def temperatures(
    voices: Voices, rows: NDArray[np.int64], scores: Mapping[str, VoiceScores]
) -> tuple[float, float]:
    """Of the plain and the relative scores, on clips of speakers that the scores have not heard."""
    labels = np.array([MELD_LABELS.index(voices.labels[row]) for row in rows])
    found = turn_scores(voices, rows, [voices.recordings[row] for row in rows], scores)
    k = len(MELD_LABELS)
    known = found[:, -1] > 0
    plain = fit_temperature(found[:, :k], labels)
    relative = fit_temperature(found[known, k : 2 * k], labels[known])
    # None: too few clips to tell, in a quick run.
    return (1.0 if plain is None else plain), (1.0 if relative is None else relative)


def tempered(scores: VoiceScores, plain: float, relative: float) -> VoiceScores:
    """The same classifiers with scores divided by temperatures."""
    return replace(scores, plain=scores.plain / plain, relative=scores.relative / relative)


def save_scores(scores: VoiceScores, file: Path) -> None:
    """Write for ``load_voice_scores``: weights in half precision, statistics in single."""
    config = {"features": scores.features, "labels": scores.labels}
    arrays = {"mean": scores.mean, "scale": scores.scale}
    halves = {"plain": scores.plain.astype(np.float16), "relative": scores.relative.astype(np.float16)}
    with written_whole(file) as temporary:
        save_file({**arrays, **halves}, temporary, metadata={"config": json.dumps(config)})


def turn_scores(
    voices: Voices, rows: NDArray[np.int64], speakers: Sequence[str], scores: Mapping[str, VoiceScores]
) -> NDArray[np.float32]:
    """What a run's encoder would give for clips put together as turns: ``(n, 2 k + 1)``.

    Args:
        rows: ``(n,)`` of ``voices``; below 0 where a turn has no voice, which gets zeros.
        speakers: ``(n,)`` who speaks in which recording; turns are measured against those of the
            same speaker that came through the same channel.
        scores: by the clip's own speaker, as ``unseen_scores`` gives them.
    """
    out = np.zeros((len(rows), 2 * len(MELD_LABELS) + 1), np.float32)
    groups: dict[tuple[str, str], list[int]] = {}
    for turn, (row, speaker) in enumerate(zip(rows.tolist(), speakers, strict=True)):
        if row >= 0:
            groups.setdefault((speaker, voices.recordings[row]), []).append(turn)
    for turns in groups.values():
        clips = rows[turns]
        one = ["SPEAKER_00"] * len(turns)
        classifiers = scores[voices.speakers[clips[0]]]
        out[turns] = classifiers(voices.values[clips], np.ones(len(turns), np.bool_), one)
    return out
