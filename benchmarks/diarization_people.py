"""How well voices tell people in different recordings apart: what ``--link-speakers`` decides by.

Meetings are assembled (conversations.py) from known speakers, a speaker's vector is taken from their turns,
and all pairs of vectors from two meetings are compared: of one person, and of two. The threshold was chosen
on the actors 1 to 16, whom the voice space was learnt from too (``--tuning``); reported are RAVDESS actors 17
to 20 and EmoDB.

Prints a table, and as its last line one JSON object. Exits 2 without the data.

    python -m benchmarks.diarization_people [--data FOLDER] [--meetings N] [--tuning]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from annotator.diarize import make_voices
from annotator.records import Turn, Utterance
from annotator.settings import RunSettings
from benchmarks.conversations import DATA, REPORTED, TUNED_ON, Meeting, assemble, emodb, ravdess

THRESHOLDS = (0.5, 0.6, 0.65, 0.7, 0.75, 0.8)


def utterances(meeting: Meeting) -> list[Utterance]:
    """The true turns as utterances, with the share that others speak in."""

    def overlap(turn: Turn) -> float:
        shared = (
            max(0.0, min(turn.end, t.end) - max(turn.start, t.start))
            for t in meeting.turns
            if t.speaker != turn.speaker
        )
        return min(1.0, sum(shared) / (turn.end - turn.start))

    return [Utterance(0, i, t.start, t.end, t.speaker, overlap(t)) for i, t in enumerate(meeting.turns)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the public corpora")
    parser.add_argument("--meetings", type=int, default=15)
    parser.add_argument("--tuning", action="store_true", help="the actors that the threshold comes from")
    options = parser.parse_args()
    if not (options.data / "speech").is_dir():
        print(f"There is no speech in {options.data}: give the folder of the corpora with --data.")
        return 2
    import torch

    torch.set_num_threads(1)
    voices_of = make_voices("cpu")
    pool = ravdess(options.data, TUNED_ON) if options.tuning else (
        ravdess(options.data, REPORTED) + emodb(options.data)
    )  # fmt: skip
    heard = []
    for number in range(options.meetings):
        meeting = assemble(pool, 4 + number % 3, seed=500 + number, seconds=150.0)
        heard += [
            (number, who, voice) for who, voice in voices_of(meeting.audio, utterances(meeting)).items()
        ]
    pairs = [(a[1] == b[1], float(a[2] @ b[2])) for a, b in itertools.combinations(heard, 2) if a[0] != b[0]]
    same = np.array([cosine for is_one, cosine in pairs if is_one])
    other = np.array([cosine for is_one, cosine in pairs if not is_one])
    print(f"{len(heard)} voices; {len(same)} pairs of one person, {len(other)} of two")
    print(f"{'cosine':>8}{'one, joined %':>16}{'two, joined %':>16}")
    rows = []
    for threshold in THRESHOLDS:
        joined = [round(100 * float(np.mean(values >= threshold)), 1) for values in (same, other)]
        rows.append({"threshold": threshold, "one_person": joined[0], "two_people": joined[1]})
        mark = " *" if threshold == RunSettings().link_threshold else ""
        print(f"{threshold:8.2f}{joined[0]:16.1f}{joined[1]:16.1f}{mark}")
    print(
        json.dumps(
            {
                "pairs": rows,
                "voices": len(heard),
                "cores": 1,
                "machine_cores": os.cpu_count(),
                "versions": {"python": platform.python_version(), "torch": version("torch")},
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
