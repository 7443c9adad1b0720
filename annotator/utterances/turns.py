"""Turns to utterances: those that somebody gave, and speech of which no word tells."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from annotator import bounds
from annotator.levels import Levels, cut_times
from annotator.records import RecordingError, Turn, Word

from .pieces import FIRST_SPEAKER, MOMENT_S, NUMBERED, Piece, UtteranceSettings, check_number, transcript_name


def lasting(turns: Sequence[Turn], duration_s: float) -> list[Turn]:
    """Those that last, within the recording where its length is known, each with a speaker, by time."""
    last = duration_s if duration_s > 0 else math.inf
    clipped = (
        replace(t, start=max(0.0, t.start), end=min(t.end, last), speaker=t.speaker.strip() or FIRST_SPEAKER)
        for t in turns
        if math.isfinite(t.start) and math.isfinite(t.end)
    )
    return sorted(t for t in clipped if t.end > t.start)


def check_crowd(turns: Sequence[Turn]) -> None:
    """What is compared with what sounds at the same time stays in proportion to its number."""
    if bounds.crowd(((t.start, t.end) for t in turns), bounds.TURNS_AT_ONCE) is not None:
        raise RecordingError(
            "utterances",
            "too_many",
            f"More than {bounds.TURNS_AT_ONCE} turns are at the same moment: mend its speaker file.",
        )


def given_turns(
    turns: Sequence[Turn],
    words: Sequence[Word],
    speakers: Sequence[str],
    by_label: Sequence[str | None],
    levels: Levels | None,
    settings: UtteranceSettings,
) -> tuple[list[Piece], list[Word], list[str]]:
    """Given turns as utterances, with the words that their speakers say in them or close by.

    A turn of a voice without a name, all of whose words the transcript gives to people by name, is theirs: of
    it only long stretches without words remain.

    Returns: the utterances; the words that are in none, and their speakers.
    """
    joined = sorted(_joined(turns, settings.same_turn_s, settings.max_length_s))
    mine: defaultdict[str, list[Turn]] = defaultdict(list)
    for turn in joined:
        mine[turn.speaker].append(turn)
    starts = {speaker: [turn.start for turn in joined] for speaker, joined in mine.items()}
    inside: defaultdict[Turn, list[Word]] = defaultdict(list)
    others: defaultdict[Turn, list[Word]] = defaultdict(list)
    left: list[int] = []

    def turn_near(middle: float, speaker: str | None, reach_s: float) -> Turn | None:
        at = bisect_left(starts.get(speaker or "", []), middle)
        near = mine[speaker or ""][max(0, at - 1) : at + 1]
        best = min(near, key=lambda t: max(t.start - middle, middle - t.end, 0.0), default=None)
        return best if best and max(best.start - middle, middle - best.end) <= reach_s else None

    for i, (word, speaker) in enumerate(zip(words, speakers, strict=True)):
        middle = (word.start + word.end) / 2
        if nearest := turn_near(middle, speaker, settings.slack_s):
            inside[nearest].append(word)
            continue
        left.append(i)
        if transcript_name(word) and (unnamed := turn_near(middle, by_label[i], 0.0)):
            others[unnamed].append(word)
    pieces: list[Piece] = []
    for turn in joined:
        if turn in others and turn not in inside and NUMBERED.fullmatch(turn.speaker):
            pieces += without_words([turn], others[turn], levels, settings)
            continue
        for part, spoken in _at_changes(turn, inside[turn]):
            pieces += _parts(part, spoken, levels, len(pieces), settings)
    return pieces, [words[i] for i in left], [speakers[i] for i in left]


def _at_changes(turn: Turn, words: Sequence[Word]) -> Iterator[tuple[Turn, Sequence[Word]]]:
    """A turn with its words, cut where the transcript marks a change of speaker inside it."""
    start, first = turn.start, 0
    for i, word in enumerate(words):
        if i and word.change and start + MOMENT_S <= word.start <= turn.end - MOMENT_S:
            yield replace(turn, start=start, end=word.start), words[first:i]
            start, first = word.start, i
    yield replace(turn, start=start), words[first:]


def _parts(
    span: Turn, words: Sequence[Word], levels: Levels | None, before: int, settings: UtteranceSettings
) -> list[Piece]:
    """A stretch of one speaker's as a piece, or as several where it is too long; ``before`` were made."""
    longest, shortest = settings.max_length_s, settings.min_length_s
    # Before there are as many as a speaker file claims.
    check_number(before + max(1, math.ceil((span.end - span.start) / longest - 1e-9)))
    spoken = [(w.start, w.end) for w in words]
    edges = [
        span.start,
        *cut_times(span.start, span.end, levels, longest, shortest, spoken),
        span.end,
    ]
    parts: list[list[Word]] = [[] for _ in edges[1:]]
    for word in words:
        parts[bisect_left(edges, (word.start + word.end) / 2, 1, len(edges) - 1) - 1].append(word)
    return [
        Piece(start, end, span.speaker, tuple(part))
        for start, end, part in zip(edges, edges[1:], parts, strict=False)
    ]


def without_words(
    turns: Sequence[Turn], words: Sequence[Word], levels: Levels | None, settings: UtteranceSettings
) -> list[Piece]:
    """Speech that no word tells of. Without any words that is all speech, however short."""
    spans: list[list[float]] = []
    for word in words:
        start, end = word.start - settings.slack_s, word.end + settings.slack_s
        if spans and start <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
        else:
            spans.append([start, end])
    least = settings.untold_s if words else 0.0
    pieces: list[Piece] = []
    at = 0
    for turn in sorted(_joined(turns, settings.pause_s, settings.max_length_s)):
        while at < len(spans) and spans[at][1] <= turn.start:
            at += 1
        start, k = turn.start, at
        gaps = []
        while k < len(spans) and spans[k][0] < turn.end:
            gaps.append((start, spans[k][0]))
            start = max(start, spans[k][1])
            k += 1
        gaps.append((start, turn.end))
        for a, b in gaps:
            if b - a > 0 and b - a >= least:
                pieces += _parts(Turn(a, b, turn.speaker), (), levels, len(pieces), settings)
    return pieces


def _joined(turns: Sequence[Turn], pause_s: float, longest_s: float) -> list[Turn]:
    """Turns of a speaker without a long pause between become one, unless another's falls in the gap.

    None becomes longer than ``longest_s`` by that: it would be cut again, and not at the pause.
    """
    out: list[Turn] = []
    latest: dict[str, tuple[int, int]] = {}  # speaker: where its last turn is in out, and among turns
    for i, turn in enumerate(turns):
        place, last = latest.get(turn.speaker, (-1, -1))
        joins = place >= 0 and turn.start - out[place].end <= pause_s
        if joins and turn.end > out[place].end:
            joins = turn.start < out[place].end or turn.end - out[place].start <= longest_s
        if joins:
            end = out[place].end
            between = (t for t in turns[last + 1 : i] if t.speaker != turn.speaker)
            joins = not any(end <= (t.start + t.end) / 2 <= turn.start for t in between)
        if joins:
            out[place] = replace(out[place], end=max(out[place].end, turn.end))
        else:
            place = len(out)
            out.append(turn)
        latest[turn.speaker] = (place, i)
    return out
