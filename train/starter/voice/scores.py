"""Fit the classifiers of the voice: functionals to scores of MELD's seven emotions.

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
from train.starter.faces import MELD_LABELS
from train.starter.voice.clips import Voices

FOLDS = 4  # of the training speakers
PENALTY = 5.0  # on squared weights; chosen by folds of the training speakers from 0.5 to 50
DIRECTIONS = 16  # principal ones, whose rest tells how far a voice lies from training
# EmoDB beside RAVDESS: it is cut at two seconds and lacks surprise.
WEIGHTS = {"ravdess": 1.0, "emodb": 0.3}


def fold_scores(
    voices: Voices, work: Path, features: str, folds: int = FOLDS, corpus: str | None = None
) -> dict[str, VoiceScores]:
    """For each training speaker the classifiers of the other folds, not yet calibrated.

    Args:
        corpus: take its speakers only.
    """
    speakers = np.array(voices.speakers)
    training = training_rows(voices, corpus)
    names = sorted(set(speakers[training]))
    fold_of = {name: number % folds for number, name in enumerate(names)}
    found: dict[str, VoiceScores] = {}
    for fold in range(folds):
        out = np.array([fold_of.get(name) == fold for name in speakers])
        kept = work / f"voice{'' if corpus is None else '-' + corpus}-fold-{fold}.safetensors"
        scores = kept_fit(voices, np.flatnonzero(training & ~out), features, kept)
        found |= dict.fromkeys((n for n in names if fold_of[n] == fold), scores)
    return found


def corpus_scores(voices: Voices, work: Path, features: str, corpus: str) -> VoiceScores:
    """Classifiers of all training speakers of one corpus, not yet calibrated."""
    rows = np.flatnonzero(training_rows(voices, corpus))
    return kept_fit(voices, rows, features, work / f"voice-{corpus}.safetensors")


def training_rows(voices: Voices, corpus: str | None = None) -> NDArray[np.bool_]:
    """Which clips ``(n,)`` are of training speakers, of one corpus or of all."""
    return np.array(
        [
            split == "train" and corpus in (None, corpus_of(name))
            for split, name in zip(voices.splits, voices.speakers, strict=True)
        ]
    )


def corpus_of(speaker: str) -> str:
    """The corpus of a speaker: ``ravdess`` of ``ravdess-07``."""
    return speaker.partition("-")[0]


def kept_fit(voices: Voices, rows: NDArray[np.int64], features: str, file: Path) -> VoiceScores:
    """``fit``, kept in a file: what is there is not fitted again, but for an earlier version's."""
    if not file.exists() or not len(load_voice_scores(file).basis):
        save_scores(fit(voices, rows, features), file)
    return load_voice_scores(file)


def fit(voices: Voices, rows: NDArray[np.int64], features: str) -> VoiceScores:
    """Classifiers fitted on some rows, not yet calibrated.

    Classes weigh the same, and corpora as ``WEIGHTS`` say.
    """
    values = voices.values[rows]
    labels = np.array([MELD_LABELS.index(voices.labels[row]) for row in rows])
    weights = np.array([WEIGHTS[corpus_of(voices.speakers[row])] for row in rows])
    mean, deviation = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    # A feature that never varied says nothing, and what differs from it in a run is no measure.
    varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    nothing = np.zeros((len(MELD_LABELS), values.shape[1] + 1), np.float32)
    start = VoiceScores(
        features, MELD_LABELS, mean.astype(np.float32), scale.astype(np.float32), nothing, nothing,
        basis=nothing[:0, :-1], usual=1.0, doubt=(0.0, 0.0),
    )  # fmt: skip
    near = start.standardised(values)
    plain = least_squares(near, labels, weights)
    keys = [voices.recordings[row] for row in rows]
    relative, known = against_own_manner(values, np.ones(len(rows), np.bool_), keys)
    relative = np.clip(relative[known], -LIMIT, LIMIT)
    basis = principal_directions(near)
    left = np.square(near).sum(1, dtype=np.float64) - np.square(near @ basis.T).sum(1, dtype=np.float64)
    return replace(
        start,
        plain=plain,
        relative=least_squares(relative, labels[known], weights[known]),
        basis=basis,
        usual=float(np.sqrt(np.maximum(left, 0) / near.shape[1]).mean()),
    )


def principal_directions(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The ``DIRECTIONS`` in which standardised rows ``(n, d)`` vary most, as orthonormal rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the randomised decomposition
        count = min(DIRECTIONS, *rows.shape)
        oversampled = min(count + DIRECTIONS, *rows.shape)
        right = torch.svd_lowrank(torch.from_numpy(rows), oversampled, niter=4)[2]
    out: NDArray[np.float32] = right[:, :count].T.contiguous().numpy()
    return out


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


def save_scores(scores: VoiceScores, file: Path) -> None:
    """Write for ``load_voice_scores``: weights in half precision, statistics in single."""
    config = {
        "features": scores.features,
        "labels": scores.labels,
        "usual": scores.usual,
        "doubt": scores.doubt,
    }
    arrays = {"mean": scores.mean, "scale": scores.scale}
    weights = {"plain": scores.plain, "relative": scores.relative, "basis": scores.basis}
    halves = {name: values.astype(np.float16) for name, values in weights.items()}
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
        scores: by the clip's own speaker.
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
