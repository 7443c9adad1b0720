"""Choose the face that belongs to each utterance: who of those in view is the speaker.

Two kinds of evidence: what the mouth does during the utterance itself, and what the rest of
the recording says of the pair: whether the person's mouth moves in the speaker's other
utterances, whether they are seen while the speaker speaks and not while others do, and
whether they have turned out to be somebody else. Both are log-odds and add up. In doubt
nobody is chosen: an utterance without a face loses little, a listener's face labels it wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.records import Audio, FaceTracks, Utterance

from .mouth import mouth_activity, talking

SURE = 1.2  # log-odds from which a face is the speaker's, and by which it must beat any other
MAX_UTTERANCE = 3.0  # log-odds that one utterance may add to what is known of a pair
MAX_PRIOR = 4.0  # log-odds that the rest of the recording may add to what an utterance shows
TURN = 0.75  # log-odds that one turn may add to what being in view says
GLIMPSE = 0.05  # of a speaker's frames: a person seen in so few of them may be there by chance
STILL = -0.15  # mean evidence an observation, below which a mouth in motion rests: that shot shows a listener
STILL_FRAMES = 3


@dataclass(frozen=True)
class SpeakerFaces:
    """The speaker's face in each of n utterances."""

    rows: tuple[NDArray[np.intp], ...]  # of the face tracks; none where the speaker is not surely seen
    coverage: tuple[float | None, ...]  # share of the sampled frames that show it; None where there are none
    ambiguous: tuple[bool, ...]  # faces are in view, and none of them is surely the speaker's


@dataclass(frozen=True)
class _View:
    """Who is in view during an utterance."""

    frames: int  # sampled
    heard: float  # their weights by loudness, summed
    rows: NDArray[np.intp]  # of the tracks
    loud: NDArray[np.float32]  # weight of each row
    resting: NDArray[np.bool_]  # of each row: its track's mouth rests during the utterance
    persons: NDArray[np.intp]
    talks: NDArray[np.float64]  # evidence that each person talks: of their most telling track


def choose(tracks: FaceTracks, utterances: Sequence[Utterance], audio: Audio | None) -> SpeakerFaces:
    """The speaker's face during each utterance.

    An utterance between two sampled frames takes the nearest one, if that is no further
    off than frames are apart and no cut lies between.

    A person is the speaker of an utterance if the log-odds of both kinds of evidence

        talks(u, p) + bounded(known(s, p) - max(0, known(s', p)) - max(0, known(s, p')))

    reach ``SURE``, and no other in view comes nearer than that. ``known`` sums over the other
    utterances of a speaker; s' is the other speaker who fits p best, p' the person ever seen
    beside p who fits s best, if p does not surely fit better. Persons that appearance failed to
    join (never seen beside each other, both talking) count as one.
    """
    views = _views(tracks, utterances, audio)
    prior = _Prior(tracks, utterances, views)
    rows: list[NDArray[np.intp]] = []
    ambiguous: list[bool] = []
    coverage: list[float | None] = []
    for utterance, view in zip(utterances, views, strict=True):
        speaks = prior.speakers.index(utterance.speaker)
        odds = view.talks + [
            prior.of(speaks, int(p), float(t)) for p, t in zip(view.persons, view.talks, strict=True)
        ]
        mine = _surely(view, odds, prior.beside)
        speaking = view.rows[np.isin(tracks.persons[view.rows], mine) & ~view.resting]
        rows.append(speaking)
        ambiguous.append(len(view.rows) > 0 and len(speaking) == 0)
        coverage.append(len(np.unique(tracks.times[speaking])) / view.frames if view.frames else None)
    return SpeakerFaces(tuple(rows), tuple(coverage), tuple(ambiguous))


def _surely(view: _View, odds: NDArray[np.float64], beside: NDArray[np.bool_]) -> list[int]:
    """The persons in view who are surely the speaker; usually one or none."""
    order = np.argsort(-odds, kind="stable")
    if len(order) == 0 or odds[order[0]] < SURE:
        return []
    mine = [int(view.persons[order[0]])]
    for i in order[1:]:
        person = int(view.persons[i])
        if min(view.talks[i], odds[i]) >= SURE and not beside[person, mine].any():
            mine.append(person)
        elif odds[order[0]] - odds[i] < SURE:
            return []
    return mine


