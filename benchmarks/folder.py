"""What a folder of many short files costs: found, run with their subtitles, run again, merged.

python -m benchmarks.folder [--sizes 500 1000 2000 5000]

Exits 1 when a step grows faster than the number of files. Files of a fifth of a second, each with subtitles
and a speaker file, `--modalities text`. ``DISTINCT`` of them differ and the rest are copies, which share
decoding: that takes the same time for each file, and would hide all else. Figures are processor seconds of
the commands and all that they start, beyond those for the distinct files alone; a busy machine changes them
little. A step grows too fast when a file costs it more than ``LIMIT`` times as much in the largest folder as
in the smallest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from annotator import media
from annotator.settings import RunSettings

LIMIT = 1.3
DISTINCT = 20
SIZES = (500, 1000, 2000, 5000)
RATE_HZ = 16_000
SAMPLES = RATE_HZ // 5
LEAST_S = 0.05  # processor seconds of a step, below which a clock tells nothing


def make(folder: Path, count: int) -> Path:
    """A folder with that many recordings, a thousand in each folder below it."""
    for number in range(count):
        place, content = folder / f"day{number // 1000:03}" / f"clip{number:05}", number % DISTINCT
        place.parent.mkdir(parents=True, exist_ok=True)
        sound = struct.pack("<i", content) * (SAMPLES // 2)  # not audible
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
        head = struct.pack("<4sI4s", b"RIFF", 36 + len(sound), b"WAVE") + form
        head += struct.pack("<4sI", b"data", len(sound))
        place.with_suffix(".wav").write_bytes(head + sound)
        place.with_suffix(".en.srt").write_text(
            f"1\n00:00:00,000 --> 00:00:00,200\nThis is number {content}.\n"
        )
        place.with_suffix(".rttm").write_text("SPEAKER talk 1 0.000 0.200 <NA> <NA> Ann <NA> <NA>\n")
    return folder


def spent(*command: object) -> float:
    """Processor seconds of a command that must succeed, with its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "annotator", *map(str, command)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(root: Path, count: int) -> dict[str, float]:
    """Processor seconds of each step for a folder of ``count`` files."""
    folder = make(root / f"in{count}", count)
    began = time.process_time()
    found, _ = media.look_through([folder])
    beside = sum(len(media.sidecars(entry.path)) for entry in found)
    steps = {"find": time.process_time() - began}
    assert (len(found), beside) == (count, 2 * count)
    out = root / f"labels{count}.parquet"
    run = ("run", folder, "--out", out, "--modalities", "text", "--offline", "--quiet", "--workers", "1")
    steps["run"] = spent(*run)
    steps["again"] = spent(*run)  # nothing is left to do but to look at each file and to merge
    steps["merge"] = spent("merge", root / "merged.parquet", "--from", out.with_suffix(".work"))
    shutil.rmtree(folder)
    shutil.rmtree(out.with_suffix(".work"))
    return steps


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    sizes = sorted(parser.parse_args().sizes)
    with tempfile.TemporaryDirectory() as place:
        nothing = measured(Path(place), DISTINCT)
        figures = {size: measured(Path(place), size) for size in sizes}
    print(f"{'files':>7}" + "".join(f"{step:>12}" for step in nothing) + "   processor milliseconds a file")
    each: dict[int, dict[str, float]] = {}
    for size, steps in figures.items():
        each[size] = {step: 1000 * (s - nothing[step]) / (size - DISTINCT) for step, s in steps.items()}
        print(f"{size:>7}" + "".join(f"{ms:>12.2f}" for ms in each[size].values()))
    small, large = each[sizes[0]], each[sizes[-1]]
    growth = {step: large[step] / max(small[step], 1000 * LEAST_S / sizes[0]) for step in nothing}
    print("growth " + "".join(f"{growth[step]:>12.2f}" for step in nothing) + f"   (limit {LIMIT})")
    told = {
        "processor_ms_a_file": {
            size: {k: round(v, 3) for k, v in steps.items()} for size, steps in each.items()
        },
        "growth": {step: round(value, 3) for step, value in growth.items()},
        "settings": RunSettings(modalities=("text",)).modalities,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "ffmpeg": media.ffmpeg_version(),
    }
    print(json.dumps(told))
    return int(max(growth.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
