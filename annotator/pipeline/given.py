"""Utterances that are known already, as those of a labelled corpus: their turns, and text that they lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from annotator.records import Transcript, Turn, Utterance, Word


def turns_of(given: Sequence[Utterance]) -> list[Turn]:
    """What a diarizer would have said of them."""
    return sorted(Turn(u.start, u.end, u.speaker) for u in given)


def completed(given: Sequence[Utterance], transcript: Transcript, duration_s: float) -> list[Utterance]:
    """The utterances, cut where the recording ends, those without text with the words that fall in them.

    A word falls where its middle lies, among several where its own speaker speaks, else nearest the middle.
    """
    cut = [replace(u, end=max(u.start, min(u.end, duration_s))) for u in given]
    words: dict[int, list[Word]] = {}
    for word in transcript.words:
        middle = (word.start + word.end) / 2
        over = [i for i, u in enumerate(cut) if u.start <= middle <= u.end]
        if over:
            # Whoever the transcript names, by the name that the corpus gives them.
            own = [i for i in over if word.speaker is not None and cut[i].speaker == word.speaker] or over
            best = min(own, key=lambda i: abs((cut[i].start + cut[i].end) / 2 - middle))
            words.setdefault(best, []).append(word)
    return [
        replace(u, text=" ".join(w.text for w in words[i]), words=tuple(words[i]))
        if u.text is None and i in words
        else u
        for i, u in enumerate(cut)
    ]