class _Prior:
    """What the whole recording says of speakers and persons: ``known`` ``(S, P)``, in log-odds."""

    def __init__(self, tracks: FaceTracks, utterances: Sequence[Utterance], views: Sequence[_View]) -> None:
        self.speakers = sorted({utterance.speaker for utterance in utterances})
        n_persons = int(tracks.persons.max(initial=-1)) + 1
        shape = len(self.speakers), n_persons
        mouths, seen = np.zeros(shape), np.zeros(shape)
        heard, turns = np.zeros(len(self.speakers)), np.zeros(len(self.speakers))
        for utterance, view in zip(utterances, views, strict=True):
            s = self.speakers.index(utterance.speaker)
            mouths[s, view.persons] += np.clip(view.talks, -MAX_UTTERANCE, MAX_UTTERANCE)
            np.add.at(seen[s], tracks.persons[view.rows], view.loud)
            heard[s] += view.heard
            turns[s] += view.frames > 0
        self.known = mouths + _presence(seen, heard, turns)
        self.beside = _seen_beside(tracks, n_persons)

    def of(self, speaker: int, person: int, talks: float) -> float:
        """The bounded log-odds that a person is a speaker, without the utterance in which they ``talk``."""
        known = self.known[:, person].copy()
        known[speaker] -= np.clip(talks, -MAX_UTTERANCE, MAX_UTTERANCE)
        somebody_else = max(0.0, np.delete(known, speaker).max(initial=0.0))
        another_face = max(0.0, self.known[speaker, self.beside[person]].max(initial=0.0))
        if known[speaker] - another_face >= SURE:
            another_face = 0.0  # this person fits better
        return float(np.clip(known[speaker] - somebody_else - another_face, -MAX_PRIOR, MAX_PRIOR))


def _presence(
    seen: NDArray[np.float64], heard: NDArray[np.float64], turns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log-odds ``(S, P)`` of being seen while a speaker speaks, and less while any other does.

    More turns are more chances for a director to show somebody else, so they count by their
    square root, and one alone says little: less than ``SURE``, unless nobody else is heard.

    Args:
        seen: ``(S, P)`` frames of each speaker in which a person is seen, weighed by loudness.
        heard: ``(S,)`` all frames of each speaker, weighed alike. turns: ``(S,)`` utterances.
    """
    rate = seen / np.maximum(heard, 1e-6)[:, None]
    others = np.array([np.delete(rate, s, axis=0).max(0, initial=0.0) for s in range(len(rate))])
    ratio = np.log((rate + GLIMPSE) / (others.reshape(rate.shape) + GLIMPSE))
    bound = TURN * (turns[:, None] + (len(turns) == 1))
    odds: NDArray[np.float64] = np.clip(ratio * np.sqrt(turns)[:, None], -bound, bound)
    return odds


def _seen_beside(tracks: FaceTracks, n: int) -> NDArray[np.bool_]:
    """Which persons are ever in the same frame ``(n, n)``; nobody is beside themselves."""
    beside = np.zeros((n, n), np.bool_)
    if n == 0:
        return beside
    starts = np.flatnonzero(np.r_[True, tracks.times[1:] != tracks.times[:-1]])
    for start, stop in zip(starts, np.r_[starts[1:], len(tracks.times)], strict=True):
        present = tracks.persons[start:stop]
        beside[np.ix_(present, present)] = True
    np.fill_diagonal(beside, False)
    return beside


def _views(tracks: FaceTracks, utterances: Sequence[Utterance], audio: Audio | None) -> list[_View]:
    """Who is in view, and what their mouths do, during each utterance."""
    frame_of = np.searchsorted(tracks.frame_times, tracks.times)
    ranges = [_frames_of(tracks, utterance) for utterance in utterances]
    spoken = np.zeros(len(tracks.frame_times), np.bool_)
    for first, last in ranges:
        spoken[first:last] = True
    evidence = talking(*mouth_activity(tracks), _spacing(tracks.frame_times))
    loudness = _loudness(tracks.frame_times, spoken, audio)
    evidence = evidence * loudness[frame_of]
    views = []
    for first, last in ranges:
        low, high = np.searchsorted(frame_of, (first, last))
        rows = np.arange(low, high)
        names, of_track, counts = np.unique(tracks.tracks[rows], return_inverse=True, return_counts=True)
        sums = np.bincount(of_track, evidence[rows], len(names))
        owners = tracks.persons[rows[np.unique(of_track, return_index=True)[1]]]
        persons, of_person = np.unique(owners, return_inverse=True)
        talks = np.full(len(persons), -np.inf)
        np.maximum.at(talks, of_person, sums)
        resting = (counts >= STILL_FRAMES) & (sums / np.maximum(counts, 1) < STILL)
        # Appearance may have taken the listener of one shot for the talker of another.
        resting |= (talks[of_person] >= SURE) & (sums <= 0)
        heard, loud = float(loudness[first:last].sum()), loudness[frame_of[rows]]
        resting = resting[of_track]
        views.append(_View(last - first, heard, rows, loud, resting, persons.astype(np.intp), talks))
    return views


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
