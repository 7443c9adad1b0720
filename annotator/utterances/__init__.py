"""Turns and words to utterances: who said what, from when to when. Pure; the only state is what is passed in.

1. Each word gets a speaker: the transcript's name, else the turn that overlaps it most, else a turn close
   by, else the speaker before. Diarized labels that clearly go with a transcript's name take that name.
2. Words of one speaker form runs, broken at pauses and wherever someone else's word falls between two.
3. Runs are split at ends of sentences when they get long, and at their best places when they are too long.
4. Speech without words becomes an utterance without text, cut at pauses and quiet places if it is too long.

Turns that somebody gave (a speaker file) are utterances as they are; words then only fall into them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from annotator.levels import Levels
from annotator.records import Transcript, Turn, Utterance

from .cuts import runs_of, split_run
from .pieces import MOMENT_S, Piece, UtteranceSettings, check_number, transcript_name
from .speakers import diarized_labels, names_of_labels, overlaps_of, speakers_of_words, sweep
from .turns import check_crowd, given_turns, lasting, without_words

__all__ = ["UtteranceSettings", "build"]


def build(
    turns: Sequence[Turn] | None,
    transcript: Transcript,
    duration_s: float,
    settings: UtteranceSettings | None = None,
    alone: Sequence[Turn] | None = None,
    *,
    given: bool = False,
    levels: Levels | None = None,
) -> list[Utterance]:
    """Utterances in order of start, numbered by dialogue and within it.

    Each word is in exactly one utterance, in order; each utterance has a speaker and start < end. Times are
    clipped to the recording.

    Args:
        turns: who speaks when, in any order, overlaps allowed; None where no one listened for it, as the
            transcript names all speakers: utterances then have no ``overlap``.
        duration_s: length of the recording in seconds; 0 or less where it is not known.
        alone: the same turns with one speaker at a time, where the diarizer tells who speaks most: they give
            the words their speakers, ``turns`` the overlap.
        given: the turns are somebody's, not a diarizer's: they are kept as utterances.
        levels: how loud the recording is (levels.py), to cut where it is quiet; None where there is no sound.

    Raises: RecordingError (``too_many``) for more than 100,000 utterances.
    """
    settings = settings or UtteranceSettings()
    has_turns, turns = turns is not None, lasting(turns or (), duration_s)
    check_crowd(turns)
    words = sorted(transcript.words, key=lambda w: w.start)
    labels = diarized_labels(words, turns if alone is None else lasting(alone, duration_s), settings.reach_s)
    names = names_of_labels(words, labels, {t.speaker for t in turns} | {label for label in labels if label})
    turns = sorted(replace(t, speaker=names[t.speaker]) for t in turns)
    by_label = [None if label is None else names[label] for label in labels]
    speakers = speakers_of_words(words, by_label, overlaps_of(turns), settings)
    pieces: list[Piece] = []
    if given:
        pieces, words, speakers = given_turns(turns, words, speakers, by_label, levels, settings)
    pieces += [
        part for run in runs_of(words, speakers, settings.pause_s) for part in split_run(run, settings)
    ]
    if not given:
        pieces += without_words(turns, words, levels, settings)
    check_number(len(pieces))
    return _numbered(pieces, turns if has_turns else None, duration_s, settings)


def _numbered(
    pieces: Sequence[Piece], turns: Sequence[Turn] | None, duration_s: float, settings: UtteranceSettings
) -> list[Utterance]:
    """Utterances with times clipped, overlap, flags and numbers."""
    clipped = sorted((_clip(p, duration_s) for p in pieces), key=lambda p: (p.start, p.end, p.speaker))
    voices = turns or sorted(
        Turn(w.start, w.end, p.speaker) for p in clipped for w in p.words if w.end > w.start
    )
    out: list[Utterance] = []
    dialogue, number, spoken = 0, 0, -math.inf
    touched = sweep([(p.start, p.end) for p in clipped], voices)
    for piece, (around, _) in zip(clipped, touched, strict=True):
        if out and piece.start - spoken >= settings.dialogue_gap_s:
            dialogue, number = dialogue + 1, 0
        spoken = max(spoken, piece.end)
        overlap = None if turns is None else _overlap(piece, around)
        confidence = _confidence(piece, around)
        scores = [w.confidence for w in piece.words if w.confidence is not None]
        flags = {
            "no_transcript": not piece.words,
            "too_short": piece.end - piece.start < settings.too_short_s,
            "overlapped": overlap is not None and overlap > settings.overlapped,
            "speaker_uncertain": confidence is not None and confidence < settings.uncertain,
        }
        out.append(
            Utterance(
                dialogue_id=dialogue,
                utterance_id=number,
                start=piece.start,
                end=piece.end,
                speaker=piece.speaker,
                overlap=overlap,
                text=" ".join(w.text for w in piece.words) if piece.words else None,
                asr_confidence=sum(scores) / len(scores) if scores else None,
                words=piece.words,
                speaker_confidence=confidence,
                flags=tuple(flag for flag, holds in flags.items() if holds),
            )
        )
        number += 1
    return out


def _clip(piece: Piece, duration_s: float) -> Piece:
    start, end = max(0.0, piece.start), max(0.0, piece.end)
    if 0 < duration_s and start < duration_s:
        end = min(end, duration_s)
    if end - start < MOMENT_S:
        end = start + MOMENT_S
        if 0 < duration_s and start < duration_s < end and duration_s > MOMENT_S:
            start, end = duration_s - MOMENT_S, duration_s
    return replace(piece, start=start, end=end)


def _confidence(piece: Piece, around: Sequence[Turn]) -> float | None:
    """Mean confidence of the speaker's turns in an utterance; None where a transcript names the speaker."""
    if any(transcript_name(word) for word in piece.words):
        return None
    weighed = [
        (min(piece.end, t.end) - max(piece.start, t.start), t.confidence)
        for t in around
        if t.speaker == piece.speaker and t.confidence is not None
    ]
    seconds = sum(length for length, _ in weighed)
    return sum(length * value for length, value in weighed) / seconds if seconds > 0 else None


def _overlap(piece: Piece, around: Sequence[Turn]) -> float:
    """Share of an utterance during which someone else's turn sounds.

    Where the speaker has no turn there (a transcript's name that no label goes with), the voice heard
    longest is taken for theirs.
    """
    shared: defaultdict[str, float] = defaultdict(float)
    for turn in around:
        shared[turn.speaker] += min(piece.end, turn.end) - max(piece.start, turn.start)
    voice = {piece.speaker} if piece.speaker in shared else {max(shared, key=lambda s: shared[s], default="")}
    seconds, reached = 0.0, piece.start
    for turn in sorted(t for t in around if t.speaker not in voice):
        start, end = max(reached, turn.start), min(piece.end, turn.end)
        seconds += max(0.0, end - start)
        reached = max(reached, end)
    return min(1.0, max(0.0, seconds / (piece.end - piece.start)))
