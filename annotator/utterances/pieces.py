"""Utterances in the making, and what all steps towards them share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from annotator.records import DIALOGUE_GAP_S, RecordingError, Word

FIRST_SPEAKER = "SPEAKER_00"
SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "؟", "۔", "।")
_CLOSERS = "\"'”’»)]」』"
NUMBERED = re.compile(r"(?:SPEAKER|CHANNEL)_\d+")  # a voice that nobody has named
MOMENT_S = 0.01  # the least length of anything
MOST = 100_000  # utterances of a recording; ten hours of talk have about 10,000


@dataclass(frozen=True)
class UtteranceSettings:
    """How speech is cut, all in seconds but ``overlapped`` and ``uncertain``.

    Args:
        dialogue_gap_s: this long without an utterance, and a new dialogue starts.
        pause_s: a longer silence between words or turns of a speaker ends the utterance.
        long_s: an utterance this long ends at the next end of a sentence.
        max_length_s: no utterance is longer, but for a single word that is.
        min_length_s: what is split off a long utterance is at least this long where that can be.
        reach_s: a word outside all turns goes to one no further away than this.
        untold_s: speech without words becomes an utterance from this length on.
        slack_s: speech this close to a word counts as told by it.
        snap_s: within a cue, a change of speaker moves to an end of a sentence no further away than this.
        glitch_s: a change of speaker for one word within a cue is ignored if it is shorter than this.
        break_s: a recognised sentence breaks between speakers at a pause of this length.
        same_turn_s: given turns of a speaker with a shorter pause between them are one.
        too_short_s: shorter utterances are flagged ``too_short``.
        overlapped: share of overlap above which an utterance is flagged ``overlapped``.
        uncertain: confidence in the speaker below which an utterance is flagged ``speaker_uncertain``.
    """

    dialogue_gap_s: float = DIALOGUE_GAP_S
    pause_s: float = 0.8
    long_s: float = 4.0  # about the mean of the corpora that models learn from
    max_length_s: float = 15.0
    min_length_s: float = 1.0
    reach_s: float = 2.0
    untold_s: float = 2.0
    slack_s: float = 0.5
    snap_s: float = 0.8
    glitch_s: float = 1.0
    break_s: float = 0.3
    same_turn_s: float = 0.3
    too_short_s: float = 0.4
    overlapped: float = 0.5
    uncertain: float = 0.7


@dataclass(frozen=True)
class Piece:
    """An utterance in the making."""

    start: float
    end: float
    speaker: str
    words: tuple[Word, ...] = ()


def check_number(utterances: int) -> None:
    if utterances > MOST:
        raise RecordingError(
            "utterances",
            "too_many",
            f"It has more than {MOST:,} utterances: cut the recording, or mend its speaker file.",
        )


def transcript_name(word: Word) -> str | None:
    """The transcript's name of who says a word."""
    return (word.speaker or "").strip() or None


def ends_with(word: Word, marks: tuple[str, ...]) -> bool:
    return word.text.rstrip(_CLOSERS).endswith(marks)
