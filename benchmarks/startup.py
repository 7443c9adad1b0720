"""How long `annotate --help` and the bundle take to be there. Exits 1 when a limit is passed.

python -m benchmarks.startup
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time

HELP_LIMIT_S = 0.5
BUNDLE_LIMIT_S = 2.0
RUNS = 5
LOAD = """
import time, torch, torch_geometric
from annotator.predict import Predictor
from annotator.weights import checkpoint_folder
start = time.perf_counter()
Predictor(checkpoint_folder("starter"))
print(time.perf_counter() - start)
"""


def seconds(*command: str) -> float:
    """Wall time of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    help_s = sorted(seconds("-m", "annotator", "--help") for _ in range(RUNS))[RUNS // 2]
    loads = [
        float(subprocess.run([sys.executable, "-c", LOAD], check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    bundle_s = sorted(loads)[1]
    print(f"annotate --help     {help_s:6.2f} s   (limit {HELP_LIMIT_S})")
    print(f"loading the bundle  {bundle_s:6.2f} s   (limit {BUNDLE_LIMIT_S}, libraries imported before)")
    figures = {
        "help_s": round(help_s, 3),
        "bundle_s": round(bundle_s, 3),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    print(json.dumps(figures))
    return int(help_s > HELP_LIMIT_S or bundle_s > BUNDLE_LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
