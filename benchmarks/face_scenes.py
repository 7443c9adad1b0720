"""Short scenes of talking heads whose faces, voices and cuts are known, for ``benchmarks.faces``.

Up to four people drawn from one portrait (see ``examples/puppet.py``) before one wall, 640 x 360 pixels,
25 frames a second, encoded as hard as low-resolution series are. The jaw of whoever talks follows the sound;
those who listen sway, nod, blink, smile and now and then press their lips. Kinds:

    one        one head in view; a second voice is never seen
    two        two heads side by side take turns
    four       four heads in one wide shot
    listeners  close-ups, of the speaker and of who listens; some turns show only the listener
    series     all of these, cut before one wall: like framings, moves of the camera, a light that changes
    montage    the same with a cut every one to two seconds, some in the dark

Needs the program ``espeak-ng``. One seed gives one scene.
"""

from __future__ import annotations

import colorsys
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from examples.make_tv_clip import FACES, Camera, blend, jaw, wall
from examples.puppet import DETAIL, Person, Picture, Pose, portrait, render, stranger
from examples.speech import Line, Spoken, Voice, ffmpeg, mix, perform, write_wav

WIDTH, HEIGHT, FPS = 640, 360, 25
KINDS = ("one", "two", "four", "listeners", "series", "montage")
FACE_X, FACE_Y, FACE_SIDE = 225.0, 118.0, 110.0  # of the portrait: centre and side of its face, pixels
MOODS = ("neutral", "joy", "surprise", "anger", "sadness")
SENTENCES = (
    "The train was late again this morning.",
    "I never said that we should sell the house.",
    "Where did you put the keys to the garage?",
    "Nobody told me about the meeting on Friday.",
    "My brother bought a boat, of all things!",
    "We could walk down to the river after lunch.",
    "That is the third time this week, you know.",
    "She has been painting since she was a child.",
    "Tell me what happened before I came in.",
    "I would rather stay here and finish the book.",
    "They want to open another shop in the old town.",
    "It rained so hard that the cellar was full of water.",
    "You were right about the price of bread.",
    "He plays the piano much better than he sings.",
)


@dataclass(frozen=True)
class Placed:
    """A person on the screen: how far beside the middle (pixels), the camera's height and its scale."""

    who: int
    aside: float
    camera_y: float
    scale: float


@dataclass(frozen=True)
class Shot:
    """From ``start`` to ``end`` seconds: who is in view, and what camera and light do meanwhile."""

    start: float
    end: float
    placed: tuple[Placed, ...]
    zoom: float = 1.0  # of the picture at the end of the shot, 1 at its start
    pan: float = 0.0  # pixels to the right until its end
    light_at: float | None = None  # seconds, when a lamp goes out


@dataclass(frozen=True)
class Utterance:
    start: float
    end: float
    who: int
    text: str


@dataclass(frozen=True)
class Seen:
    """A face in one frame: its centre and side, pixels."""

    who: int
    x: float
    y: float
    side: float


@dataclass(frozen=True)
class Scene:
    """A made recording and what is true of it."""

    name: str
    path: Path
    utterances: tuple[Utterance, ...]
    shots: tuple[Shot, ...]
    sway: tuple[int, ...]  # seeds of the people's moves

    @property
    def cuts(self) -> tuple[float, ...]:
        return tuple(shot.start for shot in self.shots[1:])

    def faces(self, time_s: float) -> list[Seen]:
        """The faces on the screen, seconds into the scene."""
        shot = next((s for s in self.shots if time_s < s.end), self.shots[-1])
        zoom, pan = _camera_move(shot, time_s)
        seen = []
        for placed in shot.placed:
            move = moves(self.sway[placed.who], time_s)
            scale = placed.scale * zoom
            x = move[0] * scale + placed.aside * zoom + WIDTH / 2
            y = (FACE_Y - placed.camera_y + move[1]) * scale + HEIGHT / 2
            seen.append(Seen(placed.who, x - pan, y, FACE_SIDE * scale))
        return [face for face in seen if -0.2 * face.side < face.x < WIDTH + 0.2 * face.side]


