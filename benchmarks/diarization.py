"""Diarization of the embedded diarizer: real meetings, and assembled meetings, calls and scenes.

    (a) the 14 clips of AMI meetings, 30 s each, inside the scored region of their UEM
    (b) meetings of ten minutes: RAVDESS actors 17 to 20 and eight EmoDB speakers, two to six a meeting
    (c) calls of two, 30 s to 3 min, telephone band and mu-law, turns of 0.5 to 8 s, overlaps
    (d) scenes of 20 to 40 s with four to six voices
    (e) places where utterances without a transcript begin or end inside a word (word_cuts.py)

(c) and (d) are of RAVDESS actors 17 to 20 and the dev and test speakers of EmoDB and nEMO; how they are made:
conversations.py. Each is measured with the number of speakers estimated and given. The error is
pyannote.metrics' diarization error rate without collar, overlap included: the share of the speech time that
is missed, given to the wrong speaker, or heard where there is none. The distance of changes is the median of
how far each found change of speaker is from the nearest true one, and of each true one from the found ones.

Settings of the diarizer were chosen on other voices (``--tuning``): RAVDESS actors 1 to 16 and four of nEMO.

Prints a table, and as its last line one JSON object. Exits 1 when a limit of ``LIMITS`` is not kept; 2
without the data.

    python -m benchmarks.diarization [--data FOLDER] [--meetings N] [--calls N] [--scenes N] [--tuning]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from annotator import records
from annotator.diarize import DIARIZERS, DiarizerSettings, make_diarizer
from annotator.diarize.embedded import Embedded, Heard
from benchmarks.conversations import (
    DATA,
    REPORTED,
    TUNED_ON,
    Meeting,
    ami,
    assemble,
    call,
    emodb,
    ravdess,
    scene,
    voices_for_calls,
)
from benchmarks.word_cuts import measure_cuts

Speakers = Callable[[records.Audio, int | None], list[records.Turn]]

# Largest error in percent; of calls the least share of right counts; seconds; seconds a second; percent.
LIMITS = {
    "ami.der": 35.0,
    "ami.der_given": None,  # no more than ami.der
    "meetings.der": 7.0,
    "calls.der": 10.0,
    "calls.der_given": 6.0,
    "calls.miscounted": 0.15,
    "scenes.der": 30.0,
    "scenes.der_given": 18.0,
    "meetings.change_s": 0.25,
    "calls.change_s": 0.25,
    "meetings.real_time_factor": 0.03,
    "word_cuts.percent": 3.0,
}


def speakers_by(name: str) -> Speakers:
    """Turns of a recording, with the number of speakers given or not."""
    if name == "embedded":
        # What is heard does not depend on the number: it is listened to once.
        embedded = Embedded(DiarizerSettings())
        heard: dict[int, Heard] = {}

        def turns(audio: records.Audio, number: int | None) -> list[records.Turn]:
            if id(audio) not in heard:
                heard.clear()
                heard[id(audio)] = embedded.hear(audio)
            bounds = DiarizerSettings(speakers=number).bounds
            return embedded.turns(heard[id(audio)], *bounds)

        return turns

    def other(audio: records.Audio, number: int | None) -> list[records.Turn]:
        return make_diarizer(name, DiarizerSettings(speakers=number, offline=True))(audio)

    return other


def error_parts(meeting: Meeting, found: list[records.Turn]) -> dict[str, float]:
    """Seconds of missed speech, false alarm, wrong speaker and all speech, by pyannote.metrics."""
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    def annotation(turns: list[records.Turn]) -> Annotation:
        result = Annotation()
        for track, turn in enumerate(turns):
            result[Segment(turn.start, turn.end), track] = turn.speaker
        return result

    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    scored = Timeline([Segment(*meeting.scored)])
    parts = metric.compute_components(annotation(meeting.turns), annotation(found), uem=scored)
    return {key: float(parts[key]) for key in ("missed detection", "false alarm", "confusion", "total")}


def changes(turns: Iterable[records.Turn]) -> list[float]:
    """Times at which somebody else begins to speak."""
    ordered = sorted(turns)
    return [b.start for a, b in zip(ordered, ordered[1:], strict=False) if a.speaker != b.speaker]


def distances(values: list[float], others: list[float]) -> list[float]:
    """Seconds from each value to the nearest of the others; none if there are no others."""
    return [min(abs(value - other) for other in others) for value in values] if others else []


@dataclass
class Result:
    """Sums over the conversations of one part."""

    parts: dict[str, float] = field(default_factory=dict)
    parts_given: dict[str, float] = field(default_factory=dict)
    right: list[int] = field(default_factory=list)  # found less true number of speakers, each
    found_change_s: list[float] = field(default_factory=list)
    true_change_s: list[float] = field(default_factory=list)
    sound_s: float = 0.0
    compute_s: float = 0.0

    def figures(self) -> dict[str, float]:
        total = self.parts["total"]
        share = {name: round(100 * value / total, 2) for name, value in self.parts.items()}
        return {
            "der": round(error(self.parts), 2),
            "missed": share["missed detection"],
            "false_alarm": share["false alarm"],
            "confusion": share["confusion"],
            "der_given": round(error(self.parts_given), 2),
            "speakers_exact": round(float(np.mean(np.array(self.right) == 0)), 3),
            "speakers_within_one": round(float(np.mean(np.abs(self.right) <= 1)), 3),
            "miscounted": round(float(np.mean(np.array(self.right) != 0)), 3),
            "change_s": round(float(np.median(self.found_change_s)), 3),
            "missed_change_s": round(float(np.median(self.true_change_s)), 3),
            "real_time_factor": round(self.compute_s / self.sound_s, 4),
            "conversations": len(self.right),
        }


def error(parts: dict[str, float]) -> float:
    """Diarization error rate, percent."""
    return 100 * (sum(parts.values()) - parts["total"]) / max(parts["total"], 1e-9)


def added(sums: dict[str, float], parts: dict[str, float]) -> dict[str, float]:
    return {key: sums.get(key, 0.0) + value for key, value in parts.items()}


def measure(meetings: Iterable[Meeting], diarizer: Speakers) -> Result:
    """Diarizes each conversation twice, without and with the number of speakers, and prints a line for it.

    The time is of the first.
    """
    result = Result()
    for meeting in meetings:
        began = time.process_time()
        turns = diarizer(meeting.audio, None)
        took = time.process_time() - began
        number = len({turn.speaker for turn in meeting.turns})
        parts, given = (error_parts(meeting, t) for t in (turns, diarizer(meeting.audio, number)))
        result.parts, result.parts_given = added(result.parts, parts), added(result.parts_given, given)
        result.right.append(len({turn.speaker for turn in turns}) - number)
        result.found_change_s += distances(changes(turns), changes(meeting.turns))
        result.true_change_s += distances(changes(meeting.turns), changes(turns))
        result.sound_s += meeting.audio.duration_s
        result.compute_s += took
        shares = "".join(
            f"{100 * parts[key] / max(parts['total'], 1e-9):8.1f}"
            for key in ("missed detection", "false alarm", "confusion")
        )
        print(
            f"{meeting.name:24}{error(parts):8.1f}{shares}{result.right[-1] + number:8}{number:6}"
            f"{error(given):8.1f}{took:8.1f}",
            flush=True,
        )
    figures = result.figures()
    print(
        f"{'all':24}{figures['der']:8.1f}{figures['missed']:8.1f}{figures['false_alarm']:8.1f}"
        f"{figures['confusion']:8.1f}{100 * figures['speakers_exact']:7.0f}%{'':6}{figures['der_given']:8.1f}"
        f"{result.compute_s:8.1f}\nmedian distance of changes: found {figures['change_s']:.2f} s, "
        f"true {figures['missed_change_s']:.2f} s\n"
    )
    return result


def short(figures: dict[str, dict[str, float]]) -> list[str]:
    """What is above its limit."""
    found = []
    for name, limit in LIMITS.items():
        part, figure = name.split(".")
        value = figures[part][figure]
        most = figures[part]["der"] if limit is None else limit
        if value > most:
            found.append(f"{name} is {value}, above {most}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the public corpora")
    parser.add_argument("--meetings", type=int, default=10, help="assembled meetings in (b)")
    parser.add_argument("--calls", type=int, default=40, help="assembled calls in (c)")
    parser.add_argument("--scenes", type=int, default=30, help="assembled scenes in (d)")
    parser.add_argument("--tuning", action="store_true", help="(b) to (d) of voices that settings come from")
    parser.add_argument("--diarizer", default="embedded", choices=list(DIARIZERS))
    options = parser.parse_args()
    if not (options.data / "meetings" / "ami").is_dir() or not (options.data / "speech").is_dir():
        print(f"There are no meetings and speech in {options.data}: give their folder with --data.")
        return 2
    import torch

    warnings.filterwarnings("ignore", module="pyannote")  # scored regions are passed, it says they may be
    torch.set_num_threads(1)
    diarizer = speakers_by(options.diarizer)
    print(
        f"{'conversation':24}{'DER %':>8}{'missed':>8}{'false':>8}{'wrong':>8}{'found':>8}{'true':>6}"
        f"{'given':>8}{'s':>8}"
    )
    in_meetings = ravdess(options.data, TUNED_ON) if options.tuning else (
        ravdess(options.data, REPORTED) + emodb(options.data)
    )  # fmt: skip
    in_calls = voices_for_calls(options.data, options.tuning)
    first = 1000 if options.tuning else 0
    made = {
        "ami": ami(options.data),
        "meetings": (
            assemble(in_meetings, 2 + number % 5, seed=number) for number in range(options.meetings)
        ),
        "calls": (call(in_calls, first + number) for number in range(options.calls)),
        "scenes": (scene(in_calls, first + number) for number in range(options.scenes)),
    }
    figures = {name: measure(meetings, diarizer).figures() for name, meetings in made.items()}
    figures["word_cuts"] = measure_cuts(lambda audio: diarizer(audio, None))
    print(f"inside a word: {figures['word_cuts']}")
    faults = short(figures)
    print("\n".join(faults))
    versions = {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "pyannote.metrics")},
    }
    print(json.dumps(figures | {"cores": 1, "machine_cores": os.cpu_count(), "versions": versions}))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
