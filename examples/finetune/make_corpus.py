"""Makes a small corpus to fine-tune on: recordings, subtitles and a table of labels, in a folder.

    python examples/finetune/make_corpus.py build/example

Nobody was recorded. A voice is a train of pulses through three resonances; it is high and lively when
pleased, loud and fast when cross, flat when calm, and the words say the same. It stands in for a lab's own
meetings: it shows the commands, and says nothing about real voices.
"""

from __future__ import annotations

import csv
import sys
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
PAIRS = (("Ana", "Ben"), ("Cleo", "Dan"), ("Eva", "Finn"), ("Gita", "Hal"), ("Ida", "Jon"), ("Kim", "Leo"))
TURNS = 10  # of a recording
PAUSE_S = 1.0  # between turns; shorter ones of one voice would be one utterance of a run

# label: what is said; pitch, range of the melody, loudness and syllables a second against a calm voice
SAID = {
    "calm": ("The report is on the table.", "We meet again on Monday.", "It is the third room on the left."),
    "pleased": ("That is wonderful news!", "I love how this turned out!", "Thank you, this is so great!"),
    "cross": ("I told you not to do that!", "This is terrible, stop it!", "You never listen to me!"),
}
MANNER = {"calm": (1.0, 0.05, 0.3, 3.2), "pleased": (1.35, 0.3, 0.5, 4.0), "cross": (1.15, 0.15, 0.9, 5.0)}


@dataclass(frozen=True)
class Turn:
    """Who says what, when (seconds) and how."""

    start: float
    end: float
    speaker: str
    label: str
    text: str


def voice(
    pitch_hz: float, tract: float, label: str, seconds: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Something like speech, ``(n,)`` in [-1, 1]."""
    height, melody, loud, syllables = MANNER[label]
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    pitch = pitch_hz * height * (1 + melody * np.sin(2 * np.pi * 1.3 * time + rng.uniform(0, 6)))
    pulses = (np.cumsum(pitch) / RATE_HZ % 1 < 0.1) - 0.1
    sound = np.zeros(len(time))
    ring_time = np.arange(400) / RATE_HZ
    for formant, width in ((600 * tract, 80), (1400 * tract, 120), (2600 * tract, 160)):
        ring = np.exp(-np.pi * width * ring_time) * np.sin(2 * np.pi * formant * ring_time)
        sound += np.convolve(pulses, ring)[: len(time)]
    sound *= np.clip(np.sin(2 * np.pi * syllables * time), 0, 1) ** 0.5
    sound += 0.002 * rng.standard_normal(len(time))
    whole: NDArray[np.float64] = loud * sound / np.abs(sound).max()
    return whole


def conversation(pair: tuple[str, str], seed: int) -> tuple[list[Turn], NDArray[np.float64]]:
    """The turns of a conversation and its sound."""
    rng = np.random.default_rng(seed)
    people = [name for two in PAIRS for name in two]
    turns, pieces, now = [], [], 0.0
    for number in range(TURNS):
        speaker = pair[number % 2]
        who = people.index(speaker)
        label = list(SAID)[int(rng.integers(len(SAID)))]
        seconds = float(rng.uniform(1.2, 1.9))
        pause = np.zeros(int(PAUSE_S * RATE_HZ))
        pieces += [pause, voice(105 + 13 * who, 0.9 + 0.02 * who, label, seconds, rng)]
        start = now + PAUSE_S
        now = start + len(pieces[-1]) / RATE_HZ
        text = SAID[label][int(rng.integers(3))]
        turns.append(Turn(round(start, 3), round(now, 3), speaker, label, text))
    return turns, np.concatenate([*pieces, np.zeros(RATE_HZ // 2)])


def write(folder: Path, name: str, turns: list[Turn], sound: NDArray[np.float64]) -> None:
    """A recording, with subtitles beside it that name nobody."""

    def clock(seconds: float) -> str:
        ms = round(seconds * 1000)
        return f"00:{ms // 60_000:02}:{ms // 1000 % 60:02},{ms % 1000:03}"

    folder.mkdir(parents=True, exist_ok=True)
    with wave.open(str(folder / f"{name}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    cues = [f"{i}\n{clock(t.start)} --> {clock(t.end)}\n{t.text}\n" for i, t in enumerate(turns, start=1)]
    (folder / f"{name}.srt").write_text("\n".join(cues), encoding="utf-8")


def main() -> None:
    """Writes the folder that is named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("name a folder: python examples/finetune/make_corpus.py build/example")
    out = Path(sys.argv[1])
    rows: list[list[object]] = []
    for number in range(2 * len(PAIRS)):
        turns, sound = conversation(PAIRS[number % len(PAIRS)], seed=number)
        name = f"meeting{number:02}"
        write(out / "videos", name, turns, sound)
        for turn in turns:
            # Every third utterance leaves its words to the subtitles.
            said = "" if len(rows) % 3 == 2 else turn.text
            rows.append([f"{name}.wav", turn.start, turn.end, turn.speaker, turn.label, said])
    with open(out / "labels.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["clip", "from", "to", "who", "feeling", "said"])
        table.writerows(rows)
    write(out / "new", "tomorrow", *conversation(PAIRS[0], seed=100))


if __name__ == "__main__":
    main()
