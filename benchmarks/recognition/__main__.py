"""Words from raw sound, on speech of which it is known what is said, or where, and on sounds without any.

    python -m benchmarks.recognition [--only NAME[,NAME]] [--quick] [--data FOLDER] [--keep FOLDER]

    ravdess    word error on English: actors 17 to 20, 240 clips joined to recordings
    nemo       word error on Polish, told without a limit
    ami        14 clips of meetings: words in loops, utterances without text
    sounds     30 sounds without speech: words invented
    times      espeak-ng's English and German voices: where words begin, against its own word events
    languages  a German and two English recordings: text everywhere, languages told
    labels     what errors of words do to labels of text: MELD's sentences, spoken by espeak-ng
    cost       processor seconds and memory of the engine alone, on one core
    resume     a run that is killed and started again gives the same words

All but cost go through the command ``annotate run``. Prints tables, and as its last line one JSON object.
Exits 1 when a figure is short or a chosen part can't be run; 2 without the data. ``--quick`` takes about a
tenth and shows that the parts work: its figures are not those to report.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from benchmarks.conversations import DATA

from . import espeak
from .parts import LIMITS, PARTS, Figures, NotRun, Place

NEEDS = {"ravdess": "speech/ravdess", "nemo": "speech/nemo", "labels": "dialogues/meld"} | {
    part: "meetings/ami" for part in ("ami", "languages", "cost", "resume")
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), metavar="NAME[,NAME]", help="of the parts above")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the public corpora")
    parser.add_argument("--keep", type=Path, help="an empty or new folder for recordings and tables")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    missing = {NEEDS[n] for n in names if n in NEEDS and not (options.data / NEEDS[n]).is_dir()}
    if missing:
        print(f"There is no {', '.join(sorted(missing))} in {options.data}: give its folder with --data.")
        return 2
    figures: Figures = {}
    not_run: list[str] = []
    with tempfile.TemporaryDirectory(prefix="recognition-") as scratch:
        place = Place(options.data, options.keep or Path(scratch), options.quick)
        for name in names:
            began = time.monotonic()
            try:
                figures |= PARTS[name](place)
            except NotRun as why:
                not_run.append(name)
                print(f"{name}: not run, {why}")
            print(f"  {time.monotonic() - began:.0f} s of wall clock\n", flush=True)
    short = [f"{n} {value:.4g} > {LIMITS[n]:g}" for n, value in figures.items()
             if n in LIMITS and isinstance(value, int | float) and value > LIMITS[n]]  # fmt: skip
    print("falls short: " + ", ".join(short) if short else "nothing that was run falls short")
    summary = {
        "benchmark": "recognition",
        "quick": options.quick,
        "figures": {n: round(v, 4) if isinstance(v, float) else v for n, v in figures.items()},
        "short": short,
        "not_run": not_run,
        "cores": len(os.sched_getaffinity(0)),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("ctranslate2", "tokenizers", "torch")},
            "espeak-ng": espeak.version(),
        },
    }
    print(json.dumps(summary))
    return 1 if short or not_run else 0


if __name__ == "__main__":
    sys.exit(main())
