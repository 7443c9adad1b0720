"""Two people on the screen who talk in turn, through decoding, tracking and a whole run."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from annotator import RunSettings, media, run
from annotator.faces import FaceSettings, FaceTracker, choose
from annotator.records import Utterance

from .media import RATE_HZ, talk, write_wav

WIDTH, HEIGHT, FPS = 640, 360, 8
SPEAKERS = ("left", "right")


@dataclass(frozen=True)
class Film:
    path: Path
    utterances: list[Utterance]


def turns() -> list[Utterance]:
    """20 utterances of 0.8 to 2.4 s, in turn, now and then two of one speaker."""
    rng = np.random.default_rng(4)
    found: list[Utterance] = []
    at, who = 0.5, 0
    for number in range(20):
        length = float(rng.uniform(0.8, 2.4))
        found.append(Utterance(0, number, at, at + length, SPEAKERS[who], 0.0))
        at += length + float(rng.uniform(0.2, 0.6))
        who = 1 - who if number % 6 else who
    return found


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Film:
    """A portrait and somebody drawn from it sway side by side; the jaw of who talks follows the sound."""
    pytest.importorskip("skimage")
    from examples.puppet import Pose, portrait, render, stranger

    folder = tmp_path_factory.mktemp("film")
    spoken = turns()
    length = spoken[-1].end + 0.5
    sound = np.zeros(round(length * RATE_HZ))
    jaws = np.zeros((2, round(length * FPS) + 1))
    for number, utterance in enumerate(spoken):
        who = SPEAKERS.index(utterance.speaker)
        voice = folder / "voice.wav"
        talk(voice, utterance.end - utterance.start, pitch_hz=(190, 110)[who], seed=number)
        samples = np.frombuffer(voice.read_bytes()[44:], "<i2") / 32768
        first = round(utterance.start * RATE_HZ)
        sound[first : first + len(samples)] = samples[: len(sound) - first]
        for frame in range(round(utterance.start * FPS), round(utterance.end * FPS)):
            at = first + (frame - round(utterance.start * FPS)) * RATE_HZ // FPS
            jaws[who, frame] = np.sqrt(np.mean(sound[at : at + RATE_HZ // FPS] ** 2) + 1e-9)
    jaws /= np.quantile(jaws[jaws > 0], 0.9)
    write_wav(folder / "sound.wav", sound)

    people = [portrait()]
    people.append(stranger(people[0]))
    column, row = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    patches = np.random.default_rng(1).integers(60, 160, (5, 8, 3), np.uint8)
    wall = np.asarray(cv2.resize(patches, (WIDTH, HEIGHT)))
    command = [ffmpeg, "-nostdin", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "-", "-i", str(folder / "sound.wav")]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"]
    with subprocess.Popen([*command, str(folder / "two.mp4")], stdin=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        for frame in range(round(length * FPS)):
            picture = wall.astype(np.float32)
            for who, person in enumerate(people):
                phase = frame / FPS + 2.0 * who
                sway_x, sway_y = 2.0 * np.sin(phase * 1.2), 1.0 * np.sin(phase * 1.7)
                x = (column - WIDTH / 2 - (-155, 155)[who]) / 1.25 + person.mirror(226) - sway_x
                y = (row - HEIGHT / 2) / 1.25 + 172 - sway_y
                blink = 1.0 if (frame + 11 * who) % 29 == 0 else 0.0
                pose = Pose(mouth=-5 + 13 * min(jaws[who, frame], 1.0), smile=-4.5, eyelids=blink)
                colours, mask = render(person, pose, x.astype(np.float32), y.astype(np.float32))
                picture += (colours - picture) * mask
            encoder.stdin.write(np.clip(picture, 0, 255).astype(np.uint8).tobytes())
    assert encoder.returncode == 0
    return Film(folder / "two.mp4", spoken)


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["centerface", "yunet"])
def test_the_face_of_each_utterance_is_the_talkers(
    film: Film, detector: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    yunet = None
    if detector == "yunet":
        yunet = request.getfixturevalue("shared") / "models" / "yunet_n_320_320.onnx"
    tracker = FaceTracker(FaceSettings(detector=detector, yunet_file=yunet))  # type: ignore[arg-type]
    decoded = media.decode(
        media.probe(film.path), tmp_path / "sound.pcm", tracker.add, on_thumbnail=tracker.cuts.add
    )
    tracks = tracker.finish()
    on_left = (tracks.boxes[:, 0] + tracks.boxes[:, 2]) / 2 < 0.5
    right = 0
    for utterance, rows in zip(
        film.utterances, choose(tracks, film.utterances, decoded.audio).rows, strict=True
    ):
        sides = set(on_left[rows].tolist())
        assert sides <= {utterance.speaker == "left"}, "never a listener"
        right += len(sides)
    assert right >= 0.95 * len(film.utterances)


@pytest.mark.slow
def test_a_speaker_without_a_face_in_view_has_none(film: Film, tmp_path: Path, ffmpeg: str) -> None:
    half = "drawbox=x=iw/2:w=iw/2:h=ih:color=gray:t=fill"
    command = [ffmpeg, "-nostdin", "-loglevel", "error", "-i", str(film.path), "-vf", half, "-c:a", "copy"]
    subprocess.run([*command, "-preset", "veryfast", str(tmp_path / "one.mp4")], check=True)
    lines = [
        f"SPEAKER one 1 {u.start:.3f} {u.end - u.start:.3f} <NA> <NA> {u.speaker} <NA> <NA>"
        for u in film.utterances
    ]
    (tmp_path / "one.rttm").write_text("\n".join(lines) + "\n")
    settings = RunSettings(transcriber="none", workers=1, face_detector="centerface", device="cpu")
    table = run([tmp_path / "one.mp4"], tmp_path / "labels.parquet", settings, progress=False).table
    assert table is not None
    left, right = (table.filter(speaker=name) for name in SPEAKERS)
    assert len(left) >= 8 and left["has_face"].mean() >= 0.95  # type: ignore[operator]
    assert len(right) >= 8 and not right["has_face"].any()
    assert right["face_coverage"].to_list() == [0.0] * len(right)
