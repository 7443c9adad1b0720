"""Learns annotator/diarize/voices.safetensors: where voices differ, and how one voice varies.

Meetings are assembled from the acted sentences of RAVDESS (see diarization.py), so that each voice is
heard in eight moods, with echo and noise. Windows of 1.6 s with one speaker are embedded with the GE2E
encoder; their scatter within a voice is made even (directions of little scatter are raised by the mean
scatter, so that they don't blow up), and the directions are sorted by how far voices lie apart in them.
This is two-covariance probabilistic linear discriminant analysis (Ioffe, "Probabilistic linear
discriminant analysis", ECCV 2006). With few voices most directions show no spread of their own: they get
a fifth of the mean.

The file holds means and directions of embeddings, no recordings. RAVDESS is CC BY-NC-SA 4.0.

    python -m benchmarks.diarization_voices [--data FOLDER] [--actors 1-16] [--out FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from annotator.diarize import DiarizerSettings
from annotator.diarize.embedded import HALF, STEP, VOICE_LEVEL_DB, Embedded, gain, loudness
from annotator.diarize.weights import VOICES
from benchmarks.diarization import DATA, Meeting, assemble, ravdess

AXES = 64
SPEAKERS = (2, 3, 4, 5, 6, 3, 4, 5, 6, 4, 5, 6)  # of the meetings that are assembled
SECONDS = 300.0
LEAST_SHARE = 0.2  # of the mean spread between voices, given to directions without their own


def voices_in(meeting: Meeting, diarizer: Embedded) -> dict[str, NDArray[np.float32]]:
    """Embeddings of the windows in which one speaker speaks for most of the time, by speaker."""
    frames = len(meeting.audio.samples) // 160
    names = sorted({turn.speaker for turn in meeting.turns})
    active = np.zeros((frames, len(names)), bool)
    for turn in meeting.turns:
        active[round(turn.start * 100) : round(turn.end * 100), names.index(turn.speaker)] = True
    centres = np.arange(HALF, frames - HALF, STEP)
    level = loudness(meeting.audio)
    assert level is not None
    embeddings = diarizer.embed(meeting.audio, centres, gain(level, VOICE_LEVEL_DB)).astype(np.float32)
    found: dict[str, list[NDArray[np.float32]]] = {}
    for centre, embedding in zip(centres, embeddings, strict=True):
        window = active[centre - HALF : centre + HALF]
        if window.sum(axis=1).max() == 1 and window.mean(axis=0).max() > 0.8:
            found.setdefault(names[int(window.mean(axis=0).argmax())], []).append(embedding)
    return {name: np.stack(rows) for name, rows in found.items()}


def learn(windows: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The mean, the axes and the spread between voices along them. Voices count alike."""
    means = np.stack([rows.mean(axis=0) for rows in windows.values()]).astype(np.float64)
    mean = means.mean(axis=0)
    within = np.mean([np.cov(rows.T, bias=True) for rows in windows.values()], axis=0)
    scatter, directions = np.linalg.eigh(within)
    even = directions @ np.diag((scatter + scatter.mean()) ** -0.5) @ directions.T
    apart = (means - mean) @ even
    spread, axes = np.linalg.eigh(apart.T @ apart / (len(means) - 1))
    spread, axes = spread[::-1], axes[:, ::-1]
    least = LEAST_SHARE * spread[: len(means) - 1].mean()
    return {
        "mean": mean.astype(np.float32),
        "axes": np.ascontiguousarray(even @ axes[:, :AXES], np.float32),
        "spread": np.maximum(spread[:AXES], least).astype(np.float32),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--actors", default="1-16", help="first-last of RAVDESS")
    parser.add_argument("--out", type=Path, default=VOICES)
    options = parser.parse_args()
    first, last = (int(number) for number in options.actors.split("-"))
    if not VOICES.is_file():  # the diarizer asks for it, but here only its encoder is used
        nothing = np.zeros((256, AXES), np.float32)
        save_file({"mean": nothing[:, 0].copy(), "axes": nothing, "spread": nothing[0].copy()}, VOICES)
    diarizer = Embedded(DiarizerSettings())
    parts: dict[str, list[NDArray[np.float32]]] = {}
    sentences = ravdess(options.data, range(first, last + 1))
    for number, speakers in enumerate(SPEAKERS):
        meeting = assemble(sentences, speakers, 1000 + number, SECONDS)
        for name, rows in voices_in(meeting, diarizer).items():
            parts.setdefault(name, []).append(rows)
    windows = {name: np.concatenate(rows) for name, rows in sorted(parts.items())}
    learnt = learn(windows)
    save_file(learnt, options.out, metadata={"source": f"RAVDESS actors {options.actors}"})
    print(f"{sum(map(len, windows.values()))} windows of {len(windows)} voices -> {options.out.name}")
    print("largest spreads:", np.round(learnt["spread"][:8], 1).tolist())


if __name__ == "__main__":
    main()
