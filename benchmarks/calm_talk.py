"""How much anger, fear, disgust and sadness is told of calm talk: 14 clips of AMI meetings.

python -m benchmarks.calm_talk [--data ../shared/data] [--model starter]

Nobody in these clips is in a rage or in tears, so a row with such a label and a confidence of 0.4 or more is
taken for wrong. By the voice alone, and with recognised words. Exits 1 where more than ``LIMIT`` are so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

LIMIT = 0.03
GRAVE = ("anger", "fear", "disgust", "sadness")
SURE = 0.4
MODALITIES = ("audio", "text,audio")


def labelled(clips: Path, model: str, modalities: str, folder: Path) -> pl.DataFrame:
    """The table of a run over the clips."""
    out = folder / f"{modalities}.parquet"
    command = [sys.executable, "-m", "annotator", "run", str(clips), "--out", str(out), "--model", model]
    command += ["--modalities", modalities, "--diarizer", "embedded", "--quiet", "--offline"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return pl.read_parquet(out)


def figures(rows: pl.DataFrame) -> dict[str, Any]:
    """Counts of rows, of grave labels, and of those that are sure."""
    grave = rows.filter(pl.col("emotion").is_in(GRAVE))
    sure = grave.filter(pl.col("confidence") >= SURE)
    return {
        "rows": len(rows),
        "grave": len(grave),
        "grave_and_sure": len(sure),
        "share": round(len(sure) / max(1, len(rows)), 4),
        "uncertain": int(rows["quality"].list.contains("uncertain").sum()),
        "labels": dict(rows["emotion"].value_counts(sort=True).iter_rows()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="starter")
    arguments = parser.parse_args()
    clips = arguments.data / "meetings" / "ami" / "clips"
    if not clips.is_dir():
        raise SystemExit(f"{clips} is not there: give the folder of the public corpora with --data.")
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for modalities in MODALITIES:
            told = figures(labelled(clips, arguments.model, modalities, Path(place)))
            found[modalities] = told
            print(
                f"{modalities:>10}: {told['grave_and_sure']} of {told['rows']} rows told {', '.join(GRAVE)}, "
                f"with {SURE} or more ({100 * told['share']:.1f} %); {told['labels']}"
            )
    print(json.dumps(found | {"cores": os.cpu_count(), "python": platform.python_version()}))
    return int(max(told["share"] for told in found.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
