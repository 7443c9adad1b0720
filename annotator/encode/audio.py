"""Voice features: openSMILE functionals over an utterance, or how much they sound of each emotion.

eGeMAPSv02 (Eyben et al., IEEE TAC 2016), 88, and ComParE 2016 (Schuller et al.,
Interspeech 2016), 6373. The free version of openSMILE bars commercial use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from annotator import plain_json
from annotator.records import RATE_HZ, Evidence, Features, SetupError, UsageError, Utterance

WIDTHS = {"egemaps": 88, "compare2016": 6373}
MIN_S = 0.1  # under about 60 ms openSMILE has no frame to speak of and gives NaN
SILENCE_DBFS = -80.0  # mean level; a digital pause with dither lies at -90, a quiet far talker at -60
MIN_TURNS = 5  # of a speaker: the deviation of fewer is too loose to measure a turn by
LIMIT = 4.0  # deviations from the mean: further out lies an odd recording, not a stronger emotion
MOST_DOUBT = 8.0  # growth of a log temperature with the log distance
FURTHEST = 0.35  # log distance of a turn from training; what the growth of doubt was learned from lies nearer


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


@dataclass(frozen=True)
class VoiceScores:
    """How much a turn sounds of each emotion: two linear classifiers over functionals.

    One reads the functionals against the statistics of its training, the other against the speaker's
    own manner. Both are calibrated: the softmax of a turn's scores are probabilities. A temperature fitted
    on turns like those of training is too sure of others (Ovadia et al., NeurIPS 2019), so it grows with
    a turn's distance from training: the scores of a turn far from it are closer together.
    """

    features: str  # the openSMILE set, key of WIDTHS
    labels: tuple[str, ...]  # k
    mean: NDArray[np.float32]  # (d,)
    scale: NDArray[np.float32]  # (d,) one over the deviation; 0 for a feature that never varied
    plain: NDArray[np.float32]  # (k, d + 1), the last column the bias
    relative: NDArray[np.float32]  # (k, d + 1)
    basis: NDArray[np.float32]  # (c, d) the principal directions of training turns, orthonormal rows
    usual: float  # mean distance of the training turns
    doubt: tuple[float, float]  # growth of the two log temperatures with the log distance

    def standardised(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Functionals ``(n, d)`` against the statistics of the training, in [-4, 4]."""
        near: NDArray[np.float32] = np.clip((values - self.mean) * self.scale, -LIMIT, LIMIT)
        return near

    def log_distances(self, near: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log of how far turns lie from training, ``(n,)``: 0 for a usual training turn, 0.35 at most.

        A turn's distance is what the principal directions of training leave of its standardised functionals
        ``near`` (n, d), root of the mean square: a usual measure of novelty. Short turns lie further than
        whole sentences, rightly so.
        """
        basis = self.basis.astype(np.float64)
        found = np.zeros(len(near))
        for i, turn in enumerate(near):
            row = turn.astype(np.float64)
            left = max(row @ row - np.square(basis @ row).sum(), 0.0)
            found[i] = 0.5 * np.log(max(left / len(row), 1e-12)) - np.log(self.usual)
        return np.clip(found, 0, FURTHEST)

    def __call__(
        self, values: NDArray[np.float32], present: NDArray[np.bool_], speakers: Sequence[str] | None
    ) -> NDArray[np.float32]:
        """Functionals ``(n, d)`` to ``[plain, relative, 1]``, ``(n, 2 k + 1)``; ``(n, k)`` without speakers.

        The second and third part are zeros where the speaker's manner is not known, and absent
        turns are all zeros.

        Args:
            speakers: ``(n,)``, of one recording; None: the plain scores only.
        """
        near = self.standardised(values)
        warmth = np.exp(self.log_distances(near)[:, None] * self.doubt).astype(np.float32)
        plain = _linear(near, self.plain) * present[:, None] / warmth[:, :1]
        if speakers is None:
            return plain
        relative, known = against_own_manner(values, present, speakers)
        scores = _linear(np.clip(relative, -LIMIT, LIMIT), self.relative) * known[:, None] / warmth[:, 1:]
        return np.concatenate([plain, scores, known[:, None].astype(np.float32)], axis=1)


def _linear(rows: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """``rows (n, d)`` times ``weight (k, d + 1)``: ``(n, k)``.

    Row by row in double precision, so that a turn's scores don't depend on how many others there are.
    """
    matrix, bias = weight[:, :-1].astype(np.float64), weight[:, -1].astype(np.float64)
    out = np.zeros((len(rows), len(weight)), np.float32)
    for i, row in enumerate(rows):
        out[i] = matrix @ row.astype(np.float64) + bias
    return out


def load_voice_scores(file: Path) -> VoiceScores:
    """The classifiers in a safetensors file whose metadata has their ``config``.

    Raises: SetupError when the file is something else.
    """
    try:
        with safe_open(file, "np") as stored:
            config = plain_json.loads((stored.metadata() or {})["config"])
            arrays = {name: stored.get_tensor(name).astype(np.float32) for name in stored.keys()}
        width, classes = WIDTHS[str(config["features"])], len(config["labels"])
        if "basis" not in arrays:  # files of the first version know no distance
            config |= {"usual": 1, "doubt": (0, 0)}
            arrays["basis"] = np.zeros((0, width), np.float32)
        plain, relative = map(float, config["doubt"])
        scores = VoiceScores(
            features=str(config["features"]),
            labels=tuple(map(str, config["labels"])),
            usual=float(config["usual"]),
            doubt=(plain, relative),
            **arrays,
        )
        vector, matrix, directions = (width,), (classes, width + 1), (len(arrays["basis"]), width)
        shapes = {
            "mean": vector, "scale": vector, "plain": matrix, "relative": matrix, "basis": directions,
        }  # fmt: skip
        if not (0 < scores.usual < np.inf and 0 <= min(scores.doubt) and max(scores.doubt) <= MOST_DOUBT):
            raise ValueError(f"usual is not positive, or doubt not from 0 to {MOST_DOUBT:g}")
        for name, shape in shapes.items():
            if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
                raise ValueError(f"{name} is not {shape} finite numbers")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SetupError(f"{file} holds no voice scores of this version: {reason}") from error
    return scores


class AudioEncoder:
    """openSMILE functionals of each utterance, or its ``VoiceScores``.

    Args:
        name: ``egemaps`` or ``compare2016``.
        speaker_norm: append what is measured against the speaker's own manner; the width doubles, and one.
        weights: scores as ``load_voice_scores`` takes them; functionals themselves when None.

    Raises:
        SetupError: the weights don't load.
        UsageError: an unknown name, or weights for another one.
    """

    modality = "audio"

    def __init__(self, name: str, *, speaker_norm: bool = False, weights: Path | None = None) -> None:
        if name not in WIDTHS:
            raise UsageError(f"No openSMILE feature set {name!r}: choose from {', '.join(WIDTHS)}.")
        self.name, self.speaker_norm = name, speaker_norm
        self.scores = None if weights is None else load_voice_scores(weights)
        if self.scores is not None and self.scores.features != name:
            raise UsageError(f"{weights} reads {self.scores.features}, not {name}: name that in the encoder.")
        self._digest = "" if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()
        width = WIDTHS[name] if self.scores is None else len(self.scores.labels)
        self.width = 2 * width + 1 if speaker_norm else width

    @property
    def fingerprint(self) -> str:
        from importlib.metadata import version

        settings = (
            f"{version('opensmile')} {self.name} {self.speaker_norm} {MIN_S} {SILENCE_DBFS} {MIN_TURNS}"
        )
        if self.scores is not None:
            settings += f" {LIMIT} {self._digest}"
            if len(self.scores.basis):
                settings += f" {FURTHEST}"
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
        speakers = [u.speaker for u in utterances] if self.speaker_norm else None
        if self.scores is not None:
            values = self.scores(values, present, speakers)
        elif speakers is not None:
            values = speaker_relative(values, present, speakers)
        return Features(values, present)
