"""Models of the voice that ship, and those that have not heard a speaker or a corpus."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.encode import voice
from annotator.encode.voice import VoiceScores
from train.prepare.meld import LABELS as MELD_LABELS
from train.starter.voice import fit, moods
from train.starter.voice.clips import LEARNED, Voices, corpus_of
from train.starter.voice.fit import FOLDS, folds_of, kept, regression, save_scores, unheard, with_spread
from train.starter.voice.moods import with_gate

ACTORS_A_FOLD = 4


def fit_voice(voices: Voices, rows: NDArray[np.int64]) -> VoiceScores:
    """A whole model, fitted on some rows."""
    heard = unheard(voices, rows)
    return with_gate(with_spread(regression(voices, rows), voices, heard), voices, heard)


def named(work: Path, name: str, voices: Voices, rows: NDArray[np.int64]) -> Path:
    """Where a model fitted on these rows is kept: others, or fitted by other code, have another name."""
    digest = hashlib.sha256(voices.digest.encode() + rows.tobytes())
    for module in (fit, moods, voice):
        digest.update(inspect.getsource(module).encode())
    return work / f"voice-{name}-{digest.hexdigest()[:16]}.safetensors"


def unseen_scores(voices: Voices, work: Path, file: Path) -> dict[str, VoiceScores]:
    """Write the model that ships to ``file``; for each speaker, give one that has not heard them.

    Training speakers have that of the other folds, everybody else the one that ships.

    Args:
        work: keeps models; what is there is not fitted again.
    """
    speakers, splits = np.array(voices.speakers), np.array(voices.splits)
    learned = np.isin([corpus_of(name) for name in speakers], list(LEARNED))
    training = learned & (splits == "train")
    width = voices.values.shape[1]
    by_speaker: dict[str, VoiceScores] = {}
    for number, out in enumerate(folds_of(sorted(set(speakers[training].tolist())), FOLDS)):
        rows = np.flatnonzero(training & ~np.isin(speakers, sorted(out)))
        model = kept(partial(fit_voice, voices, rows), named(work, f"fold-{number}", voices, rows), width)
        by_speaker |= dict.fromkeys(out, model)
    rows = np.flatnonzero(training)
    ships = kept(partial(fit_voice, voices, rows), named(work, "ships", voices, rows), width)
    save_scores(ships, file)
    return dict.fromkeys(speakers.tolist(), ships) | by_speaker


def actor_scores(voices: Voices, work: Path) -> dict[str, VoiceScores]:
    """For each actor of RAVDESS a model of all but four of them, and of the others' training speakers."""
    speakers, splits = np.array(voices.speakers), np.array(voices.splits)
    corpora = np.array([corpus_of(name) for name in voices.speakers])
    actors = sorted(set(speakers[corpora == "ravdess"].tolist()))
    learned = (corpora == "ravdess") | (np.isin(corpora, list(LEARNED)) & (splits == "train"))
    by_speaker: dict[str, VoiceScores] = {}
    for first in range(0, len(actors), ACTORS_A_FOLD):
        out = actors[first : first + ACTORS_A_FOLD]
        rows = np.flatnonzero(learned & ~np.isin(speakers, out))
        file = named(work, f"without-{out[0]}", voices, rows)
        by_speaker |= dict.fromkeys(out, kept(partial(fit_voice, voices, rows), file, voices.values.shape[1]))
    return by_speaker


def without_corpus(voices: Voices, work: Path, corpus: str) -> VoiceScores:
    """A model of all speakers of the other corpora to learn from."""
    corpora = np.array([corpus_of(name) for name in voices.speakers])
    rows = np.flatnonzero(np.isin(corpora, list(LEARNED)) & (corpora != corpus))
    file = named(work, f"without-{corpus}", voices, rows)
    return kept(partial(fit_voice, voices, rows), file, voices.values.shape[1])


def turn_scores(
    voices: Voices, rows: NDArray[np.int64], speakers: Sequence[str], scores: Mapping[str, VoiceScores]
) -> NDArray[np.float32]:
    """What a run's encoder would give for clips put together as turns: ``(n, k + 1)``.

    Args:
        rows: ``(n,)`` of ``voices``; below 0 where a turn has no voice, which gets zeros.
        speakers: ``(n,)`` who speaks in which recording; turns are judged beside those of the same speaker
            that came through the same channel.
        scores: by the clip's own speaker.
    """
    out = np.zeros((len(rows), len(MELD_LABELS) + 1), np.float32)
    groups: dict[tuple[str, str], list[int]] = {}
    for turn, (row, speaker) in enumerate(zip(rows.tolist(), speakers, strict=True)):
        if row >= 0:
            groups.setdefault((speaker, voices.recordings[row]), []).append(turn)
    for turns in groups.values():
        clips = rows[turns]
        model = scores[voices.speakers[clips[0]]]
        one = ["SPEAKER_00"] * len(turns)
        out[turns] = model(voices.values[clips], voices.seconds[clips], np.ones(len(turns), np.bool_), one)
    return out
