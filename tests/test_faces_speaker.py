"""Choosing the speaker's face, on tracks made up for it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from annotator.faces import choose
from annotator.faces.mouth import mouth_activity
from annotator.records import RATE_HZ, Audio, FaceTracks, Utterance


def say(speaker: str, start: float, end: float) -> Utterance:
    return Utterance(0, 0, start, end, speaker, 0.0)


def tracks_of(
    shown: dict[int, NDArray[np.bool_]],
    *,
    cuts: Sequence[float] = (),
    mouth: dict[int, NDArray[np.bool_]] | None = None,
    head: frozenset[int] = frozenset(),
) -> FaceTracks:
    """Synthetic tracks: which persons are shown in which frames (4 a second), whose mouth or head moves."""
    rng = np.random.default_rng(0)
    frames = len(next(iter(shown.values())))
    face = {p: cv2.resize(rng.integers(40, 215, (6, 6), np.uint8), (48, 48)) for p in shown}
    rows = []
    for i in range(frames):
        for p, seen in shown.items():
            if not seen[i]:
                continue
            crop = face[p].astype(np.int16)
            if p in head:
                crop = crop + rng.integers(-25, 26, crop.shape)
            if mouth and p in mouth and mouth[p][i]:
                crop[34:46, 14:34] += rng.integers(-90, 91, (12, 20))
            shot = int(np.searchsorted(cuts, i / 4, "right"))
            rows.append((i / 4, shot * 100 + p, p, np.clip(crop, 0, 255).astype(np.uint8)))
    return FaceTracks(
        frame_times=np.arange(frames) / 4,
        cuts=np.asarray(cuts, np.float64),
        times=np.array([row[0] for row in rows]),
        tracks=np.array([row[1] for row in rows], np.int32),
        boxes=np.tile(np.array([0.4, 0.4, 0.6, 0.6], np.float32), (len(rows), 1)),
        crops=np.stack([row[3] for row in rows]) if rows else np.zeros((0, 48, 48), np.uint8),
        persons=np.array([row[2] for row in rows], np.int32),
    )


def during(*spans: tuple[float, float], length: float = 40) -> NDArray[np.bool_]:
    times = np.arange(int(length * 4)) / 4
    inside = [(times >= start) & (times < end) for start, end in spans]
    return np.asarray(np.any(inside, axis=0), np.bool_)


ALWAYS = during((0, 40))
NEVER = np.zeros_like(ALWAYS)
TALK = [say("A" if i % 2 == 0 else "B", 4.0 * i, 4.0 * i + 3.9) for i in range(10)]
TURN_A = during(*[(u.start, u.end) for u in TALK if u.speaker == "A"])
TURN_B = during(*[(u.start, u.end) for u in TALK if u.speaker == "B"])


def persons_of(
    tracks: FaceTracks, talk: Sequence[Utterance] = TALK, audio: Audio | None = None
) -> dict[str, set[int]]:
    """Whose faces are used for each speaker; speakers without any are left out."""
    used: dict[str, set[int]] = {}
    for utterance, rows in zip(talk, choose(tracks, talk, audio).rows, strict=True):
        if len(rows):
            used.setdefault(utterance.speaker, set()).update(tracks.persons[rows].tolist())
    return used


def test_one_person_one_speaker() -> None:
    shown = choose(tracks_of({0: ALWAYS}), [say("A", 0, 10), say("A", 12, 30)], None)
    assert [len(rows) for rows in shown.rows] == [41, 73] and shown.coverage == (1.0, 1.0)
    assert np.array_equal(shown.rows[0], np.arange(41)) and shown.ambiguous == (False, False)


def test_shot_and_reverse_shot() -> None:
    tracks = tracks_of({0: TURN_B, 1: TURN_A}, cuts=[4.0 * i for i in range(1, 10)])
    assert persons_of(tracks) == {"A": {1}, "B": {0}}
    assert all(share is not None and share > 0.9 for share in choose(tracks, TALK, None).coverage)


def test_reaction_shots_do_not_confuse() -> None:
    # A third of each turn shows the listener.
    spans = {"A": [], "B": []}  # type: dict[str, list[tuple[float, float]]]
    for u in TALK:
        spans[u.speaker].append((u.start, u.start + 2.75))
        spans["B" if u.speaker == "A" else "A"].append((u.start + 2.75, u.start + 4))
    tracks = tracks_of({0: during(*spans["A"]), 1: during(*spans["B"])})
    assert persons_of(tracks) == {"A": {0}, "B": {1}}
    assert choose(tracks, TALK, None).coverage[0] == pytest.approx(11 / 16)


@pytest.mark.parametrize("still", [True, False])
def test_one_face_through_two_voices(still: bool) -> None:
    # Seen all the time, so only the mouth can tell; without it nobody is given the face.
    tracks = tracks_of({0: ALWAYS}, mouth=None if still else {0: TURN_B}, head=frozenset({0}))
    shown = choose(tracks, TALK, None)
    for u, rows, share, ambiguous in zip(TALK, shown.rows, shown.coverage, shown.ambiguous, strict=True):
        talks = u.speaker == "B" and not still
        assert len(rows) == (16 if talks else 0) and share == (1.0 if talks else 0.0)
        assert ambiguous is not talks


def test_faces_always_in_view_are_told_apart_by_their_mouths() -> None:
    always = {0: ALWAYS, 1: ALWAYS}
    tracks = tracks_of(always, mouth={0: TURN_A, 1: TURN_B}, head=frozenset({0, 1}))
    assert persons_of(tracks) == {"A": {0}, "B": {1}}
    assert persons_of(tracks_of(always)) == {}
    assert choose(tracks_of(always), TALK, None).ambiguous == (True,) * len(TALK)
    # A silent companion of a single speaker.
    alone = [say("A", 0, 39)]
    assert persons_of(tracks_of(always, mouth={1: ALWAYS}), alone) == {"A": {1}}
    assert persons_of(tracks_of(always), alone) == {}
    # Four, each of whom speaks once.
    talk = [say(name, 10.0 * i, 10.0 * i + 9.5) for i, name in enumerate("ABCD")]
    moving = {3 - i: during((u.start, u.end)) for i, u in enumerate(talk)}
    four = tracks_of(dict.fromkeys(range(4), ALWAYS), mouth=moving, head=frozenset(range(4)))
    assert persons_of(four, talk) == {"A": {3}, "B": {2}, "C": {1}, "D": {0}}


def test_a_listener_in_motion_with_a_still_mouth_is_nobody() -> None:
    tracks = tracks_of({0: TURN_A})
    crops = tracks.crops.astype(np.int16)
    crops[:, 6:30] += np.random.default_rng(1).integers(-40, 41, (len(crops), 24, 48))
    nodding = replace(tracks, crops=np.clip(crops, 0, 255).astype(np.uint8))
    assert persons_of(tracks) == {"A": {0}}
    assert persons_of(nodding) == {}


def test_a_listener_in_close_up_is_not_used_even_taken_for_the_speaker() -> None:
    """Two people whom appearance took for one: the shot with the mouth at rest is left out."""
    shots = [u.start + 2 for u in TALK]
    talking = during(*[(u.start, u.start + 2) for u in TALK if u.speaker == "A"])
    tracks = tracks_of({0: TURN_A}, cuts=shots, mouth={0: talking}, head=frozenset({0}))
    shown = choose(tracks, TALK, None)
    for u, rows in zip(TALK, shown.rows, strict=True):
        if u.speaker == "A":
            assert len(rows) and tracks.times[rows].max() < u.start + 2


def test_a_glimpse_is_not_the_speaker() -> None:
    tracks = tracks_of({0: during((1, 2))})
    assert persons_of(tracks, [say("A", 0, 39)]) == {}


def test_fragments_of_a_speaker_count_as_one_when_their_mouths_move() -> None:
    first, second = during((0, 22)), during((22, 40))
    alone = [say("A", 0, 39)]
    both = tracks_of({0: first, 1: second}, mouth={0: ALWAYS, 1: ALWAYS})
    assert persons_of(both, alone) == {"A": {0, 1}}
    assert persons_of(tracks_of({0: first, 1: second}), alone) == {}, "either could be the listener"


def test_loud_frames_count_more() -> None:
    # One utterance: its loud half shows person 0, its silent half person 1.
    tracks = tracks_of({0: during((0, 20)), 1: during((20, 40))})
    sound = np.zeros(40 * RATE_HZ, np.int16)
    sound[: 20 * RATE_HZ] = 3000 * np.sin(np.arange(20 * RATE_HZ))
    alone = [say("A", 0, 39)]
    assert persons_of(tracks, alone, Audio(sound)) == {"A": {0}}
    assert persons_of(tracks, alone, Audio(np.zeros_like(sound))) == persons_of(tracks, alone) == {}


def test_short_utterances_take_the_nearest_frame() -> None:
    tracks = tracks_of({0: ALWAYS}, cuts=[5.0])
    talk = [say("A", 0, 4), say("A", 4.05, 4.1), say("A", 4.88, 4.94), say("A", 60, 61)]
    shown = choose(tracks, talk, None)
    assert [len(rows) for rows in shown.rows] == [17, 1, 0, 0]
    assert shown.coverage == (1.0, 1.0, None, None), "across a cut lies another shot, past the end nothing"
    assert shown.ambiguous == (False,) * 4


def test_no_faces_no_frames_no_utterances() -> None:
    empty = tracks_of({0: NEVER})
    assert choose(empty, [], None).rows == ()
    shown = choose(empty, [say("A", 0, 2)], None)
    assert len(shown.rows[0]) == 0 and shown.coverage == (0.0,) and shown.ambiguous == (False,)
    shown = choose(replace(empty, frame_times=np.zeros(0)), [say("A", 0, 2)], None)
    assert len(shown.rows[0]) == 0 and shown.coverage == (None,)


def test_mouth_activity_is_one_where_nothing_is_known() -> None:
    activity, moves = mouth_activity(tracks_of({0: ALWAYS}))
    assert (activity == 1).all() and not moves.any()
    speaking, moves = mouth_activity(tracks_of({0: ALWAYS}, mouth={0: ALWAYS}))
    assert speaking[0] == 1 and not moves[0] and (speaking[1:] > 2).all() and moves[1:].all()


def test_a_box_that_jitters_is_no_speech() -> None:
    tracks = tracks_of({0: ALWAYS})
    rng = np.random.default_rng(2)
    jittered = np.stack(
        [
            cv2.warpAffine(crop, np.array([[1, 0, x], [0, 1, y]], np.float32), (48, 48), borderMode=1)
            for crop, (x, y) in zip(tracks.crops, rng.uniform(-1.5, 1.5, (len(tracks.crops), 2)), strict=True)
        ]
    )
    activity, _ = mouth_activity(replace(tracks, crops=jittered))
    assert np.log(activity).mean() < 0.2


def test_the_numbers_of_persons_mean_nothing() -> None:
    shown = {0: TURN_B, 1: TURN_A, 2: during((0, 1.5))}
    expected = persons_of(tracks_of(shown))
    for order in itertools.permutations(range(3)):
        renamed = tracks_of({order[p]: frames for p, frames in shown.items()})
        assert persons_of(renamed) == {s: {order[p] for p in persons} for s, persons in expected.items()}
    assert expected == {"A": {1}, "B": {0}}
