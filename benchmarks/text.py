"""Speed and memory of the text encoders that ship, one core.

    python -m benchmarks.text [--data DATA] [--utterances 1000]

Test utterances of MELD (English) and of M-MELD (French, Spanish) are read as in a run of one recording: by
the encoder that reads their language, a hundred at a time. Time is processor time on one thread, so it needs
a machine with nothing else on its cores. Memory is what a process with MiniLM loaded grows by, mapped files
included: a run loads e5 when the first text comes that MiniLM can't read. Prints a table, and as its last
line one JSON object. Exits 1 below SLOWEST or above MEMORY_MB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import polars as pl
import torch
from tqdm import tqdm

SLOWEST = 80.0  # utterances a processor second
MEMORY_MB = 350.0
AT_ONCE = 100  # utterances of a recording
ENCODERS = {"minilm": "en", "e5": "fr es"}


def texts(data: Path, language: str, most: int) -> list[str]:
    """Test utterances in a language."""
    dialogues = data / "dialogues"
    file = (
        dialogues / "meld/test_sent_emo.csv" if language == "en" else dialogues / f"mmeld/{language}_test.csv"
    )
    column = pl.read_csv(file, infer_schema=False)["Utterance" if language == "en" else "Text"].drop_nulls()
    return [text for text in column.to_list() if text.strip()][:most]


def measure(name: str, data: Path, most: int) -> dict[str, float]:
    """Utterances a processor second by language, and megabytes beside MiniLM, of one encoder."""
    from annotator.encode.text import TextEncoder
    from annotator.encode.weights import embedded
    from benchmarks.recognition.cost import resident_mb

    torch.set_num_threads(1)
    encoder = TextEncoder("minilm", embedded("minilm"))
    encoder.encode_texts(texts(data, "en", AT_ONCE))
    before = resident_mb()
    if name != "minilm":
        encoder = TextEncoder(name, embedded(name))
    figures: dict[str, float] = {}
    for language in ENCODERS[name].split():
        said = texts(data, language, most)
        encoder.encode_texts(said[:AT_ONCE])  # what is done once
        begin = time.process_time()
        for first in tqdm(range(0, len(said), AT_ONCE), desc=f"{name} {language}", disable=None, leave=False):
            encoder.encode_texts(said[first : first + AT_ONCE])
        figures[language] = len(said) / (time.process_time() - begin)
    return figures | {"memory_mb": resident_mb() - before}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    default = Path(__file__).resolve().parents[1] / "../shared/data"
    parser.add_argument("--data", type=Path, default=default, help="folder of the public corpora")
    parser.add_argument("--utterances", type=int, default=1000, help="of each language, at most")
    parser.add_argument("--of", choices=ENCODERS, help="this encoder alone, in this process")
    a = parser.parse_args()
    if a.of:
        print(json.dumps(measure(a.of, a.data, a.utterances)))
        return 0
    if not (a.data / "dialogues").is_dir():
        print(f"There are no dialogues in {a.data}.", file=sys.stderr)
        return 2
    figures = {}
    print(f"{'encoder':10} {'language':>8} {'utterances/s':>13} {'MB':>6}")
    for name, languages in ENCODERS.items():
        command = [sys.executable, "-m", "benchmarks.text", "--of", name, "--data", str(a.data)]
        command += ["--utterances", str(a.utterances)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found = json.loads(done.stdout.splitlines()[-1])
        for language in languages.split():
            print(f"{name:10} {language:>8} {found[language]:13.0f} {found['memory_mb']:6.0f}")
        figures[name] = found
    short = [
        f"{name} {key}"
        for name, found in figures.items()
        for key, value in found.items()
        if (value > MEMORY_MB if key == "memory_mb" else value < SLOWEST)
    ]
    print(f"falls short: {', '.join(short)}" if short else "nothing falls short")
    versions = {"torch": torch.__version__, "transformers": version("transformers")}
    print(json.dumps({**figures, "short": short, "cores": os.cpu_count(), "versions": versions}))
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