@cache
def people() -> tuple[Person, ...]:
    """Four people: the portrait, the man drawn from her, and one more of each, of other looks."""
    first = portrait()
    second = stranger(first)
    third = _recoloured(_flipped(_stretched(first, 0.9)), hair=(0.30, 0.22, 0.16), skin=(0.86, 0.74, 0.64))
    fourth = _recoloured(_stretched(_flipped(second), 1.08), hair=(1.35, 1.32, 1.3), skin=(1.2, 1.15, 1.1))
    fourth = replace(fourth, glasses=np.zeros_like(fourth.glasses))
    return first, second, third, fourth


def _flipped(person: Person) -> Person:
    picture, mask, glasses = (
        np.ascontiguousarray(layer[:, ::-1]) for layer in (person.picture, person.mask, person.glasses)
    )
    return replace(person, picture=picture, mask=mask, glasses=glasses, mirrored=not person.mirrored)


def _stretched(person: Person, factor: float) -> Person:
    """A face so many times as wide, about its own middle."""
    side = person.picture.shape[1]
    detail = side / 512
    middle = person.mirror(FACE_X) * detail
    matrix = np.array([[factor, 0, middle * (1 - factor)], [0, 1, 0]], np.float32)
    picture, mask, glasses = (
        cv2.warpAffine(layer, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
        for layer in (person.picture, person.mask, person.glasses)
    )
    return replace(person, picture=picture, mask=mask, glasses=glasses)


def _recoloured(person: Person, hair: tuple[float, float, float], skin: tuple[float, float, float]) -> Person:
    """Dark pixels of the head (hair) and light ones (skin) times these; clothes turned by a third of hue."""
    picture = person.picture.copy()
    detail = len(picture) // 512
    value = cv2.GaussianBlur(picture.mean(-1), (0, 0), 1.5 * detail)
    light = np.clip((value - 70) / 50, 0, 1)[..., None]
    head = np.clip((200 * detail - np.arange(len(picture))) / (12 * detail), 0, 1)[:, None, None]
    factor = light * np.array(skin) + (1 - light) * np.array(hair)
    coloured = np.clip(picture * factor, 0, 255)
    clothes = picture[..., ::-1] * 0.8
    return replace(person, picture=(coloured * head + clothes * (1 - head)).astype(np.float32))


def moves(seed: int, time_s: float) -> tuple[float, float, float]:
    """Where a head is, in pixels of the portrait from its place, and its tilt in radians."""
    rng = np.random.default_rng(seed)
    period, phase = rng.uniform(2.3, 6.5, 4), rng.uniform(0, 2 * np.pi, 4)
    a = np.sin(2 * np.pi * time_s / period + phase)
    nod_at = rng.uniform(0, 3.0)
    nod = 3.0 * np.sin(2 * np.pi * 1.8 * time_s) * (abs((time_s - nod_at) % 5.0 - 0.6) < 0.6)
    return 3.0 * float(a[0]) + 1.2 * float(a[1]), 1.6 * float(a[2]) + float(nod), 0.035 * float(a[3])


def _camera_move(shot: Shot, time_s: float) -> tuple[float, float]:
    share = float(np.clip((time_s - shot.start) / max(shot.end - shot.start, 1e-6), 0, 1))
    return 1 + (shot.zoom - 1) * share, shot.pan * share


def make(kind: str, seed: int, folder: Path, seconds: float = 11.0) -> Scene:
    """The scene of a kind and seed, from ``folder`` where it was made before."""
    name = f"{kind}-{seed}"
    path, about = folder / f"{name}.mp4", folder / f"{name}.json"
    rng = np.random.default_rng([KINDS.index(kind), seed])
    cast = [int(who) for who in rng.permutation(4)]
    spoken, turns = _talk(kind, cast, rng, seconds)
    length = round(turns[-1].end + 0.7, 2)
    shots = _direct(kind, cast, turns, length, rng)
    sway = tuple(int(s) for s in rng.integers(0, 1 << 30, 4))
    scene = Scene(name, path, tuple(turns), tuple(shots), sway)
    plain = json.dumps([asdict(shot) for shot in shots] + [asdict(turn) for turn in turns])
    if not (path.is_file() and about.is_file() and about.read_text() == plain):
        folder.mkdir(parents=True, exist_ok=True)
        write_wav(folder / f"{name}.wav", mix(spoken, _voices(), length, decay_s=0.2))
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", f"{FPS}", "-i", "-"]
        crf = str(int(rng.integers(24, 33)))
        video = ["-c:v", "libx264", "-preset", "veryfast", "-crf", crf, "-pix_fmt", "yuv420p"]
        frames = _film(scene, spoken, length, int(rng.integers(1 << 30)))
        ffmpeg([*raw, "-i", folder / f"{name}.wav"], [*video, "-threads", "1", "-c:a", "aac", path], frames)
        (folder / f"{name}.wav").unlink()
        about.write_text(plain)
    return scene


def _voices() -> dict[str, Voice]:
    return {
        "0": Voice("en-us+f3", pitch=60, speed_wpm=172, size=0.93, seed=11),
        "1": Voice("en-us+m3", pitch=32, speed_wpm=182, size=1.1, seed=12),
        "2": Voice("en-gb+f2", pitch=48, speed_wpm=165, size=0.97, seed=13),
        "3": Voice("en-gb+m7", pitch=42, speed_wpm=176, size=1.05, seed=14),
        "4": Voice("en-us+m1", pitch=20, speed_wpm=178, size=1.0, seed=15),  # never seen
    }


def _talk(
    kind: str, cast: Sequence[int], rng: np.random.Generator, seconds: float
) -> tuple[list[Spoken], list[Utterance]]:
    """Turns of one or two sentences until ``seconds`` are full."""
    pool = {
        "one": [cast[0], 4],
        "two": [*cast[:2]],
        "four": [*cast],
        "listeners": [*cast[:2]],
        "series": [*cast[:3], 4],
        "montage": [*cast[:3], 4],
    }[kind]
    order = [pool[0]]
    while len(order) < 8:
        order.append(int(rng.choice([who for who in pool if who != order[-1]])))
    texts = rng.permutation(len(SENTENCES))
    lines = [
        Line(str(who), str(rng.choice(MOODS)), SENTENCES[int(texts[i])], float(rng.uniform(0.25, 0.7)))
        for i, who in enumerate(order)
    ]
    spoken = [item for item in perform(lines, _voices(), start=0.6) if item.end < seconds]
    return spoken, [
        Utterance(item.start, item.end, int(item.line.speaker), item.line.text) for item in spoken
    ]


def _direct(
    kind: str, cast: Sequence[int], turns: Sequence[Utterance], length: float, rng: np.random.Generator
) -> list[Shot]:
    """The shots of a kind."""
    wide = tuple(
        Placed(who, x, 175.0, float(scale))
        for who, x, scale in zip(cast, (-225.0, -75.0, 75.0, 225.0), rng.uniform(0.42, 0.72, 4), strict=True)
    )
    pair = tuple(
        Placed(who, x, 165.0, float(rng.uniform(0.95, 1.25)))
        for who, x in zip(cast[:2], (-150.0, 150.0), strict=True)
    )
    if kind in ("two", "four"):
        return [Shot(0.0, length, pair if kind == "two" else wide, zoom=float(rng.uniform(1.0, 1.08)))]

    def close(who: int) -> tuple[Placed, ...]:
        return (Placed(who, float(rng.uniform(-40, 40)), 125.0, float(rng.uniform(1.5, 2.2))),)

    if kind == "one":
        return [Shot(0.0, length, close(cast[0]), zoom=float(rng.uniform(0.95, 1.1)))]
    marks: list[tuple[float, tuple[Placed, ...]]] = []
    framing = (float(rng.uniform(-40, 40)), 125.0, float(rng.uniform(1.5, 2.2)))  # one for like shots

    def alike(who: int) -> tuple[Placed, ...]:
        return (Placed(who, *framing),)

    if kind == "montage":
        views = [wide, pair, *(alike(who) for who in cast[:3]), *(close(who) for who in cast[:3])]
        start, view = 0.0, -1
        while start < length - 0.6:
            view = int(rng.choice([i for i in range(len(views)) if i != view]))
            marks.append((start, views[view]))
            start += float(rng.uniform(0.7, 2.0))
        return _lit_and_moved(marks, length, rng)
    on_screen = list(cast[:2]) if kind == "listeners" else list(cast[:3])
    for turn in turns:
        others = [who for who in on_screen if who != turn.who]
        listener = int(rng.choice(others))
        draw = rng.random()
        start, half = turn.start - float(rng.uniform(0.05, 0.25)), (turn.start + turn.end) / 2
        if turn.who not in on_screen:  # a voice that is never seen
            marks.append((start, alike(listener)))
        elif draw < 0.25:
            marks.append((start, alike(listener)))  # only who listens
        elif draw < 0.55:
            marks += [(start, alike(turn.who)), (half, alike(listener))]
        elif draw < 0.75 or kind == "listeners":
            marks.append((start, alike(turn.who)))
        elif draw < 0.85:
            marks.append((start, wide))
        else:
            marks.append((start, tuple(replace(p, who=w) for p, w in zip(pair, on_screen, strict=False))))
    marks[0] = (0.0, marks[0][1])
    return _lit_and_moved(marks, length, rng)


def _lit_and_moved(
    marks: Sequence[tuple[float, tuple[Placed, ...]]], length: float, rng: np.random.Generator
) -> list[Shot]:
    """Shots that begin at the marks, with what the camera and the light do in each."""
    kept = [marks[0]]
    for mark in marks[1:]:
        if mark[1] != kept[-1][1]:
            kept.append((round(mark[0] * FPS) / FPS, mark[1]))
    shots = []
    for (start, placed), end in zip(kept, [*(mark[0] for mark in kept[1:]), length], strict=True):
        draw = rng.random()
        shots.append(
            Shot(
                start,
                end,
                placed,
                zoom=float(rng.uniform(0.92, 1.15)) if draw < 0.4 else 1.0,
                pan=float(rng.uniform(-50, 50)) if 0.4 <= draw < 0.6 else 0.0,
                light_at=float(rng.uniform(start, end)) if 0.6 <= draw < 0.7 else None,
            )
        )
    return shots


def _film(scene: Scene, spoken: Sequence[Spoken], length: float, seed: int) -> Iterator[bytes]:
    """All frames, RGB."""
    rng = np.random.default_rng(seed)
    jaws = [jaw(item.sound) for item in spoken]
    column, row = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    place = (column - WIDTH / 2, row - HEIGHT / 2)
    background = wall()
    grain = rng.normal(0, 2.5, (7, HEIGHT, WIDTH, 1)).astype(np.float32)
    dark = float(rng.uniform(0.3, 1.0)) if scene.name.startswith("montage") else 1.0
    tint = np.array(colorsys.hsv_to_rgb(rng.uniform(), 0.15, rng.uniform(0.75, 1.0)), np.float32)
    for number in range(round(length * FPS)):
        time_s = number / FPS
        shot = next((s for s in scene.shots if time_s < s.end), scene.shots[-1])
        zoom, pan = _camera_move(shot, time_s)
        nearest = max(p.scale for p in shot.placed)
        look = Camera(480 + pan / 2, 200 + 40 * nearest, 0.6 + 0.25 * nearest * zoom)
        x, y = place[0] / look.scale + look.x, place[1] / look.scale + look.y
        picture = cv2.remap(background, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        for placed in shot.placed:
            pose = _pose(scene, spoken, jaws, placed.who, time_s)
            _stand(picture, placed, zoom, pan, moves(scene.sway[placed.who], time_s), pose)
        light = dark * (0.6 if shot.light_at is not None and time_s >= shot.light_at else 1.0)
        yield np.clip(picture * tint * light + grain[number % len(grain)], 0, 255).astype(np.uint8).tobytes()


def _stand(
    picture: Picture,
    placed: Placed,
    zoom: float,
    pan: float,
    move: tuple[float, float, float],
    pose: Pose,
) -> None:
    """Draw a person into the picture."""
    person, scale = people()[placed.who], placed.scale * zoom
    middle = WIDTH / 2 + placed.aside * zoom - pan
    left, right = (int(np.clip(middle + s * 300 * scale, 0, WIDTH)) for s in (-1, 1))
    if right <= left:
        return
    # Places in the portrait are an affine function of those on the screen: turned about the neck.
    neck = np.array([person.mirror(224), 190.0])
    turn = np.array([[np.cos(move[2]), np.sin(move[2])], [-np.sin(move[2]), np.cos(move[2])]])
    origin = np.array([person.mirror(FACE_X) - move[0], placed.camera_y - move[1]])
    origin += (np.array([left, 0.0]) - np.array([middle, HEIGHT / 2])) / scale
    affine = np.column_stack([turn / scale, turn @ (origin - neck) + neck])
    size = (right - left, HEIGHT)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    colours = cv2.warpAffine(person.picture, affine * DETAIL, size, flags=flags)
    mask = cv2.warpAffine(person.mask, affine * DETAIL, size, flags=flags)[..., None]
    # The face is posed, which takes ten times as long a pixel; the rest holds still.
    x0, y0 = (
        int(np.clip(middle - left - 75 * scale, 0, size[0])),
        int((40 - placed.camera_y) * scale + HEIGHT / 2),
    )
    x1, y1 = int(np.clip(middle - left + 75 * scale, 0, size[0])), int(y0 + 165 * scale)
    y0, y1 = max(0, y0), min(HEIGHT, y1)
    if x1 > x0 and y1 > y0:
        column, row = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
        x, y = (line[0] * column + line[1] * row + line[2] for line in affine)
        posed = render(person, pose, x.astype(np.float32), y.astype(np.float32))
        colours[y0:y1, x0:x1], mask[y0:y1, x0:x1] = posed
    picture[:, left:right] += (colours - picture[:, left:right]) * mask


def _pose(
    scene: Scene, spoken: Sequence[Spoken], jaws: Sequence[NDArray[np.float64]], who: int, time_s: float
) -> Pose:
    """The face of somebody: their jaw by their sound, else what a listener's face does."""
    now, mouth, talks = FACES["neutral"], 0.0, False
    for item, openness in zip(spoken, jaws, strict=True):
        if int(item.line.speaker) != who:
            continue
        share = float(np.clip((time_s - item.start + 0.5) / 0.4, 0, 1))
        now = blend(now, FACES[item.line.emotion], share)
        if item.start <= time_s < item.end:
            talks = True
            mouth = float(openness[min(round((time_s - item.start) * FPS), len(openness) - 1)])
    rng = np.random.default_rng(scene.sway[who] + 1)
    blink_every, smile_every = rng.uniform(2.2, 4.5), rng.uniform(4.0, 7.0)
    phases = rng.uniform(0, 5, 3)
    blink = max(0.0, 1 - abs((time_s + phases[0]) % blink_every - 0.12) / 0.12)
    smile = 0.0 if talks else 3.0 * max(0.0, 1 - abs((time_s + phases[1]) % smile_every - 1.0) / 0.8)
    brows = 2.5 * max(0.0, 1 - abs((time_s + phases[2]) % 3.7 - 0.6) / 0.4)
    jaw_px = now.mouth + 9 * mouth if talks else min(now.mouth, -3.0)
    return Pose(jaw_px, now.smile + smile, now.inner_brows + brows, now.outer_brows + brows, blink)
