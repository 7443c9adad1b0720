"""Words of one speaker to utterances that are neither too long nor cut at a bad place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

from annotator.records import Word

from .pieces import SENTENCE_ENDS, Piece, UtteranceSettings, ends_with

_CLAUSE_ENDS = (",", ";", ":", "，", "；", "：", "、", "،")


def runs_of(words: Sequence[Word], speakers: Sequence[str], pause_s: float) -> list[tuple[str, list[Word]]]:
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


def split_run(run: tuple[str, list[Word]], settings: UtteranceSettings) -> Iterator[Piece]:
    """Cut a run where sentences end once it is long, then whatever is still too long at its best places."""
    speaker, words = run
    parts: list[list[Word]] = [[]]
    end = words[0].end
    for i, word in enumerate(words):
        parts[-1].append(word)
        end = max(end, word.end)
        is_long = end - parts[-1][0].start >= settings.long_s and ends_with(word, SENTENCE_ENDS)
        if is_long and i < len(words) - 2 and words[-1].end - end >= settings.min_length_s:
            parts.append([])
    for part in (cut for sentences in parts for cut in _cut(sentences, settings)):
        yield Piece(part[0].start, max(w.end for w in part), speaker, tuple(part))


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
        score += 0.4 if ends_with(before, SENTENCE_ENDS) else 0.2 if ends_with(before, _CLAUSE_ENDS) else 0.0
        score += 0.15 if before.cue != after.cue else 0.0
        score += min(0.3, max(0.0, after.start - before.end))
        # Single words and snippets only where nothing else is possible.
        score -= 2.0 * ((i == first + 1) + (i == len(words) - 1))
        score -= 1.0 * (min(end - start, length - (after.start - start)) < settings.min_length_s)
        if score > best_score:
            best, best_score = i, score
    return best
