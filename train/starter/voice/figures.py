"""How good the voice's classifiers are on speakers that they have not heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.encode.audio import VoiceScores
from train.evaluate import scores_of
from train.evaluate.metrics import reliability
from train.starter.faces import MELD_LABELS
from train.starter.voice.calibrate import calibration, fit_doubt
from train.starter.voice.clips import Voices
from train.starter.voice.scores import FOLDS, corpus_of, corpus_scores, fold_scores, turn_scores

ACTORS_A_FOLD = 4
SHORT = 10  # turns of a speaker in a short recording
CHANCE_DRAWS = 200


def voice_figures(voices: Voices, scores: Mapping[str, VoiceScores]) -> dict[str, Any]:
    """Scores as ``scores_of`` gives them, on clean clips, and ``ece_if_calibrated``.

    ``plain``: against the statistics of the training; ``relative``: against the speaker's own manner,
    of all turns or of ``SHORT`` ones; ``both``: the mean of these scores and the plain ones, which is
    what the network has to go by. ``held_out``: actors 17 to 20 of RAVDESS; ``folds``: all 20, four at a
    time; ``emodb``: speakers of EmoDB that training has not heard; ``channels``: both after channels.

    Args:
        scores: as ``unseen_scores`` gives them.
    """
    speakers = np.array(voices.speakers)
    splits = np.array(voices.splits)
    ravdess = np.array([name.startswith("ravdess") for name in speakers]) & voices.clean
    held_out = np.flatnonzero(ravdess & (splits != "train"))
    actors = sorted(set(speakers[ravdess]))
    folds = [actors[i : i + ACTORS_A_FOLD] for i in range(0, len(actors), ACTORS_A_FOLD)]
    other = np.flatnonzero(~ravdess & voices.clean & (splits != "train"))
    return {
        "held_out": _of(voices, held_out, scores),
        "by_sex": {
            sex: _of(voices, held_out[[voices.sexes[row] == sex for row in held_out]], scores)
            for sex in sorted({voices.sexes[row] for row in held_out})
        },
        "folds": [_of(voices, np.flatnonzero(ravdess & np.isin(speakers, f)), scores) for f in folds],
        "all_folds": _of(voices, np.flatnonzero(ravdess), scores),
        "emodb": _of(voices, other, scores),
        "channels": _of(voices, np.flatnonzero(~voices.clean & (splits != "train")), scores),
    }


def across_corpora(voices: Voices, work: Path, features: str, folds: int = FOLDS) -> dict[str, Any]:
    """Trained on RAVDESS' training actors, tested on all of EmoDB, over the six classes that both have.

    Calibrated on the training actors by classifiers of the other folds; how much less sure they are of
    turns far away is learned the other way round, from what classifiers of EmoDB make of RAVDESS.

    Args:
        folds: as in ``unseen_scores``, whose classifiers are found in ``work``.
    """
    rows = np.flatnonzero([corpus_of(name) == "emodb" for name in voices.speakers] & voices.clean)
    shared = sorted({MELD_LABELS.index(voices.labels[row]) for row in rows})
    unheard = fold_scores(voices, work, features, folds, "ravdess")
    fitted = calibration(voices, unheard, fit_doubt(voices, work, features, ("emodb",), folds))
    alone = fitted(corpus_scores(voices, work, features, "ravdess"))
    return _of(voices, rows, dict.fromkeys(voices.speakers, alone), classes=shared)


def _of(
    voices: Voices,
    rows: NDArray[np.int64],
    scores: Mapping[str, VoiceScores],
    classes: Sequence[int] = range(len(MELD_LABELS)),
) -> dict[str, Any]:
    """``plain``, ``relative``, ``short`` and ``both`` figures of some rows; among ``classes`` only."""
    k = len(MELD_LABELS)
    truth = np.array([list(classes).index(MELD_LABELS.index(voices.labels[row])) for row in rows], np.int64)
    keys = [voices.recordings[row] for row in rows]
    # The table is sorted by emotion in places: a short recording has a bit of everything.
    places = np.random.default_rng(0).permutation(len(rows))
    part: dict[int, int] = {}
    seen: dict[str, int] = {}
    for place in places.tolist():
        part[place] = seen.setdefault(keys[place], 0) // SHORT
        seen[keys[place]] += 1
    whole = turn_scores(voices, rows, keys, scores)
    short = turn_scores(voices, rows, [f"{key} {part[i]}" for i, key in enumerate(keys)], scores)
    out: dict[str, Any] = {}
    everywhere = np.ones(len(rows), np.bool_)
    kinds: dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]] = {
        "plain": (whole[:, :k], everywhere),
        "relative": (whole[:, k : 2 * k], whole[:, -1] > 0),
        "short": (short[:, k : 2 * k], short[:, -1] > 0),
        "both": ((whole[:, :k] + whole[:, k : 2 * k]) / np.float32(2), whole[:, -1] > 0),
    }
    for name, (found, known) in kinds.items():
        if known.any():
            logits = found[known][:, list(classes)].astype(np.float64)
            odds = np.exp(logits - logits.max(1, keepdims=True))
            shares = (odds / odds.sum(1, keepdims=True)).astype(np.float32)
            out[name] = scores_of(shares, truth[known]) | {"ece_if_calibrated": _chance_error(shares)}
    return out


def _chance_error(shares: NDArray[np.float32]) -> float:
    """The calibration error that rows ``(n, classes)`` show by chance, were the shares exactly right."""
    rng = np.random.default_rng(0)
    below = np.cumsum(shares, axis=1)
    drawn = [(rng.random((len(shares), 1)) > below[:, :-1]).sum(1) for _ in range(CHANCE_DRAWS)]
    return float(np.mean([reliability(shares, truth).ece for truth in drawn]))
