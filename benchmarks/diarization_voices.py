"""Learns annotator/diarize/voices.safetensors: the directions in which one voice changes with its mood.

Meetings are assembled from the acted sentences of RAVDESS (see conversations.py), so that each voice is
heard in eight moods, with echo and noise. Stretches of one speaker are embedded; the directions of largest
scatter within a voice, averaged over voices, are what the diarizer leaves out (nuisance attribute
projection: Solomonoff et al., ICASSP 2005).

The file holds directions of embeddings, no recordings. RAVDESS is CC BY-NC-SA 4.0.

    python -m benchmarks.diarization_voices [--data FOLDER] [--actors 1-16] [--out FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from annotator.diarize import DiarizerSettings
from annotator.diarize.clustering import directions
from annotator.diarize.embedded import Embedded, gain, loudness, stretches_alone
from annotator.diarize.networks import EMBEDDING
from annotator.diarize.weights import VOICES
from benchmarks.conversations import DATA, Meeting, assemble, ravdess

MOODS = 6  # directions that are kept
SPEAKERS = (2, 3, 4, 5, 6, 3, 4, 5, 6, 4, 5, 6)  # of the meetings that are assembled
SECONDS = 600.0
LEAST = 80  # frames of 10 ms of a stretch that is learnt from


def voices_in(meeting: Meeting, diarizer: Embedded) -> dict[str, NDArray[np.float32]]:
    """Embeddings of the stretches of each speaker, norm 1, by who really speaks most in them."""
    level = loudness(meeting.audio)
    assert level is not None
    active = diarizer.speaking(meeting.audio, gain(level))
    names = sorted({turn.speaker for turn in meeting.turns})
    true = np.zeros((len(active), len(names)), bool)
    for turn in meeting.turns:
        true[round(turn.start * 100) : round(turn.end * 100), names.index(turn.speaker)] = True
    chosen = [frames for frames in stretches_alone(active) if len(frames) >= LEAST]
    embeddings = directions(diarizer.embed(meeting.audio, chosen, gain(level)))
    found: dict[str, list[NDArray[np.float32]]] = {}
    for frames, embedding in zip(chosen, embeddings, strict=True):
        said = true[frames].sum(axis=0)
        if said.max() > 0:
            found.setdefault(names[int(said.argmax())], []).append(embedding)
    return {name: np.stack(rows) for name, rows in found.items()}


def learn(voices: dict[str, NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Directions of largest scatter within a voice, and all scatters. Voices count alike."""
    within = np.mean([np.cov(rows.T, bias=True) for rows in voices.values()], axis=0)
    scatter, axes = np.linalg.eigh(within)
    return np.ascontiguousarray(axes[:, ::-1][:, :MOODS], np.float32), scatter[::-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--actors", default="1-16", help="first-last of RAVDESS")
    parser.add_argument("--out", type=Path, default=VOICES)
    options = parser.parse_args()
    first, last = (int(number) for number in options.actors.split("-"))
    if not VOICES.is_file():  # the diarizer asks for it, but here only its networks are used
        save_file({"moods": np.zeros((EMBEDDING, MOODS), np.float32)}, VOICES)
    diarizer = Embedded(DiarizerSettings())
    parts: dict[str, list[NDArray[np.float32]]] = {}
    sentences = ravdess(options.data, range(first, last + 1))
    for number, speakers in enumerate(SPEAKERS):
        meeting = assemble(sentences, speakers, 1000 + number, SECONDS)
        for name, rows in voices_in(meeting, diarizer).items():
            parts.setdefault(name, []).append(rows)
    voices = {name: np.concatenate(rows) for name, rows in sorted(parts.items())}
    moods, scatter = learn(voices)
    save_file({"moods": moods}, options.out, metadata={"source": f"RAVDESS actors {options.actors}"})
    print(f"{sum(map(len, voices.values()))} stretches of {len(voices)} voices -> {options.out.name}")
    print("share of the scatter left out:", round(float(scatter[:MOODS].sum() / scatter.sum()), 3))


if __name__ == "__main__":
    main()
