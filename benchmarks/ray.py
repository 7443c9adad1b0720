"""Two workers on a Ray of this machine against two processes of a local run, on the same recordings.

    python -m benchmarks.ray [--recordings 24] [--seconds 40] [--rounds 3]

Recordings are made of one voice each. Throughput is that of the work alone: the clock starts when each worker
may have answered once, so that what an engine takes to start and to load, told beside it, does not count.
Engines take turns and figures are medians of the rounds. Exits 1 when Ray's throughput is below ``LEAST`` of
the local one's, or when the tables differ.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from annotator import RunSettings, run, threads
from annotator.pipeline import cluster, job
from annotator.pipeline.workers import Outcome
from tests.media import talk

LEAST = 0.85
WORKERS = 2


def make(folder: Path, recordings: int, seconds: float) -> Path:
    """Recordings that differ, all of them as long."""
    folder.mkdir()
    for number in range(recordings):
        talk(folder / f"{number:03}.wav", seconds, pitch_hz=110 + 5 * (number % 20), seed=number)
    return folder


class Watch:
    """When answers came. The first bear the loading, so the clock starts at the ``WORKERS``-th."""

    def __init__(self) -> None:
        self.answers: list[float] = []

    def seconds(self) -> float:
        return self.answers[-1] - self.answers[WORKERS - 1]

    def __enter__(self) -> Watch:
        self._settle = job.Job.settle
        watch = self

        def settle(self: job.Job, outcome: Outcome) -> bool:
            watch.answers.append(time.monotonic())
            return watch._settle(self, outcome)

        job.Job.settle = settle  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        job.Job.settle = self._settle  # type: ignore[method-assign]


def timed(folder: Path, out: Path, engine: str) -> tuple[float, float, bytes]:
    """Seconds of the work, seconds in all, and the table's bytes."""
    settings = RunSettings.model_validate(
        {"engine": engine, "workers": WORKERS, "threads": 1, "modalities": "audio", "transcriber": "none"}
    )
    begun = time.monotonic()
    with Watch() as watch:
        result = run([folder], out, settings, progress=False)
    if result.exit_code != 0:
        raise SystemExit(f"the run by {engine} ended with {result.exit_code}")
    return watch.seconds(), time.monotonic() - begun, out.read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recordings", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    counted = (options.recordings - WORKERS) * options.seconds  # seconds of sound while the clock runs
    work: dict[str, list[float]] = {"local": [], "ray": []}
    whole: dict[str, list[float]] = {"local": [], "ray": []}
    tables = set()
    with tempfile.TemporaryDirectory() as scratch:
        folder = make(Path(scratch) / "in", options.recordings, options.seconds)
        with cluster.connected(RunSettings(engine="ray", workers=WORKERS)):
            for turn in range(options.rounds):
                for engine in ("local", "ray") if turn % 2 == 0 else ("ray", "local"):
                    seconds, total, table = timed(folder, Path(scratch) / f"{engine}{turn}.parquet", engine)
                    work[engine].append(seconds)
                    whole[engine].append(total)
                    tables.add(table)
    medians = {engine: statistics.median(seconds) for engine, seconds in work.items()}
    ratio = medians["local"] / medians["ray"]
    print(f"{'engine':8}{'work s':>10}{'sound s a second':>20}{'run in all s':>16}")
    for engine, seconds in medians.items():
        total = statistics.median(whole[engine])
        print(f"{engine:8}{seconds:>10.1f}{counted / seconds:>20.1f}{total:>16.1f}")
    print(f"throughput of ray over local: {ratio:.2f} (wanted {LEAST})")
    same = len(tables) == 1
    print("tables are the same to the byte" if same else "TABLES DIFFER")
    summary = {
        "benchmark": "ray",
        "figures": {
            "ray_over_local": round(ratio, 4),
            **{f"{engine}_seconds": round(seconds, 3) for engine, seconds in medians.items()},
            "rounds": {engine: [round(s, 3) for s in seconds] for engine, seconds in work.items()},
            "tables_equal": same,
        },
        "short": [] if ratio >= LEAST and same else ["ray_over_local"],
        "cores": threads.processors(),
        "versions": {
            "python": platform.python_version(),
            **{p: version(p) for p in ("conversation-annotator", "ray", "torch")},
        },
    }
    print(json.dumps(summary))
    return 1 if summary["short"] else 0


if __name__ == "__main__":
    sys.exit(main())
