"""Makes ``recordings/tv_clip.mkv``: a scene of two people, with all that makes television hard.

Cuts, close and wide shots, a face that listens while the other is heard, shots without any face, music under
the speech, and subtitles inside the file that name who speaks.

    python -m examples.make_tv_clip
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from skimage.data import cat, coffee, rocket

from examples.puppet import Picture, Pose, portrait, render, stranger
from examples.speech import (
    RATE_HZ,
    SPEECH_DBFS,
    Line,
    Sound,
    Spoken,
    Voice,
    ffmpeg,
    mix,
    perform,
    subrip,
    write_wav,
)

RECORDINGS = Path(__file__).resolve().parent / "recordings"
WIDTH, HEIGHT, FPS = 640, 360, 25
MUSIC_UNDER_SPEECH_DB = -18.0
MUSIC_ALONE_DB = -4.0  # both relative to speech

VOICES = {
    "Mara": Voice("en-us+f3", pitch=60, speed_wpm=172, size=0.93, seed=11),
    "Jonas": Voice("en-us+m3", pitch=32, speed_wpm=182, size=1.1, seed=12),
}

LINES = (
    Line("Mara", "neutral", "Good morning. The air filter is checked, and the supply ship comes at eight."),
    Line(
        "Jonas", "disgust", "Ugh, this coffee is disgusting. It smells like old socks and tastes even worse."
    ),
    Line(
        "Mara", "fear", "Jonas, where is the cat? I'm scared, I heard a terrible noise behind the hatch.", 0.6
    ),
    Line("Jonas", "surprise", "What? The hatch is open? I can't believe it, she was here a minute ago!", 0.4),
    Line(
        "Mara", "anger", "You left it open again! I told you a hundred times, why do you never listen?", 0.4
    ),
    Line("Jonas", "sadness", "I am so sorry. It is all my fault, and I miss her already.", 0.7),
    Line("Jonas", "surprise", "Oh my God, look up there! She is asleep in my helmet!", 3.4),
    Line("Mara", "joy", "Oh, thank goodness! That is wonderful, I am so happy to see her!", 0.4),
    Line("Jonas", "joy", "Ha, good girl! Now we can have breakfast, all three of us!", 0.4),
)

# A face at rest while its owner feels so; the mouth of a speaker moves on top.
FACES: Mapping[str, Pose] = {
    "neutral": Pose(mouth=-5, smile=-4.5),
    "joy": Pose(mouth=0, smile=2, outer_brows=1),
    "surprise": Pose(mouth=-2, smile=-5, inner_brows=4, outer_brows=4),
    "anger": Pose(mouth=-5.5, smile=-7.5, inner_brows=-3.5, outer_brows=1),
    "fear": Pose(mouth=-3.5, smile=-7, inner_brows=4, outer_brows=1),
    "disgust": Pose(mouth=-4.5, smile=-7, inner_brows=-2.5, outer_brows=-1),
    "sadness": Pose(mouth=-6, smile=-8, inner_brows=3.5, outer_brows=-1.5),
}


@dataclass(frozen=True)
class Camera:
    """Centre of the view in pixels of the picture, and pixels on the screen for one of them."""

    x: float
    y: float
    scale: float


@dataclass(frozen=True)
class Shot:
    """From ``start`` seconds to the start of the next: who is in view, or which still picture."""

    start: float
    view: str  # a name, "both" or a still picture
    begin: Camera
    end: Camera

    def camera(self, share: float) -> Camera:
        """Where the camera is after this share of the shot."""
        a, b = self.begin, self.end
        return Camera(*(p + (q - p) * share for p, q in ((a.x, b.x), (a.y, b.y), (a.scale, b.scale))))


def direct(spoken: Sequence[Spoken]) -> list[Shot]:
    """The shots, cut to what is said. A mirrored person is framed as if they were not."""
    start = [item.start - 0.25 for item in spoken]
    middle = [(item.start + item.end) / 2 for item in spoken]
    last = spoken[-1].end
    return [
        Shot(0.0, "rocket", Camera(320, 190, 1.02), Camera(320, 230, 1.15)),
        Shot(start[0], "Mara", Camera(225, 114, 1.9), Camera(227, 110, 2.1)),
        Shot(start[1], "coffee", Camera(300, 220, 1.15), Camera(300, 210, 1.3)),
        Shot(middle[1] - 0.6, "Jonas", Camera(224, 114, 2.0), Camera(224, 110, 2.15)),
        Shot(start[2], "Mara", Camera(228, 108, 2.3), Camera(226, 106, 2.5)),
        Shot(start[3], "Jonas", Camera(220, 112, 1.9), Camera(226, 110, 2.0)),
        Shot(start[4], "both", Camera(0, 0, 1.25), Camera(0, 0, 1.32)),
        Shot(middle[4] + 0.4, "Jonas", Camera(226, 108, 2.2), Camera(226, 108, 2.2)),  # listens
        Shot(start[5], "Jonas", Camera(226, 110, 2.5), Camera(226, 106, 2.6)),
        Shot(spoken[5].end + 0.4, "cat", Camera(225, 150, 1.45), Camera(250, 125, 1.8)),
        Shot(start[6], "Jonas", Camera(224, 110, 2.0), Camera(224, 114, 1.9)),
        Shot(start[7], "Mara", Camera(226, 108, 2.1), Camera(226, 106, 2.3)),
        Shot(start[8], "both", Camera(0, 0, 1.3), Camera(0, 0, 1.2)),
        Shot(last + 0.5, "cat", Camera(250, 125, 1.8), Camera(225, 150, 1.45)),
    ]


class Studio:
    """Puts the frames together: people before the wall of the station, and still pictures."""

    def __init__(self, spoken: Sequence[Spoken]) -> None:
        mara = portrait()
        self.people = {"Mara": mara, "Jonas": stranger(mara)}
        stills = {"rocket": rocket(), "coffee": coffee(), "cat": cat()}
        self.stills = {name: picture.astype(np.float32) for name, picture in stills.items()}
        self.wall = wall()
        self.spoken = spoken
        self.jaws = [jaw(item.sound) for item in spoken]
        column, row = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
        self.column, self.row = column - WIDTH / 2, row - HEIGHT / 2  # from the middle of the screen

    def frame(self, shot: Shot, camera: Camera, time: float) -> bytes:
        """One picture, RGB."""
        if shot.view in self.stills:
            picture = self._look(self.stills[shot.view], camera)
        elif shot.view == "both":
            picture = self._look(self.wall, Camera(480, 270, 0.55 * camera.scale))
            for name, aside in (("Mara", -155.0), ("Jonas", 155.0)):
                picture = self._stand(picture, name, Camera(226, 172, camera.scale), time, aside)
        else:
            behind = Camera({"Mara": 330.0, "Jonas": 640.0}[shot.view], 156 + camera.y, 0.62 * camera.scale)
            picture = self._look(self.wall, behind)
            picture = self._stand(picture, shot.view, camera, time, 0.0)
        return np.clip(np.round(picture), 0, 255).astype(np.uint8).tobytes()

    def _look(self, picture: Picture, camera: Camera) -> Picture:
        """The part of a picture that the camera sees."""
        x, y = self.column / camera.scale + camera.x, self.row / camera.scale + camera.y
        seen: Picture = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        return seen

    def _stand(self, behind: Picture, name: str, camera: Camera, time: float, aside: float) -> Picture:
        """The person over what is behind, swaying a little about the neck."""
        person = self.people[name]
        phase = time + (2.0 if person.mirrored else 0.0)
        angle = np.radians(1.3 * np.sin(2 * np.pi * phase / 6.1))
        sway_x, sway_y = 1.5 * np.sin(2 * np.pi * phase / 5.3), 0.8 * np.sin(2 * np.pi * phase / 3.7)
        x = (self.column - aside) / camera.scale + person.mirror(camera.x) - sway_x
        y = self.row / camera.scale + camera.y - sway_y
        neck_x, neck_y = person.mirror(224), 190
        x, y = (
            neck_x + (x - neck_x) * np.cos(angle) + (y - neck_y) * np.sin(angle),
            neck_y - (x - neck_x) * np.sin(angle) + (y - neck_y) * np.cos(angle),
        )
        colours, mask = render(person, self.pose(name, time), x.astype(np.float32), y.astype(np.float32))
        return behind + (colours - behind) * mask

    def pose(self, name: str, time: float) -> Pose:
        """The face of their own last words, faded in; the jaw follows the sound; now and then a blink."""
        now, mouth = FACES["neutral"], 0.0
        for item, openness in zip(self.spoken, self.jaws, strict=True):
            if item.line.speaker != name:
                continue
            now = blend(now, FACES[item.line.emotion], float(np.clip((time - item.start + 0.5) / 0.4, 0, 1)))
            if item.start <= time < item.end:
                mouth = openness[min(round((time - item.start) * FPS), len(openness) - 1)]
        every = 3.3 if name == "Mara" else 4.1
        blink = max(0.0, 1 - abs((time + 1) % every - 0.12) / 0.12)
        return Pose(now.mouth + 9 * mouth, now.smile, now.inner_brows, now.outer_brows, blink)


def blend(a: Pose, b: Pose, share: float) -> Pose:
    """From one face to another."""
    pairs = zip(astuple(a), astuple(b), strict=True)
    return Pose(*((1 - share) * p + share * q for p, q in pairs))


def jaw(sound: Sound) -> NDArray[np.float64]:
    """How far the mouth is open in each frame, 0 to 1: the level of the sound, smoothed over three frames."""
    step = RATE_HZ // FPS
    level = np.sqrt(np.mean(sound[: len(sound) // step * step].reshape(-1, step) ** 2, axis=1))
    level = np.convolve(level, [0.25, 0.5, 0.25], mode="same")
    openness: NDArray[np.float64] = np.clip(level / np.quantile(level, 0.9), 0, 1)
    return openness


def wall() -> Picture:
    """The inside of the station, out of focus: panels, a window with stars, lamps. (540, 960, 3)"""
    row = np.linspace(1, 0.45, 540)[:, None, None]
    picture = np.ascontiguousarray(
        np.broadcast_to(row * np.array([64, 88, 98]), (540, 960, 3)).astype(np.float32)
    )
    for x in range(0, 960, 120):
        cv2.rectangle(picture, (x, 0), (x + 8, 540), (30, 42, 48), -1)
        cv2.rectangle(picture, (x + 8, 0), (x + 12, 540), (110, 130, 136), -1)
    cv2.rectangle(picture, (0, 395), (960, 420), (38, 48, 54), -1)
    cv2.circle(picture, (500, 190), 120, (120, 132, 136), -1)
    cv2.circle(picture, (500, 190), 104, (6, 8, 20), -1)
    rng = np.random.default_rng(3)
    for angle, radius in rng.uniform((0, 0), (2 * np.pi, 98), (60, 2)):
        cv2.circle(
            picture,
            (int(500 + radius * np.cos(angle)), int(190 + radius * np.sin(angle))),
            2,
            (235, 235, 255),
            -1,
        )
    for x, y in rng.integers((10, 80), (950, 380), (26, 2)):
        colour = ((240, 170, 70), (90, 220, 190), (230, 90, 80))[int(x + y) % 3]
        if abs(x - 500) > 130:
            cv2.circle(picture, (int(x), int(y)), 5, colour, -1)
    blurred: Picture = cv2.GaussianBlur(picture, (0, 0), 4)
    return blurred


def music(spoken: Sequence[Spoken], duration_s: float) -> Sound:
    """Four chords in turn, a pad and a plucked string; quiet under speech and louder where nobody speaks."""
    times = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    total = np.zeros_like(times)
    chords = (
        (220.0, 261.63, 329.63),
        (174.61, 220.0, 261.63),
        (196.0, 261.63, 329.63),
        (196.0, 246.94, 293.66),
    )
    bar_s, notes = 2.4, 6
    for bar in range(int(duration_s / bar_s) + 1):
        chord = chords[bar % len(chords)]
        within = times - bar * bar_s
        swell = np.clip(within / 0.3, 0, 1) * np.clip((bar_s + 0.3 - within) / 0.6, 0, 1)
        for pitch in (chord[0] / 2, *chord):
            total += (
                0.25 * swell * (np.sin(2 * np.pi * pitch * times) + np.sin(2 * np.pi * 1.003 * pitch * times))
            )
        for note in range(notes):
            since = within - note * bar_s / notes
            pitch = 2 * chord[(0, 1, 2, 1, 2, 1)[note]]
            plucked = (since >= 0) * np.exp(-4 * np.clip(since, 0, None))
            total += plucked * (np.sin(2 * np.pi * pitch * since) + 0.3 * np.sin(4 * np.pi * pitch * since))
    speech = np.zeros_like(times)
    for item in spoken:
        speech[round((item.start - 0.3) * RATE_HZ) : round((item.end + 0.3) * RATE_HZ)] = 1
    pole = np.exp(-1 / (0.15 * RATE_HZ))
    ducking: Sound = lfilter([1 - pole], [1, -pole], speech)
    level_db = SPEECH_DBFS + MUSIC_ALONE_DB + ducking * (MUSIC_UNDER_SPEECH_DB - MUSIC_ALONE_DB)
    ends = np.clip(times / 0.5, 0, 1) * np.clip((duration_s - times) / 1.5, 0, 1)
    return ends * total / np.std(total) * 10 ** (level_db / 20)


def film(shots: Sequence[Shot], studio: Studio, duration_s: float) -> Iterator[bytes]:
    """All frames."""
    ends = [*(shot.start for shot in shots[1:]), duration_s]
    for index in range(round(duration_s * FPS)):
        time = index / FPS
        shot, end = next((shot, end) for shot, end in zip(shots, ends, strict=True) if time < end)
        yield studio.frame(shot, shot.camera((time - shot.start) / (end - shot.start)), time)


def main() -> None:
    """Writes the clip."""
    spoken = perform(LINES, VOICES, start=2.8)
    duration_s = round(spoken[-1].end + 2.8, 1)
    sound = mix(spoken, VOICES, duration_s, decay_s=0.25) + music(spoken, duration_s)
    RECORDINGS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        wav, subtitles = Path(folder) / "sound.wav", Path(folder) / "subtitles.srt"
        write_wav(wav, sound)
        subtitles.write_text(subrip(spoken, with_names=True), encoding="utf-8")
        pictures = (
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-s",
            f"{WIDTH}x{HEIGHT}",
            "-r",
            f"{FPS}",
            "-i",
            "-",
        )
        video = ("-c:v", "libx264", "-preset", "slow", "-crf", "28", "-pix_fmt", "yuv420p", "-threads", "1")
        audio = ("-c:a", "libopus", "-b:a", "40k", "-metadata:s:a", "language=eng")
        text = ("-c:s", "srt", "-metadata:s:s", "language=eng")
        streams = ("-map", "0:v", "-map", "1:a", "-map", "2:s")
        ffmpeg(
            [*pictures, "-i", wav, "-i", subtitles],
            [*streams, *video, *audio, *text, RECORDINGS / "tv_clip.mkv"],
            film(direct(spoken), Studio(spoken), duration_s),
        )


if __name__ == "__main__":
    main()
