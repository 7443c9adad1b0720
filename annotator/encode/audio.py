"""Voice features of an utterance, trimmed to its speech, or how much they sound of each emotion.

openSMILE functionals: eGeMAPSv02 (Eyben et al., IEEE TAC 2016), 88, and ComParE 2016 (Schuller et al.,
Interspeech 2016), 6373; the free version of openSMILE bars commercial use. Or states of Whisper's encoder
(``whisper.py``), 2048, and scores of emotions by them (``voice.py``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from annotator.records import RATE_HZ, Evidence, Features, UsageError, Utterance
from annotator.threads import one_thread, side_by_side

from .voice import load_voice_scores
from .whisper import (
    LAYERS,
    PAD,
    STATE,
    WhisperStates,
    carried_whisper,
    load_states,
)

WIDTHS = {"egemaps": 88, "compare2016": 6373, "whisper": 2048}
MIN_S = 0.1  # under about 60 ms openSMILE has no frame to speak of and gives NaN
SILENCE_DBFS = -80.0  # mean level; a digital pause with dither lies at -90, a quiet far talker at -60
MIN_TURNS = 5  # of a speaker: the deviation of fewer is too loose to measure a turn by
FRAME = 400  # samples, 25 ms, that the ends of speech are found by
LOUD_FRAMES = 3  # in a row, of which the quietest counts: a click is no speech
QUIET_DB = 35.0  # below the loudest of these there is no speech
FLOOR_SHARE = 0.2  # of the way from the quiet to the loudest frames: so far up reaches the noise of a room
KEPT_FRAMES = 4  # before and after the speech


def trimmed(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sound without the pauses at its ends, which say nothing of the voice and change every mean.

    A cue of subtitles begins early and stays on; a turn ends with the speaker's breath. By how loud it is and
    not by who speaks when: so training, which has no diarizer, hears the same.
    """
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    if not len(frames):
        return samples
    level = 10 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-12)
    lasting = sliding_window_view(level, min(LOUD_FRAMES, len(level))).min(axis=1)
    quiet, loudest = float(np.percentile(level, 10)), float(lasting.max())
    if not np.isfinite(level).all():
        return samples
    speech = np.flatnonzero(level >= max(loudest - QUIET_DB, quiet + FLOOR_SHARE * (loudest - quiet)))
    first, last = max(int(speech[0]) - KEPT_FRAMES, 0), int(speech[-1]) + 1 + KEPT_FRAMES
    return samples[first * FRAME : last * FRAME] if last < len(frames) else samples[first * FRAME :]


def is_sound(samples: NDArray[np.float32]) -> bool:
    """Whether features mean something: at least 0.1 s above -80 dBFS, of finite samples."""
    if len(samples) < MIN_S * RATE_HZ or not np.isfinite(samples).all():
        return False
    return float(np.mean(np.square(samples, dtype=np.float64))) >= 10 ** (SILENCE_DBFS / 10)


@cache
def _smile(feature_set: str) -> Any:
    """The extractor, once a process: it keeps no state between calls."""
    import opensmile

    sets = {
        "egemaps": opensmile.FeatureSet.eGeMAPSv02,
        "compare2016": opensmile.FeatureSet.ComParE_2016,
    }
    return opensmile.Smile(sets[feature_set], opensmile.FeatureLevel.Functionals)


def functionals(samples: NDArray[np.float32], feature_set: str) -> NDArray[np.float32] | None:
    """openSMILE's functionals ``(d,)`` of mono sound at 16 kHz, or None where they would mean nothing.

    Args:
        samples: ``(n,)`` in [-1, 1].
        feature_set: ``egemaps`` (88) or ``compare2016`` (6373).
    """
    # Checked before: openSMILE answers silence and NaN with finite nonsense.
    if not is_sound(samples):
        return None
    values: NDArray[np.float32] = _smile(feature_set)(samples, RATE_HZ)[0, :, 0].astype(np.float32)
    return values if np.isfinite(values).all() else None


