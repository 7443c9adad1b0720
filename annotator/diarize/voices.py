"""How each speaker of a recording sounds, as one vector: what ``--link-speakers`` compares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from annotator.records import Audio, Utterance

from . import DiarizerSettings
from .clustering import directions
from .embedded import Embedded, gain, in_pieces, loudness
from .networks import HOP, WINDOW

MOST_STRETCHES = 40  # of one speaker, up to 100 s of speech; more says nothing new
SHORTEST = 60  # frames of 10 ms of an utterance that is listened to
LEAST_S = 3.0  # speech of a speaker; less says too little to tell people apart by
MOST_OVERLAP = 0.2  # of an utterance in which others speak


class Voices:
    """Vectors of norm 1, one a speaker; the nearer two are (cosine), the likelier they are one person.

    The embedded diarizer's encoder and voice space, whatever found the turns.

    Raises: SetupError without the weights.
    """

    def __init__(self, device: str) -> None:
        self.diarizer = Embedded(DiarizerSettings(device=device))

    def __call__(self, audio: Audio, utterances: Sequence[Utterance]) -> dict[str, NDArray[np.float32]]:
        """Speakers who are heard alone for long enough, by name; (192,) each."""
        level = loudness(audio)
        found: dict[str, NDArray[np.float32]] = {}
        if level is None:
            return found
        whole = (len(audio.samples) - WINDOW) // HOP + 1  # frames
        by_speaker: dict[str, list[NDArray[np.int64]]] = {}
        for utterance in utterances:
            if (utterance.overlap or 0.0) <= MOST_OVERLAP:
                frames = np.arange(round(utterance.start * 100), min(round(utterance.end * 100), whole))
                by_speaker.setdefault(utterance.speaker, []).extend(in_pieces(frames, SHORTEST))
        for speaker, pieces in by_speaker.items():
            if sum(map(len, pieces)) < LEAST_S * 100:
                continue
            picked = (
                np.linspace(0, len(pieces) - 1, min(len(pieces), MOST_STRETCHES)).round().astype(np.int64)
            )
            chosen = [pieces[k] for k in np.unique(picked).tolist()]
            vectors = self.diarizer.space.project(self.diarizer.embed(audio, chosen, gain(level)))
            seconds = np.array([len(piece) for piece in chosen], np.float32)
            found[speaker] = directions((vectors * seconds[:, None]).sum(axis=0, keepdims=True))[0]
        return found
