"""``annotate run`` as users start it, without a network."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from benchmarks.chaos import wait_for_children

from .references import Recording

COLUMNS = [
    "file",
    "start",
    "end",
    "speaker",
    "text",
    "words",
    "text_source",
    "language",
    "quality",
    "emotion",
    "confidence",
]


def written(recordings: Iterable[Recording], folder: Path) -> Path:
    """The folder, with the recordings as WAV files."""
    for recording in recordings:
        recording.write(folder)
    return folder


def start(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    """One worker, text alone; what it says goes to a file beside the table."""
    command = [sys.executable, "-m", "annotator", "run", str(folder), "--out", str(out)]
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(
            [*command, "--workers", "1", "--modalities", "text"],
            stdout=log,
            stderr=log,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # so that what a killed run leaves behind is known by its group
        )


def annotate(folder: Path, out: Path) -> tuple[pl.DataFrame, float]:
    """The table of a run to the end, and the processor seconds that all its processes took.

    Raises: SystemExit with what the command said when it does not end with 0.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code := start(folder, out).wait():
        raise SystemExit(f"{folder}: exit code {code}\n{out.with_suffix('.log').read_text()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return pl.read_parquet(out).select(COLUMNS), (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    )


def killed(folder: Path, out: Path, prepared: int, later_s: float) -> bool:
    """Start, and kill some time after so many recordings are prepared; False if it ended before."""
    process = start(folder, out)
    place = out.with_suffix(".work") / "prepared"
    while process.poll() is None and len(list(place.glob("*.safetensors"))) < prepared:
        time.sleep(0.02)
    time.sleep(later_s)
    was_running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for_children(process.pid)
    return was_running
