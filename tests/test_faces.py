"""Faces: finding and following them in real pictures, and choosing the speaker's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from annotator import media
from annotator.faces import FaceSettings, FaceTracker, make_detector, missing
from annotator.faces.cuts import CutDetector
from annotator.faces.detect import CenterFaceDetector, Detector, Face, YuNetDetector
from annotator.faces.persons import MAX_CLUSTERED, cluster, join_tracks
from annotator.faces.picture import face_crop, likeness
from annotator.records import FaceTracks, SetupError, UsageError
from annotator.weights import CENTERFACE
from annotator.wheels import own_file

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


def track(frames: Sequence[Frame], settings: FaceSettings | None = None, rate_hz: float = 4.0) -> FaceTracks:
    tracker = FaceTracker(settings or FaceSettings(detector="centerface"))
    for i, frame in enumerate(frames):
        tracker.add(i / rate_hz, frame)
        tracker.cuts.add(i / rate_hz, small(frame))
    return tracker.finish()


def small(frame: Frame) -> Frame:
    return np.asarray(cv2.resize(frame, (64, 36), interpolation=cv2.INTER_AREA))


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


def detector_of(kind: str, request: pytest.FixtureRequest) -> Detector:
    if kind == "centerface":
        return CenterFaceDetector(CENTERFACE.verified())
    return YuNetDetector(request.getfixturevalue("yunet"))


@pytest.mark.parametrize("kind", ["centerface", "yunet"])
def test_detector_frames_a_face_as_in_training(
    kind: str, portrait: Frame, request: pytest.FixtureRequest
) -> None:
    # FER2013's pictures: eyes at 0.40 of the height, mouth at 0.74; here eyes at y = 105, mouth at 145.
    detector = detector_of(kind, request)
    (face,) = [face for face in detector(portrait) if face.begins]
    top = face.y - face.side / 2
    assert (105 - top) / face.side == pytest.approx(0.40, abs=0.05)
    assert (145 - top) / face.side == pytest.approx(0.74, abs=0.05)
    assert face.x == pytest.approx(225, abs=0.05 * face.side)


def test_small_and_wide_frames(portrait: Frame) -> None:
    detector = CenterFaceDetector(CENTERFACE.verified())
    for width, height in ((1600, 100), (120, 90), (33, 300)):
        assert not detector(np.zeros((height, width, 3), np.uint8))
    wide = np.zeros((256, 1920, 3), np.uint8)
    wide[:, 1200 : 1200 + 512] = portrait[:256]
    (face,) = [face for face in detector(wide) if face.begins]
    assert face.x == pytest.approx(1424, abs=15)


def test_a_lost_or_changed_centerface_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "detector_of_another_day"
    package.mkdir()
    (package / "centerface.onnx").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, error in (("no_such_package", "is missing"), (package.name, "hash differs")):
        other = own_file(name, "centerface.onnx", CENTERFACE.sha256)
        monkeypatch.setattr("annotator.faces.detect.CENTERFACE", other)
        with pytest.raises(SetupError, match=f"{error}.*Install conversation-annotator again"):
            make_detector(FaceSettings(detector="centerface"))
    monkeypatch.setattr("annotator.faces.detect.CENTERFACE", replace(CENTERFACE, package="no_such_package"))
    assert "centerface.onnx is missing" in str(missing("centerface", None))
    assert "ANNOTATE_YUNET" in str(missing("yunet", None))


@pytest.mark.parametrize("kind", ["centerface", "yunet"])
def test_landmarks_level_the_eyes(kind: str, portrait: Frame, request: pytest.FixtureRequest) -> None:
    close = cv2.resize(portrait[20:240, 114:334], (640, 640))
    turned = cv2.warpAffine(close, cv2.getRotationMatrix2D((320, 300), -20, 1), (640, 640))
    detector = detector_of(kind, request)
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


def cuts_of(pictures: Sequence[Frame]) -> list[int]:
    detector = CutDetector()
    for i, picture in enumerate(pictures):
        detector.add(float(i), small(picture))
    return [int(time) for time in detector.cuts()]


def test_cuts_are_sudden_and_lasting_changes(portrait: Frame) -> None:
    still, other = scene(portrait, 100), room(1)
    assert cuts_of([]) == cuts_of([still]) == cuts_of([still] * 9) == []
    assert cuts_of([still] * 5 + [other] * 5 + [still] * 5) == [5, 10]
    assert cuts_of([scene(portrait, 40 + 12 * i) for i in range(12)]) == [], "a camera that pans"
    dark = (still * 0.4).astype(np.uint8)
    assert cuts_of([still] * 5 + [dark] * 5) == [], "a lamp is switched"
    assert cuts_of([dark] * 5 + [(other * 0.1).astype(np.uint8)] * 5) == [5], "cuts in the dark"
    grain = np.random.default_rng(0).integers(0, 12, (8, 360, 640, 3), np.uint8)
    assert cuts_of(list(grain)) == [], "the noise of black pictures"


def test_a_like_shot_of_another_person_is_a_cut(portrait: Frame) -> None:
    someone = scene(portrait, 140)
    other = someone.copy()
    other[:200, 200:400] = someone[:200, 200:400][:, ::-1, ::-1]  # mirrored, and blue for red
    assert cuts_of([someone] * 6 + [other] * 6) == [6]


# Tracking


@pytest.mark.parametrize("rate_hz", [2.0, 4.0, 8.0])
def test_one_moving_face_is_one_track(rate_hz: float, portrait: Frame) -> None:
    tracks = track([scene(portrait, 40 + 8 * i) for i in range(13)], rate_hz=rate_hz)
    valid(tracks)
    assert len(tracks.times) == 13 and len(tracks.cuts) == 0
    assert set(tracks.tracks) == {0} and set(tracks.persons) == {0}
    centres = (tracks.boxes[:, 0] + tracks.boxes[:, 2]) / 2 * 640
    assert centres == pytest.approx(40 + 8 * np.arange(13) + 224 * 0.7, abs=12)
    assert min(likeness(tracks.crops[0], crop) for crop in tracks.crops) > 0.5


def test_cuts_end_tracks_and_appearance_joins_them(portrait: Frame) -> None:
    shots = [scene(portrait, 60)] * 6 + [room(1)] * 3 + [scene(portrait, 220)] * 5
    tracks = track(shots)
    valid(tracks)
    assert tracks.cuts.tolist() == [1.5, 2.25]
    assert len(set(tracks.tracks)) == 2, "a track never crosses a cut"
    assert set(tracks.persons) == {0}
    assert tracks.times.tolist() == [i / 4 for i in [*range(6), *range(9, 14)]]


def test_a_cut_between_two_looks_ends_the_track(portrait: Frame) -> None:
    """The same person in the same place, as after a cut to what was left out."""
    tracker = FaceTracker(FaceSettings(detector="centerface"))
    for i in range(8):
        tracker.add(i / 4, scene(portrait, 60))
        for part in range(3):
            shown = portrait if i < 5 else portrait[::-1]  # the thumbnails alone tell the two shots apart
            tracker.cuts.add((i + part / 3) / 4, small(shown))
    tracks = tracker.finish()
    assert tracks.cuts.tolist() == [1.25]
    assert [set(tracks.tracks[tracks.times < 1.25]), set(tracks.tracks[tracks.times >= 1.25])] == [{0}, {1}]
    assert len(tracks.times) == 8


def test_a_face_that_is_hidden_for_a_second_stays_one_track(portrait: Frame) -> None:
    seen, hidden = scene(portrait, 60), scene(portrait, 60)
    hidden[:200, 130:330] = room(2)[:200, 130:330]
    tracks = track([seen] * 5 + [hidden] * 3 + [seen] * 5)
    assert set(tracks.persons) == {0}
    assert not np.isin([1.25, 1.5, 1.75], tracks.times).any(), "what does not look like it is not kept"


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
    tracker = FaceTracker(FaceSettings(detector="centerface"))
    with pytest.raises(ValueError, match="uint8"):
        tracker.add(0.0, portrait.astype(np.float32))
    tracker.add(0.5, portrait)
    with pytest.raises(ValueError, match="after"):
        tracker.add(0.5, portrait)


def test_settings_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no file was given.*centerface"):
        make_detector(FaceSettings(detector="yunet"))
    with pytest.raises(SetupError, match="is no file"):
        make_detector(FaceSettings(detector="yunet", yunet_file=tmp_path / "none.onnx"))
    with pytest.raises(UsageError, match="auto, yunet, centerface"):
        make_detector(FaceSettings(detector="haar"))  # type: ignore[arg-type]
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    with pytest.raises(SetupError, match="fixed 320 x 320"):
        make_detector(FaceSettings(yunet_file=tmp_path / "broken.onnx"))
    assert make_detector(FaceSettings()).name == "centerface"


@pytest.mark.parametrize("detector", ["centerface", "yunet"])
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


def test_a_cut_between_like_pictures_ends_the_track(tmp_path: Path) -> None:
    """In the example clip two people take turns in one framing before one wall."""
    clip = Path(__file__).resolve().parents[1] / "examples" / "recordings" / "tv_clip.mkv"
    tracker = FaceTracker(FaceSettings(detector="centerface"))
    media.decode(media.probe(clip), tmp_path / "sound.pcm", tracker.add, on_thumbnail=tracker.cuts.add)
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
