"""The real command under kills, stops, dying workers, damage and a full disk, and what it takes of memory.

python -m benchmarks.chaos [--small] [PART...]        all but the last three by default

    kills    SIGKILL at random moments of a run over 60 recordings, 40 times, then to the end
    signals  SIGTERM and SIGINT at random moments, 5 times each, then to the end
    workers  worker processes killed by their ids, at random moments
    stops    20 random SIGSTOP and SIGCONT, of the whole run or of one process of it
    changes  files beside recordings changed and put back, times and all, while a run goes on
    flips    a bit flipped in each of 20 files of a finished work folder, then a run
    finetune a fine-tuning killed 10 times: the weights are those of one left alone
    disk     a tmpfs that fills up in the middle, then has room again (needs `unshare`)
    memory   300 recordings in one worker: memory after the 50th and after the last
    long     ten hours of made voices from end to end, without recognition: the most memory at any time
    spoken   ten hours in which meetings are held now and then (../shared/data), with recognition: the same
    music    six hours of made music, with recognition: the same, and the words invented

``--small`` tries a little of each, to see that they work.

Each prints what was lost and what was done again. Exits 1 when something falls short.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks.chaos.damage import changes, disk, flips
from benchmarks.chaos.interruptions import finetune, kills, signals, stops, workers
from benchmarks.chaos.memory import long, memory, music, spoken
from benchmarks.chaos.runs import WORKERS, Figures, Sizes, recordings, to_the_end

GROWTH_LIMIT = 1.10
LONG_LIMIT_MB = 3500  # as the README says, for one worker
HOURS_LONG = ("long", "spoken", "music")  # each takes about half an hour on one core
LIMITS: dict[str, float] = {
    **{
        f"{name}_{what}": 0
        for name in ("kills", "signals", "workers", "stops")
        for what in ("lost", "finished_redone", "left_over", "table_differs")
    },
    **{f"{name}_table_differs": 0 for name in ("changes", "flips")},
    **{f"{name}_wrong_code": 0 for name in ("stops", "changes", "flips", "finetune")},
    "changes_lost": 0,
    "flips_left_over": 0,
    "finetune_differs": 0,
    "kills_in_hand_redone": Sizes().kills * WORKERS,
    "signals_wrong_code": 0,
    "disk_wrong_end": 0,
    "disk_left_over": 0,
    "disk_table_differs": 0,
    "memory_growth": GROWTH_LIMIT,
    **{f"{name}_mb": LONG_LIMIT_MB for name in HOURS_LONG},
    "music_words": 0,
}
PARTS: dict[str, Callable[[Path, Path, random.Random, Sizes], Figures]] = {
    "kills": kills,
    "signals": signals,
    "workers": workers,
    "stops": stops,
    "changes": changes,
    "flips": flips,
    "finetune": finetune,
    "disk": disk,
    "memory": memory,
    "long": long,
    "spoken": spoken,
    "music": music,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to try")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--small", action="store_true", help="a little of each")
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    sizes = Sizes.small() if options.small else Sizes()
    parts = options.parts or [name for name in PARTS if name not in HOURS_LONG]
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        base = Path(folder)
        clean = base / "clean" / "labels.parquet"
        if set(parts) - {"memory", "finetune", *HOURS_LONG}:
            clean.parent.mkdir()
            to_the_end(recordings(base / "videos", sizes.recordings, 0), clean, "--workers", str(WORKERS))
        for name in parts:
            began = time.monotonic()
            figures |= PARTS[name](base, clean, random.Random(options.seed), sizes)
            print(f"  {time.monotonic() - began:.0f} s", flush=True)
    short = [n for n, limit in LIMITS.items() if (value := figures.get(n)) is not None and value > limit]
    print("falls short: " + ", ".join(short) if short else "nothing falls short")
    summary = {
        "benchmark": "chaos",
        "small": options.small,
        "figures": {n: value if value is None else round(value, 3) for n, value in figures.items()},
        "short": short,
        "cores": len(os.sched_getaffinity(0)),
        "versions": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "polars": version("polars"),
        },
    }
    print(json.dumps(summary))
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
