"""Utterances made for tests."""

from __future__ import annotations

from annotator.records import Utterance


def say(
    text: str | None, speaker: str = "A", start: float = 0, end: float = 1, dialogue: int = 0
) -> Utterance:
    return Utterance(dialogue, 0, start, end, speaker, 0.0, text)
