"""Who says each word."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import count, groupby, pairwise

from annotator.records import Turn, Word

from .pieces import (
    FIRST_SPEAKER,
    MOMENT_S,
    NUMBERED,
    SENTENCE_ENDS,
    UtteranceSettings,
    ends_with,
    transcript_name,
)


def diarized_labels(words: Sequence[Word], turns: Sequence[Turn], reach_s: float) -> list[str | None]:
    """The diarized label of each word: of the turn that covers most of it, else of a close one.

    At a tie, as where two speak at once, the label of the word before stays.
    """
    spans = [(w.start, max(w.end, w.start + MOMENT_S)) for w in words]
    starts = [turn.start for turn in turns]
    labels: list[str | None] = []
    last: str | None = None
    for (start, end), (touched, ended) in zip(spans, sweep(spans, turns), strict=True):
        best: str | None = None
        if touched:
            shared = [min(end, t.end) - max(start, t.start) for t in touched]
            most = max(shared) - 1e-9
            rivals = [t.speaker for t, s in zip(touched, shared, strict=True) if s >= most]
            best = last if last in rivals else rivals[0]
        else:
            i = bisect_left(starts, end)
            near = [(start - ended.end, 0, ended.speaker)] if ended else []
            near += [(turns[i].start - end, 1, turns[i].speaker)] if i < len(turns) else []
            if near and min(near)[0] <= reach_s:
                best = min(near)[2]
        last = best or last
        labels.append(best)
    return labels


def names_of_labels(
    words: Sequence[Word], labels: Sequence[str | None], diarized: set[str]
) -> dict[str, str]:
    """What each diarized label is called in the table.

    A label takes a name of the transcript if it was heard under that name for three words or a second at
    least, and for most of the label's named time. Two labels may take one name: diarization splits people
    more often than it joins them. A numbered label that the transcript happens to use too, for someone
    else, gets a number that is free; a real name means the same person in both.
    """
    seconds: dict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    word_counts: Counter[tuple[str, str]] = Counter()
    for word, label in zip(words, labels, strict=True):
        if label is not None and (name := transcript_name(word)):
            seconds[label][name] += max(word.end - word.start, MOMENT_S)
            word_counts[label, name] += 1
    transcript_names = {name for word in words if (name := transcript_name(word))}
    used = transcript_names | diarized
    out: dict[str, str] = {}
    for label in sorted(diarized):
        numbered = NUMBERED.fullmatch(label) is not None
        name = max(seconds[label], key=lambda n: seconds[label][n]) if label in seconds else None
        if label in transcript_names and not numbered:
            out[label] = label
        elif (
            name is not None
            and (seconds[label][name] >= 1.0 or word_counts[label, name] >= 3)
            and seconds[label][name] >= 0.6 * sum(seconds[label].values())
        ):
            out[label] = name
        elif label in transcript_names:
            out[label] = next(n for i in count() if (n := f"SPEAKER_{i:02d}") not in used)
            used.add(out[label])
        else:
            out[label] = label
    return out


def speakers_of_words(
    words: Sequence[Word],
    by_label: Sequence[str | None],
    overlaps: Sequence[tuple[float, float]],
    settings: UtteranceSettings,
) -> list[str]:
    """Each word's speaker; a sentence that was recognised votes, glitches within a cue are smoothed."""
    speakers: list[str] = []
    for word, name in zip(words, by_label, strict=True):
        speakers.append(transcript_name(word) or name or (speakers[-1] if speakers else FIRST_SPEAKER))
    by_cue: defaultdict[int, list[int]] = defaultdict(list)
    for i, word in enumerate(words):
        if word.cue is not None and transcript_name(word) is None:
            by_cue[word.cue].append(i)
    for indices in by_cue.values():
        if words[indices[0]].confidence is not None:  # recognised: the cue is a sentence, its times are heard
            _vote(indices, words, speakers, overlaps, settings.break_s)
            continue
        runs = [list(group) for _, group in groupby(indices, key=lambda i: speakers[i])]
        for k, run in enumerate(runs):
            if len(run) > 1 or len(runs) == 1:
                continue
            (i,) = run
            before, after = (runs[k - 1] if k else None), (runs[k + 1] if k + 1 < len(runs) else None)
            if words[i].end - words[i].start > settings.glitch_s:
                continue
            if before and after:
                if speakers[before[-1]] == speakers[after[0]]:
                    speakers[i] = speakers[after[0]]
            # A cue's first or last word runs over the border because its time is an estimate, unless
            # a sentence ends there: then someone did say just this.
            elif after and len(after) > 1 and not ends_with(words[i], SENTENCE_ENDS):
                speakers[i] = speakers[after[0]]
            elif before and len(before) > 1 and not ends_with(words[before[-1]], SENTENCE_ENDS):
                speakers[i] = speakers[before[-1]]
        _move_to_sentence_ends(indices, words, speakers, settings.snap_s)
    return speakers


