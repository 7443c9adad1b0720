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
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, count, groupby, pairwise

from annotator import bounds
from annotator.levels import Levels, cut_times
from annotator.records import RecordingError, Transcript, Turn, Utterance, Word

FIRST_SPEAKER = "SPEAKER_00"
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "؟", "۔", "।")
_CLAUSE_ENDS = (",", ";", ":", "，", "；", "：", "、", "،")
_CLOSERS = "\"'”’»)]」』"
_NUMBERED = re.compile(r"(?:SPEAKER|CHANNEL)_\d+")  # a voice that nobody has named
_MOMENT_S = 0.01  # the least length of anything
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

    dialogue_gap_s: float = 60.0
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
class _Piece:
    """An utterance in the making."""

    start: float
    end: float
    speaker: str
    words: tuple[Word, ...] = ()


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
    heard, turns = turns is not None, _sound(turns or (), duration_s)
    _check_crowd(turns)
    words = sorted(transcript.words, key=lambda w: w.start)
    labels = _labels(words, turns if alone is None else _sound(alone, duration_s), settings.reach_s)
    names = _names(words, labels, {t.speaker for t in turns} | {label for label in labels if label})
    turns = sorted(replace(t, speaker=names[t.speaker]) for t in turns)
    by_label = [None if label is None else names[label] for label in labels]
    speakers = _speakers(words, by_label, _overlaps(turns), settings)
    pieces: list[_Piece] = []
    if given:
        pieces, words, speakers = _kept(turns, words, speakers, by_label, levels, settings)
    pieces += [part for run in _runs(words, speakers, settings.pause_s) for part in _split(run, settings)]
    if not given:
        pieces += _untold(turns, words, levels, settings)
    _check_number(len(pieces))
    return _numbered(pieces, turns if heard else None, duration_s, settings)


def _sound(turns: Sequence[Turn], duration_s: float) -> list[Turn]:
    """Those that last, within the recording where its length is known, each with a speaker, by time."""
    last = duration_s if duration_s > 0 else math.inf
    clipped = (
        replace(t, start=max(0.0, t.start), end=min(t.end, last), speaker=t.speaker.strip() or FIRST_SPEAKER)
        for t in turns
        if math.isfinite(t.start) and math.isfinite(t.end)
    )
    return sorted(t for t in clipped if t.end > t.start)


def _check_crowd(turns: Sequence[Turn]) -> None:
    """What is compared with what sounds at the same time stays in proportion to its number."""
    if bounds.crowd(((t.start, t.end) for t in turns), bounds.TURNS_AT_ONCE) is not None:
        raise RecordingError(
            "utterances",
            "too_many",
            f"More than {bounds.TURNS_AT_ONCE} turns are at the same moment: mend its speaker file.",
        )


def _check_number(utterances: int) -> None:
    if utterances > MOST:
        raise RecordingError(
            "utterances",
            "too_many",
            f"It has more than {MOST:,} utterances: cut the recording, or mend its speaker file.",
        )


