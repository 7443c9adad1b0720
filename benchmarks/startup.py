"""How long a start takes: `annotate --help`, the bundle, and a run that finds all of its work done.

python -m benchmarks.startup

Exits 1 when a limit is passed. Other work on the machine lengthens the wall times that the limits are for;
the processor's seconds stand beside them.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HELP_LIMIT_S = 0.5
BUNDLE_LIMIT_S = 2.0
DONE_LIMIT_S = 1.5
RUNS = 5
LOAD = """
import time, torch, torch_geometric
from annotator.predict import Predictor
from annotator.weights import checkpoint_folder
start = time.perf_counter()
Predictor(checkpoint_folder("starter")).load()
print(time.perf_counter() - start)
"""


def seconds(*command: str) -> tuple[float, float]:
    """Wall time of a command that must succeed, and the processor's time in it."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode != 0:
        raise SystemExit(ended.stderr)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def median(*command: str) -> tuple[float, float]:
    walls, busy = zip(*(seconds(*command) for _ in range(RUNS)), strict=True)
    return statistics.median(walls), statistics.median(busy)


def main() -> int:
    help_s, help_cpu_s = median("-m", "annotator", "--help")
    loads = [
        float(subprocess.run([sys.executable, "-c", LOAD], check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    bundle_s = statistics.median(loads)
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder, "labels.parquet"))
        run = ("-m", "annotator", "run", str(ROOT / "examples" / "recordings"), "--out", out)
        first_s, first_cpu_s = seconds(*run)
        done_s, done_cpu_s = median(*run)
    print(f"annotate --help                  {help_s:6.2f} s   (limit {HELP_LIMIT_S})")
    print(
        f"loading the bundle               {bundle_s:6.2f} s   (limit {BUNDLE_LIMIT_S}, libraries imported)"
    )
    print(f"a run of the three examples      {first_s:6.2f} s   ({first_cpu_s:.2f} s of processor time)")
    print(
        f"the same again, nothing to do    {done_s:6.2f} s   "
        f"(limit {DONE_LIMIT_S}, {done_cpu_s:.2f} s of processor time)"
    )
    figures = {
        "help_s": round(help_s, 3),
        "help_cpu_s": round(help_cpu_s, 3),
        "bundle_s": round(bundle_s, 3),
        "first_run_s": round(first_s, 3),
        "first_run_cpu_s": round(first_cpu_s, 3),
        "done_run_s": round(done_s, 3),
        "done_run_cpu_s": round(done_cpu_s, 3),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    print(json.dumps(figures))
    return int(help_s > HELP_LIMIT_S or bundle_s > BUNDLE_LIMIT_S or done_s > DONE_LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
