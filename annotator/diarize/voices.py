"""How each speaker of a recording sounds, as one vector: what ``--link-speakers`` compares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from annotator.records import Audio, Utterance

from . import DiarizerSettings  # noqa: TID251 - own package
from .clustering import directions  # noqa: TID251 - own package
from .embedded import HALF, VOICE_LEVEL_DB, Embedded, gain, loudness  # noqa: TID251 - own package

STEP = 40  # mel frames from window to window (0.4 s)
MOST_WINDOWS = 150  # of one speaker, a minute of speech; more says nothing new
LEAST_WINDOWS = 5  # about three seconds; less says too little to tell people apart by
MOST_OVERLAP = 0.2  # of an utterance in which others speak


class Voices:
    """Vectors of norm 1, one a speaker; the nearer two are (cosine), the likelier they are one person.

    The embedded diarizer's encoder and voice space, whatever found the turns.

    Raises: SetupError without the weights.
    """

    def __init__(self, device: str) -> None:
        self.diarizer = Embedded(DiarizerSettings(device=device))

    def __call__(self, audio: Audio, utterances: Sequence[Utterance]) -> dict[str, NDArray[np.float32]]:
        """Speakers who are heard alone for long enough, by name; (d,) each."""
        level = loudness(audio)
        found: dict[str, NDArray[np.float32]] = {}
        if level is None:
            return found
        by_speaker: dict[str, list[int]] = {}
        for utterance in utterances:
            if utterance.overlap <= MOST_OVERLAP:
                first, last = round(utterance.start * 100) + HALF, round(utterance.end * 100) - HALF
                middle = round((utterance.start + utterance.end) * 50)
                by_speaker.setdefault(utterance.speaker, []).extend(range(first, last + 1, STEP) or [middle])
        for speaker, centres in by_speaker.items():
            if len(centres) < LEAST_WINDOWS:
                continue
            picked = (
                np.linspace(0, len(centres) - 1, min(len(centres), MOST_WINDOWS)).round().astype(np.int64)
            )
            wanted = np.unique(np.asarray(centres, np.int64)[picked])
            windows = self.diarizer.embed(audio, wanted, gain(level, VOICE_LEVEL_DB))
            mean = directions(self.diarizer.space.project(windows)).mean(axis=0, keepdims=True)
            found[speaker] = directions(mean)[0]
        return found
