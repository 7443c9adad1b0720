"""Voice features: openSMILE functionals over an utterance.

eGeMAPSv02 (Eyben et al., IEEE TAC 2016), 88, and ComParE 2016 (Schuller et al.,
Interspeech 2016), 6373. The free version of openSMILE bars commercial use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.records import RATE_HZ, Evidence, Features, UsageError, Utterance

WIDTHS = {"egemaps": 88, "compare2016": 6373}
MIN_S = 0.1  # under about 60 ms openSMILE has no frame to speak of and gives NaN
SILENCE_DBFS = -80.0  # mean level; a digital pause with dither lies at -90, a quiet far talker at -60
MIN_TURNS = 5  # of a speaker: the deviation of fewer is too loose to measure a turn by


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
    """Functionals ``(d,)`` of mono sound at 16 kHz, or None where they would mean nothing.

    That is: shorter than 0.1 s, a mean level under -80 dBFS, samples that are not
    finite, or a result that is not.

    Args:
        samples: ``(n,)`` in [-1, 1].
        feature_set: ``egemaps`` (88) or ``compare2016`` (6373).

    Raises: UsageError for another set.
    """
    if feature_set not in WIDTHS:
        raise UsageError(f"No openSMILE feature set {feature_set!r}: choose from {', '.join(WIDTHS)}.")
    # Checked before: openSMILE answers silence and NaN with finite nonsense.
    if len(samples) < MIN_S * RATE_HZ or not np.isfinite(samples).all():
        return None
    if float(np.mean(np.square(samples, dtype=np.float64))) < 10 ** (SILENCE_DBFS / 10):
        return None
    values: NDArray[np.float32] = _smile(feature_set)(samples, RATE_HZ)[0, :, 0].astype(np.float32)
    return values if np.isfinite(values).all() else None


def speaker_relative(
    values: NDArray[np.float32], present: NDArray[np.bool_], speakers: Sequence[str]
) -> NDArray[np.float32]:
    """Features beside the same ones against the speaker's own manner: ``(n, d)`` to ``(n, 2 d + 1)``.

    ``[raw, (raw - mean) / deviation over the speaker's present turns, 1]``; a speaker with
    fewer than five has zeros in the place of the second and third part.

    Args:
        speakers: ``(n,)``, of one recording.
    """
    n, d = values.shape
    out = np.zeros((n, 2 * d + 1), np.float32)
    out[:, :d] = values
    names = np.asarray(speakers)
    for speaker in sorted(set(speakers)):
        rows = np.flatnonzero((names == speaker) & present)
        if len(rows) < MIN_TURNS:
            continue
        own = values[rows].astype(np.float64)
        mean, deviation = own.mean(0), own.std(0)
        # A feature that never changes has no deviation but rounding: it stays zero.
        varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6)
        out[rows, d : 2 * d] = np.where(varies, (own - mean) / np.where(varies, deviation, 1), 0)
        out[rows, 2 * d] = 1
    return out


class AudioEncoder:
    """openSMILE functionals of each utterance.

    Args:
        name: ``egemaps`` or ``compare2016``.
        speaker_norm: append ``speaker_relative``; the width doubles, and one.
    """

    modality = "audio"

    def __init__(self, name: str, *, speaker_norm: bool = False) -> None:
        if name not in WIDTHS:
            raise UsageError(f"No openSMILE feature set {name!r}: choose from {', '.join(WIDTHS)}.")
        self.name, self.speaker_norm = name, speaker_norm
        self.width = 2 * WIDTHS[name] + 1 if speaker_norm else WIDTHS[name]

    @property
    def fingerprint(self) -> str:
        from importlib.metadata import version

        settings = (
            f"{version('opensmile')} {self.name} {self.speaker_norm} {MIN_S} {SILENCE_DBFS} {MIN_TURNS}"
        )
        return hashlib.sha256(settings.encode()).hexdigest()[:16]

    def __call__(self, evidence: Evidence, utterances: Sequence[Utterance]) -> Features:
        values = np.zeros((len(utterances), WIDTHS[self.name]), np.float32)
        present = np.zeros(len(utterances), np.bool_)
        audio = evidence.audio
        for i, utterance in enumerate(utterances):
            if audio is None:
                break
            found = functionals(audio.window(utterance.start, utterance.end), self.name)
            if found is not None:
                values[i], present[i] = found, True
        if self.speaker_norm:
            values = speaker_relative(values, present, [u.speaker for u in utterances])
        return Features(values, present)
