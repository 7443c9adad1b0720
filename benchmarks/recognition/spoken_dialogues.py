"""MELD's test sentences, spoken by espeak-ng: what do errors of recognised words cost the labels?

A toy, as espeak-ng feels nothing and is harder to understand than people: it tells what errors of words do to
labels of text, not how good labels are.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from annotator.records import RATE_HZ

from . import espeak
from .references import Recording

VOICES = ("en-us", "en+f3", "en+m3", "en-us+f2", "en+m7", "en-us+f4")
PAUSE_S = 0.5


@dataclass(frozen=True)
class Line:
    """An utterance of a recording: seconds, what is said, and the label that people gave."""

    start: float
    end: float
    speaker: str
    text: str
    emotion: str


@dataclass(frozen=True)
class Dialogue:
    recording: Recording
    lines: tuple[Line, ...]

    def write(self, folder: Path, with_text: bool) -> None:
        """The sound, and beside it the turns, or the words and who says them."""
        path = self.recording.write(folder)
        if with_text:
            cues = [
                f"{i}\n{_clock(line.start)} --> {_clock(line.end)}\n{line.speaker}: {line.text}\n"
                for i, line in enumerate(self.lines, 1)
            ]
            path.with_suffix(".srt").write_text("\n".join(cues), encoding="utf-8")
        else:
            turns = [
                f"SPEAKER {path.stem} 1 {line.start:.3f} {line.end - line.start:.3f} "
                f"<NA> <NA> {line.speaker.replace(' ', '_')} <NA> <NA>\n"
                for line in self.lines
            ]
            path.with_suffix(".rttm").write_text("".join(turns), encoding="utf-8")


def dialogues(data: Path, count: int) -> list[Dialogue]:
    """The first dialogues of MELD's test that have at least five utterances, spoken."""
    rows: defaultdict[int, list[dict[str, str]]] = defaultdict(list)
    with open(data / "dialogues" / "meld" / "test_sent_emo.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows[int(row["Dialogue_ID"])].append(row)
    chosen = [(number, some) for number, some in sorted(rows.items()) if len(some) >= 5][:count]
    return [_spoken(f"meld_{number}", some) for number, some in chosen]


def _spoken(name: str, rows: list[dict[str, str]]) -> Dialogue:
    voices: dict[str, str] = {}
    sounds, lines, at = [np.zeros(RATE_HZ // 2, np.int16)], [], 0.5
    for row in rows:
        speaker, text = row["Speaker"], " ".join(row["Utterance"].replace("\x92", "'").split())
        voice = voices.setdefault(speaker, VOICES[len(voices) % len(VOICES)])
        samples = espeak.spoken(voice, text).recording.samples
        end = at + len(samples) / RATE_HZ
        lines.append(Line(at, end, speaker, text, row["Emotion"]))
        sounds += [samples, np.zeros(round(PAUSE_S * RATE_HZ), np.int16)]
        at = end + PAUSE_S
    sound = np.concatenate(sounds)
    text = " ".join(line.text for line in lines)
    return Dialogue(Recording(name, sound, text, tuple((x.start, x.end) for x in lines)), tuple(lines))


def labels_of(table: pl.DataFrame, dialogue: Dialogue) -> list[str | None]:
    """The label in the table for each line: that of the row which shares most time with it."""
    rows = table.filter(pl.col("file") == f"{dialogue.recording.name}.wav").rows(named=True)
    out: list[str | None] = []
    for line in dialogue.lines:
        shared = [
            (min(line.end, row["end"]) - max(line.start, row["start"]), i) for i, row in enumerate(rows)
        ]
        best, i = max(shared, default=(0.0, 0))
        out.append(rows[i]["emotion"] if best > 0 else None)
    return out


def _clock(seconds: float) -> str:
    whole = round(1000 * seconds)
    return f"{whole // 3600000:02}:{whole // 60000 % 60:02}:{whole // 1000 % 60:02},{whole % 1000:03}"