def _sweep(
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


def _labels(words: Sequence[Word], turns: Sequence[Turn], reach_s: float) -> list[str | None]:
    """The diarized label of each word: of the turn that covers most of it, else of a close one.

    At a tie, as where two speak at once, the label of the word before stays.
    """
    spans = [(w.start, max(w.end, w.start + _MOMENT_S)) for w in words]
    starts = [turn.start for turn in turns]
    labels: list[str | None] = []
    last: str | None = None
    for (start, end), (touched, ended) in zip(spans, _sweep(spans, turns), strict=True):
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


def _names(words: Sequence[Word], labels: Sequence[str | None], known: set[str]) -> dict[str, str]:
    """What each diarized label is called in the table.

    A label takes a name of the transcript if it was heard under that name for three words or a second at
    least, and for most of the label's named time. Two labels may take one name: diarization splits people
    more often than it joins them. A numbered label that the transcript happens to use too, for someone
    else, gets a number that is free; a real name means the same person in both.
    """
    seconds: dict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    heard: Counter[tuple[str, str]] = Counter()
    for word, label in zip(words, labels, strict=True):
        if label is not None and (name := _told(word)):
            seconds[label][name] += max(word.end - word.start, _MOMENT_S)
            heard[label, name] += 1
    named = {name for word in words if (name := _told(word))}
    taken = named | known
    out: dict[str, str] = {}
    for label in sorted(known):
        numbered = _NUMBERED.fullmatch(label) is not None
        name = max(seconds[label], key=lambda n: seconds[label][n]) if label in seconds else None
        if label in named and not numbered:
            out[label] = label
        elif (
            name is not None
            and (seconds[label][name] >= 1.0 or heard[label, name] >= 3)
            and seconds[label][name] >= 0.6 * sum(seconds[label].values())
        ):
            out[label] = name
        elif label in named:
            out[label] = next(n for i in count() if (n := f"SPEAKER_{i:02d}") not in taken)
            taken.add(out[label])
        else:
            out[label] = label
    return out


def _told(word: Word) -> str | None:
    """The transcript's name of who says a word."""
    return (word.speaker or "").strip() or None


def _speakers(
    words: Sequence[Word],
    heard: Sequence[str | None],
    overlaps: Sequence[tuple[float, float]],
    settings: UtteranceSettings,
) -> list[str]:
    """Each word's speaker; a sentence that was recognised votes, glitches within a cue are smoothed."""
    speakers: list[str] = []
    for word, name in zip(words, heard, strict=True):
        speakers.append(_told(word) or name or (speakers[-1] if speakers else FIRST_SPEAKER))
    by_cue: defaultdict[int, list[int]] = defaultdict(list)
    for i, word in enumerate(words):
        if word.cue is not None and _told(word) is None:
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
            elif after and len(after) > 1 and not _ends(words[i], _SENTENCE_ENDS):
                speakers[i] = speakers[after[0]]
            elif before and len(before) > 1 and not _ends(words[before[-1]], _SENTENCE_ENDS):
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
        seconds[speakers[i]] += max(words[i].end - words[i].start, _MOMENT_S)
    return max(seconds, key=lambda speaker: seconds[speaker])


def _within(time: float, spans: Sequence[tuple[float, float]]) -> bool:
    """Whether a time lies in one of spans that are in order and do not overlap."""
    i = bisect_left(spans, (time, math.inf)) - 1
    return i >= 0 and spans[i][0] <= time <= spans[i][1]


def _overlaps(turns: Sequence[Turn]) -> list[tuple[float, float]]:
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
            if _ends(words[indices[k - 1]], _SENTENCE_ENDS) and abs(words[indices[k]].start - at) <= snap_s
        ]
        if not ends:
            continue
        best = min(ends, key=lambda k: abs(words[indices[k]].start - at))
        before, after = speakers[indices[edge - 1]], speakers[indices[edge]]
        for k in range(min(best, edge), max(best, edge)):
            speakers[indices[k]] = before if k < best else after


def _ends(word: Word, marks: tuple[str, ...]) -> bool:
    return word.text.rstrip(_CLOSERS).endswith(marks)


def _runs(words: Sequence[Word], speakers: Sequence[str], pause_s: float) -> list[tuple[str, list[Word]]]:
    """Words of one speaker in a row, without a long pause and without someone else's word in a gap.

    A change of speaker that the transcript marks ends them, even where one voice is heard.

    Words that sound at the same time, as in two cues that overlap, are not between each other.
    """
    runs: list[tuple[str, list[Word]]] = []
    latest: dict[str, tuple[int, int, float]] = {}  # speaker: its run, the index of its last word, its end
    for i, (word, speaker) in enumerate(zip(words, speakers, strict=True)):
        run, last, end = latest.get(speaker, (-1, -1, -math.inf))
        joins = run >= 0 and word.start - end <= pause_s and not word.change
        if joins:
            between = (words[k] for k in range(last + 1, i) if speakers[k] != speaker)
            joins = not any(end <= (w.start + w.end) / 2 <= word.start for w in between)
        if joins:
            runs[run][1].append(word)
        else:
            run = len(runs)
            runs.append((speaker, [word]))
        latest[speaker] = (run, i, max(end if joins else -math.inf, word.end))
    return runs


