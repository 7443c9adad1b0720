"""Recordings of which it is known what is said, or where: clips of the public corpora, joined."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.records import RATE_HZ
from benchmarks.conversations import ami, read_flac

Spans = tuple[tuple[float, float], ...]
PAUSE_S = 1.0  # digital silence between joined clips
A_RECORDING = 20  # clips


@dataclass(frozen=True)
class Recording:
    """Sound, what is said in it (empty: not known), and where anybody speaks, in seconds."""

    name: str
    samples: NDArray[np.int16]
    text: str
    speech: Spans

    def write(self, folder: Path) -> Path:
        import soundfile

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.wav"
        soundfile.write(path, self.samples, RATE_HZ, subtype="PCM_16")
        return path

    @property
    def speech_s(self) -> float:
        return sum(end - start for start, end in self.speech)


def joined(name: str, parts: Sequence[Recording], pause_s: float = PAUSE_S) -> Recording:
    """One recording after the other, with pauses between them."""
    pause = np.zeros(round(pause_s * RATE_HZ), np.int16)
    sounds: list[NDArray[np.int16]] = []
    speech: list[tuple[float, float]] = []
    length = 0
    for part in parts:
        speech += [(length / RATE_HZ + start, length / RATE_HZ + end) for start, end in part.speech]
        sounds += [part.samples, pause]
        length += len(part.samples) + len(pause)
    return Recording(name, np.concatenate(sounds), " ".join(part.text for part in parts), tuple(speech))


def _of_speakers(
    data: Path, corpus: str, speaker: str, text: str, wanted: Sequence[str], every: int
) -> list[Recording]:
    """Recordings of about 20 clips of one speaker each, in the order of the corpus' table."""
    with open(data / "speech" / f"{corpus}.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[speaker] in wanted]
    out: list[Recording] = []
    for name in wanted:
        own = [row for row in rows if row[speaker] == name][::every]
        for number in range(0, len(own), A_RECORDING):
            clips = []
            for row in own[number : number + A_RECORDING]:
                sound = read_flac(data / "speech" / row["file"])
                clips.append(Recording(row["file"], sound, row[text], ((0.0, len(sound) / RATE_HZ),)))
            out.append(joined(f"{corpus}_{name}_{number // A_RECORDING}", clips))
    return out


def ravdess(data: Path, every: int = 1) -> list[Recording]:
    """RAVDESS actors 17 to 20, English: 240 clips, or every n-th."""
    return _of_speakers(data, "ravdess", "actor", "statement", ("17", "18", "19", "20"), every)


def nemo(data: Path, every: int = 1) -> list[Recording]:
    """nEMO's speakers of dev and test, Polish, or every n-th clip of them."""
    return _of_speakers(data, "nemo", "speaker", "text", ("TP0", "WR0"), every)


def meetings(data: Path, count: int | None = None) -> list[Recording]:
    """The clips of AMI meetings, 30 s each: where anybody speaks is known, what is said is not."""
    return [
        Recording(m.name, m.audio.samples, "", union([(turn.start, turn.end) for turn in m.turns]))
        for m in ami(data)[:count]
    ]


def union(spans: Sequence[tuple[float, float]]) -> Spans:
    """Spans in order, those that overlap or touch made one."""
    out: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return tuple(out)


def share_of_speech(start: float, end: float, speech: Spans) -> float:
    """Share of a span during which somebody speaks."""
    spoken = sum(max(0.0, min(end, last) - max(start, first)) for first, last in speech)
    return spoken / max(end - start, 1e-9)
