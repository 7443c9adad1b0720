"""Small media files for tests, made with the ffmpeg of imageio-ffmpeg."""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path

import numpy as np

RATE_HZ = 16_000


def talk(path: Path, seconds: float = 6.0, pitch_hz: float = 120.0, seed: int = 0) -> Path:
    """A wav file with something like speech: syllables of a glottal pulse train through two formants."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE_HZ)
    time = np.arange(n) / RATE_HZ
    pitch = pitch_hz * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))
    phase = np.cumsum(pitch) / RATE_HZ
    source = (phase % 1 < 0.1).astype(float) - 0.1
    sound = np.zeros(n)
    for formant, width in ((600 + 200 * rng.random(), 80), (1200 + 600 * rng.random(), 120), (2600, 160)):
        decay = np.exp(-np.pi * width * np.arange(400) / RATE_HZ)
        ring = decay * np.sin(2 * np.pi * formant * np.arange(400) / RATE_HZ)
        sound += np.convolve(source, ring)[:n]
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * time + rng.random()), 0, 1) ** 0.5
    sound = sound * syllables + 0.002 * rng.standard_normal(n)
    return write_wav(path, 0.3 * sound / np.abs(sound).max())


def write_wav(path: Path, sound: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def run_ffmpeg(ffmpeg: str, *arguments: str) -> None:
    subprocess.run([ffmpeg, "-nostdin", "-y", "-loglevel", "error", *arguments], check=True, timeout=60)


def subtitles(path: Path, cues: list[tuple[float, float, str]]) -> Path:
    """An .srt file."""

    def stamp(seconds: float) -> str:
        ms = round(seconds * 1000)
        return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"

    blocks = [f"{i}\n{stamp(a)} --> {stamp(b)}\n{text}\n" for i, (a, b, text) in enumerate(cues, 1)]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path
