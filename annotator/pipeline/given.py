"""Utterances that are known already, as those of a labelled corpus: their turns, and text that they lack."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter

from annotator.records import Transcript, Turn, Utterance, Word


def _middle(word: Word) -> float:
    return (word.start + word.end) / 2


def turns_of(given: Sequence[Utterance]) -> list[Turn]:
    """What a diarizer would have said of them."""
    return sorted(Turn(u.start, u.end, u.speaker) for u in given)


def completed(given: Sequence[Utterance], transcript: Transcript, duration_s: float) -> list[Utterance]:
    """The utterances, cut where the recording ends, those without text with the words that fall in them.

    A word falls where its middle lies, among several where its own speaker speaks, else nearest the middle.
    """
    cut = [replace(u, end=max(u.start, min(u.end, duration_s))) for u in given]
    words: dict[int, list[tuple[int, Word]]] = {}
    coming = deque(sorted(range(len(cut)), key=lambda i: cut[i].start))
    around: list[int] = []  # those that have begun and not ended
    for number, word in sorted(enumerate(transcript.words), key=lambda numbered: _middle(numbered[1])):
        middle = _middle(word)
        while coming and cut[coming[0]].start <= middle:
            around.append(coming.popleft())
        around = [i for i in around if cut[i].end >= middle]
        over = sorted(around)
        if over:
            # Whoever the transcript names, by the name that the corpus gives them.
            own = [i for i in over if word.speaker is not None and cut[i].speaker == word.speaker] or over
            best = min(own, key=lambda i: abs((cut[i].start + cut[i].end) / 2 - middle))
            words.setdefault(best, []).append((number, word))
    said = {i: tuple(word for _, word in sorted(falling, key=itemgetter(0))) for i, falling in words.items()}
    return [
        replace(u, text=" ".join(w.text for w in said[i]), words=said[i])
        if u.text is None and i in said
        else u
        for i, u in enumerate(cut)
    ]
