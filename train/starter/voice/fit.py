"""Fit the model of the voice: features to linear scores, and what is normal among those.

Ridge regression of the emotions' indicators, twice: on features against the statistics of the training,
and on features less what is the speaker's own, which labelled turns tell. On these scores emotions,
speakers and chance are measured from clips that the regression has not heard: neither their speaker (in
the corpus' other speakers' company), nor their corpus. So what a new room, a new language and another way
of acting do to the scores counts as uncertainty, and is not a surprise of the first user.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.linalg import eigh

from annotator.encode.voice import ANSWERS, ARRAYS, HINTS, LIMIT, VoiceScores, load_voice_scores
from annotator.files import written_whole
from train.prepare.meld import LABELS as MELD_LABELS
from train.starter.voice.clips import Voices, corpus_of

FOLDS = 4  # of the speakers
CLEAN = 3.0  # weight of a clean clip beside one through a channel, of which there are four times as many
PENALTY = 1.0  # on squared weights of features of deviation one
DIRECTIONS = 32  # principal ones, whose rest tells how far a voice lies from training
RIDGE = 1e-3  # of its mean variance, added to a covariance
SHORT_S = (0.05, 3.0)  # bounds of the seconds of a turn that says half as much as a long one
K = len(MELD_LABELS)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Unheard:
    """Linear scores of clips by regressions that have not heard them."""

    scores: Array  # (n, s)
    rows: NDArray[np.int64]  # (n,) of the voices
    across: NDArray[np.bool_]  # (n,) by a regression that has not heard the corpus; else not the speaker
    strangeness: Array  # (n,)


def labels_of(voices: Voices, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Classes ``(n,)`` of rows, in MELD's order."""
    return np.array([MELD_LABELS.index(voices.labels[row]) for row in rows], np.int64)


def regression(voices: Voices, rows: NDArray[np.int64]) -> VoiceScores:
    """The linear part, fitted on some rows: statistics, scores, principal directions. The rest is empty."""
    values = voices.values[rows].astype(np.float64)
    classes = labels_of(voices, rows)
    corpora = np.array([corpus_of(voices.speakers[row]) for row in rows])
    weights = balanced(classes, corpora) * np.where(voices.clean[rows], CLEAN, 1.0)
    weights /= weights.sum()
    # The mean of the corpora's own: the distance between corpora is not a deviation.
    moments = []
    for corpus in np.unique(corpora):
        own = corpora == corpus
        share = weights[own] / weights[own].sum()
        mean = share @ values[own]
        moments.append((mean, share @ np.square(values[own] - mean)))
    mean, deviation = (np.mean(part, axis=0) for part in zip(*moments, strict=True))
    deviation = np.sqrt(deviation)
    varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    near = np.clip((values - mean) * scale, -LIMIT, LIMIT)
    plain, bias, spread = ridge(near, classes, weights)
    keys = np.array([voices.recordings[row] for row in rows])
    relative, other, _ = ridge(near - own_parts(near, classes, keys, weights), classes, weights)
    # The scores of a row's classes add up to what they always do: one of each set is not needed.
    linear = np.concatenate([plain[1:], relative[1:]])
    biases = np.concatenate([bias[1:], other[1:]])
    middle = weights @ near
    last = near.shape[1] - 1
    _, vectors = eigh(spread, subset_by_index=(max(0, last + 1 - DIRECTIONS), last))
    basis = vectors.T
    off = near - middle
    left = np.square(off).sum(1) - np.square(off @ basis.T).sum(1)
    width = len(linear)
    return VoiceScores(
        features=voices.features,
        labels=MELD_LABELS,
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        linear=np.concatenate([linear, biases[:, None]], 1).astype(np.float32),
        basis=basis.astype(np.float32),
        middle=middle.astype(np.float32),
        usual=float(left.mean() / values.shape[1]),
        centres=np.zeros((K, width), np.float32),
        within=np.eye(width, dtype=np.float32),
        between=np.eye(width, dtype=np.float32),
        short_s=1.0,
        gate=np.zeros((ANSWERS, HINTS + 1), np.float32),
        sharpness=np.ones(ANSWERS, np.float32),
        doubt=np.zeros(ANSWERS, np.float32),
    )


def balanced(classes: NDArray[np.int64], corpora: NDArray[np.str_]) -> Array:
    """Weights ``(n,)``, of 1 in all: corpora weigh alike, and in each the emotions that it has."""
    weights = np.zeros(len(classes))
    for corpus in np.unique(corpora):
        own = corpora == corpus
        counts = np.bincount(classes[own], minlength=K)
        weights[own] = 1 / counts[classes[own]] / np.count_nonzero(counts)
    out: Array = weights / weights.sum()
    return out


def ridge(near: Array, classes: NDArray[np.int64], weights: Array) -> tuple[Array, Array, Array]:
    """Least ``weighted squared error + PENALTY * squared weights``.

    Returns: weights ``(k, d)``, biases ``(k,)``, and the weighted covariance of the rows ``(d, d)``.
    """
    target = np.eye(K)[classes]
    mean, usual = weights @ near, weights @ target
    off = near - mean
    weighted = off * weights[:, None]
    # In single precision, four times as fast: the penalty is far above its rounding.
    spread = (weighted.T.astype(np.float32) @ off.astype(np.float32)).astype(np.float64)
    gram = spread + PENALTY * np.eye(near.shape[1])
    coefficients = np.linalg.solve(gram, weighted.T @ (target - usual)).T.astype(np.float64)
    return coefficients, usual - coefficients @ mean, spread


