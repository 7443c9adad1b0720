"""Stretches of speech that are recognised at once: at most 30 s of sound, over as few windows as will do.

A window costs Whisper the same however little is said in it, so speech is joined across silences, and long
silences are left out of what it hears.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from annotator.records import RATE_HZ, Audio, Turn

LONGEST_S = 30.0  # what Whisper hears at once
JOIN_S = 15.0  # speech further apart is never heard together
SILENCE_S = 0.8  # what is heard of a longer silence
MARGIN_S = 0.2  # sound kept around speech
# A language other than that of most of a stretch is spoken in it where spans that last this long are in it
# with this probability, for so many seconds in all.
CLEAR_S, CLEAR, OTHER_S = 1.5, 0.6, 3.0


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

    def heard_at(self, span: Span) -> Span:
        """Where one of the spans of speech lies in what is heard, in seconds."""
        before = 0.0
        for start, end in self.heard:
            if start <= span[0] < end:
                return before + span[0] - start, before + span[1] - start
            before += end - start
        raise ValueError(f"{span} is not of this stretch")

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


def by_language(
    stretch: Stretch, language: str, language_of: Callable[[Span], tuple[str, float]]
) -> dict[str, Stretch]:
    """A stretch in which several languages are spoken in parts, one for each; itself where it is one.

    Whisper hears all of a window in one language: it translates the others, or leaves them out. Spans that
    are not clear go with the nearest that is.

    Args:
        language: of the stretch as a whole.
        language_of: the likeliest language of one of its spans of speech, and its probability.
    """
    clear: dict[Span, str] = {}
    seconds: defaultdict[str, float] = defaultdict(float)
    for span in stretch.speech if len(stretch.speech) > 1 else ():
        if span[1] - span[0] >= CLEAR_S:
            name, probability = language_of(span)
            if probability >= CLEAR:
                clear[span] = name
                seconds[name] += span[1] - span[0]
    clear = {span: name for span, name in clear.items() if name == language or seconds[name] >= OTHER_S}
    parts: defaultdict[str, list[Span]] = defaultdict(list)
    for span in stretch.speech:
        nearest = min(clear, key=lambda other: max(other[0] - span[1], span[0] - other[1]), default=None)
        parts[language if nearest is None else clear[nearest]].append(span)
    return {name: Stretch(tuple(part)) for name, part in parts.items()}


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
