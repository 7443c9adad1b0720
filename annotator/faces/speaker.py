"""Choose the face that belongs to each utterance: which person on the screen is which speaker.

One assignment over the whole recording, from how long a person is seen while a speaker
speaks, counted more where the mouth moves and the voice is loud. In doubt nobody is
chosen: an utterance without a face loses little, a listener's face labels it wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from annotator.records import Audio, FaceTracks, Utterance

# By how much a pair must beat its rivals. Chance gives equal rates; shot and reverse shot
# with a third of reaction shots gives 2.
MARGIN = 1.5
MIN_SEEN = 0.1  # of a speaker's frames: less is a glimpse of someone else
STILL_MOUTH = 0.8  # mean mouth activity of a face in motion below which it listens
MOVING_MOUTH = 1.3  # mean mouth activity that only speech (or eating) gives
ACTIVITY_RANGE = (0.5, 2.0)  # squared, one odd frame must not outweigh a second of others
MOTION_FLOOR = 0.05  # deviations of grey: what compression changes in a face that holds still
MAX_GAP_S = 1.0  # observations further apart say nothing of movement
BLOCK = 4096  # observations at a time

Chosen = tuple[tuple[NDArray[np.uint8], ...], tuple[float | None, ...]]


def choose(tracks: FaceTracks, utterances: Sequence[Utterance], audio: Audio | None) -> Chosen:
    """The speaker's face during each utterance.

    An utterance between two sampled frames takes the nearest one, if that is no further
    off than frames are apart and no cut lies between.

    Returns: for each utterance the crops ``(k_i, 48, 48)``, none where the speaker is not
    known to be seen, and the share of sampled frames that show them: 0.0 where none does,
    None where no frame was sampled.
    """
    persons = match_persons(tracks, utterances, audio)
    frame_of = np.searchsorted(tracks.frame_times, tracks.times)
    shown: list[NDArray[np.uint8]] = []
    coverage: list[float | None] = []
    for utterance in utterances:
        first, last = _frames_of(tracks, utterance)
        low, high = np.searchsorted(frame_of, (first, last))
        mine = np.isin(tracks.persons[low:high], list(persons.get(utterance.speaker, ())))
        rows = low + np.flatnonzero(mine)
        shown.append(tracks.crops[rows])
        frames = last - first
        coverage.append(len(np.unique(frame_of[rows])) / frames if frames else None)
    return tuple(shown), tuple(coverage)


def match_persons(
    tracks: FaceTracks, utterances: Sequence[Utterance], audio: Audio | None
) -> dict[str, frozenset[int]]:
    """The persons that are each speaker; speakers without one are left out.

    For speaker s and person p, W[s, p] is the time p is seen while s speaks, each frame
    weighted by squared mouth activity and loudness, shared among those who speak at once. Each
    speaker gets at most one person by the assignment that maximises the sum of
    W[s, p] * W[s, p] / sum_s' W[s', p]. A pair stands only if

    - p's rate W[s, p] / (time s speaks) is 1.5 times that with any other speaker,
    - no other person who could be s comes near it,
    - p is seen in a tenth of s's frames, and
    - p does not visibly listen: a face in motion with a still mouth.

    Persons that appearance failed to join are added to a speaker, and are no rivals, if
    they pass the same tests, are never seen beside those already found, and all move
    their mouths.
    """
    from scipy.optimize import linear_sum_assignment

    speakers = sorted({utterance.speaker for utterance in utterances})
    if not speakers or len(tracks.times) == 0:
        return {}
    n_persons = int(tracks.persons.max()) + 1
    frame_of = np.searchsorted(tracks.frame_times, tracks.times)
    active = np.zeros((len(tracks.frame_times), len(speakers)), np.float32)
    for utterance in utterances:
        first, last = _frames_of(tracks, utterance)
        active[first:last, speakers.index(utterance.speaker)] = 1
    active /= np.maximum(active.sum(1, keepdims=True), 1)
    active *= _loudness(tracks.frame_times, np.any(active, axis=1), audio)[:, None]

    activity, moves = mouth_activity(tracks)
    # A talker's mouth is on average only about 1.5 times as active as when they listen (YuNet's boxes and
    # HOG's, two people in view); squared, that stands clear of chance.
    weight = np.clip(activity, *ACTIVITY_RANGE) ** 2
    while_speaking = active[frame_of]  # (k, S)

    def by_pair(values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Sums over each speaker's frames, by person ``(S, P)``."""
        return np.stack(
            [np.bincount(tracks.persons, column * values, n_persons) for column in while_speaking.T]
        )

    seen = by_pair(np.ones_like(weight))
    evidence = by_pair(weight)  # W
    spoken = np.maximum(active.sum(0, dtype=np.float64), 1e-9)[:, None]
    rate = evidence / spoken
    score = evidence * evidence / np.maximum(evidence.sum(0), 1e-9)
    moving = by_pair(moves.astype(np.float32))
    moving_activity = by_pair(activity * moves) / np.maximum(moving, 1e-9)
    listens = (moving > seen / 2) & (moving_activity < STILL_MOUTH)

    allowed = (seen / spoken >= MIN_SEEN) & (evidence > 0) & ~listens
    for s in range(len(speakers)):
        others = np.delete(rate, s, axis=0)
        allowed[s] &= rate[s] >= MARGIN * others.max(0, initial=0.0)

    rows, columns = linear_sum_assignment(-score)
    pairs = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    taken = {p for s, p in pairs.items() if allowed[s, p]}
    found: dict[str, frozenset[int]] = {}
    for s, p in pairs.items():
        rivals = [q for q in range(n_persons) if q != p and q not in taken - {p}]
        if not allowed[s, p]:
            continue
        mine = {p}
        speaking = allowed[s] & (moving_activity[s] >= MOVING_MOUTH)
        for q in sorted(rivals, key=lambda q: -evidence[s, q]):
            if speaking[p] and speaking[q] and not _seen_beside(tracks, q, mine):
                mine.add(q)
        if score[s, p] < MARGIN * score[s, [q for q in rivals if q not in mine]].max(initial=0.0):
            continue
        found[speakers[s]] = frozenset(mine)
    return found