def _split(run: tuple[str, list[Word]], settings: UtteranceSettings) -> Iterator[_Piece]:
    """Cut a run where sentences end once it is long, then whatever is still too long at its best places."""
    speaker, words = run
    parts: list[list[Word]] = [[]]
    end = words[0].end
    for i, word in enumerate(words):
        parts[-1].append(word)
        end = max(end, word.end)
        is_long = end - parts[-1][0].start >= settings.long_s and _ends(word, _SENTENCE_ENDS)
        if is_long and i < len(words) - 2 and words[-1].end - end >= settings.min_length_s:
            parts.append([])
    for part in (cut for sentences in parts for cut in _cut(sentences, settings)):
        yield _Piece(part[0].start, max(w.end for w in part), speaker, tuple(part))


def _cut(words: Sequence[Word], settings: UtteranceSettings) -> Iterator[Sequence[Word]]:
    """Words in parts of about equal length, none of them too long unless it is a single word."""
    ends = list(accumulate((w.end for w in reversed(words)), max))[::-1]  # of each word and those after it
    first = 0
    while len(words) - first > 1 and ends[first] - words[first].start > settings.max_length_s:
        at = _best_cut(words, first, ends[first] - words[first].start, settings)
        yield words[first:at]
        first = at
    yield words[first:]


def _best_cut(words: Sequence[Word], first: int, length: float, settings: UtteranceSettings) -> int:
    """Where to end what begins at ``first``: at a full stop, a comma, a cue, a gap, near an even share."""
    start = words[first].start
    share = length / math.ceil(length / (0.7 * settings.max_length_s))
    best, best_score, end = first + 1, -math.inf, words[first].end
    for i in range(first + 1, len(words)):
        before, after = words[i - 1], words[i]
        end = max(end, before.end)
        if end - start > settings.max_length_s:
            break
        score = -abs(end - start - share) / share
        score += 0.4 if _ends(before, _SENTENCE_ENDS) else 0.2 if _ends(before, _CLAUSE_ENDS) else 0.0
        score += 0.15 if before.cue != after.cue else 0.0
        score += min(0.3, max(0.0, after.start - before.end))
        # Single words and snippets only where nothing else is possible.
        score -= 2.0 * ((i == first + 1) + (i == len(words) - 1))
        score -= 1.0 * (min(end - start, length - (after.start - start)) < settings.min_length_s)
        if score > best_score:
            best, best_score = i, score
    return best


def _kept(
    turns: Sequence[Turn],
    words: Sequence[Word],
    speakers: Sequence[str],
    by_label: Sequence[str | None],
    levels: Levels | None,
    settings: UtteranceSettings,
) -> tuple[list[_Piece], list[Word], list[str]]:
    """Given turns as utterances, with the words that their speakers say in them or close by.

    A turn of a voice without a name, all of whose words the transcript gives to people by name, is theirs: of
    it only long stretches without words remain.

    Returns: the utterances; the words that are in none, and their speakers.
    """
    joined = sorted(_joined(turns, settings.same_turn_s, settings.max_length_s))
    mine: defaultdict[str, list[Turn]] = defaultdict(list)
    for turn in joined:
        mine[turn.speaker].append(turn)
    starts = {speaker: [turn.start for turn in own] for speaker, own in mine.items()}
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
        if own := turn_near(middle, speaker, settings.slack_s):
            inside[own].append(word)
            continue
        left.append(i)
        if _told(word) and (theirs := turn_near(middle, by_label[i], 0.0)):
            others[theirs].append(word)
    pieces: list[_Piece] = []
    for turn in joined:
        if turn in others and turn not in inside and _NUMBERED.fullmatch(turn.speaker):
            pieces += _untold([turn], others[turn], levels, settings)
            continue
        for part, spoken in _at_changes(turn, inside[turn]):
            pieces += _parts(part, spoken, levels, len(pieces), settings)
    return pieces, [words[i] for i in left], [speakers[i] for i in left]


def _at_changes(turn: Turn, words: Sequence[Word]) -> Iterator[tuple[Turn, Sequence[Word]]]:
    """A turn with its words, cut where the transcript marks a change of speaker inside it."""
    start, first = turn.start, 0
    for i, word in enumerate(words):
        if i and word.change and start + _MOMENT_S <= word.start <= turn.end - _MOMENT_S:
            yield replace(turn, start=start, end=word.start), words[first:i]
            start, first = word.start, i
    yield replace(turn, start=start), words[first:]