def _vote(
    indices: Sequence[int],
    words: Sequence[Word],
    speakers: list[str],
    overlaps: Sequence[tuple[float, float]],
    break_s: float,
) -> None:
    """Gives a recognised sentence to whoever is heard longest in it.

    It breaks between speakers only at a pause or where two speak at once, and not for a single word.
    """
    parts: list[list[int]] = [[indices[0]]]
    for before, i in pairwise(indices):
        gap = words[i].start - words[before].end
        if gap >= break_s or (speakers[i] != speakers[before] and _within(words[i].start, overlaps)):
            parts.append([])
        parts[-1].append(i)
    votes = [_longest_heard(part, words, speakers) for part in parts]
    for k, part in enumerate(parts):
        if len(part) == 1 and len(parts) > 1:  # a word that belongs to the part nearer in time
            left = words[part[0]].start - words[parts[k - 1][-1]].end if k else math.inf
            right = words[parts[k + 1][0]].start - words[part[0]].end if k + 1 < len(parts) else math.inf
            votes[k] = votes[k - 1] if left <= right else _longest_heard(parts[k + 1], words, speakers)
    for part, speaker in zip(parts, votes, strict=True):
        for i in part:
            speakers[i] = speaker


def _longest_heard(part: Sequence[int], words: Sequence[Word], speakers: Sequence[str]) -> str:
    seconds: defaultdict[str, float] = defaultdict(float)
    for i in part:
        seconds[speakers[i]] += max(words[i].end - words[i].start, MOMENT_S)
    return max(seconds, key=lambda speaker: seconds[speaker])


def _within(time: float, spans: Sequence[tuple[float, float]]) -> bool:
    """Whether a time lies in one of spans that are in order and do not overlap."""
    i = bisect_left(spans, (time, math.inf)) - 1
    return i >= 0 and spans[i][0] <= time <= spans[i][1]


def overlaps_of(turns: Sequence[Turn]) -> list[tuple[float, float]]:
    """Where more than one speaks: spans in order, without overlap. Turns are in order of start."""
    spans: list[tuple[float, float]] = []
    reached = -math.inf
    for turn in turns:
        if turn.start < reached:
            start, end = turn.start, min(turn.end, reached)
            if spans and start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], end))
            else:
                spans.append((start, end))
        reached = max(reached, turn.end)
    return spans


def _move_to_sentence_ends(
    indices: Sequence[int], words: Sequence[Word], speakers: list[str], snap_s: float
) -> None:
    """Moves each change of speaker within a cue to the nearest end of a sentence, if one is close.

    The times of a subtitle's words are shared out by length, the text knows better where somebody stops.
    """
    edges = [k for k in range(1, len(indices)) if speakers[indices[k]] != speakers[indices[k - 1]]]
    for number, edge in enumerate(edges):
        low = edges[number - 1] if number else 0
        high = edges[number + 1] if number + 1 < len(edges) else len(indices)
        at = words[indices[edge]].start
        ends = [
            k
            for k in range(low + 1, high)
            if ends_with(words[indices[k - 1]], SENTENCE_ENDS) and abs(words[indices[k]].start - at) <= snap_s
        ]
        if not ends:
            continue
        best = min(ends, key=lambda k: abs(words[indices[k]].start - at))
        before, after = speakers[indices[edge - 1]], speakers[indices[edge]]
        for k in range(min(best, edge), max(best, edge)):
            speakers[indices[k]] = before if k < best else after


def sweep(
    spans: Sequence[tuple[float, float]], turns: Sequence[Turn]
) -> Iterator[tuple[list[Turn], Turn | None]]:
    """For each span, in order of start: the turns that it touches, and the last that ended before it."""
    active: list[Turn] = []
    ended: Turn | None = None
    following = 0
    for start, end in spans:
        while following < len(turns) and turns[following].start < end:
            active.append(turns[following])
            following += 1
        for turn in active:
            if turn.end <= start and (ended is None or turn.end > ended.end):
                ended = turn
        active = [t for t in active if t.end > start]
        yield [t for t in active if t.start < end], ended