def _seen_beside(tracks: FaceTracks, person: int, others: set[int]) -> bool:
    """Whether a person is ever in the same frame as one of the others."""
    times = tracks.times[tracks.persons == person]
    return bool(np.isin(times, tracks.times[np.isin(tracks.persons, list(others))]).any())


def mouth_activity(tracks: FaceTracks) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """How much more the mouth changes than the eyes and brow since the observation before.

    The ratio cancels what moves both: the head, the light, a box that jitters. 1 where
    nothing moves or nothing is known, such as a track's first frame and still pictures.

    Returns: activity ``(k,)`` and whether the face moves at all ``(k,)``.
    """
    k = len(tracks.times)
    activity = np.ones(k, np.float32)
    moves = np.zeros(k, np.bool_)
    order = np.lexsort((tracks.times, tracks.tracks))
    before, after = order[:-1], order[1:]
    linked = tracks.tracks[before] == tracks.tracks[after]
    linked &= tracks.times[after] - tracks.times[before] <= MAX_GAP_S
    before, after = before[linked], after[linked]
    for start in range(0, len(after), BLOCK):
        rows = after[start : start + BLOCK]
        change = np.abs(
            _standard(tracks.crops[rows]) - _standard(tracks.crops[before[start : start + BLOCK]])
        )
        side = change.shape[1]
        mouth = change[:, side * 2 // 3 :, side // 4 : side * 3 // 4].mean((1, 2))
        brow = change[:, side // 6 : side // 2, side // 6 : side * 5 // 6].mean((1, 2))
        activity[rows] = (mouth + MOTION_FLOOR) / (brow + MOTION_FLOOR)
        moves[rows] = np.maximum(mouth, brow) > MOTION_FLOOR
    return activity, moves


def _standard(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    x = crops.astype(np.float32)
    x -= x.mean((1, 2), keepdims=True)
    x /= np.maximum(x.std((1, 2), keepdims=True), 1.0)
    return x


def _spacing(frame_times: NDArray[np.float64]) -> float:
    """Usual time between two sampled frames, seconds; 0 for fewer than two."""
    return float(np.median(np.diff(frame_times))) if len(frame_times) > 1 else 0.0


def _frames_of(tracks: FaceTracks, utterance: Utterance) -> tuple[int, int]:
    """Range of sampled frames within an utterance, or the nearest one; empty when there is none."""
    times = tracks.frame_times
    first, last = np.searchsorted(times, utterance.start), np.searchsorted(times, utterance.end, "right")
    if first < last or len(times) == 0:
        return int(first), int(last)
    middle = (utterance.start + utterance.end) / 2
    near = int(np.abs(times - middle).argmin())
    between = sorted((middle, float(times[near])))
    cut = ((tracks.cuts > between[0]) & (tracks.cuts <= between[1])).any()
    if cut or between[1] - between[0] > _spacing(times):
        return int(first), int(first)
    return near, near + 1


def _loudness(
    frame_times: NDArray[np.float64], spoken: NDArray[np.bool_], audio: Audio | None
) -> NDArray[np.float32]:
    """Weight of each frame ``(m,)``, 0 to 1: its sound against the mean of all speech. Ones without sound."""
    loud = np.ones(len(frame_times), np.float32)
    if audio is None or not spoken.any():
        return loud
    half = max(_spacing(frame_times), 0.1) / 2
    for i in np.flatnonzero(spoken):
        window = audio.window(frame_times[i] - half, frame_times[i] + half)
        loud[i] = np.sqrt(np.mean(window * window)) if len(window) else 0.0
    mean = float(loud[spoken].mean())
    if mean <= 0:
        return np.ones(len(frame_times), np.float32)
    weight: NDArray[np.float32] = np.minimum(loud / mean, 1.0).astype(np.float32)
    return weight
