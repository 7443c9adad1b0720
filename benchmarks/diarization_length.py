"""Time and memory of the embedded diarizer on recordings of ten minutes, one hour and three hours.

The recordings are generated: the made meeting among the examples, over and over, each round with its own
loudness and noise, in a file of 16-bit samples that is mapped into memory as in a run. Each length is heard
in a process of its own. Time is processor time on one core without loading the weights; memory is the
greatest size of the process without the pages of the mapped sound, which the system takes back as it likes.

Prints a table, and as its last line one JSON object. Exits 1 when three hours take more than MEMORY_MB, or
more than GROWTH times as long for each second as ten minutes do: what grows faster than the length would.

    python -m benchmarks.diarization_length [--diarizer embedded] [--hours 0.167 1 3]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.diarize import DIARIZERS, DiarizerSettings, make_diarizer
from annotator.records import RATE_HZ, Audio

MEETING = Path(__file__).resolve().parents[1] / "examples" / "recordings" / "meeting.m4a"
MEMORY_MB = 1200.0
GROWTH = 1.25


def sound() -> NDArray[np.int16]:
    """The example meeting, 16 kHz mono."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(MEETING), "-ac", "1"]
    command += ["-ar", str(RATE_HZ), "-f", "s16le", "-"]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.int16)


def generate(path: Path, seconds: float) -> None:
    """Writes a recording of that length."""
    rng = np.random.default_rng(0)
    meeting = sound().astype(np.float32)
    left = round(seconds * RATE_HZ)
    with open(path, "wb") as file:
        while left > 0:
            part = meeting[:left] * rng.uniform(0.5, 1.0)
            part += rng.standard_normal(len(part), dtype=np.float32) * rng.uniform(5, 40)
            file.write(np.clip(part, -32768, 32767).astype(np.int16).tobytes())
            left -= len(part)


class Memory(threading.Thread):
    """Watches the process's own memory (``RssAnon``), ten times a second; the largest in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            status = Path("/proc/self/status").read_text()
            line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
            self.largest = max(self.largest, int(line.split()[1]) / 1024)


def hear(path: Path, name: str) -> dict[str, float]:
    """Seconds and memory of one recording; runs in a process of its own."""
    import torch

    torch.set_num_threads(1)
    diarizer = make_diarizer(name, DiarizerSettings(offline=True))
    audio = Audio(np.memmap(path, np.int16, "r"))
    memory = Memory()
    memory.start()
    began = time.process_time()
    turns = diarizer(audio)
    took = time.process_time() - began
    memory.ended.set()
    memory.join()
    return {
        "hours": round(audio.duration_s / 3600, 3),
        "seconds": round(took, 2),
        "real_time_factor": round(took / audio.duration_s, 5),
        "memory_mb": round(memory.largest, 1),
        "turns": len(turns),
        "speakers": len({turn.speaker for turn in turns}),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--diarizer", default="embedded", choices=list(DIARIZERS))
    parser.add_argument("--hours", type=float, nargs="+", default=[1 / 6, 1.0, 3.0])
    parser.add_argument("--hear", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hear:
        print(json.dumps(hear(options.hear, options.diarizer)))
        return 0
    results = []
    print(f"{'hours':>8}{'s':>10}{'s per s':>10}{'MB':>10}{'turns':>8}{'speakers':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for hours in options.hours:
            path = Path(folder) / "sound.pcm"
            generate(path, hours * 3600)
            command = [sys.executable, "-m", "benchmarks.diarization_length", "--hear", str(path)]
            done = subprocess.run(
                [*command, "--diarizer", options.diarizer],
                check=True,
                stdout=subprocess.PIPE,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            found = json.loads(done.stdout.splitlines()[-1])
            results.append(found)
            print(
                f"{found['hours']:8.2f}{found['seconds']:10.1f}{found['real_time_factor']:10.4f}"
                f"{found['memory_mb']:10.0f}{found['turns']:8}{found['speakers']:10}",
                flush=True,
            )
    growth = results[-1]["real_time_factor"] / results[0]["real_time_factor"]
    fine = results[-1]["memory_mb"] <= MEMORY_MB and growth <= GROWTH
    if not fine:
        print(f"short of {MEMORY_MB:.0f} MB or of {GROWTH} times the time for each second")
    print(
        json.dumps(
            {
                "lengths": results,
                "growth": round(growth, 3),
                "cores": 1,
                "machine_cores": os.cpu_count(),
                "versions": {
                    "python": platform.python_version(),
                    **{name: version(name) for name in ("torch",)},
                },
            }
        )
    )
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
