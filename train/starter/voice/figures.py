"""How good the model of the voice is on speakers, kinds of recording and corpora that it has not heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.encode import make_encoder
from annotator.encode.audio import AudioEncoder, trimmed
from annotator.encode.voice import VoiceScores
from annotator.records import RATE_HZ
from train.evaluate import scores_of
from train.evaluate.metrics import reliability
from train.prepare.meld import LABELS as MELD_LABELS
from train.starter.voice.clips import (
    LEARNED,
    SHORT_COPY,
    TESTED,
    Voices,
    clip_table,
    corpus_of,
    cut_short,
    read_clip,
)
from train.starter.voice.fit import labels_of
from train.starter.voice.moods import some
from train.starter.voice.scores import actor_scores, turn_scores, without_corpus

SHARES = (0.25, 0.5, 0.75)  # of a mood beside neutral turns
TURNS = (4, 16, 60, 200)  # of a mood, or of neutral turns, throughout
SHORT_S = (0.6, 1.0, 1.3)
CHANCE_DRAWS = 200
K = len(MELD_LABELS)


def voice_figures(voices: Voices, work: Path, scores: Mapping[str, VoiceScores]) -> dict[str, Any]:
    """Scores as ``scores_of`` gives them, ``ece_if_calibrated``, and those of turns taken ``alone``.

    All clips of a speaker through one channel are one recording, but for ``one mood`` (all of a mood) and
    ``mostly neutral`` (a mood in a quarter, half and three quarters of the turns, for each mood).
    ``4 turns of a mood`` and the like are of the speakers that no model has heard; where they have fewer
    clips of it, these come again.

    Args:
        work: keeps models, of five folds of RAVDESS' actors.
        scores: as ``unseen_scores`` gives them.
    """
    splits = np.array(voices.splits)
    corpora = np.array([corpus_of(name) for name in voices.speakers])
    unseen = (splits != "train") & np.isin(corpora, list(LEARNED))
    actors = np.flatnonzero((corpora == "ravdess") & voices.clean)
    held_out = actors[splits[actors] != "train"]
    folds = actor_scores(voices, work)
    through = np.flatnonzero(unseen & ~voices.clean & _long(voices))
    figures = {
        "actors": _of(voices, _whole(voices, actors), folds),
        "one mood": _of(voices, one_mood(voices, actors), folds),
        "mostly neutral": _of(voices, mostly_neutral(voices, actors), folds),
        "held_out": _of(voices, _whole(voices, held_out), scores),
    }
    unheard = np.flatnonzero(unseen & voices.clean)
    for count in TURNS:
        figures[f"{count} turns of a mood"] = _of(voices, throughout(voices, unheard, count), scores)
    if len(through):
        figures["channels"] = _of(voices, _whole(voices, through), scores)
    for sex in sorted({voices.sexes[row] for row in held_out}):
        figures[sex] = _of(
            voices, _whole(voices, held_out[[voices.sexes[r] == sex for r in held_out]]), scores
        )
    for corpus in ("emodb", "nemo"):
        rows = np.flatnonzero(unseen & (corpora == corpus) & voices.clean)
        if len(rows):
            figures[f"{corpus} unheard"] = _of(voices, _whole(voices, rows), scores)
    return figures


def across_corpora(voices: Voices, work: Path, ships: VoiceScores) -> dict[str, Any]:
    """Each corpus by a model that has heard nothing of it: figures as of :func:`voice_figures`."""
    by_corpus = {}
    for corpus in (*LEARNED, *TESTED):
        model = without_corpus(voices, work, corpus) if corpus in LEARNED else ships
        rows = np.flatnonzero(voices.clean & [corpus_of(name) == corpus for name in voices.speakers])
        by_corpus[corpus] = _of(voices, _whole(voices, rows), dict.fromkeys(voices.speakers, model))
    return by_corpus


def short_turns(speech: Path, spec: Mapping[str, Any], scores: Mapping[str, VoiceScores]) -> dict[str, Any]:
    """RAVDESS' held-out actors with their clips cut to the middle, as ``{seconds: figures}``."""
    table = clip_table(speech)
    table = table.filter((table["corpus"] == "ravdess") & (table["split"] != "train"))
    encoder = make_encoder("audio", spec, None, "cpu")
    assert isinstance(encoder, AudioEncoder)
    by_length = {}
    for seconds in SHORT_S:
        clips = [trimmed(read_clip(speech / file)) for file in table["file"]]
        clips = [trimmed(cut_short(clip, seconds, 0.5)) for clip in clips]
        values = np.stack([_known(encoder.features(clip)) for clip in clips])
        voices = Voices(
            values,
            tuple(table["label"]),
            tuple(table["speaker"]),
            tuple(table["sex"]),
            tuple(table["split"]),
            tuple(table["speaker"]),
            np.ones(len(table), np.bool_),
            np.array([len(clip) / RATE_HZ for clip in clips]),
            encoder.name,
        )
        by_length[f"{seconds:g}"] = _of(voices, _whole(voices, np.arange(len(table))), scores)
    return by_length


