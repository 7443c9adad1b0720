"""Synthetic dialogue for the example recordings: espeak-ng voices in a room, and subtitles to go with them.

Needs the program ``espeak-ng`` (Debian and Ubuntu: ``apt-get install espeak-ng``); the recordings themselves
are stored, so only who makes them anew needs it. Everything is seeded: one espeak-ng gives the same samples.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve, lfilter, resample_poly

RATE_HZ = 24_000
SPEECH_DBFS = -21.0  # level of the active parts of speech
Sound = NDArray[np.float64]  # (n,) mono at RATE_HZ, full scale 1


@dataclass(frozen=True)
class Voice:
    """Somebody who speaks, and where they sit.

    Args:
        espeak: voice and variant as ``espeak-ng -v`` takes them.
        pitch: 0 to 99.
        speed_wpm: words a minute.
        size: of the vocal tract, relative to espeak's: above 1 lowers pitch and formants.
        seed: of the reflections at the place where they sit.
    """

    espeak: str
    pitch: int
    speed_wpm: int
    size: float
    seed: int


@dataclass(frozen=True)
class Style:
    """How an emotion changes a voice: the plainest of what is known of emotional prosody."""

    pitch: int = 0  # added to the voice's
    speed: float = 1.0  # times the voice's
    range_percent: int = 100  # of the melody
    gain_db: float = 0.0


STYLES: Mapping[str, Style] = {
    "neutral": Style(),
    "joy": Style(pitch=8, speed=1.06, range_percent=150, gain_db=1.5),
    "surprise": Style(pitch=10, speed=1.04, range_percent=170, gain_db=1.5),
    "anger": Style(pitch=4, speed=1.12, range_percent=130, gain_db=4.0),
    "fear": Style(pitch=7, speed=1.12, range_percent=80, gain_db=-1.0),
    "disgust": Style(pitch=-4, speed=0.94, range_percent=120),
    "sadness": Style(pitch=-6, speed=0.86, range_percent=60, gain_db=-3.0),
}


@dataclass(frozen=True)
class Line:
    """One turn: who says what, how, and after what pause (negative: into the words of the one before)."""

    speaker: str
    emotion: str
    text: str
    pause_s: float = 0.45


@dataclass(frozen=True)
class Spoken:
    """A line with its place in the recording, in seconds, and its sound there."""

    line: Line
    start: float
    end: float
    sound: Sound


def speak(voice: Voice, line: Line) -> Sound:
    """The line in the voice, without silence around it, at the level of its emotion."""
    program = shutil.which("espeak-ng")
    if program is None:
        sys.exit("espeak-ng is missing: install it (apt-get install espeak-ng) to make the recordings anew")
    style = STYLES[line.emotion]
    ssml = f'<prosody range="{style.range_percent}%">{escape(line.text)}</prosody>'
    speed = round(voice.speed_wpm * style.speed * voice.size)  # the change of size below slows it down again
    command = [program, "-v", voice.espeak, "-p", f"{voice.pitch + style.pitch}", "-s", f"{speed}"]
    spoken = subprocess.run([*command, "-m", "-z", "--stdout", ssml], capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(spoken)) as file:
        rate = file.getframerate()
        # Written to a pipe, the header does not know the length: it is what follows.
        samples = np.frombuffer(file.readframes(len(spoken)), "<i2") / 32768
    ratio = Fraction(RATE_HZ * voice.size / rate).limit_denominator(200)
    sound: Sound = resample_poly(samples, ratio.numerator, ratio.denominator)
    loud = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max())
    sound = sound[loud[0] : loud[-1] + 1]
    return sound * 10 ** ((SPEECH_DBFS + style.gain_db) / 20) / active_level(sound)


def active_level(sound: Sound) -> float:
    """Root mean square of the louder half of 20 ms frames: pauses don't count."""
    frame = RATE_HZ // 50
    frames = sound[: len(sound) // frame * frame].reshape(-1, frame)
    energy = np.sort(np.mean(frames**2, axis=1))
    return float(np.sqrt(np.mean(energy[len(energy) // 2 :])))


def perform(lines: Sequence[Line], voices: Mapping[str, Voice], start: float) -> list[Spoken]:
    """Speaks the lines one after the other, the first ``start`` seconds into the recording."""
    spoken: list[Spoken] = []
    clock = start
    for number, line in enumerate(lines):
        sound = speak(voices[line.speaker], line)
        begin = clock + (line.pause_s if number else 0.0)
        clock = begin + len(sound) / RATE_HZ
        spoken.append(Spoken(line, begin, clock, sound))
    return spoken


def reflect(sound: Sound, seed: int, decay_s: float, share: float) -> Sound:
    """The sound and its reverberation: decaying noise (Moorer 1979) after a gap of 8 ms, same length."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(decay_s * RATE_HZ)) / RATE_HZ
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / decay_s)  # 60 dB down at decay_s
    tail[times < 0.008] = 0
    tail = lfilter([0.35], [1, -0.65], tail)  # walls swallow the highs
    tail *= share / np.sqrt(np.sum(tail**2))
    wet: Sound = fftconvolve(sound, tail)[: len(sound)]
    return sound + wet


def mix(spoken: Sequence[Spoken], voices: Mapping[str, Voice], duration_s: float, decay_s: float) -> Sound:
    """All that is spoken, each speaker with the reflections of their own place, over the hiss of the room."""
    total = np.zeros(round(duration_s * RATE_HZ))
    for name, voice in voices.items():
        own = np.zeros_like(total)
        for item in spoken:
            if item.line.speaker == name:
                first = round(item.start * RATE_HZ)
                own[first : first + len(item.sound)] += item.sound
        total += reflect(own, voice.seed, decay_s, share=0.3)
    hiss: Sound = lfilter([0.1], [1, -0.9], np.random.default_rng(0).standard_normal(len(total)))
    return total + hiss * 10 ** (-62 / 20) / np.std(hiss)


def subrip(spoken: Sequence[Spoken], with_names: bool) -> str:
    """SubRip cues, one a turn, of at most two rows of text."""
    cues = []
    for number, item in enumerate(spoken, 1):
        text = f"{item.line.speaker.upper()}: {item.line.text}" if with_names else item.line.text
        cues.append(f"{number}\n{_clock(item.start)} --> {_clock(item.end)}\n{_two_rows(text)}\n")
    return "\n".join(cues)


def _clock(seconds: float) -> str:
    whole, milli = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02},{milli:03}"


def _two_rows(text: str, longest: int = 42) -> str:
    """Broken at the space nearest to the middle, where it is too long for one row."""
    if len(text) <= longest:
        return text
    spaces = [place for place, letter in enumerate(text) if letter == " "]
    middle = min(spaces, key=lambda place: abs(place - len(text) / 2))
    return f"{text[:middle]}\n{text[middle + 1 :]}"


def write_wav(path: Path, sound: Sound) -> None:
    """16-bit mono, brought under full scale where it would clip."""
    peak = np.abs(sound).max()
    samples = np.round(sound * min(1.0, 0.98 / peak) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.tobytes())


def ffmpeg(inputs: Sequence[str | Path], outputs: Sequence[str | Path], frames: Iterable[bytes] = ()) -> None:
    """Runs ffmpeg, with ``frames`` on its standard input. What it writes names neither dates nor versions."""
    quiet = ["-hide_banner", "-loglevel", "error", "-y"]
    exact = ["-fflags", "+bitexact", "-flags", "+bitexact", "-map_metadata", "-1", "-map_chapters", "-1"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *quiet, *inputs, *exact, *outputs]
    with subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for frame in frames:
            process.stdin.write(frame)
        process.stdin.close()
    if process.returncode:
        sys.exit(f"ffmpeg failed with exit code {process.returncode}")
