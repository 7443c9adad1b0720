"""Faces: finding and following them in real pictures, and choosing the speaker's."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from annotator.faces import FaceSettings, FaceTracker, choose, make_detector
from annotator.faces.detect import Face, HogDetector, YuNetDetector
from annotator.faces.persons import MAX_CLUSTERED, cluster, join_tracks
from annotator.faces.picture import face_crop, likeness, shot_changed, thumbnail
from annotator.faces.speaker import match_persons, mouth_activity
from annotator.records import RATE_HZ, Audio, FaceTracks, SetupError, UsageError, Utterance

Frame = NDArray[np.uint8]


@pytest.fixture(scope="module")
def portrait() -> Frame:
    """Eileen Collins, NASA, public domain: 512 x 512, one face of about 110 px."""
    import skimage.data

    picture: Frame = skimage.data.astronaut()
    return picture


@pytest.fixture(scope="module")
def yunet(shared: Path) -> Path:
    return shared / "models" / "yunet_n_320_320.onnx"


def scene(
    portrait: Frame, left: int, *, zoom: float = 0.7, tint: tuple[int, int, int] = (90, 120, 60)
) -> Frame:
    """The portrait pasted on a plain 640 x 360 background."""
    side = int(512 * zoom)
    small = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)[:360]
    frame = np.full((360, 640, 3), tint, np.uint8)
    frame[: len(small), left : left + side] = small
    return frame


def room(seed: int) -> Frame:
    """A shot without a face: large soft patches."""
    patches = np.random.default_rng(seed).integers(0, 255, (5, 8, 3), np.uint8)
    return np.asarray(cv2.resize(patches, (640, 360), interpolation=cv2.INTER_CUBIC))


def track(frames: Sequence[Frame], settings: FaceSettings | None = None) -> FaceTracks:
    tracker = FaceTracker(settings or FaceSettings(detector="hog"))
    for i, frame in enumerate(frames):
        tracker.add(i / 4, frame)
    return tracker.finish()


def valid(tracks: FaceTracks) -> None:
    k = len(tracks.times)
    assert tracks.crops.shape == (k, 48, 48) and tracks.crops.dtype == np.uint8
    assert tracks.boxes.shape == (k, 4) and tracks.persons.shape == tracks.tracks.shape == (k,)
    assert np.isin(tracks.times, tracks.frame_times).all()
    assert (np.diff(tracks.times) >= 0).all()
    assert (tracks.boxes >= 0).all() and (tracks.boxes <= 1).all()
    assert (tracks.boxes[:, 2:] > tracks.boxes[:, :2]).all()
    for person in np.unique(tracks.persons):
        times = tracks.times[tracks.persons == person]
        assert len(np.unique(times)) == len(times), "one person, two faces in a frame"


def decode(ffmpeg: str, file: Path) -> Iterator[Frame]:
    """Frames at 4 a second, 640 x 360."""
    command = [ffmpeg, "-nostdin", "-loglevel", "error", "-i", str(file), "-vf", "fps=4,scale=640:360"]
    raw = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    ).stdout
    yield from np.frombuffer(raw, np.uint8).reshape(-1, 360, 640, 3)


# Detectors and pictures


@pytest.mark.parametrize("kind", ["hog", "yunet"])
def test_detector_frames_a_face_as_in_training(
    kind: str, portrait: Frame, request: pytest.FixtureRequest
) -> None:
    # FER2013's pictures: eyes at 0.40 of the height, mouth at 0.74; here eyes at y = 105, mouth at 145.
    detector = HogDetector() if kind == "hog" else YuNetDetector(request.getfixturevalue("yunet"))
    (face,) = [face for face in detector(portrait) if face.begins]
    top = face.y - face.side / 2
    assert (105 - top) / face.side == pytest.approx(0.40, abs=0.05)
    assert (145 - top) / face.side == pytest.approx(0.74, abs=0.05)
    assert face.x == pytest.approx(225, abs=0.05 * face.side)


def test_small_and_wide_frames(portrait: Frame) -> None:
    for width, height in ((1600, 100), (120, 90), (33, 300)):
        HogDetector()(np.zeros((height, width, 3), np.uint8))
    wide = np.zeros((256, 1920, 3), np.uint8)
    wide[:, 1200 : 1200 + 512] = portrait[:256]
    (face,) = [face for face in HogDetector()(wide) if face.begins]
    assert face.x == pytest.approx(1424, abs=15)


def test_landmarks_level_the_eyes(portrait: Frame, yunet: Path) -> None:
    close = cv2.resize(portrait[20:240, 114:334], (640, 640))
    turned = cv2.warpAffine(close, cv2.getRotationMatrix2D((320, 300), -20, 1), (640, 640))
    detector = YuNetDetector(yunet)
    (straight,), (tilted,) = detector(close), detector(turned)
    assert tilted.angle - straight.angle == pytest.approx(20, abs=5)
    level = likeness(face_crop(close, straight), face_crop(turned, tilted))
    upright = likeness(face_crop(close, straight), face_crop(turned, replace(tilted, angle=0.0)))
    assert level > 0.8 and level > upright + 0.1


def test_crop_reaches_over_the_edge_and_keeps_place() -> None:
    frame = np.zeros((100, 100, 3), np.uint8)
    frame[:, 50:] = 200
    crop = face_crop(frame, Face(50, 50, 96))
    assert crop[:, :23].max() == 0 and crop[:, 25:].min() == 200
    outside = face_crop(frame, Face(95, 5, 60))
    assert outside.shape == (48, 48) and (outside == 200).all()


def test_face_overlap() -> None:
    assert Face(0, 0, 10).overlap(Face(0, 0, 10)) == 1
    assert Face(0, 0, 10).overlap(Face(5, 0, 10)) == pytest.approx(50 / 150)
    assert Face(0, 0, 10).overlap(Face(0, 0, 5)) == pytest.approx(0.25)
    assert Face(0, 0, 10).overlap(Face(10, 0, 10)) == 0


def test_shot_change(portrait: Frame) -> None:
    a, moved, other = thumbnail(scene(portrait, 100)), thumbnail(scene(portrait, 112)), thumbnail(room(1))
    assert not shot_changed(a, a) and not shot_changed(a, moved)
    assert shot_changed(a, other)
    assert not shot_changed(a, np.clip(a.astype(int) + 20, 0, 255).astype(np.uint8)), "a light is switched on"


# Tracking


def test_one_moving_face_is_one_track(portrait: Frame) -> None:
    tracks = track([scene(portrait, 40 + 8 * i) for i in range(13)])
    valid(tracks)
    assert len(tracks.times) == 13 and len(tracks.cuts) == 0
    assert set(tracks.tracks) == {0} and set(tracks.persons) == {0}
    centres = (tracks.boxes[:, 0] + tracks.boxes[:, 2]) / 2 * 640
    assert centres == pytest.approx(40 + 8 * np.arange(13) + 224 * 0.7, abs=12)
    assert min(likeness(tracks.crops[0], crop) for crop in tracks.crops) > 0.5


def test_cuts_end_tracks_and_appearance_joins_them(portrait: Frame) -> None:
    shots = [scene(portrait, 60)] * 5 + [room(1)] * 3 + [scene(portrait, 220)] * 5
    tracks = track(shots)
    valid(tracks)
    assert tracks.cuts.tolist() == [1.25, 2.0]
    assert len(set(tracks.tracks)) == 2, "a track never crosses a cut"
    assert set(tracks.persons) == {0}
    assert tracks.times.tolist() == [i / 4 for i in [*range(5), *range(8, 13)]]


def test_a_face_that_leaves_is_not_followed_into_the_wall(portrait: Frame) -> None:
    gone = scene(portrait, 60)
    gone[:] = gone[-1, -1]
    covered = [scene(portrait, 60)] * 5 + [gone] * 6
    tracks = track(covered)
    assert tracks.times.max() <= 1.0


def test_two_faces_at_once_are_two_persons(portrait: Frame) -> None:
    pair = np.concatenate([portrait, portrait[:, ::-1]], 1)
    pair = cv2.resize(pair, (960, 480), interpolation=cv2.INTER_AREA)
    tracks = track([pair] * 5)
    valid(tracks)
    assert len(tracks.times) == 10 and len(set(tracks.persons)) == 2


def test_nothing_found_and_nothing_seen() -> None:
    for frames in ([], [room(3)] * 3):
        tracks = track(frames)
        valid(tracks)
        assert len(tracks.frame_times) == len(frames) and len(tracks.times) == 0


def test_frames_are_checked(portrait: Frame) -> None:
    tracker = FaceTracker(FaceSettings(detector="hog"))
    with pytest.raises(ValueError, match="uint8"):
        tracker.add(0.0, portrait.astype(np.float32))
    tracker.add(0.5, portrait)
    with pytest.raises(ValueError, match="after"):
        tracker.add(0.5, portrait)


def test_settings_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no file was given.*hog"):
        make_detector(FaceSettings(detector="yunet"))
    with pytest.raises(SetupError, match="is no file"):
        make_detector(FaceSettings(detector="yunet", yunet_file=tmp_path / "none.onnx"))
    with pytest.raises(UsageError, match="auto, yunet, hog"):
        make_detector(FaceSettings(detector="haar"))  # type: ignore[arg-type]
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    with pytest.raises(SetupError, match="fixed 320 x 320"):
        make_detector(FaceSettings(yunet_file=tmp_path / "broken.onnx"))
    assert make_detector(FaceSettings()).name == "hog"


@pytest.mark.parametrize("detector", ["hog", "yunet"])
@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("single_face.mp4", 0, 2.25),
        ("face_noface.mov", 0, 2.25),
        ("noface_face.mov", 4, 6),
        ("no_face.mp4", None, None),
    ],
)
def test_real_videos(
    detector: str, name: str, first: float | None, last: float | None, shared: Path, yunet: Path, ffmpeg: str
) -> None:
    settings = FaceSettings(detector=detector, yunet_file=yunet)  # type: ignore[arg-type]
    tracks = track(list(decode(ffmpeg, shared / "media" / "faces" / name)), settings)
    valid(tracks)
    if first is None or last is None:
        assert len(tracks.times) == 0
        return
    assert set(tracks.persons) == {0}
    assert tracks.times[0] == pytest.approx(first, abs=0.3) and tracks.times[-1] == pytest.approx(
        last, abs=0.3
    )
    assert len(tracks.times) >= 4 * (last - first) - 1


# Persons


def test_cluster_keeps_apart_what_must_be() -> None:
    distances = np.array([[0, 0.1, 0.2], [0.1, 0, 0.1], [0.2, 0.1, 0]], np.float32)
    free = np.zeros((3, 3), np.bool_)
    assert len(set(cluster(distances, free, 0.3).tolist())) == 1
    apart = free.copy()
    apart[0, 2] = apart[2, 0] = True
    joined = cluster(distances, apart, 0.3)
    assert joined[0] != joined[2] and len(set(joined.tolist())) == 2
    assert len(set(cluster(distances, free, 0.05).tolist())) == 3


def test_many_tracks_join_their_persons() -> None:
    rng = np.random.default_rng(0)
    looks = [cv2.resize(rng.integers(0, 255, (6, 6), np.uint8), (48, 48)) for _ in range(3)]
    colours = [rng.dirichlet(np.ones(64)).astype(np.float32) for _ in range(3)]
    n = MAX_CLUSTERED + 60
    person = rng.integers(0, 3, n)
    crops = np.stack([looks[p] for p in person]).astype(np.int16) + rng.integers(-9, 10, (n, 48, 48))
    joined = join_tracks(
        np.arange(n, dtype=np.float64),
        np.arange(n, dtype=np.int32),
        np.clip(crops, 0, 255).astype(np.uint8),
        {i: colours[p] for i, p in enumerate(person)},
    )
    assert len(set(joined.tolist())) == 3
    assert len({(int(a), int(b)) for a, b in zip(person, joined, strict=True)}) == 3
    assert joined[0] == 0, "numbered in order of appearance"


# The speaker


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


def test_one_person_one_speaker() -> None:
    tracks = tracks_of({0: ALWAYS})
    crops, coverage = choose(tracks, [say("A", 0, 10), say("A", 12, 30)], None)
    assert [len(c) for c in crops] == [41, 73] and coverage == (1.0, 1.0)
    assert np.array_equal(crops[0], tracks.crops[:41])


def test_shot_and_reverse_shot() -> None:
    cuts = [4.0 * i for i in range(1, 10)]
    tracks = tracks_of({0: TURN_B, 1: TURN_A}, cuts=cuts)
    assert match_persons(tracks, TALK, None) == {"A": {1}, "B": {0}}
    crops, coverage = choose(tracks, TALK, None)
    assert all(share is not None and share > 0.9 for share in coverage)
    assert all(
        np.array_equal(c[0], tracks.crops[tracks.persons == (u.speaker == "A")][0])
        for c, u in zip(crops, TALK, strict=True)
    )


def test_reaction_shots_do_not_confuse() -> None:
    # A third of each turn shows the listener.
    spans = {"A": [], "B": []}  # type: dict[str, list[tuple[float, float]]]
    for u in TALK:
        spans[u.speaker].append((u.start, u.start + 2.75))
        spans["B" if u.speaker == "A" else "A"].append((u.start + 2.75, u.start + 4))
    tracks = tracks_of({0: during(*spans["A"]), 1: during(*spans["B"])})
    assert match_persons(tracks, TALK, None) == {"A": {0}, "B": {1}}
    _, coverage = choose(tracks, TALK, None)
    assert coverage[0] == pytest.approx(11 / 16)


@pytest.mark.parametrize("still", [True, False])
def test_one_face_through_two_voices(still: bool) -> None:
    # Seen all the time, so only the mouth can tell; without it nobody is given the face.
    tracks = tracks_of({0: ALWAYS}, mouth=None if still else {0: TURN_B}, head=frozenset({0}))
    crops, coverage = choose(tracks, TALK, None)
    for u, c, share in zip(TALK, crops, coverage, strict=True):
        expected = u.speaker == "B" and not still
        assert len(c) == (16 if expected else 0) and share == (1.0 if expected else 0.0)


def test_two_faces_always_in_view_are_told_apart_by_their_mouths() -> None:
    always = {0: ALWAYS, 1: ALWAYS}
    tracks = tracks_of(always, mouth={0: TURN_A, 1: TURN_B}, head=frozenset({0, 1}))
    assert match_persons(tracks, TALK, None) == {"A": {0}, "B": {1}}
    assert match_persons(tracks_of(always), TALK, None) == {}
    # A silent companion of a single speaker.
    alone = [say("A", 0, 39)]
    assert match_persons(tracks_of(always, mouth={1: ALWAYS}), alone, None) == {"A": {1}}
    assert match_persons(tracks_of(always), alone, None) == {}


def test_a_listener_in_motion_with_a_still_mouth_is_nobody() -> None:
    tracks = tracks_of({0: TURN_A})
    crops = tracks.crops.astype(np.int16)
    crops[:, 8:24] += np.random.default_rng(1).integers(-40, 41, (len(crops), 16, 48))
    nodding = replace(tracks, crops=np.clip(crops, 0, 255).astype(np.uint8))
    assert match_persons(tracks, TALK, None) == {"A": {0}}
    assert match_persons(nodding, TALK, None) == {}


def test_a_glimpse_is_not_the_speaker() -> None:
    tracks = tracks_of({0: during((1, 2))})
    assert match_persons(tracks, [say("A", 0, 39)], None) == {}


def test_fragments_of_a_speaker_join_when_their_mouth_moves() -> None:
    first, second = during((0, 22)), during((22, 40))
    alone = [say("A", 0, 39)]
    both = tracks_of({0: first, 1: second}, mouth={0: ALWAYS, 1: ALWAYS})
    assert match_persons(both, alone, None) == {"A": {0, 1}}
    assert match_persons(tracks_of({0: first, 1: second}), alone, None) == {}, "either could be the listener"
    longer = tracks_of({0: during((0, 30)), 1: during((30, 40))}, mouth={0: ALWAYS, 1: ALWAYS})
    assert match_persons(longer, alone, None) == {"A": {0, 1}}
    still = tracks_of({0: during((0, 30)), 1: during((30, 40))})
    assert match_persons(still, alone, None) == {"A": {0}}


def test_loud_frames_count_more() -> None:
    # One utterance: its loud half shows person 0, its silent half person 1.
    tracks = tracks_of({0: during((0, 20)), 1: during((20, 40))})
    sound = np.zeros(40 * RATE_HZ, np.int16)
    sound[: 20 * RATE_HZ] = 3000 * np.sin(np.arange(20 * RATE_HZ))
    alone = [say("A", 0, 39)]
    assert match_persons(tracks, alone, Audio(sound)) == {"A": {0}}
    assert (
        match_persons(tracks, alone, Audio(np.zeros_like(sound))) == match_persons(tracks, alone, None) == {}
    )


def test_short_utterances_take_the_nearest_frame() -> None:
    tracks = tracks_of({0: ALWAYS}, cuts=[5.0])
    talk = [say("A", 0, 4), say("A", 4.05, 4.1), say("A", 4.88, 4.94), say("A", 60, 61)]
    crops, coverage = choose(tracks, talk, None)
    assert [len(c) for c in crops] == [17, 1, 0, 0]
    assert coverage == (1.0, 1.0, None, None), "across a cut lies another shot, past the end nothing"


def test_no_faces_no_frames_no_utterances() -> None:
    empty = tracks_of({0: NEVER})
    assert choose(empty, [], None) == ((), ())
    crops, coverage = choose(empty, [say("A", 0, 2)], None)
    assert crops[0].shape == (0, 48, 48) and coverage == (0.0,)
    crops, coverage = choose(track([]), [say("A", 0, 2)], None)
    assert crops[0].shape == (0, 48, 48) and coverage == (None,)


def test_mouth_activity_is_one_where_nothing_is_known() -> None:
    activity, moves = mouth_activity(tracks_of({0: ALWAYS}))
    assert (activity == 1).all() and not moves.any()
    speaking, moves = mouth_activity(tracks_of({0: ALWAYS}, mouth={0: ALWAYS}))
    assert speaking[0] == 1 and not moves[0] and (speaking[1:] > 2).all() and moves[1:].all()


def test_assignment_ignores_the_names_of_persons() -> None:
    shown = {0: TURN_B, 1: TURN_A, 2: during((0, 1.5))}
    expected = match_persons(tracks_of(shown), TALK, None)
    for order in itertools.permutations(range(3)):
        renamed = tracks_of({order[p]: frames for p, frames in shown.items()})
        found = match_persons(renamed, TALK, None)
        assert found == {s: {order[p] for p in persons} for s, persons in expected.items()}
    assert expected == {"A": {1}, "B": {0}}


def test_a_cut_between_like_pictures_ends_the_track(tmp_path: Path) -> None:
    """In the example clip two people take turns in one framing before one wall."""
    from annotator import media
    from annotator.faces import FaceSettings, FaceTracker

    clip = Path(__file__).resolve().parents[1] / "examples" / "recordings" / "tv_clip.mkv"
    tracker = FaceTracker(FaceSettings(detector="hog"))
    media.decode(media.probe(clip), tmp_path / "sound.pcm", tracker.add)
    found = tracker.finish()
    for number in np.unique(found.tracks):
        times = found.times[found.tracks == number]
        assert not times.min() < 12.9 < times.max()
        assert not times.min() < 37.1 < times.max()
    assert found.persons.max() == 1  # two people
    at = {
        time: set(found.persons[np.abs(found.times - time) < 0.2]) for time in (5.0, 11.0, 15.0, 35.5, 39.0)
    }
    assert at[5.0] == at[15.0] == at[39.0] and at[11.0] == at[35.5] and at[5.0] != at[11.0]