def _parts(
    span: Turn, words: Sequence[Word], levels: Levels | None, before: int, settings: UtteranceSettings
) -> list[_Piece]:
    """A stretch of one speaker's as a piece, or as several where it is too long; ``before`` were made."""
    longest, shortest = settings.max_length_s, settings.min_length_s
    # Before there are as many as a speaker file claims.
    _check_number(before + max(1, math.ceil((span.end - span.start) / longest - 1e-9)))
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
        _Piece(start, end, span.speaker, tuple(part))
        for start, end, part in zip(edges, edges[1:], parts, strict=False)
    ]


def _untold(
    turns: Sequence[Turn], words: Sequence[Word], levels: Levels | None, settings: UtteranceSettings
) -> list[_Piece]:
    """Speech that no word tells of. Without any words that is all speech, however short."""
    told: list[list[float]] = []
    for word in words:
        start, end = word.start - settings.slack_s, word.end + settings.slack_s
        if told and start <= told[-1][1]:
            told[-1][1] = max(told[-1][1], end)
        else:
            told.append([start, end])
    least = settings.untold_s if words else 0.0
    pieces: list[_Piece] = []
    at = 0
    for turn in sorted(_joined(turns, settings.pause_s, settings.max_length_s)):
        while at < len(told) and told[at][1] <= turn.start:
            at += 1
        start, k = turn.start, at
        gaps = []
        while k < len(told) and told[k][0] < turn.end:
            gaps.append((start, told[k][0]))
            start = max(start, told[k][1])
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


def _numbered(
    pieces: Sequence[_Piece], turns: Sequence[Turn] | None, duration_s: float, settings: UtteranceSettings
) -> list[Utterance]:
    """Utterances with times clipped, overlap, flags and numbers."""
    clipped = sorted((_clip(p, duration_s) for p in pieces), key=lambda p: (p.start, p.end, p.speaker))
    voices = turns or sorted(
        Turn(w.start, w.end, p.speaker) for p in clipped for w in p.words if w.end > w.start
    )
    out: list[Utterance] = []
    dialogue, number, spoken = 0, 0, -math.inf
    touched = _sweep([(p.start, p.end) for p in clipped], voices)
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


def _clip(piece: _Piece, duration_s: float) -> _Piece:
    start, end = max(0.0, piece.start), max(0.0, piece.end)
    if 0 < duration_s and start < duration_s:
        end = min(end, duration_s)
    if end - start < _MOMENT_S:
        end = start + _MOMENT_S
        if 0 < duration_s and start < duration_s < end and duration_s > _MOMENT_S:
            start, end = duration_s - _MOMENT_S, duration_s
    return replace(piece, start=start, end=end)


def _confidence(piece: _Piece, around: Sequence[Turn]) -> float | None:
    """Mean confidence of the speaker's turns in an utterance; None where a transcript names the speaker."""
    if any(_told(word) for word in piece.words):
        return None
    weighed = [
        (min(piece.end, t.end) - max(piece.start, t.start), t.confidence)
        for t in around
        if t.speaker == piece.speaker and t.confidence is not None
    ]
    seconds = sum(length for length, _ in weighed)
    return sum(length * value for length, value in weighed) / seconds if seconds > 0 else None


def _overlap(piece: _Piece, around: Sequence[Turn]) -> float:
    """Share of an utterance during which someone else's turn sounds.

    Where the speaker has no turn there (a transcript's name that no label goes with), the voice heard
    longest is taken for theirs.
    """
    shared: defaultdict[str, float] = defaultdict(float)
    for turn in around:
        shared[turn.speaker] += min(piece.end, turn.end) - max(piece.start, turn.start)
    own = {piece.speaker} if piece.speaker in shared else {max(shared, key=lambda s: shared[s], default="")}
    seconds, reached = 0.0, piece.start
    for turn in sorted(t for t in around if t.speaker not in own):
        start, end = max(reached, turn.start), min(piece.end, turn.end)
        seconds += max(0.0, end - start)
        reached = max(reached, end)
    return min(1.0, max(0.0, seconds / (piece.end - piece.start)))
