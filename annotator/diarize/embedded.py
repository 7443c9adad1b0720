"""The diarizer that is always there: its weights lie beside it, nothing is downloaded.

    samples -> who of up to three speaks, in windows of ten seconds
            -> stretches in which one speaks alone -> embeddings -> speakers -> turns

Sound is read in blocks, so memory does not depend on its length; what is kept of an hour is who speaks in
each 10 ms (0.4 MB) and the embeddings of about 2,000 stretches (1.5 MB).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.records import RATE_HZ, Audio, SetupError, Turn
from annotator.threads import side_by_side

from . import Diarized, DiarizerSettings, weights
from .clustering import (
    ANOTHER,
    SAME,
    UNKNOWN,
    Floats,
    Ints,
    Stretches,
    Told,
    VoiceSpace,
    cluster,
)
from .networks import (
    ACTIVITY_S,
    ACTIVITY_START_S,
    ACTIVITY_STEP_S,
    EMBEDDING,
    HOP,
    POWERSET,
    WINDOW,
    SpeakerActivity,
    VoiceEncoder,
    mel_energies,
)

BLOCK_S = 64  # seconds of sound whose level is measured at a time
BATCH = 8  # windows that are heard at once

# The networks were made with close microphones: quiet meetings are raised, loud ones lowered.
LEVEL_DB = -20.0  # of the 95th percentile of frames, full scale = 0
MOST_GAIN_DB = 60.0  # below this lies the rounding noise of 16 bits
LEVEL_FRAME = 512  # samples (32 ms)

STEP = 500  # frames of 10 ms from window to window; of each, the middle as long as this counts
SILENCE = 0.7  # probability that nobody speaks from which nobody does
OVERLAP = 0.4  # probability that two speak, if anybody does, from which two do
PAUSE = 15  # frames up to which a pause is inside a stretch
SHORTEST, LONGEST = 20, 150  # frames of a stretch; longer ones are cut, as change may go unnoticed
TURN_PAUSE_S = 1.2  # a speaker's pauses up to this are inside the turn, if no one else speaks
SHORTEST_S = 0.1  # turns below this are dropped

ACTIVE = np.array(POWERSET, np.bool_)  # (7, 3)

# How much surer one is of a speaker with each second that is nearer to them than to the next by cosine 1.
SURE = 8.0
# Mean of that nearness over a recording, below which its speakers hardly differ.
ALIKE = 0.12


@dataclass(frozen=True)
class Heard:
    """What a recording holds, before anything is said about who speaks.

    Args:
        active: who of three speaks in each 10 ms, see ``Embedded.speaking`` (frames, 3).
        found: stretches of one voice, as their frames.
        stretches: the same for the clustering; None where there are none.
    """

    active: NDArray[np.bool_]
    found: list[Ints]
    stretches: Stretches | None


class Embedded:
    """Finds turns, which may overlap, with the weights beside this file.

    Raises: SetupError when one is missing.
    """

    def __init__(self, settings: DiarizerSettings) -> None:
        if problem := weights.missing_embedded_weights():
            raise SetupError(problem)
        self.bounds = settings.bounds
        self.device = torch.device(settings.device)
        self.activity = SpeakerActivity.load(weights.ACTIVITY.verified()).to(self.device)
        self.encoder = VoiceEncoder.load(weights.VOICE.verified()).to(self.device)
        self.space = VoiceSpace.load(weights.VOICES)

    def __call__(self, audio: Audio) -> Diarized:
        return self.turns(self.hear(audio), *self.bounds)

    def hear(self, audio: Audio) -> Heard:
        """All that takes time, for any number of speakers."""
        level = loudness(audio)
        if level is None:
            return Heard(np.zeros((0, 3), np.bool_), [], None)
        factor = gain(level)
        active = self.speaking(audio, factor)
        found = stretches_alone(active)
        if not found:
            return Heard(active, found, None)
        ends = np.array([0, *(frames[-1] + 1 for frames in found)])
        return Heard(
            active,
            found,
            Stretches(
                self.embed(audio, found, factor),
                np.array([len(frames) / 100 for frames in found], np.float32),
                np.array(
                    [np.inf, *((b[0] - end) / 100 for b, end in zip(found[1:], ends[1:], strict=False))]
                ),
                voice_before(active, found),
            ),
        )

    def turns(self, heard: Heard, least: int, most: int | None) -> Diarized:
        """Turns of so many speakers, and ``speakers_alike`` where these hardly differ."""
        if heard.stretches is None:
            return Diarized(turns_of(heard.active.any(axis=1).reshape(-1, 1)))
        told = cluster(heard.stretches, self.space, least, most)
        sure = surety(told)
        mean = float((sure * heard.stretches.seconds).sum() / heard.stretches.seconds.sum())
        label, margin = np.full(len(heard.active), -1), np.zeros(len(heard.active), np.float32)
        for frames, number, value in zip(heard.found, told.labels.tolist(), sure.tolist(), strict=True):
            label[frames], margin[frames] = number, value / 100
        speakers = voices_of(heard.active, heard.found, told.labels)
        flags = ("speakers_alike",) if mean < ALIKE else ()
        return Diarized(turns_of(speakers, label, margin), flags=flags)

    def speaking(self, audio: Audio, factor: float) -> NDArray[np.bool_]:
        """Who of three speaks in each 10 ms. (frames, 3)

        Which column a voice has holds only within ``STEP`` frames: see ``part_of``.
        """
        frames = len(audio.samples) // HOP + 1
        length = round(ACTIVITY_S * RATE_HZ)
        last = part_of(np.array([frames - 1]), frames)[0]
        found = np.zeros((frames, 3), np.bool_)
        parts = part_of(np.arange(frames), frames)

        def heard(numbers: range) -> Floats:
            starts = [number * STEP * HOP for number in numbers]
            sound = torch.stack([self.samples(audio, start, start + length, factor) for start in starts])
            chances: Floats = self.activity(sound).exp().cpu().numpy()  # (n, 589, 7)
            return chances

        batches = [range(first, min(first + BATCH, last + 1)) for first in range(0, last + 1, BATCH)]
        for numbers, batch in zip(batches, side_by_side(heard, batches, self.device), strict=True):
            for number, chance in zip(numbers, batch, strict=True):
                mine = np.arange(*np.searchsorted(parts, [number, number + 1]))
                seconds = (mine - number * STEP + 0.5) / 100
                rows = np.rint((seconds - ACTIVITY_START_S) / ACTIVITY_STEP_S).astype(np.int64)
                chance = chance[rows.clip(0, len(chance) - 1)]
                found[mine] = ACTIVE[who_speaks(chance)]
        return found

    def embed(self, audio: Audio, stretches: list[Ints], factor: float) -> Floats:
        """Embeddings of the voice in these frames of 10 ms, one for each list of frames. -> (n, 192)"""

        def embedding(frames: Ints) -> Floats:
            first = int(frames[0])
            sound = self.samples(audio, first * HOP, int(frames[-1]) * HOP + WINDOW, factor)
            mel = mel_energies(sound)[torch.from_numpy(frames - first).to(self.device)]
            voice: Floats = self.encoder((mel - mel.mean(dim=0))[None])[0].cpu().numpy()
            return voice

        found = list(side_by_side(embedding, stretches, self.device))
        return np.stack(found) if found else np.zeros((0, EMBEDDING), np.float32)

    def samples(self, audio: Audio, start: int, end: int, factor: float) -> torch.Tensor:
        """Samples of that gain, clipped to [-1, 1]; zeros outside the recording. (end - start,)"""
        inside = np.asarray(audio.samples[max(start, 0) : end], np.float32) * np.float32(factor / 32768)
        before, after = max(-start, 0), max(end - len(audio.samples), 0)
        sound = torch.from_numpy(np.pad(inside, (before, min(after, end - start)))).clamp_(-1, 1)
        return sound.to(self.device)


def loudness(audio: Audio) -> float | None:
    """95th percentile of the level of 32 ms frames that hold any sound, dB of full scale; None if none do.

    Frames of digital silence don't count, so a short speech in a long empty recording keeps its level.
    """
    levels = []
    for start in range(0, len(audio.samples), BLOCK_S * RATE_HZ):
        block = np.asarray(audio.samples[start : start + BLOCK_S * RATE_HZ], np.float32) / 32768
        block = np.pad(block, (0, -len(block) % LEVEL_FRAME)).reshape(-1, LEVEL_FRAME)
        power = (block**2).mean(axis=1)
        levels.append(10 * np.log10(power[power > 0]))
    heard = np.concatenate(levels) if levels else np.zeros(0)
    return float(np.percentile(heard, 95)) if len(heard) else None


def gain(level_db: float) -> float:
    """Factor that brings the level to ``LEVEL_DB``, at most ``MOST_GAIN_DB`` up."""
    return float(10 ** (min(LEVEL_DB - level_db, MOST_GAIN_DB) / 20))


def part_of(frames: Ints, total: int) -> Ints:
    """Number of the window of ten seconds that tells who speaks in these frames of 10 ms.

    Windows start every ``STEP`` frames; the middle of each counts, and the ends of the first and last.
    """
    length = round(ACTIVITY_S * 100)
    last = max(0, -(-(total - length) // STEP))
    return ((frames - (length - STEP) // 2) // STEP).clip(0, last)


def stretches_alone(active: NDArray[np.bool_]) -> list[Ints]:
    """Frames in which one speaker speaks alone, cut at changes of speaker and at pauses; in time order.

    What goes on from one window into the next is taken for the same voice. Each has ``SHORTEST`` to
    ``LONGEST`` frames.
    """
    alone = np.flatnonzero(active.sum(axis=1) == 1)
    # The last frames are too near the end to have a whole 25 ms.
    alone = alone[alone < len(active) - WINDOW // HOP]
    if len(alone) == 0:
        return []
    who, part = active[alone].argmax(axis=1), part_of(alone, len(active))
    changed = (np.diff(who) != 0) & (np.diff(part) == 0)
    cuts = np.flatnonzero((np.diff(alone) > PAUSE) | changed) + 1
    found = []
    for run in np.split(alone, cuts):
        found += in_pieces(run, SHORTEST)
    return found


def voice_before(active: NDArray[np.bool_], found: list[Ints]) -> Ints:
    """Whether the segmentation hears the voice of the stretch before in each stretch. (n,)"""
    first = np.array([frames[0] for frames in found])
    last = np.array([frames[-1] for frames in found[:-1]], np.int64)
    part_first, part_last = part_of(first[1:], len(active)), part_of(last, len(active))
    column_first, column_last = active[first[1:]].argmax(axis=1), active[last].argmax(axis=1)
    told = np.where(column_first == column_last, SAME, ANOTHER)
    told = np.where(part_first == part_last, told, np.where(first[1:] - last <= 1, SAME, UNKNOWN))
    return np.concatenate([[UNKNOWN], told])


def surety(told: Told) -> Floats:
    """How much nearer each stretch is to its speaker than to the next, in cosine; 1 without a next. (n,)"""
    rows = np.arange(len(told.labels))
    if told.likeness.shape[1] == 1:
        return np.ones(len(rows), np.float32)
    others = told.likeness.copy()
    others[rows, told.labels] = -np.inf
    return np.asarray(told.likeness[rows, told.labels] - others.max(axis=1), np.float32)


def in_pieces(frames: Ints, shortest: int) -> list[Ints]:
    """Frames cut evenly into pieces of up to about ``LONGEST``; none are left of fewer than ``shortest``."""
    pieces = np.array_split(frames, max(1, round(len(frames) / LONGEST + 0.2)))
    return [piece for piece in pieces if len(piece) >= shortest]


def voices_of(active: NDArray[np.bool_], stretches: list[Ints], labels: Ints) -> NDArray[np.bool_]:
    """Which speakers speak in each frame, from the labels of the stretches. (frames, 3) -> (frames, n)

    Where two overlap, each has the label of the nearest frame in which they speak alone in that window;
    speech too short for a stretch has that of the nearest frame that is known.
    """
    label = np.full(len(active), -1)
    for frames, number in zip(stretches, labels.tolist(), strict=True):
        label[frames] = number
    known = np.flatnonzero(label >= 0)
    found = np.zeros((len(active), int(labels.max()) + 1), np.bool_)
    found[known, label[known]] = True
    both = np.flatnonzero(active.sum(axis=1) > 1)
    for one in voices_in_overlap(active, label, both).T:
        found[both[one >= 0], one[one >= 0]] = True
    left = np.flatnonzero(active.any(axis=1) & ~found.any(axis=1))
    found[left] = found[known[nearest(known, left)]]
    return found


def who_speaks(chance: Floats) -> Ints:
    """The class of ``POWERSET`` that holds in each frame, from their probabilities. (n, 7) -> (n,)"""
    alone, two = 1 + chance[:, 1:4].argmax(axis=1), 4 + chance[:, 4:].argmax(axis=1)
    overlapped = chance[:, 4:].sum(axis=1) >= OVERLAP * chance[:, 1:].sum(axis=1)
    return np.where(chance[:, 0] >= SILENCE, 0, np.where(overlapped, two, alone))


def voices_in_overlap(active: NDArray[np.bool_], label: Ints, both: Ints) -> Ints:
    """The labels of the two who speak at once in these frames, which differ; -1 where there is no other.

    Each has the label of the nearest frame in which they speak alone in that window. Where both come to the
    same label, or one never speaks alone there, the nearest frame counts, and the other voice is that which
    is heard nearest in time of all the others.

    Args:
        active: who of three speaks (frames, 3).
        label: who speaks alone, -1 for nobody or several (frames,).
        both: frames in which two speak (n,).

    Returns: (n, 2)
    """
    part = part_of(np.arange(len(active)), len(active))
    known = np.flatnonzero(label >= 0)
    silent = len(active) + 1  # further than any frame: never alone, and further still who does not speak
    whose = np.full((len(both), 3), -1)
    away = np.where(active[both], silent, silent + 1)
    for number in np.unique(part[both]).tolist():
        edges = np.searchsorted(part, [number, number + 1])
        here, sure = (slice(*np.searchsorted(x, edges)) for x in (both, known))
        for column in range(3):
            alone = known[sure][active[known[sure], column]]
            if len(alone):
                near = alone[nearest(alone, both[here])]
                speaks = active[both[here], column]
                whose[here, column] = np.where(speaks, label[near], -1)
                away[here, column] = np.where(speaks, np.abs(near - both[here]), silent + 1)
    nearer = np.argsort(away, axis=1, kind="stable")[:, :2]
    found = np.take_along_axis(whose, nearer, axis=1)
    found[found[:, 0] < 0, 0] = label[known[nearest(known, both[found[:, 0] < 0])]]
    for one in np.unique(found[:, 0]).tolist():
        others = known[label[known] != one]
        same = np.flatnonzero((found[:, 0] == one) & ((found[:, 1] < 0) | (found[:, 1] == one)))
        found[same, 1] = label[others[nearest(others, both[same])]] if len(others) else -1
    return found


def nearest(values: Ints, wanted: Ints) -> Ints:
    """Indices of the values, sorted and not empty, that lie nearest to the wanted ones."""
    after = np.searchsorted(values, wanted).clip(1, max(1, len(values) - 1))
    before = after - 1
    after = after.clip(max=len(values) - 1)
    closer = np.abs(values[before] - wanted) <= np.abs(values[after] - wanted)
    return np.asarray(np.where(closer, before, after), np.int64)


def turns_of(
    active: NDArray[np.bool_], label: Ints | None = None, margin: Floats | None = None
) -> list[Turn]:
    """Turns from who speaks in each frame of 10 ms, speakers named in order of appearance.

    Pauses of a speaker up to ``TURN_PAUSE_S`` in which no one else speaks are filled.

    Args:
        label, margin: whose voice was heard alone in each frame, -1 for none, and the evidence for it in
            seconds times cosine (frames,): without them turns have no confidence.
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
        confidence = None
        if label is not None and margin is not None:
            evidence = float(margin[first:last][label[first:last] == k].sum())
            confidence = float(1 / (1 + np.exp(-SURE * evidence)))
        turns.append(Turn(first / 100, last / 100, name, confidence))
    return turns


def stretches(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