def against_own_manner(
    values: NDArray[np.float32], present: NDArray[np.bool_], speakers: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features ``(n, d)`` against the speaker's own manner, and for which turns ``(n,)`` that is known.

    ``(value - mean) / deviation`` over the speaker's present turns. Absent turns and those of a
    speaker with fewer than five are zeros, and so are features that don't vary.

    Args:
        speakers: ``(n,)``, of one recording.
    """
    relative = np.zeros(values.shape, np.float32)
    known = np.zeros(len(values), np.bool_)
    names = np.asarray(speakers)
    for speaker in sorted(set(speakers)):
        rows = np.flatnonzero((names == speaker) & present)
        if len(rows) < MIN_TURNS:
            continue
        own = values[rows].astype(np.float64)
        mean, deviation = own.mean(0), own.std(0)
        # A feature that never changes has no deviation but rounding: it stays zero.
        varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6)
        relative[rows] = np.where(varies, (own - mean) / np.where(varies, deviation, 1), 0)
        known[rows] = True
    return relative, known


def speaker_relative(
    values: NDArray[np.float32], present: NDArray[np.bool_], speakers: Sequence[str]
) -> NDArray[np.float32]:
    """Features beside the same ones against the speaker's own manner: ``(n, d)`` to ``(n, 2 d + 1)``.

    ``[values, values against the speaker's own manner, 1]``; the second and third part are zeros
    where the manner is not known (see ``against_own_manner``).
    """
    relative, known = against_own_manner(values, present, speakers)
    return np.concatenate([values, relative, known[:, None].astype(np.float32)], axis=1)


class AudioEncoder:
    """Features of each utterance's voice, or their ``VoiceScores``.

    Args:
        name: key of WIDTHS.
        speaker_norm: append what is measured against the speaker's own manner; the width doubles, and one.
        weights: scores as ``load_voice_scores`` takes them; the features themselves when None.
        device: for Whisper's states.

    Raises:
        SetupError: the weights don't load, or the embedded Whisper is missing.
        UsageError: an unknown name, weights for another one, or ``speaker_norm`` with weights.
    """

    modality = "audio"

    def __init__(
        self, name: str, *, speaker_norm: bool = False, weights: Path | None = None, device: str = "cpu"
    ) -> None:
        if name not in WIDTHS:
            raise UsageError(f"No audio encoder {name!r}: choose from {', '.join(WIDTHS)}.")
        self.name, self.speaker_norm, self.device = name, speaker_norm, torch.device(device)
        self.scores = None if weights is None else load_voice_scores(weights, WIDTHS[name])
        if self.scores is not None and self.scores.features != name:
            raise UsageError(f"{weights} reads {self.scores.features}, not {name}: name that in the encoder.")
        if self.scores is not None and speaker_norm:
            raise UsageError('Scores of a voice know its manner: leave out "speaker_norm" beside "weights".')
        self._digest = "" if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()
        self._whisper = carried_whisper() if name == "whisper" else None
        width = WIDTHS[name] if self.scores is None else self.scores.width
        self.width = 2 * width + 1 if speaker_norm else width

    @property
    def fingerprint(self) -> str:
        from importlib.metadata import version

        made_by = f"opensmile {version('opensmile')}"
        if self._whisper is not None:
            made_by = f"{self._whisper.fingerprint} {LAYERS} {PAD} {STATE} {version('transformers')}"
        trim = (FRAME, LOUD_FRAMES, QUIET_DB, FLOOR_SHARE, KEPT_FRAMES)
        settings = f"{made_by} {self.name} {self.speaker_norm} {MIN_S} {SILENCE_DBFS} {trim} {self._digest}"
        if self.speaker_norm:
            settings += f" {MIN_TURNS}"
        return hashlib.sha256(settings.encode()).hexdigest()[:16]

    def features(self, samples: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Features ``(d,)`` of trimmed sound, or None where they would mean nothing."""
        if self._whisper is None:
            return functionals(samples, self.name)
        if not is_sound(samples):
            return None
        with one_thread(self.device):
            values = self._states.pooled(samples)
        return values if np.isfinite(values).all() else None

    @cached_property
    def _states(self) -> WhisperStates:
        return load_states(LAYERS, str(self.device))

    def __call__(self, evidence: Evidence, utterances: Sequence[Utterance]) -> Features:
        values = np.zeros((len(utterances), WIDTHS[self.name]), np.float32)
        present = np.zeros(len(utterances), np.bool_)
        seconds = np.zeros(len(utterances))
        audio = evidence.audio

        def voice(utterance: Utterance) -> tuple[NDArray[np.float32] | None, float]:
            assert audio is not None
            samples = trimmed(audio.window(utterance.start, utterance.end))
            return self.features(samples), len(samples) / RATE_HZ

        if audio is not None and len(utterances):
            if self._whisper is not None:
                _ = self._states  # before threads ask for it
            voices = side_by_side(voice, utterances, self.device)
            for i, (found, length_s) in enumerate(voices):
                if found is not None:
                    values[i], present[i], seconds[i] = found, True, length_s
        speakers = [u.speaker for u in utterances]
        if self.scores is not None:
            values = self.scores(values, seconds, present, speakers)
        elif self.speaker_norm:
            values = speaker_relative(values, present, speakers)
        return Features(values, present)
