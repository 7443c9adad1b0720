"""A recording as another voice, microphone, room and codec would give it.

One channel is drawn for a whole recording, as it is outside: a speaker's turns share it, and what is
measured against the speaker's other turns is free of it.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.media import ffmpeg_path
from annotator.records import RATE_HZ, SetupError

Samples = NDArray[np.float32]
# Ending and encoder options of what recordings come in.
CODECS = (
    ("opus", ("-c:a", "libopus", "-b:a", "16k")),
    ("opus", ("-c:a", "libopus", "-b:a", "32k")),
    ("mp3", ("-c:a", "libmp3lame", "-b:a", "32k")),
    ("mp3", ("-c:a", "libmp3lame", "-b:a", "64k")),
    ("m4a", ("-c:a", "aac", "-b:a", "48k")),
)
TELEPHONE = ("wav", ("-ar", "8000", "-c:a", "pcm_mulaw"))
TELEPHONES = 0.15  # share of the recordings
FAR = 0.3  # share of the recordings whose microphone stands on a table or hangs from a ceiling
PAUSE = RATE_HZ // 10  # between clips in one file, so that a codec's window sees one of them


@dataclass(frozen=True)
class Channel:
    """What is done to the clips of one recording."""

    speed: float  # 1.1: shorter and higher, as a smaller speaker who talks faster
    room: Samples | None  # impulse response
    low_hz: float
    high_hz: float
    tilt_db: float  # an octave, around 1 kHz
    noise_db: float  # under the clips' mean level
    brown: bool  # noise of traffic and fans; else white
    level_db: float  # mean level
    spread_db: float  # of the level of single clips: the speaker moves
    codec: tuple[str, tuple[str, ...]] | None  # of CODECS, or TELEPHONE


def draw_channel(rng: np.random.Generator) -> Channel:
    """A channel as likely as such recordings are."""
    far, near = rng.random(2) < (FAR, 0.4)
    room = None
    if far:
        room = echo(rng, rng.uniform(0.25, 0.8), rng.uniform(0.4, 1.4))
    elif near:
        room = echo(rng, rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.4))
    telephone = bool(rng.random() < TELEPHONES)
    codec = CODECS[int(rng.integers(len(CODECS)))] if rng.random() < 0.5 else None
    return Channel(
        speed=float(rng.uniform(0.88, 1.14)) if rng.random() < 0.6 else 1.0,
        room=room,
        low_hz=300.0 if telephone else float(rng.uniform(0, 200)),
        high_hz=3400.0 if telephone else float(rng.choice([3400.0, 5000.0, 8000.0], p=[0.1, 0.2, 0.7])),
        tilt_db=float(rng.uniform(-4, 4)),
        noise_db=float(rng.uniform(8, 30) if far else rng.uniform(15, 45)),
        brown=bool(rng.random() < 0.5),
        level_db=float(rng.uniform(-52, -26) if far else rng.uniform(-36, -16)),
        spread_db=float(rng.uniform(0, 1.5)),
        codec=TELEPHONE if telephone else codec,
    )


def echo(rng: np.random.Generator, seconds: float, share: float) -> Samples:
    """An impulse response: the direct sound, and exponentially decaying noise after it.

    Args:
        seconds: until the noise has fallen by 60 dB.
        share: of the noise, its norm beside that of the direct sound.
    """
    length = int(seconds * RATE_HZ)
    tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    tail *= share / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail.astype(np.float32)


def through(channel: Channel, clips: Sequence[Samples], rng: np.random.Generator) -> list[Samples]:
    """The clips ``(n_i,)`` of one recording after the channel.

    A clip keeps its length but for ``speed``. Differences in level between clips stay: they belong to
    the speaker.

    Raises: SetupError when ffmpeg lacks a codec.
    """
    changed = [_sounding(channel, clip.astype(np.float64)) for clip in clips]
    level = np.sqrt(np.mean(np.concatenate(changed) ** 2)) + 1e-9
    out = []
    for x in changed:
        noise = rng.standard_normal(len(x))
        if channel.brown:
            noise = np.cumsum(noise)
        noise -= noise.mean()
        x = x + noise / (np.std(noise) + 1e-9) * level * 10 ** (-channel.noise_db / 20)
        x *= 10 ** ((channel.level_db + channel.spread_db * rng.standard_normal()) / 20) / level
        out.append(np.clip(x, -1, 1).astype(np.float32))
    return out if channel.codec is None else coded(out, *channel.codec)


def _sounding(channel: Channel, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """One clip at another speed, in a room, through a microphone."""
    if channel.speed != 1.0:
        n = round(len(x) / channel.speed)
        x = np.fft.irfft(np.fft.rfft(x)[: n // 2 + 1], n) * (n / len(x))
    if channel.room is not None:
        n = len(x) + len(channel.room)
        x = np.fft.irfft(np.fft.rfft(x, n) * np.fft.rfft(channel.room, n), n)[: len(x)]
    spectrum = np.fft.rfft(x)
    hertz = np.fft.rfftfreq(len(x), 1 / RATE_HZ)
    spectrum[(hertz < channel.low_hz) | (hertz > channel.high_hz)] *= 0.03
    spectrum *= 10 ** (channel.tilt_db * np.log2(np.maximum(hertz, 50) / 1000) / 20)
    return np.fft.irfft(spectrum, len(x))


def coded(clips: Sequence[Samples], ending: str, options: Sequence[str]) -> list[Samples]:
    """The clips encoded and decoded again as one file, each in its place.

    Raises: SetupError when ffmpeg can't.
    """
    pause = np.zeros(PAUSE, np.float32)
    joined = np.concatenate([piece for clip in clips for piece in (pause, clip)] + [pause])
    pcm = ("-f", "s16le", "-ar", str(RATE_HZ), "-ac", "1")
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, f"clips.{ending}"))
        _ffmpeg([*pcm, "-i", "pipe:0", *options, file], (joined * 32767).astype("<i2").tobytes())
        decoded = np.frombuffer(_ffmpeg(["-i", file, *pcm, "pipe:1"], b""), "<i2")
    whole = np.zeros(len(joined), np.float32)
    kept = decoded[: len(joined)]
    whole[: len(kept)] = kept / np.float32(32767)
    out, at = [], PAUSE
    for clip in clips:
        out.append(whole[at : at + len(clip)])
        at += len(clip) + PAUSE
    return out


def _ffmpeg(arguments: Sequence[str], given: bytes) -> bytes:
    command = [ffmpeg_path(), "-hide_banner", "-loglevel", "error", *arguments]
    ended = subprocess.run(command, input=given, capture_output=True, check=False)
    if ended.returncode:
        reason = " ".join(ended.stderr.decode("utf-8", "replace").split())[:200]
        raise SetupError(
            f"ffmpeg could not encode sound for training ({reason}): install a full build of it."
        )
    return ended.stdout