def one_mood(voices: Voices, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """A recording of each emotion of each speaker."""
    keys = [(voices.recordings[row], voices.labels[row]) for row in rows.tolist()]
    return [rows[[key == wanted for key in keys]] for wanted in sorted(set(keys))]


def throughout(voices: Voices, rows: NDArray[np.int64], count: int, seed: int = 0) -> list[NDArray[np.int64]]:
    """A recording of so many turns of each emotion of each speaker."""
    rng = np.random.default_rng(seed)
    return [some(mood, count, rng) for mood in one_mood(voices, rows)]


def mostly_neutral(voices: Voices, rows: NDArray[np.int64], seed: int = 0) -> list[NDArray[np.int64]]:
    """For each speaker, each other emotion and each share of it, a recording with neutral turns beside."""
    rng = np.random.default_rng(seed)
    recordings = []
    for of_speaker in _whole(voices, rows):
        labels = np.array([voices.labels[row] for row in of_speaker])
        neutral = of_speaker[labels == "neutral"]
        for label in sorted(set(labels.tolist()) - {"neutral"}):
            mood = of_speaker[labels == label]
            for share in SHARES:
                length = min(len(mood) / share, len(neutral) / (1 - share))
                some, rest = int(length * share), int(length * (1 - share))
                if some and rest:
                    parts = rng.choice(mood, some, replace=False), rng.choice(neutral, rest, replace=False)
                    recordings.append(np.concatenate(parts))
    return recordings


def _whole(voices: Voices, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows by recording."""
    keys = np.array([voices.recordings[row] for row in rows.tolist()])
    return [rows[keys == key] for key in sorted(set(keys.tolist()))]


def _long(voices: Voices) -> NDArray[np.bool_]:
    """Those that are not cut short."""
    return ~np.array([key.startswith(f"{SHORT_COPY}-") for key in voices.recordings])


def _known(vector: NDArray[np.float32] | None) -> NDArray[np.float32]:
    assert vector is not None, "a clip of acted speech is silent"
    return vector


def _of(
    voices: Voices, recordings: Sequence[NDArray[np.int64]], scores: Mapping[str, VoiceScores]
) -> dict[str, Any]:
    """Figures of made recordings, among the emotions that they have."""
    rows = np.concatenate(recordings)
    classes = np.unique(labels_of(voices, rows))
    truth = np.searchsorted(classes, labels_of(voices, rows))
    together = [turn_scores(voices, own, ["SPEAKER"] * len(own), scores) for own in recordings]
    alone = turn_scores(voices, rows, [str(number) for number in range(len(rows))], scores)
    figures = _figures(np.concatenate(together)[:, classes], truth)
    return figures | {"alone": _figures(alone[:, classes], truth)}


def _figures(logs: NDArray[np.float32], truth: NDArray[np.int64]) -> dict[str, Any]:
    shares = np.exp(logs.astype(np.float64))
    probabilities = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    return scores_of(probabilities, truth) | {"ece_if_calibrated": _chance_error(probabilities)}


def _chance_error(shares: NDArray[np.float32]) -> float:
    """The calibration error that rows ``(n, classes)`` show by chance, were the shares exactly right."""
    rng = np.random.default_rng(0)
    below = np.cumsum(shares, axis=1)
    drawn = [(rng.random((len(shares), 1)) > below[:, :-1]).sum(1) for _ in range(CHANCE_DRAWS)]
    return float(np.mean([reliability(shares, truth).ece for truth in drawn]))


__all__ = ["across_corpora", "mostly_neutral", "one_mood", "short_turns", "voice_figures"]