def own_parts(near: Array, classes: NDArray[np.int64], keys: NDArray[np.str_], weights: Array) -> Array:
    """What is the speaker's and the room's of each row ``(n, d)``: the mean over emotions of what their turns
    differ by from all turns of that emotion.

    Args:
        keys: ``(n,)`` a speaker in a recording.
    """
    centres = np.zeros((K, near.shape[1]))
    for k in np.unique(classes):
        of = classes == k
        centres[k] = weights[of] @ near[of] / weights[of].sum()
    out = np.zeros_like(near)
    for key in np.unique(keys):
        of = np.flatnonzero(keys == key)
        share = 1 / np.bincount(classes[of], minlength=K)[classes[of]]
        out[of] = share @ (near[of] - centres[classes[of]]) / share.sum()
    return out


def unheard(voices: Voices, rows: NDArray[np.int64]) -> Unheard:
    """Scores of the rows by regressions on the others: by folds of speakers, and corpus by corpus."""
    speakers = np.array(voices.speakers)[rows]
    names = sorted(set(speakers.tolist()))
    fold = np.array([names.index(name) % FOLDS for name in speakers])
    corpora = np.array([corpus_of(name) for name in speakers])
    parts = [(fold == number, False) for number in range(FOLDS)]
    if len(set(corpora.tolist())) > 1:
        parts += [(corpora == corpus, True) for corpus in sorted(set(corpora.tolist()))]
    by_fold: list[tuple[Array, NDArray[np.int64], NDArray[np.bool_], Array]] = []
    for out, across in parts:
        if out.any() and not out.all():
            model = regression(voices, rows[~out])
            near = model.near(voices.values[rows[out]])
            of = np.full(int(out.sum()), across)
            by_fold.append((model.linear_scores(near), rows[out], of, model.strangeness(near)))
    return Unheard(*(np.concatenate(part) for part in zip(*by_fold, strict=True)))


def with_spread(model: VoiceScores, voices: Voices, heard: Unheard) -> VoiceScores:
    """The model with the emotions' centres, the two covariances and what short turns say less.

    A corpus heard across counts as one of its own, beside the same one heard within.
    """
    classes = labels_of(voices, heard.rows)
    names = np.where(heard.across, "across ", "within ")
    corpora = np.char.add(names, [corpus_of(voices.speakers[row]) for row in heard.rows])
    keys = np.char.add(names, [voices.recordings[row] for row in heard.rows])
    seconds = voices.seconds[heard.rows]
    weights = balanced(classes, corpora)
    totals = np.bincount(classes, weights, K)
    centres = np.stack([weights[classes == k] @ heard.scores[classes == k] for k in range(K)])
    centres /= np.maximum(totals, 1e-12)[:, None]
    if not totals.all():  # too few clips for a fold to have all emotions: what is never heard is far from all
        centres[totals == 0] = centres[totals > 0].mean(0) - 10 * np.ptp(centres[totals > 0], axis=0)
    rest = heard.scores - centres[classes]
    own = np.zeros_like(rest)
    freedom = np.ones(len(rest))
    between = np.zeros((rest.shape[1],) * 2)
    of_corpus = {corpus: set(keys[corpora == corpus].tolist()) for corpus in np.unique(corpora)}
    for recordings in of_corpus.values():
        for key in recordings:
            rows = np.flatnonzero(keys == key)
            share = 1 / np.bincount(classes[rows], minlength=K)[classes[rows]]
            share /= share.sum()
            own[rows] = share @ rest[rows]
            freedom[rows] = max(1 - np.square(share).sum(), 1e-3)
            between += np.outer(own[rows[0]], own[rows[0]]) / len(recordings) / len(of_corpus)
    off = rest - own
    within = (off * (weights / freedom)[:, None]).T @ off
    # How a turn's chance falls with its length: e (1 + short / seconds), by least squares.
    square = np.einsum("ns,st,nt->n", off, np.linalg.inv(_sound(within)), off) / rest.shape[1] / freedom
    line = np.linalg.lstsq(
        np.sqrt(weights)[:, None] * np.stack([np.ones(len(seconds)), 1 / seconds], 1),
        np.sqrt(weights) * square, rcond=None,
    )[0]  # fmt: skip
    short = float(np.clip(line[1] / max(line[0], 1e-6), *SHORT_S))
    said = seconds / (seconds + short)
    within = (off * (weights * said / freedom)[:, None]).T @ off
    return replace(
        model,
        short_s=short,
        centres=centres.astype(np.float32),
        within=_sound(within).astype(np.float32),
        between=_sound(between).astype(np.float32),
    )


def _sound(covariance: Array) -> Array:
    """Symmetric, and never singular."""
    width = len(covariance)
    out: Array = (covariance + covariance.T) / 2 + RIDGE * np.trace(covariance) / width * np.eye(width)
    return out


def save_scores(model: VoiceScores, file: Path) -> None:
    """Write for ``load_voice_scores``: what is as wide as the features in half precision, but statistics."""
    config = {name: getattr(model, name) for name in ("features", "labels", "usual", "short_s")}
    arrays = {name: np.ascontiguousarray(getattr(model, name)) for name in ARRAYS}
    for name in ("linear", "basis", "middle"):
        arrays[name] = arrays[name].astype(np.float16)
    with written_whole(file) as temporary:
        save_file(arrays, temporary, metadata={"config": json.dumps(config)})


def kept(make: Callable[[], VoiceScores], file: Path, width: int) -> VoiceScores:
    """What is in the file, made and written first where there is none: the same either way."""
    if not file.exists():
        save_scores(make(), file)
    return load_voice_scores(file, width)


def folds_of(names: Sequence[str], folds: int) -> Iterator[set[str]]:
    """Speakers dealt into folds in the order of their names, so that each has some of every corpus."""
    for fold in range(folds):
        yield {name for number, name in enumerate(sorted(names)) if number % folds == fold}
