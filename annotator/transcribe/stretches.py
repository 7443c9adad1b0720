"""Stretches of speech that are recognised at once: at most 30 s of sound, over as few windows as will do.

A window costs Whisper the same however little is said in it, so speech is joined across silences, and long
silences are left out of what it hears.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from annotator.records import RATE_HZ, Audio, Turn

LONGEST_S = 30.0  # what Whisper hears at once
JOIN_S = 15.0  # speech further apart is never heard together
SILENCE_S = 0.8  # what is heard of a longer silence
MARGIN_S = 0.2  # sound kept around speech


Span = tuple[float, float]  # start and end in seconds of the recording


@dataclass(frozen=True)
class Stretch:
    """Where somebody speaks: spans in order, without overlap."""

    speech: tuple[Span, ...]

    @property
    def speech_s(self) -> float:
        return sum(end - start for start, end in self.speech)

    @cached_property
    def heard(self) -> tuple[Span, ...]:
        """The spans that are heard, one right after the other: the speech, with some of each silence."""
        spans = [self.speech[0]]
        for start, end in self.speech[1:]:
            silence = start - spans[-1][1]
            if silence <= SILENCE_S:
                spans[-1] = (spans[-1][0], end)
            else:
                spans[-1] = (spans[-1][0], spans[-1][1] + SILENCE_S / 2)
                spans.append((start - SILENCE_S / 2, end))
        return tuple(spans)

    @property
    def heard_s(self) -> float:
        return sum(end - start for start, end in self.heard)

    def sound(self, audio: Audio) -> NDArray[np.float32]:
        """What is heard, samples in [-1, 1)."""
        return np.concatenate([audio.window(start, end) for start, end in self.heard])

    def time(self, heard_s: float) -> float:
        """Seconds of the recording at a time of what is heard."""
        for start, end in self.heard:
            if heard_s <= end - start:
                return start + max(0.0, heard_s)
            heard_s -= end - start
        return self.heard[-1][1]


def stretches(turns: Sequence[Turn], audio: Audio) -> list[Stretch]:
    """All speech in stretches of 30 s at most, in order; longer speech is cut where it is quiet."""
    groups: list[list[Span]] = []
    for span in _spoken(turns, audio.duration_s):
        for part in _cut(*span, audio):
            last = groups[-1] if groups else None
            fits = last is not None and Stretch((*last, part)).heard_s <= LONGEST_S
            if last is not None and fits and part[0] - last[-1][1] < JOIN_S:
                last.append(part)
            else:
                groups.append([part])
    return [Stretch(tuple(group)) for group in groups]


def _spoken(turns: Sequence[Turn], duration_s: float) -> list[Span]:
    """Where anybody speaks, with a margin: spans in order, without overlap."""
    spans: list[Span] = []
    for turn in sorted(turns):
        start, end = max(0.0, turn.start - MARGIN_S), min(duration_s, turn.end + MARGIN_S)
        if end <= start:
            continue
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((start, end))
    return spans


def _cut(start: float, end: float, audio: Audio) -> Iterator[Span]:
    """Speech without a pause in parts that are not too long, cut at the quietest tenth of each last third."""
    step = RATE_HZ // 10
    while end - start > LONGEST_S:
        tail = audio.window(start + LONGEST_S * 2 / 3, start + LONGEST_S)
        energy = np.square(tail[: len(tail) // step * step]).reshape(-1, step).sum(axis=1)
        at = start + LONGEST_S * 2 / 3 + (int(energy.argmin()) + 0.5) / 10
        yield start, at
        start = at
    yield start, end
